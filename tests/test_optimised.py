"""Files that onnxruntime has optimised and saved: they load, and give the scores and gradients of the plain file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnx_inspect.autodiff.gradient import vjp
from onnx_inspect.model import Model

from .rules.harness import Array, normal, run

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
ROOT2, EPSILON = np.float32(2**0.5), np.float32(1e-5)


class Writer:
    """Writes nodes down, one call each; the name of what a node computes comes back."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def weight(self, data: Any, scale: float = 1.0) -> str:
        array = np.asarray(data)
        array = (array * scale).astype(np.float32) if array.dtype.kind == "f" else array
        self.weights.append(numpy_helper.from_array(array, f"w{len(self.weights)}"))
        return self.weights[-1].name

    def __call__(self, op: str, *inputs: Any, **attributes: Any) -> str:
        names = [x if isinstance(x, str) else self.weight(x) for x in inputs]
        output = f"{op.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, names, [output], name=f"node{len(self.nodes)}", **attributes))
        return output

    def model(self, inputs: dict[str, tuple[int, Sequence[Any]]], y: str, opset: int) -> onnx.ModelProto:
        declared = [helper.make_tensor_value_info(n, kind, list(shape)) for n, (kind, shape) in inputs.items()]
        self.nodes.append(helper.make_node("Identity", [y], ["y"]))
        out = helper.make_tensor_value_info("y", FLOAT, None)
        graph = helper.make_graph(self.nodes, "made", declared, [out], self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def cnn(opset: int) -> onnx.ModelProto:
    """Convolutions with every activation that is fused into them, a residual, and a classifier of two layers."""
    w = Writer()

    def conv(x: str, *shape: int) -> str:
        return w("Conv", x, w.weight(normal(*shape), 0.3), w.weight(normal(shape[0])), pads=[1, 1, 1, 1])

    stem = w("Relu", conv("x", 4, 3, 3, 3))
    y = w("LeakyRelu", conv(stem, 4, 4, 3, 3), alpha=0.1)
    y = w("Sigmoid", conv(y, 4, 4, 3, 3))
    y = w("Tanh", conv(y, 4, 4, 3, 3))
    y = w("Clip", conv(y, 4, 4, 3, 3), np.float32(0), np.float32(6))
    y = w("HardSigmoid", conv(y, 4, 4, 3, 3), alpha=0.3, beta=0.4)
    y = w("Relu", w("Add", conv(y, 4, 4, 3, 3), stem))
    y = w("Flatten", w("GlobalAveragePool", y))
    y = w("Relu", w("Gemm", y, w.weight(normal(4, 6)), w.weight(normal(6))))
    y = w("Gemm", y, w.weight(normal(6, 5)), w.weight(normal(5)))
    return w.model({"x": (FLOAT, ["n", 3, 8, 8])}, y, opset)


def transformer(opset: int, heads: int = 2, width: int = 8) -> onnx.ModelProto:
    """One layer of a BERT as PyTorch's exporter writes it before opset 17, on embeddings and a mask."""
    w = Writer()

    def linear(x: str, rows: int, columns: int) -> str:
        return w("Add", w("MatMul", x, w.weight(normal(rows, columns), 0.4)), w.weight(normal(columns), 0.5))

    def norm(x: str) -> str:
        centred = w("Sub", x, mean(x))
        inverse = w("Sqrt", w("Add", mean(w("Pow", centred, np.float32(2))), EPSILON))
        hat = w("Div", centred, inverse)
        return w("Add", w("Mul", hat, w.weight(normal(width))), w.weight(normal(width) + 1))

    def mean(x: str) -> str:
        return w("ReduceMean", x, axes=[-1])

    def unsqueeze(x: str, axis: int) -> str:
        return w("Unsqueeze", x, axes=[axis]) if opset < 13 else w("Unsqueeze", x, np.array([axis]))

    def split(x: str, perm: list[int]) -> str:
        return w("Transpose", w("Reshape", x, np.array([0, 0, heads, width // heads])), perm=perm)

    first = norm("x")
    q, k, v = (linear(first, width, width) for _ in range(3))
    scores = w("MatMul", split(q, [0, 2, 1, 3]), split(k, [0, 2, 3, 1]))
    scores = w("Div", scores, np.float32((width / heads) ** 0.5))
    masked = w("Cast", unsqueeze(unsqueeze("mask", 1), 2), to=FLOAT)
    scores = w("Add", scores, w("Mul", w("Sub", np.float32(1), masked), np.float32(-10000)))
    y = w("MatMul", w("Softmax", scores, axis=3), split(v, [0, 2, 1, 3]))
    y = w("Reshape", w("Transpose", y, perm=[0, 2, 1, 3]), np.array([0, 0, width]))
    second = norm(w("Add", linear(y, width, width), first))
    wide = linear(second, width, 2 * width)
    gelu = w("Mul", w("Mul", wide, w("Add", w("Erf", w("Div", wide, ROOT2)), np.float32(1))), np.float32(0.5))
    y = norm(w("Add", linear(gelu, 2 * width, width), second))
    return w.model({"x": (FLOAT, ["n", "s", width]), "mask": (INT64, ["n", "s"])}, y, opset)


def rms(opset: int, width: int = 8) -> onnx.ModelProto:
    """Normalisations by the root mean square around a residual, as in Llama."""
    w = Writer()

    def norm(x: str) -> str:
        mean = w("ReduceMean", w("Pow", x, np.float32(2)), axes=[-1])
        return w("Mul", w("Div", x, w("Sqrt", w("Add", mean, EPSILON))), w.weight(normal(width)))

    y = norm(w("Add", w("MatMul", norm("x"), w.weight(normal(width, width))), "x"))
    return w.model({"x": (FLOAT, ["n", "s", width])}, y, opset)


def optimised(proto: onnx.ModelProto, folder: Path) -> Path:
    """What onnxruntime makes of a model and saves."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return folder / "optimised.onnx"


def operators(path: Path) -> set[str]:
    """Those of other domains, and those that the standard domain did not have yet."""
    proto = onnx.load(path)
    version = next(o.version for o in proto.opset_import if o.domain == "")
    return {
        n.op_type for n in proto.graph.node if n.domain or not onnx.defs.has(n.op_type, max_inclusive_version=version)
    }


FEEDS = {
    cnn: {"x": normal(3, 3, 8, 8).astype(np.float32)},
    rms: {"x": normal(2, 6, 8).astype(np.float32)},
    transformer: {
        "x": normal(2, 6, 8).astype(np.float32),
        "mask": np.array([[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]]),
    },
}
CONVOLUTIONS, NORMS = {"FusedConv", "FusedGemm"}, {"LayerNormalization", "SkipLayerNormalization", "BiasGelu"}
ROWS = [
    (cnn, 11, CONVOLUTIONS),
    (cnn, 16, CONVOLUTIONS),
    (cnn, 20, CONVOLUTIONS),
    (transformer, 11, NORMS | {"Attention"}),
    (transformer, 12, NORMS | {"Attention"}),
    (transformer, 13, NORMS | {"FusedMatMul"}),
    (transformer, 16, NORMS | {"FusedMatMul"}),
    (rms, 13, {"SimplifiedLayerNormalization"}),
    (rms, 16, {"SimplifiedLayerNormalization"}),
    (transformer, 17, {"SkipLayerNormalization", "BiasGelu", "FusedMatMul"}),
]


@pytest.mark.parametrize(
    ("make", "opset", "expected"), ROWS, ids=[f"{make.__name__}-{opset}" for make, opset, _ in ROWS]
)
def test_as_the_plain_file(make: Any, opset: int, expected: set[str], tmp_path: Path) -> None:
    plain, feeds = make(opset), FEEDS[make]
    path = optimised(plain, tmp_path)
    assert operators(path) == expected
    found, original = Model.load(path), Model.load(plain)
    assert not [node for node in found.ir.graph.all_nodes() if node.domain]
    y = run(plain, feeds)["y"]
    np.testing.assert_allclose(run(found.to_bytes(), feeds)["y"], y, atol=1e-5)
    cotangent: dict[str, Array] = {"cotangent.y": normal(*y.shape).astype(np.float32)}
    gradients = [run(vjp(m, ["x"], ["y"]).to_bytes(), feeds | cotangent)["gradient.x"] for m in (found, original)]
    np.testing.assert_allclose(*gradients, atol=1e-4 * np.abs(gradients[1]).max())
