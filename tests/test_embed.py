"""embed: the vectors against the network in float64, the files, and what is left of a run that was stopped."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper

from onnx_inspect import image
from onnx_inspect.cli import cli
from onnx_inspect.errors import LayerError, OutputError, PhotoError
from onnx_inspect.features.embedding import read
from onnx_inspect.features.vectors import picked
from onnx_inspect.photos.shards import Shards
from onnx_inspect.preprocess import Preprocessing
from onnx_inspect.studies import embed as module
from onnx_inspect.studies.embed import _alike, _spectrum, embed
from onnx_inspect.studies.neighbours import neighbours

from . import nets

HOW = Preprocessing((nets.SIZE, nets.SIZE), scale=1 / 255)


def folder(root: Path, count: int = 12) -> Path:
    """Photos of two classes, in a folder each."""
    rng = np.random.default_rng(5)
    for i in range(count):
        path = root / "photos" / ("red", "blue")[i % 2] / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 120, (14, 18, 3))
        pixels[..., 2 * (i % 2)] += 120
        image.write(path, pixels.astype(np.uint8))
    return root / "photos"


def samples(photos: Path) -> np.ndarray:
    return np.stack([HOW.apply(image.read(p)) for p in sorted(photos.rglob("*.png"))])


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return nets.save(tmp_path, metadata=nets.NAMES)


def test_the_vectors_are_what_the_last_layer_decides_upon(model: Path, tmp_path: Path) -> None:
    photos = folder(tmp_path)
    found = embed(model, photos, preprocessing=HOW)
    expected = nets.forward(samples(photos))
    np.testing.assert_allclose(found.arrays["vectors"], expected["p"], atol=2e-6)
    assert found.arrays["vectors"].dtype == np.float32
    assert found.arrays["photos"].tolist() == list(range(12))
    assert found.values["classes"] == {"blue": 6, "red": 6}
    assert any("decides upon" in note and "--layer" in note for note in found.notes)


def test_maps_are_averaged_and_that_is_said(model: Path, tmp_path: Path) -> None:
    photos = folder(tmp_path)
    found = embed(model, photos, layer="body.relu1", preprocessing=HOW)
    expected = nets.forward(samples(photos))["r1"].mean(axis=(2, 3))
    np.testing.assert_allclose(found.arrays["vectors"], expected, atol=2e-6)
    assert any("is a map" in note for note in found.notes)
    with pytest.raises(LayerError):
        embed(model, photos, layer="body.relu9", preprocessing=HOW)


def test_the_files_say_the_same(model: Path, tmp_path: Path) -> None:
    photos = folder(tmp_path)
    out = tmp_path / "out"
    kept = embed(model, photos, preprocessing=HOW).arrays["vectors"]
    found = embed(model, photos, out=out, preprocessing=HOW)
    vectors = np.load(out / "vectors.npy", mmap_mode="r", allow_pickle=False)
    assert isinstance(vectors, np.memmap)
    np.testing.assert_array_equal(vectors, kept)
    table = pq.read_table(out / "embeddings.parquet")
    np.testing.assert_array_equal(np.stack(table["vector"].to_numpy()), kept)
    logits = nets.forward(samples(photos))["logits"]
    assert table["index"].to_pylist() == logits.argmax(axis=1).tolist()
    names = ["cat", "dog", "Löwe", "tench"]
    assert table["prediction"].to_pylist() == [names[i] for i in logits.argmax(axis=1)]
    np.testing.assert_allclose(table["score"].to_numpy(), logits.max(axis=1), atol=1e-5)
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(table["probability"].to_numpy(), softmax.max(axis=1), atol=1e-5)
    assert table["path"].to_pylist() == [str(p) for p in sorted(photos.rglob("*.png"))]
    assert table["label"].to_pylist() == ["blue"] * 6 + ["red"] * 6
    record = json.loads((out / "embed.json").read_text())
    assert record["models"][0]["sha256"] == found.models[0]["sha256"]
    assert record["layer"] == found.layer
    assert sorted(p.name for p in out.iterdir()) == ["embed.json", "embeddings.parquet", "vectors.npy"]
    assert "vectors" not in found.arrays


def test_photos_that_cannot_be_read_have_no_row(model: Path, tmp_path: Path) -> None:
    photos = folder(tmp_path)
    (photos / "blue" / "03.png").write_bytes(b"nothing")
    found = embed(model, photos, out=tmp_path / "out", preprocessing=HOW)
    table = pq.read_table(tmp_path / "out" / "embeddings.parquet")
    assert table["photo"].to_pylist() == [i for i in range(12) if i != 1]
    assert [Path(s["photo"]).name for s in found.skipped] == ["03.png"]
    assert len(np.load(tmp_path / "out" / "vectors.npy")) == 11
    again = read(tmp_path / "out", model)
    np.testing.assert_array_equal(again.read(1), image.read(photos / "blue" / "05.png"))
    for path in photos.rglob("*.png"):
        path.write_bytes(b"nothing")
    for out in (None, tmp_path / "other"):
        with pytest.raises(PhotoError, match="None of the 12"):
            embed(model, photos, out=out, preprocessing=HOW)


class Stop:
    """A progress bar on which somebody presses Ctrl-C after some photos."""

    def __init__(self, after: int) -> None:
        self.left = after

    def __call__(self, name: str, total: int) -> Any:
        return self.count

    def count(self, n: int) -> None:
        self.left -= n
        if self.left <= 0:
            raise KeyboardInterrupt


def test_a_stopped_run_goes_on_and_gives_the_same_bytes(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = folder(tmp_path, 21)
    (photos / "red" / "02.png").write_bytes(b"nothing")
    monkeypatch.setattr(module, "Shards", partial(Shards, size=4))
    embed(model, photos, out=tmp_path / "once", preprocessing=HOW)
    for after in (6, 9, 1):
        with pytest.raises(KeyboardInterrupt):
            embed(model, photos, out=tmp_path / "often", preprocessing=HOW, progress=Stop(after))
    with pytest.raises(OutputError, match="layer was"):
        embed(model, photos, out=tmp_path / "often", layer="body.relu1", preprocessing=HOW)
    counted: list[int] = []
    embed(model, photos, out=tmp_path / "often", preprocessing=HOW, progress=lambda name, n: counted.append)
    assert 0 < sum(counted) < 21 - 8
    for name in ("vectors.npy", "embeddings.parquet", "embed.json"):
        assert (tmp_path / "often" / name).read_bytes() == (tmp_path / "once" / name).read_bytes(), name


def test_a_kill_while_files_are_merged_leaves_nothing_to_be_mistaken(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos, out = folder(tmp_path), tmp_path / "out"
    embed(model, photos, out=out, preprocessing=HOW)
    left = out / ".0123456789abcdef.npy"
    left.write_bytes(b"a draft of a killed run")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("onnx_inspect.photos.tables.write_vectors", lambda *_: Stop(0).count(0))
        embed(model, photos, out=out, layer="body.relu1", preprocessing=HOW)
    assert not (out / "embed.json").exists() and not left.exists()


def test_photos_that_cannot_be_read_are_noted_once(model: Path, tmp_path: Path) -> None:
    photos, out = folder(tmp_path), tmp_path / "out"
    (photos / "red" / "02.png").write_bytes(b"nothing")
    found = [
        embed(model, photos, preprocessing=HOW),
        embed(model, photos, out=out, preprocessing=HOW),
        neighbours(model, out, preprocessing=HOW),
        neighbours(model, photos / "red", among=out, preprocessing=HOW),
    ]
    noted = [[note[:8] for note in one.notes if "could not be read" in note] for one in found]
    assert noted == [["1 of 12 "], ["1 of 12 "], ["1 of 12 "], ["2 of 18 "]]


def test_a_model_without_classes(tmp_path: Path) -> None:
    photos = folder(tmp_path)
    kernel = helper.make_tensor("w", TensorProto.FLOAT, [2, 3, 1, 1], [1, 0, 0, 0, 0, 1])
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Relu", ["c"], ["y"])],
        "maps",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 12, 12])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2, 12, 12])],
        [kernel],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx")
    found = embed(tmp_path / "m.onnx", photos, out=tmp_path / "out", preprocessing=HOW)
    np.testing.assert_allclose(
        np.load(tmp_path / "out" / "vectors.npy"), samples(photos)[:, [0, 2]].mean(axis=(2, 3)), atol=1e-6
    )
    assert pq.read_table(tmp_path / "out" / "embeddings.parquet")["prediction"].null_count == 12
    assert found.picture.ndim == 3


def test_the_spectrum_and_the_classes_by_hand() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(9, 4)).astype(np.float32)
    s = np.linalg.svd(x - x.mean(axis=0), compute_uv=False) ** 2
    np.testing.assert_allclose(_spectrum(x), np.cumsum(s) / s.sum(), rtol=1e-5)
    np.testing.assert_allclose(_spectrum(x.T)[:3], (lambda s: np.cumsum(s) / s.sum())(
        np.linalg.svd(x.T - x.T.mean(axis=0), compute_uv=False) ** 2)[:3], rtol=1e-5)  # fmt: skip
    classes = ["a", "a", "b", "b", "b", None, "lone", "a", "b"]
    names, table = _alike(x, classes)
    assert names == ["a", "b"]
    u = x / np.linalg.norm(x, axis=1, keepdims=True)
    for i, a in enumerate(names):
        for j, b in enumerate(names):
            pairs = [u[p] @ u[q] for p in range(9) for q in range(9) if p != q and classes[p] == a and classes[q] == b]
            assert table[i, j] == pytest.approx(np.mean(pairs), abs=1e-5)


def test_the_command(model: Path, tmp_path: Path) -> None:
    photos = folder(tmp_path)
    out = tmp_path / "vec"
    done = CliRunner().invoke(cli, ["embed", str(model), str(photos), "-o", str(out)], prog_name="onnx-inspect")
    assert done.exit_code == 0, done.output
    assert sorted(p.name for p in out.iterdir()) == ["embed.json", "embed.png", "embeddings.parquet", "vectors.npy"]
    assert "12 photos, 6 features each" in done.output
    again = CliRunner().invoke(cli, ["embed", str(model), str(photos), "-o", str(out)], prog_name="onnx-inspect")
    assert again.output == done.output  # the same folder, not one inside
    done = CliRunner().invoke(cli, ["embed", str(model), str(out / "none.png")], prog_name="onnx-inspect")
    assert done.exit_code == 2
    assert done.stderr.startswith("error: ")


def test_rows_of_a_file_are_read_without_mapping_it(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(50, 7)).astype(np.float32)
    np.save(tmp_path / "v.npy", values)
    rows = np.array([0, 3, 49])
    for vectors in (values, np.load(tmp_path / "v.npy", mmap_mode="r")):
        assert np.array_equal(picked(vectors, rows), values[rows])
