"""Grad-CAM++ and its smooth form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Unpack

import numpy as np

from ..attribution import Attribution
from ..target import TargetLike
from .cam_common import Array, Fuse, Layers, View, explain, in_rows
from .features import positive
from .inputs import Input, ModelLike
from .job import How, Job, draws
from .registry import method

Variant = Literal["default", "paper"]


@method("gradient", "map")
def gradcam_plusplus(
    model: ModelLike,
    x: Input,
    target: TargetLike = "top",
    *,
    layer: Layers = "auto",
    variant: Variant = "default",
    fuse: Fuse = "mean",
    flips: bool = False,
    scales: Sequence[float] = (),
    signed: bool = False,
    **how: Unpack[How],
) -> Attribution:
    """Grad-CAM++: Grad-CAM whose weights count every instance of the target, however small it is in the photo.

    L = relu(sum_k w_k A_k), w_k = sum_p a_kp relu(g_kp), a = g^2 / (2 g^2 + sum_p(A_k) g^3), with g = dS/dA and p over
    all positions. Values are (N, h, w) at the layer's resolution. The default is the formula that most tools use,
    pytorch-grad-cam's, with 1e-6 added to the denominator. "paper" is the authors' code: the score is exp(S), which
    multiplies g, and a adds up to 1 over the positions of each channel; those values are large where S is.

    Chattopadhay et al., Grad-CAM++: Improved Visual Explanations for Deep Convolutional Networks, WACV 2018.

    Args:
        layer: the map to explain at: readable name, exact tensor name, or "auto" for the last one with extent;
            several are resized to the largest and fused.
        variant: "default" or "paper".
        fuse: how the maps of several layers become one: "mean" or "max".
        flips: take the mean with the mirrored input's map, mirrored back.
        scales: take the mean over the input times these numbers, as 0.9, 1 and 1.1.
        signed: no ReLU at the end: what speaks against the target is negative.

    Raises:
        LayerError: no such layer, or it is not a map.
        TargetError: no such target, or it does not depend on the layer.

    Example:
        >>> gradcam_plusplus("model.onnx", "two_cats.jpg", target="tiger cat").save("cats")
    """
    job = Job(model, x, target, **how)
    formula = _as_published if variant == "paper" else _plusplus
    params = {"variant": variant}
    return explain(
        "gradcam_plusplus", job, layer, formula, fuse=fuse, flips=flips, scales=scales, signed=signed, params=params
    )


def _plusplus(v: View) -> Array:
    return v.weighted(_plusplus_weights(v.A, v.g, v.g**2, v.g**3))


def _plusplus_weights(A: Array, g: Array, g2: Array, g3: Array) -> Array:
    """The weights (N, C), given the gradient and its powers, or their means over noisy samples."""
    a = g2 / (2 * g2 + A.sum(axis=2, keepdims=True) * g3 + 1e-6)
    total: Array = (a * np.maximum(g, 0)).sum(axis=2)
    return total


def _as_published(v: View) -> Array:
    g = v.g.astype(np.float64)
    below = 2 * g**2 + v.A.sum(axis=2, keepdims=True) * g**3
    a = g**2 / np.where(below == 0, 1, below)
    total = a.sum(axis=2, keepdims=True)
    a = a / np.where(total == 0, 1, total)
    return v.weighted(np.exp(v.S.astype(np.float64))[:, None] * (a * np.maximum(g, 0)).sum(axis=2))


@method("gradient", "map")
def smooth_gradcam_plusplus(
    model: ModelLike,
    x: Input,
    target: TargetLike = "top",
    *,
    layer: Layers = "auto",
    samples: int = 25,
    noise: float = 0.15,
    seed: int = 0,
    fuse: Fuse = "mean",
    flips: bool = False,
    scales: Sequence[float] = (),
    signed: bool = False,
    **how: Unpack[How],
) -> Attribution:
    """Smooth Grad-CAM++: Grad-CAM++ with gradients that are means over noisy copies of the photo.

    As gradcam_plusplus, but g, g^2 and g^3 are each the mean over the copies; the feature maps are those of the clean
    photo. Values are (N, h, w) at the layer's resolution.

    Omeiza et al., Smooth Grad-CAM++: An Enhanced Inference Level Visualization Technique, 2019.

    Args:
        layer: the map to explain at: readable name, exact tensor name, or "auto" for the last one with extent;
            several are resized to the largest and fused.
        samples: noisy copies per photo.
        noise: standard deviation of the noise, as a share of the range of a photo's input values.
        seed: of the noise.
        fuse: how the maps of several layers become one: "mean" or "max".
        flips: take the mean with the mirrored input's map, mirrored back.
        scales: take the mean over the input times these numbers, as 0.9, 1 and 1.1.
        signed: no ReLU at the end: what speaks against the target is negative.

    Raises:
        LayerError: no such layer, or it is not a map.
        TargetError: no such target, or it does not depend on the layer.
        InputError: fewer than one copy, or samples do not stay apart in this model.

    Example:
        >>> smooth_gradcam_plusplus("model.onnx", "cat.jpg", samples=50).save("cat")
    """
    positive("samples", samples)
    job = Job(model, x, target, **how)
    params = {"samples": samples, "noise": noise, "seed": seed}
    return explain(
        "smooth_gradcam_plusplus",
        job,
        layer,
        lambda v: v.weighted(_plusplus_weights(v.A, *_noisy(v, samples, noise, seed))),
        fuse=fuse,
        flips=flips,
        scales=scales,
        signed=signed,
        params=params,
    )


def _noisy(v: View, samples: int, noise: float, seed: int) -> list[Array]:
    """The means of g, g^2 and g^3 over noisy copies."""
    name = f"gradient.{v.at.tensor}"
    spread = noise * np.array([one.max() - one.min() for one in v.x])

    def vary(i: int, which: Array) -> Array:
        noises = [rng.standard_normal(v.x.shape[1:]) for rng in draws(seed, which)]
        return np.asarray(v.x[i] + spread[i] * np.stack(noises))

    sums = [np.zeros_like(v.g) for _ in range(3)]
    for i, _, found in v.job.sweep(
        "smooth_gradcam_plusplus",
        samples,
        v.feeding(vary),
        lambda feeds, target: v.job.gradients([v.at.tensor], feeds=feeds, target=target),
    ):
        g = in_rows(v.at.maps(found[name]))
        for power, total in enumerate(sums, start=1):
            total[i] += (g**power).sum(axis=0)
    return [total / samples for total in sums]
