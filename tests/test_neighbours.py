"""neighbours: the search against brute force in float64, precision against its definition, embeddings that do not fit."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from onnx_inspect import image
from onnx_inspect.cli import cli
from onnx_inspect.errors import InputError, ResultError
from onnx_inspect.features import nearest as module
from onnx_inspect.features.embedding import read
from onnx_inspect.features.nearest import Metric, nearest
from onnx_inspect.preprocess import Preprocessing
from onnx_inspect.studies.embed import embed
from onnx_inspect.studies.neighbours import neighbours

from . import nets
from .test_embed import HOW, folder


def brute(queries: np.ndarray, vectors: np.ndarray, top: int, metric: str, without: np.ndarray) -> tuple:
    which, far = [], []
    for q, own in zip(queries.astype(np.float64), without, strict=True):
        distances = []
        for i, v in enumerate(vectors.astype(np.float64)):
            if metric == "l2":
                d = np.sqrt(((q - v) ** 2).sum())
            else:
                length = np.sqrt((q * q).sum()) * np.sqrt((v * v).sum())
                d = 1 - min(1, max(-1, (q * v).sum() / length)) if length > 1e-15 else 1.0
            if i != own:
                distances.append((d, i))
        distances.sort()
        which.append([i for _, i in distances[:top]])
        far.append([d for d, _ in distances[:top]])
    return np.array(which), np.array(far)


def scene(kind: str) -> np.ndarray:
    """Vectors that are hard in different ways."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(60, 24)).astype(np.float32)
    if kind == "far from zero":  # where |a|^2 - 2 a.b + |b|^2 loses all digits
        return x + np.float32(1000)
    if kind == "nearly equal":  # differences that float32 products cannot see
        return (np.ones((60, 24), np.float32) + np.float32(2e-7) * rng.integers(-9, 9, (60, 24))).astype(np.float32)
    if kind == "twins and zeros":
        x[10:20] = x[0]
        x[30:35] = 0
    if kind == "rectified":
        return np.maximum(x, 0)
    return x


@pytest.mark.parametrize("metric", ["cosine", "l2"])
@pytest.mark.parametrize("kind", ["plain", "rectified", "far from zero", "nearly equal", "twins and zeros"])
def test_the_search_is_exact(kind: str, metric: Metric, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", 7)
    monkeypatch.setattr(module, "QUERIES", 9)
    x = scene(kind)
    own = np.arange(60)
    own[::3] = -1
    which, far = nearest(x, x, 5, metric, own)
    expected, distances = brute(x, x, 5, metric, own)
    np.testing.assert_allclose(far, distances, atol=1e-12)
    np.testing.assert_array_equal(which, expected)


def test_fewer_vectors_than_asked_for() -> None:
    x = np.eye(3, dtype=np.float32)
    which, far = nearest(x[:1], x, 5, "l2", np.array([0]))
    assert which.tolist() == [[1, 2, -1, -1, -1]]
    assert np.isinf(far[0, 2:]).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_what_is_no_number_is_refused(bad: float) -> None:
    x = np.ones((4, 3), np.float32)
    x[2, 1] = bad
    for queries, vectors in ((x, x[:1]), (x[:1], x)):
        with pytest.raises(ResultError, match="not a number"):
            nearest(queries, vectors, 1)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return nets.save(tmp_path, metadata=nets.NAMES)


def test_neighbours_are_the_same_from_photos_and_from_files(model: Path, tmp_path: Path) -> None:
    photos = folder(tmp_path)
    vectors = embed(model, photos, out=tmp_path / "vec", preprocessing=HOW)
    assert vectors.written
    direct = neighbours(model, photos, top=4, preprocessing=HOW)
    stored = neighbours(model, tmp_path / "vec", top=4)
    crossed = neighbours(model, photos, among=tmp_path / "vec", top=4, preprocessing=HOW)
    x = np.load(tmp_path / "vec" / "vectors.npy")
    expected, distances = brute(x, x, 4, "cosine", np.arange(12))
    for found in (direct, stored, crossed):
        np.testing.assert_array_equal(found.arrays["neighbours"], expected)
        np.testing.assert_allclose(found.arrays["distances"], distances, atol=1e-12)
    np.testing.assert_array_equal(direct.picture, stored.picture)  # photos were found again
    assert any("also among those searched" in note for note in crossed.notes)
    first = direct.values["neighbours"][0]
    assert first["path"] == str(photos / "blue" / "01.png")
    assert len(first["neighbours"]) == 4
    assert first["neighbours"][0]["path"] != first["path"]


def test_photos_are_known_again_from_another_folder(model: Path, tmp_path: Path) -> None:
    photos = folder(tmp_path)
    here = Path.cwd()
    try:
        os.chdir(tmp_path)
        embed(model, "photos", out="vec", preprocessing=HOW)
        os.chdir(photos)
        found = neighbours(model, "red", among="../vec", top=3, preprocessing=HOW)
    finally:
        os.chdir(here)
    for i, row in enumerate(found.values["neighbours"]):
        assert i + 6 not in found.arrays["neighbours"][i]
        assert row["neighbours"][0]["path"].startswith("photos/")
    assert found.picture.std() > 20


def test_photos_are_known_again_from_a_list_of_what_lies_elsewhere(model: Path, tmp_path: Path) -> None:
    photos = folder(tmp_path)
    (tmp_path / "lists").mkdir()
    names = [f"../photos/{p.relative_to(photos)}" for p in sorted(photos.rglob("*.png"))]
    (tmp_path / "lists" / "all.csv").write_text("\n".join(names))
    found = neighbours(model, photos, among=tmp_path / "lists" / "all.csv", top=3, preprocessing=HOW)
    np.testing.assert_array_equal(
        found.arrays["neighbours"], neighbours(model, photos, top=3, preprocessing=HOW).arrays["neighbours"]
    )


def test_precision_is_the_share_of_neighbours_with_the_label(model: Path, tmp_path: Path) -> None:
    photos = folder(tmp_path, 11)
    (tmp_path / "photos" / "lone").mkdir()
    (photos / "red" / "00.png").rename(photos / "lone" / "00.png")
    found = neighbours(model, photos, top=7, preprocessing=HOW)
    labels = ["blue"] * 5 + ["lone"] + ["red"] * 5
    which = found.arrays["neighbours"]
    for k in (5, 7):
        row = found.values["precision"][str(k)]
        got = [sum(labels[j] == labels[i] for j in which[i, :k]) / k for i in range(11)]
        assert row["precision"] == pytest.approx(np.mean(got))
        assert row["photos"] == 11
        for c in ("blue", "lone", "red"):
            of = row["classes"][c]
            mine = [i for i in range(11) if labels[i] == c]
            assert of["precision"] == pytest.approx(np.mean([got[i] for i in mine]))
            assert of["best"] == pytest.approx(min(1, (len(mine) - 1) / k))
            assert of["chance"] == pytest.approx((len(mine) - 1) / 10)
    assert found.lines[0].startswith("precision@5: ")


def test_without_labels_there_is_no_precision_and_that_is_said(model: Path, tmp_path: Path) -> None:
    photos = folder(tmp_path)
    found = neighbours(model, photos / "red", top=2, rows=2, preprocessing=HOW)
    assert found.values["precision"] == {}
    assert any("no labels" in note for note in found.notes)
    assert any("--rows" in note for note in found.notes)


def test_what_cannot_be_compared_is_refused(model: Path, tmp_path: Path) -> None:
    photos = folder(tmp_path)
    embed(model, photos, out=tmp_path / "vec", preprocessing=HOW)
    other = nets.save(tmp_path, "other.onnx", classes=5)
    with pytest.raises(InputError, match=r"another model: 'model\.onnx'"):
        neighbours(other, tmp_path / "vec")
    with pytest.raises(InputError, match=r"not of 'body\.relu1'"):
        neighbours(model, tmp_path / "vec", layer="body.relu1")
    with pytest.raises(InputError, match="different preprocessings"):
        neighbours(model, photos, among=tmp_path / "vec", preprocessing=Preprocessing((12, 12)))
    assert any("preprocessing: that of the vectors" in n for n in neighbours(
        model, tmp_path / "vec", preprocessing=Preprocessing((12, 12))).notes)  # fmt: skip
    for none in ({"top": 0}, {"rows": 0}):
        with pytest.raises(InputError, match=r"nothing to show.*--top, --rows"):
            neighbours(model, photos, preprocessing=HOW, **none)
    with pytest.raises(InputError, match="One photo alone"):
        neighbours(model, photos / "red" / "00.png", preprocessing=HOW)
    table = tmp_path / "vec" / "vectors.npy"
    table.write_bytes(table.read_bytes()[:-8])
    with pytest.raises(InputError, match="damaged"):
        neighbours(model, tmp_path / "vec")
    np.save(table, np.array([[{}]]), allow_pickle=True)
    with pytest.raises(InputError, match="damaged"):
        neighbours(model, tmp_path / "vec")


@pytest.mark.parametrize(("column", "values"), [("path", None), ("path", [1]), ("label", [["a"]]), ("path", "gone")])
def test_tables_of_others_are_refused(model: Path, tmp_path: Path, column: str, values: Any) -> None:
    embed(model, folder(tmp_path), out=tmp_path / "vec", preprocessing=HOW)
    path = tmp_path / "vec" / "embeddings.parquet"
    table = pq.read_table(path).drop_columns(column)
    if values != "gone":
        table = table.append_column(column, pa.array((values or [None]) * 12))
    pq.write_table(table, path)
    if values == [1]:  # as good as text
        assert neighbours(model, tmp_path / "vec").values["neighbours"][0]["path"] == "1"
        return
    with pytest.raises(InputError, match=r"is damaged: [^\n]*\. Run embed again"):
        neighbours(model, tmp_path / "vec")


def test_names_in_a_zip_may_be_odd(model: Path, tmp_path: Path) -> None:
    photos = sorted(folder(tmp_path).rglob("*.png"))
    with zipfile.ZipFile(tmp_path / "odd.zip", "w") as archive:
        for name, photo in zip(["/root.png", "./here.png", "a//b.png", "../up.png"], photos, strict=False):
            archive.writestr(zipfile.ZipInfo(name), photo.read_bytes())
    embed(model, tmp_path / "odd.zip", out=tmp_path / "vec", preprocessing=HOW)
    found = read(tmp_path / "vec", model)
    assert len(found) == 4 and all(found.read(i).shape == (14, 18, 3) for i in range(4))


def test_photos_in_a_zip_are_found_again(model: Path, tmp_path: Path) -> None:
    import shutil

    photos = folder(tmp_path)
    archive = shutil.make_archive(str(tmp_path / "all"), "zip", photos)
    embed(model, archive, out=tmp_path / "vec", preprocessing=HOW)
    found = neighbours(model, tmp_path / "vec", top=2)
    expected = neighbours(model, photos, top=2, preprocessing=HOW)
    np.testing.assert_array_equal(found.picture, expected.picture)


def test_the_command(model: Path, tmp_path: Path) -> None:
    photos = folder(tmp_path)
    vec = tmp_path / "vec"
    assert CliRunner().invoke(cli, ["embed", str(model), str(photos), "-o", str(vec)]).exit_code == 0
    words = ["neighbours", str(model), str(photos / "red" / "02.png"), "--among", str(vec), "--top", "3"]
    done = CliRunner().invoke(cli, [*words, "-o", str(tmp_path / "near.png")])
    assert done.exit_code == 0, done.output
    assert image.read(tmp_path / "near.png").shape[1] > 400
    assert "02: " in done.output
    done = CliRunner().invoke(cli, [*words, "--metric", "l1"])
    assert done.exit_code == 2
