"""Targets that are elements of a tensor."""

from __future__ import annotations

import re
from dataclasses import dataclass

import onnx_ir as ir

from ..emit import Op
from ..errors import TargetError
from ..model import Model
from ..scores import ScoreKind, as_floats, before_activation
from .base import Target, summed

Slice = tuple[int | None, int | None]


@dataclass(frozen=True)
class Element(Target):
    """Elements of an output: an index, a slice or None (all) per axis after the batch; several are summed."""

    output: str
    index: tuple[int | Slice | None, ...]
    kind: ScoreKind = "logits"

    def __str__(self) -> str:
        name = self.output if re.fullmatch(r"\w[\w.]*", self.output) else repr(self.output)
        parts = [
            ":" if i is None else str(i) if isinstance(i, int) else ":".join("" if e is None else str(e) for e in i)
            for i in self.index
        ]
        return f"{name}[{', '.join(parts)}]"

    def reads(self, model: Model) -> list[str]:
        """The tensor that they are elements of."""
        return [self.tensor(model).name or ""]

    def emit(self, op: Op, model: Model) -> ir.Value:
        """The sum of the elements."""
        value = self.tensor(model)
        if value.shape is None or len(value.shape) - 1 < len(self.index):
            raise TargetError(f"'{self.output}' has shape {model.spec(value).sizes()}: {self} has too many indices.")
        for axis, wanted in enumerate(self.index, start=1):
            if wanted is not None:
                size = value.shape[axis] if value.shape is not None else None
                if isinstance(size, int):
                    self._check_axis(wanted, axis, size)
                value = _take(op, value, axis, wanted)
        return summed(op, value)

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


def _take(op: Op, value: ir.Value, axis: int, wanted: int | Slice) -> ir.Value:
    """Elements along an axis. Gather refuses at run time what a Slice would silently cut down to nothing."""
    if isinstance(wanted, int):
        result = op.Gather(value, [wanted], axis=axis)
    elif (start := wanted[0] or 0) >= 0 and (end := wanted[1]) is not None and end > start:
        result = op.Gather(value, list(range(start, end)), axis=axis)
    elif start >= 0 and wanted[1] is None:
        rest = op.Slice(value, [start + 1], [2**62], [axis])
        result = op.Concat(op.Gather(value, [start], axis=axis), rest, axis=axis)
    else:
        result = op.Slice(value, [start], [wanted[1] if wanted[1] is not None else 2**62], [axis])
    result.shape = ir.Shape([*list(value.shape or ())[:axis], None, *list(value.shape or ())[axis + 1 :]])
    return result  # type: ignore[no-any-return]
