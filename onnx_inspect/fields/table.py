"""The table of rules: which numbers of an input a part of a node's output is computed from.

A part of a tensor is a `Region`. Nearly all operators read an input axis by axis; a rule says how, once per node, and
`along` makes of it what is done for each part:

    @rule("Transpose")
    def transpose(at):
        return along(at.x, [Axis(at.perm.index(i)) for i in range(len(at.x))])
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ..sizes import Sized

Region = tuple[NDArray[np.bool_], ...]
"""Part of a tensor: along each axis, which indices belong to it."""
Reach = Callable[[Region], Region]
"""From a part of an output to the part of an input that it is computed from."""
Table = NDArray[np.int64]
"""(m, k): for each of m indices of an output, the k that it reads of n; n itself stands for nothing."""
Shape = tuple[int, ...]


class Unknown(Exception):
    """What a node reads is known at run time only, or not at all."""


class Axis(NamedTuple):
    """How an axis of an input is read.

    Attributes:
        of: the axis of the output whose index says where; None where all indices read the same.
        reads: what each of them reads; None for the same index, or for all where there is none.
    """

    of: int | None = None
    reads: Table | None = None


@dataclass(frozen=True)
class At:
    """An input `i` of a node, and the output `o` that is computed from it, with the sizes of one run."""

    node: ir.Node
    i: int
    o: int
    sized: Sized

    @cached_property
    def x(self) -> Shape:
        """The shape of the input."""
        return self.shape(self.node.inputs[self.i])

    @cached_property
    def y(self) -> Shape:
        """The shape of the output."""
        return self.shape(self.node.outputs[self.o])

    def shape(self, value: ir.Value | None) -> Shape:
        """The shape of any tensor."""
        found = None if value is None else self.sized.shape(value)
        if found is None:
            raise Unknown
        return found

    def numbers(self, index: int) -> NDArray[Any] | None:
        """What another input of the node holds; None if it is left out."""
        value = self.node.inputs[index] if index < len(self.node.inputs) else None
        found = None if value is None else self.sized.numbers(value)
        if value is not None and found is None:
            raise Unknown
        return found

    def axis(self, default: int) -> int:
        """The attribute `axis`, counted from the front of the input."""
        return self.node.attributes.get_int("axis", default) % max(len(self.x), 1)


Rule = Callable[[At], Reach]
RULES: dict[str, Rule] = {}


def rule(ops: str, data: int | None = None) -> Callable[[Rule], Rule]:
    """Register `rule(at) -> reach` for standard operators.

    Args:
        ops: their names.
        data: how many inputs the rule is for; any other is read as a whole. None for all.
    """

    def register(function: Rule) -> Rule:
        def checked(at: At) -> Reach:
            x, _ = at.x, at.y  # without their sizes nothing can be said
            return function(at) if data is None or at.i < data else everything(x)

        RULES.update(dict.fromkeys(ops.split(), checked))
        return function

    return register


def everything(shape: Shape) -> Reach:
    """All of an input."""
    whole = tuple(np.ones(n, bool) for n in shape)
    return lambda _: whole


def along(shape: Shape, axes: Sequence[Axis]) -> Reach:
    """An input of a shape, read axis by axis."""

    def read(region: Region, n: int, axis: Axis) -> NDArray[np.bool_]:
        of, reads = axis
        if reads is None:
            return np.ones(n, bool) if of is None else region[of]
        return _mask(reads if of is None else reads[region[of]], n)

    return lambda region: tuple(read(region, n, axis) for n, axis in zip(shape, axes, strict=True))


def same(count: int) -> list[Axis]:
    """So many axes that are read at the index that is computed."""
    return [Axis(i) for i in range(count)]


def taps(reads: NDArray[Any], n: int) -> Table:
    """A table of indices (m, k) or, one for each, (m,); those that the n of an axis lack stand for nothing."""
    reads = reads.reshape(len(reads), -1)
    return np.where((reads >= 0) & (reads < n), reads, n)


def spread(x: Shape, y: Shape) -> list[Axis]:
    """The axes of an operand X that is broadcast to Y: counted from the last, those of size 1 read again and again."""
    first = Axis(None, np.zeros((1, 1), np.int64))
    return [first if n == 1 else Axis(len(y) - len(x) + i) for i, n in enumerate(x)]


def regrouped(x: Shape, y: Shape) -> Reach:
    """X in the shape of Y: axes are split and merged, and their elements keep their order."""
    if 0 in x:
        raise Unknown
    groups = list(runs(x, y))

    def reach(region: Region) -> Region:
        masks: list[NDArray[np.bool_]] = []
        for ours, theirs in groups:
            part, shape = region[theirs], x[ours]
            if len(part) == 1 == len(shape):
                masks += part
            elif all(mask.all() for mask in part):
                masks += [np.ones(n, bool) for n in shape]
            else:
                flat = np.ravel_multi_index(np.ix_(*map(np.flatnonzero, part)), y[theirs]).ravel()
                masks += [_mask(found, n) for found, n in zip(np.unravel_index(flat, shape), shape, strict=True)]
        return tuple(masks)

    return reach


def runs(x: Shape, y: Shape) -> Iterator[tuple[slice, slice]]:
    """The shortest runs of axes of X and Y that hold the same elements; what is left are axes of size 1."""
    i = j = 0
    while i < len(x) and j < len(y):
        starts, ours, theirs = (i, j), x[i], y[j]
        i, j = i + 1, j + 1
        while ours != theirs:
            if ours < theirs:
                ours, i = ours * x[i], i + 1
            else:
                theirs, j = theirs * y[j], j + 1
        yield slice(starts[0], i), slice(starts[1], j)
    yield slice(i, len(x)), slice(j, len(y))


def _mask(indices: NDArray[np.int64], n: int) -> NDArray[np.bool_]:
    """True at some of n indices; n itself stands for nothing."""
    mask = np.zeros(n + 1, bool)
    mask[indices] = True
    return mask[:n]


def chained(*reaches: Reach) -> Reach:
    """Several steps that compute one after another."""

    def reach(region: Region) -> Region:
        for each in reversed(reaches):
            region = each(region)
        return region

    return reach
