"""Lowered graphs compute what the graphs that they stand for compute, and leave the model's own nodes alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import onnx_inspect as oi
from onnx_inspect.engine import Engine
from onnx_inspect.lowering import CPU, lower
from onnx_inspect.model import Model

from . import nets

PLAIN, FAST = (Engine("cpu", threads=1, lowering=lowering) for lowering in (False, True))
ZOO = Path(__file__).parent / "zoo"
F = np.float32


def ops(model: Model) -> list[str]:
    return [node.op_type for node in model.ir.graph]


def net(nodes: list[Any], x: tuple[int | str, ...], **weights: Any) -> Model:
    """A graph from x to y."""
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "net",
        [info("x", TensorProto.FLOAT, x)],
        [info("y", TensorProto.FLOAT, [None] * len(x))],
        [numpy_helper.from_array(np.asarray(v, F), k) for k, v in weights.items()],
    )
    return oi.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


def both(model: Model, x: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """x's cotangent for a random one of y, as built and lowered."""
    gradient = oi.vjp(model, ["x"], ["y"])
    y = PLAIN.run(model, {"x": x})["y"]
    feeds = {"x": x, "cotangent.y": np.random.default_rng(seed).normal(size=y.shape).astype(F)}
    expected, found = (engine.run(gradient, feeds)["gradient.x"] for engine in (PLAIN, FAST))
    return expected, found


@settings(derandomize=True, database=None, deadline=None, max_examples=150)
@given(st.data())
def test_any_convolution(data: st.DataObject) -> None:
    rank = data.draw(st.integers(1, 3))
    group = data.draw(st.sampled_from([1, 2, 12]))
    outs = data.draw(st.sampled_from([12, 24, 96]))
    sizes = [st.integers(1, 4), st.integers(1, 2), st.integers(1, 2), st.integers(0, 3), st.integers(0, 3)]
    kernel, strides, dilations, begin, end = (data.draw(st.lists(s, min_size=rank, max_size=rank)) for s in sizes)
    extent = data.draw(st.lists(st.integers(7, 10), min_size=rank, max_size=rank))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    how: dict[str, Any] = {"strides": strides, "dilations": dilations, "pads": begin + end, "group": group}
    w = rng.normal(size=(outs, 12 // group, *kernel))
    model = net([helper.make_node("Conv", ["x", "w"], ["y"], **how)], ("N", 12, *extent), w=w)
    expected, found = both(model, rng.normal(size=(2, 12, *extent)).astype(F))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_what_is_lowered() -> None:
    for strides, left in (([1, 1], 0), ([3, 2], 1)):
        node = helper.make_node("Conv", ["x", "w"], ["y"], strides=strides, pads=[1] * 4)
        model = net([node], ("N", 12, 9, 9), w=np.ones((16, 12, 3, 3)))
        lowered = lower(oi.vjp(model, ["x"], ["y"]), CPU)
        assert ops(lowered).count("ConvTranspose") == left
        assert ops(lowered).count("Conv") == 1 - left
    few = net([helper.make_node("Conv", ["x", "w"], ["y"])], ("N", 3, 9, 9), w=np.ones((16, 3, 3, 3)))
    gradient = oi.vjp(few, ["x"], ["y"])
    assert lower(gradient, CPU) is gradient


def test_nodes_of_the_model_stay() -> None:
    nodes = [helper.make_node("ConvTranspose", ["x", "w"], ["c"]), helper.make_node("Relu", ["c"], ["y"])]
    model = net(nodes, ("N", 12, 9, 9), w=np.ones((12, 16, 3, 3)))
    assert lower(model, CPU) is model
    assert ops(lower(oi.vjp(model, ["x"], ["y"]), CPU)).count("ConvTranspose") == 1


@settings(derandomize=True, database=None, deadline=None, max_examples=150)
@given(st.data())
def test_any_pooling(data: st.DataObject) -> None:
    """Of equal ones the first takes all, also where the largest stands in several rows, or padding comes first."""
    kernel = data.draw(st.lists(st.integers(1, 4), min_size=2, max_size=2))
    begin, end = ([data.draw(st.integers(0, k - 1)) for k in kernel] for _ in range(2))
    strides = data.draw(st.lists(st.integers(1, 3), min_size=2, max_size=2))
    extent = data.draw(st.lists(st.integers(5, 12), min_size=2, max_size=2))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    x = rng.normal(size=(2, 3, *extent)).astype(F)
    x = np.rint(x) if data.draw(st.booleans()) else x  # full of ties
    how: dict[str, Any] = {"kernel_shape": kernel, "strides": strides, "pads": begin + end}
    node = helper.make_node("MaxPool", ["x"], ["y"], ceil_mode=data.draw(st.integers(0, 1)), **how)
    model = net([node], ("N", 3, *extent))
    assert "MaxPool" not in ops(lower(oi.vjp(model, ["x"], ["y"]), CPU))
    expected, found = both(model, x)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("value", [-np.inf, np.inf, float(np.finfo(F).min), 0])
def test_pooling_of_extremes(value: float) -> None:
    node = helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    expected, found = both(net([node], ("N", 3, 7, 7)), np.full((2, 3, 7, 7), value, F))
    assert np.isfinite(found).all()
    if np.isfinite(value) and value > np.finfo(F).min:
        np.testing.assert_allclose(found, expected, rtol=1e-5)


# Masks: kinks, and values next to them.

NEXT = np.nextafter(F([0, 0, 6, 6, 6]), F([1, -1, 0, 7, 6]))
X = np.concatenate([F([-1, -0.0, 0, 1e-30, -1e-30, 3, 6, 7, 1e30, -1e30, np.inf, -np.inf]), NEXT])


@pytest.mark.parametrize("rank", [2, 4])
@pytest.mark.parametrize(
    ("op", "bounds", "inside"),
    [
        ("Relu", {}, X > 0),
        ("Clip", {"low": 0, "high": 6}, (X > 0) & (X < 6)),
        ("Clip", {"low": 0, "high": 3}, (X >= 0) & (X <= 3)),
        ("Clip", {"low": -1, "high": -1}, X == -1),
    ],
    ids=["Relu", "ReLU6", "Clip", "point"],
)
def test_masks(op: str, bounds: dict[str, float], inside: np.ndarray, rank: int) -> None:
    x = X.reshape(1, -1) if rank == 2 else X.reshape(1, -1, 1, 1)
    model = net([helper.make_node(op, ["x", *bounds], ["y"])], x.shape, **bounds)
    gradient = oi.vjp(model, ["x"], ["y"])
    for engine in (PLAIN, FAST):
        found = engine.run(gradient, {"x": x, "cotangent.y": np.full_like(x, 2)})["gradient.x"].ravel()
        tiny = np.abs(X) < 1e-29  # a step in one go is a step down to there
        np.testing.assert_array_equal(found[~tiny], 2 * inside[~tiny])
        assert ((found >= 0) & (found <= 2)).all()


@pytest.mark.parametrize("method", ["gradcam", "saliency", "guided_backprop", "lrp", "integrated_gradients"])
@pytest.mark.parametrize("file", ["jax_mbv3", "torch_legacy_cnn", "torch_legacy_unet", "keras_tensorflow_cnn"])
def test_methods_find_the_same(method: str, file: str) -> None:
    model = oi.load(ZOO / f"{file}.onnx")
    shape = [1 if not isinstance(n, int) else n for n in model.inputs[0].shape]
    x = np.random.default_rng(0).uniform(size=shape).astype(F)
    target = "segmentation:class=1" if "unet" in file else "top"
    expected, found = (getattr(oi, method)(model, x, target, engine=e).values for e in (PLAIN, FAST))
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


def test_subgraphs_and_names() -> None:
    """A lowered model is valid ONNX, and its outputs keep their names."""
    gradient = oi.gradient(oi.load(nets.classifier()), "top", ["image"])
    lowered = lower(gradient, CPU)
    onnx.checker.check_model(lowered.to_proto(), full_check=True)
    assert [v.name for v in lowered.ir.graph.outputs] == [v.name for v in gradient.ir.graph.outputs]
    assert all(isinstance(v, ir.Value) for v in lowered.ir.graph.outputs)
