"""What a run says on stdout, in JSON and in its panels when no class is explained, or several inputs are."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from click.testing import CliRunner

import onnx_inspect as oi
from onnx_inspect import image
from onnx_inspect.cli import cli
from onnx_inspect.commands.report import Report
from onnx_inspect.engine import Engine

ZOO = Path(__file__).parent / "zoo"
ENGINE = Engine()
PHOTO = np.random.default_rng(0).integers(0, 255, (48, 80, 3), dtype=np.uint8)


def said(*words: Any) -> Any:
    """What a command says on stdout."""
    result = CliRunner().invoke(cli, [*map(str, words), "-q"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize(
    ("file", "target"),
    [
        ("torch_dynamo_cnn.onnx", "layer:{layer}[3]"),
        ("torch_dynamo_cnn.onnx", "{output}[0:2]"),
        ("torch_dynamo_cnn.onnx", "{output}[0] - 2 * top"),
        ("torch_dynamo_unet.onnx", "segmentation:class=1"),
        ("torch_dynamo_embedder.onnx", "embedding:similarity={other}"),
        ("torch_dynamo_yolo.onnx", "box:1"),
        ("torch_legacy_area.onnx", "top"),
    ],
)
def test_the_score_of_what_is_no_class_is_told(file: str, target: str, tmp_path: Path) -> None:
    model = oi.load(ZOO / file)
    image.write(tmp_path / "photo.png", PHOTO)
    image.write(tmp_path / "other.png", PHOTO[::-1])
    names = {"layer": model.layers[1].name, "output": model.outputs[0].name, "other": str(tmp_path / "other.png")}
    command = ["saliency", ZOO / file, tmp_path / "photo.png", "-o", tmp_path, "--npz", "-t", target.format(**names)]
    text, record = said(*command), json.loads(said(*command, "--json"))
    score, line = record["results"][0]["score"], text.splitlines()[1]
    assert record["results"][0]["explained"] is None
    assert line == f"   score {score:.4g} of {record['target']}"
    with np.load(tmp_path / "photo.saliency.npz") as arrays:
        assert score == pytest.approx(float(arrays["score"]))


def test_a_class_is_told_with_its_probability_alone(tmp_path: Path) -> None:
    image.write(tmp_path / "photo.png", PHOTO)
    lines = said("saliency", ZOO / "torch_dynamo_cnn.onnx", tmp_path / "photo.png", "-o", tmp_path).splitlines()
    assert [line[:3] for line in lines[1:]].count(" * ") == 1
    assert not any("score" in line for line in lines)


def test_explain_tells_what_is_explained(tmp_path: Path) -> None:
    image.write(tmp_path / "photo.png", PHOTO)
    for file, told in (("torch_legacy_area.onnx", "of percent[0]"), ("torch_dynamo_cnn.onnx", "of class ")):
        command = ["explain", ZOO / file, tmp_path / "photo.png", "-o", tmp_path, "--methods", "saliency"]
        result = json.loads(said(*command, "--json"))[0]["methods"][0]["result"]
        assert said(*command).splitlines()[1].startswith(f"   score {result['results'][0]['score']:.4g} {told}")


def test_several_inputs_share_the_attribution(tmp_path: Path) -> None:
    vector = np.array([0.98, 0.1, 0.46, 0.12], np.float32)
    image.write(tmp_path / "photo.png", PHOTO)
    np.save(tmp_path / "vector.npy", vector)
    command = ["input_x_gradient", ZOO / "torch_dynamo_fusion.onnx", tmp_path / "photo.png", "-o", tmp_path]
    command += ["--input", f"vector={tmp_path / 'vector.npy'}", "--npz"]
    lines = said(*command).splitlines()
    arrays = np.load(tmp_path / "photo.input_x_gradient.npz")
    sums = {name: np.abs(arrays[f"values.{name}"], dtype=np.float64).sum() for name in ("photo", "vector")}
    share = {name: value / sum(sums.values()) for name, value in sums.items()}
    assert (
        lines[2] == f"   of the attribution: photo {100 * share['photo']:.3g} %, vector {100 * share['vector']:.3g} %"
    )
    record = json.loads(said(*command, "--json"))
    assert record["results"][0]["shares"] == pytest.approx(share)


def test_the_vector_is_drawn_below_the_map() -> None:
    model, vector = oi.load(ZOO / "torch_dynamo_fusion.onnx"), np.array([[0.9, 0.1, 0.5, 0.1]], np.float32)
    x = {"photo": np.zeros((1, 3, 48, 80), np.float32), "vector": vector}
    found = oi.saliency(model, x, engine=ENGINE)
    assert set(found.shares) == {"photo", "vector"}
    assert found.shares["vector"] == pytest.approx(1 - found.shares["photo"])
    assert [p.name for p in found.parts()] == ["vector"]
    alone = oi.gradcam(model, x, engine=ENGINE)
    assert found.panel().shape[0] > alone.panel().shape[0] + 100
    assert alone.shares == {}
    assert all("of the attribution" not in line for line in alone.lines())
    layers = [c.tensor for c in model.layers if c.role == "spatial"][:2]
    assert oi.saliency(model, x, engine=ENGINE, wrt=layers).shares == {}  # layers share nothing


class Counted(str):
    """A text that counts how often it is looked up."""

    looked = 0

    def __hash__(self) -> int:
        Counted.looked += 1
        return str.__hash__(self)


def test_results_are_collected_in_linear_time() -> None:
    """Every photo may bring a note of its own."""
    report = Report([], True, True, ["top", "1"], manifest=False)
    count = 300
    for k in range(count):
        note = Counted(f"the map of {k} is zero everywhere")
        made = SimpleNamespace(notes=[note, "a note"], target="top", to_json=lambda k=k: {"results": [{"sample": k}]})
        report.add(cast(Any, made), [{}])
    results = json.loads("".join(report._pieces()))["results"]
    assert [entry["sample"] for entry in results] == list(range(count))
    assert results[-1] == {"sample": count - 1, "files": {}, "target": "top"}
    assert list(report.said) == ["the map of 0 is zero everywhere", "a note"] + [
        f"the map of {k} is zero everywhere" for k in range(1, count)
    ]
    assert Counted.looked < 10 * count
