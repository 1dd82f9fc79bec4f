"""Quantised graphs, by the straight-through estimator: rounding passes cotangents on, saturation stops them.

Integers that stand for floats have float32 cotangents: those of q, as if it were real, in (q - zero) scale.
"""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx_ir as ir

from ...emit import Op, inputs
from ..table import Cotangents, rule
from ..walk import view
from .convolution import conv
from .grid import Grid, shaped
from .linear import matmul

# Between floats and integers.


@rule("QuantizeLinear", integers=True)
def quantize_linear(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = round(X / scale) + zero; 0 where it saturates."""
    return [*_grid(node).integers_back(op, dy, inputs(node, 1)[0], node.outputs[0].dtype)]


@rule("DequantizeLinear", integers=True)
def dequantize_linear(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = (X - zero) scale."""
    return [*_grid(node).reals_back(op, dy, inputs(node, 1)[0])]


def _grid(node: ir.Node) -> Grid:
    _, scale, zero = inputs(node, 3)
    return Grid(scale, zero, node.attributes.get_int("axis", 1), node.attributes.get_int("block_size", 0))


@rule("DynamicQuantizeLinear", integers=True)
def dynamic_quantize_linear(op: Op, node: ir.Node, dy: ir.Value | None, dscale: ir.Value, *_: object) -> Cotangents:
    """Y = round(X / scale) + zero, which never saturates, and scale = (max(X, 0) - min(X, 0)) / 255.

    Where Y is used, the grid counts as constant: what stretches it moves Y the other way, and Y dequantised stays.
    """
    (x,), scale = inputs(node, 1), node.outputs[1]
    if dy is not None:
        return dy / scale
    low, high = op.ReduceMin(x, keepdims=0), op.ReduceMax(x, keepdims=0)
    at_low = op.mask(op.And(op.Equal(x, low), op.Less(low, 0)), x)
    at_high = op.mask(op.And(op.Equal(x, high), op.Greater(high, 0)), x)
    dlow, dhigh = (at / op.Max(op.ReduceSum(at, keepdims=0), 1) for at in (at_low, at_high))  # ties share
    return (dhigh - dlow) * (dscale / 255)


# Products of integers: those of the floats that they stand for.


@rule("ConvInteger", integers=True)
def conv_integer(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = (W - w_zero) ⋆ (X - x_zero)."""
    x, w, x_zero, w_zero = inputs(node, 4)
    dx, _, dw, _ = _product(op, node, dy, conv, [x, w], [Grid(None, x_zero), Grid(None, w_zero, axis=0)])
    return [dx, dw]


@rule("MatMulInteger", integers=True)
def matmul_integer(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = (A - a_zero) (B - b_zero), with zero points per row of A and column of B."""
    a, b, a_zero, b_zero = inputs(node, 4)
    da, _, db, _ = _product(op, node, dy, matmul, [a, b], [Grid(None, a_zero, -2), Grid(None, b_zero, -1)])
    return [da, db]


@rule("QLinearConv", integers=True)
def qlinear_conv(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = the quantised convolution of what X, W and B stand for; the steps of B are those of X times those of W."""
    x, x_scale, x_zero, w, w_scale, w_zero, _, _, b = inputs(node, 9)
    grids = [Grid(x_scale, x_zero), Grid(w_scale, w_zero, axis=0)]
    if b is None:
        return _quantised_product(op, node, dy, conv, [x, w], grids)
    if op.wants(x_scale) or op.wants(w_scale):
        raise op.unsupported("the steps of its bias depend on the input; choose a layer behind it")
    steps = shaped(op.Reshape(x_scale, []) * w_scale, w_scale)
    return _quantised_product(op, node, dy, conv, [x, w, b], [*grids, Grid(steps, None, axis=0)])


@rule("QLinearMatMul", integers=True)
def qlinear_matmul(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = the quantised product of what A and B stand for, with grids per row of A and column of B."""
    a, a_scale, a_zero, b, b_scale, b_zero = inputs(node, 6)
    return _quantised_product(op, node, dy, matmul, [a, b], [Grid(a_scale, a_zero, -2), Grid(b_scale, b_zero, -1)])


def _product(
    op: Op,
    node: ir.Node,
    dy: ir.Value,
    formula: Callable[..., Cotangents],
    of: Sequence[ir.Value],
    grids: Sequence[Grid],
    y: ir.Value | None = None,
    reals: Sequence[ir.Value] = (),
) -> list[ir.Value | None]:
    """The cotangents of operands and scales in turn, by the rule of the float operator."""
    pairs = list(zip(of, grids, strict=True))
    reals = reals or [grid.reals(op, q) for q, grid in pairs]
    wanted = [x for x, (q, grid) in zip(reals, pairs, strict=True) if grid.wants(op, q)]
    dxs = formula(op, view(op, node, reals, [y or node.outputs[0]], wanted), dy)
    assert isinstance(dxs, list)
    found: list[ir.Value | None] = []
    for dx, (q, grid) in zip(dxs, pairs, strict=False):
        found += grid.reals_back(op, dx, q) if dx is not None else (None, None)
    return found


def _quantised_product(
    op: Op,
    node: ir.Node,
    dy: ir.Value,
    formula: Callable[..., Cotangents],
    of: Sequence[ir.Value],
    grids: Sequence[Grid],
) -> Cotangents:
    """`_product` behind a grid of its own, whose saturation is found by computing the product in floats."""
    y, y_scale, y_zero = node.outputs[0], *node.inputs[6:8]
    reals = [grid.reals(op, q) for q, grid in zip(of, grids, strict=True)]
    attributes = {k: v.value for k, v in node.attributes.items()}
    real = shaped(getattr(op, "Conv" if formula is conv else "MatMul")(*reals, **attributes), y)
    d, d_scale = Grid(y_scale, y_zero, -2).integers_back(op, dy, real, y.dtype)
    da, da_scale, db, db_scale, *bias = _product(op, node, d, formula, of, grids, real, reals)
    return [da, da_scale, None, db, db_scale, None, d_scale, None, *bias[:1]]
