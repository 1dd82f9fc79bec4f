"""The nearest of any number of vectors: exact, by blocked matrix products over what may lie on disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import ResultError

Metric = Literal["cosine", "l2"]

BLOCK = 4096
"""Vectors at a time: few enough to stay in the cache between product and norms."""
QUERIES = 256
"""Queries at a time."""
_FEW = 16  # queries: their products wait for memory, and threads for each other
_ZERO = 1e-30  # squared length of what has no direction: float32 has no digits left below
_LARGEST = 4e37  # squared length; products of larger ones overflow


def nearest(
    queries: NDArray[np.float32],
    vectors: NDArray[np.float32],
    top: int,
    metric: Metric = "cosine",
    without: NDArray[np.int64] | None = None,
    progress: Callable[[int], None] = lambda n: None,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The ``top`` nearest of N vectors to each of Q queries, nearest first; of equally near ones the first.

    The distance is 1 - a.b / |a||b|, of a vector shorter than 1e-15 always 1, or |a - b|. Products in float32 only say
    which vectors may be among the nearest: those that are no farther than the farthest found so far plus twice what
    rounding can do. These are measured in float64, so the answer is that of a search in float64.

    Args:
        queries: (Q, D).
        vectors: (N, D), in memory or mapped from a file; read in blocks.
        top: how many.
        metric: which distance.
        without: (Q,), a vector that does not count for each query, -1 for none.
        progress: called with the number of products done.

    Returns:
        Numbers (Q, top) and distances (Q, top); -1 and infinity where there are fewer.

    Raises:
        ResultError: a vector is not finite.
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    without = np.full(len(queries), -1) if without is None else without
    which = np.full((len(queries), top), -1, np.int64)
    far = np.full((len(queries), top), np.inf)
    with threadpool_limits(1 if len(queries) < _FEW else None):
        for i in range(0, len(queries), QUERIES):
            part = slice(i, i + QUERIES)
            for start in range(0, len(vectors), BLOCK):
                block = np.asarray(vectors[start : start + BLOCK], np.float32)
                _merge(which[part], far[part], queries[part], block, start, metric, without[part])
                progress(len(block) * len(queries[part]))
    return which, far


def _merge(
    which: NDArray[np.int64],
    far: NDArray[np.float64],
    queries: NDArray[np.float32],
    block: NDArray[np.float32],
    start: int,
    metric: Metric,
    without: NDArray[np.int64],
) -> None:
    """Take what a block has into the nearest so far, in place."""
    about, error = _roughly(queries, block, metric)  # (Q, B): what grows with the distance
    rows = np.flatnonzero((without >= start) & (without < start + len(block)))
    about[rows, without[rows] - start] = np.inf
    top = far.shape[1]
    limit = (far[:, -1] ** 2 if metric == "l2" else far[:, -1]) + 2 * error
    for q in np.flatnonzero((about <= limit[:, None]).any(axis=1)):
        near = np.flatnonzero(about[q] <= limit[q])
        if len(near) > top:
            near = near[about[q, near] <= np.partition(about[q, near], top - 1)[top - 1] + 2 * error[q]]
        near = near[np.isfinite(about[q, near])]
        found = np.concatenate([far[q], exactly(queries[q], block[near], metric)])
        number = np.concatenate([which[q], start + near])
        best = np.lexsort((number, found))[:top]
        which[q], far[q] = number[best], found[best]


def _roughly(
    queries: NDArray[np.float32], block: NDArray[np.float32], metric: Metric
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Distances in float32, for l2 squared, and how wrong they may be, per query.

    A sum of D products is wrong by D u times the sum of their magnitudes at the most, however it is added up, which
    is D u |a||b| or less; u is half a unit in the last place.
    """
    unit = (queries.shape[1] + 8) * np.finfo(np.float32).eps / 2
    square = np.einsum("ij,ij->i", block, block)
    own = np.einsum("ij,ij->i", queries, queries, dtype=np.float64)
    if not (own.max() < _LARGEST and square.max() < _LARGEST):
        raise ResultError("A vector holds what is not a number, or numbers beyond 1e18: embed the photos again.")
    if metric == "l2":
        about = queries @ block.T
        about *= -2
        about += square
        about += own.astype(np.float32)[:, None]
        return about, 2 * unit * (np.sqrt(own) + np.sqrt(float(square.max()))) ** 2 + _ZERO
    about = (queries / _length(own)[:, None]).astype(np.float32) @ block.T
    about /= -_length(square)
    about += 1
    return about, np.full(len(queries), 4 * unit)


def exactly(query: NDArray[np.float32], vectors: NDArray[np.float32], metric: Metric) -> NDArray[np.float64]:
    """Distances of one query to vectors, in float64."""
    a, b = query.astype(np.float64), vectors.astype(np.float64)
    if metric == "l2":
        return np.asarray(np.sqrt(((a - b) ** 2).sum(axis=1)))
    length = _length((a * a).sum()) * _length((b * b).sum(axis=1))
    return np.asarray(1 - ((a * b).sum(axis=1) / length).clip(-1, 1))


def _length(square: NDArray[Any]) -> NDArray[Any]:
    """Lengths; infinite for what has no direction, so that its similarity is 0."""
    return np.sqrt(np.where(square > _ZERO, square, np.inf))
