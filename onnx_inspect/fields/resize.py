"""What Resize reads, along each axis for itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .table import At, Axis, Reach, Table, along, rule, same, taps

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Line:
    """An axis of n numbers that becomes one of m; `start` and `end` are of the part that is resized."""

    n: int
    m: int
    scale: Any
    start: Any
    end: Any


# Where index o of the output lies among the numbers of the input.
PLACES: dict[str, Callable[[Floats, Line], Floats]] = {
    "half_pixel": lambda o, a: (o + 0.5) / a.scale - 0.5,
    "half_pixel_symmetric": lambda o, a: a.n / 2 * (1 - a.m / (a.scale * a.n)) + (o + 0.5) / a.scale - 0.5,
    "pytorch_half_pixel": lambda o, a: (o + 0.5) / a.scale - 0.5 if a.m > 1 else o * 0,
    "asymmetric": lambda o, a: o / a.scale,
    "align_corners": lambda o, a: o * (a.n - 1) / (a.m - 1) if a.m > 1 else o * 0,
    "tf_half_pixel_for_nn": lambda o, a: (o + 0.5) / a.scale,
    "tf_crop_and_resize": lambda o, a: (
        a.start * (a.n - 1) + o * (a.end - a.start) * (a.n - 1) / (a.m - 1)
        if a.m > 1
        else o * 0 + (a.start + a.end) * (a.n - 1) / 2
    ),
}
NEAREST: dict[str, Callable[[Floats], Floats]] = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}
SUPPORT = {"linear": 1, "cubic": 2}  # of the kernel, to either side


@rule("Resize", data=1)
def resize(at: At) -> Reach:
    """Each axis resampled: the nearest number, or all under the kernel whose weight is not 0."""
    attributes, rank = at.node.attributes, len(at.x)
    over = [axis % rank for axis in attributes.get_ints("axes", range(rank))]
    mode = attributes.get_string("coordinate_transformation_mode", "half_pixel")
    roi = at.numbers(1) if mode == "tf_crop_and_resize" else None
    axes = same(rank)
    for i, axis in enumerate(over):
        n, m, scale = at.x[axis], at.y[axis], _scales(at, over)[i]
        # onnxruntime copies what keeps its shape, and leaves axes alone whose scale is 1, whatever is to be cropped.
        if at.x != at.y and (n != m or scale != 1):
            start, end = (0.0, 1.0) if roi is None else (roi[i], roi[i + len(over)])
            axes[axis] = Axis(axis, _reads(at, Line(n, m, scale, start, end), PLACES[mode]))
    return along(at.x, axes)


def _scales(at: At, over: list[int]) -> list[float]:
    """By how much each axis grows: as given, or what follows from the sizes."""
    scales, sizes = at.numbers(2), at.numbers(3)
    if scales is not None and scales.size:
        return [float(scale) for scale in scales]
    grown = [at.y[axis] / at.x[axis] for axis in over]
    policy = at.node.attributes.get_string("keep_aspect_ratio_policy", "stretch")
    if policy == "stretch" or sizes is None:
        return grown
    wanted = [size / at.x[axis] for size, axis in zip(sizes.tolist(), over, strict=True)]
    return [min(wanted) if policy == "not_larger" else max(wanted)] * len(over)


def _reads(at: At, line: Line, place: Callable[[Floats, Line], Floats]) -> Table:
    """What the indices of an axis read. Where onnxruntime's float32 may round a place either way, both ways count."""
    rough, exact = (
        place(np.arange(line.m, dtype=kind), Line(line.n, line.m, *map(kind, (line.scale, line.start, line.end))))
        for kind in (np.float32, np.float64)
    )
    # Symmetry shifts all places by what is lost where the size, or the scale, is rounded, and so by no round number.
    shifted = place is PLACES["half_pixel_symmetric"] and line.m != float(np.float32(line.scale)) * line.n
    unsure = np.where((rough == exact) & (not shifted), 0, 4 * np.spacing(np.float32(max(line.n, line.m))))
    found = []
    for x in (exact - unsure, exact + unsure):
        reads = _near(at, x, line)
        if place is PLACES["tf_crop_and_resize"]:
            reads[(x < 0) | (x > line.n - 1)] = -1  # extrapolated
        found.append(taps(reads, line.n))
    return np.concatenate(found, axis=1)


def _near(at: At, x: Floats, line: Line) -> NDArray[np.int64]:
    """The indices that count at places x; -1 for none."""
    attributes = at.node.attributes
    mode, last = attributes.get_string("mode", "nearest"), line.n - 1
    if mode == "nearest":
        nearest = NEAREST[attributes.get_string("nearest_mode", "round_prefer_floor")](x)
        return nearest.astype(np.int64).clip(0, last)[:, None]
    smooths = attributes.get_int("antialias", 0) and line.scale < 1
    reach = SUPPORT[mode] / line.scale if smooths else SUPPORT[mode]
    around = np.floor(x).astype(np.int64)[:, None] + np.arange(-ceil(reach), ceil(reach) + 2)
    # Between numbers all under the kernel count; on one of them it alone, as the kernel is 0 at all others.
    counts = abs(around - x[:, None]) < np.where((x == np.floor(x)) & (not smooths), 1, reach)[:, None]
    return np.where(counts, around.clip(0, last), -1)
