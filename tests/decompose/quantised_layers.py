"""Rows of decompose/quantised_layers.py."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..rules.harness import Array, Case, normal, positive
from ..rules.quantize import INT4, UINT4, integers
from .quantised import MS, scale

F, I32 = np.float32, np.int32


def lstm(
    kind: str, directions: int, *each: int, batch: int = 2, more: tuple[Array | None, ...] = (), **attributes: Any
) -> Case:
    """5 steps of 3 numbers to 4; the state is rounded to a grid in the kernel and not here."""
    w, r = integers(kind, directions, 3, 16), integers(kind, directions, 4, 16)
    grids = [
        x for _ in "wr" for x in ((positive(directions, *each) / 90).astype(F), np.zeros((directions, *each), kind))
    ]
    inputs = [normal(5, batch, 3), w, r, *(*more, *[None] * 5)[:5], *grids]
    how = {"hidden_size": 4, "direction": ["forward", "bidirectional"][directions - 1], **attributes}
    return Case(f"{MS}::DynamicQuantizeLSTM", inputs, how, 3, fixed=range(1, 12), rtol=6.5e-3)


def embedding(kind: str, segments: bool, mask: bool) -> Case:
    ids = np.array([[1, 5, 2, 0], [6, 6, 3, 1]], I32)
    tables = [integers(kind, 7, 8), integers(kind, 9, 8), integers(kind, 2, 8), integers(kind, 8), integers(kind, 8)]
    scales = [scale(s) for s in (0.01, 0.02, 0.03, 0.004, 0.005)]
    zeros = [np.array(z, kind) for z in (3, 0, 5, 1, 2)]
    if not segments:
        tables[2] = scales[2] = zeros[2] = None  # type: ignore[call-overload]
    inputs = [ids, ids % 2 if segments else None, *tables, ids % 3 if mask else None, *scales, *zeros]
    return Case(
        f"{MS}::QEmbedLayerNormalization", inputs, {"epsilon": 1e-6} if mask else {}, 2, fixed=range(2, 18), rtol=1e-5
    )


def gather(data: Array, *rest: Array, to: Any = (2, 0, 2), **attributes: int) -> Case:
    inputs = [data, np.array(to), *rest]
    return Case(f"{MS}::GatherBlockQuantized", inputs, {"block_size": 16, **attributes}, fixed=(0, 2, 3), rtol=1e-6)


def attention(
    mask: Array | None = None, past: Array | None = None, kind: str = "int8", each: bool = True, **attributes: Any
) -> Case:
    """2 samples of 4 tokens of 6 numbers, to 2 heads of 4."""
    scales = [scale(0.02), (positive(24) / 90).astype(F) if each else scale(0.01)]
    zeros = [np.array(128, np.uint8), integers(kind, 24) // 9 if each else np.array(3, kind)]
    inputs = [integers("uint8", 2, 4, 6), integers(kind, 6, 24), normal(24), *scales, mask, *zeros, past]
    how = {"num_heads": 2, **attributes}
    return Case(f"{MS}::QAttention", inputs, how, 1 if past is None else 2, fixed=(1,), rtol=1e-5)


CASES = [
    attention(),
    attention(np.array([3, 4], I32), kind="uint8", each=False),
    attention(np.array([3, 4, 0, 1], I32), scale=0.3),
    attention(np.array([[1, 1, 0, 1], [0, 1, 1, 1]], I32), unidirectional=1),
    attention(None, normal(2, 2, 2, 3, 4), unidirectional=1),
    lstm("int8", 1),
    lstm("uint8", 2, 16, more=(normal(2, 32),)),
    lstm("int8", 2, more=(None, np.array([5, 3], I32), normal(2, 2, 4), normal(2, 2, 4))),
    lstm(
        "int8", 1, 16, more=(None, None, None, None, normal(1, 12)), activations=["Sigmoid", "Tanh", "Relu"], clip=0.6
    ),
    embedding("uint8", segments=True, mask=True),
    embedding("int8", segments=False, mask=False),
    gather(integers("int8", 4, 40).astype(INT4), scale(0.3, 4, 3)),
    gather(integers("uint8", 4, 40).astype(UINT4), scale(0.3, 4, 3), integers("uint8", 4, 3).astype(UINT4)),
    gather(integers("int8", 40, 5).astype(INT4), scale(0.3, 3, 5), gather_axis=1, quantize_axis=0, to=[[1, 0, 4]]),
    gather(integers("int8", 40, 5).astype(INT4), scale(0.3, 3, 5), quantize_axis=0, to=[[1, 38]]),
    *[
        gather(integers("uint8", 4, 20), positive(4, blocks).astype(F), *zeros, bits=bits, to=[[1, 3]])
        for bits, blocks in ((2, 5), (4, 3), (8, 2))
        for zeros in ([], [integers("uint8", 4, -(-blocks * bits // 8))])
    ],
]
