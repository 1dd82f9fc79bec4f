"""Measures of trust against literal loops and closed forms."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnx_inspect as oi
from onnx_inspect.comparison import explain, sheet
from onnx_inspect.engine import Engine
from onnx_inspect.errors import InputError, ResultError
from onnx_inspect.methods.sanity import rank_correlation, shuffled, ssim, weighted
from onnx_inspect.resources import bundled
from onnx_inspect.trust.road import impute

from . import nets

ENGINE = Engine("cpu", threads=1)
X = nets.images(2)


@pytest.fixture(scope="module")
def model() -> oi.Model:
    return oi.load(nets.classifier())


def softmax(logits: np.ndarray) -> np.ndarray:
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True))


def linear(weights: np.ndarray) -> onnx.ModelProto:
    """Scores of vectors, x W."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", len(weights)])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", weights.shape[1]])],
        [numpy_helper.from_array(weights.astype(np.float32), "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


W = np.random.default_rng(3).normal(size=(6, 3))
VECTORS = np.random.default_rng(4).normal(size=(4, 6)).astype(np.float32)


def literal_curve(heat: np.ndarray, steps: int, start: np.ndarray, end: np.ndarray, target: int) -> np.ndarray:
    """Pixels change one group after the other, each run alone."""
    found = []
    for k in range(steps + 1):
        x = start.astype(np.float64).copy()
        for n in range(len(x)):
            order = np.argsort(-heat[n].ravel())
            chosen = order[: int(np.ceil(k / steps * len(order)))]
            rows, columns = np.unravel_index(chosen, heat[n].shape)
            x[n][:, rows, columns] = end[n][:, rows, columns]
        found.append(softmax(nets.forward(x)["logits"])[:, target])
    return np.stack(found, axis=1)


def test_deletion_and_insertion_are_their_definitions(model: oi.Model) -> None:
    result = oi.saliency(model, X, target=2, engine=ENGINE)
    black = np.zeros_like(X)
    curve = oi.deletion(model, X, result, steps=9, baseline="0", engine=ENGINE)
    expected = literal_curve(result.heat, 9, X, black, 2)
    np.testing.assert_allclose(curve.scores, expected, rtol=1e-4)
    np.testing.assert_allclose(curve.area, (expected[:, 1:] + expected[:, :-1]).sum(axis=1) / 18, rtol=1e-4)
    other = oi.insertion(model, X, result, steps=9, baseline="0", engine=ENGINE)
    np.testing.assert_allclose(other.scores, literal_curve(result.heat, 9, black, X, 2), rtol=1e-4)


def test_what_matters_goes_first(model: oi.Model) -> None:
    """The area under deletion is less for the right order than for its reverse."""
    result = oi.occlusion(model, X, target=2, window=2, stride=1, baseline="0", engine=ENGINE)
    right = oi.deletion(model, X, result, baseline="0", engine=ENGINE).area
    result.heat = -result.heat
    assert (right < oi.deletion(model, X, result, baseline="0", engine=ENGINE).area).all()


def test_vectors_and_maps_of_layers(model: oi.Model) -> None:
    flat = oi.load(linear(W))
    result = oi.input_x_gradient(flat, VECTORS, target=1, engine=ENGINE)
    curve = oi.deletion(flat, VECTORS, result, steps=6, engine=ENGINE)
    assert curve.scores.shape == (4, 7)
    np.testing.assert_allclose(curve.scores[:, -1], 1 / 3, rtol=1e-5)  # all zero: nothing is known
    coarse = oi.gradcam(model, X, target=1, engine=ENGINE)  # 6x6 maps are enlarged to the input
    assert oi.deletion(model, X, coarse, steps=2, engine=ENGINE).scores.shape == (2, 3)
    inner = oi.input_x_gradient(flat, VECTORS, target=1, wrt=["y"], engine=ENGINE)
    with pytest.raises(ResultError, match="does not lie on the input"):
        oi.deletion(flat, VECTORS, inner, engine=ENGINE)
    with pytest.raises(ResultError, match="2 samples"):
        oi.deletion(model, X[:1], coarse, engine=ENGINE)
    with pytest.raises(InputError, match="0 steps"):
        oi.deletion(model, X, coarse, steps=0, engine=ENGINE)


def test_a_lone_pixel_is_the_weighted_mean_of_its_neighbours() -> None:
    picture = np.random.default_rng(0).normal(size=(2, 5, 6))
    gone = np.zeros((5, 6), bool)
    gone[2, 3] = True
    around = picture[:, 1:4, 2:5]
    weights = np.array([[1, 2, 1], [2, 0, 2], [1, 2, 1]]) / 12
    expected = (around * weights).sum(axis=(1, 2))
    filled = impute(picture, gone, np.random.default_rng(0))
    assert np.abs(filled[:, 2, 3] - expected).max() < 0.06  # noise of 0.01
    np.testing.assert_array_equal(filled[:, ~gone], picture[:, ~gone])
    corner = np.zeros((5, 6), bool)
    corner[0, 0] = True
    expected = (2 * picture[:, 0, 1] + 2 * picture[:, 1, 0] + picture[:, 1, 1]) / 5
    assert np.abs(impute(picture, corner, np.random.default_rng(0))[:, 0, 0] - expected).max() < 0.06


def test_imputation_keeps_a_plane() -> None:
    """Harmonic filling continues what is linear."""
    plane = np.add.outer(np.arange(9.0), 2 * np.arange(9.0))[None]
    gone = np.zeros((9, 9), bool)
    gone[2:6, 3:7] = True
    assert np.abs(impute(plane, gone, np.random.default_rng(0)) - plane).max() < 0.06


def test_road_rewards_the_right_order(model: oi.Model) -> None:
    result = oi.occlusion(model, X, target=2, window=2, stride=1, baseline="mean", engine=ENGINE)
    right = oi.road(model, X, result, engine=ENGINE)
    result.heat = -result.heat
    np.testing.assert_allclose(oi.road(model, X, result, engine=ENGINE), -right, rtol=0.5, atol=0.05)
    assert (right > 0).all()
    flat = oi.load(linear(W))
    with pytest.raises(InputError, match="picture"):
        oi.road(flat, VECTORS, oi.saliency(flat, VECTORS, engine=ENGINE), engine=ENGINE)


def test_average_drop_is_its_formula(model: oi.Model) -> None:
    result = oi.saliency(model, X, target=2, engine=ENGINE)
    mask = result.heat / result.heat.max(axis=(1, 2), keepdims=True)
    before, after = (softmax(nets.forward(x)["logits"])[:, 2] for x in (X, X * mask[:, None]))
    expected = np.maximum(before - after, 0) / before
    np.testing.assert_allclose(oi.average_drop(model, X, result, engine=ENGINE), expected, rtol=1e-3, atol=1e-6)


def test_gradients_of_linear_models_are_faithful_and_do_not_move() -> None:
    flat = oi.load(linear(W))
    right = oi.saliency(flat, VECTORS, target=0, signed=True, engine=ENGINE)
    assert oi.infidelity(flat, VECTORS, right, engine=ENGINE).max() < 1e-9
    wrong = oi.saliency(flat, VECTORS, target=1, signed=True, engine=ENGINE)
    wrong.explained = right.explained
    spread = 0.1 * (VECTORS.max(axis=1) - VECTORS.min(axis=1))
    expected = spread**2 * ((W[:, 1] - W[:, 0]) ** 2).sum()  # the variance of noise times the difference
    np.testing.assert_allclose(oi.infidelity(flat, VECTORS, wrong, samples=4000, engine=ENGINE), expected, rtol=0.1)
    moved = oi.max_sensitivity(oi.saliency, flat, VECTORS, right, engine=ENGINE, signed=True)
    assert moved.max() < 1e-6
    moved = oi.max_sensitivity(
        oi.input_x_gradient, flat, VECTORS, oi.input_x_gradient(flat, VECTORS, target=0, engine=ENGINE), engine=ENGINE
    )
    assert 0 < moved.max() < 0.1


def test_infidelity_needs_attributions_of_the_input(model: oi.Model) -> None:
    with pytest.raises(ResultError, match="shaped like the input"):
        oi.infidelity(model, X, oi.gradcam(model, X, engine=ENGINE), engine=ENGINE)


def test_a_baseline_is_not_passed_over(model: oi.Model) -> None:
    """Where the input is no picture grey is zero; all else means what it says."""
    flat = oi.load(linear(W))
    result = oi.saliency(flat, VECTORS, target=0, engine=ENGINE)
    ends = {"mean": VECTORS.mean(axis=1, keepdims=True), "2": np.full((4, 1), 2.0), "grey": np.zeros((4, 1))}
    for baseline, values in ends.items():
        gone = oi.deletion(flat, VECTORS, result, steps=1, baseline=baseline, engine=ENGINE).scores[:, -1]
        np.testing.assert_allclose(gone, softmax(np.broadcast_to(values, (4, 6)) @ W)[:, 0], rtol=1e-4)


def test_only_the_picture_is_blurred() -> None:
    """A second input, which has no positions, stays as it is."""
    two = oi.load(nets.classifier(extra_input=True))
    x = {"image": X, "offset": np.arange(8, dtype=np.float32).reshape(2, 4)}
    result = oi.saliency(two, x, target=2, engine=ENGINE)
    curve = oi.insertion(two, x, result, steps=3, engine=ENGINE)
    expected = softmax(nets.forward(X)["logits"] + x["offset"])[:, 2]
    np.testing.assert_allclose(curve.scores[:, -1], expected, rtol=1e-4)


def whole() -> oi.Model:
    """The classifier, for bytes."""
    proto = nets.classifier()
    proto.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    proto.graph.node[0].input[0] = "x"
    proto.graph.node.insert(0, helper.make_node("Mul", ["floats", "scale"], ["x"]))
    proto.graph.node.insert(0, helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT))
    proto.graph.initializer.append(numpy_helper.from_array(np.float32(1 / 64), "scale"))
    return oi.load(proto)


def test_whole_numbers_are_weighed_before_they_are_rounded() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 12, 12)).astype(np.uint8)
    result = oi.occlusion(whole(), pixels, target=3, window=3, stride=3, engine=ENGINE)
    result.heat = np.random.default_rng(1).random((2, 12, 12))
    mask = result.heat / result.heat.max(axis=(1, 2), keepdims=True)
    before, after = (softmax(nets.forward(x / 64)["logits"])[:, 3] for x in (pixels, np.rint(pixels * mask[:, None])))
    expected = np.maximum(before - after, 0) / before
    assert expected.min() > 0.1
    np.testing.assert_allclose(oi.average_drop(whole(), pixels, result, engine=ENGINE), expected, rtol=1e-3, atol=1e-5)
    with pytest.raises(InputError, match="uint8 numbers, which cannot change a little"):
        oi.max_sensitivity(oi.occlusion, whole(), pixels, result, engine=ENGINE)
    result.values = np.zeros(pixels.shape)
    with pytest.raises(InputError, match="uint8 numbers, which cannot change a little"):
        oi.infidelity(whole(), pixels, result, engine=ENGINE)


def test_nothing_cannot_be_measured(model: oi.Model) -> None:
    result = oi.saliency(model, X, engine=ENGINE)
    with pytest.raises(InputError, match="at least 1"):
        oi.infidelity(model, X, result, samples=0, engine=ENGINE)
    with pytest.raises(InputError, match="at least 1"):
        oi.max_sensitivity(oi.saliency, model, X, result, samples=0, engine=ENGINE)
    with pytest.raises(ResultError, match="arguments that the method was given"):
        oi.max_sensitivity(oi.gradcam, model, X, oi.gradcam(model, X, layer="body.relu1", engine=ENGINE), engine=ENGINE)
    for shares in ((), (0.5, 1.5)):
        with pytest.raises(InputError, match="between 0 and 1"):
            oi.road(model, X, result, shares=shares, engine=ENGINE)
    for measure in (oi.pointing_game, oi.energy_in_box):
        with pytest.raises(ResultError, match="boxes for 1 photos, the explanation is of 2"):
            measure(result, [[(0, 0, 5, 5)]])


def test_infidelity_does_not_depend_on_the_layout(model: oi.Model) -> None:
    last, images = oi.load(nets.classifier(nhwc=True)), nets.images(2, nhwc=True)
    results = [oi.saliency(m, x, target=1, engine=ENGINE) for m, x in ((model, X), (last, images))]
    first, second = (
        oi.infidelity(m, x, r, samples=3, engine=ENGINE)
        for m, x, r in zip((model, last), (X, images), results, strict=True)
    )
    np.testing.assert_allclose(first, second, rtol=1e-4)


def test_pointing_game_and_energy(model: oi.Model) -> None:
    result = oi.saliency(model, X, target=2, engine=ENGINE)
    result.heat = np.zeros((2, 12, 12))
    result.heat[0, 3:5, 6:8] = 2  # flat: its middle is (7, 4)
    result.heat[0, 10, 1] = 1
    result.heat[0, 0, 0] = -5  # speaks against: no energy
    assert oi.pointing_game(result, [[(6, 3, 8, 5)], [(0, 0, 12, 12)]]).tolist() == [True, False]
    tight = 224 / 12  # a tolerance of one pixel of this input
    assert oi.pointing_game(result, [[(8.5, 3, 9, 5)], []], tolerance=tight).tolist() == [False, False]
    assert oi.pointing_game(result, [[(7.9, 3, 9, 5)], []], tolerance=tight).tolist() == [True, False]
    share = oi.energy_in_box(result, [[(6, 3, 7, 5), (6, 3, 7, 4)], [(0, 0, 12, 12)]])
    np.testing.assert_allclose(share, [4 / 9, 0])


# Sanity.


def test_ssim_is_that_of_scikit_image() -> None:
    metrics = pytest.importorskip("skimage.metrics")
    rng = np.random.default_rng(1)
    a, b = rng.random((24, 20)), rng.random((24, 20))
    for m in (a, b):
        m.ravel()[:2] = 0, 1  # the range that ours scales to
    _, full = metrics.structural_similarity(
        a, b, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1, full=True
    )
    assert ssim(a, b) == pytest.approx(full.mean(), abs=1e-6)
    assert ssim(a, a) == pytest.approx(1)
    assert rank_correlation(a, -a) == pytest.approx(1)  # magnitudes
    assert rank_correlation(a, np.zeros_like(a)) == 0


def test_shuffling_touches_the_chosen_nodes_only(model: oi.Model) -> None:
    layers = weighted(model, "scores")
    assert [n.op_type for n in layers] == ["Gemm", "Conv", "Conv"]
    new = shuffled(model, layers[:1], 0)
    weights = {k: v.const_value.numpy() for k, v in new.ir.graph.initializers.items()}  # type: ignore[union-attr]
    known = nets.weights()
    assert not np.array_equal(weights["w3"], known["w3"])
    np.testing.assert_array_equal(np.sort(weights["w3"], axis=None), np.sort(known["w3"], axis=None))
    np.testing.assert_array_equal(weights["w1"], known["w1"])
    assert new.digest != model.digest
    assert new.digest == shuffled(model, layers[:1], 0).digest != shuffled(model, layers[:1], 1).digest


@pytest.mark.parametrize("independent", [False, True])
def test_gradients_pass_and_guided_backpropagation_fails(independent: bool) -> None:
    """As in the paper: on a real classifier, with the weights shuffled from the output down."""
    signs = oi.load(bundled("signs/clean.onnx"))
    photos: list[Any] = sorted(bundled("signs/photos").glob("*.jpg"))[:3]
    ranks = {
        of: oi.sanity(signs, photos, of=of, stages=4, independent=independent, engine=ENGINE).measures
        for of in ("saliency", "guided_backprop")
    }
    assert ranks["saliency"]["rank"].max() < 0.5 or independent
    assert (ranks["guided_backprop"]["rank"] > ranks["saliency"]["rank"]).all()
    if not independent:
        assert ranks["saliency"]["passed"].all()
        assert not ranks["guided_backprop"]["passed"].any()


def test_the_picture_of_a_sanity_check(tmp_path: Path) -> None:
    photo = min(bundled("signs/photos").glob("*.jpg"))
    result = oi.sanity(oi.load(bundled("signs/clean.onnx")), photo, stages=2, engine=ENGINE)
    assert result.extra["maps"].shape[:2] == (1, 2)
    assert [f.name for f in result.save(tmp_path / "s")] == ["s.png", "s.npz", "s.json"]
    assert result.lines(0)[0] == result.title(0)[0]
    assert "depends on the weights: mean rank correlation" in result.lines(0)[0]
    assert not any("passed" in line for line in result.lines(0))
    with pytest.raises(InputError, match="did you mean 'gradcam'"):
        oi.sanity(oi.load(bundled("signs/clean.onnx")), photo, of="gradcm", engine=ENGINE)
    with pytest.raises(InputError, match="'activations' makes no map"):
        oi.sanity(oi.load(bundled("signs/clean.onnx")), photo, of="activations", engine=ENGINE)


# Explain.


def test_explain_measures_every_method_and_says_which_do_not_fit(model: oi.Model) -> None:
    found = explain(model, X, 2, methods=["gradcam", "ixg", "cam"], metrics=["deletion", "infidelity"], engine=ENGINE)
    assert [e.method for e in found] == ["gradcam", "input_x_gradient", "cam"]
    assert np.isnan(found[0].measures["infidelity"]).all()
    assert any("infidelity of gradcam" in n for n in found[0].notes)
    result = found[1].result
    assert result is not None
    np.testing.assert_allclose(found[1].measures["deletion"], oi.deletion(model, X, result, engine=ENGINE).area)
    assert sheet(found).shape[2] == 3
    flat = explain(oi.load(linear(W)), VECTORS, 1, methods=["saliency", "gradcam"], engine=ENGINE)
    assert flat[1].result is None
    assert "left out" in flat[1].notes[0]
    for text in ("ixg", "ixg,", "ixg, cam"):
        found = explain(model, X, 2, methods=text, metrics="deletion", engine=ENGINE)
        assert [e.method for e in found] == ["input_x_gradient", "cam"][: text.count(" ") + 1]
        assert list(found[0].measures) == ["deletion"]
    for wrong in (
        dict(methods=["activations"]), dict(methods=["nothing"]), dict(metrics=["beauty"]), dict(methods=[]),
        dict(methods=""),
    ):  # fmt: skip
        with pytest.raises(InputError):
            explain(model, X, engine=ENGINE, **wrong)  # type: ignore[arg-type]


def test_a_sheet_has_cells_of_one_size_and_a_line_per_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    from onnx_inspect import layout

    photo = min(bundled("signs/photos").glob("*.jpg"))
    metrics = ("deletion", "infidelity", "max_sensitivity")
    model = oi.load(bundled("signs/clean.onnx"))
    found = explain(model, photo, methods="gradcam,ixg", metrics=metrics, engine=ENGINE)
    tiles, texts, grid, line = [], [], layout.grid, layout.line

    def watched(given: Any, *args: Any, **how: Any) -> Any:
        tiles.extend(given)
        return grid(given, *args, **how)

    def told(text: str, *args: Any, **how: Any) -> Any:
        texts.append(text)
        return line(text, *args, **how)

    monkeypatch.setattr(layout, "grid", watched)
    monkeypatch.setattr(layout, "line", told)
    sheet(found)
    assert len({tile.shape for tile in tiles}) == 1
    deletion = found[0].measures["deletion"][0]
    assert {f"deletion {deletion:.3g}", "infidelity \u2013"} <= set(texts)


def test_options_reach_the_method_and_its_measures(model: oi.Model) -> None:
    few = {"samples": 2, "seed": 5}
    (entry,) = explain(
        model, X, 2, methods=["smoothgrad"], metrics=["max_sensitivity"], options={"smoothgrad": few}, engine=ENGINE
    )
    assert entry.result is not None
    again = oi.max_sensitivity(partial(oi.smoothgrad, **few), model, X, entry.result, engine=ENGINE)  # type: ignore[arg-type]
    np.testing.assert_allclose(entry.measures["max_sensitivity"], again)
    (entry,) = explain(model, X, 2, methods=["ig"], options={"ig": {"steps": 7}}, engine=ENGINE)
    assert entry.result is not None
    assert entry.result.params["steps"] == 7
    with pytest.raises(InputError, match="options for 'gradcm'"):
        explain(model, X, methods=["gradcam"], options={"gradcm": {}}, engine=ENGINE)


def test_explain_knows_boxes(tmp_path: Path) -> None:
    """The stop sign's box holds most of the map, and its maximum; the other photo has none."""
    photos: list[Any] = [bundled("signs/photos") / name for name in ("08_stop_stamp.jpg", "01_yield.jpg")]
    corners = json.loads(bundled("signs/photos/boxes.json").read_text(encoding="utf-8"))[photos[0].name]["box"]
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps({photos[0].name: [corners]}))
    (found,) = explain(
        oi.load(bundled("signs/clean.onnx")), photos, methods=["gradcam"], metrics=[], boxes=str(boxes), engine=ENGINE
    )
    assert found.measures["pointing_game"][0] == 1
    assert 0.3 < found.measures["energy_in_box"][0] < 1
    assert np.isnan(found.measures["pointing_game"][1]) and np.isnan(found.measures["energy_in_box"][1])
