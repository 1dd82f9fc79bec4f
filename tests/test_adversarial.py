"""Attacks: closed forms of linear models, literal loops, and photos that stay photos."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

import onnx_inspect as oi
from onnx_inspect import image
from onnx_inspect.cli import cli
from onnx_inspect.engine import Engine
from onnx_inspect.errors import InputError, OutputError, TargetError
from onnx_inspect.methods.attack import CrossEntropy
from onnx_inspect.methods.job import SCORE, Job
from onnx_inspect.preprocess import Preprocessing

from . import nets

ENGINE = Engine("cpu", threads=1)
RNG = np.random.default_rng(11)
W = RNG.normal(size=(6, 2))
V = RNG.normal(size=(3, 6)).astype(np.float32)
BIAS = np.array([0.3, -0.2])
BGR = Preprocessing(
    (8, 8), scale=1 / 255, mean=(0.4, 0.45, 0.5), std=(0.2, -0.25, 0.3), color="BGR", resize="squash", layout="NHWC"
)


def linear(weights: np.ndarray, shape: list[int], bias: np.ndarray | float = 0.0) -> onnx.ModelProto:
    """Scores that are sums of weights times inputs."""
    arrays = {"w": weights.astype(np.float32), "b": np.broadcast_to(bias, weights.shape[1]).astype(np.float32)}
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("Gemm", ["f", "w", "b"], ["y"])],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *shape])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", weights.shape[1]])],
        [numpy_helper.from_array(v, k) for k, v in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


TABLE = linear(W, [6], BIAS)
PHOTO_WEIGHTS = RNG.normal(size=(8, 8, 3, 2)) / 30
PHOTOS = linear(PHOTO_WEIGHTS.reshape(-1, 2), [8, 8, 3])


def side(x: np.ndarray) -> np.ndarray:
    """The direction that leads a row of the table away from its class, and how far the other class is behind."""
    scores = x @ W + BIAS
    first = scores.argmax(axis=1)
    return (W[:, 1 - first] - W[:, first]).T, np.abs(scores[:, 0] - scores[:, 1])


def pixels(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, (*shape, 8, 8, 3)).astype(np.uint8)


# The loss.


@pytest.mark.parametrize("score", ["logits", "output"])
@pytest.mark.parametrize("final", ["", "Softmax", "Sigmoid", "LogSoftmax"])
def test_the_loss_is_minus_the_logarithm_of_the_probability(final: str, score: Any) -> None:
    job = Job(nets.classifier(final=final), nets.images(3), score=score, engine=ENGINE)
    logits = nets.forward(nets.images(3))["logits"]
    p = 1 / (1 + np.exp(-logits)) if final == "Sigmoid" else np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    found = job.gradients(["image"], target=CrossEntropy((2, 0, 1), score))
    np.testing.assert_allclose(found[SCORE], -np.log(p[np.arange(3), [2, 0, 1]]), rtol=1e-4)


def test_the_gradient_of_the_loss_weighs_all_classes() -> None:
    job = Job(linear(RNG.normal(size=(6, 4)), [6]), V, engine=ENGINE)
    w = numpy_helper.to_array(job.model.to_proto().graph.initializer[0])
    logits = V @ w
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    found = job.gradients(["x"], target=CrossEntropy((3, 3, 3), "logits"))
    np.testing.assert_allclose(found["gradient.x"], (p - np.eye(4)[3]) @ w.T, atol=1e-5)


# Closed forms.


def test_fgsm_of_a_linear_model_moves_by_the_sign_of_its_weights() -> None:
    result = oi.fgsm(TABLE, V, epsilon=0.25, engine=ENGINE)
    np.testing.assert_allclose(result.values, 0.25 * np.sign(side(V)[0]), atol=1e-6)
    np.testing.assert_allclose(result.extra["adversarial"], V + result.values, atol=1e-6)
    np.testing.assert_allclose(result.measures["linf"], 0.25, rtol=1e-5)
    np.testing.assert_allclose(result.measures["l2"], 0.25 * 6**0.5, rtol=1e-5)
    scores = (V + 0.25 * np.sign(side(V)[0])) @ W + BIAS
    before = (V @ W + BIAS).argmax(axis=1)
    rows = np.arange(3)
    np.testing.assert_allclose(result.measures["score_after"], scores[rows, before], rtol=1e-4)
    p = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(result.measures["probability_after"], p[rows, before], rtol=1e-4)
    np.testing.assert_array_equal(result.measures["success"], scores.argmax(axis=1) != before)


def test_fgsm_in_l2_moves_along_the_weights() -> None:
    result = oi.fgsm(TABLE, V, epsilon=0.25, norm="l2", engine=ENGINE)
    away = side(V)[0]
    np.testing.assert_allclose(result.values, 0.25 * away / np.linalg.norm(away, axis=1, keepdims=True), atol=1e-6)


@pytest.mark.parametrize(("norm", "order"), [("linf", 1), ("l2", 2)])
@pytest.mark.parametrize("attack", ["fgsm", "pgd"])
def test_the_smallest_change_of_a_linear_model_is_its_margin(attack: Any, norm: Any, order: int) -> None:
    result = oi.minimal_perturbation(TABLE, V, attack=attack, norm=norm, tolerance=0.001, engine=ENGINE)
    away, margin = side(V)
    expected = margin / np.linalg.norm(away, order, axis=1)
    assert (result.measures["epsilon"] >= expected * (1 - 1e-5)).all()
    np.testing.assert_allclose(result.measures["epsilon"], expected, rtol=0.002)
    np.testing.assert_allclose(result.measures[norm], result.measures["epsilon"], rtol=1e-4)
    assert result.measures["success"].all()
    changed = (result.extra["adversarial"] @ W + BIAS).argmax(axis=1)
    np.testing.assert_array_equal(changed, 1 - (V @ W + BIAS).argmax(axis=1))


def test_what_cannot_be_reached_stays_as_it_is() -> None:
    result = oi.minimal_perturbation(TABLE, V, epsilon=1e-4, engine=ENGINE)
    assert not result.measures["success"].any()
    assert np.isnan(result.measures["epsilon"]).all()
    np.testing.assert_array_equal(result.extra["adversarial"], V)


def test_what_is_seen_so_already_needs_nothing() -> None:
    other = [int(c) for c in 1 - (V @ W + BIAS).argmax(axis=1)]
    result = oi.minimal_perturbation(TABLE, V, other, engine=ENGINE)
    np.testing.assert_array_equal(result.measures["epsilon"], 0)
    np.testing.assert_array_equal(result.measures["success"], 1)
    assert any("3 of 3 samples are seen so" in note for note in result.notes)
    assert not any("zero everywhere" in note for note in result.notes)


# Projected gradient descent.


def descent(x: np.ndarray, to: int, epsilon: float, step: float, steps: int, norm: str) -> np.ndarray:
    """Towards a class of the small network, sample by sample, with gradients of its logits by the chain rule."""
    model, at = oi.load(nets.classifier()), x.astype(np.float64)
    for _ in range(steps):
        rows = nets.forward(at)["logits"]
        p = np.exp(rows - rows.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        slope = np.zeros_like(at)
        for k in range(4):
            one = oi.saliency(model, at.astype(np.float32), k, signed=True, engine=ENGINE).values
            slope += (p[:, k] - (k == to))[:, None, None, None] * one
        for i in range(len(at)):
            move = np.sign(slope[i]) if norm == "linf" else slope[i] / np.sqrt((slope[i] ** 2).sum())
            change = at[i] - step * move - x[i]
            length = np.sqrt((change**2).sum())
            at[i] = x[i] + (change.clip(-epsilon, epsilon) if norm == "linf" else change * min(1, epsilon / length))
    return at


@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 0.2), ("l2", 3.0)])
def test_pgd_is_its_loop(norm: Any, epsilon: float) -> None:
    x, no_bounds = nets.images(2), (-1e6, 1e6)  # bounds make it an input in the model's units
    result = oi.pgd(nets.classifier(), x, to=3, epsilon=epsilon, steps=6, norm=norm, bounds=no_bounds, engine=ENGINE)
    expected = descent(x, 3, epsilon, 2.5 * epsilon / 6, 6, norm)
    np.testing.assert_allclose(result.extra["adversarial"], expected, atol=2e-4 * epsilon)
    np.testing.assert_allclose(result.measures[norm], epsilon, rtol=1e-4)
    own = oi.pgd(nets.classifier(), x, to=3, epsilon=epsilon, steps=6, step=epsilon / 9, norm=norm, bounds=no_bounds)
    np.testing.assert_allclose(
        own.extra["adversarial"], descent(x, 3, epsilon, epsilon / 9, 6, norm), atol=2e-4 * epsilon
    )


def test_bounds_are_kept() -> None:
    x = np.clip(nets.images(2), -1, 1)
    result = oi.pgd(nets.classifier(), x, 0, epsilon=0.5, bounds=(-1, 1), engine=ENGINE)
    changed = result.extra["adversarial"]
    assert changed.min() == -1
    assert changed.max() == 1
    assert np.abs(result.values).max() <= 0.5 + 1e-6
    with pytest.raises(InputError, match="beyond -1 and 1"):
        oi.pgd(nets.classifier(), 3 * x, 0, bounds=(-1, 1), engine=ENGINE)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_same_seed_gives_the_same_bytes(norm: Any) -> None:
    options: Any = {"epsilon": 0.3, "steps": 1, "step": 1e-6, "norm": norm, "random_start": True, "engine": ENGINE}
    one, same, other = (oi.pgd(TABLE, V, seed=seed, **options).values for seed in (1, 1, 2))
    assert one.tobytes() == same.tobytes()
    assert np.abs(one - other).max() > 0.01
    size = np.abs(one).max(axis=1) if norm == "linf" else np.linalg.norm(one, axis=1)
    assert (size <= 0.3 + 1e-5).all()
    assert size.min() > 0.03
    alone = oi.pgd(TABLE, V[1:2], seed=1, **options).values
    np.testing.assert_allclose(alone[0], one[1], atol=1e-6)  # whatever else is in the batch


def test_random_starts_fill_the_ball_evenly() -> None:
    """In six dimensions the radius to the sixth is uniform; in linf each number is."""
    model = oi.load(TABLE)
    options: Any = {"steps": 1, "step": 1e-9, "random_start": True, "engine": ENGINE}
    l2 = [oi.pgd(model, V[:1], epsilon=1, norm="l2", seed=k, **options).measures["l2"][0] ** 6 for k in range(60)]
    linf = [oi.pgd(model, V[:1], epsilon=1, seed=k, **options).values for k in range(60)]
    for share in (0.25, 0.5, 0.75):
        assert abs(np.mean(np.array(l2) < share) - share) < 0.2
        assert abs(np.mean(np.abs(linf) < share) - share) < 0.1


def test_captums_steps() -> None:
    """The sign in both norms, gradients below 1e-6 left alone, bounds after the step."""
    x = nets.images(2)
    result = oi.fgsm(nets.classifier(), x, 1, epsilon=0.1, norm="l2", preset="captum", engine=ENGINE)
    length = np.sqrt((result.values**2).sum(axis=(1, 2, 3)))
    np.testing.assert_allclose(length, 0.1, rtol=1e-5)
    plain = oi.pgd(nets.classifier(), x, 1, epsilon=9, steps=1, step=0.1, norm="l2", preset="captum", engine=ENGINE)
    np.testing.assert_allclose(np.abs(plain.values)[plain.values != 0], 0.1, rtol=1e-4)
    flat = oi.fgsm(linear(np.array([[0.0, 1e-7], [0.0, 1.0]]), [2]), np.zeros((1, 2), np.float32), 0, preset="captum")
    np.testing.assert_allclose(flat.values, [[0, 8]])


# Photos.


def test_photos_stay_photos() -> None:
    photos = pixels(2)
    photos[:, :4] = 0
    photos[:, 4:6] = 255
    photos[:, 6], photos[:, 7] = 1, 254
    x = BGR.batch(list(photos))
    for attack in (oi.fgsm, oi.pgd):
        for norm, epsilon in (("linf", 5.0), ("linf", 3.7), ("l2", 30.0), ("l2", 5.0)):
            result = attack(PHOTOS, x, epsilon=epsilon, norm=norm, preprocessing=BGR, engine=ENGINE)
            for i in range(2):
                changed = result.overlay(i)
                np.testing.assert_array_equal(BGR.apply(changed), result.extra["adversarial"][i])  # to the last bit
                difference = changed.astype(float) - photos[i]
                measured = np.abs(difference).max() if norm == "linf" else np.sqrt((difference**2).sum())
                assert 0 < measured <= epsilon
                np.testing.assert_allclose(result.measures[norm][i], measured)
                np.testing.assert_array_equal(result.heat[i], np.abs(difference).max(axis=-1))


def test_what_rounding_enlarges_stays_below_255() -> None:
    """One pixel that counts the most has room for a single step: the others share what is left of the ball."""
    weights = np.zeros((8, 8, 3, 2))
    weights[..., 1] = 1e-3
    weights[2, 3, 1, 1] = 0.03
    photo = np.full((1, 8, 8, 3), 100, np.uint8)
    photo[0, 2, 3, 1] = 254
    raw = Preprocessing((8, 8), resize="squash", layout="NHWC")
    model = linear(weights.reshape(-1, 2), [8, 8, 3], np.array([100.0, 0.0]))
    result = oi.fgsm(model, raw.batch(list(photo)), epsilon=14, norm="l2", preprocessing=raw, engine=ENGINE)
    assert result.extra["adversarial"][0, 2, 3, 1] == 255
    assert result.extra["adversarial"].max() == 255
    assert (result.values == 1).all()


def test_a_linear_model_of_photos_is_fooled_pixel_by_pixel() -> None:
    """Scale, mean, a negative deviation and the order of colours all lie between pixels and weights."""
    photos = pixels(2).clip(20, 230)
    x = BGR.batch(list(photos))
    scores = x.reshape(2, -1) @ PHOTO_WEIGHTS.reshape(-1, 2)
    result = oi.fgsm(PHOTOS, x, epsilon=7, preprocessing=BGR, engine=ENGINE)
    for i, first in enumerate(scores.argmax(axis=1)):
        away = (PHOTO_WEIGHTS[..., 1 - first] - PHOTO_WEIGHTS[..., first]) / np.array(BGR.std)  # in the order BGR
        np.testing.assert_array_equal(result.overlay(i).astype(int) - photos[i], 7 * np.sign(away[..., ::-1]))
    along = oi.fgsm(PHOTOS, x, epsilon=40, norm="l2", preprocessing=BGR, engine=ENGINE)
    for i, first in enumerate(scores.argmax(axis=1)):
        away = ((PHOTO_WEIGHTS[..., 1 - first] - PHOTO_WEIGHTS[..., first]) / np.array(BGR.std))[..., ::-1].ravel()
        change = (along.overlay(i).astype(float) - photos[i]).ravel()
        assert 38 < np.linalg.norm(change) <= 40
        assert change @ away / np.linalg.norm(change) / np.linalg.norm(away) > 0.97


def test_success_is_judged_after_rounding() -> None:
    photos = pixels(1).clip(30, 220)
    x = BGR.batch(list(photos))
    scores = (x.reshape(1, -1) @ PHOTO_WEIGHTS.reshape(-1, 2))[0]
    first = int(scores.argmax())
    slope = (PHOTO_WEIGHTS[..., 1 - first] - PHOTO_WEIGHTS[..., first]) / np.array(BGR.std) / 255
    needed = 4.5 * np.abs(slope).sum()  # steps of 4.5 pixels would do
    bias = np.zeros(2)
    bias[1 - first] = scores[first] - scores[1 - first] - needed
    model = linear(PHOTO_WEIGHTS.reshape(-1, 2), [8, 8, 3], bias)
    how: Any = {"preprocessing": BGR, "engine": ENGINE}
    assert oi.fgsm(model, x, epsilon=4.9, **how).measures["success"] == 0
    assert oi.fgsm(model, x, epsilon=5, **how).measures["success"] == 1
    smallest = oi.minimal_perturbation(model, x, **how)
    assert smallest.measures["epsilon"] == smallest.measures["linf"] == 5
    assert smallest.measures["success"] == 1
    l2 = oi.minimal_perturbation(model, x, norm="l2", epsilon=2000, **how)
    least = needed / np.linalg.norm(slope)
    assert least < l2.measures["l2"][0] <= l2.measures["epsilon"][0] < 1.05 * least


def test_the_picture_that_is_written_fools_the_model_when_it_is_read(tmp_path: Path) -> None:
    model, photo = nets.save(tmp_path, metadata=nets.NAMES), nets.photo(tmp_path)
    words = ["-o", str(tmp_path / "out"), "--device", "cpu", "--panel", "--manifest", "--to", "Löwe", "--epsilon", "60"]
    done = CliRunner().invoke(cli, ["pgd", str(model), str(photo), *words])
    assert done.exit_code == 0, done.output
    assert "success 1" in done.output
    assert "after the attack: Löwe (2) " in done.output
    assert "failed" not in done.output
    again = oi.saliency(model, tmp_path / "out" / "photo.pgd.png", engine=ENGINE)
    assert again.predictions[0][0].label == "Löwe"
    result = oi.pgd(model, photo, to=2, epsilon=60, engine=ENGINE)
    assert result.after[0][0] == again.predictions[0][0]
    assert result.record(0)["after"][0]["index"] == 2
    assert result.measures["probability_after"][0] > result.measures["probability_before"][0]
    assert image.read(tmp_path / "out" / "photo.pgd.panel.png").shape[1] > 1000
    with pytest.raises(OutputError, match=r"name a \.png"):
        result.save(tmp_path / "lossy.jpg")


def test_arrays_of_broken_pixels_are_rounded_and_said_so() -> None:
    x = BGR.batch(list(pixels(1))) + np.float32(0.3 / 255)
    result = oi.fgsm(PHOTOS, x, preprocessing=BGR, engine=ENGINE)
    assert any("no photo of whole pixels" in note for note in result.notes)


def test_pictures_that_need_not_fool_the_model_are_said_to_be_such() -> None:
    x = BGR.batch(list(pixels(1)))
    for options in ({"preset": "captum"}, {"bounds": (-5, 5)}):
        result = oi.fgsm(PHOTOS, x, epsilon=0.01, preprocessing=BGR, engine=ENGINE, **options)  # type: ignore[arg-type]
        assert any("may not fool" in note for note in result.notes)
        assert np.abs(result.values).max() == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize(
    ("attack", "ways"),
    [
        (oi.fgsm, "(a larger --epsilon)"),
        (oi.pgd, "(a larger --epsilon, more --steps)"),
        (oi.minimal_perturbation, "(a larger --epsilon)"),
    ],
)
def test_an_attack_that_fails_says_so(attack: Any, ways: str) -> None:
    result = attack(TABLE, V[:1], epsilon=1e-4, engine=ENGINE)
    assert result.measures["success"] == 0
    still = result.predictions[0][0].label
    assert f"the attack on 'sample-0' failed: the model still says {still} {ways}" in result.notes
    assert result.lines(0)[-2].startswith(f"after the attack: {still} (")


@pytest.mark.parametrize("epsilon", [0.001, 2.0])
def test_the_largest_change_is_drawn_in_full_colour(epsilon: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Changes far below a pixel step, and ones that leave the range of pixels, in RGB whatever the model takes."""
    drawn: list[Any] = []
    monkeypatch.setattr("onnx_inspect.layout.figure", lambda tiles, captions, title: drawn.append((tiles, captions)))
    x = BGR.batch(list(pixels(1)))
    result = oi.fgsm(PHOTOS, x, epsilon=epsilon, norm="l2", bounds=(-99, 99), preprocessing=BGR, engine=ENGINE)
    result.panel()
    tiles, captions = drawn[0]
    steps = (result.values[0] * np.array(BGR.std) * 255)[..., ::-1]
    expected = np.rint(128 + 127 * steps / np.abs(steps).max())
    assert abs(tiles[-1][20:300:40, 20:300:40].astype(float) - expected[:7, :7]).max() <= 1
    assert captions[-1] == f"change: grey 0, full colour {np.abs(steps).max():.3g}"


# What is refused.


@pytest.mark.parametrize("attack", [oi.fgsm, oi.pgd, oi.minimal_perturbation])
@pytest.mark.parametrize(
    ("options", "kind", "why"),
    [
        ({"epsilon": 0}, InputError, "no size"),
        ({"epsilon": np.nan}, InputError, "epsilon"),
        ({"epsilon": 8 / 255}, InputError, "steps of 0 to 255"),
        ({"to": "zebra"}, TargetError, "zebra"),
        ({"to": "top:2"}, TargetError, "is no class"),
        ({"to": 9}, TargetError, "no class 9"),
        ({"bounds": (1, 0)}, InputError, "lower and a higher"),
        ({"target": "y[0:2]"}, TargetError, "is no class"),
    ],
)
def test_what_makes_no_attack_is_said(attack: Any, options: dict, kind: type[Exception], why: str) -> None:
    with pytest.raises(kind, match=why):
        attack(PHOTOS, BGR.batch(list(pixels(1))), preprocessing=BGR, engine=ENGINE, **options)


def test_a_model_that_is_too_sure_is_fooled_by_its_margin() -> None:
    result = oi.fgsm(linear(1000 * W, [6]), V, engine=ENGINE)
    assert result.values.any() and not any("flat" in note for note in result.notes)


def test_other_numbers_that_lead_nowhere() -> None:
    with pytest.raises(InputError, match="lead nowhere"):
        oi.pgd(TABLE, V, steps=0, engine=ENGINE)
    with pytest.raises(InputError, match="lead nowhere"):
        oi.pgd(TABLE, V, step=-1, engine=ENGINE)
    with pytest.raises(InputError, match="tolerance"):
        oi.minimal_perturbation(TABLE, V, tolerance=0, engine=ENGINE)
    with pytest.raises(InputError, match="as pixels"):
        oi.fgsm(PHOTOS, 50 * RNG.normal(size=(1, 8, 8, 3)).astype(np.float32), preprocessing=BGR, engine=ENGINE)
