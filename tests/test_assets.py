"""Real trained models on real photos: right predictions, right maps."""

from __future__ import annotations

import gzip
from functools import cache
from typing import Any

import numpy as np
import pytest

import onnx_inspect as oi
from onnx_inspect.engine import Engine
from onnx_inspect.maps import channels_first
from onnx_inspect.methods.inputs import guess_preprocessing
from onnx_inspect.scores import scores
from onnx_inspect.target import Index

from .shared import ASSETS, manifest, needs_assets, photos

pytestmark = needs_assets

# model, how it is fed (flags), photos, right answers of how many at least, offset of its classes.
MODELS = {
    "squeezenet1.1_fp32_caffe2": ({"preset": "caffe"}, "imagenet", 16, 0),
    "mobilenetv2_fp32_pytorch_opset12": ({"preset": "imagenet"}, "imagenet", 24, 0),
    "mobilenet_v1_0.25_128_nhwc_fp32_tf": ({}, "imagenet", 12, 1),
    "cifar10_cnn_pytorch17": (
        {"scale": 1 / 255, "mean": (0.5,), "std": (0.5,), "color": "RGB"},
        "cifar10_public",
        62,
        0,
    ),
    "resnet8_cifar10_keras_nhwc": ({"preset": "raw"}, "cifar10_public", 75, 0),
    "mnist-7_cntk": ({}, "mnist", 980, 0),
    "mnist_keras_tf2onnx_nhwc": ({}, "mnist", 980, 0),
}
ENGINE = Engine("cpu", threads=1, batch=16)


@cache
def load(name: str) -> Any:
    return oi.load(ASSETS / "models" / f"{name}.onnx")


def preprocessing(name: str) -> oi.Preprocessing:
    return guess_preprocessing(load(name), **MODELS[name][0])[0]


@cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    folder = ASSETS / "images" / "mnist"
    pixels = np.frombuffer(gzip.decompress((folder / "t10k-images-idx3-ubyte.gz").read_bytes()), np.uint8, offset=16)
    labels = np.frombuffer(gzip.decompress((folder / "t10k-labels-idx1-ubyte.gz").read_bytes()), np.uint8, offset=8)
    return pixels.reshape(-1, 28, 28)[:1000], labels[:1000]


def feed(name: str, count: int | None = None) -> tuple[np.ndarray, list[int]]:
    """Inputs and right answers for a model."""
    from onnx_inspect import image

    how, (_, kind, _, offset) = preprocessing(name), MODELS[name]
    if kind == "mnist":
        pixels, labels = digits()
        return how.batch([np.repeat(p[..., None], 3, axis=2) for p in pixels[:count]]), labels[:count].tolist()
    entries = photos(kind)[:count]
    index = [e.get("imagenet_index", e.get("class_index")) + offset for e in entries]
    return how.batch([image.read(ASSETS / e["file"]) for e in entries]), index


@pytest.mark.parametrize("name", MODELS)
def test_predictions_are_right(name: str) -> None:
    x, labels = feed(name)
    model = load(name)
    tensor = scores(model).tensor
    rows = ENGINE.run(oi.expose(model, [tensor]), {model.inputs[0].name: x}, [tensor])[tensor]
    right = int((rows.reshape(len(x), -1).argmax(axis=1) == labels).sum())
    assert right >= MODELS[name][2], f"{right} of {len(x)}"


@pytest.mark.parametrize("name", MODELS)
def test_gradcam_is_its_formula(name: str) -> None:
    """The map equals the formula in NumPy over the outputs of vjp, is not constant, and differs between classes."""
    x, labels = feed(name, 3)
    x, model = x[:1], load(name)
    found = scores(model)
    result = oi.gradcam(model, x, target=labels[0], engine=ENGINE, preprocessing=preprocessing(name))
    layer = model.layer(result.tensor)
    assert layer.role == "spatial"

    adjoint = oi.vjp(model, [layer.tensor], [found.tensor])
    clean = ENGINE.run(
        oi.expose(model, [layer.tensor, found.tensor]), {model.inputs[0].name: x}, [layer.tensor, found.tensor]
    )
    cotangent = np.zeros_like(clean[found.tensor])
    cotangent.reshape(-1)[labels[0]] = 1
    gradient = ENGINE.run(adjoint, {model.inputs[0].name: x, f"cotangent.{found.tensor}": cotangent})
    A = channels_first(clean[layer.tensor], layer.layout).astype(np.float64)
    g = channels_first(gradient[f"gradient.{layer.tensor}"], layer.layout).astype(np.float64)
    expected = np.maximum(np.einsum("nk,nkhw->nhw", g.mean(axis=(2, 3)), A), 0)

    assert np.ptp(expected) > 0
    np.testing.assert_allclose(result.values, expected, atol=1e-5 * expected.max(), rtol=0)
    other = oi.gradcam(
        model, x, target="top:2" if result.predictions[0][0].index == labels[0] else "top", engine=ENGINE
    )
    assert np.abs(result.values - other.values).max() > 1e-3 * np.abs(expected).max()


@pytest.mark.parametrize("name", ["squeezenet1.1_fp32_caffe2", "mobilenetv2_fp32_pytorch_opset12"])
@pytest.mark.parametrize(("target", "box"), [(243, "dog"), (242, "dog"), ("tiger cat", "cat")], ids=str)
def test_both_animals(name: str, target: int | str, box: str) -> None:
    """On the photo of a dog and a cat, each class's map peaks on its own animal."""
    path = ASSETS / "images" / "misc" / "both.png"
    corners = {b[0]: b[1:] for b in manifest()["images/misc/both.png"]["boxes_xyxy"]}[box]
    values = oi.gradcam(load(name), path, target=target, engine=ENGINE, preprocessing=preprocessing(name)).map()
    y, x = np.unravel_index(values.argmax(), values.shape)
    assert corners[0] <= x < corners[2], (x, y)
    assert corners[1] <= y < corners[3], (x, y)


@pytest.mark.parametrize(
    "name",
    [
        "squeezenet1.1_fp32_caffe2",
        "mobilenetv2_fp32_pytorch_opset12",
        "mobilenet_v1_0.25_128_nhwc_fp32_tf",
        "resnet8_cifar10_keras_nhwc",
    ],
)
def test_cam_is_gradcam_up_to_scale(name: str) -> None:
    """Where the head is global average pooling and a linear layer, relu(CAM) / positions is Grad-CAM."""
    x, _ = feed(name, 2)
    gradcam = oi.gradcam(load(name), x, engine=ENGINE)
    cam = oi.cam(load(name), x, engine=ENGINE)
    assert cam.tensor == gradcam.tensor
    scaled = np.maximum(cam.values, 0) / np.prod(cam.values.shape[1:])
    np.testing.assert_allclose(scaled, gradcam.values, atol=1e-5 * gradcam.values.max())


def test_the_class_map_of_squeezenet_is_named_as_such() -> None:
    x, _ = feed("squeezenet1.1_fp32_caffe2", 1)
    notes = " ".join(oi.gradcam(load("squeezenet1.1_fp32_caffe2"), x, engine=ENGINE).notes)
    assert "the class map itself" in notes
    assert "--layer concat_8" in notes


def test_the_logits_convolution_of_tf_mobilenet_is_not_chosen() -> None:
    x, _ = feed("mobilenet_v1_0.25_128_nhwc_fp32_tf", 1)
    result = oi.gradcam(load("mobilenet_v1_0.25_128_nhwc_fp32_tf"), x, engine=ENGINE)
    assert result.values.shape[1:] == (4, 4)


def test_one_compiled_model_serves_every_class() -> None:
    model, (x, _) = load("cifar10_cnn_pytorch17"), feed("cifar10_cnn_pytorch17", 2)
    engine = Engine("cpu", threads=1)
    maps = [oi.gradcam(model, x, target=Index(k), engine=engine).values for k in range(10)]
    assert len(engine.sessions) == 1
    both = oi.gradcam(model, x, target=[3, 7], engine=engine).values
    np.testing.assert_allclose(both, np.stack([maps[3][0], maps[7][1]]), rtol=1e-5)
