"""`Patches`: what boxes of a sample change of some maps, by running their surroundings alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import memory
from ..engine import Engine
from ..model import Model
from .graph import Crops
from .path import Path
from .places import Given, Places

Array = NDArray[Any]


class Patches:
    """Runs a graph of crops for boxes of one sample, which have to be taken up first.

    Args:
        engine: what runs it.
        model: of which the graph of crops is a part, with no more outputs than are wanted.
        path: of the boxes.
        crops: the graph.
        pasted: the tensors whose clean values are put around crops.
        feeds: the sample as it is.

    Attributes:
        clean: the maps of the sample as it is.
        places: where the boxes lie that were taken up.
    """

    places: Places

    def __init__(
        self,
        engine: Engine,
        model: Model,
        path: Path,
        crops: Crops,
        pasted: set[str],
        feeds: Mapping[str, Array],
    ) -> None:
        self._engine, self._path, self._crops = engine, path, crops
        exposed = sorted({*pasted, *crops.outputs} - {path.name})
        self.clean = {path.name: feeds[path.name], **engine.run(model, feeds, exposed)}
        self._padded: dict[Any, Array] = {}

    def place(self, places: Places) -> None:
        """Take up boxes."""
        self.places = places
        self._values = [self._around(edge) for edge in places.edges]
        feeds = self._feeds(places.largest, self.clean[self._path.name][places.given[places.largest]])
        need = memory.need(self._crops.model, {k: v.shape for k, v in feeds.items()}, frozenset(feeds))
        self._session = self._engine.sessions.of(self._crops.model, need.of(1))

    def put(self, maps: Mapping[str, Array], row: int, k: int, patch: Array) -> None:
        """Write what a box changes into clean maps.

        Args:
            maps: by tensor, several samples of each.
            row: which of them.
            k: which of the boxes.
            patch: what the input holds there, with an axis for the one sample.
        """
        names, places = self._crops.outputs, self.places
        found = dict(zip(names, self._session.run(list(names), self._feeds(k, patch)), strict=True))
        for t in places.tensors:
            maps[t][row : row + 1][places.at[t][k]] = patch if t == self._path.name else found[t][places.part[t][k]]

    def _feeds(self, k: int, patch: Array) -> dict[str, Array]:
        feeds: dict[str, Array] = {}
        for edge, values in zip(self.places.edges, self._values, strict=True):
            edge.feed(feeds, k, patch, values)
        return feeds

    def _around(self, edge: Given) -> Array | None:
        """The clean map that is put around crops, with the pads that they hold."""
        if not edge.paste:
            return None
        key = edge.tensor, edge.ends, edge.pad if any(map(any, edge.ends)) else None
        if key not in self._padded:
            values, axes = self.clean[edge.tensor], self._path.axes[edge.tensor]
            widths = [(0, 0)] * values.ndim
            for axis, both in zip(axes, edge.ends, strict=True):
                widths[axis] = both
            values = np.pad(values, widths, constant_values=edge.pad or 0.0)
            # What is put around is a position or two wide: all channels of one lie together, as memory is fetched.
            order = sorted(range(values.ndim), key=lambda axis: axis not in axes)
            self._padded[key] = np.ascontiguousarray(values.transpose(order)).transpose(np.argsort(order))
        return self._padded[key]
