"""Lowered graphs compute what the graphs that they stand for compute, and leave the model's own nodes alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import onnx_inspect as oi
from onnx_inspect.engine import Engine
from onnx_inspect.lowering import CPU, lower, strided
from onnx_inspect.model import Model
from onnx_inspect.target.classes import Index, Top

from . import nets

PLAIN, FAST = (Engine("cpu", threads=1, lowering=lowering) for lowering in (False, True))
ZOO = Path(__file__).parent / "zoo"
F = np.float32


def ops(model: Model) -> list[str]:
    return [node.op_type for node in model.ir.graph]


def net(nodes: list[Any], x: tuple[int | str, ...], rank: int | None = None, **weights: Any) -> Model:
    """A graph from x to y."""
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "net",
        [info("x", TensorProto.FLOAT, x)],
        [info("y", TensorProto.FLOAT, [None] * (rank or len(x)))],
        [numpy_helper.from_array(np.asarray(v, F), k) for k, v in weights.items()],
    )
    return oi.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


def both(model: Model, x: np.ndarray, of: str = "x") -> tuple[np.ndarray, np.ndarray]:
    """The cotangent of a tensor for a random one of y, as built and lowered."""
    gradient = oi.vjp(model, [of], ["y"])
    y = PLAIN.run(model, {"x": x})["y"]
    feeds = {"x": x, "cotangent.y": np.random.default_rng(0).normal(size=y.shape).astype(F)}
    expected, found = (engine.run(gradient, feeds)[f"gradient.{of}"] for engine in (PLAIN, FAST))
    return expected, found


@settings(derandomize=True, database=None, deadline=None, max_examples=150)
@given(st.data())
def test_any_convolution(data: st.DataObject) -> None:
    rank = data.draw(st.sampled_from([1, 2, 2, 3]))
    ins = data.draw(st.sampled_from([12, 16]))
    group = data.draw(st.sampled_from([1, 2, ins]))
    outs = data.draw(st.sampled_from([ins, 2 * ins]))
    sizes = [st.integers(1, 4), st.integers(1, 2), st.integers(1, 2), st.integers(0, 3), st.integers(0, 3)]
    kernel, strides, dilations, begin, end = (data.draw(st.lists(s, min_size=rank, max_size=rank)) for s in sizes)
    extent = data.draw(st.lists(st.integers(7, 10), min_size=rank, max_size=rank))
    known: list[int | str] = list(extent) if data.draw(st.booleans()) else [f"size{axis}" for axis in range(rank)]
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    how: dict[str, Any] = {"strides": strides, "dilations": dilations, "pads": begin + end, "group": group}
    w = rng.normal(size=(outs, ins // group, *kernel))
    model = net([helper.make_node("Conv", ["x", "w"], ["y"], **how)], ("N", ins, *known), w=w)
    with mock.patch.object(strided, "MANY", data.draw(st.sampled_from([0, strided.MANY]))):
        expected, found = both(model, rng.normal(size=(2, ins, *extent)).astype(F))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("ins", "outs", "group", "kernel", "phases"),
    [
        (16, 32, 1, 3, 4),
        (32, 32, 32, 5, 4),
        (16, 32, 1, 1, 0),
        (512, 16, 1, 1, 1),
        (24, 32, 1, 3, 0),
        (16, 16, 2, 3, 0),
    ],
)
def test_strides_become_phases(ins: int, outs: int, group: int, kernel: int, phases: int) -> None:
    half = kernel // 2
    node = helper.make_node("Conv", ["x", "w"], ["y"], strides=[2, 2], pads=[half] * 4, group=group)
    w = np.random.default_rng(0).normal(size=(outs, ins // group, kernel, kernel))
    for extent in ((9, 8), (8, 9)):
        model = net([node], ("N", ins, *extent), w=w)
        found = ops(lower(oi.vjp(model, ["x"], ["y"]), CPU))
        assert (found.count("Conv"), found.count("ConvTranspose")) == (phases, int(not phases))
        expected, got = both(model, np.zeros((2, ins, *extent), F))
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)
        gradient = oi.vjp(model, ["x"], ["y"])
        shape = PLAIN.run(model, {"x": np.zeros((1, ins, *extent), F)})["y"].shape
        cotangent = np.zeros(shape, F)
        cotangent[:, :, 1, 1] = np.inf
        plain, fast = (
            engine.run(gradient, {"x": np.zeros((1, ins, *extent), F), "cotangent.y": cotangent})["gradient.x"]
            for engine in (PLAIN, FAST)
        )
        assert (np.isfinite(fast) | ~np.isfinite(plain)).all()  # no further than it was


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
    nodes = [helper.make_node("MaxPool", ["z"], ["y"], ceil_mode=data.draw(st.integers(0, 1)), **how)]
    nodes = [helper.make_node(data.draw(st.sampled_from(["Relu", "Neg"])), ["x"], ["z"]), *nodes]
    model = net(nodes, ("N", 3, *extent))
    gradient = oi.vjp(model, ["z"], ["y"])
    assert all(len(n.outputs) == 1 for n in lower(gradient, CPU).ir.graph if n.op_type == "MaxPool")
    expected, found = both(model, x, "z")
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("kernel", "extent", "tiles"), [([2, 2], [6, 8], 1), ([3, 2], [6, 6], 1), ([2, 2], [7, 6], 0)])
def test_pooling_of_tiles(kernel: list[int], extent: list[int], tiles: int) -> None:
    node = helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=kernel, strides=kernel)
    model = net([node], ("N", 3, *extent))
    assert ops(lower(oi.vjp(model, ["x"], ["y"]), CPU)).count("MaxUnpool") == tiles
    expected, found = both(model, np.rint(np.random.default_rng(0).normal(size=(2, 3, *extent))).astype(F))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("value", [-np.inf, np.inf, float(np.finfo(F).min), 0])
def test_pooling_of_extremes(value: float) -> None:
    node = helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    expected, found = both(net([node], ("N", 3, 7, 7)), np.full((2, 3, 7, 7), value, F))
    assert np.isfinite(found).all()
    if np.isfinite(value) and value > np.finfo(F).min:
        np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("pads", [0, 1])
def test_masks_of_what_is_pooled(pads: int) -> None:
    """Behind a Relu whose output is read for nothing else, the mask is that of the smaller map."""
    how = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [pads] * 4}
    nodes = [helper.make_node("Relu", ["x"], ["z"]), helper.make_node("MaxPool", ["z"], ["y"], **how)]
    x = np.rint(np.random.default_rng(0).normal(size=(2, 16, 9, 9))).astype(F)
    model = net(nodes, ("N", 16, 9, 9))
    for wrt in (["x"], ["x", "z"]):
        gradient = oi.vjp(model, wrt, ["y"])
        kinds = ops(lower(gradient, CPU))
        masked = [n.inputs[0].producer() for n in lower(gradient, CPU).ir.graph if n.op_type == "HardSigmoid"]
        assert kinds.count("HardSigmoid") == 1
        assert [node.op_type for node in masked if node] == ["MaxPool" if wrt == ["x"] else "Relu"]
        feeds = {"x": x, "cotangent.y": np.random.default_rng(1).normal(size=(2, 16, 4 + pads, 4 + pads)).astype(F)}
        expected, found = (engine.run(gradient, feeds) for engine in (PLAIN, FAST))
        for name in expected:
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-5)


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
        ("ThresholdedRelu", {}, X > 1),
    ],
    ids=["Relu", "ReLU6", "Clip", "point", "threshold"],
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


# Seeds, gates, and shapes.

HEADS = {
    "gemm": [("Flatten", ["x"], ["f"], {}), ("Gemm", ["f", "w", "b"], ["y"], {"transB": 1, "alpha": 0.5})],
    "product": [("Flatten", ["x"], ["f"], {}), ("MatMul", ["f", "v"], ["m"], {}), ("Add", ["m", "b"], ["y"], {})],
    "class map": [
        ("Conv", ["x", "k"], ["c"], {}),
        ("Relu", ["c"], ["r"], {}),
        ("GlobalAveragePool", ["r"], ["p"], {}),
        ("Flatten", ["p"], ["y"], {}),
    ],
}


@pytest.mark.parametrize("index", [Top(), Top(2), Index((2, 0, 1))], ids=str)
@pytest.mark.parametrize("head", HEADS)
def test_a_class_is_a_row_of_weights(head: str, index: Top | Index) -> None:
    rng = np.random.default_rng(0)
    w = rng.normal(size=(10, 36))
    nodes = [helper.make_node(op, ins, outs, **how) for op, ins, outs, how in HEADS[head]]
    weights = {"w": w, "v": w.T, "b": rng.normal(size=10), "k": rng.normal(size=(10, 4, 1, 1))}
    used = {x for node in nodes for x in node.input}
    model = net(nodes, ("N", 4, 3, 3), rank=2, **{k: v for k, v in weights.items() if k in used})
    gradient = oi.gradient(model, index, ["x"])
    lowered = ops(lower(gradient, CPU))
    assert "GatherND" in lowered
    assert "ConvTranspose" not in lowered
    assert [lowered.count(op) for op in ("Gemm", "MatMul")] == [head == "gemm", head == "product"]
    feeds = {"x": rng.normal(size=(3, 4, 3, 3)).astype(F), **index.feeds(3)}
    expected, found = (engine.run(gradient, feeds) for engine in (PLAIN, FAST))
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-6)


def test_what_only_looks_like_a_row_is_multiplied() -> None:
    """A difference of classes has two rows."""
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("Gemm", ["f", "w"], ["y"], transB=1)]
    model = net(nodes, ("N", 4, 3, 3), rank=2, w=np.random.default_rng(0).normal(size=(10, 36)))
    gradient = oi.gradient(model, "1-2", ["x"])
    assert "GatherND" not in ops(lower(gradient, CPU))


@pytest.mark.parametrize("turned", [False, True])
def test_gates(turned: bool) -> None:
    """Y = X sigmoid X, also far from 0, where 1 + X - Y would be nothing but rounding."""
    order = ["s", "x"] if turned else ["x", "s"]
    nodes = [helper.make_node("Sigmoid", ["x"], ["s"]), helper.make_node("Mul", order, ["y"])]
    x = np.concatenate([np.linspace(-30, 30, 601), [-1e30, -1e4, 1e4, 1e30]]).astype(F).reshape(1, -1, 1, 1)
    model = net(nodes, x.shape)
    assert "Sub" not in ops(lower(oi.vjp(model, ["x"], ["y"]), CPU))
    feeds = {"x": x, "cotangent.y": np.ones_like(x)}
    found = FAST.run(oi.vjp(model, ["x"], ["y"]), feeds)["gradient.x"].ravel()
    at = x.ravel().astype(np.float64)
    s = 1 / (1 + np.exp(-np.clip(at, -700, 700)))
    np.testing.assert_allclose(found, s * (1 + at * (1 - s)), rtol=1e-5, atol=1e-6)


def test_sums_with_what_is_spread() -> None:
    """A squeeze-and-excitation block: its mean comes back to all positions without a map of its own."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["m"]),
        helper.make_node("Sigmoid", ["m"], ["s"]),
        helper.make_node("Mul", ["x", "s"], ["y"]),
    ]
    for sizes in ((5, 4), ("h", "w")):
        model = net(nodes, ("N", 16, *sizes))
        assert "Expand" not in ops(lower(oi.vjp(model, ["x"], ["y"]), CPU))
        expected, found = both(model, np.random.default_rng(0).normal(size=(3, 16, 5, 4)).astype(F))
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_what_a_sum_needs_is_expanded() -> None:
    info = helper.make_tensor_value_info
    nodes = [
        helper.make_node("Expand", ["x", "shape"], ["wide"], name="inspect/Expand"),
        helper.make_node("Add", ["x", "wide"], ["y"], name="inspect/Add"),
    ]
    x, y = info("x", TensorProto.FLOAT, [2, 3, 1, 1]), info("y", TensorProto.FLOAT, [2, 3, 4, 4])
    shape = numpy_helper.from_array(np.array([2, 3, 4, 4]), "shape")
    graph = helper.make_graph(nodes, "sum", [x], [y], [shape])
    model = oi.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    assert ops(lower(model, CPU)) == ["Expand", "Add"]


def test_shapes_come_from_the_inputs() -> None:
    """Not from maps, which would be brought into another layout to be counted."""
    model = oi.load(nets.classifier())
    lowered = lower(oi.gradient(model, "top", ["image"]), CPU)
    inputs = set(lowered.ir.graph.inputs)
    ours = [n for n in lowered.ir.graph if n.op_type in ("Shape", "Size") and (n.name or "").startswith("inspect/")]
    maps = [x for n in ours for x in n.inputs if x is not None and x.shape is not None and len(x.shape) == 4]
    assert maps
    assert set(maps) <= inputs


def test_subgraphs_and_names() -> None:
    """A lowered model is valid ONNX, and its outputs keep their names."""
    gradient = oi.gradient(oi.load(nets.classifier()), "top", ["image"])
    lowered = lower(gradient, CPU)
    onnx.checker.check_model(lowered.to_proto(), full_check=True)
    assert [v.name for v in lowered.ir.graph.outputs] == [v.name for v in gradient.ir.graph.outputs]
    assert all(isinstance(v, ir.Value) for v in lowered.ir.graph.outputs)


@pytest.mark.parametrize("name", ["?", "None", "unk", "N"])
def test_axes_that_share_a_name_are_not_taken_for_each_other(name: str) -> None:
    """Exporters write one name for every axis that is open."""
    rng = np.random.default_rng(0)
    weights = {"W": rng.normal(size=(4, 3, 3, 3)), "D": rng.normal(size=(4, 5))}
    nodes = [
        helper.make_node("Conv", ["x", "W"], ["c"]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("MatMul", ["f", "D"], ["y"]),
    ]
    infos = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [name, 3, name, name]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, [name, 5]),
    ]
    held = [numpy_helper.from_array(v.astype(np.float32), k) for k, v in weights.items()]
    graph = helper.make_graph(nodes, "g", infos[:1], infos[1:], held)
    model = oi.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    x = rng.normal(size=(1, 3, 7, 6)).astype(np.float32)
    fast, plain = (oi.saliency(model, x, engine=Engine("cpu", 1, lowering=on)).values for on in (True, False))
    np.testing.assert_allclose(fast, plain, rtol=1e-5)
