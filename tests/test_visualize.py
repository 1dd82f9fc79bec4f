"""visualize: what is climbed, what is said of it, and the picture that is saved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result

import onnx_inspect as oi
from onnx_inspect import image
from onnx_inspect.cli import cli
from onnx_inspect.errors import InputError, InspectError, LayerError, TargetError
from onnx_inspect.preprocess import Preprocessing
from onnx_inspect.studies.visualize import visualize

from . import nets
from .shared import ASSETS, needs_assets

UNIT = Preprocessing((12, 12), scale=1 / 255, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
HOW: dict[str, Any] = dict(preprocessing=UNIT, steps=40)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return nets.save(tmp_path, final="Softmax", metadata=nets.NAMES)


def call(*words: object) -> Result:
    return CliRunner().invoke(cli, [str(w) for w in words], prog_name="onnx-inspect")


def in_numpy(picture: np.ndarray) -> dict[str, np.ndarray]:
    x = (picture / 255 - [0.5, 0.4, 0.3]) / [0.2, 0.3, 0.4]
    return nets.forward(np.moveaxis(x, -1, 0)[None])


@pytest.mark.parametrize("style", ["fourier", "yosinski", "simonyan"])
def test_the_score_is_that_of_the_saved_picture(model: Path, tmp_path: Path, style: str) -> None:
    found = visualize(model, target=["Löwe", "1"], style=style, **HOW)
    found.save(tmp_path / "out.png")
    assert [r["name"] for r in found.values["pictures"]] == ["Löwe (2)", "dog (1)"]
    for record, index in zip(found.values["pictures"], (2, 1), strict=True):
        saved = image.read(tmp_path / f"out.class{index}.png")
        assert saved.shape == (12, 12, 3)
        logits = in_numpy(saved)["logits"][0]
        grey = in_numpy(np.full((12, 12, 3), 127.5))["logits"][0]
        assert np.isclose(record["score"], logits[index], rtol=1e-4)
        assert np.isclose(record["score_of_grey"], grey[index], rtol=1e-4)
        assert np.isclose(record["score_before_rounding"], record["score"], atol=0.05)
        assert np.isclose(record["probability"], np.exp(logits[index]) / np.exp(logits).sum(), rtol=1e-4)
        assert record["predictions"][0]["index"] == logits.argmax()
        assert record["score"] > record["score_of_grey"] + 0.1
        assert len(found.arrays[f"history.class{index}"]) == 40


def test_classes_are_chosen_when_nobody_does(model: Path, tmp_path: Path) -> None:
    found = visualize(model, **HOW | {"steps": 2})
    assert [r["target"] for r in found.values["pictures"]] == ["0", "1", "2", "3"]
    assert "target: all 4 classes (--target CLASS)" in found.notes
    many = nets.save(tmp_path, "many.onnx", classes=11)
    found = visualize(many, labels=[f"kind {i}" for i in range(11)], **HOW | {"steps": 2})
    x = np.zeros((1, 3, 12, 12)) + ((0.5 - np.array([0.5, 0.4, 0.3])) / [0.2, 0.3, 0.4])[:, None, None]
    best = int(nets.forward(x, 11)["logits"].argmax())
    assert [r["target"] for r in found.values["pictures"]] == [str(best)]
    assert any(f"kind {best} ({best}), what the model sees in plain grey (--target" in n for n in found.notes)


def test_channels_units_and_directions(model: Path, tmp_path: Path) -> None:
    layer = oi.load(model).find_layers("*relu2*")[0].name
    found = visualize(model, layer=layer, **HOW)
    assert [r["name"] for r in found.values["pictures"]] == [f"{layer}[{k}]" for k in range(6)]
    assert found.layer == layer
    for k, record in enumerate(found.values["pictures"]):
        maps = in_numpy(found.pictures[record["picture"]])["a"][0]
        assert np.isclose(record["score"], maps[k].mean(), rtol=1e-4)
        assert record["score"] > record["score_of_grey"]
    found = visualize(model, channel=[4, 1], **HOW)
    assert [r["name"][-3:] for r in found.values["pictures"]] == ["[4]", "[1]"]
    found = visualize(model, target=[f"{layer}[3,2,2]"], **HOW)
    [record] = found.values["pictures"]
    assert np.isclose(record["score"], in_numpy(found.pictures[record["picture"]])["a"][0, 3, 2, 2], rtol=1e-4)
    vector = np.random.default_rng(0).normal(size=6)
    np.save(tmp_path / "way.npy", vector)
    found = visualize(model, layer=layer, direction=str(tmp_path / "way.npy"), **HOW)
    [record] = found.values["pictures"]
    maps = in_numpy(found.pictures[record["picture"]])["a"][0]
    assert np.isclose(record["score"], np.tensordot(vector, maps, 1).mean(), rtol=1e-3)
    assert record["name"] == f"way in {layer}"
    found = visualize(model, direction=str(tmp_path / "way.npy"), **HOW | {"steps": 2})
    assert any("what the last layer with weights" in n for n in found.notes)


def test_every_picture_is_a_file_of_its_own(model: Path) -> None:
    """Also where only what a file's name cannot say tells them apart."""
    found = visualize(model, target=["body.relu2[1,2,2]", "body.relu2[1:2,2]", "0"], **HOW | {"steps": 3})
    files = [r["picture"] for r in found.values["pictures"]]
    assert len({f.casefold() for f in files}) == 3
    assert files[2] == "class0"
    assert set(found.pictures) == {"", "curve", *files}
    assert set(found.arrays) == {f"history.{f}" for f in files}
    unit, row = (in_numpy(found.pictures[f])["a"][0, 1, 2] for f in files[:2])
    assert np.allclose([r["score"] for r in found.values["pictures"][:2]], [unit[2], row.sum()], rtol=1e-4)


def test_the_numbers_of_the_style_are_recorded(model: Path) -> None:
    given = HOW | {"steps": 1, "target": ["0"]}
    assert visualize(model, zoom=0.2, **given).params == {
        "style": "fourier",
        "steps": 1,
        "rate": 0.05,
        "jitter": 0.05,
        "rotate": 10.0,
        "zoom": 0.2,
        "cosine": False,
        "seed": 0,
        "seconds": 0.0,
        "film": "",
        "size": [12, 12],
    }
    assert visualize(model, style="simonyan", rate=2.0, **given).params.items() >= {"rate": 2.0, "l2": 0.001}.items()
    assert visualize(model, style="yosinski", **given).params.items() >= {"rate": 5.0, "blur_every": 4}.items()


def test_same_seed_same_bytes(model: Path, tmp_path: Path) -> None:
    first, again, other = (visualize(model, target=["0"], seed=s, **HOW) for s in (0, 0, 1))
    assert all((first.pictures[k] == again.pictures[k]).all() for k in first.pictures)
    assert first.to_json() == again.to_json()
    assert (first.pictures["class0"] != other.pictures["class0"]).any()


def test_what_stands_beside_does_not_change_a_picture(model: Path) -> None:
    alone, among = visualize(model, target=["2"], **HOW), visualize(model, target=["0", "2"], **HOW)
    assert (alone.pictures["class2"] == among.pictures["class2"]).all()


def test_films_and_time(model: Path) -> None:
    found = visualize(model, target=["0", "1"], film="gif", every=10, **HOW)
    assert len(found.frames) == 4
    assert len({f.shape for f in found.frames}) == 1
    assert (found.frames[0] != found.frames[-1]).any()
    assert not len(visualize(model, target=["0"], **HOW).frames)
    found = visualize(model, target=["0"], seconds=1e-6, **HOW)
    assert found.values["pictures"][0]["steps"] == 1
    assert any("1 of 40 steps" in n and n.endswith("(--seconds)") for n in found.notes)


def test_grey_models_get_grey_pictures(tmp_path: Path) -> None:
    from .test_ascent import tiny

    path = tmp_path / "grey.onnx"
    onnx.save(tiny(colours=1), path)
    made = Preprocessing((8, 8), color="GREY", scale=1 / 255, mean=(0.5,))
    for style in ("fourier", "yosinski", "simonyan"):
        found = visualize(path, target=["0"], style=style, preprocessing=made, steps=20)
        assert np.ptp(found.pictures["class0"], axis=-1).max() <= 1, style
        assert found.values["pictures"][0]["score"] > found.values["pictures"][0]["score_of_grey"]


def test_half_precision_and_other_layouts(tmp_path: Path) -> None:
    from .test_ascent import tiny

    for name, options, more in (
        ("half", dict(dtype=onnx.TensorProto.FLOAT16), dict(dtype="float16")),
        ("nhwc", dict(nhwc=True), dict(layout="NHWC")),
    ):
        onnx.save(tiny(**options), tmp_path / f"{name}.onnx")
        made = Preprocessing((8, 8), scale=1 / 255, mean=(0.5,), **more)
        found = visualize(tmp_path / f"{name}.onnx", preprocessing=made, steps=20)
        assert all(r["score"] > r["score_of_grey"] for r in found.values["pictures"])


def test_what_cannot_be_is_said(model: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "short.npy", np.ones(5))
    np.save(tmp_path / "odd.npy", np.array([{}], object), allow_pickle=True)
    wrong = {"nan": np.full(6, np.nan), "large": np.full(6, 1e300), "complex": np.ones(6, complex)}
    for name, values in wrong.items():
        np.save(tmp_path / f"{name}.npy", values)
    for k, header in enumerate(("(9" + 12 * "0" + ",)", "(9" + 30 * "0" + ",)", "(6,), 'descr': ('<f8',)", "(")):
        text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {header}{'}' if header != '(' else ''}\n".encode()
        (tmp_path / f"{k}.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text)
    layer = oi.load(model).find_layers("*relu2*")[0].name
    for error, said, options in (
        (InputError, "6 channels, counted from 0: there is no 6", dict(layer=layer, channel=[6])),
        (InputError, "holds 5 numbers, the layer has 6", dict(layer=layer, direction=str(tmp_path / "short.npy"))),
        *((InputError, "no finite", dict(layer=layer, direction=str(tmp_path / f"{name}.npy"))) for name in wrong),
        *((InputError, "cannot be read", dict(layer=layer, direction=str(tmp_path / f"{k}.npy"))) for k in range(4)),
        (InputError, "cannot be read", dict(layer=layer, direction=str(tmp_path / "odd.npy"))),
        (InputError, "cannot be read", dict(layer=layer, direction=str(tmp_path / "none.npy"))),
        (InputError, "give either", dict(direction=str(tmp_path / "short.npy"), channel=[1])),
        (InputError, "--small-norm", dict(small_norm=101.0)),
        (InputError, "--jitter", dict(jitter=-0.1)),
        (InputError, "--rotate", dict(rotate=-5.0)),
        (InputError, "--rotate", dict(rotate=1e308)),
        (InputError, "at least 1 .--blur-every", dict(blur_every=0)),
        (InputError, "lead nowhere", dict(steps=0)),
        (InputError, "no style", dict(style="cubist")),
        (InputError, "no film", dict(film="avi")),
        (LayerError, "nowhere", dict(layer="nowhere")),
        (TargetError, "no class 9", dict(target=["9"])),
        (InspectError, "unicorn", dict(target=["unicorn"])),
    ):
        with pytest.raises(error, match=said):
            visualize(model, **HOW | options)
    other = nets.save(tmp_path, "two.onnx", extra_input=True)
    with pytest.raises(InputError, match="besides the picture"):
        visualize(other, **HOW)


def test_what_has_no_gradient_is_noted(tmp_path: Path) -> None:
    """Without weights behind it, no unit is worth opening; a shut one with a weight is, though it stays shut here."""
    path = nets.save(tmp_path, broken="dead")
    shut = visualize(path, target=["0"], **HOW | {"steps": 3})
    [record] = shut.values["pictures"]
    assert record["score"] == pytest.approx(record["score_of_grey"])
    assert not any("no gradient" in n for n in shut.notes)
    model = onnx.load(path)
    weight = next(w for w in model.graph.initializer if w.name == "w3")
    weight.CopyFrom(onnx.numpy_helper.from_array(np.zeros((6, 4), np.float32), "w3"))
    onnx.save(model, path)
    flat = visualize(path, target=["0"], **HOW | {"steps": 3})
    assert any("'class 0 (0)' has no gradient anywhere" in n for n in flat.notes)


def test_the_command(model: Path, tmp_path: Path) -> None:
    done = call("visualize", model, "-t", "cat", "-t", 1, "--steps", 3, "-o", tmp_path / "out" / "classes.png")
    assert done.exit_code == 0, done.output
    made = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert made == [
        "classes.class0.png",
        "classes.class1.png",
        "classes.curve.png",
        "classes.json",
        "classes.npz",
        "classes.png",
    ]
    assert "cat (0)" in done.stdout
    record = json.loads((tmp_path / "out" / "classes.json").read_text(encoding="utf-8"))
    assert record["study"] == "visualize"
    assert record["params"]["style"] == "fourier"
    refused = call("visualize", model, "-t", "unicorn", "-o", tmp_path / "no.png")
    assert refused.exit_code == 2
    assert not (tmp_path / "no.png").exists()
    helped = call("visualize", "--help").output
    assert "--small-contribution" in helped
    assert "--cosine" in helped


@needs_assets
def test_a_class_image_beats_every_photo() -> None:
    """On a small trained network: no photo of the class has a score as high as its picture."""
    from .shared import photos

    model = oi.load(ASSETS / "models" / "resnet8_cifar10_keras_nhwc.onnx")
    made = Preprocessing((32, 32), layout="NHWC")
    found = visualize(model, target=["1", "5"], steps=120, preprocessing=made)
    paths = [ASSETS / e["file"] for e in photos("cifar10_public")][::3]
    for record in found.values["pictures"]:
        scores = oi.saliency(model, paths, target=int(record["target"]), preprocessing=made).scores
        assert record["score"] > scores.max()
