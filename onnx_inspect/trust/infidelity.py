"""Infidelity and sensitivity: whether an explanation holds for small changes of the input, and how it moves with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from ..attribution import Attribution
from ..errors import InputError, ResultError
from ..methods.features import positive
from ..methods.inputs import Feeds, Input, ModelLike
from ..methods.job import SCORE, How, Job, draws
from ..methods.noise import Gauss
from .subject import Floats, job_of


def infidelity(
    model: ModelLike,
    x: Input,
    result: Attribution,
    *,
    noise: float = 0.1,
    samples: int = 50,
    seed: int = 0,
    **how: Unpack[How],
) -> Floats:
    """Infidelity: the mean squared error of the explanation as a linear model of what noise does to the score.

    E[(sum(I phi) - (S(x) - S(x - I)))^2] with I ~ N(0, sd^2), (N,). phi is per unit of input, as signed gradients are;
    what is in units of the score, as integrated gradients, is to be divided by the input first.

    Yeh et al., On the (In)fidelity and Sensitivity of Explanations, NeurIPS 2019.

    Args:
        model: as for the method.
        x: the input that was explained.
        result: the explanation, shaped like the input.
        noise: standard deviation, as a share of the range of the sample.
        samples: draws of the noise.
        seed: of the noise.
        how: as for the method.

    Raises:
        ResultError: the explanation is a map, not shaped like the input.
    """
    job = job_of(model, x, result, how)
    x0 = _floats(job)
    if result.values.shape != x0.shape:
        raise ResultError(
            f"Infidelity needs attributions shaped like the input, {x0.shape}; those of {result.method} are "
            f"{result.values.shape}."
        )
    around = Gauss(job, {job.input.name: x0}, noise)

    def vary(i: int, which: NDArray[np.int64]) -> Feeds:
        return {t: v.astype(x0.dtype) for t, v in around.copies(i, draws(seed, which)).items()}

    errors = np.zeros(job.n)
    for i, which, found in job.sweep("infidelity", positive("samples", samples), vary):
        shift = x0[i].astype(np.float64) - vary(i, which)[job.input.name]
        promised = (shift * result.values[i]).reshape(len(which), -1).sum(axis=1)
        errors[i] += ((promised - (job.clean[SCORE][i] - found[SCORE])) ** 2).sum()
    return errors / samples


def max_sensitivity(
    method: Callable[..., Attribution],
    model: ModelLike,
    x: Input,
    result: Attribution,
    *,
    radius: float = 0.02,
    samples: int = 10,
    seed: int = 0,
    **how: Any,
) -> Floats:
    """Max-sensitivity: the largest relative change of the explanation when the input changes a little.

    max |phi(x + d) - phi(x)| / |phi(x)| over draws of d, uniform in [-radius, radius] in units of the input, (N,).

    Yeh et al., On the (In)fidelity and Sensitivity of Explanations, NeurIPS 2019; radius and draws are captum's.

    Args:
        method: the method, as `onnx_inspect.gradcam`.
        model: as for the method.
        x: the input that was explained.
        result: the explanation.
        radius: of the cube that the changes come from.
        samples: how many changes.
        seed: of the changes.
        how: as for the method, its own arguments included.

    Raises:
        InputError: whole numbers cannot change a little.
        ResultError: the explanation is not what the method gives.
    """
    job = job_of(model, x, result, {k: v for k, v in how.items() if k in How.__annotations__})
    x0 = _floats(job)
    norm = np.linalg.norm(result.values.reshape(job.n, -1), axis=1)
    worst = np.zeros(job.n)
    for rng in draws(seed, np.arange(positive("samples", samples))):
        moved = x0 + rng.uniform(-radius, radius, x0.shape[1:]).astype(x0.dtype)
        other = method(job.model, job.feeds | {job.input.name: moved}, job.target, **how)
        if other.values.shape != result.values.shape:
            raise ResultError(
                f"The explanation is {result.values.shape}, that of a changed input {other.values.shape}: give the "
                "arguments that the method was given."
            )
        change = np.linalg.norm((other.values - result.values).reshape(job.n, -1), axis=1)
        worst = np.maximum(worst, np.divide(change, norm, out=np.zeros(job.n), where=norm > 0))
    return worst


def _floats(job: Job) -> NDArray[Any]:
    """The input, where it can change a little."""
    x: NDArray[Any] = job.feeds[job.input.name]
    if x.dtype.kind != "f":
        raise InputError(f"'{job.input.name}' holds {x.dtype} numbers, which cannot change a little: use deletion.")
    return x
