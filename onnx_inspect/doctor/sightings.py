"""What a detector finds under every preprocessing: which one it seems to have been trained with.

Being sure proves nothing here either: fed with numbers far too large, a detector of faces is sure of dozens in a photo
without any. But what it sees in noise of its own making it seldom sees again in the mirror image. So a preprocessing is
worth how sure the surest boxes are, times the share of all scores that belongs to boxes found in both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..detection import Detection, Stated, overlap
from ..engine import Engine
from ..errors import InspectError
from ..labels import Labels
from ..methods.detect import detect
from ..methods.inputs import image_input
from ..model import Model
from ..preprocess import Preprocessing
from .photos import read, usual
from .report import Finding

MOST = 6
_SAME = 0.5  # boxes that overlap more are of the same thing
_STEADY = 0.75  # the least share that is found again: YOLOX has 0.87 as it was trained, UltraFace 0.62 of false faces
_CLEAR = 1.25  # how many times better counts as a difference


@dataclass(frozen=True)
class Sighting:
    """What a detector finds with one preprocessing.

    Attributes:
        flags: how the command line asks for it, "" for what is used anyway.
        preprocessing: itself.
        used: True if this is what is used when nobody asks for another.
        boxes: how many it finds, in all photos.
        surest: the score of the surest box, the mean over the photos.
        again: the share of scores that belongs to boxes found in the photo and in its mirror image.
    """

    flags: str
    preprocessing: Preprocessing
    used: bool
    boxes: int
    surest: float
    again: float

    COLUMNS = ("boxes", "surest", "again")

    @property
    def cells(self) -> tuple[str, ...]:
        """What a table says of it."""
        return str(self.boxes), f"{self.surest:.2f}", f"{100 * self.again:.0f} %" if self.boxes else "-"

    @property
    def rank(self) -> float:
        """Better preprocessings have larger ones."""
        return self.surest * self.again

    def to_json(self) -> dict[str, Any]:
        """As JSON can say it."""
        return vars(self) | {"preprocessing": self.preprocessing.to_json()}


def sightings(
    model: Model,
    photos: Sequence[Path],
    used: Preprocessing,
    stated: Stated | None = None,
    *,
    labels: Labels | str | Path | Sequence[str] | None = None,
    engine: Engine | None = None,
) -> list[Sighting]:
    """What is found with every preset and order of colours; the best first.

    Args:
        model: a detector.
        photos: photos, of which the first few are looked at.
        used: the preprocessing that is used.
        stated: what is said of the detector.
        labels: class names, as in every method.
        engine: where to run.
    """
    pixels = [read(p, max(used.size)) for p in photos[:MOST]]
    found = []
    for flags, how in usual(model, used):
        try:
            pairs = [_both(model, how, p, stated or Stated(), labels=labels, engine=engine) for p in pixels]
        except InspectError:  # as of scores that are no numbers
            continue
        surest = float(np.mean([max((d.score for d in one), default=0) for one, _ in pairs]))
        total = sum(d.score for pair in pairs for boxes in pair for d in boxes)
        again = sum(_again(one, other) + _again(other, one) for one, other in pairs)
        boxes = sum(len(one) for one, _ in pairs)
        found.append(Sighting(flags, how, not flags, boxes, surest, again / total if total else 0.0))
    return sorted(found, key=_order, reverse=True)


def _order(s: Sighting) -> tuple[float, bool, bool, float]:
    """The best first; of those that hardly differ what is used, then what takes off no mean."""
    return round(s.rank, 1), s.used, not any(s.preprocessing.mean), s.rank


def _both(
    model: Model, how: Preprocessing, photo: NDArray[np.uint8], stated: Stated, **more: Any
) -> tuple[list[Detection], list[Detection]]:
    """What is found in a photo, and in its mirror image, mirrored back; in pixels of the model's input."""
    x, name, width = how.batch([photo]), image_input(model).name, how.size[1]
    mirrored = np.ascontiguousarray(np.flip(x, how.layout.index("W")))
    (one,), (other,) = (detect(model, {name: each}, head=stated, preprocessing=how, **more) for each in (x, mirrored))
    return one, [replace(d, box=(width - d.box[2], d.box[1], width - d.box[0], d.box[3])) for d in other]


def _again(one: Sequence[Detection], other: Sequence[Detection]) -> float:
    """The scores of those of one list that the other has as well."""
    return sum(
        d.score
        for d in one
        if any(d.index == e.index and overlap(np.array(d.box), np.array(e.box)) > _SAME for e in other)
    )


def check(tried: Sequence[Sighting]) -> Iterator[Finding]:
    """Whether another preprocessing than the one that is used is clearly better."""
    used = next((s for s in tried if s.used), None)
    if used is None:
        return
    best = next((s for s in tried if s.again > _STEADY), None)
    if best is None:
        what = "no usual preprocessing finds much in these photos that it finds again in their mirror images"
        yield Finding("warning", "photos", what, "take photos of what the model knows")
    elif best.rank > _CLEAR * used.rank:
        what = f"with {best.flags}, the surest boxes score {best.surest:.2f}; as used, {used.surest:.2f}"
        yield Finding("warning", "photos", what, f"try {best.flags}, and look at the boxes")
