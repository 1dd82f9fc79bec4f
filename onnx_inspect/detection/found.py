"""What a detector finds in samples: the list of detections, from the values of its head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..geometry import Box
from . import formats
from .head import Head

if TYPE_CHECKING:
    from ..asks import Photographed

Array = NDArray[Any]


@dataclass(frozen=True)
class Detection:
    """A thing that a detector found.

    Attributes:
        number: its place in the list, the surest being 1.
        index: its class.
        label: the name of that.
        score: how sure the detector is, 0 to 1.
        box: (x0, y0, x1, y1) in pixels of the photo; of the model's input where there is no photo.
        candidate: which row of the raw head it is.
    """

    number: int
    index: int
    label: str
    score: float
    box: Box
    candidate: int

    def to_json(self) -> dict[str, Any]:
        """As a dictionary."""
        return {**vars(self), "box": [round(side, 2) for side in self.box], "score": round(self.score, 6)}


@dataclass(frozen=True, eq=False)
class Candidates:
    """All candidates of one sample, before any is chosen.

    Attributes:
        boxes: (A, 4), corners in pixels of the model's input.
        probabilities: (A, C), of the classes, without objectness; that of the background included.
        objectness: (A,): the model's where it has one, else 1 - the background's probability, else the surest class's.
        scores: (A, C), how sure the detector is of each; 0 for the background.
    """

    boxes: Array
    probabilities: Array
    objectness: Array
    scores: Array


def candidates(head: Head, found: Mapping[str, Array]) -> list[Candidates]:
    """All candidates, by sample, from the values of the head's tensors."""
    factors, boxes = head.factors(found), head.corners(found)
    classes = factors[0]
    scores = np.prod(factors, axis=0)
    if head.objectness is not None:
        objectness = np.prod(factors[1:], axis=0)[..., 0]
    elif head.background is not None:
        objectness = 1 - classes[..., head.background]
    else:
        objectness = classes.max(axis=-1)
    if head.background is not None:
        scores[..., head.background] = 0
    return [Candidates(*parts) for parts in zip(boxes, classes, objectness, scores, strict=True)]


def detections(head: Head, found: Mapping[str, Array], photos: Sequence[Photographed | None]) -> list[list[Detection]]:
    """The detections of each sample, the surest first, each class thinned out by non-maximum suppression."""
    every = candidates(head, found)
    return [_detections(head, one, photo) for one, photo in zip(every, photos, strict=True)]


def _detections(head: Head, one: Candidates, photo: Photographed | None) -> list[Detection]:
    classes = one.scores.argmax(axis=1)
    best = one.scores.max(axis=1)
    sure = np.flatnonzero(best >= head.stated.threshold)
    stay = sure[formats.kept(one.boxes[sure], best[sure], classes[sure], head.stated.iou)]
    return [detection(head, one, photo, int(a), int(classes[a]), i) for i, a in enumerate(stay, start=1)]


def detection(
    head: Head, one: Candidates, photo: Photographed | None, candidate: int, index: int, number: int = 0
) -> Detection:
    """A candidate as a detection of a class."""
    box = on_photo(one.boxes[candidate], photo, head.size)
    return Detection(number, index, head.class_name(index), float(one.scores[candidate, index]), box, candidate)


def on_photo(box: Sequence[float] | Array, photo: Photographed | None, size: tuple[int, int]) -> Box:
    """A box of the model's input in pixels of the photo, clipped to it; of the input where there is no photo."""
    if photo is not None:
        return tuple(float(side) for side in photo.geometry.box_to_photo(list(map(float, box))))  # type: ignore[return-value]
    (height, width), (x0, y0, x1, y1) = size, (float(side) for side in box)
    return min(max(x0, 0), width), min(max(y0, 0), height), min(max(x1, 0), width), min(max(y1, 0), height)
