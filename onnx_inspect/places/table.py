"""The table of rules: where a node's output lies, given where its inputs do; and reckoning with places.

A place is a coordinate on the input, in pixels, from its edge; each coordinate goes through the graph by itself, so
that the rows of a map are a line of numbers. Pixels lie where they are; what a node computes lies where what it reads
lies, on average:

    @rule("Transpose")
    def transposed(at):
        return at.place.transpose(at.perm)
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ..sizes import Sized

Place = NDArray[np.float64]
"""A coordinate of a tensor's elements, shaped like it; axes that make no difference have size 1. NaN: nowhere."""
Point = tuple[Place, ...]
"""Height and width, say."""
Shape = tuple[int, ...]

MOST = 2**23  # numbers of a place that are looked at: the pixels of a 4K photo


class Unknown(Exception):
    """Where an output lies is not known."""


@dataclass(frozen=True)
class At:
    """A node, a coordinate of each of its inputs (None for constants), and its output `o`."""

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
            raise Unknown
        return found

    @property
    def place(self) -> Place:
        """The places of the first input."""
        if self.xs[0] is None:
            raise Unknown
        return self.xs[0]

    def numbers(self, i: int) -> NDArray[Any] | None:
        """What another input holds; None if it is left out."""
        value = self.node.inputs[i] if i < len(self.node.inputs) else None
        found = None if value is None else self.sized.numbers(value)
        if value is not None and found is None:
            raise Unknown
        return found

    def axis(self, default: int = 0) -> int:
        """The attribute `axis`, counted from the front of the first input."""
        return self.node.attributes.get_int("axis", default) % max(len(self.x()), 1)


Rule = Callable[[At], Place]
RULES: dict[str, Rule] = {}


def rule(ops: str) -> Callable[[Rule], Rule]:
    """Register `rule(at) -> place` for standard operators."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(ops.split(), function))
        return function

    return register


def alike(at: At) -> Place:
    """Elementwise, normalisations and other operators that leave elements where they are."""
    return telling([ranked(p, len(at.y)) for i, p in enumerate(at.xs) if p is not None and _fits(at.x(i), at.y)])


def _fits(x: Shape, y: Shape) -> bool:
    return len(x) <= len(y) and all(a in (1, b) for a, b in zip(x[::-1], y[::-1], strict=False))


def telling(places: Sequence[Place | None]) -> Place:
    """Of several places the one that tells most elements apart."""
    known = [p for p in places if p is not None]
    if not known:
        raise Unknown
    return max(known, key=lambda p: np.isfinite(p).sum())


def compact(place: Place) -> Place:
    """Axes along which all is the same, in size 1."""
    for axis in range(place.ndim):
        first = place.take([0], axis=axis) if place.shape[axis] > 1 else place
        if first is not place and ((place == first) | (np.isnan(place) & np.isnan(first))).all():
            place = first
    return place


def spread(place: Place, shape: Shape, axes: Sequence[int] | None = None) -> Place:
    """Places along all axes of a shape, or along some."""
    wanted = range(len(shape)) if axes is None else axes
    return np.broadcast_to(place, [shape[i] if i in wanted else n for i, n in enumerate(place.shape)])


def ranked(place: Place, rank: int) -> Place:
    """With axes of size 1 in front, as operands are broadcast."""
    return place.reshape(*[1] * (rank - place.ndim), *place.shape)


def mean(place: Place, axes: int | tuple[int, ...]) -> Place:
    """The middle along some axes, which keep size 1."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # what is nowhere altogether has no mean
        found: Place = np.nanmean(place, axis=axes, keepdims=True)
    return found


def between(place: Place, axis: int, index: NDArray[Any]) -> Place:
    """Places at fractions of an index along an axis, and beyond its ends."""
    n = place.shape[axis]
    if n == 1:
        return place
    low = np.floor(index).astype(int).clip(0, n - 2)
    share = (index - low).reshape(-1, *[1] * (place.ndim - 1 - axis))
    first, second = place.take(low, axis), place.take(low + 1, axis)
    # Not by the formula at the ends: a neighbour that lies nowhere would count.
    found: Place = np.where(share == 0, first, np.where(share == 1, second, first + (second - first) * share))
    return found
