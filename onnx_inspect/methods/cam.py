"""Class activation maps: a layer's feature maps, weighted by what they mean for the target."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

import numpy as np

from .. import structure
from ..attribution import Attribution
from ..dtypes import is_float
from ..emit import ints
from ..errors import LayerError
from ..layer import POOLING, RESHAPING
from ..model import Model
from ..naming import Layer
from ..target import TargetLike
from .inputs import Input, ModelLike, channels_first
from .job import How, Job
from .registry import method

if TYPE_CHECKING:
    import onnx_ir as ir

_LINEAR = RESHAPING | frozenset("Gemm MatMul Conv Add Sub Mul Div BatchNormalization".split())


@method("gradient", "map")
def gradcam(
    model: ModelLike, x: Input, target: TargetLike = "top", *, layer: str = "auto", **how: Unpack[How]
) -> Attribution:
    """Grad-CAM: where the features of a layer speak for the target.

    With A the layer's feature maps and S the score, L = relu(sum_k w_k A_k), where w_k is the mean of dS/dA_k over
    all positions. Values are (N, h, w) at the layer's resolution, in units of the score.

    Selvaraju et al., Grad-CAM: Visual Explanations from Deep Networks, ICCV 2017.

    Args:
        layer: the map to explain at: readable name, exact tensor name, or "auto" for the last one with extent.

    Raises:
        LayerError: no such layer, or it is not a map.
        TargetError: no such target, or it does not depend on the layer.

    Example:
        >>> gradcam("model.onnx", "cat.jpg", target="tiger cat").save("cat")
    """
    job = Job(model, x, target, **how)
    at = _map(job.layer(layer))
    found = job.gradients([at.tensor])
    A = channels_first(found[at.tensor], at.layout)
    g = channels_first(found[f"gradient.{at.tensor}"], at.layout)
    w = g.mean(axis=(2, 3), keepdims=True)
    return job.attribution("gradcam", np.maximum((w * A).sum(axis=1), 0), found, layer=at)  # type: ignore[no-any-return]


@method("head")
def cam(model: ModelLike, x: Input, target: TargetLike = "top", **how: Unpack[How]) -> Attribution:
    """CAM: the feature maps before global average pooling, weighted by the class's row of the linear layer after it.

    L = sum_k w_k A_k; the mean of L over all positions is the score, less its bias. Exact, but only where the model
    ends in global average pooling and a linear layer. Values are (N, h, w), in units of the score, signed.

    Zhou et al., Learning Deep Features for Discriminative Localization, CVPR 2016.

    Raises:
        LayerError: the model does not end in that way.
        TargetError: no such target.

    Example:
        >>> cam("resnet.onnx", "cat.jpg").save("cat")
    """
    job = Job(model, x, target, **how)
    at, pooled = _pooling_head(job.model, job.explained_tensor)
    job.notes.append(f"layer: '{at.name}' ({at.op_type}), the map before global average pooling")
    found = job.gradients([at.tensor, pooled])
    A = channels_first(found[at.tensor], at.layout)
    w = found[f"gradient.{pooled}"].reshape(*A.shape[:2], 1, 1)  # linear from here on: the gradient is the weight
    values = (w * A).sum(axis=1)
    return job.attribution("cam", values, found, heat=np.maximum(values, 0), layer=at)  # type: ignore[no-any-return]


def _map(at: Layer) -> Layer:
    if at.layout is None or len(at.layout) != 4:
        raise LayerError(
            f"'{at.name}' ({at.op_type}, {structure.sizes(at.shape)}) is not a map with height and width: "
            "`onnx-inspect layers MODEL --spatial` lists those that are."
        )
    return at


def _pooling_head(model: Model, score: str) -> tuple[Layer, str]:
    """The map before global average pooling and the pooled tensor, if one chain of linear operators follows."""
    value = model.value(score)
    while (node := value.producer()) is not None:
        varying = [v for v in node.inputs if v is not None and v in model.varying and is_float(v)]
        if _is_pooling(node, model):
            at = next((c for c in model.layers if c.tensor == varying[0].name), None)
            if at is not None and at.role == "spatial":
                return _map(at), value.name or ""
        # Linear in one tensor: a second one that varies, or a divisor, would make the weights depend on the photo.
        if node.op_type not in _LINEAR or len(varying) != 1 or (node.op_type == "Div" and varying[0] is node.inputs[1]):
            raise LayerError(
                f"cam needs a model that ends in global average pooling and a linear layer; here '{node.op_type}' "
                f"(node '{structure.label(node)}') comes after the last map. Use gradcam, which needs neither."
            )
        value = varying[0]
    raise LayerError(
        "cam needs a model that ends in global average pooling and a linear layer; this one has no such pooling. "
        "Use gradcam."
    )


def _is_pooling(node: ir.Node, model: Model) -> bool:
    """True if a node leaves the mean over all positions of a map, and nothing else."""
    x, y = node.inputs[0], node.outputs[0]
    letters = model.layouts.get(x) if x is not None else None
    if node.op_type not in POOLING or x is None or letters is None:
        return False
    if node.op_type == "ReduceMean":
        axes = ints(node.inputs[1]) if len(node.inputs) > 1 else None
        return axes is not None and {letters[a] for a in axes} == set(letters) - {"N", "C"}
    return node.op_type == "GlobalAveragePool" or structure.size_one(y, letters)
