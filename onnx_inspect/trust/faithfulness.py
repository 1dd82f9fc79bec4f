"""Faithfulness: what becomes of the score when what an explanation calls important goes or comes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from ..attribution import Attribution
from ..errors import InputError
from ..methods.baselines import Baseline, absent, cast
from ..methods.inputs import Feeds, Input, ModelLike
from ..methods.job import How, Job
from .subject import Floats, job_of, over_channels, positions_of, probability, ranked


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
        baseline: what takes the place of a position; see `baselines.absent`. Where the input is no picture, grey and
            blur are zero.
        how: as for the method.

    Raises:
        ResultError: the explanation does not fit the input.
    """
    job = job_of(model, x, result, how)
    return _curve(job, "deletion", ranked(job, result), job.feeds[job.input.name], _absent(job, baseline), steps)


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
    job = job_of(model, x, result, how)
    return _curve(job, "insertion", ranked(job, result), _absent(job, baseline), job.feeds[job.input.name], steps)


def average_drop(model: ModelLike, x: Input, result: Attribution, **how: Unpack[How]) -> Floats:
    """Average drop: the share of the probability that is lost when only what is important stays.

    max(0, p(x) - p(x times the map)) / p(x) per sample, (N,), the map scaled to [0, 1], negative values as none;
    what is not important becomes zero, as the model sees it.

    Chattopadhay et al., Grad-CAM++, WACV 2018. Arguments as for `deletion`.
    """
    job = job_of(model, x, result, how)
    weights = np.maximum(positions_of(job, result), 0)
    top = weights.max(axis=tuple(range(1, weights.ndim)), keepdims=True)
    kept = np.divide(weights, top, out=np.zeros_like(weights), where=top > 0)
    x0 = job.feeds[job.input.name]
    feeds = job.feeds | {job.input.name: cast(over_channels(job, kept) * x0, x0.dtype)} | job.target.feeds(job.n)
    masked = job.forward([], job.target, feeds)
    before, after = (probability(job, f, np.arange(job.n)) for f in (job.clean, masked))
    return np.asarray(np.maximum(before - after, 0) / before)


def _absent(job: Job, baseline: Baseline) -> NDArray[Any]:
    if job.preprocessing is None and isinstance(baseline, str) and baseline in ("grey", "blur"):
        baseline = "0"
    return absent(job, baseline, names=[job.input.name])[job.input.name]


def _curve(
    job: Job, name: str, ranks: NDArray[np.int64], before: NDArray[Any], after: NDArray[Any], steps: int
) -> Curve:
    if steps < 1:
        raise InputError(f"A curve of {steps} steps has no area (steps).")
    shares = np.linspace(0, 1, steps + 1)
    size = ranks[0].size

    def vary(i: int, which: NDArray[np.int64]) -> Feeds:
        changed = np.stack([ranks[i] < share * size for share in shares[which]])
        return {job.input.name: np.where(over_channels(job, changed), after[i], before[i])}

    scores = np.zeros((job.n, steps + 1))
    for i, which, found in job.sweep(name, steps + 1, vary):
        scores[i, which] = probability(job, found, np.full(len(which), i))
    return Curve(shares, scores)
