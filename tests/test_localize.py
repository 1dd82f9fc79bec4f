"""Boxes from maps: on maps whose boxes are known, and on files that nobody should believe."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import onnx_inspect as oi
from onnx_inspect import image
from onnx_inspect.cli import cli
from onnx_inspect.engine import Engine
from onnx_inspect.errors import InputError, ResultError
from onnx_inspect.methods import known_boxes
from onnx_inspect.methods.known_boxes import read_boxes
from onnx_inspect.methods.localize import FOUND, KNOWN, PEAK, boxes_of, iou, localize
from onnx_inspect.resources import bundled

from . import nets

ENGINE = Engine("cpu", threads=1)


@pytest.fixture(scope="module")
def model() -> oi.Model:
    return oi.load(nets.classifier(metadata=nets.NAMES))


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    return nets.photo(tmp_path)


def blobs() -> np.ndarray:
    """A large weak blob at the left border and a small strong one in the lower right corner."""
    heat = np.zeros((10, 16))
    heat[2:7, 0:5] = 0.5
    heat[8:10, 13:16] = 1.0
    return heat


# boxes_of.


def test_two_blobs_give_two_boxes_the_largest_first() -> None:
    np.testing.assert_array_equal(boxes_of(blobs()), [(0, 2, 5, 7), (13, 8, 16, 10)])
    np.testing.assert_array_equal(boxes_of(blobs() * 1e-30), boxes_of(blobs()))


@pytest.mark.parametrize(
    ("share", "expected"),
    [(0.5, [(0, 2, 5, 7), (13, 8, 16, 10)]), (0.5001, [(13, 8, 16, 10)]), (1.0, [(13, 8, 16, 10)])],
)
def test_a_share_counts_what_reaches_it(share: float, expected: list) -> None:
    np.testing.assert_array_equal(boxes_of(blobs(), share), expected)


def test_the_largest_part_is_not_the_one_with_the_largest_box() -> None:
    heat = np.zeros((20, 20))
    heat[np.arange(12), np.arange(12)] = 1  # a diagonal is one part: corners connect
    heat[14:18, 14:18] = 1
    np.testing.assert_array_equal(boxes_of(heat), [(14, 14, 18, 18), (0, 0, 12, 12)])


def test_a_map_without_anything_has_no_box() -> None:
    for heat in (np.zeros((3, 4)), -np.ones((3, 4))):
        assert boxes_of(heat).shape == (0, 4)
    np.testing.assert_array_equal(boxes_of(np.ones((3, 4))), [(0, 0, 4, 3)])
    with pytest.raises(ResultError, match="not finite"):
        boxes_of(np.array([[1.0, np.nan]]))


def test_negative_values_belong_to_no_part() -> None:
    np.testing.assert_array_equal(boxes_of(np.array([[-9.0, 1.0, 0.1]])), [(1, 0, 2, 1)])


# iou.


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ((0, 0, 2, 2), (0, 0, 2, 2), 1),
        ((0, 0, 2, 2), (1, 0, 3, 2), 1 / 3),
        ((0, 0, 2, 2), (1, 1, 3, 3), 1 / 7),
        ((0, 0, 4, 4), (1, 1, 2, 3), 2 / 16),
        ((0, 0, 2, 2), (2, 0, 4, 2), 0),
        ((0, 0, 2, 2), (2.5, 2.5, 5, 5), 0),
        ((5, 5, 5, 5), (5, 5, 5, 5), 0),
    ],
)
def test_iou_in_closed_form(a: tuple, b: tuple, expected: float) -> None:
    assert iou(a, b) == pytest.approx(expected)
    assert iou(b, a) == pytest.approx(expected)


def test_iou_of_all_pairs() -> None:
    a, b = np.array([(0, 0, 2, 2), (1, 0, 3, 2)]), np.array([(0, 0, 2, 2), (9, 9, 10, 10), (1, 0, 3, 2)])
    np.testing.assert_allclose(iou(a[:, None], b), [[1, 0, 1 / 3], [1 / 3, 0, 1]])


# localize.


def test_boxes_are_those_of_the_map_in_the_photo(model: oi.Model, photo: Path) -> None:
    result = localize(model, photo, 1, share=0.5, engine=ENGINE)
    cam = oi.gradcam(model, photo, 1, engine=ENGINE)
    np.testing.assert_array_equal(result.values, cam.values)
    np.testing.assert_array_equal(result.boxes[0], boxes_of(cam.map(0), 0.5))
    assert len(result.boxes[0]) > 1
    assert result.boxes[0][:, 2].max() > 12, "in pixels of the photo, which is larger than the input"
    one = localize(model, photo, 1, share=0.5, largest=True, engine=ENGINE)
    np.testing.assert_array_equal(one.boxes[0], result.boxes[0][:1])
    assert "iou" not in result.measures
    assert result.method == "localize"
    assert result.record(0)["boxes"] == result.boxes[0].tolist()


def test_known_boxes_are_compared(model: oi.Model, tmp_path: Path) -> None:
    first, second = nets.photo(tmp_path, "a.png"), nets.photo(tmp_path, "b.png")
    found = localize(model, first, 1, share=0.5, engine=ENGINE)
    x0, y0, x1, y1 = found.boxes[0][0].tolist()
    y, x = (int(axis.mean()) for axis in np.nonzero(found.map(0) == found.map(0).max()))
    half = [x0, y0, x1, y0 + (y1 - y0) / 2]
    (tmp_path / "boxes.json").write_text(json.dumps({"some/where/a.png": [half, [0, 0, 1, 1]]}), encoding="utf-8")
    both = localize(model, [first, second], 1, share=0.5, boxes=str(tmp_path / "boxes.json"), engine=ENGINE)
    expected = max(iou(box, np.array(b)) for box in found.boxes[0] for b in (half, [0, 0, 1, 1]))
    assert both.measures["iou"][0] == pytest.approx(expected)
    assert expected >= 0.5
    inside = half[0] <= x + 0.5 <= half[2] and half[1] <= y + 0.5 <= half[3]
    assert both.measures["hit"][0] in ((1,) if inside else (0, 1))
    assert np.isnan([both.measures[k][1] for k in ("iou", "hit")]).all(), "nobody knows boxes of b.png"
    assert any("'b.png'" in note for note in both.notes)


@pytest.mark.parametrize(("gap", "hit"), [(0, 1), (1.9, 1), (2.1, 0)])
def test_the_pointing_game_forgives_fifteen_pixels_of_224(
    gap: float, hit: int, model: oi.Model, tmp_path: Path
) -> None:
    """30 pixels high: 15 of 224 are 2.009 of them."""
    path = nets.photo(tmp_path)
    heat = localize(model, path, 1, engine=ENGINE).map(0)
    y, x = (axis.mean() + 0.5 for axis in np.nonzero(heat == heat.max()))
    (tmp_path / "boxes.json").write_text(json.dumps({path.name: [[x + gap, y - 1, x + gap + 3, y + 1]]}))
    result = localize(model, path, 1, boxes=str(tmp_path / "boxes.json"), engine=ENGINE)
    assert result.measures["hit"].tolist() == [hit]


def coco(**changed: object) -> dict:
    content: dict = {
        "images": [{"id": 7, "file_name": "val/photo.png", "width": 40, "height": 30}],
        "categories": [{"id": 1, "name": "Hound"}, {"id": 2, "name": "dog"}],
        "annotations": [
            {"image_id": 7, "category_id": 1, "bbox": [2, 3, 10, 5]},
            {"image_id": 7, "category_id": 2, "bbox": [20, 3, 4, 5.5]},
        ],
    }
    return content | changed


def test_boxes_as_coco_has_them(tmp_path: Path, photo: Path, model: oi.Model) -> None:
    path = tmp_path / "coco.json"
    path.write_text(json.dumps(coco()), encoding="utf-8")
    assert read_boxes(path) == {"photo.png": [((2, 3, 12, 8), "Hound"), ((20, 3, 24, 8.5), "dog")]}
    alike = localize(model, photo, "dog", boxes=str(path), engine=ENGINE)
    np.testing.assert_array_equal(alike.known[0], [(20, 3, 24, 8.5)])
    other = localize(model, photo, "cat", boxes=str(path), engine=ENGINE)
    assert len(other.known[0]) == 2
    assert any("category" in note for note in other.notes)
    crowd = {"image_id": 7, "bbox": [0, 0, 30, 20], "category_id": 1, "iscrowd": 1}
    path.write_text(json.dumps(coco(annotations=[*coco()["annotations"], crowd])), encoding="utf-8")
    assert read_boxes(path) == {"photo.png": [((2, 3, 12, 8), "Hound"), ((20, 3, 24, 8.5), "dog")]}


def test_an_umlaut_may_be_spelt_in_two_ways(tmp_path: Path, model: oi.Model) -> None:
    one, two = ("L\u00f6we.png", "Lo\u0308we.png")
    for photo, listed in ((one, two), (two, one)):
        (tmp_path / "boxes.json").write_text(json.dumps({listed: [[1, 2, 9, 8]]}), encoding="utf-8")
        result = localize(model, nets.photo(tmp_path, photo), boxes=str(tmp_path / "boxes.json"), engine=ENGINE)
        np.testing.assert_array_equal(result.known[0], [(1, 2, 9, 8)])


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no JSON"),
        ("[1, 2]", "mapping"),
        ("[" * 100_000, "no JSON"),
        ('{"a.png": 3}', "no list"),
        ('{"a.png": {"stamp_box": [1, 2, 3, 4]}}', "no list"),
        ('{"a.png": {"box": [1, 2, 3]}}', "four numbers"),
        ('{"a.png": [[1, 2, 3]]}', "four numbers"),
        ('{"a.png": [[1, 2, 3, "4"]]}', "four numbers"),
        ('{"a.png": [[1, 2, NaN, 4]]}', "four numbers"),
        ('{"a.png": [[1, 2, Infinity, 4]]}', "four numbers"),
        ('{"a.png": [[true, 2, 3, 4]]}', "four numbers"),
        ('{"a.png": [[5, 2, 3, 4]]}', "empty"),
        ('{"x/a.png": [], "y/a.png": []}', "two photos"),
        (json.dumps(coco(images=3)), "no list of objects"),
        (json.dumps(coco(images=[{"id": 7}])), "file_name"),
        (json.dumps(coco(images=[])), "not among the images"),
        (json.dumps(coco(annotations=[{"image_id": [7]}])), "image_id"),
        (json.dumps(coco(annotations=[{"image_id": 7, "category_id": {}, "bbox": [0, 0, 0, 5]}])), "empty"),
        (json.dumps(coco(annotations=[{"image_id": 7}])), "four numbers"),
        (json.dumps(coco(categories=[{"id": None, "name": "x"}])), "id"),
    ],
)
def test_files_of_boxes_that_make_no_sense_are_refused(text: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "boxes.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=why):
        read_boxes(tmp_path / "boxes.json")


def test_files_of_boxes_have_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "boxes.json").write_text("{}" + " " * 100)
    assert read_boxes(tmp_path / "boxes.json") == {}
    monkeypatch.setattr(known_boxes, "MAX_BYTES", 101)
    with pytest.raises(InputError, match="larger than"):
        read_boxes(tmp_path / "boxes.json")
    with pytest.raises(InputError, match="Cannot read"):
        read_boxes(tmp_path / "nothing.json")


def test_objects_with_a_box_are_read(tmp_path: Path) -> None:
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps({
        "a.png": {"label": "dog", "box": [1, 2, 9, 8], "stamp_box": None},
        "b.png": {"box": [[1, 2, 9, 8], [0, 0, 2, 2]]},
    }))  # fmt: skip
    assert read_boxes(path) == {
        "a.png": [((1, 2, 9, 8), "dog")],
        "b.png": [((1, 2, 9, 8), ""), ((0, 0, 2, 2), "")],
    }
    assert len(read_boxes(bundled("signs/photos/boxes.json"))) == 12


def test_what_is_not_known_is_said(tmp_path: Path, model: oi.Model, photo: Path) -> None:
    path = tmp_path / "coco.json"
    path.write_text('{"annotations": []}')
    result = localize(model, photo, boxes=str(path), engine=ENGINE)
    assert any("no boxes are known of 'photo.png'" in note for note in result.notes)
    assert result.lines(0) == ["iou unknown", "hit unknown"]
    for corners, outside in (([40, 0, 50, 9], True), ([-9, -9, 0, 9], True), ([39, 0, 50, 9], False)):
        path.write_text(json.dumps({photo.name: [corners]}))
        result = localize(model, photo, boxes=str(path), engine=ENGINE)
        assert any("lies outside the photo of 40x30" in note for note in result.notes) == outside
    assert not localize(model, photo, engine=ENGINE).lines(0)


def test_the_panel_says_what_its_colours_mean(model: oi.Model, photo: Path, tmp_path: Path) -> None:
    (tmp_path / "boxes.json").write_text(json.dumps({photo.name: [[2, 2, 9, 9]]}))
    plain = localize(model, photo, 1, engine=ENGINE)
    known = localize(model, photo, 1, boxes=str(tmp_path / "boxes.json"), engine=ENGINE)
    for result, colours in ((plain, {FOUND, PEAK}), (known, {FOUND, KNOWN, PEAK})):
        legend = result.panel()[-60:]
        assert {c for c in (FOUND, KNOWN, PEAK) if (legend == c).all(axis=-1).sum() >= 100} == colours


def test_any_method_that_makes_a_map_can_be_asked(model: oi.Model, photo: Path) -> None:
    result = localize(model, photo, 1, of="saliency", engine=ENGINE)
    np.testing.assert_array_equal(result.boxes[0], boxes_of(oi.saliency(model, photo, 1, engine=ENGINE).map(0)))
    early = localize(model, photo, 1, layer="body.relu1", engine=ENGINE)
    assert early.layer == "body.relu1"


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"of": "grdcam"}, "did you mean 'gradcam'"),
        ({"of": "localize"}, "makes no map"),
        ({"of": "fgsm"}, "makes no map"),
        ({"of": "saliency", "layer": "body.relu1"}, "takes no layer"),
        ({"share": 0}, "share of 0"),
        ({"share": 1.5}, "share of 1.5"),
    ],
)
def test_what_cannot_be_asked_is_said(options: dict, why: str, model: oi.Model, photo: Path) -> None:
    with pytest.raises(InputError, match=why):
        localize(model, photo, 1, engine=ENGINE, **options)


def test_arrays_that_are_no_photos_have_no_boxes(model: oi.Model) -> None:
    x = nets.images(1).reshape(1, 3, 12, 12)
    result = localize(model, x, 1, engine=ENGINE)  # a picture is made of it
    assert result.boxes[0].shape[1] == 4


def test_pictures_show_the_boxes(model: oi.Model, photo: Path, tmp_path: Path) -> None:
    result = localize(model, photo, 1, share=0.5, largest=True, engine=ENGINE)
    drawn = result.overlay()
    times = drawn.shape[0] // 30
    x0, y0, x1, y1 = (round(v * times) for v in result.boxes[0][0])
    for y, x in ((y0, x0), (y0, x1 - 1), (y1 - 1, x0), (y1 - 1, x1 - 1)):
        assert drawn[y, x].tolist() == [230, 30, 30]
    (tmp_path / "boxes.json").write_text(json.dumps({photo.name: [[2, 2, 9, 9]]}))
    words = [
        "localize",
        str(nets.save(tmp_path)),
        str(photo),
        "-o",
        str(tmp_path / "out.png"),
        "--panel",
        "--device",
        "cpu",
    ]
    done = CliRunner().invoke(cli, [*words, "--boxes", str(tmp_path / "boxes.json"), "--largest", "-t", "1", "--npz"])
    assert done.exit_code == 0, done.output
    assert "iou" in done.output
    assert image.read(tmp_path / "out.png").shape == drawn.shape
    assert np.load(tmp_path / "out.npz")["boxes"].shape == (1, 4)
