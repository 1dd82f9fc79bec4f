"""The rules of the walk between two forward passes: for each operator the slope of the line from one to the other.

Where the walk for gradients multiplies by the slope of an operator at X, this one multiplies by the slope of the line
between its two passes, X and the reference X': m with Y - Y' = Σ m (X - X'). Then Σ m (X - X') of all inputs is S - S'.

    linear (Add, Conv, Reshape, ...)            the gradient, which is that slope
    products of two that vary (Mul, MatMul)     each by the mean of the other: ΔA (B + B') / 2 + ΔB (A + A') / 2
    Div                                         as the product that it undoes: (ΔA - ΔB (Y + Y') / 2) / ((B + B') / 2)
    elementwise (Relu, Sigmoid, Gelu, ...)      (Y - Y') / (X - X'), Shrikumar's rescale rule
    MaxPool, ReduceMax, Max, Min                what the winner of one of the passes made of it
    Softmax, LogSoftmax                         the gradient with the logarithmic mean of Y and Y' in the place of Y
    LayerNormalization and its kin              Div by σ, which has a line of its own
    QuantizeLinear                              rescaled where X and X' lie steps apart
    Where                                       the branches that differ, in equal parts where the condition does
    all else with a gradient                    its mean over five points between X and X'
    If, operators of integers                   the gradient at X; Loop and Scan, if what they take from outside varies

The last two are approximations: S - S' - Σ m (X - X') says how good.
"""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from ..autodiff.table import RULES, Cotangents, as_list
from .normal import captum_softmax, log_softmax, normalisation, softmax
from .pair import EQUAL, Pair, along, halfway, rescale
from .twin import Twins

KINKED = frozenset("Relu LeakyRelu PRelu ThresholdedRelu Shrink HardSigmoid HardSwish Abs Clip".split())
SMOOTH = frozenset(
    "Sigmoid Tanh Softsign Softplus Gelu Swish Mish Exp Erf Sin Cos Tan Asin Acos Atan Sinh Cosh Asinh".split()
)
TAILED = frozenset("Elu Selu Celu".split())
LINEAR = frozenset(
    "Add Sub Sum Mean Neg Identity Cast CastLike Dropout Reshape Flatten Squeeze Unsqueeze Transpose Concat Split "
    "Slice Pad Expand Tile SpaceToDepth DepthToSpace Trilu Gather GatherElements GatherND CumSum ScatterElements "
    "ScatterND TensorScatter Compress ReverseSequence CenterCropPad Col2Im ReduceSum ReduceMean AveragePool "
    "GlobalAveragePool Resize DFT Range OneHot DequantizeLinear SequenceConstruct SequenceAt SequenceInsert "
    "SequenceErase ConcatFromSequence SplitToSequence Optional OptionalGetElement".split()
)
PRODUCTS = frozenset("Mul MatMul Gemm Conv ConvTranspose Einsum STFT RotaryEmbedding".split())
WEIGHTED = frozenset("BatchNormalization GridSample DeformConv RoiAlign".split())  # linear in their first input
WINNERS = frozenset("MaxPool GlobalMaxPool ReduceMax ReduceMin Max Min".split())
_SHAPED = frozenset("Reshape Squeeze Unsqueeze Transpose Expand Identity Cast Neg".split())
NEAR = 1e-2  # where rounding spoils the quotient of a smooth function more than its gradient halfway is wrong
Lines = Callable[["Pair", "ir.Value"], Cotangents]


def smooth(pair: Pair, dy: ir.Value) -> Cotangents:
    """`rescale` for functions that bend over distances of about 1."""
    return rescale(pair, dy, near=NEAR)


def tailed(pair: Pair, dy: ir.Value) -> Cotangents:
    """`rescale` for functions with a kink that are exponential beside it."""
    return rescale(pair, dy, near=1e-5)


def scaled(pair: Pair, dy: ir.Value) -> Cotangents:
    """`rescale` for functions that bend over distances of about X."""
    return rescale(pair, dy, near=NEAR, relative=True)


def power(pair: Pair, dy: ir.Value) -> Cotangents:
    """Y = X^e; m = X + X' for squares."""
    e = pair.node.inputs[1]
    square = e is not None and e.const_value is not None and e.const_value.size == 1 and e.const_value.numpy() == 2
    return pair.halfway(dy) if square else scaled(pair, dy)


def sqrt(pair: Pair, dy: ir.Value) -> Cotangents:
    """m = 1 / (Y + Y'), 0 where both are 0."""
    op, (y, other) = pair.op, pair.outputs
    total = y + other
    zero = op.Equal(total, 0)
    return op.Where(zero, 0, dy / op.Where(zero, 1, total))


def reciprocal(pair: Pair, dy: ir.Value) -> Cotangents:
    """m = -Y Y'."""
    y, other = pair.outputs
    return -dy * y * other


def division(pair: Pair, dy: ir.Value) -> Cotangents:
    """Y = A / B, so that A = Y B is a product: ΔY = (ΔA - Ȳ ΔB) / B̄ with means Ȳ and B̄.

    A times 1 / B would do as well, but blow up where one B is small. It is taken where B changes its sign.
    """
    op, (a, other_a), (b, other_b), (y, other) = pair.op, pair.inputs(0), pair.inputs(1), pair.outputs
    r, s = op.Reciprocal(b), op.Reciprocal(other_b)
    alike = op.Greater(b * other_b, 0)
    total = op.Where(alike, b + other_b, 1)
    da = op.Where(alike, 2 / total, (r + s) * 0.5)
    db = op.Where(alike, (y + other) / total, (a + other_a) * 0.5 * r * s)
    return [pair.sum_to(dy * da, 0), pair.sum_to(-dy * db, 1)]


def einsum(pair: Pair, dy: ir.Value) -> Cotangents:
    """Y = a sum of products: exact halfway for two that vary."""
    return pair.halfway(dy) if len(pair.moving) == 2 else along(pair, dy)


def product(pair: Pair, dy: ir.Value) -> Cotangents:
    """Y = A B: B̄ for A, Ā for B. Where B is one over something, as 1 / σ, what `division` by that would give."""
    given = (pair.op.node or pair.node).inputs
    inverse = next((i for i in pair.moving if _is_inverse(given[i], pair.twins)), None)
    if inverse is None:
        return pair.halfway(dy)
    op, (a, other_a), (r, s), (y, other) = pair.op, pair.inputs(1 - inverse), pair.inputs(inverse), pair.outputs
    alike = op.Greater(r * s, 0)
    total = op.Where(alike, r + s, 1)
    da = op.Where(alike, 2 * r * s / total, (r + s) * 0.5)
    dr = op.Where(alike, (y + other) / total, (a + other_a) * 0.5)
    found = [pair.sum_to(dy * da, 1 - inverse), pair.sum_to(dy * dr, inverse)]
    return found[::-1] if inverse == 0 else found


def _is_inverse(value: ir.Value | None, twins: Twins) -> bool:
    """True for 1 / X, also times what does not differ or in another shape."""
    while value is not None and (node := value.producer()) is not None:
        first, *rest = node.inputs
        if node.op_type == "Reciprocal" or (node.op_type == "Div" and first not in twins):
            return True
        if node.op_type == "Mul" and not (first in twins and rest[0] in twins):
            value = first if first in twins else rest[0]
        elif node.op_type in _SHAPED:
            value = first
        else:
            return False
    return False


def norm(pair: Pair, dy: ir.Value) -> Cotangents:
    """Y = √(Σ X²): by the rule of Σ X² halfway, over Y + Y'."""
    return RULES["ReduceSumSquare"](pair.op, pair.at(0.5), sqrt(pair, dy))


def absolute(pair: Pair, dy: ir.Value) -> Cotangents:
    """Y = Σ |X|: the rescale rule of |X|."""
    op, (x, reference) = pair.op, pair.inputs(0)
    step = x - reference
    apart = op.Greater(op.Abs(step), EQUAL)
    m = op.Where(apart, (op.Abs(x) - op.Abs(reference)) / op.Where(apart, step, 1), op.Sign(x))
    return as_list(RULES["ReduceSum"](op, pair.node, dy))[0] * m


def winner(pair: Pair, dy: ir.Value, *_: ir.Value | None) -> Cotangents:
    """Of Y = max X, with Z = max(Y, Y'): Z - Y' comes from the winner at X, Y - Z from the one at X'; over X - X'."""
    op, (y, other) = pair.op, pair.outputs
    most = op.Min(y, other) if "Min" in pair.node.op_type else op.Max(y, other)
    here = pair.gradient(dy * (most - other))
    there = pair.by_rule(pair.other, dy * (y - most))
    gradient = pair.gradient(dy)
    found: list[ir.Value | None] = [None] * len(pair.node.inputs)
    for i in pair.moving:
        first, second, same = here[i], there[i], gradient[i]
        if first is not None and second is not None and same is not None:
            x, reference = pair.inputs(i)
            step = x - reference
            apart = op.Greater(op.Abs(step), EQUAL)
            found[i] = op.Where(apart, (first + second) / op.Where(apart, step, 1), same)
    return found


def where(pair: Pair, dy: ir.Value) -> Cotangents:
    """Y = A or B. Where the condition differs, Y - Y' is shared evenly by the branches that do."""
    op, (y, other) = pair.op, pair.outputs
    condition, before = pair.inputs(0)
    if condition is before:
        return pair.gradient(dy)
    switched = op.Xor(condition, before)
    steps = {i: pair.inputs(i)[0] - pair.inputs(i)[1] for i in pair.moving if i}
    apart = {i: op.Greater(op.Abs(step), EQUAL) for i, step in steps.items()}
    if not apart:
        return pair.gradient(dy)
    count = op.Max(op.Sum(*(op.mask(a, dy) for a in apart.values())), 1.0)
    found: list[ir.Value | None] = [None] * 3
    for i, step in steps.items():
        kept = op.Where(condition, *((dy, 0) if i == 1 else (0, dy)))
        share = op.Where(apart[i], dy * (y - other) / count / op.Where(apart[i], step, 1), 0)
        found[i] = pair.sum_to(op.Where(switched, share, kept), i)
    return found


def quantised(pair: Pair, dy: ir.Value, *_: ir.Value | None) -> Cotangents:
    """The rescale rule for steps apart; the straight-through gradient for less. Saturation is what rectifies here."""
    op, scale, gradient = pair.op, pair.node.inputs[1], pair.gradient(dy)
    if pair.moving != [0] or scale is None or op.rank(scale):
        return gradient
    (x, reference), (y, other) = pair.inputs(0), (op.Cast(v, to=dy.dtype) for v in pair.outputs)
    step = x - reference
    apart = op.GreaterOrEqual(op.Abs(step), scale)
    return pair.only(0, op.Where(apart, dy * (y - other) / op.Where(apart, step, 1), gradient[0]))


LINES: dict[str, Lines] = {
    **dict.fromkeys(PRODUCTS | {"ReduceSumSquare"}, halfway),
    **dict.fromkeys(KINKED, rescale),
    **dict.fromkeys(SMOOTH, smooth),
    **dict.fromkeys(TAILED, tailed),
    **dict.fromkeys(WINNERS, winner),
    **dict.fromkeys(["Log", "Acosh", "Atanh"], scaled),
    **dict.fromkeys(["LayerNormalization", "RMSNormalization", "InstanceNormalization"], normalisation),
    **dict.fromkeys(["GroupNormalization", "MeanVarianceNormalization"], normalisation),
    "Mul": product, "Einsum": einsum, "Div": division, "Pow": power, "Sqrt": sqrt, "Reciprocal": reciprocal,
    "ReduceL1": absolute, "ReduceL2": norm, "Softmax": softmax, "LogSoftmax": log_softmax, "Where": where,
    "QuantizeLinear": quantised,
}  # fmt: skip
_KNOWN = ("Relu", "Elu", "LeakyRelu", "Sigmoid", "Tanh", "Softplus")
CAPTUM: dict[str, Lines] = {**dict.fromkeys(_KNOWN, rescale), "MaxPool": winner, "Softmax": captum_softmax}
