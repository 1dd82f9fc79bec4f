"""Parts of photos that are covered, and how alike what that changes is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..geometry import Box
from ..image import Picture

GREY = 128
Boxes = list[Box]
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


def whole(boxes: Boxes, photo: Picture, name: str) -> Boxes:
    """Boxes in whole pixels of the photo."""
    height, width = photo.shape[:2]
    found: Boxes = []
    for x0, y0, x1, y1 in boxes:
        left, top = max(0, math.floor(x0)), max(0, math.floor(y0))
        right, bottom = min(width, math.ceil(x1)), min(height, math.ceil(y1))
        if left >= right or top >= bottom:
            raise InputError(
                f"A box of '{name}' lies outside the photo of {width}x{height} pixels: is it of another size? (--boxes)"
            )
        found.append((left, top, right, bottom))
    return found


def elsewhere(boxes: Boxes, photo: Picture, seed: Sequence[int]) -> Boxes:
    """Boxes of the same sizes anywhere in the photo."""
    rng = np.random.default_rng(seed)
    found: Boxes = []
    for x0, y0, x1, y1 in boxes:
        w, h = x1 - x0, y1 - y0
        x, y = rng.integers(0, photo.shape[1] - w + 1), rng.integers(0, photo.shape[0] - h + 1)
        found.append((x, y, x + w, y + h))
    return found
