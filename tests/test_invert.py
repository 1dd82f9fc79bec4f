"""Inversion: the distance and the penalties against literal sums, and what comes back from first and last layers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

import onnx_inspect as oi
from onnx_inspect import image
from onnx_inspect.ascent.distance import AlphaNorm, Likeness, Shrinking, TotalVariation, Waning
from onnx_inspect.ascent.easel import Easel
from onnx_inspect.ascent.waves import Waves
from onnx_inspect.cli import cli
from onnx_inspect.engine import Engine
from onnx_inspect.errors import InputError, InspectError, LayerError, PhotoError, TargetError
from onnx_inspect.methods.job import SCORE
from onnx_inspect.preprocess import Preprocessing
from onnx_inspect.resources import bundled
from onnx_inspect.studies.invert import invert

from . import nets
from .shared import ASSETS, needs_assets

ENGINE = Engine("cpu", threads=1)
RNG = np.random.default_rng(3)
SIGNS = bundled("signs/clean.onnx")
STOP = bundled("signs/photos") / "00_stop.jpg"


def turned(half: bool = False) -> onnx.ModelProto:
    """Two rotations of colour space, a convolution of 1x1 each, which forget nothing; a pool, which does; scores."""
    kind = np.float16 if half else np.float32
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0].astype(kind)
    dense = np.random.default_rng(2).normal(size=(3, 4)).astype(kind)
    nodes = [
        helper.make_node("Conv", ["image", "turn"], ["first"], name="first"),
        helper.make_node("Conv", ["first", "turn"], ["second"], name="second"),
        helper.make_node("GlobalAveragePool", ["second"], ["pool"], name="pool"),
        helper.make_node("Flatten", ["pool"], ["flat"], name="flat"),
        helper.make_node("MatMul", ["flat", "dense"], ["scores"], name="head"),
    ]
    number = TensorProto.FLOAT16 if half else TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "turned",
        [helper.make_tensor_value_info("image", number, ["N", 3, 16, 16])],
        [helper.make_tensor_value_info("scores", number, ["N", 4])],
        [numpy_helper.from_array(turn[:, :, None, None], "turn"), numpy_helper.from_array(dense, "dense")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


TURNED = oi.load(turned().SerializeToString())
UNIT = Preprocessing(size=(16, 16), scale=1 / 255)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """Blobs and an edge."""
    y, x = np.mgrid[:16, :16]
    picture = np.stack([16 * x, 255 - 12 * y, 128 + 90 * np.sin(x / 2)], axis=2).clip(0, 255).astype(np.uint8)
    picture[10:, 3:7] = (220, 40, 30)
    image.write(tmp_path / "blobs.png", picture)
    return tmp_path / "blobs.png"


# What is minimised.


def slope_by_differences(f: Any, x: np.ndarray, h: float = 1e-3) -> np.ndarray:
    slope = np.zeros_like(x)
    for at in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[at] = h
        slope[at] = (f(x + step) - f(x - step)) / (2 * h)
    return slope


@pytest.mark.parametrize("alpha", [1.5, 2.0, 6.0])
@pytest.mark.parametrize("colours", [1, 3])
def test_alpha_norm_is_its_formula(alpha: float, colours: int) -> None:
    x = RNG.uniform(0, 255, (4, 5, colours))
    slow = 0.0
    for row in x:
        for pixel in row:
            slow += (sum((v - 127.5) ** 2 for v in pixel) / colours) ** (alpha / 2) / 80**alpha / 20
    value, slope = AlphaNorm(0.7, alpha)(x)
    assert value == pytest.approx(0.7 * slow, rel=1e-12)
    np.testing.assert_allclose(slope, slope_by_differences(lambda x: AlphaNorm(0.7, alpha)(x)[0], x), rtol=1e-4)


@pytest.mark.parametrize("beta", [1.5, 2.0, 3.0])
def test_total_variation_is_its_formula(beta: float) -> None:
    x = RNG.uniform(0, 255, (4, 5, 3))
    slow = 0.0
    for i, j, c in np.ndindex(x.shape):
        right = x[i, j + 1, c] - x[i, j, c] if j < 4 else 0.0
        down = x[i + 1, j, c] - x[i, j, c] if i < 3 else 0.0
        slow += ((right**2 + down**2) / (80 / 6.5) ** 2) ** (beta / 2) / x.size
    value, slope = TotalVariation(0.3, beta)(x)
    assert value == pytest.approx(0.3 * slow, rel=1e-12)
    np.testing.assert_allclose(slope, slope_by_differences(lambda x: TotalVariation(0.3, beta)(x)[0], x), rtol=1e-4)


@pytest.mark.parametrize("penalty", [AlphaNorm(1, 1.0), AlphaNorm(1, 6.0), TotalVariation(1, 1.0), TotalVariation(1)])
def test_plain_grey_costs_nothing_and_pulls_nowhere(penalty: Any) -> None:
    value, slope = penalty(np.full((3, 4, 3), 127.5))
    assert value == 0
    np.testing.assert_array_equal(slope, 0)


def test_a_penalty_wanes_and_steps_shrink() -> None:
    x = RNG.uniform(0, 255, (3, 3, 3))
    whole, slope = TotalVariation(2)(x)
    waning = Waning(TotalVariation(2), 1e-4, 5)
    for weight in (1, 0.1, 0.01, 0.001, 0.0001):
        value, now = waning(x)
        assert value == pytest.approx(weight * whole)
        np.testing.assert_allclose(now, weight * slope)
    shrinking = Shrinking(lambda gradient: 3 * gradient, 4)
    steps = [float(shrinking(np.ones(1))[0]) for _ in range(4)]
    np.testing.assert_allclose(steps, [3, 1.5 + 1.5 * np.sqrt(0.5), 1.5, 1.5 - 1.5 * np.sqrt(0.5)])


@pytest.mark.parametrize("half", [False, True])
def test_likeness_is_its_formula_and_so_is_its_gradient(half: bool) -> None:
    easel = Easel(
        turned(half).SerializeToString(),
        engine=ENGINE,
        preprocessing=replace(UNIT, dtype="float16" if half else "float32"),
    )
    x, photo = (RNG.uniform(0, 255, (16, 16, 3)) for _ in range(2))
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]

    def second(picture: np.ndarray) -> np.ndarray:
        return np.asarray((picture / 255) @ turn.T @ turn.T)

    wanted = second(photo)
    aim = Likeness("second", np.moveaxis(wanted, -1, 0)[None])
    score, slope = easel.slope(x, aim)
    away = second(x) - wanted
    assert score == pytest.approx(-(away**2).sum() / (wanted**2).sum(), rel=1e-2 if half else 1e-5)
    expected = -2 * away @ turn @ turn / 255 / (wanted**2).sum()
    np.testing.assert_allclose(slope, expected, atol=(1e-2 if half else 1e-5) * np.abs(expected).max())
    assert easel.look(photo, target=aim)[SCORE][0] == pytest.approx(0, abs=1e-5)


def test_one_compiled_model_serves_all_photos() -> None:
    aims = [Likeness("first", RNG.normal(size=(1, 3, 16, 16))) for _ in range(2)]
    assert aims[0].key() == aims[1].key() != Likeness("second", aims[0].features).key()
    easel = Easel(TURNED, engine=ENGINE, preprocessing=UNIT)
    scores = {easel.slope(np.full((16, 16, 3), 90.0), aim)[0] for aim in aims}
    assert len(scores) == 2


@pytest.mark.parametrize("size", [(6, 8), (7, 5)])
@pytest.mark.parametrize("grey", [False, True])
def test_waves_have_their_adjoint_and_reach_every_pixel(size: tuple[int, int], grey: bool) -> None:
    waves = Waves(size, grey=grey)
    z, way = RNG.normal(size=(2, *waves.start.shape))
    slope = RNG.normal(size=(*size, 3))
    moved = waves.pixels(z + way) - waves.pixels(z)
    assert (moved * slope).sum() == pytest.approx((way * waves.adjoint(z, slope)).sum())
    wild = waves.pixels(3 * z)
    assert wild.min() < 0 and wild.max() > 255
    np.testing.assert_allclose(waves.pixels(waves.bounded(0, 3 * z, z)), wild.clip(0, 255), atol=1e-9)


# The study.


def test_what_forgets_nothing_gives_the_photo_back(photo: Path) -> None:
    result = invert(TURNED, [photo], layer=["first", "second", "pool"], engine=ENGINE, preprocessing=UNIT)
    first, second, pool = result.values["photos"][0]["layers"]
    assert first["psnr"] > 25 and second["psnr"] > 25
    assert pool["psnr"] < 20 and pool["distance"] < 0.01  # the mean colour is reached, the rest is forgotten
    assert (
        np.ptp(result.pictures["blobs.globalaveragepool_1"].mean(axis=(0, 1)) - image.read(photo).mean(axis=(0, 1)))
        < 12
    )


def test_a_trained_network_forgets_from_layer_to_layer() -> None:
    result = invert(SIGNS, [STOP], layer=["features.0.2", "features.2", "features.7.2"], engine=ENGINE)
    entries = result.values["photos"][0]["layers"]
    psnr = [e["psnr"] for e in entries]
    assert psnr[0] > 25
    assert max(psnr[1:]) < 20
    for entry in entries:
        distance = result.arrays[f"history.{entry['picture']}"]
        smooth = np.convolve(distance, np.ones(25) / 25, "valid")[::25]
        assert (np.diff(smooth) < 1e-4).all()
        assert distance[-1] < 0.1 * distance[0]
        assert entry["distance"] < 1.1 * distance[-1] + 3e-4  # what was climbed is what is saved


def test_what_is_reported_is_that_of_the_picture_saved(photo: Path, tmp_path: Path) -> None:
    result = invert(TURNED, photo, layer="second", steps=20, engine=ENGINE, preprocessing=UNIT)
    result.save(tmp_path / "inverted.png")
    [entry] = result.values["photos"][0]["layers"]
    saved, original = (image.read(p).astype(np.float64) for p in (tmp_path / "inverted.blobs.conv_2.png", photo))
    session = ort.InferenceSession(turned().SerializeToString())
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    features = [(p / 255) @ turn.T @ turn.T for p in (saved, original)]
    assert entry["distance"] == pytest.approx(
        ((features[0] - features[1]) ** 2).sum() / (features[1] ** 2).sum(), rel=1e-3
    )
    assert entry["psnr"] == pytest.approx(10 * np.log10(255**2 / ((saved - original) ** 2).mean()))
    scores = session.run(None, {"image": np.moveaxis(saved / 255, -1, 0)[None].astype(np.float32)})[0][0]
    assert [p["index"] for p in entry["predictions"]] == np.argsort(-scores).tolist()
    record = json.loads((tmp_path / "inverted.json").read_text(encoding="utf-8"))
    assert record["params"]["steps"] == 20 and record["layer"] == "conv_2"


def test_the_same_seed_gives_the_same_bytes(photo: Path) -> None:
    a, b, c = (invert(TURNED, photo, layer=["pool"], steps=5, seed=s, engine=ENGINE) for s in (0, 0, 1))
    assert a.pictures["blobs.globalaveragepool_1"].tobytes() == b.pictures["blobs.globalaveragepool_1"].tobytes()
    assert a.pictures["blobs.globalaveragepool_1"].tobytes() != c.pictures["blobs.globalaveragepool_1"].tobytes()


@pytest.mark.parametrize("options", [dict(nhwc=True), dict(batch=1), dict(final="Softmax")])
def test_other_models(options: dict[str, Any], photo: Path) -> None:
    result = invert(nets.classifier(**options).SerializeToString(), [photo], engine=ENGINE)
    entries = result.values["photos"][0]["layers"]
    assert all(result.arrays[f"history.{e['picture']}"][-1] < 0.6 for e in entries)  # about 1 in grey
    assert any("--layer" in note for note in result.notes)
    assert all(p.shape == (12, 12, 3) for name, p in result.pictures.items() if name.startswith("blobs."))


def test_time_ends_it_and_a_film_shows_it(photo: Path) -> None:
    result = invert(TURNED, photo, layer=["first"], steps=100_000, seconds=0.3, engine=ENGINE)
    assert any("--seconds" in note for note in result.notes)
    film = invert(TURNED, photo, layer=["first", "pool"], steps=6, film="gif", every=2, engine=ENGINE)
    assert len(film.frames) == 3 and len({f.shape for f in film.frames}) == 1


def test_photos_that_cannot_be_read_are_left_out(photo: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    result = invert(TURNED, [photo, tmp_path / "broken.png"], layer=["pool"], steps=2, engine=ENGINE)
    assert len(result.values["photos"]) == 1 and len(result.skipped) == 1
    with pytest.raises(PhotoError, match="None of the"):
        invert(TURNED, [tmp_path / "broken.png"], layer=["pool"], steps=2, engine=ENGINE)


def test_what_makes_no_sense_is_said(photo: Path) -> None:
    for wrong in (dict(tv=-1.0), dict(norm=-1.0), dict(beta=0.5), dict(alpha=0.0), dict(steps=0)):
        with pytest.raises(InputError, match="--"):
            invert(TURNED, photo, layer=["pool"], engine=ENGINE, **wrong)  # type: ignore[arg-type]
    with pytest.raises(LayerError):
        invert(TURNED, photo, layer=["no such layer"], engine=ENGINE)
    taken = turned()
    taken.graph.input[0].name = taken.graph.node[0].input[0] = "ascent.features"
    with pytest.raises(TargetError, match=r"ascent\.features"):
        invert(taken.SerializeToString(), photo, layer=["pool"], steps=2, engine=ENGINE)


def test_the_command(photo: Path, tmp_path: Path) -> None:
    onnx.save(turned(), tmp_path / "model.onnx")
    out = tmp_path / "out.png"
    words = ["invert", tmp_path / "model.onnx", photo, "--layer", "first", "--layer", "pool", "--steps", 10, "-o", out]
    done = CliRunner().invoke(cli, [str(w) for w in words])
    assert done.exit_code == 0, done.output
    assert "PSNR" in done.output
    for name in (
        "out.png",
        "out.psnr.png",
        "out.blobs.conv_1.png",
        "out.blobs.globalaveragepool_1.png",
        "out.json",
        "out.npz",
    ):
        assert (tmp_path / name).exists()


@needs_assets
@pytest.mark.parametrize("name", ["iris_mlp_pytorch", "mobilenet_v1_0.25_128_nhwc_uint8_tf", "silero_vad_16k_op15"])
def test_inputs_that_cannot_be_climbed(name: str, photo: Path) -> None:
    with pytest.raises(InspectError, match=r"input|photo"):
        invert(ASSETS / "models" / f"{name}.onnx", photo, steps=2, engine=ENGINE)


@needs_assets
def test_grey_digits_come_back_from_the_first_layer(tmp_path: Path) -> None:
    y, x = np.mgrid[:28, :28]
    image.write(
        tmp_path / "ring.png",
        np.repeat(255 * (abs(np.hypot(y - 14, x - 14) - 8) < 2)[..., None], 3, 2).astype(np.uint8),
    )
    result = invert(ASSETS / "models" / "mnist-7_cntk.onnx", tmp_path / "ring.png", engine=ENGINE)
    entries = result.values["photos"][0]["layers"]
    assert entries[0]["psnr"] > 25 > entries[-1]["psnr"]
    assert all((np.ptp(p, axis=2) == 0).all() for name, p in result.pictures.items() if name.startswith("ring."))
