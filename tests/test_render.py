import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import numpy_helper

import onnx_inspect as oi
from onnx_inspect import image, render
from onnx_inspect.attribution import Attribution, Photo, Prediction
from onnx_inspect.engine import Engine
from onnx_inspect.errors import InputError, LayerError, ResultError
from onnx_inspect.geometry import crop, letterbox, squash
from onnx_inspect.methods.perturbation import Occlusion

from . import nets

RNG = np.random.default_rng(0)
TOP = [
    ("golden retriever", 0.9),
    ("猫", 0.05),
    ("a name that goes on and on, far beyond its line " * 3, 0.01),
]


def noise(height, width):
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


def flat(height, width, value):
    return np.full((height, width, 3), value, np.uint8)


def test_normalise_by_its_formula():
    values = np.array([[1.0, 2, 3], [5, 4, 3]])
    np.testing.assert_allclose(render.normalise(values), (values - 1) / 4)
    np.testing.assert_allclose(render.normalise(values - 2, signed=True), (values - 2) / 3)
    assert render.normalise(values).dtype == np.float32
    np.testing.assert_allclose(render.normalise(values, where=values < 5), ((values - 1) / 3).clip(0, 1))


def test_percentiles_clip_outliers():
    values = np.arange(1000.0)
    values[-1] = 1e9
    low, high = np.percentile(values, (1, 99))
    assert render.limits(values, percentile=99) == (low, high)
    np.testing.assert_allclose(
        render.normalise(values, percentile=99), ((values - low) / (high - low)).clip(0, 1), atol=1e-6
    )
    end = np.percentile(abs(values - 500), 99)
    np.testing.assert_allclose(render.normalise(values - 500, True, 99), ((values - 500) / end).clip(-1, 1), atol=1e-6)
    lonely = np.zeros(1000)
    lonely[3] = 2
    for signed in (False, True):
        np.testing.assert_array_equal(render.normalise(lonely, signed, 99), lonely / 2)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("signed", [False, True])
def test_empty_maps_are_zeros(signed):
    for values in (np.zeros((3, 4)), np.zeros((0, 4)), np.full((3, 4), 1e-320)):
        assert not render.normalise(values, signed).any()
    assert not render.normalise(np.arange(4.0), signed, where=np.zeros(4, bool)).any()
    for bad in (np.nan, np.inf):
        with pytest.raises(ResultError, match="not finite"):
            render.normalise(np.array([1, bad]), signed)


def test_a_flat_map_is_drawn_in_the_middle():
    for value in (0.12, -3.0):
        flat = np.float32(value) + np.float32([0, 1e-8, -1e-8])
        np.testing.assert_allclose(render.normalise(flat), 0.5, atol=1e-6)
        np.testing.assert_allclose(render.limits(flat), sorted((0, 2 * value)), atol=1e-6)
        assert render.normalise(np.full(3, value), signed=True).tolist() == [np.sign(value)] * 3


@pytest.mark.filterwarnings("error")
@given(
    arrays.arrays(np.float32, (3, 5), elements=st.floats(-(2.0**99), 2.0**99, width=32)),
    st.booleans(),
    st.sampled_from([None, 50, 99]),
)
def test_normalised_values_stay_in_range_and_order(values, signed, percentile):
    out = render.normalise(values, signed, percentile)
    assert out.max() <= 1 and out.min() >= (-1 if signed else 0)
    order = np.argsort(values, axis=None)
    assert (np.diff(out.ravel()[order]) >= 0).all()
    if signed:
        assert (out * np.sign(values) >= 0).all()


def test_overlay_is_the_blend_of_photo_and_colours():
    photo, values = noise(300, 280), RNG.random((300, 280))
    colours = image.colormap((values - values.min()) / np.ptp(values), "jet")
    assert abs(render.overlay(photo, values) - (0.5 * photo + 0.5 * colours)).max() <= 1
    viridis = render.overlay(photo, values, alpha=1, colormap="viridis")
    assert (viridis == image.colormap(render.normalise(values), "viridis")).all()
    with pytest.raises(InputError, match="to_photo"):
        render.overlay(photo, values[:7, :7])


def test_overlay_only_colours_what_was_seen():
    photo = noise(256, 256)
    seen = np.zeros((256, 256), bool)
    seen[50:200, 60:210] = True
    values = np.where(seen, 5 + RNG.random((256, 256)), 0)
    out = render.overlay(photo, values, seen=seen)
    colours = image.colormap(render.normalise(values, where=seen))
    assert abs(out[seen] - (0.5 * photo + 0.5 * colours)[seen]).max() <= 1
    assert abs(out[~seen] - (0.35 * photo + 0.65 * 255)[~seen]).max() <= 1


def test_signed_overlay_colours_a_grey_photo_by_opacity():
    photo = np.full((256, 256, 3), (200, 40, 40), np.uint8)
    values = np.zeros((256, 256))
    values[:9], values[40:49], values[-9:] = 2, 0.2, -2
    out = render.overlay(photo, values, signed=True).astype(int)
    grey = round(float(image.to_grey(photo)[0, 0]))
    assert (out[100:150] == grey).all()
    red = out[..., 0] - out[..., 2]
    assert red[4, 4] > 80 > red[44, 4] > 8 and red[-4, 4] < -80


def test_small_photos_are_enlarged_in_whole_pixels():
    photo = noise(32, 20)
    out = render.overlay(photo, np.zeros((32, 20)), alpha=0)
    np.testing.assert_array_equal(out, photo.repeat(8, 0).repeat(8, 1))


@pytest.mark.parametrize(
    "shape", [(32, 32), (1, 1), (1, 300), (300, 1), (500, 300), (90, 900), (900, 60), (9, 20000), (20000, 9)]
)
@pytest.mark.parametrize("signed", [False, True])
def test_panels_of_any_photo(shape, signed):
    photo, values = noise(*shape), RNG.normal(size=shape)
    plain = render.panel(photo, values, signed=signed)
    full = render.panel(photo, values, title=["Grad-CAM", "layer4"], top=TOP, signed=signed)
    for picture in (plain, full):
        assert picture.dtype == np.uint8 and picture.shape[2] == 3
        assert (picture[:8] == 255).all() and (picture[:, -8:] == 255).all()
    assert full.shape[1] > plain.shape[1] and full.shape[0] > plain.shape[0]
    assert 96 <= plain.shape[0] <= 1000 and plain.shape[1] < 2000


def test_feature_grid_normalises_each_channel_on_its_own():
    maps = np.stack([np.arange(4.0).reshape(2, 2) * scale for scale in (1, 1000)])
    picture = render.feature_grid(maps, columns=2, smallest=2, colormap="grey")
    ramp = image.colormap(maps[0] / 3, "grey")
    np.testing.assert_array_equal(picture[-8:-6, 6:8], ramp)
    np.testing.assert_array_equal(picture[-8:-6, 12:14], ramp)
    many = RNG.normal(size=(70, 7, 9))
    fewer = render.feature_grid(many[:64], signed=True)
    assert render.feature_grid(many, signed=True).shape[0] > fewer.shape[0]
    assert render.feature_grid(many, limit=5, names=["x"] * 70).shape[1] < fewer.shape[1]


def test_box_draws_a_frame_on_a_copy():
    canvas = flat(100, 80, 255)
    out = render.box(canvas, (10, 20, 50, 60), (255, 0, 0))
    red = (out == (255, 0, 0)).all(-1)
    expected = np.zeros((100, 80), bool)
    expected[20:60, 10:50] = True
    expected[21:59, 11:49] = False
    np.testing.assert_array_equal(red, expected)
    assert (canvas == 255).all()


@given(st.tuples(*[st.floats(-50, 150)] * 4), st.sampled_from(["", "猫", "a long label of a box" * 9]))
def test_boxes_anywhere(corners, label):
    assert render.box(flat(100, 80, 255), corners, label=label).shape == (100, 80, 3)


def test_labels_can_be_read():
    for corners in ((10, 50, 60, 90), (10, 2, 60, 90), (390, 50, 399, 90)):
        picture = render.box(flat(300, 400, 255), corners, (20, 20, 20), "cat")
        blank = render.box(flat(300, 400, 255), corners, (20, 20, 20), "")
        assert (picture != blank).any(-1).sum() > 200


def test_categorical_gives_every_class_its_colour():
    classes = np.array([[0, 0, 7], [0, 7, 900]])
    side = 86
    picture = render.categorical_tile(classes, (2 * side, 3 * side), {0: "background", 900: "キツネ"})
    seen = picture[side // 2 : 2 * side : side, side // 2 : 3 * side : side]
    assert len(np.unique(seen.reshape(-1, 3), axis=0)) == 3
    for index in (0, 7, 900):
        assert len(np.unique(seen[classes == index], axis=0)) == 1
        colour = seen[classes == index][0]
        assert (picture[:, 3 * side :] == colour).all(-1).sum() >= 100
    many = render.categorical_tile(np.arange(100).reshape(10, 10), (260, 260), ["x" * 300] * 50)
    assert many.shape[0] < 400 and many.shape[1] < 700


def test_legend_colours_differ():
    colours = np.array([render._hue(i) for i in range(12)], float)
    apart = np.linalg.norm(colours[:, None] - colours, axis=-1) + 1e9 * np.eye(12)
    assert apart.min() > 40


def test_heat_tile():
    values = np.array([[0.0, 1.0], [2.0, 4.0]])
    picture = render.heat_tile(values, (256, 256), colormap="grey")
    assert picture.shape[0] == 256 and picture.shape[1] > 256
    assert picture[[64, 64, 192, 192], [64, 192, 64, 192], 0].tolist() == [0, 64, 128, 255]


@pytest.mark.parametrize("shape", [(40, 60), (60, 40), (1, 1), (1, 90), (9, 20000), (20000, 9)])
def test_view_is_what_the_model_sees(shape):
    photo = noise(*shape)
    for size, expected in (((30, 30), (120, 120)), ((30, 3000), (96, 192)), ((3000, 30), (120, 96))):
        for made in (crop(shape, size, 0.9), squash(shape, size), letterbox(shape, size)[0]):
            assert render.view(photo, made, 120).shape == (*expected, 3)
    seen = render.view(photo, crop(shape, (min(shape),) * 2), 4 * min(shape)) if min(shape) > 30 else None
    if seen is not None:
        left, top = (shape[1] - 40) // 2, (shape[0] - 40) // 2
        np.testing.assert_array_equal(seen[2::4, 2::4], photo[top : top + 40, left : left + 40])
    padded = render.view(flat(40, 80, 7), letterbox((40, 80), (100, 100))[0], 200)
    assert (padded[51:149] == 7).all() and (padded[:49] == 255).all() and (padded[151:] == 255).all()


def occluded(shape, model, geometry, classes, drop):
    """An occlusion of two classes with a long name."""
    names = {0: "a name that goes on and on, far beyond its line", 1: "猫"}
    grid = np.linspace(0, 1, classes.size).reshape(1, *classes.shape)
    return Occlusion(
        method="occlusion",
        values=drop,
        heat=drop,
        target="top",
        explained=[Prediction(0, names[0], 1.0, 0.5)],
        scores=np.ones(1),
        predictions=[[Prediction(i, name, 1.0, 0.5) for i, name in names.items()]],
        photos=[Photo(None, noise(*shape), geometry)],
        preprocessing=None,
        provider="CPUExecutionProvider",
        model={"name": "model.onnx"},
        layer="layer4",
        params={"channels": [3], "labels": names},
        signed=True,
        extra={"activation": grid * 0, "probability": grid, "class": classes[None]},
    )


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("shape", [(375, 500), (1, 1), (1, 300), (20000, 10), (10, 20000)])
@pytest.mark.parametrize("model", [(224, 224), (2, 300), (1, 1)])
def test_occlusion_figure(shape, model):
    classes = np.array([[0, 1, 1], [0, 0, 1]])
    for geometry in (crop(shape, model, 0.875), squash(shape, model), letterbox(shape, model)[0]):
        for drop in (RNG.normal(size=(1, *model)), np.zeros((1, *model)), np.ones((1, *model))):
            result = occluded(shape, model, geometry, classes, drop)
            tiles = result.panels()
            height = {(224, 224): 320, (2, 300): 96, (1, 1): 320}[model]
            assert [tile.shape[0] for tile in tiles.values()] == [height] * 5
            assert list(tiles)[2:4] == ["activation of map 3", f"probability of {result.explained[0].label}"]
            figure = result.panel()
            assert figure.shape[0] < height + 120 and figure.shape[1] < 3300
            assert (figure[:8] == 255).all() and (figure[:, -8:] == 255).all()
            assert Attribution.panel(result).ndim == result.overlay().ndim == 3


def test_titles_name_what_was_asked_for():
    """Options that are not the defaults, the first three, in the order of the signature."""
    model, x, engine = oi.load(nets.classifier()), nets.images(1), Engine("cpu", threads=1)
    assert oi.gradcam(model, x, 1, engine=engine, preset="", flips=False).title()[0].startswith("gradcam: ")
    asked = oi.gradcam(model, x, 1, engine=engine, scales=[1, 0.5], flips=True, fuse="max", preset="pgc")
    assert asked.title()[0].startswith("gradcam (preset pgc, fuse max, flips): ")
    assert (
        oi.gradcam(model, x, 1, layer="body.relu1", scales=[1, 0.5], engine=engine).heading == "gradcam (scales 1+0.5)"
    )
    assert (
        oi.occlusion(model, x, 1, window=5, baseline=x + 1, engine=engine).heading == "occlusion (window 5, baseline)"
    )
    assert oi.localize(model, x, 1, of="saliency", engine=engine).title()[0].startswith("localize (of saliency): ")


def dead(*, flat=False):
    """A classifier whose last map is zero everywhere, or has the same number at every position."""
    net = nets.classifier(broken="dead")
    if flat:
        arrays = {t.name: t for t in net.graph.initializer}
        arrays["w2"].CopyFrom(numpy_helper.from_array(np.zeros((6, 5, 3, 3), np.float32), "w2"))
        arrays["b2"].CopyFrom(numpy_helper.from_array(np.ones(6, np.float32), "b2"))
    return oi.load(net)


def test_notes_on_empty_maps_name_ways_that_exist():
    x, engine = nets.images(1), Engine("cpu", threads=1)
    for method, ways in ((oi.gradcam, "(--target CLASS or --layer NAME)"), (oi.saliency, "(--target CLASS)")):
        notes = method(dead(), x, 1, engine=engine).notes
        assert [n for n in notes if "zero everywhere" in n and n.endswith(ways) and "is the same" not in n]
    notes = oi.gradcam(dead(flat=True), x, 1, engine=engine, signed=True).notes
    assert [n for n in notes if "is the same everywhere at 'body.relu2'" in n and "--layer NAME" in n]
    assert not [n for n in notes if "zero everywhere" in n]
    assert not any("everywhere" in n for n in oi.gradcam(oi.load(nets.classifier()), x, 1, engine=engine).notes)


def test_cam_names_ways_that_exist():
    with pytest.raises(LayerError, match="where there is a map: `onnx-inspect doctor MODEL`"):
        oi.cam(oi.load(nets.classifier(final="Softmax")), nets.images(1), 1, score="output")
