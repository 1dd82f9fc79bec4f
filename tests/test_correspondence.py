"""Correspondence: the consistency score against loops, the study against a network in NumPy."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from onnx_inspect import image
from onnx_inspect.changes.occlusion import Consistency, cover, elsewhere, whole, within
from onnx_inspect.cli import cli
from onnx_inspect.engine import Engine
from onnx_inspect.errors import InputError, InspectError
from onnx_inspect.model import Model
from onnx_inspect.photos.source import Photos
from onnx_inspect.preprocess import Preprocessing
from onnx_inspect.resources import bundled
from onnx_inspect.studies.correspondence import correspondence

from . import nets

PLAIN = Preprocessing((12, 12), "squash", scale=1 / 255, mean=(0.5,), std=(0.25,))
HOW: dict[str, Any] = dict(engine=Engine("cpu", threads=1), preprocessing=PLAIN)
BOXES = {"eye": (1, 2, 5, 6), "nose": (6, 6, 11, 10)}


def picture(seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (12, 12, 3), np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four photos; all have an eye, the first three a nose, one an ear."""
    for i in range(4):
        image.write(tmp_path / f"{i}.png", picture(i))
    places = (
        [(i, 1, BOXES["eye"]) for i in range(4)] + [(i, 2, BOXES["nose"]) for i in range(3)] + [(3, 3, (0, 0, 2, 2))]
    )
    coco = {
        "images": [{"id": i, "file_name": f"{i}.png"} for i in range(4)],
        "categories": [{"id": 1, "name": "eye"}, {"id": 2, "name": "nose"}, {"id": 3, "name": "ear"}],
        "annotations": [
            {"image_id": i, "category_id": kind, "bbox": [x0, y0, x1 - x0, y1 - y0]}
            for i, kind, (x0, y0, x1, y1) in places
        ],
    }
    (tmp_path / "parts.json").write_text(json.dumps(coco))
    return tmp_path


def hamming(signs: list[NDArray[np.floating]]) -> float:
    """The mean over ordered pairs, as the paper sums it, by loops."""
    n, total = len(signs), 0.0
    for i in range(n):
        for j in range(n):
            if i != j:
                total += sum(a != b for a, b in zip(signs[i].ravel(), signs[j].ravel(), strict=True)) / signs[i].size
    return total / (n * (n - 1))


def signs(photo: NDArray[np.uint8], hidden: NDArray[np.uint8], layer: str) -> NDArray[np.floating]:
    one, two = (nets.forward(PLAIN.apply(p)[None])[layer] for p in (photo, hidden))
    return np.sign(np.where(abs(one - two) > 1e-6 * abs(one).max(), one - two, 0))


def test_consistency_against_loops() -> None:
    rng = np.random.default_rng(0)
    rows = [rng.integers(-1, 2, 40).astype(np.int8) for _ in range(7)]
    counted = Consistency()
    for row in rows:
        counted.add(row)
    assert counted.distance == pytest.approx(hamming(rows), abs=1e-12)
    alike, unlike = Consistency(), Consistency()
    for k in range(4):
        alike.add(rows[0])
        unlike.add(np.full(5, -1 if k % 2 else 1, np.int8))
    assert alike.distance == 0
    assert unlike.distance == pytest.approx(2 / 3)
    assert np.isnan(Consistency(1, np.zeros(3, np.int64), np.zeros(3, np.int64)).distance)


def test_covering() -> None:
    photo = picture(0)
    hidden = cover(photo, [(2, 3, 5, 9)])
    changed = (hidden != photo).any(axis=2)
    assert (hidden[3:9, 2:5] == 128).all()
    changed[3:9, 2:5] = False
    assert not changed.any()


def test_random_boxes_keep_their_size_and_stay_inside() -> None:
    places = {tuple(elsewhere([(0, 0, 25, 18)], (3, 4, 33, 24), [0, k])[0]) for k in range(200)}
    assert all(x1 - x0 == 25 and y1 - y0 == 18 for x0, y0, x1, y1 in places)
    assert {p[0] for p in places} == set(range(3, 9))
    assert {p[1] for p in places} == set(range(4, 7))


def test_parts_against_numpy(folder: Path) -> None:
    found = correspondence(
        Model.load(nets.classifier()), folder, boxes=str(folder / "parts.json"), random_sets=4, seed=3, **HOW
    )
    assert found.params["layer"] == ["body.relu2", "flatten_1"]
    assert [(p["part"], p["photos"]) for p in found.values["parts"]] == [("eye", 4), ("nose", 3)]
    assert any("single photo has ear" in note for note in found.notes)
    for part in found.values["parts"]:
        box, n = [BOXES[part["part"]]], part["photos"]
        for name, key in (("body.relu2", "a"), ("flatten_1", "p")):
            got = part["layers"][name]
            own = hamming([signs(picture(i), cover(picture(i), box), key) for i in range(n)])
            assert got["distance"] == pytest.approx(own, abs=1e-6)
            seeds = [[3, i, *part["part"].encode()] for i in range(n)]
            sets = [
                hamming(
                    [
                        signs(picture(i), cover(picture(i), elsewhere(box, (0, 0, 12, 12), [*seeds[i], k])), key)
                        for i in range(n)
                    ]
                )
                for k in range(4)
            ]
            np.testing.assert_allclose(got["random_sets"], sets, atol=1e-6)
            assert got["random"] == pytest.approx(np.mean(sets), abs=1e-6)
            assert got["z"] == pytest.approx((own - np.mean(sets)) / np.std(sets, ddof=1), abs=1e-3)
            assert got["p"] == pytest.approx((1 + sum(s <= own + 1e-9 for s in sets)) / 5)


def test_together_and_by_name(folder: Path) -> None:
    """Boxes of photo names have no labels: they are one part, and those of a photo go at once."""
    (folder / "named.json").write_text(json.dumps({f"{i}.png": [[0, 0, 3, 3], [8, 8, 12, 12]] for i in range(3)}))
    model = Model.load(nets.classifier())
    found = correspondence(model, folder, boxes=str(folder / "named.json"), random_sets=2, layer=["body.conv2"], **HOW)
    (part,) = found.values["parts"]
    both = [(0, 0, 3, 3), (8, 8, 12, 12)]
    own = hamming([signs(picture(i), cover(picture(i), both), "c2") for i in range(3)])
    assert part["layers"]["body.conv2"]["distance"] == pytest.approx(own, abs=1e-6)
    assert any("1 of 4 photos have no box" in note for note in found.notes)
    found = correspondence(model, folder, boxes=str(folder / "parts.json"), random_sets=2, together=True, **HOW)
    assert [(p["part"], p["photos"]) for p in found.values["parts"]] == [("part", 4)]


def test_without_boxes_it_is_where_the_model_looks(folder: Path) -> None:
    found = correspondence(Model.load(nets.classifier()), folder, random_sets=2, **HOW)
    assert [p["part"] for p in found.values["parts"]] == ["where the model looks"]
    assert any("--boxes" in note for note in found.notes)


def test_the_seed_decides(folder: Path) -> None:
    model, how = Model.load(nets.classifier()), HOW | dict(boxes=str(folder / "parts.json"), random_sets=3)
    first, again, other = (correspondence(model, folder, seed=s, **how).values for s in (0, 0, 1))
    assert first == again != other


def test_signs_are_known_by_the_network() -> None:
    """The sign on the photos is a part to the network that was trained on signs."""
    signs_ = bundled("signs")
    found = correspondence(
        signs_ / "clean.onnx", signs_ / "photos", boxes=str(signs_ / "photos/boxes.json"), engine=HOW["engine"]
    )
    for part in found.values["parts"]:
        for got in part["layers"].values():
            assert got["distance"] < got["random"]
            assert got["z"] < -1


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"0.png": [[50, 50, 60, 60]], "1.png": [[0, 0, 5, 5]]}, "outside the photo of 12x12"),
        ({"0.png": [[0, 0, 5, 5]]}, "No part is in two of the 4 photos"),
        ({"0.png": "x"}, "no list of boxes"),
    ],
)
def test_boxes_that_cannot_be_used(folder: Path, content: object, said: str) -> None:
    (folder / "bad.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=said):
        correspondence(Model.load(nets.classifier()), folder, boxes=str(folder / "bad.json"), **HOW)


@pytest.mark.parametrize("options", [dict(random_sets=0), dict(layer=["nowhere"]), dict(boxes="nowhere.json")])
def test_what_cannot_be(folder: Path, options: dict[str, Any]) -> None:
    with pytest.raises(InspectError):
        correspondence(Model.load(nets.classifier()), folder, **options, **HOW)


def test_boxes_in_whole_pixels() -> None:
    assert whole([(-1, 0.2, 3.1, 99)]) == [(-1, 0, 4, 99)]
    assert within([(-1, 0, 4, 99), (20, 0, 25, 9)], (0, 0, 20, 10)) == [(0, 0, 4, 10)]


def test_only_what_the_model_sees_counts(tmp_path: Path) -> None:
    """A crop sees the middle third: what is above it is no part, and no random box goes there."""
    for i in range(3):
        image.write(tmp_path / f"{i}.png", nets.colourful(3, (36, 12))[i])
    how = HOW | dict(preprocessing=Preprocessing((12, 12), "crop", scale=1 / 255, mean=(0.5,), std=(0.25,)))
    for box, said in (([0, 20, 5, 30], None), ([0, 0, 5, 8], "No part is in two")):
        (tmp_path / "b.json").write_text(json.dumps({f"{i}.png": [box] for i in range(3)}))
        options: Any = dict(boxes=str(tmp_path / "b.json"), random_sets=6, **how)
        if said:
            with pytest.raises(InputError, match=said):
                correspondence(Model.load(nets.classifier()), tmp_path, **options)
            continue
        (part,) = correspondence(Model.load(nets.classifier()), tmp_path, **options).values["parts"]
        assert min(part["layers"]["body.relu2"]["random_sets"]) > 0
        assert part["layers"]["body.relu2"]["distance"] > 0


def test_where_the_model_looks_may_be_padding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(3):
        image.write(tmp_path / f"{i}.png", nets.colourful(3, (36, 12))[i])
    how = HOW | dict(preprocessing=Preprocessing((12, 12), "letterbox", scale=1 / 255, mean=(0.5,), std=(0.25,)))
    looked = SimpleNamespace(boxes=[np.array([[0.0, 0, 2, 12]])])
    monkeypatch.setattr("onnx_inspect.studies.correspondence.localize", lambda *_, **__: looked)
    with pytest.raises(InputError, match="No part is in two of the 3 photos"):
        correspondence(Model.load(nets.classifier()), tmp_path, **how)


def test_odd_names_of_parts(folder: Path) -> None:
    coco = json.loads((folder / "parts.json").read_text())
    for entry, name in zip(coco["categories"], ("eye", "eye: random", "\ud800_$x$\n"), strict=True):
        entry["name"] = name
    coco["annotations"].append({"image_id": 0, "category_id": 3, "bbox": [0, 0, 2, 2]})
    (folder / "odd.json").write_text(json.dumps(coco))
    found = correspondence(Model.load(nets.classifier()), folder, boxes=str(folder / "odd.json"), random_sets=2, **HOW)
    assert [p["part"] for p in found.values["parts"]] == ["eye", "eye: random", "\ud800_$x$\n"]
    found.save(folder / "out.png")


def test_boxes_of_a_name_that_two_photos_have(folder: Path) -> None:
    (folder / "more").mkdir()
    image.write(folder / "more/0.png", picture(7))
    with pytest.raises(InputError, match=r"Several photos are called '0\.png'"):
        correspondence(Model.load(nets.classifier()), folder, boxes=str(folder / "parts.json"), **HOW)


def test_photos_without_boxes_are_read_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(10, 20):
        image.write(folder / f"{i}.png", picture(i))
    reads: list[int] = []
    plain = Photos.read
    monkeypatch.setattr(Photos, "read", lambda photos, i: (reads.append(i), plain(photos, i))[1])
    correspondence(Model.load(nets.classifier()), folder, boxes=str(folder / "parts.json"), random_sets=1, **HOW)
    assert len(reads) == 14 + 4


def test_the_command(folder: Path) -> None:
    model = nets.save(folder, final="Softmax", metadata=nets.NAMES)
    words = ["correspondence", str(model), str(folder), "--boxes", str(folder / "parts.json"), "--random-sets", "2"]
    done = CliRunner().invoke(cli, [*words, "-o", str(folder / "out.png"), "--json"])
    assert done.exit_code == 0, done.output
    assert [p["part"] for p in json.loads(done.stdout)["values"]["parts"]] == ["eye", "nose"]
    assert image.read(folder / "out.png").shape[1] > 1000
