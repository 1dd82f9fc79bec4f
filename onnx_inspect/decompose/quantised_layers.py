"""Whole layers with quantised weights."""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from ..emit import Op, inputs
from ..structure import label
from .common import FLOAT
from .packed import unpacked
from .quantised import attributes, reals
from .quantised_products import INT32, quantised
from .table import decomposition

UINT8 = ir.DataType.UINT8
_EIGHT = {ir.DataType.INT4: ir.DataType.INT8, ir.DataType.UINT4: UINT8, UINT8: UINT8}


@decomposition("com.microsoft::DynamicQuantizeLSTM")
def dynamic_quantize_lstm(op: Op, node: ir.Node) -> Any:
    """LSTM with the weights that the integers stand for, and its input on a grid of 256 steps.

    onnxruntime also puts the state on such a grid, at every step; that rounding is left out here.
    """
    op.notes.append(f"'{label(node)}' (DynamicQuantizeLSTM) is computed without rounding its state to 8 bits")
    x, w, r, b, lengths, h, c, p, w_scale, w_zero, r_scale, r_zero = inputs(node, 12)
    x, w, r = reals(op, *quantised(op, x)), _gates(op, w, w_scale, w_zero), _gates(op, r, r_scale, r_zero)
    return op.LSTM(x, w, r, b, lengths, h, c, p, outputs=3, **attributes(node))[: len(node.outputs)]


def _gates(op: Op, w: ir.Value, scale: ir.Value, zero: ir.Value) -> ir.Value:
    """Weights (directions, inputs, gates) as floats (directions, gates, inputs); a grid per direction, or per gate."""
    wide, grid = op.Transpose(op.Cast(w, to=FLOAT), perm=[0, 2, 1]), [0, -1, 1]
    return (wide - op.Reshape(op.Cast(zero, to=FLOAT), grid)) * op.Reshape(scale, grid)


@decomposition("com.microsoft::QAttention")
def qattention(op: Op, node: ir.Node) -> Any:
    """Attention of D(X) with the weights D(W), which is taken apart next."""
    x, w, b, x_scale, w_scale, mask, x_zero, w_zero, past = inputs(node, 9)
    reads = [reals(op, x, x_scale, x_zero), reals(op, w, w_scale, w_zero, axis=1), b, mask, past]
    gives = [ir.Value(name=op.fresh("Attention")) for _ in node.outputs]
    op.graph.append(ir.node("Attention", reads, node.attributes, domain=node.domain, outputs=gives, name=node.name))
    return gives


@decomposition("com.microsoft::QEmbedLayerNormalization")
def qembed_layer_normalization(op: Op, node: ir.Node) -> Any:
    """LayerNormalization of the sum of three embeddings, and how many of the mask's numbers are 1."""
    ids, segments, *tables, mask = inputs(node, 8)
    scales, zeros = node.inputs[8:13], node.inputs[13:18]

    def real(i: int, q: Any) -> ir.Value:
        return reals(op, q, scales[i], zeros[i])  # type: ignore[arg-type]

    length = op.Shape(ids, start=1, end=2)
    x = real(0, op.Gather(tables[0], ids)) + real(1, op.Slice(tables[1], [0], length, [0]))
    if segments is not None:
        x = x + real(2, op.Gather(tables[2], segments))
    epsilon = node.attributes.get_float("epsilon", 1e-12)
    y = op.LayerNormalization(x, real(3, tables[3]), real(4, tables[4]), epsilon=epsilon)
    if mask is None:
        return y, op.full(op.Shape(ids, end=1), 0, INT32)
    return y, op.ReduceSum(op.Cast(op.Equal(mask, 1), to=INT32), [1], keepdims=0)


@decomposition("com.microsoft::GatherBlockQuantized")
def gather_block_quantized(op: Op, node: ir.Node) -> Any:
    """Y = the slices of D(data) at the indices, with a scale per block of numbers along an axis."""
    data, indices, scales, zeros = inputs(node, 4)
    if data.dtype not in _EIGHT:
        raise op.unsupported(f"its data are {data.dtype} numbers, and only integers are covered")
    rank, bits = op.rank(data), node.attributes.get_int("bits", 4)
    axis, along = node.attributes.get_int("gather_axis", 0) % rank, node.attributes.get_int("quantize_axis", 1) % rank
    if zeros is None and data.dtype == UINT8:
        middle = sum(1 << bits - 1 << at for at in range(0, 8, bits))
        zeros = op.full(op.shape(scales), middle, UINT8)  # more than are needed where they are packed
    block = node.attributes.get_int("block_size", 128)
    if axis == along:
        return op.Gather(reals(op, data, scales, zeros, axis=along, block_size=block), indices, axis=axis)
    q, scale, zero = (x and op.Gather(_wide(op, x), indices, axis=axis) for x in (data, scales, zeros))
    to = op.rank(indices) - 1
    if data.dtype == UINT8 and bits < 8:
        q, zero = unpacked(op, q, bits, rank + to), unpacked(op, zero, bits, rank + to)
        zero = op.Slice(zero, [0], op.Shape(scale, start=-1), [-1])
    return reals(op, q, scale, zero, axis=along if along < axis else along + to, block_size=block)


def _wide(op: Op, x: ir.Value) -> ir.Value:
    """Integers of 4 bits in 8, for Gather."""
    return op.Cast(x, to=_EIGHT[x.dtype]) if x.dtype in _EIGHT and x.dtype != UINT8 else x
