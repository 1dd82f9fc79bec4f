"""The table of rules: where along a picture's axes the numbers of a node's output come from.

Occlusion changes a box of the input, and so a box of every map behind it. A rule says how a node's output follows its
inputs along the axes that the box has, all others being whole: through a `Window` along each of them.

    @rule("Transpose")
    def transpose(at):
        return Reading(tuple(at.perm.index(a) for a in at.along), at.points())
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ..fields.table import Unknown
from ..sizes import Sized

Boxes = NDArray[np.int64]
"""(axes, 2, m): where m boxes begin and end along each axis that they have."""
Axes = tuple[int, ...]


@dataclass(frozen=True)
class Window:
    """How an axis is read: number o of the output from numbers s o - p to s o - p + extent of the input.

    n, out: how many numbers the input and the output have. extent: of the window, dilation included. stride: s. before,
    after: the pads, p being the first. ceil: a last window may lie over the end.
    """

    n: int
    out: int
    extent: int = 1
    stride: int = 1
    before: int = 0
    after: int = 0
    ceil: bool = False

    @property
    def beyond(self) -> tuple[int, int]:
        """How far windows reach over the ends of the input."""
        return self.before, max((self.out - 1) * self.stride - self.before + self.extent - self.n, 0)


class Windows:
    """Windows along all axes of boxes, and what they make of boxes."""

    def __init__(self, windows: Sequence[Window]) -> None:
        rows = [(w.n, w.out, w.extent, w.stride, w.before, w.after, w.ceil) for w in windows]
        self._n, self._out, self._extent, self.stride, self._before, self._after, self._ceil = np.array(rows).T[
            ..., None
        ]

    def changed(self, boxes: Boxes) -> Boxes:
        """The outputs that read anything of a box; at least one, which may come out as it was."""
        first = -((self._extent - 1 - self._before - boxes[:, 0]) // self.stride)
        last = (boxes[:, 1] - 1 + self._before) // self.stride
        first = np.maximum(np.minimum(first, self._out - 1), 0)
        return _boxes(first, np.maximum(np.minimum(last + 1, self._out), first + 1))

    def reads(self, boxes: Boxes) -> Boxes:
        """What outputs read, over the ends of the input where the pads are."""
        first = boxes[:, 0] * self.stride - self._before
        return _boxes(first, (boxes[:, 1] - 1) * self.stride + self._extent - self._before)

    def aligned(self, boxes: Boxes) -> Boxes:
        """A box within the input that holds another and begins where a window may."""
        first = np.maximum(np.minimum(boxes[:, 0], self._n), 0)
        return _boxes(first // self.stride * self.stride, np.maximum(np.minimum(boxes[:, 1], self._n), 0))

    def computed(self, boxes: Boxes) -> Boxes:
        """The outputs that the node has if it is run on a box, and pads that."""
        length = boxes[:, 1] - boxes[:, 0]
        over = length + self._before + self._after - self._extent
        count = np.where(self._ceil, -(-over // self.stride), over // self.stride) + 1
        # With ceil, a window has to begin on the input, or on the pads before it.
        count -= self._ceil & ((count - 1) * self.stride >= length + self._before)
        first = boxes[:, 0] // self.stride
        return _boxes(first, first + count)

    def right(self, boxes: Boxes) -> Boxes:
        """Those of them that are what they are for the whole input."""
        first = np.where(boxes[:, 0] <= 0, 0, -((-boxes[:, 0] - self._before) // self.stride))
        last = (boxes[:, 1] - self._extent + self._before) // self.stride + 1
        return _boxes(first, np.maximum(np.where(boxes[:, 1] >= self._n, self._out, last), first))


def _boxes(first: NDArray[Any], last: NDArray[Any]) -> Boxes:
    boxes = np.empty((len(first), 2, first.shape[1]), np.int64)
    boxes[:, 0], boxes[:, 1] = first, last
    return boxes


@dataclass(frozen=True)
class Reading:
    """How a node is read.

    axes: of the output that the box has. windows: along each. pad: the number that stands for what the node pads with,
    None where none can.
    """

    axes: Axes
    windows: tuple[Window, ...]
    pad: float | None = None


@dataclass(frozen=True)
class At:
    """A node, some of whose inputs hold a box, and the sizes of a run.

    axes: of the tensors with a box, those that it has. varying: all tensors that depend on an input.
    """

    node: ir.Node
    sized: Sized
    axes: Mapping[ir.Value, Axes]
    varying: set[ir.Value]

    @property
    def boxed(self) -> list[int]:
        """The inputs that hold a box."""
        return [i for i, x in enumerate(self.node.inputs) if x is not None and x in self.axes]

    @property
    def along(self) -> Axes:
        """The axes of the box, which are those of all inputs that hold one."""
        (axes,) = {self.axes[self.node.inputs[i]] for i in self.boxed}  # type: ignore[index]
        return axes

    @property
    def x(self) -> tuple[int, ...]:
        """The shape of the first input."""
        return self.shape(self.node.inputs[0])

    def shape(self, value: ir.Value | None) -> tuple[int, ...]:
        """The shape of a tensor."""
        found = None if value is None else self.sized.shape(value)
        if found is None:
            raise Unknown
        return found

    def points(self) -> tuple[Window, ...]:
        """Every number from that at its place."""
        sides = [self.x[a] for a in self.along]
        return tuple(Window(n, n) for n in sides)

    def first_alone(self) -> None:
        """Refuse a node that reads a box through another input than its first."""
        if self.boxed != [0]:
            raise Unknown

    def axis(self, default: int) -> int:
        """The attribute `axis`, counted from the front of the first input."""
        return self.node.attributes.get_int("axis", default) % max(len(self.x), 1)


Rule = Callable[[At], Reading]
RULES: dict[str, Rule] = {}


def rule(ops: str) -> Callable[[Rule], Rule]:
    """Register `rule(at) -> reading` for standard operators; it raises `Unknown` for what it does not know."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(ops.split(), function))
        return function

    return register
