"""Activations: elementwise functions of one input and constant attributes."""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import math

import onnx_ir as ir

from ...emit import Op, inputs
from ..table import Cotangents, constant, rule

# Piecewise linear.


@rule("Relu")
def relu(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = max(X, 0); 0 at the kink, as torch. The mask is taken from Y, so that Conv + Relu stay fused."""
    return dy * op.mask(op.Greater(node.outputs[0], 0), dy)


@rule("LeakyRelu")
def leaky_relu(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = X if X > 0 else alpha X; alpha at the kink, as torch."""
    alpha = node.attributes.get_float("alpha", 0.01)
    return op.Where(op.Greater(node.inputs[0], 0), dy, dy * alpha)


@rule("PRelu", broadcast=True)
def prelu(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = X if X > 0 else slope X; slope at the kink, as torch."""
    x, slope = inputs(node, 2)
    positive = op.Greater(x, 0)
    return [op.Where(positive, dy, dy * slope), op.Where(positive, 0, dy * x)]


@rule("ThresholdedRelu")
def thresholded_relu(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = X if X > alpha else 0; 0 at the threshold, as torch."""
    return dy * op.mask(op.Greater(node.inputs[0], node.attributes.get_float("alpha", 1.0)), dy)


@rule("Shrink")
def shrink(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = X + bias below -lambd, X - bias above lambd, 0 between and on the bounds, as torch."""
    return dy * op.mask(op.Greater(op.Abs(node.inputs[0]), node.attributes.get_float("lambd", 0.5)), dy)


@rule("HardSigmoid")
def hard_sigmoid(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = max(0, min(1, alpha X + beta)); 0 at both kinks, as torch."""
    y, alpha = node.outputs[0], node.attributes.get_float("alpha", 0.2)
    return op.Where(op.And(op.Greater(y, 0), op.Less(y, 1)), dy * alpha, 0)


@rule("HardSwish")
def hard_swish(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = X max(0, min(1, X / 6 + 1 / 2)); 0 at -3 and 1 at 3, as torch."""
    (x,) = inputs(node, 1)
    rising = op.Where(op.Less(x, 3), dy * (x / 3 + 0.5), dy)
    return op.Where(op.Greater(x, -3), rising, 0)


# Exponential tails: their slope is Y plus a constant, so nothing can overflow.


@rule("Elu")
def elu(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = X if X > 0 else alpha (exp X - 1); alpha at 0, as torch."""
    return _tail(op, node, dy, 1.0, node.attributes.get_float("alpha", 1.0))


@rule("Selu")
def selu(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = gamma (X if X > 0 else alpha (exp X - 1)); gamma alpha at 0, as torch."""
    gamma = node.attributes.get_float("gamma", 1.05070102214813232421875)
    return _tail(op, node, dy, gamma, gamma * node.attributes.get_float("alpha", 1.67326319217681884765625))


@rule("Celu")
def celu(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = max(0, X) + min(0, alpha (exp(X / alpha) - 1)); 1 at 0."""
    y, alpha = node.outputs[0], node.attributes.get_float("alpha", 1.0)
    return op.Where(op.Greater(node.inputs[0], 0), dy, dy * (y / alpha + 1))


def _tail(op: Op, node: ir.Node, dy: ir.Value, slope: float, height: float) -> ir.Value:
    positive = op.Greater(node.inputs[0], 0)
    return op.Where(positive, dy * slope, dy * (node.outputs[0] + height))


# Sigmoids.


@rule("Sigmoid")
def sigmoid(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = 1 / (1 + exp -X)."""
    y = node.outputs[0]
    return dy * y * (1 - y)


@rule("Tanh")
def tanh(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = tanh X."""
    y = node.outputs[0]
    return dy * (1 - y * y)


@rule("Softsign")
def softsign(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = X / (1 + |X|)."""
    scale = 1 + op.Abs(node.inputs[0])
    return dy / scale / scale


@rule("Softplus")
def softplus(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = log(1 + exp X)."""
    return dy * op.Sigmoid(node.inputs[0])


# Gates: X times a sigmoid.


@rule("Gelu")
def gelu(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = X Phi(X), with Phi the normal distribution or its tanh approximation."""
    (x,) = inputs(node, 1)
    if node.attributes.get_string("approximate", "none") == "tanh":
        return dy * _gelu_tanh(op, x)
    phi = op.Exp(x * x * -0.5) * (1 / math.sqrt(2 * math.pi))
    return dy * (0.5 + 0.5 * op.Erf(x * math.sqrt(0.5)) + x * phi)


def _gelu_tanh(op: Op, x: ir.Value) -> ir.Value:
    x = op.Clip(x, -20, 20)  # beyond, the slope is 0 or 1 and powers of X could overflow
    c, square = math.sqrt(2 / math.pi), x * x
    t = op.Tanh(c * x * (1 + 0.044715 * square))
    return 0.5 + 0.5 * t + 0.5 * c * x * (1 - t * t) * (1 + 3 * 0.044715 * square)


@rule("Swish")
def swish(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = X sigmoid(alpha X)."""
    (x,), alpha = inputs(node, 1), node.attributes.get_float("alpha", 1.0)
    s = op.Sigmoid(x * alpha)
    return dy * (s + x * alpha * s * (1 - s))


@rule("Mish")
def mish(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = X tanh(softplus X)."""
    (x,) = inputs(node, 1)
    t = op.Tanh(op.Softplus(x))
    return dy * (t + x * op.Sigmoid(x) * (1 - t * t))


constant("Hardmax")
