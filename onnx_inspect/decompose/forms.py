"""Forms of standard operators that onnxruntime has no kernel for, or gets wrong."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from ..emit import Op, inputs
from .table import decomposition

_UNSIGNED = (ir.DataType.UINT8, ir.DataType.UINT16, ir.DataType.UINT32, ir.DataType.UINT64)


@decomposition("GRU", "LSTM", "RNN", when=lambda node: bool(node.attributes.get_int("layout", 0)))
def batch_first(op: Op, node: ir.Node) -> Any:
    """layout=1: X and Y begin with the batch, and so do the states."""
    x, w, r, b, lengths, h, c, p = inputs(node, 8)
    first = [v if v is None else op.Transpose(v, perm=[1, 0, 2]) for v in (x, h, c)]
    attributes = {name: a.value for name, a in node.attributes.items() if name != "layout"}
    count = len(node.outputs)
    found = getattr(op, node.op_type)(first[0], w, r, b, lengths, *first[1:], p, outputs=count, **attributes)
    y, *states = [found] if count == 1 else found
    return [op.Transpose(y, perm=[2, 0, 1, 3]), *(op.Transpose(v, perm=[1, 0, 2]) for v in states)]


@decomposition("Pow", when=lambda node: node.inputs[1] is not None and node.inputs[1].dtype in _UNSIGNED)
def unsigned_exponent(op: Op, node: ir.Node) -> Any:
    """Xᵉ with an exponent of an unsigned type."""
    x, exponent = node.inputs
    return op.Pow(x, op.Cast(exponent, to=ir.DataType.INT64))


def _negative(node: ir.Node) -> bool:
    keeps = node.attributes.get_string("keep_aspect_ratio_policy", "stretch") != "stretch"
    return keeps and any(axis < 0 for axis in node.attributes.get_ints("axes", None) or ())


@decomposition("Resize", when=_negative)
def counted_from_the_front(op: Op, node: ir.Node) -> Any:
    """Axes counted from the end, which onnxruntime passes over where a policy keeps the aspect ratio."""
    rank = op.rank(inputs(node, 1)[0])
    attributes = {name: a.value for name, a in node.attributes.items()}
    return op.Resize(*node.inputs, **attributes | {"axes": [axis % rank for axis in attributes["axes"]]})
