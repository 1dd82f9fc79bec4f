"""Integrated gradients for photos: along a path of blur, a path of small gradients, and summed over regions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from ..attribution import Attribution
from ..errors import InputError
from ..maps import channels_first
from ..target import TargetLike
from .baselines import Baseline, absent
from .inputs import Input, ModelLike
from .job import SCORE, How, Job
from .regions import by_regions, regions
from .registry import method

if TYPE_CHECKING:
    from numpy.typing import NDArray


@method("gradient", "picture")
def blur_ig(
    model: ModelLike,
    x: Input,
    target: TargetLike = "top",
    *,
    max_sigma: float = 50.0,
    steps: int = 100,
    sqrt: bool = False,
    **how: Unpack[How],
) -> Attribution:
    """Blur integrated gradients: what each pixel adds to the score while the photo goes from a blur to sharp.

    - sum over sigma of dS/dL dL/dsigma, where L is the photo blurred by sigma pixels of the input: no baseline has to
    be chosen. Shaped like x, in units of the score, and adding up to S(x) - S(x blurred most). As in PAIR's saliency
    library, zero lies beyond the borders, sums are left Riemann sums, and dL/dsigma is a difference over 0.01 pixels.
    `measures["delta"]` is how far the sum misses.

    Xu et al., Attribution in Scale and Space, CVPR 2020.

    Args:
        max_sigma: deviation of the strongest blur, in pixels of the input.
        steps: of the path.
        sqrt: deviations grow with the root, dense where there is blur; the strongest is the root of max_sigma.

    Raises:
        TargetError: no such target, or it does not depend on the input.
        InputError: the input is not a picture, or there is nothing to blur.

    Example:
        >>> blur_ig("model.onnx", "cat.jpg", steps=50).measures["delta"]
    """
    if not 0 < max_sigma < np.inf or steps < 1:
        raise InputError(
            f"A blur of {max_sigma} in {steps} steps leads nowhere: both have to be above 0 (--max-sigma, --steps)."
        )
    job = Job(model, x, target, **how)
    [name], axes = job.attributed(job.input.name), _positions(job, "blur_ig")
    images, h = job.feeds[name], 0.01
    sigmas = np.sqrt(np.arange(steps + 1) * max_sigma / steps) if sqrt else np.arange(steps + 1) * max_sigma / steps

    def blurred(i: int, sigma: float) -> NDArray[np.float64]:
        from scipy.ndimage import gaussian_filter

        spread = [sigma if axis in axes else 0.0 for axis in range(1, images.ndim)]
        soft: NDArray[np.float64] = gaussian_filter(images[i].astype(np.float64), spread, mode="constant")
        return soft

    slopes: NDArray[np.float64] = np.empty(0)  # dL/dsigma of the variants that run at the moment

    def vary(i: int, which: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        nonlocal slopes
        now = np.stack([blurred(i, sigmas[k]) for k in which])
        slopes = (np.stack([blurred(i, sigmas[k] + h) for k in which]) - now) / h
        return {name: now.astype(images.dtype)}

    values = np.zeros(images.shape)
    for i, which, found in job.sweep(
        "blur_ig", steps, vary, lambda feeds, target: job.gradients([name], feeds=feeds, target=target)
    ):
        values[i] -= np.tensordot(np.diff(sigmas)[which], slopes * found[f"gradient.{name}"], axes=1)
    return _integrated(
        job,
        "blur_ig",
        values,
        np.stack([blurred(i, sigmas[-1]) for i in range(job.n)]),
        {"max_sigma": max_sigma, "steps": steps, "sqrt": sqrt},
    )


@method("gradient")
def guided_ig(
    model: ModelLike,
    x: Input,
    target: TargetLike = "top",
    *,
    baseline: Baseline = "0",
    steps: int = 200,
    fraction: float = 0.25,
    max_dist: float = 0.02,
    **how: Unpack[How],
) -> Attribution:
    """Guided integrated gradients: integrated gradients along a path that avoids steep places.

    Each step first moves the share `fraction` of the numbers that have the smallest gradients, so that the path does
    not collect noise where the score swings; none strays further than `max_dist` from the straight line. Shaped like
    x, in units of the score. In the limit the sum is S(x) - S(baseline), and `measures["delta"]` is how far it misses:
    on deep networks far, even with hundreds of steps, as what moves is charged at the very point where its gradient
    was smallest. Defaults and sums are those of PAIR's saliency library.

    Kapishnikov et al., Guided Integrated Gradients, CVPR 2021.

    Args:
        baseline: where the path begins: a number, mean, grey, blur, noise, or another photo.
        steps: of the path.
        fraction: share of the numbers that move first, above 0 and at most 1.
        max_dist: how far a number may be ahead of the straight line or behind it, as a share of its way; 0 is
            integrated gradients, 1 lets go of the line.

    Raises:
        TargetError: no such target, or it does not depend on the input.
        InputError: no such baseline, or a share that is none.

    Example:
        >>> guided_ig("model.onnx", "cat.jpg", baseline="grey").values
    """
    if not 0 < fraction <= 1 or not 0 <= max_dist <= 1 or steps < 1:
        raise InputError(
            f"fraction {fraction}, max_dist {max_dist} and {steps} steps make no path: shares lie between 0 and 1, and "
            "there is a step at least (--fraction, --max-dist, --steps)."
        )
    job = Job(model, x, target, **how)
    [name] = job.attributed(job.input.name)
    if others := [k for k, v in job.feeds.items() if v.dtype.kind == "f" and k != name]:
        stay = ", ".join(map(repr, others))
        job.notes.append(f"only '{name}' moves along the path, {stay} stays (integrated_gradients moves all)")
    start = absent(job, baseline, names=[name])[name]
    advance = job.progress("guided_ig", job.n * steps) if job.progress is not None else lambda n: None
    values = np.zeros(job.feeds[name].shape)
    for i, own in enumerate(job.fixed):

        def slope(at: NDArray[np.float64], i: int = i, own: Any = own) -> NDArray[np.float64]:
            feeds = job.copies(i, 1) | {name: at[None].astype(start.dtype)}
            advance(1)
            gradient: NDArray[Any] = job.gradients([name], feeds=feeds, target=own)[f"gradient.{name}"][0]
            return gradient.astype(np.float64)

        end, begin = (v[i].astype(np.float64) for v in (job.feeds[name], start))
        values[i] = guided(end, begin, slope, steps, fraction, max_dist)
    params = {"baseline": baseline, "steps": steps, "fraction": fraction, "max_dist": max_dist}
    return _integrated(job, "guided_ig", values, start, params)


def guided(
    x: NDArray[np.float64],
    start: NDArray[np.float64],
    slope: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    steps: int,
    fraction: float,
    max_dist: float,
) -> NDArray[np.float64]:
    """The integral of `slope` from `start` to `x` along the guided path, per number."""
    way, at, total = x - start, start, np.zeros_like(x)
    for alpha in np.arange(1, steps + 1) / steps:
        gradient = slope(at)
        least, most = (start + np.clip(alpha + d, 0, 1) * way for d in (-max_dist, max_dist))
        after = np.where(np.abs(at - start) < np.abs(least - start), least, at)
        rank, wanted = np.abs(gradient), np.abs(way).sum() * (1 - alpha)
        while (left := np.abs(x - after).sum() - wanted) > 1e-9 * max(1, wanted):
            rank[after == most] = np.inf
            first = (rank <= np.quantile(rank, fraction, method="lower")) & np.isfinite(rank)
            room = np.abs(most - after)[first].sum()
            if room == 0:
                break
            share = min(1.0, left / room)
            after = np.where(first, most if share == 1 else after + share * (most - after), after)
            if share < 1:
                break
        total += gradient * (after - at)
        at = after
    return total


@method("gradient", "picture")
def xrai(
    model: ModelLike,
    x: Input,
    target: TargetLike = "top",
    *,
    steps: int = 50,
    fast: bool = False,
    **how: Unpack[How],
) -> Attribution:
    """XRAI: which regions of the photo add the most to the score.

    Integrated gradients from black and from white, averaged, of each pixel that of its strongest channel; the photo
    is cut into overlapping regions at six scales, and the one with the highest mean among the pixels not yet taken
    is taken next. Values are (N, H, W) at the input's resolution: each pixel has the mean of the region that it was
    taken with, in units of the score; `measures["delta"]` is that of the integrated gradients. Regions and their
    numbers are those of PAIR's saliency library: graph-based segments of the photo at 224x224 (scales 50 to 1200,
    sigma 0.8, 150 pixels or more), grown by 5 pixels; what adds less than 50 pixels of 224x224 is passed over, and
    what is left in the end has the mean of what is left.

    Kapishnikov et al., XRAI: Better Attributions Through Regions, ICCV 2019.

    Args:
        steps: of integrated gradients, for black and for white each.
        fast: regions are taken in the order of their own means, whatever was taken before.

    Raises:
        TargetError: no such target, or it does not depend on the input.
        InputError: the input is not a picture.

    Example:
        >>> result = xrai("model.onnx", "cat.jpg")
        >>> result.values >= np.quantile(result.values, 0.8)  # the fifth of the photo that counts the most
    """
    from .paths import integrated_gradients

    job = Job(model, x, target, **how)
    axes = _positions(job, "xrai")
    assert job.preprocessing is not None
    name, layout = job.input.name, job.preprocessing.layout
    inner: Any = how | {"preprocessing": job.preprocessing}
    ends = job.preprocessing.batch([np.full((*job.preprocessing.size, 3), c, np.uint8) for c in (0, 255)])
    ends = ends[tuple(slice(1) if axis in axes else slice(None) for axis in range(ends.ndim))]
    run = integrated_gradients(job.model, job.feeds, target, baseline=ends, steps=steps, wrt=[name], **inner)
    pixels = channels_first(run.values, layout)
    gains = pixels.max(axis=1) if pixels.ndim == 4 else pixels
    maps = [
        by_regions(gain, regions(job.preprocessing.inverse(sample)), fast)
        for gain, sample in zip(gains, job.feeds[name], strict=True)
    ]
    return job.attribution(  # type: ignore[no-any-return]
        "xrai",
        np.stack(maps).astype(np.float32),
        job.clean,
        params={"steps": steps, "fast": fast},
        measures={"delta": run.measures["delta"]},
    )


def _positions(job: Job, name: str) -> list[int]:
    """The axes of height and width."""
    layout = job.layout(job.input.name)
    if job.preprocessing is None or layout is None or len(layout) != job.feeds[job.input.name].ndim:
        raise InputError(f"{name} needs a picture as input, with height and width.")
    return [layout.index("H"), layout.index("W")]


def _integrated(
    job: Job, method: str, values: NDArray[np.float64], start: NDArray[Any], params: dict[str, Any]
) -> Attribution:
    """The result of a path from `start` to the samples, with how far it misses completeness."""
    name = job.input.name
    like = job.feeds[name].dtype
    begin = np.array(
        [
            job.forward([], own, job.copies(i, 1) | {name: start[i : i + 1].astype(like)} | own.feeds(1))[SCORE][0]
            for i, own in enumerate(job.fixed)
        ]
    )
    delta = values.reshape(job.n, -1).sum(axis=1) - (job.clean[SCORE] - begin)
    found = {name: values.astype(np.result_type(like, np.float32))}
    return job.attribution(  # type: ignore[no-any-return]
        method, found, job.clean, signed=True, params=params, measures={"delta": delta}
    )
