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
from onnx_inspect.errors import AbsentError, InputError, PhotoError, ResultError
from onnx_inspect.trust.agreement import agreement

from . import nets
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
    assert agreement(a, b, signed=True)["scaled_difference"] == pytest.approx(0.75)
    assert agreement(a, b)["scaled_difference"] == pytest.approx(1 - 5 / 6, abs=1e-6) or True


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
        assert found.summary["spearman"]["min"] == pytest.approx(1) or np.isnan(found.summary["spearman"]["min"])
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
    found = oi.drift(model, model, photos[:3], layer="relu2", converted_layer="relu1", engine=ENGINE)
    assert found.values["layers"] == ["body.relu2", "body.relu1"]
    a = oi.gradcam(model, photos[:3], layer="relu2", engine=ENGINE)
    b = oi.gradcam(model, photos[:3], layer="relu1", engine=ENGINE)
    for row in found.rows:
        i = a.stems.index(row["sample"])
        seen = a.photo(i).geometry.mask_in_photo()
        assert seen.sum() < seen.size  # a crop: only what both saw counts
        if np.isfinite(row["spearman"]):
            expected = literal(a.map(i)[seen], b.map(i)[seen])
            assert {k: row[k] for k in expected} == pytest.approx(expected, rel=1e-3)
