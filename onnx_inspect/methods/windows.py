"""`Windows`: where windows lie that slide over an input."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .job import Job
from .segments import channel_axis, is_picture

Sizes = int | Collection[int]  # no Sequence: on the command line it is one number


@dataclass(frozen=True)
class Windows:
    """Where windows lie on a sample: their size and beginnings per axis, the last axis fastest.

    window, stride: as parameters record them.
    """

    shape: tuple[int, ...]
    sizes: tuple[int, ...]
    starts: tuple[list[int], ...]
    window: int | list[int]
    stride: int | list[int]

    def __len__(self) -> int:
        return math.prod(map(len, self.starts))

    def covers(self, which: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Where some windows lie, a row each; nowhere for numbers that are none of a window."""
        covers = np.zeros((len(which), *self.shape), bool)
        for cover, k in zip(covers, which, strict=True):
            if 0 <= k < len(self):
                at = np.unravel_index(int(k), [len(s) for s in self.starts])
                cover[tuple(slice(s[a], s[a] + n) for s, a, n in zip(self.starts, at, self.sizes, strict=True))] = True
        return covers

    def boxes(self, axes: Collection[int]) -> NDArray[np.int64]:
        """Where all windows begin and end, (axes, 2, windows), along some axes, the first being that of the samples."""
        starts = np.stack([s.ravel() for s in np.meshgrid(*self.starts, indexing="ij")])
        ends = np.minimum(starts + np.array(self.sizes)[:, None], np.array(self.shape)[:, None])
        return np.stack([starts, ends], axis=1)[[a - 1 for a in axes]]

    def whole(self, axes: Collection[int]) -> bool:
        """True if windows are whole along all other axes, the first being that of the samples."""
        return all(
            n == side for a, (n, side) in enumerate(zip(self.sizes, self.shape, strict=True), 1) if a not in axes
        )

    def spread(self, numbers: NDArray[Any]) -> NDArray[np.float64]:
        """The mean over the windows that cover each element."""
        return _spread(numbers.reshape([len(s) for s in self.starts]), self.starts, self.sizes, self.shape)


def sliding(job: Job, name: str, window: Sizes, stride: Sizes, *, captum: bool) -> Windows:
    """Windows over an input; they cover all channels, unless sizes per axis say how many."""
    shape, axis = job.feeds[name].shape[1:], channel_axis(job, name)
    whole = None if axis is None or (captum and not isinstance(window, int)) else axis - 1
    sides = [n for i, n in enumerate(shape) if i != whole]
    if isinstance(window, int):
        window = window or (max(min(sides) // 7, 1) if is_picture(job) and name == job.input.name else 1)
        sizes = [min(window, n) if 1 <= window <= max(sides) else 0 for n in sides]
    else:
        sizes = window = [int(n) for n in window]
    if isinstance(stride, int):
        stride = stride or (1 if captum else max(min(sizes) // 2, 1))
        steps = [stride] * len(sides)
    else:
        steps = stride = [int(n) for n in stride]
    if len(sizes) != len(sides) or not all(1 <= size <= n for size, n in zip(sizes, sides, strict=True)):
        raise InputError(f"A window of {window} does not fit '{name}' of {'x'.join(map(str, sides))} (--window).")
    if len(steps) != len(sides) or any(s < 1 or (s > w < n) for s, w, n in zip(steps, sizes, sides, strict=True)):
        raise InputError(f"A stride of {stride} leaves gaps between windows of {window}, or goes nowhere (--stride).")
    starts = [_starts(*each) for each in zip(sides, sizes, steps, strict=True)]
    if whole is not None:
        sizes.insert(whole, shape[whole])
        starts.insert(whole, [0])
    return Windows(shape, tuple(sizes), tuple(starts), window, stride)


def _starts(size: int, window: int, stride: int) -> list[int]:
    """Where windows begin: every stride, until one reaches the border (and is cut there)."""
    count = 1 + max(0, -(-(size - window) // stride))
    return [i * stride for i in range(count) if i * stride < size]


def _spread(
    grid: NDArray[Any], starts: Collection[list[int]], sizes: Collection[int], shape: Collection[int]
) -> NDArray[np.float64]:
    """The mean over the windows that cover each element; it is one over each axis in turn."""
    mean = grid.astype(np.float64)
    for axis, (begins, size, side) in enumerate(zip(starts, sizes, shape, strict=True)):
        at, begin = np.arange(side), np.array(begins)[:, None]
        covers = ((begin <= at) & (at < begin + size)).astype(np.float64)
        covers /= np.maximum(covers.sum(axis=0), 1)
        mean = np.moveaxis(np.tensordot(mean, covers, (axis, 0)), -1, axis)
    return mean
