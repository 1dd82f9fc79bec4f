"""Games: features as players, and the score of a sample with some of them absent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..attribution import Attribution
from ..errors import InputError
from .baselines import Baseline, filling
from .job import SCORE, Job
from .local import Local, Place, Sweep, positions, quickest
from .segments import SUPERPIXELS, Features, Segmentation, channel_axis, segmented

Present = Callable[[int, NDArray[np.int64]], NDArray[np.bool_]]
Worth = Callable[[int, Mapping[str, NDArray[Any]]], NDArray[np.float64]]
Played = Iterator[tuple[int, NDArray[np.int64], NDArray[Any]]]


class Game:
    """Features as players: the score of a sample when only some are present, and a baseline stands for the others.

    Args:
        job: the job.
        features: who plays, see `segmented`.
        baseline: see `onnx_inspect.methods.baselines.absent`; also "inpaint", and "local" for the mean of each feature.
        seed: of a random baseline.
        default: what "" means for pictures.
        of: what the players get: the "score", or the "probability" of the class.

    Attributes:
        maps: from which on whole maps were computed, where only what a player changes was before.
    """

    def __init__(
        self,
        job: Job,
        features: Segmentation,
        baseline: Baseline,
        seed: int = 0,
        *,
        default: str = f"superpixels:{SUPERPIXELS}",
        of: str = "score",
    ) -> None:
        self.job, self.features = job, segmented(job, features, default)
        if isinstance(baseline, str) and baseline == "local":
            baseline = _own_means(job, self.features.ids)
        self.maps: Sequence[str] = ()
        self._fill = filling(job, list(self.features.ids), baseline, seed)
        self._worth = worth(job, of)
        self.found = measured(job, self._worth)
        self.whole: NDArray[np.float64] = self.found[SCORE]  # what all players get

    def play(self, name: str, count: int, present: Present) -> Played:
        """(sample, which coalitions, what each gets) for `count` of them per sample; `present` has a row for each."""

        def vary(i: int, which: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
            there = present(i, which)
            return {k: self._without(i, k, ~there[:, ids[i]]) for k, ids in self.features.ids.items()}

        for i, which, found in self.job.sweep(name, count, vary):
            yield i, which, self._worth(i, found)

    def collect(self, name: str, count: int, present: Present) -> list[NDArray[np.float64]]:
        """What every coalition of every sample gets."""
        results = [np.zeros(count) for _ in self.features.counts]
        for i, which, got in self.play(name, count, present):
            results[i][which] = got
        return results

    def without_each(self, name: str) -> list[NDArray[np.float64]]:
        """What all players but one get, for each in turn."""
        job, counts, ids = self.job, self.features.counts, self.features.ids
        results = [np.zeros(max(counts)) for _ in counts]

        def absent(i: int, which: NDArray[np.int64], input: str) -> NDArray[np.bool_]:
            return np.asarray(ids[input][i] == which.reshape(-1, *[1] * (ids[input].ndim - 1)))

        def vary(i: int, which: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
            return {k: self._without(i, k, absent(i, which, k)) for k in ids}

        def values(i: int, k: int, at: Place) -> NDArray[Any]:
            return self._without(i, first, absent(i, np.array([k]), first))[at]

        first = next(iter(ids))
        axes = positions(job, first) if len(ids) == 1 else ()
        local = Local(first, axes, self.features.boxes(first, axes), values, "--features")
        sweep = quickest(job, Sweep(vary, None), local)
        self.maps = sweep.maps
        for i, which, found in job.sweep(name, max(counts), sweep.vary, sweep.run):
            results[i][which] = self._worth(i, found)
        return [got[:n] for got, n in zip(results, counts, strict=True)]

    def _without(self, i: int, name: str, where: NDArray[np.bool_]) -> NDArray[Any]:
        return np.where(where, self._fill(i, name, where), self.job.feeds[name][i])


def worth(job: Job, of: str) -> Worth:
    """(sample, what a run found) -> the "score", or the "probability" of the class that is explained, one row each."""
    classes = job.explained(job.clean)
    if of == "probability" and None in classes:
        job.notes.append("the target is no class, so its score is explained, not a probability (--of score)")
        of = "score"

    def measure(i: int, found: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
        rows = job.rows(found) if of == "probability" else None
        values = found[SCORE] if rows is None else job.probabilities(rows)[:, classes[i]]
        return np.asarray(values, np.float64)

    return measure


def measured(job: Job, worth: Worth) -> dict[str, NDArray[Any]]:
    """The clean run, with what each sample is worth as its score."""
    rows = [{k: v[i : i + 1] for k, v in job.clean.items()} for i in range(job.n)]
    return job.clean | {SCORE: np.concatenate([worth(i, row) for i, row in enumerate(rows)])}


def coalitions(counts: list[int]) -> Present:
    """Every coalition of the players of each sample: player j is present in coalition k if bit j of k is set."""
    return lambda i, which: (which[:, None] >> np.arange(counts[i])) % 2 == 1


def written(
    job: Job,
    method: str,
    features: Features,
    numbers: Sequence[NDArray[Any]],
    found: Mapping[str, NDArray[Any]],
    params: dict[str, Any],
    measures: dict[str, NDArray[Any]] | None = None,
) -> Attribution:
    """Numbers per sample and feature as an attribution."""
    values = features.spread(numbers)
    return job.attribution(  # type: ignore[no-any-return]
        method,
        values,
        found,
        heat=features.heat(job, values),
        signed=True,
        params={"features": features.name, **params},
        extra={"features": features.ids[next(iter(values))]},
        measures=measures,
    )


def _own_means(job: Job, ids: Mapping[str, NDArray[np.intp]]) -> dict[str, NDArray[Any]]:
    """Each number's mean over its feature, for every channel its own.

    Raises:
        InputError: that is each number itself.
    """
    means = {k: _means(job.feeds[k], numbers, channel_axis(job, k)) for k, numbers in ids.items()}
    if all(np.array_equal(v, job.feeds[k]) for k, v in means.items()):
        raise InputError("Every feature equals its own mean, so local takes nothing away: use another (--baseline).")
    return means


def _means(x: NDArray[Any], ids: NDArray[np.intp], axis: int | None) -> NDArray[Any]:
    channels = [...] if axis is None else [(slice(None),) * (axis - 1) + (c,) for c in range(x.shape[axis])]
    means = np.empty(x.shape)
    for i, one in enumerate(x):
        for c in channels:
            own = ids[i][c]
            total, count = np.bincount(own.ravel(), one[c].ravel()), np.bincount(own.ravel())
            means[i][c] = (total / np.maximum(count, 1))[own]
    return means.astype(x.dtype)
