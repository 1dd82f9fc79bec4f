"""The standard's Attention written out, on demand: what it looks at is a tensor then, as in any other export."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from ..emit import Op, inputs
from .attention import heads, joined, lowest
from .table import decompose

FLOAT, HALF, INT64 = ir.DataType.FLOAT, (ir.DataType.FLOAT16, ir.DataType.BFLOAT16), ir.DataType.INT64
# The number that masks as -inf does: onnxruntime gives 0, not a mean, where a row of the mask has nothing else.
LOWEST = {ir.DataType.FLOAT16: -65504.0, FLOAT: float(np.finfo(np.float32).min)}


@dataclass(frozen=True)
class Weighed:
    """An Attention up to its weights, in float32 where its tensors are half precision.

    Attributes:
        q, k, v: (batch, heads, sequence, size); heads of K and V once per head of Q that they serve.
        key, value: of past and present, before they are repeated.
        scale: of Q Kᵀ.
        product: scale Q Kᵀ.
        tanh: of the product over the cap, None without one.
        biased: the capped product with what the mask adds.
        allowed: where a query may look at a key, None for everywhere.
        weights: softmax(biased), 0 where nothing is allowed.
    """

    q: Any
    k: Any
    v: Any
    key: Any
    value: Any
    scale: Any
    product: Any
    tanh: Any
    capped: Any
    biased: Any
    allowed: Any
    weights: Any


def weighed(op: Op, node: ir.Node) -> Weighed:
    """softmax(cap(scale Q Kᵀ) + mask) per head; K and V follow the past ones and serve a group of heads each."""
    q, k, v, mask, past_k, past_v, length = inputs(node, 7)
    get = node.attributes
    if op.rank(q) == 3:
        count, groups = get.get_int("q_num_heads", 0), get.get_int("kv_num_heads", 0)
        q, k, v = heads(op, q, count), heads(op, k, groups), heads(op, v, groups)
    key = k if past_k is None else op.Concat(past_k, k, axis=2)
    value = v if past_v is None else op.Concat(past_v, v, axis=2)
    q = wide(op, q)
    k, v = _repeated(op, key, q), _repeated(op, value, q)
    scale = op.const(get.get_float("scale", 0.0), q.dtype)
    if not get.get_float("scale", 0.0):
        scale = op.Reciprocal(op.Sqrt(op.Cast(op.Shape(q, start=3, end=4), to=q.dtype)))
    product, cap = op.MatMul(q, op.Transpose(k, perm=[0, 1, 3, 2])) * scale, get.get_float("softcap", 0.0)
    tanh = op.Tanh(product / cap) if cap else None
    capped = biased = product if tanh is None else tanh * cap
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
    return Weighed(q, k, v, key, value, scale, product, tanh, capped, biased, allowed, p)


def written_out(op: Op, node: ir.Node) -> list[ir.Value]:
    """Y = weights V, keys and values of past and present, and the weights or the scores that they are made of."""
    seen, q = weighed(op, node), inputs(node, 1)[0]
    y = op.MatMul(seen.weights, seen.v)
    y = op.Cast(joined(op, y) if op.rank(q) == 3 else y, to=q.dtype)
    masked = seen.biased if seen.allowed is None else op.Where(seen.allowed, seen.biased, lowest(seen.q))
    shown = (seen.product, seen.capped, masked, seen.weights)[node.attributes.get_int("qk_matmul_output_mode", 0)]
    return [y, op.Identity(seen.key), op.Identity(seen.value), op.Cast(shown, to=q.dtype)][: len(node.outputs)]


def unfused(model: ir.Model) -> bool:
    """Write out, in place, every Attention of the standard; false if there is none."""
    return bool(decompose(model, {"Attention": written_out}))


def wide(op: Op, x: ir.Value) -> Any:
    """In float32, if it is half precision."""
    return op.Cast(x, to=FLOAT) if x.dtype in HALF else x


def _repeated(op: Op, x: ir.Value, q: ir.Value) -> Any:
    """Heads of K or V once per head of Q that they serve."""
    if op.dim(x, 1) is not None and op.dim(x, 1) == op.dim(q, 1):
        return wide(op, x)
    count, groups = op.Shape(x, start=1, end=2), op.Unsqueeze(wide(op, x), [2])
    shape = op.Concat([1, 1], op.Div(op.Shape(q, start=1, end=2), count), [1, 1], axis=0)
    whole = op.Concat([0], op.Shape(q, start=1, end=2), op.Shape(x, start=2), axis=0)
    return op.Reshape(op.Expand(groups, shape), whole)


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
        return op.Less(columns, ends)  # type: ignore[no-any-return]
    rows = op.Unsqueeze(rows, [1])
    if ends is not None:
        rows = rows + (ends - op.Shape(scores, start=2, end=3))
    return op.LessOrEqual(columns, rows if past is None else rows + op.size(past, 2))  # type: ignore[no-any-return]
