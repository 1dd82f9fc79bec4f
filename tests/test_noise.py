"""SmoothGrad: literal means over the same noise, in float64."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from onnx import helper

import onnx_inspect as oi
from onnx_inspect.engine import Engine
from onnx_inspect.errors import InputError
from onnx_inspect.methods.job import draws

from . import nets
from .test_backprop import backward, close
from .test_paths import W, gemm

ENGINE = Engine("cpu", threads=1, batch=4)
X = nets.images(2)
COUNT = 9


@pytest.fixture(scope="module")
def model() -> oi.Model:
    return oi.load(nets.classifier())


def noisy(deviation: float | np.ndarray, count: int = COUNT, seed: int = 0) -> list[np.ndarray]:
    """Copies of both images; they share the noise, but for its deviation."""
    return [X + deviation * source.standard_normal((1, 3, 12, 12)) for source in draws(seed, np.arange(count))]


def share(part: float) -> np.ndarray:
    return part * np.array([np.ptp(x) for x in X])[:, None, None, None]


def smooth(model: oi.Model, **more: Any) -> oi.Attribution:
    return oi.smoothgrad(model, **{"x": X, "target": 1, "samples": COUNT, "engine": ENGINE, **more})


@pytest.mark.parametrize("kind", ["mean", "squared", "variance"])
def test_smoothgrad_is_its_mean(kind: Any, model: oi.Model) -> None:
    gradients = np.array([backward(x, 1)["image"] for x in noisy(share(0.15), seed=3)])
    expected = {
        "mean": gradients.mean(axis=0),
        "squared": (gradients**2).mean(axis=0),
        "variance": gradients.var(axis=0),
    }
    result = smooth(model, kind=kind, seed=3)
    close(result.values, expected[kind])
    assert not result.signed  # gradients are drawn, and ranked, by their magnitude
    assert smooth(model, kind=kind, of="input_x_gradient").signed == (kind == "mean")


@pytest.mark.parametrize(
    ("of", "literal"),
    [
        ("input_x_gradient", lambda x: x * backward(x, 1)["image"]),
        ("guided_backprop", lambda x: backward(x, 1, "guided_backprop")["image"]),
        (partial(oi.saliency, wrt=["r1"]), lambda x: np.abs(backward(x, 1)["r1"])),
        (
            partial(oi.integrated_gradients, quadrature="left", steps=2),
            lambda x: x * (backward(0 * x, 1)["image"] + backward(0.5 * x, 1)["image"]) / 2,
        ),
        (
            "gradcam",
            lambda x: np.maximum(
                (backward(x, 1)["a"].mean(axis=(2, 3), keepdims=True) * nets.forward(x)["a"]).sum(axis=1), 0
            ),
        ),
    ],
    ids=["input_x_gradient", "guided_backprop", "layer", "integrated_gradients", "gradcam"],
)
def test_any_method_can_be_smoothed(of: Any, literal: Any, model: oi.Model) -> None:
    result = smooth(model, of=of, noise=0.1)
    close(result.values, np.mean([literal(x) for x in noisy(share(0.1))], axis=0))
    if of == "gradcam":
        assert result.layer == "body.relu2"
        assert any("layer:" in note for note in result.notes)


def test_conventions_of_the_references(model: oi.Model) -> None:
    captum = smooth(model, preset="captum", samples=0)
    close(captum.values, np.mean([backward(x, 1)["image"] for x in noisy(1.0, 5)], axis=0))
    copies = [*noisy(share(0.1), 20)[:-1], X]
    zennit = smooth(model, preset="zennit", samples=0)
    close(zennit.values, np.mean([backward(x, 1)["image"] for x in copies], axis=0))
    close(smooth(model, preset="zennit", samples=1).values, backward(X, 1)["image"])


def test_the_class_stays_that_of_the_clean_photo(model: oi.Model) -> None:
    top = nets.forward(X)["logits"].argmax(axis=1)
    copies = noisy(share(0.5), 20)
    assert any((nets.forward(x)["logits"].argmax(axis=1) != top).any() for x in copies)
    result = smooth(model, target="top", noise=0.5, samples=20)
    for i in range(2):
        close(result.values[i], np.mean([backward(x[i : i + 1], int(top[i]))["image"][0] for x in copies], axis=0))


def test_linear_models_stay_as_they_are() -> None:
    linear = gemm(W, [helper.make_node("Gemm", ["x", "w"], ["y"])])
    x = np.random.default_rng(2).normal(size=(3, 6)).astype(np.float32)
    close(oi.smoothgrad(linear, x, target=1, engine=ENGINE).values, np.broadcast_to(W[:, 1], (3, 6)))
    variance = oi.smoothgrad(linear, x, target=1, kind="variance", engine=ENGINE)
    np.testing.assert_allclose(variance.values, 0, atol=1e-12)


def test_all_inputs_get_noise() -> None:
    model = oi.load(nets.classifier(extra_input=True))
    offset = np.arange(8, dtype=np.float32).reshape(2, 4)
    result = oi.smoothgrad(
        model, {"image": X, "offset": offset}, target=1, of="input_x_gradient", samples=COUNT, engine=ENGINE
    )
    sources = draws(0, np.arange(COUNT))
    images = [X + share(0.15) * s.standard_normal((1, 3, 12, 12)) for s in sources]
    offsets = [offset + 0.15 * 3 * s.standard_normal((1, 4)) for s in sources]
    close(result.tensors["image"], np.mean([x * backward(x, 1)["image"] for x in images], axis=0))
    close(result.tensors["offset"], np.mean(offsets, axis=0) * np.eye(4)[1])


def test_the_order_of_the_inputs_does_not_matter() -> None:
    model = oi.load(nets.classifier(extra_input=True))
    x = {"image": X, "offset": np.arange(8, dtype=np.float32).reshape(2, 4)}
    one, other = (smooth(model, x=given) for given in (x, dict(reversed(x.items()))))
    np.testing.assert_array_equal(one.values, other.values)


def test_wrong_words_are_refused(model: oi.Model) -> None:
    with pytest.raises(InputError, match="did you mean 'saliency'"):
        smooth(model, of="salience")
    with pytest.raises(InputError, match="'activations' makes no map"):
        smooth(model, of="activations")
    with pytest.raises(InputError, match="samples"):
        smooth(model, samples=-1)
