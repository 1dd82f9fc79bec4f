import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnx_inspect.errors import InputError, PhotoError
from onnx_inspect.guess import PRESETS
from onnx_inspect.preprocess import Preprocessing

RNG = np.random.default_rng(0)
RULES = ("crop", "squash", "letterbox")


def noise(height, width):
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_no_opencv_at_import():
    code = "import sys, onnx_inspect.preprocess; sys.exit('cv2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize(
    ("preset", "literal"),
    [
        ("imagenet", lambda p: (p / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]),
        ("tf", lambda p: p / 127.5 - 1),
        ("caffe", lambda p: p[..., [2, 1, 0]] - [104.0, 117.0, 123.0]),
        ("unit", lambda p: p / 255),
        ("raw", lambda p: p * 1.0),
    ],
)
def test_presets_by_their_formulas(preset, literal, layout):
    photo = noise(32, 48)
    made = Preprocessing((32, 48), layout=layout, **PRESETS[preset])
    expected = literal(photo.astype(float))
    expected = expected.transpose(2, 0, 1) if layout == "NCHW" else expected
    tensor = made.apply(photo)
    assert tensor.dtype == np.float32 and tensor.flags.c_contiguous
    np.testing.assert_allclose(tensor, expected, atol=1e-4)
    np.testing.assert_array_equal(made.inverse(tensor), photo)
    np.testing.assert_array_equal(made.inverse(made.batch([photo])), photo)


def test_grey_in_both_layouts():
    photo = noise(8, 9)
    luma = photo @ np.array([0.299, 0.587, 0.114])
    for layout, expected in (("NCHW", luma[None]), ("NHWC", luma[..., None]), ("NHW", luma)):
        made = Preprocessing((8, 9), color="GREY", layout=layout, scale=1 / 255)
        np.testing.assert_allclose(made.apply(photo), expected / 255, atol=1e-5)
        assert made.batch([photo, photo]).shape == (2, *expected.shape)
        np.testing.assert_array_equal(
            made.inverse(made.apply(photo)), np.stack([np.rint(luma).astype(np.uint8)] * 3, -1)
        )


@pytest.mark.parametrize(
    ("dtype", "mean", "expected"),
    [
        ("uint8", 0.0, [0, 100, 255]),
        ("int8", 128.0, [-128, -28, 127]),
        ("int8", 0.0, [0, 100, 127]),
        ("int32", 0.4, [0, 100, 255]),
        ("uint64", 128.0, [0, 0, 127]),
        ("float16", 0.0, [0, 100, 255]),
        ("float64", 0.5, [-0.5, 99.5, 254.5]),
    ],
)
def test_dtypes_are_rounded_and_clipped(dtype, mean, expected):
    photo = np.repeat(np.array([[[0], [100], [255]]], np.uint8), 3, axis=2)
    tensor = Preprocessing((1, 3), mean=(mean,), dtype=dtype).apply(photo)
    assert tensor.dtype == dtype and tensor[0, 0].tolist() == expected


def test_crop_is_centred_and_shrinks_by_area():
    photo = noise(100, 160)
    cut = photo[:, 30:130].reshape(50, 2, 50, 2, 3).mean((1, 3))
    tensor = Preprocessing((50, 50), layout="NHWC").apply(photo)
    assert abs(tensor - cut).max() <= 0.5
    assert Preprocessing((50, 50), crop_ratio=0.5).geometry(photo.shape).box == (55, 25, 105, 75)
    assert Preprocessing((50, 25)).geometry(photo.shape).box == (55, 0, 105, 100)
    assert Preprocessing((32, 32), crop_ratio=0.875).geometry((32, 32)).box == (0, 0, 32, 32)
    assert Preprocessing((32, 32), crop_ratio=0.875).geometry((20, 30)).box == (5, 0, 25, 20)


def test_letterbox_pads_both_sides():
    photo = noise(40, 80)
    tensor = Preprocessing((64, 80), resize="letterbox", layout="NHWC", pad_value=7).apply(photo)
    np.testing.assert_array_equal(tensor[12:52], photo)
    assert (tensor[:12] == 7).all() and (tensor[52:] == 7).all()


@pytest.mark.parametrize("resize", RULES)
@pytest.mark.parametrize("size", [(64, 64), (33, 70), (71, 40)])
@pytest.mark.parametrize("shape", [(301, 205), (203, 333), (41, 29), (64, 64), (90, 500)])
def test_a_dot_comes_back_to_its_place(resize, size, shape):
    made = Preprocessing(size, resize=resize, layout="NHWC", pad_value=0, crop_ratio=0.9)
    geometry = made.geometry(shape)
    x0, y0, x1, y1 = geometry.box
    coarse = max((x1 - x0) / size[1], (y1 - y0) / size[0], 1)
    top, left, bottom, right = max(y0, 0), max(x0, 0), min(y1, shape[0]), min(x1, shape[1])
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    for down, across in ((0.5, 0.5), (0.3, 0.6), (0.62, 0.41)):
        dot = np.array([top + down * (bottom - top), left + across * (right - left)])
        spread = min(2 * coarse, (bottom - top) / 12, (right - left) / 12)
        bright = np.exp(-((y - dot[0]) ** 2 + (x - dot[1]) ** 2) / (2 * spread**2))
        photo = np.repeat(np.rint(255 * bright).astype(np.uint8)[..., None], 3, axis=2)
        back = geometry.to_photo(made.apply(photo)[..., 0])
        assert back.shape == shape
        centre = [(back * axis).sum() / back.sum() for axis in (y, x)]
        np.testing.assert_allclose(centre, dot, atol=max(0.15, coarse / 50))
        assert abs(np.unravel_index(back.argmax(), shape) + np.array(0.5) - dot).max() <= coarse


@pytest.mark.parametrize("resize", RULES)
def test_a_coarse_map_covers_the_whole_input(resize):
    made = Preprocessing((96, 96), resize=resize, crop_ratio=0.5)
    geometry = made.geometry((150, 300))
    cells = np.arange(12.0).reshape(3, 4)
    back = geometry.to_photo(cells, "nearest")
    x0, y0, x1, y1 = geometry.box
    for (y, x), value in np.ndenumerate(back):
        row, column = int((y + 0.5 - y0) / (y1 - y0) * 3), int((x + 0.5 - x0) / (x1 - x0) * 4)
        seen = y0 < y + 0.5 < y1 and x0 < x + 0.5 < x1
        assert value == (cells[row, column] if seen else 0)
        assert geometry.mask_in_photo()[y, x] == seen
    stack = geometry.to_photo(np.stack([cells, -cells]), "nearest")
    np.testing.assert_array_equal(stack, [back, -back])


def test_linear_is_linear_and_holds_its_ends():
    geometry = Preprocessing((8, 8), resize="squash").geometry((40, 16))
    back = geometry.to_photo(np.tile([[0.0], [1], [2], [3]], (1, 2)))
    np.testing.assert_allclose(back[:, 5], ((np.arange(40) + 0.5) / 10 - 0.5).clip(0, 3), atol=1e-6)


def test_a_fine_map_is_averaged_not_sampled():
    geometry = Preprocessing((64, 64), resize="squash").geometry((8, 8))
    checks = (np.indices((64, 64)).sum(0) % 2).astype(float)
    np.testing.assert_allclose(geometry.to_photo(checks), 0.5, atol=1e-3)


sides = st.integers(1, 90)


@settings(max_examples=150, deadline=None)
@given(st.tuples(sides, sides), st.tuples(sides, sides), st.sampled_from(RULES), st.floats(0.1, 1))
def test_geometry_holds_for_any_sizes(photo, size, resize, ratio):
    made = Preprocessing(size, resize=resize, crop_ratio=ratio)
    geometry = made.geometry(photo)
    x0, y0, x1, y1 = geometry.box
    assert x1 > x0 and y1 > y0
    tensor = made.apply(np.full((*photo, 3), 9, np.uint8))
    assert tensor.shape == (3, *size) and (resize == "letterbox" or (tensor == 9).all())
    flat = geometry.to_photo(np.ones((3, 5)))
    np.testing.assert_allclose(flat, geometry.mask_in_photo(), atol=1e-6)
    if resize != "crop":
        assert geometry.mask_in_photo().all()
    whole = geometry.box_to_photo((0, 0, size[1], size[0]))
    np.testing.assert_allclose(geometry.box_to_photo(geometry.to_model(whole)), whole, atol=1e-6)
    for value, limit in zip(whole, (*photo[::-1], *photo[::-1]), strict=True):
        assert 0 <= value <= limit


def test_boxes_by_hand():
    geometry = Preprocessing((50, 50), resize="letterbox").geometry((100, 200))  # half size, 12 rows of padding
    np.testing.assert_allclose(geometry.to_model((40, 40, 120, 80)), (10, 22, 30, 32))
    np.testing.assert_allclose(geometry.box_to_photo((10, 22, 30, 32)), (40, 40, 120, 80))
    assert geometry.box_to_photo((0, 0, 50, 50)) == (0, 0, 200, 100)


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": (0, 5)},
        {"size": (5, -1)},
        {"size": (70000, 5)},
        {"size": (5,)},
        {"std": (0.0,)},
        {"std": (1.0, 0.0, 1.0)},
        {"scale": 0.0},
        {"scale": float("nan")},
        {"mean": (1.0, 2.0)},
        {"mean": (float("inf"),)},
        {"mean": (1.0, 2.0, 3.0), "color": "GREY"},
        {"crop_ratio": 0.0},
        {"crop_ratio": 1.1},
        {"resize": "stretch"},
        {"color": "HSV"},
        {"layout": "CHW"},
        {"layout": "NHW"},
        {"dtype": "string"},
        {"dtype": "complex64"},
        {"dtype": "nonsense"},
    ],
)
def test_impossible_values_are_sentences(wrong):
    with pytest.raises(InputError, match=r"impossible: it has to be .*\.$"):
        Preprocessing(**{"size": (8, 8)} | wrong)


def test_what_is_no_photo_or_no_tensor():
    made = Preprocessing((8, 8))
    for photo in (np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3)), np.zeros((0, 8, 3), np.uint8)):
        with pytest.raises(PhotoError):
            made.apply(photo)
    with pytest.raises(PhotoError):
        made.batch([])
    for tensor in (np.zeros((8, 8)), np.zeros((4, 8, 8)), np.zeros((2, 3, 8, 8))):
        with pytest.raises(InputError):
            made.inverse(tensor)


def test_json_round_trip():
    for preset in PRESETS.values():
        made = Preprocessing((5, 7), layout="NHWC", source="guess", **preset)
        assert Preprocessing.from_json(json.loads(json.dumps(made.to_json() | {"later": 1}))) == made
    for data in ({}, {"size": 3}, {"size": ["a", "b"]}):
        with pytest.raises(InputError):
            Preprocessing.from_json(data)


def test_describe():
    made = Preprocessing((224, 192), source="guess: imagenet", **PRESETS["imagenet"])
    assert made.describe() == (
        "224x192 centre crop 0.875, RGB, (x/255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225), NCHW float32"
    )
    assert "letterboxed, RGB, x, NCHW" in Preprocessing((8, 8), resize="letterbox").describe()


def test_replace_checks_again():
    with pytest.raises(InputError):
        replace(Preprocessing((8, 8)), std=(0.0,))
