"""Products of quantised tensors: summed in integers, as onnxruntime's kernels sum them, then scaled."""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from ..emit import Op, inputs
from .common import FLOAT
from .quantised import attributes, inside, integers
from .table import decomposition

INT32 = ir.DataType.INT32


@decomposition("com.microsoft::QLinearConv")
def qlinear_conv(op: Op, node: ir.Node) -> Any:
    """QLinearConv, also with channels on the last axis; the weights have them on the second."""
    x, *rest = inputs(node, 9)
    last, how = node.attributes.get_int("channels_last", 0), attributes(node, "channels_last")
    rank = op.rank(rest[2]) if last else 0
    return inside(op, x, rank, last, lambda x: op.QLinearConv(x, *rest, dtype=rest[6].dtype, **how))


@decomposition("com.microsoft::QGemm")
def qgemm(op: Op, node: ir.Node) -> Any:
    """Y = Q(α scale_a scale_b ((A - zero_a) (B - zero_b) + C)), or the same unquantised if it has no scale for Y."""
    a, a_scale, a_zero, b, b_scale, b_zero, c, scale, zero = inputs(node, 9)
    a = op.Transpose(a, perm=[1, 0]) if node.attributes.get_int("transA", 0) else a
    b = op.Transpose(b, perm=[1, 0]) if node.attributes.get_int("transB", 0) else b
    product = op.MatMulInteger(a, b, a_zero, b_zero, dtype=INT32)
    product = product if c is None else op.Add(product, c)
    alpha = node.attributes.get_float("alpha", 1.0)
    y = op.Cast(product, to=FLOAT) * (_whole(op, a_scale) * b_scale * alpha)
    if scale is not None and zero is None:
        raise op.unsupported("it has a scale for its output, but no zero point")
    return y if scale is None else integers(op, y, scale, zero, zero.dtype)


@decomposition("com.microsoft::MatMulIntegerToFloat")
def matmul_integer_to_float(op: Op, node: ir.Node) -> Any:
    """Y = scale_a scale_b (A - zero_a) (B - zero_b) + bias."""
    a, b, a_scale, b_scale, a_zero, b_zero, bias = inputs(node, 7)
    return matmul(op, (a, a_scale, a_zero), (b, b_scale, b_zero), bias)


@decomposition("com.microsoft::DynamicQuantizeMatMul")
def dynamic_quantize_matmul(op: Op, node: ir.Node) -> Any:
    """Y = A' B + bias, A' being A on a grid of 256 steps that spans it."""
    a, b, b_scale, b_zero, bias = inputs(node, 5)
    return matmul(op, quantised(op, a), (b, b_scale, b_zero), bias)


def quantised(op: Op, x: ir.Value) -> tuple[ir.Value, ir.Value, ir.Value]:
    """DynamicQuantizeLinear: integers, scale, zero point."""
    q, scale, zero = op.DynamicQuantizeLinear(x, outputs=3)
    q.dtype, zero.dtype = ir.DataType.UINT8, ir.DataType.UINT8
    return q, scale, zero


def matmul(op: Op, a: tuple[Any, Any, Any], b: tuple[Any, Any, Any], bias: ir.Value | None) -> ir.Value:
    """The product of two quantised matrices, each with scale and zero point; those of B may be one per column."""
    if a[1].dtype != FLOAT:
        raise op.unsupported(f"it gives {a[1].dtype} numbers, and only float32 is covered")
    product = op.Cast(op.MatMulInteger(a[0], b[0], a[2], b[2], dtype=INT32), to=FLOAT)
    y = product * (_whole(op, a[1]) * b[1])
    return y if bias is None else y + bias


def _whole(op: Op, scale: ir.Value) -> ir.Value:
    """A scale that is one number; more of them, one per column of A, could not be drawn out of the product."""
    return op.Reshape(scale, [1])


@decomposition("com.microsoft::MulInteger")
def mul_integer(op: Op, node: ir.Node) -> Any:
    """C = (A - zero_a) (B - zero_b)."""
    a, a_zero, b, b_zero = inputs(node, 4)
    return _steps(op, a, a_zero) * _steps(op, b, b_zero)


def _steps(op: Op, q: ir.Value, zero: ir.Value | None) -> ir.Value:
    wide = op.Cast(q, to=INT32)
    return wide if zero is None else wide - op.Cast(zero, to=INT32)


@decomposition("com.microsoft::MatMulInteger16")
def matmul_integer16(op: Op, node: ir.Node) -> Any:
    """Y = A B in 32 bits, unsigned if both are."""
    xs = inputs(node, 2)
    wide = ir.DataType.UINT32 if all(x.dtype == ir.DataType.UINT16 for x in xs) else INT32
    return op.MatMul(*(op.Cast(x, to=wide) for x in xs))


@decomposition("com.microsoft::ReduceSumInteger")
def reduce_sum_integer(op: Op, node: ir.Node) -> Any:
    """The sum of 8-bit integers in 32 bits."""
    x, axes = inputs(node, 1)[0], list(node.attributes.get_ints("axes"))
    y = op.ReduceSum(op.Cast(x, to=INT32), axes, keepdims=node.attributes.get_int("keepdims", 1))
    return y if x.dtype == ir.DataType.INT8 else op.Cast(y, to=ir.DataType.UINT32)
