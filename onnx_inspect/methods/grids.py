"""Random masks of a picture: grids of few cells, enlarged from a random place on; and sums of many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .cam_common import resized


def enlarging(side: int, cells: int) -> NDArray[np.float64]:
    """How cells grow, bilinearly, to a side that is a cell longer than that of the picture: (cells, pixels)."""
    return resized(np.eye(cells), ((cells + 1) * -(-side // cells),))


def _step(way: NDArray[Any]) -> int:
    """Pixels of a cell."""
    cells, pixels = map(int, way.shape)
    return pixels // (cells + 1)


def grid_of(
    ways: Sequence[NDArray[Any]], keep: float, rng: np.random.Generator
) -> tuple[NDArray[np.float32], list[int]]:
    """Which cells are seen, and the pixel of the first cell where the picture begins."""
    grid = (rng.random([len(way) for way in ways]) < keep).astype(np.float32)
    return grid, [int(rng.integers(_step(way))) for way in ways]


def grid_masks(shape: tuple[int, ...], cells: int, keep: float, rngs: list[np.random.Generator]) -> NDArray[np.float32]:
    """Masks of a picture: a grid one cell larger than the picture, bilinear, from a random place within a cell on."""
    ways = [enlarging(side, cells).astype(np.float32) for side in shape]
    masks = np.empty((len(rngs), *shape), np.float32)
    for mask, rng in zip(masks, rngs, strict=True):
        grid, corner = grid_of(ways, keep, rng)
        down, along = (way[:, at : at + side] for way, at, side in zip(ways, corner, shape, strict=True))
        mask[:] = down.T @ grid @ along
    return masks


class Grids:
    """Sums of such masks before they are enlarged: grids that begin at the same place are added up.

    Args:
        ways: how cells grow to pixels along each axis, (cells, pixels).
        shape: of the picture.
    """

    def __init__(self, ways: Sequence[NDArray[Any]], shape: tuple[int, ...]) -> None:
        self.ways, self.shape = ways, shape
        self._sums = np.zeros((2, *(_step(way) for way in ways), *(len(way) for way in ways)))

    def add(self, grid: NDArray[Any], corner: Sequence[int], gain: float) -> None:
        """A mask that gained so much."""
        top, left = corner
        self._sums[:, top, left] += grid * np.reshape([gain, 1], (2, 1, 1))

    def mean(self) -> NDArray[np.float64]:
        """sum_k gain_k m_k / sum_k m_k, 0 where nothing was ever seen."""
        (down, along), (height, width) = self.ways, self.shape
        rows = sum(self._sums[:, :, n] @ along[:, n : n + width] for n in range(_step(along)))
        weighted, total = sum(down[:, n : n + height].T @ rows[:, n] for n in range(_step(down)))
        mean: NDArray[np.float64] = np.divide(weighted, total, out=np.zeros(self.shape), where=total > 0)
        return mean
