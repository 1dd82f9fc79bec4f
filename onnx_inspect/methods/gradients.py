"""Gradients with respect to the input."""

from __future__ import annotations

from typing import Unpack

import numpy as np

from ..attribution import Attribution
from ..target import TargetLike
from .job import How, Input, Job, ModelLike, channels_first
from .registry import method


@method
def saliency(model: ModelLike, x: Input, target: TargetLike = "top", **how: Unpack[How]) -> Attribution:
    """Saliency: which input numbers change the score the most when they change a little.

    |dS/dx|, values shaped like the input, in units of score per unit of input; the picture shows the largest over
    the colour channels.

    Simonyan et al., Deep Inside Convolutional Networks, ICLR workshop 2014.

    Raises:
        TargetError: no such target, or it does not depend on the input.

    Example:
        >>> saliency("model.onnx", "cat.jpg", target=281).values.shape
    """
    job = Job(model, x, target, **how)
    found = job.gradients([job.input.name])
    values = np.abs(found[f"gradient.{job.input.name}"])
    layout = job.preprocessing.layout if job.preprocessing is not None else None
    heat = channels_first(values, layout).max(axis=1) if values.ndim == 4 else values
    return job.attribution("saliency", values, found, heat=heat)  # type: ignore[no-any-return]
