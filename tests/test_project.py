"""project: PCA and accuracy against their definitions, and a page that nothing can break out of."""

from __future__ import annotations

import base64
import json
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from onnx_inspect import image
from onnx_inspect.cli import cli
from onnx_inspect.errors import InputError
from onnx_inspect.features import atlas, plane
from onnx_inspect.studies.embed import embed
from onnx_inspect.studies.project import project

from . import nets
from .test_embed import HOW, folder


class Page(HTMLParser):
    """The elements of a page, and the text in its scripts and title."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: dict[str, list[str]] = {"script": [], "title": []}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] in self.texts:
            self.texts[self.tags[-1]].append(data)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return nets.save(tmp_path, metadata=nets.NAMES)


def test_pca_is_the_singular_value_decomposition(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    x = (rng.normal(size=(80, 6)) * [9, 5, 1, 0.5, 0.2, 0.1] + 3).astype(np.float32)
    centred = x - x.mean(axis=0, dtype=np.float64)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    for limit, close in ((plane._AT_ONCE, 1e-4), (0, 0.05)):  # at once, and in parts
        monkeypatch.setattr(plane, "_AT_ONCE", limit)
        monkeypatch.setattr(plane, "_PART", 32)
        found, share = plane.principal(x, 2)
        np.testing.assert_allclose(np.abs(found), np.abs(u * s)[:, :2], atol=close * s[0])
        np.testing.assert_allclose(share, (s**2 / (s**2).sum())[:2], atol=close)
    found, share = plane.principal(x[:, :1], 2)  # a single feature: the second component is empty
    assert not found[:, 1].any()
    assert share.tolist() == pytest.approx([1, 0])


def test_accuracy_is_the_vote_of_the_nearest_others() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(40, 2)).astype(np.float32)
    classes = [None if i % 9 == 0 else "abc"[i % 3] for i in range(40)]
    x[[c == "a" for c in classes]] += 2
    right = {}
    for i in range(40):
        if classes[i] is None:
            continue
        order = sorted((float(((x[i] - x[j]) ** 2).sum()), j) for j in range(40) if j != i and classes[j] is not None)
        near = [classes[j] for _, j in order[:5]]
        right[i] = max(near, key=lambda c: (near.count(c), -near.index(c))) == classes[i]
    assert plane.accuracy(x, classes, np.arange(40)) == pytest.approx(np.mean(list(right.values())))
    assert plane.accuracy(x, classes, np.arange(12)) == pytest.approx(
        np.mean([right[i] for i in range(12) if i in right])
    )
    assert plane.accuracy(x, [None] * 40, np.arange(40)) is None


def test_a_map_keeps_apart_what_the_features_keep_apart(model: Path, tmp_path: Path) -> None:
    photos = folder(tmp_path, 30)
    for method in ("pca", "tsne"):
        found = project(model, photos, method=method, preprocessing=HOW)
        assert found.values["knn_accuracy"] > 0.9
        assert found.values["trustworthiness"] > 0.8
        assert found.arrays["points"].shape == (30, 2)
        assert [p["label"] for p in found.values["points"]] == ["blue"] * 15 + ["red"] * 15
    assert any("perplexity 5, for 30 photos" in note for note in found.notes)


def test_the_same_seed_gives_the_same_bytes(model: Path, tmp_path: Path) -> None:
    photos = folder(tmp_path)
    embed(model, photos, out=tmp_path / "vec", preprocessing=HOW)
    one, two = project(model, photos, preprocessing=HOW), project(model, tmp_path / "vec")
    np.testing.assert_array_equal(one.arrays["points"], two.arrays["points"])
    np.testing.assert_array_equal(one.picture, two.picture)
    assert one.texts == two.texts


def test_names_stay_text(tmp_path: Path) -> None:
    evil = ["</script><script>alert(1)</script>", "<!--<script>", "a&amp;b$title${data}", "\u2028\u2029\ud800'\""]
    text = atlas.page(
        "<b>" + evil[0],
        np.array([[0, 0], [1, 1], [2, 0], [3, 5]]),
        [evil[0], evil[1], None, evil[0]],
        "label",
        {evil[0]: "#112233"},
        evil,
        [],
        lambda i: np.zeros((4, 4, 3), np.uint8),
        [None, *evil[:3]],
    )
    text.encode()
    page = Page(text)
    assert page.tags.count("script") == 2
    assert "b" not in page.tags
    assert "".join(page.texts["title"]).rstrip() == ("<b>" + evil[0])
    assert "<" not in page.texts["script"][0]
    data = json.loads(page.texts["script"][0])
    assert data["names"] == evil
    assert {c["name"]: c["count"] for c in data["classes"]} == {evil[0]: 2, evil[1]: 1, "none": 1}
    assert [data["predictions"][p[4]] for p in data["points"]] == ["", *evil[:3]]
    assert "default-src 'none'" in text
    assert "http:" not in text
    assert "https:" not in text


def test_the_page_holds_the_photos(model: Path, tmp_path: Path) -> None:
    photos = folder(tmp_path, 20)
    image.write(photos / "blue" / "01.png", np.full((18, 9, 3), (10, 20, 240), np.uint8))
    found = project(model, photos, method="pca", thumbnails=18, preprocessing=HOW)
    data = json.loads(Page(found.texts[".html"]).texts["script"][0])
    assert any("thumbnails of 18 photos" in note for note in found.notes)
    points = data["points"]
    assert sorted(p[3] for p in points) == [-1, -1, *range(18)]
    kind, _, coded = data["sprites"][0].partition(",")
    assert kind == "data:image/png;base64"
    sheet = image.decode(base64.b64decode(coded))
    for p, name in zip(points, data["names"], strict=True):
        if p[3] >= 0:
            row, column = divmod(p[3], data["columns"])
            w, h = data["sizes"][p[3]]
            y, x = row * data["cell"], column * data["cell"]
            np.testing.assert_array_equal(sheet[y : y + h, x : x + w], image.read(name))
    np.testing.assert_allclose([p[:2] for p in points], found.arrays["points"], atol=1e-4)


def test_large_photos_become_thumbnails_in_several_sprites(tmp_path: Path) -> None:
    pictures = [np.full((200, 300, 3), (40, 90 + i % 100, 200), np.uint8) for i in range(260)]
    sheets, sizes, cell = atlas._sprites(range(260), pictures.__getitem__)
    assert len(sheets) == 2
    assert (cell, sizes[0]) == (96, [96, 64])
    assert sheets[0].startswith("data:image/jpeg;base64,")
    second = image.decode(base64.b64decode(sheets[1].partition(",")[2]))
    assert second.shape == (96, 16 * 96, 3)
    np.testing.assert_allclose(second[20, 3 * 96 + 20], (40, 90 + 259 % 100, 200), atol=4)


def test_too_few_too_many_and_all_the_same(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos = folder(tmp_path)
    some = [str(p) for p in sorted(photos.rglob("*.png"))]
    with pytest.raises(InputError, match="4 to 30000 photos, not 3"):
        project(model, some[:3], preprocessing=HOW)
    monkeypatch.setitem(sys.modules[project.__module__]._MOST, "tsne", 8)
    with pytest.raises(InputError, match="--method pca"):
        project(model, photos, preprocessing=HOW)
    for number in (20000, -1):
        with pytest.raises(InputError, match="--thumbnails"):
            project(model, photos, method="pca", thumbnails=number, preprocessing=HOW)
    with pytest.raises(InputError, match="--perplexity"):
        project(model, some[:6], perplexity=-1.0, preprocessing=HOW)
    for path in some:
        image.write(path, np.full((12, 12, 3), 90, np.uint8))
    with pytest.raises(InputError, match="are the same"):
        project(model, photos, method="pca", preprocessing=HOW)


def test_the_command(model: Path, tmp_path: Path) -> None:
    photos = folder(tmp_path)
    done = CliRunner().invoke(
        cli, ["project", str(model), str(photos), "--method", "pca", "-o", str(tmp_path / "map.png")]
    )
    assert done.exit_code == 0, done.output
    assert {p.name for p in tmp_path.glob("map.*")} == {"map.png", "map.html", "map.npz", "map.json"}
    assert "variance on the map" in done.output
