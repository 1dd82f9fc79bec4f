"""Class activation maps from the principal component of a layer's features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import numpy as np

from ..attribution import Attribution
from ..target import TargetLike
from .cam_common import Array, Fuse, Layers, explain
from .inputs import Input, ModelLike
from .job import How, Job
from .registry import method


@method("map")
def eigencam(
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
    """Eigen-CAM: the pattern that a layer's features share the most, whatever the target.

    The features of each position, centred over positions, projected on their first principal component v, the first
    right singular vector of the (positions, channels) matrix: L = relu((A - mean A) v). The sign of a component is
    arbitrary: here the entries of v add up to something positive, so the map grows where the sum over the channels
    does. Values are (N, h, w) at the layer's resolution. The paper does not centre; pytorch-grad-cam does, and so do
    we. No gradients: the target only says which score is reported.

    Muhammad & Yeasin, Eigen-CAM: Class Activation Map using Principal Components, IJCNN 2020.

    Args:
        layer: the map to explain at: readable name, exact tensor name, or "auto" for the last one with extent;
            several are resized to the largest and fused.
        fuse: how the maps of several layers become one: "mean" or "max".
        flips: take the mean with the mirrored input's map, mirrored back.
        scales: take the mean over the input times these numbers, as 0.9, 1 and 1.1.
        signed: no ReLU at the end: what speaks against the target is negative.

    Raises:
        LayerError: no such layer, or it is not a map.

    Example:
        >>> eigencam("model.onnx", "cat.jpg").save("cat")
    """
    job = Job(model, x, target, **how)
    return explain(
        "eigencam",
        job,
        layer,
        lambda v: _projected(v.A),
        fuse=fuse,
        flips=flips,
        scales=scales,
        signed=signed,
        gradients=False,
    )


@method("gradient", "map")
def eigen_gradcam(
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
    """Eigen-Grad-CAM: the pattern that a layer's features share the most, each weighted by its gradient.

    As eigencam, with g A for A, where g = dS/dA at each position: L = relu((gA - mean gA) v). The entries of the
    principal component v add up to something positive, so the map grows where sum_k g_k A_k does, the map of hirescam.
    Values are (N, h, w) at the layer's resolution.

    EigenGradCAM of Gildenblat et al., PyTorch library for CAM methods, 2021; after Muhammad & Yeasin (eigencam).

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
        >>> eigen_gradcam("model.onnx", "cat.jpg", target="tiger cat").save("cat")
    """
    job = Job(model, x, target, **how)
    return explain(
        "eigen_gradcam",
        job,
        layer,
        lambda v: _projected(v.g * v.A),
        fuse=fuse,
        flips=flips,
        scales=scales,
        signed=signed,
    )


def _projected(features: Array) -> Array:
    """(N, C, P), centred over positions, on the first principal component of each sample: (N, P)."""
    centred = features - features.mean(axis=2, keepdims=True)
    found = np.empty((len(centred), centred.shape[2]), centred.dtype)
    for row, matrix in zip(found, centred.astype(np.float64), strict=True):
        v = np.linalg.svd(matrix.T, full_matrices=False)[2][0]
        row[:] = (v if v.sum() >= 0 else -v) @ matrix
    return found
