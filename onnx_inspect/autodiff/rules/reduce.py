"""Reductions over axes that may be known only at run time."""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import math

import onnx_ir as ir

from ...emit import Op, inputs, ints
from ..table import Cotangents, rule


def _spread(op: Op, node: ir.Node, value: ir.Value) -> ir.Value:
    """A value of the output's shape, its reduced axes put back with size 1: it broadcasts against X."""
    axes = inputs(node, 2)[1]
    if node.attributes.get_int("keepdims", 1) or axes is None:  # without axes it is a scalar, or has all axes
        return value
    return op.Unsqueeze(value, axes)


def _expanded(op: Op, node: ir.Node, value: ir.Value) -> ir.Value:
    """A value of the output's shape, given to all elements of X that were reduced to it."""
    (x,) = inputs(node, 1)
    if 0 in (op.static_shape(x) or ()):
        return op.zeros_like(x)  # onnxruntime drops an Expand to no elements, as if it changed nothing
    return op.Expand(_spread(op, node, value), op.shape(x))


def _reduce(op: Op, node: ir.Node, op_type: str, value: ir.Value) -> ir.Value:
    """Reduce a value of the shape of X over the axes of the node, keeping them."""
    noop = node.attributes.get_int("noop_with_empty_axes", 0)
    reduce = getattr(op, op_type)
    return reduce(value, inputs(node, 2)[1], keepdims=1, noop_with_empty_axes=noop)


def _fraction(op: Op, node: ir.Node) -> ir.Value | float:
    """1 / the number of elements that are reduced to one."""
    (x, axes), y = inputs(node, 2), node.outputs[0]
    static = ints(axes) or []
    sizes = [op.dim(x, axis) for axis in static]
    if sizes and all(size is not None and size > 0 for size in sizes):
        return 1 / math.prod(size or 1 for size in sizes)
    double = ir.DataType.DOUBLE
    ratio = op.Cast(op.Size(y), to=double) / op.Cast(op.Size(x), to=double)
    return op.Cast(ratio, to=x.dtype)


@rule("ReduceSum")
def reduce_sum(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = sum X."""
    return _expanded(op, node, dy)


@rule("ReduceMean")
def reduce_mean(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = sum X / n."""
    return _expanded(op, node, dy * _fraction(op, node))


@rule("ReduceMax", "ReduceMin")
def reduce_extremum(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = max X or min X; elements that tie share evenly, as torch's amax."""
    mask = op.mask(op.Equal(node.inputs[0], _spread(op, node, node.outputs[0])), dy)
    return _spread(op, node, dy) * mask / _reduce(op, node, "ReduceSum", mask)


@rule("ReduceProd")
def reduce_prod(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = product of X. dX is dY times the product of the others, also where some are 0."""
    (x,) = inputs(node, 1)
    zero = op.Equal(x, 0)
    zeros = op.mask(zero, dy)
    safe = op.Where(zero, 1, x)
    others = _reduce(op, node, "ReduceProd", safe) / safe  # without the zeros
    other_zeros = _reduce(op, node, "ReduceSum", zeros) - zeros
    return _spread(op, node, dy) * op.Where(op.Equal(other_zeros, 0), others, 0)


@rule("ReduceL1")
def reduce_l1(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = sum |X|; 0 at 0, as torch."""
    return _spread(op, node, dy) * op.Sign(node.inputs[0])


@rule("ReduceL2")
def reduce_l2(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = sqrt(sum X^2); 0 where Y = 0, as torch."""
    y = node.outputs[0]
    direction = node.inputs[0] / _spread(op, node, op.Where(op.Equal(y, 0), 1, y))
    return _spread(op, node, dy) * direction


@rule("ReduceSumSquare")
def reduce_sum_square(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = sum X^2."""
    return _spread(op, node, dy * 2) * node.inputs[0]


@rule("ReduceLogSum")
def reduce_log_sum(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = log(sum X)."""
    return _expanded(op, node, dy / op.Exp(node.outputs[0]))


@rule("ReduceLogSumExp")
def reduce_log_sum_exp(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = log(sum exp X); 0 where Y = -inf, as masks make it."""
    y = node.outputs[0]
    finite = op.Where(op.Equal(y, -math.inf), 0, y)
    return _spread(op, node, dy) * op.Exp(node.inputs[0] - _spread(op, node, finite))
