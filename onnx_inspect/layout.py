"""Pictures put together on white: rows, columns, grids and tables, with titles, bars and lines of text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from . import image
from .errors import ResultError
from .image import Colormap, Picture

INK, FAINT, ACCENT = (32, 32, 32), (225, 225, 225), (66, 114, 181)


def row(pictures: Sequence[Picture], gap: int = 8, background: int = 255) -> Picture:
    """Pictures side by side, their tops on one line, ``gap`` pixels apart."""
    height = max(picture.shape[0] for picture in pictures)
    space = np.full((height, gap, 3), background, np.uint8)
    parts = [part for p in pictures for part in (space, pad(p, height, p.shape[1], background))]
    return np.concatenate(parts[1:], axis=1)


def column(pictures: Sequence[Picture], gap: int = 8, background: int = 255) -> Picture:
    """Pictures one below the other, their left sides on one line, ``gap`` pixels apart."""
    return row([p.swapaxes(0, 1) for p in pictures], gap, background).swapaxes(0, 1).copy()


def grid(
    tiles: Sequence[Picture],
    columns: int | None = None,
    titles: Sequence[str] | None = None,
    gap: int = 4,
    background: int = 255,
) -> Picture:
    """Tiles in rows of ``columns`` (about a square), each fitted into a cell as large as the largest side.

    ``titles`` stand above the tiles and are shortened to their width.
    """
    if not tiles:
        raise ResultError("There is nothing to draw: the grid has no tiles.")
    columns = columns or math.ceil(math.sqrt(len(tiles)))
    height, width = (max(tile.shape[axis] for tile in tiles) for axis in (0, 1))
    cells = [centred(tile, height, width, background) for tile in tiles]
    if titles is not None:
        size = max(11, min(18, width // 12))
        heads = [line(title, width, size, background=background) for title in titles]
        cells = [column([head, cell], 0) for head, cell in zip(heads, cells, strict=True)]
    rows = [row(cells[i : i + columns], gap, background) for i in range(0, len(cells), columns)]
    return column(rows, gap, background)


def contact_sheet(
    rows: Sequence[Sequence[Picture]],
    row_titles: Sequence[str] | None = None,
    column_titles: Sequence[str] | None = None,
    gap: int = 6,
) -> Picture:
    """Rows of pictures, one per photo, say, in a table with titles above the columns and left of the rows."""
    tiles = [tile for pictures in rows for tile in pictures]
    if not tiles:
        raise ResultError("There is nothing to draw: the contact sheet has no pictures.")
    height, width = (max(tile.shape[axis] for tile in tiles) for axis in (0, 1))
    size = max(12, min(20, width // 14))
    margin = 0
    if row_titles is not None:
        margin = min(max(image.text_size(name, size)[0] for name in row_titles) + size, width)
    table = []
    if column_titles is not None:
        heads = [line(name, width, size, "centre") for name in column_titles]
        table.append(row([np.full((1, margin, 3), 255, np.uint8), *heads] if margin else heads, gap))
    for i, pictures in enumerate(rows):
        cells = [centred(tile, height, width) for tile in pictures]
        if row_titles is not None:
            cells = [pad(line(row_titles[i], margin, size), height, margin, centre=True), *cells]
        table.append(row(cells, gap))
    return frame(column(table, gap), 8)


def figure(
    tiles: Sequence[Picture], captions: Sequence[str], title: str | Sequence[str] = (), size: int = 15
) -> Picture:
    """Tiles side by side, their captions on one line above, all under a title.

    A caption starts where its tile does and is shortened to the tile's width; letters are ``size`` pixels.
    """
    parts = [
        column([line(caption, tile.shape[1], size), tile], size // 3)
        for tile, caption in zip(tiles, captions, strict=True)
    ]
    return frame(titled(row(parts, size), title, size + 3), 12)


def titled(picture: Picture, title: str | Sequence[str], size: int) -> Picture:
    """``picture`` under one or several lines, the first the largest, shortened to its width."""
    lines = [title] if isinstance(title, str) else list(title)
    width = picture.shape[1]
    heads = [line(text, width, max(12, size - 3) if i else size) for i, text in enumerate(lines)]
    return column([column(heads, 2), picture], 8) if heads else picture


def bars(top: Sequence[tuple[str, float]], width: int = 260, size: int = 15, height: int | None = None) -> Picture:
    """Names with percentages, each over its bar, for probabilities in [0, 1]; ``height`` pixels or more."""
    lines = []
    for i, (name, probability) in enumerate(top):
        percent = f"{100 * probability:.1f} %"
        room = image.text_size(percent, size)[0] + size
        strip = row([line(name, width - room, size), line(percent, room, size, "right")], 0)
        gauge = np.full((max(5, size // 2), width, 3), FAINT, np.uint8)
        gauge[:, : round(width * min(max(probability, 0), 1))] = ACCENT if i == 0 else (150, 170, 200)
        lines.append(column([strip, gauge], 2))
    block = column(lines, size * 3 // 4)
    return pad(block, max(height or 0, block.shape[0]), width)


def key(name: str, colour: tuple[int, int, int], size: int = 12, width: int = 240) -> Picture:
    """What a colour stands for: a square of it, and the name."""
    square = np.full((size, size, 3), colour, np.uint8)
    return row([square, line(name, min(width, image.text_size(name, size)[0] + 4), size)], size // 2)


def with_bar(picture: Picture, ends: tuple[float, float], colormap: Colormap) -> Picture:
    """``picture`` and to its right a colour bar of its height, for values from low to high."""
    return row([picture, colour_bar(picture.shape[0], ends, colormap)], 6)


def colour_bar(height: int, ends: tuple[float, float], colormap: Colormap = "jet") -> Picture:
    """A bar of all colours, the greatest above, with the numbers ``ends`` (low, high) at its ends."""
    size = max(11, min(16, height // 20))
    low = -1.0 if colormap == "coolwarm" else 0.0
    ramp = np.repeat(np.linspace(1, low, height)[:, None], max(10, height // 24), axis=1)
    names = _numbers(*ends)
    width = max(image.text_size(name, size)[0] for name in names) + 2
    low_line, high_line = (line(name, width, size) for name in names)
    between = np.full((max(0, height - low_line.shape[0] - high_line.shape[0]), width, 3), 255, np.uint8)
    return row([image.colormap(ramp, colormap), column([high_line, between, low_line], 0)], 4)


def _numbers(low: float, high: float) -> list[str]:
    """Both to three digits of the larger one: 0.0003 beside 0.951 says no more than 0."""
    digits = 2 - math.floor(math.log10(max(abs(low), abs(high)) or 1))
    return [f"{round(end, digits) + 0.0:.5g}".replace("-", "\u2212") for end in (low, high)]


def line(
    string: str,
    width: int,
    size: int,
    align: Literal["left", "centre", "right"] = "left",
    background: int = 255,
) -> Picture:
    """One line of letters, shortened to ``width`` pixels and as wide as that; pale ones on what is dark."""
    string = shorten(string, width, size)
    used, height = image.text_size(string, size)
    strip = np.full((height, width, 3), background, np.uint8)
    x = {"left": 0, "centre": (width - used) // 2, "right": width - used}[align]
    image.text(strip, string, (max(0, x), 0), size, INK if background > 127 else (235, 235, 235))
    return strip


def shorten(string: str, width: int, size: int = 14) -> str:
    """``string``, or as much of it as fits into ``width`` pixels with an ellipsis behind."""
    if image.text_size(string, size)[0] <= width:
        return string
    keep = len(string)
    while keep and image.text_size(string[:keep].rstrip() + "…", size)[0] > width:
        keep -= 1
    return string[:keep].rstrip() + "…"


def enlarge(picture: Picture, smallest: int = 256) -> Picture:
    """By a whole number, so that pixels stay squares, to ``smallest`` on the longer side or more."""
    times = math.ceil(smallest / max(picture.shape[:2]))
    return np.repeat(np.repeat(picture, times, axis=0), times, axis=1) if times > 1 else picture


def fit(picture: Picture, height: int, width: int) -> Picture:
    """As large as fits into (height, width), in shape."""
    share = min(height / picture.shape[0], width / picture.shape[1])
    return stretch(picture, *(max(1, round(side * share)) for side in picture.shape[:2]))


def centred(picture: Picture, height: int, width: int, background: int = 255) -> Picture:
    """``picture`` as large as fits, in the middle of a ground of (height, width)."""
    return pad(fit(picture, height, width), height, width, background, centre=True)


def stretch(picture: Picture, height: int, width: int) -> Picture:
    """``picture`` at (height, width); pixels grown to three times their size or more stay squares."""
    share = min(height / picture.shape[0], width / picture.shape[1])
    grown = image.resize(picture, (height, width), "nearest" if share >= 3 else "auto")
    return np.asarray(grown, np.uint8)


def pad(picture: Picture, height: int, width: int, background: int = 255, centre: bool = False) -> Picture:
    """``picture`` on a ground of (height, width), in its top left corner or its middle."""
    out = np.full((height, width, 3), background, np.uint8)
    h, w = picture.shape[:2]
    top, left = ((height - h) // 2, (width - w) // 2) if centre else (0, 0)
    out[top : top + h, left : left + w] = picture
    return out


def frame(picture: Picture, margin: int) -> Picture:
    """``picture`` with a white margin on all sides."""
    height, width = picture.shape[:2]
    return pad(picture, height + 2 * margin, width + 2 * margin, centre=True)
