"""What operators read that compute nothing, and only move numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .table import At, Axis, Reach, Shape, Table, along, chained, regrouped, rule, same, taps


@rule("Flatten Reshape Squeeze Unsqueeze", data=1)
def reshape(at: At) -> Reach:
    """The same numbers in the same order."""
    return regrouped(at.x, at.y)


@rule("Transpose")
def transpose(at: At) -> Reach:
    """Axes in another order."""
    return _transposed(at.x, at.node.attributes.get_ints("perm", ()) or range(len(at.x))[::-1])


def _transposed(x: Shape, perm: Sequence[int]) -> Reach:
    return along(x, [Axis(list(perm).index(i)) for i in range(len(x))])


@rule("DepthToSpace")
def depth_to_space(at: At) -> Reach:
    """Y[c, b h + i, b w + j] = X[(i, j, c), h, w], or X[(c, i, j), h, w] in mode CRD."""
    b = at.node.attributes.get_int("blocksize")
    n, depth, h, w = at.x
    c = depth // b**2
    if at.node.attributes.get_string("mode", "DCR") == "DCR":
        return _blocks(at, (n, b, b, c, h, w), (0, 3, 4, 1, 5, 2))
    return _blocks(at, (n, c, b, b, h, w), (0, 1, 4, 2, 5, 3))


@rule("SpaceToDepth")
def space_to_depth(at: At) -> Reach:
    """Y[(i, j, c), h, w] = X[c, b h + i, b w + j]."""
    b = at.node.attributes.get_int("blocksize")
    n, c, h, w = at.x
    return _blocks(at, (n, c, h // b, b, w // b, b), (0, 3, 5, 1, 2, 4))


def _blocks(at: At, split: Shape, perm: Sequence[int]) -> Reach:
    """X with its axes split, brought into another order, and merged to the shape of Y."""
    moved = tuple(split[i] for i in perm)
    return chained(regrouped(at.x, split), _transposed(split, perm), regrouped(moved, at.y))


@rule("Concat")
def concat(at: At) -> Reach:
    """X is part of Y, behind the inputs before it."""
    axis = at.axis(0)
    start = sum(at.shape(x)[axis] for x in at.node.inputs[: at.i])
    return _on(at, {axis: np.arange(at.y[axis]) - start})


@rule("Split", data=1)
def split(at: At) -> Reach:
    """Y is part of X, behind the outputs before it: of the sizes given, or all as large as the first."""
    axis, sizes = at.axis(0), at.numbers(1)
    start = at.o * -(-at.x[axis] // len(at.node.outputs)) if sizes is None else sizes[: at.o].sum()
    return _on(at, {axis: np.arange(at.y[axis]) + start})


@rule("Slice", data=1)
def slice_(at: At) -> Reach:
    """Y = X[start:end:step] along some axes."""
    starts, ends, axes, steps = (_list(at, i) for i in (1, 2, 3, 4))
    axes = [axis % len(at.x) for axis in axes] or list(range(len(starts)))
    steps = steps or [1] * len(starts)
    part = zip(axes, starts, ends, steps, strict=True)
    return _on(at, {axis: np.arange(at.x[axis])[start:end:step] for axis, start, end, step in part})


@rule("Pad", data=1)
def pad(at: At) -> Reach:
    """Y = X with constants, its edge, its mirror image or itself around it; pads below 0 cut."""
    pads, axes = _list(at, 1), [axis % len(at.x) for axis in _list(at, 3)] or range(len(at.x))
    mode = at.node.attributes.get_string("mode", "constant")
    reads = {}
    for axis, begin, end in zip(axes, pads[: len(pads) // 2], pads[len(pads) // 2 :], strict=True):
        n, around = at.x[axis], (max(begin, 0), max(end, 0))
        inside = np.arange(n)
        padded = np.pad(inside, around, constant_values=n) if mode == "constant" else np.pad(inside, around, mode)  # type: ignore[call-overload]
        reads[axis] = padded[max(-begin, 0) : len(padded) - max(-end, 0)]
    return _on(at, reads)


@rule("Tile", data=1)
def tile(at: At) -> Reach:
    """Y = X again and again."""
    return _on(at, {axis: np.arange(n) % max(at.x[axis], 1) for axis, n in enumerate(at.y)})


@rule("Gather", data=1)
def gather(at: At) -> Reach:
    """Y[.., i, ..] = X[.., indices[i], ..]: the axis that is picked from gives way to those of the indices."""
    axis, indices = at.axis(0), np.asarray(at.numbers(1))
    n, more = at.x[axis], indices.ndim - 1
    picked = taps(indices.reshape(-1, 1) % n, n)
    here = Axis(axis, picked) if not more else Axis(None, picked.reshape(1, -1))
    return along(at.x, [*same(axis), here, *(Axis(i + more) for i in range(axis + 1, len(at.x)))])


def _on(at: At, reads: dict[int, Table]) -> Reach:
    """One index of X along some axes, the same one along the others."""
    tables = {axis: Axis(axis, taps(indices, at.x[axis])) for axis, indices in reads.items()}
    return along(at.x, [tables.get(i, Axis(i)) for i in range(len(at.x))])


def _list(at: At, index: int) -> list[int]:
    """The integers of an input, [] if it is left out."""
    found = at.numbers(index)
    return [] if found is None else [int(i) for i in found.ravel()]
