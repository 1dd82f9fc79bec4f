"""Receptive fields of units, cut out of photos and projections as tiles of one shape."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..fields import Fields
from ..image import Picture
from ..surveys.survey import Survey
from .projection import drawn
from .sheet import TILE, Frame
from .strongest import Watched

Box = tuple[int, int, int, int]


class Cutter:
    """Cuts out what the units of a layer see.

    Args:
        survey: model and preprocessing.
        seen: the layer.
        size: of the tiles' longer side, in pixels.

    Attributes:
        notes: where the reach of a unit is not known.
    """

    def __init__(self, survey: Survey, seen: Watched, size: int = TILE) -> None:
        self._preprocessing, self._extent, self._size = survey.preprocessing, survey.preprocessing.size, size
        self._fields: Fields | None = None
        if seen.map:
            sample = survey.sample(np.zeros((*self._extent, 3), np.uint8))
            sizes = {survey.input.name: (1, *sample.shape)}
            layout = self._preprocessing.layout
            self._fields = Fields(survey.model, seen.layer.tensor, sizes, input=survey.input.name, layout=layout)
        self.notes = list(self._fields.notes) if self._fields is not None else []
        middle = int(np.ravel_multi_index([n // 2 for n in seen.map], seen.map)) if seen.map else 0
        x0, y0, x1, y1 = self.box(seen.index(0, middle))
        self.full = (y1 - y0, x1 - x0)

    def box(self, index: tuple[int, ...]) -> Box:
        """The field of a unit, in pixels of the input: all of it for elements of a vector."""
        return self._fields.box(index) if self._fields is not None else (0, 0, self._extent[1], self._extent[0])

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) of a tile."""
        return self._frame((0, 0, 0, 0)).shape

    def patch(self, photo: Picture, box: Box) -> tuple[Picture, Box]:
        """A field as a tile of the photo, and where it lies there."""
        geometry = self._preprocessing.geometry(photo.shape)
        x0, y0, x1, y1 = part = geometry.support(box)
        return self._frame(box).place(photo[y0:y1, x0:x1], geometry.to_model(part)), part

    def projected(self, values: NDArray[np.float32], box: Box) -> Picture:
        """A field as a tile of a projection (3, h, w)."""
        x0, y0, x1, y1 = box
        return self._frame(box).place(drawn(values[:, y0:y1, x0:x1]), box)

    def _frame(self, box: Box) -> Frame:
        return Frame(self.full, self._extent, box, self._size)
