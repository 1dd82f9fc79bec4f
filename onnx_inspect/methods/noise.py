"""Other methods, averaged over noisy copies of the input."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Unpack

import numpy as np

from ..attribution import Attribution
from ..errors import InputError
from ..expand import SQUARES, WEIGHT
from ..maps import channels_back, channels_first
from ..model import Model
from ..target import Target, TargetLike
from .features import positive
from .gradients import saliency
from .inputs import Feeds, Input, ModelLike
from .job import SCORE, How, Job, Run, Vary, draws
from .registry import explanation, method
from .sums import Summed, Sums, in_graph

if TYPE_CHECKING:
    from numpy.typing import NDArray

Method = Callable[..., Attribution]
_DEFAULTS = {"": (50, 0.15), "captum": (5, 1.0), "zennit": (20, 0.1)}  # samples and noise


@method("gradient")
def smoothgrad(
    model: ModelLike,
    x: Input,
    target: TargetLike = "top",
    *,
    of: str | Method = "saliency",
    samples: int = 0,
    noise: float | None = None,
    kind: Literal["mean", "squared", "variance"] = "mean",
    seed: int = 0,
    preset: Literal["", "captum", "zennit"] = "",
    **how: Unpack[How],
) -> Attribution:
    """SmoothGrad: a method's attributions, averaged over noisy copies of the input.

    The mean of M(x + e), with e from a normal distribution and M the gradient, with its sign, or another method. The
    class stays what it is for the clean x, whatever a noisy copy looks most like. Also the mean of M² (SmoothGrad
    squared), and the variance of M (VarGrad). Shaped as M gives it; all inputs of floats get noise.

    Smilkov et al., SmoothGrad: Removing Noise by Adding Noise, 2017; Hooker et al., A Benchmark for Interpretability
    Methods in Deep Neural Networks, NeurIPS 2019; Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018.

    Args:
        of: the method M, saliency being the gradient with its sign; in Python also a function (model, x, target,
            **how), partial(integrated_gradients, baseline="blur"), say.
        samples: noisy copies; 0 for 50 (captum 5, zennit 20).
        noise: standard deviation of the noise, as a share of the range of each sample's numbers; by default 0.15
            (zennit 0.1); for captum in the numbers' own unit, 1.0.
        kind: mean, squared or variance.
        seed: of the noise.
        preset: the conventions of a reference: captum's noise does not depend on the range; the last copy of zennit's
            has none.

    Raises:
        TargetError: no such target, or it does not depend on the input.
        InputError: no such method, or no input holds floats.

    Example:
        >>> smoothgrad("model.onnx", "cat.jpg", of="input_x_gradient", samples=20).save("cat")
    """
    job = Job(model, x, target, **how)
    inner = _method(of)
    share = _DEFAULTS[preset][1] if noise is None else noise
    count = positive("samples", samples or _DEFAULTS[preset][0])
    behind, given = _from_embeddings(job)
    apart = job.engine.samples(behind, given)
    noisy = {k: v for k, v in given.items() if k in apart and k not in job.assumed and v.dtype.kind == "f"}
    if not noisy:
        raise InputError("No input holds floats that noise could be added to.")
    gauss = Gauss(job, noisy, share, absolute=preset == "captum")
    own = {**how, "engine": job.engine, "preprocessing": job.preprocessing, "labels": job.labels, "progress": None}
    cut_there = behind is not job.model

    def vary(i: int, which: NDArray[np.int64]) -> Feeds:
        sources: list[np.random.Generator | None] = [*draws(seed, which)]
        if preset == "zennit" and which[-1] == count - 1:
            sources[-1] = None
        return {t: v.astype(noisy[t].dtype) for t, v in gauss.copies(i, sources).items()}

    if of == "saliency" and not cut_there:
        clean, sums = None, _of_gradients(job, count, vary, squares=kind != "mean")
    else:
        clean = inner(behind, given if cut_there else x, target, **own)
        passed = [k for k in given if cut_there or k not in job.assumed]

        def run(feeds: Feeds, target: Target) -> dict[str, NDArray[Any]]:
            return _values(inner(behind, {k: feeds[k] for k in passed}, target, **own))

        sums = _by_copies(job, count, vary, run, squares=kind != "mean")
    total = Sums()
    for i, found in sums:
        for t, value in found.items():
            total.add(t, i, value / count)
    means = total.stacked()
    values = {t: v for t, v in means.items() if not t.startswith(SQUARES)}
    if kind != "mean":
        squared = {t: means[f"{SQUARES}{t}"] for t in values}
        values = {t: v if kind == "squared" else np.maximum(v - values[t] ** 2, 0) for t, v in squared.items()}
    single = {t: v.astype(np.float32) for t, v in values.items()}
    if clean is None:
        called, known, layer = "saliency", {"through": "", "signed": True}, None
    else:
        called, known, layer = clean.method, clean.params, job.model.layer(clean.tensor) if clean.tensor else None
        job.notes = list(dict.fromkeys([*job.notes, *clean.notes]))
    return job.attribution(  # type: ignore[no-any-return]
        "smoothgrad",
        single if clean is None or clean.tensors else single[""],
        job.clean,
        layer=layer,
        # The sign of a gradient points nowhere.
        signed=clean is not None and clean.signed and kind == "mean" and of != "saliency",
        params={
            "of": called,
            "samples": count,
            "noise": share,
            "kind": kind,
            "seed": seed,
            "preset": preset,
            called: known,
        },
    )


Found = Iterator[tuple[int, dict[str, "NDArray[Any]"]]]


def _by_copies(job: Job, count: int, vary: Vary, run: Run, squares: bool) -> Found:
    """What is found, and its squares, summed over some copies at a time: sample, and sums by tensor."""
    for i, _, found in job.sweep("smoothgrad", count, vary, run):
        sums = {t: v.sum(axis=0, dtype=np.float64) for t, v in found.items()}
        if squares:
            sums |= {f"{SQUARES}{t}": (v.astype(np.float64) ** 2).sum(axis=0) for t, v in found.items()}
        yield i, sums


def _of_gradients(job: Job, count: int, vary: Vary, squares: bool) -> Found:
    """The same for gradients of the inputs, on a card summed up in the graph."""
    tensors = job.attributed()
    if not in_graph(job):

        def run(feeds: Feeds, target: Target) -> dict[str, NDArray[Any]]:
            found = job.gradients(tensors, feeds=feeds, target=target)
            return {t: found[f"gradient.{t}"] for t in tensors}

        yield from _by_copies(job, count, vary, run, squares)
        return
    summed, sums = Summed(job, tensors, squares=squares), Feeds()

    def add(feeds: Feeds, target: Target) -> dict[str, NDArray[Any]]:
        sums.update(summed(feeds | {WEIGHT: np.ones(job._count(feeds))}, target))
        return {SCORE: sums.pop(SCORE)}

    for i, _, _ in job.sweep("smoothgrad", count, vary, add):
        yield i, dict(sums)


def _from_embeddings(job: Job) -> tuple[Model, Feeds]:
    """The model from the embeddings of tokens on, and what it is given: these can get noise."""
    if not any(k in job.reached for k in job.stands):
        return job.model, job.feeds
    inside = [t for t in job.attributed() if t not in job.feeds]
    model = job._cut(inside)
    known = job.feeds | job.forward(inside)
    return model, {s.name: known[s.name] for s in model.inputs}


def _method(of: str | Method) -> Method:
    if callable(of):
        return of
    return partial(saliency, signed=True) if of == "saliency" else explanation(of)


def _values(result: Attribution) -> dict[str, NDArray[Any]]:
    return result.tensors or {"": result.values}


class Gauss:
    """Normal noise on tensors: the same for every sample, but for its deviation, and wherever their channels are.

    Args:
        job: the job.
        tensors: what gets the noise, (N, ...) each.
        noise: the standard deviation, as a share of the range of each sample's numbers,
        absolute: or in their own unit.
    """

    def __init__(self, job: Job, tensors: Feeds, noise: float, absolute: bool = False) -> None:
        self.tensors = tensors
        self.layouts = {t: job.layout(t) for t in tensors}
        self.noise, self.absolute = noise, absolute

    def copies(self, i: int, sources: Sequence[np.random.Generator | None]) -> Feeds:
        """A copy of sample i, in float64, with noise from each source; None gives none."""
        found = {}
        for t, x in self.tensors.items():
            one = channels_first(x[i : i + 1], self.layouts[t]).astype(np.float64)
            deviation = self.noise * (1 if self.absolute else float(np.ptp(one)))
            noisy = one.repeat(len(sources), axis=0)
            if deviation:
                for copy, source in zip(noisy, sources, strict=True):
                    if source is not None:
                        copy += deviation * source.standard_normal(one.shape)[0]
            found[t] = channels_back(noisy, self.layouts[t])
        return found
