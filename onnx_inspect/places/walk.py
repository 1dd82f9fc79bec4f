"""`Places`: the walk from the picture through the graph, and which tensors are grids."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from .. import structure
from ..decompose.table import lowered
from ..fields.field import settle
from ..maps import Grid, positions
from ..model import Model
from ..naming import Layer
from ..sizes import Sized
from .products import SIDES, sides
from .table import MOST, RULES, At, Place, Point, Shape, Unknown, alike, compact

T = TypeVar("T")

SIDE = 224  # of an input whose size is free


class Places:
    """Where the numbers of a model's tensors lie on its input, and which tensors are grids.

    The places of a tensor survive reshaping, class tokens, the windows and rolls of Swin and merged patches; attention
    puts a token where its query was, and sums take the operand that tells most.

    Args:
        model: the model.
        input: the input that is the picture, or the signal.
        layout: what its axes mean, a letter each.
        sizes: the shape of each input, for one sample; None for what the model fixes, free sides being 224.

    Attributes:
        sizes: the shape of each input, as it was taken.
        extent: of the picture: height and width, or the length of the signal; empty where it is neither.
    """

    def __init__(
        self, model: Model, input: str, layout: str | None, sizes: Mapping[str, Sequence[int]] | None = None
    ) -> None:
        graph = lowered(model.ir).clone().graph
        self.sizes = {s.name: tuple(sizes[s.name]) if sizes and s.name in sizes else _one(s) for s in model.inputs}
        self.extent: Shape = ()
        self._places: dict[str, Point] = {}
        self._others: dict[str, Point] = {}
        self._grids: dict[str, Grid | None] = {}
        self._memo: dict[Any, Any] = {}
        self._sized = Sized(graph, self.sizes, set(graph.inputs), all_shapes=True)
        self._values = {v.name: v for v in [*graph.inputs, *(y for node in graph for y in node.outputs)]}
        shape = self.sizes[input]
        if layout is not None and len(layout) == len(shape) and positions(layout):
            self.extent = tuple(n for n, letter in zip(shape, layout, strict=True) if letter in positions(layout))
            self._places[input] = _pixels(shape, layout)
        self._walk(graph)

    def place(self, tensor: str) -> Place | None:
        """Coordinates of a tensor's elements, (*shape, coordinates); axes that make no difference have size 1.

        NaN stands for nowhere; None where nothing is known.
        """
        return _whole(self._places.get(tensor))

    def along(self, tensor: str, axis: int) -> Place | None:
        """The same for a product, by the operand that an axis comes from: queries along one, keys along another."""
        known = [self._places.get(tensor), self._others.get(tensor)]
        return _whole(next((p for p in known if p is not None and axis in _told(p)), None))

    def shape(self, tensor: str) -> Shape | None:
        """The shape of a tensor for one sample."""
        return self._sized.shape(self._values[tensor]) if tensor in self._values else None

    def grid(self, tensor: str) -> Grid | None:
        """How a tensor's elements make up a map with more than one position; None if they do not."""
        if tensor not in self._grids:
            point, shape = self._places.get(tensor), self.shape(tensor)
            self._grids[tensor] = None if point is None or shape is None else grid(point, shape, self.extent)
        return self._grids[tensor]

    def memo(self, key: Any, build: Callable[[], T]) -> T:
        """Something else that follows from the places, found once and kept with them."""
        if key not in self._memo:
            self._memo[key] = build()
        found: T = self._memo[key]
        return found

    def seen(self, layer: Layer) -> Layer:
        """A layer with its grid, where its letters do not say as much already."""
        point, shape, axes = self._places.get(layer.tensor), self.shape(layer.tensor), _letters(layer.layout or "")
        if point is None or shape is None:
            return layer
        if len(axes) == len(point) and _told(point) > set(axes):  # channels of one map, though some are shifted
            return layer
        if not _lines(point, shape, axes):
            found = self.grid(layer.tensor)
            return layer if found is None else replace(layer, grid=found, role="tokens")
        beside = tuple(map(_beside, point, self.extent))
        if not any(map(any, beside)):
            return layer
        sizes = tuple(shape[axis] for axis in axes)
        return replace(layer, grid=Grid(sizes, axes, shape, 0, np.arange(math.prod(sizes)), beside))

    def _walk(self, graph: ir.Graph) -> None:
        settle(graph, self._sized)
        for node in graph:
            names = [x.name or "" if x is not None else "" for x in node.inputs]
            points = [(self._places.get(name), self._others.get(name)) for name in names]
            if all(first is None for first, _ in points):
                continue
            for o, y in enumerate(node.outputs):
                try:
                    found = self._where(node, o, points)
                except (Unknown, ValueError, IndexError):  # sizes that onnx infers wrongly, too
                    continue
                shape = self._sized.shape(y) or ()
                for known, point in zip((self._places, self._others), found, strict=False):
                    if all(place.size <= MOST and _fits(place, shape) for place in point):
                        known[y.name or ""] = point

    def _where(self, node: ir.Node, o: int, points: Sequence[Sequence[Point | None]]) -> list[Point]:
        """Where an output lies; by the other operand, too, if it comes from a product of two that both tell."""

        def at(inputs: Sequence[Point | None]) -> list[At]:
            xs = ([None if p is None else p[k] for p in inputs] for k in range(len(self.extent)))
            return [At(node, x, o, self._sized) for x in xs]

        by_one, key = at([first for first, _ in points]), structure.key(node)
        if key in SIDES:
            found = sides(by_one, points)
        else:
            rule = RULES.get(key, alike)
            ways = [by_one, *([at([p or first for first, p in points])] if any(p for _, p in points) else [])]
            found = [tuple(compact(rule(a)) for a in way) for way in ways]
        first, *rest = found
        return [first, *(p for p in rest if _told(p) - _told(first))]


def _told(point: Point) -> set[int]:
    """The axes along which elements lie apart."""
    return {axis for place in point for axis, n in enumerate(place.shape) if n > 1}


def _whole(point: Point | None) -> Place | None:
    return None if point is None else np.stack(np.broadcast_arrays(*point), axis=-1)


def _fits(place: Place, shape: Shape) -> bool:
    return place.ndim == len(shape) and all(n in (1, m) for n, m in zip(place.shape, shape, strict=True))


def _letters(layout: str) -> tuple[int, ...]:
    return tuple(i for i, letter in enumerate(layout) if letter not in "NC")


def _one(spec: structure.Spec) -> Shape:
    """The shape of an input for one sample, free sides being SIDE."""
    return tuple(n if isinstance(n, int) else SIDE if i else 1 for i, n in enumerate(spec.shape))


def _pixels(shape: Shape, layout: str) -> Point:
    def along(axis: int) -> Place:
        line = np.arange(shape[axis], dtype=np.float64) + 0.5
        return line.reshape([-1 if i == axis else 1 for i in range(len(shape))])

    return tuple(map(along, _letters(layout)))


def _lines(point: Point, shape: Shape, axes: Shape) -> bool:
    """True if the axes of a tensor, a coordinate each, run along those of the picture."""
    return len(axes) == len(point) and all(
        place.size == place.shape[axis] == shape[axis] and (np.diff(place.ravel()) > 0).all()
        for place, axis in zip(point, axes, strict=True)
    )


def _inside(at: NDArray[np.float64], side: int) -> NDArray[np.bool_]:
    """Which cells lie on the picture by more than half: padding lies beyond its edge, class tokens lie nowhere."""
    lines = np.unique(at[np.isfinite(at)])
    half = np.median(np.diff(lines)) / 2 if len(lines) > 1 else 0.5
    found: NDArray[np.bool_] = (at > 0.01 - half) & (at < side + half - 0.01)
    return found


def _beside(lines: Place, side: int) -> tuple[int, int]:
    """How many cells more the picture has room for, before the first and behind the last.

    Less than one is none, and so is what a shift leaves free: maps are stretched to the edges, as everywhere.
    """
    at = lines.ravel()
    if len(at) < 2:
        return 0, 0
    step = (at[-1] - at[0]) / (len(at) - 1)
    room = max(0, math.floor(side / step - len(at) + 0.01))
    first, last = (math.floor(free / step - 0.49) for free in (at[0], side - at[-1]))
    before = min(max(0, first), room)
    return before, min(max(0, last), room - before)


def grid(point: Point, shape: Shape, extent: Shape) -> Grid | None:
    """A tensor is a grid if its tokens on the picture are those of all crossings of some rows and columns."""
    axes = tuple(sorted(_told(point)))
    if not axes or len(shape) < 2:
        return None
    points = [place.ravel().round(3) for place in np.broadcast_arrays(*point)]
    inside = np.flatnonzero(np.stack(list(map(_inside, points, extent))).all(axis=0))
    lines = [np.unique(at[inside], return_inverse=True) for at in points]
    sizes = tuple(len(values) for values, _ in lines)
    if math.prod(sizes) != len(inside) or len(inside) < 2:
        return None
    cells = np.full(len(inside), -1, np.int64)
    cells[np.ravel_multi_index([at for _, at in lines], sizes)] = inside
    if (cells < 0).any():
        return None
    beside = tuple(_beside(values, side) for (values, _), side in zip(lines, extent, strict=True))
    return Grid(sizes, axes, shape, len(points[0]) - len(inside), cells, beside)
