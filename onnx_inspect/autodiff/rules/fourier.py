"""Fourier transforms. Complex numbers are pairs along the last axis."""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import onnx_ir as ir

from ...emit import Op, inputs
from ..table import Cotangents, constant, rule
from .index import INT64, scatter_add


@rule("DFT")
def dft(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = F X over n elements, X cropped or filled with zeros to them: dX = F* dY, which is n times the inverse."""
    x, length, axis = inputs(node, 3)
    inverse, onesided = (node.attributes.get_int(name, 0) for name in ("inverse", "onesided"))
    axis = op.const(-2, INT64) if axis is None else op.Reshape(op.Cast(axis, to=INT64), [])
    size = _size(op, x, axis)
    if length is not None:
        n = op.Reshape(op.Cast(length, to=INT64), [1])
    else:
        n = (size - 1) * 2 if inverse and onesided else size
    dx = _adjoint(op, dy, n, axis, inverse)
    if inverse and onesided:
        shape = op.ScatterElements([1] * op.rank(x), op.Reshape(axis, [1]), [-1])
        dx = dx * op.Reshape(op.Cast(_uses(op, size, n), to=dy.dtype), shape)
    dx = op.Pad(dx, op.Concat([0], size - _size(op, dx, axis), axis=0), None, op.Reshape(axis, [1]))
    return op.Slice(dx, [0], op.size(x, -1), [-1])


@rule("STFT")
def stft(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = F (window X) over one frame after another; dX adds the frames up where they overlap."""
    x, step, window, length = inputs(node, 4)
    n = op.Reshape(op.Cast(length, to=INT64), [1]) if window is None else op.size(window, 0)
    frames = op.Slice(_adjoint(op, dy, n, op.const(2, INT64), 0), [0], op.size(x, -1), [-1])
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


def _adjoint(op: Op, dy: ir.Value, n: ir.Value, axis: ir.Value, inverse: int) -> ir.Value:
    """The adjoint of a transform of n elements, of which dY may lack the last ones."""
    missing = n - _size(op, dy, axis)
    dy = op.Pad(dy, op.Concat([0], missing, axis=0), None, op.Reshape(axis, [1]))
    dx = op.DFT(dy, None, axis, inverse=1 - inverse)
    count = op.Cast(n, to=dy.dtype)
    return dx / count if inverse else dx * count


def _uses(op: Op, size: ir.Value, n: ir.Value) -> ir.Value:
    """How often the onesided inverse uses each of the first n elements of its input: at their place, and mirrored.

    As onnxruntime does, also where it is given more or less than half of the spectrum: mirrored are all that it is
    given but the first one, and for even n the last one; over what lies at their places, if anything does.
    """
    zero, one = op.const(0, INT64), op.const(1, INT64)
    k = op.Range(zero, op.Squeeze(n, [0]), one)
    last = size - 1 - op.Cast(op.Equal(op.Mod(n, 2), 0), to=INT64)
    stays = op.Or(op.Equal(k, 0), op.Less(k + last, n))
    mirrored = op.And(op.Greater(k, 0), op.LessOrEqual(k, last))
    return op.Cast(stays, to=INT64) + op.Cast(mirrored, to=INT64)


def _size(op: Op, x: ir.Value, axis: ir.Value) -> ir.Value:
    """The size along an axis that may be known only at run time, as a vector."""
    return op.Gather(op.shape(x), op.Reshape(axis, [1]))


constant("MelWeightMatrix")  # its triangles stand on whole frequencies: the edges, which are floats, are rounded
