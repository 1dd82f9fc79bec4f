"""Elementwise operators: arithmetic, powers, selection, conversion, comparison."""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import math

import onnx_ir as ir

from ...dtypes import is_float
from ...emit import Op, inputs, ints
from ..table import Cotangents, constant, rule
from ..walk import SMALL_FLOATS

# Arithmetic.


@rule("Add", broadcast=True)
def add(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = A + B."""
    return [dy, dy]


@rule("Sub", broadcast=True)
def sub(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = A - B."""
    return [dy, -dy]


@rule("Mul", broadcast=True)
def mul(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = A B."""
    a, b = inputs(node, 2)
    return [dy * b, dy * a]


@rule("Div", broadcast=True)
def div(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = A / B."""
    da = dy / node.inputs[1]
    return [da, -da * node.outputs[0]]


@rule("Mod", broadcast=True)
def mod(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = A - n B with a whole n, which is taken as constant: torch's fmod and remainder."""
    a, b = inputs(node, 2)
    return [dy, dy * (node.outputs[0] - a) / b]


@rule("Pow", broadcast=True)
def pow_(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = A^E. E = 0 gives dA = 0 even at A = 0; dE = Y log A is taken as 0 where A <= 0."""
    a, e = inputs(node, 2)
    if e.const_value is not None and e.const_value.size == 1 and e.const_value.numpy() == 2:
        return dy * a * 2  # Pow is slow, and squares are what most models use it for
    power = op.Cast(e, to=a.dtype) if e.dtype != a.dtype else e
    da = op.Where(op.Equal(power, 0), 0, dy * power * op.Pow(a, power - 1))
    positive = op.Greater(a, 0)
    de = op.Where(positive, dy * node.outputs[0] * op.Log(op.Where(positive, a, 1)), 0)
    return [da, de if is_float(e) else None]


@rule("Sum", broadcast=True)
def sum_(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = A + B + ..."""
    return [dy] * len(node.inputs)


@rule("Mean", broadcast=True)
def mean(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = (A + B + ...) / n."""
    return [dy / len(node.inputs)] * len(node.inputs)


@rule("Max", "Min", broadcast=True)
def extremum(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = max(A, B, ...) or min; inputs that tie share evenly: two get a half each, as torch's maximum."""
    masks = [op.mask(op.Equal(x, node.outputs[0]), dy) for x in node.inputs]
    share = dy / op.Sum(*masks)
    return [share * mask for mask in masks]


@rule("Neg")
def neg(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = -X."""
    return -dy


@rule("Abs")
def abs_(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = |X|; 0 at 0, as torch."""
    return dy * op.Sign(node.inputs[0])


@rule("Reciprocal")
def reciprocal(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = 1 / X."""
    y = node.outputs[0]
    return -dy * y * y


# Powers and logarithms.


@rule("Sqrt")
def sqrt(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = sqrt X; infinite at 0, as torch."""
    return dy * 0.5 / node.outputs[0]


@rule("Exp")
def exp(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = exp X."""
    return dy * node.outputs[0]


@rule("Log")
def log(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = log X."""
    return dy / node.inputs[0]


@rule("Erf")
def erf(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = erf X."""
    (x,) = inputs(node, 1)
    return dy * op.Exp(-x * x) * (2 / math.sqrt(math.pi))


# Selection and conversion.


@rule("Where", broadcast=True)
def where(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = A where the condition holds, else B."""
    condition = node.inputs[0]
    return [None, op.Where(condition, dy, 0), op.Where(condition, 0, dy)]


@rule("Clip")
def clip(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = min(max(X, low), high); X gets dY inside and on the bounds, as torch's clamp; bounds get the rest.

    Between 0 and 6 it is ReLU6, which stops at its bounds in torch and TensorFlow alike: that is read off Y, so that
    Conv + Clip stay fused.
    """
    (x, low, high), y = inputs(node, 3), node.outputs[0]
    lowest, highest = _number(low), _number(high)
    if (lowest, highest) == (0, 6):
        return dy * op.mask(op.And(op.Greater(y, low), op.Less(y, high)), dy)
    if lowest is not None and highest is not None and lowest <= highest:
        return dy * op.mask(op.Equal(x, y), dy)
    below = op.Less(x, low) if low is not None else None
    above = op.Greater(x, high) if high is not None else None
    if below is not None and above is not None:
        above = op.Or(above, op.Less(high, low))  # crossed bounds: Y is high everywhere
        below = op.And(below, op.Not(above))
    dx, bounds = dy, []
    for side, bound in ((below, low), (above, high)):
        dx = dx if side is None else op.Where(side, 0, dx)
        bounds.append(side and op.sum_to(op.Where(side, dy, 0), bound, of=y))
    return [dx, *bounds]


def _number(value: ir.Value | None) -> float | None:
    """What a constant scalar holds."""
    tensor = value.const_value if value is not None else None
    return float(tensor.numpy().item()) if tensor is not None and tensor.size == 1 else None


@rule("Identity")
def identity(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = X."""
    return dy


@rule("Cast", "CastLike", flat=(1,))
def cast(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = X in another type; nothing comes back from integers and booleans, nor from where small floats saturate."""
    (x,) = inputs(node, 1)
    if not is_float(x):
        return None
    kind = (op.node or node).outputs[0].dtype  # not that of a wider view of it
    if kind in SMALL_FLOATS:
        dy = op.Where(op.LessOrEqual(op.Abs(x), float(kind.max)), dy, 0)
    return op.Cast(dy, to=x.dtype)


@rule("Dropout", flat=(1,))
def dropout(op: Op, node: ir.Node, dy: ir.Value, *_: object) -> Cotangents:
    """Y = X; in training Y = X mask / (1 - ratio), with the mask that this run has drawn."""
    _, ratio, training = inputs(node, 3)
    if training is None or ints(training) == [0]:
        return dy
    if op.graph is not op.home:
        raise op.unsupported("it draws its mask within a subgraph, which runs again backwards; export it for inference")
    if op.wants(ratio):
        raise op.unsupported("its ratio, which depends on what is differentiated, decides what is dropped")
    drawn = op.node or node  # itself, not a wider view of it
    drawn.resize_outputs(2)
    mask = drawn.outputs[1]
    mask.name, mask.type = mask.name or op.fresh("mask"), ir.TensorType(ir.DataType.BOOL)
    left = 1 - op.Cast(ratio, to=dy.dtype) if ratio is not None else op.const(0.5, dy.dtype)
    return op.Where(mask, dy / op.Where(training, left, 1), 0)


constant("Sign", "Floor", "Ceil", "Round", "Bernoulli")
constant("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "And", "Or", "Not", "Xor", "IsNaN", "IsInf")
