"""Targets in segmentations: where the scores are found, over which region, and what they mean in methods."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from onnx import ModelProto, TensorProto, helper, numpy_helper

import onnx_inspect as oi
from onnx_inspect import image
from onnx_inspect.cli import cli
from onnx_inspect.engine import Engine
from onnx_inspect.errors import AbsentError, TargetError
from onnx_inspect.labels import Labels
from onnx_inspect.methods.job import SCORE, Job
from onnx_inspect.preprocess import Preprocessing
from onnx_inspect.target import Segmentation, parse
from onnx_inspect.target.score_maps import find

from . import blobs, shared

ENGINE = Engine("cpu", threads=1)
X = np.random.default_rng(0).normal(size=(3, 3, 8, 12)).astype(np.float32)
WEIGHTS = np.random.default_rng(1).normal(size=(4, 3, 3, 3)).astype(np.float32)
LABELS = Labels(("sky", "road, street", "T-shirt", "Welsh springer-spaniel"), "tests")
ZOO = Path(__file__).parent / "zoo"


def net(
    *tail: tuple[str, dict[str, Any]], classes: int = 4, nhwc: bool = False, kind: int = TensorProto.FLOAT
) -> ModelProto:
    """A convolution, Relu left out so that scores of all signs occur, and what follows."""
    nodes = [helper.make_node("Conv", ["x", "w"], ["scores"], pads=[1, 1, 1, 1])]
    tail = (("Transpose", {"perm": [0, 2, 3, 1]}), *tail) if nhwc else tail
    arrays, value, rank = {"w": WEIGHTS[:classes]}, "scores", 4
    for i, (op, given) in enumerate(tail):
        attributes, inputs = dict(given), [value]
        for name in ("axes", "k", "sizes", "limit"):
            if name in attributes:
                arrays[f"{name}{i}"] = np.array(attributes.pop(name))
                inputs += ["", "", f"sizes{i}"] if name == "sizes" else [f"{name}{i}"]
        outputs = [f"v{i}", f"t{i}"] if op == "TopK" else [f"t{i}"]
        nodes.append(helper.make_node(op, inputs, outputs, **attributes))
        rank += -1 if op == "Squeeze" or attributes.get("keepdims") == 0 else 0
        value = f"t{i}"
    graph = helper.make_graph(
        nodes,
        "segmenter",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 8, 12])],
        [helper.make_tensor_value_info(value, kind, ["N", *[None] * (rank - 1)])],
        [numpy_helper.from_array(v, k) for k, v in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def scores(classes: int = 4) -> np.ndarray:
    """The convolution in NumPy and float64, (N, classes, 8, 12)."""
    windows = np.lib.stride_tricks.sliding_window_view(
        np.pad(X.astype(np.float64), ((0, 0), (0, 0), (1, 1), (1, 1))), (3, 3), axis=(2, 3)
    )
    return np.einsum("nchwij,ocij->nohw", windows, WEIGHTS[:classes].astype(np.float64))


def score(model: ModelProto, text: str, **how: Any) -> np.ndarray:
    return Job(oi.load(model), X, text, engine=ENGINE, labels=LABELS, **how).clean[SCORE]


INT = TensorProto.INT64
TO_INT = ("Cast", {"to": INT})
ARGMAX = ("ArgMax", {"axis": 1, "keepdims": 0})
LARGER = ("Resize", {"sizes": np.array([1, 1, 16, 24]), "mode": "nearest"})


@pytest.mark.parametrize("classes", [1, 4])
@pytest.mark.parametrize(
    "tail",
    [
        [("Sigmoid", {}), ("Greater", {"limit": np.float32(0.2)}), ("Cast", {"to": TensorProto.FLOAT})],
        [("Greater", {"limit": np.float32(-0.7)}), ("Cast", {"to": TensorProto.FLOAT})],
    ],
)
def test_a_mask_is_that_of_the_threshold_in_the_file(tail: Any, classes: int) -> None:
    model = oi.load(net(*tail, classes=classes))
    (mask,) = ENGINE.run(model, {"x": X}).values()
    for kind in ("logits", "output"):
        target = Job(model, X, "segmentation:class=1", engine=ENGINE, score=kind).target
        np.testing.assert_array_equal(target.weights > 0, mask[:, 0 if classes == 1 else 1] > 0)
    if classes == 1:
        target = Job(model, X, "segmentation:class=0", engine=ENGINE).target
        np.testing.assert_array_equal(target.weights > 0, mask[:, 0] == 0)


@pytest.mark.parametrize(
    ("made", "before", "activation"),
    [
        (net(), "", None),
        (net(nhwc=True), "", None),
        (net(("Identity", {}), ("Cast", {"to": TensorProto.FLOAT})), "", None),
        (net(("Softmax", {"axis": 1})), "", "softmax"),
        (net(("LogSoftmax", {"axis": 1})), "", "log softmax"),
        (net(("Softmax", {"axis": -1}), nhwc=True), "", "softmax"),
        (
            net(
                ("Transpose", {"perm": [0, 2, 3, 1]}),
                ("Softmax", {"axis": -1}),
                ("Transpose", {"perm": [0, 3, 1, 2]}),
            ),
            "",
            "softmax",
        ),
        (net(ARGMAX, kind=INT), "ArgMax", None),
        (net(("ArgMax", {"axis": 1}), kind=INT), "ArgMax", None),
        (net(("ArgMax", {"axis": -1, "keepdims": 0}), nhwc=True, kind=INT), "ArgMax", None),
        (
            net(("Softmax", {"axis": 1}), ARGMAX, ("Cast", {"to": TensorProto.INT32}), kind=TensorProto.INT32),
            "ArgMax",
            "softmax",
        ),
        (
            net(("ArgMax", {"axis": 1}), ("Squeeze", {"axes": np.array([1])}), TO_INT, ("Identity", {}), kind=INT),
            "ArgMax",
            None,
        ),
        (net(("TopK", {"axis": 1, "k": np.array([1])}), ("Squeeze", {"axes": np.array([1])}), kind=INT), "TopK", None),
        (net(("Transpose", {"perm": [0, 2, 3, 1]}), ("ArgMax", {"axis": 3, "keepdims": 0}), kind=INT), "ArgMax", None),
    ],
)
def test_scores_are_found(made: ModelProto, before: str, activation: str | None) -> None:
    model = oi.load(made)
    found = find(model)
    assert (found.before, found.activation, found.inside, found.count) == (before, activation, False, 4)
    S = scores()
    mask = S.argmax(axis=1) == 2
    expected = (S[:, 2] * mask).sum(axis=(1, 2))
    np.testing.assert_allclose(score(made, "segmentation:class=2 . sum"), expected, rtol=1e-4)
    np.testing.assert_allclose(score(made, "segmentation:class=2"), expected / mask.sum(axis=(1, 2)), rtol=1e-4)
    np.testing.assert_allclose(score(made, "segmentation:class=0@all"), S[:, 0].mean(axis=(1, 2)), rtol=1e-3, atol=1e-5)


def test_probabilities_are_explained_as_they_are_on_demand() -> None:
    S = scores()
    p = np.exp(S) / np.exp(S).sum(axis=1, keepdims=True)
    last, first = ("Transpose", {"perm": [0, 2, 3, 1]}), ("Transpose", {"perm": [0, 3, 1, 2]})
    for made in (
        net(("Softmax", {"axis": 1})),
        net(("Softmax", {"axis": -1}), nhwc=True),
        net(("Softmax", {"axis": 1}), ARGMAX, kind=INT),
        net(last, ("Softmax", {"axis": -1}), first),
        net(("Softmax", {"axis": 1}), last, ("ArgMax", {"axis": 3, "keepdims": 0}), kind=INT),
    ):
        found = score(made, "segmentation:class=1@all", score="output")
        np.testing.assert_allclose(found, p[:, 1].mean(axis=(1, 2)), rtol=1e-4)
        np.testing.assert_allclose(
            score(made, "segmentation:class=1@all"), S[:, 1].mean(axis=(1, 2)), rtol=1e-3, atol=1e-5
        )


@pytest.mark.parametrize(
    "tail",
    [
        [],
        [("Sigmoid", {})],
        [("Sigmoid", {}), ("Squeeze", {"axes": np.array([1])})],
        [("Squeeze", {"axes": np.array([1])}), ("Sigmoid", {})],
        [("Sigmoid", {}), ("Greater", {"limit": np.float32(0.5)}), ("Cast", {"to": TensorProto.FLOAT})],
    ],
    ids=lambda t: "+".join(op for op, _ in t),
)
def test_one_channel_is_a_yes_or_no(tail: list[Any]) -> None:
    made, S = net(*tail, classes=1), scores(1)[:, 0]
    yes = S > 0
    mean = (S * yes).sum(axis=(1, 2)) / yes.sum(axis=(1, 2))
    np.testing.assert_allclose(score(made, "segmentation:class=1"), mean, rtol=1e-4)
    no = (-S * ~yes).sum(axis=(1, 2)) / (~yes).sum(axis=(1, 2))
    np.testing.assert_allclose(score(made, "segmentation:class=0"), no, rtol=1e-4)
    with pytest.raises(TargetError, match="has 2 classes"):
        score(made, "segmentation:class=2@all")
    if any(op == "Sigmoid" for op, _ in tail):
        p = 1 / (1 + np.exp(-S))
        np.testing.assert_allclose(
            score(made, "segmentation:class=1@all", score="output"), p.mean(axis=(1, 2)), rtol=1e-4
        )
        np.testing.assert_allclose(
            score(made, "segmentation:class=0@all", score="output"), 1 - p.mean(axis=(1, 2)), rtol=1e-4
        )


def test_several_classes_at_one_position() -> None:
    """With a sigmoid per class, a class is where its own probability is above a half, whatever the others are."""
    S = scores()
    own = S[:, 1] > 0
    found = score(net(("Sigmoid", {})), "segmentation:class=1 . sum")
    np.testing.assert_allclose(found, (S[:, 1] * own).sum(axis=(1, 2)), rtol=1e-4)


def test_labels_may_be_resized() -> None:
    made = net(("ArgMax", {"axis": 1}), ("Cast", {"to": TensorProto.FLOAT}), LARGER, TO_INT, kind=INT)
    np.testing.assert_allclose(
        Job(oi.load(made), X[:1], "segmentation:class=2@all", engine=ENGINE).clean[SCORE],
        scores()[:1, 2].mean(axis=(1, 2)),
        rtol=1e-3,
    )


def test_classes_by_name() -> None:
    S = scores()
    for text in ("street", "'T-shirt'", "T-shirt", "Welsh springer-spaniel"):
        k = {"s": 1, "'": 2, "T": 2, "W": 3}[text[0]]
        found = score(net(), f"segmentation:class={text}@all")
        np.testing.assert_allclose(found, S[:, k].mean(axis=(1, 2)), rtol=1e-3, atol=1e-5)
    both = score(net(), "segmentation:class=T-shirt@all - 2 * segmentation:class=sky@all . sum")
    np.testing.assert_allclose(both, S[:, 2].mean(axis=(1, 2)) - 2 * S[:, 0].sum(axis=(1, 2)), rtol=1e-3)
    with pytest.raises(TargetError, match="No class is called 'lion'"):
        score(net(), "segmentation:class=lion@all")


def test_boxes_are_pixels_of_the_input_for_arrays() -> None:
    S = scores()[:, 1]
    found = score(net(), "segmentation:class=1@2,1,7,5 . sum")
    np.testing.assert_allclose(found, S[:, 1:5, 2:7].sum(axis=(1, 2)), rtol=1e-4)
    half = score(net(), "segmentation:class=1@2.5,1,7,5 . sum")  # half of a column
    np.testing.assert_allclose(half, found - 0.5 * S[:, 1:5, 2].sum(axis=1), rtol=1e-4)
    smaller = net(("AveragePool", {"kernel_shape": [2, 2], "strides": [2, 2]}))
    pooled = S.reshape(3, 4, 2, 6, 2).mean(axis=(2, 4))
    found = score(smaller, "segmentation:class=1@2,0,8,4")
    np.testing.assert_allclose(found, pooled[:, 0:2, 1:4].mean(axis=(1, 2)), rtol=1e-4)
    with pytest.raises(AbsentError, match="outside"):
        score(net(), "segmentation:class=1@20,1,30,5")


def test_boxes_are_pixels_of_the_photo(tmp_path: Path) -> None:
    """A photo twice as large, whose sides are cropped: the box is where a person sees it."""
    image.write(tmp_path / "photo.png", np.random.default_rng(2).integers(0, 255, (16, 40, 3)).astype(np.uint8))
    how = Preprocessing(size=(8, 12), resize="crop", crop_ratio=1.0, color="RGB", scale=1 / 255, mean=(0,), std=(1,))
    job = Job(
        oi.load(net()), tmp_path / "photo.png", "segmentation:class=1@12,4,20,8", engine=ENGINE, preprocessing=how
    )
    weights = job.target.feeds(1)["target.region"][0]
    expected = np.zeros((8, 12))
    expected[2:4, 2:6] = 1 / 8  # the crop begins at column 8 of the photo
    np.testing.assert_allclose(weights, expected, atol=1e-6)
    with pytest.raises(AbsentError, match=r"outside.*'photo\.png'"):
        Job(oi.load(net()), tmp_path / "photo.png", "segmentation:class=1@0,0,7,8", engine=ENGINE, preprocessing=how)


def test_a_mask_is_that_of_the_untouched_sample() -> None:
    job = Job(oi.load(net(ARGMAX, kind=INT)), X, "segmentation:class=2", engine=ENGINE)
    S = scores()
    mask = S.argmax(axis=1) == 2
    moved = job.forward([], job.target, {"x": X[::-1].copy()} | job.target.feeds(3))[SCORE]
    expected = (S[::-1, 2] * mask).sum(axis=(1, 2)) / mask.sum(axis=(1, 2))
    np.testing.assert_allclose(moved, expected, rtol=1e-4)
    one = job.fixed[1].feeds(2)["target.region"]
    np.testing.assert_allclose(one, np.stack([mask[1] / mask[1].sum()] * 2), rtol=1e-6)
    assert job.target.settle(job) is job.target
    assert any("before ArgMax" in n and n.endswith("x0,y0,x1,y1)") for n in job.notes)
    assert job.explained(job.clean) == [None] * 3


def test_a_class_that_is_nowhere() -> None:
    x = np.zeros_like(X[:1])  # all scores are 0, and the first class wins
    with pytest.raises(AbsentError, match=r"T-shirt \(2\) is predicted nowhere on sample 0, but sky \(0\) on 100 %"):
        Job(oi.load(net()), x, "segmentation:class=T-shirt", engine=ENGINE, labels=LABELS)
    found = Job(oi.load(net()), x, "segmentation:class=2@all", engine=ENGINE)
    assert found.clean[SCORE] == 0


@pytest.mark.parametrize(
    "text", ["segmentation:class=2", "segmentation:class=1@2,1,7,5 . sum - segmentation:class=0@all"]
)
def test_gradients(text: str) -> None:
    """Linear in the input here: the gradient times a step is the difference."""
    job = Job(oi.load(net(("Softmax", {"axis": 1}), ARGMAX, kind=INT)), X, text, engine=ENGINE)
    g = job.gradients(["x"])["gradient.x"]
    u = np.random.default_rng(3).normal(size=X.shape).astype(np.float32)
    feeds = job.target.feeds(3)
    plus, minus = (job.forward([], job.target, {"x": X + s * u} | feeds)[SCORE] for s in (1, -1))
    np.testing.assert_allclose((g * u).sum(axis=(1, 2, 3)), (plus - minus) / 2, rtol=1e-4, atol=1e-4)


def test_one_compiled_model_serves_all_classes_and_regions() -> None:
    model = oi.load(net())
    keys = {parse(f"segmentation:class={t}", model, LABELS).key() for t in ("1", "2@all", "3@0,0,4,4 . sum")}
    assert len(keys) == 1


def test_without_samples_there_is_no_region() -> None:
    model = oi.load(net())
    plain = oi.gradient(model, "segmentation:class=1", ["x"])
    assert {"target.class", "target.region"} <= {i.name for i in plain.inputs}
    with pytest.raises(TargetError, match="depends on the sample"):
        Segmentation(1).feeds(1)


def test_what_is_no_segmentation() -> None:
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "tokens",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 7, 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 7, 5])],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    with pytest.raises(TargetError, match=r"no map of class scores in 'y' \(N×7×5 float32\)"):
        Job(oi.load(made), np.ones((1, 7, 5), np.float32), "segmentation:class=1", engine=ENGINE)


def test_a_map_beside_class_scores() -> None:
    """The first output is a map, the second holds the scores: top means these, segmentation the map."""
    made = net()
    made.graph.node.append(helper.make_node("GlobalAveragePool", ["scores"], ["p"]))
    made.graph.node.append(helper.make_node("Flatten", ["p"], ["classes"]))
    made.graph.output.append(helper.make_tensor_value_info("classes", TensorProto.FLOAT, ["N", 4]))
    job = Job(oi.load(made), X, "top", engine=ENGINE)
    np.testing.assert_allclose(job.clean[SCORE], scores().mean(axis=(2, 3)).max(axis=1), rtol=1e-4)
    assert any("first output that is no map" in n for n in job.notes)
    np.testing.assert_allclose(score(made, "segmentation:class=2@all"), scores()[:, 2].mean(axis=(1, 2)), rtol=1e-3)


def test_top_of_a_map_says_how_to_name_a_class() -> None:
    with pytest.raises(TargetError, match="segmentation:class=1"):
        Job(oi.load(net()), X, "top", engine=ENGINE).clean  # noqa: B018


@pytest.mark.skipif(not (ZOO / "torch_dynamo_unet_argmax.onnx").exists(), reason="needs tests/zoo")
@pytest.mark.parametrize("name", ["torch_dynamo_unet_argmax", "torch_legacy_unet_argmax", "torch_dynamo_unet"])
def test_trained_networks(name: str) -> None:
    """The map of a blob's class is on the blob, also where the file ends in ArgMax."""
    photo = blobs.photos(seed=1, count=1, size=(48, 80))[0]
    x, (x0, y0, x1, y1) = blobs.floats([photo]), photo.boxes[0].astype(int)
    found = oi.layercam(oi.load(ZOO / f"{name}.onnx"), x, f"segmentation:class={photo.labels[0] + 1}", engine=ENGINE)
    heat = found.heat[0]
    assert heat[y0:y1, x0:x1].sum() > 0.7 * heat.sum()


def test_command_line(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(net(ARGMAX, kind=INT).SerializeToString())
    photos = [str(tmp_path / f"photo{i}.png") for i in range(2)]
    noise = np.random.default_rng(1).integers(0, 255, (16, 24, 3)).astype(np.uint8)
    for path, pixels in zip(photos, (0 * noise, noise), strict=True):  # on black all scores are 0, and class 0 wins
        image.write(path, pixels)
    wanted = ["-t", "segmentation:class=0@all; segmentation:class=3@2,2,9,9", "-t", "segmentation:class=1 . sum"]
    given = [str(tmp_path / "net.onnx"), *photos, *wanted, "-o", str(tmp_path / "out"), "--preset", "unit"]
    result = CliRunner().invoke(cli, ["saliency", *given])
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "photo0.saliency.segmentation_class_0_all.png",
        "photo0.saliency.segmentation_class_3_2_2_9_9.png",
        "photo1.saliency.segmentation_class_0_all.png",
        "photo1.saliency.segmentation_class_1_._sum.png",
        "photo1.saliency.segmentation_class_3_2_2_9_9.png",
    ]
    assert "class 1 is predicted nowhere on 'photo0.png', but class 0 on 100 %" in result.stderr
    assert result.exit_code == 2
    record = json.loads(CliRunner().invoke(cli, ["saliency", *given, "--json", "-q"]).stdout)
    assert [r["target"] for r in record["results"]].count("segmentation:class=1 . sum") == 1
    assert record["failed"] == photos[:1]


@shared.needs_zoo
@pytest.mark.parametrize(
    "name", ["torch_dynamo_unet", "torch_legacy_unet", "keras_tensorflow_unet", "keras_torch_unet"]
)
def test_exported_networks(name: str) -> None:
    model = oi.load(shared.ZOO / f"{name}.onnx")
    first = model.inputs[0].layout == "NCHW" or model.inputs[0].shape[1] == 3
    x = np.random.default_rng(0).normal(size=(2, 3, 32, 32) if first else (2, 32, 32, 3)).astype(np.float32)
    job = Job(model, x, "segmentation:class=1@4,8,20,12", engine=ENGINE)
    raw = ENGINE.run(model, {model.inputs[0].name: x})[model.outputs[0].name]
    own = raw[:, 1] if first else raw[..., 1]
    np.testing.assert_allclose(job.clean[SCORE], own[:, 8:12, 4:20].mean(axis=(1, 2)), rtol=1e-4, atol=1e-6)
