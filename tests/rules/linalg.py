from __future__ import annotations

import numpy as np

from .harness import Array, Case, normal


def of_rank(n: int, rank: int) -> Array:
    """Two matrices of eighths, so that their rank is exact."""
    g = np.random.default_rng(10 * n + rank)
    return np.stack([g.integers(-3, 4, (n, rank)) @ g.integers(-3, 4, (rank, n)) for _ in range(2)]) / 8


def det(x: Array) -> Array:
    """By the first row: exact where LU divides by next to nothing."""
    if x.shape[-1] == 1:
        return x[..., 0, 0]
    minors = [det(np.delete(x[..., 1:, :], j, axis=-1)) for j in range(x.shape[-1])]
    return sum((-1) ** j * x[..., 0, j] * minor for j, minor in enumerate(minors))


CASES = [
    *(Case("Det", [normal(2, 3, n, n)]) for n in (1, 2, 3, 4, 5)),
    Case("Det", [normal(6, 6)], label="alone"),
    Case("Det", [normal(2, 12, 12) / 3]),
    Case("Det", [np.eye(5)[[3, 0, 1, 4, 2]]], label="permutation"),
    Case("Det", [np.outer([1.0, 2, 3], [2.0, 0, 1])], label="singular"),
    *(
        Case("Det", [of_rank(n, rank)], step=2e-6, forward=det, label=f"rank{rank}")
        for n, rank in ((2, 1), (4, 3), (5, 4), (4, 2))
    ),
    Case("Det", [np.zeros((1, 3, 3))], forward=det, label="zero"),
]
