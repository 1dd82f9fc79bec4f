"""Where scores are, and what a result says of them: classes, numbers, scores before a final quantiser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

import onnx_inspect as oi
from onnx_inspect.cli import cli
from onnx_inspect.engine import Engine
from onnx_inspect.scores import scores

ENGINE = Engine()
W = np.array([[3, 4, 5], [3, 5, 1], [0, 1, 2], [1, 2, 2]], np.float32)  # (features, classes)
B = np.array([0.25, 0.25, -9], np.float32)
X = np.array([[2, 2, 0, 1], [0.1, 0.1, 0.1, 0.1]], np.float32)
SCALE, ZERO = np.float32(0.05), np.int8(-128)  # 0 to 12.75


def made(nodes: list[Any], outputs: dict[str, Any], weights: dict[str, Any], **inputs: Any) -> Any:
    """A model file of some nodes; sizes of inputs and outputs by name, None where none is stated."""
    kinds = {k: TensorProto.INT64 if k in ("label", "how") else TensorProto.FLOAT for k in (*inputs, *outputs)}
    graph = helper.make_graph(
        nodes,
        "made",
        [helper.make_tensor_value_info(k, kinds[k], v) for k, v in inputs.items()],
        [helper.make_tensor_value_info(k, kinds[k], v) for k, v in outputs.items()],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def quantised(end: str) -> Any:
    """Products rounded to int8, which saturate; behind that nothing, a bias and another quantiser, or a softmax."""
    node = helper.make_node
    nodes = [
        node("MatMul", ["x", "w"], ["u"]),
        node("QuantizeLinear", ["u", "scale", "zero"], ["q"]),
        node("DequantizeLinear", ["q", "scale", "zero"], ["out" if end == "pair" else "d"]),
    ]
    weights = {"w": W, "b": B, "scale": SCALE, "zero": ZERO, "wide": np.float32(0.25), "middle": np.int8(0)}
    if end == "bias":
        nodes += [
            node("Add", ["d", "b"], ["s"]),
            node("QuantizeLinear", ["s", "wide", "middle"], ["r"]),
            node("DequantizeLinear", ["r", "wide", "middle"], ["out"]),
        ]
    if end == "softmax":
        nodes.append(node("Softmax", ["d"], ["out"], axis=1))
    used = {k: v for k, v in weights.items() if any(k in n.input for n in nodes)}
    return made(nodes, {"out": ["N", 3]}, used, x=["N", 4])


@pytest.mark.parametrize("end", ["pair", "bias", "softmax"])
def test_scores_are_those_before_a_final_quantiser(end: str) -> None:
    file = quantised(end)
    real = ort.InferenceSession(file.SerializeToString()).run(None, {"x": X})[0].astype(np.float64)
    clean = X @ W + (B if end == "bias" else 0)
    found = oi.saliency(oi.load(file), X, engine=ENGINE, signed=True)
    classes = real.argmax(axis=1)
    assert classes.tolist() == [0, 1]  # 13, 20 and 14 are all 12.75 there: the first of them is what the model says
    np.testing.assert_allclose(found.scores, clean[np.arange(2), classes], rtol=1e-5)
    np.testing.assert_allclose(found.values, W.T[classes], rtol=1e-5)
    p = real if end == "softmax" else np.exp(real) / np.exp(real).sum(axis=1, keepdims=True)
    np.testing.assert_allclose([e.probability for e in found.explained], p.max(axis=1), rtol=1e-4)  # type: ignore[union-attr]
    assert [e.index for e in found.explained] == classes.tolist()  # type: ignore[union-attr]
    assert any("before the final quantiser" in note for note in found.notes)


def test_the_quantised_output_itself_is_flat() -> None:
    model = oi.load(quantised("bias"))
    whole = oi.saliency(model, X, 1, engine=ENGINE, signed=True, score="output")
    np.testing.assert_allclose(whole.scores, [13, 1.5], rtol=1e-6)  # 12.75 + 0.25; 1.45 to steps of 0.25
    np.testing.assert_array_equal(whole.values, [[0] * 4, W[:, 1]])
    element = oi.saliency(model, X, "out[1]", engine=ENGINE, signed=True)
    np.testing.assert_allclose(element.scores, (X @ W + B)[:, 1], rtol=1e-5)
    np.testing.assert_allclose(element.values, np.tile(W[:, 1], (2, 1)), rtol=1e-6)
    second = oi.saliency(model, X, "top:2", engine=ENGINE)
    np.testing.assert_allclose(second.scores, [20.25, (X @ W + B)[1, 0]], rtol=1e-5)


def lone(**more: Any) -> Any:
    return made(
        [helper.make_node("MatMul", ["x", "w"], ["area"])], {"area": ["N", 1], **more}, {"w": W[:, :1]}, x=["N", 4]
    )


def test_a_lone_number_is_no_class() -> None:
    x = X * [[1], [-1]]
    found = oi.input_x_gradient(oi.load(lone()), x, engine=ENGINE)
    assert found.target == "area[0]"
    np.testing.assert_allclose(found.scores, [13, -0.7], rtol=1e-5)  # of its own sign
    assert found.predictions == [[], []]
    assert found.lines(1) == ["score -0.7 of area[0]"]
    [note] = [n for n in found.notes if n.startswith("target:")]
    assert note.endswith("nothing says that it is a yes or no (--target 1 reads it so)")
    asked = oi.input_x_gradient(oi.load(lone()), x, 1, engine=ENGINE)
    assert [e.label for e in asked.explained] == ["class 1", "class 1"]  # type: ignore[union-attr]
    assert asked.lines(1) == []
    vector = made([helper.make_node("ReduceSum", ["x", "a"], ["y"], keepdims=0)], {"y": ["N"]}, {"a": [1]}, x=["N", 4])
    assert oi.saliency(oi.load(vector), X, engine=ENGINE).target == "'y'"


@pytest.mark.parametrize("said", ["names", "label", "sigmoid"])
def test_a_lone_number_of_a_classifier_is_a_yes_or_no(said: str) -> None:
    file, how = lone(), {}
    if said == "names":
        how = {"labels": ["no", "yes"]}
    elif said == "sigmoid":
        file.graph.node[0].output[0] = "u"
        file.graph.node.append(helper.make_node("Sigmoid", ["u"], ["area"]))
    else:
        file = lone(label=["N"])
        nodes = [
            helper.make_node("Greater", ["area", "zero"], ["over"]),
            helper.make_node("Cast", ["over"], ["c"], to=7),
        ]
        file.graph.node.extend([*nodes, helper.make_node("Squeeze", ["c", "one"], ["label"])])
        file.graph.initializer.append(numpy_helper.from_array(np.float32(0), "zero"))
        file.graph.initializer.append(numpy_helper.from_array(np.array([1]), "one"))
    found = oi.saliency(oi.load(file), X * [[1], [-1]], engine=ENGINE, **how)
    assert [e.index for e in found.explained] == [1, 0]  # type: ignore[union-attr]


@pytest.mark.parametrize("end", ["Relu", "Tanh", "Softplus", "length"])
def test_numbers_that_end_in_no_score_are_no_classes(end: str) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["u"])]
    if end == "length":
        nodes += [helper.make_node("ReduceL2", ["u", "one"], ["l"]), helper.make_node("Max", ["l", "tiny"], ["m"])]
        nodes += [helper.make_node("Div", ["u", "m"], ["y"])]
    else:
        nodes += [helper.make_node(end, ["u"], ["y"])]
    weights = {"w": W, "one": np.array([1]), "tiny": np.float32(1e-9)}
    used = {k: v for k, v in weights.items() if any(k in n.input for n in nodes)}
    found = oi.saliency(oi.load(made(nodes, {"y": ["N", 3]}, used, x=["N", 4])), X, engine=ENGINE)
    assert found.predictions == [[], []]
    assert found.lines() == [f"score {found.scores[0]:.4g} of top"]
    assert any("'y' holds no classes: top is its largest" in n for n in found.notes)
    # A sum in the denominator makes probabilities.
    shares = [nodes[0], helper.make_node("ReduceSum", ["u", "one"], ["l"]), helper.make_node("Div", ["u", "l"], ["y"])]
    file = made(shares, {"y": ["N", 3]}, {"w": W, "one": np.array([1])}, x=["N", 4])
    assert len(oi.saliency(oi.load(file), X, engine=ENGINE).predictions[0]) == 3


def test_an_output_of_unknown_shape_is_no_lone_number(tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["u"]), helper.make_node("Reshape", ["u", "how"], ["logits"])]
    file = made(nodes, {"logits": None}, {"w": W}, x=["N", 4], how=["R"])
    (tmp_path / "model.onnx").write_bytes(file.SerializeToString())
    assert scores(oi.load(file)).count is None
    found = oi.saliency(oi.load(file), {"x": X, "how": np.array([-1, 3])}, engine=ENGINE)
    assert [p.index for p in found.predictions[0]] == [1, 2, 0]
    for command in ("info", "layers"):
        said = CliRunner().invoke(cli, [command, str(tmp_path / "model.onnx")]).output
        assert "of unknown rank" in said
        assert "scalar" not in said
