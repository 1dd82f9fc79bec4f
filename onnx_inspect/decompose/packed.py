"""Weights of a few bits: blocks of them share a scale, and several lie in a byte."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from ..emit import Op, inputs
from .table import decomposition

UINT8, UINT4 = ir.DataType.UINT8, ir.DataType.UINT4


@decomposition("com.microsoft::MatMulNBits")
def matmul_nbits(op: Op, node: ir.Node) -> Any:
    """Y = A Wᵀ + bias, W = scale (B - zero) per block of a row; a byte holds its first number in its lowest bits."""
    a, b, scales, zeros, groups, bias = inputs(node, 6)
    rows, width, block = (node.attributes[name].as_int() for name in ("N", "K", "block_size"))
    bits, blocks = node.attributes.get_int("bits", 4), -(-width // block)
    if groups is not None or node.attributes.get_int("weight_prepacked", 0) != 0:
        raise op.unsupported("its weights are reordered (g_idx or weight_prepacked); export it without")
    scales, w = op.Reshape(scales, [rows, blocks]), _weights(op, b, bits, rows, blocks * block)
    fractions = zeros is not None and zeros.dtype != UINT8
    if zeros is None or fractions:
        middle = 0 if fractions else 2 ** (bits - 1)
        zero = op.const(np.full((rows, blocks), middle, (w.dtype or UINT8).numpy()))
    else:
        zero = op.Cast(op.Slice(_apart(op, zeros, bits, rows), [0], [blocks], [1]), to=w.dtype)
    w = op.DequantizeLinear(w, scales, zero, axis=1, block_size=block, dtype=scales.dtype)
    if fractions:
        shift = op.Reshape(op.Mul(op.Reshape(zeros, [rows, blocks]), scales), [rows, blocks, 1])
        w = op.Reshape(op.Sub(op.Reshape(w, [rows, blocks, block]), shift), [rows, blocks * block])
    w = w if blocks * block == width else op.Slice(w, [0], [width], [1])
    y = op.MatMul(a, op.Transpose(w, perm=[1, 0]))
    return y if bias is None else y + bias


def _weights(op: Op, b: ir.Value, bits: int, rows: int, width: int) -> ir.Value:
    """The numbers as (rows, width). Those of 4 bits need not be taken apart: the standard packs them the same way."""
    tensor, name, shape = b.const_value, op.fresh("weight"), ir.Shape([rows, width])
    if bits != 4 or tensor is None:
        return op.Reshape(_apart(op, b, bits, rows), [rows, width])  # type: ignore[no-any-return]
    packed: ir.TensorProtocol
    if isinstance(tensor, ir.ExternalTensor):  # stays where it lies
        place = (tensor.location, tensor.offset, tensor.length)
        packed = ir.ExternalTensor(*place, UINT4, shape=shape, name=name, base_dir=tensor.base_dir)
    else:
        packed = ir.PackedTensor(tensor.numpy().reshape(-1), UINT4, shape=shape, name=name)
    value = ir.Value(name=name, type=ir.TensorType(UINT4), shape=shape, const_value=packed)
    op.home.register_initializer(value)
    if len(b.uses()) == 1 and b.name is not None and b.name in op.home.initializers:  # or the model would have it twice
        del op.home.initializers[b.name]
    return value


def _apart(op: Op, x: ir.Value, bits: int, rows: int) -> Any:
    """Bytes as (rows, ...), taken apart into numbers of some bits."""
    x = op.Reshape(x, [rows, -1])
    if bits == 8:
        return x
    if bits not in (2, 4):
        raise op.unsupported(f"its numbers have {bits} bits, and do not end where bytes do")
    return unpacked(op, x, bits, 2)


def unpacked(op: Op, x: ir.Value, bits: int, rank: int) -> Any:
    """Bytes along the last axis as the numbers of fewer bits within them, lowest first."""
    steps = np.arange(0, 8, bits, dtype=np.uint8)
    shifted = op.BitShift(op.Unsqueeze(x, [-1]), steps, direction="RIGHT")
    return op.Reshape(op.BitwiseAnd(shifted, np.uint8(2**bits - 1)), [*[0] * (rank - 1), -1])
