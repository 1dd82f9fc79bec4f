"""Faithfulness: what becomes of the score when what an explanation calls important goes, comes, or moves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from ..attribution import Attribution
from ..errors import InputError, ResultError
from ..methods.baselines import Baseline, absent
from ..methods.inputs import Input, ModelLike, channels_back, channels_first
from ..methods.job import SCORE, How, Job, draws

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """How the score moves while positions change in the order of their importance.

    Attributes:
        shares: (K,), of the positions that have changed.
        scores: (N, K), the probability of the explained class, or the score where the target is no class.
        area: (N,), under the curve: the mean score along the way.
    """

    shares: Floats
    scores: Floats

    @property
    def area(self) -> Floats:
        """(N,), by the trapezoidal rule."""
        return np.asarray(np.trapezoid(self.scores, self.shares, axis=1))


def deletion(
    model: ModelLike,
    x: Input,
    result: Attribution,
    *,
    steps: int = 50,
    baseline: Baseline = "grey",
    **how: Unpack[How],
) -> Curve:
    """Deletion: the most important positions go first; the sooner the probability falls, the smaller the area.

    Petsiuk et al., RISE, BMVC 2018 (they take 224 steps).

    Args:
        model: as for the method.
        x: the input that was explained.
        result: the explanation.
        steps: runs per sample.
        baseline: what takes the place of a position; see `baselines.absent`. Zero where the input is no picture.
        how: as for the method.

    Raises:
        ResultError: the explanation does not fit the input.
    """
    job = _job(model, x, result, how)
    return _curve(job, "deletion", _ranks(job, result), job.feeds[job.input.name], _absent(job, baseline), steps)


def insertion(
    model: ModelLike,
    x: Input,
    result: Attribution,
    *,
    steps: int = 50,
    baseline: Baseline = "blur",
    **how: Unpack[How],
) -> Curve:
    """Insertion: the most important positions come first; the sooner the probability rises, the larger the area.

    Petsiuk et al., RISE, BMVC 2018. Arguments as for `deletion`; what the way begins with is a blurred picture.
    """
    job = _job(model, x, result, how)
    return _curve(job, "insertion", _ranks(job, result), _absent(job, baseline), job.feeds[job.input.name], steps)


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
        InputError: the input is no picture.
    """
    job = _job(model, x, result, how)
    if job.preprocessing is None or job.feeds[job.input.name].ndim != 4:
        raise InputError("ROAD fills pixels in from their neighbours, so it needs a picture: use deletion.")
    layout = job.preprocessing.layout
    view, ranks = channels_first(job.feeds[job.input.name], layout), _ranks(job, result)
    size = ranks[0].size

    def vary(i: int, which: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        copies = []
        for k, rng in zip(which, draws(seed, which), strict=True):
            share = shares[k % len(shares)]
            gone = ranks[i] < share * size if k < len(shares) else ranks[i] >= (1 - share) * size
            copies.append(impute(view[i], gone, rng))
        return {job.input.name: channels_back(np.stack(copies), layout)}

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


def average_drop(model: ModelLike, x: Input, result: Attribution, **how: Unpack[How]) -> Floats:
    """Average drop: the share of the probability that is lost when only what is important stays.

    max(0, p(x) - p(x times the map)) / p(x) per sample, (N,), the map scaled to [0, 1], negative values as none;
    what is not important becomes zero, as the model sees it.

    Chattopadhay et al., Grad-CAM++, WACV 2018. Arguments as for `deletion`.
    """
    job = _job(model, x, result, how)
    weights = np.maximum(_positions(job, result), 0)
    top = weights.max(axis=tuple(range(1, weights.ndim)), keepdims=True)
    kept = np.divide(weights, top, out=np.zeros_like(weights), where=top > 0)
    name = job.input.name
    feeds = job.feeds | {name: _spread(job, kept) * job.feeds[name]} | job.target.feeds(job.n)
    masked = job.forward([], job.target, feeds)
    before, after = (_probability(job, f, np.arange(job.n)) for f in (job.clean, masked))
    return np.asarray(np.maximum(before - after, 0) / before)


def infidelity(
    model: ModelLike,
    x: Input,
    result: Attribution,
    *,
    noise: float = 0.1,
    samples: int = 50,
    seed: int = 0,
    **how: Unpack[How],
) -> Floats:
    """Infidelity: the mean squared error of the explanation as a linear model of what noise does to the score.

    E[(sum(I phi) - (S(x) - S(x - I)))^2] with I ~ N(0, sd^2), (N,). phi is per unit of input, as signed gradients are;
    what is in units of the score, as integrated gradients, is to be divided by the input first.

    Yeh et al., On the (In)fidelity and Sensitivity of Explanations, NeurIPS 2019.

    Args:
        model: as for the method.
        x: the input that was explained.
        result: the explanation, shaped like the input.
        noise: standard deviation, as a share of the range of the sample.
        samples: draws of the noise.
        seed: of the noise.
        how: as for the method.

    Raises:
        ResultError: the explanation is a map, not shaped like the input.
    """
    job = _job(model, x, result, how)
    x0 = job.feeds[job.input.name]
    if result.values.shape != x0.shape:
        raise ResultError(
            f"Infidelity needs attributions shaped like the input, {x0.shape}; those of {result.method} are "
            f"{result.values.shape}."
        )
    spread = noise * (x0.max(axis=tuple(range(1, x0.ndim))) - x0.min(axis=tuple(range(1, x0.ndim))))

    def shifts(i: int, which: NDArray[np.int64]) -> NDArray[Any]:
        return np.stack([rng.normal(0, spread[i] or noise, x0.shape[1:]) for rng in draws(seed, which)])

    def vary(i: int, which: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        return {job.input.name: (x0[i] - shifts(i, which)).astype(x0.dtype)}

    errors = np.zeros(job.n)
    for i, which, found in job.sweep("infidelity", samples, vary):
        promised = (shifts(i, which) * result.values[i]).reshape(len(which), -1).sum(axis=1)
        errors[i] += ((promised - (job.clean[SCORE][i] - found[SCORE])) ** 2).sum()
    return errors / samples


def max_sensitivity(
    method: Callable[..., Attribution],
    model: ModelLike,
    x: Input,
    result: Attribution,
    *,
    radius: float = 0.02,
    samples: int = 10,
    seed: int = 0,
    **how: Any,
) -> Floats:
    """Max-sensitivity: the largest relative change of the explanation when the input changes a little.

    max |phi(x + d) - phi(x)| / |phi(x)| over draws of d, uniform in [-radius, radius] in units of the input, (N,).

    Yeh et al., On the (In)fidelity and Sensitivity of Explanations, NeurIPS 2019; radius and draws are captum's.

    Args:
        method: the method, as `onnx_inspect.gradcam`.
        model: as for the method.
        x: the input that was explained.
        result: the explanation.
        radius: of the cube that the changes come from.
        samples: how many changes.
        seed: of the changes.
        how: as for the method, its own arguments included.
    """
    job = _job(model, x, result, {k: v for k, v in how.items() if k in How.__annotations__})
    x0 = job.feeds[job.input.name]
    norm = np.linalg.norm(result.values.reshape(job.n, -1), axis=1)
    worst = np.zeros(job.n)
    for rng in draws(seed, np.arange(samples)):
        moved = x0 + rng.uniform(-radius, radius, x0.shape[1:]).astype(x0.dtype)
        other = method(job.model, job.feeds | {job.input.name: moved}, job.target, **how)
        change = np.linalg.norm((other.values - result.values).reshape(job.n, -1), axis=1)
        worst = np.maximum(worst, np.divide(change, norm, out=np.zeros(job.n), where=norm > 0))
    return worst


def _job(model: ModelLike, x: Input, result: Attribution, how: How | dict[str, Any]) -> Job:
    """The job that was explained: the classes stay what they were."""
    classes = [e.index for e in result.explained if e is not None]
    job = Job(model, x, classes if len(classes) == len(result) else result.target, **how)
    if job.n != len(result):
        raise ResultError(f"The explanation is of {len(result)} samples, the input holds {job.n}.")
    return job


def _absent(job: Job, baseline: Baseline) -> NDArray[Any]:
    if job.preprocessing is None and isinstance(baseline, str):
        baseline = "0"
    return absent(job, baseline)[job.input.name]


def _positions(job: Job, result: Attribution) -> Floats:
    """The heat at the positions of the input: a number for all channels of a position, or one per number."""
    x, heat = job.feeds[job.input.name], np.asarray(result.heat, np.float64)
    layout = job.layout(job.input.name)
    known = layout is not None and len(layout) == x.ndim
    places = tuple(s for s, a in zip(x.shape, layout, strict=True) if a != "C") if known and layout else x.shape
    if heat.shape in (places, x.shape):
        return heat
    if job.preprocessing is None or heat.ndim != 3 or len(places) != 3:
        raise ResultError(f"The map {heat.shape} does not lie on the input {x.shape}: explain the input, not a layer.")
    from .. import image

    return np.stack([image.resize(h.astype(np.float32), (places[1], places[2]), "linear") for h in heat]).astype(float)


def _spread(job: Job, positions: NDArray[Any]) -> NDArray[Any]:
    """Values at positions, (n, ...), broadcast over the channels of the input."""
    x, layout = job.feeds[job.input.name], job.layout(job.input.name)
    if positions.ndim == x.ndim or layout is None:
        return positions.astype(x.dtype)
    return np.expand_dims(positions, layout.index("C")).astype(x.dtype)


def _ranks(job: Job, result: Attribution) -> NDArray[np.int64]:
    """The place of every position in the order of importance, 0 first; among equals by chance, always the same."""
    heat = _positions(job, result)
    flat = heat.reshape(len(heat), -1)
    chance = np.random.default_rng(0).random(flat.shape[1])
    ranks = np.empty(flat.shape, np.int64)
    for row, values in zip(ranks, flat, strict=True):
        row[np.lexsort((chance, -values))] = np.arange(len(values))
    return ranks.reshape(heat.shape)


def _curve(
    job: Job, name: str, ranks: NDArray[np.int64], before: NDArray[Any], after: NDArray[Any], steps: int
) -> Curve:
    if steps < 1:
        raise InputError(f"A curve of {steps} steps has no area (steps).")
    shares = np.linspace(0, 1, steps + 1)
    size = ranks[0].size

    def vary(i: int, which: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        changed = np.stack([ranks[i] < share * size for share in shares[which]])
        return {job.input.name: np.where(_spread(job, changed) > 0, after[i], before[i])}

    scores = np.zeros((job.n, steps + 1))
    for i, which, found in job.sweep(name, steps + 1, vary):
        scores[i, which] = _probability(job, found, np.full(len(which), i))
    return Curve(shares, scores)


def _probability(job: Job, found: dict[str, NDArray[Any]], samples: NDArray[np.int64]) -> Floats:
    """The probability of the explained class per run, the score where the target is no class."""
    rows, classes = job.rows(found), job.explained(job.clean)
    if rows is None or any(c is None for c in classes):
        return np.asarray(found[SCORE], np.float64)
    return np.asarray(job.probabilities(rows)[np.arange(len(samples)), [classes[i] for i in samples]])
