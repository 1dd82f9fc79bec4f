"""Operators that bring elements elsewhere, as they are: places go with them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..fields.table import runs
from .table import MOST, At, Place, Unknown, between, ranked, rule, spread

_COPIED = {"reflect": "reflect", "edge": "edge", "wrap": "wrap"}  # pads that hold what lies elsewhere


@rule("Reshape Flatten Squeeze Unsqueeze")
def reshaped(at: At) -> Place:
    """Runs of axes that hold the same elements are regrouped, each by itself."""
    x, y, place = at.x(), at.y, at.place
    if 0 in x:
        raise Unknown
    sizes: list[int] = []
    wanted: list[int] = []
    for ours, theirs in runs(x, y):
        if all(n == 1 for n in place.shape[ours]):
            sizes += [1] * len(y[theirs])
        else:
            wanted += range(len(x))[ours]
            sizes += y[theirs]
    if math.prod(x[i] for i in wanted) > MOST:
        raise Unknown
    return spread(place, x, wanted).reshape(sizes)


@rule("Transpose")
def transposed(at: At) -> Place:
    """Axes in another order."""
    return at.place.transpose(list(at.node.attributes.get_ints("perm", ())) or None)


@rule("Concat")
def concatenated(at: At) -> Place:
    """One behind the other; what is no part of the picture lies nowhere."""
    axis = at.axis()
    nowhere = np.full([1] * len(at.y), np.nan)
    parts = [spread(nowhere if p is None else p, at.x(i), [axis]) for i, p in enumerate(at.xs)]
    common = np.broadcast_shapes(*(p.take([0], axis).shape for p in parts if p.shape[axis]))
    shapes = [[*common[:axis], p.shape[axis], *common[axis + 1 :]] for p in parts]
    return np.concatenate([np.broadcast_to(p, s) for p, s in zip(parts, shapes, strict=True)], axis=axis)


@rule("Split")
def split(at: At) -> Place:
    """The part that the output is."""
    axis = at.axis()
    before = sum(At(at.node, at.xs, o, at.sized).y[axis] for o in range(at.o))
    return _taken(at.place, axis, slice(before, before + at.y[axis]))


@rule("Slice")
def sliced(at: At) -> Place:
    """From where to where, along which axes, in which steps."""
    starts, ends = at.numbers(1), at.numbers(2)
    axes, steps, place = at.numbers(3), at.numbers(4), at.place
    assert starts is not None
    assert ends is not None
    for i, (start, end) in enumerate(zip(starts.ravel(), ends.ravel(), strict=True)):
        axis = int(axes.ravel()[i]) % len(at.x()) if axes is not None else i
        step = int(steps.ravel()[i]) if steps is not None else 1
        place = _taken(place, axis, slice(int(start), int(end), step))
    return place


def _taken(place: Place, axis: int, part: slice) -> Place:
    return place if place.shape[axis] == 1 else place[(slice(None),) * axis + (part,)]


@rule("Gather")
def gathered(at: At) -> Place:
    """Chosen indices of an axis, in the axes of the indices."""
    axis, index, place = at.axis(), at.numbers(1), at.place
    if index is None:
        raise Unknown
    if place.shape[axis] == 1:
        return place.reshape(*place.shape[:axis], *[1] * index.ndim, *place.shape[axis + 1 :])
    return place.take(index.astype(int), axis=axis)


@rule("Expand")
def expanded(at: At) -> Place:
    """As it is, along all that is new."""
    return ranked(at.place, len(at.y))


@rule("Tile")
def tiled(at: At) -> Place:
    """Again and again along axes that tell elements apart."""
    repeats = at.numbers(1)
    assert repeats is not None
    return np.tile(at.place, [1 if n == 1 else int(r) for n, r in zip(at.place.shape, repeats, strict=True)])


@rule("Pad")
def padded(at: At) -> Place:
    """What is added lies beyond the edge, if there is one order; or where that lies which it copies."""
    amounts, axes, place = at.numbers(1), at.numbers(3), at.place
    assert amounts is not None
    copied = _COPIED.get(at.node.attributes.get_string("mode", "constant"))
    named = [int(a) % len(at.x()) for a in axes] if axes is not None else list(range(len(at.x())))
    for i, axis in enumerate(named):
        before, after, n = int(amounts[i]), int(amounts[i + len(named)]), at.x()[axis]
        index: NDArray[Any] = np.arange(-before, n + after)
        if copied and min(before, after) >= 0:
            index = np.pad(np.arange(n), (before, after), mode=copied)  # type: ignore[call-overload]
        even = np.allclose(np.diff(place, n=2, axis=axis), 0)
        place = between(place, axis, index)
        if not even and not copied:
            place[(slice(None),) * axis + (np.flatnonzero((index < 0) | (index >= n)),)] = np.nan
    return place
