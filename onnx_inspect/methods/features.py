"""What features are worth: taken away one by one, shared out by Shapley's rule, or swapped between samples."""

from __future__ import annotations

import math
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from ..attribution import Attribution
from ..errors import InputError
from ..target import TargetLike
from .baselines import Baseline, told
from .game import Game, coalitions, written
from .inputs import Input, ModelLike
from .job import SCORE, How, Job, draws
from .registry import method
from .segments import Segmentation, segmented

MOST = 16  # players whose coalitions are all tried


@method()
def feature_ablation(
    model: ModelLike,
    x: Input,
    target: TargetLike = "top",
    *,
    features: Segmentation = "",
    baseline: Baseline = "0",
    seed: int = 0,
    **how: Unpack[How],
) -> Attribution:
    """Feature ablation: how much the score drops when one feature at a time is taken away.

    S(x) - S(x with the feature at the baseline), in units of the score, written to all numbers of the feature: values
    are shaped like the inputs. captum's FeatureAblation.

    Robnik-Sikonja & Kononenko, Explaining Classifications for Individual Instances, IEEE TKDE 2008.

    Args:
        features: "elements" (every number: the default but for pictures), "positions", "grid:8" (8x8 cells),
            "superpixels:50" (SLIC in what the model sees: the default for pictures), "quickshift", a .npy file or an
            array of integers that number the features, or arrays by input name.
        baseline: what stands for an absent feature: a number as the model sees it, mean, grey, blur, noise, inpaint,
            local (the mean of the feature itself), another photo, an array, or arrays by input name.
        seed: of a baseline of noise.

    Raises:
        TargetError: no such target.
        InputError: there are no such features, or no such baseline.

    Example:
        >>> feature_ablation("model.onnx", "cat.jpg", features="grid:7", baseline="grey").heat
    """
    job = Job(model, x, target, **how)
    game = Game(job, features, baseline, seed)
    drops = [s - v for s, v in zip(game.whole, game.without_each("feature_ablation"), strict=True)]
    params = {"baseline": told(baseline), "seed": seed, "incremental": list(game.maps)}
    return written(job, "feature_ablation", game.features, drops, game.found, params)


@method()
def shapley_value_sampling(
    model: ModelLike,
    x: Input,
    target: TargetLike = "top",
    *,
    features: Segmentation = "",
    baseline: Baseline = "0",
    samples: int = 25,
    seed: int = 0,
    exact: bool = False,
    **how: Unpack[How],
) -> Attribution:
    """Shapley values: what a feature adds to the score, averaged over the orders in which features may come.

    The mean over random permutations of S(with the features before it, and itself) - S(with those before it), the
    others at the baseline. They sum to S(x) - S(baseline), whatever the number of permutations. In units of the score,
    written to all numbers of the feature. captum's ShapleyValueSampling; `exact` is its ShapleyValues.

    Castro et al., Polynomial calculation of the Shapley value based on sampling, 2009.

    Args:
        features: "elements" (every number: the default but for pictures), "positions", "grid:8" (8x8 cells),
            "superpixels:50" (SLIC in what the model sees: the default for pictures), "quickshift", a .npy file or an
            array of integers that number the features, or arrays by input name.
        baseline: what stands for an absent feature: a number as the model sees it, mean, grey, blur, noise, inpaint,
            local (the mean of the feature itself), another photo, an array, or arrays by input name.
        samples: permutations; 25 is captum's.
        seed: of the permutations, and of a baseline of noise.
        exact: all permutations, by way of all 2^n coalitions, for up to 16 features.

    Raises:
        TargetError: no such target.
        InputError: no such features or baseline, or too many features to be exact.

    Example:
        >>> shapley_value_sampling("model.onnx", "cat.jpg", features="grid:4", exact=True).values.shape
    """
    job = Job(model, x, target, **how)
    game = Game(job, features, baseline, seed)
    values = _exact(game) if exact else _sampled(game, positive("samples", samples), seed)
    params = {"baseline": told(baseline), "seed": seed, **({"exact": True} if exact else {"samples": samples})}
    return written(job, "shapley_value_sampling", game.features, values, game.found, params)


@method()
def permutation(
    model: ModelLike,
    x: Input,
    target: TargetLike = "top",
    *,
    features: Segmentation = "",
    samples: int = 1,
    seed: int = 0,
    **how: Unpack[How],
) -> Attribution:
    """Permutation: how much the score drops when a feature's values are shuffled among the samples.

    S(x) - S(x with the feature as another sample has it), averaged over the shuffles, in units of the score, written to
    all numbers of the feature. It needs several samples at once; one that keeps its own value in a shuffle gets 0 from
    it. captum's FeaturePermutation.

    Fisher et al., All Models are Wrong, but Many are Useful, JMLR 2019.

    Args:
        features: "elements" (every number: the default but for pictures), "positions", "grid:8" (8x8 cells: the
            default for pictures), "superpixels:50" (SLIC), "quickshift", a .npy file or an array of integers that
            number the features, or arrays by input name.
        samples: shuffles per feature; 1 is captum's.
        seed: of the shuffles.

    Raises:
        TargetError: no such target.
        InputError: there is only one sample, or there are no such features.

    Example:
        >>> permutation("model.onnx", ["cat.jpg", "dog.jpg", "hen.jpg"], features="grid:7").heat
    """
    job = Job(model, x, target, **how)
    if job.n < 2:
        raise InputError("permutation shuffles values among samples, and there is only one: give several (PHOTO...).")
    shuffles, found = positive("samples", samples), segmented(job, features, "grid:8")
    drops = [np.zeros(n) for n in found.counts]

    def vary(i: int, which: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        sources = np.array([_shuffle(rng, job.n)[i] for rng in draws(seed, which)])
        chosen = which // shuffles
        return {
            k: np.where(ids[i] == chosen.reshape(-1, *[1] * ids[i].ndim), job.feeds[k][sources], job.feeds[k][i])
            for k, ids in found.ids.items()
        }

    for i, which, got in job.sweep("permutation", max(found.counts) * shuffles, vary):
        own = which // shuffles < found.counts[i]
        lost = job.clean[SCORE][i] - got[SCORE].astype(np.float64)
        np.add.at(drops[i], which[own] // shuffles, lost[own] / shuffles)
    return written(job, "permutation", found, drops, job.clean, {"seed": seed, "samples": samples})


def _shuffle(rng: np.random.Generator, n: int) -> NDArray[np.int64]:
    """An order of the samples other than their own."""
    while (order := rng.permutation(n)).tolist() == list(range(n)):
        pass
    return order


def _sampled(game: Game, samples: int, seed: int) -> list[NDArray[np.float64]]:
    """Means of marginal contributions; the coalitions of nobody and of everybody are shared by all permutations."""
    counts = game.features.counts
    steps = max(counts) - 1

    def order(i: int, p: int) -> NDArray[np.int64]:
        return draws(seed, np.array([p]))[0].permutation(counts[i])

    def present(i: int, which: NDArray[np.int64]) -> NDArray[np.bool_]:
        there = np.zeros((len(which), counts[i]), bool)
        for row, k in zip(there, which, strict=True):
            if k:
                p, step = divmod(int(k) - 1, steps)
                row[order(i, p)[: step + 1]] = True
        return there

    values = []
    for i, got in enumerate(game.collect("shapley_value_sampling", 1 + samples * steps, present)):
        total, n = np.zeros(counts[i]), counts[i]
        for p in range(samples):
            between = got[1 + p * steps :][: n - 1]
            total[order(i, p)] += np.diff(np.concatenate([got[:1], between, [game.whole[i]]]))
        values.append(total / samples)
    return values


def _exact(game: Game) -> list[NDArray[np.float64]]:
    """sum over coalitions T without j of |T|! (n - |T| - 1)! / n! (v(T and j) - v(T))."""
    counts = game.features.counts
    if (most := max(counts)) > MOST:
        raise InputError(f"{most} features have 2^{most} coalitions: name at most {MOST} (--features), or sample them.")
    values = []
    for n, got in zip(counts, game.collect("shapley_value_sampling", 2**most, coalitions(counts)), strict=True):
        T = np.arange(2**n)
        share = np.array([1 / (n * math.comb(n - 1, size)) for size in range(n)])
        size = np.bitwise_count(T)
        without = [T[(T >> j) % 2 == 0] for j in range(n)]
        values.append(np.array([(share[size[t]] * (got[t | 1 << j] - got[t])).sum() for j, t in enumerate(without)]))
    return values


def positive(name: str, number: int) -> int:
    """A number of things that must be some."""
    if number < 1:
        raise InputError(f"{number} {name} are none: give at least 1 (--{name}).")
    return number
