"""Linear CKA: how alike two layers, of one network or of two, arrange the same photos."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
MOST = 4096
"""Features of a photo that are compared: a layer with more is averaged over neighbouring positions."""


def bounded(values: NDArray[Any], layout: str | None, most: int = MOST) -> NDArray[np.float32]:
    """A row of features per sample: maps are averaged over the cells of the finest square grid that gives `most`.

    Of what is no map, but has more axes and too many numbers, those axes are averaged.
    """
    if layout is not None and "C" in layout and values.ndim == len(layout):
        values = np.moveaxis(values, layout.index("C"), 1)
    elif values.ndim > 2:
        values = np.moveaxis(values, -1, 1)
    cells = max(1, int((most / values.shape[1]) ** (1 / max(1, values.ndim - 2))))
    found: NDArray[Any] = values.astype(np.float32)
    for axis in range(2, values.ndim):
        starts = np.linspace(0, values.shape[axis], min(cells, values.shape[axis]) + 1).round().astype(int)
        sums = np.add.reduceat(found, starts[:-1], axis=axis, dtype=np.float64)
        found = sums / np.diff(starts).reshape(-1, *[1] * (values.ndim - 1 - axis))
    return np.ascontiguousarray(found.reshape(len(found), -1), np.float32)


def gram(features: NDArray[Any]) -> Floats:
    """The inner products of all pairs of samples (n, n), from features (n, d), each feature centred."""
    x = np.asarray(features, np.float64)
    x = x - x[0]  # what is constant becomes zero, not what rounding leaves of it
    x = x - x.mean(axis=0)
    return np.asarray(x @ x.T)


def cka(a: Floats, b: Floats, debiased: bool = False) -> float:
    """Linear centred kernel alignment of the same samples, from what `gram` gives of two sets of features.

    HSIC(A, B) / sqrt(HSIC(A, A) HSIC(B, B)), 1 for features that are turned or scaled, 0 for unrelated ones; for
    features X and Y with centred columns that is |Y'X|^2 / (|X'X| |Y'Y|). The plain estimate is too high where there
    are fewer samples than features; `debiased` takes the unbiased estimate of HSIC (Song et al. 2012), which needs
    four samples and may fall below 0. NaN where one of them is constant.

    Kornblith et al., Similarity of Neural Network Representations Revisited, ICML 2019.
    """
    hsic = _unbiased if debiased else _plain
    own = hsic(a, a), hsic(b, b)
    return hsic(a, b) / own[0] * math.sqrt(own[0] / own[1]) if min(own) > 0 else math.nan


def _plain(a: Floats, b: Floats) -> float:
    """HSIC without its factor 1 / (n - 1)^2, which cancels."""
    return float((a * b).sum())


def _unbiased(a: Floats, b: Floats) -> float:
    n = len(a)
    if n < 4:
        return float("nan")
    a, b = (m - np.diag(np.diag(m)) for m in (a, b))
    ones = a.sum() * b.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * float(a.sum(axis=0) @ b.sum(axis=0))
    return float(((a * b).sum() + ones) / (n * (n - 3)))
