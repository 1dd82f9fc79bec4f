"""A map of photos as one HTML page that needs nothing else: points, thumbnails, names."""

from __future__ import annotations

import base64
import html
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import image, layout
from ..image import Picture
from ..photos.stream import ordered
from ..providers import cores

_SIDE = 96  # of thumbnails
_COLUMNS = 16  # of a sprite, and rows
_PIXELS = 48  # thumbnails of this side or less show single pixels
_GREY = "#888888"


@cache
def _template() -> Template:
    return Template(Path(__file__).with_name("atlas.html").read_text(encoding="utf-8"))


def page(
    title: str,
    points: NDArray[Any],
    classes: Sequence[str | None],
    kind: str,
    colours: Mapping[str, str],
    names: Sequence[str],
    held: Sequence[int],
    picture: Callable[[int], Picture],
    predictions: Sequence[str | None] = (),
) -> str:
    """The page. Names and titles may be anything: they are text and nothing else there.

    Args:
        title: stands above.
        points: (N, 2).
        classes: one per point.
        kind: what a class is called: "label" or "prediction".
        colours: of classes, "#rrggbb"; those of others are grey.
        names: of the photos.
        held: the points whose photos the page holds.
        picture: a photo by its number.
        predictions: a second name per point, for cards.
    """
    order = [name for name, _ in Counter(classes).most_common()]
    order.sort(key=lambda name: (name is None, name not in colours))
    rank = {name: i for i, name in enumerate(order)}
    counts = Counter(classes)
    thumbnails = {i: k for k, i in enumerate(held)}
    said = sorted({p or "" for p in predictions})
    which = {name: i for i, name in enumerate(said)}
    sprites, sizes, cell = _sprites(held, picture)
    rows = np.round(points.astype(np.float64), 4).tolist()
    data = {
        "kind": kind,
        "classes": [{"name": c or "none", "colour": colours.get(c or "", _GREY), "count": counts[c]} for c in order],
        "points": [
            [x, y, rank[classes[i]], thumbnails.get(i, -1), *([which[predictions[i] or ""]] if predictions else [])]
            for i, (x, y) in enumerate(rows)
        ],
        "names": list(names),
        "predictions": said,
        "sprites": sprites,
        "sizes": sizes,
        "cell": cell,
        "columns": _COLUMNS,
    }
    return _template().substitute(title=html.escape(title), data=embedded(data))


def embedded(data: Any) -> str:
    """JSON that cannot end the script element that it stands in, nor open a comment there."""
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _sprites(held: Sequence[int], picture: Callable[[int], Picture]) -> tuple[list[str], list[list[int]], int]:
    """Thumbnails in square pictures, as data URIs; the width and height of each; the side of a cell."""
    tiles = list(ordered(held, lambda i: _small(picture(i)), cores()))
    cell = max((max(tile.shape[:2]) for tile in tiles), default=_SIDE)
    each = _COLUMNS**2
    sheets = []
    for start in range(0, len(tiles), each):
        padded = [layout.pad(tile, cell, cell) for tile in tiles[start : start + each]]
        blank = [np.full((cell, cell, 3), 255, np.uint8)] * (-len(padded) % _COLUMNS)
        sheets.append(_uri(layout.grid(padded + blank, _COLUMNS, gap=0), small=cell <= _PIXELS))
    return sheets, [[tile.shape[1], tile.shape[0]] for tile in tiles], cell


def _small(picture: Picture) -> Picture:
    return layout.fit(picture, _SIDE, _SIDE) if max(picture.shape[:2]) > _SIDE else picture


def _uri(picture: Picture, small: bool) -> str:
    """A picture as text; where every pixel counts, without loss."""
    kind, data = ("png", image.encode_png(picture)) if small else ("jpeg", image.encode_jpeg(picture))
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
