"""Fooling images: that what is saved fools the model, and that no less change would have done; PGD on real digits."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from click.testing import CliRunner

import onnx_inspect as oi
from onnx_inspect import image
from onnx_inspect.cli import cli
from onnx_inspect.engine import Engine
from onnx_inspect.errors import InputError, InspectError, OutputError, PhotoError, TargetError
from onnx_inspect.methods.inputs import guess_preprocessing
from onnx_inspect.resources import bundled
from onnx_inspect.studies.fool import fool

from . import nets
from .shared import ASSETS, needs_assets

ENGINE = Engine("cpu", threads=1)
SIGNS = oi.load(bundled("signs/clean.onnx"))
STOP = bundled("signs/photos") / "00_stop.jpg"


def seen(path: Path) -> np.ndarray:
    """Probabilities of the signs, by onnxruntime and the file's own preprocessing alone."""
    made, _ = guess_preprocessing(SIGNS)
    session = ort.InferenceSession(bundled("signs/clean.onnx"))
    scores = session.run(None, {session.get_inputs()[0].name: made.apply(image.read(path))[None]})[0][0]
    shares = np.exp(scores - scores.max())
    return np.asarray(shares / shares.sum())


@pytest.fixture(scope="module")
def fooled() -> Any:
    return fool(SIGNS, [STOP], to="warning", engine=ENGINE)


def test_what_is_saved_fools_the_model(fooled: Any, tmp_path: Path) -> None:
    fooled.save(tmp_path / "fooled.png")
    [record] = fooled.values["pictures"]
    found = seen(tmp_path / "fooled.00_stop.png")
    index = record["to"]["index"]
    assert record["to"]["label"] == "warning" and record["fooled"] and record["sure"] and fooled.values["fooled"] == 1
    assert found.argmax() == index != seen(STOP).argmax()
    assert found[index] == pytest.approx(record["probability"], abs=1e-5) and found[index] >= 0.9
    assert seen(STOP)[index] == pytest.approx(record["probability_before"], abs=1e-5)


def test_the_change_is_measured_in_pixels(fooled: Any) -> None:
    [record] = fooled.values["pictures"]
    made, _ = guess_preprocessing(SIGNS)
    start = made.inverse(made.apply(image.read(STOP)))
    change = fooled.pictures["00_stop"].astype(float) - start
    assert record["linf"] == np.abs(change).max() > 0
    assert record["l2"] == pytest.approx(np.sqrt((change**2).sum()))


def test_half_the_radius_would_not_have_done(fooled: Any) -> None:
    [record] = fooled.values["pictures"]
    radius = next(r for r in 2.0 ** np.arange(8) if r >= record["linf"])
    for smaller in 2.0 ** np.arange(np.log2(radius)):
        less = oi.pgd(SIGNS, STOP, to="warning", epsilon=smaller, engine=ENGINE)
        assert less.measures["probability_after"][0] < 0.9


def test_noise_becomes_a_class_and_stays_noise() -> None:
    a, b, c = (fool(SIGNS, to="stop", seed=s, engine=ENGINE) for s in (0, 0, 1))
    [record] = a.values["pictures"]
    assert record["fooled"] and record["sure"] and record["photo"] is None and a.photos == 0
    noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)
    assert np.abs(a.pictures["noise"].astype(float) - noise).max() == record["linf"] <= 64
    assert a.pictures["noise"].tobytes() == b.pictures["noise"].tobytes() != c.pictures["noise"].tobytes()


def test_the_default_is_the_least_probable_class() -> None:
    result = fool(SIGNS, STOP, engine=ENGINE)
    assert result.values["pictures"][0]["to"]["index"] == seen(STOP).argmin()
    assert any("--to" in note for note in result.notes)


def test_what_is_seen_so_already_stays() -> None:
    result = fool(SIGNS, STOP, to="stop", engine=ENGINE)
    [record] = result.values["pictures"]
    assert record["linf"] == record["l2"] == 0 and record["fooled"]
    assert any("nothing was changed" in note for note in result.notes)


def test_failure_is_said_and_the_best_is_kept() -> None:
    result = fool(SIGNS, STOP, to="warning", epsilon=1, steps=1, sure=0.999999, engine=ENGINE)
    [record] = result.values["pictures"]
    assert not (record["fooled"] and record["sure"])
    assert record["probability"] >= record["probability_before"]
    assert any("at the most" in note for note in result.notes)


@pytest.mark.parametrize("options", [dict(nhwc=True), dict(batch=1), dict(final="Softmax"), dict(classes=1)])
def test_other_models(options: dict[str, Any]) -> None:
    result = fool(nets.classifier(**options).SerializeToString(), sure=0, epsilon=255, engine=ENGINE)
    assert result.values["fooled"] == 1


def test_photos_that_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    result = fool(SIGNS, [STOP, tmp_path / "broken.png"], steps=2, engine=ENGINE)
    assert len(result.values["pictures"]) == 1 and len(result.skipped) == 1 and result.photos == 2
    with pytest.raises(PhotoError, match="None of the"):
        fool(SIGNS, [tmp_path / "broken.png"], engine=ENGINE)


def test_what_makes_no_sense_is_said(fooled: Any, tmp_path: Path) -> None:
    for wrong in (dict(sure=1.0), dict(sure=-0.1), dict(epsilon=0.5), dict(steps=0)):
        with pytest.raises(InputError, match="--"):
            fool(SIGNS, STOP, to="warning", engine=ENGINE, **wrong)  # type: ignore[arg-type]
    with pytest.raises(InspectError, match="no such sign"):
        fool(SIGNS, STOP, to="no such sign", engine=ENGINE)
    with pytest.raises(OutputError, match="png"):
        fooled.save(tmp_path / "fooled.jpg")


def test_the_command(tmp_path: Path) -> None:
    onnx.save(nets.classifier(), tmp_path / "model.onnx")
    words = ["fool", tmp_path / "model.onnx", "--to", "2", "--sure", "0", "-o", tmp_path / "out.png"]
    done = CliRunner().invoke(cli, [str(w) for w in words])
    assert done.exit_code == 0, done.output
    assert "largest change" in done.output
    record = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert record["files"] == ["out.png", "out.noise.png", "out.json"]
    assert record["values"]["pictures"][0]["to"]["index"] == 2


@needs_assets
def test_models_that_are_no_classifiers_of_pictures() -> None:
    with pytest.raises(TargetError, match="class"):
        fool(ASSETS / "models" / "yolox_nano.onnx", engine=ENGINE)
    for name in ("iris_mlp_pytorch", "mobilenet_v1_0.25_128_nhwc_uint8_tf"):
        with pytest.raises(InspectError):
            fool(ASSETS / "models" / f"{name}.onnx", engine=ENGINE)


@needs_assets
@pytest.mark.parametrize("name", ["mnist-7_cntk", "mnist_keras_tf2onnx_nhwc"])
def test_every_digit_is_fooled_within_three_tenths_of_the_range(name: str) -> None:
    folder = ASSETS / "images" / "mnist"
    digits = np.frombuffer(gzip.decompress((folder / "t10k-images-idx3-ubyte.gz").read_bytes()), np.uint8, offset=16)
    digits = digits.reshape(-1, 28, 28)[::50]
    model = oi.load(ASSETS / "models" / f"{name}.onnx")
    made, _ = guess_preprocessing(model)
    x = made.batch([np.repeat(d[..., None], 3, axis=2) for d in digits])
    result = oi.pgd(model, x, epsilon=0.3 * 255, preprocessing=made, engine=ENGINE)
    files = [made.inverse(one) for one in result.extra["adversarial"]]
    assert max(np.abs(f[..., 0].astype(float) - d).max() for f, d in zip(files, digits, strict=True)) <= 0.3 * 255
    session = ort.InferenceSession(ASSETS / "models" / f"{name}.onnx")
    feed = session.get_inputs()[0].name
    before, after = (
        [session.run(None, {feed: one[None]})[0].argmax() for one in some] for some in (x, made.batch(files))
    )
    assert not np.equal(before, after).any()
