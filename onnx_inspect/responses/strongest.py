"""The pass over all photos that `units` and `patches` share: what each unit of a layer does, and where most."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .. import depth, structure
from ..errors import InputError
from ..naming import Layer
from ..photos.shards import Shards
from ..surveys.survey import Seen, Survey
from .tally import Tally, nothing

SHARD = 512
"""Photos whose work a kill can cost."""
CLASSES = 30_000
"""Labels that are told apart, each at the price of a number per unit: ImageNet has 22 thousand, captions any number."""


@dataclass(frozen=True)
class Watched:
    """What the units of a layer did.

    Attributes:
        layer: the layer.
        shape: of the layer, for one photo.
        axis: which of its axes counts units.
        tally: what they did.
        names: of the classes that the tally counts.
        by: where these are from: "label", "prediction", or "" where there are none.
        shards: what a killed run goes on from. At the end of a ``with`` the results are in place and it is removed,
            unless there was an exception.
    """

    layer: Layer
    shape: tuple[int, ...]
    axis: int
    tally: Tally
    names: dict[int, str]
    by: str
    shards: Shards | None

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self.shards is not None:
            self.shards.done() if kind is None else self.shards.close()

    @property
    def map(self) -> tuple[int, ...]:
        """The positions of a unit along each axis: (rows, columns), () for a vector."""
        return self.shape[: self.axis] + self.shape[self.axis + 1 :]

    def position(self, place: int) -> tuple[int, ...]:
        """A place of the tally as (row, column)."""
        return tuple(int(i) for i in np.unravel_index(place, self.map)) if self.map else ()

    def index(self, unit: int, place: int) -> tuple[int, ...]:
        """A unit's place as an index into the layer."""
        at = self.position(place)
        return (*at[: self.axis], unit, *at[self.axis :])


def find_layer(survey: Survey, name: str) -> Layer:
    """The layer with this name; "auto" is the last map that a layer with weights decides upon, and noted."""
    if name != "auto":
        return survey.layer(name)
    choice = depth.features(survey.model, survey.explained_tensor)
    if choice.layer.role != "spatial":  # pooled already
        return survey.layer("auto")
    survey.notes.append(choice.reason)
    return choice.layer


def unit_axis(layout: str | None, rank: int) -> int:
    """Which axis of a layer counts its units, N left out: the channels; of tokens the last."""
    return layout.index("C") - 1 if layout is not None and "C" in layout and len(layout) == rank else rank - 2


def watch(survey: Survey, name: str, top: int, out: Path | None) -> Watched:
    """Run all photos once, and keep what their units did; with a folder in shards, which a kill leaves.

    Args:
        survey: model and photos.
        name: of the layer.
        top: how many of the strongest places are kept, per unit.
        out: a folder for the shards.

    Raises:
        InputError: `top` is no number of places.
        PhotoError: no photo can be read.
    """
    if top < 1:
        raise InputError(f"The {top} strongest places are none: ask for at least 1 (--top).")
    chosen = find_layer(survey, name)
    by = _classes(survey)
    shards = None if out is None else _shards(survey, chosen, by, top, out)
    try:
        return _watched(survey, chosen, by, top, shards)
    except BaseException:  # who catches it may try again, and finds the folder free
        if shards is not None:
            shards.close()
        raise


def _watched(survey: Survey, chosen: Layer, by: str, top: int, shards: Shards | None) -> Watched:
    number = {kind: i for i, kind in enumerate(survey.photos.classes)}
    layout = survey.layout(chosen.tensor)

    def reduce(seen: Seen) -> tuple[Tally, list[int]]:
        values = seen.found[chosen.tensor]
        axis = unit_axis(layout, values.ndim)
        units = np.moveaxis(values, axis + 1, 1).astype(np.float32, copy=False)
        flat = np.ascontiguousarray(units).reshape(*units.shape[:2], -1)
        classes: Sequence[int | None] = [None] * len(values)
        if by == "label":
            classes = [number.get(survey.photos.label(i) or "") for i in seen.which]
        elif by == "prediction" and (rows := survey.rows(seen.found)) is not None:
            classes = [int(i) for i in rows.argmax(1)]
        return Tally.of(flat, seen.which, classes, top), list(values.shape[1:])

    found = _fold(survey.run([chosen.tensor], reduce) if shards is None else _through(shards, survey, chosen, reduce))
    if found is None:
        raise survey.photos.illegible(survey.skipped)
    tally, shape = found
    axis = unit_axis(layout, len(shape) + 1)
    if axis and not (layout and "C" in layout):
        survey.notes.append(
            f"'{chosen.name}' ({structure.sizes(shape)}) is not known to be a map: its last axis is taken to count "
            "units, the others positions (--layer NAME)"
        )
    if tally.low.min() < 0:
        survey.notes.append(
            f"'{chosen.name}' is not rectified: a unit is said to fire where it is above 0 (--layer NAME)"
        )
    name_of = survey.labels.name if by == "prediction" else survey.photos.classes.__getitem__
    names = {kind: name_of(kind) for kind in tally.classes}
    often = Counter(names.values())  # ImageNet has two cranes
    names = {kind: name if often[name] == 1 else f"{name} ({kind})" for kind, name in names.items()}
    return Watched(chosen, tuple(shape), axis, tally, names, by, shards)


def _classes(survey: Survey) -> str:
    """Where the classes are from that photos are told apart by."""
    if len(survey.photos.classes) > CLASSES:
        survey.notes.append(
            f"the photos have {len(survey.photos.classes)} labels, too many to be classes, so there is no selectivity "
            "(PHOTO)"
        )
        return ""
    if survey.photos.classes:
        return "label"
    if survey.scores is None:
        return ""
    survey.notes.append(
        "classes: the photos have no labels, so selectivity is by predicted class; folders named like classes, or a "
        "list with a column 'label', say better (PHOTO)"
    )
    return "prediction"


Folded = tuple[Tally, list[int]]


def _fold(parts: Iterable[Folded]) -> Folded | None:
    found: Folded | None = None
    for tally, shape in parts:
        found = (tally if found is None else found[0].add(tally)), shape
    return found


def _shards(survey: Survey, chosen: Layer, by: str, top: int, out: Path) -> Shards:
    plan = {**survey.plan(chosen), "graph": survey.model.digest, "top": top, "classes": by}
    size = max(1, SHARD // survey.batch) * survey.batch
    return Shards(out / "parts", plan, len(survey.photos), size)


def _through(shards: Shards, survey: Survey, chosen: Layer, reduce: Callable[[Seen], Folded]) -> Iterator[Folded]:
    """Do the shards that are missing, and give all of them in order."""
    todo = list(shards.missing())
    end = {stop: shard for shard, _, stop in todo}
    parts: list[Folded] = []
    skipped: list[dict[str, str]] = []
    spans = [(start, stop) for _, start, stop in todo]
    with closing(survey.each(spans, [chosen.tensor], reduce)) as each:
        for which, part, missed in each:
            skipped += missed
            if part is not None and (folded := _fold([*parts, part])) is not None:
                parts = [folded]
            if which.stop in end:
                more = {"skipped": skipped, "shape": parts[0][1] if parts else None}
                shards.write(end[which.stop], parts[0][0].to_arrow(more) if parts else nothing(more))
                parts, skipped = [], []
    survey.skipped.clear()
    for table in shards.tables():
        tally, known = Tally.from_arrow(table)
        survey.skipped += known["skipped"]
        if tally is not None:
            yield tally, known["shape"]
