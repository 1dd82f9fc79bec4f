"""FullGrad, and Grad-CAM times guided backprop: maps as fine as the input."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, Unpack

import numpy as np

from .. import structure
from ..attribution import Attribution
from ..dtypes import is_float
from ..errors import InputError
from ..maps import channels_back, channels_first, positions
from ..naming import Layer
from ..target import TargetLike
from .backprop import guided_rules
from .cam import gradcam_formula
from .cam_common import Array, Fuse, Layers, mapped, maps_at, placed, resized, together
from .inputs import Input, ModelLike
from .job import SCORE, How, Job
from .registry import method

if TYPE_CHECKING:
    import onnx_ir as ir

Preset = Literal["", "captum"]
Rescale = Literal["layer", "channel", "none"]


@method("gradient", "picture")
def guided_gradcam(
    model: ModelLike,
    x: Input,
    target: TargetLike = "top",
    *,
    layer: Layers = "auto",
    preset: Preset = "",
    fuse: Fuse = "mean",
    **how: Unpack[How],
) -> Attribution:
    """Guided Grad-CAM: guided backprop, where Grad-CAM says that it is about the target.

    The map of gradcam, upsampled to the input, times the guided gradient of each input number. Values are shaped like
    the input, signed; the picture shows magnitudes.

    Selvaraju et al., Grad-CAM: Visual Explanations from Deep Networks, ICCV 2017.

    Args:
        layer: the map to explain at: readable name, exact tensor name, or "auto" for the last one with extent;
            several are resized to the largest and fused.
        preset: a reference's conventions: "captum" upsamples by repeating (the paper bilinearly), and takes Clip
            (ReLU6) for no rectifier.
        fuse: how the maps of several layers become one: "mean" or "max".

    Raises:
        LayerError: no such layer, or it is not a map.
        TargetError: no such target, or it does not depend on the layer.

    Example:
        >>> guided_gradcam("model.onnx", "cat.jpg", target="tiger cat").save("cat")
    """
    job = Job(model, x, target, **how)
    name, at = job.input.name, maps_at(job, layer)
    layout = job.layout(job.input.name)
    coarse, _ = mapped(job, at, gradcam_formula, fuse=fuse)
    found = job.gradients([name], guided_rules(clip=not preset))
    guided = channels_first(found[f"gradient.{name}"], layout)
    size = guided.shape[2:]
    fine = resized(coarse, size, "nearest") if preset == "captum" else resized(placed(at, coarse), size)
    values = channels_back(guided * fine[:, None], layout)
    params = {"preset": preset, "fuse": fuse}
    return job.attribution("guided_gradcam", {name: values}, found, layer=together(at), params=params)  # type: ignore[no-any-return]


@method("gradient", "picture")
def fullgrad(
    model: ModelLike, x: Input, target: TargetLike = "top", *, rescale: Rescale = "layer", **how: Unpack[How]
) -> Attribution:
    """FullGrad: what the input and every bias of the network add to the score, as one map.

    Where all is linear or a rectifier, S = sum(x dS/dx) + sum over biases(b dS/db), exactly; `measures["delta"]` is
    what S has beyond that sum. The map is the magnitude of x dS/dx, and of b dS/dy where b was added to y, each
    brought to 0 to 1, upsampled bilinearly to the input and summed over channels and layers. Biases are those of
    convolutions, constants that are added, and of batch normalisation beta - gamma mean / sqrt(variance + epsilon);
    those of dense layers, which have no positions, count in the delta alone. Values are (N, H, W), without unit.

    Srinivas & Fleuret, Full-Gradient Representation for Neural Network Visualization, NeurIPS 2019.

    Args:
        rescale: what is brought to 0 to 1: "layer", all channels together, as in the authors' code; "channel", each by
            itself, as pytorch-grad-cam does; "none", so that values are in units of the score.

    Raises:
        TargetError: no such target, or it does not depend on the input.
        InputError: the input has no positions.

    Example:
        >>> fullgrad("model.onnx", "cat.jpg").measures["delta"]
    """
    job = Job(model, x, target, **how)
    name, layout = job.input.name, job.layout(job.input.name)
    if layout is None:
        raise InputError(f"fullgrad needs a picture as input, with channels and positions: '{name}' has none.")
    size = channels_first(job.feeds[name], layout).shape[2:]
    values, sums = np.zeros((job.n, *size), np.float32), np.zeros(job.n)
    for i, at, term in full_gradients(job):
        sums[i] += term.sum(dtype=np.float64)
        if at.axes == positions(layout):
            strength = _rescaled(np.abs(at.maps(term)[0]), rescale).sum(axis=0)
            values[i] += resized(at.placed(strength), size)
    scores = np.asarray(job.clean[SCORE], np.float64)
    if (np.abs(scores - sums) > 1e-2 * np.abs(scores)).any():
        job.notes.append(
            "input and biases do not add up to the score (delta): parts of this model are neither linear nor rectifiers"
        )
    return job.attribution(  # type: ignore[no-any-return]
        "fullgrad", values, job.clean, params={"rescale": rescale}, measures={"delta": scores - sums}
    )


def full_gradients(job: Job) -> Iterator[tuple[int, Layer, Array]]:
    """Sample, tensor, and what it adds to the score: x dS/dx of inputs x, b dS/dy where b was added to y."""
    inputs, biases = job.attributed(), _biases(job)
    tensors = [*inputs, *biases]
    layers = {c.tensor: job.places.seen(c) for c in job.model.layers if c.tensor in tensors}
    layers |= {name: _as_layer(job, name) for name in tensors if name not in layers}
    advance = job.progress("fullgrad", job.n) if job.progress is not None else lambda n: None
    for i, target in enumerate(job.fixed):
        found = job.gradients(tensors, feeds=job.copies(i, 1), target=target)
        for tensor in tensors:
            factor = found[tensor] if tensor in inputs else biases[tensor]
            yield i, layers[tensor], factor * found[f"gradient.{tensor}"]
        advance(1)


def _as_layer(job: Job, name: str) -> Layer:
    """A tensor that no node computes."""
    return Layer(name, name, "", job.feeds[name].shape, job.layout(name), "vector", None)


def _rescaled(strength: Array, rescale: Rescale) -> Array:
    """Magnitudes (C, ...) from 0 to 1."""
    if rescale == "none":
        return strength
    axes = tuple(range(0 if rescale == "layer" else 1, strength.ndim))
    strength = strength - strength.min(axis=axes, keepdims=True)
    top = strength.max(axis=axes, keepdims=True) + (1e-6 if rescale == "layer" else 1e-7)
    return np.asarray(strength / top)


def _biases(job: Job) -> dict[str, Array]:
    """The constant that each tensor on the way to the score has had added, so that it broadcasts."""
    graph = job.model.ir.graph
    reached = structure.needed(graph, job.model.value(job.explained_tensor))
    found = {}
    for node in graph:
        y = node.outputs[0]
        if y in reached and y in job.model.varying and is_float(y) and (bias := _bias(node, y)) is not None:
            found[y.name or ""] = bias
    return found


def _bias(node: ir.Node, y: ir.Value) -> Array | None:
    """What a node adds to what is linear in its input, None if nothing."""
    constants = [None if v is None or v.const_value is None else v.const_value.numpy() for v in node.inputs]
    given = [c for c in constants if c is not None]
    last = constants[2] if len(constants) > 2 else None
    bias = None
    if node.op_type == "BatchNormalization" and len(given) == 4:
        gamma, beta, mean, variance = given
        bias = beta - gamma * mean / np.sqrt(variance + node.attributes.get_float("epsilon", 1e-5))
    elif node.op_type in ("Conv", "ConvTranspose") and last is not None:
        bias = last
    elif node.op_type == "Gemm" and last is not None:
        return np.asarray(node.attributes.get_float("beta", 1.0) * last)
    elif node.op_type in ("Add", "Sub") and len(given) == 1:
        return -given[0] if node.op_type == "Sub" and constants[0] is None else given[0]
    return None if bias is None else bias.reshape(-1, *[1] * (len(y.shape or ()) - 2))
