"""RISE, LIME and Kernel SHAP, each against its formula in NumPy and float64."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from onnx import numpy_helper

import onnx_inspect as oi
from onnx_inspect.engine import Engine
from onnx_inspect.errors import InputError
from onnx_inspect.methods.grids import grid_masks
from onnx_inspect.methods.surrogates import _drawn

from . import nets

Array = np.ndarray
ENGINE = Engine("cpu", threads=1)
X = nets.images(3)
CLASS = 2
RNG = np.random.default_rng(6)
IDS = RNG.integers(0, 6, (3, 12, 12))


@pytest.fixture(scope="module")
def model() -> oi.Model:
    return oi.load(nets.classifier(metadata=nets.NAMES))


def score(x: Array) -> Array:
    return nets.forward(x)["logits"][:, CLASS]


def probability(x: Array) -> Array:
    logits = nets.forward(x)["logits"]
    return np.exp(logits[:, CLASS]) / np.exp(logits).sum(axis=1)


def kept(x: Array, present: Array, baseline: Array | float = 0.0) -> Array:
    """A variant of a sample per row of `present`, which says which features stay."""
    return np.where(present[:, IDS], x.astype(np.float64), baseline)


def per_feature(values: Array) -> Array:
    """The number that a feature got, from what was written to its elements."""
    for k in range(6):
        assert np.ptp(values[k == IDS]) == 0
    return np.array([values[k == IDS][0] for k in range(6)])


# RISE.


def bilinear(grid: Array, height: int, width: int) -> Array:
    """Enlarged between the centres of cells; beyond the outermost centres they stay what they are."""
    rows = np.interp((np.arange(height) + 0.5) * len(grid) / height - 0.5, np.arange(len(grid)), np.arange(len(grid)))
    columns = np.interp((np.arange(width) + 0.5) * len(grid) / width - 0.5, np.arange(len(grid)), np.arange(len(grid)))
    across = np.stack([np.interp(columns, np.arange(len(grid)), row) for row in grid])
    return np.stack([np.interp(rows, np.arange(len(grid)), column) for column in across.T], axis=1)


def masks(count: int, cells: int, keep: float, seed: int, side: int) -> Array:
    found, cell = [], math.ceil(side / cells)
    for k in range(count):
        rng = np.random.default_rng([seed, k])
        large = bilinear((rng.random((cells, cells)) < keep).astype(float), (cells + 1) * cell, (cells + 1) * cell)
        top, left = rng.integers(cell), rng.integers(cell)
        found.append(large[top : top + side, left : left + side])
    return np.stack(found)


@pytest.mark.parametrize(("of", "value"), [("probability", probability), ("score", score)])
@pytest.mark.parametrize("baseline", [0.0, 0.4])
def test_rise_is_its_formula(model: oi.Model, of: Any, value: Any, baseline: float) -> None:
    options: dict[str, Any] = {"samples": 21, "cells": 5, "keep": 0.4, "seed": 9}
    result = oi.rise(model, X, CLASS, of=of, baseline=baseline, engine=ENGINE, **options)
    m = masks(21, 5, 0.4, 9, 12)
    for i, x in enumerate(X):
        s = value(x.astype(np.float64) * m[:, None] + baseline * (1 - m[:, None]))
        np.testing.assert_allclose(result.values[i], np.einsum("k,khw->hw", s, m) / m.sum(axis=0), atol=1e-5)
    np.testing.assert_allclose(result.scores, value(X), rtol=1e-5)
    np.testing.assert_allclose(result.heat.min(axis=(1, 2)), 0)
    assert not result.signed


def test_masks_show_the_share_they_should_everywhere() -> None:
    m = grid_masks((20, 33), 7, 0.3, [np.random.default_rng([0, k]) for k in range(4000)])
    assert m.shape == (4000, 20, 33)
    assert m.min() >= 0
    assert m.max() <= 1
    np.testing.assert_allclose(m.mean(axis=0), 0.3, atol=0.04)  # five standard errors


def test_a_score_that_does_not_care_gives_an_even_map() -> None:
    net = nets.classifier(broken="dead")
    assert np.ptp(oi.rise(net, X, CLASS, samples=30, engine=ENGINE).values) < 1e-6


def test_rise_of_features_is_the_mean_where_each_is_seen(model: oi.Model) -> None:
    result = oi.rise(model, X, CLASS, samples=25, keep=0.6, features=IDS, seed=2, engine=ENGINE)
    z = np.stack([np.random.default_rng([2, k]).random(6) < 0.6 for k in range(25)])
    for i, x in enumerate(X):
        p = probability(kept(x, z))
        np.testing.assert_allclose(per_feature(result.values[i]), [p[z[:, k]].mean() for k in range(6)], atol=1e-5)


# LIME.


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_lime_is_a_weighted_ridge_regression(model: oi.Model, distance: Any) -> None:
    width, alpha = (0.25, 0.3) if distance == "cosine" else (1.5, 1.0)
    result = oi.lime(
        model, X, CLASS, features=IDS, baseline=0.1, samples=40, alpha=alpha, distance=distance, width=width, seed=3,
        engine=ENGINE,
    )  # fmt: skip
    z = np.stack([np.random.default_rng([3, k]).random(6) < 0.5 for k in range(40)])
    z[0] = True
    ones = np.ones(6)
    for i, x in enumerate(X):
        p = probability(kept(x, z, 0.1))
        if distance == "cosine":
            d = np.array([1 - r @ ones / (np.linalg.norm(r) * np.linalg.norm(ones)) if r.any() else 1 for r in z * 1.0])
        else:
            d = np.linalg.norm(ones - z, axis=1)
        w = np.sqrt(np.exp(-(d**2) / width**2))
        A, b = z - (w @ z) / w.sum(), p - (w @ p) / w.sum()
        beta = np.linalg.solve(A.T @ (w[:, None] * A) + alpha * np.eye(6), A.T @ (w * b))
        np.testing.assert_allclose(per_feature(result.values[i]), beta, atol=1e-5)
        fidelity = 1 - (w * (b - A @ beta) ** 2).sum() / (w * b**2).sum()
        np.testing.assert_allclose(result.measures["fidelity"][i], fidelity, atol=1e-4)
    np.testing.assert_allclose(result.scores, probability(X), rtol=1e-5)


def test_a_lasso_drops_what_hardly_counts(model: oi.Model) -> None:
    options: dict[str, Any] = {"features": IDS, "of": "score", "samples": 60, "engine": ENGINE}
    light, heavy = (oi.lime(model, X, CLASS, fit="lasso", alpha=a, **options).values for a in (1e-7, 1e3))
    assert not heavy.any()
    free = oi.lime(model, X, CLASS, fit="ridge", alpha=0, **options).values
    np.testing.assert_allclose(light, free, atol=1e-3)


def test_lime_takes_the_defaults_of_its_package(model: oi.Model) -> None:
    from skimage.segmentation import quickshift

    # The name is needed only here: by default a picture that quickshift leaves in one piece gets a grid.
    result = oi.lime(model, nets.images(1, size=12), CLASS, features="quickshift", samples=120, engine=ENGINE)
    how = result.preprocessing
    assert how is not None
    ids = quickshift(how.inverse(X[0]), kernel_size=4, max_dist=200, ratio=0.2, rng=0)
    np.testing.assert_array_equal(result.extra["features"][0, 0], ids)
    assert {k: result.params[k] for k in ("features", "baseline", "fit", "alpha", "distance", "width", "of")} == {
        "features": "quickshift",
        "baseline": "local",
        "fit": "ridge",
        "alpha": 1.0,
        "distance": "cosine",
        "width": 0.25,
        "of": "probability",
    }


def test_a_target_without_a_probability_is_explained_by_its_score(model: oi.Model) -> None:
    result = oi.lime(model, X, "c2[1, 2, 2:4]", features=IDS, baseline="0", samples=20, engine=ENGINE)
    np.testing.assert_allclose(result.scores, nets.forward(X)["c2"][:, 1, 2, 2:4].sum(axis=1), rtol=1e-4)
    assert any("no class" in n for n in result.notes)


# Kernel SHAP.


def test_kernel_shap_of_all_coalitions_is_exact(model: oi.Model) -> None:
    options: dict[str, Any] = {"features": IDS, "baseline": 0.3, "engine": ENGINE}
    kernel = oi.kernel_shap(model, X, CLASS, samples=2**6 - 2, **options)
    exact = oi.shapley_value_sampling(model, X, CLASS, exact=True, **options)
    np.testing.assert_allclose(kernel.values, exact.values, atol=1e-5)
    sampled = oi.kernel_shap(model, X, CLASS, samples=2**6 - 3, **options)
    assert np.abs(sampled.values - exact.values).max() > 1e-4


def test_sampled_kernel_shap_is_constrained_least_squares(model: oi.Model) -> None:
    result = oi.kernel_shap(model, X, CLASS, features=IDS, baseline=0.3, samples=31, seed=5, engine=ENGINE)
    z = np.stack([_drawn(6, k, 5) for k in range(1, 32)])
    for i, x in enumerate(X):
        nobody, everybody = score(kept(x, np.zeros((1, 6), bool), 0.3))[0], score(X[i : i + 1])[0]
        gains, total = score(kept(x, z, 0.3)) - nobody, everybody - nobody
        # The last feature gets what the others leave, so that no constraint is left.
        A, b = z[:, :5] * 1.0 - z[:, 5:], gains - z[:, 5] * total
        phi = np.linalg.lstsq(A, b, rcond=None)[0]
        np.testing.assert_allclose(per_feature(result.values[i]), [*phi, total - phi.sum()], atol=1e-5)


def test_coalitions_come_in_pairs_of_sizes_as_the_kernel_has_them() -> None:
    drawn = np.stack([_drawn(5, k, 0) for k in range(1, 8001)])
    assert not _drawn(5, 0, 0).any()
    np.testing.assert_array_equal(drawn[::2], ~drawn[1::2])
    sizes = np.bincount(drawn.sum(axis=1), minlength=6) / len(drawn)
    share = np.array([0, 1 / 4, 1 / 6, 1 / 6, 1 / 4, 0])
    np.testing.assert_allclose(sizes, share / share.sum(), atol=0.025)
    np.testing.assert_allclose(drawn.mean(axis=0), 0.5, atol=0.025)


# What is refused.


@pytest.mark.parametrize(
    ("method", "options", "said"),
    [
        (oi.rise, {"samples": 0}, "0 samples"),
        (oi.rise, {"cells": 0}, "0 cells"),
        (oi.rise, {"keep": 1.0}, "all or nothing"),
        (oi.rise, {"baseline": "inpaint"}, "no baseline 'inpaint'"),
        (oi.lime, {"samples": 5, "features": IDS}, "5 samples cannot tell 6 features apart"),
        (oi.lime, {"width": 0.0}, "impossible"),
        (oi.kernel_shap, {"samples": 5, "features": IDS}, "5 samples cannot tell 6 features apart"),
        (oi.kernel_shap, {"samples": 6, "features": IDS}, "do not tell 6 features apart"),
    ],
)
def test_what_is_refused(model: oi.Model, method: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        method(model, X, CLASS, engine=ENGINE, **options)


def test_vectors_are_explained_number_by_number() -> None:
    import onnx

    w = RNG.normal(size=(5, 3)).astype(np.float32)
    net = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[N, 5] x) => (float[N, 3] y) { y = MatMul(x, w) }'
    )
    net.graph.initializer.append(numpy_helper.from_array(w, "w"))
    x = RNG.normal(size=(2, 5)).astype(np.float32)
    result = oi.rise(net, x, 1, samples=50, engine=ENGINE)
    assert result.values.shape == x.shape
    shap = oi.kernel_shap(net, x, 1, samples=16, engine=ENGINE)  # fewer than all coalitions
    np.testing.assert_allclose(shap.values, x * w[:, 1], atol=1e-4)
