"""Rows of decompose/bias.py, which are formulas: onnxruntime has these operators for graphics cards only."""

from __future__ import annotations

from math import erf
from typing import Any

import numpy as np

from ..rules.harness import Array, Case, normal

MS = "com.microsoft"


def total(*xs: Array) -> Any:
    return sum(x for x in xs if x.dtype.kind == "f" and x.ndim)


def split_gelu(x: Array, bias: Array) -> Array:
    a, b = np.split(x + bias, 2, axis=-1)
    return a * b * (1 + np.vectorize(erf)(b / np.sqrt(2))) / 2


def softmax(x: Array, bias: Array, axis: int) -> Array:
    over = tuple(range(axis, x.ndim)) if axis >= 0 else (-1,)
    e = np.exp(x + bias)
    return np.asarray(e / e.sum(over, keepdims=True))


CASES = [
    Case(f"{MS}::BiasAdd", [normal(2, 3, 4), normal(4), normal(2, 3, 4)], forward=total),
    Case(f"{MS}::BiasDropout", [normal(2, 3, 4), normal(4)], forward=total),
    Case(
        f"{MS}::BiasDropout",
        [normal(2, 3, 4), normal(4), normal(2, 3, 4), np.array(0.3), np.array(False)],
        fixed=(3, 4),
        forward=total,
    ),
    Case(f"{MS}::BiasSplitGelu", [normal(2, 3, 8), normal(8)], forward=split_gelu),
    Case(
        f"{MS}::BiasSoftmax",
        [normal(2, 3, 4, 4), normal(2, 1, 1, 4)],
        {"axis": 3, "is_inner_broadcast": 1},
        forward=lambda x, b: softmax(x, b, 3),
    ),
    Case(
        f"{MS}::BiasSoftmax",
        [normal(2, 3, 4, 4), normal(3, 4, 4)],
        {"axis": 2, "is_inner_broadcast": 0},
        forward=lambda x, b: softmax(x, b, 2),
    ),
    Case(
        f"{MS}::BiasSoftmax",
        [normal(2, 3, 4), normal(1, 4)],
        {"axis": -1, "is_inner_broadcast": 1},
        forward=lambda x, b: softmax(x, b, -1),
    ),
]
REFUSED = [
    (
        Case(f"{MS}::BiasDropout", [normal(2, 4), normal(4), None, None, np.array(True)], fixed=(4,)),
        "its training_mode is on",
    )
]
