"""The language of targets, and the scores they mean."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from onnx import TensorProto, helper

import onnx_inspect as oi
from onnx_inspect.engine import Engine
from onnx_inspect.errors import ResultError, TargetError
from onnx_inspect.labels import Labels
from onnx_inspect.scores import scores
from onnx_inspect.target import Element, Index, Top, parse

from . import nets

ENGINE = Engine("cpu", threads=1)
X = nets.images(4)
LABELS = Labels(("cat", "dog, hound", "Löwe", "n01440764 tench, Tinca tinca"), "tests")


def score(model: oi.Model, target: object) -> np.ndarray:
    """The score that a target emits."""
    found = oi.gradient(model, target, ["image"])  # type: ignore[arg-type]
    feeds = {"image": X, **target.feeds(len(X))}  # type: ignore[attr-defined]
    return ENGINE.run(found, feeds, ["score"])["score"]


LOGITS = nets.forward(X)["logits"]
RANKED = -np.sort(-LOGITS, axis=1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("top", RANKED[:, 0]),
        ("top:1", RANKED[:, 0]),
        ("top:3", RANKED[:, 2]),
        ("2", LOGITS[:, 2]),
        (2, LOGITS[:, 2]),
        (np.int64(2), LOGITS[:, 2]),
        ("hound", LOGITS[:, 1]),
        ("dog, hound", LOGITS[:, 1]),
        ("LÖWE", LOGITS[:, 2]),
        ("n01440764", LOGITS[:, 3]),
        ([3, 0, "cat", "dog"], LOGITS[range(4), [3, 0, 0, 1]]),
        ("scores[1]", LOGITS[:, 1]),
        ("scores[-1]", LOGITS[:, 3]),
        ("scores[1:3]", LOGITS[:, 1:3].sum(axis=1)),
        ("scores[:]", LOGITS.sum(axis=1)),
        ("'scores'[-2:]", LOGITS[:, 2:].sum(axis=1)),
        ('"scores"[ :2 ]', LOGITS[:, :2].sum(axis=1)),
        ("'a:2/x;0'[1]", nets.forward(X)["a"][:, 1].sum(axis=(1, 2))),
        ("'a:2/x;0'[1, 2:4, 0]", nets.forward(X)["a"][:, 1, 2:4, 0].sum(axis=1)),
    ],
    ids=str,
)
def test_texts_mean_scores(text: object, expected: np.ndarray) -> None:
    model = oi.load(nets.classifier())
    np.testing.assert_allclose(score(model, parse(text, model, LABELS)), expected, rtol=1e-4, atol=1e-5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("top:0", "top:1"),
        ("top:5", "4 classes"),
        ("4", "no class 4"),
        ("-1", "no class -1"),
        ("lion", "No class is called 'lion'"),
        ("hond", "Did you mean"),
        ("nope[3]", "no output 'nope'"),
        ("scores[4]", "there is no 4"),
        ("scores[1, 2]", "too many indices"),
        ("scores[x]", "neither an index nor a slice"),
        ("scores[1.5]", "neither an index nor a slice"),
    ],
)
def test_texts_that_mean_nothing(text: str, said: str) -> None:
    model = oi.load(nets.classifier())
    with pytest.raises(TargetError, match=said):
        score(model, parse(text, model, LABELS))


@pytest.mark.parametrize(
    "target",
    [
        Top(),
        Top(3),
        Index(7),
        Element("scores", (1,)),
        Element("a:b", (None, (2, None), -1)),
        *(Element(name, (0,)) for name in ("it's", 'say "x"', "a[0]", "both ' and \"")),
    ],
    ids=str,
)
def test_text_and_target_are_one(target: object) -> None:
    model = oi.load(nets.classifier())
    if isinstance(target, Element):
        model.values.setdefault(target.output, model.values["scores"])
    assert parse(str(target), model, LABELS) == target


@pytest.mark.parametrize("final", ["Softmax", "Sigmoid", "LogSoftmax"])
def test_scores_are_found_before_the_activation(final: str) -> None:
    model = oi.load(nets.classifier(final=final))
    assert scores(model).tensor == "logits"
    assert scores(model, kind="output").tensor == "scores"
    assert scores(model).count == 4
    np.testing.assert_allclose(score(model, Element("scores", (1,))), LOGITS[:, 1], rtol=1e-4)
    after = score(model, Element("scores", (1,), kind="output"))
    assert not np.allclose(after, LOGITS[:, 1])


@pytest.mark.parametrize(
    "tail",
    [
        [("Identity", {})],
        [("Cast", dict(to=TensorProto.FLOAT))],
        [("Flatten", {}), ("Identity", {})],
        [("Unsqueeze", {"axes": [2, 3]}), ("Squeeze", {"axes": [2, 3]})],
        [("QuantizeLinear", {"scale": 0.01}), ("DequantizeLinear", {"scale": 0.01})],
        [("QuantizeLinear", {"scale": 0.004})],
    ],
    ids=lambda t: "+".join(op for op, _ in t),
)
def test_scores_are_found_through_passive_operators(tail: list[tuple[str, dict[str, object]]]) -> None:
    net = nets.classifier(final="Softmax")
    del net.graph.output[:]
    value = "scores"
    for k, (op, attributes) in enumerate(tail):
        inputs = [value]
        if "axes" in attributes:
            net.graph.initializer.append(helper.make_tensor(f"axes{k}", TensorProto.INT64, [2], attributes.pop("axes")))
            inputs.append(f"axes{k}")
        if "scale" in attributes:
            net.graph.initializer.append(
                helper.make_tensor(f"scale{k}", TensorProto.FLOAT, [], [attributes.pop("scale")])
            )
            net.graph.initializer.append(helper.make_tensor(f"zero{k}", TensorProto.UINT8, [], [0]))
            inputs += [f"scale{k}", f"zero{k}"]
        value = f"tail{k}"
        net.graph.node.append(helper.make_node(op, inputs, [value], name=value, **attributes))
    net.graph.output.append(helper.make_empty_tensor_value_info(value))
    net.graph.output[0].type.tensor_type.elem_type = (
        TensorProto.UINT8 if tail[-1][0] == "QuantizeLinear" else TensorProto.FLOAT
    )
    model = oi.load(net)
    assert scores(model).tensor == "logits"
    np.testing.assert_allclose(score(model, Top()), RANKED[:, 0], rtol=1e-4)


def test_scores_may_be_a_map_of_one_position() -> None:
    net = nets.classifier()
    net.graph.node.append(helper.make_node("Unsqueeze", ["scores", "axes"], ["wide"], name="wide"))
    net.graph.initializer.append(helper.make_tensor("axes", TensorProto.INT64, [2], [1, 2]))
    del net.graph.output[:]
    net.graph.output.append(helper.make_tensor_value_info("wide", TensorProto.FLOAT, ["N", 1, 1, 4]))
    model = oi.load(net)
    assert scores(model).count == 4
    np.testing.assert_allclose(score(model, Top(2)), RANKED[:, 1], rtol=1e-4)
    np.testing.assert_allclose(score(model, Index(3)), LOGITS[:, 3], rtol=1e-4)


def test_maps_of_scores_need_elements() -> None:
    net = nets.classifier()
    del net.graph.output[:]
    net.graph.output.append(helper.make_tensor_value_info("c2", TensorProto.FLOAT, ["N", 6, 6, 6]))
    with pytest.raises(TargetError, match="say which elements"):
        scores(oi.load(net))


def test_a_long_slice_takes_little_memory() -> None:
    axes = ["N", "M"]
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, axes) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "any", infos[:1], infos[1:])
    model = oi.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9))
    x = np.arange(10, dtype=np.float32)[None]
    for text, wanted in (("y[2:5]", -9), ("y[2:3]", -2), ("y[:10]", -45), ("y[8:]", -17)):
        found = oi.gradient(model, text, ["x"])
        assert ENGINE.run(found, {"x": x}, ["score"])["score"] == wanted
    tracemalloc.start()
    found = oi.gradient(model, "y[2:5000000]", ["x"])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10e6
    with pytest.raises(ResultError):
        ENGINE.run(found, {"x": x}, ["score"])


def test_integer_outputs_are_passed_over() -> None:
    net = nets.classifier()
    net.graph.node.append(helper.make_node("ArgMax", ["scores"], ["label"], name="label", axis=1, keepdims=0))
    net.graph.output.insert(0, helper.make_tensor_value_info("label", TensorProto.INT64, ["N"]))
    assert scores(oi.load(net)).output == "scores"
    del net.graph.output[1]
    assert scores(oi.load(net)).tensor == "scores"  # what the label is the index of the largest of
    net.graph.node[-1].attribute[0].i = 0  # the largest of all samples
    with pytest.raises(TargetError, match="no float output"):
        scores(oi.load(net))


def test_a_sequence_is_no_row_of_scores() -> None:
    proto = nets.classifier()
    proto.graph.node.append(helper.make_node("SplitToSequence", ["scores"], ["parts"], axis=1))
    del proto.graph.output[:]
    proto.graph.output.append(helper.make_tensor_sequence_value_info("parts", TensorProto.FLOAT, None))
    with pytest.raises(TargetError, match="parts"):
        scores(oi.load(proto))
