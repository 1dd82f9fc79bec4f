"""Where the elements of a tensor were computed: back through what only moves them, to what made them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ..dtypes import is_float
from ..emit import Op
from ..model import Model
from ..sizes import Sized
from .moves import MOVES, keeps_samples
from .telling import HeadError

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
        alone: the tensor is that of one sample, and no axis counts them.
    """

    tensor: str
    activation: str | None
    shape: tuple[int, ...]
    alone: bool = False


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
        used = np.flatnonzero(np.bincount(which.ravel(), minlength=len(self.leaves)))
        mine = Elements(tuple(self.leaves[i] for i in used), numbers)
        shift = np.zeros(len(self.leaves), np.int64)
        shift[used] = mine.starts - self.starts[used]
        return Elements(mine.leaves, numbers + shift[which])

    def tensors(self, numbers: NDArray[np.int64]) -> list[str]:
        """The tensors that elements are in."""
        return list(dict.fromkeys(self.leaves[i].tensor for i in np.unique(self.leaf(numbers))))

    def values(self, found: Mapping[str, Array]) -> Array:
        """The elements of every sample, (N, *numbers.shape), float64, from the values of the leaves."""
        arrays = [(np.asarray(found[leaf.tensor], np.float64), leaf.alone) for leaf in self.leaves]
        return np.concatenate([a.reshape(1 if alone else len(a), -1) for a, alone in arrays], axis=1)[:, self.numbers]

    def gather(self, op: Op, model: Model, numbers: ir.Value) -> ir.Value:
        """Chosen elements in the graph: numbers (N, k) to values (N, k)."""
        floats = [(op.Cast(model.value(leaf.tensor), to=ir.DataType.FLOAT), leaf.alone) for leaf in self.leaves]
        rows = [op.Reshape(v, [1, -1]) if alone else op.Flatten(v, axis=1) for v, alone in floats]
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
        seen: shapes that tensors of one sample had in a run, where they depend on what is in the photo.
    """

    def __init__(
        self,
        model: Model,
        sizes: Mapping[str, tuple[int, ...]],
        batch: int = 1,
        seen: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:
        self.model, self.batch, self._seen = model, batch, seen or {}
        self.alone = bool(seen)
        self.sized = Sized(model.ir.graph, sizes, set(), all_shapes=True)

    def shape(self, value: ir.Value) -> tuple[int, ...]:
        """The shape, () where it cannot be told."""
        return self._seen.get(value.name or "") or self.sized.shape(value) or ()

    def sample(self, value: ir.Value) -> tuple[int, ...]:
        """The shape of one sample, () where samples do not lie on the first axis."""
        shape = self.shape(value)
        if self.alone:
            return shape[1:] if len(shape) > 2 and shape[0] == 1 else shape
        return shape[1:] if shape[:1] == (self.batch,) else ()

    def of(self, value: ir.Value, *, steps_over: bool = False, deep: bool = False) -> list[Elements]:
        """Where each element of a sample of a tensor comes from: arrays of the shape of a sample, one per factor.

        Args:
            value: the tensor.
            steps_over: take what lies before a sigmoid or softmax, and the factors of a product of two apart.
            deep: step over all that keeps an element in its place, whatever it does to it.

        Raises:
            HeadError: its shape cannot be told.
        """
        walk = _Walk(self, steps_over, deep)
        found = [numbers if self.alone else numbers[0] for numbers in walk.back(value, None)]
        return [walk.elements(numbers.reshape(self.sample(value))) for numbers in found]


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
            raise HeadError(f"The shape of '{value.name}' is not known before the model runs")
        leaf = Leaf(value.name or "", activation, shape, self.lineage.alone)
        if leaf not in self._leaves:
            self._leaves[leaf] = self._count
            self._count += int(np.prod(shape))
        numbers = np.arange(np.prod(shape)).reshape(shape) + self._leaves[leaf]
        whole = self.lineage.shape(value)
        return numbers.reshape(whole) if self.lineage.alone else np.broadcast_to(numbers, whole)

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
        apart = self.lineage.alone or all(self.lineage.shape(x)[:1] == shape[:1] for x in xs)
        if not xs or not shape or not apart:
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
        if move is None or not (self.lineage.alone or keeps_samples(node, self.lineage)):
            return []
        parts = [self.back(x, activation) for x in xs]
        if len({len(p) for p in parts}) != 1:
            return []
        moved = [move(node, [p[i] for p in parts], self.lineage, value) for i in range(len(parts[0]))]
        found = [m for m in moved if m is not None and m.shape == shape]
        return found if len(found) == len(moved) else []
