"""What is fast on onnxruntime's CPU provider, by measurement.

Its convolutions are blocked and fused; its transposed ones are a product and a scatter. Everything else that counts is
how often memory is read.
"""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from functools import reduce

import onnx_ir as ir

from ..emit import Op, inputs
from .pooling import pooled
from .table import Lowering

FEW = 8  # channels that a convolution cannot fill its blocks with
STEEP = 2.0**100  # a slope that makes a step of a line, down to 1e-30
LARGE = 1e6  # bounds that, times the slope, stay far from infinity


def conv_transpose(op: Op, node: ir.Node) -> ir.Value | None:
    """X ⋆ᵀ W = X ⋆ W, flipped and with its channels exchanged, where there is no stride."""
    x, w, b = inputs(node, 3)
    group = node.attributes.get_int("group", 1)
    strides, dilations = (list(node.attributes.get_ints(k, ())) for k in ("strides", "dilations"))
    pads, more = (list(node.attributes.get_ints(k, ())) for k in ("pads", "output_padding"))
    if b is not None or w.const_value is None or not (strides and dilations and pads and more):
        return None
    shape = w.const_value.shape.numpy()
    kernel, ins = list(shape[2:]), shape[1] * group
    rank = len(kernel)
    if set(strides) == {1} and ins > FEW:
        reach = [d * (k - 1) for d, k in zip(dilations, kernel, strict=True)]
        begin = [r - p for r, p in zip(reach, pads[:rank], strict=True)]
        end = [r - p + m for r, p, m in zip(reach, pads[rank:], more, strict=True)]
        if min(*begin, *end) < 0:
            return None
        return op.Conv(x, _flipped(op, w, group), group=group, dilations=dilations, pads=begin + end)
    return None


def _flipped(op: Op, w: ir.Value, group: int) -> ir.Value:
    """W (M, C/g, ...) as (C, M/g, ...), its kernel turned around; onnxruntime folds it into a constant."""
    assert w.const_value is not None
    outs, ins, *kernel = w.const_value.shape.numpy()
    axes = [2 + a for a, k in enumerate(kernel) if k > 1]
    if axes:
        w = op.Slice(w, [-1] * len(axes), [-(2**31)] * len(axes), axes, [-1] * len(axes))
    if group == 1:
        return op.Transpose(w, perm=[1, 0, *range(2, 2 + len(kernel))])
    if ins == 1 and outs == group:
        return w
    w = op.Reshape(w, [group, outs // group, ins, *kernel])
    w = op.Transpose(w, perm=[0, 2, 1, *range(3, 3 + len(kernel))])
    return op.Reshape(w, [group * ins, outs // group, *kernel])


def masked(op: Op, node: ir.Node) -> ir.Value | None:
    """dY where Y > 0 (and Y < high): steep lines, cut off at 0 and 1, are fewer passes than comparisons and a cast."""
    dy, mask = node.inputs
    sides = _conditions(mask)
    if not sides or any(y.dtype != ir.DataType.FLOAT for _, y, _ in sides):
        return None
    # The mask first: it is there before dY, in the layout of Y, which dY may not share.
    lines = [(STEEP, -bound * STEEP) if kind == "Greater" else (-STEEP, bound * STEEP) for kind, _, bound in sides]
    steps = [op.HardSigmoid(y, alpha=a, beta=b) for (_, y, _), (a, b) in zip(sides, lines, strict=True)]
    return op.Mul(dy, reduce(op.Mul, steps))


def _conditions(mask: ir.Value | None) -> list[tuple[str, ir.Value, float]]:
    """The comparisons with numbers that a mask of zeros and ones is made of; none if it is made otherwise."""
    cast = mask.producer() if mask is not None else None
    if cast is None or cast.op_type != "Cast" or cast.inputs[0] is None or (node := cast.inputs[0].producer()) is None:
        return []
    found = [node] if node.op_type != "And" else [x.producer() for x in node.inputs if x is not None]
    sides = []
    for side in found:
        if side is None or side.op_type not in ("Greater", "Less"):
            return []
        y, bound = side.inputs
        if y is None or bound is None or bound.const_value is None or bound.const_value.size != 1:
            return []
        if abs(number := float(bound.const_value.numpy().item())) > LARGE:
            return []
        sides.append((side.op_type, y, number))
    return sides


CPU: dict[str, Lowering] = {"ConvTranspose": conv_transpose, "Mul": masked, "ScatterElements": pooled}
