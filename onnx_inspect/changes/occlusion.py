"""Parts of photos that are covered, and how alike what that changes is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..geometry import Box
from ..image import Picture

GREY = 128
Boxes = list[Box]
View = tuple[int, int, int, int]
Signs = NDArray[np.int8]


@dataclass
class Consistency:
    """Signs of changes (d,) of any number of photos, counted; memory does not grow with their number.

    Attributes:
        n: photos.
        up: how many of them rise, per feature.
        down: how many fall.
    """

    n: int = 0
    up: NDArray[np.int64] = field(default_factory=lambda: np.zeros((), np.int64))
    down: NDArray[np.int64] = field(default_factory=lambda: np.zeros((), np.int64))

    def add(self, signs: Signs) -> None:
        """One more photo."""
        self.n += 1
        self.up = self.up + (signs > 0)
        self.down = self.down + (signs < 0)

    @property
    def distance(self) -> float:
        """The mean over all pairs of photos of the Hamming distance of their signs, as a share of the features.

        Of a feature, n^2 less the squares of how many rise, fall and stay are the ordered pairs that differ.
        """
        same = self.up**2 + self.down**2 + (self.n - self.up - self.down) ** 2
        return float((self.n**2 - same).mean() / (self.n * (self.n - 1))) if self.n > 1 else math.nan


def cover(photo: Picture, boxes: Sequence[Sequence[float]]) -> Picture:
    """A photo with boxes (x0, y0, x1, y1) in grey."""
    out = photo.copy()
    for x0, y0, x1, y1 in boxes:
        out[int(y0) : int(y1), int(x0) : int(x1)] = GREY
    return out


def whole(boxes: Boxes) -> Boxes:
    """The smallest boxes in whole pixels that hold these."""
    return [(math.floor(x0), math.floor(y0), math.ceil(x1), math.ceil(y1)) for x0, y0, x1, y1 in boxes]


def within(boxes: Boxes, view: View) -> Boxes:
    """What of the boxes lies in another box; nothing is left of those beside it."""
    left, top, right, bottom = view
    found = [(max(x0, left), max(y0, top), min(x1, right), min(y1, bottom)) for x0, y0, x1, y1 in boxes]
    return [(x0, y0, x1, y1) for x0, y0, x1, y1 in found if x0 < x1 and y0 < y1]


def elsewhere(boxes: Boxes, view: View, seed: Sequence[int]) -> Boxes:
    """Boxes of the same sizes anywhere in a box that holds them."""
    rng = np.random.default_rng(seed)
    found: Boxes = []
    for x0, y0, x1, y1 in boxes:
        w, h = int(x1 - x0), int(y1 - y0)
        x, y = int(rng.integers(view[0], view[2] - w + 1)), int(rng.integers(view[1], view[3] - h + 1))
        found.append((x, y, x + w, y + h))
    return found
