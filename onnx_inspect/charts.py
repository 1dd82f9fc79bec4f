"""Charts as pictures, and the only user of Matplotlib: curves, bars, points with thumbnails, tables of numbers."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .image import Picture, escaped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 100
Draw = Callable[["Axes"], None]


def figure(
    draw: Sequence[Draw], size: tuple[int, int] = (560, 400), title: str = "", columns: int | None = None
) -> Picture:
    """Charts side by side in one picture, each ``size`` (width, height) pixels: what the functions below draw.

    ``columns`` of them stand in a row, all by default; ``title`` is above them all.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = columns or len(draw)
    rows = -(-len(draw) // columns)
    width, height = size[0] * columns, size[1] * rows + (30 if title else 0)
    made: Figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, layout="constrained")
    canvas: Any = FigureCanvasAgg(made)
    axes = np.atleast_1d(made.subplots(rows, columns)).ravel()
    for ax, one in zip(axes, draw, strict=False):
        one(ax)
    for ax in axes[len(draw) :]:
        ax.set_axis_off()
    if title:
        made.suptitle(shortened(title, width // 9), fontsize=12)
    with warnings.catch_warnings():  # of letters that the font lacks
        warnings.simplefilter("ignore")
        logging.getLogger("matplotlib").setLevel(logging.ERROR)
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def curves(
    x: Sequence[float],
    series: Mapping[str, Sequence[float]],
    *,
    title: str = "",
    xlabel: str = "",
    ylabel: str = "",
    ticks: Sequence[str] | None = None,
    limits: tuple[float, float] | None = None,
    spread: Mapping[str, Sequence[float]] | None = None,
    levels: Mapping[str, float] | None = None,
    legend: bool = True,
) -> Draw:
    """A line per name over the same x, with a legend; ``ticks`` are names for the places on the x axis.

    ``spread`` is half the width of a band around the line of that name; ``levels`` are values to compare with.
    """

    def draw(ax: Axes) -> None:
        for i, (name, y) in enumerate(series.items()):
            marker = "." if len(x) < 60 else ""
            ax.plot(x, y, marker=marker, color=colour(i), label=_entry(name), linewidth=1.5)
            if spread is not None and name in spread:
                band = np.asarray(spread[name], np.float64)
                ax.fill_between(x, np.subtract(y, band), np.add(y, band), color=colour(i), alpha=0.15, linewidth=0)
        for name, level in (levels or {}).items():
            ax.axhline(level, color="#444444", linestyle="--", linewidth=1, label=_entry(name))
        _dress(ax, title, xlabel, ylabel)
        if ticks is not None:
            ax.set_xticks(list(x), [shortened(t) for t in ticks], rotation=60, ha="right", fontsize=8)
        if limits is not None:
            ax.set_ylim(*limits)
        if legend and 1 < len(series) + len(levels or ()) <= 20:
            ax.legend(fontsize=8, frameon=False)

    return draw


def bars(
    values: Mapping[str, float] | Sequence[tuple[str, float]],
    *,
    errors: Sequence[float] = (),
    kinds: Sequence[str] = (),
    title: str = "",
    xlabel: str = "",
    line: float | None = None,
) -> Draw:
    """A horizontal bar per name, the first on top; ``line`` marks a value to compare with. Pairs may share a name.

    ``errors`` are drawn as whiskers of that length to both sides; ``kinds``, one per bar, have a colour each.
    """

    def draw(ax: Axes) -> None:
        pairs = list(values.items() if isinstance(values, Mapping) else values)
        names = [shortened(name, 32) for name, _ in pairs]
        tint = {kind: colour(i) for i, kind in enumerate(dict.fromkeys(kinds))}
        colours = [tint[kind] for kind in kinds] or colour(0)
        whiskers = dict(ecolor="#444444", error_kw={"elinewidth": 1}, xerr=list(errors)) if len(errors) else {}
        ax.barh(range(len(names)), [value for _, value in pairs], color=colours, **whiskers)  # type: ignore[arg-type]
        for kind in tint:
            ax.scatter([], [], marker="s", s=30, c=tint[kind], label=_entry(kind))
        ax.set_yticks(range(len(names)), names, fontsize=8)
        ax.invert_yaxis()
        if line is not None:
            ax.axvline(line, color="black", linewidth=1, linestyle=":")
        _dress(ax, title, xlabel, "")
        if tint:  # between title and bars, wherever that ends
            ax.set_title(plain(title), fontsize=10, pad=22)
            key = ax.legend(fontsize=8, frameon=False, ncols=len(tint), loc="lower left", bbox_to_anchor=(0, 1))
            key.set_in_layout(False)
        ax.grid(visible=False, axis="y")

    return draw


def histogram(values: NDArray[Any], *, bins: int = 40, title: str = "", xlabel: str = "", ylabel: str = "") -> Draw:
    """How often which value comes; NaN and infinity are left out."""

    def draw(ax: Axes) -> None:
        found = np.asarray(values, np.float64)
        found = found[np.isfinite(found)]
        apart = found.size and np.ptp(found) > 1e-9 * abs(found).max()  # else there is no room for bins
        ax.hist(found, bins=bins if apart else 1, color=colour(0))
        _dress(ax, title, xlabel, ylabel)

    return draw


def points(
    xy: NDArray[Any],
    groups: Sequence[str | None] = (),
    thumbnails: Mapping[int, Picture] | None = None,
    *,
    title: str = "",
    xlabel: str = "",
    ylabel: str = "",
) -> Draw:
    """Points (N, 2), coloured by group; some are shown as thumbnails with a frame of that colour."""

    def draw(ax: Axes) -> None:
        from matplotlib.offsetbox import AnnotationBbox, OffsetImage

        kinds = sorted({g for g in groups if g})
        tint = {g: colour(i) for i, g in enumerate(kinds)}
        colours = [tint.get(group or "", "#888888") for group in (groups or [None] * len(xy))]
        ax.scatter(xy[:, 0], xy[:, 1], c=colours, s=14 if len(xy) < 2000 else 4, linewidths=0)
        for i, picture in (thumbnails or {}).items():
            box = AnnotationBbox(
                OffsetImage(picture, zoom=1), tuple(xy[i]), pad=0.1, bboxprops=dict(edgecolor=colours[i], linewidth=2)
            )
            ax.add_artist(box)
        for kind in kinds[:20]:
            ax.scatter([], [], c=tint[kind], s=30, label=_entry(kind))
        if kinds:
            ax.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
        _dress(ax, title, xlabel, ylabel)
        ax.set_xticks([])
        ax.set_yticks([])

    return draw


def table(
    values: NDArray[Any],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    title: str = "",
    limits: tuple[float, float] | None = None,
    form: str = "{:.2f}",
) -> Draw:
    """A matrix as colours with its numbers in them; NaN stays empty."""

    def draw(ax: Axes) -> None:
        found = np.asarray(values, np.float64)
        known = found[np.isfinite(found)]
        low, high = limits or ((float(known.min()), float(known.max())) if known.size else (0, 1))
        ax.imshow(found, cmap="viridis", vmin=low, vmax=high, aspect="auto")
        for (i, j), value in np.ndenumerate(found):
            if np.isfinite(value):
                ink = "white" if value < low + 0.6 * (high - low) else "black"
                ax.text(j, i, form.format(value), ha="center", va="center", fontsize=7, color=ink)
        ax.set_yticks(range(len(rows)), [shortened(r, 28) for r in rows], fontsize=8)
        ax.set_xticks(range(len(columns)), [shortened(c) for c in columns], rotation=45, ha="right", fontsize=8)
        ax.set_title(plain(title), fontsize=10)

    return draw


def colour(i: int) -> str:
    """Colours that are told apart: ten of one kind, then ten others."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return to_hex(colormaps["tab10"](i % 10) if i % 20 < 10 else colormaps["Set2"](i % 8))


def plain(text: str) -> str:
    """Text as it is: Matplotlib would read formulas between dollars, and names are somebody else's."""
    return _lettered(text).replace("$", r"\$")


def shortened(text: str, most: int = 22) -> str:
    """The end of a long name: that is where layers differ."""
    line = _lettered(text)
    return plain(line if len(line) <= most else "…" + line[-most + 1 :])


def _lettered(text: str) -> str:
    """A line of letters; those that the font lacks as their numbers, not as boxes that are all alike."""
    line = "".join(c if c.isprintable() else " " for c in text.encode("utf-8", "replace").decode())
    return "".join(c if c.isascii() or _font().get_char_index(ord(c)) else escaped(c) for c in line)


@cache
def _font() -> Any:
    from matplotlib import font_manager

    return font_manager.get_font(font_manager.findfont(font_manager.FontProperties()))


def _entry(name: str) -> str:
    """A name in a legend, from which Matplotlib leaves out what begins with an underscore."""
    text = shortened(name, 28)
    return f" {text}" if text.startswith("_") else text


def _dress(ax: Axes, title: str, xlabel: str, ylabel: str) -> None:
    ax.set_title(plain(title), fontsize=10)
    ax.set_xlabel(plain(xlabel), fontsize=9)
    ax.set_ylabel(plain(ylabel), fontsize=9)
    ax.tick_params(labelsize=8)
    ax.grid(visible=True, alpha=0.25)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
