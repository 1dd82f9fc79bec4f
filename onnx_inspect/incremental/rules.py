"""How operators read boxes: pointwise ones, windows, and moves."""

from __future__ import annotations

import numpy as np

from ..fields.table import Unknown
from .table import At, Reading, Window, rule


@rule(
    "Abs Add Cast Ceil Celu Clip Cos Div Elu Erf Exp Floor Gelu HardSigmoid HardSwish Identity LeakyRelu Log Max Mean "
    "Min Mish Mul Neg PRelu Pow Reciprocal Relu Round Selu Shrink Sigmoid Sign Sin Softplus Softsign Sqrt Sub Sum "
    "Swish Tanh ThresholdedRelu Where"
)
def pointwise(at: At) -> Reading:
    """Each number of Y from those at its place, floats alone; constants are the same at all of them."""
    y, along = at.shape(at.node.outputs[0]), at.along
    for i, value in enumerate(at.node.inputs):
        if value is None:
            continue
        x = at.shape(value)
        sides = [x[a - len(y)] if a - len(y) >= -len(x) else 1 for a in along]
        if sides != ([y[a] for a in along] if i in at.boxed else [1] * len(along)) or (
            i in at.boxed and len(x) < len(y)
        ):
            raise Unknown
    return Reading(along, tuple(Window(y[a], y[a]) for a in along))


@rule("BatchNormalization Dropout")
def pointwise_in_the_first(at: At) -> Reading:
    """As above, the same at all positions."""
    at.first_alone()
    if at.node.attributes.get_int("training_mode", 0) or any(a < 2 for a in at.along):
        raise Unknown
    return Reading(at.along, at.points())


@rule("Concat Hardmax LogSoftmax LpNormalization Softmax Split")
def along_another_axis(at: At) -> Reading:
    """Numbers meet along an axis that the box does not have."""
    if at.axis(0 if at.node.op_type in ("Concat", "Split") else -1) in at.along:
        raise Unknown
    if at.node.op_type == "Concat" and len(at.boxed) < len(at.node.inputs):
        raise Unknown
    return Reading(at.along, at.points())


@rule("LRN")
def over_channels(at: At) -> Reading:
    """Over neighbouring channels."""
    if 1 in at.along:
        raise Unknown
    return Reading(at.along, at.points())


@rule("LayerNormalization RMSNormalization")
def over_the_last_axes(at: At) -> Reading:
    """Over all of the axes from `axis` on."""
    at.first_alone()
    if at.axis(-1) <= max(at.along) or any(y.uses() for y in at.node.outputs[1:]):
        raise Unknown
    for value in at.node.inputs[1:]:  # a scale may have an axis for positions, too
        shape = [1] * len(at.x) + list(at.shape(value) if value is not None else ())
        if any(shape[a - len(at.x)] != 1 for a in at.along):
            raise Unknown
    return Reading(at.along, at.points())


@rule("MatMul")
def matmul(at: At) -> Reading:
    """Rows times one matrix."""
    at.first_alone()
    if len(at.shape(at.node.inputs[1])) != 2 or len(at.x) - 1 in at.along:
        raise Unknown
    return Reading(at.along, at.points())


@rule("Transpose")
def transpose(at: At) -> Reading:
    """The same numbers, along other axes."""
    rank = len(at.x)
    perm = list(at.node.attributes.get_ints("perm", ())) or list(range(rank))[::-1]
    if perm[0] != 0:  # rows are samples
        raise Unknown
    return Reading(tuple(perm.index(a) for a in at.along), at.points())


@rule("Pad")
def pad(at: At) -> Reading:
    """A constant around the numbers, along axes of the box."""
    at.first_alone()
    given = [None if x is None else at.sized.numbers(x) for x in [*at.node.inputs, None, None][1:4]]
    pads, value, axes = given
    if at.node.attributes.get_string("mode", "constant") != "constant" or pads is None:
        raise Unknown
    rank = len(at.x)
    of = list(range(rank)) if axes is None else [int(a) % rank for a in axes]
    before, after = (dict(zip(of, map(int, half), strict=True)) for half in np.split(pads, 2))
    if any(n < 0 or (n and a not in at.along) for side in (before, after) for a, n in side.items()):
        raise Unknown
    ends = [(before.get(a, 0), after.get(a, 0)) for a in at.along]
    windows = (Window(at.x[a], at.x[a] + p + q, before=p, after=q) for a, (p, q) in zip(at.along, ends, strict=True))
    return Reading(at.along, tuple(windows), 0.0 if value is None else float(value.item()))


@rule("Conv MaxPool AveragePool LpPool")
def window(at: At) -> Reading:
    """Number o from s o + d k - p; pads are zeros, of a MaxPool nothing, and a mean may leave them out."""
    at.first_alone()
    node, attributes, rank = at.node, at.node.attributes, len(at.x) - 2
    if sorted(at.along) != list(range(2, rank + 2)) or attributes.get_string("auto_pad", "NOTSET") != "NOTSET":
        raise Unknown
    if any(y.uses() for y in node.outputs[1:]) or any(x in at.varying for x in node.inputs[1:] if x is not None):
        raise Unknown
    y, ceil = at.shape(node.outputs[0]), bool(attributes.get_int("ceil_mode", 0))
    kernel = list(attributes.get_ints("kernel_shape", ())) or list(at.shape(node.inputs[1])[2:])
    strides, dilations = (list(attributes.get_ints(name, ())) or [1] * rank for name in ("strides", "dilations"))
    pads = list(attributes.get_ints("pads", ())) or [0] * (2 * rank)
    windows = []
    for a in at.along:
        j = a - 2
        extent = dilations[j] * (kernel[j] - 1) + 1
        if extent > at.x[a] + pads[j] + pads[j + rank]:  # what a window that fits nowhere gives is up to the runtime
            raise Unknown
        windows.append(Window(at.x[a], y[a], extent, strides[j], pads[j], pads[j + rank], ceil))
    counted = attributes.get_int("count_include_pad", 0) or not any(pads)
    fixed = node.op_type != "AveragePool" or (counted and not ceil)
    return Reading(at.along, tuple(windows), (-np.inf if node.op_type == "MaxPool" else 0.0) if fixed else None)
