"""Rotary embedding, and attention over a cache: what language models are written in."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from ..emit import Op, inputs
from .attention import INT64, heads, joined, lowest, positions, scaled
from .common import wanted
from .normalisation import rms
from .table import decomposition


@decomposition("com.microsoft::RotaryEmbedding")
def rotary_embedding(op: Op, node: ir.Node) -> Any:
    """Pairs of X turned by an angle whose cosine and sine are given for each position."""
    x, at, cos, sin = inputs(node, 4)
    get, flat = node.attributes.get_int, op.rank(x) == 3
    if get("is_packed_batching", 0):
        raise op.unsupported("is_packed_batching=1 has sequences of several lengths in one row")
    x4 = x
    if flat:  # without a number of heads the whole of a head is turned
        size = op.Mul(op.Shape(cos, start=1), 2)
        shape = op.Concat([0, 0, -1], size, axis=0) if not get("num_heads", 0) else [0, 0, get("num_heads", 0), -1]
        x4 = op.Transpose(op.Reshape(x, shape), perm=[0, 2, 1, 3])
    if op.rank(at) == 1:  # one number: where all sequences begin
        at = op.Unsqueeze(op.Add(at, positions(op, x4)), [0])
    part = get("rotary_embedding_dim", 0)
    sizes = _sizes(op, cos, x4, None if flat else op.dim(x, 3)) if part else None
    y = _rotated(op, x4, at, cos, sin, get("interleaved", 0), sizes)
    return joined(op, y) if flat else y


@decomposition("com.microsoft::GroupQueryAttention")
def group_query_attention(op: Op, node: ir.Node) -> Any:
    """Y = softmax(cap(scale Q Kᵀ) + bias) V, where a head of K and V serves several of Q, and comes after past ones."""
    q, k, v, past_k, past_v, last, total, cos, sin, at, bias, sink, *rest = inputs(node, 16)
    _refuse(op, node, rest[:2])
    counts = [node.attributes[name].as_int() for name in ("num_heads", "kv_num_heads", "kv_num_heads")]
    width = op.dim(q, 2)
    if k is None:
        q, k, v = op.Split(heads(op, q, sum(counts)), counts, axis=1, outputs=3)
    else:
        q, k, v = (heads(op, x, count) for x, count in zip((q, k, v), counts, strict=True))
    if rest[2] is not None:
        epsilon = node.attributes.get_float("qk_norm_epsilon", 1e-6)
        q, k = (rms(op, x, weight, epsilon)[0] for x, weight in zip((q, k), rest[2:], strict=True))
    # A prompt fills the cache from its beginning; later tokens come after what each sample has of its own.
    new = op.size(q, 2)
    ends = op.Add(op.Cast(last, to=INT64), 1)
    total = op.Reshape(op.Cast(total, to=INT64), [1])
    before = op.Unsqueeze(op.Where(op.Equal(total, new), op.const([0]), op.Sub(ends, new)), [1])
    places = op.Add(before, positions(op, q))  # (batch, query): of the queries, and of their keys, in the cache
    if node.attributes.get_int("do_rotary", 0):
        at, interleaved = places if at is None else at, node.attributes.get_int("rotary_interleaved", 0)
        sizes = _sizes(op, cos, q, width and width // (counts[0] if node.inputs[1] is not None else sum(counts)))
        q, k = (_rotated(op, x, at, cos, sin, interleaved, sizes) for x in (q, k))
    if past_k is not None:
        k, v = (_cached(op, past, x, before, total) for past, x in ((past_k, k), (past_v, v)))
    scores = scaled(op, q, _repeated(op, k, counts), node)
    cap = node.attributes.get_float("softcap", 0.0)
    scores = op.Tanh(scores / cap) * cap if cap else scores
    scores = scores if bias is None else scores + bias
    scores = op.Where(_allowed(op, node, k, op.Unsqueeze(places, [1, 3]), ends), scores, lowest(q))
    y = joined(op, op.MatMul(_softmax(op, node, scores, sink), _repeated(op, v, counts)))
    return [y, k, v, None][: len(node.outputs)]


def _rotated(op: Op, x: Any, at: Any, cos: Any, sin: Any, interleaved: int, sizes: Any) -> Any:
    """X of (batch, heads, sequence, size) with its pairs turned: neighbours, or those half of what is turned apart.

    Only the first of the two `sizes` is turned, if they are given.
    """
    axis, shape = (4, [0, 0, 0, -1, 2]) if interleaved else (3, [0, 0, 0, 2, -1])
    cos, sin = (op.Unsqueeze(op.Gather(table, at, dtype=x.dtype), [1, axis]) for table in (cos, sin))
    rest = ()
    if sizes is not None:
        x, *rest = op.Split(x, sizes, axis=3, outputs=2)
    a, b = op.Split(op.Reshape(x, shape), axis=axis, num_outputs=2, outputs=2)
    turned = op.Reshape(op.Concat(a * cos - b * sin, b * cos + a * sin, axis=axis), [0, 0, 0, -1])
    return op.Concat(turned, *rest, axis=3) if rest else turned


def _sizes(op: Op, cos: ir.Value, x: Any, size: int | None) -> Any:
    """How much of X of (batch, heads, sequence, size) is turned and how much is not; None if all is."""
    half = op.dim(cos, 1)
    if half is not None and size is not None:
        return None if 2 * half == size else [2 * half, size - 2 * half]
    turned = op.Mul(op.Shape(cos, start=1), 2)
    return op.Concat(turned, op.Sub(op.Shape(x, start=3), turned), axis=0)


def _refuse(op: Op, node: ir.Node, scales: list[Any]) -> None:
    get = node.attributes.get_string
    if any(scales) or get("k_quant_type", "NONE") != "NONE" or get("v_quant_type", "NONE") != "NONE":
        raise op.unsupported("its cache is quantised")
    if node.attributes.get_int("sliding_window_cache", 0):
        raise op.unsupported("sliding_window_cache=1 forgets part of its cache")
    if wanted(node, 3):
        raise op.unsupported("output_qk is used")


def _cached(op: Op, past: Any, x: Any, before: Any, total: Any) -> Any:
    """The cache with new rows after the first `before` ones of each sample, and zeros behind."""
    room, new = op.size(past, 2), op.size(x, 2)
    place = op.Unsqueeze(op.Range(op.const(0, INT64), op.Squeeze(op.Max(room, total), [0]), op.const(1, INT64)), [0])
    after = op.Sub(place, before)
    row = op.Where(op.Less(after, 0), place, op.Add(after, room))
    row = op.Where(op.Less(after, new), row, op.Add(room, new))  # behind all rows there is one of zeros
    zeros = op.full(op.Concat(op.Shape(x, end=2), [1], op.Shape(x, start=3), axis=0), 0.0, x.dtype)
    rows = op.Concat(past, x, zeros, axis=2)
    shape = op.Concat([1], op.Shape(x, start=1, end=2), [1], op.Shape(x, start=3), axis=0)
    return op.GatherElements(rows, op.Expand(op.Unsqueeze(row, [1, 3]), shape), axis=2, dtype=x.dtype)


def _repeated(op: Op, x: Any, counts: list[int]) -> Any:
    """A head of K or V once per head of Q that it serves."""
    heads, times = counts[1], counts[0] // counts[1]
    if times == 1:
        return x
    wide = op.Expand(op.Unsqueeze(x, [2]), [1, 1, times, 1, 1])
    return op.Reshape(wide, op.Concat([0, heads * times], op.Shape(x, start=2), axis=0))


def _allowed(op: Op, node: ir.Node, k: Any, places: Any, ends: Any) -> Any:
    """Where a query looks: at keys that are no padding and not after it, no further back than the window reaches."""
    at, window = positions(op, k), node.attributes.get_int("local_window_size", -1)
    allowed = op.Less(at, op.Unsqueeze(ends, [1, 2, 3]))
    if node.attributes.get_int("causal", 1):
        allowed = op.And(allowed, op.LessOrEqual(at, places))
    return allowed if window < 0 else op.And(allowed, op.Greater(at, op.Sub(places, window)))


def _softmax(op: Op, node: ir.Node, scores: Any, sink: Any) -> Any:
    """softmax S; with a sink, or smoothed (a sink of 0), the share that e to the sink would have goes nowhere."""
    p = op.Softmax(scores, axis=-1)
    if sink is None and not node.attributes.get_int("smooth_softmax", 0):
        return p
    kept = op.ReduceLogSumExp(scores, [-1], keepdims=1)
    return p * op.Sigmoid(kept if sink is None else kept - op.Reshape(sink, [1, -1, 1, 1]))
