"""Drift of converted models: the numbers against literal formulas, and twins from every exporter."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import TensorProto, helper, numpy_helper

import onnx_inspect as oi
from onnx_inspect import image
from onnx_inspect.cli import cli
from onnx_inspect.engine import Engine
from onnx_inspect.errors import AbsentError, InputError, PhotoError
from onnx_inspect.trust.agreement import agreement

from . import blobs, nets
from .shared import ZOO, needs_zoo

ENGINE = Engine("cpu", threads=1)
OWN = Path(__file__).parent / "zoo"
GOOD = (
    "jax_nchw jax_nhwc keras_tensorflow keras_torch paddle tf2onnx_nchw_op13 tf2onnx_nhwc_op18 torch_dynamo torch_legacy"
).split()
BROKEN = ["keras_tensorflow_BUG_samepad", "torch_BUG_bneps"]


# Two maps.


def ranks(values: np.ndarray) -> np.ndarray:
    """The place of each value, equal ones sharing the mean of theirs."""
    return np.array([(values < v).sum() + ((values == v).sum() - 1) / 2 for v in values])


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


def literal(a: np.ndarray, b: np.ndarray) -> dict[str, float]:
    a, b = a.ravel().astype(np.float64), b.ravel().astype(np.float64)
    tops = [set(sorted(range(len(m)), key=lambda i: -m[i])[: round(len(m) / 5)]) for m in (a, b)]
    tops = [{i for i in top if m[i] > m.min()} for top, m in zip(tops, (a, b), strict=True)]
    one, other = ((m - m.min()) / (m.max() - m.min()) for m in (a, b))
    return {
        "spearman": correlation(ranks(a), ranks(b)),
        "pearson": correlation(a, b),
        "difference": max(abs(a - b)),
        "scaled_difference": max(abs(one - other)),
        "overlap": len(tops[0] & tops[1]) / len(tops[0] | tops[1]),
    }


def test_agreement_is_its_definition() -> None:
    rng = np.random.default_rng(0)
    a = np.maximum(rng.normal(size=(7, 9)), 0)  # as behind a ReLU: many are equal
    b = np.maximum(a + rng.normal(0, 0.4, a.shape), 0)
    assert agreement(a, b) == pytest.approx(literal(a, b), rel=1e-5)
    assert agreement(a, 3 * a) == pytest.approx(literal(a, a) | {"difference": 2 * a.max()}, abs=1e-6)


def test_signed_maps_are_scaled_around_zero() -> None:
    a, b = np.array([-4.0, 0, 2, 1]), np.array([-1.0, 0, 1, 1])
    assert agreement(a, b, signed=True)["scaled_difference"] == pytest.approx(0.75)  # 1/4 and 1
    assert agreement(a, b)["scaled_difference"] == pytest.approx(1 / 6, abs=1e-6)  # 4/6 and 1/2, 5/6 and 1


def test_what_says_nothing_is_not_a_number() -> None:
    flat, a = np.zeros((3, 3)), np.eye(3)
    found = agreement(flat, a)
    assert np.isnan(found["spearman"]) and np.isnan(found["pearson"])
    assert found["overlap"] == 0 and found["difference"] == 1
    assert np.isnan(agreement(flat, flat)["overlap"])


# Two models.


def changed(noise: float = 0.0, bias: float = 0.0, **options: Any) -> onnx.ModelProto:
    """The classifier with other weights in its second layer, and more of class 1."""
    model = nets.classifier(**options)
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor).copy()
        if tensor.name == "w2":
            values += np.random.default_rng(1).normal(0, noise, values.shape).astype(np.float32)
        if tensor.name == "b3":
            values[1] += bias
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return model


def backgrounded() -> onnx.ModelProto:
    """The classifier with a background class in front that is never probable."""
    model = nets.classifier()
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if tensor.name in ("w3", "b3"):
            low = np.full((*values.shape[:-1], 1), -100 if tensor.name == "b3" else 0, np.float32)
            tensor.CopyFrom(numpy_helper.from_array(np.concatenate([low, values], axis=-1), tensor.name))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 5
    return model


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"photo {i}.png" for i in range(10)]
    for path, pixels in zip(paths, nets.colourful(10, (20, 30)), strict=True):
        image.write(path, pixels)
    return paths


def test_a_model_does_not_drift_from_itself(photos: list[Path]) -> None:
    model = oi.load(nets.classifier())
    for method in ("gradcam", "saliency", "lrp"):
        found = oi.drift(model, nets.classifier(), photos, method, engine=ENGINE)
        assert len(found.rows) == found.photos == 10
        assert {row["agrees"] for row in found.rows} == {True}
        assert found.summary["spearman"]["min"] == pytest.approx(1)
        assert found.summary["difference"]["max"] == found.summary["score_difference"]["max"] == 0


def test_numbers_are_those_of_both_maps() -> None:
    x = nets.images(10)
    one, other = oi.load(nets.classifier()), oi.load(changed(0.3, 2.0))
    found = oi.drift(one, other, x, "layercam", engine=ENGINE, options={"signed": False})
    a = oi.layercam(one, x, engine=ENGINE)
    classes = [e.index for e in a.explained if e is not None]
    b = oi.layercam(other, x, target=classes, engine=ENGINE)
    tops = oi.layercam(other, x, engine=ENGINE).explained
    assert any(t.index != c for t, c in zip(tops, classes, strict=True) if t is not None)
    assert sorted(row["sample"] for row in found.rows) == sorted(f"sample-{i}" for i in range(10))
    for row in found.rows:
        i = int(row["sample"].split("-")[1])
        if not (a.values[i].any() and b.values[i].any()):
            assert np.isnan(row["spearman"])
            continue
        expected = literal(a.values[i], b.values[i])
        assert {k: row[k] for k in expected} == pytest.approx(expected, rel=1e-4)
        assert row["class"] == row["original_top"] == classes[i]
        assert row["converted_top"] == tops[i].index and row["agrees"] == (tops[i].index == classes[i])
        assert row["score_difference"] == pytest.approx(b.scores[i] - a.scores[i], rel=1e-4)
    known = [row["spearman"] for row in found.rows if not np.isnan(row["spearman"])]
    assert known == sorted(known) and len(known) >= 5
    assert found.summary["spearman"] == pytest.approx(
        {"mean": np.mean(known), "median": np.median(known), "min": min(known), "max": max(known)}
    )
    assert found.values["agree"] == sum(row["agrees"] for row in found.rows)


def test_layouts_do_not_matter(photos: list[Path]) -> None:
    one, other = oi.load(nets.classifier()), oi.load(nets.classifier(nhwc=True))
    for x in (photos, nets.images(3), {"image": nets.images(3)}):
        for method in ("gradcam", "saliency"):
            found = oi.drift(one, other, x, method, engine=ENGINE, pictures=0)
            assert found.summary["difference"]["max"] < 1e-5 and found.summary["scaled_difference"]["max"] < 1e-4
    back = oi.drift(other, one, nets.images(3, nhwc=True), "saliency", engine=ENGINE)
    assert back.summary["difference"]["max"] < 1e-5


def test_whole_numbers_as_input(photos: list[Path]) -> None:
    """An input of uint8 gets its own preprocessing; where the two differ, that is said."""
    quantised = nets.classifier()
    quantised.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    quantised.graph.node[0].input[0] = "floats"
    quantised.graph.node.insert(0, helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT))
    raw = oi.Preprocessing((nets.SIZE, nets.SIZE))
    found = oi.drift(nets.classifier(), quantised, photos, engine=ENGINE, preprocessing=raw)
    # Resizing leaves fractions of whole numbers.
    assert found.summary["spearman"]["mean"] > 0.95 and found.summary["pearson"]["mean"] > 0.99
    assert not any("prepared differently" in note for note in found.notes)
    guessed = oi.drift(nets.classifier(), quantised, photos[:2], engine=ENGINE)
    assert any("photos are prepared differently: " in note and "--converted-preset" in note for note in guessed.notes)


def test_classes_are_shifted(photos: list[Path]) -> None:
    four, five = oi.load(nets.classifier()), oi.load(backgrounded())
    with pytest.raises(InputError, match=r"The original has 4 classes, the converted model 5: .*\(--shift\)"):
        oi.drift(four, five, photos, engine=ENGINE)
    found = oi.drift(four, five, photos, engine=ENGINE, shift=1)
    assert found.values["agree"] == 10 and found.summary["difference"]["max"] < 1e-6
    assert all(row["converted_top"] == row["original_top"] + 1 for row in found.rows)
    back = oi.drift(five, four, photos, engine=ENGINE, shift=-1)
    assert back.values["agree"] == 10 and back.summary["difference"]["max"] < 1e-6
    with pytest.raises(AbsentError, match="Class 0 of the original would be -1 of the converted model"):
        oi.drift(five, four, nets.images(2), target=0, engine=ENGINE, shift=-1)
    with pytest.raises(PhotoError, match="Class 0 of the original would be -1"):
        oi.drift(five, four, photos[:2], target=0, engine=ENGINE, shift=-1)


def test_maps_of_different_sizes_meet_on_the_photo(photos: list[Path]) -> None:
    model = oi.load(nets.classifier())
    found = oi.drift(model, model, photos[:3], layer="body.relu2", converted_layer="body.relu1", engine=ENGINE)
    assert found.values["layers"] == ["body.relu2", "body.relu1"]
    a = oi.gradcam(model, photos[:3], layer="body.relu2", engine=ENGINE)
    b = oi.gradcam(model, photos[:3], layer="body.relu1", engine=ENGINE)
    for row in found.rows:
        i = a.stems.index(row["sample"])
        seen = a.photo(i).geometry.mask_in_photo()
        assert seen.sum() < seen.size  # a crop: only what both saw counts
        if np.isfinite(row["spearman"]):
            expected = literal(a.map(i)[seen], b.map(i)[seen])
            assert {k: row[k] for k in expected} == pytest.approx(expected, rel=1e-3)


def test_photos_that_cannot_be_explained_are_left_out(photos: list[Path]) -> None:
    photos[3].write_bytes(b"no photo")
    found = oi.drift(nets.classifier(), changed(0.1), photos, engine=ENGINE, pictures=2)
    assert len(found.rows) == 9 and found.photos == 10
    assert [s["photo"] for s in found.skipped] == [str(photos[3])]
    assert any(note.startswith("1 of 10 photos could not be read") for note in found.notes)
    assert {row["sample"] for row in found.rows} == {f"photo {i}" for i in range(10) if i != 3}
    with pytest.raises(PhotoError):
        oi.drift(nets.classifier(), changed(0.1), photos[3:4], engine=ENGINE)
    with pytest.raises(PhotoError, match="no photo"):
        oi.drift(nets.classifier(), changed(0.1), [], engine=ENGINE)


def test_what_is_saved(photos: list[Path], tmp_path: Path) -> None:
    found = oi.drift(nets.classifier(), changed(0.3), photos, "saliency", engine=ENGINE, pictures=3)
    worst = [row["sample"] for row in found.rows[:3]]
    assert list(found.pictures) == ["", *worst]
    one = found.pictures[worst[0]]
    assert found.picture.shape[0] > 2.5 * one.shape[0] and found.picture.shape[1] == one.shape[1]
    written = found.save(tmp_path / "out")
    names = {p.name for p in written}
    assert names == {"out.png", *(f"out.{name}.png" for name in worst), "out.csv", "out.json"}
    rows = list(csv.DictReader((tmp_path / "out.csv").open(encoding="utf-8")))
    assert [row["sample"] for row in rows] == [row["sample"] for row in found.rows]
    assert float(rows[0]["spearman"]) == found.rows[0]["spearman"]
    record = json.loads((tmp_path / "out.json").read_text())
    assert record["values"]["summary"]["spearman"]["mean"] == pytest.approx(found.summary["spearman"]["mean"])
    assert record["values"]["converted_preprocessing"]["size"] == [12, 12] and len(record["models"]) == 2
    again = oi.drift(nets.classifier(), changed(0.3), photos, "saliency", engine=ENGINE, pictures=3)
    assert again.to_json()["values"] == found.to_json()["values"]
    assert (again.picture == found.picture).all()


def test_the_difference_is_red_where_more_is_marked(tmp_path: Path) -> None:
    """Both explain by one weight per pixel: the original by the left half, the converted model by the right."""

    def weighted(columns: slice) -> onnx.ModelProto:
        w = np.zeros((3, 12, 12, 2), np.float32)
        w[:, :, columns, 0] = 1
        info, n = helper.make_tensor_value_info, helper.make_node
        graph = helper.make_graph(
            [n("Flatten", ["x"], ["f"]), n("MatMul", ["f", "w"], ["y"])],
            "weighted",
            [info("x", TensorProto.FLOAT, ["N", 3, 12, 12])],
            [info("y", TensorProto.FLOAT, ["N", 2])],
            [numpy_helper.from_array(w.reshape(-1, 2), "w")],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

    image.write(tmp_path / "grey.png", np.full((12, 12, 3), 120, np.uint8))
    how = {"target": 0, "engine": ENGINE, "preprocessing": oi.Preprocessing((12, 12), layout="NCHW")}
    left, right = weighted(slice(0, 6)), weighted(slice(6, 12))
    found = oi.drift(
        left, right, [tmp_path / "grey.png"], "saliency", converted_preprocessing=how["preprocessing"], **how
    )
    assert found.rows[0]["spearman"] == pytest.approx(-1) and found.rows[0]["overlap"] == 0
    picture = found.pictures["grey"].astype(int)
    apart = picture[-60:-30, -312 + 12 :][:, :228]  # the last tile, without its white
    red = apart[..., 0] - apart[..., 2]
    assert red[:, 40:80].max() < -50 and red[:, 150:190].min() > 50


def test_what_hardly_differs_is_drawn_pale(photos: list[Path]) -> None:
    found = oi.drift(nets.classifier(), changed(1e-4), photos[:1], engine=ENGINE)
    assert 0 < found.rows[0]["scaled_difference"] < 1e-2
    apart = found.pictures["photo 0"][-120:-20, -300:].astype(int)
    assert np.ptp(apart, axis=2).max() < 40  # as good as grey


def test_what_cannot_be_compared_is_refused() -> None:
    model = nets.classifier()
    with pytest.raises(InputError, match="'saliency' takes no layer"):
        oi.drift(model, model, nets.images(1), "saliency", layer="c1", engine=ENGINE)
    with pytest.raises(InputError, match="'activations' makes no map"):
        oi.drift(model, model, nets.images(1), "activations", engine=ENGINE)
    with pytest.raises(InputError, match="no method 'grad'"):
        oi.drift(model, model, nets.images(1), "grad", engine=ENGINE)


def rowed(width: int) -> onnx.ModelProto:
    """Scores of rows of numbers, of which the model looks at `width`."""
    info, n = helper.make_tensor_value_info, helper.make_node
    w = np.random.default_rng(2).normal(size=(width, 3)).astype(np.float32)
    graph = helper.make_graph(
        [n("MatMul", ["x", "w"], ["y"])],
        "rowed",
        [info("x", TensorProto.FLOAT, ["N", width])],
        [info("y", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(w, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_rows_of_numbers() -> None:
    x = np.random.default_rng(3).normal(size=(20, 6)).astype(np.float32)
    found = oi.drift(rowed(6), rowed(6), x, "input_x_gradient", engine=ENGINE)
    assert len(found.rows) == 20 and found.summary["difference"]["max"] == 0 and not found.pictures
    assert found.values["agree"] == 20


# Twins.


def twins(folder: Path, x: np.ndarray, others: list[str]) -> dict[str, oi.Drift]:
    start = folder / "twin_torch_legacy.onnx"
    return {name: oi.drift(start, folder / f"twin_{name}.onnx", x, engine=ENGINE, pictures=0) for name in others}


def same_and_not(folder: Path, x: np.ndarray) -> None:
    for name, found in twins(folder, x, GOOD).items():
        assert found.summary["difference"]["max"] <= 1e-4, name
        assert found.summary["scaled_difference"]["max"] <= 1e-4, name
        assert found.values["agree"] == len(x)
    for name, found in twins(folder, x, BROKEN).items():
        assert min(found.summary[m]["min"] for m in ("difference", "scaled_difference")) > 5e-4, name


@needs_zoo
def test_nine_twins_agree_and_two_do_not() -> None:
    x = np.load(ZOO / "twins" / "test64.npz")["x_nchw"][:6]
    same_and_not(ZOO / "twins", x)
    assert oi.gradcam(ZOO / "twins" / "twin_torch_legacy.onnx", x, engine=ENGINE).values.max() > 0.1


def test_our_own_twins() -> None:
    x = blobs.floats(blobs.photos(1, 4, (48, 80), (1, 1)))
    same_and_not(OWN, x)


# The command line.


def call(*words: object) -> Result:
    return CliRunner().invoke(cli, [str(w) for w in words], prog_name="onnx-inspect")


def test_the_command(photos: list[Path], tmp_path: Path) -> None:
    one, other = nets.save(tmp_path, "one.onnx"), tmp_path / "other.onnx"
    onnx.save(changed(0.2, 1.0), other)
    out = tmp_path / "out"
    done = call("drift", one, other, *photos, "--method", "layercam", "--pictures", 1, "-o", f"{out}/")
    assert done.exit_code == 0, done.output
    assert sorted(p.suffix for p in out.iterdir()) == [".csv", ".json", ".png", ".png"]
    assert "most probable class: the same on" in done.stdout and "spearman" in done.stdout
    assert "note: preprocessing: " in done.stderr
    record = json.loads(
        call("drift", one, other, photos[0], "--json", "-q", "-o", out / "x.png", "--preset", "tf").stdout
    )
    assert record["study"] == "drift" and record["photos"] == 1
    assert record["preprocessing"]["mean"] == [1.0] == record["values"]["converted_preprocessing"]["mean"]
    assert any(note.startswith("converted: preprocessing: ") for note in record["notes"])
    different = call("drift", one, other, photos[0], "--json", "-o", out / "x.png", "--converted-preset", "tf")
    assert "photos are prepared differently" in different.stderr


def test_the_command_refuses(photos: list[Path], tmp_path: Path) -> None:
    one, five = nets.save(tmp_path, "one.onnx"), tmp_path / "five.onnx"
    onnx.save(backgrounded(), five)
    refused = call("drift", one, five, photos[0], "-o", tmp_path / "x")
    assert refused.exit_code == 2 and "(--shift)" in refused.stderr and "Traceback" not in refused.output
    assert call("drift", one, five, photos[0], "--shift", 1, "-o", tmp_path / "x").exit_code == 0
    refused = call("drift", one, one, photos[0], "-o", photos[0])
    assert refused.exit_code == 2 and "is the photo itself" in refused.stderr
