"""Fourier transforms. Complex numbers are pairs along the last axis."""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import onnx_ir as ir

from ...emit import Op, inputs, ints
from ..table import Cotangents, rule
from .index import INT64, scatter_add


@rule("DFT")
def dft(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = F X over n elements, X cropped or filled with zeros to them: dX = F* dY, which is n times the inverse."""
    x, length, given = inputs(node, 3)
    inverse = node.attributes.get_int("inverse", 0)
    axes = [-2] if given is None else ints(given)
    if axes is None:
        raise op.unsupported("its axis is known only at run time; give it as a constant")
    if inverse and node.attributes.get_int("onesided", 0):
        raise op.unsupported("the onesided inverse is; use the inverse of the whole spectrum")
    axis = axes[0] % op.rank(x)
    n = op.size(x, axis) if length is None else op.Reshape(op.Cast(length, to=INT64), [1])
    dx = _adjoint(op, dy, n, axis, inverse)
    dx = op.Pad(dx, op.Concat([0], op.size(x, axis) - n, axis=0), None, [axis])
    return op.Slice(dx, [0], op.size(x, -1), [-1])


@rule("STFT")
def stft(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = F (window X) over one frame after another; dX adds the frames up where they overlap."""
    x, step, window, length = inputs(node, 4)
    n = op.Reshape(op.Cast(length, to=INT64), [1]) if window is None else op.size(window, 0)
    frames = op.Slice(_adjoint(op, dy, n, 2, 0), [0], op.size(x, -1), [-1])
    zero, one = op.const(0, INT64), op.const(1, INT64)
    first = op.Range(zero, op.Squeeze(op.Shape(dy, start=1, end=2), [0]), one) * op.Cast(step, to=INT64)
    index = op.Reshape(op.Unsqueeze(first, [1]) + op.Range(zero, op.Squeeze(n, [0]), one), [-1])
    dw = None
    if op.wants(window):
        dw = op.ReduceSum(frames * op.like(op.Gather(x, index, axis=1), frames), [0, 1, 3], keepdims=0)
    if window is not None:
        frames = frames * op.Unsqueeze(window, [1])
    rows = op.Reshape(frames, op.Concat([0, -1], op.size(x, -1), axis=0))
    index = op.Expand(op.Unsqueeze(index, [0, 2]), op.Shape(rows))
    return [scatter_add(op, "ScatterElements", op.shape(x), index, rows, axis=1), None, dw]


def _adjoint(op: Op, dy: ir.Value, n: ir.Value, axis: int, inverse: int) -> ir.Value:
    """The adjoint of a transform of n elements, of which dY may lack the last ones."""
    missing = n - op.Shape(dy, start=axis, end=axis + 1)
    dy = op.Pad(dy, op.Concat([0], missing, axis=0), None, [axis])
    dx = op.DFT(dy, None, op.const(axis, INT64), inverse=1 - inverse)
    count = op.Cast(n, to=dy.dtype)
    return dx / count if inverse else dx * count
