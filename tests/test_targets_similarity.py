"""Likeness to another photo, as a target."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

import onnx_inspect as oi
from onnx_inspect import image
from onnx_inspect.engine import Engine
from onnx_inspect.errors import LayerError, TargetError
from onnx_inspect.methods.job import SCORE, Job
from onnx_inspect.preprocess import Preprocessing
from onnx_inspect.target import parse

from . import nets

ENGINE = Engine("cpu", threads=1)
X = nets.images(3)
HOW = Preprocessing(size=(12, 12), resize="squash", color="RGB", scale=1 / 255, mean=(0.5,) * 3, std=(0.2,) * 3)


@pytest.fixture(scope="module")
def model() -> oi.Model:
    return oi.load(nets.classifier())


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    return nets.photo(tmp_path, "other one - @2.png", (12, 12))


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a @ b) / np.linalg.norm(a, axis=1) / np.linalg.norm(b)


def job(model: oi.Model, text: str) -> Job:
    return Job(model, X, text, engine=ENGINE, preprocessing=HOW)


def reference(photo: Path) -> dict[str, np.ndarray]:
    return nets.forward(HOW.batch([image.read(photo)]))


def test_cosine_of_outputs_and_layers(model: oi.Model, photo: Path) -> None:
    found, other = nets.forward(X), reference(photo)
    output = job(model, f"embedding:similarity='{photo}'")
    np.testing.assert_allclose(output.clean[SCORE], cosine(found["logits"], other["logits"][0]), rtol=1e-4)
    assert output.explained(output.clean) == [None] * 3
    layer = job(model, f"embedding:similarity='{photo}'@pool")
    np.testing.assert_allclose(layer.clean[SCORE], cosine(found["p"], other["p"][0]), rtol=1e-4)
    pooled = job(model, f"embedding:similarity='{photo}'@body.relu2")  # a map is averaged, as `embed` does
    np.testing.assert_allclose(pooled.clean[SCORE], cosine(found["p"], other["p"][0]), rtol=1e-4)
    assert pooled.fixed[1].feeds(2)["target.reference"].shape == (2, 6)


def test_a_photo_is_like_itself(model: oi.Model, photo: Path) -> None:
    found = oi.saliency(model, photo, f"embedding:similarity='{photo}'", engine=ENGINE, preprocessing=HOW)
    np.testing.assert_allclose(found.scores, 1, rtol=1e-5)
    assert np.abs(found.values).max() < 1e-4  # the cosine is at its top
    assert found.predictions == [[]]


def test_contrasts_of_references(model: oi.Model, photo: Path, tmp_path: Path) -> None:
    vector = np.array([1, -2, 0.5, 3])
    np.save(tmp_path / "vector.npy", vector)
    text = f"embedding:similarity={tmp_path / 'vector.npy'} - embedding:similarity='{photo}'"
    found, other = nets.forward(X)["logits"], reference(photo)["logits"][0]
    made = job(model, text)
    np.testing.assert_allclose(made.clean[SCORE], cosine(found, vector) - cosine(found, other), rtol=1e-4, atol=1e-6)
    g = made.gradients(["image"])["gradient.image"].astype(np.float64)
    u, step = np.random.default_rng(0).normal(size=X.shape), 1e-7
    moved = [nets.forward(X + s * step * u)["logits"] for s in (1, -1)]
    plus, minus = (cosine(rows, vector) - cosine(rows, other) for rows in moved)
    np.testing.assert_allclose((g * u).sum(axis=(1, 2, 3)), (plus - minus) / (2 * step), rtol=1e-3, atol=1e-5)


def test_one_compiled_model_serves_all_references(model: oi.Model) -> None:
    labels = job(model, "top").labels
    assert len({parse(f"embedding:similarity={p}", model, labels).key() for p in ("a.jpg", "b.npy")}) == 1


def test_what_is_no_reference(model: oi.Model, photo: Path, tmp_path: Path) -> None:
    def said(text: str, kind: type[Exception] = TargetError) -> str:
        with pytest.raises(kind) as error:
            job(model, text)
        return str(error.value)

    np.save(tmp_path / "long.npy", np.ones(5))
    np.save(tmp_path / "zero.npy", np.zeros(4))
    np.save(tmp_path / "words.npy", np.array(["a", "b", "c", "d"]))
    np.save(tmp_path / "pickled.npy", np.array([{}], dtype=object), allow_pickle=True)
    (tmp_path / "bad.npy").write_bytes(b"\x93NUMPY no")
    (tmp_path / "pickle.npy").write_bytes(pickle.dumps([1.0, 2.0, 3.0, 4.0]))
    assert "holds 5 numbers, and an embedding of 'scores' 4" in said(f"embedding:similarity={tmp_path / 'long.npy'}")
    assert "no direction" in said(f"embedding:similarity={tmp_path / 'zero.npy'}")
    assert "holds no numbers" in said(f"embedding:similarity={tmp_path / 'words.npy'}")
    assert "no array of numbers" in said(f"embedding:similarity={tmp_path / 'pickled.npy'}")
    assert "no array of numbers" in said(f"embedding:similarity={tmp_path / 'bad.npy'}")
    assert "no array of numbers" in said(f"embedding:similarity={tmp_path / 'pickle.npy'}")
    assert "cannot be" in said(f"embedding:similarity={tmp_path / 'missing.npy'}")
    assert "cannot be taken" in said(f"embedding:similarity={tmp_path / 'missing.jpg'}")
    said(f"embedding:similarity='{photo}'@nope", LayerError)


def test_climbing_towards_a_photo(model: oi.Model, photo: Path) -> None:
    from onnx_inspect.ascent.easel import Easel

    easel = Easel(model, f"embedding:similarity='{photo}'", engine=ENGINE, preprocessing=HOW)
    score, slope = easel.slope(image.read(photo))
    np.testing.assert_allclose(score, 1, rtol=1e-4)
    assert slope.shape == (12, 12, 3)
