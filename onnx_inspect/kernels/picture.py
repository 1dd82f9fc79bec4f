"""Kernels as a picture, with what was found out about them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import charts, image, layout
from ..image import Picture
from .checks import DOMINATING
from .weights import Kernels, sizes

WIDTH, HEIGHT, NARROW = 1160, 1000, 680  # pixels of the kernels, about
FRAMES = {  # the first that holds is drawn
    "dominating": (214, 39, 40),
    "dead": (40, 40, 40),
    "duplicates": (31, 119, 180),
}
_NAMES = {"dominating": "dominating", "dead": "dead", "duplicates": "near-duplicate, or negative"}
_TILES, _CELL, _FRAME = (48, 96), 14, 3  # pixels: tiles from and to, cells at least
_GROUND = (205, 220, 240)  # between kernels: neither white nor grey


def draw(found: Kernels, values: dict[str, Any], model: str) -> tuple[Picture, NDArray[np.float32]]:
    """The kernels under a title and over charts of their norms and spectra; and which are drawn."""
    frames = _frames(values)
    tiled = found.colours or found.values.shape[1] == 1
    grid, shown = _tiles(found, frames) if tiled else _table(found, frames)
    layer, name = values["layer"], values["layer"]["name"]
    (rows, columns), (units, channels) = shown.shape[:2], found.values.shape[:2]
    what = f"{_part(rows, units)} filters" if tiled else f"rows: {_part(rows, units)} filters"
    what += "" if tiled else f"; columns: {_part(columns, channels)} input channels"
    title = [
        f"{sizes(layer)}: {name if len(name) < 40 else '…' + name[-38:]} of {model}",
        f"{what}; grey is zero, each filter is scaled on its own",
    ]
    keys = [layout.key(_NAMES[k], c) for k, c in FRAMES.items() if c in frames.values()]
    parts = [*([layout.row(keys, 16)] if keys else []), grid]
    body = layout.column([*parts, _charts(values, max(grid.shape[1], NARROW))], 10)
    body = layout.pad(body, len(body), max(body.shape[1], NARROW))
    return layout.frame(layout.titled(body, title, 17), 12), shown


def _part(count: int, whole: int) -> str:
    return f"the first {count} of {whole}" if count < whole else f"all {whole}"


def _frames(values: dict[str, Any]) -> dict[int, tuple[int, int, int]]:
    """A colour for every filter that something is to be said of."""
    pairs = [k for pair in values["duplicates"] for k in (pair["a"], pair["b"])]
    found = {"dominating": values["dominating"], "dead": values["dead"], "duplicates": pairs}
    return {k: FRAMES[kind] for kind in reversed(FRAMES) for k in found[kind]}


def _scaled(found: Kernels, count: int) -> Picture:
    """The first kernels as pixels (units, channels, height, width): 128 is zero, the largest weight of each full."""
    kernels = found.values[:count]
    largest = np.abs(kernels).max(axis=(1, 2, 3), keepdims=True)
    floor = 0.01 * np.abs(found.values).max()  # what is dead stays grey
    return np.asarray(np.rint(128 + 127 * kernels / np.maximum(largest, floor or 1)), np.uint8)


def _tiles(found: Kernels, frames: dict[int, tuple[int, int, int]]) -> tuple[Picture, NDArray[np.float32]]:
    """A tile per unit, in order, in colour or grey."""
    units, _, height, width = found.values.shape
    side = int(np.clip(NARROW / np.ceil(np.sqrt(2 * units)) - 2 * _FRAME - 4, *_TILES))
    zoom = max(1, -(-side // max(height, width)))
    thick = max(zoom, _CELL // 2 if min(height, width) == 1 else 1)  # signals are strips
    zooms = (thick if height == 1 else zoom, thick if width == 1 else zoom)
    step = [side * z + 2 * _FRAME + 4 for side, z in zip((height, width), zooms, strict=True)]
    columns = max(1, min(WIDTH // max(step[1], 30), int(np.ceil(np.sqrt(2 * units * step[0] / step[1])))))
    count = min(units, columns * max(1, HEIGHT // (step[0] + 16)))
    tiles = []
    for k, pixels in enumerate(_scaled(found, count)):
        tile = np.broadcast_to(np.moveaxis(pixels, 0, -1), (height, width, 3))
        tile = np.repeat(np.repeat(tile, zooms[0], axis=0), zooms[1], axis=1)
        tiles.append(_framed(tile, frames.get(k)))
    return layout.grid(tiles, columns, [str(k) for k in range(count)]), found.values[:count]


def _framed(tile: Picture, colour: tuple[int, int, int] | None) -> Picture:
    height, width = tile.shape[:2]
    out = np.full((height + 2 * _FRAME, width + 2 * _FRAME, 3), colour or _GROUND, np.uint8)
    out[_FRAME:-_FRAME, _FRAME:-_FRAME] = tile
    return out


def _table(found: Kernels, frames: dict[int, tuple[int, int, int]]) -> tuple[Picture, NDArray[np.float32]]:
    """A row per unit and a column per channel, as many as can be made out."""
    units, channels, height, width = found.values.shape
    room = min((WIDTH // channels - 2) // width, (HEIGHT // units - 2) // height, 96 // max(height, width))
    least = -(-_CELL // min(height, width)) if max(height, width) < 4 * _CELL else 1
    zoom = max(1, least, room)
    step_y, step_x = height * zoom + 2, width * zoom + 2
    rows = min(units, max(1, HEIGHT // max(step_y, 16)))
    columns = min(channels, max(1, WIDTH // step_x))
    names = max(24, image.text_size(str(units), 11)[0] + 6)
    each = -(-30 // step_x)
    heads = [layout.line(str(c), each * step_x - 2, 11) for c in range(0, columns, each)]
    gutter = np.full((1, names + 8, 3), 255, np.uint8)
    lines = [layout.row([gutter, *heads], 2)]
    for k, kernels in enumerate(_scaled(found, rows)[:, :columns]):
        cells = np.repeat(np.repeat(kernels, zoom, axis=1), zoom, axis=2)
        strip = np.full((height * zoom, columns, step_x, 3), _GROUND, np.uint8)
        strip[:, :, :-2] = np.moveaxis(cells, 0, 1)[..., None]
        strip = strip.reshape(height * zoom, -1, 3)
        mark = np.full((len(strip), 6, 3), frames.get(k, (255, 255, 255)), np.uint8)
        lines.append(layout.row([layout.line(str(k), names, 11, "right"), mark, strip], 2))
    longest = max(line.shape[1] for line in lines)
    return layout.column([layout.pad(line, len(line), longest) for line in lines], 2), found.values[:rows, :columns]


def _charts(values: dict[str, Any], width: int) -> Picture:
    """Histograms of the norms and of what the spectra have above half of Nyquist."""
    of_all = values["filters"]
    bins = int(np.clip(len(of_all) // 2, 10, 40))
    limit, half = DOMINATING * values["norm"]["median"], (width // 2, 240)
    norms = charts.histogram(
        np.array([f["norm"] for f in of_all]),
        bins=bins,
        title="norm",
        xlabel=f"‖w‖; dotted: {DOMINATING:g} times the median",
        ylabel="filters",
    )
    shares = [100 * f["high_frequency"] for f in of_all if f["high_frequency"] is not None]
    if values["high_frequency"] is None or not shares:
        return charts.figure([_marked(norms, limit)], half)
    spectra = charts.histogram(
        np.array(shares),
        bins=bins,
        title="high frequencies",
        xlabel="% above half of Nyquist; dotted: white noise",
        ylabel="filters",
    )
    return charts.figure([_marked(norms, limit), _marked(spectra, 100 * values["high_frequency"]["white_noise"])], half)


def _marked(draw: charts.Draw, at: float) -> charts.Draw:
    """A chart with a dotted line across."""

    def both(ax: Any) -> None:
        draw(ax)
        ax.axvline(at, color="black", linewidth=1, linestyle=":")

    return both
