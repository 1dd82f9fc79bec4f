"""probe: accuracies against a literal cross-validation on features in float64; labels that do not suffice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from onnx_inspect import image
from onnx_inspect.cli import cli
from onnx_inspect.engine import Engine
from onnx_inspect.errors import InputError, LayerError
from onnx_inspect.studies.probe import grid, probe

from . import nets
from .test_embed import HOW, folder, samples


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return nets.save(tmp_path, metadata=nets.NAMES)


def noisy(root: Path, count: int = 40) -> Path:
    """Photos of two classes that differ a little: a probe is right now and then."""
    rng = np.random.default_rng(8)
    for i in range(count):
        path = root / "noisy" / ("a", "b")[i % 2] / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 200, (12, 12, 3))
        pixels[..., i % 2] += 8
        image.write(path, pixels.astype(np.uint8))
    return root / "noisy"


def test_accuracy_is_that_of_a_literal_cross_validation(model: Path, tmp_path: Path) -> None:
    photos = noisy(tmp_path)
    found = probe(model, photos, layers=["body.relu1", "head"], folds=4, seed=3, preprocessing=HOW)
    layers = nets.forward(samples(photos))
    y = np.array([0] * 20 + [1] * 20)
    assert [row["layer"] for row in found.values["layers"]] == ["body.relu1", "head"]
    for row, x in zip(found.values["layers"], (layers["r1"].mean(axis=(2, 3)), layers["logits"]), strict=True):
        scores = []
        for train, test in StratifiedKFold(4, shuffle=True, random_state=3).split(x, y):
            mean, std = x[train].mean(axis=0), x[train].std(axis=0)
            fit = LogisticRegression(max_iter=1000).fit((x[train] - mean) / std, y[train])
            scores.append(float((fit.predict((x[test] - mean) / std) == y[test]).mean()))
        assert row["folds"] == pytest.approx(scores)
        assert row["accuracy"] == pytest.approx(np.mean(scores))
        assert row["std"] == pytest.approx(np.std(scores))
        assert 0.4 < row["accuracy"] < 1  # something was to be seen
    assert found.values["chance"] == 0.5


def test_layers_run_from_the_first_to_the_scores(model: Path, tmp_path: Path) -> None:
    found = probe(model, folder(tmp_path), preprocessing=HOW)
    names = [row["layer"] for row in found.values["layers"]]
    assert names[0] == "body.relu1"
    assert names[-1] == "head"
    assert found.values["layers"][0]["accuracy"] == 1  # red and blue
    assert any("--layers" in note for note in found.notes)
    given = probe(model, folder(tmp_path), layers=["head", "body.*1"], preprocessing=HOW)
    assert [row["layer"] for row in given.values["layers"]] == ["body.conv1", "body.relu1", "head"]


def test_a_grid_of_means() -> None:
    x = np.random.default_rng(0).normal(size=(3, 5, 12, 18)).astype(np.float32)
    expected = x.reshape(3, 5, 6, 2, 6, 3).mean(axis=(3, 5)).transpose(0, 2, 3, 1).reshape(3, -1)
    np.testing.assert_allclose(grid(x, "NCHW"), expected, atol=1e-5)
    np.testing.assert_allclose(grid(np.moveaxis(x, 1, -1), "NHWC"), expected, atol=1e-5)
    wide = np.random.default_rng(0).normal(size=(2, 500, 4, 4)).astype(np.float32)
    assert grid(wide, "NCHW").shape == (2, 2000)  # 2 x 2 cells
    assert grid(np.repeat(wide, 2, axis=1), "NCHW").shape == (2, 1000)  # none fit: means
    assert grid(wide[:, :, 0, 0], "NC").shape == (2, 500)


def test_labels_that_do_not_suffice(model: Path, tmp_path: Path) -> None:
    photos = folder(tmp_path)
    with pytest.raises(InputError, match="there are no labels"):
        probe(model, photos / "red", preprocessing=HOW)
    one = tmp_path / "one.csv"
    one.write_text("path,label\n" + "".join(f"{p},red\n" for p in photos.rglob("*.png")))
    with pytest.raises(InputError, match="there is 1"):
        probe(model, one, preprocessing=HOW)
    for path in sorted((photos / "blue").iterdir())[1:]:
        path.write_bytes(b"nothing")
    with pytest.raises(InputError, match="at least 2 classes of 2 photos"):
        probe(model, photos, preprocessing=HOW)


def test_small_classes_make_fewer_folds_and_single_photos_are_left_out(model: Path, tmp_path: Path) -> None:
    photos = folder(tmp_path)
    for name, count in (("three", 3), ("lone", 1)):
        (photos / name).mkdir()
        for i in range(count):
            image.write(photos / name / f"{i}.png", np.full((12, 12, 3), 30 * i, np.uint8))
    found = probe(model, photos, preprocessing=HOW)
    assert found.values["classes"] == {"blue": 6, "red": 6, "three": 3}
    assert found.params["folds"] == 3
    assert found.values["chance"] == pytest.approx(6 / 15)
    assert any("3 folds instead of 5" in note for note in found.notes)
    assert any("lone" in note for note in found.notes)
    listed = tmp_path / "some.csv"
    names = sorted(photos.rglob("*.png"))
    listed.write_text("path,label\n" + "".join(f"{p},{p.parent.name if i % 3 else ''}\n" for i, p in enumerate(names)))
    assert any("have no label" in note for note in probe(model, listed, preprocessing=HOW).notes)


def test_bad_arguments(model: Path, tmp_path: Path) -> None:
    photos = folder(tmp_path)
    with pytest.raises(InputError, match="--folds"):
        probe(model, photos, folds=1, preprocessing=HOW)
    with pytest.raises(LayerError):
        probe(model, photos, layers=["body.relu9"], preprocessing=HOW)
    with pytest.raises(InputError, match="--layers"):
        probe(model, photos, engine=Engine("cpu", max_memory=1000), preprocessing=HOW)


def test_the_command(model: Path, tmp_path: Path) -> None:
    photos = folder(tmp_path)
    done = CliRunner().invoke(cli, ["probe", str(model), str(photos), "--folds", "3", "-o", str(tmp_path / "p.png")])
    assert done.exit_code == 0, done.output
    assert "body.relu1" in done.output
    assert image.read(tmp_path / "p.png").shape[2] == 3
