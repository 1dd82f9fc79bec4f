"""Sampling at coordinates, and matrices of places."""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import product

import onnx_ir as ir

from ...emit import Op, inputs
from ..table import Cotangents, rule
from .convolution import window
from .index import FLOAT, HALF, INT64, scatter_add

# One tap of one axis: its index, its weight, and the derivative of the weight by the coordinate.
Tap = tuple[ir.Value, ir.Value, ir.Value]
A = -0.75  # of the cubic


@rule("GridSample")
def grid_sample(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = X interpolated where the grid points: linear and cubic weigh 2 and 4 taps per axis, nearest takes one.

    The grid gets nothing in mode nearest, nor where a coordinate is held at the border.
    """
    x, grid = inputs(node, 2)
    spatial = op.rank(x) - 2
    wide_x, wide_grid, dy = (op.Cast(v, to=FLOAT) if v.dtype in HALF else v for v in (x, grid, dy))
    # Maps as rows (N, C, places), coordinates and all that follows from them as rows (N, points).
    sizes = [op.size(x, 2 + a) for a in range(spatial)]
    points = [op.Gather(wide_grid, op.const(spatial - 1 - a, INT64), axis=-1) for a in range(spatial)]
    axes = [_taps(op, node, op.Reshape(p, [0, -1]), n) for p, n in zip(points, sizes, strict=True)]
    sampled, dy = _Sampled(op, op.Reshape(wide_x, [0, 0, -1]), axes, sizes), op.Reshape(dy, [0, 0, -1])
    dx = dgrid = None
    if op.wants(x):
        dx = op.Cast(op.like(sampled.to_map(dy), x), to=x.dtype)
    if op.wants(grid):
        parts = [op.Unsqueeze(d, [2]) for d in reversed(sampled.to_points(dy))]
        dgrid = op.Cast(op.like(op.Concat(*parts, axis=2), grid), to=grid.dtype)
    return [dx, dgrid]


@rule("DeformConv")
def deform_conv(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = W times X where offsets move the taps to, interpolated linearly, times a mask; plus B.

    Neighbours outside of the map count as 0. So they do in onnxruntime and in onnx's reference, which agree, but that
    the reference divides by 0 on maps of one row or column.
    """
    given, at = inputs(node, 5), window(op, node)
    wide = [op.Cast(v, to=FLOAT) if v is not None and v.dtype in HALF else v for v in given]
    (x, w, offset, _, mask), dy, rank = wide, op.Cast(dy, to=wide[0].dtype), len(at.strides)
    groups, sets = node.attributes.get_int("group", 1), node.attributes.get_int("offset_group", 1)
    sizes, kernel, outs = ([op.size(v, 2 + a) for a in range(rank)] for v in (given[0], given[1], given[2]))
    # Channels with the same offsets are a row of their own, (N·sets, C/sets, ...), read at (N·sets, taps·outputs).
    rows, taps = op.size(given[0], 0) * sets, op.ReduceProd(op.Concat(*kernel, axis=0), keepdims=1)
    moves = op.Reshape(offset, op.Concat(rows, taps, [rank, -1], axis=0))
    axes = []
    for a in range(rank):
        tap, output = ramp(op, kernel[a]) * at.dilations[a], ramp(op, outs[a]) * at.strides[a] - at.begin[a]
        still = _along(op, tap, a, 2 * rank) + _along(op, output, rank + a, 2 * rank)
        still = op.Reshape(op.Expand(still, op.Concat(*kernel, *outs, axis=0)), op.Concat(taps, [-1], axis=0))
        point = op.Gather(moves, op.const(a, INT64), axis=2) + op.Cast(still, to=x.dtype)
        axes.append(_around(op, op.Reshape(point, [0, -1]), "linear", 1, sizes[a], "zeros"))
    shape = op.Concat(rows, op.size(given[0], 1) / sets, [-1], axis=0)
    sampled = _Sampled(op, op.Reshape(x, shape), axes, sizes)
    values = sampled.values()
    mask = 1 if mask is None else op.Reshape(mask, op.Concat(rows, [1, -1], axis=0))
    # Per group: (O/groups, outputs) = (O/groups, C/groups·taps) @ (C/groups·taps, outputs).
    inner = op.size(given[1], 1) * taps
    matrix = op.Transpose(op.Reshape(w, op.Concat([groups, -1], inner, axis=0)), perm=[0, 2, 1])
    columns = op.Reshape(values * mask, op.Concat(op.size(given[0], 0), [groups], inner, [-1], axis=0))
    dys = op.Reshape(dy, op.Concat([0, groups], op.size(given[1], 0) / groups, [-1], axis=0))
    dcolumns = op.Reshape(op.MatMul(matrix, dys), shape)
    split = op.Concat([0], taps, [1, -1], axis=0)
    found: list[Callable[[], ir.Value]] = [
        lambda: sampled.to_map(dcolumns * mask),
        lambda: op.ReduceSum(op.MatMul(dys, op.Transpose(columns, perm=[0, 1, 3, 2])), [0], keepdims=0),
        lambda: op.Concat(*(op.Reshape(d, split) for d in sampled.to_points(dcolumns * mask)), axis=2),
        lambda: op.ReduceSum(dy, [0, *range(2, 2 + rank)], keepdims=0),
        lambda: op.ReduceSum(dcolumns * values, [1], keepdims=0),
    ]
    return [op.Cast(op.like(d(), v), to=v.dtype) if op.wants(v) else None for v, d in zip(given, found, strict=True)]


def _along(op: Op, vector: ir.Value, axis: int, rank: int) -> ir.Value:
    return op.Unsqueeze(vector, [a for a in range(rank) if a != axis])


def ramp(op: Op, count: ir.Value, dtype: ir.DataType | None = INT64) -> ir.Value:
    """0, 1, 2, ...: as many as a vector of length 1 says."""
    return op.Cast(op.Range(op.const(0, INT64), op.Squeeze(count, [0]), op.const(1, INT64)), to=dtype)


class _Sampled:
    """Maps (N, C, places) read at (N, points): the sum over taps of all axes, each its product of weights."""

    def __init__(self, op: Op, maps: ir.Value, axes: Sequence[Sequence[Tap]], sizes: Sequence[ir.Value]) -> None:
        self.op, self.maps, self.taps = op, maps, list(product(*axes))
        self.places: list[ir.Value] = []
        for taps in self.taps:
            place = taps[0][0]
            for (index, _, _), n in zip(taps[1:], sizes[1:], strict=True):
                place = place * n + index
            channels = op.Concat([1], op.Shape(maps, start=1, end=2), [1], axis=0)
            self.places.append(op.Expand(op.Unsqueeze(place, [1]), channels))

    def values(self) -> ir.Value:
        """What is read, (N, C, points)."""
        pairs = zip(self.places, self._weights(), strict=True)
        return self.op.Sum(*(self.op.GatherElements(self.maps, place, axis=2) * weight for place, weight in pairs))

    def to_map(self, dy: ir.Value) -> ir.Value:
        """The cotangent of the maps."""
        op, updates = self.op, [dy * weight for weight in self._weights()]
        places, updates = (op.Concat(*parts, axis=2) for parts in (self.places, updates))
        return scatter_add(op, "ScatterElements", op.Shape(self.maps), places, updates, axis=2)

    def to_points(self, dy: ir.Value) -> list[ir.Value]:
        """The cotangents of the coordinates, by axis, (N, points)."""
        op = self.op
        slopes: list[list[ir.Value]] = [[] for _ in self.taps[0]]
        for place, taps in zip(self.places, self.taps, strict=True):
            here = op.ReduceSum(dy * op.GatherElements(self.maps, place, axis=2), [1], keepdims=0)
            for a, (_, _, slope) in enumerate(taps):
                slopes[a].append(math.prod([w for b, (_, w, _) in enumerate(taps) if b != a], start=here * slope))
        return [op.Sum(*parts) for parts in slopes]

    def _weights(self) -> list[ir.Value]:
        return [self.op.Unsqueeze(math.prod([w for _, w, _ in t[1:]], start=t[0][1]), [1]) for t in self.taps]


def _taps(op: Op, node: ir.Node, point: ir.Value, size: ir.Value) -> list[Tap]:
    """The taps of one axis for coordinates from -1 to 1."""
    mode, padding = node.attributes.get_string("mode", "linear"), node.attributes.get_string("padding_mode", "zeros")
    align = node.attributes.get_int("align_corners", 0)
    n = op.Cast(size, to=point.dtype)
    half = (n - 1 if align else n) * 0.5
    at = (point + 1) * half - (0 if align else 0.5)
    if mode == "nearest":
        at = op.Round(at)
    low, span = (0, n - 1) if align else (-0.5, n)
    inside = op.And(op.GreaterOrEqual(at, low), op.LessOrEqual(at, span + low))
    slope = op.Expand(half, op.Shape(at))
    cubic = mode in ("cubic", "bicubic")  # it holds its taps at the border instead
    if padding == "border" and not cubic:
        at = op.Where(inside, at, op.Max(op.Min(at, n - 1), op.Cast([0], to=point.dtype)))
    elif padding == "reflection":
        period = op.Where(op.Equal(span, 0), 1, span * 2)
        rest = (at - low) - op.Floor((at - low) / period) * period
        slope = op.Where(op.LessOrEqual(rest, span), slope, -slope)
        at = op.Where(inside, at, op.Min(rest, period - rest) + low)
    if padding != "zeros" and not cubic:
        slope = op.Where(op.And(op.Greater(at, 0), op.Less(at, n - 1)), slope, 0)  # 0 also on the border, as torch
    return _around(op, at, mode, slope, size, padding, align)


def _around(
    op: Op, at: ir.Value, mode: str, slope: ir.Value | float, size: ir.Value, padding: str, align: int = 0
) -> list[Tap]:
    """The taps around a place of one axis, which moves by `slope` with its coordinate."""
    first = op.Floor(at)
    f = at - first
    base = op.Cast(first, to=INT64)
    if mode == "nearest":
        zero = op.Mul(f, 0)
        steps, weights = [0], [(zero + 1, zero)]
    elif mode in ("linear", "bilinear"):
        one = op.Add(op.Mul(f, 0), 1)
        steps, weights = [0, 1], [(1 - f, -one), (f, one)]
    else:
        g = 1 - f
        steps = [-1, 0, 1, 2]
        weights = [_outer(f), _inner(f), (_inner(g)[0], -_inner(g)[1]), (_outer(g)[0], -_outer(g)[1])]
    return [_padded(op, base + s, w, d * slope, size, padding, align) for s, (w, d) in zip(steps, weights, strict=True)]


def _inner(f: ir.Value) -> tuple[ir.Value, ir.Value]:
    """The cubic's weight at a distance of up to 1, and its derivative."""
    return (f * (A + 2) - (A + 3)) * f * f + 1, (f * (3 * A + 6) - (2 * A + 6)) * f


def _outer(f: ir.Value) -> tuple[ir.Value, ir.Value]:
    """The same at a distance of 1 + f."""
    x = f + 1
    return ((x * A - 5 * A) * x + 8 * A) * x - 4 * A, (x * (3 * A) - 10 * A) * x + 8 * A


def _padded(
    op: Op, index: ir.Value, weight: ir.Value, slope: ir.Value, size: ir.Value, padding: str, align: int
) -> Tap:
    """A tap with its index inside: behind the border it weighs nothing, or another place stands for it."""
    if padding == "reflection":
        period = op.Max(size * 2 - 2 * align, [1])
        index = op.Mod(index, period)
        index = op.Min(index, period - index - (1 - align))
    clipped = op.Max(op.Min(index, size - 1), [0])
    if padding == "zeros":
        inside = op.Equal(index, clipped)
        weight, slope = op.Where(inside, weight, 0), op.Where(inside, slope, 0)
    return clipped, weight, slope


@rule("AffineGrid")
def affine_grid(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = theta times each place of a map, in homogeneous coordinates: the grid of the identity is these places."""
    theta, size = inputs(node, 2)
    d = op.size(theta, 1)
    batch = op.Concat([1], op.Slice(size, [1], d + 2), axis=0)
    eye = op.EyeLike(op.full(op.Concat(d, d + 1, axis=0), 0, FLOAT))
    places = op.AffineGrid(op.Unsqueeze(eye, [0]), batch, align_corners=node.attributes.get_int("align_corners", 0))
    places = op.Cast(op.Reshape(places, op.Concat([-1], d, axis=0)), to=dy.dtype)
    ones = op.Expand(op.Cast([1], to=dy.dtype), op.Concat(op.Shape(places, start=0, end=1), [1], axis=0))
    rows = op.Transpose(op.Reshape(dy, op.Concat([0, -1], d, axis=0)), perm=[0, 2, 1])
    return [op.like(op.MatMul(rows, op.Concat(places, ones, axis=1)), theta)]
