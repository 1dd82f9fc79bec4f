"""ROAD: what becomes of the score when pixels are taken away so that the model cannot see where."""

from __future__ import annotations

from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from ..attribution import Attribution
from ..errors import InputError
from ..maps import channels_back, channels_first
from ..methods.baselines import cast
from ..methods.inputs import Feeds, Input, ModelLike
from ..methods.job import SCORE, How, draws
from .subject import Floats, job_of, ranked


def road(
    model: ModelLike,
    x: Input,
    result: Attribution,
    *,
    shares: tuple[float, ...] = (0.2, 0.4, 0.6, 0.8),
    seed: int = 0,
    **how: Unpack[How],
) -> Floats:
    """ROAD: how much more the score falls without the most important pixels than without the least important.

    (mean score without the least important - without the most important) / 2, (N,), in units of the score. What goes is
    filled in from its neighbours by noisy linear imputation, which leaves no edges for the model to see.

    Rong et al., A Consistent and Efficient Evaluation Strategy for Attribution Methods, ICML 2022.

    Args:
        model: as for the method.
        x: the photo that was explained.
        result: the explanation.
        shares: of the pixels that go.
        seed: of the noise.
        how: as for the method.

    Raises:
        InputError: the input is no picture, or a share is none.
    """
    if not shares or not all(0 < share < 1 for share in shares):
        raise InputError(f"ROAD takes shares between 0 and 1 of the pixels away, not {shares} (shares).")
    job = job_of(model, x, result, how)
    if job.preprocessing is None:
        raise InputError("ROAD fills pixels in from their neighbours, so it needs a picture: use deletion.")
    layout = job.preprocessing.layout
    view, ranks = channels_first(job.feeds[job.input.name], layout), ranked(job, result)
    size = ranks[0].size

    def vary(i: int, which: NDArray[np.int64]) -> Feeds:
        copies = []
        for k, rng in zip(which, draws(seed, which), strict=True):
            share = shares[k % len(shares)]
            gone = ranks[i] < share * size if k < len(shares) else ranks[i] >= (1 - share) * size
            copies.append(impute(view[i].astype(np.float64), gone, rng))
        return {job.input.name: cast(channels_back(np.stack(copies), layout), view.dtype)}

    scores = np.zeros((job.n, 2 * len(shares)))
    for i, which, found in job.sweep("ROAD", 2 * len(shares), vary):
        scores[i, which] = found[SCORE]
    most, least = scores[:, : len(shares)].mean(axis=1), scores[:, len(shares) :].mean(axis=1)
    return np.asarray((least - most) / 2)


def impute(picture: NDArray[Any], gone: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[Any]:
    """Pixels (C, H, W) that are gone, (H, W), as the weighted mean of their neighbours, with noise of 0.01.

    Direct neighbours weigh 1/6, diagonal ones 1/12 (Rong et al.); at the border the others weigh the more.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.linalg import spsolve

    if not gone.any():
        return picture
    height, width = gone.shape
    index = np.full(gone.shape, -1)
    index[gone] = np.arange(gone.sum())
    rows_at, columns_at = np.nonzero(gone)
    entries, known = [], np.zeros((len(rows_at), len(picture)))
    total = np.zeros(len(rows_at))
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            if dy == dx == 0:
                continue
            weight = 1 / 6 if 0 in (dy, dx) else 1 / 12
            y, x = rows_at + dy, columns_at + dx
            inside = np.flatnonzero((y >= 0) & (y < height) & (x >= 0) & (x < width))
            total[inside] += weight
            at = index[y[inside], x[inside]]
            entries.append((inside[at >= 0], at[at >= 0], weight))
            there = inside[at < 0]
            known[there] += weight * picture[:, y[there], x[there]].T
    n = len(rows_at)
    rows = np.concatenate([np.arange(n), *(e[0] for e in entries)])
    columns = np.concatenate([np.arange(n), *(e[1] for e in entries)])
    values = np.concatenate([total, *(np.full(len(e[0]), -e[2]) for e in entries)])
    solved = spsolve(coo_matrix((values, (rows, columns)), shape=(n, n)).tocsc(), known) if n < gone.size else known
    filled = picture.copy()
    noise = rng.normal(0, 0.01, (n, len(picture)))
    filled[:, gone] = (solved.reshape(n, len(picture)) + noise).T
    return filled
