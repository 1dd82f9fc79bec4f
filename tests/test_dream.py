"""dream: a layer sees more in the photo than it did, at the size of the model or of the photo."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

import onnx_inspect as oi
from onnx_inspect import image
from onnx_inspect.cli import cli
from onnx_inspect.errors import InputError, LayerError, PhotoError
from onnx_inspect.preprocess import Preprocessing
from onnx_inspect.studies.dream import dream

from . import nets

UNIT = Preprocessing((12, 12), scale=1 / 255, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
HOW: dict[str, Any] = dict(preprocessing=UNIT, steps=5)


def call(*words: object) -> Result:
    return CliRunner().invoke(cli, [str(w) for w in words], prog_name="onnx-inspect")


def energy(picture: np.ndarray, channel: int = -1) -> float:
    """Of the second rectifier's maps, in NumPy."""
    x = (picture / 255 - [0.5, 0.4, 0.3]) / [0.2, 0.3, 0.4]
    maps = nets.forward(np.moveaxis(x, -1, 0)[None])["a"][0]
    return float((maps**2).mean() if channel < 0 else maps[channel].mean())


@pytest.mark.parametrize("channel", [-1, 3])
def test_a_layer_sees_more(tmp_path: Path, channel: int) -> None:
    model, photo = nets.save(tmp_path), nets.photo(tmp_path)
    layer = oi.load(model).find_layers("*relu2*")[0].name
    found = dream(model, [photo], layer=layer, channel=channel, **HOW)
    found.save(tmp_path / "out.png")
    [record] = found.values["dreams"]
    asleep, dreamt = UNIT.inverse(UNIT.apply(image.read(photo))), image.read(tmp_path / "out.photo.png")
    assert dreamt.shape == (12, 12, 3)
    assert np.isclose(record["score_of_photo"], energy(asleep, channel), rtol=1e-3)
    assert np.isclose(record["score"], energy(dreamt, channel), rtol=1e-3)
    assert record["score"] > record["score_of_photo"] * 1.1
    assert any("brought to 12x12, which the model takes" in n for n in found.notes)


def test_models_of_any_size_dream_at_the_photos_own(tmp_path: Path) -> None:
    model, photo = nets.save(tmp_path, size="any"), nets.photo(tmp_path, shape=(90, 120))
    layer = oi.load(model).find_layers("*relu2*")[0].name
    found = dream(model, [photo], layer=layer, **HOW)
    [record] = found.values["dreams"]
    assert record["size"] == [90, 120]
    assert [len(h) for h in record["history"]] == [5, 5, 5, 5]
    assert np.isclose(record["score_of_photo"], energy(image.read(photo)), rtol=1e-3)
    assert record["score"] > record["score_of_photo"]
    found = dream(model, [photo], longest=40, octaves=1, **HOW)
    assert found.values["dreams"][0]["size"] == [30, 40]
    assert found.pictures["photo"].shape == (30, 40, 3)
    assert any("up to 40 (--longest N)" in n for n in found.notes)


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    model, photo = nets.save(tmp_path, size="any"), nets.photo(tmp_path, shape=(40, 50))
    first, again, other = (dream(model, [photo], seed=s, **HOW).pictures["photo"] for s in (0, 0, 1))
    assert (first == again).all()
    assert (first != other).any()


def test_photos_that_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    model = nets.save(tmp_path)
    folder = tmp_path / "photos"
    folder.mkdir()
    nets.photo(folder, "a.png")
    nets.photo(folder, "b.png")
    (folder / "broken.png").write_bytes(b"no photo")
    found = dream(model, folder, film="gif", every=1, **HOW)
    assert [r["picture"] for r in found.values["dreams"]] == ["a", "b"]
    assert len(found.skipped) == 1
    assert found.photos == 3
    assert any("1 of 3 photos could not be read" in n and "broken.png" in n for n in found.notes)
    assert len(found.frames) == 5  # of the first photo, whose smaller sizes are too small
    assert len({f.shape for f in found.frames}) == 1
    (folder / "a.png").write_bytes(b"")
    (folder / "b.png").write_bytes(b"")
    with pytest.raises(PhotoError, match="None of the"):
        dream(model, folder, **HOW)


def test_what_cannot_be_is_said(tmp_path: Path) -> None:
    model, photo = nets.save(tmp_path), nets.photo(tmp_path)
    for error, said, options in (
        (InputError, "--octaves", dict(octaves=0)),
        (InputError, "--octave-scale", dict(octave_scale=1.0)),
        (InputError, "--rate", dict(rate=0.0)),
        (InputError, "--jitter", dict(jitter=2.0)),
        (InputError, "--longest", dict(longest=8)),
        (InputError, "--steps", dict(steps=0)),
        (InputError, "there is no 99", dict(channel=99)),
        (LayerError, "nowhere", dict(layer="nowhere")),
        (PhotoError, "none.png", dict(photos=[tmp_path / "none.png"])),
    ):
        given = HOW | options
        with pytest.raises(error, match=said):
            dream(model, given.pop("photos", [photo]), **given)


def test_the_command(tmp_path: Path) -> None:
    model, photo = nets.save(tmp_path), nets.photo(tmp_path)
    done = call("dream", model, photo, "--steps", 2, "--workers", 1, "-o", tmp_path / "out" / "night.png")
    assert done.exit_code == 0, done.output
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["night.json", "night.photo.png", "night.png"]
    record = json.loads((tmp_path / "out" / "night.json").read_text(encoding="utf-8"))
    assert record["values"]["dreams"][0]["photo"] == str(photo)
    assert "in the dream" in done.stdout
    assert "(--layer NAME)" in done.stderr


def test_grey_models_of_any_size_see_photos_as_always(tmp_path: Path) -> None:
    """By luma: green is brighter than blue."""
    import onnx

    from .test_ascent import tiny

    model = tiny(colours=1)
    for axis, name in ((2, "H"), (3, "W")):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = name
    onnx.save(model, tmp_path / "grey.onnx")
    made = Preprocessing((8, 8), color="GREY", scale=1 / 255, mean=(0.5,))
    photo = nets.photo(tmp_path)
    found = dream(tmp_path / "grey.onnx", [photo], preprocessing=made, steps=1, rate=1e-9)
    luma = np.rint(image.to_grey(image.read(photo)))
    assert np.abs(found.pictures["photo"] - luma[..., None]).max() <= 1


def test_grey_photos_stay_grey(tmp_path: Path) -> None:
    import onnx

    from .test_ascent import tiny

    onnx.save(tiny(colours=1), tmp_path / "grey.onnx")
    made = Preprocessing((8, 8), color="GREY", scale=1 / 255, mean=(0.5,))
    found = dream(tmp_path / "grey.onnx", [nets.photo(tmp_path)], preprocessing=made, steps=3)
    assert np.ptp(found.pictures["photo"], axis=-1).max() == 0
