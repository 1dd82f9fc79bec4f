"""What holds for every study: docstrings, commands, records, seeds, photos that cannot be read."""

from __future__ import annotations

import inspect
import json
import re
import shutil
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
import pytest
from click.testing import CliRunner

import onnx_inspect as oi
from onnx_inspect import image
from onnx_inspect.cli import FAMILIES, cli, studies
from onnx_inspect.commands.of_study import build
from onnx_inspect.engine import Engine
from onnx_inspect.files import plain
from onnx_inspect.finding import Finding
from onnx_inspect.resources import bundled
from onnx_inspect.studies.registry import STUDIES, every

every()
ENGINE = Engine("cpu", threads=1)
MODEL = bundled("signs/clean.onnx")
SHARED = {"model", "models", "photos", "how", "out"}
# Few steps, so that tests are quick; what is asserted holds for any number.
QUICK: dict[str, dict[str, Any]] = {
    "visualize": dict(steps=4),
    "dream": dict(steps=2, octaves=2),
    "invert": dict(steps=4),
    "fool": dict(steps=4),
    "project": dict(method="pca"),
    "probe": dict(folds=2),
    "correspondence": dict(random_sets=2),
}
NAMES = sorted(STUDIES)
STUDY = pytest.mark.parametrize("name", NAMES)
OF_PHOTOS = pytest.mark.parametrize("name", [n for n in NAMES if "photos" in inspect.signature(STUDIES[n]).parameters])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos in a folder per class, one of them damaged."""
    root = tmp_path_factory.mktemp("photos")
    boxes = json.loads((bundled("signs/photos") / "boxes.json").read_text())
    for kind in ("stop", "warning"):
        (root / kind).mkdir()
        for name in [n for n, entry in boxes.items() if entry["label"] == kind]:
            shutil.copy(bundled("signs/photos") / name, root / kind / name)
    (root / "stop" / "zz_broken.jpg").write_bytes(b"\xff\xd8 no photo")
    return root


def run(name: str, photos: Any, **more: Any) -> Finding:
    function = STUDIES[name]
    parameters = inspect.signature(function).parameters
    given: dict[str, Any] = {"engine": ENGINE} | QUICK.get(name, {}) | more
    model = oi.load(MODEL)
    positional: list[Any] = [[model, model] if "models" in parameters else model]
    if "photos" in parameters:
        if parameters["photos"].kind is inspect.Parameter.KEYWORD_ONLY:
            given["photos"] = [str(photos)]
        else:
            positional.append(photos)
    return function(*positional, **given)


@pytest.fixture(scope="module")
def found(folder: Path) -> dict[str, Finding]:
    return {name: run(name, folder) for name in NAMES}


@STUDY
def test_defaults_suffice(name: str, found: dict[str, Finding], tmp_path: Path) -> None:
    result = found[name]
    assert result.study == name
    assert result.lines
    assert result.picture.dtype == np.uint8
    assert result.picture.shape[2] == 3
    record = json.loads(json.dumps(plain(result.to_json())))
    assert record["values"]
    assert record["models"][0]["name"] == MODEL.name
    for note in result.notes:
        assert re.search(r"\(.*(--\w|PHOTO|=).*\)$", note), f"no flag: {note}"
    written = result.save(tmp_path / "ü.png")
    assert written[0] == tmp_path / "ü.png"
    assert {p.suffix for p in written} >= {".png", ".json"}
    assert np.array_equal(image.read(written[0]), result.picture)


@OF_PHOTOS
def test_damaged_photos_are_left_out(name: str, found: dict[str, Finding]) -> None:
    assert [Path(s["photo"]).name for s in found[name].skipped] == ["zz_broken.jpg"]
    assert any("could not be read" in note for note in found[name].notes)


@STUDY
def test_the_same_again(name: str, found: dict[str, Finding], folder: Path) -> None:
    """Neither chance nor the number of workers changes a byte."""
    more = {"workers": 3} if "photos" in inspect.signature(STUDIES[name]).parameters else {}
    again = run(name, folder, **more)
    assert json.dumps(plain(again.values)) == json.dumps(plain(found[name].values))
    assert np.array_equal(again.picture, found[name].picture)


@STUDY
def test_docstrings_say_what_they_must(name: str) -> None:
    text = inspect.getdoc(STUDIES[name]) or ""
    assert "Example:\n" in text
    assert "Raises:\n" in text
    section = text.partition("Args:\n")[2]
    hints = get_type_hints(STUDIES[name])
    for parameter in inspect.signature(STUDIES[name]).parameters:
        if parameter not in SHARED:
            assert f"    {parameter}: " in section, f"{parameter} is not described"
            for choice in get_args(hints[parameter]) if get_origin(hints[parameter]) is Literal else ():
                assert str(choice) in section or choice == "", f"{parameter}={choice} is not described"


@STUDY
def test_every_study_is_public_and_a_command(name: str) -> None:
    assert getattr(oi, name) is STUDIES[name]
    parameters = [p.name for p in build(STUDIES[name]).params]
    assert len(parameters) == len(set(parameters)), "an option of the study hides a shared one"
    done = CliRunner().invoke(cli, [name, "--help"])
    assert done.exit_code == 0, done.output
    assert studies()[name][0].rpartition(".")[2] in " ".join(FAMILIES.values()).split()


@STUDY
def test_the_command(name: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    parameters = inspect.signature(STUDIES[name]).parameters
    words = [name, str(MODEL), *([str(MODEL)] if "models" in parameters else [])]
    if "photos" in parameters:
        words += ["--photos"] if parameters["photos"].kind is inspect.Parameter.KEYWORD_ONLY else []
        words += [str(folder)]
    for option, value in QUICK.get(name, {}).items():
        words += [f"--{option.replace('_', '-')}", str(value)]
    done = CliRunner().invoke(cli, [*words, "--json"])
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    assert record["study"] == name
    assert record["files"]
    for file in record["files"]:
        assert Path(file).exists()


@pytest.fixture
def here(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place to work in, with copies that may come to harm."""
    shutil.copytree(folder, tmp_path / "photos")
    shutil.copy(MODEL, tmp_path / "m.onnx")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(*words: object) -> Any:
    return CliRunner().invoke(cli, ["invariance", "m.onnx", *map(str, words), "--steps", "2"])


@pytest.mark.parametrize(
    ("photos", "out"),
    [
        ("{}", "{}"),
        ("photos", "{}"),
        ("photos/*/*.jpg", "photos/../{}"),
        ("photos", "{stem}.json"),  # whose record is stem.json.json
        ("list.csv", "{}"),
    ],
)
def test_no_photo_is_overwritten(here: Path, photos: str, out: str) -> None:
    photo = next(p for p in sorted((here / "photos/stop").iterdir()) if p.name[0] != "z").relative_to(here)
    (here / "list.csv").write_text(f"path\n{photo}\n")
    before = photo.read_bytes()
    done = call(photos.format(photo), "-o", out.format(photo, stem=photo.with_suffix("")))
    assert photo.read_bytes() == before
    if out.endswith("json"):
        assert done.exit_code == 0, done.output
    else:
        assert done.exit_code == 2
        assert "is a photo itself" in done.stderr


def test_no_file_of_an_option_is_overwritten(here: Path) -> None:
    (here / "names.json").write_text('["a", "b"]')
    done = call("photos", "--labels", "names.json", "-o", "names.png")
    assert done.exit_code == 2
    assert "'names.json' is the file of --labels itself" in done.stderr
    assert not (here / "names.png").exists()


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("", "-o is empty"),
        ("m.onnx", "is the model itself"),
        ("m.onnx/x.png", "'m.onnx' is a file, not a folder"),
        ("a" * 300, "File name too long"),
    ],
)
def test_where_nothing_can_be_written(here: Path, out: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said before anything is run."""
    monkeypatch.setattr(Engine, "run", lambda *_, **__: pytest.fail("ran"))
    done = call("photos", "-o", out)
    assert done.exit_code == 2, done.output
    assert said in done.stderr


def test_the_file_says_what_the_terminal_says(here: Path) -> None:
    record = json.loads(call("photos", "-o", "out", "--json").stdout)
    assert any(note.startswith("preprocessing:") for note in record["notes"])
    assert json.loads((here / "out.json").read_text())["notes"] == record["notes"]
