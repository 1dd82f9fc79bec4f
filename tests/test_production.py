"""Forms that production files come in: networks within branches, fused attention, weights beyond 2 GB."""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnx_inspect as oi
from onnx_inspect.decompose.fusion import unfused
from onnx_inspect.engine import Engine
from onnx_inspect.rewrite import settled

from . import nets

ENGINE = Engine("cpu", threads=1)
X = nets.images(3)
INT64, BOOL = TensorProto.INT64, TensorProto.BOOL
node = helper.make_node


# Branches.


def branch(model: onnx.ModelProto, tag: str, factor: float) -> tuple[onnx.GraphProto, onnx.TensorProto]:
    """A network as a branch of an If, its scores times a factor; and that factor."""
    renamed = {y: f"{tag}_{y}" for n in model.graph.node for y in n.output}
    nodes = []
    for old in model.graph.node:
        new = onnx.NodeProto.FromString(old.SerializeToString())
        new.input[:] = [renamed.get(x, x) for x in old.input]
        new.output[:] = [renamed[y] for y in old.output]
        nodes.append(new)
    weight = numpy_helper.from_array(np.float32(factor), f"{tag}_factor")
    nodes.append(node("Mul", [renamed[model.graph.output[0].name], weight.name], [f"{tag}.out"]))
    scores = helper.make_tensor_value_info(f"{tag}.out", TensorProto.FLOAT, None)
    return helper.make_graph(nodes, tag, [], [scores]), weight


CONDITIONS: dict[str, tuple[list[Any], list[Any], list[Any]]] = {  # nodes, weights and inputs that make `c`
    "weight": ([], [numpy_helper.from_array(np.array(False), "c")], []),
    "constant": ([node("Constant", [], ["c"], value=numpy_helper.from_array(np.array(False)))], [], []),
    "channels": (
        [
            node("Shape", ["image"], ["s"]),
            node("Gather", ["s", "axis"], ["n"]),
            node("Equal", ["n", "four"], ["e"]),
            node("Not", ["e"], ["f"]),
            node("And", ["f", "f"], ["c"]),
        ],
        [numpy_helper.from_array(np.int64(1), "axis"), numpy_helper.from_array(np.int64(3), "four")],
        [],
    ),
    "samples": (
        [node("Shape", ["image"], ["s"]), node("Gather", ["s", "axis"], ["n"]), node("Less", ["n", "two"], ["c"])],
        [numpy_helper.from_array(np.int64(0), "axis"), numpy_helper.from_array(np.int64(2), "two")],
        [],
    ),
    "height": (
        [
            node("Shape", ["image"], ["s"]),
            node("Slice", ["s", "from", "to"], ["n"]),
            node("Greater", ["n", "most"], ["c"]),
        ],
        [numpy_helper.from_array(np.array([v]), k) for k, v in (("from", 2), ("to", 3), ("most", 99))],
        [],
    ),
    "flag": ([], [], [helper.make_tensor_value_info("c", BOOL, [])]),
    "rate": (
        [node("Equal", ["rate", "known"], ["c"])],
        [numpy_helper.from_array(np.int64(16000), "known")],
        [helper.make_tensor_value_info("rate", INT64, [])],
    ),
    "pixels": (
        [node("ReduceMax", ["image"], ["m"], keepdims=0), node("Greater", ["m", "bound"], ["c"])],
        [numpy_helper.from_array(np.float32(1e6), "bound")],
        [],
    ),
}
GIVEN = {"flag": {"c": np.array(False)}, "rate": {"rate": np.array(8000)}}


def within_an_if(condition: str, sizes: tuple[Any, ...] = ("N", 3, 12, 12)) -> onnx.ModelProto:
    """A classifier that is the second branch of an If; in the first it gives 5 times its scores."""
    model = nets.classifier()
    (first, five), (second, one) = branch(model, "a", 5), branch(model, "b", 1)
    nodes, weights, inputs = CONDITIONS[condition]
    graph = helper.make_graph(
        [*nodes, node("If", ["c"], ["y"], then_branch=first, else_branch=second)],
        "branches",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, sizes), *inputs],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [*model.graph.initializer, five, one, *weights],
    )
    return helper.make_model(graph, opset_imports=list(model.opset_import), ir_version=8)


def operators(model: oi.Model) -> Counter[str]:
    return Counter(n.op_type for n in model.ir.graph)


def same(model: oi.Model, feeds: dict[str, Any]) -> None:
    """The scores and the map of the network as it is without an If."""
    plain = oi.load(nets.classifier())
    name = plain.inputs[0].name
    scores = ENGINE.run(model, feeds)["y"]
    np.testing.assert_allclose(scores, next(iter(ENGINE.run(plain, {name: X}).values())), rtol=1e-6)
    np.testing.assert_allclose(
        oi.gradcam(model, feeds, target=2, engine=ENGINE).values,
        oi.gradcam(plain, X, target=2, engine=ENGINE).values,
        rtol=1e-5,
    )


@pytest.mark.parametrize("condition", ["weight", "constant", "channels"])
def test_a_branch_that_is_always_taken_stands_in_the_open(condition: str) -> None:
    model = oi.load(within_an_if(condition))
    assert "If" not in operators(model)
    assert [o.name for o in model.outputs] == ["y"]
    same(model, {"image": X})


@pytest.mark.parametrize("condition", ["flag", "rate", "height"])
def test_a_branch_that_a_call_decides(condition: str) -> None:
    sizes = ("N", 3, "H", "W") if condition == "height" else ("N", 3, 12, 12)
    model = oi.load(within_an_if(condition, sizes))
    feeds = {"image": X, **GIVEN.get(condition, {})}
    assert operators(model)["If"] == 1
    taken = settled(model, feeds, lambda: {"image": 0})
    assert "If" not in operators(taken)
    same(taken, feeds)
    assert settled(model, feeds, lambda: {"image": 0}) is taken
    assert taken.digest != model.digest


@pytest.mark.parametrize("condition", ["samples", "pixels"])
@pytest.mark.parametrize("batch", ["N", 3])
def test_a_branch_that_samples_decide_stays(condition: str, batch: Any) -> None:
    model = oi.load(within_an_if(condition, (batch, 3, 12, 12)))
    assert operators(model)["If"] == 1
    assert settled(model, {"image": X}, lambda: {"image": 0}) is model or (condition, batch) == ("samples", 3)


def test_branches_within_branches() -> None:
    inner = within_an_if("rate")
    (first, five), (second, one) = branch(inner, "c", 5), branch(inner, "d", 1)
    graph = helper.make_graph(
        [node("Not", ["flag"], ["n"]), node("If", ["n"], ["z"], then_branch=second, else_branch=first)],
        "outer",
        [*inner.graph.input, helper.make_tensor_value_info("flag", BOOL, [])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)],
        [*inner.graph.initializer, five, one],
    )
    model = oi.load(helper.make_model(graph, opset_imports=list(inner.opset_import), ir_version=8))
    feeds = {"image": X, "rate": np.array(8000), "flag": np.array(False)}
    taken = settled(model, feeds, lambda: {"image": 0})
    assert "If" not in operators(taken)
    np.testing.assert_allclose(ENGINE.run(taken, feeds)["z"], ENGINE.run(model, feeds)["z"], rtol=1e-5)


def test_what_a_branch_gives_twice() -> None:
    """Outputs keep their names."""
    branches = [
        helper.make_graph(
            [node(op, ["x", "x"], [op])], op, [], 2 * [helper.make_tensor_value_info(op, TensorProto.FLOAT, None)]
        )
        for op in ("Mul", "Sub")
    ]
    graph = helper.make_graph(
        [node("If", ["c"], ["u", "v"], then_branch=branches[0], else_branch=branches[1]), node("Neg", ["u"], ["s"])],
        "twice",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2])],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", 2]) for n in ("s", "v", "u")],
        [numpy_helper.from_array(np.array([True]), "c")],
    )
    model = oi.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    x = np.array([[1, 2], [3, 4]], np.float32)
    assert "If" not in operators(model)
    assert {k: v.tolist() for k, v in ENGINE.run(model, {"x": x}).items()} == {
        "s": (-x * x).tolist(),
        "v": (x * x).tolist(),
        "u": (x * x).tolist(),
    }


# Attention.

SEEN = np.random.default_rng(4).random((2, 1, 5, 5)) > 0.4
SEEN[0, 0, 3] = False  # a query that may look at nothing
FORMS: dict[str, tuple[dict[str, Any], tuple[int, ...], tuple[int, ...], Any]] = {
    "plain": (dict(q_num_heads=2, kv_num_heads=2), (2, 5, 8), (2, 5, 8), None),
    "four axes": ({}, (2, 2, 5, 4), (2, 2, 5, 4), None),
    "grouped": (dict(q_num_heads=4, kv_num_heads=2), (2, 5, 16), (2, 5, 8), None),
    "grouped, four axes": ({}, (2, 4, 5, 4), (2, 2, 5, 4), None),
    "causal": (dict(q_num_heads=2, kv_num_heads=2, is_causal=1), (2, 5, 8), (2, 5, 8), None),
    "capped": (dict(q_num_heads=2, kv_num_heads=2, softcap=0.5, scale=0.7), (2, 5, 8), (2, 5, 8), None),
    "masked": (dict(q_num_heads=2, kv_num_heads=2), (2, 5, 8), (2, 5, 8), SEEN),
    "added": (dict(q_num_heads=2, kv_num_heads=2), (2, 5, 8), (2, 5, 8), np.where(SEEN, 0.3, -np.inf)),
}


def attention(form: str) -> tuple[oi.Model, dict[str, Any]]:
    """A model of one Attention, and numbers for it."""
    attributes, queries, keys, mask = FORMS[form]
    rng = np.random.default_rng(2)
    feeds = {n: rng.normal(size=s).astype(np.float32) for n, s in (("q", queries), ("k", keys), ("v", keys))}
    if mask is not None:
        feeds["mask"] = mask if mask.dtype == bool else mask.astype(np.float32)
    graph = helper.make_graph(
        [node("Attention", list(feeds), ["y"], **attributes)],
        "attention",
        [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape) for n, v in feeds.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    return oi.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)), feeds


@pytest.mark.parametrize("form", FORMS)
def test_attention_written_out(form: str) -> None:
    model, feeds = attention(form)
    whole = model.clone()
    assert unfused(whole.ir)
    whole = whole.derived("unfused")
    assert operators(model)["Attention"] == 1
    assert operators(whole)["Attention"] == 0
    assert operators(whole)["Softmax"] == 1
    np.testing.assert_allclose(ENGINE.run(whole, feeds)["y"], ENGINE.run(model, feeds)["y"], atol=2e-6)


def test_fused_attention_has_the_relevance_of_its_parts() -> None:
    """The same network with Attention, and with products and a Softmax: both kinds of relevance are the same."""
    rng = np.random.default_rng(0)
    weights = {k: rng.normal(size=(8, 8)).astype(np.float32) / 2 for k in ("wq", "wk", "wv")}
    weights["wo"] = rng.normal(size=(8, 3)).astype(np.float32)
    before = [node("MatMul", ["x", w], [w[1]]) for w in ("wq", "wk", "wv")]
    after = [node("ReduceMean", ["a", "axis"], ["p"], keepdims=0), node("MatMul", ["p", "wo"], ["y"])]
    fused = [node("Attention", ["q", "k", "v"], ["a"], q_num_heads=1, kv_num_heads=1)]
    parts = [
        node("Transpose", ["k"], ["t"], perm=[0, 2, 1]),
        node("MatMul", ["q", "t"], ["m"]),
        node("Mul", ["m", "scale"], ["s"]),
        node("Softmax", ["s"], ["w"]),
        node("MatMul", ["w", "v"], ["a"]),
    ]
    extra = {"axis": np.array([1]), "scale": np.float32(8**-0.5)}
    x, found = rng.normal(size=(2, 5, 8)).astype(np.float32), {}
    for name, middle in (("fused", fused), ("parts", parts)):
        graph = helper.make_graph(
            [*before, *middle, *after],
            name,
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 5, 8])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])],
            [numpy_helper.from_array(np.asarray(v), k) for k, v in (weights | extra).items()],
        )
        model = oi.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10))
        for way in ("values", "attnlrp"):
            found[name, way] = oi.lrp(model, x, target=1, attention=way, engine=ENGINE, composite="epsilon").values
    for way in ("values", "attnlrp"):
        np.testing.assert_allclose(found["fused", way], found["parts", way], rtol=1e-3, atol=1e-5)
    assert np.abs(found["parts", "values"] - found["parts", "attnlrp"]).max() > 0.01


@pytest.mark.parametrize("condition", ["flag", "rate"])
def test_methods_take_the_branch_that_is_asked_for(condition: str) -> None:
    feeds = {"image": X, **GIVEN[condition]}
    same(oi.load(within_an_if(condition)), feeds)


# Defaults that fit.


WEIGHTS = {k: np.random.default_rng(0).normal(size=s).astype(np.float32) for k, s in (("w", (6, 5)), ("v", (5, 2)))}


def mlp() -> oi.Model:
    graph = helper.make_graph(
        [node("MatMul", ["x", "w"], ["m"]), node("Relu", ["m"], ["r"]), node("MatMul", ["r", "v"], ["y"])],
        "mlp",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2])],
        [numpy_helper.from_array(v, k) for k, v in WEIGHTS.items()],
    )
    return oi.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


def test_the_usual_relevance_of_dense_layers_tells_inputs_apart() -> None:
    model = mlp()
    x = np.random.default_rng(1).normal(size=(3, 6)).astype(np.float32)
    found = oi.lrp(model, x, target=1, engine=ENGINE)
    gate = (x @ WEIGHTS["w"] > 0) * WEIGHTS["v"][:, 1]
    np.testing.assert_allclose(found.values, x * (gate @ WEIGHTS["w"].T), rtol=1e-3, atol=1e-5)
    assert any("--composite" in note for note in found.notes)
    flat = oi.lrp(model, x, target=1, engine=ENGINE, preset="zennit").values
    assert np.ptp(flat, axis=1).max() < 1e-6


def test_a_picture_of_one_superpixel_is_divided_all_the_same() -> None:
    model = oi.load(nets.classifier(metadata={"preprocessing": "raw"}))
    grey = np.full((1, 3, 12, 12), 100, np.float32)
    found = oi.lime(model, grey, target=1, samples=80, baseline="0", engine=ENGINE)
    assert found.extra["features"].max() + 1 == 64
    assert any("grid:8" in note for note in found.notes)


# Inputs without samples.


@pytest.mark.parametrize("axes", [[0], [0, 1]])
@pytest.mark.parametrize("squeezed", [False, True])
def test_an_input_without_samples_gets_them(axes: list[int], squeezed: bool) -> None:
    rng = np.random.default_rng(0)
    sizes = [64] if axes == [0, 1] else [2, 64]
    weights = {"w": rng.normal(size=(6, 3 - len(axes), 5)), "v": rng.normal(size=(6, 3))}
    nodes = [
        node("Unsqueeze", ["x", "axes"], ["u"]),
        node("Conv", ["u", "w"], ["c"]),
        node("Relu", ["c"], ["r"]),
        node("GlobalAveragePool", ["r"], ["g"]),
        node("Flatten", ["g"], ["f"]),
        node("MatMul", ["f", "v"], ["scores"]),
        *([node("Squeeze", ["scores", "first"], ["y"])] if squeezed else []),
    ]
    graph = helper.make_graph(
        nodes,
        "unbatched",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, sizes)],
        [helper.make_tensor_value_info("y" if squeezed else "scores", TensorProto.FLOAT, None)],
        [
            *(numpy_helper.from_array(v.astype(np.float32), k) for k, v in weights.items()),
            numpy_helper.from_array(np.array(axes), "axes"),
            numpy_helper.from_array(np.array([0]), "first"),
        ],
    )
    model = oi.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    x = rng.normal(size=sizes).astype(np.float32)
    assert any("no axis for samples" in note for note in model.notes)
    assert model.batch_relaxed
    whole = oi.input_x_gradient(model, x, target=1, engine=ENGINE)
    assert whole.values.shape == (1, *sizes)
    np.testing.assert_allclose(whole.values.sum(), whole.scores[0], rtol=1e-5)  # no biases
    assert oi.occlusion(model, x, target=1, engine=ENGINE).values.any()
    if axes == [0]:
        assert oi.gradcam(model, x, target=1, engine=ENGINE).values.shape == (1, 60)


def test_heavy_weights_are_held_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond a size weights are not packed for each product, and gradients read them as they are."""
    from onnx_inspect import sessions

    model, x = mlp(), np.random.default_rng(1).normal(size=(3, 6)).astype(np.float32)
    light = oi.saliency(model, x, target=1, engine=Engine("cpu", threads=1)).values
    monkeypatch.setattr(sessions, "_HEAVY", 0)
    heavy = oi.saliency(model, x, target=1, engine=Engine("cpu", threads=1)).values
    np.testing.assert_allclose(heavy, light, atol=1e-6)
    gradient = oi.gradient(model, 1, ["x"])
    weights = {v for v in gradient.ir.graph.initializers.values() if v.name in WEIGHTS}
    assert len(weights) == 2
    assert not any(n.op_type == "Transpose" and n.inputs[0] in weights for n in gradient.ir.graph)


@pytest.mark.parametrize("dense", [True, False])
def test_dense_layers_of_vectors_are_not_packed(dense: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A vector takes as long to multiply with packed weights, which are a copy for each product."""
    from onnx_inspect import sessions

    packed = []
    inner = sessions.opened

    def opened(data: bytes, options: Any, providers: Any) -> Any:
        with contextlib.suppress(RuntimeError):  # nothing said
            packed.append(options.get_session_config_entry("session.disable_prepacking") != "1")
        return inner(data, options, providers)

    monkeypatch.setattr(sessions, "opened", opened)
    model = mlp() if dense else oi.load(nets.classifier())
    x = np.ones((2, 6), np.float32) if dense else X
    oi.saliency(model, x, target=1, engine=Engine("cpu", threads=1))
    assert packed == ([False] if dense else [])


def test_weights_that_are_inputs_twice() -> None:
    """onnxruntime runs such files."""
    model = nets.classifier()
    for _ in range(2):
        for weight in model.graph.initializer:
            model.graph.input.append(helper.make_tensor_value_info(weight.name, weight.data_type, weight.dims))
    model.opset_import[0].version = 13
    found = ENGINE.run(oi.load(model), {"image": X})
    plain = ENGINE.run(oi.load(nets.classifier()), {"image": X})
    np.testing.assert_allclose(next(iter(found.values())), next(iter(plain.values())), rtol=1e-5)


@pytest.mark.parametrize("final", ["", "Softmax"])
def test_a_classifier_that_gives_but_its_label(final: str) -> None:
    model = nets.classifier(final=final)
    scores = model.graph.output.pop()
    model.graph.node.append(node("ArgMax", [scores.name], ["label"], axis=1, keepdims=0))
    model.graph.output.append(helper.make_tensor_value_info("label", INT64, ["N"]))
    found = oi.gradcam(oi.load(model), X, target=2, engine=ENGINE)
    plain = oi.gradcam(oi.load(nets.classifier(final=final)), X, target=2, engine=ENGINE)
    np.testing.assert_array_equal(found.values, plain.values)
    assert [row[0].index for row in found.predictions] == [row[0].index for row in plain.predictions]
