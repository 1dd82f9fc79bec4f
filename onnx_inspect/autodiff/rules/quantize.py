"""Quantised graphs, by the straight-through estimator: rounding passes cotangents on, saturation stops them.

Integers that stand for floats have float32 cotangents: those of q, as if it were real, in (q - zero) scale.
"""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from ...dtypes import is_float
from ...emit import Op, inputs
from ..table import Cotangents, rule
from ..walk import view
from .convolution import conv
from .index import INT64, scatter_add
from .linear import matmul

FLOAT = ir.DataType.FLOAT


@dataclass(frozen=True)
class Grid:
    """How integers stand for floats: X = (Q - zero) scale.

    Attributes:
        scale: one number, one per slice along `axis`, one per block of slices, or what broadcasts; None for 1.
        zero: of the same shape; None for 0.
        axis: what a scale with one axis runs along.
        block: slices per block, 0 where there are no blocks.
    """

    scale: ir.Value | None
    zero: ir.Value | None
    axis: int = 1
    block: int = 0

    def reals(self, op: Op, q: ir.Value) -> ir.Value:
        """X, given Q."""
        steps = self._steps(op, q)
        return _shaped(steps if self.scale is None else steps * self._along(op, self.scale, q), q)

    def wants(self, op: Op, q: ir.Value) -> bool:
        """True if the cotangent of X is needed."""
        return op.wants(q) or op.wants(self.scale)

    def reals_back(self, op: Op, dx: ir.Value, q: ir.Value) -> tuple[ir.Value | None, ir.Value | None]:
        """The cotangents of Q and of the scale, given that of X = (Q - zero) scale."""
        dx, scale = _real(op, dx), self.scale
        if scale is None:
            return dx, None
        dq = dx * self._along(op, scale, q) if op.wants(q) else None
        return dq, self._total(op, dx * self._steps(op, q), q) if op.wants(scale) else None

    def integers_back(
        self, op: Op, dq: ir.Value, x: ir.Value, dtype: ir.DataType | None
    ) -> tuple[ir.Value, ir.Value | None]:
        """The cotangents of X and of the scale, given that of Q = round(X / scale) + zero; 0 where it saturates."""
        assert self.scale is not None
        scale = self._along(op, self.scale, x)
        steps, (low, high) = _real(op, x) / scale, _bounds(op, dtype)
        q = op.Round(steps)
        if self.zero is not None:
            q = q + self._along(op, self.zero, x)
        inside = op.And(op.GreaterOrEqual(q, low), op.LessOrEqual(q, high))
        dx = op.Where(inside, dq / scale, 0)
        return _cast(op, dx, x), self._total(op, -dx * steps, x) if op.wants(self.scale) else None

    def _steps(self, op: Op, q: ir.Value) -> ir.Value:
        return _real(op, q) if self.zero is None else _real(op, q) - self._along(op, self.zero, q)

    def _along(self, op: Op, values: ir.Value, x: ir.Value) -> ir.Value:
        """Scales or zero points as floats that broadcast against X."""
        wide, rank = _real(op, values), op.rank(x)
        if self.block:
            return op.Gather(wide, self._blocks(op, x), axis=self.axis)
        if op.rank(values) != 1:
            return wide
        shape = [1] * rank
        if op.dim(values, 0) != 1 and -rank <= self.axis < rank:
            shape[self.axis] = -1
        return op.Reshape(wide, shape)

    def _total(self, op: Op, dx: ir.Value, x: ir.Value) -> ir.Value:
        """The adjoint of `_along`: what shares a scale is summed."""
        scale = self.scale
        assert scale is not None
        if self.block:
            shape = [1] * op.rank(x)
            shape[self.axis] = -1
            blocks = op.Expand(op.Reshape(self._blocks(op, x), shape), op.shape(x))
            total = scatter_add(op, "ScatterElements", op.shape(scale), blocks, dx, axis=self.axis)
        else:
            total = op.like(op.sum_to(dx, self._along(op, scale, x)), scale)
        return _cast(op, total, scale)

    def _blocks(self, op: Op, x: ir.Value) -> ir.Value:
        """The block of each slice."""
        size = op.Squeeze(op.size(x, self.axis % op.rank(x)), [0])
        return op.Div(op.Range(op.const(0, INT64), size, op.const(1, INT64)), self.block)


def _real(op: Op, value: ir.Value) -> ir.Value:
    """A value in float32: half precision holds no integers of 16 bits and more."""
    return value if value.dtype == FLOAT else op.Cast(value, to=FLOAT)


def _cast(op: Op, dx: ir.Value, x: ir.Value) -> ir.Value:
    """A cotangent as X needs it: in its own precision, or in float32 where X is made of integers."""
    return op.Cast(dx, to=x.dtype) if is_float(x) and x.dtype not in (None, FLOAT) else dx


def _shaped(value: ir.Value, like: ir.Value) -> ir.Value:
    """Write down the shape of a value, which rules ask for."""
    value.shape = like.shape
    return value


def _bounds(op: Op, dtype: ir.DataType | None) -> tuple[float, float]:
    """The smallest and the largest integer of a type."""
    if dtype is None or not dtype.is_integer():
        raise op.unsupported(f"only grids of integers are, not of {dtype or 'an unknown type'}")
    span = 1 << dtype.bitwidth
    return (-span / 2, span / 2 - 1) if dtype.is_signed() else (0.0, span - 1.0)


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
    steps = _shaped(op.Reshape(x_scale, []) * w_scale, w_scale)
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
    real = _shaped(getattr(op, "Conv" if formula is conv else "MatMul")(*reals, **attributes), y)
    d, d_scale = Grid(y_scale, y_zero, -2).integers_back(op, dy, real, y.dtype)
    da, da_scale, db, db_scale, *bias = _product(op, node, d, formula, of, grids, real, reals)
    return [da, da_scale, None, db, db_scale, None, d_scale, None, *bias[:1]]
