import numpy as np
import pytest

from onnx_inspect import image, layout
from onnx_inspect.errors import ResultError


def flat(height, width, value):
    return np.full((height, width, 3), value, np.uint8)


def test_grid_puts_tiles_in_order():
    tiles = [flat(10, 20, value) for value in (10, 20, 30, 40, 50)]
    out = layout.grid(tiles, columns=2, gap=4)
    assert out.shape == (3 * 10 + 2 * 4, 2 * 20 + 4, 3)
    for i, value in enumerate((10, 20, 30, 40, 50)):
        top, left = i // 2 * 14, i % 2 * 24
        assert (out[top : top + 10, left : left + 20] == value).all()
    assert (out[28:, 24:] == 255).all() and (out[10:14] == 255).all()
    assert (layout.grid(tiles, columns=2, background=0)[28:, 24:] == 0).all()


def test_grid_fits_tiles_of_other_sizes():
    out = layout.grid([flat(40, 60, 10), flat(10, 10, 20)], columns=2)
    assert out.shape == (40, 124, 3)
    assert (out[:, 64 + 10 : 64 + 50] == 20).all() and (out[:, 64:74] == 255).all()
    titled = layout.grid([flat(40, 60, 10)] * 2, columns=1, titles=["a", "a much longer title " * 4])
    assert titled.shape[1] == 60 and titled.shape[0] > 2 * 40 + 4 + 20
    with pytest.raises(ResultError, match="no tiles"):
        layout.grid([])


def test_contact_sheet_is_a_table():
    rows = [[flat(50, 60, 10), flat(50, 60, 20)], [flat(25, 30, 30)]]
    out = layout.contact_sheet(rows, gap=6)
    assert out.shape == (2 * 50 + 6 + 16, 2 * 60 + 6 + 16, 3)
    assert (out[8:58, 8:68] == 10).all() and (out[8:58, 74:134] == 20).all() and (out[64:114, 8:68] == 30).all()
    titled = layout.contact_sheet(rows, ["first", "a long name " * 9], ["photo", "map"])
    assert titled.shape[0] > out.shape[0] and out.shape[1] < titled.shape[1] <= out.shape[1] + 66
    with pytest.raises(ResultError):
        layout.contact_sheet([[]])


def test_shorten():
    assert layout.shorten("short", 200) == "short"
    cut = layout.shorten("a long name that does not fit", 80)
    assert cut.endswith("…") and cut.startswith("a long") and image.text_size(cut)[0] <= 80


def test_figure_lines_up_tiles_and_captions():
    tiles = [flat(100, 100, 10), flat(100, 60, 20), flat(100, 80, 30)]
    out = layout.figure(tiles, ["one", "a long caption " * 9, ""], ["title", "more"], size=15)
    top = (out == 10).all(-1).argmax(axis=0).max()
    assert out.shape == (top + 100 + 12, 12 + 100 + 15 + 60 + 15 + 80 + 12, 3)
    for left, width, value in ((12, 100, 10), (127, 60, 20), (202, 80, 30)):
        assert (out[top : top + 100, left : left + width] == value).all()
    assert (out[top - 24 : top, 112:127] == 255).all() and (out[top - 24 : top, 202:] == 255).all()
    assert (out[top - 24 : top, 12:40] < 100).any() and (out[top - 24 : top, 127:187] < 100).any()


def test_bars_are_as_long_as_the_probability():
    picture = layout.bars([("a", 0.25), ("b", 1.0), ("c", 0.0)], width=200)
    lengths = (picture == layout.ACCENT).all(-1).sum(1), (picture == (150, 170, 200)).all(-1).sum(1)
    assert lengths[0].max() == 50 and lengths[1].max() == 200


def test_colour_bar_runs_from_low_to_high():
    bar = layout.colour_bar(200, (-0.001234, 12.3456))
    np.testing.assert_array_equal(bar[[-1, 0], 0], image.colormap(np.array([0.0, 1.0])))
    assert (bar[:20, 14:] < 100).any() and (bar[-20:, 14:] < 100).any()
    other = layout.colour_bar(200, (3, 5))
    same = layout.colour_bar(200, (0, 5)) == other
    assert same[:20].all() and not same[-20:].all()
    assert layout._numbers(-0.001234, 12.3456) == ["0", "12.3"]
    assert layout._numbers(-4.5e-7, 4.5e-7) == ["−4.5e−07", "4.5e−07"]
    assert layout._numbers(0, 0) == ["0", "0"] and layout._numbers(123456.0, 0) == ["1.23e+05", "0"]
