from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from .harness import Array, Case, normal
from .index import ints


class Attention:
    """Scaled dot products in NumPy; matches onnxruntime in order: scale, soft cap, mask, softmax."""

    def __init__(self, outputs: int = 1, **attributes: Any) -> None:
        self.outputs, self.get = outputs, attributes.get

    def split(self, x: Array, heads: str) -> Array:
        return x if x.ndim == 4 else x.reshape(*x.shape[:2], self.get(heads), -1).transpose(0, 2, 1, 3)

    def __call__(
        self,
        q: Array,
        k: Array,
        v: Array,
        mask: Array | None = None,
        pk: Array | None = None,
        pv: Array | None = None,
        nonpad: Array | None = None,
    ) -> list[Array]:
        flat = q.ndim == 3
        q, k, v = self.split(q, "q_num_heads"), self.split(k, "kv_num_heads"), self.split(v, "kv_num_heads")
        past = 0 if pk is None else pk.shape[2]
        k, v = (k, v) if pk is None else (np.concatenate([pk, k], 2), np.concatenate([pv, v], 2))
        present = [k, v]
        k, v = (np.repeat(x, q.shape[1] // k.shape[1], 1) for x in (k, v))
        stages = [q @ k.swapaxes(2, 3) * (self.get("scale") or q.shape[-1] ** -0.5)]
        cap = self.get("softcap") or 0
        stages.append(np.tanh(stages[-1] / cap) * cap if cap else stages[-1])
        scores, low = stages[-1], -np.inf
        if mask is not None:
            mask = np.where(mask, 0.0, low) if mask.dtype == bool else mask
            mask = np.where(mask == np.finfo(np.float32).min, low, mask) if mask.dtype == np.float32 else mask
            short = scores.shape[-1] - mask.shape[-1]
            scores = scores + np.pad(mask, [(0, 0)] * (mask.ndim - 1) + [(0, short)], constant_values=low)
        if nonpad is not None:
            scores = np.where(np.arange(scores.shape[-1]) < nonpad[:, None, None, None], scores, low)
        if self.get("is_causal"):
            first = past if nonpad is None else nonpad[:, None, None, None] - q.shape[2]
            scores = np.where(np.arange(q.shape[2])[:, None] + first >= np.arange(scores.shape[-1]), scores, low)
        p = np.exp(scores - np.maximum(scores.max(-1, keepdims=True), -1e30))
        p = p / np.maximum(p.sum(-1, keepdims=True), 1e-30)  # 0 where a row is masked altogether
        y = p @ v
        y = y.transpose(0, 2, 1, 3).reshape(len(y), y.shape[2], -1) if flat else y
        mode = self.get("qk_matmul_output_mode", 0)
        scores = np.where(np.isinf(scores), 0, scores)  # as constant as -inf, and a difference can be taken
        return [y, *present, {0: stages[0], 1: stages[1], 2: scores, 3: p}[mode]][: self.outputs]


def row(
    q: tuple[int, ...],
    k: tuple[int, ...],
    v: tuple[int, ...],
    *more: Array | None,
    outputs: int = 1,
    opset: int = 23,
    label: str = "",
    **attributes: Any,
) -> Case:
    inputs = [normal(*q), normal(*k), normal(*v) * 0.9, *more]
    return Case(
        "Attention",
        inputs,
        attributes,
        dynamic=len(q) == 4 and outputs < 4,  # shape inference takes sizes that it does not know for 0
        outputs=outputs,
        opset=opset,
        label=label,
        forward=Attention(outputs, **attributes),
    )


Q, K = (2, 4, 3, 6), (2, 2, 5, 6)
V = (2, 2, 5, 7)
FLAT = ((2, 3, 24), (2, 5, 12), (2, 5, 14))
HEADS = dict(q_num_heads=4, kv_num_heads=2)
BOOL = np.arange(15).reshape(3, 5) % 4 != 1
MASKED = np.where(BOOL & [[True], [False], [True]], normal(3, 5), np.finfo(np.float32).min)
PAST = (normal(2, 2, 3, 6), normal(2, 2, 3, 7))

CASES = [
    row((2, 2, 3, 6), K, V),
    row(Q, K, V, label="grouped"),
    row(*FLAT, **HEADS),
    row(*FLAT, normal(3, 5), outputs=4, qk_matmul_output_mode=3, is_causal=1, **HEADS),
    row(Q, K, V, is_causal=1, scale=0.3),
    row(Q, K, V, normal(3, 5), softcap=0.8),
    row(Q, K, V, normal(2, 4, 3, 5)),
    row(Q, K, V, normal(2, 1, 3, 5)),
    row(Q, K, V, normal(4, 3, 5)),
    row(Q, K, V, BOOL),
    row(Q, K, V, BOOL & [[True], [False], [True]], label="masked_row"),
    row(Q, K, V, np.where(BOOL & [[True], [False], [True]], normal(3, 5), -np.inf), label="masked_row"),
    row(Q, K, V, np.stack([BOOL, BOOL[:, ::-1]])[:, None], is_causal=1, softcap=1.5),
    row(Q, K, V, None, *PAST, is_causal=1, outputs=3),
    row(Q, K, V, normal(3, 8), *PAST, outputs=3),
    row(*FLAT, BOOL[:, [0, 1, 2, 3, 4, 0, 2, 3]], *PAST, outputs=3, **HEADS),
    *(
        row(Q, K, V, normal(3, 5), outputs=4, qk_matmul_output_mode=m, softcap=c)
        for m in (0, 1, 2, 3)
        for c in (0.0, 0.8)
    ),
    row(Q, K, V, normal(3, 5), opset=24, outputs=4, qk_matmul_output_mode=3),
    *(
        row(Q, K, V, mask, None, None, ints(*lengths), opset=24, label=f"{lengths}", **causal)
        for lengths in ((3, 5), (1, 0))
        for mask in (None, BOOL, normal(2, 1, 3, 5))
        for causal in ({}, {"is_causal": 1})
    ),
    row(*FLAT, normal(3, 5), None, None, ints(2, 4), opset=24, is_causal=1, softcap=0.9, **HEADS),
    *(
        row(Q, K, V, None, None, None, ints(1, 4), opset=24, outputs=4, is_causal=1, qk_matmul_output_mode=m)
        for m in (0, 1, 2, 3)
    ),
    row(Q, K, V, normal(3, 5), softmax_precision=1),
    *(row(Q, K, V, MASKED.astype(np.float32), label="lowest", **causal) for causal in ({}, {"is_causal": 1})),
]

CACHE = (np.cos(normal(9, 3)), np.sin(normal(9, 3)))
PLACES = ints([[0, 3, 8], [7, 1, 2]])


def rotary(
    x: Array, cos: Array, sin: Array, ids: Array | None = None, *, heads: int = 0, interleaved: int = 0, dim: int = 0
) -> Array:
    x4 = x.reshape(*x.shape[:2], heads, -1) if heads else x.transpose(0, 2, 1, 3)
    dim = dim or x4.shape[-1]
    cos, sin = ((c if ids is None else c[ids])[:, :, None] for c in (cos, sin))
    part, y = x4[..., :dim], x4.copy()
    halves = (slice(0, dim, 2), slice(1, dim, 2)) if interleaved else (slice(0, dim // 2), slice(dim // 2, dim))
    a, b = (part[..., h] for h in halves)
    y[..., halves[0]], y[..., halves[1]] = a * cos - b * sin, a * sin + b * cos
    return y.reshape(x.shape) if heads else y.transpose(0, 2, 1, 3)


def turned(x: Array, cos: Array, sin: Array, ids: Array | None = None, fixed: Any = (), **attributes: int) -> Case:
    names = {"num_heads": "heads", "interleaved": "interleaved", "rotary_embedding_dim": "dim"}
    short = {names[k]: v for k, v in attributes.items()}
    forward = partial(rotary, **short)
    return Case("RotaryEmbedding", [x, cos, sin, ids], attributes, fixed=fixed, opset=23, forward=forward)


OWN = (normal(2, 3, 3), normal(2, 3, 3) * 0.7)  # caches per sample and position

CASES += [
    *(
        turned(x, *caches, interleaved=i, **more)
        for i in (0, 1)
        for caches in ((*CACHE, PLACES), (*CACHE, PLACES % 2), OWN)
        for x, more in (
            (normal(2, 4, 3, 6), {}),
            (normal(2, 4, 3, 9), {"rotary_embedding_dim": 6}),
            (normal(2, 3, 24), {"num_heads": 4}),
            (normal(2, 3, 27), {"num_heads": 3, "rotary_embedding_dim": 6}),
        )
    ),
    turned(normal(2, 4, 3, 6), *CACHE, PLACES, fixed=(1, 2)),
    turned(normal(2, 4, 3, 6), *CACHE, PLACES, fixed=(1,)),
]
