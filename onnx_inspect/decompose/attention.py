"""Attention in its older forms, written as products and a Softmax: what it looks at becomes a layer like any other."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from ..emit import Op, inputs
from .common import wanted
from .table import decomposition

INT64 = ir.DataType.INT64


@decomposition("com.microsoft::Attention")
def attention(op: Op, node: ir.Node) -> Any:
    """Y = softmax(scale Q Kᵀ + bias + mask) V per head, where Q, K and V are thirds of X W + b."""
    x, weight, b, mask, past, bias, length = inputs(node, 7)
    get = node.attributes.get_int
    if get("do_rotary", 0):
        raise op.unsupported("do_rotary=1 has its angles computed inside; give them to a RotaryEmbedding")
    if length is not None or get("past_present_share_buffer", 0) != 0:
        raise op.unsupported("past_present_share_buffer=1 writes into its own input")
    projected = op.MatMul(x, weight) if b is None else op.MatMul(x, weight) + b
    sizes = list(node.attributes.get_ints("qkv_hidden_sizes", ()))
    split = op.Split(projected, *[sizes] * bool(sizes), axis=-1, num_outputs=None if sizes else 3, outputs=3)
    q, k, v = (heads(op, part, node.attributes["num_heads"].as_int()) for part in split)
    before = None
    if past is not None:
        old_k, old_v = op.Split(past, axis=0, num_outputs=2, outputs=2)
        k, v = op.Concat(op.Squeeze(old_k, [0]), k, axis=2), op.Concat(op.Squeeze(old_v, [0]), v, axis=2)
        before = op.size(past, 3)
    y, _ = attend(op, q, k, v, node, [bias, _masked(op, node, q, k, mask, before)])
    present = op.Concat(op.Unsqueeze(k, [0]), op.Unsqueeze(v, [0]), axis=0) if wanted(node, 1) else None
    return [y, present][: len(node.outputs)]


@decomposition("com.microsoft::MultiHeadAttention")
def multi_head_attention(op: Op, node: ir.Node) -> Any:
    """Y = softmax(scale Q Kᵀ + bias + mask) V per head; K and V come after the past ones."""
    q, k, v, b, mask, bias, past_k, past_v, length, beams = inputs(node, 10)
    count = node.attributes["num_heads"].as_int()
    if length is not None or beams is not None:
        raise op.unsupported("past_sequence_length and cache_indirection write into its own inputs")
    ready = k is not None and op.rank(k) == 4  # those of an encoder: they have had their bias
    if op.rank(q) == 5:
        q, k, v = _unpacked(op, q, 3)
    elif k is not None and op.rank(k) == 5:
        q, (k, v) = heads(op, q, count), _unpacked(op, k, 2)
    elif k is not None:
        q = heads(op, q, count)
        k, v = (k, v) if ready else (heads(op, k, count), heads(op, v, count))
    else:
        raise op.unsupported("it has no key")
    if b is not None:
        q, k, v = _biased(op, b, [q, k, v], 1 if ready else 3)
    before = None
    if past_k is not None:
        before, k, v = op.size(past_k, 2), op.Concat(past_k, k, axis=2), op.Concat(past_v, v, axis=2)
    y, scores = attend(op, q, k, v, node, [bias, _masked(op, node, q, k, mask, before)])
    return [y, k, v, scores][: len(node.outputs)]


def heads(op: Op, x: ir.Value, count: int) -> ir.Value:
    """From (batch, sequence, heads · size) to (batch, heads, sequence, size)."""
    return op.Transpose(op.Reshape(x, [0, 0, count, -1]), perm=[0, 2, 1, 3])  # type: ignore[no-any-return]


def attend(op: Op, q: Any, k: Any, v: Any, node: ir.Node, terms: list[Any]) -> tuple[Any, Any]:
    """softmax(S) V with its heads side by side, and S = scale Q Kᵀ and some more terms."""
    scores = scaled(op, q, k, node)
    for term in terms:
        scores = scores if term is None else scores + term
    return joined(op, op.MatMul(op.Softmax(scores, axis=-1), v)), scores


def scaled(op: Op, q: Any, k: Any, node: ir.Node) -> Any:
    """scale Q Kᵀ, where scale is 1 / √size if it is not given."""
    scale = node.attributes.get_float("scale", 0.0)
    scale = scale or op.Reciprocal(op.Sqrt(op.Cast(op.Shape(q, start=3), to=q.dtype)))
    return op.MatMul(q * scale, op.Transpose(k, perm=[0, 1, 3, 2]))


def joined(op: Op, y: ir.Value) -> Any:
    """From (batch, heads, sequence, size) to (batch, sequence, heads · size)."""
    return op.Reshape(op.Transpose(y, perm=[0, 2, 1, 3]), [0, 0, -1])


def lowest(x: ir.Value) -> float:
    """The lowest finite number of a type: no key is looked at that has it added to its score."""
    return float(np.finfo((x.dtype or ir.DataType.FLOAT).numpy()).min)


def positions(op: Op, x: ir.Value) -> Any:
    """0, 1, ... along the sequence of (batch, heads, sequence, size)."""
    size = op.Squeeze(op.size(x, 2), [0])
    return op.Range(op.const(0, INT64), size, op.const(1, INT64))


def _unpacked(op: Op, packed: ir.Value, count: int) -> Any:
    """Q, K, V from (batch, sequence, heads, count, size), each as (batch, heads, sequence, size)."""
    parts = op.Split(op.Transpose(packed, perm=[3, 0, 2, 1, 4]), axis=0, num_outputs=count, outputs=count)
    return tuple(op.Squeeze(part, [0]) for part in parts)


def _biased(op: Op, b: ir.Value, values: list[Any], count: int) -> list[Any]:
    """The first `count` of Q, K, V, each plus its part of a bias, which is (heads · size) long, and the others."""
    heads = op.Shape(values[0], start=1, end=2)
    parts = op.Split(b, op.Concat(*(op.Mul(op.Shape(x, start=3), heads) for x in values), axis=0), axis=0, outputs=3)
    shape = op.Concat(heads, [1, -1], axis=0)
    return [x + op.Reshape(part, shape) for x, part in zip(values[:count], parts, strict=False)] + values[count:]


def _masked(op: Op, node: ir.Node, q: Any, k: Any, mask: ir.Value | None, before: Any) -> Any:
    """What is added to the scores: `mask_filter_value` where a key is padding, the lowest number where it is later.

    The queries come after as many keys as `before` says, None for none.
    """
    zero, fill = op.const(0.0, q.dtype), node.attributes.get_float("mask_filter_value", -10000.0)
    padding = None if mask is None else op.Where(_seen(op, q, k, mask), zero, fill)
    if not node.attributes.get_int("unidirectional", 0):
        return padding
    row = positions(op, q) if before is None else op.Add(positions(op, q), before)
    ahead = op.Where(op.LessOrEqual(positions(op, k), op.Unsqueeze(row, [1])), zero, lowest(q))
    return ahead if padding is None else padding + ahead


def _seen(op: Op, q: Any, k: Any, mask: ir.Value) -> Any:
    """Which keys are no padding, from any form of mask, to broadcast to (batch, heads, query, key)."""
    rank = op.rank(mask)
    if rank == 4:  # (batch, 1, longest, longest): rows and columns up to here
        total = op.Shape(k, start=2, end=3)
        ends = op.Concat(total, total, axis=0)
        return op.Greater(op.Slice(mask, op.Concat(total - op.Shape(q, start=2, end=3), [0], axis=0), ends, [2, 3]), 0)
    if rank > 1:
        return op.Greater(op.Unsqueeze(mask, [1] if rank == 3 else [1, 2]), 0)
    # One number per sample: where it ends. If there are twice as many: where it begins.
    batch = op.Shape(q, start=0, end=1)
    two = op.Equal(op.Shape(mask), op.Mul(batch, 2))
    end, begin = op.Slice(mask, [0], batch, [0]), op.Slice(op.Concat(mask, mask, axis=0), batch, batch * 2, [0])
    begin = op.Where(two, begin, op.Mul(begin, 0))
    at = op.Cast(positions(op, k), to=mask.dtype)
    within = op.And(op.Less(at, op.Unsqueeze(end, [1])), op.GreaterOrEqual(at, op.Unsqueeze(begin, [1])))
    return op.Unsqueeze(within, [1, 2])
