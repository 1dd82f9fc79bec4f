"""Results as pictures: uint8 (H, W, 3) RGB arrays on white, put together from rows and columns.

Small photos are enlarged before anything is drawn on them, so that a result for 32x32 pixels can be seen.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_inspect import image
from onnx_inspect.errors import InputError, ResultError
from onnx_inspect.image import Colormap, Picture

INK, FAINT, ACCENT = (32, 32, 32), (225, 225, 225), (66, 114, 181)
SMALLEST = 256
"""Pixels of the longer side that photos and maps are enlarged to at least."""


def limits(
    values: NDArray[Any],
    signed: bool = False,
    percentile: float | None = None,
    where: NDArray[np.bool_] | None = None,
) -> tuple[float, float]:
    """The (low, high) that ``normalise`` sends to the ends of its range, for the same arguments."""
    data = _floats(values)
    if data.size and not np.isfinite((data.min(), data.max())).all():
        raise ResultError("The map has values that are not finite and cannot be drawn. Check the model.")
    seen = data.ravel() if where is None else data[where]
    if not seen.size:
        return 0.0, 0.0
    low, high = float(seen.min()), float(seen.max())
    if signed:
        end = max(-low, high) if percentile is None else float(np.percentile(abs(seen), percentile))
        end = end or max(-low, high)
        return -end, end
    if percentile is None:
        return low, high
    inner_low, inner_high = (float(end) for end in np.percentile(seen, (100 - percentile, percentile)))
    return (inner_low, inner_high) if inner_high > inner_low else (low, high)


def _floats(values: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(values, np.result_type(values, np.float32))


def normalise(
    values: NDArray[Any],
    signed: bool = False,
    percentile: float | None = None,
    where: NDArray[np.bool_] | None = None,
) -> NDArray[np.float32]:
    """``values`` as float32 in [0, 1], or when signed in [-1, 1] around zero; a constant map becomes zeros.

    The ends are the extremes or, with ``percentile`` (99, say), that percentile and its mirror image, beyond
    which values are clipped. ``where`` restricts what counts. ResultError for NaN and infinity.
    """
    low, high = limits(values, signed, percentile, where)
    data = _floats(values)
    # What is left of a constant after float32 arithmetic is no pattern.
    if high - low <= 1e-6 * max(abs(low), abs(high)) or high - low < 1e-300:
        return np.zeros(data.shape, np.float32)
    scaled = data / high if signed else (data - low) / (high - low)
    return np.asarray(scaled.clip(-1 if signed else 0, 1), np.float32)


def overlay(
    photo: Picture,
    values: NDArray[Any],
    *,
    alpha: float = 0.5,
    colormap: Colormap | None = None,
    signed: bool = False,
    percentile: float | None = None,
    seen: NDArray[np.bool_] | None = None,
) -> Picture:
    """A heat map (H, W) in the photo's coordinates over the photo, normalised; small ones come out enlarged.

    ``colormap`` is "jet", or "coolwarm" when signed: then it is the more opaque the further from zero.
    Outside ``seen``, bool (H, W), the photo is dimmed and not coloured.
    """
    if values.shape != photo.shape[:2]:
        raise InputError(
            f"The map is {values.shape}, the photo {photo.shape[:2]}: bring it there by Geometry.to_photo."
        )
    heat = normalise(values, signed, percentile, seen)
    mask = np.ones(heat.shape, np.float32) if seen is None else seen.astype(np.float32)
    photo = _enlarge(photo)
    size = photo.shape[:2]
    heat, mask = image.resize(heat, size, "linear"), image.resize(mask, size, "nearest")
    colours = image.colormap(heat, colormap or ("coolwarm" if signed else "jet"))
    opaque = np.minimum(1, 1.6 * alpha * np.sqrt(abs(heat))) if signed else np.full(size, alpha)
    coloured = image.blend(photo, colours, opaque)
    dimmed = image.blend(photo, np.full_like(photo, 255), 0.65)
    return np.where(mask[..., None] > 0, coloured, dimmed)


def panel(
    photo: Picture,
    values: NDArray[Any],
    *,
    title: str | Sequence[str] = (),
    top: Sequence[tuple[str, float]] = (),
    height: int = 360,
    alpha: float = 0.5,
    colormap: Colormap | None = None,
    signed: bool = False,
    percentile: float | None = None,
    seen: NDArray[np.bool_] | None = None,
) -> Picture:
    """Photo, its overlay with a colour bar, and the probabilities ``top`` as bars, in a row under a title.

    The first line of ``title`` is the largest. The photos become ``height`` pixels high, wide ones less; the
    rest is as for ``overlay``.
    """
    colours: Colormap = colormap or ("coolwarm" if signed else "jet")
    heat = overlay(
        photo, values, alpha=alpha, colormap=colours, signed=signed, percentile=percentile, seen=seen
    )
    share = min(height / photo.shape[0], 1.6 * height / photo.shape[1])
    height, width = (max(96, round(side * share)) for side in photo.shape[:2])
    bar = colour_bar(height, limits(values, signed, percentile, seen), colours)
    parts = [_fit(photo, height, width), row([_fit(heat, height, width), bar], 6)]
    size = max(13, height // 24)
    if top:
        parts.append(bars(top, min(max(220, width * 3 // 4), 340), size, height))
    return _frame(_titled(row(parts, 16), title, size + 3), 12)


def bars(
    top: Sequence[tuple[str, float]], width: int = 260, size: int = 15, height: int | None = None
) -> Picture:
    """Names with percentages, each over its bar, for probabilities in [0, 1]; ``height`` pixels or more."""
    lines = []
    for i, (name, probability) in enumerate(top):
        percent = f"{100 * probability:.1f} %"
        room = image.text_size(percent, size)[0] + size
        strip = row([_line(name, width - room, size), _line(percent, room, size, "right")], 0)
        gauge = np.full((max(5, size // 2), width, 3), FAINT, np.uint8)
        gauge[:, : round(width * min(max(probability, 0), 1))] = ACCENT if i == 0 else (150, 170, 200)
        lines.append(column([strip, gauge], 2))
    block = column(lines, size * 3 // 4)
    return _pad(block, max(height or 0, block.shape[0]), width)


def heat_figure(
    values: NDArray[Any],
    title: str | Sequence[str] = (),
    colour_bar: bool = True,
    *,
    signed: bool = False,
    colormap: Colormap | None = None,
    percentile: float | None = None,
) -> Picture:
    """A map (h, w) on its own, each cell a square, with a title and a colour bar with numbers at its ends."""
    colours = colormap or ("coolwarm" if signed else "viridis")
    picture = _enlarge(image.colormap(normalise(values, signed, percentile), colours))
    if colour_bar:
        picture = row([picture, _bar(picture.shape[0], limits(values, signed, percentile), colours)], 8)
    return _frame(_titled(picture, title, max(14, picture.shape[0] // 24)), 10)


def colour_bar(height: int, ends: tuple[float, float], colormap: Colormap = "jet") -> Picture:
    """A bar of all colours, the greatest above, with the numbers ``ends`` (low, high) at its ends."""
    size = max(11, min(16, height // 20))
    low = -1.0 if colormap == "coolwarm" else 0.0
    ramp = np.repeat(np.linspace(1, low, height)[:, None], max(10, height // 24), axis=1)
    names = _numbers(*ends)
    width = max(image.text_size(name, size)[0] for name in names) + 2
    low_line, high_line = (_line(name, width, size) for name in names)
    between = np.full((max(0, height - low_line.shape[0] - high_line.shape[0]), width, 3), 255, np.uint8)
    return row([image.colormap(ramp, colormap), column([high_line, between, low_line], 0)], 4)


_bar = colour_bar  # heat_figure has a parameter of that name


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
    cells = [_pad(_fit(tile, height, width), height, width, background, centre=True) for tile in tiles]
    if titles is not None:
        size = max(11, min(18, width // 12))
        heads = [_line(title, width, size, background=background) for title in titles]
        cells = [column([head, cell], 0) for head, cell in zip(heads, cells, strict=True)]
    rows = [row(cells[i : i + columns], gap, background) for i in range(0, len(cells), columns)]
    return column(rows, gap, background)


def feature_grid(
    maps: NDArray[Any],
    limit: int = 64,
    *,
    signed: bool = False,
    colormap: Colormap | None = None,
    names: Sequence[str] | None = None,
    columns: int | None = None,
    smallest: int = 72,
) -> Picture:
    """The first ``limit`` of the maps (C, h, w), each normalised on its own, its index or name above it."""
    colours = colormap or ("coolwarm" if signed else "viridis")
    tiles = [_enlarge(image.colormap(normalise(m, signed), colours), smallest) for m in maps[:limit]]
    titles = [str(i) for i in range(len(tiles))] if names is None else list(names[:limit])
    note = f"{limit} of {len(maps)} channels" if len(maps) > limit else ()
    return _frame(_titled(grid(tiles, columns, titles), note, 14), 6)


def contact_sheet(
    rows: Sequence[Sequence[Picture]],
    row_titles: Sequence[str] | None = None,
    column_titles: Sequence[str] | None = None,
    gap: int = 6,
) -> Picture:
    """Rows of pictures, one per photo, say, in a table with titles above the columns and left of the rows."""
    tiles = [tile for line in rows for tile in line]
    if not tiles:
        raise ResultError("There is nothing to draw: the contact sheet has no pictures.")
    height, width = (max(tile.shape[axis] for tile in tiles) for axis in (0, 1))
    size = max(12, min(20, width // 14))
    margin = 0
    if row_titles is not None:
        margin = min(max(image.text_size(name, size)[0] for name in row_titles) + size, width)
    lines = []
    if column_titles is not None:
        heads = [_line(name, width, size, "centre") for name in column_titles]
        lines.append(row([np.full((1, margin, 3), 255, np.uint8), *heads] if margin else heads, gap))
    for i, line in enumerate(rows):
        cells = [_pad(_fit(tile, height, width), height, width, centre=True) for tile in line]
        if row_titles is not None:
            cells = [_pad(_line(row_titles[i], margin, size), height, margin, centre=True), *cells]
        lines.append(row(cells, gap))
    return _frame(column(lines, gap), 8)


def box(
    canvas: Picture,
    corners: Sequence[float],
    colour: tuple[int, int, int] = (230, 30, 30),
    label: str | None = None,
) -> Picture:
    """A copy of ``canvas`` with the frame of the box (x0, y0, x1, y1) in pixels, and its label."""
    out = canvas.copy()
    height, width = out.shape[:2]
    thick = max(1, round(max(height, width) / 250))
    x0, x1 = (round(min(max(x, 0), width)) for x in corners[::2])
    y0, y1 = (round(min(max(y, 0), height)) for y in corners[1::2])
    inside = out[y0 + thick : y1 - thick, x0 + thick : x1 - thick].copy()
    out[y0:y1, x0:x1] = colour
    out[y0 + thick : y0 + thick + inside.shape[0], x0 + thick : x0 + thick + inside.shape[1]] = inside
    if label:
        size = max(11, min(22, max(height, width) // 28))
        w, h = image.text_size(label, size)
        tag = np.full((h, w + 6, 3), colour, np.uint8)
        bright = float(np.dot(colour, (0.299, 0.587, 0.114)))
        image.text(tag, label, (3, 0), size, (0, 0, 0) if bright > 150 else (255, 255, 255))
        top = y0 - h if y0 >= h else y0
        left = max(0, min(x0, width - tag.shape[1]))
        place = out[top : top + h, left : left + tag.shape[1]]
        place[:] = tag[: place.shape[0], : place.shape[1]]
    return out


def categorical(
    index_map: NDArray[Any], names: Sequence[str] | Mapping[int, str] = (), limit: int = 12
) -> Picture:
    """A map (h, w) of class indices, one colour per class, with a legend of the ``limit`` largest."""
    classes, places, counts = np.unique(index_map, return_inverse=True, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    palette = np.full((len(classes), 3), 200, np.uint8)
    palette[order[:limit]] = [_hue(i) for i in range(min(limit, len(classes)))]
    picture = _enlarge(palette[places.reshape(index_map.shape)])
    size = max(13, picture.shape[0] // 24)
    known = dict(names if isinstance(names, Mapping) else enumerate(names))
    lines = []
    for i in order[:limit]:
        swatch = np.full((size, size, 3), palette[i], np.uint8)
        name = f"{100 * counts[i] / counts.sum():.0f} %  {known.get(int(classes[i]), f'class {classes[i]}')}"
        lines.append(row([swatch, _line(name, min(280, image.text_size(name, size)[0] + 4), size)], 6))
    if len(classes) > limit:
        lines.append(_line(f"and {len(classes) - limit} more", 160, size))
    return _frame(row([picture, column(lines, size // 3)], 12), 8)


def row(pictures: Sequence[Picture], gap: int = 8, background: int = 255) -> Picture:
    """Pictures side by side, their tops on one line, ``gap`` pixels apart."""
    height = max(picture.shape[0] for picture in pictures)
    space = np.full((height, gap, 3), background, np.uint8)
    parts = [part for p in pictures for part in (space, _pad(p, height, p.shape[1], background))]
    return np.concatenate(parts[1:], axis=1)


def column(pictures: Sequence[Picture], gap: int = 8, background: int = 255) -> Picture:
    """Pictures one below the other, their left sides on one line, ``gap`` pixels apart."""
    return row([p.swapaxes(0, 1) for p in pictures], gap, background).swapaxes(0, 1).copy()


def shorten(string: str, width: int, size: int = 14) -> str:
    """``string``, or as much of it as fits into ``width`` pixels with an ellipsis behind."""
    if image.text_size(string, size)[0] <= width:
        return string
    keep = len(string)
    while keep and image.text_size(string[:keep].rstrip() + "…", size)[0] > width:
        keep -= 1
    return string[:keep].rstrip() + "…"


def _line(string: str, width: int, size: int, align: str = "left", background: int = 255) -> Picture:
    string = shorten(string, width, size)
    used, height = image.text_size(string, size)
    strip = np.full((height, width, 3), background, np.uint8)
    x = {"left": 0, "centre": (width - used) // 2, "right": width - used}[align]
    image.text(strip, string, (max(0, x), 0), size, INK if background > 127 else (235, 235, 235))
    return strip


def _titled(picture: Picture, title: str | Sequence[str], size: int) -> Picture:
    lines = [title] if isinstance(title, str) else list(title)
    width = picture.shape[1]
    heads = [_line(line, width, size if i == 0 else max(12, size - 3)) for i, line in enumerate(lines)]
    return column([column(heads, 2), picture], 8) if heads else picture


def _enlarge(picture: Picture, smallest: int = SMALLEST) -> Picture:
    """By a whole number, so that pixels stay squares, to ``smallest`` on the longer side or more."""
    times = math.ceil(smallest / max(picture.shape[:2]))
    return np.repeat(np.repeat(picture, times, axis=0), times, axis=1) if times > 1 else picture


def _fit(picture: Picture, height: int, width: int) -> Picture:
    """As large as fits into (height, width), in shape; grown pixels stay squares when much grown."""
    share = min(height / picture.shape[0], width / picture.shape[1])
    size = max(1, round(picture.shape[0] * share)), max(1, round(picture.shape[1] * share))
    return np.asarray(image.resize(picture, size, "nearest" if share >= 3 else "auto"), np.uint8)


def _pad(picture: Picture, height: int, width: int, background: int = 255, centre: bool = False) -> Picture:
    out = np.full((height, width, 3), background, np.uint8)
    h, w = picture.shape[:2]
    top, left = ((height - h) // 2, (width - w) // 2) if centre else (0, 0)
    out[top : top + h, left : left + w] = picture
    return out


def _frame(picture: Picture, margin: int) -> Picture:
    height, width = picture.shape[:2]
    return _pad(picture, height + 2 * margin, width + 2 * margin, centre=True)


def _numbers(low: float, high: float) -> list[str]:
    """Both to three digits of the larger one: 0.0003 beside 0.951 says no more than 0."""
    digits = 2 - math.floor(math.log10(max(abs(low), abs(high)) or 1))
    return [f"{round(end, digits) + 0.0:.3g}".replace("-", "\u2212") for end in (low, high)]


def _hue(index: int) -> tuple[int, int, int]:
    """Colours far apart from their neighbours: steps of the golden angle, in turn light and dark."""
    turn, strong = index * 0.618034 % 1 * 6, (0.62, 0.85, 0.45)[index % 3]
    light = (235, 190, 150)[index // 3 % 3]
    channels = [light * (1 - strong * min(max(abs((turn + k) % 6 - 3) - 1, 0), 1)) for k in (3, 5, 1)]
    return round(channels[0]), round(channels[1]), round(channels[2])
