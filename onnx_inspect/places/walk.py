"""`Places`: the walk from the picture through the graph, and which tensors are grids."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from .. import pads, structure
from ..decompose.table import lowered
from ..maps import Grid, positions
from ..model import Model
from ..naming import Layer
from ..sizes import Sized
from .products import SIDES, sides
from .table import MOST, RULES, At, Place, Shape, Unknown, alike, compact

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
        self._places: dict[str, Place] = {}
        self._others: dict[str, Place] = {}
        self._grids: dict[str, Grid | None] = {}
        self._sized = Sized(graph, self.sizes, set(graph.inputs), all_shapes=True)
        self._values = {v.name: v for v in [*graph.inputs, *(y for node in graph for y in node.outputs)]}
        shape = self.sizes[input]
        if layout is not None and len(layout) == len(shape) and positions(layout):
            self.extent = tuple(n for n, letter in zip(shape, layout, strict=True) if letter in positions(layout))
            self._places[input] = _pixels(shape, layout)
        self._walk(graph)

    def place(self, tensor: str) -> Place | None:
        """Coordinates of a tensor's elements, see `Place`; None where nothing is known."""
        return self._places.get(tensor)

    def along(self, tensor: str, axis: int) -> Place | None:
        """The same for a product, by the operand that an axis comes from: queries along one, keys along another."""
        known = [self._places.get(tensor), self._others.get(tensor)]
        return next((p for p in known if p is not None and p.shape[axis] > 1), None)

    def shape(self, tensor: str) -> Shape | None:
        """The shape of a tensor for one sample."""
        return self._sized.shape(self._values[tensor]) if tensor in self._values else None

    def grid(self, tensor: str) -> Grid | None:
        """How a tensor's elements make up a map with more than one position; None if they do not."""
        if tensor not in self._grids:
            place, shape = self._places.get(tensor), self.shape(tensor)
            self._grids[tensor] = None if place is None or shape is None else grid(place, shape, self.extent)
        return self._grids[tensor]

    def seen(self, layer: Layer) -> Layer:
        """A layer with its grid, where its letters do not say as much already."""
        found = self.grid(layer.tensor)
        if found is None or (layer.layout and found.axes == _letters(layer.layout) and found.ordered):
            return layer
        return replace(layer, grid=found, role="tokens")

    def _walk(self, graph: ir.Graph) -> None:
        for node in graph:  # pads in numbers, wherever they follow from the sizes
            for value in node.inputs:
                shape = None if value is None else self._sized.shape(value)
                if value is not None and shape is not None:
                    value.shape = ir.Shape(shape)
        pads.explicit(graph)
        for node in graph:
            xs = [self._places.get(x.name or "") if x is not None else None for x in node.inputs]
            others = [self._others.get(x.name or "") if x is not None else None for x in node.inputs]
            if all(x is None for x in xs):
                continue
            for o, y in enumerate(node.outputs):
                at = At(node, xs, o, self._sized)
                try:
                    found, shape = _where(at, others), at.y
                except (Unknown, ValueError, IndexError):  # sizes that onnx infers wrongly, too
                    continue
                for known, place in zip((self._places, self._others), found, strict=False):
                    if place.size <= MOST and _fits(place, shape):
                        known[y.name or ""] = place


def _where(at: At, others: list[Place | None]) -> list[Place]:
    """Where an output lies; by the other operand, too, if it comes from a product of two that tell elements apart."""
    key = structure.key(at.node)
    if key in SIDES:
        found = sides(at, others)
    else:
        rule = RULES.get(key, alike)
        found = [rule(at)]
        if any(p is not None for p in others):
            second = [x if other is None else other for x, other in zip(at.xs, others, strict=True)]
            found.append(rule(replace(at, xs=second)))
    first, *rest = (compact(place) for place in found)
    return [first, *(p for p in rest if any(n > 1 == m for n, m in zip(p.shape, first.shape, strict=True)))]


def _fits(place: Place, shape: Shape) -> bool:
    return place.ndim == len(shape) + 1 and all(n in (1, m) for n, m in zip(place.shape, shape, strict=False))


def _letters(layout: str) -> tuple[int, ...]:
    return tuple(i for i, letter in enumerate(layout) if letter not in "NC")


def _one(spec: structure.Spec) -> Shape:
    """The shape of an input for one sample, free sides being SIDE."""
    return tuple(n if isinstance(n, int) else SIDE if i else 1 for i, n in enumerate(spec.shape))


def _pixels(shape: Shape, layout: str) -> Place:
    axes = _letters(layout)
    sides = np.meshgrid(*(np.arange(shape[a]) + 0.5 for a in axes), indexing="ij")
    place = np.stack(sides, axis=-1)
    return place.reshape(*(n if i in axes else 1 for i, n in enumerate(shape)), len(axes))


def _inside(at: NDArray[np.float64], side: int) -> NDArray[np.bool_]:
    """Which cells lie on the picture by more than half: padding lies beyond its edge, class tokens lie nowhere."""
    lines = np.unique(at[np.isfinite(at)])
    half = np.median(np.diff(lines)) / 2 if len(lines) > 1 else 0.5
    found: NDArray[np.bool_] = (at > 0.01 - half) & (at < side + half - 0.01)
    return found


def grid(place: Place, shape: Shape, extent: Shape) -> Grid | None:
    """A tensor is a grid if its tokens on the picture are those of all crossings of some rows and columns."""
    axes = tuple(i for i, n in enumerate(place.shape[:-1]) if n > 1)
    if not axes or len(shape) < 2:
        return None
    points = place.reshape(-1, place.shape[-1]).round(3)
    inside = np.flatnonzero(np.stack(list(map(_inside, points.T, extent))).all(axis=0))
    lines = [np.unique(points[inside, k], return_inverse=True) for k in range(points.shape[1])]
    sizes = tuple(len(values) for values, _ in lines)
    if math.prod(sizes) != len(inside) or len(inside) < 2:
        return None
    cells = np.full(len(inside), -1, np.int64)
    cells[np.ravel_multi_index([at for _, at in lines], sizes)] = inside
    return None if (cells < 0).any() else Grid(sizes, axes, shape, len(points) - len(inside), cells)
