"""Adjoints of what is cut off: cotangents times zeros and ones."""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from functools import reduce

import onnx_ir as ir

from ..emit import Op
from .strided import times

STEEP = 2.0**100  # a slope that makes a step of a line, down to 1e-30
LARGE = 1e6  # bounds that, times the slope, stay far from infinity


def masked(op: Op, node: ir.Node) -> ir.Value | None:
    """dY where Y > 0 (and Y < high): steep lines, cut off at 0 and 1, are fewer passes than comparisons and a cast."""
    dy, mask = node.inputs
    sides = conditions(mask)
    if dy is None or not sides or any(y.dtype != ir.DataType.FLOAT for _, y, _ in sides):
        return None
    # The mask first: it is there before dY, in the layout of Y, which dY may not share.
    lines = [(STEEP, -bound * STEEP) if kind == "Greater" else (-STEEP, bound * STEEP) for kind, _, bound in sides]
    steps = [op.HardSigmoid(y, alpha=a, beta=b) for (_, y, _), (a, b) in zip(sides, lines, strict=True)]
    return times(op, dy, reduce(op.Mul, steps))


def conditions(mask: ir.Value | None) -> list[tuple[str, ir.Value, float]]:
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
