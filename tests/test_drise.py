"""D-RISE against its formula, candidate by candidate, and on photos."""

from __future__ import annotations

import math

import numpy as np
import pytest

import onnx_inspect as oi
from onnx_inspect.engine import Engine
from onnx_inspect.errors import InputError, TargetError
from onnx_inspect.methods.drise import drise
from onnx_inspect.methods.grids import grid_masks

from . import blobs, detectors
from .shared import ASSETS, needs_assets
from .test_detection import COCO, DETECTORS, KINDS, OWN, YOLOX, blob, literal_iou, outputs

ENGINE = Engine("cpu", threads=1)
X = detectors.photos()


def parts(name: str, values: list[np.ndarray], i: int) -> list[tuple[list[float], list[float], float]]:
    """Box, class probabilities and objectness of every candidate, as the docstring has them."""
    found = []
    for a, (box, p) in enumerate(DETECTORS[name][1](*(v[i] for v in values))):
        if name == "yolox":
            thing = float(values[0][i, a, 4])
            found.append((box, [q / thing for q in p], thing))
        elif name == "ssd":
            own = [float(q) for q in values[0][i, a]]
            found.append((box, own, 1 - own[0]))
        else:
            found.append((box, list(map(float, p)), max(p)))
    return found


def cosine(p: list[float], q: list[float]) -> float:
    return sum(a * b for a, b in zip(p, q, strict=True)) / math.sqrt(sum(a * a for a in p) * sum(b * b for b in q))


@pytest.mark.parametrize("name", ["yolox", "ssd", "yolov8"])
def test_drise_is_its_formula(name: str) -> None:
    proto = DETECTORS[name][0]
    result = drise(oi.load(proto), X, "box:1@threshold=0.05", samples=12, cells=3, keep=0.4, seed=5, engine=ENGINE)
    masks = grid_masks(X.shape[2:], 3, 0.4, [np.random.default_rng([5, k]) for k in range(12)])
    for i, x in enumerate(X):
        clean = parts(name, outputs(proto, X), i)
        sure = [
            max(q for j, q in enumerate(p) if (name, j) != ("ssd", 0)) * (o if name == "yolox" else 1)
            for _, p, o in clean
        ]
        box, p, _ = clean[int(np.argmax(sure))]
        weights = []
        for m in masks:
            seen = parts(name, outputs(proto, (x * m)[None].astype(np.float32)), 0)
            weights.append(max(literal_iou(box, b) * cosine(p, q) * o for b, q, o in seen))
        wanted = np.tensordot(weights, masks, 1) / masks.sum(axis=0)
        np.testing.assert_allclose(result.values[i], wanted, rtol=1e-4, atol=1e-6)


def test_drise_of_a_batch_is_that_of_single_photos() -> None:
    model = oi.load(DETECTORS["yolox"][0])
    how = {"samples": 9, "cells": 3, "engine": ENGINE}
    both = drise(model, X, "box:1@threshold=0.05", **how)
    for i in range(2):
        np.testing.assert_array_equal(
            both.values[i], drise(model, X[i : i + 1], "box:1@threshold=0.05", **how).values[0]
        )


def test_same_seed_same_bytes() -> None:
    model = oi.load(DETECTORS["ssd"][0])
    maps = [drise(model, X, "box:1@threshold=0.05", samples=8, seed=s, engine=ENGINE).values for s in (1, 1, 2)]
    assert maps[0].tobytes() == maps[1].tobytes() != maps[2].tobytes()


@pytest.mark.parametrize("target", ["output[3]", "box:1.x0", "layer:conv_0_0[1]"])
def test_drise_explains_detections_only(target: str) -> None:
    with pytest.raises(TargetError, match="no detection"):
        drise(oi.load(DETECTORS["yolox"][0]), X, target, samples=2, engine=ENGINE)


@pytest.mark.parametrize("how", [{"keep": 1.0}, {"cells": 99}])
def test_impossible_masks_are_refused(how: dict[str, float]) -> None:
    with pytest.raises(InputError):
        drise(oi.load(DETECTORS["yolox"][0]), X, "box:1@threshold=0.05", samples=2, engine=ENGINE, **how)


@pytest.mark.parametrize("name", KINDS)
def test_drise_points_at_a_blob(name: str) -> None:
    model = oi.load(OWN / name)
    (photo,) = blob(model, seed=11)
    result = drise(model, blobs.floats([photo]), "box:1", samples=120, cells=6, engine=ENGINE)
    x0, y0, x1, y1 = photo.boxes[0].astype(int)
    heat = result.values[0]
    assert heat[y0:y1, x0:x1].mean() > np.quantile(heat, 0.75)


@needs_assets
def test_drise_finds_the_bus() -> None:
    # One large thing: the map is higher inside its box than outside.
    model, photo = ASSETS / "models/yolox_nano.onnx", ASSETS / "images/coco/000000000471.jpg"
    result = drise(model, photo, "class:bus", samples=32, cells=6, preprocessing=YOLOX, labels=COCO, engine=ENGINE)
    heat = result.map(0)
    inside = np.zeros(heat.shape, bool)
    inside[112:324, 121:580] = True
    assert heat[inside].mean() > 1.2 * heat[~inside & result.photo(0).geometry.mask_in_photo()].mean()
