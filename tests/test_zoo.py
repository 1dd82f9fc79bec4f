"""Files from every exporter: their gradients are right, and twins with equal weights get equal maps."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from scipy import special

import onnx_inspect as oi
from onnx_inspect.engine import Engine
from onnx_inspect.methods.job import channels_first
from onnx_inspect.scores import scores

from .shared import ZOO, needs_zoo

pytestmark = needs_zoo

CNNS = [
    "torch_dynamo_cnn",
    "torch_dynamo_static_cnn",
    "torch_dynamo_mbv3",
    "torch_dynamo_unet",
    "torch_dynamo_det",
    "torch_legacy_cnn",
    "torch_legacy_keepbn_cnn",
    "torch_legacy_mbv3",
    "torch_legacy_unet",
    "torch_legacy_det",
    "keras_tensorflow_cnn",
    "keras_tensorflow_mbv3",
    "keras_tensorflow_unet",
    "keras_torch_cnn",
    "keras_torch_mbv3",
    "keras_torch_unet",
    "jax_mbv3",
    "keras_jax_mbv3",
    "paddle_mbv3",
    "variants/const_weights",
    "variants/external_data",
    "variants/local_functions",
    "variants/no_node_names",
    "variants/onnxslim",
]
TWINS = [
    "torch_dynamo",
    "torch_legacy",
    "keras_tensorflow",
    "keras_torch",
    "jax_nchw",
    "jax_nhwc",
    "paddle",
    "tf2onnx_nchw_op13",
    "tf2onnx_nhwc_op18",
]
ENGINE = Engine("cpu", threads=1)
STEP = 1e-6


class Erf(OpRun):  # onnx's own rounds to float32
    def _run(self, x: np.ndarray) -> tuple[np.ndarray]:
        return (special.erf(x),)


class Gelu(OpRun):
    op_schema = onnx.defs.get_schema("Gelu", 21)

    def _run(self, x: np.ndarray, approximate: str = "none") -> tuple[np.ndarray]:
        inner = np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)
        return (x * special.ndtr(x) if approximate == "none" else x / 2 * (1 + np.tanh(inner)),)


def in_double(model: oi.Model) -> ReferenceEvaluator:
    """The model in float64, on onnx's own implementation."""
    proto = onnx.ModelProto.FromString(model.to_bytes())
    for tensor in proto.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name))
    for value in [*proto.graph.input, *proto.graph.output]:
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = TensorProto.DOUBLE
    del proto.graph.value_info[:]
    for node in proto.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.DOUBLE
            if attribute.name == "value" and attribute.t.data_type == TensorProto.FLOAT:
                attribute.t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(attribute.t).astype(np.float64)))
    return ReferenceEvaluator(proto, new_ops=[Erf, Gelu])


def batch(model: oi.Model) -> int:
    size = model.inputs[0].shape[0]
    return size if isinstance(size, int) else 1


@pytest.mark.parametrize("name", CNNS)
def test_gradients_agree_with_central_differences(name: str) -> None:
    """With respect to the input and three maps, along random directions, in float64."""
    model = oi.load(ZOO / f"{name}.onnx")
    rng = np.random.default_rng(0)
    spec = model.inputs[0]
    x = rng.normal(size=(batch(model), *spec.shape[1:])).astype(np.float32)
    output = next(o.name for o in model.outputs if o.dtype == "float32")
    maps = [c.tensor for c in model.layers if c.role == "spatial" and c.tensor != output]
    chosen = [maps[int(i)] for i in np.linspace(0, len(maps) - 1, 3)]
    y = ENGINE.run(model, {spec.name: x}, [output])[output]
    c = rng.normal(size=y.shape)
    cotangent = {f"cotangent.{output}": c.astype(np.float32)}
    whole = ENGINE.run(oi.vjp(model, [spec.name, *chosen], [output]), {spec.name: x, **cotangent})
    exposed = ENGINE.run(oi.expose(model, chosen), {spec.name: x}, chosen)
    for tensor in [spec.name, *chosen]:
        rest = oi.cut(model, None if tensor == spec.name else [tensor], [output])
        adjoint = oi.vjp(rest, [tensor], [output])
        others = {spec.name: x} if spec.name in [i.name for i in rest.inputs] else {}
        if tensor != spec.name:
            g = ENGINE.run(adjoint, {**others, tensor: exposed[tensor], **cotangent})[f"gradient.{tensor}"]
            np.testing.assert_allclose(g, whole[f"gradient.{tensor}"], atol=1e-5 * np.abs(g).max())
        # A map behind a Relu is full of zeros, which tie in the next pool: differences need a point in general position.
        at = (
            x
            if tensor == spec.name
            else (exposed[tensor] + rng.normal(0, 0.1, exposed[tensor].shape)).astype(np.float32)
        )
        g = ENGINE.run(adjoint, {**others, tensor: at, **cotangent})[f"gradient.{tensor}"].astype(np.float64)
        forward, feeds = in_double(rest), {k: v.astype(np.float64) for k, v in others.items()}
        for _ in range(2):
            u = rng.normal(size=at.shape)
            plus, minus = (forward.run(None, {**feeds, tensor: at + s * STEP * u})[0] for s in (1, -1))
            expected = float((c * (plus - minus)).sum()) / (2 * STEP)
            actual = float((g * u).sum())
            wrong = abs(actual - expected) / (np.linalg.norm(g) + abs(expected))
            assert wrong <= 1e-4, f"{tensor}: {actual} for {expected}"


def test_twins_get_the_same_gradcam() -> None:
    data = np.load(ZOO / "twins" / "test64.npz")
    photos = next(data[k] for k in data.files if data[k].ndim == 4).astype(np.float32)[:8]
    maps = {}
    for name in TWINS:
        model = oi.load(ZOO / "twins" / f"twin_{name}.onnx")
        layout = model.inputs[0].layout
        x = (
            photos
            if (photos.shape[1] == 3) == (layout == "NCHW")
            else np.moveaxis(photos, *((1, -1) if layout == "NHWC" else (-1, 1)))
        )
        result = oi.gradcam(model, np.ascontiguousarray(x), target=3, engine=ENGINE)
        assert result.values.shape == (8, 10, 10)
        assert scores(model).count == 10
        maps[name] = result.values
    reference = maps["torch_dynamo"]
    assert reference.max() > 0
    for name, values in maps.items():
        assert np.abs(values - reference).max() <= 1e-4 * reference.max(), name


def test_a_broken_twin_gets_another_map() -> None:
    """The check above can fail: SAME padding where the weights meant none."""
    data = np.load(ZOO / "twins" / "test64.npz")
    photos = next(data[k] for k in data.files if data[k].ndim == 4).astype(np.float32)[:8]
    nhwc = photos if photos.shape[-1] == 3 else np.moveaxis(photos, 1, -1)
    good, bad = (
        oi.gradcam(ZOO / "twins" / f"twin_{n}.onnx", np.ascontiguousarray(nhwc), target=3, engine=ENGINE).values
        for n in ("keras_tensorflow", "keras_tensorflow_BUG_samepad")
    )
    assert good.shape != bad.shape or np.abs(good - bad).max() > 1e-2 * good.max()


@pytest.mark.parametrize("name", ["torch_dynamo_cnn", "keras_tensorflow_cnn"])
def test_channels_come_first(name: str) -> None:
    model = oi.load(ZOO / f"{name}.onnx")
    layer = next(c for c in model.layers if c.role == "spatial")
    shape = [d if isinstance(d, int) else 2 for d in layer.shape]
    assert channels_first(np.zeros(shape), layer.layout).shape[1] == layer.shape[(layer.layout or "").index("C")]
