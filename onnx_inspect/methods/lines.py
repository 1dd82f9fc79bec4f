"""Straight lines from baselines to the samples: their points, where gradients are taken on them, and their ends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..errors import InputError
from ..expand import PLACE, START, WAY, WEIGHT
from ..model import Model
from ..target import Target
from .baselines import Baseline, several
from .inputs import Feeds
from .job import SCORE, Job
from .masking import on
from .runs import Run
from .sums import Summed, Sums, in_graph

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
        self._last: dict[str, tuple[int, int, NDArray[np.float64], NDArray[np.float64]]] = {}
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
            return {t: self._points(t, i, *divmod(which, places), alphas) for t in self.end}

        for i, which, found in self.job.sweep(name, self.count * places, vary, run):
            yield i, *divmod(which, places), found

    def _points(self, t: str, i: int, j: NDArray[np.int64], k: NDArray[np.int64], alphas: NDArray[Any]) -> NDArray[Any]:
        """Places `k` on the lines from baselines `j` to a sample."""
        points = np.empty((len(j), *self.end[t].shape[1:]), self.end[t].dtype)
        for one in np.unique(j):
            start, way = self._line(t, i, int(one))
            step = np.empty_like(way)
            for n in np.flatnonzero(j == one):  # one at a time: in float64 a whole run takes more than the model
                np.multiply(way, alphas[k[n]], out=step)
                np.add(start, step, out=points[n : n + 1], casting="same_kind")
        return points

    def _line(self, t: str, i: int, j: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Where a line begins, and its way from there; the last of each tensor is kept."""
        if self._last.get(t, (-1, -1))[:2] != (i, j):
            start = self.start[t][j, i].astype(np.float64)
            self._last[t] = i, j, start, self.end[t][i] - start
        return self._last[t][2:]

    def sums(
        self, name: str, alphas: NDArray[Any], weights: NDArray[Any], tensors: Sequence[str], through: str = ""
    ) -> Iterator[Part]:
        """Weighted sums of gradients along each line: sample, baseline, and the sum by tensor."""
        parts = (self._by_runs if in_graph(self.job) else self._by_points)(name, alphas, weights, tensors, through)
        for (i, j), some in groupby(parts, key=lambda part: part[:2]):
            total = Sums()
            for _, _, found in some:
                for t, array in found.items():
                    total.add(t, 0, array)
            yield i, j, {t: v[0] for t, v in total.stacked().items()}

    def _by_points(
        self, name: str, alphas: NDArray[Any], weights: NDArray[Any], tensors: Sequence[str], through: str
    ) -> Iterator[Part]:
        def run(feeds: Feeds, target: Target) -> dict[str, NDArray[Any]]:
            return self.job.gradients(tensors, feeds=feeds, target=target, through=through, at=self.inside)

        for i, j, k, found in self.walk(name, alphas, run):
            for one in np.unique(j).tolist():
                here = j == one
                yield i, one, {t: _weighted(weights[k[here]], found[f"gradient.{t}"][here]) for t in tensors}

    def _by_runs(
        self, name: str, alphas: NDArray[Any], weights: NDArray[Any], tensors: Sequence[str], through: str
    ) -> Iterator[Part]:
        """Points are made, and gradients are summed up, in the graph: one gradient per run comes back."""
        job, names, sums = self.job, tuple(self.end), Feeds()

        def build() -> Model:
            from ..expand import on_lines

            return on_lines(job._cut(self.inside), names)

        @lru_cache(maxsize=1)
        def ends(i: int, j: int) -> Feeds:
            start = {t: self.start[t][j, i : i + 1] for t in names}
            way = {t: (self.end[t][i].astype(np.float64) - v).astype(v.dtype) for t, v in start.items()}
            found = {f"{START}.{t}": v for t, v in start.items()} | {f"{WAY}.{t}": v for t, v in way.items()}
            return {k: job.engine.hold(v) for k, v in found.items()}

        others = {k: v for k, v in job.feeds.items() if k not in names}
        feeds = {**others, **ends(0, 0), PLACE: np.zeros(job.n, np.float32)}
        model = job.model.rewritten(("on lines", names, tuple(self.inside)), build)
        line = on(job, model, feeds, PLACE)
        summed = Summed(line, tensors, through)
        for j in range(self.count):

            def vary(i: int, which: NDArray[np.int64], j: int = j) -> Feeds:
                return {**ends(i, j), PLACE: alphas[which], WEIGHT: weights[which]}

            def run(feeds: Feeds, target: Target) -> dict[str, NDArray[Any]]:
                sums.update(summed(feeds, target))
                return {SCORE: sums.pop(SCORE)}

            for i, _, _ in line.sweep(name, len(alphas), vary, run):
                yield i, j, dict(sums)

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


Part = tuple[int, int, dict[str, "NDArray[Any]"]]


def _weighted(weights: NDArray[Any], arrays: NDArray[Any]) -> NDArray[Any]:
    """A weighted sum, without BLAS: its threads would go on waiting in a loop, on the cores that the next run wants."""
    total = np.zeros(arrays.shape[1:])
    for weight, array in zip(weights.tolist(), arrays, strict=True):
        total += weight * array.astype(np.float64)
    return total


def between(starts: NDArray[Any], ends: NDArray[Any], alphas: NDArray[Any]) -> NDArray[Any]:
    """start + alpha (end - start), for each alpha."""
    points = np.empty_like(starts)
    for k, (start, end, alpha) in enumerate(zip(starts, ends, alphas, strict=True)):
        points[k] = start + alpha * (end.astype(np.float64) - start)
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
