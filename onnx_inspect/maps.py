"""Tensors as maps, (N, C, positions...), whatever order their axes are in; tokens, too, that are cells of a grid."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .facts import kept

Array = NDArray[Any]


def channels_first(values: Array, layout: str | None) -> Array:
    """(N, C, H, W) from whatever order the layout says; grey pictures without the axis have one channel."""
    if layout is None or layout.startswith("NC"):
        return values
    return np.moveaxis(values, layout.index("C"), 1) if "C" in layout else values[:, None]


def channels_back(values: Array, layout: str | None) -> Array:
    """The inverse of `channels_first`."""
    if layout is None or layout.startswith("NC"):
        return values
    return np.moveaxis(values, 1, layout.index("C")) if "C" in layout else values[:, 0]


def blank(heat: Array) -> bool:
    """True for a map that tells no place from another: the same everywhere, but for rounding."""
    return bool(np.ptp(heat) <= 1e-6 * np.abs(heat).max())


def positions(layout: str) -> str:
    """The axes of a layout that are neither samples nor channels: "HW"."""
    return layout.replace("N", "").replace("C", "")


@kept
@dataclass(frozen=True)
class Grid:
    """Tokens as the cells of a map: which of a tensor's rows lies where, whatever windows or rolls they went through.

    Attributes:
        sizes: cells along each axis of the input, (h, w); (length,) for a signal.
        axes: of the tensor, along which tokens lie. Where the first is among them it holds the windows of all samples,
            a sample's together, as Swin has them.
        shape: of the tensor for one sample.
        extra: tokens that are no cell: class and register tokens.
        cells: the token of each cell in order, a flat index along `axes`.
        beside: how many cells more, before and behind, the picture has room for along each axis, where the tensor
            holds but a part of it; () for none.
    """

    sizes: tuple[int, ...]
    axes: tuple[int, ...]
    shape: tuple[int, ...]
    extra: int
    cells: NDArray[np.int64] = field(repr=False, compare=False)
    beside: tuple[tuple[int, int], ...] = ()

    def __str__(self) -> str:
        cells = "×".join(map(str, self.sizes))
        if any(map(any, self.beside)):
            cells += " of " + "×".join(str(n + sum(more)) for n, more in zip(self.sizes, self.beside, strict=True))
        return f"{cells} + {self.extra}" if self.extra else cells

    @property
    def ordered(self) -> bool:
        """True if tokens follow each other as the cells do."""
        return bool((self.cells[1:] > self.cells[:-1]).all())

    def first(self, values: Array) -> Array:
        """The tensor's values as maps (N, C, *sizes), without the tokens that are no cell."""
        rows = self._rows(values)
        return rows[..., self.cells].reshape(*rows.shape[:-1], *self.sizes)

    def placed(self, maps: Array) -> Array:
        """Maps (..., *sizes) from edge to edge of the picture, 0 where the tensor does not reach."""
        lead = maps.ndim - len(self.beside)
        return np.pad(maps, [(0, 0)] * lead + list(self.beside)) if any(map(any, self.beside)) else maps

    def back(self, maps: Array, like: Array) -> Array:
        """Maps (n, C, *sizes) as values of the tensor; tokens that are no cell are those of `like`, of one sample.

        Args:
            maps: one or several per sample.
            like: the tensor's values for one sample, or for as many as there are maps.
        """
        rows = self._rows(like)
        rows = rows.repeat(len(maps) // len(rows), axis=0).astype(np.result_type(rows, maps), copy=True)
        rows[..., self.cells] = maps.reshape(*rows.shape[:-1], len(self.cells))
        rest = [n for i, n in enumerate(self.shape) if i not in self.axes]
        lead = 0 if 0 in self.axes else 1
        split = rows.reshape(len(rows), *rest[lead:], *(self.shape[a] for a in self.axes))
        back = np.moveaxis(split, range(split.ndim - len(self.axes), split.ndim), [a + 1 - lead for a in self.axes])
        return back.reshape(-1, *self.shape[1:])

    def _rows(self, values: Array) -> Array:
        """(N, everything else..., tokens)."""
        if 0 in self.axes:
            values = values.reshape(-1, *self.shape)
            axes = [a + 1 for a in self.axes]
        else:
            axes = list(self.axes)
        last = np.moveaxis(values, axes, range(values.ndim - len(axes), values.ndim))
        cells = len(self.axes)
        return last.reshape(len(last), math.prod(last.shape[1:-cells]), math.prod(last.shape[-cells:]))
