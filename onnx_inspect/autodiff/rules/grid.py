"""How integers stand for floats, and the adjoints of going from one to the other."""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from ...dtypes import is_float
from ...emit import Op
from .index import INT64, scatter_add

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
        return shaped(steps if self.scale is None else steps * self._along(op, self.scale, q), q)

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


def shaped(value: ir.Value, like: ir.Value) -> ir.Value:
    """Write down the shape of a value, which rules ask for."""
    value.shape = like.shape
    return value


def _bounds(op: Op, dtype: ir.DataType | None) -> tuple[float, float]:
    """The smallest and the largest integer of a type."""
    if dtype is None or not dtype.is_integer():
        raise op.unsupported(f"only grids of integers are, not of {dtype or 'an unknown type'}")
    span = 1 << dtype.bitwidth
    return (-span / 2, span / 2 - 1) if dtype.is_signed() else (0.0, span - 1.0)
