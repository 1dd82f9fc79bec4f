"""Attention and what belongs to it."""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from ...dtypes import is_float
from ...emit import Op, inputs
from ..table import Cotangents, rule
from .index import FLOAT, HALF, INT64, scatter_add
from .linear import cleared

# The number that masks as -inf does: onnxruntime gives 0, not a mean, where a row of the mask has nothing else.
LOWEST = {ir.DataType.FLOAT16: -65504.0, FLOAT: float(np.finfo(np.float32).min)}


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
    time = 1 if flat else 2

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
        seen, added = mask, None
        if mask.dtype != ir.DataType.BOOL:
            added = op.Cast(mask, to=biased.dtype)
            given = (op.node or node).inputs[3] or mask  # not a wider view of it
            seen = op.Greater(added, LOWEST.get(given.dtype or FLOAT, -math.inf))
        allowed = seen if allowed is None else op.And(allowed, seen)
        biased = biased if added is None else biased + added
    p = op.Softmax(biased if allowed is None else op.Where(allowed, biased, -math.inf), axis=-1)
    p = p if allowed is None else op.Where(allowed, p, 0)  # not NaN where a row is masked altogether: its Y is 0

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
    dk = _shared(op, cleared(op, op.MatMul(op.Transpose(ds, perm=[0, 1, 3, 2]), q4), q, time), key, kind)
    dv = _shared(op, cleared(op, op.MatMul(op.Transpose(p, perm=[0, 1, 3, 2]), dout), q, time), value, kind)
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
    """Where a query may look at a key by is_causal and by the lengths of unpadded keys; None for everywhere.

    The first query stands behind the past keys; or the last query at the last key that counts.
    """
    causal = node.attributes.get_int("is_causal", 0)
    if not causal and length is None:
        return None
    zero, one = op.const(0, INT64), op.const(1, INT64)
    rows, columns = (op.Range(zero, op.Squeeze(op.Shape(scores, start=a, end=a + 1), [0]), one) for a in (2, 3))
    ends = None if length is None else op.Unsqueeze(length, [1, 2, 3])
    if not causal:
        return op.Less(columns, ends)
    rows = op.Unsqueeze(rows, [1])
    if ends is not None:
        rows = rows + (ends - op.Shape(scores, start=2, end=3))
    return op.LessOrEqual(columns, rows if past is None else rows + op.size(past, 2))


@rule("RotaryEmbedding")
def rotary_embedding(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = pairs of X turned by an angle whose cosine and sine are given per position; dX is turned back."""
    x, cos, sin, ids = inputs(node, 4)
    names = ("interleaved", "num_heads", "rotary_embedding_dim")
    dx = op.RotaryEmbedding(dy, cos, op.Neg(sin), ids, **{n: node.attributes.get_int(n, None) for n in names})
    if not op.wants(cos) and not op.wants(sin):
        return dx
    (a, b), (da, db) = _rotated(op, node, x), _rotated(op, node, dy)
    dcos, dsin = (op.ReduceSum(d, [2], keepdims=0) for d in (da * a + db * b, db * a - da * b))
    if ids is not None:  # what two positions share gets both cotangents
        at = op.Unsqueeze(ids, [2])
        dcos, dsin = (scatter_add(op, "ScatterND", op.shape(c), at, d) for c, d in ((cos, dcos), (sin, dsin)))
    return [dx, dcos, dsin]


def _rotated(op: Op, node: ir.Node, x: ir.Value) -> Sequence[ir.Value]:
    """The first and the second numbers of the pairs that are turned, (N, S, heads, pairs) each."""
    heads, width = (node.attributes.get_int(name, 0) for name in ("num_heads", "rotary_embedding_dim"))
    x = op.Transpose(x, perm=[0, 2, 1, 3]) if op.rank(x) == 4 else op.Reshape(x, [0, 0, heads, -1])
    x, interleaved = op.Slice(x, [0], [width], [3]) if width else x, node.attributes.get_int("interleaved", 0)
    parts = op.Split(
        op.Reshape(x, [0, 0, 0, -1, 2] if interleaved else [0, 0, 0, 2, -1]),
        axis=4 if interleaved else 3,
        num_outputs=2,
        outputs=2,
    )
    return [op.Squeeze(part, [4 if interleaved else 3]) for part in parts]
