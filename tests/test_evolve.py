"""Evolution: CKA against its definitions, units against NumPy, and the record of a training."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from onnx import numpy_helper

from onnx_inspect import image
from onnx_inspect.cli import cli
from onnx_inspect.engine import Engine
from onnx_inspect.errors import InputError, InspectError, LayerError, PhotoError
from onnx_inspect.features.similarity import bounded, cka, gram
from onnx_inspect.model import Model
from onnx_inspect.preprocess import Preprocessing
from onnx_inspect.studies.evolve import _rest, evolve

from . import nets

PLAIN = Preprocessing((12, 12), "squash", scale=1 / 255, mean=(0.5,), std=(0.25,))
HOW: dict[str, Any] = dict(engine=Engine("cpu", threads=1), preprocessing=PLAIN)
Floats = NDArray[np.floating]


def features(n: int = 9, d: int = 5, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).normal(1, 2, (n, d))


# CKA.


def defined(x: Floats, y: Floats) -> float:
    """Kornblith et al., equation 4 and 3, as written: HSIC with centring matrices."""
    h = np.eye(len(x)) - 1 / len(x)

    def hsic(k: Floats, m: Floats) -> float:
        return float(np.trace(k @ h @ m @ h)) / (len(x) - 1) ** 2

    k, m = x @ x.T, y @ y.T
    return hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m))


def unbiased(x: Floats, y: Floats) -> float:
    """HSIC as a U-statistic: over all ordered choices of four different samples (Song et al. 2012)."""

    def hsic(k: Floats, m: Floats) -> float:
        terms = [k[i, j] * (m[i, j] + m[q, r] - 2 * m[i, q]) for i, j, q, r in itertools.permutations(range(len(k)), 4)]
        return float(np.mean(terms))

    k, m = x @ x.T, y @ y.T
    return hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m))


def test_cka_is_what_it_is_defined_to_be() -> None:
    x, y = features(9, 5), features(9, 12, seed=1) + features(9, 12, seed=2) * 0.3
    assert cka(gram(x), gram(y)) == pytest.approx(defined(x, y), abs=1e-12)
    centred = [a - a.mean(0) for a in (x, y)]
    by_features = np.linalg.norm(centred[1].T @ centred[0]) ** 2 / np.prod([np.linalg.norm(a.T @ a) for a in centred])
    assert cka(gram(x), gram(y)) == pytest.approx(by_features, abs=1e-12)
    assert cka(gram(x), gram(y), debiased=True) == pytest.approx(unbiased(x, y), abs=1e-10)


@pytest.mark.parametrize("debiased", [False, True])
def test_cka_sees_no_rotation_scale_or_shift(debiased: bool) -> None:
    x = features(12, 6)
    q, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(6, 6)))
    for same in (x @ q, 3 * x, x + 7, x):
        assert cka(gram(x), gram(same), debiased) == pytest.approx(1, abs=1e-12)
    assert cka(gram(x), gram(x * [1, 1, 1, 9, 9, 9]), debiased) < 0.95


def test_cka_of_few_samples_is_biased_and_the_other_is_not() -> None:
    pairs = [(gram(features(12, 400, seed=s)), gram(features(12, 400, seed=s + 500))) for s in range(100)]
    assert np.mean([cka(a, b) for a, b in pairs]) > 0.9
    assert abs(np.mean([cka(a, b, debiased=True) for a, b in pairs])) < 0.06


def test_cka_of_what_is_constant() -> None:
    for constant in (1, 0.1, 1 / 3):  # whose mean is rounded
        assert np.isnan(cka(gram(np.full((7, 3), constant)), gram(features(7, 3))))
        assert np.isnan(cka(gram(np.full((7, 3), constant)), gram(np.full((7, 3), constant))))
    assert np.isnan(cka(gram(features(3)), gram(features(3)), debiased=True))


@pytest.mark.parametrize("debiased", [False, True])
@pytest.mark.parametrize("size", [1e-45, 1e38])
def test_cka_of_any_size(size: float, debiased: bool) -> None:
    x = np.repeat(features(7, 3), 1500, axis=1)
    assert cka(gram(x * size), gram(x * size), debiased) == pytest.approx(1)


def test_means_do_not_overflow() -> None:
    assert np.isfinite(bounded(np.full((1, 2, 8, 8), 3e38, np.float32), "NCHW", 2)).all()


def test_features_are_bounded() -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 8, 6)).astype(np.float32)
    np.testing.assert_array_equal(bounded(x, "NCHW"), x.reshape(2, -1))
    cells = [x[:, :, a : a + 4, b : b + 3].mean(axis=(2, 3)) for a in (0, 4) for b in (0, 3)]
    np.testing.assert_allclose(bounded(x, "NCHW", 15), np.stack(cells, 2).reshape(2, -1), rtol=1e-5)
    np.testing.assert_allclose(bounded(np.moveaxis(x, 1, -1), "NHWC", 15), bounded(x, "NCHW", 15), rtol=1e-5)
    np.testing.assert_allclose(bounded(x, "NCHW", 2), x.mean(axis=(2, 3)), rtol=1e-5)
    tokens = np.random.default_rng(0).normal(size=(2, 7, 5)).astype(np.float32)
    np.testing.assert_allclose(bounded(tokens, None, 6), tokens.mean(axis=1), rtol=1e-5)
    assert bounded(np.ones((2, 5000), np.float32), None).shape == (2, 5000)


def test_rest_begins_after_the_last_change() -> None:
    def row(*near: float) -> Floats:
        found = np.eye(len(near) + 1)
        for k, value in enumerate(near):
            found[k, k + 1] = value
        return found

    assert _rest(row(0.99, 0.97), 0.95) == 0
    assert _rest(row(0.99, 0.5, 0.97), 0.95) == 2
    assert _rest(row(0.5, 0.99, 0.5, 0.97), 0.95) == 3
    assert _rest(row(0.99, 0.5), 0.95) is None


# The study.


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    for i in range(6):
        pixels = np.random.default_rng(i).integers(0, 256, (12, 12, 3), np.uint8)
        image.write(tmp_path / f"photos/{i}.png", pixels)
    return tmp_path / "photos"


def checkpoint(change: float, *, rename: str = "", classes: int = 4) -> onnx.ModelProto:
    """The classifier with its second convolution moved."""
    proto = nets.classifier(classes=classes)
    w = next(t for t in proto.graph.initializer if t.name == "w2")
    moved = numpy_helper.to_array(w) + np.float32(change) * np.random.default_rng(1).normal(size=w.dims).astype(
        np.float32
    )
    w.CopyFrom(numpy_helper.from_array(moved, "w2"))
    if rename:
        for node in proto.graph.node:
            node.name = node.name.replace("conv1", rename).replace("relu1", rename)
            for names in (node.input, node.output):
                names[:] = [rename if n == "r1" else n for n in names]
    return proto


def series(folder: Path, *changes: float) -> list[Path]:
    paths = []
    for k, change in enumerate(changes):
        paths.append(folder.parent / f"step{k}.onnx")
        onnx.save(checkpoint(change), paths[-1])
    return paths


def samples(folder: Path) -> Floats:
    return np.stack([PLAIN.apply(image.read(p)) for p in sorted(folder.glob("*.png"))])


def test_layers_and_units_against_numpy(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = evolve(series(folder, 2, 1, 0), photos=[str(folder)], channel=[4, 1], compare=6, top=2, **HOW)
    weights, by_change = nets.weights(), []
    for change in (2, 1, 0):
        w2 = weights["w2"] + np.float32(change) * np.random.default_rng(1).normal(size=weights["w2"].shape).astype(
            np.float32
        )
        monkeypatch.setattr(nets, "weights", lambda classes=4, w2=w2: weights | {"w2": w2})
        by_change.append(nets.forward(samples(folder)))
    layers = {row["layer"]: row for row in found.values["layers"]}
    assert list(layers) == ["body.relu1", "body.relu2", "flatten_1", "head"]
    assert layers["body.relu1"]["neighbours"] == [1, 1]
    assert layers["body.relu1"]["still_from"] == "step0"
    for name, key in (("body.relu2", "a"), ("flatten_1", "p"), ("head", "logits")):
        rows = [f[key].reshape(6, -1) for f in by_change]
        np.testing.assert_allclose(layers[name]["neighbours"], [defined(*rows[:2]), defined(*rows[1:])], atol=1e-4)
        np.testing.assert_allclose(layers[name]["last"], [defined(r, rows[2]) for r in rows], atol=1e-4)
    assert [(u["checkpoint"], u["channel"]) for u in found.values["units"]] == [
        (f"step{k}", c) for k in range(3) for c in (4, 1)
    ]
    for unit in found.values["units"]:
        maps = by_change[int(unit["checkpoint"][-1])]["a"][:, unit["channel"]]
        peaks = maps.reshape(len(maps), -1).max(1)
        assert len(unit["places"]) == 2
        for place, photo in zip(unit["places"], np.argsort(-peaks, kind="stable"), strict=False):
            assert place["value"] == pytest.approx(peaks[photo], abs=1e-4)
            assert Path(place["photo"]).stem == str(photo)
            assert place["position"] == list(np.unravel_index(maps[photo].argmax(), maps.shape[1:]))
    assert set(found.pictures) == {"", "saliency", "similarity"}
    assert len(found.models) == 3


def test_the_class_is_that_of_the_last_checkpoint(folder: Path) -> None:
    found = evolve(series(folder, 3, 0), photos=[str(folder)], rows=2, **HOW)
    said = {(Path(p["photo"]).stem, p["checkpoint"]): p for p in found.values["photos"]}
    assert len(said) == 4
    top = nets.forward(samples(folder))["logits"].argmax(1)
    for stem in {stem for stem, _ in said}:
        assert {said[stem, f"step{k}"]["explained"] for k in range(2)} == {f"class {top[int(stem)]}"}
    other = evolve(series(folder, 3, 0), photos=[str(folder)], rows=1, target=2, **HOW)
    assert {p["explained"] for p in other.values["photos"]} == {"class 2"}


def test_photos_that_cannot_be_read_are_named_once(folder: Path) -> None:
    (folder / "zz.png").write_bytes(b"no photo")
    found = evolve(series(folder, 1, 0), photos=[str(folder)], compare=5, **HOW)
    assert [Path(s["photo"]).name for s in found.skipped] == ["zz.png"]
    assert any("5 of 7 photos, evenly spread" in note for note in found.notes)


def test_what_is_the_same_is_unchanged_for_any_threshold(folder: Path) -> None:
    found = evolve(series(folder, 0, 0), photos=[str(folder)], threshold=1.0, **HOW)
    assert [row["still_from"] for row in found.values["layers"]] == ["step0"] * 4


def test_equal_names_are_numbered(folder: Path) -> None:
    model = Model.load(series(folder, 0)[0])
    found = evolve([model, model], photos=[str(folder)], **HOW)
    assert found.values["checkpoints"] == ["step0 #1", "step0 #2"]
    assert all(row["neighbours"] == [1] for row in found.values["layers"])


def test_a_layer_that_is_constant_has_no_cka(folder: Path) -> None:
    dead = checkpoint(0)
    w = next(t for t in dead.graph.initializer if t.name == "w2")
    w.CopyFrom(numpy_helper.from_array(np.zeros(w.dims, np.float32), "w2"))
    found = evolve([Model.load(checkpoint(0)), Model.load(dead)], photos=[str(folder)], **HOW)
    (line,) = [line for line in found.lines if line.startswith("body.relu2")]
    assert "the same for all photos" in line
    assert "changing" not in line


def test_another_network_is_refused(folder: Path) -> None:
    models = [Model.load(checkpoint(0, rename="other")), Model.load(checkpoint(0))]
    with pytest.raises(LayerError, match=r"has no layer 'body\.relu1'"):
        evolve(models, photos=[str(folder)], **HOW)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        (dict(photos=[]), InputError, "--photos"),
        (dict(threshold=0.0), InputError, "--threshold"),
        (dict(compare=3), InputError, "--compare"),
        (dict(channel=[6]), InputError, "no channel 6: they are numbered 0 to 5"),
        (dict(layer="nowhere"), InspectError, "no layer or tensor 'nowhere'"),
    ],
)
def test_what_cannot_be(folder: Path, options: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        evolve(series(folder, 1, 0), **{"photos": [str(folder)]} | options, **HOW)


def test_too_little_to_compare(folder: Path) -> None:
    with pytest.raises(InputError, match="single checkpoint"):
        evolve(series(folder, 1), photos=[str(folder)], **HOW)
    few = [str(folder / f"{i}.png") for i in range(3)]
    with pytest.raises(PhotoError, match="four photos or more, and only 3"):
        evolve(series(folder, 1, 0), photos=few, **HOW)


def test_the_command(folder: Path) -> None:
    models = [str(p) for p in series(folder, 2, 1, 0)]
    words = [
        "evolve",
        *models,
        "--photos",
        str(folder),
        "--channel",
        "2",
        "--size",
        "12x12",
        "-o",
        str(folder / "out.png"),
    ]
    done = CliRunner().invoke(cli, [*words, "--json"])
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    assert record["params"]["channel"] == [2]
    assert len(record["files"]) == 5
    assert image.read(folder / "out.similarity.png").shape[1] > 1000
