"""Attention and what belongs to it."""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from ...decompose.attention import heads
from ...decompose.fusion import weighed, wide
from ...dtypes import is_float
from ...emit import Op, inputs
from ..table import Cotangents, rule
from .index import FLOAT, scatter_add
from .linear import cleared


@rule("Attention")
def attention(op: Op, node: ir.Node, dy: ir.Value, *more: ir.Value | None) -> Cotangents:
    """Y = softmax(cap(scale Q Kᵀ) + mask) V per head; K and V follow the past ones and serve a group of heads each.

    The scores are computed anew, in float32 where tensors are half precision.
    """
    q, k, v, mask, past_k, past_v, _ = inputs(node, 7)
    attributes, kind = node.attributes, dy.dtype or FLOAT
    dkey, dvalue, dqk = [*more, None, None, None][:3]
    flat = op.rank(q) == 3
    seen = weighed(op, node)
    p = seen.weights

    def join(dx: ir.Value, x: ir.Value) -> ir.Value:
        return op.Cast(op.like(op.Transpose(dx, perm=[0, 2, 1, 3]) if flat else dx, x), to=x.dtype)

    mode, dqk = attributes.get_int("qk_matmul_output_mode", 0), None if dqk is None else wide(op, dqk)
    dout = wide(op, heads(op, dy, attributes.get_int("q_num_heads", 0)) if flat else dy)
    dp = op.MatMul(dout, op.Transpose(seen.v, perm=[0, 1, 3, 2]))
    dp = dp + dqk if dqk is not None and mode == 3 else dp
    ds = p * (dp - op.ReduceSum(dp * p, [-1], keepdims=1))
    ds = ds + dqk if dqk is not None and mode == 2 else ds
    ds = ds if seen.allowed is None else op.Where(seen.allowed, ds, 0)
    dmask = op.Cast(op.sum_to(ds, mask), to=mask.dtype) if op.wants(mask) and is_float(mask) else None
    ds = ds + dqk if dqk is not None and mode == 1 else ds
    ds = ds if seen.tanh is None else ds * (1 - seen.tanh * seen.tanh)
    ds = (ds + dqk if dqk is not None and mode == 0 else ds) * seen.scale
    time = 1 if flat else 2
    dq = join(op.MatMul(ds, seen.k), q)
    dk = _shared(op, cleared(op, op.MatMul(op.Transpose(ds, perm=[0, 1, 3, 2]), seen.q), q, time), seen.key, kind)
    dv = _shared(op, cleared(op, op.MatMul(op.Transpose(p, perm=[0, 1, 3, 2]), dout), q, time), seen.value, kind)
    dk, dv = (d if more_d is None else d + more_d for d, more_d in ((dk, dkey), (dv, dvalue)))
    dpast_k, dk = _parted(op, dk, past_k)
    dpast_v, dv = _parted(op, dv, past_v)
    return [dq, join(dk, k), join(dv, v), dmask, dpast_k, dpast_v]


def _shared(op: Op, dx: ir.Value, x: ir.Value, dtype: ir.DataType) -> ir.Value:
    """The sum over the heads of Q that a head of K or V serves."""
    groups = op.Reshape(dx, op.Concat([0], op.Shape(x, start=1, end=2), [-1], op.Shape(x, start=2), axis=0))
    return op.Cast(op.ReduceSum(groups, [2], keepdims=0), to=dtype)


def _parted(op: Op, dx: ir.Value, past: ir.Value | None) -> tuple[ir.Value | None, ir.Value]:
    if past is None:
        return None, dx
    size = op.size(past, 2)
    return op.Split(dx, op.Concat(size, op.Shape(dx, start=2, end=3) - size, axis=0), axis=2, outputs=2)


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
