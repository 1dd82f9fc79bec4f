"""What is explained: one score per sample, written into the graph.

The language, the same on the command line and in Python:

    top                  the most probable class (a single logit: the side it is on)
    top:3                the third most probable
    281                  a class by index
    "tiger cat"          a class by name, or synset id
    logits[281]          an element of an output; the batch is never counted
    'Identity:0'[0, 5:8] odd names are quoted; slices and missing axes are summed

The score is taken before a final softmax or sigmoid where there is one: probabilities saturate, and their gradients
vanish for sure predictions. `score="output"` takes the output as it is.
"""

from __future__ import annotations

import ast
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import onnx_ir as ir

from .autodiff.emit import Op, is_float
from .errors import TargetError
from .labels import Labels
from .model import Model

if TYPE_CHECKING:
    from numpy.typing import NDArray

ScoreKind = Literal["logits", "output"]
INPUT = "target.index"  # the graph input that carries class indices: one compiled model serves every class

_PASSIVE = frozenset("Reshape Squeeze Unsqueeze Flatten Identity Cast Dropout QuantizeLinear DequantizeLinear".split())
_ACTIVATIONS = {"Softmax": "softmax", "LogSoftmax": "log softmax", "Sigmoid": "sigmoid"}


@dataclass(frozen=True)
class Scores:
    """Where a model's class scores are.

    Attributes:
        output: the output they belong to.
        tensor: the tensor that is explained: before the final softmax or sigmoid, or the output itself.
        activation: what lies between the two: "softmax", "log softmax", "sigmoid" or None.
        count: number of classes, None if only known at run time.
    """

    output: str
    tensor: str
    activation: str | None
    count: int | None


def scores(model: Model, output: str | None = None, kind: ScoreKind = "logits") -> Scores:
    """Find the class scores of a model.

    Args:
        model: the model.
        output: which output, None for the first float one.
        kind: "logits" looks behind a final softmax or sigmoid, "output" does not.

    Raises:
        TargetError: no output holds one row of scores per sample.
    """
    outputs = model.ir.graph.outputs
    if output is None:
        varying = model.varying
        chosen = next((v for v in outputs if _raw(v) is not None and v in varying), None)
        if chosen is None:
            names = ", ".join(f"'{o.name}' ({o.dtype})" for o in model.outputs)
            raise TargetError(f"The model has no float output to explain, only {names}.")
    else:
        chosen = model.value(output)
    raw = _raw(chosen)
    if raw is None:
        raise TargetError(f"'{chosen.name}' holds {chosen.dtype} numbers, which have no gradient.")
    tensor, activation = _before_activation(chosen)
    if kind == "output":
        tensor = raw
    shape = list(tensor.shape) if tensor.shape is not None else []
    wide = [d for d in shape[1:] if d != 1]
    if len(wide) > 1:
        raise TargetError(
            f"'{chosen.name}' has shape {model.spec(chosen).sizes()}, not one score per class: say which elements to "
            f"explain, as in --target \"'{chosen.name}'[5]\"; missing axes are summed."
        )
    sizes = list(shape if len(shape) == 1 and isinstance(shape[0], int) else wide)
    count = 1 if not sizes else sizes[0] if isinstance(sizes[0], int) else None
    return Scores(chosen.name or "", tensor.name or "", activation, count)


def _raw(value: ir.Value) -> ir.Value | None:
    """An output as floats: behind the quantiser or cast that ends integer models."""
    while not is_float(value):
        node = value.producer()
        if node is None or node.op_type not in _PASSIVE or node.inputs[0] is None:
            return None
        value = node.inputs[0]
    return value


def _before_activation(value: ir.Value) -> tuple[ir.Value, str | None]:
    start, current = _raw(value) or value, value
    while (node := current.producer()) is not None and node.inputs and node.inputs[0] is not None:
        if node.op_type in _ACTIVATIONS:
            return node.inputs[0], _ACTIVATIONS[node.op_type]
        if node.op_type not in _PASSIVE:
            break
        current = node.inputs[0]
    return start, None


class Target(ABC):
    """What is explained. `str(target)` is its text in the language above."""

    @abstractmethod
    def emit(self, op: Op, model: Model) -> ir.Value:
        """Write the score into the graph: shape (N,)."""

    def key(self) -> str:
        """Targets with equal keys share one compiled model."""
        return str(self)

    def feeds(self, n: int) -> dict[str, NDArray[Any]]:
        """Values for inputs that the target added, for n samples."""
        return {}

    def chosen(self, values: NDArray[Any]) -> list[int | None]:
        """The class index that is explained per sample, given the rows of scores."""
        return [None] * len(values)


@dataclass(frozen=True)
class Top(Target):
    """The class of a rank in the prediction, 1 being the most probable."""

    rank: int = 1
    kind: ScoreKind = "logits"
    output: str | None = None

    def __str__(self) -> str:
        return "top" if self.rank == 1 else f"top:{self.rank}"

    def emit(self, op: Op, model: Model) -> ir.Value:
        """The largest score; the rank-th; or for a single logit its distance from 0 on its own side."""
        found, rows = _rows(op, model, self.output, self.kind)
        if found.count == 1:
            side = op.mask(op.GreaterOrEqual(rows, _middle(found, self.kind)), rows) * 2 - 1
            return _sum(op, rows * side)
        if found.count is not None and self.rank > found.count:
            raise TargetError(f"The model has {found.count} classes: there is no top:{self.rank}.")
        if self.rank == 1:
            index = op.ArgMax(rows, axis=1, keepdims=0)
        else:
            index = op.Gather(op.TopK(rows, [self.rank], outputs=2)[1], op.const(np.int64(self.rank - 1)), axis=1)
        return _pick(op, rows, index)

    def chosen(self, values: NDArray[Any]) -> list[int | None]:
        """The index of the rank-th score of each row, the first among equals."""
        if values.shape[1] == 1:
            return [int(v >= 0) for v in values[:, 0]]
        return [int(np.argsort(-row, kind="stable")[self.rank - 1]) for row in values]


@dataclass(frozen=True)
class Index(Target):
    """A class by its index, one for all samples or one per sample."""

    index: int | tuple[int, ...]
    kind: ScoreKind = "logits"
    output: str | None = None

    def __str__(self) -> str:
        return str(self.index) if isinstance(self.index, int) else ",".join(map(str, self.index))

    def key(self) -> str:
        """All classes share one compiled model."""
        return "index"

    def emit(self, op: Op, model: Model) -> ir.Value:
        """The score of the class; for a single logit, class 1 is the logit and class 0 its negative."""
        found, rows = _rows(op, model, self.output, self.kind)
        for i in self._all():
            if not 0 <= i < max(found.count or i + 1, 2):
                raise TargetError(f"There is no class {i}: '{found.output}' has {found.count} classes, counted from 0.")
        scores_shape = model.value(found.tensor).shape
        batch = scores_shape[0] if scores_shape is not None and len(scores_shape) > 1 else None
        index = ir.Value(name=INPUT, shape=ir.Shape([batch]), type=ir.TensorType(ir.DataType.INT64))
        op.graph.inputs.append(index)
        if found.count == 1:
            return _sum(op, rows * (op.Unsqueeze(op.Cast(index, to=rows.dtype), [1]) * 2 - 1))
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

    def chosen(self, values: NDArray[Any]) -> list[int | None]:
        """The indices themselves."""
        return [int(i) for i in np.resize(self._all(), len(values))]


@dataclass(frozen=True)
class Element(Target):
    """Elements of an output: an index, a slice or None (all) per axis after the batch; several are summed."""

    output: str
    index: tuple[int | tuple[int | None, int | None] | None, ...]
    kind: ScoreKind = "logits"

    def __str__(self) -> str:
        name = self.output if re.fullmatch(r"\w[\w.]*", self.output) else f"'{self.output}'"
        parts = [
            ":" if i is None else str(i) if isinstance(i, int) else ":".join("" if e is None else str(e) for e in i)
            for i in self.index
        ]
        return f"{name}[{', '.join(parts)}]"

    def emit(self, op: Op, model: Model) -> ir.Value:
        """The sum of the elements."""
        value = model.value(self.output)
        tensor, activation = _before_activation(value)
        if (
            self.kind == "logits"
            and activation
            and tensor.shape is not None
            and value.shape is not None
            and len(tensor.shape) == len(value.shape)
        ):
            value = tensor
        value = _raw(value) or value
        if value.shape is None or len(value.shape) - 1 < len(self.index):
            raise TargetError(f"'{self.output}' has shape {model.spec(value).sizes()}: {self} has too many indices.")
        for axis, wanted in enumerate(self.index, start=1):
            size = value.shape[axis]
            if isinstance(wanted, int) and isinstance(size, int) and not -size <= wanted < size:
                raise TargetError(f"{self}: axis {axis} of '{self.output}' has {size} elements, there is no {wanted}.")
        result = value
        for axis, wanted in enumerate(self.index, start=1):
            if wanted is None:
                continue
            start, end = (wanted, wanted + 1 if wanted != -1 else None) if isinstance(wanted, int) else wanted
            result = op.Slice(result, [start or 0], [end if end is not None else 2**62], [axis])
        return _sum(op, result)


def _rows(op: Op, model: Model, output: str | None, kind: ScoreKind) -> tuple[Scores, ir.Value]:
    """The scores as a matrix (N, classes)."""
    found = scores(model, output, kind)
    value = model.value(found.tensor)
    rank = len(value.shape) if value.shape is not None else 2
    if rank == 1:
        return found, op.Reshape(value, [-1, 1] if found.count == 1 else [1, -1])
    return found, value if rank == 2 else op.Flatten(value, axis=1)


def _middle(found: Scores, kind: ScoreKind) -> float:
    return 0.5 if kind == "output" and found.activation == "sigmoid" else 0.0


def _pick(op: Op, rows: ir.Value, index: ir.Value) -> ir.Value:
    one_hot = op.OneHot(
        index, op.size(rows, 1), op.const(np.array([0, 1], dtype=rows.dtype.numpy() if rows.dtype else np.float32))
    )
    return _sum(op, rows * one_hot)


def _sum(op: Op, value: ir.Value) -> ir.Value:
    """The sum per sample, shape (N,)."""
    flat = op.Flatten(value, axis=1)
    result: ir.Value = op.ReduceSum(flat, [1], keepdims=0)
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
    if not isinstance(target, str):
        return Index(
            tuple(
                t if isinstance(t, int) else int(t) if isinstance(t, np.integer) else labels.index(t) for t in target
            ),
            kind,
        )
    text = target.strip()
    if match := re.fullmatch(r"top(?::(\d+))?", text):
        rank = int(match[1] or 1)
        if rank < 1:
            raise TargetError("top:0 means nothing: the most probable class is top:1.")
        return Top(rank, kind)
    if re.fullmatch(r"-?\d+", text):
        return Index(int(text), kind)
    if (found := labels.find(text)) is not None:
        return Index(found, kind)
    if match := re.fullmatch(r"('(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|[^\[\]'\"]+)\s*\[(.*)\]", text, re.DOTALL):
        name = ast.literal_eval(match[1]) if match[1][0] in "'\"" else match[1].strip()
        if name not in model.values:
            outputs = ", ".join(f"'{o.name}'" for o in model.outputs)
            raise TargetError(f"There is no output '{name}': the model has {outputs}.")
        return Element(name, tuple(_axis(part, text) for part in match[2].split(",")), kind)
    return Index(labels.index(text), kind)


def _axis(part: str, text: str) -> int | tuple[int | None, int | None] | None:
    part = part.strip()
    if part == ":":
        return None
    if re.fullmatch(r"-?\d+", part):
        return int(part)
    if match := re.fullmatch(r"(-?\d*):(-?\d*)", part):
        return (int(match[1]) if match[1] else None, int(match[2]) if match[2] else None)
    raise TargetError(f"'{part}' in the target {text} is neither an index nor a slice like 4:8.")
