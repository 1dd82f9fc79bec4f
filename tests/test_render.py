import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from onnx_inspect import image, render
from onnx_inspect.errors import InputError, ResultError

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
    np.testing.assert_allclose(
        render.normalise(values - 500, True, 99), ((values - 500) / end).clip(-1, 1), atol=1e-6
    )
    lonely = np.zeros(1000)
    lonely[3] = 2
    for signed in (False, True):
        np.testing.assert_array_equal(render.normalise(lonely, signed, 99), lonely / 2)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("signed", [False, True])
def test_constant_maps_are_zeros(signed):
    for values in (np.zeros((3, 4)), np.zeros((0, 4)), np.full((3, 4), 1e-320)):
        assert not render.normalise(values, signed).any()
    assert not render.normalise(np.float32(0.1) + np.float32([0, 1e-8, -1e-8])).any()
    assert not render.normalise(np.arange(4.0), signed, where=np.zeros(4, bool)).any()
    for bad in (np.nan, np.inf):
        with pytest.raises(ResultError, match="not finite"):
            render.normalise(np.array([1, bad]), signed)


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


def test_signed_overlay_leaves_the_photo_at_zero():
    photo, values = flat(256, 256, 0), np.zeros((256, 256))
    values[:9, :9], values[-9:, -9:] = 2, -2
    out = render.overlay(photo, values, signed=True)
    assert (out[100:150] == 0).all()
    assert out[0, 0, 0] > 100 > out[0, 0, 2] and out[-1, -1, 2] > 100 > out[-1, -1, 0]


def test_small_photos_are_enlarged_in_whole_pixels():
    photo = noise(32, 20)
    out = render.overlay(photo, np.zeros((32, 20)), alpha=0)
    np.testing.assert_array_equal(out, photo.repeat(8, 0).repeat(8, 1))


@pytest.mark.parametrize("shape", [(32, 32), (1, 1), (500, 300), (90, 900), (900, 60)])
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


def test_bars_are_as_long_as_the_probability():
    picture = render.bars([("a", 0.25), ("b", 1.0), ("c", 0.0)], width=200)
    lengths = (picture == render.ACCENT).all(-1).sum(1), (picture == (150, 170, 200)).all(-1).sum(1)
    assert lengths[0].max() == 50 and lengths[1].max() == 200


def test_colour_bar_runs_from_low_to_high():
    bar = render.colour_bar(200, (-0.001234, 12.3456))
    np.testing.assert_array_equal(bar[[-1, 0], 0], image.colormap(np.array([0.0, 1.0])))
    assert (bar[:20, 14:] < 100).any() and (bar[-20:, 14:] < 100).any()
    other = render.colour_bar(200, (3, 5))
    same = render.colour_bar(200, (0, 5)) == other
    assert same[:20].all() and not same[-20:].all()
    assert render._numbers(-0.001234, 12.3456) == ["0", "12.3"]
    assert render._numbers(-4.5e-7, 4.5e-7) == ["−4.5e−07", "4.5e−07"]
    assert render._numbers(0, 0) == ["0", "0"] and render._numbers(123456.0, 0) == ["1.23e+05", "0"]


def test_grid_puts_tiles_in_order():
    tiles = [flat(10, 20, value) for value in (10, 20, 30, 40, 50)]
    out = render.grid(tiles, columns=2, gap=4)
    assert out.shape == (3 * 10 + 2 * 4, 2 * 20 + 4, 3)
    for i, value in enumerate((10, 20, 30, 40, 50)):
        top, left = i // 2 * 14, i % 2 * 24
        assert (out[top : top + 10, left : left + 20] == value).all()
    assert (out[28:, 24:] == 255).all() and (out[10:14] == 255).all()
    assert (render.grid(tiles, columns=2, background=0)[28:, 24:] == 0).all()


def test_grid_fits_tiles_of_other_sizes():
    out = render.grid([flat(40, 60, 10), flat(10, 10, 20)], columns=2)
    assert out.shape == (40, 124, 3)
    assert (out[:, 64 + 10 : 64 + 50] == 20).all() and (out[:, 64:74] == 255).all()
    titled = render.grid([flat(40, 60, 10)] * 2, columns=1, titles=["a", "a much longer title " * 4])
    assert titled.shape[1] == 60 and titled.shape[0] > 2 * 40 + 4 + 20
    with pytest.raises(ResultError, match="no tiles"):
        render.grid([])


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


def test_contact_sheet_is_a_table():
    rows = [[flat(50, 60, 10), flat(50, 60, 20)], [flat(25, 30, 30)]]
    out = render.contact_sheet(rows, gap=6)
    assert out.shape == (2 * 50 + 6 + 16, 2 * 60 + 6 + 16, 3)
    assert (
        (out[8:58, 8:68] == 10).all() and (out[8:58, 74:134] == 20).all() and (out[64:114, 8:68] == 30).all()
    )
    titled = render.contact_sheet(rows, ["first", "a long name " * 9], ["photo", "map"])
    assert titled.shape[0] > out.shape[0] and out.shape[1] < titled.shape[1] <= out.shape[1] + 66
    with pytest.raises(ResultError):
        render.contact_sheet([[]])


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
    picture = render.categorical(classes, {0: "background", 900: "キツネ"})
    side = 256 // 3 + 1
    seen = picture[8 + side // 2 : 8 + 2 * side : side, 8 + side // 2 : 8 + 3 * side : side]
    assert len(np.unique(seen.reshape(-1, 3), axis=0)) == 3
    for index in (0, 7, 900):
        assert len(np.unique(seen[classes == index], axis=0)) == 1
        colour = seen[classes == index][0]
        assert (picture[:, 8 + 3 * side :] == colour).all(-1).sum() >= 100
    many = render.categorical(np.arange(100).reshape(10, 10), ["x" * 300] * 50)
    assert many.shape[0] < 400 and many.shape[1] < 700


def test_legend_colours_differ():
    colours = np.array([render._hue(i) for i in range(12)], float)
    apart = np.linalg.norm(colours[:, None] - colours, axis=-1) + 1e9 * np.eye(12)
    assert apart.min() > 40


def test_heat_figure():
    values = np.array([[0.0, 1.0], [2.0, 4.0]])
    picture = render.heat_figure(values, colour_bar=False, colormap="grey")
    assert picture.shape == (276, 276, 3)
    assert picture[[74, 74, 202, 202], [74, 202, 74, 202], 0].tolist() == [0, 64, 128, 255]
    titled = render.heat_figure(values - 1, ["Title", "more"], signed=True)
    assert titled.shape[0] > 276 and titled.shape[1] > 276


def test_shorten():
    assert render.shorten("short", 200) == "short"
    cut = render.shorten("a long name that does not fit", 80)
    assert cut.endswith("…") and cut.startswith("a long") and image.text_size(cut)[0] <= 80
