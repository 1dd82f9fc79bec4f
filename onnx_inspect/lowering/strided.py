"""The adjoint of a convolution with strides, phase by phase.

With a stride of s, positions of dX that are equal modulo s see the same taps of the kernel: each such phase is a
convolution without stride. What is left is to interleave them, which channels-last layout does by copying whole rows.
"""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from ..emit import Op, inputs
from .table import folded

WIDE = 16  # channels of a block; what does not fill blocks is copied around more often than it is computed
FIRST, LAST = (0, 3, 1, 2), (0, 2, 3, 1)  # to channels first, and last
MANY = 512  # channels from which on a 1x1 kernel is worth it


@dataclass(frozen=True)
class _Axis:
    """One axis of Y = Wᵀ ⋆ X: Y[s i + q] = Σₜ W[k₀ + s t] X[i + o - t], k₀ = (q + p) mod s, o = ⌊(q + p) / s⌋."""

    kernel: int
    stride: int
    begin: int
    end: int
    more: int

    @property
    def grown(self) -> int:
        """By how many positions a phase is longer than X."""
        return -(-(self.kernel + self.more - self.stride - self.begin - self.end) // self.stride)

    @property
    def over(self) -> int:
        """By how many positions all phases are longer than Y."""
        return self.stride * (self.grown + 1) - (self.kernel + self.more - self.begin - self.end)

    def taps(self, phase: int) -> int:
        """How many taps a phase has."""
        return len(range((phase + self.begin) % self.stride, self.kernel, self.stride))

    def last(self, phase: int) -> int:
        """The last of them."""
        return (phase + self.begin) % self.stride + (self.taps(phase) - 1) * self.stride

    def pads(self, phase: int) -> tuple[int, int]:
        """The padding of X for a phase."""
        shift = (phase + self.begin) // self.stride
        return self.taps(phase) - 1 - shift, self.grown + shift


def in_phases(op: Op, node: ir.Node) -> ir.Value | None:
    """Y = Wᵀ ⋆ X as its phases, side by side; None where a transposed convolution is faster."""
    x, w, b = inputs(node, 3)
    group = node.attributes.get_int("group", 1)
    strides, dilations, pads, more = (
        list(node.attributes.get_ints(k, ())) for k in ("strides", "dilations", "pads", "output_padding")
    )
    if b is not None or not folded(w) or len(strides) != 2 or set(dilations) != {1} or not (pads and more):
        return None
    ins, outs, *kernel = w.shape.numpy()
    depthwise = group == ins and outs == 1
    channels = outs * group
    if not (depthwise or group == 1) or channels % WIDE or ins % WIDE or set(strides) != {2}:
        return None
    rows, columns = (_Axis(*at) for at in zip(kernel, strides, pads[:2], pads[2:], more, strict=True))
    worth = max(kernel) > 1 or channels >= MANY
    padded = [n for axis in (rows, columns) for q in range(axis.stride) for n in axis.pads(q) if axis.taps(q)]
    if not worth or not rows.taps(0) or not columns.taps(0) or min(padded) < 0:
        return None

    def phase(i: int, j: int) -> ir.Value:
        w_ = op.Slice(w, [rows.last(i), columns.last(j)], [-(2**31)] * 2, [2, 3], [-s for s in strides])
        w_ = w_ if depthwise else op.Transpose(w_, perm=[1, 0, 2, 3])
        (top, bottom), (left, right) = rows.pads(i), columns.pads(j)
        return op.Conv(x, w_, group=group, pads=[top, left, bottom, right])

    lines: list[ir.Value] = []
    for i in range(rows.stride):
        if not rows.taps(i):
            lines.append(op.full(op.Shape(lines[0]), 0, w.dtype or ir.DataType.FLOAT))
            continue
        each = [phase(i, j) for j in range(columns.stride) if columns.taps(j)]
        line = op.Transpose(op.Concat(*each, axis=1) if len(each) > 1 else each[0], perm=LAST)
        if gap := columns.stride - len(each):  # a kernel shorter than the stride leaves columns empty
            line = op.Pad(line, [0] * 7 + [gap * channels])
        lines.append(op.Reshape(line, [0, 0, -1, channels]))
    y = op.Concat(*lines, axis=2)
    y = op.Reshape(y, op.Concat([0, -1], op.Shape(lines[0], start=2, end=3), [channels], axis=0))
    if rows.over or columns.over:
        y = op.Slice(y, [0, 0], [-rows.over or 2**31, -columns.over or 2**31], [1, 2])
    return op.Transpose(y, perm=FIRST)


def times(op: Op, dy: ir.Value, factor: ir.Value) -> ir.Value:
    """dY times what has its shape; phases, which lie channels last, as convolutions may take them, stay so."""
    last = dy.producer()
    if last is None or last.op_type != "Transpose" or tuple(last.attributes.get_ints("perm", ())) != FIRST:
        return op.Mul(dy, factor)
    return op.Transpose(op.Mul(last.inputs[0], op.Transpose(factor, perm=LAST)), perm=FIRST)
