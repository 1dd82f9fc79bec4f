"""Rows of decompose/early.py."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..rules.harness import Array, Case, normal

MS = "com.microsoft"


def ints(*values: Any, dtype: Any = np.int64) -> Array:
    return np.array(values, dtype)


def product(a: Array, b: Array) -> Array:
    c = (a[..., 0] + 1j * a[..., 1]) * (b[..., 0] + 1j * b[..., 1])
    return np.stack([c.real, c.imag], -1)


GRID = [normal(2, 3, 5, 4), normal(2, 4, 3, 2) / 2]
PAIRS = [normal(3, 4, 2), normal(4, 2)]
CASES = [
    Case(f"{MS}::Pad", [normal(2, 5), ints(1, 0, 0, 2)], fixed=(1,)),
    Case(f"{MS}::Pad", [normal(2, 5), ints([1, 0, 0, 2]), normal(1)], fixed=(1,)),
    Case(f"{MS}::Pad", [normal(2, 5), ints(0, 1, 0, -2)], {"mode": "reflect"}, fixed=(1,)),
    Case(f"{MS}::GridSample", GRID),
    Case(f"{MS}::GridSample", GRID, {"mode": "bicubic", "padding_mode": "border"}),
    Case(f"{MS}::GridSample", GRID, {"mode": "nearest", "padding_mode": "reflection", "align_corners": 1}),
    Case(f"{MS}::Trilu", [normal(2, 4, 5)]),
    Case(f"{MS}::Trilu", [normal(4, 5), np.array(1)], {"upper": 0}),
    Case(f"{MS}::ExpandDims", [normal(2, 5), np.array(1, np.int32)], fixed=(1,)),
    Case(f"{MS}::ExpandDims", [normal(2, 5), np.array(-1, np.int32)], fixed=(1,)),
    Case(f"{MS}::GatherND", [normal(4, 3, 2), ints([1, 2], [0, 0], dtype=np.int32)]),
    Case(f"{MS}::Range", [np.array(0.5), np.array([3.5])]),
    Case(f"{MS}::Range", [np.array(0.5), np.array(3.5), np.array([0.7])]),
    Case(f"{MS}::CDist", [normal(3, 4), normal(5, 4)], {"metric": "sqeuclidean"}),
    Case(f"{MS}::CDist", [normal(3, 4), normal(5, 4)], {"metric": "euclidean"}),
    Case(f"{MS}::ComplexMul", PAIRS, forward=product),
    Case(f"{MS}::ComplexMulConj", PAIRS, forward=lambda a, b: product(a, b * [1, -1])),
]
REFUSED = [(Case(f"{MS}::CDist", [normal(3, 4), normal(5, 4)], {"metric": "cosine"}), "metric cosine")]
