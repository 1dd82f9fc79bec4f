"""Ablation: gates in the graph against networks that are built without the part, and the study against NumPy."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from onnx_inspect import image
from onnx_inspect.cli import cli
from onnx_inspect.engine import Engine
from onnx_inspect.errors import InspectError, LayerError, PhotoError, ResultError, TargetError
from onnx_inspect.gates import CHANNELS, GATES, Gate, chosen, gated, masked, parts
from onnx_inspect.model import Model
from onnx_inspect.preprocess import Preprocessing
from onnx_inspect.scores import scores
from onnx_inspect.studies.ablate import ablate
from onnx_inspect.surveys.variants import Mean

from . import nets
from .shared import ASSETS, needs_assets

ENGINE = Engine("cpu", threads=1)
HOW = dict(engine=ENGINE, preprocessing=Preprocessing((12, 12), "squash", scale=1 / 255, mean=(0.5,), std=(0.25,)))
Floats = NDArray[np.floating]
N = helper.make_node


def net(nodes: list[onnx.NodeProto], size: int | str = 8, channels: int = 4, **arrays: Floats) -> Model:
    """A network from "x" (N, channels, size, size) through "top" to four scores."""
    rng = np.random.default_rng(5)
    head = {"wz": rng.normal(size=(channels, 4)).astype(np.float32)}
    tail = [N("GlobalAveragePool", ["top"], ["g"]), N("Flatten", ["g"], ["v"]), N("MatMul", ["v", "wz"], ["scores"])]
    graph = helper.make_graph(
        [*nodes, *tail],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", channels, size, size])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 4])],
        [numpy_helper.from_array(np.asarray(v, np.float32), k) for k, v in (head | arrays).items()],
    )
    return Model.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


def conv(x: str, y: str, k: int = 3, **more: object) -> onnx.NodeProto:
    return N("Conv", [x, f"w_{y}"], [y], name=f"/{y}/Conv", pads=[k // 2] * 4, **more)


def kernel(out: int = 4, into: int = 4, k: int = 3, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).normal(0, 0.3, (out, into, k, k)).astype(np.float32)


def residual(*, branch: bool = True) -> Model:
    """Conv, Relu, then a branch of two convolutions beside a shortcut."""
    inner = [conv("a", "b"), N("Relu", ["b"], ["c"]), conv("c", "d")] if branch else []
    join = N("Add", ["d", "a"] if branch else ["a", "zero"], ["e"])
    weights = {"w_a0": kernel(seed=1), "w_b": kernel(seed=2), "w_d": kernel(seed=3)}
    return net(
        [conv("x", "a0"), N("Relu", ["a0"], ["a"]), *inner, join, N("Relu", ["e"], ["top"])], zero=[0], **weights
    )


def inputs(n: int = 3, channels: int = 4, size: int = 8) -> Floats:
    return np.random.default_rng(9).normal(size=(n, channels, size, size)).astype(np.float32)


def run(model: Model, x: Floats, **more: NDArray[np.bool_]) -> Floats:
    feeds = {model.inputs[0].name: x} | {k.replace("__", "/"): v for k, v in more.items()}
    return ENGINE.run(model, feeds, [scores(model).tensor])[scores(model).tensor]


def off(model: Model, gates: list[Gate], x: Floats, *closed: int) -> Floats:
    keep = np.ones((len(x), len(gates)), bool)
    keep[:, list(closed)] = False
    return ENGINE.run(gated(model, gates), {"x": x, GATES: keep}, ["scores"])["scores"]


def of(model: Model) -> dict[str, str]:
    """Names of all parts, with what they give; blocks in brackets."""
    return {f"[{p.name}]" if p.block else p.name: p.tensor for p in parts(model, scores(model).tensor)}


# What counts as a part.


def test_layers_take_what_follows_them() -> None:
    assert of(Model.load(nets.classifier())) == {"body.conv1": "r1", "body.conv2": "a:2/x;0"}


def test_a_residual_branch_is_a_block() -> None:
    assert of(residual()) == {"a0": "a", "b": "c", "d": "d", "[b…d]": "d"}


def test_ways_that_meet_again_belong_to_the_layer() -> None:
    silu = [conv("x", "a"), N("Sigmoid", ["a"], ["s"]), N("Mul", ["a", "s"], ["top"])]
    assert of(net(silu, w_a=kernel())) == {"a": "top"}


def test_what_others_use_ends_the_layer() -> None:
    forked = [conv("x", "a"), N("Relu", ["a"], ["r"]), conv("r", "b"), N("Add", ["b", "a"], ["top"])]
    assert of(net(forked, w_a=kernel(), w_b=kernel())) == {"a": "a", "b": "b"}


def test_parallel_branches_are_a_block_from_the_last_map_of_their_shape() -> None:
    nodes = [conv("x", "u"), conv("u", "s", 1), N("Relu", ["s"], ["r"]), conv("r", "l", 1), conv("r", "m")]
    weights = dict(w_u=kernel(), w_s=kernel(2, 4, 1), w_l=kernel(2, 2, 1), w_m=kernel(2, 2))
    model = net([*nodes, N("Concat", ["l", "m"], ["top"], axis=1)], **weights)
    (block,) = [p for p in parts(model, "scores") if p.block]
    assert block.tensor == "top"
    assert block.inputs == ("r", "s", "u")


def test_quantised_layers_end_in_floats() -> None:
    q = dict(scale=[0.05])
    nodes = [conv("x", "a"), N("QuantizeLinear", ["a", "scale"], ["q"]), N("DequantizeLinear", ["q", "scale"], ["top"])]
    assert of(net(nodes, w_a=kernel(), **q)) == {"a": "top"}  # type: ignore[arg-type]


def test_names_and_globs() -> None:
    model = residual()
    found = parts(model, "scores")
    assert [p.tensor for p in chosen(model, found, "")] == ["a", "c", "d", "d"]
    assert [p.tensor for p in chosen(model, found, "relu_1")] == ["a"]
    assert [p.name for p in chosen(model, found, "b*")] == ["b", "b…d"]
    assert [p.tensor for p in chosen(model, found, "e")] == ["e"]  # no layer with weights, but a tensor
    with pytest.raises(LayerError, match="no layer or tensor 'nothing'"):
        chosen(model, found, "nothing")


# Gates.


@pytest.mark.parametrize("kind", ["plain", "nhwc", "fixed", "open", "residual"])
def test_open_gates_change_nothing(kind: str) -> None:
    options = {"nhwc": dict(nhwc=True), "fixed": dict(batch=2), "open": dict(size="open")}.get(kind, {})
    model = residual() if kind == "residual" else Model.load(nets.classifier(**options))  # type: ignore[arg-type]
    x = inputs() if kind == "residual" else nets.images(3, nhwc=kind == "nhwc")
    found = parts(model, "scores")
    keep = np.ones((3, len(found)), bool)
    switched = gated(model, [Gate(p.tensor) for p in found])
    result = ENGINE.run(switched, {model.inputs[0].name: x, GATES: keep}, ["scores"])["scores"]
    np.testing.assert_allclose(result, run(model, x), rtol=1e-6, atol=1e-6)
    assert (
        abs(ENGINE.run(switched, {model.inputs[0].name: x, GATES: ~keep}, ["scores"])["scores"] - result).max() > 1e-3
    )


def test_a_zeroed_branch_is_a_network_without_it() -> None:
    x = inputs()
    gates = [Gate("d"), Gate("a")]
    np.testing.assert_allclose(off(residual(), gates, x, 0), run(residual(branch=False), x), atol=1e-6)


def test_an_identity_gate_is_a_network_without_the_layer() -> None:
    x = inputs()
    whole = net([conv("x", "a"), N("Relu", ["a"], ["r"]), conv("r", "top")], w_a=kernel(seed=1), w_top=kernel(seed=2))
    without = net([conv("x", "top")], w_top=kernel(seed=2))
    np.testing.assert_allclose(off(whole, [Gate("r", "x")], x, 0), run(without, x), atol=1e-6)


def test_gates_behind_each_other_pass_on_what_is_there() -> None:
    """Both layers bypassed: the input itself; so the second gate's source is what the first leaves."""
    x = inputs()
    whole = net([conv("x", "a"), conv("a", "top")], w_a=kernel(seed=1), w_top=kernel(seed=2))
    for order in ([Gate("a", "x"), Gate("top", "a")], [Gate("top", "a"), Gate("a", "x")]):
        found = off(whole, order, x, 0, 1)
        np.testing.assert_allclose(found, x.mean(axis=(2, 3)) @ whole.values["wz"].const_value.numpy(), atol=1e-5)  # type: ignore[union-attr]


def test_an_identity_layer_can_go() -> None:
    x = inputs()
    nodes = [conv("x", "a"), conv("a", "top", 1)]
    model = net(nodes, w_a=kernel(), w_top=np.eye(4)[..., None, None])
    np.testing.assert_array_equal(off(model, [Gate("top", "a")], x, 0), off(model, [Gate("top", "a")], x))


def test_samples_have_gates_of_their_own() -> None:
    x = inputs()
    model, gates = residual(), [Gate("d"), Gate("c")]
    keep = np.array([[1, 1], [0, 1], [1, 0]], bool)
    mixed = ENGINE.run(gated(model, gates), {"x": x, GATES: keep}, ["scores"])["scores"]
    for i, closed in enumerate(((), (0,), (1,))):
        np.testing.assert_allclose(mixed[i], off(model, gates, x, *closed)[i], atol=1e-6)


def test_a_masked_channel_is_one_without_weights() -> None:
    x = nets.images(2)
    model = Model.load(nets.classifier())
    keep = np.ones((2, 6), bool)
    keep[:, 4] = False
    found = ENGINE.run(masked(model, "a:2/x;0", 1), {"image": x, CHANNELS: keep}, ["scores"])["scores"]
    p = nets.forward(x)["p"].copy()
    p[:, 4] = 0
    w = nets.weights()
    np.testing.assert_allclose(found, p @ w["w3"] + w["b3"], atol=1e-5)


def test_switches_are_put_in_once() -> None:
    model = gated(residual(), [Gate("a")])
    with pytest.raises(LayerError, match="has switches"):
        gated(model, [Gate("a")])


# The study.


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i, photo in enumerate(nets.colourful(5)):
        image.write(tmp_path / f"{i}.png", photo)
    return tmp_path


def samples(folder: Path) -> Floats:
    return np.stack([HOW["preprocessing"].apply(image.read(p)) for p in sorted(folder.glob("*.png"))])  # type: ignore[attr-defined]


def softmax(x: Floats) -> Floats:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def listed(folder: Path, labels: list[int]) -> Path:
    with (folder / "photos.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "label"], *([f"{i}.png", label] for i, label in enumerate(labels))])
    return folder / "photos.csv"


def test_what_comes_before_the_channels_runs_once_per_photo(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, convolutions = Engine("cpu", threads=1), []
    inner = engine.run

    def run(model: Model, feeds: dict[str, Any], *args: Any, **more: Any) -> Any:
        count = len(feeds.get(CHANNELS, [0]))
        convolutions.append(count * sum(node.op_type == "Conv" for node in model.ir.graph))
        return inner(model, feeds, *args, **more)

    monkeypatch.setattr(engine, "run", run)
    ablate(Model.load(nets.classifier()), folder, channels=True, **HOW | {"engine": engine})  # type: ignore[arg-type]
    assert sum(convolutions) == 2 * (5 + 3), (
        "two for each photo, and thrice for noise: its shape, with switches, without"
    )


def test_layers_against_numpy(folder: Path) -> None:
    """Without its second convolution the network gives its bias, whatever the photo is."""
    labels = [0, 1, 2, 3, 0]
    found = ablate(Model.load(nets.classifier()), listed(folder, labels), **HOW)  # type: ignore[arg-type]
    logits, bias = nets.forward(samples(folder))["logits"], nets.weights()["b3"].astype(np.float64)
    right = (logits.argmax(1) == labels).astype(float)
    assert found.values["accuracy"] == pytest.approx(right.mean())
    row = next(r for r in found.values["removed"] if r["name"] == "body.conv2")
    drop = right - (bias.argmax() == np.array(labels))
    assert row["accuracy_drop"] == pytest.approx(drop.mean(), abs=1e-6)
    assert row["accuracy_drop_error"] == pytest.approx(drop.std(ddof=1) / np.sqrt(5), abs=1e-6)
    top = logits.argmax(1)
    assert len(set(top)) > 1
    p = softmax(logits)[range(5), top] - softmax(bias)[top]
    assert row["probability_drop"] == pytest.approx(p.mean(), abs=1e-5)
    assert row["probability_drop_error"] == pytest.approx(p.std(ddof=1) / np.sqrt(5), abs=1e-5)
    assert row["score_drop"] == pytest.approx((logits[range(5), top] - bias[top]).mean(), abs=1e-4)
    assert row["replaced_by"] == "zeros"
    assert row["cut"]


def test_without_labels_the_intact_prediction_counts(folder: Path) -> None:
    found = ablate(Model.load(nets.classifier()), folder, layer="*conv2*", **HOW)  # type: ignore[arg-type]
    logits, bias = nets.forward(samples(folder))["logits"], nets.weights()["b3"]
    (row,) = found.values["removed"]
    assert row["changed"] == pytest.approx((logits.argmax(1) != bias.argmax()).mean())
    assert not found.values["labelled"]


def test_channels_against_numpy(folder: Path) -> None:
    found = ablate(Model.load(nets.classifier()), folder, channels=True, **HOW)  # type: ignore[arg-type]
    w, p = nets.weights(), nets.forward(samples(folder))["p"]
    logits = p @ w["w3"] + w["b3"]
    top = logits.argmax(1)
    assert found.layer == "body.relu2"
    assert len(found.values["channels"]) == 6
    for row in found.values["channels"]:
        less = p.copy()
        less[:, row["channel"]] = 0
        drop = softmax(logits)[range(5), top] - softmax(less @ w["w3"] + w["b3"])[range(5), top]
        assert row["probability_drop"] == pytest.approx(drop.mean(), abs=1e-5)
    rank = [(-r["changed"], -r["probability_drop"]) for r in found.values["channels"]]
    assert rank == sorted(rank)


def test_identity_and_blocks_in_the_study(folder: Path) -> None:
    nodes = [conv("x", "x0", 1), conv("x0", "a"), conv("a", "b"), N("Add", ["b", "x0"], ["top"])]
    weights = {"w_x0": kernel(4, 3, 1), "w_a": kernel(seed=1), "w_b": kernel(seed=2)}
    wz = np.random.default_rng(5).normal(size=(4, 4))
    graph = net(nodes, 12, 3, wz=wz, **weights)
    found = ablate(graph, folder, **HOW)  # type: ignore[arg-type]
    assert {r["name"]: (r["block"], r["replaced_by"]) for r in found.values["removed"]} == {
        "x0": (False, "zeros"),
        "a": (False, "identity"),
        "b": (False, "identity"),
        "a…b": (True, "zeros"),
    }


def test_zeros_at_the_end_of_a_branch_are_the_block(folder: Path) -> None:
    nodes = [conv("x", "x0", 1), conv("x0", "a"), conv("a", "b"), N("Add", ["b", "x0"], ["top"])]
    weights = {"w_x0": kernel(4, 3, 1), "w_a": kernel(7, 4, seed=1), "w_b": kernel(4, 7, seed=2)}
    model = net(nodes, 12, 3, wz=np.random.default_rng(5).normal(size=(4, 4)), **weights)
    found = ablate(model, folder, **HOW)  # type: ignore[arg-type]
    assert [r["name"] for r in found.values["removed"]] == ["x0", "a", "a…b"]


def test_unknown_labels_are_noted(folder: Path) -> None:
    listing = listed(folder, ["sheep", "cow", "2", "3", "1"])  # type: ignore[list-item]
    found = ablate(Model.load(nets.classifier()), listing, **HOW)  # type: ignore[arg-type]
    assert any("2 of 5 labels" in note and "'cow'" in note for note in found.notes)
    assert any("2 photos without a label" in note for note in found.notes)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        (dict(layer="nothing"), LayerError, "no layer or tensor 'nothing'"),
        (dict(layer="head"), LayerError, "'head' holds the scores themselves"),
        (dict(layer="head", channels=True), LayerError, "'head' holds the scores themselves"),
        (dict(layer="body.*", channels=True), LayerError, "means 2 layers"),
        (dict(layer=3), InspectError, "no layer 3"),
    ],
)
def test_what_cannot_be(folder: Path, options: dict[str, object], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        ablate(Model.load(nets.classifier()), folder, **HOW, **options)  # type: ignore[arg-type]


def test_what_comes_after_the_scores_cannot_be_taken_out(folder: Path) -> None:
    """A softmax makes the probabilities of the scores, which stay what they are without it."""
    for channels in (False, True):
        with pytest.raises(LayerError, match="not computed from it"):
            ablate(Model.load(nets.classifier(final="Softmax")), folder, layer="softmax_1", channels=channels, **HOW)  # type: ignore[arg-type]


def test_labels_of_unreadable_photos_only(folder: Path) -> None:
    (folder / "1.png").write_bytes(b"no photo")
    listing = listed(folder, ["cow", "1", "cow", "cow", "cow"])  # type: ignore[list-item]
    with pytest.raises(PhotoError, match="None of the 4 photos"):
        ablate(Model.load(nets.classifier()), listing, **HOW)  # type: ignore[arg-type]


def test_a_single_layer_cannot_go(folder: Path) -> None:
    graph = net([N("Identity", ["x"], ["top"])], 12, 3, wz=np.eye(3, 4))
    with pytest.raises(LayerError, match="none to take out"):
        ablate(graph, folder, **HOW)  # type: ignore[arg-type]


def test_a_number_for_all_photos_stays(folder: Path) -> None:
    nodes = [conv("x", "a", 1), N("ReduceMax", ["a"], ["m"], keepdims=0), N("Sub", ["a", "m"], ["top"])]
    model = net(nodes, 12, 3, w_a=kernel(4, 3, 1), wz=np.eye(4))
    with pytest.raises(LayerError, match="row per photo"):
        ablate(model, folder, layer="m", **HOW)  # type: ignore[arg-type]


def test_a_removal_that_leaves_no_numbers(folder: Path) -> None:
    """Zeros have no direction."""
    nodes = [conv("x", "a", 1), N("ReduceL2", ["a"], ["l"], axes=[1]), N("Div", ["a", "l"], ["top"])]
    with pytest.raises(ResultError, match=r"With something taken out: .*--layer"):
        ablate(net(nodes, 12, 3, w_a=kernel(4, 3, 1), wz=np.eye(4)), folder, layer="a", **HOW)  # type: ignore[arg-type]


def test_no_photo_and_no_scores(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no photo")
    with pytest.raises(PhotoError, match="None of the 1 photos"):
        ablate(Model.load(nets.classifier()), tmp_path, **HOW)  # type: ignore[arg-type]
    graph = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (float[N,3,12,12] x) => (float[N,3,12,12] y) { y = Relu(x) }'
    )
    with pytest.raises(TargetError, match="no row of class scores"):
        ablate(Model.load(graph), tmp_path, **HOW)  # type: ignore[arg-type]


def test_the_command(folder: Path) -> None:
    model = nets.save(folder, final="Softmax", metadata=nets.NAMES)
    done = CliRunner().invoke(cli, ["ablate", str(model), str(folder), "-o", str(folder / "out.png"), "--json"])
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    assert [r["name"] for r in record["values"]["removed"]] == ["body.conv1", "body.conv2"]
    assert image.read(folder / "out.png").shape[1] > 600


def test_mean_and_its_error() -> None:
    rows = np.random.default_rng(0).normal(100, 1, (50, 3))
    mean = Mean()
    for row in rows:
        mean.add(row)
    np.testing.assert_allclose(mean.mean, rows.mean(0))
    np.testing.assert_allclose(mean.error, rows.std(0, ddof=1) / np.sqrt(50))


@needs_assets
@pytest.mark.parametrize(
    ("name", "layers", "blocks"),
    [
        ("squeezenet1.1_fp32_caffe2", 25, 8),
        ("mobilenetv2_fp32_pytorch_opset12", 52, 10),
        ("resnet8_cifar10_keras_nhwc", 9, 3),
        ("vit_cifar10_pgd_2_3_16", 13, 4),
    ],
)
def test_real_networks(name: str, layers: int, blocks: int) -> None:
    model = Model.load(ASSETS / f"models/{name}.onnx")
    tensor = scores(model).tensor
    found = parts(model, tensor)
    assert [sum(p.block == b for p in found) for b in (False, True)] == [layers, blocks]
    x = np.random.default_rng(0).normal(size=[1 if not isinstance(d, int) else d for d in model.inputs[0].shape])
    feeds = {model.inputs[0].name: x.astype(np.float32), GATES: np.ones((1, len(found)), bool)}
    switched = gated(model, [Gate(p.tensor) for p in found])
    before = ENGINE.run(model, feeds, [tensor])[tensor]
    after = ENGINE.run(switched, feeds, [tensor])[tensor]
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-5 * abs(before).max())
