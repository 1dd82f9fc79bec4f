"""DeepLIFT: how the difference between a sample's score and that of a reference comes about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from ..attribution import Attribution
from ..contrast.gradient import Convention, contrast
from ..errors import InputError
from ..facts import FOREIGN
from ..model import Model
from ..rewrite import expose
from ..target import Target, TargetLike
from .baselines import Baseline, absent, several
from .inputs import Feeds, Input, ModelLike
from .job import SCORE, How, Job, Run
from .registry import method
from .sums import Sums

OTHER = f"reference.{SCORE}"


@method("gradient")
def deeplift(
    model: ModelLike,
    x: Input,
    target: TargetLike = "top",
    *,
    baseline: Baseline = "0",
    wrt: Sequence[str] = (),
    preset: Convention = "",
    **how: Unpack[How],
) -> Attribution:
    """DeepLIFT: what each input number adds to the score, compared with a reference input.

    m (x - x'), shaped like x, in units of the score. Multipliers m go backwards as gradients do, but each operator
    gives the slope of the line between the two passes, (y - y') / (x - x'), not of its tangent. So they see through
    saturation, and contributions sum up to S(x) - S(x'): the measure `delta` is how far they are off, by rounding, or
    by an operator whose line is only approximated, which a note names; `reference score` is S(x'). Products of two
    tensors that vary (gates, attention) are split evenly; x sigmoid(x) and the pieces of Gelu get what they would get
    as one operator. The class is that of x in both passes.

    With captum's conventions only ReLU, ELU, LeakyReLU, Sigmoid, Tanh, Softplus, MaxPool and Softmax have such lines,
    all else has its gradient, as a MaxPool behind a ReLU does there. But samples do not mix. At a layer (`wrt`),
    captum's LayerDeepLift; with a unit as target, its NeuronDeepLift.

    Shrikumar et al., Learning Important Features Through Propagating Activation Differences, ICML 2017 (the rescale
    rule). The reference of 0 is captum's.

    Args:
        baseline: the reference: a number, mean, grey, blur, noise, or another photo; from Python also arrays.
        wrt: tensors to attribute to, by name: every float input by default. Inputs that are left out stay as they are.
        preset: the conventions of a reference: captum.

    Raises:
        TargetError: no such target, or it does not depend on the input.
        InputError: there is no such baseline.

    Example:
        >>> deeplift("model.onnx", "cat.jpg", baseline="blur").measures["delta"]
    """
    job = Job(model, x, target, **how)
    tensors = job.attributed(wrt)
    reference = absent(job, baseline, names=_given(job, tensors))
    found = _contrasted(job, tensors, list(reference), preset)(job.feeds | _named(reference), job.target)
    values = {t: found[f"contribution.{t}"] for t in tensors}
    measures = {"delta": _delta(values, found), "reference score": found[OTHER]}
    return _attribution(job, "deeplift", values, found, measures, {"baseline": baseline, "preset": preset})


@method("gradient")
def deep_shap(
    model: ModelLike,
    x: Input,
    target: TargetLike = "top",
    *,
    baseline: Baseline = "0",
    wrt: Sequence[str] = (),
    preset: Convention = "",
    **how: Unpack[How],
) -> Attribution:
    """Deep SHAP: DeepLIFT against several references, on average.

    E m (x - x') over the references, shaped like x, in units of the score: every sample is held against each row of
    `baseline`. They sum up to S(x) - E S(x'); `measures["delta"]` is how far off, "reference score" is E S(x').
    Approximates Shapley's values of inputs that are independent of each other. captum's DeepLiftShap.

    Lundberg & Lee, A Unified Approach to Interpreting Model Predictions, NeurIPS 2017.

    Args:
        baseline: from Python an array with a reference per row, or such arrays by input name. One reference else: a
            number, mean, grey, blur, noise, or another photo.
        wrt: tensors to attribute to, by name: every float input by default. Inputs that are left out stay as they are.
        preset: the conventions of a reference: captum.

    Raises:
        TargetError: no such target, or it does not depend on the input.
        InputError: there is no such baseline.

    Example:
        >>> deep_shap("model.onnx", x, baseline=training[:100]).values.mean(axis=0)
    """
    job = Job(model, x, target, **how)
    tensors = job.attributed(wrt)
    references = several(job, baseline, names=_given(job, tensors))
    job.apart([job.model.value(t).name or "" for t in tensors], job.n * len(references))
    samples = job.engine.samples(job.model, job.feeds)
    for k, v in references[0].items():
        if k not in samples and any(not np.array_equal(v, row[k]) for row in references):
            raise InputError(f"'{k}' is one for all samples: give it one baseline, not {len(references)}.")
    run = _contrasted(job, tensors, list(references[0]), preset)

    def vary(i: int, which: NDArray[np.int64]) -> Feeds:
        rows = {k: [references[j][k] for j in which] for k in references[0]}
        return _named({k: np.stack([r[i] for r in v]) if k in samples else v[0] for k, v in rows.items()})

    total, deltas, others = Sums(), np.zeros(job.n), np.zeros(job.n)
    for i, _, found in job.sweep("deep_shap", len(references), vary, run):
        values = {t: found[f"contribution.{t}"] for t in tensors}
        for t, rows in values.items():
            total.add(t, i, rows.sum(axis=0, dtype=np.float64) / len(references))
        deltas[i] += _delta(values, found).sum() / len(references)
        others[i] += found[OTHER].sum(dtype=np.float64) / len(references)
    means = {t: v.astype(np.float32) for t, v in total.stacked().items()}
    params = {"baseline": baseline, "references": len(references), "preset": preset}
    return _attribution(job, "deep_shap", means, job.clean, {"delta": deltas, "reference score": others}, params)


def _given(job: Job, tensors: Sequence[str]) -> list[str]:
    """The inputs to attribute to, which alone get a reference; none named if there are tensors between among them."""
    return list(tensors) if all(t in job.feeds for t in tensors) else []


def _named(reference: Feeds) -> Feeds:
    return {f"reference.{k}": v for k, v in reference.items()}


def _contrasted(job: Job, tensors: Sequence[str], inputs: Sequence[str], preset: Convention) -> Run:
    """Runs both passes: scores, what each tensor contributes to their difference, what predictions are read from."""
    if not inputs:
        names = ", ".join(map(repr, job.feeds))
        raise InputError(f"No input holds floats: give the baseline as arrays, by the names {names}.")
    outputs = [job.scores.tensor] if job.scores is not None else []
    wanted = [SCORE, OTHER, *(f"contribution.{t}" for t in tensors), *outputs]
    precision = job.precision

    def run(feeds: Feeds, target: Target) -> dict[str, NDArray[Any]]:
        def build() -> Model:
            shown = expose(job.model, outputs)
            return contrast(shown, target, tensors, inputs, preset=preset, precision=precision, score=SCORE)

        key = ("contrast", target.key(), *tensors, "between", *inputs, preset, precision, len(FOREIGN))
        built = job.model.memo(key, build)
        job.notes += [note for note in built.notes if note not in job.notes]
        return job.engine.run(built, feeds | target.feeds(len(feeds[job.input.name])), wanted)

    return run


def _delta(values: Mapping[str, NDArray[Any]], found: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
    """How far the attributions of each sample miss the sum S(x) - S(x')."""
    delta: NDArray[np.float64] = found[OTHER].astype(np.float64) - found[SCORE]
    for v in values.values():
        delta += v.reshape(len(delta), -1).sum(axis=1, dtype=np.float64)
    return delta


def _attribution(
    job: Job,
    name: str,
    values: Mapping[str, NDArray[Any]],
    found: Mapping[str, NDArray[Any]],
    measures: dict[str, NDArray[Any]],
    params: dict[str, Any],
) -> Attribution:
    given = params["baseline"]
    params["baseline"] = given if isinstance(given, str | float | int) else "given as numbers"
    return job.attribution(name, values, found, signed=True, params=params, measures=measures)  # type: ignore[no-any-return]
