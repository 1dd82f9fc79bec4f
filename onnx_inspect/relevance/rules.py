"""Everything that is no layer with weights: what passes, moves, adds up, multiplies and normalises."""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from functools import partial
from typing import Any

import onnx_ir as ir

from ..autodiff.subgraph import through_graph
from ..autodiff.table import RULES, Cotangents
from ..decompose.fusion import written_out
from ..emit import Op, inputs
from .layers import shares
from .table import How, by_gradient, epsilon, gradient, relevance, times, to
from .upstream import is_first

by_gradient(
    "move",
    "Reshape Flatten Squeeze Unsqueeze Transpose Concat Split Slice Pad Expand Tile SpaceToDepth DepthToSpace Trilu "
    "Gather GatherElements GatherND TopK OneHot TensorScatter Compress Unique ReverseSequence CenterCropPad MaxUnpool "
    "Where Identity Cast CastLike SequenceConstruct SequenceAt SequenceInsert SequenceErase ConcatFromSequence "
    "SplitToSequence Optional OptionalGetElement",
)
by_gradient("winner", "Max Min MaxPool GlobalMaxPool ReduceMax ReduceMin MaxRoiPool")
by_gradient("share", "ReduceLogSumExp")
by_gradient("recurrent", "RNN GRU LSTM")
by_gradient("control", "If Scan Loop SequenceMap")

relevance(
    "epsilon",
    *"Sum Mean ReduceSum ReduceMean ReduceL1 ReduceL2 CumSum AveragePool GlobalAveragePool LpPool GlobalLpPool "
    "Resize AffineGrid Col2Im DFT STFT RotaryEmbedding Range NegativeLogLikelihoodLoss".split(),
)(epsilon)


@relevance(
    "pass",
    *"Relu LeakyRelu PRelu ThresholdedRelu Shrink HardSigmoid HardSwish Elu Selu Celu Sigmoid Tanh Softsign Softplus "
    "Gelu Swish Mish Clip Dropout Neg Abs Reciprocal Sqrt Exp Log Erf Pow Mod Sin Cos Tan Asin Acos Atan Sinh Cosh "
    "Asinh Acosh Atanh LogSoftmax LRN LpNormalization QuantizeLinear DequantizeLinear DynamicQuantizeLinear".split(),
)
def passed(how: How, op: Op, node: ir.Node, r: ir.Value | None, *more: ir.Value | None) -> Cotangents:
    """R as it is, for the first input that varies."""
    return RULES[node.op_type](op, node, r, *more) if how.elementwise == "gradient" else _first(op, node, r)


def _first(op: Op, node: ir.Node, r: ir.Value | None) -> Cotangents:
    first = next(i for i, x in enumerate(node.inputs) if op.wants(x))
    x = node.inputs[first]
    return {} if r is None or x is None else {x: op.sum_to(r, x, of=node.outputs[0])}


@relevance("sum", "Add", "Sub")
def total(how: How, op: Op, node: ir.Node, r: ir.Value) -> Cotangents:
    """The epsilon rule; but a constant that shifts the model's input changes its unit, and takes nothing."""
    return _first(op, node, r) if _shifts(op, node) else epsilon(how, op, node, r)


def _shifts(op: Op, node: ir.Node) -> bool:
    moving = [x for x in (op.node or node).inputs if x is not None and op.wants(x)]
    return len(moving) == 1 and is_first(op, moving[0])


@relevance("product", "Mul")
def product(how: How, op: Op, node: ir.Node, r: ir.Value) -> Cotangents:
    """A signal takes all from its gate; of two signals each takes half; constants take nothing."""
    moving = [i for i, x in enumerate(node.inputs) if op.wants(x)]
    shared = shares(op, [(op.node or node).inputs[i] for i in moving])
    rs: list[Any] = [None] * len(node.inputs)
    for i, share in zip(moving, shared, strict=True):
        rs[i] = op.sum_to(r * share, inputs(node, 2)[i], of=node.outputs[0]) if share else None
    return to(op, node, rs)


@relevance("quotient", "Div")
def quotient(how: How, op: Op, node: ir.Node, r: ir.Value) -> Cotangents:
    """The dividend takes all; the divisor only where the dividend is constant."""
    return _first(op, node, r)


@relevance("product", "ReduceProd")
def factors(how: How, op: Op, node: ir.Node, r: ir.Value) -> Cotangents:
    """Of n factors each takes 1 / n."""
    return RULES["ReduceMean"](op, node, r)


@relevance("power", "ReduceSumSquare", "CumProd", "Det")
def power(how: How, op: Op, node: ir.Node, r: ir.Value) -> Cotangents:
    """x · gradient over the degree: 2 of squares, n of a determinant, the number of factors of running products."""
    (x,), y = inputs(node, 1), node.outputs[0]
    degree: Any = 2.0
    if node.op_type == "Det":
        degree = op.Cast(op.Squeeze(op.size(x, -1), [0]), to=y.dtype)
    elif node.op_type == "CumProd":
        turns = {name: node.attributes.get_int(name, 0) for name in ("exclusive", "reverse")}
        degree = op.CumSum(op.full_like(y, 1), node.inputs[1], **turns)
    return epsilon(how, op, node, r, degree=degree)


@relevance("share", "ReduceLogSum", "SoftmaxCrossEntropyLoss")
def share(how: How, op: Op, node: ir.Node, *rs: ir.Value | None) -> Cotangents:
    """x · gradient: of log Σ x each x takes its part of the sum."""
    return to(op, node, times(node.inputs, gradient(op, node, *rs)))


@relevance("softmax", "Softmax")
def softmax(how: How, op: Op, node: ir.Node, r: ir.Value) -> Cotangents:
    """R_x = x (R - y ΣR); nothing where y is 0, as masks make it."""
    x, y = node.inputs[0], node.outputs[0]
    total = op.ReduceSum(r, [node.attributes.get_int("axis", -1)], keepdims=1)
    none = op.Equal(y, 0)
    return op.Where(none, 0, op.Where(none, 0, x) * (r - y * total))


@relevance("attention", "Attention")
def attention(how: How, op: Op, node: ir.Node, r: ir.Value, *more: ir.Value | None) -> Cotangents:
    """The epsilon rule for values, with the attention as their weights; else in products and a Softmax."""
    if how.attention != "values":
        return through_graph(op, node, [r, *more], partial(written_out, node=node))
    found = epsilon(how, op, node, r, *(None for _ in more), eps=how.epsilon)
    values = [x for x in (node.inputs[i] for i in (2, 5) if i < len(node.inputs)) if x is not None]
    taken = {x: v for x, v in found.items() if x in values}
    if all(v is None for v in more):
        return taken
    cached = to(op, node, gradient(op, node, op.zeros_like(node.outputs[0]), *more))  # what later runs are given
    return {x: taken[x] + v if x in taken else v for x, v in cached.items()}


# Only what is sampled, not where.


@relevance("epsilon", "GridSample", "RoiAlign")
def sampled(how: How, op: Op, node: ir.Node, r: ir.Value) -> Cotangents:
    """The epsilon rule for what is sampled; places get nothing."""
    found = epsilon(how, op, node, r)
    return {x: v for x, v in found.items() if x is node.inputs[0]}


@relevance("move", "ScatterElements", "ScatterND")
def scatter(how: How, op: Op, node: ir.Node, r: ir.Value) -> Cotangents:
    """What is written where; sums by the epsilon rule, of extrema the winner takes all."""
    reduction = node.attributes.get_string("reduction", "none")
    if reduction == "mul":
        raise op.unsupported("its products are of factors that differ in number; choose a layer behind it")
    return epsilon(how, op, node, r) if reduction == "add" else RULES[node.op_type](op, node, r)


# Normalisation.


@relevance("batch", "BatchNormalization")
def batch(how: How, op: Op, node: ir.Node, r: ir.Value, *_: ir.Value | None) -> Cotangents:
    """y = a x + b: by the epsilon rule b takes its share; or R passes."""
    if how.norm == "gradient":
        return RULES[node.op_type](op, node, r)
    return _first(op, node, r) if how.norm == "pass" or _shifts(op, node) else epsilon(how, op, node, r)


@relevance("normalisation", "LayerNormalization", "RMSNormalization", "MeanVarianceNormalization")
def layer_norm(how: How, op: Op, node: ir.Node, *rs: ir.Value | None) -> Cotangents:
    """Y = s (X - mean X) / σ + b, or without the mean, in sums and products."""
    return through_graph(op, node, rs, partial(_over_axes, node=node))


def _over_axes(op: Op, node: ir.Node) -> list[ir.Value]:
    x, s, b = inputs(node, 3)
    axis = node.attributes.get_int("axis", -1)
    axes = list(range(axis, 0 if axis < 0 else op.rank(x)))
    if node.op_type == "MeanVarianceNormalization":
        axes = list(node.attributes.get_ints("axes", (0, 2, 3)))
    y, mean, inverse = _standardised(op, x, axes, node)
    y = y if s is None else y * s
    return [y if b is None else y + b, mean, inverse]


@relevance("normalisation", "InstanceNormalization", "GroupNormalization")
def group_norm(how: How, op: Op, node: ir.Node, r: ir.Value) -> Cotangents:
    """Y = s (X - mean X) / σ + b over each map or group of maps, in sums and products."""
    return through_graph(op, node, [r], partial(_over_groups, node=node))


def _over_groups(op: Op, node: ir.Node) -> list[ir.Value]:
    x, s, b = inputs(node, 3)
    groups = [0, node.attributes.get_int("num_groups", 0), -1]  # a 0 copies C: each map is a group
    y = _standardised(op, op.Reshape(op.Reshape(x, [0, 0, -1]), groups), [2], node)[0]
    shape = [-1] + [1] * (op.rank(x) - 2)
    return [op.Reshape(y, op.Shape(x)) * op.Reshape(s, shape) + op.Reshape(b, shape)]


def _standardised(op: Op, x: ir.Value, axes: list[int], node: ir.Node) -> tuple[ir.Value, ir.Value, ir.Value]:
    """X less its mean and over its deviation, the mean, and 1 / σ."""
    mean = op.ReduceMean(x, axes, keepdims=1)
    centred = x if node.op_type == "RMSNormalization" else op.Sub(x, mean)
    variance = op.ReduceMean(centred * centred, axes, keepdims=1)
    inverse = op.Reciprocal(op.Sqrt(variance + node.attributes.get_float("epsilon", 1e-5)))
    return centred * inverse, mean, inverse
