"""Transposed convolutions whose padding is an input."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from ..emit import Op, inputs
from .table import decomposition


@decomposition("com.microsoft::ConvTransposeWithDynamicPads")
def conv_transpose_with_dynamic_pads(op: Op, node: ir.Node) -> Any:
    """Y = ConvTranspose(X, W, B) without what the pads cut off: first all begins, then all ends."""
    x, w, pads, b = inputs(node, 4)
    if node.attributes.get_string("auto_pad", "NOTSET") != "NOTSET":
        raise op.unsupported("it has an auto_pad beside its pads")
    y = op.ConvTranspose(x, w, b, **{name: a.value for name, a in node.attributes.items()})
    if pads is None:
        return y
    axes = list(range(2, op.rank(w)))
    begins, ends = op.Split(pads, axis=0, num_outputs=2, outputs=2)
    return op.Slice(y, begins, op.Sub(op.Shape(y, start=2), ends), axes)
