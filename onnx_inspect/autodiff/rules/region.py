"""Pooling over regions of maps: each lies on the map of one sample, and is divided into a grid of bins.

R regions with P bins on an axis, up to G samples or elements in a bin, on maps (N, C, H, W).
"""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from ...emit import Op, inputs
from ..table import Cotangents, rule
from .index import INT64, scatter_add
from .spatial import ramp

Pair = Sequence[ir.Value]
Ends = list[Pair]  # cotangents of where regions start and end, (R,), by axis


@dataclass(frozen=True)
class _Samples:
    """Where bins are sampled on one axis of a map, (R, P, G).

    at: the coordinate, held to the map. real: the region has that many samples per bin. weight: one over their number;
    0 behind them, and too far out. slope: the weight, 0 where the coordinate is held. shares: how far the sample moves
    with the start of the region, and with its end. size: of the map.
    """

    at: ir.Value
    real: ir.Value
    weight: ir.Value
    slope: ir.Value
    shares: Pair
    size: ir.Value


@rule("RoiAlign")
def roi_align(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = the mean, or the maximum, over samples in each bin, interpolated linearly.

    The maximum is over the four weighted corners of each sample, as in onnxruntime and in onnx's reference. With
    sampling_ratio 0 the size of a region decides how many samples it has, in steps, which pass nothing.
    """
    x, rois, batch = inputs(node, 3)
    left, top, right, bottom = (_column(op, rois, i) for i in range(4))
    axes = [
        _samples(op, node, top, bottom, node.attributes.get_int("output_height", 1), op.size(x, 2)),
        _samples(op, node, left, right, node.attributes.get_int("output_width", 1), op.size(x, 3)),
    ]
    through = _maximum if node.attributes.get_string("mode", "avg").lower() == "max" else _mean
    dx, ends = through(op, x, op.Cast(batch, to=INT64), axes, dy, op.wants(rois))
    if not ends:
        return dx
    (top, bottom), (left, right) = ends
    columns = [op.Unsqueeze(v, [1]) for v in (left, top, right, bottom)]
    return [dx, op.Concat(*columns, axis=1) * node.attributes.get_float("spatial_scale", 1.0)]


@rule("MaxRoiPool", flat=(1,))
def max_roi_pool(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = the maximum of each bin, its edges moved outwards to whole elements; of equal ones the first takes all."""
    x, rois = inputs(node, 2)
    scale, bins = node.attributes.get_float("spatial_scale", 1.0), node.attributes.get_ints("pooled_shape")
    batch, *edges = (_column(op, rois, i) for i in range(5))
    edges = [edge * scale for edge in edges]
    left, top, right, bottom = (op.Sign(e) * op.Floor(op.Abs(e) + 0.5) for e in edges)  # halves go away from 0
    ys, xs = _spanned(op, top, bottom, bins[0], op.size(x, 2)), _spanned(op, left, right, bins[1], op.size(x, 3))
    indices, real = zip(ys, xs, strict=True)
    weights = [op.mask(r, x) for r in real]
    best = _Winners(op, x, op.Cast(batch, to=INT64), indices, real, weights)
    return best.put(op.Transpose(dy, perm=[0, 2, 3, 1]) * best.pick(weights))


def _column(op: Op, rois: ir.Value, i: int) -> ir.Value:
    return op.Gather(rois, op.const(i, INT64), axis=1)


def _most(op: Op, counts: ir.Value) -> ir.Value:
    """The largest of some counts, at least 1, as a vector of length 1."""
    return op.ReduceMax(op.Concat(op.Cast(op.Reshape(counts, [-1]), to=INT64), [1], axis=0), keepdims=1)


def _spanned(op: Op, start: ir.Value, end: ir.Value, bins: int, size: ir.Value) -> tuple[ir.Value, ir.Value]:
    """The elements in each bin of regions from `start` to `end`, (R,), included; and which are there, (R, P, G)."""
    start, end = (op.Reshape(v, [-1, 1]) for v in (start, end))
    step, p = op.Max(end - start + 1, 1) / bins, ramp(op, op.const([bins]), start.dtype)
    first, stop = (op.Cast(v + start, to=INT64) for v in (op.Floor(p * step), op.Ceil((p + 1) * step)))
    first, stop = (op.Unsqueeze(op.Max(op.Min(v, size), [0]), [2]) for v in (first, stop))
    index = first + ramp(op, _most(op, stop - first))
    return op.Min(index, size - 1), op.Less(index, stop)


def _samples(op: Op, node: ir.Node, start: ir.Value, end: ir.Value, bins: int, size: ir.Value) -> _Samples:
    """The samples of regions from `start` to `end`, (R,)."""
    scale, ratio = node.attributes.get_float("spatial_scale", 1.0), node.attributes.get_int("sampling_ratio", 0)
    half = node.attributes.get_string("coordinate_transformation_mode", "half_pixel").lower() == "half_pixel"
    dtype = start.dtype
    start, end = (op.Reshape(v * scale - (0.5 if half else 0), [-1, 1, 1]) for v in (start, end))
    length = end - start
    step = (length if half else op.Max(length, 1)) / bins
    count = op.full_like(step, ratio) if ratio > 0 else op.Ceil(step)
    some = op.Max(count, 1)
    p = op.Reshape(ramp(op, op.const([bins]), dtype), [-1, 1])
    g = ramp(op, _most(op, count), dtype) + 0.5
    at, n = start + p * step + g * step / some, op.Cast(size, to=dtype)
    real = op.Expand(op.Less(g, count), op.Shape(at))
    near = op.And(op.GreaterOrEqual(at, -1), op.LessOrEqual(at, n))
    weight, to_end = op.mask(op.And(real, near), at) / some, (p + g / some) / bins
    if not half:  # a length held at 1 does not change
        to_end = op.Where(op.Less(length, 1), 0, to_end)
    return _Samples(
        at=op.Max(op.Min(at, n - 1), 0),
        real=real,
        weight=weight,
        slope=op.Where(op.And(op.GreaterOrEqual(at, 0), op.Less(at, n - 1)), weight, 0),
        shares=(1 - to_end, to_end),
        size=size,
    )


def _mean(
    op: Op, x: ir.Value, batch: ir.Value, axes: Sequence[_Samples], dy: ir.Value, ends: bool
) -> tuple[ir.Value | None, Ends]:
    """Y = Aʸ X Aˣᵀ: a matrix for each axis of each region weighs the elements next to the samples of each bin."""
    own = op.Unsqueeze(op.mask(op.Equal(op.Unsqueeze(ramp(op, op.size(x, 0)), [1]), batch), x), [2, 3])  # (N, R, 1, 1)
    near = [op.Unsqueeze(s.at, [3]) - ramp(op, s.size, x.dtype) for s in axes]  # (R, P, G, H)
    hats = [op.Max(1 - op.Abs(d), 0) * op.Unsqueeze(s.weight, [3]) for d, s in zip(near, axes, strict=True)]
    matrices = [op.ReduceSum(hat, [2], keepdims=0) for hat in hats]
    dx: ir.Value | None = None
    found: Ends = []
    for s, d, a, other in zip(axes, near, matrices, reversed(matrices), strict=True):
        rows, width = op.Transpose(x, perm=[0, 2, 1, 3]), op.size(x, 1) * op.size(x, 3)  # (N, H, C, W)
        across = op.Transpose(op.MatMul(dy, op.Unsqueeze(other, [1])), perm=[0, 2, 1, 3])
        across = op.Reshape(across, op.Concat([-1], width, axis=0))  # (R P, C W)
        mine = own * a  # (N, R, P, H)
        if dx is None and op.wants(x):
            stacked = op.Transpose(op.Reshape(mine, op.Concat([0, -1], s.size, axis=0)), perm=[0, 2, 1])
            dx = op.Transpose(op.Reshape(op.MatMul(stacked, across), op.Shape(rows)), perm=[0, 2, 1, 3])
            dx = op.Where(op.Equal(op.Size(batch), 0), 0, dx)  # onnxruntime does not clear a product over no regions
        if not ends:
            break
        maps = op.Transpose(op.Reshape(rows, op.Concat([0, -1], width, axis=0)), perm=[0, 2, 1])
        da = op.ReduceSum(own * op.Reshape(op.MatMul(across, maps), op.Shape(mine)), [0], keepdims=0)
        above, below = (op.mask(op.And(op.LessOrEqual(low, d), op.Less(d, low + 1)), d) for low in (-1, 0))
        moved = op.ReduceSum((above - below) * op.Unsqueeze(da, [2]), [3], keepdims=0) * s.slope
        found.append([op.ReduceSum(moved * share, [1, 2], keepdims=0) for share in s.shares])
        x, dy = (op.Transpose(v, perm=[0, 1, 3, 2]) for v in (x, dy))  # and the other axis
    return dx, found


def _maximum(
    op: Op, x: ir.Value, batch: ir.Value, axes: Sequence[_Samples], dy: ir.Value, ends: bool
) -> tuple[ir.Value | None, Ends]:
    """Y = the largest of the weighted corners of the samples of a bin."""
    indices, weights, slopes = [], [], []
    for s in axes:
        low = op.Floor(s.at)
        below, near = op.Cast(low, to=INT64), op.mask(op.Greater(s.weight, 0), x)
        indices.append(op.Concat(below, op.Min(below + 1, s.size - 1), axis=2))
        weights.append(op.Concat((1 - (s.at - low)) * near, (s.at - low) * near, axis=2))
        free = op.mask(op.Greater(s.slope, 0), x)
        slopes.append(op.Concat(-free, free, axis=2))
    best = _Winners(op, x, batch, indices, [op.Concat(s.real, s.real, axis=2) for s in axes], weights)
    dy = op.Transpose(dy, perm=[0, 2, 3, 1])
    dx = best.put(dy * best.pick(weights)) if op.wants(x) else None
    found: Ends = []
    for axis, s in enumerate(axes if ends else ()):
        turned = [[slopes[a] * op.Concat(t, t, axis=2) if a == axis else weights[a] for a in (0, 1)] for t in s.shares]
        found.append([op.ReduceSum(dy * best.values * best.pick(t), [1, 2, 3], keepdims=0) for t in turned])
    return dx, found


class _Winners:
    """Which product of element and weight is the largest in each bin, (R, P, P', C): of equal ones the first.

    `x` are the maps, `batch` the map of each region; by axis, (R, P, K): indices, which of them count, and weights.
    """

    def __init__(self, op: Op, x: ir.Value, batch: ir.Value, indices: Pair, real: Pair, weights: Pair) -> None:
        self.op, self.last, channels = op, op.Transpose(x, perm=[0, 2, 3, 1]), op.size(x, 1)
        start = op.Reshape(batch, [-1, 1, 1]) * op.size(x, 2)
        place = self._table(op.Add, (start + indices[0]) * op.size(x, 3), indices[1])
        rows = op.Reshape(self.last, op.Concat([-1], channels, axis=0))
        each = op.Gather(rows, place, axis=0) * op.Unsqueeze(self._table(op.Mul, *weights), [4])
        each = op.Where(op.Unsqueeze(self._table(op.And, *real), [4]), each, -math.inf)
        self.best = op.ArgMax(each, axis=3, keepdims=0)
        self.places = op.GatherElements(place, self.best, axis=3) * channels + ramp(op, channels)
        self.values = op.Gather(op.Reshape(rows, [-1]), self.places)

    def _table(self, combine: Any, y: ir.Value, x: ir.Value) -> ir.Value:
        """What elements have on both axes together, (R, P, P', K K')."""
        op = self.op
        both = combine(op.Unsqueeze(y, [2, 4]), op.Unsqueeze(x, [1, 3]))
        count = op.Shape(y, start=2) * op.Shape(x, start=2)
        return op.Reshape(both, op.Concat(op.Shape(both, end=3), count, axis=0))

    def pick(self, factors: Pair) -> ir.Value:
        """The product of two factors, by axis, at the winners."""
        return self.op.GatherElements(self._table(self.op.Mul, *factors), self.best, axis=3)

    def put(self, dy: ir.Value) -> ir.Value:
        """The cotangent of the maps, from those of their elements that won."""
        op, size = self.op, self.op.Reshape(self.op.Size(self.last), [1])
        dx = scatter_add(op, "ScatterElements", size, op.Reshape(self.places, [-1]), op.Reshape(dy, [-1]))
        return op.Transpose(op.Reshape(dx, op.Shape(self.last)), perm=[0, 3, 1, 2])
