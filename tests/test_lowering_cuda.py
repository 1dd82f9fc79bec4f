"""The table of the CUDA provider: what it emits computes the same (on the CPU), and asks for nothing without a kernel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import onnx_inspect as oi
from onnx_inspect.engine import Engine
from onnx_inspect.lowering import CUDA, lower
from onnx_inspect.model import Model

from . import nets

PLAIN = Engine("cpu", threads=1, lowering=False)
ZOO = Path(__file__).parent / "zoo"
F = np.float32


def net(nodes: list[Any], x: tuple[int | str, ...], opset: int = 21, **weights: Any) -> Model:
    """A graph from x to y."""
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "net",
        [info("x", TensorProto.FLOAT, x)],
        [info("y", TensorProto.FLOAT, [None] * len(x))],
        [numpy_helper.from_array(np.asarray(v, F), k) for k, v in weights.items()],
    )
    return oi.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10))


def both(model: Model, x: np.ndarray) -> tuple[Model, np.ndarray, np.ndarray]:
    """The gradient as lowered, and x's cotangent for a random one of y, as built and lowered."""
    gradient = oi.vjp(model, ["x"], ["y"])
    lowered = lower(gradient, CUDA)
    y = PLAIN.run(model, {"x": x})["y"]
    feeds = {"x": x, "cotangent.y": np.random.default_rng(0).normal(size=y.shape).astype(F)}
    return lowered, *(PLAIN.run(m, feeds)["gradient.x"] for m in (gradient, lowered))


def ours(model: Model, op: str) -> list[Any]:
    return [n for n in model.ir.graph if n.op_type == op and (n.name or "").startswith("inspect/")]


def unequal(model: Model) -> int:
    """Transposed convolutions with pads that differ between the two sides, which the provider leaves to the CPU."""
    pads = [list(n.attributes.get_ints("pads", ())) for n in ours(model, "ConvTranspose")]
    return sum(p[: len(p) // 2] != p[len(p) // 2 :] for p in pads)


@settings(derandomize=True, database=None, deadline=None, max_examples=150)
@given(st.data())
def test_any_convolution(data: st.DataObject) -> None:
    rank = data.draw(st.integers(1, 3))
    group, known = data.draw(st.sampled_from([1, 2])), data.draw(st.booleans())
    sizes = [st.integers(1, 4), st.integers(1, 3), st.integers(1, 2), st.integers(0, 3), st.integers(0, 3)]
    kernel, strides, dilations, begin, end = (data.draw(st.lists(s, min_size=rank, max_size=rank)) for s in sizes)
    extent = data.draw(st.lists(st.integers(7, 10), min_size=rank, max_size=rank))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    how: dict[str, Any] = {"strides": strides, "dilations": dilations, "pads": begin + end, "group": group}
    w = rng.normal(size=(4, 4 // group, *kernel))
    shape = ("N", 4, *(extent if known else "HWD"[:rank]))
    model = net([helper.make_node("Conv", ["x", "w"], ["y"], **how)], shape, w=w)
    lowered, expected, found = both(model, rng.normal(size=(2, 4, *extent)).astype(F))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert unequal(lowered) == 0


@pytest.mark.parametrize(("pads", "cut"), [([1, 1, 1, 1], 0), ([0, 1, 0, 1], 0), ([0, 1, 1, 1], 1), ([2, 0, 0, 0], 1)])
def test_only_unequal_pads_are_rewritten(pads: list[int], cut: int) -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], pads=pads)
    gradient = oi.vjp(net([node], ("N", 2, 9, 9), w=np.ones((4, 2, 3, 3))), ["x"], ["y"])
    assert unequal(gradient) == cut
    lowered = lower(gradient, CUDA)
    assert (len(ours(lowered, "ConvTranspose")), unequal(lowered), lowered is gradient) == (1, 0, not cut)


def test_what_the_model_has_stays() -> None:
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], pads=[0, 1, 1, 0])
    model = net([node], ("N", 2, 9, 9), w=np.ones((2, 4, 3, 3)))
    assert lower(model, CUDA) is model


@pytest.mark.parametrize("file", ["jax_mbv3", "jax_cnn", "keras_tensorflow_cnn", "keras_torch_cnn"])
def test_networks(file: str) -> None:
    """Exporters pad unequally, as TensorFlow does."""
    model = oi.load(ZOO / f"{file}.onnx")
    shape = [1 if not isinstance(n, int) else n for n in model.inputs[0].shape]
    x = np.random.default_rng(0).uniform(size=shape).astype(F)
    gradient = oi.gradient(model, "top", [model.inputs[0].name])
    lowered = lower(gradient, CUDA)
    assert unequal(gradient) > unequal(lowered) == 0
    expected, found = (PLAIN.run(m, {model.inputs[0].name: x}) for m in (gradient, lowered))
    name = f"gradient.{model.inputs[0].name}"
    assert np.abs(found[name] - expected[name]).max() <= 1e-5 * np.abs(expected[name]).max()


def test_a_lowered_model_is_valid() -> None:
    gradient = oi.gradient(oi.load(nets.classifier(size="HW")), "top", ["image"])
    lowered = lower(gradient, CUDA)
    assert unequal(gradient) and not unequal(lowered)
    onnx.checker.check_model(lowered.to_proto(), full_check=True)
    assert [v.name for v in lowered.ir.graph.outputs] == [v.name for v in gradient.ir.graph.outputs]
