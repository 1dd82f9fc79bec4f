"""Class activation maps: a layer's feature maps, weighted by what they mean for the target."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Unpack

import numpy as np

from ..attribution import Attribution
from ..target import TargetLike
from .cam_common import Array, Fuse, Layers, View, explain, mapped
from .inputs import Input, ModelLike
from .job import How, Job
from .registry import method

Preset = Literal["", "captum", "pgc"]


@method("gradient", "map")
def gradcam(
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
    """Grad-CAM: where the features of a layer speak for the target.

    With A the layer's feature maps and S the score, L = relu(sum_k w_k A_k), where w_k is the mean of dS/dA_k over
    all positions. Values are (N, h, w) at the layer's resolution, in units of the score.

    Selvaraju et al., Grad-CAM: Visual Explanations from Deep Networks, ICCV 2017.

    Args:
        layer: the map to explain at: readable name, exact tensor name, or "auto" for the last one with extent;
            several are resized to the largest and fused.
        preset: a reference's conventions: "captum" has no ReLU; "pgc" (pytorch-grad-cam) brings each map to 0 to 1
            before it resizes it to the input, and once more after several are fused; signed maps it leaves alone.
        fuse: how the maps of several layers become one: "mean" or "max".
        flips: take the mean with the mirrored input's map, mirrored back.
        scales: take the mean over the input times these numbers, as 0.9, 1 and 1.1.
        signed: no ReLU at the end: what speaks against the target is negative.

    Raises:
        LayerError: no such layer, or it is not a map.
        TargetError: no such target, or it does not depend on the layer.
        InputError: no such preset, or inputs that cannot be mirrored or scaled.

    Example:
        >>> gradcam("model.onnx", "cat.jpg", target="tiger cat").save("cat")
    """
    job = Job(model, x, target, **how)
    return explain(
        "gradcam",
        job,
        layer,
        gradcam_formula,
        fuse=fuse,
        flips=flips,
        scales=scales,
        signed=signed or preset == "captum",
        pgc=preset == "pgc",
        params={"preset": preset},
    )


def gradcam_formula(v: View) -> Array:
    """sum_k w_k A_k, w_k the mean of g_k."""
    return v.weighted(v.g.mean(axis=2))


@method("head")
def cam(
    model: ModelLike,
    x: Input,
    target: TargetLike = "top",
    *,
    flips: bool = False,
    scales: Sequence[float] = (),
    signed: bool = False,
    **how: Unpack[How],
) -> Attribution:
    """CAM: feature maps before global average pooling, weighted by the linear layer.

    L = sum_k w_k A_k, where w is the class's row of the linear layer after the pooling; the mean of L over all
    positions is the score, less its bias. Exact, but only where the model ends in global average pooling and a linear
    layer. Values are (N, h, w), in units of the score, signed.

    Zhou et al., Learning Deep Features for Discriminative Localization, CVPR 2016.

    Args:
        flips: take the mean with the mirrored input's map, mirrored back.
        scales: take the mean over the input times these numbers, as 0.9, 1 and 1.1.
        signed: draw what speaks against the target too.

    Raises:
        LayerError: the model does not end in that way.
        TargetError: no such target.

    Example:
        >>> cam("resnet.onnx", "cat.jpg").save("cat")
    """
    from ..layer import before_pooling

    job = Job(model, x, target, **how)
    at = before_pooling(job.model, job.explained_tensor)
    job.notes.append(f"layer: '{at.name}' ({at.op_type}), the map before global average pooling")
    values, found = mapped(job, [at], _cam, flips=flips, scales=scales, rectify=False)
    heat = at.placed(values if signed else np.maximum(values, 0))
    params = {"flips": flips, "scales": list(scales), "signed": signed}
    return job.attribution("cam", values, found, heat=heat, layer=at, signed=signed, params=params)  # type: ignore[no-any-return]


def _cam(v: View) -> Array:
    return v.weighted(v.g.sum(axis=2))  # linear from the mean on: the gradient of the mean is the weight
