"""What operators read of their inputs: pointwise ones, and those that mix along axes."""

from __future__ import annotations

import numpy as np

from .table import At, Axis, Reach, Unknown, along, everything, rule, same, spread, taps


@rule(
    "Abs Acos Acosh Add And Asin Asinh Atan Atanh BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Ceil Celu Clip "
    "Cos Cosh Div Elu Equal Erf Exp Floor Gelu Greater GreaterOrEqual HardSigmoid HardSwish Identity IsInf IsNaN "
    "LeakyRelu Less LessOrEqual Log Max Mean Min Mish Mod Mul Neg Not Or PRelu Pow Reciprocal Relu Round Selu Shrink "
    "Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Sub Sum Swish Tan Tanh ThresholdedRelu Where Xor"
)
def pointwise(at: At) -> Reach:
    """Each number of Y from those at its place, with broadcasting."""
    return along(at.x, spread(at.x, at.y))


@rule("BatchNormalization Cast CastLike DequantizeLinear Dropout Expand QuantizeLinear Trilu", data=1)
def pointwise_in_the_first(at: At) -> Reach:
    """As above; what else there is, is one for all."""
    if at.node.attributes.get_int("training_mode", 0):
        raise Unknown
    return along(at.x, spread(at.x, at.y))


@rule("DynamicQuantizeLinear LSTM GRU RNN")
def all_values(at: At) -> Reach:
    """A scale from the smallest and the largest number; steps that hand a state on."""
    return everything(at.x)


# What mixes along axes.


@rule("GlobalAveragePool GlobalLpPool GlobalMaxPool InstanceNormalization", data=1)
def over_positions(at: At) -> Reach:
    """Every channel from all of its positions."""
    return along(at.x, [*same(2), *[Axis()] * (len(at.x) - 2)])


@rule("GroupNormalization", data=1)
def over_a_sample(at: At) -> Reach:
    """Every sample from itself."""
    return along(at.x, [*same(1), *[Axis()] * (len(at.x) - 1)])


@rule("LRN")
def over_neighbouring_channels(at: At) -> Reach:
    """Channel c from c - ⌊(size - 1) / 2⌋ to c + ⌈(size - 1) / 2⌉."""
    size = at.node.attributes.get_int("size")
    near = np.arange(at.x[1])[:, None] + np.arange(size) - (size - 1) // 2
    return along(at.x, [Axis(0), Axis(1, taps(near, at.x[1])), *same(len(at.x))[2:]])


@rule("Hardmax LogSoftmax LpNormalization Softmax TopK", data=1)
def over_an_axis(at: At) -> Reach:
    """Every number from all along its axis."""
    axes = same(len(at.x))
    axes[at.axis(-1)] = Axis()
    return along(at.x, axes)


@rule("LayerNormalization RMSNormalization", data=1)
def over_the_last_axes(at: At) -> Reach:
    """Every number from all of the axes from `axis` on."""
    first = at.axis(-1)
    return along(at.x, [*same(first), *[Axis()] * (len(at.x) - first)])


@rule(
    "ArgMax ArgMin MeanVarianceNormalization ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean "
    "ReduceMin ReduceProd ReduceSum ReduceSumSquare",
    data=1,
)
def over_axes(at: At) -> Reach:
    """Every number from all along the axes that are reduced, which may be left out of Y."""
    attributes, rank = at.node.attributes, len(at.x)
    if at.node.op_type.startswith("Arg"):
        over = [attributes.get_int("axis", 0)]
    elif at.node.op_type.startswith("Reduce"):
        given = at.numbers(1)
        none = [] if attributes.get_int("noop_with_empty_axes", 0) else list(range(rank))
        over = none if given is None or not given.size else given.ravel().tolist()
    else:
        over = list(attributes.get_ints("axes", (0, 2, 3)))
    gone = {axis % rank for axis in over}
    before = [0 if len(at.y) == rank else sum(g < axis for g in gone) for axis in range(rank)]
    return along(at.x, [Axis() if axis in gone else Axis(axis - before[axis]) for axis in range(rank)])


@rule("MatMul MatMulInteger QLinearMatMul")
def matmul(at: At) -> Reach:
    """Rows of Y from rows of A, columns from columns of B, over stacks of matrices that are broadcast."""
    factors = (0, 3) if at.node.op_type == "QLinearMatMul" else (0, 1)
    if at.i not in factors:
        return everything(at.x)
    if any(len(at.shape(at.node.inputs[i])) < 2 for i in factors):
        raise Unknown
    rank = len(at.y)
    matrix = [Axis(rank - 2), Axis()] if at.i == 0 else [Axis(), Axis(rank - 1)]
    return along(at.x, [*spread(at.x[:-2], at.y[:-2]), *matrix])


@rule("Gemm")
def gemm(at: At) -> Reach:
    """Rows of Y from rows of A, columns from columns of B, and a C that is broadcast."""
    if at.i == 2:
        return along(at.x, spread(at.x, at.y))
    matrix = [Axis(0), Axis()] if at.i == 0 else [Axis(), Axis(1)]
    return along(at.x, matrix[::-1] if at.node.attributes.get_int("transB" if at.i else "transA", 0) else matrix)


@rule("Einsum")
def einsum(at: At) -> Reach:
    """Along the letters of the result each number from its place, along all others from all."""
    terms, arrow, result = at.node.attributes.get_string("equation", "").replace(" ", "").partition("->")
    if not arrow or "." in terms:
        raise Unknown
    letters = zip(terms.split(",")[at.i], at.x, strict=True)
    return along(at.x, [Axis(result.index(a)) if a in result and n > 1 else Axis() for a, n in letters])
