"""Class activation maps from gradients: each method is its weighting of feature maps A by g = dS/dA."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import numpy as np

from ..attribution import Attribution
from ..target import TargetLike
from .cam_common import Array, Fuse, Layers, View, explain
from .inputs import Input, ModelLike
from .job import How, Job
from .registry import method


@method("gradient", "map")
def xgradcam(
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
    """XGrad-CAM: Grad-CAM with weights that add up, as nearly as they can, to what the maps add to the score.

    L = relu(sum_k w_k A_k), w_k = sum_p(g_kp A_kp) / (sum_p A_kp + 1e-7), with g = dS/dA and p over all positions.
    Values are (N, h, w) at the layer's resolution, in units of the score.

    Fu et al., Axiom-based Grad-CAM: Towards Accurate Visualization and Explanation of CNNs, BMVC 2020.

    Args:
        layer: the map to explain at: readable name, exact tensor name, or "auto" for the last one with extent;
            several are resized to the largest and fused.
        fuse: how the maps of several layers become one: "mean" or "max".
        flips: take the mean with the mirrored input's map, mirrored back.
        scales: take the mean over the input times these numbers, as 0.9, 1 and 1.1.
        signed: no ReLU at the end: what speaks against the target is negative.

    Raises:
        LayerError: no such layer, or it is not a map.
        TargetError: no such target, or it does not depend on the layer.

    Example:
        >>> xgradcam("model.onnx", "cat.jpg").save("cat")
    """
    job = Job(model, x, target, **how)
    return explain("xgradcam", job, layer, _xgradcam, fuse=fuse, flips=flips, scales=scales, signed=signed)


def _xgradcam(v: View) -> Array:
    return v.weighted((v.g * v.A).sum(axis=2) / (v.A.sum(axis=2) + 1e-7))


@method("gradient", "map")
def hirescam(
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
    """HiResCAM: where the layer's features, each with its own gradient, speak for the target.

    L = relu(sum_k g_k A_k), with g = dS/dA at each position: where only a linear layer follows, this adds up to the
    score less its bias (signed). Values are (N, h, w) at the layer's resolution, in units of the score.

    Draelos & Carin, Use HiResCAM instead of Grad-CAM for faithful explanations of convolutional neural networks, 2020.

    Args:
        layer: the map to explain at: readable name, exact tensor name, or "auto" for the last one with extent;
            several are resized to the largest and fused.
        fuse: how the maps of several layers become one: "mean" or "max".
        flips: take the mean with the mirrored input's map, mirrored back.
        scales: take the mean over the input times these numbers, as 0.9, 1 and 1.1.
        signed: no ReLU at the end: what speaks against the target is negative.

    Raises:
        LayerError: no such layer, or it is not a map.
        TargetError: no such target, or it does not depend on the layer.

    Example:
        >>> hirescam("model.onnx", "cat.jpg", layer=["features.10", "features.12"]).save("cat")
    """
    job = Job(model, x, target, **how)
    return explain("hirescam", job, layer, _hirescam, fuse=fuse, flips=flips, scales=scales, signed=signed)


def _hirescam(v: View) -> Array:
    total: Array = (v.g * v.A).sum(axis=1)
    return total


@method("gradient", "map")
def elementwise_gradcam(
    model: ModelLike,
    x: Input,
    target: TargetLike = "top",
    *,
    layer: Layers = "auto",
    fuse: Fuse = "mean",
    flips: bool = False,
    scales: Sequence[float] = (),
    **how: Unpack[How],
) -> Attribution:
    """Element-wise Grad-CAM: where the layer's features, each with its own gradient, speak for the target, alone.

    L = sum_k relu(g_k A_k), with g = dS/dA at each position: as hirescam, but nothing is set off against anything.
    Values are (N, h, w) at the layer's resolution, never negative, in units of the score.

    GradCAMElementWise of Gildenblat et al., PyTorch library for CAM methods, 2021.

    Args:
        layer: the map to explain at: readable name, exact tensor name, or "auto" for the last one with extent;
            several are resized to the largest and fused.
        fuse: how the maps of several layers become one: "mean" or "max".
        flips: take the mean with the mirrored input's map, mirrored back.
        scales: take the mean over the input times these numbers, as 0.9, 1 and 1.1.

    Raises:
        LayerError: no such layer, or it is not a map.
        TargetError: no such target, or it does not depend on the layer.

    Example:
        >>> elementwise_gradcam("model.onnx", "cat.jpg").save("cat")
    """
    job = Job(model, x, target, **how)
    return explain("elementwise_gradcam", job, layer, _elementwise, fuse=fuse, flips=flips, scales=scales, signed=False)


def _elementwise(v: View) -> Array:
    total: Array = np.maximum(v.g * v.A, 0).sum(axis=1)
    return total


@method("gradient", "map")
def layercam(
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
    """LayerCAM: maps that stay sharp at early layers, since every position has its own weight.

    L = relu(sum_k relu(g_k) A_k), with g = dS/dA at each position. Values are (N, h, w) at the layer's resolution, in
    units of the score.

    Jiang et al., LayerCAM: Exploring Hierarchical Class Activation Maps for Localization, IEEE TIP 2021.

    Args:
        layer: the map to explain at: readable name, exact tensor name, or "auto" for the last one with extent;
            several are resized to the largest and fused.
        fuse: how the maps of several layers become one: "mean" or "max".
        flips: take the mean with the mirrored input's map, mirrored back.
        scales: take the mean over the input times these numbers, as 0.9, 1 and 1.1.
        signed: no ReLU at the end: what speaks against the target is negative.

    Raises:
        LayerError: no such layer, or it is not a map.
        TargetError: no such target, or it does not depend on the layer.

    Example:
        >>> layercam("model.onnx", "cat.jpg", layer="features.5").save("cat")
    """
    job = Job(model, x, target, **how)
    return explain("layercam", job, layer, _layercam, fuse=fuse, flips=flips, scales=scales, signed=signed)


def _layercam(v: View) -> Array:
    total: Array = (np.maximum(v.g, 0) * v.A).sum(axis=1)
    return total
