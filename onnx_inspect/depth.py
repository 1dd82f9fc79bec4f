"""Which tensors to look at when nobody says: what a network makes of its input before it decides, and on the way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from . import layer, structure
from .dtypes import is_float
from .layer import POOLING, RESHAPING
from .model import Model
from .naming import Choice, Layer
from .places import Places

_DECIDES = frozenset("Gemm MatMul Conv MatMulInteger ConvInteger QLinearConv QLinearMatMul".split())
_AFTER = (
    POOLING
    | RESHAPING
    | frozenset("Add Sub Mul Div Relu Clip BatchNormalization QuantizeLinear DequantizeLinear GlobalMaxPool".split())
)


def features(model: Model, score: str) -> Choice:
    """What the last layer with weights decides upon: the vector, or the map, that it is given.

    Args:
        model: the model.
        score: the tensor of the class scores.

    Raises:
        LayerError: there is neither such a layer nor a map.
    """
    value = model.value(score)
    while (node := value.producer()) is not None:
        varying = [v for v in node.inputs if v is not None and v in model.varying]
        if len(varying) != 1 or node.op_type not in _DECIDES | _AFTER:
            break
        value = varying[0]
        if node.op_type in _DECIDES:
            found = _computed(model, value)
            if found is None:
                break
            what = (
                f"layer: '{found.name}', what the last layer with weights ({node.op_type}) decides upon (--layer NAME)"
            )
            return Choice(found, what)
    choice = layer.auto(model, score)
    return Choice(choice.layer, choice.reason)


def _computed(model: Model, value: ir.Value) -> Layer | None:
    """The layer of a tensor, or of what it is a copy of, in floats; None for what no node computes."""
    while (node := value.producer()) is not None and node.inputs[0] is not None:
        if is_float(value) and node.op_type not in ("Dropout", "Identity"):
            break
        value = node.inputs[0]
    return next((c for c in model.layers if c.tensor == value.name), None)


def along(model: Model, score: str, most: int = 8) -> list[Layer]:
    """Layers from the first to the last, evenly spread: maps that every path to the score runs through, then the
    features and the score itself.

    Args:
        model: the model.
        score: the tensor of the class scores.
        most: how many at the most.
    """
    order = {c.tensor: i for i, c in enumerate(model.layers)}
    named = {c.tensor: c for c in model.layers}
    ends = list(dict.fromkeys(c for c in (features(model, score).layer, named.get(score)) if c is not None))
    maps = activated([c for c in stages(model, score) if order[c.tensor] <= order[ends[0].tensor]])
    maps = [c for c in maps if c not in ends]
    return [*spread(maps, max(1, most - len(ends))), *ends]


def stages(model: Model, *scores: str, places: Places | None = None) -> list[Layer]:
    """Maps that every path to the scores runs through, behind the first weights.

    Args:
        model: the model.
        scores: the tensors where the paths end.
        places: where tensors lie on the picture, for grids of tokens; None for maps alone.
    """
    graph = model.ir.graph
    deciding = [y for n in graph if n.op_type in _DECIDES and n.outputs[0] in model.varying for y in n.outputs]
    weighted = structure.varying(graph, deciding)
    return [c for c in layer.separators(model, *scores, places=places) if model.values[c.tensor] in weighted]


def activated(maps: Sequence[Layer]) -> list[Layer]:
    """Maps without those that an activation mostly follows, where others remain."""
    return [c for c in maps if c.op_type not in ("Conv", "BatchNormalization")] or list(maps)


def spread(layers: Sequence[Layer], most: int) -> list[Layer]:
    """At most so many of the layers, evenly, the first and the last among them."""
    if len(layers) <= most:
        return list(layers)
    return [layers[i] for i in np.linspace(0, len(layers) - 1, most).round().astype(int)]


def pooled(values: NDArray[Any], layout: str | None) -> NDArray[np.float32]:
    """A row of features per sample: maps are averaged over their positions, anything else is flattened."""
    if layout is not None and "C" in layout and values.ndim == len(layout) > 2:
        axes = tuple(i for i, letter in enumerate(layout) if letter not in "NC")
        values = values.mean(axis=axes, dtype=np.float32)
    return np.ascontiguousarray(values.reshape(len(values), -1), np.float32)
