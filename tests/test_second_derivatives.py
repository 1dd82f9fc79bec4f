"""The gradient of a gradient: what rules emit has rules, and Hessian-vector products agree with differences."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnx_inspect as oi
from onnx_inspect.autodiff.table import RULES
from onnx_inspect.errors import MissingRule
from onnx_inspect.structure import key

from .double import Double
from .rules.harness import Case, build, differentiable, normal
from .test_rules import CASES

FIRST = {c.op: c for c in CASES}


@pytest.mark.parametrize("case", FIRST.values(), ids=FIRST)
def test_what_rules_emit_has_rules(case: Case) -> None:
    model = oi.load(build(case, TensorProto.FLOAT, symbolic=False))
    ys = [o.name for o in model.outputs if o.dtype == "float32"]
    adjoint = oi.vjp(model, [f"x{i}" for i in differentiable(case)], ys)
    emitted = {key(node) for node in adjoint.ir.graph.all_nodes()}
    assert not emitted - set(RULES)


def net(kind: int, nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray], shape: tuple[int, ...]) -> oi.Model:
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", kind, None)],
        [numpy_helper.from_array(w.astype(dtype) if w.dtype.kind == "f" else w, n) for n, w in weights.items()],
    )
    return oi.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10))


def mlp() -> oi.Model:
    n = helper.make_node
    nodes = [
        n("Gemm", ["x", "w1", "b1"], ["a"]),
        n("LayerNormalization", ["a", "s", "b1"], ["l"]),
        n("Tanh", ["l"], ["g"]),
        n("MatMul", ["g", "w2"], ["z"]),
        n("Softmax", ["z"], ["y"]),
    ]
    weights = {"w1": normal(4, 6), "b1": normal(6), "s": 1 + 0.1 * normal(6), "w2": normal(6, 3)}
    return net(TensorProto.FLOAT, nodes, weights, (2, 4))


def cnn() -> oi.Model:
    n = helper.make_node
    nodes = [
        n("Conv", ["x", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1], strides=[2, 1]),
        n("BatchNormalization", ["c1", "s", "b1", "m", "v"], ["n1"]),
        n("Tanh", ["n1"], ["r1"]),
        n("MaxPool", ["r1"], ["p1"], kernel_shape=[2, 3], strides=[1, 2]),
        n("Conv", ["p1", "w2"], ["c2"], group=2, dilations=[1, 2]),
        n("Sigmoid", ["c2"], ["g"]),
        n("Mul", ["c2", "g"], ["swish"]),
        n("AveragePool", ["swish"], ["p2"], kernel_shape=[2, 2], pads=[0, 1, 1, 0]),
        n("Flatten", ["p2"], ["f"]),
        n("MatMul", ["f", "w3"], ["z"]),
        n("Tanh", ["z"], ["y"]),
    ]
    weights = {
        "w1": normal(4, 3, 3, 2), "b1": normal(4), "s": 1 + 0.1 * normal(4), "m": normal(4), "v": 0.5 + normal(4) ** 2,
        "w2": normal(4, 2, 2, 2), "w3": 0.3 * normal(36, 5),
    }  # fmt: skip
    return net(TensorProto.FLOAT, nodes, weights, (1, 3, 9, 10))


@pytest.mark.parametrize("make", [mlp, cnn], ids=["mlp", "cnn"])
def test_hessian_vector_products(make: object) -> None:
    """H v, the gradient of <gradient, v>, along random directions; in float64."""
    model: oi.Model = make()  # type: ignore[operator]
    rng = np.random.default_rng(0)
    shape = [d if isinstance(d, int) else 2 if make is mlp else 1 for d in model.inputs[0].shape]
    x, v = rng.normal(size=shape), rng.normal(size=shape)
    first = oi.vjp(model, ["x"], ["y"])
    second = Double(oi.vjp(first, ["x"], ["gradient.x"]).to_bytes())
    gradient, forward = Double(first.to_bytes()), Double(model.to_bytes())
    c = rng.normal(size=forward({"x": x})[0].shape)
    (product,) = second({"x": x, "cotangent.y": c, "cotangent.gradient.x": v})
    plus, minus = (gradient({"x": x + s * 1e-6 * v, "cotangent.y": c})[0] for s in (1, -1))
    expected = (plus - minus) / 2e-6
    assert np.linalg.norm(expected) > 1e-2
    assert np.linalg.norm(product - expected) <= 1e-6 * np.linalg.norm(expected)


def test_an_operator_without_a_rule_is_named_there_too(monkeypatch: pytest.MonkeyPatch) -> None:
    first = oi.vjp(mlp(), ["x"], ["y"])
    monkeypatch.delitem(RULES, "Softmax")
    with pytest.raises(MissingRule, match="Softmax"):
        oi.vjp(first, ["x"], ["gradient.x"])
