"""Adjoints of gates, and sums with what is the same all over a map: as few passes as can be, in blocked layout."""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import onnx_ir as ir

from ..emit import Op
from .strided import times


def silu(op: Op, node: ir.Node) -> ir.Value | None:
    """dX = dY (S + Y (1 - S)) of Y = X S, S = sigmoid X; for the two ways that X goes, dY S + dY X S (1 - S)."""
    for straight, curved in (node.inputs, reversed(node.inputs)):
        outer, rest = _factors(curved, "Mul")
        slope, left = _factors(rest, "Sub")
        inner, s = _factors(outer, "Mul")
        dy, x = _factors(inner, "Mul")
        gate = s.producer() if s is not None else None
        if gate is None or gate.op_type != "Sigmoid" or gate.inputs[0] is not x or left is not s:
            continue
        if dy is None or x is None or s is None:
            continue
        if slope is None or slope.const_value is None or slope.const_value.numpy().tolist() != 1:
            continue
        if s.dtype != ir.DataType.FLOAT or _factors(straight, "Mul") != (dy, s):
            continue
        gated = [n.outputs[0] for n, _ in x.uses() if n.op_type == "Mul" and set(n.inputs) == {x, s}]
        y = gated[0] if gated else op.Mul(x, s)
        return times(op, dy, op.Add(s, op.Mul(y, op.HardSigmoid(s, alpha=-1.0, beta=1.0))))
    return None


def spread(op: Op, node: ir.Node) -> ir.Value | None:
    """A + B, where B was expanded to the shape that A has."""
    for a, b in (node.inputs, reversed(node.inputs)):
        wide, shape = _factors(b, "Expand")
        if wide is not None and shape is not None and a is not None and _as_large(a, b):
            return op.Add(a, wide)
    return None


def _as_large(a: ir.Value, b: ir.Value | None) -> bool:
    """Whether shapes are the same, whatever they are."""
    if a.shape is None or b is None or a.shape != b.shape:
        return False
    return all(isinstance(n, int) or n.value is not None for n in a.shape)


def _factors(value: ir.Value | None, op_type: str) -> tuple[ir.Value | None, ir.Value | None]:
    """The two inputs of the node that a value comes from, if it is of a kind."""
    node = value.producer() if value is not None else None
    if node is None or node.op_type != op_type or len(node.inputs) != 2:
        return None, None
    return node.inputs[0], node.inputs[1]
