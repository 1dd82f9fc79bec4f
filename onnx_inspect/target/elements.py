"""Targets that are elements of a tensor."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal, get_args

import onnx_ir as ir

from ..emit import Op
from ..errors import TargetError
from ..model import Model
from ..scores import ScoreKind, Scores, as_floats, before_activation, unquantised
from .base import Target, floats, summed

NUMBER = r"-?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
QUOTED = r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\""  # a name that may hold anything
Slice = tuple[int | None, int | None]
Reduction = Literal["sum", "mean", "max", "min", "norm"]
REDUCTIONS: tuple[Reduction, ...] = get_args(Reduction)


@dataclass(frozen=True)
class Element(Target):
    """Elements of a tensor: an index, a slice or None (all) per axis after the batch, and what becomes of several.

    Attributes:
        output: the tensor's exact name.
        index: axes that are missing at the end are taken whole.
        kind: "logits" looks behind a final softmax or sigmoid.
        how: their sum, mean, largest, least, or Euclidean norm.
        layer: the layer's readable name, where that was asked for.
    """

    output: str
    index: tuple[int | Slice | None, ...] = ()
    kind: ScoreKind = "logits"
    how: Reduction = "sum"
    layer: str = field(default="", compare=False)

    def __str__(self) -> str:
        parts = [
            ":" if i is None else str(i) if isinstance(i, int) else ":".join("" if e is None else str(e) for e in i)
            for i in self.index
        ]
        rest = (f"[{', '.join(parts)}]" if parts else "") + ("" if self.how == "sum" else f" . {self.how}")
        if self.layer:
            return f"layer:{quoted(self.layer)}{rest}"
        return f"{quoted(self.output, plain=bool(rest))}{rest}"  # a bare name without elements may be a class's

    def reads(self, model: Model) -> list[str]:
        """The tensor that they are elements of."""
        return [self.tensor(model).name or ""]

    def as_numbers(self, found: Scores) -> bool:
        """A single number that is asked for by its output's name is no yes or no."""
        return found.count == 1 and self.output == found.output

    def emit(self, op: Op, model: Model) -> ir.Value:
        """The sum of the elements, or what else is asked of them."""
        value = self.tensor(model)
        value = unquantised(op, value) if self.kind == "logits" else value
        if value.shape is None or len(value.shape) - 1 < len(self.index):
            raise TargetError(f"'{self.output}' has shape {model.spec(value).sizes()}: {self} has too many indices.")
        for axis, wanted in enumerate(self.index, start=1):
            if wanted is not None:
                size = value.shape[axis] if value.shape is not None else None
                if isinstance(size, int):
                    self._check_axis(wanted, axis, size)
                value = _take(op, value, axis, wanted)
        return reduced(op, value, self.how)

    def tensor(self, model: Model) -> ir.Value:
        """What they are elements of: the output, or what lies before its final activation."""
        value = model.value(self.output)
        before, activation = before_activation(value)
        alike = None not in (value.shape, before.shape) and len(before.shape or ()) == len(value.shape or ())
        return before if self.kind == "logits" and activation and alike else as_floats(value) or value

    def _check_axis(self, wanted: int | Slice, axis: int, size: int) -> None:
        if isinstance(wanted, int):
            if not -size <= wanted < size:
                raise TargetError(f"{self}: axis {axis} of '{self.output}' has {size} elements, there is no {wanted}.")
        elif not all(-size <= e <= size for e in wanted if e is not None):
            raise TargetError(f"{self}: axis {axis} of '{self.output}' has {size} elements, the slice leaves them.")
        elif not range(size)[slice(*wanted)]:
            raise TargetError(f"{self}: axis {axis} of '{self.output}' has {size} elements, the slice takes none.")


def quoted(name: str, *, plain: bool = True) -> str:
    """A name as the language takes it: between quotes, unless it is plain."""
    if plain and re.fullmatch(r"\w+(\.\w+)*", name):
        return name
    return "'" + re.sub(r"(['\\])", r"\\\1", name) + "'"


def unquoted(text: str) -> str:
    """What stands between quotes."""
    return re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.DOTALL)


def reduced(op: Op, value: ir.Value, how: Reduction) -> ir.Value:
    """One number per sample, shape (N,)."""
    if how == "sum":
        return summed(op, value)
    reduce = {"mean": op.ReduceMean, "max": op.ReduceMax, "min": op.ReduceMin, "norm": op.ReduceL2}[how]
    result: ir.Value = reduce(op.Flatten(floats(op, value), axis=1), [1], keepdims=0)
    result.shape = ir.Shape([None])
    return result


def _take(op: Op, value: ir.Value, axis: int, wanted: int | Slice) -> ir.Value:
    """Elements along an axis. Gather refuses at run time what a Slice would silently cut down to nothing."""
    if isinstance(wanted, int):
        result = op.Gather(value, [wanted], axis=axis)
    elif (start := wanted[0] or 0) >= 0 and wanted[1] == start + 1:
        result = op.Gather(value, [start], axis=axis)
    elif start >= 0 and (end := wanted[1]) is not None and end > start:
        before = op.Slice(value, [start], [end - 1], [axis])
        result = op.Concat(before, op.Gather(value, [end - 1], axis=axis), axis=axis)
    elif start >= 0 and wanted[1] is None:
        rest = op.Slice(value, [start + 1], [2**62], [axis])
        result = op.Concat(op.Gather(value, [start], axis=axis), rest, axis=axis)
    else:
        result = op.Slice(value, [start], [wanted[1] if wanted[1] is not None else 2**62], [axis])
    result.shape = ir.Shape([*list(value.shape or ())[:axis], None, *list(value.shape or ())[axis + 1 :]])
    return result  # type: ignore[no-any-return]
