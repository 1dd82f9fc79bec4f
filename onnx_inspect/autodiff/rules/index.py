"""Gather, sort and scan: the adjoint of picking elements is adding them back where they were."""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import onnx_ir as ir

from ...emit import Op, inputs
from ..table import Cotangents, constant, rule

FLOAT, INT64 = ir.DataType.FLOAT, ir.DataType.INT64
HALF = frozenset({ir.DataType.FLOAT16, ir.DataType.BFLOAT16})


def scatter_add(
    op: Op, op_type: str, shape: ir.Value, indices: ir.Value, dy: ir.Value, axis: int | None = None
) -> ir.Value:
    """Zeros of a shape, with `dy` added at indices by "ScatterElements" or "ScatterND"."""
    dtype = dy.dtype or FLOAT
    # onnxruntime's CPU kernels claim to add half precision, and fail when they run.
    wide = FLOAT if dtype in HALF else dtype
    updates = op.Cast(dy, to=wide) if wide != dtype else dy
    total = getattr(op, op_type)(op.full(shape, 0, wide), indices, updates, axis=axis, reduction="add")
    return op.Cast(total, to=dtype) if wide != dtype else total


def picked(op: Op, x: ir.Value, positions: ir.Value, dy: ir.Value) -> ir.Value:
    """The adjoint of Y = X at `positions` in the flat order of X; `dy` has their shape."""
    flat = op.Reshape(positions, [-1]), op.Reshape(dy, [-1])
    return op.like(scatter_add(op, "ScatterElements", op.ReduceProd(op.shape(x)), *flat), x)


def positions(op: Op, x: ir.Value) -> ir.Value:
    """The position of every element of X in its flat order, int64, of the shape of X."""
    count = op.ReduceProd(op.shape(x), keepdims=0)
    return op.like(op.Range(op.const(0, INT64), count, op.const(1, INT64)), x)


def _length(op: Op, x: ir.Value, axis: int) -> ir.Value:
    """The size of one axis as an int64 scalar."""
    return op.Squeeze(op.size(x, axis), [0])


def _upwards(op: Op, indices: ir.Value, size: ir.Value) -> ir.Value:
    """Indices as int64, counted from the start; negative ones count from the end of `size`."""
    indices = op.Cast(indices, to=INT64) if indices.dtype != INT64 else indices
    return op.Where(op.Less(indices, 0), indices + size, indices)


@rule("Gather")
def gather(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = X at indices along one axis; what is picked twice gets both cotangents."""
    x, indices = inputs(node, 2)
    return gathered(op, x, indices, dy, node.attributes.get_int("axis", 0))


def gathered(op: Op, x: ir.Value, indices: ir.Value, dy: ir.Value, axis: int) -> ir.Value:
    """The adjoint of Y = X at indices along one axis."""
    rank, depth = op.rank(x), op.rank(indices)
    axis %= rank
    upward = _upwards(op, indices, _length(op, x, axis))
    if axis == 0:
        return scatter_add(op, "ScatterND", op.shape(x), op.Unsqueeze(upward, [-1]), dy)
    others = [a for a in range(rank) if a != axis]
    front = [*range(axis, axis + depth), *range(axis), *range(axis + depth, rank + depth - 1)]
    shape = op.Gather(op.shape(x), [axis, *others])
    total = scatter_add(op, "ScatterND", shape, op.Unsqueeze(upward, [-1]), op.Transpose(dy, perm=front))
    return op.Transpose(total, perm=[*range(1, axis + 1), 0, *range(axis + 1, rank)])


@rule("GatherElements")
def gather_elements(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = X at one index per element along one axis."""
    x, indices = inputs(node, 2)
    axis = node.attributes.get_int("axis", 0)
    upward = _upwards(op, indices, _length(op, x, axis))
    return scatter_add(op, "ScatterElements", op.shape(x), upward, dy, axis=axis)


@rule("GatherND")
def gather_nd(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = slices of X at index tuples; behind batch_dims, each batch has its own."""
    x, indices = inputs(node, 2)
    batch, rank = node.attributes.get_int("batch_dims", 0), op.rank(indices)
    sizes = op.Slice(op.shape(x), [batch], op.size(indices, -1) + batch)
    upward = _upwards(op, indices, sizes)
    if batch:
        lead = op.Concat(op.Slice(op.shape(indices), [0], [rank - 1]), [1], axis=0)
        own = [op.Expand(_ramp(op, x, axis, rank), lead) for axis in range(batch)]
        upward = op.Concat(*own, upward, axis=-1)
    return scatter_add(op, "ScatterND", op.shape(x), upward, dy)


def _ramp(op: Op, x: ir.Value, axis: int, rank: int) -> ir.Value:
    """0, 1, 2, ... along one axis of X, shaped to broadcast against `rank` axes."""
    ramp = op.Range(op.const(0, INT64), _length(op, x, axis), op.const(1, INT64))
    return op.Unsqueeze(ramp, [a for a in range(rank) if a != axis])


@rule("TopK")
def topk(op: Op, node: ir.Node, dy: ir.Value, *_: object) -> Cotangents:
    """Y = the largest or smallest K along an axis; of equal ones those that it picked."""
    (x,), axis = inputs(node, 1), node.attributes.get_int("axis", -1)
    return op.ScatterElements(op.zeros_like(x), node.outputs[1], dy, axis=axis)


@rule("CumSum")
def cumsum(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = running sums along an axis; dX runs the other way."""
    exclusive, reverse = (node.attributes.get_int(name, 0) for name in ("exclusive", "reverse"))
    return op.CumSum(dy, node.inputs[1], exclusive=exclusive, reverse=1 - reverse)


@rule("OneHot", flat=(0, 1))
def one_hot(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = on where an index points, off elsewhere; values = [off, on]."""
    indices, depth = node.inputs[:2]
    hot = op.OneHot(indices, depth, op.Cast([0, 1], to=dy.dtype), axis=node.attributes.get_int("axis", -1))
    sums = [op.ReduceSum(part, keepdims=0) for part in (dy * (1 - hot), dy * hot)]
    return [None, None, op.Concat(*(op.Reshape(s, [1]) for s in sums), axis=0)]


constant("NonMaxSuppression", "ai.onnx.ml::CategoryMapper", "ai.onnx.ml::LabelEncoder", "ai.onnx.ml::OneHotEncoder")
