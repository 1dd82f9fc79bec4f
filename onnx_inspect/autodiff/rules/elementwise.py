"""Elementwise operators: arithmetic, activations, comparisons."""

from __future__ import annotations

import onnx_ir as ir

from ..emit import Op
from ..gradient import Cotangents, constant, rule


@rule("Add", broadcast=True)
def add(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = A + B."""
    return [dy, dy]


@rule("Mul", broadcast=True)
def mul(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = A B."""
    a, b = node.inputs
    return [dy * b, dy * a]


@rule("Relu")
def relu(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = max(X, 0); 0 at the kink, as torch. The mask is taken from Y, so that Conv + Relu stay fused."""
    return dy * op.mask(op.Greater(node.outputs[0], 0), dy)


@rule("Tanh")
def tanh(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = tanh X."""
    y = node.outputs[0]
    return dy * (1 - y * y)


constant("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "And", "Or", "Not", "Xor", "IsNaN", "IsInf", "Sign")
