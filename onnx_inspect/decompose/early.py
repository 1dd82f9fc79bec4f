"""Operators that com.microsoft had before the standard did, and small ones that it still lacks."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from ..emit import Op, inputs
from .table import decomposition

INT64 = ir.DataType.INT64


@decomposition("com.microsoft::Pad")
def pad(op: Op, node: ir.Node) -> Any:
    """Y = X with a border."""
    x, pads, value = inputs(node, 3)
    value = value and op.Squeeze(value)
    return op.Pad(
        x, op.Reshape(pads, [-1]), *[value] * bool(value), mode=node.attributes.get_string("mode", "constant")
    )


@decomposition("com.microsoft::GridSample")
def grid_sample(op: Op, node: ir.Node) -> Any:
    """Y = X at the places of a grid."""
    mode = node.attributes.get_string("mode", "bilinear")
    return op.GridSample(
        *node.inputs,
        mode={"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode),
        padding_mode=node.attributes.get_string("padding_mode", "zeros"),
        align_corners=node.attributes.get_int("align_corners", 0),
    )


@decomposition("com.microsoft::Trilu")
def trilu(op: Op, node: ir.Node) -> Any:
    """Y = the upper or lower triangle of X."""
    return op.Trilu(*node.inputs, upper=node.attributes.get_int("upper", 1))


@decomposition("com.microsoft::ExpandDims")
def expand_dims(op: Op, node: ir.Node) -> Any:
    """Y = X with one axis more."""
    x, axis = inputs(node, 2)
    return op.Unsqueeze(x, op.Reshape(op.Cast(axis, to=INT64), [1]))


@decomposition("com.microsoft::GatherND")
def gather_nd(op: Op, node: ir.Node) -> Any:
    """Y = slices of X."""
    x, indices = inputs(node, 2)
    return op.GatherND(x, op.Cast(indices, to=INT64))


@decomposition("com.microsoft::Range")
def range_(op: Op, node: ir.Node) -> Any:
    """Y = start, start + delta, ... below limit; each may be a vector of one."""
    start, limit, delta = inputs(node, 3)
    return op.Range(
        op.Squeeze(start), op.Squeeze(limit), op.const(1, start.dtype) if delta is None else op.Squeeze(delta)
    )


@decomposition("com.microsoft::CDist")
def cdist(op: Op, node: ir.Node) -> Any:
    """Distances between all rows of A and all rows of B."""
    a, b = inputs(node, 2)
    metric = node.attributes.get_string("metric", "sqeuclidean")
    reduce = {"sqeuclidean": op.ReduceSumSquare, "euclidean": op.ReduceL2}.get(metric)
    if reduce is None:
        raise op.unsupported(f"the metric {metric} is not known")
    return reduce(op.Unsqueeze(a, [1]) - op.Unsqueeze(b, [0]), [-1], keepdims=0)


@decomposition("com.microsoft::ComplexMul", "com.microsoft::ComplexMulConj")
def complex_mul(op: Op, node: ir.Node) -> Any:
    """C = A B, or A times the conjugate of B; the last axis holds real and imaginary parts."""
    (a, ai), (b, bi) = (op.Split(x, axis=-1, num_outputs=2, outputs=2) for x in node.inputs)
    bi = op.Neg(bi) if node.op_type == "ComplexMulConj" else bi
    return op.Concat(a * b - ai * bi, a * bi + ai * b, axis=-1)
