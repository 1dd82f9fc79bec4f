"""Pooling over windows, and over whole maps."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from ...emit import Op
from ..table import Cotangents, rule
from .convolution import Window, sizes, transposed, window


@rule("MaxPool")
def max_pool(op: Op, node: ir.Node, dy: ir.Value, _: ir.Value | None = None) -> Cotangents:
    """Y = the maximum of each window; of equal ones the first takes all, as in torch."""
    x = node.inputs[0]
    assert x is not None
    attributes = {k: v.value for k, v in node.attributes.items() if k != "storage_order"}
    y, index = op.MaxPool(x, outputs=2, **attributes)  # a second node: the forward one may stay fused
    dilations = node.attributes.get_ints("dilations", ())
    if any(d > 1 and d > (op.dim(x, 2 + i) or 0) for i, d in enumerate(dilations or ())):
        # A window so wide may hold no element at all; its index then lies anywhere.
        empty = op.Equal(y, op.const(np.finfo((x.dtype or ir.DataType.FLOAT).numpy()).min, x.dtype))
        dy, index = op.Where(empty, 0, dy), op.Where(empty, 0, index)
    half = dy.dtype in (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)  # no kernel adds these on the CPU
    if half:
        dy = op.Cast(dy, to=ir.DataType.FLOAT)
    zeros = op.full(op.Reshape(op.Size(x), [1]), 0, dy.dtype or ir.DataType.FLOAT)
    dx = op.ScatterElements(zeros, op.Reshape(index, [-1]), op.Reshape(dy, [-1]), axis=0, reduction="add")
    dx = op.like(dx, x)
    return op.Cast(dx, to=x.dtype) if half else dx


@rule("AveragePool")
def average_pool(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = the mean of each window; pads count if count_include_pad, the overhang of ceil_mode never does."""
    return _spread(op, node, dy / _count(op, node))


@rule("LpPool")
def lp_pool(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = (Σ |X|^p)^(1/p) over each window; 0 where Y is 0."""
    return op.Mul(_spread(op, node, dy * _lp_outer(op, node)), _lp_inner(op, node))  # type: ignore[no-any-return]


@rule("GlobalLpPool")
def global_lp_pool(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = (Σ |X|^p)^(1/p) over each map; 0 where Y is 0."""
    return op.Mul(dy * _lp_outer(op, node), _lp_inner(op, node))  # type: ignore[no-any-return]


@rule("GlobalAveragePool")
def global_average_pool(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = the mean of each map."""
    x, y = node.inputs[0], node.outputs[0]
    assert x is not None
    sizes = [op.dim(x, axis) for axis in range(2, len(x.shape) if x.shape is not None else 2)]
    known = math.prod(size or 0 for size in sizes)
    if sizes and known:
        return op.Expand(dy / known, op.shape(x))  # type: ignore[no-any-return]
    count = op.Cast(op.Div(op.Size(x), op.Size(y)), to=dy.dtype or ir.DataType.FLOAT)
    return op.Expand(dy / count, op.shape(x))  # type: ignore[no-any-return]


@rule("GlobalMaxPool")
def global_max_pool(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = the maximum of each map; of equal ones the first takes all, as in torch's adaptive_max_pool."""
    x = node.inputs[0]
    assert x is not None
    flat = op.Reshape(x, [0, 0, -1])
    first = op.ArgMax(flat, axis=2, keepdims=1)
    zeros = op.full(op.Shape(flat), 0, x.dtype or ir.DataType.FLOAT)
    return op.like(op.ScatterElements(zeros, first, op.Reshape(dy, [0, 0, 1]), axis=2), x)


def _spread(op: Op, node: ir.Node, dy: ir.Value) -> ir.Value:
    """The adjoint of summing each window: a transposed convolution with ones, each map on its own."""
    x, y, at = node.inputs[0], node.outputs[0], window(op, node)
    assert x is not None and at.kernel is not None
    maps = op.Mul(op.size(y, 0), op.size(y, 1))
    flat = op.Reshape(dy, op.Concat(maps, [1], sizes(op, y, at), axis=0), allowzero=1)
    return op.like(transposed(op, flat, _ones(op, dy, at), at, of=y, like=x), x)


def _count(op: Op, node: ir.Node) -> ir.Value | float:
    """How many elements each window averages: a number, or shape (1, 1, ...) where windows differ."""
    x, y, at = node.inputs[0], node.outputs[0], window(op, node)
    assert x is not None and at.kernel is not None
    include = bool(node.attributes.get_int("count_include_pad", 0))
    if not node.attributes.get_int("ceil_mode", 0) and (include or not any(at.pads)):
        return float(math.prod(at.kernel))
    # Ones where an element counts, zeros up to the end of the last window, summed by a convolution.
    size, lead = sizes(op, x, at), at.begin
    if include:
        size, lead = op.Add(size, [b + e for b, e in zip(at.begin, at.end, strict=True)]), [0] * len(lead)
    reach = op.Add(op.Mul(op.Sub(sizes(op, y, at), [1] * len(lead)), at.strides), at.extent)
    tail = op.Max(op.Sub(reach, op.Add(size, lead)), [0] * len(lead))
    ones = op.full(op.Concat([1, 1], size, axis=0), 1, y.dtype or ir.DataType.FLOAT)
    ones = op.Pad(ones, op.Concat([0, 0, *lead, 0, 0], tail, axis=0))
    return op.Conv(ones, _ones(op, y, at), strides=at.strides, dilations=at.dilations)  # type: ignore[no-any-return]


def _ones(op: Op, like: ir.Value, at: Window) -> ir.Value:
    assert at.kernel is not None
    return op.const(np.ones([1, 1, *at.kernel], dtype=(like.dtype or ir.DataType.FLOAT).numpy()))


def _lp_inner(op: Op, node: ir.Node) -> ir.Value:
    """sign(X) |X|^(p-1)."""
    x, p = node.inputs[0], node.attributes.get_int("p", 2)
    assert x is not None
    return x if p == 2 else op.Sign(x) * op.Pow(op.Abs(x), p - 1)


def _lp_outer(op: Op, node: ir.Node) -> ir.Value:
    """Y^(1-p), and 0 where Y is 0."""
    y, p = node.outputs[0], node.attributes.get_int("p", 2)
    zero = op.Equal(y, 0)
    return op.Where(zero, 0, op.Pow(op.Where(zero, 1, y), 1 - p))  # type: ignore[no-any-return]
