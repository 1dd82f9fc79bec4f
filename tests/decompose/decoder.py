"""Rows of decompose/decoder.py."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..rules.harness import Array, Case, normal, positive

MS = "com.microsoft"
ANGLES = np.arange(9)[:, None] / 3 + np.arange(8)
COS, SIN = np.cos(ANGLES), np.sin(ANGLES)
HEADS = {"num_heads": 4, "kv_num_heads": 2}
Q, K, V = normal(2, 5, 64), normal(2, 5, 32), normal(2, 5, 32)[::-1]  # heads of 16
PAST = [normal(2, 2, 3, 16), normal(2, 2, 3, 16)[::-1]]
NONE = [None, None]


def ints(*values: Any, dtype: Any = np.int32) -> Array:
    return np.array(values, dtype)


def gqa(*inputs: Any, outputs: int = 3, label: str = "", forward: Any = None, **attributes: Any) -> Case:
    attributes = HEADS | attributes
    return Case(f"{MS}::GroupQueryAttention", inputs, attributes, outputs, label=label, forward=forward)


def normed(q: Array, k: Array, v: Array, *inputs: Any) -> Array:
    """Causal attention with queries and keys of root mean square 1 times a weight."""
    q, k, v = (x.reshape(2, 5, -1, 16).swapaxes(1, 2) for x in (q, k, v))
    q, k = (
        x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * scale for x, scale in ((q, inputs[-2]), (k, inputs[-1]))
    )
    k, v = k.repeat(2, 1), v.repeat(2, 1)
    p = np.tril(np.exp(q @ k.swapaxes(-1, -2) / 4))
    return np.asarray((p / p.sum(-1, keepdims=True) @ v).swapaxes(1, 2).reshape(2, 5, -1))


LENGTH = [ints(4, 4), np.array(5, np.int32)]  # seqlens_k is one less
AT = np.stack([np.arange(2, 6), np.arange(4)])
ROTATE = {"fixed": (2, 3)}
CASES = [
    Case(f"{MS}::RotaryEmbedding", [normal(2, 4, 48), ints(2, dtype=np.int64), COS, SIN], **ROTATE),
    Case(f"{MS}::RotaryEmbedding", [normal(2, 4, 48), AT, COS, SIN], {"interleaved": 1}, **ROTATE),
    Case(f"{MS}::RotaryEmbedding", [normal(2, 3, 4, 16), AT, COS, SIN], **ROTATE),
    Case(f"{MS}::RotaryEmbedding", [normal(2, 3, 4, 16), AT, COS, SIN], {"scale": 0.5}, label="scale", **ROTATE),
    Case(
        f"{MS}::RotaryEmbedding",
        [normal(2, 4, 48), AT, COS[:, :4], SIN[:, :4]],
        {"num_heads": 3, "rotary_embedding_dim": 8},
        **ROTATE,
    ),
    gqa(Q, K, V, *NONE, *LENGTH),
    gqa(Q, K, V, *NONE, *LENGTH, scale=0.5, softcap=1.5),
    gqa(normal(2, 5, 128), None, None, *NONE, *LENGTH, label="packed"),
    gqa(Q, K, V, *NONE, *LENGTH, COS, SIN, do_rotary=1),
    gqa(Q, K, V, *NONE, *LENGTH, COS, SIN, do_rotary=1, rotary_interleaved=1),
    gqa(normal(2, 5, 128), normal(2, 5, 64), normal(2, 5, 64), *NONE, *LENGTH, COS, SIN, do_rotary=1, label="part"),
    gqa(Q, K, V, *NONE, *LENGTH, local_window_size=2),
    gqa(Q, K, V, *NONE, *LENGTH, smooth_softmax=1),
    gqa(Q, K, V, *NONE, *LENGTH, *NONE, None, None, normal(4), label="sink"),
    gqa(Q, K, V, *NONE, *LENGTH, *NONE, None, normal(1, 4, 5, 5), softcap=2.0, label="bias"),
    gqa(Q, K, V, *NONE, *LENGTH, causal=0),
    gqa(Q, K, V, *NONE, *LENGTH, *NONE, *NONE, None, None, None, positive(16), normal(16), outputs=1, forward=normed),
    gqa(Q, K, V, *NONE, ints(4, 2), LENGTH[1], COS, SIN, do_rotary=1, label="padded"),
    gqa(Q, K, V, *NONE, ints(4, 2), LENGTH[1], causal=0, label="padded"),
    gqa(Q, K, V, *NONE, *LENGTH, COS, SIN, np.stack([np.arange(2, 7)] * 2), do_rotary=1),
    # Past: one new token, several, and a cache that has room for more.
    gqa(Q[:, :1], K[:, :1], V[:, :1], *PAST, ints(3, 3), np.array(4, np.int32), COS, SIN, do_rotary=1),
    gqa(Q[:, :1], K[:, :1], V[:, :1], *PAST, ints(3, 2), np.array(4, np.int32), label="lengths"),
    gqa(Q[:, :1], K[:, :1], V[:, :1], *PAST, ints(3, 3), np.array(4, np.int32), local_window_size=2),
    gqa(Q[:, :1], K[:, :1], V[:, :1], *PAST, ints(3, 1), np.array(4, np.int32), *NONE, None, normal(2, 1, 1, 4)),
    gqa(Q[:, :1], K[:, :1], V[:, :1], *PAST, ints(2, 2), np.array(3, np.int32), label="room"),
    gqa(Q[:1, :3], K[:1, :3], V[:1, :3], PAST[0][:1], PAST[1][:1], ints(5), np.array(6, np.int32), label="several"),
    gqa(Q, K, V, PAST[0][:, :, :0], PAST[1][:, :, :0], *LENGTH, COS, SIN, do_rotary=1, label="empty"),
]
REFUSED = [
    (gqa(Q, K, V, *NONE, *LENGTH, k_quant_type="PER_TENSOR"), "quantised"),
    (gqa(Q, K, V, *PAST, *LENGTH, sliding_window_cache=1, local_window_size=2), "sliding_window_cache"),
    (gqa(Q, K, V, *NONE, *LENGTH, qk_output=1, outputs=4), "output_qk"),
    (Case(f"{MS}::RotaryEmbedding", [normal(2, 4, 48), AT, COS, SIN], {"is_packed_batching": 1}), "is_packed_batching"),
]
