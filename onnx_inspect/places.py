"""Where on the picture the numbers of a tensor lie, followed through the graph: how tokens are found to be a map.

A place is a point of the input, in pixels, from its edge. Pixels lie where they are; what a node computes lies where
what it reads lies, on average. So the places of a tensor survive reshaping, class tokens, the windows and rolls of
Swin and merged patches; attention puts a token where its query was, and sums take the operand that tells most.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from . import pads, structure
from .decompose.table import lowered
from .fields.table import runs
from .maps import Grid, positions
from .model import Model
from .naming import Layer
from .sizes import Sized

Place = NDArray[np.float64]
"""Coordinates of a tensor's elements, (*shape, coordinates); axes that make no difference have size 1. NaN: nowhere."""
Shape = tuple[int, ...]

SIDE = 224  # of an input whose size is free
_MOST = 2**25  # numbers of a place that are looked at


@dataclass(frozen=True)
class At:
    """A node, the places of its inputs (None for constants), and its output `o`."""

    node: ir.Node
    xs: list[Place | None]
    o: int
    sized: Sized

    @cached_property
    def y(self) -> Shape:
        """The shape of the output."""
        return self._shape(self.node.outputs[self.o])

    def x(self, i: int = 0) -> Shape:
        """The shape of an input."""
        return self._shape(self.node.inputs[i])

    def _shape(self, value: ir.Value | None) -> Shape:
        found = None if value is None else self.sized.shape(value)
        if found is None:
            raise _Unknown
        return found

    @property
    def place(self) -> Place:
        """The places of the first input."""
        if self.xs[0] is None:
            raise _Unknown
        return self.xs[0]

    def numbers(self, i: int) -> NDArray[Any] | None:
        """What another input holds; None if it is left out."""
        value = self.node.inputs[i] if i < len(self.node.inputs) else None
        found = None if value is None else self.sized.numbers(value)
        if value is not None and found is None:
            raise _Unknown
        return found

    def axis(self, default: int = 0) -> int:
        """The attribute `axis`, counted from the front of the first input."""
        return self.node.attributes.get_int("axis", default) % max(len(self.x()), 1)


class _Unknown(Exception):
    """Where an output lies is not known."""


Rule = Callable[[At], Place]
RULES: dict[str, Rule] = {}


def rule(ops: str) -> Callable[[Rule], Rule]:
    """Register `rule(at) -> place` for standard operators."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(ops.split(), function))
        return function

    return register


class Places:
    """Where the numbers of a model's tensors lie on its input, and which tensors are grids.

    Args:
        model: the model.
        input: the input that is the picture, or the signal.
        layout: what its axes mean, a letter each.
        sizes: the shape of each input, for one sample; None for what the model fixes, free sides being 224.

    Attributes:
        sizes: the shape of each input, as it was taken.
    """

    def __init__(
        self, model: Model, input: str, layout: str | None, sizes: Mapping[str, Sequence[int]] | None = None
    ) -> None:
        graph = lowered(model.ir).clone().graph
        self.sizes = {s.name: tuple(sizes[s.name]) if sizes and s.name in sizes else _one(s) for s in model.inputs}
        self._extent: Shape = ()
        self._places: dict[str, Place] = {}
        self._shapes: dict[str, Shape] = {}
        self._grids: dict[str, Grid | None] = {}
        self._sized = Sized(graph, self.sizes, set(graph.inputs), all_shapes=True)
        shape = self.sizes[input]
        if layout is not None and len(layout) == len(shape) and positions(layout):
            self._extent = tuple(n for n, letter in zip(shape, layout, strict=True) if letter in positions(layout))
            self._places[input], self._shapes[input] = _pixels(shape, layout), shape
            self._walk(graph)

    def place(self, tensor: str) -> Place | None:
        """Coordinates of a tensor's elements, see `Place`; None where nothing is known."""
        return self._places.get(tensor)

    def grid(self, tensor: str) -> Grid | None:
        """How a tensor's elements make up a map with more than one position; None if they do not."""
        if tensor not in self._grids:
            place, shape = self._places.get(tensor), self._shapes.get(tensor)
            self._grids[tensor] = None if place is None or shape is None else _grid(place, shape, self._extent)
        return self._grids[tensor]

    def seen(self, layer: Layer) -> Layer:
        """A layer with its grid, where its letters do not say as much already."""
        grid = self.grid(layer.tensor)
        if grid is None or (layer.layout and not grid.extra and grid.axes == _letters(layer.layout)):
            return layer
        return replace(layer, grid=grid, role="tokens")

    def _walk(self, graph: ir.Graph) -> None:
        for node in graph:  # pads in numbers, wherever they follow from the sizes
            for value in node.inputs:
                shape = None if value is None else self._sized.shape(value)
                if value is not None and shape is not None:
                    value.shape = ir.Shape(shape)
        pads.explicit(graph)
        found = self._places
        for node in graph:
            xs = [found.get(x.name or "") if x is not None else None for x in node.inputs]
            if all(x is None for x in xs):
                continue
            for o, y in enumerate(node.outputs):
                at = At(node, xs, o, self._sized)
                try:
                    place = RULES.get(structure.key(node), _alike)(at)
                except _Unknown:
                    continue
                if place.size <= _MOST:
                    found[y.name or ""], self._shapes[y.name or ""] = _compact(place), at.y


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


def _grid(place: Place, shape: Shape, extent: Shape) -> Grid | None:
    """A tensor is a grid if its tokens on the picture are those of all crossings of some rows and columns."""
    axes = tuple(i for i, n in enumerate(place.shape[:-1]) if n > 1)
    if not axes or len(shape) < 2:
        return None
    points = place.reshape(-1, place.shape[-1]).round(3)
    inside = np.flatnonzero(((points >= 0) & (points <= extent)).all(axis=1))  # padding and class tokens are not
    lines = [np.unique(points[inside, k], return_inverse=True) for k in range(points.shape[1])]
    sizes = tuple(len(values) for values, _ in lines)
    if math.prod(sizes) != len(inside) or len(inside) < 2:
        return None
    cells = np.full(len(inside), -1, np.int64)
    cells[np.ravel_multi_index([at for _, at in lines], sizes)] = inside
    return None if (cells < 0).any() else Grid(sizes, axes, shape, len(points) - len(inside), cells)


# Places.


def _compact(place: Place) -> Place:
    """Axes along which all is the same, in size 1."""
    for axis in range(place.ndim - 1):
        first = place.take([0], axis=axis) if place.shape[axis] > 1 else place
        if first is not place and ((place == first) | (np.isnan(place) & np.isnan(first))).all():
            place = first
    return place


def _spread(place: Place, shape: Shape, axes: Sequence[int] | None = None) -> Place:
    """Places along all axes of a shape, or along some."""
    wanted = range(len(shape)) if axes is None else axes
    return np.broadcast_to(
        place, [*(shape[i] if i in wanted else n for i, n in enumerate(place.shape[:-1])), place.shape[-1]]
    )


def _ranked(place: Place, rank: int) -> Place:
    """With axes of size 1 in front, as operands are broadcast."""
    return place.reshape(*[1] * (rank + 1 - place.ndim), *place.shape)


def _mean(place: Place, axes: int | tuple[int, ...]) -> Place:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # what is nowhere altogether has no mean
        found: Place = np.nanmean(place, axis=axes, keepdims=True)
    return found


def _without(place: Place, axes: Collection[int]) -> Place:
    """Without axes of size 1."""
    return place.reshape(*(n for i, n in enumerate(place.shape) if i not in axes))


def _telling(places: Sequence[Place | None]) -> Place:
    """Of several places the one that tells most elements apart."""
    known = [p for p in places if p is not None]
    if not known:
        raise _Unknown
    return max(known, key=lambda p: np.isfinite(p[..., 0]).sum())


def _between(place: Place, axis: int, index: NDArray[Any]) -> Place:
    """Places at fractions of an index along an axis, and beyond its ends."""
    n = place.shape[axis]
    if n == 1:
        return place
    low = np.floor(index).astype(int).clip(0, n - 2)
    share = (index - low).reshape(-1, *[1] * (place.ndim - 1 - axis))
    found: Place = place.take(low, axis) * (1 - share) + place.take(low + 1, axis) * share
    return found


def _alike(at: At) -> Place:
    """Elementwise, normalisations and other operators that leave elements where they are."""
    fits = [_ranked(p, len(at.y)) for i, p in enumerate(at.xs) if p is not None and _broadcasts(at.x(i), at.y)]
    return _telling(fits)


def _broadcasts(x: Shape, y: Shape) -> bool:
    return len(x) <= len(y) and all(a in (1, b) for a, b in zip(x[::-1], y[::-1], strict=False))


@rule(
    "ReverseSequence ScatterND Compress Unique TopK NonZero GridSample RoiAlign MaxRoiPool NonMaxSuppression CumSum "
    "Shape Size LSTM GRU RNN If Loop Scan"
)
def _lost(at: At) -> Place:
    raise _Unknown


@rule("MaxPool AveragePool LpPool Conv ConvInteger QLinearConv FusedConv")
def _window(at: At) -> Place:
    place, known = _mean(at.place, 1), structure.window(at.node)
    for axis in range(2, len(at.x())):
        if known is None:
            place = _scaled(place, axis, at)
        else:
            extent, stride, pad = (numbers[axis - 2] for numbers in known)
            place = _between(place, axis, np.arange(at.y[axis]) * stride - pad + (extent - 1) / 2)
    return place


@rule("ConvTranspose Resize Upsample DepthToSpace SpaceToDepth")
def _resized(at: At) -> Place:
    place = _mean(at.place, 1)
    for axis in range(2, len(at.x())):
        place = _scaled(place, axis, at)
    return place


def _scaled(place: Place, axis: int, at: At) -> Place:
    n, m = at.x()[axis], at.y[axis]
    return _between(place, axis, (np.arange(m) + 0.5) * n / m - 0.5)


@rule("ReduceMean ReduceSum ReduceMax ReduceMin ReduceL1 ReduceL2 ReduceProd ReduceSumSquare ArgMax ArgMin")
def _reduced(at: At) -> Place:
    rank = len(at.x())
    if at.node.op_type in ("ArgMax", "ArgMin"):
        axes = {at.axis()}
    else:
        given = at.numbers(1)
        axes = {int(a) % rank for a in given} if given is not None and given.size else set(range(rank))
    place = _mean(at.place, tuple(axes))
    keep = at.node.attributes.get_int("keepdims", 1)
    return place if keep else _without(place, axes)


@rule("GlobalAveragePool GlobalMaxPool GlobalLpPool")
def _pooled(at: At) -> Place:
    return _mean(at.place, tuple(range(2, len(at.x()))))


@rule("MatMul MatMulInteger QLinearMatMul Gemm FusedMatMul")
def _product(at: At) -> Place:
    """Rows lie where those of A do, columns where those of B do: of the two, as places tell more."""
    b = 3 if at.node.op_type == "QLinearMatMul" else 1
    found = []
    for place, i, flag in ((at.xs[0], 0, "transA"), (at.xs[b], b, "transB")):
        if place is None:
            continue
        place = place.swapaxes(-2, -3) if at.node.attributes.get_int(flag, 0) and place.ndim > 2 else place
        if place.ndim == 2:  # a vector has no axis left
            found.append(_mean(place, 0).reshape(*[1] * len(at.y), -1))
            continue
        place = _mean(place, place.ndim - 2 if i == 0 else place.ndim - 3)
        missing = len(at.y) + 1 - place.ndim
        if missing < 0:  # the other operand was a vector
            place = place.reshape(*place.shape[: len(at.y)], place.shape[-1])
        found.append(_ranked(place, len(at.y)))
    return _telling(found)


@rule("Einsum")
def _einsum(at: At) -> Place:
    text = at.node.attributes.get_string("equation", "").replace(" ", "")
    terms, arrow, out = text.partition("->")
    if not arrow or "..." in text:
        raise _Unknown
    found: list[Place | None] = []
    for letters, place in zip(terms.split(","), at.xs, strict=True):
        if place is not None:
            gone = tuple(i for i, letter in enumerate(letters) if letter not in out)
            kept = [letter for letter in letters if letter in out]
            place = (
                _mean(place, gone).reshape(*(n for i, n in enumerate(place.shape) if i not in gone)) if gone else place
            )
            order = [kept.index(letter) for letter in out if letter in kept]
            moved = place.transpose(*order, len(kept))
            sizes = iter(moved.shape[:-1])
            found.append(moved.reshape(*(next(sizes) if letter in kept else 1 for letter in out), moved.shape[-1]))
    return _telling(found)


@rule("Reshape Flatten Squeeze Unsqueeze")
def _reshaped(at: At) -> Place:
    """Runs of axes that hold the same elements are regrouped, each by itself."""
    x, y, place = at.x(), at.y, at.place
    if 0 in x:
        raise _Unknown
    sizes: list[int] = []
    wanted: list[int] = []
    for ours, theirs in runs(x, y):
        if all(n == 1 for n in place.shape[:-1][ours]):
            sizes += [1] * len(y[theirs])
        else:
            wanted += range(len(x))[ours]
            sizes += y[theirs]
    if math.prod(x[i] for i in wanted) * place.shape[-1] > _MOST:
        raise _Unknown
    return _spread(place, x, wanted).reshape(*sizes, place.shape[-1])


@rule("Transpose")
def _transposed(at: At) -> Place:
    rank = len(at.x())
    perm = list(at.node.attributes.get_ints("perm", ())) or list(range(rank))[::-1]
    return at.place.transpose(*perm, rank)


@rule("Concat")
def _concatenated(at: At) -> Place:
    axis = at.axis()
    count = _telling(at.xs).shape[-1]
    nowhere = np.full([*[1] * len(at.y), count], np.nan)
    parts = [_spread(nowhere if p is None else p, at.x(i), [axis]) for i, p in enumerate(at.xs)]
    common = np.broadcast_shapes(*(p.take([0], axis).shape for p in parts))
    shapes = [[*common[:axis], p.shape[axis], *common[axis + 1 :]] for p in parts]
    return np.concatenate([np.broadcast_to(p, s) for p, s in zip(parts, shapes, strict=True)], axis=axis)


@rule("Split")
def _split(at: At) -> Place:
    axis = at.axis()
    before = sum(At(at.node, at.xs, o, at.sized).y[axis] for o in range(at.o))
    return _taken(at.place, axis, slice(before, before + at.y[axis]))


@rule("Slice")
def _sliced(at: At) -> Place:
    starts, ends = at.numbers(1), at.numbers(2)
    axes, steps, place = at.numbers(3), at.numbers(4), at.place
    assert starts is not None
    assert ends is not None
    for i, (start, end) in enumerate(zip(starts.ravel(), ends.ravel(), strict=True)):
        axis = int(axes.ravel()[i]) % len(at.x()) if axes is not None else i
        step, n = int(steps.ravel()[i]) if steps is not None else 1, at.x()[axis]
        # The standard's end before the first is any number below -n, Python's is None.
        stop = None if step < 0 and int(end) < -n else int(end)
        place = _taken(place, axis, slice(int(start), stop, step))
    return place


def _taken(place: Place, axis: int, part: slice) -> Place:
    return place if place.shape[axis] == 1 else place[(slice(None),) * axis + (part,)]


@rule("Gather")
def _gathered(at: At) -> Place:
    axis, index, place = at.axis(), at.numbers(1), at.place
    if index is None:
        raise _Unknown
    if place.shape[axis] == 1:
        return place.reshape(*place.shape[:axis], *[1] * index.ndim, *place.shape[axis + 1 :])
    return place.take(index.astype(int), axis=axis)


@rule("Expand")
def _expanded(at: At) -> Place:
    return _ranked(at.place, len(at.y))


@rule("Tile")
def _tiled(at: At) -> Place:
    repeats = at.numbers(1)
    assert repeats is not None
    counts = [1 if n == 1 else int(r) for n, r in zip(at.place.shape[:-1], repeats, strict=True)]
    return np.tile(at.place, [*counts, 1])


@rule("Pad")
def _padded(at: At) -> Place:
    """What is added lies beyond the edge."""
    amounts, axes, place = at.numbers(1), at.numbers(3), at.place
    assert amounts is not None
    named = [int(a) % len(at.x()) for a in axes] if axes is not None else list(range(len(at.x())))
    for i, axis in enumerate(named):
        before, after = int(amounts[i]), int(amounts[i + len(named)])
        place = _between(place, axis, np.arange(-before, at.x()[axis] + after))
    return place
