"""What onnxruntime's CUDA provider has kernels for, where gradients ask for something else.

What it has none for runs on the CPU, between two copies that wait for the card. So this table is about where nodes run.
It was made by asking the CUDA provider of onnxruntime 1.31.1 for the place of every node of every rule's gradient, and
of those of real networks; neither it nor what it spares has been timed on a card.

As they are, since cuDNN or the provider has them: transposed convolutions with equal pads (backward data), MaxPool with
Indices, ScatterElements that adds, Where, masks, Resize, CumSum, Mod, OneHot, If, Loop and Scan. On the CPU, since
nothing else stands for them: DFT, Unique, CumProd, AffineGrid, small sums of sizes; and from opset 22 on MaxPool, there
as in the model itself.
"""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import onnx_ir as ir

from ..emit import Op, inputs
from .table import Lowering

_END = 2**31 - 1


def conv_transpose(op: Op, node: ir.Node) -> ir.Value | None:
    """X ⋆ᵀ W with unequal pads, which has no kernel: with the smaller of each two, and cut to size."""
    x, w, b = inputs(node, 3)
    pads = list(node.attributes.get_ints("pads", ()))
    begin, end = pads[: len(pads) // 2], pads[len(pads) // 2 :]
    if begin == end or "output_shape" in node.attributes:
        return None
    both = [min(pair) for pair in zip(begin, end, strict=True)]
    how = {k: a.value for k, a in node.attributes.items()} | {"pads": both + both}
    starts = [p - q for p, q in zip(begin, both, strict=True)]
    ends = [q - p or _END for p, q in zip(end, both, strict=True)]
    return op.Slice(op.ConvTranspose(x, w, b, **how), starts, ends, list(range(2, 2 + len(both))))


CUDA: dict[str, Lowering] = {"ConvTranspose": conv_transpose}
