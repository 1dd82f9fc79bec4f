"""What operators read of their inputs: pointwise ones, those that mix along axes, and those that move numbers."""

from __future__ import annotations

import numpy as np

from .table import (
    At,
    Axis,
    Reach,
    Unknown,
    along,
    broadcast,
    chained,
    everything,
    regrouped,
    rule,
    same,
    taps,
)


@rule(
    "Abs Acos Acosh Add And Asin Asinh Atan Atanh BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Ceil Celu Clip "
    "Cos Cosh Div Elu Equal Erf Exp Floor Gelu Greater GreaterOrEqual HardSigmoid HardSwish Identity IsInf IsNaN "
    "LeakyRelu Less LessOrEqual Log Max Mean Min Mish Mod Mul Neg Not Or PRelu Pow Reciprocal Relu Round Selu Shrink "
    "Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Sub Sum Swish Tan Tanh ThresholdedRelu Where Xor"
)
def pointwise(at: At) -> Reach:
    """Each number of Y from those at its place, with broadcasting."""
    return broadcast(at.x, at.y)


@rule("BatchNormalization Cast CastLike DequantizeLinear Dropout Expand QuantizeLinear Trilu", data=1)
def pointwise_in_the_first(at: At) -> Reach:
    """As above; what else there is, is one for all."""
    if at.node.attributes.get_int("training_mode", 0):
        raise Unknown
    return broadcast(at.x, at.y)


@rule("Shape Size")
def no_values(at: At) -> Reach:
    """The numbers themselves are not read."""
    nothing = tuple(np.zeros(n, bool) for n in at.x)
    return lambda _: nothing


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
    op, attributes, rank = at.node.op_type, at.node.attributes, len(at.x)
    if op.startswith("Arg"):
        over = [attributes.get_int("axis", 0)]
    elif op.startswith("Reduce"):
        given = at.numbers(1)
        over = [] if given is None else given.ravel().tolist()
        if not over and not attributes.get_int("noop_with_empty_axes", 0):
            over = list(range(rank))
    else:
        over = list(attributes.get_ints("axes", (0, 2, 3)))
    gone = {axis % rank for axis in over}
    kept = iter(range(rank) if len(at.y) == rank else range(len(at.y)))
    skips = len(at.y) == rank
    axes = []
    for axis in range(rank):
        where = next(kept) if skips or axis not in gone else None
        axes.append(Axis() if axis in gone else Axis(where))
    return along(at.x, axes)


@rule("MatMul MatMulInteger QLinearMatMul")
def matmul(at: At) -> Reach:
    """Rows of Y from rows of A, columns from columns of B, over stacks of matrices."""
    first, second = (0, 3) if at.node.op_type == "QLinearMatMul" else (0, 1)
    ranks = [len(at.shape(at.node.inputs[i])) for i in (first, second)]
    if at.i not in (first, second):
        return everything(at.x)
    if min(ranks) < 2:
        raise Unknown
    before, last = len(at.y) - len(at.x), len(at.y) - 1
    stack = [Axis(None, np.zeros((1, 1), np.int64)) if n == 1 else Axis(before + i) for i, n in enumerate(at.x[:-2])]
    return along(at.x, [*stack, *([Axis(last - 1), Axis()] if at.i == first else [Axis(), Axis(last)])])


@rule("Gemm")
def gemm(at: At) -> Reach:
    """Rows of Y from rows of A, columns from columns of B, and a C that is broadcast."""
    if at.i == 2:
        return broadcast(at.x, at.y)
    axes = [Axis(0), Axis()] if at.i == 0 else [Axis(), Axis(1)]
    return along(at.x, axes[::-1] if at.node.attributes.get_int("transB" if at.i else "transA", 0) else axes)


# What moves numbers.


@rule("Flatten Reshape Squeeze Unsqueeze", data=1)
def reshape(at: At) -> Reach:
    """The same numbers in the same order."""
    return regrouped(at.x, at.y)


@rule("Transpose")
def transpose(at: At) -> Reach:
    """Axes in another order."""
    return _transposed(at.x, at.node.attributes.get_ints("perm", range(len(at.x))[::-1]))


def _transposed(x: tuple[int, ...], perm: object) -> Reach:
    order = list(perm)  # type: ignore[call-overload]
    return along(x, [Axis(order.index(i)) for i in range(len(x))])
