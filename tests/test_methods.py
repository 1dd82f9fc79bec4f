"""Each method against its formula, written out over a classifier in NumPy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnx_inspect as oi
from onnx_inspect.engine import Engine
from onnx_inspect.errors import InputError, LayerError, ResultError, TargetError
from onnx_inspect.methods.windows import _spread, _starts
from onnx_inspect.target import Index, Top

from . import nets

ENGINE = Engine("cpu", threads=1)
X = nets.images(3)
LAST = "a:2/x;0"


@pytest.fixture(scope="module")
def model() -> oi.Model:
    return oi.load(nets.classifier(metadata=nets.NAMES))


def head_gradient(x: np.ndarray, classes: list[int]) -> np.ndarray:
    """dS/dA at the last map: the class's weights over the number of positions."""
    a = nets.forward(x)["a"]
    rows = nets.weights()["w3"].astype(np.float64)[:, classes].T
    return np.broadcast_to(rows[:, :, None, None] / np.prod(a.shape[2:]), a.shape)


def test_gradcam_is_its_formula(model: oi.Model) -> None:
    found = nets.forward(X)
    classes = found["logits"].argmax(axis=1).tolist()
    result = oi.gradcam(model, X, engine=ENGINE)
    w = head_gradient(X, classes).mean(axis=(2, 3), keepdims=True)
    expected = np.maximum((w * found["a"]).sum(axis=1), 0)
    np.testing.assert_allclose(result.values, expected, atol=1e-6)
    assert result.tensor == LAST
    assert result.layer == "body.relu2"
    assert [e.index for e in result.explained] == classes  # type: ignore[union-attr]
    np.testing.assert_allclose(result.scores, found["logits"].max(axis=1), rtol=1e-5)


@pytest.mark.parametrize("nhwc", [False, True])
@pytest.mark.parametrize("final", ["", "Softmax", "Sigmoid", "LogSoftmax"])
def test_every_export_gives_the_same_maps(final: str, nhwc: bool) -> None:
    reference = oi.gradcam(nets.classifier(), X, target=2, engine=ENGINE)
    other = oi.gradcam(nets.classifier(final=final, nhwc=nhwc), nets.images(3, nhwc), target=2, engine=ENGINE)
    np.testing.assert_allclose(other.values, reference.values, atol=1e-6)
    np.testing.assert_allclose(other.scores, reference.scores, rtol=1e-5)


def test_the_probability_can_be_explained_instead(model: oi.Model) -> None:
    logits = nets.forward(X)["logits"]
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    result = oi.saliency(nets.classifier(final="Softmax"), X, target=1, score="output", engine=ENGINE)
    np.testing.assert_allclose(result.scores, p[:, 1], rtol=1e-5)
    np.testing.assert_allclose([q.probability for q in result.explained], p[:, 1], rtol=1e-5)  # type: ignore[union-attr]
    log = oi.saliency(nets.classifier(final="LogSoftmax"), X, target=1, score="output", engine=ENGINE)
    np.testing.assert_allclose(log.scores, np.log(p[:, 1]), rtol=1e-5)
    np.testing.assert_allclose([q.probability for q in log.explained], p[:, 1], rtol=1e-5)  # type: ignore[union-attr]


def test_cam_is_the_weighted_map_and_its_mean_is_the_score(model: oi.Model) -> None:
    found = nets.forward(X)
    result = oi.cam(model, X, target=1, engine=ENGINE)
    expected = np.einsum("k,nkhw->nhw", nets.weights()["w3"][:, 1].astype(np.float64), found["a"])
    np.testing.assert_allclose(result.values, expected, atol=1e-5)
    np.testing.assert_allclose(result.values.mean(axis=(1, 2)) + nets.weights()["b3"][1], result.scores, rtol=1e-4)
    assert expected.min() < 0 <= result.heat.min()


def test_saliency_is_the_absolute_gradient(model: oi.Model) -> None:
    result = oi.saliency(model, X, target=3, engine=ENGINE)
    assert result.values.shape == X.shape
    rng = np.random.default_rng(0)
    signs = np.sign(
        ENGINE.run(
            oi.vjp(model, ["image"], ["scores"]), {"image": X, "cotangent.scores": np.eye(4, dtype=np.float32)[[3] * 3]}
        )["gradient.image"]
    )
    for _ in range(3):
        u, h = rng.normal(size=X.shape), 1e-6
        plus, minus = (nets.forward(X + s * h * u)["logits"][:, 3] for s in (1, -1))
        np.testing.assert_allclose(
            (result.values * signs * u).sum(axis=(1, 2, 3)), (plus - minus) / (2 * h), rtol=1e-3, atol=1e-4
        )
    np.testing.assert_array_equal(result.heat, result.values.max(axis=1))


@pytest.mark.parametrize(("size", "window", "stride"), [(12, 4, 4), (12, 5, 3), (12, 12, 1), (13, 4, 3), (3, 2, 5)])
def test_windows_cover_everything(size: int, window: int, stride: int) -> None:
    starts = _starts(size, window, stride)
    covered = {p for s in starts for p in range(s, min(s + window, size))}
    assert stride > window or covered == set(range(size))
    assert all(s < size for s in starts)
    assert stride > window or starts[-1] + window >= size > starts[-1] + window - stride


def test_occlusion_is_its_definition(model: oi.Model) -> None:
    """A literal loop: cover, run, subtract, average over the windows on a pixel."""
    window, stride, value = 5, 3, 0.25
    result = oi.occlusion(model, X, target=2, window=window, stride=stride, baseline=str(value), engine=ENGINE)
    clean = nets.forward(X)["logits"][:, 2]
    total, count = np.zeros((3, 12, 12)), np.zeros((12, 12))
    for r, top in enumerate([0, 3, 6, 9]):
        for c, left in enumerate([0, 3, 6, 9]):
            covered = X.astype(np.float64).copy()
            covered[:, :, top : top + window, left : left + window] = value
            found = nets.forward(covered)
            drop = clean - found["logits"][:, 2]
            total[:, top : top + window, left : left + window] += drop[:, None, None]
            count[top : top + window, left : left + window] += 1
            p = np.exp(found["logits"]) / np.exp(found["logits"]).sum(axis=1, keepdims=True)
            np.testing.assert_allclose(result.extra["probability"][:, r, c], p[:, 2], rtol=1e-4)
            np.testing.assert_array_equal(result.extra["class"][:, r, c], p.argmax(axis=1))
            strongest = nets.forward(X)["a"].sum(axis=(2, 3)).argmax(axis=1)
            np.testing.assert_allclose(
                result.extra["activation"][:, r, c], found["a"][range(3), strongest].sum(axis=(1, 2)), rtol=1e-4
            )
    np.testing.assert_allclose(result.values, total / count, atol=1e-5)
    assert result.signed


def test_spread_averages_where_windows_overlap() -> None:
    spread = _spread(np.array([[1.0, 3.0]]), [[0], [0, 1]], [2, 2], [2, 3])
    np.testing.assert_array_equal(spread, [[1, 2, 3], [1, 2, 3]])


def test_occlusion_counts_its_progress(model: oi.Model) -> None:
    done: list[int] = []
    totals: list[int] = []

    def progress(name: str, total: int) -> object:
        totals.append(total)
        return done.append

    oi.occlusion(model, X, window=6, stride=3, engine=ENGINE, progress=progress)  # type: ignore[arg-type]
    assert totals == [3 * 9]
    assert sum(done) == 27


@pytest.mark.parametrize("options", [dict(window=99), dict(window=-1), dict(stride=-1), dict(baseline="sky")], ids=str)
def test_impossible_windows_are_refused(model: oi.Model, options: dict[str, object]) -> None:
    with pytest.raises(InputError):
        oi.occlusion(model, X, engine=ENGINE, **options)  # type: ignore[arg-type]


def test_activations_are_the_tensors(model: oi.Model) -> None:
    found = nets.forward(X)
    result = oi.activations(model, X, layer="body.relu1", tensors=["c2", "body.conv1"], engine=ENGINE)
    np.testing.assert_allclose(result.values, found["r1"], atol=1e-5)
    np.testing.assert_allclose(result.extra["c2"], found["c2"], atol=1e-5)
    np.testing.assert_allclose(result.extra["c1"], found["c1"], atol=1e-5)
    np.testing.assert_array_equal(
        result.extra["order"], np.argsort(-found["r1"].mean(axis=(2, 3)), axis=1, kind="stable")
    )
    by_index = oi.activations(model, X, layer="body.relu1", sort="index", engine=ENGINE)
    np.testing.assert_array_equal(by_index.extra["order"][0], np.arange(5))
    assert oi.activations(model, X, layer="head", engine=ENGINE).overlay().ndim == 3


def test_targets_per_sample(model: oi.Model) -> None:
    together = oi.gradcam(model, X, target=[0, "cat", 2], engine=ENGINE)  # type: ignore[list-item]
    apart = [oi.gradcam(model, X[i], target=t, engine=ENGINE) for i, t in enumerate([0, 0, 2])]
    np.testing.assert_allclose(together.values, np.concatenate([a.values for a in apart]), atol=1e-6)
    with pytest.raises(TargetError, match="2 target classes for 3 samples"):
        oi.gradcam(model, X, target=[0, 1], engine=ENGINE)
    with pytest.raises(TargetError, match=r"0\.5 is no class"):
        oi.gradcam(model, X, target=[0, 0.5, 2], engine=ENGINE)  # type: ignore[list-item]
    with pytest.raises(InputError, match="not by ndarray"):
        oi.gradcam(model, list(X), engine=ENGINE)  # type: ignore[arg-type]


def test_a_single_logit_is_explained_on_its_side() -> None:
    net, logit = nets.classifier(classes=1), nets.forward(X, classes=1)["logits"][:, 0]
    top = oi.saliency(net, X, engine=ENGINE, labels=["no", "yes"])  # without names it may as well be a number
    np.testing.assert_allclose(top.scores, np.abs(logit), rtol=1e-4)
    assert [e.index for e in top.explained] == [int(v >= 0) for v in logit]  # type: ignore[union-attr]
    np.testing.assert_allclose(oi.saliency(net, X, target=1, engine=ENGINE).scores, logit, rtol=1e-4)
    np.testing.assert_allclose(oi.saliency(net, X, target=0, engine=ENGINE).scores, -logit, rtol=1e-4)
    np.testing.assert_allclose(top.predictions[0][0].probability, 1 / (1 + np.exp(-abs(logit[0]))), rtol=1e-4)


def test_a_single_probability_has_two_sides() -> None:
    net, logit = nets.classifier(classes=1, final="Sigmoid"), nets.forward(X, classes=1)["logits"][:, 0]
    p = 1 / (1 + np.exp(-logit))
    for kind, score in (("logits", np.abs(logit)), ("output", np.maximum(p, 1 - p))):
        found = oi.saliency(net, X, score=kind, engine=ENGINE)  # type: ignore[arg-type]
        np.testing.assert_allclose(found.scores, score, rtol=1e-4)
        assert [e.index for e in found.explained] == [int(v > 0) for v in logit]  # type: ignore[union-attr]
        np.testing.assert_allclose([e.probability for e in found.explained], np.maximum(p, 1 - p), rtol=1e-4)  # type: ignore[union-attr]
        assert any("yes or no" in n for n in found.notes)
    occluded = oi.occlusion(net, X, window=12, stride=12, score="output", engine=ENGINE)
    assert occluded.extra["class"].shape == (3, 1, 1)


def test_what_was_compiled_before_does_not_hide_a_wrong_target(model: oi.Model) -> None:
    oi.gradcam(model, X, target=2, engine=ENGINE)
    for wrong in (99, -1, "99"):
        with pytest.raises(TargetError, match="no class"):
            oi.gradcam(model, X, target=wrong, engine=ENGINE)
    with pytest.raises(TargetError, match="no top:9"):
        oi.gradcam(model, X, target="top:9", engine=ENGINE)


def test_kinds_of_score_do_not_share_a_model() -> None:
    net = oi.load(nets.classifier(final="Softmax"))
    both = [
        oi.saliency(net, X, target=t, score=k, engine=ENGINE).scores for t in (1, "top") for k in ("logits", "output")
    ]  # type: ignore[arg-type]
    assert not np.allclose(both[0], both[1])
    assert not np.allclose(both[2], both[3])
    assert both[3].max() <= 1


def test_a_rule_registered_later_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    net = oi.load(nets.classifier())
    before = oi.saliency(net, X, engine=ENGINE).values
    kept = oi.RULES["Relu"]
    try:
        oi.rule("Relu")(lambda op, node, dy: dy * 3)
        assert not np.allclose(oi.saliency(net, X, engine=ENGINE).values, before)
    finally:
        oi.rule("Relu")(kept)
    np.testing.assert_array_equal(oi.saliency(net, X, engine=ENGINE).values, before)


def test_an_output_called_score_is_no_obstacle() -> None:
    net = nets.classifier()
    net.graph.node[-1].output[0] = net.graph.output[0].name = "score"
    np.testing.assert_allclose(
        oi.gradcam(net, X, engine=ENGINE).values, oi.gradcam(nets.classifier(), X, engine=ENGINE).values
    )
    np.testing.assert_allclose(
        oi.occlusion(net, X, engine=ENGINE).scores, nets.forward(X)["logits"].max(axis=1), rtol=1e-5
    )
    with pytest.raises(LayerError, match="'score' already"):
        oi.gradient(oi.load(net), "top", ["image"])


@pytest.mark.parametrize(("op", "second"), [("Mul", "p2"), ("Add", "q"), ("Div", "p2")])
def test_cam_refuses_what_is_not_linear(op: str, second: str) -> None:
    """Two things that depend on the photo meet behind the pool: there are no weights to speak of."""
    net = nets.classifier()
    del net.graph.node[-1]
    add = net.graph.node.append
    add(helper.make_node("GlobalMaxPool", [LAST], ["m"], name="max"))
    add(helper.make_node("Flatten", ["m"], ["q"], name="flat"))
    add(helper.make_node("Exp", ["f"], ["p2"], name="exp"))
    add(helper.make_node(op, ["f", second], ["g"], name="join"))
    add(helper.make_node("Gemm", ["g", "w3", "b3"], ["scores"], name="head"))
    with pytest.raises(LayerError, match=f"'{op}'"):
        oi.cam(net, X, engine=ENGINE)


def test_occlusion_follows_any_target(model: oi.Model) -> None:
    """Elements of a map, in a model without class scores."""
    net = nets.classifier()
    del net.graph.output[:]
    net.graph.output.append(helper.make_tensor_value_info("c2", TensorProto.FLOAT, ["N", 6, 6, 6]))
    result = oi.occlusion(net, X, target="c2[1, 2, 2:4]", window=4, stride=4, baseline="0", layer="r1", engine=ENGINE)
    clean = nets.forward(X)["c2"][:, 1, 2, 2:4].sum(axis=1)
    covered = X.copy()
    covered[:, :, 4:8, 4:8] = 0
    drop = clean - nets.forward(covered)["c2"][:, 1, 2, 2:4].sum(axis=1)
    np.testing.assert_allclose(result.values[:, 5, 5], drop, atol=1e-4)
    np.testing.assert_allclose(result.scores, clean, rtol=1e-4)
    assert "class" not in result.extra
    assert result.panel().ndim == 3


def test_activations_need_no_target() -> None:
    net = nets.classifier()
    del net.graph.output[:]
    net.graph.output.append(helper.make_tensor_value_info("c2", TensorProto.FLOAT, ["N", 6, 6, 6]))
    assert oi.activations(net, X, engine=ENGINE).tensor == "r1"


def test_misspelt_arguments_are_refused(model: oi.Model) -> None:
    with pytest.raises(InputError, match=r"no argument 'enigne' of gradcam: it takes model, x, target, .*engine"):
        oi.gradcam(model, X, enigne=ENGINE)  # type: ignore[call-arg]
    with pytest.raises(InputError, match="gradcam cannot be called like this, missing a required argument: 'x'"):
        oi.gradcam(model)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("method", "instead"), [(oi.attention, "generic_attention"), (oi.activations, "gradcam")], ids=["attention", "map"]
)
def test_methods_without_a_target_refuse_one(method: Any, instead: str, model: oi.Model) -> None:
    said = (
        rf"{method.__name__} explains no score, so it takes no target \({instead} takes one\): it takes model, x, layer"
    )
    with pytest.raises(InputError, match=said):
        method(model, X, target=3)
    with pytest.raises(InputError, match=said):
        method(model, X, "3")


def test_a_target_brings_its_own_score() -> None:
    """What is run again for changed photos explains the same score as the clean run."""
    net = oi.load(nets.classifier(final="Softmax"))
    for method, more in ((oi.occlusion, dict(window=4, stride=4)), (oi.gradcam, dict(flips=True)), (oi.sanity, {})):
        own = method(net, X, Index(2, "output"), engine=ENGINE, **more)  # type: ignore[operator]
        same = method(net, X, 2, score="output", engine=ENGINE, **more)  # type: ignore[operator]
        np.testing.assert_allclose(own.values, same.values, atol=1e-7)
        np.testing.assert_allclose(own.scores, same.scores, rtol=1e-6)


@pytest.mark.parametrize(
    "wrong", [dict(score="logit"), dict(precision="half"), dict(score=""), dict(along="")], ids=str
)
def test_words_that_mean_nothing_are_refused(wrong: dict[str, str], model: oi.Model) -> None:
    with pytest.raises(InputError, match="choose from"):
        oi.integrated_gradients(model, X, 2, steps=1, engine=ENGINE, **wrong)  # type: ignore[arg-type]


def test_cam_of_an_element_before_the_softmax(model: oi.Model) -> None:
    element = oi.cam(nets.classifier(final="Softmax"), X, target="scores[1]", engine=ENGINE)
    np.testing.assert_allclose(element.values, oi.cam(model, X, target=1, engine=ENGINE).values, atol=1e-6)


def test_weights_are_attributed_nothing(model: oi.Model) -> None:
    with pytest.raises(InputError, match="'w1' is one for all samples"):
        oi.saliency(model, X[:1], wrt="w1", engine=ENGINE)


def test_what_samples_share_is_attributed_to_one_of_them_at_most() -> None:
    """Its gradient is the sum over all of them."""
    proto = nets.classifier(extra_input=True)
    proto.graph.input[1].CopyFrom(helper.make_tensor_value_info("offset", TensorProto.FLOAT, [1, 4]))
    net, shared = oi.load(proto), np.ones((1, 4), np.float32)
    with pytest.raises(InputError, match="'offset' is one for all samples"):
        oi.saliency(net, {"image": X, "offset": shared}, 2, engine=ENGINE)
    alone = oi.saliency(net, {"image": X[:1], "offset": shared}, 2, engine=ENGINE)
    np.testing.assert_array_equal(alone.tensors["offset"], [[0, 0, 1, 0]])


def test_values_without_positions_are_not_drawn(tmp_path: Path) -> None:
    """Neither a row of numbers nor rows of tokens lie on the picture."""
    proto = nets.classifier()
    proto.graph.node[4].input[0] = "map"
    proto.graph.node.insert(4, helper.make_node("Reshape", ["tokens", "whole"], ["map"]))
    proto.graph.node.insert(4, helper.make_node("Reshape", ["a:2/x;0", "rows"], ["tokens"]))
    proto.graph.initializer.append(numpy_helper.from_array(np.array([0, 6, 36]), "rows"))
    proto.graph.initializer.append(numpy_helper.from_array(np.array([0, 6, 6, 6]), "whole"))
    for wrt, shape in (("scores", (1, 4)), ("tokens", (1, 6, 36))):
        result = oi.saliency(oi.load(proto), nets.photo(tmp_path), 2, wrt=wrt, engine=ENGINE)
        assert result.values.shape == shape
        with pytest.raises(ResultError, match="no map to draw"):
            result.overlay()
        assert [f.name for f in result.save(tmp_path / "out" / "photo")] == ["photo.npz", "photo.json"]
        assert any("no picture of them" in note for note in result.notes)
        assert json.loads((tmp_path / "out" / "photo.json").read_text())["attributed"] == [wrt]


def test_what_a_gradient_passed_is_recorded(model: oi.Model) -> None:
    for method in (oi.saliency, oi.input_x_gradient):
        assert method(model, X, through="head[1]", engine=ENGINE).params["through"] == "head[1]"


def test_a_dead_map_gets_a_sentence() -> None:
    result = oi.gradcam(nets.classifier(broken="dead"), X[:1], engine=ENGINE)
    assert not result.values.any()
    assert any("zero everywhere" in n for n in result.notes)


def test_nan_weights_are_named() -> None:
    with pytest.raises(ResultError, match="weight 'w2'"):
        oi.gradcam(nets.classifier(broken="nan"), X[:1], engine=ENGINE)


def test_nan_inputs_are_told_from_nan_weights() -> None:
    with pytest.raises(ResultError, match="though all weights are"):
        oi.gradcam(nets.classifier(), np.full_like(X[:1], np.nan), engine=ENGINE)


def test_inputs_without_values_are_zeros_and_noted() -> None:
    without = oi.gradcam(nets.classifier(extra_input=True), X, target=1, engine=ENGINE)
    assert "'offset' is not given and taken as zeros (--input offset=FILE)" in without.notes
    feeds = {"image": X, "offset": np.zeros((3, 4), np.float32)}
    with_offset = oi.gradcam(nets.classifier(extra_input=True), feeds, target=1, engine=ENGINE)
    np.testing.assert_allclose(
        with_offset.values, oi.gradcam(nets.classifier(), X, target=1, engine=ENGINE).values, atol=1e-6
    )
    np.testing.assert_array_equal(without.values, with_offset.values)


def test_layers_that_are_no_maps_are_refused(model: oi.Model) -> None:
    with pytest.raises(LayerError, match="not a map"):
        oi.gradcam(model, X, layer="head", engine=ENGINE)
    with pytest.raises(LayerError, match=r"Did you mean 'body\.relu2'"):
        oi.gradcam(model, X, layer="body.relu3", engine=ENGINE)


def test_a_target_that_does_not_depend_on_the_layer(model: oi.Model) -> None:
    with pytest.raises(TargetError, match="does not depend on 'other'"):
        oi.gradient(oi.load(two_heads()), Top(), ["other"])
    with pytest.raises(TargetError, match="does not depend"):
        oi.gradcam(two_heads(), X, target="other[0]", layer="spare", engine=ENGINE)


def two_heads() -> onnx.ModelProto:
    """A second output, and a map that nothing uses."""
    net = nets.classifier()
    net.graph.node.append(helper.make_node("Tanh", ["f"], ["other"], name="other"))
    net.graph.node.append(helper.make_node("Tanh", ["r1"], ["spare"], name="spare"))
    net.graph.output.append(helper.make_tensor_value_info("other", TensorProto.FLOAT, ["N", 6]))
    net.graph.output.append(helper.make_tensor_value_info("spare", TensorProto.FLOAT, ["N", 5, 12, 12]))
    return net


def test_results_say_everything(model: oi.Model, tmp_path: Path) -> None:
    result = oi.gradcam(model, nets.photo(tmp_path), target="Löwe", engine=ENGINE)
    files = result.save(tmp_path / "out" / "photo")
    assert sorted(f.name for f in files) == ["photo.json", "photo.npz", "photo.png"]
    record = json.loads((tmp_path / "out" / "photo.json").read_text(encoding="utf-8"))
    assert record["schema"] == 1
    assert record["target"] == "2"
    assert record["results"][0]["explained"]["label"] == "Löwe"
    assert record["tensor"] == LAST
    assert record["provider"] == "CPUExecutionProvider"
    assert len(record["model"]["sha256"]) == 64
    assert record["preprocessing"]["size"] == [12, 12]
    assert "onnx-inspect" in record["versions"]
    data = np.load(tmp_path / "out" / "photo.npz")
    np.testing.assert_array_equal(data["values"], result.values[0])
    assert data["map"].shape == (30, 40)
    assert result.panel().shape[2] == 3


def test_several_photos_go_to_a_folder(model: oi.Model, tmp_path: Path) -> None:
    (tmp_path / "ä").mkdir()
    photos = [nets.photo(tmp_path, "x.png"), nets.photo(tmp_path / "ä", "x.png", (20, 9))]
    result = oi.gradcam(model, photos, engine=ENGINE)
    assert len(result) == 2
    names = {f.name for f in result.save(tmp_path / "out", npz=False)}
    assert len(names) == 3
    assert "manifest.json" in names
    with pytest.raises(oi.InspectError, match="name a folder"):
        result.save(tmp_path / "one.png")


def test_what_was_assumed_is_said(model: oi.Model, tmp_path: Path) -> None:
    notes = oi.gradcam(nets.classifier(final="Softmax"), nets.photo(tmp_path), engine=ENGINE).notes
    for word in ("preprocessing", "before the final softmax", "layer: 'body.relu2'"):
        assert any(word in n for n in notes), word


def test_occlusion_says_where_samples_meet() -> None:
    proto = nets.classifier()
    proto.graph.node.append(helper.make_node("ReduceMax", ["scores", "first"], ["most"], keepdims=1))
    proto.graph.initializer.append(numpy_helper.from_array(np.array([0]), "first"))
    proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("most", TensorProto.FLOAT, [1, 4]))
    proto.opset_import[0].version = 18
    with pytest.raises(InputError, match=r"Samples do not stay apart .*--batch 1"):
        oi.occlusion(proto, nets.images(1), target="most[0]", layer="body.relu2", engine=ENGINE)
