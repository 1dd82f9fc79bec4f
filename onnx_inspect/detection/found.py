"""What a detector finds in samples: its head settled by values, and the list of detections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import TargetError
from ..geometry import Box
from . import formats, proposals
from .formats import Stated
from .frontier import activation_behind
from .head import Head
from .lineage import Lineage
from .reading import read

if TYPE_CHECKING:
    from ..geometry import Geometry
    from ..labels import Labels
    from ..model import Model
    from ..structure import Spec

Array = NDArray[Any]
_SURE = 20  # candidates that formats are told from, at least


class Photographed(Protocol):
    """A photo, and where the model's input lies on it."""

    @property
    def geometry(self) -> Geometry:
        """The way between the two."""


class Samples(Protocol):
    """Samples, and what runs the model on them."""

    @property
    def model(self) -> Model:
        """The model."""

    @property
    def n(self) -> int:
        """How many samples there are."""

    @property
    def input(self) -> Spec:
        """The input that takes the photo."""

    def copies(self, i: int, count: int) -> dict[str, NDArray[Any]]:
        """The feeds of one sample, repeated."""

    @property
    def notes(self) -> list[str]:
        """What was assumed."""

    @property
    def labels(self) -> Labels:
        """Names of the classes."""

    @property
    def photos(self) -> Sequence[Photographed | None]:
        """The photo of each sample."""

    def forward(self, tensors: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Run the samples as they are."""


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


def find(samples: Samples, stated: Stated | None = None) -> tuple[Head, dict[str, Array]]:
    """The head of a detector, and the values of its tensors for the samples; what was inferred becomes a note.

    Raises:
        TargetError: the model ends in no candidates that can be read.
    """
    stated = stated or Stated()
    batch = samples.input.shape[0] if samples.input.shape else 1
    batch = batch if isinstance(batch, int) else 1  # as many as the file insists on
    one = {name: value.shape for name, value in samples.copies(0, batch).items()}
    letters = samples.input.layout or ""
    if not {"H", "W"} <= set(letters):
        raise TargetError("Boxes are found in pictures, and this model takes none: name elements (--target OUTPUT[3]).")
    height, width = (one[samples.input.name][letters.index(k)] for k in "HW")
    lineage = Lineage(samples.model, one, batch, proposals.seen(samples))
    head = read(lineage, (height, width), stated, samples.labels)
    found = samples.forward(head.tensors)
    return settle(head, found, samples), found


def settle(head: Head, found: Mapping[str, Array], samples: Samples) -> Head:
    """What values tell: the activation of the scores, the background, names, and how boxes are written."""
    head = _classes(head, found, samples)
    factors = head.factors(found)
    sure = np.prod(factors, axis=0)
    if head.background is not None:
        sure[..., head.background] = 0
    sure, t = sure.max(axis=-1), head.boxes.values(found)
    order = np.argsort(-sure, axis=1, kind="stable")[:, : max(_SURE, sure.shape[1] // 20)]
    weights = np.take_along_axis(sure, order, axis=1).ravel()
    rows = np.take_along_axis(t, order[..., None], axis=1).reshape(-1, t.shape[-1])
    cells, every = (None, sure) if head.cells is None else (head.cells[order].reshape(-1, 6), head.cells)
    form, unit = formats.likely(
        rows, weights, cells, every, head.size, head.stated.format or head.raw.corners, head.stated.unit
    )
    if form in formats.RAW and cells is None:
        raise TargetError(f"Boxes of the format {form} need the cells of a map, and the scores come from none.")
    if form == "yolov5" and not head.stated.anchors:
        raise TargetError(
            f"The boxes of '{head.raw.boxes.name}' look like those of YOLOv5's raw head, in units of anchors, which "
            "are not in the file: state them (--target 'box:1@format=yolov5,anchors=10x13 16x30 33x23'), or name the "
            f"elements to explain (--target \"'{head.raw.scores.name}'[0, 4]\")."
        )
    head = replace(head, stated=replace(head.stated, format=form, unit=unit))
    _tell(head, samples.notes)
    return head


def _classes(head: Head, found: Mapping[str, Array], samples: Samples) -> Head:
    """The activation that is still to come, the background, and names."""
    own, labels = head.stated, samples.labels
    values = head.plain[0].values(found)
    activation = own.activation or head.scores[0].leaves[0].activation or ""
    if not activation:
        inside = bool(values.min() >= -1e-6 and values.max() <= 1 + 1e-6)
        guess = "sigmoid" if head.cells is not None else "softmax"
        activation = "none" if inside else activation_behind(samples.model, head.raw.scores) or guess
    head = replace(head, stated=replace(own, activation=activation))
    count = values.shape[-1]
    if not own.background:
        p = head.factors(found)[0]
        shared = count > 1 and bool(np.allclose(p.sum(axis=-1), 1, atol=1e-3))
        most = int(p.mean(axis=(0, 1)).argmax()) if shared else -1
        own = replace(head.stated, background={0: "first", count - 1: "last"}.get(most, "none"))
        head = replace(head, stated=own)
    names, empty = labels.names, ("background",)
    if head.background is not None and len(names) == count - 1:
        names = (*empty, *names) if head.background == 0 else (*names, *empty)
    if names and len(names) != count:
        samples.notes.append(f"{len(names)} class names for {count} classes, so none is used (--labels FILE)")
        names = ()
    named = replace(labels, names=names) if names else None
    return replace(head, names=tuple(named.name(i) for i in range(count)) if named else ())


def _tell(head: Head, notes: list[str]) -> None:
    """What was inferred, as it can be stated otherwise."""
    own, one = head.stated, head.raw.boxes is head.raw.scores
    where = f"'{head.raw.boxes.name}'" if one else f"'{head.raw.boxes.name}' and '{head.raw.scores.name}'"
    count, classes = head.scores[0].numbers.shape
    given = replace(own, activation="", boxes="", scores="", objectness="yes" if head.objectness is not None else "no")
    told = ",".join([str(given), *(f"{k}={getattr(own, k):g}" for k in ("threshold", "iou") if k not in str(given))])
    notes.append(
        f"detector: {where} read as {count} candidates of {classes} classes (--target 'box:1@{told}' says otherwise)"
    )


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
