"""Gradients collected on straight lines from a baseline to the input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Unpack

import numpy as np

from ..attribution import Attribution
from ..target import TargetLike
from .baselines import Baseline, told
from .features import positive
from .inputs import Feeds, Input, ModelLike
from .job import How, Job, draws
from .lines import Lines, Quadrature, between, nodes
from .noise import Gauss
from .registry import method
from .runs import Run
from .sums import Sums

if TYPE_CHECKING:
    from numpy.typing import NDArray


@method("gradient")
def integrated_gradients(
    model: ModelLike,
    x: Input,
    target: TargetLike = "top",
    *,
    baseline: Baseline = "0",
    steps: int = 0,
    quadrature: Literal["", Quadrature] = "",
    wrt: Sequence[str] = (),
    along: Literal["tensor", "input"] = "tensor",
    average: bool = False,
    through: str = "",
    preset: Literal["", "captum", "zennit"] = "",
    **how: Unpack[How],
) -> Attribution:
    """Integrated gradients: what each input number adds to the score on the way from a baseline x' to x.

    (x - x') times the mean of dS/dx on the straight line from x' to x, shaped like x, in units of the score. The
    attributions of all inputs, which move together, sum up to S(x) - S(x') but for what the quadrature misses, which
    is the measure `delta` = sum - (S(x) - S(x')), as in captum. Of several baselines the mean.

    At a layer (`wrt`) the line is drawn in the layer's space, from A(x') to A(x): captum's LayerIntegratedGradients.
    Along the input, the sum over steps of dS/dA times the step of A: conductance, captum's LayerConductance; its
    average, InternalInfluence. With a unit as target, NeuronIntegratedGradients; through a unit, NeuronConductance.

    Sundararajan et al., Axiomatic Attribution for Deep Networks, ICML 2017; Dhamdhere et al., How Important Is a
    Neuron?, ICLR 2019; Leino et al., Influence-Directed Explanations, ITC 2018.

    Args:
        baseline: what says nothing: a number, mean, grey, blur, noise, or another photo; of tokens the number of one;
            zeros, in the space of the layer or embedding; in Python also an array, one baseline per row, or arrays by
            input name.
        steps: gradients per baseline; 0 for 50 (20 with zennit).
        quadrature: where on the line they are taken: gausslegendre (the default, and captum's); or at the left, right
            (zennit's) or middle of equal parts, or at the ends of steps - 1 parts (trapezoid).
        wrt: tensors to attribute to, by name: every float input by default.
        along: for layers, the line of the mean: from A(x') to A(x) in the tensor's own space, or from x' to x.
        average: the mean gradient itself, without the factor x - x'.
        through: only what passes these elements of a tensor counts, as in "features.3[7,2,2]".
        preset: the conventions of a reference: captum's trapezoid, whose weights sum up to 1 - 1/steps; zennit's
            defaults.

    Raises:
        TargetError: no such target, or it does not depend on the input.
        InputError: no such baseline, or too few steps.

    Example:
        >>> integrated_gradients("model.onnx", "cat.jpg", baseline="blur").measures["delta"]
    """
    job = Job(model, x, target, **how)
    steps = steps or (20 if preset == "zennit" else 50)
    rule: Quadrature = quadrature or ("right" if preset == "zennit" else "gausslegendre")
    tensors = job.attributed(wrt)
    lines = Lines(job, tensors if along == "tensor" else job.attributed(), baseline)
    if average or all(t in lines.end for t in tensors):
        values = _integral(lines, tensors, *nodes(rule, steps, captum=preset == "captum"), through, average)
    else:
        values = _conductance(lines, tensors, nodes(rule, steps + 1)[0], _gradients(lines, tensors, through))
    own = {"baseline": baseline, "steps": steps, "quadrature": rule, "along": along, "average": average}
    measures = {} if average or through else {"delta": lines.delta(values)}
    return _attribution(job, "integrated_gradients", values, measures, **own, through=through, preset=preset)


@method("gradient")
def expected_gradients(
    model: ModelLike,
    x: Input,
    target: TargetLike = "top",
    *,
    baseline: Baseline = "0",
    samples: int = 200,
    wrt: Sequence[str] = (),
    seed: int = 0,
    **how: Unpack[How],
) -> Attribution:
    """Expected gradients: integrated gradients over many baselines, by chance instead of a quadrature.

    The mean of (x - x') dS/dx at x' + a (x - x'), with x' drawn from the baselines and a from [0, 1] each time. Shaped
    like x, in units of the score. The attributions sum up to S(x) - mean S(x') in expectation; the measure `delta` is
    their sum less that.

    Erion et al., Improving Performance of Deep Learning Models with Axiomatic Attribution Priors and Expected
    Gradients, Nature Machine Intelligence 2021.

    Args:
        baseline: what says nothing: a number, mean, grey, blur, noise, or another photo; in Python also an array, one
            baseline per row, a sample of the training data, say, or arrays by input name.
        samples: gradients per photo.
        wrt: tensors to attribute to, by name: every float input by default; at a layer the line lies in its space.
        seed: of what is drawn.

    Raises:
        TargetError: no such target, or it does not depend on the input.
        InputError: no such baseline.

    Example:
        >>> expected_gradients("model.onnx", "cat.jpg", baseline=training[:100]).save("cat")
    """
    job = Job(model, x, target, **how)
    lines = Lines(job, job.attributed(wrt), baseline, seed)
    params = {"baseline": baseline, "samples": samples, "seed": seed}
    return _expectation("expected_gradients", lines, Gauss(job, lines.end, 0), params)


@method("gradient")
def gradient_shap(
    model: ModelLike,
    x: Input,
    target: TargetLike = "top",
    *,
    baseline: Baseline = "0",
    samples: int = 5,
    noise: float = 0.0,
    wrt: Sequence[str] = (),
    seed: int = 0,
    preset: Literal["", "captum"] = "",
    **how: Unpack[How],
) -> Attribution:
    """Gradient SHAP: SHAP values, approximated by gradients between noisy copies of x and random baselines.

    The mean of (x + e - x') dS/dx at x' + a (x + e - x'), with x' drawn from the baselines, a from [0, 1] and e from a
    normal distribution each time. Shaped like x, in units of the score; without noise, expected gradients. The measure
    `delta` is the sum of the attributions less S(x) - mean S(x').

    Lundberg & Lee, A Unified Approach to Interpreting Model Predictions, NeurIPS 2017; as in captum and shap.

    Args:
        baseline: what says nothing: a number, mean, grey, blur, noise, or another photo; in Python also an array, one
            baseline per row, a sample of the training data, say, or arrays by input name.
        samples: gradients per photo, 5 as in captum.
        noise: standard deviation of the noise, as a share of the range of each sample's numbers.
        wrt: tensors to attribute to, by name: every float input by default; at a layer line and noise are in its space.
        seed: of what is drawn.
        preset: captum's noise is absolute.

    Raises:
        TargetError: no such target, or it does not depend on the input.
        InputError: no such baseline.

    Example:
        >>> gradient_shap("model.onnx", "cat.jpg", baseline="noise", samples=50).measures["delta"]
    """
    job = Job(model, x, target, **how)
    lines = Lines(job, job.attributed(wrt), baseline, seed)
    around = Gauss(job, lines.end, noise, absolute=preset == "captum")
    params = {"baseline": baseline, "samples": samples, "noise": noise, "seed": seed, "preset": preset}
    return _expectation("gradient_shap", lines, around, params)


def _gradients(lines: Lines, tensors: Sequence[str] = (), through: str = "") -> Run:
    """Gradients at points on the lines."""
    wrt = tensors or list(lines.end)
    return lambda feeds, target: lines.job.gradients(wrt, feeds=feeds, target=target, through=through, at=lines.inside)


def _integral(
    lines: Lines, tensors: Sequence[str], alphas: NDArray[Any], weights: NDArray[Any], through: str, average: bool
) -> dict[str, NDArray[Any]]:
    """The mean gradient on the lines, times x - x' unless the average itself is asked for."""
    total = Sums()
    for i, j, mean in lines.sums("integrated_gradients", alphas, weights / lines.count, tensors, through):
        for t, g in mean.items():
            total.add(t, i, g if average else g * (lines.end[t][i] - lines.start[t][j, i].astype(np.float64)))
    return total.stacked()


def _conductance(lines: Lines, tensors: Sequence[str], alphas: NDArray[Any], run: Run) -> dict[str, NDArray[Any]]:
    """The sum over steps of the gradient at their beginning times the step of the tensor, meaned over baselines."""
    total = Sums()
    before: dict[str, tuple[NDArray[Any], NDArray[Any]]] = {}
    for i, _, k, found in lines.walk("integrated_gradients", alphas, run):
        for t in tensors:
            A, g = found[t].astype(np.float64), found[f"gradient.{t}"].astype(np.float64)
            last = before.get(t, (A[:1], g[:1]))
            before[t] = A[-1:], g[-1:]
            steps = np.diff(A, axis=0, prepend=last[0]) * np.concatenate([last[1], g[:-1]])
            total.add(t, i, steps[k > 0].sum(axis=0) / lines.count)
    return total.stacked()


def _expectation(name: str, lines: Lines, around: Gauss, params: dict[str, Any]) -> Attribution:
    """The mean of (x - x') times the gradient between, with x' from the baselines and x from around the sample."""
    samples, seed, run = positive("samples", params["samples"]), params["seed"], _gradients(lines)

    start, end = Feeds(), Feeds()  # of the variants that run at the moment

    def vary(i: int, which: NDArray[np.int64]) -> Feeds:
        sources = draws(seed, which)
        j, alphas = [s.integers(lines.count) for s in sources], np.array([s.random() for s in sources])
        start.update({t: x[j, i] for t, x in lines.start.items()})
        end.update(around.copies(i, sources))
        return {t: between(start[t], end[t], alphas) for t in end}

    total = Sums()
    for i, _, found in lines.job.sweep(name, samples, vary, run):
        for t in end:
            total.add(t, i, ((end[t] - start[t]) * found[f"gradient.{t}"]).sum(axis=0) / samples)
    values = total.stacked()
    measures = {"delta": lines.delta(values)}
    return _attribution(lines.job, name, values, measures, **params)


def _attribution(
    job: Job, name: str, values: Mapping[str, NDArray[Any]], measures: dict[str, NDArray[Any]], **params: Any
) -> Attribution:
    params["baseline"] = told(params["baseline"])
    single = {t: v.astype(np.float32) for t, v in values.items()}
    return job.attribution(  # type: ignore[no-any-return]
        name, single, job.clean, signed=True, params=params, measures=measures
    )
