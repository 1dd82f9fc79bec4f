"""Sampling at coordinates, and matrices of places."""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import math
from itertools import product

import onnx_ir as ir

from ...emit import Op, inputs
from ..table import Cotangents, rule
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
    flat, dy = op.Reshape(wide_x, [0, 0, -1]), op.Reshape(dy, [0, 0, -1])
    points = [op.Gather(wide_grid, op.const(spatial - 1 - a, INT64), axis=-1) for a in range(spatial)]
    axes = [_taps(op, node, op.Reshape(p, [0, -1]), n) for p, n in zip(points, sizes, strict=True)]
    updates: list[ir.Value] = []
    places: list[ir.Value] = []
    slopes: list[list[ir.Value]] = [[] for _ in range(spatial)]
    for taps in product(*axes):
        place = taps[0][0]
        for (index, _, _), n in zip(taps[1:], sizes[1:], strict=True):
            place = place * n + index
        place = op.Expand(op.Unsqueeze(place, [1]), op.Shape(dy))
        weights = [weight for _, weight, _ in taps]
        if op.wants(x):
            places.append(place)
            updates.append(dy * op.Unsqueeze(math.prod(weights[1:], start=weights[0]), [1]))
        if op.wants(grid):
            here = op.ReduceSum(dy * op.GatherElements(flat, place, axis=2), [1], keepdims=0)
            for a, (_, _, slope) in enumerate(taps):
                slopes[a].append(math.prod([*weights[:a], *weights[a + 1 :]], start=here * slope))
    dx = dgrid = None
    if op.wants(x):
        index = op.Concat(*places, axis=2)
        dx = scatter_add(op, "ScatterElements", op.Shape(flat), index, op.Concat(*updates, axis=2), axis=2)
        dx = op.Cast(op.like(dx, x), to=x.dtype)
    if op.wants(grid):
        parts = [op.Unsqueeze(op.Sum(*s), [2]) for s in reversed(slopes)]
        dgrid = op.Cast(op.like(op.Concat(*parts, axis=2), grid), to=grid.dtype)
    return [dx, dgrid]


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
    if padding == "border" and mode not in ("cubic", "bicubic"):  # the cubic holds its taps there instead
        slope = op.Where(inside, slope, 0)
        at = op.Where(inside, at, op.Max(op.Min(at, n - 1), op.Cast([0], to=point.dtype)))
    elif padding == "reflection":
        period = op.Where(op.Equal(span, 0), 1, span * 2)
        rest = (at - low) - op.Floor((at - low) / period) * period
        slope = op.Where(op.LessOrEqual(rest, span), slope, -slope)
        at = op.Where(inside, at, op.Min(rest, period - rest) + low)
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
    rank = op.rank(dy) if dy.shape is not None else op.rank(node.outputs[0])
    d = rank - 2
    batch = op.Concat([1], op.Slice(size, [1], [d + 2]), axis=0)
    eye = op.EyeLike(op.full([d, d + 1], 0, FLOAT))
    places = op.AffineGrid(op.Unsqueeze(eye, [0]), batch, align_corners=node.attributes.get_int("align_corners", 0))
    places = op.Cast(op.Reshape(places, [-1, d]), to=dy.dtype)
    ones = op.Expand(op.Cast([1], to=dy.dtype), op.Concat(op.Shape(places, start=0, end=1), [1], axis=0))
    rows = op.Transpose(op.Reshape(dy, [0, -1, d]), perm=[0, 2, 1])
    return [op.like(op.MatMul(rows, op.Concat(places, ones, axis=1)), theta)]


@rule("Det")
def det(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = det X; dX is dY times the cofactors, which need no inverse. Up to 3 rows."""
    (x,) = inputs(node, 1)
    n = op.dim(x, -1) if op.dim(x, -1) is not None else op.dim(x, -2)
    if n is None or n > 3:
        raise op.unsupported("matrices of up to 3 rows are, of a size that is known; choose a layer behind it")
    scale = op.Unsqueeze(dy, [-2, -1])
    if n == 1:
        return scale
    if n == 2:
        turned = op.Gather(op.Gather(x, [1, 0], axis=-1), [1, 0], axis=-2)
        return op.Mul(scale * turned, op.Cast(op.Reshape([1, -1, -1, 1], [2, 2]), to=x.dtype))

    def moved(rows: int, columns: int) -> ir.Value:
        """X with its rows and columns rotated."""
        turn = ([0, 1, 2], [1, 2, 0], [2, 0, 1])
        return op.Gather(op.Gather(x, turn[rows], axis=-2), turn[columns], axis=-1)

    return scale * (moved(1, 1) * moved(2, 2) - moved(1, 2) * moved(2, 1))
