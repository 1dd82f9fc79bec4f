"""Single activations, projected back to the pixels: Zeiler & Fergus' deconvnet, and guided backprop beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from .. import structure
from ..autodiff.gradient import vjp
from ..autodiff.table import RULES, Cotangents, Table
from ..dtypes import is_float
from ..emit import Op
from ..image import Picture
from ..maps import channels_first
from ..methods.backprop import deconvnet_rules, guided_rules
from ..methods.setting import Setting

_HANDS_ON = frozenset("Cast QuantizeLinear DequantizeLinear Identity Transpose".split())
_LINEAR = frozenset("Conv ConvTranspose Gemm MatMul Add BatchNormalization".split())


def _deconvnet() -> Table:
    def quantised(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
        scale = node.inputs[1]
        if not _rectifies(op.node or node) or scale is None or op.rank(scale):
            return RULES["QuantizeLinear"](op, node, dy)
        return op.Relu(dy) / op.Cast(scale, to=dy.dtype)  # type: ignore[no-any-return]

    table = deconvnet_rules()
    return Table(f"{table.name}, quantisers from 0 too", table | {"QuantizeLinear": quantised})


def _guided() -> Table:
    def quantised(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
        return RULES["QuantizeLinear"](op, node, op.Relu(dy) if _rectifies(op.node or node) else dy)

    table = guided_rules()
    return Table(f"{table.name}, quantisers from 0 too", table | {"QuantizeLinear": quantised})


TABLES: dict[str, Callable[[], Table]] = {"deconvnet": _deconvnet, "guided": _guided}


def _rectifies(node: ir.Node) -> bool:
    """True for a quantiser whose range begins at 0, behind a layer with weights or a sum: a Relu was folded into it."""
    producer = node.inputs[0].producer() if node.inputs[0] is not None else None
    if node.op_type != "QuantizeLinear" or producer is None or producer.op_type not in _LINEAR:
        return False
    zero = node.inputs[2] if len(node.inputs) > 2 else None
    dtype = node.outputs[0].dtype
    if zero is None or dtype is None or dtype.is_floating_point():
        return False
    return zero.const_value is not None and bool((zero.const_value.numpy() == np.iinfo(dtype.numpy()).min).all())


class Projection:
    """What single activations of a layer look like in the pixels; one compiled model serves all units.

    All other activations of the layer are set to zero, and what is left goes back the way it came: pooling is undone by
    the switches of the forward pass, rectifiers rectify what comes back, convolutions use their filters transposed. In
    other words it is the deconvnet's backward pass from a cotangent that is the activation itself at one place.
    "guided" is guided backprop from there: rectifiers let nothing pass where they were shut, either. A quantiser that
    stands for a rectifier, its range beginning at 0 behind a layer with weights, is taken for one.

    Zeiler & Fergus, Visualizing and Understanding Convolutional Networks, ECCV 2014, section 2.1; Springenberg et al.,
    Striving for Simplicity, ICLR workshop 2015.

    Args:
        setting: the model, and where it runs.
        tensor: the layer.
        shape: of the layer, for one sample.

    Attributes:
        pixels: the tensor that is projected to: the input, or it in floats where it holds integers; None where there is
            no such tensor, and so nothing to project to.
        notes: what a user should know.
    """

    def __init__(self, setting: Setting, tensor: str, shape: Sequence[int]) -> None:
        self._setting, self._tensor, self._shape = setting, tensor, tuple(shape)
        model = setting.model
        self.pixels = _pixels(model.values[setting.input.name])
        path = structure.needed(model.ir.graph, model.value(tensor)) & model.varying
        nodes = [node for v in path if (node := v.producer()) is not None]
        rectifiers = [node for node in nodes if node.op_type in ("Relu", "Clip") or _rectifies(node)]
        self.notes = []
        if self.pixels is None:
            self.notes.append("there is no way back to an input that holds integers, so nothing is projected (PHOTO)")
        elif not rectifiers:
            self.notes.append(
                f"no rectifier comes before '{tensor}' for deconvnet and guided backprop to change: both are its plain "
                "gradient, scaled by the activation (--layer NAME)"
            )

    def __call__(
        self, rule: str, samples: NDArray[np.generic], units: Sequence[Sequence[int]], values: Sequence[float]
    ) -> NDArray[np.float32]:
        """Project activations.

        Args:
            rule: "deconvnet" or "guided".
            samples: inputs (n, ...) of the model.
            units: of each sample the index into the layer, N left out.
            values: of each the activation.

        Returns:
            (n, 3, h, w) in the order RGB, in units of the input; grey has three equal channels.
        """
        setting, model = self._setting, self._setting.model
        assert self.pixels is not None
        back = model.memo(
            ("projection", self._tensor, rule),
            lambda: vjp(model, [self.pixels or ""], [self._tensor], rules=TABLES[rule](), precision=setting.precision),
        )
        name = f"cotangent.{model.value(self._tensor).name}"
        kind = back.values[name].dtype or ir.DataType.FLOAT
        cotangent = np.zeros((len(samples), *self._shape), kind.numpy())
        for one, unit, value in zip(cotangent, units, values, strict=True):
            one[tuple(unit)] = value
        found = setting.engine.run(back, {setting.input.name: samples, name: cotangent}, apart=True)
        assert setting.preprocessing is not None
        layout = model.layouts.get(model.values[self.pixels]) or setting.preprocessing.layout
        first = channels_first(found[f"gradient.{self.pixels}"], layout).astype(np.float32)
        if first.shape[1] == 1:
            return np.repeat(first, 3, axis=1)
        return first[:, ::-1] if setting.preprocessing.color == "BGR" else first


def _pixels(value: ir.Value) -> str | None:
    """The first tensor of floats on the way from an input, as long as it is handed on as it is."""
    while not is_float(value):
        nodes = {use.node for use in value.uses()}
        if len(nodes) != 1 or (node := nodes.pop()).op_type not in _HANDS_ON:
            return None
        value = node.outputs[0]
    return value.name


def drawn(values: NDArray[np.float32], percentile: float = 99) -> Picture:
    """A projection (3, h, w) as a picture: 0 is grey, and that percentile of magnitudes, of its own, full contrast."""
    end = float(np.percentile(abs(values), percentile)) or float(abs(values).max()) or 1.0
    return np.asarray(np.rint(127.5 + 127.5 * (values / end).clip(-1, 1)), np.uint8).transpose(1, 2, 0).copy()
