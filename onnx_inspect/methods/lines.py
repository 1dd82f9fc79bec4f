"""Straight lines from baselines to the samples: their points, where gradients are taken on them, and their ends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..errors import InputError
from ..target import Target
from .baselines import Baseline, several
from .inputs import Feeds
from .job import SCORE, Job
from .runs import Run

if TYPE_CHECKING:
    from numpy.typing import NDArray

Quadrature = Literal["gausslegendre", "left", "right", "middle", "trapezoid"]
MOST = 2000  # nodes of Gauss and Legendre, which are the eigenvalues of a matrix of that size


class Lines:
    """Straight lines from baselines x' to the samples x, in the space of some tensors.

    Attributes:
        inside: the tensors that are no inputs; the model is to be cut there.
        count: how many baselines there are.
        start: the tensors of the baselines, (baselines, N, ...) each.
        end: those of the samples, (N, ...) each.

    Args:
        job: the job.
        tensors: inputs, or tensors between.
        baseline: see `baselines.several`; "zeros" for those of the tensors themselves, whatever input gives them.
        seed: of a random baseline.

    Raises:
        InputError: no such baseline, none for inputs that hold no floats, or an input that all samples share.
    """

    def __init__(self, job: Job, tensors: Sequence[str], baseline: Baseline, seed: int = 0) -> None:
        self.job = job
        self.inside = [t for t in tensors if t not in job.feeds]
        shared = set(tensors) - set(self.inside) - job.engine.samples(job.model, job.feeds)
        if shared:
            raise InputError(f"'{min(shared)}' is one for all samples: name the others (--wrt).")
        self.end = self._values(tensors, job.feeds)
        if isinstance(baseline, str) and baseline == "zeros":
            self.count, self.start = 1, {t: np.zeros_like(v)[None] for t, v in self.end.items()}
            return
        rows = several(job, baseline, seed, () if self.inside else tensors)
        if not all(rows):
            raise InputError(
                f"No input holds floats: give the baseline as arrays, by the names {', '.join(map(repr, job.feeds))}."
            )
        self.count = len(rows)
        starts = [self._values(tensors, job.feeds | row) for row in rows]
        self.start = {t: np.stack([s[t] for s in starts]) for t in tensors}

    def _values(self, tensors: Sequence[str], feeds: Feeds) -> Feeds:
        found = self.job.forward(self.inside, feeds=feeds) if self.inside else {}
        return {t: feeds[t] if t in feeds else found[t] for t in tensors}

    def walk(
        self, name: str, alphas: NDArray[Any], run: Run
    ) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.int64], dict[str, NDArray[Any]]]]:
        """Run along all lines, one after another: sample, baselines and places on their lines, and what was found."""
        places = len(alphas)

        def vary(i: int, which: NDArray[np.int64]) -> Feeds:
            j, k = divmod(which, places)
            return {t: between(self.start[t][j, i], self.end[t][i], alphas[k]) for t in self.end}

        for i, which, found in self.job.sweep(name, self.count * places, vary, run):
            yield i, *divmod(which, places), found

    def delta(self, values: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
        """How far the attributions of the samples miss the sum S(x) - S(x'), the mean over the baselines."""

        def run(feeds: Feeds, target: Target) -> dict[str, NDArray[Any]]:  # no gradient: at x' there may be none
            n = len(feeds[next(iter(self.end))])
            return self.job.forward([], target, feeds | target.feeds(n), at=self.inside)

        total = np.sum([v.reshape(len(v), -1).sum(axis=1) for v in values.values()], axis=0, dtype=np.float64)
        total -= self.job.clean[SCORE]
        for i, _, _, found in self.walk("baselines", np.zeros(1), run):
            total[i] += found[SCORE].astype(np.float64).sum() / self.count
        return np.asarray(total)


def between(start: NDArray[Any], end: NDArray[Any], alphas: NDArray[Any]) -> NDArray[Any]:
    """start + alpha (end - start), for each alpha."""
    points = np.empty((len(alphas), *start.shape[1:]), start.dtype)
    for k, alpha in enumerate(alphas):  # one at a time: in float64 a whole run takes more than the model
        there = end[k] if end.ndim == start.ndim else end
        points[k] = start[k] + alpha * (there.astype(np.float64) - start[k])
    return points


def nodes(quadrature: Quadrature, steps: int, captum: bool = False) -> tuple[NDArray[Any], NDArray[Any]]:
    """Where in [0, 1] to take a function, and the weights of its values whose sum is its mean.

    Raises:
        InputError: too few steps, or too many.
    """
    if steps < (2 if quadrature == "trapezoid" else 1):
        raise InputError(f"{steps} is too few for a {quadrature} quadrature (--steps).")
    if quadrature == "gausslegendre":
        if steps > MOST:
            raise InputError(f"{steps} steps: gausslegendre takes at most {MOST} (--steps), middle any (--quadrature).")
        at, weights = np.polynomial.legendre.leggauss(steps)
        return (1 + at) / 2, weights / 2
    if quadrature == "trapezoid":
        weights = np.full(steps, 1 / (steps if captum else steps - 1))
        weights[[0, -1]] /= 2
        return np.linspace(0, 1, steps), weights
    return (np.arange(steps) + {"left": 0, "middle": 0.5, "right": 1}[quadrature]) / steps, np.full(steps, 1 / steps)


class Sums:
    """Sums of arrays per tensor and sample, in float64."""

    def __init__(self) -> None:
        self._sums: dict[str, dict[int, NDArray[Any]]] = {}

    def add(self, tensor: str, i: int, array: NDArray[Any]) -> None:
        """Add to the sum of a tensor and a sample."""
        sums = self._sums.setdefault(tensor, {})
        if i in sums:
            sums[i] += array
        else:
            sums[i] = array.astype(np.float64)

    def stacked(self) -> dict[str, NDArray[np.float64]]:
        """(N, ...) by tensor."""
        return {t: np.stack(list(sums.values())) for t, sums in self._sums.items()}
