"""`best_layer`: which layer to explain at, by measurement: deletion and insertion on some photos."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Unpack, get_type_hints

import numpy as np

from . import depth, structure
from .errors import AbsentError, InputError, InspectError, LayerError, PhotoError
from .maps import blank
from .methods.cam_common import Layers
from .methods.inputs import Input, ModelLike, image_input
from .methods.job import How, Job
from .methods.registry import explanation, find
from .model import Model, load
from .target import TargetLike
from .trust.faithfulness import deletion, insertion

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .naming import Layer

MOST, PHOTOS = 8, 16  # layers beside the automatic one; photos that they are measured on
STANDS_IN = "gradcam"  # ranks for methods that draw no map of the target at a layer


@dataclass(frozen=True)
class Evidence:
    """How faithful the maps of a method are at a layer.

    Attributes:
        layer: readable name; `tensor` is its exact name.
        op_type: the operator that computes it.
        size: of its maps, "7×7".
        automatic: `--layer auto` takes it.
        deletion: (N,), the area under the curve of each photo; less is better.
        insertion: (N,), likewise; more is better.
        blank: of how many photos the map is the same everywhere: it marks nothing, whatever the curves say.
        reason: why there is no map at this layer, "" where there is one.
    """

    layer: str
    tensor: str
    op_type: str
    size: str
    automatic: bool
    deletion: NDArray[np.float64]
    insertion: NDArray[np.float64]
    blank: int = 0
    reason: str = ""

    @property
    def scores(self) -> NDArray[np.float64]:
        """(N,), insertion less deletion; more is better."""
        return self.insertion - self.deletion

    @property
    def score(self) -> float:
        """The mean over the photos, NaN where there is no map."""
        return _mean(self.scores)

    def to_json(self) -> dict[str, Any]:
        """What a record says of it."""
        said = {k: getattr(self, k) for k in ("layer", "tensor", "op_type", "size", "automatic", "blank", "reason")}
        return said | {"deletion": _mean(self.deletion), "insertion": _mean(self.insertion), "score": self.score}


@dataclass
class LayerRanking:
    """Layers in the order of how faithful a method's maps are at them, the best first.

    Attributes:
        method: what made the maps.
        target: what was explained.
        rows: a layer each; those without a map come last.
        samples: how many photos were looked at.
        steps: of each curve.
        notes: what was assumed.
    """

    method: str
    target: str
    rows: list[Evidence]
    samples: int
    steps: int
    notes: list[str] = field(default_factory=list)

    @property
    def best(self) -> str:
        """The name of the best layer, as `layer=` takes it."""
        return self.rows[0].layer

    def table(self) -> str:
        """The ranking as lines of text."""
        head = ["rank", "layer", "op", "size", "deletion", "insertion", "difference"]
        cells = [head]
        for rank, row in enumerate(self.rows, 1):
            name = f"{row.layer} (auto)" if row.automatic else row.layer
            measured = [f"{_mean(v):.3f}" for v in (row.deletion, row.insertion, row.scores)]
            cells.append([f"{rank}", name, row.op_type, row.size, *(["–"] * 3 if row.reason else measured)])
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        left = (1, 2)
        return "\n".join(
            "  ".join(
                c.ljust(w) if i in left else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))
            )
            for line in cells
        )

    def verdict(self) -> str:
        """A note on which layer is the best, and by how much."""
        best, auto = self.rows[0], next((row for row in self.rows if row.automatic and not row.reason), None)
        ranked = sum(not row.reason for row in self.rows)
        text = f"layer: '{best.layer}' ({best.op_type} {best.size}), the most faithful of {ranked} for {self.method}"
        if best.automatic:
            return f"{text}, and what auto takes (--layer NAME)"
        if auto is not None:
            lead = best.scores - auto.scores
            text += f", {lead.mean():.3f} ahead of '{auto.layer}', which auto takes"
            if len(lead) > 1:
                text += f", with a standard error of {lead.std(ddof=1) / len(lead) ** 0.5:.3f}"
        return f"{text} (--layer NAME)"

    def to_json(self) -> dict[str, Any]:
        """What a record says of it."""
        rows = [{"rank": rank, **row.to_json()} for rank, row in enumerate(self.rows, 1)]
        said = {k: getattr(self, k) for k in ("method", "target", "samples", "steps", "best", "notes")}
        return said | {"rows": rows}


def best_layer(
    model: ModelLike,
    photos: Input,
    method: str = "gradcam",
    target: TargetLike = "top",
    candidates: Sequence[str] | None = None,
    *,
    options: dict[str, Any] | None = None,
    steps: int = 20,
    say: Callable[[str], None] | None = None,
    **how: Unpack[How],
) -> LayerRanking:
    """Rank layers by how faithful a method's maps are at them.

    Each candidate's maps are measured by deletion and insertion (Petsiuk et al., BMVC 2018), and layers are ranked by
    the area of insertion less that of deletion, the mean over the photos: what is measured is that the marked positions
    move the score, not that a map looks well. Of layers that are equal the last comes first; those with a blank map
    for any photo, whose positions have no order to measure, come behind those without, the fewest first.

    Args:
        model: as for a method.
        photos: as for a method; of several the first 16 are looked at.
        method: what makes the maps; for methods that show a layer without a map of the target there, as activations,
            gradcam stands in.
        target: as for a method; the class is that of the intact photo.
        candidates: names of layers; None for eight maps or grids that every path to the score runs through, from first
            to last, and the one that "auto" takes.
        options: further arguments of the method.
        steps: of each curve.
        say: told what it takes before it begins.
        how: as for a method.

    Raises:
        InputError: no such method, or none that takes a layer.
        LayerError: no such layer, or at none of them a map can be made; says why.

    Example:
        >>> ranking = best_layer("model.onnx", ["cat.jpg", "dog.jpg"], "layercam")
        >>> layercam("model.onnx", "cat.jpg", layer=ranking.best)
    """
    maker = _maker(method)
    own = dict(options or {}) if maker == method else {}
    explain = explanation(maker)
    job, notes = _job(model, photos, target, how)
    if maker != method:
        notes.append(
            f"layer: {method} makes no map of the target at a layer, so layers are ranked by {maker} (--layer NAME)"
        )
    at = _candidates(job, candidates)
    runs = len(at) * job.n * 2 * (steps + 1)
    if say is not None:
        shown = "1 photo" if job.n == 1 else f"{job.n} photos"
        say(
            f"layer: {len(at)} are ranked by {maker} on {shown}, which takes {runs} runs and the maps "
            "(--layer auto takes none)"
        )
    given: Any = how | {"preprocessing": job.preprocessing, "labels": job.labels, "progress": None}
    advance = job.progress("layers", len(at)) if job.progress is not None else lambda n: None
    rows = []
    for place, automatic in at.items():
        nothing = np.full(job.n, np.nan)
        row = Evidence(place.name, place.tensor, place.op_type, _size(job, place), automatic, nothing, nothing)
        try:
            result = explain(job.model, job.feeds, job.settled, layer=place.tensor, **own, **given)
            areas = [m(job.model, job.feeds, result, steps=steps, **given).area for m in (deletion, insertion)]
            empty = sum(blank(one) for one in result.heat)
            rows.append(replace(row, deletion=areas[0], insertion=areas[1], blank=empty))
            if empty:
                notes.append(f"layer: at '{place.name}' the maps of {empty} of {job.n} photos are blank (--layer NAME)")
        except InspectError as error:
            rows.append(replace(row, reason=str(error)))
            notes.append(f"layer: '{place.name}' is not ranked: {error}")
        advance(1)
    if all(row.reason for row in rows):
        raise LayerError(f"{maker} makes no map at any of {len(rows)} layers: {rows[-1].reason}")
    rows.sort(key=lambda row: (not row.reason, -row.blank, row.score))
    ranking = LayerRanking(maker, str(job.target), rows[::-1], job.n, steps, notes)
    notes.append(ranking.verdict())
    return ranking


def _maker(method: str) -> str:
    """The method whose maps rank layers for a method.

    Raises:
        InputError: there is no such method, or its layers are no maps.
    """
    function = find(method)
    given = inspect.signature(function).parameters.get("layer")
    if given is None or given.default != "auto":
        what = "takes no layer" if given is None else "takes layers that are no maps"
        raise InputError(f"'{method}' {what}, so none is the best: name a method that does, as gradcam (--layer NAME).")
    return method if get_type_hints(function)["layer"] == Layers else STANDS_IN


def _job(model: ModelLike, photos: Input, target: TargetLike, how: Any) -> tuple[Job, list[str]]:
    """What is measured on: the first samples, without photos that cannot be read or lack what is explained."""
    model = model if isinstance(model, Model) else load(model)
    some: Any = photos
    notes = list[str]()
    batch = isinstance(some, np.ndarray) and some.ndim == len(image_input(model).shape)
    if (isinstance(some, list | tuple) or batch) and len(some) > PHOTOS:
        notes.append(few(len(some)))
        some = some[:PHOTOS]
    try:
        return Job(model, some, target, **how), notes
    except (AbsentError, PhotoError):
        if not isinstance(some, list | tuple) or len(some) < 2:
            raise
    good = []
    for photo in some:
        with suppress(AbsentError, PhotoError):
            Job(model, photo, target, **how)
            good.append(photo)
    notes.append(f"layer: {len(some) - len(good)} of {len(some)} photos cannot be explained and rank nothing (PHOTO)")
    return Job(model, good or some, target, **how), notes


def few(count: int) -> str:
    """What is noted where not all photos are looked at."""
    return f"layer: the best is measured on the first {PHOTOS} of {count} samples (PHOTO)"


def _candidates(job: Job, names: Sequence[str] | None) -> dict[Layer, bool]:
    """The layers to rank in the order of computation, and whether `--layer auto` takes them.

    Behind the layer that it takes there are no maps, or their positions no longer count for the score.
    """
    if names is not None:
        if not names:
            raise LayerError("There is no layer to rank: name some, or give None for those on the path (candidates).")
        return {job.layer(name): name == "auto" for name in names}
    chosen = job.layer("auto")
    order = {c.tensor: i for i, c in enumerate(job.model.layers)}
    maps = depth.activated(depth.stages(job.model, *job.explained_tensors, places=job.places))
    earlier = [c for c in maps if order[c.tensor] < order[chosen.tensor]]
    return {**dict.fromkeys(depth.spread(earlier, MOST), False), chosen: True}


def _size(job: Job, place: Layer) -> str:
    """Of the maps of a layer: "7×7"."""
    if place.grid is not None:
        return structure.sizes(place.grid.sizes)
    shape = job.places.shape(place.tensor) or place.shape
    return structure.sizes(n for n, letter in zip(shape, place.layout or "", strict=False) if letter in place.axes)


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean())
