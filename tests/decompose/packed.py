"""Rows of decompose/packed.py."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..rules.harness import Array, Case, normal, positive

MS = "com.microsoft"


def packed(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).integers(0, 256, shape).astype(np.uint8)


def matmul(bits: int, block: int, width: int, zeros: Array | None = None, bias: bool = False, **options: Any) -> Case:
    """Five rows of a weight in blocks."""
    blocks = -(-width // block)
    fixed = [packed(5, blocks, block * bits // 8), positive(5, blocks) / 2**bits, zeros]
    inputs = [normal(2, 3, width), *fixed, *([None, normal(5)] if bias else [])]
    attributes = {"K": width, "N": 5, "bits": bits, "block_size": block}
    return Case(f"{MS}::MatMulNBits", inputs, attributes, fixed=(1, 2, 3, 5), **options)


CASES = [
    matmul(4, 16, 32),
    matmul(4, 16, 32, bias=True),
    matmul(4, 32, 40),
    matmul(4, 16, 32, packed(5, 1)),
    matmul(4, 16, 48, packed(5, 2)),
    matmul(4, 16, 32, positive(5, 2) * 4, label="fractions"),
    matmul(8, 32, 64),
    matmul(8, 32, 64, packed(5, 2)),
    matmul(2, 16, 32),
    matmul(2, 16, 32, packed(5, 1)),
]
REFUSED = [
    (matmul(3, 32, 32), "3 bits"),
    (
        Case(
            f"{MS}::MatMulNBits",
            [normal(3, 32), packed(5, 2, 8), positive(5, 2)],
            {"K": 32, "N": 5, "bits": 4, "block_size": 16, "weight_prepacked": 1},
        ),
        "reordered",
    ),
]
