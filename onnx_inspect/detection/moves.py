"""Operators that only move elements, on the numbers of the elements."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ..emit import inputs

if TYPE_CHECKING:
    from .lineage import Lineage

Array = NDArray[Any]


def keeps_samples(node: ir.Node, lineage: Lineage) -> bool:
    """True if a node moves nothing along the first axis, by its attributes."""
    rank = len(lineage.shape(node.inputs[0])) if node.inputs[0] is not None else 0
    if node.op_type == "Transpose":
        return list(node.attributes.get_ints("perm", ()))[:1] == [0]
    if node.op_type == "Slice":
        axes = lineage.sized.numbers(x) if (x := inputs(node, 4)[3]) is not None else np.zeros(1)
        return axes is not None and all(int(a) % rank for a in axes)
    if node.op_type in ("Concat", "Split", "Gather"):
        return node.attributes.get_int("axis", 0) % rank != 0
    return True


Move = Callable[[ir.Node, Sequence[Array], "Lineage", ir.Value], Array | None]


def _transpose(node: ir.Node, xs: Sequence[Array], lineage: Lineage, y: ir.Value) -> Array | None:
    perm = list(node.attributes.get_ints("perm", ())) or list(range(xs[0].ndim))[::-1]
    return xs[0].transpose(perm)


def _reshape(node: ir.Node, xs: Sequence[Array], lineage: Lineage, y: ir.Value) -> Array | None:
    return xs[0].reshape(lineage.shape(y) or ())


def _concat(node: ir.Node, xs: Sequence[Array], lineage: Lineage, y: ir.Value) -> Array | None:
    axis = node.attributes.get_int("axis")
    return np.concatenate(xs, axis=axis) if len(xs) == len(node.inputs) else None


def _slice(node: ir.Node, xs: Sequence[Array], lineage: Lineage, y: ir.Value) -> Array | None:
    given = [None if v is None else lineage.sized.numbers(v) for v in inputs(node, 5)[1:]]
    starts, ends, axes, steps = given
    if starts is None or ends is None:
        return None
    axes = np.arange(len(starts)) if axes is None else axes
    steps = np.ones(len(starts), np.int64) if steps is None else steps
    which = [slice(None)] * xs[0].ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        last = None if step < 0 and end < -xs[0].shape[axis] else int(end)
        which[int(axis)] = slice(int(start), last, int(step))
    return xs[0][tuple(which)]


def _split(node: ir.Node, xs: Sequence[Array], lineage: Lineage, y: ir.Value) -> Array | None:
    axis = node.attributes.get_int("axis", 0) % xs[0].ndim
    sizes = [(lineage.shape(v) or ())[axis : axis + 1] for v in node.outputs]
    if () in sizes:
        return None
    place = list(node.outputs).index(y)
    start = sum(s[0] for s in sizes[:place])
    return xs[0].take(range(start, start + sizes[place][0]), axis=axis)


def _gather(node: ir.Node, xs: Sequence[Array], lineage: Lineage, y: ir.Value) -> Array | None:
    index, axis = inputs(node, 2)[1], node.attributes.get_int("axis", 0)
    numbers = lineage.sized.numbers(index) if index is not None else None
    return xs[0].take(numbers, axis=axis) if numbers is not None else None


MOVES: dict[str, Move] = {
    "Transpose": _transpose,
    "Concat": _concat,
    "Slice": _slice,
    "Split": _split,
    "Gather": _gather,
    "Reshape": _reshape,
    "Flatten": _reshape,
    "Squeeze": _reshape,
    "Unsqueeze": _reshape,
}
