"""Products: scores of attention lie where their queries do, and where their keys do."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from .table import At, Place, Point, Unknown, compact, mean, ranked

Sides = Callable[[At, int, Place], Place]


def sides(at: Sequence[At], points: Sequence[Sequence[Point | None]]) -> list[Point]:
    """Where a product lies by each of its operands, the one first that tells most elements apart.

    Args:
        at: the node, for each coordinate.
        points: of each input, its places by one way and by another, None for what has none.

    Raises:
        Unknown: by none of them.
    """
    seen = SIDES[at[0].node.op_type]
    found = []
    for i, given in enumerate(points):
        by = [
            tuple(compact(ranked(seen(a, i, place), len(a.y))) for a, place in zip(at, point, strict=True))
            for point in given
            if point is not None
        ]
        found += [max(by, key=_told)] if by else []
    if not found:
        raise Unknown
    return sorted(found, key=_told, reverse=True)


def _told(point: Point) -> int:
    return math.prod(np.broadcast_shapes(*(place.shape for place in point)))


def _matmul(at: At, i: int, place: Place) -> Place:
    """Rows lie where those of A do, columns where those of B do."""
    first = i == 0
    if at.node.attributes.get_int("transA" if first else "transB", 0):
        place = place.swapaxes(-1, -2)
    if place.ndim == 1:  # a vector has no axis left
        return mean(place, 0).reshape([1] * len(at.y))
    axis = place.ndim - 1 if first else place.ndim - 2
    place = mean(place, axis)
    vector = len(at.x(1 if first else 0)) == 1  # the other one, which leaves none behind
    return place.squeeze(axis) if vector else place


def _quantised(at: At, i: int, place: Place) -> Place:
    return _matmul(at, 0 if i == 0 else 1, place)


def _einsum(at: At, i: int, place: Place) -> Place:
    text = at.node.attributes.get_string("equation", "").replace(" ", "")
    terms, arrow, out = text.partition("->")
    if not arrow or "." in text or any(len(set(t)) < len(t) for t in terms.split(",")):
        raise Unknown
    letters = terms.split(",")[i]
    gone = tuple(k for k, letter in enumerate(letters) if letter not in out)
    place = mean(place, gone).squeeze(gone) if gone else place
    kept = [letter for letter in letters if letter in out]
    moved = place.transpose([kept.index(letter) for letter in out if letter in kept])
    sizes = iter(moved.shape)
    return moved.reshape([next(sizes) if letter in kept else 1 for letter in out])


SIDES: dict[str, Sides] = {
    **dict.fromkeys(("MatMul", "MatMulInteger", "Gemm", "FusedMatMul"), _matmul),
    "QLinearMatMul": _quantised,
    "Einsum": _einsum,
}
