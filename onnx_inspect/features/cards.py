"""A photo with lines of text beneath, framed in a colour."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .. import layout
from ..image import Picture

SIDE = 120
SAME, OTHER, PLAIN = (46, 139, 87), (200, 60, 50), (255, 255, 255)


def card(
    picture: Picture, lines: Sequence[str], side: int = SIDE, colour: tuple[int, int, int] = PLAIN, edge: int = 4
) -> Picture:
    """`picture`, fitted into a square, in a frame; the lines beneath are shortened to its width."""
    framed = np.full((side + 2 * edge, side + 2 * edge, 3), colour, np.uint8)
    framed[edge:-edge, edge:-edge] = layout.centred(picture, side, side)
    return layout.column([framed, *(layout.line(text, side + 2 * edge, 12) for text in lines)], 1)
