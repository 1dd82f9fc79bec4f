"""Forward passes in half precision: which numbers are halves, and how far results move."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnx_inspect as oi
from onnx_inspect.engine import Engine
from onnx_inspect.lowering.half import halve
from onnx_inspect.model import Model

from . import nets

ENGINE = Engine("cpu", threads=1)
ZOO = Path(__file__).parent / "zoo"
F, HALF = np.float32, ir.DataType.FLOAT16


def chain(nodes: list[Any], **weights: Any) -> Model:
    """A graph from x (N, 8) to y (N, 8)."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 8]) for name in "xy")
    initializers = [numpy_helper.from_array(np.asarray(v, F), k) for k, v in weights.items()]
    graph = helper.make_graph(nodes, "chain", [x], [y], initializers)
    return oi.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10))


def kinds(model: Model) -> dict[str, list[bool]]:
    """Which nodes of each operator give halves, Casts aside."""
    found: dict[str, list[bool]] = {}
    for node in model.ir.graph:
        if node.op_type != "Cast":
            found.setdefault(node.op_type, []).append(node.outputs[0].dtype == HALF)
    return found


W = np.random.default_rng(0).normal(size=(3, 8, 8))
n = helper.make_node


def test_between_products_numbers_stay_halves() -> None:
    """x W₀, clipped, times W₁, through a softmax, times W₂: rounded where they are products, and nowhere else."""
    nodes = [
        n("MatMul", ["x", "w0"], ["a"]),
        n("Relu", ["a"], ["b"]),
        n("Add", ["b", "shift"], ["c"]),
        n("MatMul", ["c", "w1"], ["d"]),
        n("Softmax", ["d"], ["e"]),
        n("MatMul", ["e", "w2"], ["y"]),
    ]
    model = chain(nodes, w0=W[0], w1=W[1], w2=W[2], shift=W[0, 0])
    half = halve(model)
    assert kinds(half) == {"MatMul": [True] * 3, "Relu": [True], "Add": [True], "Softmax": [False]}
    assert sum(node.op_type == "Cast" for node in half.ir.graph) == 4, "x, to and from the softmax, y"
    x = np.random.default_rng(1).normal(size=(4, 8)).astype(F)

    def rounded(v: np.ndarray) -> np.ndarray:
        return np.asarray(v, np.float16).astype(np.float64)

    a = rounded(rounded(x) @ rounded(W[0]))
    d = rounded(rounded(np.maximum(a, 0) + rounded(W[0, 0])) @ rounded(W[1]))
    e = np.exp(d - d.max(1, keepdims=True))
    expected = rounded(rounded(e / e.sum(1, keepdims=True)) @ rounded(W[2]))
    found, plain = (ENGINE.run(m, {"x": x})["y"] for m in (half, model))
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-3)
    assert np.abs(found - plain).max() > 1e-5, "it does round"


def test_what_does_not_fit_stays() -> None:
    big = W[1] * 1e5
    model = chain([n("MatMul", ["x", "w0"], ["a"]), n("MatMul", ["a", "w1"], ["y"])], w0=W[0], w1=big)
    assert kinds(halve(model)) == {"MatMul": [True, False]}
    only = chain([n("MatMul", ["x", "w1"], ["y"])], w1=big)
    assert halve(only) is only
    added = chain([n("MatMul", ["x", "w0"], ["a"]), n("Add", ["a", "x"], ["y"])], w0=W[0])
    assert kinds(halve(added)) == {"MatMul": [True], "Add": [False]}, "x is no product's result"
    apart = chain([n("Relu", ["x"], ["y"])])
    assert halve(apart) is apart, "there is no product that it follows"


def test_gradients_are_float32() -> None:
    gradient = oi.gradient(oi.load(nets.classifier()), "top", ["image"])
    half = halve(gradient)
    ours = [node for node in half.ir.graph if (node.name or "").startswith("inspect/")]
    assert ours and all(y.dtype != HALF for node in ours for y in node.outputs)
    assert kinds(half)["Conv"] == [True, True]
    assert [(v.name, v.dtype) for v in half.ir.graph.outputs] == [(v.name, v.dtype) for v in gradient.ir.graph.outputs]
    onnx.checker.check_model(half.to_proto(), full_check=True)
    x = nets.images(3)
    expected, found = (ENGINE.run(m, {"image": x})["gradient.image"] for m in (gradient, half))
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.999


@pytest.mark.parametrize("file", ["jax_mbv3", "keras_tensorflow_cnn", "keras_torch_lstm", "jax_vit"])
def test_networks(file: str) -> None:
    model = oi.load(ZOO / f"{file}.onnx")
    half, given = halve(model), model.inputs[0]
    onnx.checker.check_model(half.to_proto(), full_check=True)
    x = np.random.default_rng(0).uniform(size=[k if isinstance(k, int) else 2 for k in given.shape]).astype(F)
    expected, found = (next(iter(ENGINE.run(m, {given.name: x}).values())) for m in (model, half))
    assert np.abs(found - expected).max() <= 1e-2 * np.abs(expected).max()
