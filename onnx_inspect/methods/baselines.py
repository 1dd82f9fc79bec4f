"""Baselines: what stands for an input that says nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import image
from ..errors import InputError
from ..files import SUFFIXES
from ..maps import channels_back, channels_first
from .inputs import Feeds
from .job import Job, draws

Baseline = str | float | NDArray[Any] | Mapping[str, NDArray[Any]]
Fill = Callable[[int, str, NDArray[np.bool_]], NDArray[Any]]
KINDS = "a number, mean, grey, blur, noise, or another photo"


def absent(job: Job, baseline: Baseline, seed: int = 0, names: Sequence[str] = ()) -> Feeds:
    """What stands for each input of floats or tokens, shaped like it.

    Args:
        job: the job.
        baseline: a number, in every input as the model sees it, of tokens that of one; "mean" of each channel of a
            sample; "grey" (128 in the photo); "blur", Gaussian with a tenth of the shorter side as its deviation;
            "noise", uniform between the least and the largest value of a sample; the path of another photo; an array;
            or arrays by input name.
        seed: of the noise.
        names: the inputs wanted, where they are not all that somebody gave.

    Raises:
        InputError: there is no such baseline, or its shape does not fit.
    """
    kinds = {k: v.dtype.kind for k, v in job.feeds.items()}
    names = list(names) or [k for k in kinds if k not in job.assumed and (kinds[k] == "f" or k in job.stands)]
    if isinstance(baseline, Mapping):
        if unknown := sorted(set(baseline) - set(job.feeds)):
            raise InputError(f"The baseline names '{unknown[0]}', the inputs are {', '.join(map(repr, job.feeds))}.")
        given = {k: _fit(job, k, np.asarray(v)) for k, v in baseline.items()}
        return {k: given.get(k, np.zeros_like(job.feeds[k])) for k in dict.fromkeys([*names, *given])}
    if isinstance(baseline, np.ndarray):
        others = {k: np.zeros_like(job.feeds[k]) for k in names}
        return others | {job.input.name: _fit(job, job.input.name, baseline)}
    if (number := _number(baseline)) is not None:
        if number % 1 and (whole := [k for k in names if job.feeds[k].dtype.kind in "iu"]):
            raise InputError(f"'{whole[0]}' holds whole numbers, for which {number:g} cannot stand (--baseline).")
        for k in names:
            _held(k, np.asarray(number), job.feeds[k].dtype)
        if tokens := [k for k in names if k in job.stands and job.stands[k].rows]:
            note = f"baseline: token {number:g} of {', '.join(map(repr, tokens))} says nothing (--baseline N)"
            job.notes += [note] if note not in job.notes else []
        return {k: cast(np.full(job.feeds[k].shape, number), job.feeds[k].dtype) for k in names}
    name = str(baseline)
    if name in _MADE:
        if tokens := [k for k in names if k in job.stands and job.stands[k].rows]:
            raise InputError(
                f"'{tokens[0]}' holds tokens, which have no {name}: give the number of the one for nothing, 0, say "
                "(--baseline 0)."
            )
        return {k: cast(_MADE[name](job, k, seed), job.feeds[k].dtype) for k in names}
    if Path(name).suffix.lower() in SUFFIXES:
        job.notes.append(f"baseline: the photo '{Path(name).name}'")
        return absent(job, _picture(job).batch([image.read(Path(name))]), seed, names)
    raise InputError(f"There is no baseline '{name}': use {KINDS} (--baseline).")


def several(job: Job, baseline: Baseline, seed: int = 0, names: Sequence[str] = ()) -> list[Feeds]:
    """Each row of an array, or of arrays by input name, as a baseline of its own; one baseline for anything else.

    An array without the axis of samples is one row. For the rest see `absent`.
    """
    if isinstance(baseline, np.ndarray):
        baseline = {job.input.name: baseline}
    if not isinstance(baseline, Mapping):
        return [absent(job, baseline, seed, names)]
    given = {k: np.atleast_1d(v) for k, v in baseline.items()}
    rows = {k: v if v.ndim >= np.ndim(job.feeds.get(k, v)) else v[None] for k, v in given.items()}
    counts = {len(v) for v in rows.values()}
    if len(counts) != 1 or 0 in counts:
        raise InputError(f"Each input needs the same number of baselines, here there are {sorted(counts)}.")
    return [absent(job, {k: v[j][None] for k, v in rows.items()}, names=names) for j in range(counts.pop())]


def filling(job: Job, names: Sequence[str], baseline: Baseline, seed: int = 0) -> Fill:
    """What stands for parts of some inputs: (sample, input, where) -> values in the shape of `where`, which has a row
    per variant; of use only where it is True.

    As `absent`, and "inpaint" (Telea 2004) besides, which paints each part from the pixels around it, and all of a
    picture in its mean colour.
    """
    if not (isinstance(baseline, str) and baseline == "inpaint"):
        there = absent(job, baseline, seed, names)
        return lambda i, name, where: np.broadcast_to(there[name][i], where.shape)
    pixels = [_picture(job).inverse(x) for x in job.feeds[job.input.name]]

    def paint(i: int, name: str, where: NDArray[np.bool_]) -> NDArray[Any]:
        if name != job.input.name:
            return np.zeros(where.shape, job.feeds[name].dtype)
        preprocessing = replace(_picture(job), size=pixels[i].shape[:2], resize="squash")
        channel = preprocessing.layout.find("C")
        holes = where.any(axis=channel) if channel > 0 else where
        return preprocessing.batch([_inpainted(pixels[i], hole) for hole in holes])  # type: ignore[no-any-return]

    return paint


def told(baseline: Baseline) -> str | float:
    """A baseline as parameters record it."""
    return baseline if isinstance(baseline, str | float | int) else "an array"


def _inpainted(pixels: NDArray[np.uint8], hole: NDArray[np.bool_]) -> NDArray[np.uint8]:
    if hole.all():
        return np.broadcast_to(np.rint(pixels.mean(axis=(0, 1))).astype(np.uint8), pixels.shape)
    return image.inpaint(pixels, hole)


def cast(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """As the type of an input: whole numbers are the nearest ones."""
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        values = np.rint(values).clip(limits.min, limits.max)
    return values.astype(dtype)


def _number(baseline: str | float) -> float | None:
    try:
        number = float(baseline)
    except ValueError:
        return None
    if not np.isfinite(number):
        raise InputError(f"A baseline of {baseline} is no number (--baseline).")
    return number


def _fit(job: Job, name: str, given: NDArray[Any]) -> NDArray[Any]:
    """An array broadcast to the samples of an input."""
    like = job.feeds[name]
    _held(name, given, like.dtype)
    try:
        return np.ascontiguousarray(np.broadcast_to(given, like.shape).astype(like.dtype))
    except ValueError as error:
        raise InputError(f"The baseline of '{name}' has shape {given.shape}, the input {like.shape}.") from error


def _held(name: str, given: NDArray[Any], dtype: np.dtype[Any]) -> None:
    """Refuse what is no number, or none that floats of a type can hold."""
    if given.dtype.kind not in "fiub":
        raise InputError(f"The baseline of '{name}' is {given.dtype}, not numbers.")
    if dtype.kind == "f" and not (np.abs(given) <= np.finfo(dtype).max).all():
        raise InputError(f"The baseline of '{name}' is not finite, or too large for {dtype} (--baseline).")


def _picture(job: Job) -> Any:
    if job.preprocessing is None:
        raise InputError("This baseline needs a picture as input: use a number, mean or noise (--baseline).")
    return job.preprocessing


def _mean(job: Job, name: str, seed: int) -> NDArray[Any]:
    """Per channel where the axes are known, else over everything but the samples."""
    x, layout = job.feeds[name], job.layout(name)
    known = layout is not None and len(layout) == x.ndim
    axes = tuple(i for i in range(1, x.ndim) if not known or layout[i] != "C")  # type: ignore[index]
    return np.broadcast_to(x.mean(axis=axes, keepdims=True), x.shape)


def _grey(job: Job, name: str, seed: int) -> NDArray[Any]:
    x = job.feeds[name]
    if name != job.input.name:
        return np.zeros_like(x)
    preprocessing = _picture(job)
    grey = preprocessing.apply(np.full((*preprocessing.size, 3), 128, np.uint8))
    first = channels_first(grey[None], preprocessing.layout)[:, :, :1, :1]
    return np.broadcast_to(channels_back(first, preprocessing.layout), x.shape)


def _blur(job: Job, name: str, seed: int) -> NDArray[Any]:
    from scipy.ndimage import gaussian_filter

    x, layout = job.feeds[name], job.layout(name)
    axes = [i for i in range(1, x.ndim) if layout is None or layout[i] in "HWDL"]
    if layout is None or not axes:
        raise InputError(f"'{name}' has no positions to blur: use a number, mean or noise (--baseline).")
    sigma = 0.1 * min(x.shape[i] for i in axes)
    single = np.asarray(x, np.result_type(x, np.float32))  # scipy blurs no half precision
    blurred: NDArray[Any] = gaussian_filter(single, [sigma if i in axes else 0 for i in range(x.ndim)])
    return blurred


def _noise(job: Job, name: str, seed: int) -> NDArray[Any]:
    x = job.feeds[name]
    rng = draws(seed, np.zeros(1, np.int64))[0]
    first = channels_first(x[:1], job.layout(name))  # every sample gets the same, wherever the channels are
    share = channels_back(rng.random(first.shape), job.layout(name))
    least, most = (f(x, axis=tuple(range(1, x.ndim)), keepdims=True) for f in (np.min, np.max))
    return np.asarray(least + share * (most - least))


_MADE = {"mean": _mean, "grey": _grey, "blur": _blur, "noise": _noise}
