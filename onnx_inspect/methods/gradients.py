"""Gradients of the score with respect to the inputs, or to any tensor between."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import numpy as np

from ..attribution import Attribution
from ..target import TargetLike
from .inputs import Input, ModelLike
from .job import How, Job
from .registry import method


@method("gradient")
def saliency(
    model: ModelLike,
    x: Input,
    target: TargetLike = "top",
    *,
    wrt: Sequence[str] = (),
    through: str = "",
    signed: bool = False,
    **how: Unpack[How],
) -> Attribution:
    """Saliency: which input numbers change the score the most when they change a little.

    |dS/dx|, shaped like x, in units of score per unit of input; the picture shows the largest over the colour channels.
    With a unit of the network as target, captum's NeuronGradient.

    Simonyan et al., Deep Inside Convolutional Networks, ICLR workshop 2014.

    Args:
        wrt: tensors to attribute to, by name: every float input by default.
        through: only what passes these elements of a tensor counts, as in "features.3[7,2,2]".
        signed: the gradient itself, not its magnitude.

    Raises:
        TargetError: no such target, or it does not depend on the input.

    Example:
        >>> saliency("model.onnx", "cat.jpg", target=281).values.shape
    """
    job = Job(model, x, target, **how)
    tensors = job.attributed(wrt)
    found = job.gradients(tensors, through=through)
    values = {t: found[f"gradient.{t}"] if signed else np.abs(found[f"gradient.{t}"]) for t in tensors}
    params = {"through": through, "signed": signed}
    return job.attribution("saliency", values, found, signed=signed, params=params)  # type: ignore[no-any-return]


@method("gradient")
def input_x_gradient(
    model: ModelLike,
    x: Input,
    target: TargetLike = "top",
    *,
    wrt: Sequence[str] = (),
    through: str = "",
    **how: Unpack[How],
) -> Attribution:
    """Input x gradient: what each input number adds to the score, if the model were linear around it.

    x dS/dx, shaped like x, in units of the score. At a layer (`wrt`), captum's LayerGradientXActivation.

    Shrikumar et al., Not Just a Black Box, 2016.

    Args:
        wrt: tensors to attribute to, by name: every float input by default.
        through: only what passes these elements of a tensor counts, as in "features.3[7,2,2]".

    Raises:
        TargetError: no such target, or it does not depend on the input.

    Example:
        >>> input_x_gradient("model.onnx", "cat.jpg").values.sum(axis=1)
    """
    job = Job(model, x, target, **how)
    tensors = job.attributed(wrt)
    found = job.gradients(tensors, through=through)
    values = {t: found[t] * found[f"gradient.{t}"] for t in tensors}
    params = {"through": through}
    return job.attribution("input_x_gradient", values, found, signed=True, params=params)  # type: ignore[no-any-return]
