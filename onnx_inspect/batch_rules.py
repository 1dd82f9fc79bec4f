"""Where the batch comes out of an operator, given where it comes in: one rule per kind of operator.

A rule takes the node and, per input, the axis of the batch (None for tensors without one), and returns the same per
output. It raises `MixedError` where samples meet, or where it cannot tell.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import onnx_ir as ir

Axes = list["int | None"]
_FAR = 2**31 - 1  # "to the end" in slices


class MixedError(Exception):
    """The node mixes samples, or might."""


@dataclass(frozen=True)
class Node:
    """A node with the shapes of its tensors for a trial batch that no axis has by accident."""

    node: ir.Node
    shapes: Mapping[str, list[int | None]]
    batch: int

    def shape(self, value: ir.Value | None) -> list[int | None]:
        """Sizes, None where only known at run time."""
        found = self.shapes.get(value.name or "") if value is not None else None
        if found is None:
            raise MixedError
        return found

    def rank(self, value: ir.Value | None) -> int:
        """Number of axes."""
        return len(self.shape(value))

    def axis(self, default: int, rank: int | None = None) -> int:
        """The attribute `axis`, counted from the front."""
        rank = self.rank(self.node.inputs[0]) if rank is None else rank
        return self.node.attributes.get_int("axis", default) % max(rank, 1)

    def ints(self, index: int) -> list[int] | None:
        """The constant integers of an input, None if it is absent.

        Raises:
            MixedError: it is computed.
        """
        value = self.node.inputs[index] if index < len(self.node.inputs) else None
        if value is None:
            return None
        tensor = ir.convenience.get_const_tensor(value)
        if tensor is None:
            raise MixedError
        return [int(i) for i in tensor.numpy().ravel()]

    def alone(self, axes: Axes) -> int:
        """The batch axis of the first input, which must be the only one to have it."""
        if not axes or axes[0] is None or any(a is not None for a in axes[1:]):
            raise MixedError
        return axes[0]

    def where(self, value: ir.Value | None) -> int:
        """The one axis that is as long as the batch."""
        found = [i for i, d in enumerate(self.shape(value)) if d == self.batch]
        if len(found) != 1:
            raise MixedError
        return found[0]


Rule = Callable[[Node, Axes], Axes]
RULES: dict[tuple[str, str], Rule] = {}
SIZED = frozenset({"Reshape", "Expand", "ConstantOfShape", "Resize", "Slice"})  # these may take computed shapes


def _rule(ops: str) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        RULES.update({("", op): rule for op in ops.split()})
        return rule

    return register


@_rule(
    "Abs Acos Acosh Add And Asin Asinh Atan Atanh BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast Ceil Celu Clip Cos "
    "Cosh Div Dropout Elu Equal Erf Exp Floor Gelu Greater GreaterOrEqual HardSigmoid HardSwish Identity IsInf IsNaN "
    "LeakyRelu Less LessOrEqual Log Max Mean Min Mish Mod Mul Neg Not Or PRelu Pow Reciprocal Relu Round Selu Shrink "
    "Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Sub Sum Swish Tan Tanh ThresholdedRelu Where Xor"
)
def _elementwise(node: Node, axes: Axes) -> Axes:
    from_right = {a - node.rank(x) for x, a in zip(node.node.inputs, axes, strict=True) if a is not None}
    if len(from_right) != 1:
        raise MixedError
    return [node.rank(node.node.outputs[0]) + from_right.pop()] * len(node.node.outputs)


@_rule("QuantizeLinear DequantizeLinear")
def _quantize(node: Node, axes: Axes) -> Axes:
    if node.rank(node.node.inputs[1]) > 1:  # scales per block must have the shape of the data
        raise MixedError
    return [node.alone(axes)]


@_rule("Reshape Flatten Squeeze Unsqueeze")
def _reshape(node: Node, axes: Axes) -> Axes:
    # Elements keep their order, so the batch is an axis of its own again if as many elements lie outside it.
    x, y = node.node.inputs[0], node.node.outputs[0]
    before, after = node.shape(x)[: node.alone(axes)], node.shape(y)[: node.where(y)]
    if None in before or None in after or math.prod(before) != math.prod(after):  # type: ignore[arg-type]
        raise MixedError
    return [len(after)]


@_rule("Expand ConstantOfShape")
def _expand(node: Node, axes: Axes) -> Axes:
    if axes[0] is not None:
        return _elementwise(node, [node.alone(axes), *[None] * (len(axes) - 1)])
    return [node.where(node.node.outputs[0])]  # copies of the same for every sample


@_rule("Transpose")
def _transpose(node: Node, axes: Axes) -> Axes:
    perm = list(node.node.attributes.get_ints("perm", ())) or list(range(node.rank(node.node.inputs[0])))[::-1]
    return [perm.index(node.alone(axes))]


@_rule(
    "Conv ConvTranspose ConvInteger QLinearConv AveragePool MaxPool LpPool GlobalAveragePool GlobalMaxPool "
    "GlobalLpPool BatchNormalization InstanceNormalization GroupNormalization LRN DepthToSpace SpaceToDepth Resize"
)
def _map(node: Node, axes: Axes) -> Axes:
    # The indices of MaxPool count through all samples, the statistics of BatchNormalization are over all samples.
    if node.alone(axes) != 0 or any(y.uses() or y.is_graph_output() for y in node.node.outputs[1:]):
        raise MixedError
    if node.node.attributes.get_int("training_mode", 0):
        raise MixedError
    return [0]


@_rule("GridSample")
def _grid_sample(node: Node, axes: Axes) -> Axes:
    if axes != [0, 0]:
        raise MixedError
    return [0]


@_rule("MatMul MatMulInteger")
def _matmul(node: Node, axes: Axes) -> Axes:
    a, b = node.node.inputs[:2]
    ranks = node.rank(a), node.rank(b)
    if min(ranks) < 2:
        raise MixedError
    # Counted from the right: rows are -2 of the first, columns -1 of the second, what lies before are stacks.
    left, right = (axis - rank if axis is not None else None for axis, rank in zip(axes, ranks, strict=False))
    if left == -1 or right == -2 or (None not in (left, right) and (left != right or left == -2 or left == -1)):
        raise MixedError
    found = left if left is not None else right
    if found is None:
        raise MixedError
    return [max(ranks) + found]


@_rule("Gemm")
def _gemm(node: Node, axes: Axes) -> Axes:
    if node.alone(axes) != node.node.attributes.get_int("transA", 0):
        raise MixedError
    return [0]


@_rule("Einsum")
def _einsum(node: Node, axes: Axes) -> Axes:
    equation = node.node.attributes.get_string("equation", "").replace(" ", "")
    terms, arrow, result = equation.partition("->")
    letters = {t[a] for t, a in zip(terms.split(","), axes, strict=True) if a is not None and "." not in terms}
    letter = letters.pop() if len(letters) == 1 else "?"
    if (
        not arrow
        or letter not in result
        or any((letter in t) != (a is not None) for t, a in zip(terms.split(","), axes, strict=True))
    ):
        raise MixedError
    return [result.index(letter)]


@_rule("Softmax LogSoftmax Hardmax LpNormalization TopK Split CumSum LayerNormalization Trilu")
def _along(node: Node, axes: Axes) -> Axes:
    rank = node.rank(node.node.inputs[0])
    mixed: list[int] = {
        "Split": lambda: [node.axis(0)],
        "CumSum": lambda: [i % rank for i in node.ints(1) or []],
        "LayerNormalization": lambda: list(range(node.axis(-1), rank)),
        "Trilu": lambda: [rank - 2, rank - 1],
    }.get(node.node.op_type, lambda: [node.axis(-1)])()
    if node.alone(axes) in mixed:
        raise MixedError
    return [axes[0]] * len(node.node.outputs)


@_rule("Concat")
def _concat(node: Node, axes: Axes) -> Axes:
    if len(set(axes)) != 1 or node.axis(0) == axes[0]:
        raise MixedError
    return axes[:1]


@_rule("Gather")
def _gather(node: Node, axes: Axes) -> Axes:
    data, indices = axes
    axis, extra = node.axis(0), node.rank(node.node.inputs[1]) - 1
    if (data is None) == (indices is None) or data == axis:
        raise MixedError
    if indices is not None:
        return [axis + indices]
    return [data + extra if data is not None and data > axis else data]


@_rule(
    "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum "
    "ReduceSumSquare ArgMax ArgMin"
)
def _reduce(node: Node, axes: Axes) -> Axes:
    batch, rank = node.alone(axes), node.rank(node.node.inputs[0])
    if node.node.op_type.startswith("Arg"):
        over = [node.axis(0)]
    else:
        over = [i % rank for i in node.ints(1) or ()]
        everything = not over and not node.node.attributes.get_int("noop_with_empty_axes", 0)
        over = list(range(rank)) if everything else over
    if batch in over:
        raise MixedError
    return [batch if node.node.attributes.get_int("keepdims", 1) else batch - sum(i < batch for i in over)]


@_rule("Slice")
def _slice(node: Node, axes: Axes) -> Axes:
    batch, rank = node.alone(axes), node.rank(node.node.inputs[0])
    over = node.ints(3)
    over = list(range(node.rank(node.node.inputs[0]))) if over is None else [i % rank for i in over]
    if batch in over[: _length(node, 1)]:
        i = over.index(batch)
        starts, ends, steps = node.ints(1) or [], node.ints(2) or [], node.ints(4)
        if starts[i] != 0 or ends[i] < _FAR or (steps is not None and steps[i] != 1):
            raise MixedError
    return [batch]


def _length(node: Node, index: int) -> int:
    (length,) = node.shape(node.node.inputs[index])
    if length is None:
        raise MixedError
    return length


@_rule("Pad")
def _pad(node: Node, axes: Axes) -> Axes:
    batch, rank = node.alone(axes), node.rank(node.node.inputs[0])
    pads, over = node.ints(1) or [], [i % rank for i in node.ints(3) or range(rank)]
    if batch in over and (pads[over.index(batch)] or pads[over.index(batch) + len(over)]):
        raise MixedError
    return [batch]


@_rule("Tile")
def _tile(node: Node, axes: Axes) -> Axes:
    if (node.ints(1) or [])[node.alone(axes)] != 1:
        raise MixedError
    return axes[:1]


@_rule("LSTM GRU RNN")
def _recurrent(node: Node, axes: Axes) -> Axes:
    states = [a for x, a in zip(node.node.inputs[5:7], axes[5:7], strict=True) if x is not None]
    weights = [*axes[1:5], *axes[7:]]  # lengths of sequences among them: one per sample
    lengths = node.node.inputs[4] if len(node.node.inputs) > 4 else None
    if node.node.attributes.get_int("layout", 0) or lengths is not None or axes[0] != 1:
        raise MixedError
    if any(a is not None for a in weights) or any(a != 1 for a in states):
        raise MixedError
    return [2, 1, 1]
