"""What the axes of attention weights mean: windows, heads, queries and keys."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..maps import Array, Grid

Cells = NDArray[np.int64]


@dataclass(frozen=True)
class Attention:
    """An attention: the tensor of its weights, and what its axes mean.

    Attributes:
        name: the module that it belongs to, readable.
        tensor: of the weights.
        output: of the product of weights and values.
        shape: of the weights for one sample.
        axes: of queries and of keys.
        order: (windows, heads): which index along all other axes, in a row, holds which.
        queries: how the queries of all windows, (windows, queries), make up a map; None where they do not.
        keys: likewise.
        kept: the axis of the queries in `output`.
    """

    name: str
    tensor: str
    output: str
    shape: tuple[int, ...]
    axes: tuple[int, int]
    order: Cells = field(repr=False, compare=False)
    queries: Grid | None
    keys: Grid | None
    kept: int

    @property
    def windows(self) -> int:
        """How many parts of the picture are attended to each by itself; 1 for the whole."""
        return len(self.order)

    @property
    def heads(self) -> int:
        """How many weights there are for each query and key."""
        return len(self.order[0])

    @property
    def size(self) -> tuple[int, int]:
        """Queries and keys of a window."""
        return self.shape[self.axes[0]], self.shape[self.axes[1]]

    @property
    def itself(self) -> bool:
        """True if queries and keys are the same tokens."""
        same = self.size[0] == self.size[1] and (self.queries is None) == (self.keys is None)
        if self.queries is None or self.keys is None:
            return same
        return same and bool(self.queries == self.keys and (self.queries.cells == self.keys.cells).all())

    def weights(self, values: Array, n: int) -> Array:
        """The tensor's values, or what is shaped like them, of n samples as (n, windows, heads, queries, keys)."""
        rows = np.moveaxis(values.reshape(n, *self.shape), [a + 1 for a in self.axes], (-2, -1))
        return rows.reshape(n, -1, *self.size)[:, self.order]

    def seen(self, weights: Array, tokens: Array) -> Array:
        """What some queries look at, on average: (n, heads, keys of all windows) of (n, windows, heads, ...).

        Args:
            weights: see `weights`.
            tokens: the queries, counted over all windows.
        """
        found = np.zeros((*weights.shape[:3], weights.shape[4]), np.result_type(weights, np.float32))
        for window, token in zip(*np.divmod(tokens, self.size[0]), strict=True):
            found[:, window] += weights[:, window, :, token]
        return np.moveaxis(found, 1, 2).reshape(len(weights), self.heads, -1) / len(tokens)
