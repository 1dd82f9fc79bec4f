"""Class activation maps: a layer's feature maps, weighted by what they mean for the target."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .. import structure
from ..attribution import Attribution
from ..engine import Engine
from ..errors import LayerError
from ..labels import Labels
from ..layer import POOLING, RESHAPING
from ..model import Model
from ..naming import Layer
from ..preprocess import Preprocessing
from ..target import ScoreKind, TargetLike
from .job import Input, Job, ModelLike, channels_first
from .registry import method

if TYPE_CHECKING:
    import onnx_ir as ir

_LINEAR = RESHAPING | frozenset("Gemm MatMul Conv Add Sub Mul Div BatchNormalization".split())


@method
def gradcam(
    model: ModelLike,
    x: Input,
    target: TargetLike = "top",
    *,
    layer: str = "auto",
    engine: Engine | None = None,
    preprocessing: Preprocessing | None = None,
    labels: Labels | str | Path | Sequence[str] | None = None,
    score: ScoreKind = "logits",
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
    job = Job(model, x, target, engine=engine, preprocessing=preprocessing, labels=labels, score=score)
    at = _map(job.layer(layer))
    found = job.gradients([at.tensor])
    A = channels_first(found[at.tensor], at.layout)
    g = channels_first(found[f"gradient.{at.tensor}"], at.layout)
    w = g.mean(axis=(2, 3), keepdims=True)
    return job.attribution("gradcam", np.maximum((w * A).sum(axis=1), 0), found, layer=at)  # type: ignore[no-any-return]


@method
def cam(
    model: ModelLike,
    x: Input,
    target: TargetLike = "top",
    *,
    engine: Engine | None = None,
    preprocessing: Preprocessing | None = None,
    labels: Labels | str | Path | Sequence[str] | None = None,
    score: ScoreKind = "logits",
) -> Attribution:
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
    job = Job(model, x, target, engine=engine, preprocessing=preprocessing, labels=labels, score=score)
    at, pooled = _pooling_head(job.model, job.explained_tensor)
    job.notes.append(f"layer: '{at.name}' ({at.op_type}), the map before global average pooling")
    found = job.gradients([at.tensor, pooled])
    A = channels_first(found[at.tensor], at.layout)
    w = found[f"gradient.{pooled}"].reshape(*A.shape[:2], 1, 1)  # linear from here on: the gradient is the weight
    values = (w * A).sum(axis=1)
    return job.attribution("cam", values, found, heat=np.maximum(values, 0), layer=at)  # type: ignore[no-any-return]


def _map(at: Layer) -> Layer:
    if at.layout is None or len(at.layout) != 4:
        shape = "×".join(str(d) if d is not None else "?" for d in at.shape)
        raise LayerError(
            f"'{at.name}' ({at.op_type}, {shape}) is not a map with height and width: `onnx-inspect layers MODEL "
            "--spatial` lists those that are."
        )
    return at


def _pooling_head(model: Model, score: str) -> tuple[Layer, str]:
    """The map before global average pooling and the pooled tensor, if only linear operators follow."""
    graph = model.ir.graph
    value = model.value(score)
    while (node := value.producer()) is not None:
        source = next((v for v in node.inputs if v is not None and v in model.varying), None)
        if source is None:
            break
        if node.op_type in POOLING and _is_global(node, source, model):
            at = next((c for c in model.layers if c.tensor == source.name), None)
            if at is not None and at.role == "spatial":
                return _map(at), value.name or ""
        if node.op_type not in _LINEAR:
            raise LayerError(
                f"cam needs a model that ends in global average pooling and a linear layer; here '{node.op_type}' "
                f"(node '{structure.label(node)}') comes after the last map. Use gradcam, which needs neither."
            )
        value = source
    del graph
    raise LayerError(
        "cam needs a model that ends in global average pooling and a linear layer; this one has no such pooling. "
        "Use gradcam."
    )


def _is_global(node: ir.Node, source: ir.Value, model: Model) -> bool:
    """True if a pooling node leaves one position of a map."""
    letters = model.layouts.get(source)
    if letters is None or node.op_type == "GlobalAveragePool":
        return letters is not None
    y = node.outputs[0]
    if structure.rank(y) == len(letters):
        return structure.size_one(y, letters)
    return structure.rank(y) == 2 and letters in ("NCHW", "NHWC")  # ReduceMean without its axes
