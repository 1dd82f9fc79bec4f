"""Vectors brought to two dimensions, and how faithful that is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .nearest import nearest

DIRECTIONS = 50  # t-SNE works on that many, as van der Maaten & Hinton's did on 30
MEASURED = 3000  # points: trustworthiness takes the square of that
K = 5
_AT_ONCE = 5 * 10**7  # numbers; more go through PCA in parts
_PART = 4096  # vectors


def principal(vectors: NDArray[np.float32], count: int) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """The vectors in their first principal components (N, count), and the share of variance in each.

    Raises:
        InputError: all vectors are the same.
    """
    from sklearn.decomposition import PCA, IncrementalPCA

    fitting = min(count, *vectors.shape)
    parts = [slice(i, i + _PART) for i in range(0, len(vectors), _PART)]
    if np.ptp(vectors[: parts[0].stop], axis=0).max() == 0 and (vectors == vectors[0]).all():
        raise InputError("The features of all photos are the same: take another layer (--layer).")
    if vectors.size <= _AT_ONCE:
        model: Any = PCA(fitting, svd_solver="full").fit(vectors)
    else:
        model = IncrementalPCA(fitting)
        for part in parts:
            if len(vectors[part]) >= fitting:  # the rest of less than that is not fitted
                model.partial_fit(vectors[part])
    found = np.zeros((len(vectors), count), np.float32)
    for part in parts:
        found[part, :fitting] = model.transform(vectors[part])
    return found, np.pad(model.explained_variance_ratio_.astype(np.float64), (0, count - fitting))


def tsne(vectors: NDArray[np.float32], perplexity: float, seed: int) -> NDArray[np.float32]:
    """t-SNE (Barnes-Hut) of vectors on a plane, from their first two principal components on."""
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    with threadpool_limits(1):  # in what order threads add up is chance, and t-SNE makes much of it
        found = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(vectors)
    return np.asarray(found, np.float32)


def accuracy(vectors: NDArray[np.float32], classes: Sequence[str | None], asked: NDArray[np.int64]) -> float | None:
    """The share of points whose class most of their 5 nearest others have; of equally many the nearer class.

    Only points with a class count; None where fewer than two of those asked have one.
    """
    known = np.array([i for i, c in enumerate(classes) if c is not None], np.int64)
    place = np.full(len(classes), -1)
    place[known] = np.arange(len(known))
    own = place[asked[place[asked] >= 0]]
    if len(known) < 2 or not len(own):
        return None
    kinds = [c for c in classes if c is not None]
    among = np.ascontiguousarray(vectors[known])
    which, _ = nearest(among[own], among, K, "l2", own)
    votes = [Counter(kinds[j] for j in row if j >= 0).most_common(1)[0][0] for row in which.tolist()]
    return float(np.mean([kinds[i] == vote for i, vote in zip(own.tolist(), votes, strict=True)]))


def trust(vectors: NDArray[np.float32], points: NDArray[np.float32]) -> float | None:
    """Trustworthiness of the points (Venna & Kaski 2001) for 5 neighbours, fewer for few points."""
    from sklearn.manifold import trustworthiness

    k = min(K, (len(points) - 1) // 2)
    return float(trustworthiness(vectors, points, n_neighbors=k)) if k else None
