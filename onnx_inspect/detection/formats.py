"""Boxes as detectors write them, and as corners in pixels of the model's input."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ..errors import TargetError

Array = NDArray[Any]
Format = Literal["xyxy", "yxyx", "cxcywh", "xywh", "yolox", "yolov5", "dfl"]
Unit = Literal["pixel", "share"]
RAW = ("yolox", "yolov5", "dfl")  # by the cell that a box comes from
_MOST = 500  # boxes, and cells, that formats are told from
_CHANCE = 0.5  # how far decoded boxes are from their cells at most, measured by that of any cell
_STATED = {
    "format": get_args(Format),
    "unit": get_args(Unit),
    "objectness": ("yes", "no"),
    "background": ("first", "last", "none"),
    "activation": ("sigmoid", "softmax", "none"),
}


@dataclass(frozen=True)
class Stated:
    """What a user says of a detector; "" for what is to be found.

    Attributes:
        format: of the four numbers of a box. Decoded: xyxy, yxyx, cxcywh or xywh. Raw, by the cell of the map that the
            box comes from: yolox (offset and logarithm of the size, in cells), yolov5 (offset in cells, size in
            anchors), dfl (distances to the four sides, a distribution each).
        unit: pixel (of the model's input) or share (of its sides).
        anchors: width x height in pixels, for yolov5: "10x13 16x30 33x23", from the finest map to the coarsest.
        objectness: yes or no: is the fifth column one?
        background: first, last or none: which class means nothing.
        activation: sigmoid, softmax or none: what makes probabilities of scores that lack it.
        boxes: the tensor of boxes, by name.
        scores: the tensor of class scores, by name.
        threshold: detections are at least this sure.
        iou: of two boxes of a class that overlap more, the less sure one is dropped.
    """

    format: str = ""
    unit: str = ""
    anchors: str = ""
    objectness: str = ""
    background: str = ""
    activation: str = ""
    boxes: str = ""
    scores: str = ""
    threshold: float = 0.25
    iou: float = 0.45

    def __post_init__(self) -> None:
        for name, known in _STATED.items():
            if (value := getattr(self, name)) and value not in known:
                raise TargetError(f"'{name}={value}' means nothing: it is {', '.join(known[:-1])} or {known[-1]}.")
        for name in ("threshold", "iou"):
            if not 0 <= getattr(self, name) <= 1:
                raise TargetError(f"'{name}={getattr(self, name):g}' is impossible: it lies between 0 and 1.")

    def __str__(self) -> str:
        own = {k: v for k, v in vars(self).items() if v != getattr(Stated, k)}
        return ",".join(f"{k}={v:g}" if isinstance(v, float) else f"{k}={v}" for k, v in own.items())


def parse(text: str) -> Stated:
    """What is said of a detector, from "format=cxcywh,objectness=no".

    Raises:
        TargetError: there is no such property, or no such value.
    """
    found: dict[str, Any] = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        name, equals, value = (p.strip() for p in part.partition("="))
        if not equals or name not in vars(Stated()):
            known = ", ".join(vars(Stated()))
            raise TargetError(f"'{part}' says nothing of a detector: write NAME=VALUE with one of {known}.")
        try:
            found[name] = float(value) if name in ("threshold", "iou") else value
        except ValueError:
            raise TargetError(f"'{part}' is no number between 0 and 1.") from None
    return Stated(**found)


def corners(form: str, t: Iterable[Any], cell: Iterable[Any], exp: Callable[[Any], Any] | None = None) -> list[Any]:
    """x0, y0, x1, y1 of boxes, from the four numbers of each and its cell; on arrays, and on values in a graph.

    Args:
        form: see `Stated.format`; raw distributions come as the distances that they mean.
        t: the four numbers.
        cell: x and y of the middle of the cell, its width and height, and those of the anchor, in pixels.
        exp: the exponential function of a graph; that of arrays ends at e^30, far beyond any picture.
    """
    exp = exp or (lambda size: np.exp(np.minimum(size, 30)))
    a, b, c, d = t
    if form == "xyxy":
        return [a, b, c, d]
    if form == "yxyx":
        return [b, a, d, c]
    if form == "xywh":
        return [a, b, a + c, b + d]
    x, y, across, down, wide, high = cell
    if form == "dfl":
        return [x - a * across, y - b * down, x + c * across, y + d * down]
    if form in ("yolox", "yolov5"):
        a, b = x + (a - 0.5) * across, y + (b - 0.5) * down
        c, d = (exp(c) * across, exp(d) * down) if form == "yolox" else (c * wide, d * high)
    return [a - c * 0.5, b - d * 0.5, a + c * 0.5, b + d * 0.5]


def measured(corners: Sequence[Any]) -> dict[str, Any]:
    """What can be explained of a box: its corners, width, height and area."""
    x0, y0, x1, y1 = corners
    w, h = x1 - x0, y1 - y0
    return {"x0": x0, "y0": y0, "x1": x1, "y1": y1, "w": w, "h": h, "area": w * h}


def overlap(one: Array, others: Array) -> Array:
    """Intersection over union of boxes (..., 4) with others (..., 4), by corners; axes are broadcast."""
    low, high = np.maximum(one[..., :2], others[..., :2]), np.minimum(one[..., 2:], others[..., 2:])
    both = (high - low).clip(0).prod(axis=-1)
    whole = sum((box[..., 2:] - box[..., :2]).clip(0).prod(axis=-1) for box in (one, others)) - both
    return np.asarray(np.divide(both, whole, out=np.zeros(np.shape(whole)), where=whole > 0))


def kept(boxes: Array, scores: Array, classes: Array, iou: float) -> list[int]:
    """Non-maximum suppression within each class: the boxes (M, 4) that stay, the surest first."""
    order = np.argsort(-scores, kind="stable")
    boxes, classes, found = boxes[order], classes[order], list[int]()
    for index in np.unique(classes):
        rest = np.flatnonzero(classes == index)
        while len(rest):
            best, rest = rest[0], rest[1:]
            found.append(best)
            rest = rest[overlap(boxes[best], boxes[rest]) <= iou]
    return [int(order[i]) for i in sorted(found)]


def likely(
    t: Array, sure: Array, cells: Array | None, every: Array, size: tuple[int, int], form: str, unit: str
) -> tuple[str, str]:
    """The format and unit that boxes were most likely written in.

    Where candidates belong to cells, the middle of a decoded box lies near its cell, and a box has a size: of all
    formats the one that says so is right. If none does much better than chance, boxes are raw. Elsewhere those whose
    third and fourth numbers always exceed the first two are corners.

    Args:
        t: (M, 4).
        sure: how sure the detector is of each, (M,): the boxes of the others are untrained.
        cells: (M, 6), see `corners`; None where candidates belong to no cell.
        every: the cells of all candidates.
        size: height and width of the model's input.
        form: the format, where it is known, or "center" or "corners"; "" for any.
        unit: likewise.
    """
    surest = np.argsort(-sure, kind="stable")[:_MOST]
    t, sure = t[surest], sure[surest]
    if cells is None:
        rising = bool((t[:, 2:] > t[:, :2]).all(axis=1).mean() > 0.99)
        fit = form if form in get_args(Format) else "xyxy" if form == "corners" or (rising and not form) else "cxcywh"
        return fit, unit or ("share" if np.abs(t).max() <= 2 else "pixel")
    cells, every = cells[surest], every[:: -(-len(every) // _MOST)]
    if form in RAW:
        return form, "pixel"
    forms = {"center": ["cxcywh"], "corners": ["xyxy", "yxyx"], "": ["cxcywh", "xyxy", "yxyx", "xywh"]}
    best, least = ("yolox", "pixel"), np.inf if form else _CHANCE
    for one in forms.get(form, [form]):
        for scale in [unit] if unit else ["pixel", "share"]:
            sides = size if one == "yxyx" else size[::-1]
            factor = np.array(sides * 2 if scale == "share" else (1, 1) * 2)
            x0, y0, x1, y1 = corners(one, (t * factor).T, cells.T)
            middle = np.stack([x0 + x1, y0 + y1], axis=1) / 2
            off = np.average(np.linalg.norm(middle - cells[:, :2], axis=1), weights=sure + 1e-9)
            anywhere = np.linalg.norm(middle[:, None] - every[:, :2], axis=2).mean(axis=1)
            real = (x1 - x0 > 1) & (y1 - y0 > 1) & (x1 - x0 < 2 * size[1]) & (y1 - y0 < 2 * size[0])
            cost = off / np.average(anywhere, weights=sure + 1e-9) + np.average(~real, weights=sure + 1e-9)
            if cost < least:
                best, least = (one, scale), cost
    if best[0] == "yolox" and _between(t[:, :2], -0.5, 1.5) and _between(t[:, 2:], 0, 4):
        return "yolov5", "pixel"
    return best


def _between(values: Array, low: float, high: float) -> bool:
    return bool((values >= low - 1e-6).all() and (values <= high + 1e-6).all())
