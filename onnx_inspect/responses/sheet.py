"""Drawing what units respond to: a tile per place, framed by its receptive field; blocks of grids; pages of blocks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .. import layout
from ..image import Picture

TILE = 80
GREY = 128
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Frame:
    """A receptive field as a tile of fixed shape: grey where it leaves the model's input.

    Attributes:
        full: (height, width) of a field that lies inside, in pixels of the input.
        extent: (height, width) of the input.
        box: (x0, y0, x1, y1), what of this field lies in the input.
        size: of the tile's longer side, in pixels.
    """

    full: tuple[int, int]
    extent: tuple[int, int]
    box: tuple[int, int, int, int]
    size: int = TILE

    @property
    def scale(self) -> float:
        """Pixels of the tile per pixel of the input."""
        return self.size / max(self.full)

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) of the tile."""
        return max(1, round(self.full[0] * self.scale)), max(1, round(self.full[1] * self.scale))

    @property
    def corner(self) -> tuple[float, float]:
        """(x, y) of the tile's first corner, in pixels of the input."""
        x0, y0, x1, y1 = self.box
        return (
            x0 - _missing(x0, x1, self.full[1], self.extent[1]),
            y0 - _missing(y0, y1, self.full[0], self.extent[0]),
        )

    def place(self, content: Picture, part: Box) -> Picture:
        """A picture of a part (x0, y0, x1, y1) of the input, where it belongs in the tile."""
        height, width = self.shape
        tile = np.full((height, width, 3), GREY, np.uint8)
        (left, right), (top, bottom) = (
            _span(part[axis], part[axis + 2], self.corner[axis], self.scale, length)
            for axis, length in ((0, width), (1, height))
        )
        if content.size:
            tile[top:bottom, left:right] = layout.stretch(content, bottom - top, right - left)
        return tile


def _missing(start: int, stop: int, full: int, extent: int) -> float:
    """How much a field lacks before its start: it was cut where it touches an end of the input."""
    lacking = max(0, full - (stop - start))
    if (start == 0) == (stop == extent):
        return lacking / 2
    return lacking if start == 0 else 0


def _span(start: float, stop: float, corner: float, scale: float, length: int) -> tuple[int, int]:
    """An interval of the input in pixels of the tile, at least one of them."""
    first = min(max(round((start - corner) * scale), 0), length - 1)
    return first, min(max(round((stop - corner) * scale), first + 1), length)


def block(title: Sequence[str], grids: Sequence[Sequence[Picture]], count: int, shape: tuple[int, int]) -> Picture:
    """The grids of a unit side by side under its title, each with room for so many tiles of a shape."""
    columns = math.ceil(math.sqrt(count))
    blank = np.full((*shape, 3), 255, np.uint8)
    parts = [layout.grid([*tiles, *[blank] * (count - len(tiles))], columns, gap=2) for tiles in grids]
    return layout.titled(layout.row(parts, 8), title, 15)


def page(blocks: Sequence[Picture], heads: Sequence[str], title: str, columns: int = 2) -> Picture:
    """Blocks in columns, with heads above their grids."""
    columns = min(columns, len(blocks))
    width = (blocks[0].shape[1] - 8 * (len(heads) - 1)) // len(heads)
    head = layout.row([layout.line(text, width, 13) for text in heads], 8)
    parts = [layout.column([head, *blocks[i::columns]], 14) for i in range(columns)]
    return layout.frame(layout.titled(layout.row(parts, 28), title, 18), 14)
