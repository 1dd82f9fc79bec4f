"""Paths for photos: against literal loops, closed forms of linear models, and what the papers promise."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from scipy.ndimage import binary_dilation
from skimage.morphology import disk
from skimage.segmentation import felzenszwalb

import onnx_inspect as oi
from onnx_inspect import image
from onnx_inspect.engine import Engine
from onnx_inspect.errors import InputError
from onnx_inspect.methods import regions as xrai_regions
from onnx_inspect.methods.paths_image import guided
from onnx_inspect.methods.regions import by_regions, regions
from onnx_inspect.preprocess import Preprocessing

from . import nets

ENGINE = Engine("cpu", threads=1)
PRE = Preprocessing((12, 12), scale=1 / 50, mean=(2.5,))
X = nets.images(2)
RNG = np.random.default_rng(5)
W = RNG.normal(size=(3, 12, 12))


def linear(weights: np.ndarray = W) -> onnx.ModelProto:
    """The score of class 1 is the sum of weights times pixels, that of class 0 is zero."""
    w = np.stack([np.zeros(weights.size), weights.ravel()], axis=1).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["y"])],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *weights.shape])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2])],
        [numpy_helper.from_array(w, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def gaussian(plane: np.ndarray, sigma: float) -> np.ndarray:
    """A plane blurred by a kernel of four deviations, with zeros beyond the border; written out."""
    reach = int(4 * sigma + 0.5)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(sigma, 1e-9)) ** 2)
    kernel /= kernel.sum()
    matrix = np.zeros((len(plane), len(plane)))
    for row in range(len(plane)):
        for k, weight in zip(range(-reach, reach + 1), kernel, strict=True):
            if 0 <= row + k < len(plane):
                matrix[row, row + k] += weight
    return matrix @ plane @ matrix.T


@pytest.mark.parametrize("sqrt", [False, True])
def test_blur_ig_is_its_sum(sqrt: bool) -> None:
    """Of a linear model the gradient is the weights everywhere, so that only the path is left."""
    steps, most = 12, 4.0
    result = oi.blur_ig(linear(), X, 1, max_sigma=most, steps=steps, sqrt=sqrt, preprocessing=PRE, engine=ENGINE)
    sigmas = [(k * most / steps) ** (0.5 if sqrt else 1) for k in range(steps + 1)]
    for i, photo in enumerate(X.astype(np.float64)):
        expected = np.zeros_like(photo)
        for c, plane in enumerate(photo):
            for k in range(steps):
                slope = (gaussian(plane, sigmas[k] + 0.01) - gaussian(plane, sigmas[k])) / 0.01
                expected[c] -= W[c] * slope * (sigmas[k + 1] - sigmas[k])
        np.testing.assert_allclose(result.values[i], expected, atol=2e-5)
        blurred = np.stack([gaussian(plane, sigmas[-1]) for plane in photo])
        delta = expected.sum() - (W * (photo - blurred)).sum()
        np.testing.assert_allclose(result.measures["delta"][i], delta, atol=2e-4)


def test_blur_ig_adds_up_on_a_network() -> None:
    smooth = oi.blur_ig(nets.classifier(), X, 2, max_sigma=3, steps=600, preprocessing=PRE, engine=ENGINE)
    assert np.abs(smooth.measures["delta"]).max() < 0.02 < np.abs(smooth.values.sum(axis=(1, 2, 3))).min()


def test_blur_ig_blurs_height_and_width_whatever_the_layout() -> None:
    how = {"max_sigma": 3, "steps": 7, "engine": ENGINE}
    first = oi.blur_ig(nets.classifier(), X, 2, preprocessing=PRE, **how)
    last = oi.blur_ig(
        nets.classifier(nhwc=True),
        nets.images(2, nhwc=True),
        2,
        preprocessing=Preprocessing((12, 12), layout="NHWC"),
        **how,
    )
    np.testing.assert_allclose(np.moveaxis(last.values, -1, 1), first.values, atol=1e-6)


@pytest.mark.parametrize("wrong", [{"max_sigma": 0}, {"max_sigma": np.inf}, {"steps": 0}])
def test_blurs_that_lead_nowhere_are_refused(wrong: dict) -> None:
    with pytest.raises(InputError, match=r"leads nowhere|finite number"):
        oi.blur_ig(linear(), X, 1, preprocessing=PRE, engine=ENGINE, **wrong)


# Guided integrated gradients.


def literal(x: np.ndarray, start: np.ndarray, slope, steps: int, fraction: float, max_dist: float) -> np.ndarray:
    """Algorithm 1 of the paper with its bounds (section 4), number by number."""
    x, start = x.ravel(), start.ravel()
    at, total = list(start), np.zeros(x.size)
    length = sum(abs(a - b) for a, b in zip(x, start, strict=True))
    for step in range(steps):
        gradient = slope(np.array(at))
        alpha = (step + 1) / steps
        lower, upper = max(alpha - max_dist, 0), min(alpha + max_dist, 1)
        begin, moved = list(at), set()
        for j in range(x.size):
            if x[j] != start[j] and (at[j] - start[j]) / (x[j] - start[j]) < lower:
                at[j] = start[j] + lower * (x[j] - start[j])
        while True:
            left = sum(abs(x[j] - at[j]) for j in range(x.size)) - length * (1 - alpha)
            if left <= 1e-9:
                break
            limit = [start[j] + upper * (x[j] - start[j]) for j in range(x.size)]
            moved |= {j for j in range(x.size) if at[j] == limit[j]}
            ranks = sorted(np.inf if j in moved else abs(gradient[j]) for j in range(x.size))
            threshold = ranks[int(fraction * (x.size - 1))]
            chosen = [j for j in range(x.size) if j not in moved and abs(gradient[j]) <= threshold]
            room = sum(abs(limit[j] - at[j]) for j in chosen)
            for j in chosen:
                at[j] = limit[j] if left >= room else at[j] + (limit[j] - at[j]) * left / room
            if left < room:
                break
        total += gradient * (np.array(at) - np.array(begin))
    return total


@pytest.mark.parametrize(("fraction", "max_dist"), [(0.25, 0.02), (0.1, 0.3), (0.5, 1.0)])
def test_guided_ig_is_the_algorithm_of_the_paper(fraction: float, max_dist: float) -> None:
    options = {"steps": 9, "fraction": fraction, "max_dist": max_dist}
    result = oi.guided_ig(nets.classifier(), X, 2, baseline="0.3", engine=ENGINE, **options)
    model = oi.load(nets.classifier())

    def slope(at: np.ndarray) -> np.ndarray:
        x = at.reshape(1, 3, 12, 12).astype(np.float32)
        return oi.saliency(model, x, 2, signed=True, engine=ENGINE).values.ravel().astype(np.float64)

    for i in range(2):
        expected = literal(
            X[i].astype(np.float64), np.full(X[i].shape, np.float32(0.3)).astype(float), slope, **options
        )
        np.testing.assert_allclose(result.values[i].ravel(), expected, atol=1e-6)


def test_guided_ig_on_a_leash_of_nothing_is_integrated_gradients() -> None:
    guided_ones = oi.guided_ig(nets.classifier(), X, 1, steps=20, max_dist=0, engine=ENGINE)
    straight = oi.integrated_gradients(nets.classifier(), X, 1, steps=20, quadrature="left", engine=ENGINE)
    np.testing.assert_allclose(guided_ones.values, straight.values, atol=1e-5)
    np.testing.assert_allclose(guided_ones.measures["delta"], straight.measures["delta"], atol=1e-4)


def test_guided_ig_of_a_linear_model_is_exact() -> None:
    result = oi.guided_ig(linear(), X, 1, baseline="0.5", steps=7, preprocessing=PRE, engine=ENGINE)
    np.testing.assert_allclose(result.values, W * (X - 0.5), atol=1e-5)
    np.testing.assert_allclose(result.measures["delta"], 0, atol=1e-4)


def test_the_guided_path_stays_on_its_leash_and_comes_nearer_evenly() -> None:
    x, start = RNG.normal(size=40), RNG.normal(size=40)
    start[3] = x[3]  # what does not move is in nobody's way
    seen: list[np.ndarray] = []

    def slope(at: np.ndarray) -> np.ndarray:
        seen.append(at)
        return RNG.normal(size=40)

    guided(x, start, slope, 25, 0.25, 0.1)
    moving = x != start
    for step, at in enumerate(seen):
        share = ((at - start) / np.where(moving, x - start, 1))[moving]
        assert np.abs(share - step / 25).max() <= 0.1 + 1e-9
        np.testing.assert_allclose(np.abs(x - at).sum(), np.abs(x - start).sum() * (1 - step / 25))


def test_a_sample_that_is_its_baseline_gets_nothing() -> None:
    result = oi.guided_ig(linear(), np.zeros_like(X), 1, steps=3, preprocessing=PRE, engine=ENGINE)
    assert not result.values.any()


@pytest.mark.parametrize(
    "wrong", [{"fraction": 0}, {"fraction": 1.5}, {"max_dist": -0.1}, {"max_dist": 2}, {"steps": 0}]
)
def test_shares_that_are_none_are_refused(wrong: dict) -> None:
    with pytest.raises(InputError, match="no path"):
        oi.guided_ig(linear(), X, 1, preprocessing=PRE, engine=ENGINE, **wrong)


# XRAI.


def greedy(gains: np.ndarray, masks: list[np.ndarray], fewest: float) -> np.ndarray:
    """XRAI as the paper words it: again and again the region of which the new pixels gain the most."""
    out, taken, left = np.zeros(gains.shape), np.zeros(gains.shape, bool), list(masks)
    while left:
        left = [m for m in left if (m & ~taken).sum() >= fewest]
        if not left:
            break
        means = [gains[m & ~taken].mean() for m in left]
        best = left.pop(int(np.argmax(means)))
        out[best & ~taken] = max(means)
        taken |= best
    out[~taken] = gains[~taken].mean() if not taken.all() else 0
    return out


@pytest.fixture
def masks() -> np.ndarray:
    made = np.zeros((14, 20, 30), bool)
    for mask in made:
        y, x, h, w = RNG.integers((0, 0, 3, 3), (17, 27, 12, 15))
        mask[y : y + h, x : x + w] = True
    return made


def test_regions_are_taken_greedily(masks: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xrai_regions, "FEWEST", 9 * 224**2 / 600)  # 9 of these 600 pixels
    gains = RNG.normal(size=(20, 30))
    found = by_regions(gains, masks)
    np.testing.assert_allclose(found, greedy(gains, list(masks), 9), atol=1e-12)
    np.testing.assert_allclose(found.sum(), gains.sum())  # each region keeps its sum


def test_fast_regions_are_taken_in_the_order_of_their_own_means(masks: np.ndarray) -> None:
    gains = RNG.normal(size=(20, 30))
    expected, taken = np.full(gains.shape, gains.mean()), np.zeros(gains.shape, bool)
    for mask in sorted(masks, key=lambda m: -gains[m].mean()):
        if (mask & ~taken).any():
            expected[mask & ~taken] = gains[mask & ~taken].mean()
        taken |= mask
    expected[~taken] = gains[~taken].mean()
    np.testing.assert_allclose(by_regions(gains, masks, fast=True), expected, atol=1e-12)
    assert not np.allclose(expected, by_regions(gains, masks))


def blobs(height: int, width: int) -> np.ndarray:
    """A photo of smooth patches."""
    coarse = np.random.default_rng(2).uniform(0, 255, (5, 6, 3)).astype(np.float32)
    return image.resize(coarse, (height, width), "linear").astype(np.uint8)


def test_regions_are_segments_at_six_scales_grown_by_a_disc() -> None:
    photo = blobs(224, 224)
    low, high = float(photo.min()), float(photo.max())
    expected = []
    for scale in (50, 100, 150, 250, 500, 1200):
        pixels = 2 * (photo.astype(np.float64) - low) / (high - low) - 1
        segments = felzenszwalb(pixels, scale=scale, sigma=0.8, min_size=150, channel_axis=-1)
        expected += [binary_dilation(segments == k, disk(5)) for k in range(segments.max() + 1)]
    np.testing.assert_array_equal(regions(photo), expected)


@pytest.mark.parametrize("size", [(40, 64), (300, 224)])
def test_regions_have_the_size_of_the_photo_and_leave_no_pixel(size: tuple[int, int]) -> None:
    for photo in (blobs(*size), np.full((*size, 3), 9, np.uint8)):
        found = regions(photo)
        assert found.shape[1:] == size
        assert found.any(axis=0).all()


@pytest.mark.parametrize("nhwc", [False, True])
def test_xrai_sums_integrated_gradients_from_black_and_white_over_regions(nhwc: bool) -> None:
    layout = "NHWC" if nhwc else "NCHW"
    pre = Preprocessing((12, 12), scale=1 / 50, mean=(2.5, 2.0, 3.0), color="BGR", layout=layout)
    photos = RNG.integers(0, 256, (1, 12, 12, 3)).astype(np.uint8)
    x = pre.batch(list(photos))
    result = oi.xrai(nets.classifier(nhwc=nhwc), x, 2, steps=10, preprocessing=pre, engine=ENGINE)
    assert result.values.shape == (1, 12, 12)
    ends = [(colour / 50 - np.array([2.5, 2.0, 3.0])).astype(np.float32) for colour in (0, 255)]
    runs = [
        oi.integrated_gradients(
            nets.classifier(nhwc=nhwc),
            x,
            2,
            baseline=(end if nhwc else end[:, None, None])[None],
            steps=10,
            engine=ENGINE,
            preprocessing=pre,
        ).values
        for end in ends
    ]
    gains = (runs[0] + runs[1]).max(axis=-1 if nhwc else 1) / 2
    np.testing.assert_allclose(result.values[0], by_regions(gains[0], regions(photos[0])), atol=1e-5)


@pytest.mark.parametrize("name", ["xrai", "blur_ig"])
def test_paths_over_photos_need_one(name: str) -> None:
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "table",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(np.ones((5, 3), np.float32), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with pytest.raises(InputError, match="needs a picture"):
        getattr(oi, name)(model, np.ones((2, 5), np.float32), 1, engine=ENGINE)
