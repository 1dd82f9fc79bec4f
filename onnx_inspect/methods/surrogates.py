"""Random parts of the input, and a simple model of what they do to the score: RISE, LIME and Kernel SHAP."""

from __future__ import annotations

import math
from typing import Any, Literal, Unpack

import numpy as np
from numpy.typing import NDArray

from ..attribution import Attribution
from ..errors import InputError
from ..maps import channels_first
from ..target import TargetLike
from .baselines import Baseline, absent, told
from .features import positive
from .game import Game, coalitions, measured, worth, written
from .grids import Grids, enlarging, grid_of
from .inputs import Input, ModelLike
from .job import How, Job, draws
from .masking import seen_through
from .registry import method
from .segments import Segmentation, channel_axis, covered, is_picture

Of = Literal["probability", "score"]


@method()
def rise(
    model: ModelLike,
    x: Input,
    target: TargetLike = "top",
    *,
    samples: int = 4000,
    cells: int = 7,
    keep: float = 0.5,
    features: Segmentation = "",
    baseline: Baseline = "0",
    of: Of = "probability",
    seed: int = 0,
    **how: Unpack[How],
) -> Attribution:
    """RISE: the mean of random masks, weighted by what the model makes of what they show.

    sum_k s_k m_k / sum_k m_k, where s_k is the probability of the class for x m_k + baseline (1 - m_k): the expected
    probability where a pixel is seen. The paper divides by samples x keep, to which the masks add up on average. A mask
    is a grid of cells, each seen with probability `keep`, enlarged bilinearly and shifted at random. Values are
    (N, H, W), in [0, 1]; with `features`, or where the input is no picture, masks are random sets of features, and
    values are shaped like the inputs. What is drawn is the excess over the lowest value.

    Petsiuk et al., RISE: Randomized Input Sampling for Explanation of Black-box Models, BMVC 2018.

    Args:
        samples: masks; the paper takes 4000 for VGG16 and 8000 for ResNet50.
        cells: cells of the grid along each side; 7 in the paper.
        keep: the share that is seen; 0.5 in the paper.
        features: sets of features instead of cells: "elements" (every number: the default but for pictures),
            "positions", "grid:8", "superpixels:50", "quickshift", a .npy file or an array of integers that number the
            features, or arrays by input name.
        baseline: what stands for what is not seen: a number as the model sees it (0 in the paper), mean, grey, blur,
            noise, another photo, an array, or arrays by input name.
        of: weigh by the probability of the class, as the paper does, or by the score.
        seed: of the masks, and of a baseline of noise.

    Raises:
        TargetError: no such target.
        InputError: impossible masks, or there are no such features or baseline.

    Example:
        >>> rise("model.onnx", "cat.jpg", samples=1000).values.shape
    """
    job = Job(model, x, target, **how)
    positive("samples", samples)
    if not 0 < keep < 1:
        raise InputError(f"A share of {keep:g} shows all or nothing: it lies between 0 and 1 (--keep).")
    params = {"samples": samples, "keep": keep, "baseline": told(baseline), "of": of, "seed": seed}
    if is_picture(job) and isinstance(features, str) and not features:
        return _rise_of_cells(job, positive("cells", cells), baseline, params)
    game = Game(job, features, baseline, seed, of=of)
    weighted, total = ([np.zeros(n) for n in game.features.counts] for _ in range(2))

    def present(i: int, which: NDArray[np.int64]) -> NDArray[np.bool_]:
        return np.stack([rng.random(game.features.counts[i]) < keep for rng in draws(seed, which)])

    for i, which, got in game.play("rise", samples, present):
        there = present(i, which)
        weighted[i] += got @ there
        total[i] += there.sum(axis=0)
    means = [np.divide(w, t, out=np.zeros_like(w), where=t > 0) for w, t in zip(weighted, total, strict=True)]
    return written(job, "rise", game.features, means, game.found, params)


@method()
def lime(
    model: ModelLike,
    x: Input,
    target: TargetLike = "top",
    *,
    features: Segmentation = "",
    baseline: Baseline = "",
    samples: int = 1000,
    fit: Literal["ridge", "lasso"] = "ridge",
    alpha: float = 1.0,
    distance: Literal["cosine", "euclidean"] = "cosine",
    width: float = 0.25,
    of: Of = "probability",
    seed: int = 0,
    **how: Unpack[How],
) -> Attribution:
    """LIME: a linear model of what the presence of features does to the probability, near the whole sample.

    Each feature is present (1) or absent (0) at random, in samples z; a linear model is fitted to what the class gets,
    where z weighs exp(-d^2 / (2 width^2)) at a distance d from the sample. Values are its coefficients, written to all
    numbers of a feature and shaped like the inputs; `measures["fidelity"]` is the weighted R^2 of the fit. Defaults are
    those of the lime package for images.

    Ribeiro et al., "Why Should I Trust You?": Explaining the Predictions of Any Classifier, KDD 2016.

    Args:
        features: "elements" (every number: the default but for pictures), "positions", "grid:8" (8x8 cells),
            "superpixels:50" (SLIC in what the model sees), "quickshift" (the default for pictures), a .npy file or an
            array of integers that number the features, or arrays by input name.
        baseline: what stands for an absent feature: local (its own mean colour: the default for pictures), a number as
            the model sees it (0 is the default for the rest), mean, grey, blur, noise, inpaint, another photo, an
            array, or arrays by input name.
        samples: variants of the sample; the first is the sample itself.
        fit: ridge or lasso regression.
        alpha: the strength of its penalty.
        distance: "cosine", or "euclidean", between the presence of features and that of all.
        width: of the kernel.
        of: explain the probability of the class, or the score.
        seed: of the variants, and of a baseline of noise.

    Raises:
        TargetError: no such target.
        InputError: there are no such features or baseline, or more features than samples.

    Example:
        >>> lime("model.onnx", "cat.jpg", features="superpixels:40").measures["fidelity"]
    """
    job = Job(model, x, target, **how)
    if width <= 0 or alpha < 0:
        raise InputError(f"A width of {width:g} and a penalty of {alpha:g} are impossible (--width, --alpha).")
    if isinstance(baseline, str) and not baseline:
        baseline = "local" if is_picture(job) else "0"
    game = Game(job, features, baseline, seed, default="quickshift", of=of)
    counts = game.features.counts
    _enough(samples, max(counts))

    def present(i: int, which: NDArray[np.int64]) -> NDArray[np.bool_]:
        rows = [(rng.random(counts[i]) < 0.5) | (k == 0) for k, rng in zip(which, draws(seed, which), strict=True)]
        return np.stack(rows)

    from sklearn.linear_model import Lasso, Ridge

    coefficients, fidelity = [], []
    for i, got in enumerate(game.collect("lime", samples, present)):
        Z = present(i, np.arange(samples))
        share = Z.mean(axis=1)
        d = 1 - np.sqrt(share) if distance == "cosine" else np.sqrt(counts[i] * (1 - share))
        weights = np.exp(-(d**2) / (2 * width**2))
        line = {"ridge": Ridge, "lasso": Lasso}[fit](alpha=alpha).fit(Z.astype(float), got, weights)
        coefficients.append(np.asarray(line.coef_))
        fidelity.append(line.score(Z.astype(float), got, weights))
    params = {"baseline": told(baseline), "samples": samples, "fit": fit, "alpha": alpha, "distance": distance}
    params |= {"width": width, "of": of, "seed": seed}
    measures = {"fidelity": np.asarray(fidelity)}
    return written(job, "lime", game.features, coefficients, game.found, params, measures)


@method()
def kernel_shap(
    model: ModelLike,
    x: Input,
    target: TargetLike = "top",
    *,
    features: Segmentation = "",
    baseline: Baseline = "0",
    samples: int = 2048,
    seed: int = 0,
    **how: Unpack[How],
) -> Attribution:
    """Kernel SHAP: Shapley values by a weighted linear regression over coalitions of features.

    Least squares with the Shapley kernel, (n - 1) / (C(n, s) s (n - s)) for s of n features, among the solutions that
    sum to S(x) - S(baseline). Where all 2^n - 2 coalitions fit into `samples`, all are run and the result is exact;
    else sizes are drawn by the kernel, and each coalition comes with its complement. In units of the score, written
    to all numbers of the feature.

    Lundberg and Lee, A Unified Approach to Interpreting Model Predictions, NeurIPS 2017.

    Args:
        features: "elements" (every number: the default but for pictures), "positions", "grid:8" (8x8 cells),
            "superpixels:50" (SLIC in what the model sees: the default for pictures), "quickshift", a .npy file or an
            array of integers that number the features, or arrays by input name.
        baseline: what stands for an absent feature: a number as the model sees it, mean, grey, blur, noise, inpaint,
            local (the mean of the feature itself), another photo, an array, or arrays by input name.
        samples: coalitions.
        seed: of the coalitions, and of a baseline of noise.

    Raises:
        TargetError: no such target.
        InputError: there are no such features or baseline, or too few samples for the features.

    Example:
        >>> kernel_shap("model.onnx", "cat.jpg", features="superpixels:40").values.sum()
    """
    job = Job(model, x, target, **how)
    game = Game(job, features, baseline, seed)
    counts = game.features.counts
    runs = [min(samples, 2**n - 2) for n in counts]  # without those of nobody and of everybody
    for n, count in zip(counts, runs, strict=True):
        _enough(count, min(n, 2**n - 2))

    def present(i: int, which: NDArray[np.int64]) -> NDArray[np.bool_]:
        if runs[i] == 2 ** counts[i] - 2:
            return coalitions(counts)(i, which)
        return np.stack([_drawn(counts[i], int(k), seed) for k in which])

    values = []
    for i, got in enumerate(game.collect("kernel_shap", 1 + max(runs), present)):
        Z = present(i, np.arange(1, 1 + runs[i])).astype(float)
        size, n = Z.sum(axis=1), counts[i]
        ways = np.array([math.comb(n, s) for s in range(n + 1)], float)[size.astype(int)]
        w = (n - 1) / (ways * size * (n - size)) if runs[i] == 2**n - 2 else np.ones(len(Z))
        values.append(_shared_out(Z, got[1 : 1 + runs[i]] - got[0], w, game.whole[i] - got[0]))
    params = {"baseline": told(baseline), "samples": samples, "seed": seed}
    return written(job, "kernel_shap", game.features, values, game.found, params)


def _rise_of_cells(job: Job, cells: int, baseline: Baseline, params: dict[str, Any]) -> Attribution:
    name = job.input.name
    covered(job)
    there, measure = absent(job, baseline, params["seed"], [name])[name], worth(job, params["of"])
    axis = channel_axis(job, name)
    shape = tuple(s for i, s in enumerate(job.feeds[name].shape) if i not in (0, axis))
    if cells > min(shape):
        raise InputError(f"{cells} cells do not fit along a side of {min(shape)} pixels (--cells).")
    ways = [enlarging(side, cells) for side in shape]
    gains = [Grids(ways, shape) for _ in range(job.n)]

    def drawn(which: NDArray[np.int64]) -> list[tuple[NDArray[np.float32], list[int]]]:
        return [grid_of(ways, params["keep"], rng) for rng in draws(params["seed"], which)]

    def masks(i: int, which: NDArray[np.int64]) -> list[NDArray[Any]]:
        grids, corners = zip(*drawn(which), strict=True)
        sides = zip(ways, shape, zip(*corners, strict=True), strict=True)
        return [np.stack(grids), *(np.stack([way[:, at : at + side] for at in starts]) for way, side, starts in sides)]

    layout, x = job.layout(name), job.feeds[name]
    pictures, behind = channels_first(x, layout), channels_first(there, layout)
    for i, which, found in seen_through(job, "rise", params["samples"], masks, pictures, behind):
        for gain, (grid, corner) in zip(measure(i, found), drawn(which), strict=True):
            gains[i].add(grid, corner, gain)
    values = np.stack([one.mean() for one in gains]).astype(np.float32)
    found, heat = measured(job, measure), values - values.min(axis=(1, 2), keepdims=True)
    return job.attribution("rise", values, found, heat=heat, params={"cells": cells, **params})  # type: ignore[no-any-return]


def _drawn(n: int, k: int, seed: int) -> NDArray[np.bool_]:
    """Coalition k of n players: 0 is nobody, then pairs of a random one, its size drawn by the kernel, and the rest."""
    there = np.zeros(n, bool)
    if k:
        rng = draws(seed, np.array([(k - 1) // 2]))[0]
        sizes = np.arange(1, n)
        share = 1 / (sizes * (n - sizes))
        there[rng.permutation(n)[: rng.choice(sizes, p=share / share.sum())]] = True
    return there if k % 2 or not k else ~there


def _shared_out(
    Z: NDArray[np.float64], gains: NDArray[np.float64], weights: NDArray[np.float64], total: float
) -> NDArray[np.float64]:
    """The least squares of `Z phi = gains` among the phi that sum to `total`, by Lagrange's multiplier."""
    n, share = Z.shape[1], weights / max(weights.sum(), 1e-300)
    system = np.ones((n + 1, n + 1))
    system[:n, :n], system[n, n] = (Z.T * share) @ Z, 0
    if np.linalg.matrix_rank(system) <= n:
        raise InputError(f"{len(Z)} coalitions do not tell {n} features apart: take {4 * n} (--samples).")
    solution: NDArray[np.float64] = np.linalg.solve(system, np.append((Z.T * share) @ gains, total))[:n]
    return solution


def _enough(samples: int, features: int) -> None:
    if samples < max(features, 1) and features:
        raise InputError(
            f"{samples} samples cannot tell {features} features apart: take more (--samples), or larger features "
            "(--features grid:8)."
        )
