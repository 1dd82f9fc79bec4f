"""`explain`: several methods on the same photos, side by side, with what they cost and how faithful they are."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from .attribution import Attribution
from .errors import InputError, InspectError, ResultError
from .methods.inputs import Input, ModelLike
from .methods.job import How, Job
from .methods.known_boxes import Known, read_boxes
from .methods.localize import of_photo
from .methods.registry import EXPLANATIONS, every, explanation
from .target import TargetLike
from .trust.boxes import energy_in_box, pointing_game
from .trust.faithfulness import average_drop, deletion, insertion
from .trust.infidelity import infidelity, max_sensitivity
from .trust.road import road

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHORT = {"ig": "integrated_gradients", "ixg": "input_x_gradient", "gbp": "guided_backprop", "shap": "kernel_shap"}
METRICS: dict[str, Callable[..., Any]] = {
    "deletion": lambda *a, **how: deletion(*a, **how).area,
    "insertion": lambda *a, **how: insertion(*a, **how).area,
    "road": road,
    "average_drop": average_drop,
    "infidelity": infidelity,
    "max_sensitivity": max_sensitivity,
}


@dataclass
class Explained:
    """A method, its result, the seconds it took for all photos, and its measures, (N,) each.

    Where a method cannot explain the model, `result` is None and `reason` says why; one that does not apply is NaN.
    """

    method: str
    result: Attribution | None = None
    seconds: float = 0.0
    measures: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    reason: str = ""

    @property
    def notes(self) -> list[str]:
        """What was assumed, or why there is no result."""
        return self.result.notes if self.result is not None else [f"{self.method} is left out: {self.reason}"]

    def to_json(self) -> dict[str, Any]:
        """What a record says of it."""
        if self.result is None:
            return {"method": self.method, "reason": self.reason}
        numbers = {k: [float(v) if np.isfinite(v) else None for v in row] for k, row in self.measures.items()}
        return {"method": self.method, "seconds": self.seconds, "measures": numbers, "result": self.result.to_json()}


def explain(
    model: ModelLike,
    x: Input,
    target: TargetLike = "top",
    *,
    methods: str | Sequence[str] = ("gradcam", "integrated_gradients", "lrp", "occlusion"),
    metrics: str | Sequence[str] = ("deletion",),
    boxes: str = "",
    options: dict[str, dict[str, Any]] | None = None,
    **how: Unpack[How],
) -> list[Explained]:
    """Explain the same photos by several methods, and measure each.

    Args:
        model: as for a method.
        x: as for a method.
        target: as for a method; the class is that of the intact photo for all.
        methods: by name, as a list or with commas between; short names are ig, ixg, gbp and shap; "all" for every one
            that fits the model.
        metrics: deletion, insertion, road, average_drop, infidelity, max_sensitivity.
        boxes: a JSON file of known boxes, as `localize` takes it: pointing_game and energy_in_box are measured too.
        options: arguments of single methods, by their names.
        how: as for a method.

    Returns:
        One entry per method, in order.

    Raises:
        InputError: no method at all, no such method or metric, or options of a method that is none of them.
    """
    metrics = _words(metrics)
    if unknown := [m for m in metrics if m not in METRICS]:
        raise InputError(f"There is no metric '{unknown[0]}': there are {', '.join(METRICS)}.")
    known = read_boxes(boxes) if boxes else None
    names = chosen(methods)
    own = {SHORT.get(name, name): given for name, given in (options or {}).items()}
    if unknown := sorted(set(own) - set(names)):
        raise InputError(f"There are options for '{unknown[0]}', but the methods are {', '.join(names)}.")
    job = Job(model, x, target, **how)
    given: Any = how | {"preprocessing": job.preprocessing, "labels": job.labels}
    progress = job.progress("methods", len(names)) if job.progress is not None else lambda n: None
    found = []
    for name in names:
        found.append(_one(job, x, partial(explanation(name), **own.get(name, {})), name, metrics, given))
        if known is not None and found[-1].result is not None:
            found[-1].measures |= _in_boxes(found[-1].result, known)
        progress(1)
    return found


def chosen(methods: str | Sequence[str]) -> list[str]:
    """Names of methods, short ones written out; "all" for every method that makes a map."""
    every()
    wanted = [SHORT.get(m, m) for m in _words(methods)]
    if not wanted:
        raise InputError("No method is named: name one or several, or all (--methods).")
    if "all" in wanted:
        return sorted(EXPLANATIONS)
    for name in wanted:
        explanation(name)
    return list(dict.fromkeys(wanted))


def _words(given: str | Sequence[str]) -> list[str]:
    """Names, or a text of them with commas between."""
    return [w.strip() for w in given.split(",") if w.strip()] if isinstance(given, str) else list(given)


def _one(
    job: Job, x: Input, method: Callable[..., Attribution], name: str, metrics: Sequence[str], how: Any
) -> Explained:
    start = time.perf_counter()
    try:
        result = method(job.model, x, job.settled, **how)
    except InspectError as error:
        return Explained(name, reason=str(error))
    entry = Explained(name, result, time.perf_counter() - start)
    for metric in metrics:
        try:
            if metric == "max_sensitivity":
                entry.measures[metric] = max_sensitivity(method, job.model, x, result, **how)
            else:
                entry.measures[metric] = METRICS[metric](job.model, x, result, **how)
        except InspectError as error:
            entry.measures[metric] = np.full(len(result), np.nan)
            result.notes.append(f"{metric} of {name}: {error}")
    return entry


def _in_boxes(result: Attribution, known: Known) -> dict[str, NDArray[np.float64]]:
    """Whether a map points at the thing, NaN for photos without known boxes."""
    boxes = [[tuple(box) for box in of_photo(known, i, result)] for i in range(len(result))]
    there = [len(own) > 0 for own in boxes]
    measured = {"pointing_game": pointing_game(result, boxes), "energy_in_box": energy_in_box(result, boxes)}
    return {name: np.where(there, values, np.nan) for name, values in measured.items()}


def sheet(entries: Sequence[Explained], i: int = 0) -> NDArray[np.uint8]:
    """The photo and one tile per method, with its time and measures.

    Raises:
        ResultError: no method has a result, or the input is no picture.
    """
    from . import layout, render

    drawn = [(e, e.result) for e in entries if e.result is not None]
    if not drawn:
        raise ResultError(f"No method can explain this model: {entries[0].reason if entries else 'none was named'}")
    first = drawn[0][1]
    photo = first.photo(i)
    seen = photo.geometry.mask_in_photo()
    pictures = [layout.fit(photo.pixels, 260, 360)]
    captions = [["photo", _subject(first, i)]]
    for entry, result in drawn:
        picture = layout.fit(result.overlay(i), 260, 360)
        if type(result).overlay is Attribution.overlay:
            ends = render.limits(result.map(i), result.signed, result.percentile, seen)
            picture = layout.with_bar(picture, ends, "coolwarm" if result.signed else "jet")
        numbers = [f"{k} {v[i]:.3g}" if np.isfinite(v[i]) else f"{k} \u2013" for k, v in entry.measures.items()]
        pictures.append(picture)
        captions.append([result.heading, f"{entry.seconds:.2f} s", *numbers])
    height, width = (max(p.shape[axis] for p in pictures) for axis in (0, 1))
    width = max(width, 170)  # of the longest measure with its number
    tiles = []
    for picture, texts in zip(pictures, captions, strict=True):
        texts += [""] * (max(map(len, captions)) - len(texts))
        lines = [layout.line(text, width, 12 if k else 15) for k, text in enumerate(texts)]
        tiles.append(layout.column([*lines, layout.pad(picture, height, width)], 3))
    title = [f"{_subject(first, i)}, score {first.scores[i]:.3g}", f"{first.model['name']}, {first.provider}"]
    return layout.frame(layout.titled(layout.grid(tiles, min(len(tiles), 5), gap=10), title, 18), 12)


def _subject(result: Attribution, i: int) -> str:
    what = result.explained[i]
    return result.target if what is None else f"{what.label} ({what.index})"
