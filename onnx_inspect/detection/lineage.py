"""Where the elements of a tensor were computed: back through what only moves them, to what made them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ..dtypes import is_float
from ..emit import Op, inputs
from ..errors import TargetError
from ..model import Model
from ..sizes import Sized

Array = NDArray[Any]
ACTIVATIONS = {"Sigmoid": "sigmoid", "Softmax": "softmax"}
_SAME = frozenset("Identity Dropout Cast DequantizeLinear".split())
# Operators of one varying tensor that keep every element in its place.
POINTWISE = frozenset("Add Sub Mul Div Pow Exp Clip Relu LeakyRelu Sqrt Neg Max Min Tanh HardSigmoid Sigmoid".split())


@dataclass(frozen=True)
class Leaf:
    """A tensor that elements were found in, and the activation that was stepped over on the way, None for none.

    Attributes:
        tensor: its name.
        activation: "sigmoid", "softmax" or None.
        shape: of one sample.
    """

    tensor: str
    activation: str | None
    shape: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Elements:
    """Elements of some tensors, numbered through: those of the first leaf, of one sample, come first.

    Attributes:
        leaves: the tensors; the first axis of each counts samples.
        numbers: of the elements, in any shape.
    """

    leaves: tuple[Leaf, ...]
    numbers: NDArray[np.int64]

    @property
    def starts(self) -> NDArray[np.int64]:
        """The number of the first element of every leaf."""
        return np.cumsum([0, *(int(np.prod(leaf.shape)) for leaf in self.leaves)])[:-1]

    def leaf(self, numbers: NDArray[np.int64]) -> NDArray[np.intp]:
        """Which leaf elements are in."""
        return np.searchsorted(self.starts, numbers, side="right") - 1

    def part(self, numbers: NDArray[np.int64]) -> Elements:
        """Some of the elements, with the leaves that they need, and no more."""
        which = self.leaf(numbers)
        used = np.unique(which)
        mine = Elements(tuple(self.leaves[i] for i in used), numbers)
        shift = np.zeros(len(self.leaves), np.int64)
        shift[used] = mine.starts - self.starts[used]
        return Elements(mine.leaves, numbers + shift[which])

    def tensors(self, numbers: NDArray[np.int64]) -> list[str]:
        """The tensors that elements are in."""
        return list(dict.fromkeys(self.leaves[i].tensor for i in np.unique(self.leaf(numbers))))

    def values(self, found: Mapping[str, Array]) -> Array:
        """The elements of every sample, (N, *numbers.shape), float64, from the values of the leaves."""
        rows = [np.asarray(found[leaf.tensor], np.float64) for leaf in self.leaves]
        return np.concatenate([r.reshape(len(r), -1) for r in rows], axis=1)[:, self.numbers]

    def gather(self, op: Op, model: Model, numbers: ir.Value) -> ir.Value:
        """Chosen elements in the graph: numbers (N, k) to values (N, k)."""
        rows = [op.Flatten(op.Cast(model.value(leaf.tensor), to=ir.DataType.FLOAT), axis=1) for leaf in self.leaves]
        row = op.Concat(*rows, axis=1) if len(rows) > 1 else rows[0]
        found: ir.Value = op.GatherElements(row, numbers, axis=1)
        found.shape = ir.Shape([None, None])
        return found


class Lineage:
    """Follows elements back, for samples of given sizes.

    Args:
        model: the model.
        sizes: of its inputs.
        batch: how many samples that are.
    """

    def __init__(self, model: Model, sizes: Mapping[str, tuple[int, ...]], batch: int = 1) -> None:
        self.model, self.batch = model, batch
        self.sized = Sized(model.ir.graph, sizes, set(), all_shapes=True)

    def shape(self, value: ir.Value) -> tuple[int, ...]:
        """The shape, () where it cannot be told."""
        return self.sized.shape(value) or ()

    def sample(self, value: ir.Value) -> tuple[int, ...]:
        """The shape of one sample, () where samples do not lie on the first axis."""
        shape = self.shape(value)
        return shape[1:] if shape[:1] == (self.batch,) else ()

    def of(self, value: ir.Value, *, steps_over: bool = False, deep: bool = False) -> list[Elements]:
        """Where each element of a sample of a tensor comes from: arrays of the shape of a sample, one per factor.

        Args:
            value: the tensor.
            steps_over: take what lies before a sigmoid or softmax, and the factors of a product of two apart.
            deep: step over all that keeps an element in its place, whatever it does to it.

        Raises:
            TargetError: its shape cannot be told.
        """
        walk = _Walk(self, steps_over, deep)
        return [walk.elements(numbers[0]) for numbers in walk.back(value, None)]


class _Walk:
    """One walk back: leaves get their numbers as they are found."""

    def __init__(self, lineage: Lineage, steps_over: bool, deep: bool) -> None:
        self.lineage, self.steps_over, self.deep = lineage, steps_over, deep
        self._leaves: dict[Leaf, int] = {}
        self._count = 0
        self._known: dict[tuple[ir.Value, str | None], list[NDArray[np.int64]]] = {}

    def elements(self, numbers: NDArray[np.int64]) -> Elements:
        """Numbers with the leaves that they need."""
        return Elements(tuple(self._leaves), numbers).part(numbers)

    def back(self, value: ir.Value, activation: str | None) -> list[NDArray[np.int64]]:
        """Numbers in the shape of the value, per factor."""
        key = (value, activation)
        if key not in self._known:
            self._known[key] = self._step(value, activation) or [self._leaf(value, activation)]
        return self._known[key]

    def _leaf(self, value: ir.Value, activation: str | None) -> NDArray[np.int64]:
        shape = self.lineage.sample(value)
        if not shape or 0 in shape:
            raise TargetError(
                f"The shape of '{value.name}' is not known before the model runs: name the elements to explain "
                "(--target OUTPUT[row, column])."
            )
        leaf = Leaf(value.name or "", activation, shape)
        if leaf not in self._leaves:
            self._leaves[leaf] = self._count
            self._count += int(np.prod(shape))
        numbers = np.arange(np.prod(shape)).reshape(shape) + self._leaves[leaf]
        return np.broadcast_to(numbers, self.lineage.shape(value))

    def _step(self, value: ir.Value, activation: str | None) -> list[NDArray[np.int64]]:
        """The numbers by those of what the value is made of; [] where the walk ends."""
        node = value.producer()
        if node is None or node.domain not in ("", "ai.onnx") or not node.inputs:
            return []
        xs = [x for x in node.inputs if x is not None and x in self.lineage.model.varying and is_float(x)]
        if node.op_type == "DequantizeLinear" and (quantised := node.inputs[0]) is not None:
            before = quantised.producer()
            xs = [x for x in before.inputs[:1] if x] if before and before.op_type == "QuantizeLinear" else []
        shape = self.lineage.shape(value)
        if not xs or not shape or any(self.lineage.shape(x)[:1] != shape[:1] for x in xs):
            return []  # samples on the first axis stay there
        if self.steps_over and node.op_type in ACTIVATIONS and activation is None:
            return self.back(xs[0], ACTIVATIONS[node.op_type])
        if node.op_type in _SAME or (self.deep and node.op_type in POINTWISE):
            same = [x for x in xs if self.lineage.shape(x) == shape]
            return self.back(same[0], activation) if same else []
        if self.steps_over and node.op_type == "Mul" and len(xs) == 2 and xs[0] is not xs[1]:
            parts = [[np.broadcast_to(n, shape) for n in self.back(x, activation)] for x in xs]
            # A gate, as SiLU's x * sigmoid(x), is no product of two probabilities.
            leaves = [self.elements(n).leaves for part in parts for n in part]
            return [n for part in parts for n in part] if all(x.activation for one in leaves for x in one) else []
        move = MOVES.get(node.op_type)
        if move is None:
            return []
        parts = [self.back(x, activation) for x in xs]
        if len({len(p) for p in parts}) != 1:
            return []
        moved = [move(node, [p[i] for p in parts], self.lineage.sized, value) for i in range(len(parts[0]))]
        found = [m for m in moved if m is not None and m.shape == shape]
        return found if len(found) == len(moved) else []


Move = Callable[[ir.Node, Sequence[Array], Sized, ir.Value], Array | None]


def _transpose(node: ir.Node, xs: Sequence[Array], sized: Sized, y: ir.Value) -> Array | None:
    perm = list(node.attributes.get_ints("perm", ())) or list(range(xs[0].ndim))[::-1]
    return xs[0].transpose(perm) if perm[0] == 0 else None


def _reshape(node: ir.Node, xs: Sequence[Array], sized: Sized, y: ir.Value) -> Array | None:
    return xs[0].reshape(sized.shape(y) or ())


def _concat(node: ir.Node, xs: Sequence[Array], sized: Sized, y: ir.Value) -> Array | None:
    axis = node.attributes.get_int("axis")
    return np.concatenate(xs, axis=axis) if axis % xs[0].ndim and len(xs) == len(node.inputs) else None


def _slice(node: ir.Node, xs: Sequence[Array], sized: Sized, y: ir.Value) -> Array | None:
    given = [None if v is None else sized.numbers(v) for v in inputs(node, 5)[1:]]
    starts, ends, axes, steps = given
    if starts is None or ends is None:
        return None
    axes = np.arange(len(starts)) if axes is None else axes
    steps = np.ones(len(starts), np.int64) if steps is None else steps
    which = [slice(None)] * xs[0].ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        last = None if step < 0 and end < -xs[0].shape[axis] else int(end)
        which[int(axis)] = slice(int(start), last, int(step))
    return xs[0][tuple(which)] if which[0] == slice(None) else None


def _split(node: ir.Node, xs: Sequence[Array], sized: Sized, y: ir.Value) -> Array | None:
    axis = node.attributes.get_int("axis", 0) % xs[0].ndim
    sizes = [(sized.shape(v) or ())[axis : axis + 1] for v in node.outputs]
    if axis == 0 or () in sizes:
        return None
    place = list(node.outputs).index(y)
    start = sum(s[0] for s in sizes[:place])
    return xs[0].take(range(start, start + sizes[place][0]), axis=axis)


def _gather(node: ir.Node, xs: Sequence[Array], sized: Sized, y: ir.Value) -> Array | None:
    index, axis = inputs(node, 2)[1], node.attributes.get_int("axis", 0)
    numbers = sized.numbers(index) if index is not None else None
    return xs[0].take(numbers, axis=axis) if numbers is not None and axis % xs[0].ndim else None


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
