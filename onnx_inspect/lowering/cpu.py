"""What is fast on onnxruntime's CPU provider, by measurement.

Its convolutions are blocked and fused; its transposed ones are a product and a scatter. Everything else that counts is
how often memory is read.
"""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import onnx_ir as ir

from ..emit import Op, inputs
from .gates import silu, spread
from .masks import masked
from .pooling import pooled
from .seeds import row, rows
from .sizes import shape, size
from .strided import in_phases
from .table import Lowering, folded

FEW = 8  # channels that a convolution cannot fill its blocks with


def conv_transpose(op: Op, node: ir.Node) -> ir.Value | None:
    """X ⋆ᵀ W = X ⋆ W, flipped and with its channels exchanged, where there is no stride."""
    x, w, b = inputs(node, 3)
    group = node.attributes.get_int("group", 1)
    strides, dilations = (list(node.attributes.get_ints(k, ())) for k in ("strides", "dilations"))
    pads, more = (list(node.attributes.get_ints(k, ())) for k in ("pads", "output_padding"))
    if b is not None or not folded(w) or not (strides and dilations and pads and more):
        return None
    shape = w.shape.numpy()
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
    assert w.shape is not None
    outs, ins, *kernel = w.shape.numpy()
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


def convolution(op: Op, node: ir.Node) -> ir.Value | None:
    """A convolution's adjoint: a row of it, else a convolution, else several."""
    return rows(op, node) or conv_transpose(op, node) or in_phases(op, node)


def added(op: Op, node: ir.Node) -> ir.Value | None:
    """A sum of two cotangents."""
    return silu(op, node) or spread(op, node)


CPU: dict[str, Lowering] = {
    "Add": added,
    "ConvTranspose": convolution,
    "Gemm": row,
    "MatMul": row,
    "Mul": masked,
    "ScatterElements": pooled,
    "Shape": shape,
    "Size": size,
}
