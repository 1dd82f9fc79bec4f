"""Files as onnxruntime's quantiser writes them, from nets built here: their values, and their gradients beside the net's.

Rounding moves every tensor by up to half a step of 256, some tenths of a percent of its range, and turns the few Relus
that are as close to their kink: gradients of nets this deep keep a cosine of 0.987 and more, and 0.92 with weights of 4
bits. The thresholds leave that as much again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnxruntime import quantization as quant

import onnx_inspect as oi
from onnx_inspect.autodiff.gradient import differentiate
from onnx_inspect.emit import Op
from onnx_inspect.engine import Engine

from . import blobs
from .rules.harness import Array, run

F = np.float32
ZOO = Path(__file__).parent / "zoo"
node = helper.make_node


class Samples(quant.CalibrationDataReader):  # type: ignore[misc]
    """What the ranges of tensors are taken from."""

    def __init__(self, x: Array) -> None:
        self.left = iter([{"x": x[i : i + 1]} for i in range(len(x))])

    def get_next(self) -> dict[str, Array] | None:
        return next(self.left, None)


def net(nodes: list[Any], shapes: dict[str, tuple[int, ...]], *sizes: int | str) -> onnx.ModelProto:
    """A net with random weights: of a standard deviation that keeps the size of what flows through."""
    rng = np.random.default_rng(0)
    weights = {
        name: rng.normal(size=shape) * (2 / max(np.prod(shape[1:] if len(shape) > 2 else shape[:-1]), 1)) ** 0.5
        for name, shape in shapes.items()
    }
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", 1, ["N", *sizes])],
        [helper.make_tensor_value_info("y", 1, None)],
        [numpy_helper.from_array(w.astype(F), name) for name, w in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def cnn() -> onnx.ModelProto:
    """Every operator that the quantiser has one of its own for."""
    nodes = [
        node("Conv", ["x", "w1", "b1"], ["a"], pads=[1, 1, 1, 1]),
        node("Relu", ["a"], ["b"]),
        node("MaxPool", ["b"], ["c"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", ["c", "w2", "b2"], ["d"], pads=[1, 1, 1, 1]),
        node("LeakyRelu", ["d"], ["e"], alpha=0.1),
        node("Add", ["c", "e"], ["f"]),
        node("Conv", ["f", "w3", "b3"], ["g"]),
        node("Sigmoid", ["g"], ["h"]),
        node("Mul", ["g", "h"], ["i"]),
        node("Concat", ["i", "f"], ["j"], axis=1),
        node("AveragePool", ["j"], ["k"], kernel_shape=[2, 2], strides=[2, 2]),
        node("GlobalAveragePool", ["k"], ["l"]),
        node("Flatten", ["l"], ["m"]),
        node("Gemm", ["m", "w4", "b4"], ["n"]),
        node("Softmax", ["n"], ["y"]),
    ]
    shapes = {"w1": (8, 3, 3, 3), "b1": (8,), "w2": (8, 8, 3, 3), "b2": (8,), "w3": (8, 8, 1, 1), "b3": (8,)}
    return net(nodes, shapes | {"w4": (16, 5), "b4": (5,)}, 3, 12, 12)


def mlp() -> onnx.ModelProto:
    nodes = [
        node("MatMul", ["x", "w1"], ["a"]),
        node("Add", ["a", "b1"], ["b"]),
        node("Relu", ["b"], ["c"]),
        node("Gemm", ["c", "w2", "b2"], ["y"], transB=1),
    ]
    return net(nodes, {"w1": (12, 32), "b1": (32,), "w2": (6, 32), "b2": (6,)}, 12)


def transformer() -> onnx.ModelProto:
    """One block of one head over 7 tokens of 16 numbers."""
    nodes = [
        node("LayerNormalization", ["x", "g", "z"], ["a"]),
        *[node("MatMul", ["a", w], [w.lower() + "a"]) for w in ("Q", "K", "V")],
        node("Transpose", ["ka"], ["kt"], perm=[0, 2, 1]),
        node("MatMul", ["qa", "kt"], ["s"]),
        node("Mul", ["s", "quarter"], ["scaled"]),
        node("Softmax", ["scaled"], ["p"]),
        node("MatMul", ["p", "va"], ["o"]),
        node("MatMul", ["o", "O"], ["r"]),
        node("Add", ["x", "r"], ["h"]),
        node("MatMul", ["h", "W1"], ["u"]),
        node("Relu", ["u"], ["v"]),
        node("MatMul", ["v", "W2"], ["y"]),
    ]
    square = dict.fromkeys("QKVO", (16, 16))
    made = net(nodes, square | {"z": (16,), "W1": (16, 32), "W2": (32, 6)}, 7, 16)
    ones = {"g": np.ones(16, F), "quarter": np.array(0.25, F)}
    made.graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in ones.items())
    return made


def recurrent() -> onnx.ModelProto:
    """An LSTM over 5 steps."""
    nodes = [
        node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
        node("LSTM", ["t", "w", "r"], ["", "h"], hidden_size=16),
        node("Squeeze", ["h", "first"], ["s"]),
        node("MatMul", ["s", "w2"], ["y"]),
    ]
    made = net(nodes, {"w": (1, 64, 12), "r": (1, 64, 16), "w2": (16, 6)}, 5, 12)
    made.graph.initializer.append(numpy_helper.from_array(np.array([0]), "first"))
    return made


def static(source: Path, to: Path, x: Array, form: str, **how: Any) -> None:
    form = getattr(quant.QuantFormat, form)
    quant.quantize_static(source, to, Samples(x), quant_format=form, **how)


def dynamic(source: Path, to: Path, x: Array, **how: Any) -> None:
    quant.quantize_dynamic(source, to, **how)


class Dot:
    """The product of the output and fixed numbers: as a score, its gradient is a vjp."""

    def __init__(self, cotangent: Array) -> None:
        self.cotangent = cotangent

    def emit(self, op: Op, model: oi.Model) -> Any:
        return op.ReduceSum(op.Mul(model.value("y"), self.cotangent), list(range(1, self.cotangent.ndim)), keepdims=0)


def explained(model: oi.Model, x: Array, cotangent: Array) -> tuple[Array, Array]:
    """Output and gradient, from one run."""
    got = run(differentiate(model, Dot(cotangent), ["x"]).to_bytes(), {"x": x})
    return got["y"], got["gradient.x"]


INT8, UINT8 = quant.QuantType.QInt8, quant.QuantType.QUInt8
OPERATOR, PAIRS = {"form": "QOperator", "activation_type": UINT8}, {"form": "QDQ", "activation_type": UINT8}
FILES = [
    (cnn, static, OPERATOR),
    (cnn, static, OPERATOR | {"activation_type": INT8, "per_channel": True}),
    (cnn, static, PAIRS),
    (cnn, static, PAIRS | {"activation_type": INT8, "per_channel": True}),
    (cnn, static, PAIRS | {"activation_type": quant.QuantType.QUInt16}),
    (cnn, dynamic, {}),
    (mlp, static, OPERATOR),
    (mlp, static, OPERATOR | {"activation_type": INT8, "per_channel": True}),
    (mlp, static, PAIRS | {"weight_type": quant.QuantType.QInt4}),
    (mlp, dynamic, {"per_channel": True}),
    (transformer, static, OPERATOR),
    (transformer, static, PAIRS),
    (transformer, dynamic, {"weight_type": UINT8}),
    (recurrent, dynamic, {}),
]


def name(how: Any) -> str:
    return "-".join(str(v) for v in how.values()) if isinstance(how, dict) else how.__name__


@pytest.mark.parametrize(("make", "quantise", "how"), FILES, ids=name)
def test_a_quantised_file(make: Any, quantise: Any, how: dict[str, Any], tmp_path: Path) -> None:
    proto, file = make(), tmp_path / "quantised.onnx"
    onnx.save(proto, tmp_path / "float.onnx")
    x = np.random.default_rng(0).normal(size=(32, *(d.dim_value for d in sizes(proto)))).astype(F)
    quantise(tmp_path / "float.onnx", file, x, **how)
    expected, real = (run(data, {"x": x})["y"] for data in (file.read_bytes(), proto))
    model, cotangent = oi.load(file), np.random.default_rng(1).normal(size=real.shape).astype(F)
    (y, dx), (_, dx_real) = (explained(m, x, cotangent) for m in (model, oi.load(proto)))
    off = [np.abs(z - expected).max() / np.abs(expected).max() for z in (run(model.to_bytes(), {"x": x})["y"], y)]
    state = 0.01 if make is recurrent else 1e-5  # what an LSTM keeps is not rounded here
    assert off[0] < state
    # Gradients read floats that onnxruntime would fuse away: it rounds QDQ files otherwise then, also by itself.
    assert off[1] < (0.03 if how.get("form") == "QDQ" else state)
    assert np.abs(y - real).max() / np.abs(real).max() > 1e-3
    assert cosine(dx, dx_real) > (0.9 if quant.QuantType.QInt4 in how.values() else 0.95)


@pytest.mark.parametrize("file", ["ort_cnn_dynamic", "ort_cnn_qdq", "ort_cnn_qoperator", "onnx_cnn_uint8"])
def test_the_weights_of_cam_are_found_behind_quantisers(file: str) -> None:
    real, model = oi.load(ZOO / "torch_legacy_cnn.onnx"), oi.load(ZOO / f"{file}.onnx")
    x = blobs.floats(blobs.photos(seed=1, count=4, size=(48, 80)))
    given = x if model.inputs[0].dtype == "float32" else np.rint(x * 255).astype(np.uint8)
    found, expected = (oi.cam(m, values, 1).values for m, values in ((model, given), (real, x)))
    assert cosine(found, expected) > 0.97


def test_what_is_looked_at_does_not_change_a_score(tmp_path: Path) -> None:
    """onnxruntime's integer kernels round otherwise than the file, and come only where nobody reads what is between."""
    onnx.save(cnn(), tmp_path / "float.onnx")
    x = np.random.default_rng(0).normal(size=(32, 3, 12, 12)).astype(F)
    static(tmp_path / "float.onnx", tmp_path / "quantised.onnx", x, **PAIRS)
    model, engine = oi.load(tmp_path / "quantised.onnx"), Engine("cpu")
    inner = [layer.tensor for layer in model.layers if layer.tensor != "y"]
    alone = engine.run(model, {"x": x})["y"]
    np.testing.assert_array_equal(engine.run(model, {"x": x}, ["y", *inner])["y"], alone)


def sizes(proto: onnx.ModelProto) -> Any:
    return proto.graph.input[0].type.tensor_type.shape.dim[1:]


def cosine(a: Array, b: Array) -> float:
    return float(np.sum(a * b) / np.linalg.norm(a) / np.linalg.norm(b))
