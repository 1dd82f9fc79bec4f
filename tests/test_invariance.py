"""Invariance: warps against what they must be, distances against a network in NumPy."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from onnx_inspect import image
from onnx_inspect.cli import cli
from onnx_inspect.engine import Engine
from onnx_inspect.errors import InputError, InspectError, TargetError
from onnx_inspect.geometry import Box
from onnx_inspect.model import Model
from onnx_inspect.preprocess import Preprocessing
from onnx_inspect.studies.invariance import invariance, matrix

from . import nets

PLAIN = Preprocessing((12, 12), "squash", scale=1 / 255, mean=(0.5,), std=(0.25,))
HOW = dict(engine=Engine("cpu", threads=1), preprocessing=PLAIN)
QUICK = dict(steps=3)


def picture(height: int = 12, width: int = 12, seed: int = 0) -> NDArray[np.uint8]:
    return nets.colourful(seed + 1, (height, width))[seed]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i in range(3):
        image.write(tmp_path / f"{i}.png", picture(seed=i))
    return tmp_path


# Warps.


@pytest.mark.parametrize("edge", ["grey", "reflect", "repeat"])
@pytest.mark.parametrize(("kind", "at"), [("shift", 0.0), ("zoom", 1.0), ("turn", 0.0), ("turn", 360.0)])
def test_nothing_changes_nothing(kind: str, at: float, edge: image.Edge) -> None:
    photo = picture(31, 40)
    np.testing.assert_array_equal(image.warp(photo, matrix(kind, at, (3, 1, 38, 30)), edge), photo)


@pytest.mark.parametrize(("edge", "first"), [("grey", None), ("reflect", [2, 1, 0]), ("repeat", [0, 0, 0])])
def test_a_shift_is_a_shift(edge: image.Edge, first: list[int] | None) -> None:
    photo = picture()
    found = image.warp(photo, matrix("shift", 0.25, (0, 0, 12, 12)), edge)
    np.testing.assert_array_equal(found[3:], photo[:9])
    np.testing.assert_array_equal(found[:3], np.full((3, 12, 3), 128) if first is None else photo[first])


@pytest.mark.parametrize(("at", "turns"), [(90, 1), (180, 2), (270, 3), (-90, 3)])
def test_a_turn_is_counterclockwise(at: float, turns: int) -> None:
    photo = picture()
    np.testing.assert_array_equal(image.warp(photo, matrix("turn", at, (0, 0, 12, 12))), np.rot90(photo, turns))


def test_a_zoom_keeps_the_middle() -> None:
    """Three times as large, every pixel's centre is on one of three pixels."""
    photo = picture()
    found = image.warp(photo, matrix("zoom", 3, (0, 0, 12, 12)))
    np.testing.assert_array_equal(found[1::3, 1::3], photo[4:8, 4:8])


def test_the_middle_is_that_of_what_the_model_sees() -> None:
    box: Box = (10, 20, 30, 60)
    for kind, at in (("zoom", 1.7), ("turn", 33.0)):
        np.testing.assert_allclose(matrix(kind, at, box) @ [20, 40, 1], [20, 40])
    np.testing.assert_allclose(matrix("shift", 0.5, box) @ [20, 40, 1], [20, 60])


# The study.


def literal(photo: NDArray[np.uint8], changed: NDArray[np.uint8]) -> tuple[float, float, float]:
    """Distances of the first map and of the features, and the probability of the first photo's class."""
    one, two = (nets.forward(PLAIN.apply(p)[None]) for p in (photo, changed))
    distances = [np.linalg.norm(one[k] - two[k]) / np.linalg.norm(one[k]) for k in ("r1", "p")]
    e = np.exp(two["logits"][0] - two["logits"].max())
    return float(distances[0]), float(distances[1]), float(e[one["logits"].argmax()] / e.sum())


def test_distances_against_numpy(folder: Path) -> None:
    found = invariance(Model.load(nets.classifier()), folder, shift=0.25, zoom=2.5, turn=90, steps=4, **HOW)  # type: ignore[arg-type]
    assert found.params["layer"] == ["body.relu1", "flatten_1"]
    assert found.values["shift"]["at"] == [-0.25, -0.125, 0, 0.125, 0.25]
    for kind in ("shift", "zoom", "turn"):
        for k, at in enumerate(found.values[kind]["at"]):
            photos = [picture(seed=i) for i in range(3)]
            rows = np.array([literal(p, image.warp(p, matrix(kind, at, (0, 0, 12, 12)))) for p in photos])
            for name, column in zip(("body.relu1", "flatten_1", "probability"), rows.T, strict=True):
                got = found.values[kind][name]
                assert got["mean"][k] == pytest.approx(column.mean(), abs=2e-5)
                assert got["deviation"][k] == pytest.approx(column.std(ddof=1), abs=2e-5)


def test_the_untouched_photo_is_nowhere_else(folder: Path) -> None:
    found = invariance(Model.load(nets.classifier()), folder, **QUICK, **HOW)  # type: ignore[arg-type]
    for kind, k in (("shift", 1), ("zoom", 0), ("turn", 0)):
        for name in found.params["layer"]:
            assert found.values[kind][name]["mean"][k] == 0
            assert found.values[kind][name]["deviation"][k] == 0


def test_a_layer_named_twice_is_one(folder: Path) -> None:
    found = invariance(Model.load(nets.classifier()), folder, layer=["body.conv1", "body.conv1"], **QUICK, **HOW)  # type: ignore[arg-type]
    assert found.params["layer"] == ["body.conv1"]


def test_the_photo_is_changed_before_it_is_cut(tmp_path: Path) -> None:
    """A crop sees what was outside of it come in: moved by its own height, it shows the rows below."""
    tall = picture(36, 12)
    image.write(tmp_path / "tall.png", tall)
    how = HOW | {"preprocessing": Preprocessing((12, 12), "crop", scale=1 / 255, mean=(0.5,), std=(0.25,))}
    found = invariance(Model.load(nets.classifier()), tmp_path / "tall.png", shift=1, steps=3, **how)  # type: ignore[arg-type]
    got = found.values["shift"]["body.relu1"]["mean"]
    assert got[0] == pytest.approx(literal(tall[12:24], tall[24:])[0], abs=2e-5)
    assert got[2] == pytest.approx(literal(tall[12:24], tall[:12])[0], abs=2e-5)


def test_the_class_is_that_of_the_untouched_photo(tmp_path: Path) -> None:
    """Stripes that lie are of another class than stripes that stand, where the turn ends."""
    stripes = np.random.default_rng(9).integers(0, 256, (12, 1, 3)).repeat(12, axis=1).astype(np.uint8)
    image.write(tmp_path / "stripes.png", stripes)
    lying, standing = (nets.forward(PLAIN.apply(p)[None])["logits"] for p in (stripes, np.rot90(stripes).copy()))
    assert lying.argmax() != standing.argmax()
    found = invariance(Model.load(nets.classifier()), tmp_path, turn=90, **QUICK, **HOW)  # type: ignore[arg-type]
    assert found.values["turn"]["probability"]["mean"][-1] == pytest.approx(
        literal(stripes, np.rot90(stripes).copy())[2], abs=1e-4
    )


def test_many_photos_become_a_mean(tmp_path: Path) -> None:
    for i in range(8):
        image.write(tmp_path / f"{i}.png", picture(seed=i))
    found = invariance(Model.load(nets.classifier()), tmp_path, target=2, layer=["body.conv2"], **QUICK, **HOW)  # type: ignore[arg-type]
    assert found.picture.shape[1] > 1500
    assert list(found.values["zoom"]) == ["at", "body.conv2", "probability"]
    assert found.params["target"] == "2"


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        (dict(steps=1), InputError, "at least 2"),
        (dict(shift=0.0), InputError, "--shift"),
        (dict(zoom=1.0), InputError, "--zoom"),
        (dict(turn=0), InputError, "--turn"),
        (dict(edge="blur"), InspectError, "choose from 'grey', 'reflect', 'repeat'"),
        (dict(layer=["nowhere"]), InspectError, "no layer or tensor 'nowhere'"),
        (dict(target="body.relu1[0]"), TargetError, "is no class"),
        (dict(target=9), TargetError, "no class 9"),
    ],
)
def test_what_cannot_be(folder: Path, options: dict[str, object], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        invariance(Model.load(nets.classifier()), folder, **QUICK | options, **HOW)  # type: ignore[arg-type]


def test_the_command(folder: Path) -> None:
    model = nets.save(folder, final="Softmax", metadata=nets.NAMES)
    words = ["invariance", str(model), str(folder), "--steps", "3", "--edge", "repeat", "-o", str(folder / "out.png")]
    done = CliRunner().invoke(cli, [*words, "--json"])
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    assert record["params"]["edge"] == "repeat"
    assert record["values"]["turn"]["at"] == [0, 175, 350]
    assert image.read(folder / "out.png").shape[0] > 800
