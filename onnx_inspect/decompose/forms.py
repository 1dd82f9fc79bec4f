"""Forms of standard operators that onnxruntime has no kernel for, or gets wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
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


def _covers_less(node: ir.Node) -> bool:
    _, key, _, mask, past = inputs(node, 5)
    known = [v is not None and v.shape is not None for v in (key, mask)]
    if not all(known) or (past is not None and past.shape is None):
        return False
    sizes = [key.shape[-2], *([past.shape[2]] if past is not None else []), mask.shape[-1]]
    return all(isinstance(size, int) for size in sizes) and sizes[-1] < sum(sizes[:-1])


@decomposition("Attention", when=_covers_less)
def short_mask(op: Op, node: ir.Node) -> Any:
    """A mask of fewer keys than there are: the rest is masked."""
    q, key, v, mask, past, *rest = inputs(node, 7)
    total = op.size(key, -2) if past is None else op.Add(op.size(key, -2), op.size(past, 2))
    missing = op.Sub(total, op.size(mask, -1))
    masked = op.const(np.array(False)) if mask.dtype == ir.DataType.BOOL else op.const(-np.inf, mask.dtype)
    mask = op.Pad(mask, op.Concat([0], missing, axis=0), masked, [-1])
    attributes = {name: a.value for name, a in node.attributes.items()}
    return op.Attention(q, key, v, mask, past, *rest, outputs=len(node.outputs), **attributes)
