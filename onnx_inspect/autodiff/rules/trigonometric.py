"""Trigonometric and hyperbolic functions and their inverses."""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import onnx_ir as ir

from ...emit import Op, inputs
from ..table import Cotangents, rule


@rule("Sin")
def sin(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = sin X."""
    return dy * op.Cos(node.inputs[0])


@rule("Cos")
def cos(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = cos X."""
    return -dy * op.Sin(node.inputs[0])


@rule("Tan")
def tan(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = tan X."""
    y = node.outputs[0]
    return dy * (1 + y * y)


@rule("Asin")
def asin(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = arcsin X."""
    (x,) = inputs(node, 1)
    return dy / op.Sqrt(1 - x * x)


@rule("Acos")
def acos(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = arccos X."""
    (x,) = inputs(node, 1)
    return -dy / op.Sqrt(1 - x * x)


@rule("Atan")
def atan(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = arctan X."""
    (x,) = inputs(node, 1)
    return dy / (1 + x * x)


@rule("Sinh")
def sinh(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = sinh X; CUDA has no Cosh."""
    (x,) = inputs(node, 1)
    return dy * (op.Exp(x) + op.Exp(-x)) * 0.5


@rule("Cosh")
def cosh(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = cosh X; CUDA has no Sinh."""
    (x,) = inputs(node, 1)
    return dy * (op.Exp(x) - op.Exp(-x)) * 0.5


@rule("Asinh")
def asinh(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = arsinh X."""
    (x,) = inputs(node, 1)
    return dy / op.Sqrt(x * x + 1)


@rule("Acosh")
def acosh(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = arcosh X."""
    (x,) = inputs(node, 1)
    return dy / op.Sqrt(x * x - 1)


@rule("Atanh")
def atanh(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = artanh X."""
    (x,) = inputs(node, 1)
    return dy / (1 - x * x)
