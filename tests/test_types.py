"""Half precision, float64, empty tensors and scalars."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnx_inspect.autodiff.gradient import vjp
from onnx_inspect.errors import InputError
from onnx_inspect.model import Model

from .rules.harness import normal, run

FLOAT16, BFLOAT16, FLOAT = TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.FLOAT
info = helper.make_tensor_value_info


def net(kind: int, nodes: list[Any], shape: tuple[int, ...], weights: dict[str, Any] | None = None) -> onnx.ModelProto:
    """A graph from x to y in one element type."""
    initializers = [
        numpy_helper.from_array(np.asarray(w), name)
        if np.asarray(w).dtype == np.int64
        else helper.make_tensor(name, kind, np.shape(w), np.ravel(w))
        for name, w in (weights or {}).items()
    ]
    graph = helper.make_graph(nodes, "net", [info("x", kind, shape)], [info("y", kind, None)], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


TINY = [helper.make_node("Mul", ["x", "w"], ["a"]), helper.make_node("Mul", ["a", "w"], ["y"])]


@pytest.mark.parametrize(("precision", "expected"), [("float32", 1e-8), ("model", 0)])
def test_small_gradients_do_not_underflow(precision: Any, expected: float) -> None:
    model = Model.load(net(FLOAT16, TINY, (2,), {"w": np.float16(1e-4)}))
    adjoint = vjp(model, ["x"], ["y"], precision=precision)
    kind = np.float32 if precision == "float32" else np.float16
    found = run(adjoint.to_bytes(), {"x": np.ones(2, np.float16), "cotangent.y": np.ones(2, kind)})["gradient.x"]
    assert found.dtype == kind
    np.testing.assert_allclose(found, expected, rtol=2e-3)
    onnx.checker.check_model(adjoint.to_proto(), full_check=True)


def test_precision_must_be_known() -> None:
    with pytest.raises(InputError, match="There is no precision 'half': choose from float32, model"):
        vjp(Model.load(net(FLOAT16, TINY, (2,), {"w": np.float16(1)})), ["x"], ["y"], precision="half")  # type: ignore[arg-type]


def looped(kind: int) -> onnx.ModelProto:
    """y = x w³, by a Loop that takes w from outside, with a branch in its body; in one element type."""
    branches = {
        name: helper.make_graph([helper.make_node(op, ["s", "w"], [name])], name, [], [info(name, kind, [3])])
        for name, op in (("then_branch", "Mul"), ("else_branch", "Add"))
    }
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["going"], ["still"]),
            helper.make_node("Cast", ["going"], ["flag"], to=TensorProto.BOOL),
            helper.make_node("If", ["flag"], ["next"], **branches),
        ],
        "body",
        [info("i", TensorProto.INT64, []), info("going", TensorProto.BOOL, []), info("s", kind, [3])],
        [info("still", TensorProto.BOOL, []), info("next", kind, [3])],
    )
    nodes = [
        helper.make_node("Mul", ["v", "one"], ["w"]),
        helper.make_node("Loop", ["trips", "", "x"], ["y"], body=body),
    ]
    return net(kind, nodes, (3,), {"v": [0.5, 1.25, 2.0], "one": [1.0, 1.0, 1.0], "trips": np.array(3)})


@pytest.mark.parametrize("precision", ["float32", "model"])
def test_loops_and_branches_in_half_precision(precision: Any) -> None:
    adjoint = vjp(Model.load(looped(FLOAT16)), ["x", "v"], ["y"], precision=precision)
    kind = np.float32 if precision == "float32" else np.float16
    x, dy, v = np.array([1, 2, 3], np.float16), np.array([1, -1, 2], kind), np.array([0.5, 1.25, 2])
    found = run(adjoint.to_bytes(), {"x": x, "cotangent.y": dy})
    assert {y.dtype for y in found.values()} == {np.dtype(kind)}
    np.testing.assert_allclose(found["gradient.x"], dy * v**3, rtol=2e-3)
    np.testing.assert_allclose(found["gradient.v"], dy * x * 3 * v**2, rtol=2e-3)


@pytest.mark.parametrize("precision", ["float32", "model"])
def test_branches_whose_adjoint_needs_nothing_of_what_they_took(precision: Any) -> None:
    """The float32 copies that rules are shown leave no trace."""
    branches = {
        name: helper.make_graph([helper.make_node(op, ["x", "w"], [name])], name, [], [info(name, FLOAT16, [2])])
        for name, op in (("then_branch", "Add"), ("else_branch", "Sub"))
    }
    proto = net(FLOAT16, [helper.make_node("If", ["flag"], ["y"], **branches)], (2,), {"w": [0.5, 2.0]})
    proto.graph.input.append(info("flag", TensorProto.BOOL, []))
    adjoint = vjp(Model.load(proto), ["x", "w"], ["y"], precision=precision)
    dy = np.array([1, -3], np.float32 if precision == "float32" else np.float16)
    found = run(adjoint.to_bytes(), {"x": dy.astype(np.float16), "flag": np.array(False), "cotangent.y": dy})
    np.testing.assert_array_equal(found["gradient.x"], dy)
    np.testing.assert_array_equal(found["gradient.w"], -dy)


def test_bfloat16_in_optionals() -> None:
    kind = helper.make_tensor_type_proto(BFLOAT16, [2])
    branches = {
        name: helper.make_graph(
            [helper.make_node("Optional", xs, [name], **attributes)],
            name,
            [],
            [helper.make_value_info(name, helper.make_optional_type_proto(kind))],
        )
        for name, xs, attributes in (("then_branch", ["x"], {}), ("else_branch", [], {"type": kind}))
    }
    nodes = [
        helper.make_node("If", ["flag"], ["held"], **branches),
        helper.make_node("OptionalGetElement", ["held"], ["y"]),
    ]
    proto = net(BFLOAT16, nodes, (2,))
    proto.graph.input.append(info("flag", TensorProto.BOOL, []))
    x = np.array([1, -3], np.float32)
    np.testing.assert_array_equal(run(Model.load(proto).to_bytes(), {"x": x, "flag": np.array(True)})["y"], x)


def test_bfloat16_is_computed_in_float32() -> None:
    proto = looped(BFLOAT16)
    model = Model.load(proto)
    assert model.notes == ("bfloat16 numbers are computed in float32: onnxruntime has no bfloat16 kernels on the CPU",)
    x = np.array([1, 2, 3], np.float32)
    np.testing.assert_allclose(run(model.to_bytes(), {"x": x})["y"], x * np.array([0.5, 1.25, 2]) ** 3)
    assert run(vjp(model, ["x"], ["y"]).to_bytes(), {"x": x, "cotangent.y": x})["gradient.x"].dtype == np.float32


def test_bfloat16_in_attributes() -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["a"], to=FLOAT),
        helper.make_node("Cast", ["a"], ["b"], to=BFLOAT16),
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("ConstantOfShape", ["s"], ["c"], value=helper.make_tensor("v", BFLOAT16, [1], [2.0])),
        helper.make_node("Mul", ["b", "c"], ["y"]),
    ]
    model = Model.load(net(BFLOAT16, nodes, (2,)))
    x = np.array([1, -3], np.float32)
    np.testing.assert_array_equal(run(model.to_bytes(), {"x": x})["y"], 2 * x)


def test_float64_stays() -> None:
    adjoint = vjp(Model.load(net(TensorProto.DOUBLE, TINY, (2,), {"w": 1e-4})), ["x"], ["y"])
    found = run(adjoint.to_bytes(), {"x": np.ones(2), "cotangent.y": np.ones(2)})["gradient.x"]
    np.testing.assert_allclose(found, 1e-8, rtol=1e-12)


@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3)])
@pytest.mark.parametrize("symbolic", [False, True])
def test_scalars_and_empty_tensors(shape: tuple[int, ...], symbolic: bool) -> None:
    nodes = [
        helper.make_node("Tanh", ["x"], ["a"]),
        helper.make_node("Mul", ["a", "w"], ["b"]),
        helper.make_node("ReduceSum", ["b"], ["y"], keepdims=0),
    ]
    proto = net(FLOAT, nodes, shape, {"w": 3.0})
    for i, dim in enumerate(proto.graph.input[0].type.tensor_type.shape.dim):
        if symbolic:
            dim.dim_param = f"d{i}"
    x = normal(*shape).astype(np.float32)
    adjoint = vjp(Model.load(proto), ["x", "w"], ["y"])
    found = run(adjoint.to_bytes(), {"x": x, "cotangent.y": np.array(2, np.float32)})
    np.testing.assert_allclose(found["gradient.x"], 6 * (1 - np.tanh(x) ** 2), rtol=1e-5)
    np.testing.assert_allclose(found["gradient.w"], 2 * np.tanh(x).sum(), rtol=1e-5)


@pytest.mark.parametrize("shape", [(), (3,), (2, 1, 3)])
def test_unknown_rank(shape: tuple[int, ...]) -> None:
    nodes = [
        helper.make_node("Mul", ["x", "w"], ["a"]),
        helper.make_node("Softplus", ["a"], ["b"]),
        helper.make_node("Where", ["flags", "b", "x"], ["y"]),
    ]
    proto = net(FLOAT, nodes, (), {"w": [2.0, -1.0, 0.5]})
    proto.graph.initializer.append(numpy_helper.from_array(np.array([True, True, False]), "flags"))
    proto.graph.input[0].type.tensor_type.ClearField("shape")
    model = Model.load(proto)
    assert model.value("a").shape is None
    x = normal(*shape).astype(np.float32)
    w, flags = np.array([2, -1, 0.5], np.float32), np.array([1, 1, 0])
    dy = np.broadcast_to(x, np.broadcast_shapes(x.shape, (3,))).copy()
    found = run(vjp(model, ["x", "w"], ["y"]).to_bytes(), {"x": x, "cotangent.y": dy})
    slope = flags / (1 + np.exp(-x * w))
    dx = dy * (slope * w + 1 - flags)
    dx = dx.sum() if shape == () else dx
    np.testing.assert_allclose(found["gradient.x"], dx, rtol=1e-5)
    np.testing.assert_allclose(found["gradient.w"], (dy * slope * x).reshape(-1, 3).sum(0), rtol=1e-5)
