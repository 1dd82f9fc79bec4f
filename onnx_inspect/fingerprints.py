"""What an operator with weights computes, as a few numbers per output channel that do not depend on the layout.

A convolution or matrix product with constant weights is y = W x + b. What follows it channel by channel with constants
(a bias, a batch normalisation, whole or spelled out) makes that s W x + (s b + t), which is the form that another
exporter may have folded it into. So each of these operators has a fingerprint, and equal ones compute the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

Array = NDArray[Any]
# Operators that hand on every number as it is, at most elsewhere.
PASSING = frozenset("Identity Cast Dropout Transpose".split())
_MOVING = PASSING | frozenset("Reshape Squeeze Unsqueeze Flatten".split())


@dataclass(frozen=True, eq=False)
class Fingerprint:
    """Of an operator y = W x + b.

    Attributes:
        size: how many weights there are.
        channels: mean, standard deviation, least and largest weight of each output channel, (channels, 4).
        bias: (channels,).
    """

    size: int
    channels: Array
    bias: Array

    @property
    def form(self) -> tuple[int, int]:
        """How many weights and channels: fingerprints of other forms are not compared."""
        return self.size, len(self.bias)

    def scaled(self, by: Array) -> Fingerprint:
        """Of s W x + s b."""
        mean, deviation, least, most = (self.channels * by[:, None]).T
        ordered = (mean, np.abs(deviation), np.minimum(least, most), np.maximum(least, most))
        return Fingerprint(self.size, np.stack(ordered, axis=1), self.bias * by)

    def moved(self, by: Array) -> Fingerprint:
        """Of W x + b + t."""
        return Fingerprint(self.size, self.channels, self.bias + by)


def distances(one: Fingerprint, many: Sequence[Fingerprint]) -> Array:
    """How far one is from each of many of its form: the largest difference as a share of the largest number, (many,).

    Weights are measured by the largest weight, biases by the largest of both.
    """
    channels, bias = np.stack([m.channels for m in many]), np.stack([m.bias for m in many])
    largest = np.maximum(np.abs(channels).max((1, 2)), max(np.abs(one.channels).max(), 1e-30))
    beside = np.maximum(np.abs(bias).max(1), np.abs(one.bias).max())
    far = np.abs(channels - one.channels).max((1, 2)) / largest
    return np.asarray(np.maximum(far, np.abs(bias - one.bias).max(1) / np.maximum(largest, beside)))


def fingerprints(graph: ir.Graph) -> dict[ir.Node, Fingerprint]:
    """Of each operator with weights, and of those that only scale and move its channels afterwards.

    Weights that are all alike tell nothing and have none.
    """
    found = {}
    for node in graph:
        made = _product(node)
        if made is None or not (made.channels[:, 1].any() and np.isfinite(made.channels).all()):
            continue
        found[node] = made
        at = _next(node)
        while at is not None and (made := _folded(at, made)) is not None:
            found[at] = made
            at = _next(at)
    return found


def _product(node: ir.Node) -> Fingerprint | None:
    """Of a convolution or matrix product with constant weights."""
    axis = {"Conv": 0, "ConvTranspose": 1, "MatMul": -1, "Gemm": 1}.get(node.op_type)
    weight = constant(node.inputs[1]) if axis is not None and len(node.inputs) > 1 else None
    if node.domain or axis is None or weight is None or weight.ndim < 2:
        return None
    if node.op_type == "MatMul" and weight.ndim != 2:
        return None
    if node.op_type == "Gemm":
        if node.attributes.get_float("alpha", 1.0) != 1 or node.attributes.get_float("beta", 1.0) != 1:
            return None
        axis = 0 if node.attributes.get_int("transB", 0) else 1
    if node.op_type == "ConvTranspose" and node.attributes.get_int("group", 1) != 1:
        return None
    rows = np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1)
    if not rows.size:
        return None
    channels = np.stack([rows.mean(1), rows.std(1), rows.min(1), rows.max(1)], axis=1).astype(np.float64)
    made = Fingerprint(rows.size, channels, np.zeros(len(rows)))
    if len(node.inputs) < 3 or node.inputs[2] is None:
        return made
    bias = _per_channel(node.inputs[2], len(rows))
    return made.moved(bias) if bias is not None else None


def _folded(node: ir.Node, made: Fingerprint) -> Fingerprint | None:
    """What a fingerprint becomes by an operator that scales or moves channels by constants, None by others."""
    count = len(made.bias)
    if node.op_type == "BatchNormalization":
        given = [_per_channel(x, count) for x in node.inputs[1:5]]
        if any(x is None for x in given):
            return None
        gain, bias, mean, variance = (np.asarray(x) for x in given)
        scale = gain / np.sqrt(variance + node.attributes.get_float("epsilon", 1e-5))
        return made.moved(-mean).scaled(scale).moved(bias)
    if node.op_type not in ("Add", "Sub", "Mul", "Div") or len(node.inputs) != 2:
        return None
    first, second = (_per_channel(x, count) for x in node.inputs)
    if (first is None) == (second is None) or (first is not None and node.op_type in ("Sub", "Div")):
        return None
    by = np.asarray(second if first is None else first)
    match node.op_type:
        case "Add":
            return made.moved(by)
        case "Sub":
            return made.moved(-by)
        case "Mul":
            return made.scaled(by)
        case _:
            return made.scaled(1 / by) if by.all() else None


def _next(node: ir.Node) -> ir.Node | None:
    """The one operator that reads a result, past those that only hand it on."""
    while node.outputs and not node.outputs[0].is_graph_output():
        users = [use.node for use in node.outputs[0].uses()]
        if len(users) != 1:
            return None
        node = users[0]
        if node.op_type not in PASSING:
            return node
    return None


def _per_channel(value: ir.Value | None, count: int) -> Array | None:
    """A constant with one number, or one per channel."""
    found = constant(value)
    if found is None or found.size not in (1, count) or max(found.shape, default=1) != found.size:
        return None
    return np.broadcast_to(found.reshape(-1).astype(np.float64), (count,))


def constant(value: ir.Value | None) -> Array | None:
    """The numbers of a weight, also where it is quantised or has its axes moved; None for what is no constant."""
    node = value.producer() if value is not None else None
    if value is None or (node is None and value.const_value is None):
        return None
    if node is None:
        assert value.const_value is not None
        kind = value.dtype
        known = kind is not None and (kind.is_floating_point() or kind.is_integer())
        return value.const_value.numpy().astype(np.float32) if known else None
    if node.op_type == "DequantizeLinear" and not node.attributes.get_int("block_size", 0):
        return _dequantised(node)
    moved = constant(node.inputs[0]) if node.op_type in _MOVING and node.inputs else None
    if moved is None or node.op_type in ("Identity", "Cast", "Dropout"):
        return moved
    if node.op_type == "Transpose":
        return moved.transpose(tuple(node.attributes.get_ints("perm", ())) or None)
    shape = node.outputs[0].shape
    return moved.reshape(shape.numpy()) if shape is not None and shape.is_static() else None


def _dequantised(node: ir.Node) -> Array | None:
    """(q - zero point) scale, along an axis if there is a scale for each of its indices."""
    q, scale, zero = (constant(x) for x in [*node.inputs, None][:3])
    if q is None or scale is None:
        return None
    axis = node.attributes.get_int("axis", 1)
    per_axis = scale.size > 1
    shape = [-1 if i == axis % q.ndim else 1 for i in range(q.ndim)] if per_axis else [1] * q.ndim
    offset = zero.reshape(shape) if zero is not None else np.float32(0)
    return np.asarray((q - offset) * scale.reshape(shape))
