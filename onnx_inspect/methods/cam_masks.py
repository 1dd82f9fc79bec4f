"""Class activation maps without gradients: feature maps mask the input, or are masked, and the model is run again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from typing import Literal, Unpack

import numpy as np

from ..attribution import Attribution
from ..errors import TargetError
from ..target import TargetLike
from .cam_common import Array, Fuse, Interpolation, Layers, View, explain, mapped, maps_at, placed, resized, together
from .inputs import Input, ModelLike
from .job import How, Job
from .masking import seen_through
from .registry import method

Preset = Literal["", "pgc", "torchcam"]


@method("map", "picture")
def scorecam(
    model: ModelLike,
    x: Input,
    target: TargetLike = "top",
    *,
    layer: Layers = "auto",
    preset: Preset = "",
    fuse: Fuse = "mean",
    flips: bool = False,
    scales: Sequence[float] = (),
    signed: bool = False,
    **how: Unpack[How],
) -> Attribution:
    """Score-CAM: feature maps weighted by the score of the photo seen through each of them.

    L = relu(sum_k w_k A_k), w = softmax over k of S(x H_k), where H_k is A_k, upsampled bilinearly to the input and
    brought to 0 to 1; a constant map masks everything. The paper subtracts the score of a baseline, which the softmax
    over channels undoes. S is the score before a final softmax, as in the paper's formula; the authors' code takes the
    probability and no softmax over channels (score="output" for the former). One forward pass per channel. Values are
    (N, h, w) at the layer's resolution, in units of A.

    Wang et al., Score-CAM: Score-Weighted Visual Explanations for Convolutional Neural Networks, CVPR workshops 2020.

    Args:
        layer: the map to explain at: readable name, exact tensor name, or "auto" for the last one with extent;
            several are resized to the largest and fused.
        preset: a reference's conventions: "pgc" (pytorch-grad-cam) upsamples with corners on corners, and brings maps
            to 0 to 1 before and after it resizes them to the input, unless they are signed; "torchcam" brings A_k to 0
            to 1 before it upsamples it, and sums that.
        fuse: how the maps of several layers become one: "mean" or "max".
        flips: take the mean with the mirrored input's map, mirrored back.
        scales: take the mean over the input times these numbers, as 0.9, 1 and 1.1.
        signed: no ReLU at the end: what speaks against the target is negative.

    Raises:
        LayerError: no such layer, or it is not a map.
        TargetError: no such target.
        InputError: samples do not stay apart in this model.

    Example:
        >>> scorecam("model.onnx", "cat.jpg").save("cat")
    """
    job = Job(model, x, target, **how)

    def formula(v: View) -> Array:
        v = replace(v, A=_unit(v.A)) if preset == "torchcam" else v
        return v.weighted(_softmax(_masked_scores(v, preset)))

    return explain(
        "scorecam",
        job,
        layer,
        formula,
        fuse=fuse,
        flips=flips,
        scales=scales,
        signed=signed,
        gradients=False,
        pgc=preset == "pgc",
        params={"preset": preset},
    )


def _masked_scores(v: View, preset: Preset) -> Array:
    """S(x H_k), (N, C)."""
    maps = v.A.reshape(*v.A.shape[:2], *v.sizes)
    maps = maps if preset else v.at.placed(maps)
    how: Interpolation = "corners" if preset == "pgc" else "linear"
    grow = [resized(np.eye(n), (m,), how) for n, m in zip(maps.shape[2:], v.x.shape[2:], strict=True)]
    count, unit = v.A.shape[1], preset != "torchcam"
    sweep = seen_through(v.job, "scorecam", count, lambda i, which: [maps[i, which]], v.x, grow=grow, unit=unit)
    return v.collect(sweep, count)


def _unit(maps: Array) -> Array:
    """Each map (..., P) from 0 to 1; 0 where it is constant."""
    maps = maps - maps.min(axis=-1, keepdims=True)
    return np.asarray(maps / (maps.max(axis=-1, keepdims=True) + 1e-8))


def _softmax(scores: Array) -> Array:
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True))


@method("map")
def ablationcam(
    model: ModelLike,
    x: Input,
    target: TargetLike = "top",
    *,
    layer: Layers = "auto",
    fuse: Fuse = "mean",
    flips: bool = False,
    scales: Sequence[float] = (),
    signed: bool = False,
    **how: Unpack[How],
) -> Attribution:
    """Ablation-CAM: feature maps weighted by how much of the score goes when each of them is taken away.

    L = relu(sum_k w_k A_k), w_k = (S - S_k) / S, where S_k is the score with A_k set to zero. The model is cut at the
    layer, so only what follows runs, once per channel. Values are (N, h, w) at the layer's resolution, in units of A.
    Equal to pytorch-grad-cam at layers whose least activation is 0; where it is not, that sets a channel to values
    below -1e7, which is far from anything the model has seen, and is not followed here.

    Desai & Ramaswamy, Ablation-CAM: Visual Explanations for Deep Convolutional Network via Gradient-free Localization,
    WACV 2020.

    Args:
        layer: the map to explain at: readable name, exact tensor name, or "auto" for the last one with extent;
            several are resized to the largest and fused.
        fuse: how the maps of several layers become one: "mean" or "max".
        flips: take the mean with the mirrored input's map, mirrored back.
        scales: take the mean over the input times these numbers, as 0.9, 1 and 1.1.
        signed: no ReLU at the end: what speaks against the target is negative.

    Raises:
        LayerError: no such layer, or it is not a map.
        TargetError: no such target, or its score is 0.
        InputError: samples do not stay apart in this model.

    Example:
        >>> ablationcam("model.onnx", "cat.jpg").save("cat")
    """
    job = Job(model, x, target, **how)
    return explain(
        "ablationcam",
        job,
        layer,
        lambda v: v.weighted(_lost(v)),
        fuse=fuse,
        flips=flips,
        scales=scales,
        signed=signed,
        gradients=False,
    )


def _lost(v: View) -> Array:
    """(S - S_k) / S, (N, C)."""

    def ablate(i: int, which: Array) -> Array:
        maps = v.A[i : i + 1].repeat(len(which), axis=0)
        maps[np.arange(len(which)), which] = 0
        return maps

    without = v.variants("ablationcam", v.A.shape[1], ablate)
    S = v.S.reshape(-1, 1)
    if not S.all():
        raise TargetError("The score is exactly 0: no share of it can be lost (--target CLASS).")
    return np.asarray((S - without) / S)


@method("map")
def reciprocam(
    model: ModelLike,
    x: Input,
    target: TargetLike = "top",
    *,
    layer: Layers = "auto",
    gaussian: bool = False,
    fuse: Fuse = "mean",
    flips: bool = False,
    scales: Sequence[float] = (),
    **how: Unpack[How],
) -> Attribution:
    """Recipro-CAM: the score that each position of a layer gets alone, all others set to zero.

    L_p = S(A_p at p, 0 elsewhere). The model is cut at the layer, so only what follows runs, once per position. Values
    are (N, h, w) at the layer's resolution, in units of the score, as they come; pictures run from the least to the
    largest. The authors take the probability (score="output").

    Byun & Lee, Recipro-CAM: Fast gradient-free visual explanations for convolutional neural networks, 2022.

    Args:
        layer: the map to explain at: readable name, exact tensor name, or "auto" for the last one with extent;
            several are resized to the largest and fused.
        gaussian: spread the features of the position over its neighbours, by 1/4, 1/8 and 1/16.
        fuse: how the maps of several layers become one: "mean" or "max".
        flips: take the mean with the mirrored input's map, mirrored back.
        scales: take the mean over the input times these numbers, as 0.9, 1 and 1.1.

    Raises:
        LayerError: no such layer, or it is not a map.
        TargetError: no such target.
        InputError: samples do not stay apart in this model.

    Example:
        >>> reciprocam("model.onnx", "cat.jpg").save("cat")
    """
    job = Job(model, x, target, **how)
    at = maps_at(job, layer)

    def formula(v: View) -> Array:
        return _alone(v, gaussian)

    values, found = mapped(job, at, formula, fuse=fuse, flips=flips, scales=scales, rectify=False, gradients=False)
    params = {"fuse": fuse, "flips": flips, "scales": list(scales), "gaussian": gaussian}
    heat = placed(at, values)
    return job.attribution("reciprocam", values, found, heat=heat, layer=together(at), params=params)  # type: ignore[no-any-return]


def _alone(v: View, gaussian: bool) -> Array:
    """The score of each position alone, (N, P)."""

    def vary(i: int, which: Array) -> Array:
        places = np.unravel_index(which, v.sizes)
        along = [_spread(place, size, gaussian) for place, size in zip(places, v.sizes, strict=True)]
        share = reduce(lambda a, b: (a[..., None] * b[:, None]).reshape(len(which), -1), along)
        return np.asarray(v.A[i][:, which].T[:, :, None] * share[:, None])

    return v.variants("reciprocam", v.A.shape[2], vary)


def _spread(place: Array, size: int, gaussian: bool) -> Array:
    """What positions along an axis give to each position of it, (n, size)."""
    far = np.abs(place[:, None] - np.arange(size))
    return np.select([far == 0, far == 1], [0.5, 0.25], 0.0) if gaussian else (far == 0).astype(np.float64)
