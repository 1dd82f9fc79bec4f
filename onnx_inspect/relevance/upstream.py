"""What a value is made of: looking up the graph from it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from ..autodiff.subgraph import emit_like
from ..emit import Op, inputs
from ..structure import all_inputs, key, subgraphs
from .table import How

WEIGHTED = frozenset(
    "Conv ConvTranspose DeformConv Gemm MatMul Einsum ConvInteger QLinearConv MatMulInteger QLinearMatMul RNN GRU LSTM "
    "Attention".split()
)
# What only brings values elsewhere, or scales and shifts them, where its other operands are constant.
_SAME = frozenset(
    "Add Sub Mul Div Neg Cast CastLike Reshape Flatten Squeeze Unsqueeze Transpose Expand Identity Dropout Where "
    "Slice Split Gather Concat Tile ReduceMean QuantizeLinear DequantizeLinear".split()
)
_GATES = {
    "Reciprocal": 3,
    "DynamicQuantizeLinear": 3,
    "Sigmoid": 2,
    "HardSigmoid": 2,
    "Softmax": 2,
    "Exp": 2,
    "Erf": 2,
    "Tanh": 1,
    "Clip": 1,
}
_POSITIVE = frozenset("Relu Sigmoid HardSigmoid Softmax Softplus Exp Abs Sqrt ReduceL1 ReduceL2".split())
_KEEP_SIGN = frozenset(
    "MaxPool AveragePool GlobalAveragePool GlobalMaxPool Reshape Flatten Squeeze Unsqueeze Transpose Concat Slice "
    "Split Gather Identity Dropout Cast Add Mul Sum Mean Max ReduceMean ReduceSum ReduceMax Expand Tile".split()
)


def is_first(op: Op, x: ir.Value) -> bool:
    """True if no layer with weights lies between the model's inputs and a value."""
    seen, stack = {x}, [x]
    while stack:
        value = stack.pop()
        node = value.producer()
        if node is None:
            if value not in op.home.inputs and not value.is_initializer():
                return False  # a state of a loop
            continue
        if key(node) in WEIGHTED and len(node.inputs) > 1:  # an Einsum of one factor only sums or moves
            return False
        new = [v for v in all_inputs(node) if v not in seen]
        seen.update(new)
        stack += new
    return True


def gate(op: Op, value: ir.Value, depth: int = 12) -> int:
    """How much a value is a gate, 0 for a signal: of two factors the lesser one is the signal."""
    node = value.producer()
    if node is None or not depth:
        return 0
    if node.op_type in _GATES:
        return _GATES[node.op_type]
    if node.op_type == "Pow":
        exponent = inputs(node, 2)[1].const_value
        return 3 if exponent is not None and (exponent.numpy() < 0).all() else 0
    moving = [x for x in node.inputs if x is not None and op.wants(x)]
    if node.op_type == "Div" and node.inputs[1] in moving:
        return 3 if len(moving) == 1 else max(gate(op, x, depth - 1) for x in moving)
    if node.op_type not in _SAME or len(moving) != 1:
        if node.op_type == "Mul" and moving:  # by a deviation, as normalisations write it
            return min(gate(op, x, depth - 1) for x in moving)
        return 0
    return gate(op, moving[0], depth - 1)


def nonnegative(value: ir.Value, depth: int = 12) -> bool:
    """True if a value is surely nowhere negative."""
    node = value.producer()
    if value.const_value is not None:
        return bool((value.const_value.numpy() >= 0).all())
    if node is None or not depth:
        return False
    if node.op_type in _POSITIVE:
        return True
    if node.op_type == "Clip":
        low = inputs(node, 2)[1]
        return low is not None and low.const_value is not None and bool((low.const_value.numpy() >= 0).all())
    given = [x for x in node.inputs if x is not None]
    given = given if node.op_type in ("Add", "Mul", "Sum", "Mean", "Max", "Concat") else given[:1]
    return node.op_type in _KEEP_SIGN and all(nonnegative(x, depth - 1) for x in given)


def box(how: How, op: Op, x: ir.Value) -> tuple[ir.Value, ir.Value]:
    """The least and the largest value that `x` can have, computed from those of the model's inputs.

    Raises:
        UnsupportedError: it depends on an input without bounds, or by a graph within the graph.
    """
    ends = [_from_bounds(how, op, x, side) for side in (0, 1)]
    return op.Min(*ends), op.Max(*ends)


def _from_bounds(how: How, op: Op, x: ir.Value, side: int) -> ir.Value:
    bounds, found = how.box or {}, dict[ir.Value, ir.Value]()
    for value in op.home.inputs:
        if (value.name or "") in bounds:
            array = bounds[value.name or ""][side].astype(value.dtype.numpy() if value.dtype else np.float32)
            found[value] = op.Expand(op.const(array), op.Shape(value))
    for node in _nodes(x):
        given = [x for x in node.inputs if x is not None]
        if subgraphs(node) or node.domain or any(v in op.home.inputs and v not in found for v in given):
            raise op.unsupported(f"the bounds of '{x.name}' are not known here; choose another composite")
        if not any(v in found for v in given):
            continue
        attributes = {k: v.value for k, v in node.attributes.items()}
        new = emit_like(op, node.op_type, [v and found.get(v, v) for v in node.inputs], node.outputs, **attributes)
        found.update(zip(node.outputs, new, strict=True))
    if x not in found:
        raise op.unsupported(f"the bounds of '{x.name}' are not known; choose another composite")
    return found[x]


def _nodes(x: ir.Value) -> Iterator[ir.Node]:
    """The nodes that a value is computed by, in order."""
    seen: set[ir.Node] = set()

    def visit(value: ir.Value) -> Iterator[ir.Node]:
        node = value.producer()
        if node is not None and node not in seen:
            seen.add(node)
            for v in all_inputs(node):
                yield from visit(v)
            yield node

    return visit(x)
