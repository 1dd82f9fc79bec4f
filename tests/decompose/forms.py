"""Rows of decompose/forms.py: forms without a right kernel, against what the standard says."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..rules import recurrent
from ..rules.harness import Array, Case, normal, positive


def batch_first(op: str, optional: str = "", **how: Any) -> Case:
    """A recurrent layer whose X, Y and states begin with the batch."""
    case = recurrent.row(op, optional, **how)
    moved = {0, 5, 6}  # X, the first H and the first C

    def swap(i: int, x: Array | None) -> Array | None:
        return np.swapaxes(x, 0, 1) if i in moved and x is not None else x

    def forward(*xs: Any) -> list[Array]:
        assert case.forward is not None
        y, *states = case.forward(*(swap(i, x) for i, x in enumerate(xs)))
        return [np.transpose(y, (2, 0, 1, 3)), *(np.swapaxes(s, 0, 1) for s in states)]

    inputs = [swap(i, x) for i, x in enumerate(case.inputs)]
    return Case(op, inputs, {**case.attributes, "layout": 1}, case.outputs, forward=forward)


def masked(mask: Array, past: int = 0) -> Case:
    """Attention under a mask that covers 3 of 5 keys."""

    def forward(q: Array, k: Array, v: Array, mask: Array, *pasts: Array) -> tuple[Array, ...]:
        k, v = (np.concatenate([old, new], 2) for old, new in zip(pasts, (k, v), strict=True)) if pasts else (k, v)
        scores = np.einsum("bhqd,bhkd->bhqk", q, k)[..., :3] / np.sqrt(q.shape[-1])
        scores = np.where(mask, scores, -np.inf) if mask.dtype == bool else scores + mask
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        y = np.einsum("bhqk,bhkd->bhqd", weights / weights.sum(-1, keepdims=True), v[:, :, :3])
        return (y, k, v) if pasts else (y,)

    keys = [normal(2, 3, 5 - past, 4), normal(2, 3, 5 - past, 4) / 2]
    pasts = [normal(2, 3, past, 4) - 1, normal(2, 3, past, 4) + 1] if past else []
    inputs, outputs = [normal(2, 3, 2, 4), *keys, mask, *pasts], 3 if past else 1
    return Case("Attention", inputs, outputs=outputs, opset=24, forward=forward, dynamic=False)


def power(x: Array, e: Array) -> Array:
    return x ** e.astype(np.int64)


CASES = [
    batch_first("LSTM", "blhcp", direction="bidirectional"),
    batch_first("LSTM", "", outputs=1),
    batch_first("GRU", "bh", direction="reverse"),
    batch_first("RNN", "l", direction="bidirectional"),
    masked(normal(2, 3)),
    masked(normal(2, 3) > -1),
    masked(normal(2, 1, 2, 3), past=2),
    Case("Pow", [positive(2, 3), np.array([1, 2, 3], np.uint32)], forward=power),
    Case("Pow", [normal(2, 3), np.array(2, np.uint64)], forward=power),
    Case(
        "Resize",
        [normal(1, 2, 4, 6), None, None, np.array([8, 9])],
        {"axes": [-2, -1], "keep_aspect_ratio_policy": "not_larger", "mode": "nearest",
         "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
        fixed=(3,),
        # 9 / 6 = 1.5 is the smaller factor: 6 rows, 9 columns.
        forward=lambda x, *_: x[:, :, [0, 0, 1, 2, 2, 3]][..., [0, 0, 1, 2, 2, 3, 4, 4, 5]],
    ),
]  # fmt: skip
