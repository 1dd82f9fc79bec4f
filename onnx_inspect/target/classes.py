"""Targets that are classes: the one of a rank, or by index."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from ..emit import Op
from ..errors import TargetError
from ..model import Model
from ..scores import ScoreKind, Scores, scores, unquantised
from .base import Asks, Target, floats, per_sample, summed

if TYPE_CHECKING:
    from numpy.typing import NDArray

INPUT = "target.index"  # the graph input that carries class indices: one compiled model serves every class


@dataclass(frozen=True)
class Top(Target):
    """The class of a rank in the prediction, 1 being the most probable."""

    rank: int = 1
    kind: ScoreKind = "logits"

    def __str__(self) -> str:
        return "top" if self.rank == 1 else f"top:{self.rank}"

    def check(self, count: int | None) -> None:
        """There has to be such a rank."""
        if count is not None and self.rank > max(count, 2):
            raise TargetError(f"The model has {max(count, 2)} classes: there is no top:{self.rank}.")

    def emit(self, op: Op, model: Model) -> ir.Value:
        """The largest score of a sample, or the rank-th."""
        found, rows = rows_of(op, model, self.kind)
        self.check(found.count)
        seen = _matrix(op, model.value(found.tensor), found, self.kind) if found.quantised else rows
        if self.rank == 1:
            index = op.ArgMax(seen, axis=1, keepdims=0)
        else:
            index = op.Gather(op.TopK(seen, [self.rank], outputs=2)[1], op.const(np.int64(self.rank - 1)), axis=1)
        return _pick(op, rows, index)

    def chosen(self, rows: NDArray[Any]) -> list[int | None]:
        """The index of the rank-th score of each row, the first among equals."""
        self.check(rows.shape[1])
        if self.rank == 1:
            return [int(i) for i in rows.argmax(axis=1)]
        return [int(np.argsort(-row, kind="stable")[self.rank - 1]) for row in rows]


@dataclass(frozen=True)
class Index(Target):
    """A class by its index, one for all samples or one per sample."""

    index: int | tuple[int, ...]
    kind: ScoreKind = "logits"

    def __str__(self) -> str:
        return ",".join(map(str, self.indices))

    def key(self) -> Hashable:
        """All classes share one compiled model."""
        return ("index", self.kind)

    def check(self, count: int | None) -> None:
        """There have to be such classes."""
        for i in self.indices:
            if i < 0 or (count is not None and i >= max(count, 2)):
                classes = (
                    f"has {max(count, 2)} classes, counted from 0" if count is not None else "counts classes from 0"
                )
                raise TargetError(f"There is no class {i}: the model {classes}.")

    def emit(self, op: Op, model: Model) -> ir.Value:
        """The score of the class."""
        found, rows = rows_of(op, model, self.kind)
        self.check(found.count)
        return _pick(op, rows, per_sample(op, INPUT, ir.DataType.INT64, rows))

    @property
    def indices(self) -> tuple[int, ...]:
        """The class of each sample, or the one of all."""
        return (self.index,) if isinstance(self.index, int) else self.index

    def sample(self, i: int) -> Target:
        """The class of one of the samples."""
        return self if isinstance(self.index, int) else replace(self, index=np.resize(self.index, i + 1)[i].item())

    def feeds(self, n: int) -> dict[str, NDArray[Any]]:
        """The indices, repeated for all samples if there is one."""
        if len(self.indices) not in (1, n):
            raise TargetError(
                f"There are {len(self.indices)} target classes for {n} samples: give one, or one per sample."
            )
        return {INPUT: np.resize(np.asarray(self.indices, np.int64), n)}

    def chosen(self, rows: NDArray[Any]) -> list[int | None]:
        """The indices themselves."""
        self.check(rows.shape[1])
        return [int(i) for i in np.resize(self.indices, len(rows))]


@dataclass(frozen=True)
class Settled(Index):
    """The class of a rank, as it was for the untouched samples."""

    rank: int = 1

    def __str__(self) -> str:
        return str(Top(self.rank))


def settled(top: Top, runs: Asks) -> Settled:
    """The class that has a rank for each of the samples as they are."""
    found = scores(runs.model, kind=top.kind)
    rows = found.rows(top.kind, runs.forward([found.tensor])[found.tensor])
    return Settled(tuple(i for i in top.chosen(rows) if i is not None), top.kind, top.rank)


def rows_of(op: Op, model: Model, kind: ScoreKind) -> tuple[Scores, ir.Value]:
    """The scores as a matrix (N, classes). A lone score becomes two: class 1 is its own side, class 0 the other."""
    found = scores(model, kind=kind)
    value = model.value(found.tensor)
    return found, _matrix(op, unquantised(op, value) if found.quantised else value, found, kind)


def _matrix(op: Op, value: ir.Value, found: Scores, kind: ScoreKind) -> ir.Value:
    rank = len(value.shape) if value.shape is not None else 2
    if rank == 1:
        value = op.Reshape(value, [-1, 1] if found.count == 1 else [1, -1])
    elif rank > 2:
        value = op.Flatten(value, axis=1)
    if found.count == 1:
        value = op.Concat(1 - value if found.is_probability(kind) else -value, value, axis=1)
    return value


def mixed(op: Op, model: Model, terms: Sequence[tuple[float, Index]], name: str) -> ir.Value:
    """Classes times factors, added up: one row of weights, however many they are. Adds an input (N, terms)."""
    found, rows = rows_of(op, model, terms[0][1].kind)
    rows = floats(op, rows)
    for _, term in terms:
        term.check(found.count)
    factors = op.const(np.array([[factor] for factor, _ in terms], rows.dtype.numpy() if rows.dtype else np.float32))
    each = _one_hot(op, rows, per_sample(op, name, ir.DataType.INT64, rows, rank=2))
    return summed(op, rows * op.ReduceSum(each * factors, [1], keepdims=0))


def _pick(op: Op, rows: ir.Value, index: ir.Value) -> ir.Value:
    return summed(op, rows * _one_hot(op, rows, index))


def _one_hot(op: Op, rows: ir.Value, index: ir.Value) -> ir.Value:
    zero_one = np.array([0, 1], dtype=rows.dtype.numpy() if rows.dtype else np.float32)
    value: ir.Value = op.OneHot(index, op.size(rows, 1), op.const(zero_one))
    return value
