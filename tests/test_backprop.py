"""Guided backprop and the deconvnet: literal passes back in float64, and what counts as a rectifier."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnx_inspect as oi
from onnx_inspect.engine import Engine

from . import nets

ENGINE = Engine("cpu", threads=1)
X = nets.images(2)
Rectifier = Callable[[np.ndarray, np.ndarray], np.ndarray]
RECTIFIERS: dict[str, Rectifier] = {
    "gradient": lambda g, x: g * (x > 0),
    "guided_backprop": lambda g, x: np.maximum(g, 0) * (x > 0),
    "deconvnet": lambda g, x: np.maximum(g, 0),
}


def backward(x: np.ndarray, target: int, rectifier: str = "gradient") -> dict[str, np.ndarray]:
    """Cotangents of the classifier in `nets`, from its score back to the image, in float64."""
    w, found, rectify = nets.weights(), nets.forward(x), RECTIFIERS[rectifier]
    p = np.broadcast_to(w["w3"][:, target].astype(np.float64), found["p"].shape)
    a = np.broadcast_to(p[:, :, None, None] / found["a"][0, 0].size, found["a"].shape)
    c2 = rectify(a, found["c2"])
    r1 = adjoint(c2, w["w2"], 2, x.shape[2])
    c1 = rectify(r1, found["c1"])
    return {"a": a, "c2": c2, "r1": r1, "c1": c1, "image": adjoint(c1, w["w1"], 1, x.shape[2])}


def adjoint(g: np.ndarray, kernel: np.ndarray, stride: int, size: int) -> np.ndarray:
    """Every output's share goes back to what it was summed from."""
    n, _, height, width = g.shape
    padded = np.zeros((n, kernel.shape[1], size + 2, size + 2))
    for i in range(3):
        for j in range(3):
            rows, columns = slice(i, i + stride * height, stride), slice(j, j + stride * width, stride)
            padded[:, :, rows, columns] += np.einsum("nohw,oc->nchw", g, kernel[:, :, i, j])
    return padded[:, :, 1:-1, 1:-1]


def close(found: np.ndarray, expected: np.ndarray, within: float = 1e-5) -> None:
    np.testing.assert_allclose(found, expected, atol=within * max(float(np.abs(expected).max()), 1e-9), rtol=0)


def chain(*middle: onnx.NodeProto, shape: tuple[Any, ...] = (6,), **constants: np.ndarray) -> oi.Model:
    """Nodes from x to y, then a sum of y with weights."""
    graph = helper.make_graph(
        [*middle, helper.make_node("Flatten", ["y"], ["flat"]), helper.make_node("MatMul", ["flat", "out"], ["s"])],
        "chain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *shape])],
        [helper.make_tensor_value_info("s", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(v, k) for k, v in constants.items()],
    )
    return oi.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


@pytest.fixture(scope="module")
def model() -> oi.Model:
    return oi.load(nets.classifier())


@pytest.mark.parametrize("name", ["guided_backprop", "deconvnet"])
def test_the_pass_back_is_its_definition(name: str, model: oi.Model) -> None:
    result = getattr(oi, name)(model, X, target=1, engine=ENGINE)
    close(result.values, backward(X, 1, name)["image"])
    assert not result.signed  # gradients are drawn, and ranked, by their magnitude
    np.testing.assert_array_equal(result.heat, np.abs(result.values).max(axis=1))
    assert not any("rectifier" in note for note in result.notes)
    assert np.abs(result.values - backward(X, 1)["image"]).max() > 0.1 * np.abs(result.values).max()


@pytest.mark.parametrize("name", ["guided_backprop", "deconvnet"])
def test_tensors_between(name: str, model: oi.Model) -> None:
    result = getattr(oi, name)(model, X, target=1, wrt=["c1", "image"], engine=ENGINE)
    close(result.tensors["c1"], backward(X, 1, name)["c1"])
    close(result.tensors["image"], backward(X, 1, name)["image"])


def test_the_projection_of_a_unit(model: oi.Model) -> None:
    """Zeiler & Fergus: everything but one unit set to zero, then back through rectifiers and transposed filters."""
    w = nets.weights()
    unit = np.zeros((2, 5, 12, 12))
    unit[:, 3, 4, 6] = 1
    back = adjoint(unit, w["w1"], 1, 12)
    close(oi.deconvnet(model, X, target="r1[3,4,6]", engine=ENGINE).values, back)
    on = nets.forward(X)["c1"][:, 3, 4, 6] > 0
    assert on.any()
    close(oi.guided_backprop(model, X, target="r1[3,4,6]", engine=ENGINE).values, back * on[:, None, None, None])


# What is a rectifier.

V = np.random.default_rng(0).normal(size=(5, 6)).astype(np.float32) * 5
OUT = np.random.default_rng(1).normal(size=(6, 3)).astype(np.float32)
LOW, HIGH = np.float32(0), np.float32(6)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("guided_backprop", np.maximum(OUT[:, 0], 0) * ((V >= 0) & (V <= 6))),
        ("deconvnet", np.broadcast_to(np.maximum(OUT[:, 0], 0), V.shape)),
    ],
)
def test_relu6_is_a_rectifier_but_not_to_the_references(name: str, expected: np.ndarray) -> None:
    clipped = chain(helper.make_node("Clip", ["x", "low", "high"], ["y"]), out=OUT, low=LOW, high=HIGH)
    method = getattr(oi, name)
    close(method(clipped, V, target=0, engine=ENGINE).values, expected)
    for preset in ("captum", "pgc", "zennit"):
        plain = method(clipped, V, target=0, preset=preset, engine=ENGINE)
        close(plain.values, OUT[:, 0] * ((V >= 0) & (V <= 6)))
        assert any("no rectifier" in note for note in plain.notes)
    close(method(clipped, V, target=0, engine=ENGINE).values, expected)  # the tables do not share a compiled model


@pytest.mark.parametrize(
    ("node", "constants"),
    [
        (helper.make_node("LeakyRelu", ["x"], ["y"], alpha=0.3), {}),
        (helper.make_node("PRelu", ["x", "low"], ["y"]), {"low": np.array([0.2], np.float32)}),
        (helper.make_node("Elu", ["x"], ["y"]), {}),
        (helper.make_node("Clip", ["x", "low"], ["y"]), {"low": np.float32(-1)}),
        (helper.make_node("Clip", ["x", "", "high"], ["y"]), {"high": np.float32(1)}),
        (helper.make_node("HardSigmoid", ["x"], ["y"]), {}),
    ],
    ids=lambda v: v.op_type if isinstance(v, onnx.NodeProto) else "",
)
def test_what_bends_otherwise_keeps_its_gradient(node: onnx.NodeProto, constants: dict[str, np.ndarray]) -> None:
    bent = chain(node, out=OUT, **constants)
    plain = oi.saliency(bent, V, target=1, signed=True, engine=ENGINE).values
    for method in (oi.guided_backprop, oi.deconvnet):
        result = method(bent, V, target=1, engine=ENGINE)
        np.testing.assert_array_equal(result.values, plain)
        assert any("no rectifier" in note for note in result.notes)


def test_a_max_pool_passes_to_where_the_maximum_was() -> None:
    x = np.random.default_rng(2).normal(size=(2, 1, 4, 4)).astype(np.float32)
    out = np.array([[1.0], [-2.0], [3.0], [4.0]], np.float32).repeat(3, axis=1)
    pool = helper.make_node("MaxPool", ["r"], ["y"], kernel_shape=[2, 2], strides=[2, 2])
    pooled = chain(helper.make_node("Relu", ["x"], ["r"]), pool, shape=(1, 4, 4), out=out)
    for method in ("guided_backprop", "deconvnet"):
        expected = np.zeros((2, 1, 4, 4))
        for i in range(2):
            for k, (top, left) in enumerate([(0, 0), (0, 2), (2, 0), (2, 2)]):
                window = np.maximum(x[i, 0, top : top + 2, left : left + 2], 0)
                at = np.unravel_index(window.argmax(), (2, 2))
                g = np.array(max(out[k, 0], 0))
                expected[i, 0, top + at[0], left + at[1]] = RECTIFIERS[method](g, window[at])
        close(getattr(oi, method)(pooled, x, target=0, engine=ENGINE).values, expected)


def test_rectifiers_in_fused_operators_are_found(model: oi.Model) -> None:
    proto = nets.classifier()
    nodes = list(proto.graph.node)
    for conv, relu in ((nodes[0], nodes[1]), (nodes[2], nodes[3])):
        conv.op_type, conv.domain, conv.output[0] = "FusedConv", "com.microsoft", relu.output[0]
        conv.attribute.append(helper.make_attribute("activation", "Relu"))
        proto.graph.node.remove(relu)
    proto.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    fused = oi.load(proto)
    for name in ("guided_backprop", "deconvnet"):
        result = getattr(oi, name)(fused, X, target=1, engine=ENGINE)
        close(result.values, backward(X, 1, name)["image"])
        assert not any("rectifier" in note for note in result.notes)
