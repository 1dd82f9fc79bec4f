"""Where boxes lie, as what a graph of crops is given for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .cost import Choice
from .graph import ROLES, Crops, cuts, name
from .path import Edge, Layout, Path, areas, changes, lie
from .table import Boxes

Array = NDArray[Any]
Place = tuple[slice, ...]
_TOGETHER = 512  # boxes that are laid out at a time


class Ground:
    """Where a set of boxes lies, however many they are; the same for all samples.

    Args:
        path: of the boxes.
        boxes: along the axes of the path's input.
        choice: the way.
        write: makes the graph of crops, given where some boxes lie and the edges on which something is cut out.

    Attributes:
        crops: the graph.
    """

    def __init__(
        self, path: Path, boxes: Boxes, choice: Choice, write: Callable[[Layout, frozenset[Edge]], Crops]
    ) -> None:
        self._path, self._choice = path, choice
        self._parts = [boxes[..., k : k + _TOGETHER] for k in range(0, boxes.shape[2], _TOGETHER)]
        cut = frozenset[Edge]()
        for part in self._parts:
            layout = self._lie(part)
            cut |= cuts(path, layout, choice.stop)
        self.crops = write(layout, cut)
        self._last: tuple[int, Places] | None = None

    def _lie(self, boxes: Boxes) -> Layout:
        return lie(self._path, changes(self._path, boxes), self._choice.pasted, self._choice.stop)

    def part(self, k: int) -> tuple[int, int]:
        """The part that box k is laid out in, and which of that it is."""
        return divmod(k, _TOGETHER)

    def places(self, part: int) -> Places:
        """Where the boxes of a part lie. The last is kept, as one: several threads may go through the same boxes."""
        last = self._last
        if last is None or last[0] != part:
            tensors = self._path.frontier(self._choice.stop)
            last = self._last = part, Places(self._path, self._lie(self._parts[part]), self.crops, tensors)
        return last[1]


class Places:
    """Where some boxes lie.

    Args:
        path: of the boxes.
        layout: where everything lies.
        crops: the graph.
        tensors: what is wanted: those that the graph of crops computes, and perhaps the input.

    Attributes:
        edges: what the graph is given.
        given: where the boxes lie in the input.
        at: where what they change lies in the tensors that are wanted.
        part: where that lies in what the graph computes.
        largest: which is.
    """

    def __init__(self, path: Path, layout: Layout, crops: Crops, tensors: Sequence[str]) -> None:
        changed, self.tensors = layout.changed, tensors
        edges = [Given(path, layout, e, e in crops.cut) for e in layout.taken]
        self.edges = [e for e in edges if e.crop or e.paste or e.cut]
        self.given = slices(path, path.name, changed[path.name])
        self.at = {t: slices(path, t, changed[t]) for t in tensors}
        self.part = {t: slices(path, t, changed[t] - layout.computed[t][:, :1]) for t in crops.outputs}
        self.largest = int(areas(changed[path.name]).argmax())


class Given:
    """What the graph of crops is given for a node's input."""

    def __init__(self, path: Path, layout: Layout, edge: Edge, cut: bool) -> None:
        taken, step, x = layout.taken[edge], path.steps[edge[0]], path.tensor(edge)
        self.tensor, self.paste, self.pad = x, taken.paste, step.reading.pad
        self.ends = tuple(w.beyond if taken.padded else (0, 0) for w in step.reading.windows)
        ahead = np.array([before for before, _ in self.ends])[:, None, None]
        crop, at = taken.crop + ahead, taken.at + ahead
        self.crop = name("crop", edge) if x == path.name else ""
        if self.crop:
            self.whole, self.at = slices(path, x, crop), slices(path, x, at - crop[:, :1])
            self.part = slices(path, x, taken.at - layout.computed[x][:, :1])
            return
        self.cut = [name(what, edge) for what in ("starts", "ends")] if cut else []
        self.inside = np.moveaxis((taken.at if taken.paste else taken.crop) - layout.computed[x][:, :1], 2, 0)
        self.strips: list[tuple[str, list[Place]]] = []
        for j, axis in reversed([*enumerate(path.axes[x] if taken.paste else ())]):
            for role, what in enumerate(ROLES):
                strip = np.concatenate([at[:j], crop[j:]])
                strip[j, 1 - role] = at[j, role]
                self.strips.append((name(what, edge, axis), slices(path, x, strip)))

    def feed(self, feeds: dict[str, Array], k: int, patch: Array, values: Array | None) -> None:
        """Add what is needed for box k, given the clean map."""
        if self.crop:
            crop = patch[self.part[k]] if values is None else values[self.whole[k]].copy()
            if values is not None:
                crop[self.at[k]] = patch[self.part[k]]
            feeds[self.crop] = crop
            return
        if self.cut:
            feeds.update(zip(self.cut, self.inside[k].T, strict=True))
        if values is not None:
            for name, at in self.strips:
                feeds[name] = values[at[k]]


def slices(path: Path, tensor: str, boxes: Boxes) -> list[Place]:
    """Where boxes lie in a tensor."""
    at: list[Iterable[slice]] = [repeat(slice(None))] * len(path.shapes[tensor])
    for axis, (first, last) in zip(path.axes[tensor], boxes.tolist(), strict=True):
        at[axis] = map(slice, first, last)
    return list(zip(*at, strict=False))
