"""Charts: what is drawn of names and numbers that are odd."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.typing import NDArray

from onnx_inspect import charts

NAN, INF = float("nan"), float("inf")


def drawn(draw: charts.Draw) -> Any:
    ax = Figure().subplots()
    draw(ax)
    return ax


def legend(draw: charts.Draw) -> list[str]:
    return [text.get_text() for text in drawn(draw).get_legend().get_texts()]


def test_a_legend_names_everything() -> None:
    """Matplotlib leaves out what begins with an underscore, as cameras name photos."""
    long = "x" * 90
    assert legend(charts.curves([1, 2], {"_DSC1": [1, 2], "$a$": [2, 1], long: [1, 1]})) == [
        " _DSC1",
        r"\$a\$",
        "…" + "x" * 27,
    ]
    assert legend(charts.bars({"a": 1, "b": 2}, kinds=["_k", "other"])) == [" _k", "other"]
    assert legend(charts.points(np.zeros((2, 2)), ["_a", "b"])) == [" _a", "b"]


def test_bars_may_share_a_name() -> None:
    ax = drawn(charts.bars([("a", 1), ("a", 2)], errors=[0, 1], kinds=["x", "y"]))
    assert [p.get_width() for p in ax.patches] == [1, 2]


@pytest.mark.parametrize("values", [[], [NAN], [INF, 1, 2], [1, 1 - 1e-16], [0, 0, 0], [1e30, 1e30 + 1e14]], ids=str)
def test_a_histogram_of_anything(values: list[float]) -> None:
    ax = drawn(charts.histogram(np.array(values)))
    assert sum(p.get_height() for p in ax.patches) == np.isfinite(values).sum()


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("values", [np.full((2, 2), NAN), np.zeros((0, 0)), np.ones((1, 1)), np.array([[NAN, INF, 1]])])
def test_a_table_of_anything(values: NDArray[Any]) -> None:
    ax = drawn(charts.table(values, ["r"] * values.shape[0], ["c"] * values.shape[1]))
    assert len(ax.texts) == np.isfinite(values).sum()


@pytest.mark.parametrize(
    "draw",
    [
        lambda title: charts.figure([charts.bars({"a": 1})], title=title),
        lambda title: charts.figure([charts.curves([], {"a": []})], title=title),
    ],
)
def test_a_title_is_not_cut_off(draw: Callable[[str], NDArray[np.uint8]]) -> None:
    made = draw("Model_name $\n title " * 30)
    ink = (made[:28] < 128).all(axis=2).any(axis=0)
    assert ink.any()
    assert not ink[:3].any()
    assert not ink[-3:].any()


def test_letters_without_a_glyph_are_told_by_their_numbers() -> None:
    assert charts.plain("возраст 金魚 $x$") == r"возраст \u91d1\u9b5a \$x\$"
    assert charts.shortened("金" * 9, 13) == r"…\u91d1\u91d1"
    assert charts.shortened("$" * 9, 5) == "…" + r"\$" * 4
