"""Holding a picture a little differently before the model at each step, so that no pattern hangs on single pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .easel import GREY

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]


class Affine:
    """A picture seen through an affine map: y = A x + (1 - A 1) g, A sparse, with bilinear weights, g mid grey.

    Args:
        size: (height, width) of the picture.
        matrix: (2, 3): from a place of what is seen to one of the picture, (y, x) in pixels from the centre, and 1.
        out: (height, width) of what is seen, None for that of the picture.
        wrap: what leaves the picture on one side comes back on the other; otherwise there is grey.
    """

    def __init__(
        self, size: tuple[int, int], matrix: NDArray[Any], out: tuple[int, int] | None = None, *, wrap: bool = False
    ) -> None:
        from scipy.sparse import csr_array

        self.size, self.out = size, out or size
        y, x = (np.arange(n) - (n - 1) / 2 for n in self.out)
        places = [row[0] * y[:, None] + row[1] * x + row[2] + (n - 1) / 2 for row, n in zip(matrix, size, strict=True)]
        corners = [np.floor(p).astype(np.int64) for p in places]
        shares = [p - c for p, c in zip(places, corners, strict=True)]
        columns, weights = [], []
        for down in (0, 1):
            for right in (0, 1):
                row, column = corners[0] + down, corners[1] + right
                weight = np.abs(1 - down - shares[0]) * np.abs(1 - right - shares[1])
                if wrap:
                    row, column = row % size[0], column % size[1]
                inside = (row >= 0) & (row < size[0]) & (column >= 0) & (column < size[1])
                columns.append(np.where(inside, row * size[1] + column, 0).ravel())
                weights.append(np.where(inside, weight, 0).ravel())
        count = self.out[0] * self.out[1]
        self.matrix = csr_array(
            (np.stack(weights, 1).ravel(), np.stack(columns, 1).ravel(), np.arange(0, 4 * count + 1, 4)),
            shape=(count, size[0] * size[1]),
        )
        self.ground = GREY * (1 - np.sum(weights, axis=0))[:, None]

    def apply(self, pixels: Array) -> Array:
        """The picture, (h, w, 3), as it is seen."""
        return np.asarray(self.matrix @ pixels.reshape(-1, 3) + self.ground).reshape(*self.out, 3)

    def adjoint(self, slope: Array) -> Array:
        """A gradient by what is seen as one by the picture."""
        return np.asarray(self.matrix.T @ slope.reshape(-1, 3)).reshape(*self.size, 3)


class Shaken:
    """Draws such maps: shifted, turned and scaled about the centre, all at once.

    Args:
        size: (height, width) of the picture.
        jitter: the most that it is shifted by, to each side, as a share of its sides.
        rotate: the most degrees, to each side.
        scale: from 1 - scale to 1 + scale.
    """

    def __init__(self, size: tuple[int, int], jitter: float = 0.05, rotate: float = 10, scale: float = 0.1) -> None:
        self.size, self.jitter, self.rotate, self.scale = size, jitter, rotate, scale

    def __call__(self, source: np.random.Generator) -> Affine:
        """A map at random."""
        shift = source.uniform(-self.jitter, self.jitter, 2) * self.size
        angle = np.deg2rad(source.uniform(-self.rotate, self.rotate))
        size = source.uniform(1 - self.scale, 1 + self.scale)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / size
        return Affine(self.size, np.column_stack([turn, shift]))


class Rolled:
    """Draws maps that shift a picture by whole pixels around its edges, and enlarge it to what the model takes.

    Args:
        size: (height, width) of the picture.
        out: (height, width) of what the model takes.
        jitter: the most that it is shifted by, to each side, as a share of its sides.
    """

    def __init__(self, size: tuple[int, int], out: tuple[int, int], jitter: float = 0.15) -> None:
        self.size, self.out, self.jitter = size, out, jitter

    def __call__(self, source: np.random.Generator) -> Affine:
        """A map at random."""
        shift = np.rint(source.uniform(-self.jitter, self.jitter, 2) * self.size)
        return Affine(self.size, np.column_stack([np.diag(np.divide(self.size, self.out)), shift]), self.out, wrap=True)
