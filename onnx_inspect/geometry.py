"""Where the model's input lies in the photo, and the way of maps and boxes between the two.

Coordinates are continuous: pixel ``i`` covers ``[i, i + 1]``, so its centre is at ``i + 0.5``. Boxes are
``(x0, y0, x1, y1)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Box = tuple[float, float, float, float]
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Geometry:
    """The model's input, edge to edge, is the part ``box`` of the photo, stretched to ``model`` pixels.

    ``photo`` and ``model`` are (height, width). ``box`` lies inside the photo after a crop, is the photo when
    squashed, and reaches beyond it where a letterbox pads.
    """

    photo: tuple[int, int]
    model: tuple[int, int]
    box: Box

    def to_photo(
        self, values: NDArray[Any], interpolation: Literal["linear", "nearest"] = "linear"
    ) -> NDArray[np.float32]:
        """A map (..., h, w) of any size over the whole model input as float32 (..., H, W) over the photo.

        Zero where the model did not look; the letterbox's padding is dropped. "linear" averages where the map
        is finer than the photo.
        """
        x0, y0, x1, y1 = self.box
        rows = _samples(values.shape[-2], self.photo[0], y0, y1, interpolation)
        columns = _samples(values.shape[-1], self.photo[1], x0, x1, interpolation)
        return np.asarray(rows @ values.astype(np.float32) @ columns.T)

    def mask_in_photo(self) -> NDArray[np.bool_]:
        """bool (H, W): the pixels of the photo that the model saw."""
        x0, y0, x1, y1 = self.box
        rows, columns = (np.arange(side) + 0.5 for side in self.photo)
        return np.logical_and.outer((rows > y0) & (rows < y1), (columns > x0) & (columns < x1))

    def box_to_photo(self, box: Sequence[float]) -> Box:
        """A box in pixels of the model's input as a box in the photo, clipped to the photo."""
        x0, y0, x1, y1 = self.box
        h, w = self.model
        scale_x, scale_y = (x1 - x0) / w, (y1 - y0) / h
        left, top, right, bottom = box
        placed = (x0 + left * scale_x, y0 + top * scale_y, x0 + right * scale_x, y0 + bottom * scale_y)
        return _clip(placed, *self.photo)

    def support(self, box: Sequence[int]) -> tuple[int, int, int, int]:
        """The pixels of the photo that those of a box in the model's input are computed from.

        Where a side shrinks, a pixel averages all that it covers; where it grows, it lies between two.

        Args:
            box: (x0, y0, x1, y1) in whole pixels of the model's input, half-open.

        Returns:
            (x0, y0, x1, y1) in whole pixels of the photo, half-open; (0, 0, 0, 0) if there are none, as in padding.
        """
        x0, y0, x1, y1 = self.box
        columns = _covered(box[0], box[2], self.model[1], x0, x1, self.photo[1])
        rows = _covered(box[1], box[3], self.model[0], y0, y1, self.photo[0])
        return (columns[0], rows[0], columns[1], rows[1]) if columns and rows else (0, 0, 0, 0)

    def to_model(self, box: Sequence[float]) -> Box:
        """A box in the photo as a box in pixels of the model's input, clipped to what the model saw."""
        x0, y0, x1, y1 = self.box
        h, w = self.model
        scale_x, scale_y = w / (x1 - x0), h / (y1 - y0)
        left, top, right, bottom = box
        placed = (
            (left - x0) * scale_x,
            (top - y0) * scale_y,
            (right - x0) * scale_x,
            (bottom - y0) * scale_y,
        )
        return _clip(placed, h, w)


def squash(photo: tuple[int, int], model: tuple[int, int]) -> Geometry:
    """The whole photo, out of shape."""
    return Geometry(photo, model, (0, 0, photo[1], photo[0]))


def crop(photo: tuple[int, int], model: tuple[int, int], ratio: float = 1.0) -> Geometry:
    """The largest centred crop of the model's shape; ``ratio`` of it where it is larger than the input."""
    (height, width), (h, w) = photo, model
    largest = min(height / h, width / w)
    share = largest * (ratio if largest > 1 else 1)
    # Whole pixels, so that the crop is a slice and nothing is shifted by a fraction.
    crop_h, crop_w = (min(max(1, round(side * share)), limit) for side, limit in ((h, height), (w, width)))
    x0, y0 = (width - crop_w) // 2, (height - crop_h) // 2
    return Geometry(photo, model, (x0, y0, x0 + crop_w, y0 + crop_h))


def letterbox(photo: tuple[int, int], model: tuple[int, int]) -> tuple[Geometry, tuple[int, int, int, int]]:
    """The whole photo in shape, and its (top, left, height, width) in whole pixels of the model's input."""
    (height, width), (h, w) = photo, model
    share = min(h / height, w / width)
    inner_h, inner_w = min(h, max(1, round(height * share))), min(w, max(1, round(width * share)))
    top, left = (h - inner_h) // 2, (w - inner_w) // 2
    scale_x, scale_y = width / inner_w, height / inner_h
    box = (-left * scale_x, -top * scale_y, (w - left) * scale_x, (h - top) * scale_y)
    return Geometry(photo, model, box), (top, left, inner_h, inner_w)


def _clip(box: Box, height: int, width: int) -> Box:
    x0, y0, x1, y1 = box
    return min(max(x0, 0), width), min(max(y0, 0), height), min(max(x1, 0), width), min(max(y1, 0), height)


def _covered(first: int, last: int, cells: int, start: float, stop: float, pixels: int) -> tuple[int, int] | None:
    """Along a side: the pixels that cells first to last - 1 are computed from, of those that lie in [start, stop]."""
    scale = (stop - start) / cells
    first, last = max(first, round(-start / scale)), min(last, round((pixels - start) / scale))  # without padding
    if first >= last:
        return None
    if scale >= 1:
        low, high = floor(start + first * scale + _ROUNDING), ceil(start + last * scale - _ROUNDING)
    else:
        low = floor(start + (first + 0.5) * scale - 0.5 + _ROUNDING)
        high = floor(start + (last - 0.5) * scale - 0.5 - _ROUNDING) + 2
    return max(low, ceil(start - _ROUNDING), 0), min(high, floor(stop + _ROUNDING), pixels)


def _samples(cells: int, pixels: int, start: float, stop: float, interpolation: str) -> NDArray[np.float32]:
    """The matrix (pixels, cells) that reads cells spread over [start, stop] at the centres of pixels."""
    centre = (np.arange(pixels) + 0.5 - start) / (stop - start) * cells
    inside = (centre > 0) & (centre < cells)
    if interpolation == "nearest":
        hits = np.floor(centre)[:, None] == np.arange(cells)
        return np.asarray(hits & inside[:, None], np.float32)
    # A tent one cell wide interpolates; where pixels are coarser than cells it widens, so nothing is skipped.
    reach = max(1.0, cells / (stop - start))
    weights = (1 - abs(centre[:, None] - (np.arange(cells) + 0.5)) / reach).clip(0)
    total = weights.sum(1, keepdims=True)
    return np.asarray(np.where(inside[:, None], weights / np.where(total > 0, total, 1), 0), np.float32)
