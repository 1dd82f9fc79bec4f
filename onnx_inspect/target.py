"""What is explained: one score per sample, written into the graph.

The language, the same on the command line and in Python:

    top                  the most probable class (a single logit: the side it is on)
    top:3                the third most probable
    281                  a class by index
    "tiger cat"          a class by name, or synset id
    logits[281]          an element of an output; the batch is never counted
    features.3[7, 2, 2]  an element of any tensor, by its readable or exact name: a unit of the network
    'Identity:0'[0, 5:8] odd names are quoted; slices and missing axes are summed

The score is taken before a final softmax or sigmoid where there is one: probabilities saturate, and their gradients
vanish for sure predictions. `score="output"` takes the output as it is.
"""

from __future__ import annotations

import ast
import re
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from .autodiff.gradient import Precision, differentiate
from .autodiff.table import Rules
from .emit import Op
from .errors import LayerError, TargetError
from .labels import Labels, resolve
from .model import Model
from .scores import ScoreKind, Scores, as_floats, before_activation, scores

if TYPE_CHECKING:
    from numpy.typing import NDArray

INPUT = "target.index"  # the graph input that carries class indices: one compiled model serves every class


class Target(ABC):
    """What is explained. `str(target)` is its text in the language above."""

    @abstractmethod
    def emit(self, op: Op, model: Model) -> ir.Value:
        """Write the score into the graph: shape (N,)."""

    def key(self) -> Hashable:
        """Targets with equal keys share one compiled model."""
        return self

    def feeds(self, n: int) -> dict[str, NDArray[Any]]:
        """Values for inputs that the target added, for n samples."""
        return {}

    def check(self, count: int | None) -> None:  # noqa: B027  (most targets can always be meant)
        """Refuse what cannot be meant in a model with this many classes, None if only known at run time.

        Raises:
            TargetError: there is no such class.
        """

    def chosen(self, rows: NDArray[Any]) -> list[int | None]:
        """The class that is explained per sample, given the rows of scores (N, classes)."""
        return [None] * len(rows)


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
        found, rows = _rows(op, model, self.kind)
        self.check(found.count)
        if self.rank == 1:
            index = op.ArgMax(rows, axis=1, keepdims=0)
        else:
            index = op.Gather(op.TopK(rows, [self.rank], outputs=2)[1], op.const(np.int64(self.rank - 1)), axis=1)
        return _pick(op, rows, index)

    def chosen(self, rows: NDArray[Any]) -> list[int | None]:
        """The index of the rank-th score of each row, the first among equals."""
        self.check(rows.shape[1])
        return [int(np.argsort(-row, kind="stable")[self.rank - 1]) for row in rows]


@dataclass(frozen=True)
class Index(Target):
    """A class by its index, one for all samples or one per sample."""

    index: int | tuple[int, ...]
    kind: ScoreKind = "logits"

    def __str__(self) -> str:
        return ",".join(map(str, self._all()))

    def key(self) -> Hashable:
        """All classes share one compiled model."""
        return ("index", self.kind)

    def check(self, count: int | None) -> None:
        """There have to be such classes."""
        for i in self._all():
            if i < 0 or (count is not None and i >= max(count, 2)):
                classes = (
                    f"has {max(count, 2)} classes, counted from 0" if count is not None else "counts classes from 0"
                )
                raise TargetError(f"There is no class {i}: the model {classes}.")

    def emit(self, op: Op, model: Model) -> ir.Value:
        """The score of the class."""
        found, rows = _rows(op, model, self.kind)
        self.check(found.count)
        shape = model.value(found.tensor).shape
        batch = shape[0] if shape is not None and len(shape) > 1 else None
        index = ir.Value(name=INPUT, shape=ir.Shape([batch]), type=ir.TensorType(ir.DataType.INT64))
        if INPUT in op.names:
            raise TargetError(f"The model has a tensor '{INPUT}' already: it explains a class as it is.")
        op.graph.inputs.append(index)
        return _pick(op, rows, index)

    def _all(self) -> tuple[int, ...]:
        return (self.index,) if isinstance(self.index, int) else self.index

    def feeds(self, n: int) -> dict[str, NDArray[Any]]:
        """The indices, repeated for all samples if there is one."""
        if len(self._all()) not in (1, n):
            raise TargetError(
                f"There are {len(self._all())} target classes for {n} samples: give one, or one per sample."
            )
        return {INPUT: np.resize(np.asarray(self._all(), np.int64), n)}

    def chosen(self, rows: NDArray[Any]) -> list[int | None]:
        """The indices themselves."""
        self.check(rows.shape[1])
        return [int(i) for i in np.resize(self._all(), len(rows))]


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
        return _sum(op, value)

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


def _rows(op: Op, model: Model, kind: ScoreKind) -> tuple[Scores, ir.Value]:
    """The scores as a matrix (N, classes). A lone score becomes two: class 1 is its own side, class 0 the other."""
    found = scores(model, kind=kind)
    value = model.value(found.tensor)
    rank = len(value.shape) if value.shape is not None else 2
    if rank == 1:
        value = op.Reshape(value, [-1, 1] if found.count == 1 else [1, -1])
    elif rank > 2:
        value = op.Flatten(value, axis=1)
    if found.count == 1:
        value = op.Concat(1 - value if found.is_probability(kind) else -value, value, axis=1)
    return found, value


def _pick(op: Op, rows: ir.Value, index: ir.Value) -> ir.Value:
    zero_one = np.array([0, 1], dtype=rows.dtype.numpy() if rows.dtype else np.float32)
    return _sum(op, rows * op.OneHot(index, op.size(rows, 1), op.const(zero_one)))


def _sum(op: Op, value: ir.Value) -> ir.Value:
    """The sum per sample, shape (N,)."""
    result: ir.Value = op.ReduceSum(op.Flatten(value, axis=1), [1], keepdims=0)
    result.shape = ir.Shape([None])
    return result


TargetLike = Target | str | int | Sequence[int] | Sequence[str]


def parse(target: TargetLike, model: Model, labels: Labels, kind: ScoreKind = "logits") -> Target:
    """A target from its text, an index, one index or name per sample, or a target as it is.

    Raises:
        TargetError: unknown class or output, or a text that is no target.
    """
    if isinstance(target, Target):
        return target
    if isinstance(target, int | np.integer):
        return Index(int(target), kind)
    if not isinstance(target, str | Sequence | np.ndarray):
        raise TargetError(f"{target!r} is no target: give a class, by index or name, one per sample, or a text.")
    if not isinstance(target, str):
        return Index(tuple(_class(t, labels) for t in target), kind)
    text = target.strip()
    if match := re.fullmatch(r"top(?::(.*))?", text):
        if match[1] is not None and not re.fullmatch(r"[1-9]\d*", match[1]):
            raise TargetError(f"'{text}' means nothing: the most probable class is top:1, the next top:2.")
        return Top(int(match[1] or 1), kind)
    if re.fullmatch(r"-?\d+", text):
        return Index(int(text), kind)
    if (found := labels.find(text)) is not None:
        return Index(found, kind)
    if match := re.fullmatch(r"('(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|[^\[\]'\"]+)\s*\[(.*)\]", text, re.DOTALL):
        name = ast.literal_eval(match[1]) if match[1][0] in "'\"" else match[1].strip()
        if name not in model.values:
            try:
                name = model.layer(name).tensor
            except LayerError as error:
                outputs = ", ".join(f"'{o.name}'" for o in model.outputs)
                raise TargetError(f"There is no output '{name}', nor a layer: the outputs are {outputs}.") from error
        own = kind if model.values[name].is_graph_output() else "output"  # units are explained as they are
        return Element(name, tuple(_axis(part, text) for part in match[2].split(",")), own)
    return Index(labels.index(text), kind)


def gradient(
    model: Model,
    target: TargetLike,
    wrt: Iterable[str],
    *,
    rules: Rules | None = None,
    precision: Precision = "float32",
    score: ScoreKind = "logits",
) -> Model:
    """The model with the gradient of a target's score added: one run gives prediction, score and gradients.

    Args:
        model: the model; unchanged. `expose` tensors first if their values are wanted too.
        target: what is explained, as in every method.
        wrt: tensors to differentiate with respect to, by name.
        rules: the table of rules, None for `RULES`.
        precision: of the gradients of half precision: "float32", or "model" for that of the model itself.
        score: "logits" explains the score before a final softmax or sigmoid, "output" the output itself.

    Returns:
        A model with the outputs of `model`, `score` of shape (N,), and `gradient.<tensor>` per tensor of `wrt`.
        A class by index or name adds the input `target.index`, int64 of shape (N,): one model serves every class.

    Raises:
        LayerError: no such tensor.
        TargetError: no such target, or it does not depend on one of the tensors.
        MissingRule: an operator in between has no rule.
    """
    known = resolve(model.metadata, None)[0]
    return differentiate(model, parse(target, model, known, score), wrt, rules=rules, precision=precision)


def _class(target: str | int, labels: Labels) -> int:
    """A class by index, in digits or not, or by name."""
    if isinstance(target, str):
        return int(target) if re.fullmatch(r"-?\d+", target.strip()) else labels.index(target)
    if not isinstance(target, int | np.integer):
        raise TargetError(f"{target!r} is no class: give its index or its name.")
    return int(target)


def _axis(part: str, text: str) -> int | tuple[int | None, int | None] | None:
    part = part.strip()
    if part == ":":
        return None
    if re.fullmatch(r"-?\d+", part):
        return int(part)
    if match := re.fullmatch(r"(-?\d*):(-?\d*)", part):
        return (int(match[1]) if match[1] else None, int(match[2]) if match[2] else None)
    raise TargetError(f"'{part}' in the target {text} is neither an index nor a slice like 4:8.")
