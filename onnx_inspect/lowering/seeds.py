"""The seed of a class is a row of weights: what is zero but for one class per sample is gathered, not multiplied."""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import onnx_ir as ir

from ..emit import Op, inputs, ints

STEPS = 32  # that a cotangent is followed back


@dataclass(frozen=True)
class Spike:
    """What is known of a tensor that is zero along axis 1 but for one index per sample.

    Attributes:
        index: where it is not, shape (N,).
        count: the size of axis 1.
        rank: of the tensor.
    """

    index: ir.Value
    count: int
    rank: int


def row(op: Op, node: ir.Node) -> ir.Value | None:
    """dY W = dY[c] · W[c], where dY, from which W is multiplied, holds nothing but class c."""
    dy, w, c = inputs(node, 3)
    turned, axis = node.attributes.get_int("transA", 0), node.attributes.get_int("transB", 0)
    if c is not None or turned or w.shape is None or len(w.shape) != 2:
        return None
    spike = spiked(dy)
    if spike is None or spike.rank != 2 or op.dim(w, axis) != spike.count:
        return None
    found = op.Gather(w, spike.index, axis=axis)
    product = op.Mul(op.Transpose(found, perm=[1, 0]) if axis else found, picked(op, dy, spike))
    alpha = node.attributes.get_float("alpha", 1.0)
    return product if alpha == 1 else op.Mul(product, alpha)


def rows(op: Op, node: ir.Node) -> ir.Value | None:
    """The same for the adjoint of a convolution with a 1x1 kernel."""
    dy, w, b = inputs(node, 3)
    shape = list(w.shape) if w.shape is not None else []
    plain = all(set(node.attributes.get_ints(k, ())) <= {ok} for k, ok in (("strides", 1), ("pads", 0)))
    plain = plain and not any(node.attributes.get_ints("output_padding", ()))
    if b is not None or not plain or node.attributes.get_int("group", 1) != 1 or set(shape[2:]) != {1}:
        return None
    spike = spiked(dy)
    if spike is None or spike.rank != len(shape) or spike.count != shape[0]:
        return None
    return op.Mul(op.Gather(w, spike.index, axis=0), picked(op, dy, spike))


def picked(op: Op, value: ir.Value, spike: Spike) -> ir.Value:
    """What stands at the index, axis 1 kept."""
    return op.Unsqueeze(op.GatherND(value, op.Unsqueeze(spike.index, [1]), batch_dims=1), [1])


def spiked(value: ir.Value | None) -> Spike | None:
    """Follow a cotangent back, through what keeps zeros where they are, to the one-hot rows that it is made of."""
    path: list[ir.Node] = []
    while len(path) < STEPS and value is not None and (node := value.producer()) is not None:
        if node.op_type == "OneHot":
            spike = _one_hot(node)
            for step in reversed(path):
                spike = _kept(step, spike) if spike is not None else None
            return spike
        if node.op_type not in ("Mul", "Div", "Expand", "Reshape", "ReduceSum"):
            return None
        path.append(node)
        one_hot = [x for x in node.inputs[:2] if x is not None and _made_by(x) == "OneHot"]
        value = one_hot[0] if one_hot and node.op_type == "Mul" else node.inputs[0]
    return None


def _kept(node: ir.Node, spike: Spike) -> Spike | None:
    """What becomes of it in an operator on the way."""
    if node.op_type in ("Mul", "Div"):
        return spike if all(0 <= _rank(x) <= spike.rank for x in node.inputs) else None
    if node.op_type == "ReduceSum":  # over what only the run knows to have been broadcast: never an axis of classes
        return spike if node.attributes.get_int("keepdims", 1) and ints(node.inputs[1]) is None else None
    target = _target(node.inputs[1])
    if len(target) < 2 or target[1] != spike.count:
        return None
    if node.op_type == "Expand":
        return spike if len(target) == spike.rank else None
    # (N, C) as (N, C, 1, 1)
    return replace(spike, rank=len(target)) if spike.rank == 2 and math.prod(target[2:]) == 1 else None


def _made_by(value: ir.Value) -> str:
    node = value.producer()
    return node.op_type if node is not None else ""


def _one_hot(node: ir.Node) -> Spike | None:
    index, depth, values = node.inputs
    zero_one = values.const_value.numpy().tolist() if values is not None and values.const_value is not None else None
    if index is None or _rank(index) != 1 or zero_one != [0, 1] or node.attributes.get_int("axis", -1) not in (-1, 1):
        return None
    count = ints(depth)
    return Spike(index, count[0], 2) if count and count[0] > 1 else None


def _target(shape: ir.Value | None, steps: int = 4) -> list[int]:
    """The sizes that a Reshape or Expand asks for, -1 where they are open; none if nothing is known."""
    if (known := ints(shape)) is not None:
        return known
    node = shape.producer() if shape is not None else None
    if node is None or not steps:
        return []
    first = node.inputs[0]
    if node.op_type == "Concat":
        parts = [_target(part, steps - 1) for part in node.inputs]
        return [n for part in parts for n in part] if all(parts) else []
    if node.op_type != "Shape" or first is None:
        return []
    sizes = [n if isinstance(n, int) else -1 for n in first.shape or ()] or [-1] * max(_rank(first, steps - 1), 0)
    start, end = (node.attributes.get_int(k, n) for k, n in (("start", 0), ("end", len(sizes))))
    return sizes[start:end]


def _rank(value: ir.Value | None, steps: int = 4) -> int:
    """The number of axes, -1 if it is not known: what gradients emitted has no shape, but operators tell."""
    if value is None or value.shape is not None:
        return len(value.shape) if value is not None and value.shape is not None else -1
    node = value.producer()
    if node is None or not steps:
        return -1
    if node.op_type in ("Reshape", "Expand"):
        return len(_target(node.inputs[1], steps - 1)) or -1
    if node.op_type == "OneHot":
        return 2
    ranks = [_rank(x, steps - 1) for x in node.inputs]
    if -1 in ranks:
        return -1
    if node.op_type == "ArgMax":
        return ranks[0] - 1 if not node.attributes.get_int("keepdims", 1) else ranks[0]
    if node.op_type == "Gather":
        return sum(ranks) - 1
    if node.op_type in ("TopK", "ReduceSum"):
        return ranks[0]
    return max(ranks) if node.op_type in ("Mul", "Div", "HardSigmoid", "Cast", "Greater", "Less", "And") else -1
