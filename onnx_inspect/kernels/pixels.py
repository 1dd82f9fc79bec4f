"""Kernels next to the input as pictures, whatever lies between the two."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ..autodiff.gradient import vjp
from ..dtypes import is_float
from ..maps import channels_first
from ..methods.setting import Setting
from ..rewrite import cut
from ..structure import needed
from .weights import Kernels, Weighted, read

# What may lie between the input and a layer whose kernels are pictures: what leaves colours where they are, and what
# moves pixels about.
_KEEPING = frozenset(
    "Transpose Identity Cast Dropout Pad Add Sub Mul Div BatchNormalization QuantizeLinear DequantizeLinear "
    "DynamicQuantizeLinear".split()
)
_MOVING = frozenset("Reshape Flatten Squeeze Unsqueeze Slice Gather Split Concat SpaceToDepth DepthToSpace".split())
_CHUNK = 32  # units whose gradients are in memory at the same time


def kernels(setting: Setting, layer: Weighted) -> Kernels:
    """The kernels of a layer: weights, or, next to the input, what each unit multiplies the pixels by.

    Colours are in the order red, green, blue. Raises what `kernels.read` does.
    """
    found = read(setting, layer)
    between = _between(setting, layer)
    preprocessing = setting.preprocessing
    if preprocessing is not None and between is not None:
        channels = preprocessing.channels
        whole = layer.convolves and layer.node.op_type != "ConvTranspose" and found.values.shape[1] == channels
        if whole and between <= (_KEEPING | {"Reshape"} if channels == 1 else _KEEPING):
            found = replace(found, pixels=True)
        elif is_float(layer.node.outputs[0]):
            found = _in_pixels(setting, layer, found)
        if found.pixels and channels == 3:
            values = found.values[:, ::-1] if preprocessing.color == "BGR" else found.values
            found = replace(found, values=values, colours=True)
    return found


def _between(setting: Setting, layer: Weighted) -> set[str] | None:
    """The operators between the picture and a layer, None if one of them is not linear, or has weights of its own."""
    graph, found, sources = setting.model.ir.graph, set(), set()
    for value in needed(graph, layer.x) & setting.model.varying:
        node = value.producer()
        if node is None:
            sources.add(value.name)
        elif value.dtype != ir.DataType.INT64:  # those are shapes
            moving = sum(x in setting.model.varying for x in node.inputs)
            product = node.domain or (node.op_type in ("Mul", "Div") and moving > 1)
            found.add("" if product else node.op_type)
    return found if found <= _KEEPING | _MOVING and sources == {setting.input.name} else None


def _in_pixels(setting: Setting, layer: Weighted, found: Kernels) -> Kernels:
    """The kernels as pictures: what lies before the layer is linear, so they are gradients by the pixels.

    Space to depth, patches and flattened pictures are undone that way, whatever operators wrote them.
    """
    assert setting.preprocessing is not None
    y = layer.node.outputs[0]
    assert y.name is not None
    part = cut(setting.model, outputs=[y.name])
    size = setting.preprocessing.size
    blank = setting.preprocessing.apply(np.zeros((*size, 3), np.uint8))[None]
    shape = setting.engine.run(part, {setting.input.name: blank})[y.name].shape
    units = 1 if layer.convolves else len(shape) - (2 if layer.weights_first else 1)
    if shape[units] != len(found.values) or shape[0] != 1:
        return found
    gradients = vjp(part, [setting.input.name], [y.name])

    def back(cotangents: NDArray[Any]) -> NDArray[Any]:
        """Cotangents (n, units) of the middle position, back at the pixels."""
        place: list[Any] = [n // 2 for n in shape[1:]]
        place[units - 1] = slice(None)
        dy = np.zeros((len(cotangents), *shape[1:]), np.float32)
        dy[:, *place] = cotangents
        feeds = {setting.input.name: np.repeat(blank, len(dy), 0), f"cotangent.{y.name}": dy}
        name = f"gradient.{setting.input.name}"
        return channels_first(setting.engine.run(gradients, feeds, [name])[name], setting.layout(setting.input.name))

    # Random numbers do not cancel: where their gradient is zero, no kernel reaches.
    seen = back(np.random.default_rng(0).normal(size=(1, shape[units])))[0].any(axis=0)
    rows, columns = (np.flatnonzero(seen.any(axis=axis)) for axis in (1, 0))
    if not rows.size:
        return found
    box = np.s_[:, :, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    eye = np.eye(shape[units], dtype=np.float32)
    values = np.concatenate([back(eye[i : i + _CHUNK])[box] for i in range(0, len(eye), _CHUNK)])
    stride = tuple(max(1, round(a / b)) for a, b in zip(size, shape[2:], strict=True)) if layer.convolves else (1, 1)
    note = "kernels: what each unit multiplies the pixels by, traced back to the input (--layer NAME)"
    return replace(
        found,
        values=values.astype(np.float32),
        groups=1,
        stride=stride,
        dilation=(1, 1),
        pixels=True,
        notes=(*found.notes, note),
    )
