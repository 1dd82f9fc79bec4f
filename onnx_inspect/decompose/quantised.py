"""Operators between quantised tensors: what their integers stand for, the float operator, and integers again.

    Y = Q(f(D(X))),   D(X) = (X - zero) scale,   Q(Z) = saturate(round(Z / scale) + zero).

onnxruntime puts such chains back together where nothing else uses the floats between.
"""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir

from ..emit import Op, inputs
from .common import channels_first
from .table import decomposition


def reals(op: Op, q: ir.Value, scale: ir.Value, zero: ir.Value | None, **attributes: int) -> ir.Value:
    """What integers stand for: (Q - zero) scale."""
    return op.DequantizeLinear(q, scale, zero, dtype=scale.dtype, **attributes)


def integers(op: Op, x: ir.Value, scale: ir.Value, zero: ir.Value | None, dtype: ir.DataType, **axis: int) -> ir.Value:
    """The integers of a type that stand for X best."""
    if zero is None:  # onnxruntime fuses wrongly where it is left out
        zero = op.const(np.zeros(op.static_shape(scale) or [], dtype.numpy()))
    return op.QuantizeLinear(x, scale, zero, dtype=dtype, **axis)


def attributes(node: ir.Node, *without: str) -> dict[str, Any]:
    """The attributes of a node, to hand on."""
    return {name: a.value for name, a in node.attributes.items() if name not in without}


def inside(op: Op, x: ir.Value, rank: int, last: int, function: Callable[[ir.Value], ir.Value]) -> ir.Value:
    """function(X) for a function of maps with channels on the second axis; those of X may be on the last one."""
    if not last:
        return function(x)
    first, back = channels_first(rank)
    return op.Transpose(function(op.Transpose(x, perm=first)), perm=back)


@decomposition("com.microsoft::QuantizeLinear")
def quantize_linear(op: Op, node: ir.Node) -> Any:
    """Y = Q(X)."""
    x, scale, zero = inputs(node, 3)
    dtype = zero.dtype if zero is not None else ir.DataType.UINT8
    return integers(op, x, scale, zero, dtype, **attributes(node))


@decomposition("com.microsoft::DequantizeLinear")
def dequantize_linear(op: Op, node: ir.Node) -> Any:
    """Y = D(X)."""
    return reals(op, *inputs(node, 3), **attributes(node))


@decomposition("com.microsoft::QLinearAdd", "com.microsoft::QLinearMul")
def binary(op: Op, node: ir.Node) -> Any:
    """C = Q(D(A) + D(B)), and the product likewise."""
    a, a_scale, a_zero, b, b_scale, b_zero, scale, zero = inputs(node, 8)
    x, y = reals(op, a, a_scale, a_zero), reals(op, b, b_scale, b_zero)
    z = op.Add(x, y) if node.op_type == "QLinearAdd" else op.Mul(x, y)
    return integers(op, z, scale, zero, a.dtype)


@decomposition("com.microsoft::QLinearSigmoid")
def sigmoid(op: Op, node: ir.Node) -> Any:
    """Y = Q(σ(D(X)))."""
    return _requantised(op, node, op.Sigmoid(_operand(op, node)))


@decomposition("com.microsoft::QLinearLeakyRelu")
def leaky_relu(op: Op, node: ir.Node) -> Any:
    """Y = Q(D(X) where positive, else α D(X))."""
    return _requantised(op, node, op.LeakyRelu(_operand(op, node), **attributes(node)))


@decomposition("com.microsoft::QLinearSoftmax")
def softmax(op: Op, node: ir.Node) -> Any:
    """Y = Q(softmax(D(X))) along `axis`; over all axes from it on where `opset` is below 13."""
    x, axis = _operand(op, node), node.attributes.get_int("axis", -1)
    if node.attributes.get_int("opset") >= 13:
        return _requantised(op, node, op.Softmax(x, axis=axis))
    return _requantised(op, node, op.like(op.Softmax(op.Flatten(x, axis=axis), axis=1), x))


@decomposition("com.microsoft::QLinearReduceMean")
def reduce_mean(op: Op, node: ir.Node) -> Any:
    """Y = Q(the mean of D(X) over `axes`)."""
    x, axes = _operand(op, node), node.attributes.get_ints("axes")
    return _requantised(op, node, op.ReduceMean(x, list(axes), keepdims=node.attributes.get_int("keepdims", 1)))


@decomposition("com.microsoft::QLinearGlobalAveragePool")
def global_average_pool(op: Op, node: ir.Node) -> Any:
    """Y = Q(the mean of D(X) over all axes but those of samples and channels)."""
    x = _operand(op, node)
    if not node.attributes.get_int("channels_last", 0):
        return _requantised(op, node, op.GlobalAveragePool(x))
    return _requantised(op, node, op.ReduceMean(x, list(range(1, op.rank(inputs(node, 1)[0]) - 1))))


@decomposition("com.microsoft::QLinearAveragePool")
def average_pool(op: Op, node: ir.Node) -> Any:
    """Y = Q(AveragePool(D(X)))."""
    x, scale, zero = inputs(node, 3)
    if node.attributes.get_int("ceil_mode", 0) and node.attributes.get_int("count_include_pad", 0):
        raise op.unsupported("it counts padding of windows that reach beyond it, which no standard pool does")

    def pool(q: ir.Value) -> ir.Value:
        y = op.AveragePool(reals(op, q, scale, zero), **attributes(node, "channels_last"))
        return _requantised(op, node, y)

    return inside(op, x, _rank(node), node.attributes.get_int("channels_last", 0), pool)


@decomposition("com.microsoft::NhwcMaxPool")
def nhwc_max_pool(op: Op, node: ir.Node) -> Any:
    """MaxPool of integers with channels on the last axis."""
    return inside(op, inputs(node, 1)[0], _rank(node), 1, lambda x: op.MaxPool(x, **attributes(node)))


@decomposition("com.microsoft::QLinearConcat")
def concat(op: Op, node: ir.Node) -> Any:
    """Y = Q(D(X1), D(X2), ...)."""
    scale, zero, *rest = node.inputs
    parts = [reals(op, *rest[i : i + 3]) for i in range(0, len(rest), 3)]  # type: ignore[arg-type]
    return integers(op, op.Concat(*parts, **attributes(node)), scale, zero, zero.dtype)  # type: ignore[arg-type, union-attr]


@decomposition("com.microsoft::QLinearWhere")
def where(op: Op, node: ir.Node) -> Any:
    """Z = Q(D(X) where the condition holds, else D(Y))."""
    condition, x, x_scale, x_zero, y, y_scale, y_zero, scale, zero = inputs(node, 9)
    z = op.Where(condition, reals(op, x, x_scale, x_zero), reals(op, y, y_scale, y_zero))
    return integers(op, z, scale, zero, zero.dtype)


def _rank(node: ir.Node) -> int:
    return len(node.attributes.get_ints("kernel_shape")) + 2


def _operand(op: Op, node: ir.Node) -> ir.Value:
    """D(X), for inputs X, scale and zero point of X, scale and zero point of Y."""
    return reals(op, *inputs(node, 3))


def _requantised(op: Op, node: ir.Node, y: ir.Value) -> ir.Value:
    x, _, _, scale, zero = inputs(node, 5)
    return integers(op, y, scale, zero, x.dtype)
