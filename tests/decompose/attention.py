"""Rows of decompose/attention.py."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..rules.harness import Array, Case, normal

MS = "com.microsoft"
HEADS = {"num_heads": 2}
X = [normal(2, 4, 6), normal(6, 24), normal(24)]  # two heads of 4
PAST = normal(2, 2, 2, 3, 4)
Q, K, V = normal(2, 4, 8), normal(2, 5, 8), normal(2, 5, 8)[::-1]
PAST_K, PAST_V = normal(2, 2, 3, 4), normal(2, 2, 3, 4)[::-1]


def ints(*values: Any) -> Array:
    return np.array(values, np.int32)


def random_mask(*shape: int) -> Array:
    mask = np.random.default_rng(sum(shape)).integers(0, 2, shape)
    return np.maximum(mask, np.arange(shape[-1]) == 0).astype(np.int32)


def plain(q: Array, k: Array, v: Array) -> tuple[Array, ...]:
    """Attention over (batch, heads, sequence, size); the outputs of MultiHeadAttention."""
    scores = q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1])
    p = np.exp(scores - scores.max(-1, keepdims=True))
    y = (p / p.sum(-1, keepdims=True) @ v).swapaxes(1, 2)
    return y.reshape(*y.shape[:2], -1), k, v, scores


def split(x: Array) -> Array:
    return x.reshape(*x.shape[:2], 2, -1).swapaxes(1, 2)


def packed(*xs: Array) -> Any:
    """The last one is packed: (batch, sequence, heads, 2 or 3, size)."""
    return plain(*map(split, xs[:-1]), *(xs[-1][:, :, :, i].swapaxes(1, 2) for i in range(xs[-1].shape[3])))[0]


def four(x: Array, weight: Array, b: Array, mask: Array) -> Array:
    """Attention where each row of a mask with room for longer sequences says which keys a query looks at."""
    q, k, v = (split(part) for part in np.split(x @ weight + b, 3, axis=-1))
    scores = q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1])
    p = np.exp(scores) * (mask[:, :, : q.shape[2], : q.shape[2]] > 0)
    y = (p / p.sum(-1, keepdims=True) @ v).swapaxes(1, 2)
    return np.asarray(y.reshape(*y.shape[:2], -1))


CASES = [
    Case(f"{MS}::Attention", X, HEADS),
    Case(f"{MS}::Attention", X, {**HEADS, "unidirectional": 1}),
    Case(f"{MS}::Attention", X, {**HEADS, "scale": 0.3, "unidirectional": 1, "mask_filter_value": -2.0}),
    Case(f"{MS}::Attention", [X[0], normal(6, 26), normal(26)], {**HEADS, "qkv_hidden_sizes": [8, 8, 10]}),
    Case(f"{MS}::Attention", [*X, ints(2, 4)], HEADS, label="ends"),
    Case(f"{MS}::Attention", [*X, ints(4, 3, 1, 0)], HEADS, label="ends and begins"),
    Case(f"{MS}::Attention", [*X, ints(2, 4)], {**HEADS, "mask_filter_value": -1.5}, label="soft ends"),
    Case(f"{MS}::Attention", [*X, random_mask(2, 4)], HEADS),
    Case(f"{MS}::Attention", [*X, random_mask(2, 4)], {**HEADS, "unidirectional": 1, "mask_filter_value": -1.5}),
    Case(f"{MS}::Attention", [*X, random_mask(2, 4, 4)], {**HEADS, "mask_filter_value": -1.5}),
    Case(f"{MS}::Attention", [*X, None, PAST], {**HEADS, "unidirectional": 1}, outputs=2),
    Case(f"{MS}::Attention", [*X, random_mask(2, 7), PAST], HEADS, outputs=2),
    Case(f"{MS}::Attention", [*X, random_mask(2, 4, 7), PAST], HEADS, outputs=2),
    Case(f"{MS}::Attention", [*X, random_mask(2, 1, 6, 6)], HEADS, forward=four),
    Case(f"{MS}::Attention", [*X, ints(4, 3, 0, 4, 8, 0, 4, 7)], HEADS, label="lengths"),
    Case(f"{MS}::Attention", X, HEADS, outputs=2),
    Case(f"{MS}::Attention", [*X, None, None, normal(2, 2, 4, 4)], HEADS),
    Case(f"{MS}::Attention", [*X, random_mask(2, 4), None, normal(1, 2, 4, 4)], {**HEADS, "unidirectional": 1}),
    Case(f"{MS}::MultiHeadAttention", [Q, K, V], HEADS),
    Case(f"{MS}::MultiHeadAttention", [Q, K, V], {**HEADS, "scale": 0.3}, outputs=3),
    Case(f"{MS}::MultiHeadAttention", [Q, K, normal(2, 5, 12), normal(28)], HEADS),
    Case(f"{MS}::MultiHeadAttention", [Q, K, V, normal(24), ints(5, 3)], HEADS),
    Case(f"{MS}::MultiHeadAttention", [Q, K, V, None, random_mask(2, 5)], {**HEADS, "mask_filter_value": -1.5}),
    Case(f"{MS}::MultiHeadAttention", [Q, K, V, None, random_mask(2, 4, 5)], HEADS),
    Case(f"{MS}::MultiHeadAttention", [Q, K, V, None, None, normal(1, 2, 4, 5)], HEADS),
    Case(f"{MS}::MultiHeadAttention", [Q, Q[::-1], Q + 1], {**HEADS, "unidirectional": 1}),
    Case(f"{MS}::MultiHeadAttention", [Q, Q[::-1], Q + 1], {**HEADS, "unidirectional": 1, "mask_filter_value": -1.0}),
    Case(f"{MS}::MultiHeadAttention", [Q, normal(2, 2, 5, 4), normal(2, 2, 5, 4)[::-1]], HEADS),
    Case(f"{MS}::MultiHeadAttention", [Q, K, V, None, None, None, PAST_K, PAST_V], HEADS, outputs=3),
    Case(
        f"{MS}::MultiHeadAttention",
        [Q, K, V],
        HEADS,
        outputs=4,
        forward=lambda q, k, v: plain(*map(split, (q, k, v))),
    ),
    Case(f"{MS}::MultiHeadAttention", [Q, normal(2, 2, 5, 4), normal(2, 2, 5, 4)[::-1], normal(24)], HEADS),
    Case(f"{MS}::MultiHeadAttention", [Q, K, V, None, ints(4, 5, 0, 4, 8, 0, 5, 10)], HEADS, label="lengths"),
    Case(f"{MS}::MultiHeadAttention", [Q, K[:, :3], V[:, :3]], {**HEADS, "unidirectional": 1}),
    Case(f"{MS}::MultiHeadAttention", [normal(2, 4, 2, 3, 4)], HEADS, forward=packed),
    Case(f"{MS}::MultiHeadAttention", [Q, normal(2, 5, 2, 2, 4)], HEADS, forward=packed),
    Case(
        f"{MS}::MultiHeadAttention",
        [Q, Q[::-1], Q + 1, normal(24), random_mask(2, 7), None, PAST_K, PAST_V],
        {**HEADS, "unidirectional": 1},
        outputs=3,
    ),
]
REFUSED = [
    (Case(f"{MS}::Attention", X, {**HEADS, "do_rotary": 1}), "do_rotary=1"),
    (
        Case(f"{MS}::Attention", [*X, None, PAST], {**HEADS, "past_present_share_buffer": 1}),
        "past_present_share_buffer",
    ),
    (Case(f"{MS}::MultiHeadAttention", [Q, K, V, *[None] * 5, ints(3)], HEADS), "past_sequence_length"),
    (Case(f"{MS}::MultiHeadAttention", [Q], HEADS), "no key"),
]
