"""Attention and what belongs to it."""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import onnx_ir as ir

from ...emit import Op, inputs, is_float
from ..table import Cotangents, rule
from .index import FLOAT, HALF, INT64

LOW = -3e38  # what a masked score becomes: finite, so that a row that is masked altogether is no NaN


@rule("Attention")
def attention(op: Op, node: ir.Node, dy: ir.Value, *more: ir.Value | None) -> Cotangents:
    """Y = softmax(cap(scale Q Kᵀ) + mask) V per head; K and V follow the past ones and serve a group of heads each.

    The scores are computed anew, in float32 where tensors are half precision.
    """
    q, k, v, mask, past_k, past_v, length = inputs(node, 7)
    attributes, kind = node.attributes, dy.dtype or FLOAT
    dkey, dvalue, dqk = [*more, None, None, None][:3]
    queries, heads = attributes.get_int("q_num_heads", 0), attributes.get_int("kv_num_heads", 0)
    flat = op.rank(q) == 3

    def split(x: ir.Value, count: int) -> ir.Value:
        return op.Transpose(op.Reshape(x, [0, 0, count, -1]), perm=[0, 2, 1, 3]) if flat else x

    def join(dx: ir.Value, x: ir.Value) -> ir.Value:
        return op.Cast(op.like(op.Transpose(dx, perm=[0, 2, 1, 3]) if flat else dx, x), to=x.dtype)

    q4, k4, v4 = split(q, queries), split(k, heads), split(v, heads)
    key = k4 if past_k is None else op.Concat(past_k, k4, axis=2)
    value = v4 if past_v is None else op.Concat(past_v, v4, axis=2)
    q4, k4, v4 = _wide(op, q4), _repeated(op, key, q4), _repeated(op, value, q4)
    scale = op.const(attributes.get_float("scale", 0.0), q4.dtype)
    if not attributes.get_float("scale", 0.0):
        width = op.Shape(q4, start=3, end=4)
        scale = op.Reciprocal(op.Sqrt(op.Cast(width, to=q4.dtype)))
    scores, cap = op.MatMul(q4, op.Transpose(k4, perm=[0, 1, 3, 2])) * scale, attributes.get_float("softcap", 0.0)
    tanh = op.Tanh(scores / cap) if cap else None
    biased = scores if tanh is None else tanh * cap
    allowed = _allowed(op, node, biased, past_k, length)
    if mask is not None:
        seen = op.Not(op.IsInf(_wide(op, mask), detect_positive=0)) if is_float(mask) else mask
        allowed = seen if allowed is None else op.And(allowed, seen)
        biased = biased + _wide(op, mask) if is_float(mask) else biased
    p = op.Softmax(biased if allowed is None else op.Where(allowed, biased, LOW), axis=-1)
    p = p if allowed is None else op.Where(allowed, p, 0)  # a row that is masked altogether has Y = 0

    mode, dqk = attributes.get_int("qk_matmul_output_mode", 0), None if dqk is None else _wide(op, dqk)
    dout = _wide(op, split(dy, queries))
    dp = op.MatMul(dout, op.Transpose(v4, perm=[0, 1, 3, 2]))
    dp = dp + dqk if dqk is not None and mode == 3 else dp
    ds = p * (dp - op.ReduceSum(dp * p, [-1], keepdims=1))
    ds = ds + dqk if dqk is not None and mode == 2 else ds
    ds = ds if allowed is None else op.Where(allowed, ds, 0)
    dmask = op.Cast(op.sum_to(ds, mask), to=mask.dtype) if op.wants(mask) and is_float(mask) else None
    ds = ds + dqk if dqk is not None and mode == 1 else ds
    ds = ds if tanh is None else ds * (1 - tanh * tanh)
    ds = (ds + dqk if dqk is not None and mode == 0 else ds) * scale
    dq = join(op.MatMul(ds, k4), q)
    dk = _shared(op, op.MatMul(op.Transpose(ds, perm=[0, 1, 3, 2]), q4), key, kind)
    dv = _shared(op, op.MatMul(op.Transpose(p, perm=[0, 1, 3, 2]), dout), value, kind)
    dk, dv = (d if more_d is None else d + more_d for d, more_d in ((dk, dkey), (dv, dvalue)))
    dpast_k, dk = _parted(op, dk, past_k)
    dpast_v, dv = _parted(op, dv, past_v)
    return [dq, join(dk, k), join(dv, v), dmask, dpast_k, dpast_v]


def _wide(op: Op, x: ir.Value) -> ir.Value:
    return op.Cast(x, to=FLOAT) if x.dtype in HALF else x


def _repeated(op: Op, x: ir.Value, q: ir.Value) -> ir.Value:
    """Heads of K or V once per head of Q that they serve."""
    heads, groups = op.Shape(x, start=1, end=2), op.Unsqueeze(_wide(op, x), [2])
    shape = op.Concat([1, 1], op.Div(op.Shape(q, start=1, end=2), heads), [1, 1], axis=0)
    return op.Reshape(
        op.Expand(groups, shape), op.Concat([0], op.Shape(q, start=1, end=2), op.Shape(x, start=2), axis=0)
    )


def _shared(op: Op, dx: ir.Value, x: ir.Value, dtype: ir.DataType) -> ir.Value:
    """The sum over the heads of Q that a head of K or V serves."""
    groups = op.Reshape(dx, op.Concat([0], op.Shape(x, start=1, end=2), [-1], op.Shape(x, start=2), axis=0))
    return op.Cast(op.ReduceSum(groups, [2], keepdims=0), to=dtype)


def _parted(op: Op, dx: ir.Value, past: ir.Value | None) -> tuple[ir.Value | None, ir.Value]:
    if past is None:
        return None, dx
    size = op.size(past, 2)
    return op.Split(dx, op.Concat(size, op.Shape(dx, start=2, end=3) - size, axis=0), axis=2, outputs=2)


def _allowed(
    op: Op, node: ir.Node, scores: ir.Value, past: ir.Value | None, length: ir.Value | None
) -> ir.Value | None:
    """Where a query may look at a key by is_causal and by the lengths of unpadded keys; None for everywhere."""
    causal = node.attributes.get_int("is_causal", 0)
    if causal and length is not None:
        raise op.unsupported("is_causal together with nonpad_kv_seqlen is; give the mask as attn_mask instead")
    zero, one = op.const(0, INT64), op.const(1, INT64)
    column = op.Range(zero, op.Squeeze(op.Shape(scores, start=3, end=4), [0]), one)
    if length is not None:
        return op.Less(column, op.Unsqueeze(length, [1, 2, 3]))
    if not causal:
        return None
    row = op.Unsqueeze(op.Range(zero, op.Squeeze(op.Shape(scores, start=2, end=3), [0]), one), [1])
    return op.LessOrEqual(column, row if past is None else row + op.size(past, 2))


@rule("RotaryEmbedding")
def rotary_embedding(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = pairs of X turned by an angle whose cosine and sine are given per position; dX is turned back."""
    _, cos, sin, ids = inputs(node, 4)
    if op.wants(cos) or op.wants(sin):
        raise op.unsupported("its caches depend on what is differentiated; only constant ones are supported")
    names = ("interleaved", "num_heads", "rotary_embedding_dim")
    return op.RotaryEmbedding(dy, cos, op.Neg(sin), ids, **{n: node.attributes.get_int(n, None) for n in names})
