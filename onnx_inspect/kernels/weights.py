"""Layers with weights, and their kernels as real numbers, in whatever form a file keeps them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ..emit import inputs
from ..errors import LayerError, ResultError, UnsupportedError
from ..methods.setting import Setting
from ..model import Model
from ..obstacles import machine
from ..structure import key, label, varying

Array = NDArray[np.float32]

_FACTORS = dict.fromkeys("Conv ConvTranspose DeformConv ConvInteger Gemm MatMul MatMulInteger".split(), (0, 1))
_FACTORS |= dict.fromkeys(("QLinearConv", "QLinearMatMul"), (0, 3))


@dataclass(frozen=True)
class Weighted:
    """A layer with constant weights: its node, and which of the node's inputs are the signal and the weights."""

    node: ir.Node
    x: ir.Value
    w: ir.Value

    @property
    def convolves(self) -> bool:
        """True for convolutions: units are on axis 1 of their outputs."""
        return "Conv" in self.node.op_type

    @property
    def weights_first(self) -> bool:
        """True for products W x."""
        return self.node.inputs[0] is self.w


@dataclass(frozen=True)
class Kernels:
    """The kernels of a layer.

    Attributes:
        values: (units, channels, height, width): what each unit multiplies its inputs by.
        gain: (units,), by what a batch normalisation behind the layer multiplies each.
        groups: units of one group see the same channels, those of different ones do not.
        stride: from one position to the next, (vertical, horizontal).
        dilation: from one weight to the next.
        pixels: height and width are pixels of the input.
        colours: the channels are red, green and blue.
        notes: what a user should know of them.
    """

    values: Array
    gain: NDArray[np.float64]
    groups: int = 1
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    pixels: bool = False
    colours: bool = False
    notes: tuple[str, ...] = ()


def weighted(model: Model) -> list[Weighted]:
    """All layers with constant weights, in order."""
    found = []
    for node in model.ir.graph:
        factors = [node.inputs[i] for i in _FACTORS.get(node.op_type, ()) if not node.domain]
        moving = [v in model.varying for v in factors]
        if moving == [True, False] or (moving == [False, True] and not node.op_type.endswith(("Conv", "ConvInteger"))):
            x, w = factors if moving[0] else factors[::-1]
            assert x is not None and w is not None
            found.append(Weighted(node, x, w))
    return found


def first(setting: Setting) -> Weighted:
    """The first layer with weights that the input reaches.

    Raises:
        LayerError: there is none.
        UnsupportedError: the file was written for one kind of machine, and holds weights in its layout.
    """
    graph = setting.model.ir.graph
    reached = varying(graph, [v for v in graph.inputs if v.name == setting.input.name])
    for node in graph:
        if (found := machine(key(node))) is not None and any(x in reached for x in node.inputs):
            why, remedy = found
            raise UnsupportedError(f"Node '{label(node)}' ({key(node)}) is for one machine: {why}; {remedy}.")
    for layer in weighted(setting.model):
        if layer.x in reached:
            return layer
    raise LayerError(
        f"'{setting.model.source.name}' has no layer with constant weights behind its input '{setting.input.name}', so "
        "there are no filters to show: they are those of convolutions, Gemm and MatMul."
    )


def named(model: Model, pattern: str) -> Weighted:
    """The layer with weights that computes a tensor: directly, or by what follows it and has one input.

    Raises:
        LayerError: no such tensor, several layers are meant, or no layer with weights is behind the tensor.
    """
    layers = {layer.node: layer for layer in weighted(model)}
    found: dict[ir.Node, Weighted] = {}
    tensors = model.find_layers(pattern)
    for tensor in tensors:
        node = model.values[tensor.tensor].producer()
        while node is not None and node not in layers:
            moving = [v for v in node.inputs if v is not None and v in model.varying]
            node = moving[0].producer() if len(moving) == 1 else None
        if node is not None:
            found[node] = layers[node]
    if len(found) == 1:
        return next(iter(found.values()))
    if found:
        names = ", ".join(f"'{label(node)}'" for node in list(found)[:5])
        raise LayerError(f"'{pattern}' means {len(found)} layers with weights ({names}): name one with --layer.")
    raise LayerError(
        f"'{tensors[0].name}' ({tensors[0].op_type}) is not computed by a layer with constant weights, so it has no "
        "filters. `onnx-inspect layers MODEL` lists all; name a convolution, Gemm or MatMul with --layer."
    )


def read(setting: Setting, layer: Weighted) -> Kernels:
    """The weights of a layer, as they are; quantised ones are multiplied by their scales.

    Raises:
        UnsupportedError: they are of a form that is not covered.
        ResultError: they are not finite.
    """
    node, notes = layer.node, []
    raw = _constant(setting, layer.w)
    groups = node.attributes.get_int("group", 1) if layer.convolves else 1
    values = _by_unit(layer, raw, groups).astype(np.float32)
    if "Integer" in node.op_type or node.op_type.startswith("QLinear"):
        scale, zero = _grid(setting.model, layer)
        if scale is None:
            notes.append(
                f"the scale of the integer weights of '{label(node)}' was not found: norms count their steps (--layer)"
            )
        for number, apply in ((zero, np.subtract), (scale, np.multiply)):
            if number is not None:
                values = apply(values, _constant(setting, number).astype(np.float32).reshape(-1, *[1] * 3))
    stride = (1, 1) if node.op_type == "ConvTranspose" else _pair(node, "strides")  # those spread, and skip nothing
    gain = _gain(setting, layer, len(values))
    bad = np.flatnonzero(~np.isfinite(values).all(axis=(1, 2, 3)) | ~np.isfinite(gain))
    if bad.size:
        raise ResultError(
            f"{bad.size} kernels of '{label(node)}' are not finite, the first is {bad[0]}: "
            "the file was damaged, or training diverged. Export it again."
        )
    return Kernels(values, gain, groups, stride, _pair(node, "dilations"), notes=tuple(notes))


def _pair(node: ir.Node, attribute: str) -> tuple[int, int]:
    """What a convolution says of its last two axes."""
    given = [1, 1, *node.attributes.get_ints(attribute, ())]
    return given[-2], given[-1]


def _constant(setting: Setting, value: ir.Value) -> NDArray[Any]:
    """The value of a tensor that depends on no input."""
    if value.const_value is not None:
        return value.const_value.numpy()
    assert value.name is not None
    return setting.engine.run(setting.model, {}, [value.name])[value.name]


def _by_unit(layer: Weighted, w: NDArray[Any], groups: int) -> NDArray[Any]:
    """Weights in the order that ONNX keeps them in as (units, channels, height, width)."""
    node = layer.node
    if layer.convolves:
        if node.op_type == "ConvTranspose":  # (C, M / groups, ...)
            w = w.reshape(groups, -1, *w.shape[1:]).swapaxes(1, 2)
            w = w.reshape(-1, *w.shape[2:])
        # The depth of kernels in space stands beside the channels; a kernel in time is one pixel high.
        height = w.shape[-2] if w.ndim > 3 else 1
        return w.reshape(len(w), -1, height, w.shape[-1])
    if w.ndim > 2:
        raise UnsupportedError(
            f"The weights of '{label(node)}' are a stack of matrices ({'×'.join(map(str, w.shape))}), which have no "
            "filters: name another layer with --layer."
        )
    turned = node.attributes.get_int("transA" if layer.weights_first else "transB", 0)
    matrix = w[None] if w.ndim == 1 else w if layer.weights_first != bool(turned) else w.T
    return matrix[..., None, None] * np.float32(node.attributes.get_float("alpha", 1.0))


def _grid(model: Model, layer: Weighted) -> tuple[ir.Value | None, ir.Value | None]:
    """Scale and zero of integer weights, None where there is none to be found."""
    node = layer.node
    if node.op_type.startswith("QLinear"):
        given = inputs(node, 6)
        return (given[1], given[2]) if layer.weights_first else (given[4], given[5])
    zero = inputs(node, 4)[2 if layer.weights_first else 3]
    # Dynamic quantisation multiplies what the layer gives by the product of both scales.
    cast = _next(node.outputs[0])
    product = _next(cast.outputs[0]) if cast is not None and cast.op_type == "Cast" else None
    if cast is None or product is None or product.op_type != "Mul":
        return None, zero
    other = next((v for v in product.inputs if v is not None and v is not cast.outputs[0]), None)
    made = other.producer() if other is not None else None
    scaled = other in model.varying and made is not None and made.op_type == "Mul"
    factors = made.inputs if scaled and made is not None else [other]
    return next((v for v in factors if v is not None and v not in model.varying), None), zero


def _next(value: ir.Value) -> ir.Node | None:
    """The node that uses a value, if there is but one."""
    users = value.consumers()
    return users[0] if len(users) == 1 and not value.is_graph_output() else None


def _gain(setting: Setting, layer: Weighted, units: int) -> NDArray[np.float64]:
    """By what a batch normalisation behind a layer multiplies each unit, scale / sqrt(variance + epsilon); else 1."""
    value = layer.node.outputs[0]
    while layer.convolves and (node := _next(value)) is not None:
        others = [v for v in node.inputs if v is not None and v is not value]
        if any(v in setting.model.varying for v in others):
            break
        if node.op_type == "BatchNormalization" and not node.attributes.get_int("training_mode", 0):
            scale, _, _, variance = (_constant(setting, v).astype(np.float64) for v in others)
            return scale / np.sqrt(variance + node.attributes.get_float("epsilon", 1e-5))
        if node.op_type not in ("Identity", "Cast", "Dropout", "Add", "Sub"):
            break
        value = node.outputs[0]
    return np.ones(units)


def sizes(layer: dict[str, Any]) -> str:
    """How many filters of which size."""
    height, width = layer["size"]
    channels = layer["channels"]
    text = f"{layer['units']} filters {channels}×{height}×{width}"
    text += f", {layer['groups']} groups" if layer["groups"] > 1 else ""
    steps = layer["stride"]
    return text + (f", stride {'×'.join(map(str, dict.fromkeys(steps)))}" if max(steps) > 1 else "")
