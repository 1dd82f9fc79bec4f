"""Where a model's class scores are: the output, or what lies before its final softmax or sigmoid."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import onnx_ir as ir

from .dtypes import is_float
from .emit import Op
from .errors import TargetError
from .facts import kept
from .model import Model
from .structure import varying

if TYPE_CHECKING:
    from numpy.typing import NDArray

ScoreKind = Literal["logits", "output"]

_PASSIVE = frozenset("Reshape Squeeze Unsqueeze Flatten Identity Cast Dropout QuantizeLinear DequantizeLinear".split())
_QUANTISERS = frozenset({"QuantizeLinear", "DequantizeLinear"})
_LATE = _QUANTISERS | frozenset("Add Sub Mul Div Reshape Squeeze Unsqueeze Flatten Identity".split())
_ACTIVATIONS = {"Softmax": "softmax", "LogSoftmax": "log softmax", "Sigmoid": "sigmoid"}


@kept
@dataclass(frozen=True)
class Scores:
    """Where a model's class scores are.

    Attributes:
        output: the output they belong to, or the tensor whose largest is the label.
        tensor: the tensor that is explained: before the final softmax or sigmoid, or the output itself.
        activation: what lies between the two: "softmax", "log softmax", "sigmoid" or None.
        count: number of classes, None if only known at run time.
        numbers: what it ends in makes no scores of classes, as a vector's division by its length does.
        quantised: what is explained is the tensor as it would be without its quantiser, see `unquantised`.
    """

    output: str
    tensor: str
    activation: str | None
    count: int | None
    numbers: bool = False
    quantised: bool = False

    def is_probability(self, kind: ScoreKind) -> bool:
        """True for a lone score that is a probability: its other side is 1 less it, not its negative."""
        return kind == "output" and self.activation == "sigmoid"

    def rows(self, kind: ScoreKind, values: NDArray[Any]) -> NDArray[np.float64]:
        """The tensor's values as a matrix (N, classes); a lone score as its two sides, class 1 being its own."""
        one_row = values.ndim == 1 and self.count not in (1, None)
        matrix = values.astype(np.float64).reshape(1 if one_row else len(values), -1)
        if self.count != 1:
            return matrix
        return np.hstack([1 - matrix if self.is_probability(kind) else -matrix, matrix])


def scores(model: Model, output: str | None = None, *, kind: ScoreKind = "logits") -> Scores:
    """Find the class scores of a model.

    Args:
        model: the model.
        output: which output, None for the first float one that is no map, or the first where all are maps; where there
            are but labels, what their ArgMax compares.
        kind: "logits" looks behind a final softmax or sigmoid, "output" does not.

    Raises:
        TargetError: no output holds one row of scores per sample.
    """
    outputs = model.ir.graph.outputs
    if output is None:
        kept = [y for node in model.ir.graph if node.op_type == "NonMaxSuppression" for y in node.outputs]
        boxed = varying(model.ir.graph, kept) if kept else set()
        floats = [v for v in outputs if as_floats(v) is not None and v in model.varying and v not in boxed]
        if boxed and not floats:
            raise TargetError("The model is a detector: explain what it found, --target box:1, or --target class:NAME.")
        chosen = next((v for v in floats if not _is_map(before_activation(v)[0])), floats[0] if floats else None)
        chosen = chosen or next(filter(None, map(_compared, outputs)), None)
        if chosen is None:
            names = ", ".join(f"'{o.name}' ({o.dtype})" for o in model.outputs)
            raise TargetError(f"The model has no float output to explain, only {names}.")
    else:
        chosen = model.value(output)
    raw = as_floats(chosen)
    if raw is None:
        raise TargetError(f"'{chosen.name}' holds {chosen.dtype} numbers, which have no gradient.")
    tensor, activation = before_activation(chosen)
    if kind == "output":
        tensor = raw
    shape = list(tensor.shape) if tensor.shape is not None else []
    wide = _wide(tensor)
    if len(wide) > 1:
        last = min(5, shape[-1] - 1) if isinstance(shape[-1], int) else 0
        one = ", ".join(map(str, [*[0] * (len(shape) - 2), last]))
        raise TargetError(
            f"'{chosen.name}' has shape {model.spec(chosen).sizes()}, not one score per class: say which elements to "
            f"explain, as in --target \"'{chosen.name}'[{one}]\"; slices and missing axes are summed."
            + (
                " Of a segmentation, name a class: --target segmentation:class=1."
                if _is_map(tensor)
                else " If it is a detector, explain what it found: --target box:1."
            )
        )
    sizes = list(shape if len(shape) == 1 and isinstance(shape[0], int) else wide)
    count = None if tensor.shape is None else 1 if not sizes else sizes[0] if isinstance(sizes[0], int) else None
    numbers = activation is None and _makes_numbers(tensor)
    quantised = kind == "logits" and bool(_tail(tensor))
    return Scores(chosen.name or "", tensor.name or "", activation, count, numbers, quantised)


def _compared(value: ir.Value) -> ir.Value | None:
    """The rows of scores that a label is the index of the largest of; None if it is none."""
    node = _maker(value, _PASSIVE)
    x = node.inputs[0] if node is not None and node.op_type == "ArgMax" else None
    if node is None or x is None or x.shape is None or len(x.shape) != 2 or as_floats(x) is None:
        return None
    return x if node.attributes.get_int("axis", 0) in (1, -1) else None


def _wide(value: ir.Value) -> list[Any]:
    """The sizes that are not 1, but that of the batch."""
    return [d for d in list(value.shape or ())[1:] if d != 1]


def _is_map(value: ir.Value) -> bool:
    """True for what has classes, or features, at many positions."""
    return len(value.shape or ()) > 3 and len(_wide(value)) > 1


def as_floats(value: ir.Value) -> ir.Value | None:
    """An output as floats: behind the quantiser or cast that ends integer models; None if it holds no floats."""
    if isinstance(value.type, ir.SequenceType | ir.OptionalType):
        return None
    while not is_float(value):
        node = value.producer()
        if node is None or node.op_type not in _PASSIVE or node.inputs[0] is None:
            return None
        value = node.inputs[0]
    return value


def before_activation(value: ir.Value) -> tuple[ir.Value, str | None]:
    """The tensor before an output's final softmax or sigmoid, and which of them it is; else the output and None."""
    start, current = as_floats(value) or value, value
    while (node := current.producer()) is not None and node.inputs and node.inputs[0] is not None:
        if node.op_type in _ACTIVATIONS and _over_classes(node):
            return node.inputs[0], _ACTIVATIONS[node.op_type]
        if node.op_type not in _PASSIVE:
            break
        current = node.inputs[0]
    return start, None


def unquantised(op: Op, value: ir.Value) -> ir.Value:
    """Scores as they would be without their final quantiser: it saturates, and there it lets no gradient through.

    What stands behind it, as the sum with a bias does, is emitted once more.
    """
    tail = _tail(value)
    made = tail[-1].inputs[0] if tail else value
    assert made is not None
    for node in (n for n in reversed(tail) if n.op_type not in _QUANTISERS):
        [known] = _operands(node)
        inputs = [made if x is known else x for x in node.inputs]
        made = getattr(op, node.op_type)(*inputs, **node.attributes)
        made.shape = node.outputs[0].shape
    return made


def _tail(value: ir.Value) -> list[ir.Node]:
    """The nodes from a final quantiser on to a value, the last one first; none if there is no quantiser."""
    nodes, kind, end = list[ir.Node](), value.dtype, 0
    while (node := value.producer()) is not None and node.op_type in _LATE and len(found := _operands(node)) == 1:
        nodes.append(node)
        value = found[0]
        end = len(nodes) if node.op_type == "QuantizeLinear" and value.dtype == kind else end
    return nodes[:end]


def _operands(node: ir.Node) -> list[ir.Value]:
    """The inputs that are no constants."""
    return [x for x in node.inputs if x is not None and not _constant(x)]


def _constant(value: ir.Value) -> bool:
    """Whether a value is a constant, or one that was quantised."""
    node = value.producer()
    inputs = [value] if node is None else node.inputs if node.op_type == "DequantizeLinear" else ()
    return value.const_value is not None or (
        bool(inputs) and all(x is None or x.const_value is not None for x in inputs)
    )


def _makes_numbers(value: ir.Value) -> bool:
    """True for what ends in an activation that no score of a class goes through, or in a division by a length."""
    node = _maker(value, _PASSIVE)
    if node is not None and node.op_type == "Div" and node.inputs[1] is not None:
        node = _maker(node.inputs[1], _PASSIVE | {"Expand", "Max", "Clip", "Add"})
        return node is not None and node.op_type in ("ReduceL2", "Sqrt")
    return node is not None and node.op_type in ("Relu", "Tanh", "Softplus", "Exp", "LpNormalization")


def _maker(value: ir.Value, passed: Collection[str]) -> ir.Node | None:
    """The node that a value comes from, beyond those of some kinds."""
    node = value.producer()
    while node is not None and node.op_type in passed and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    return node


def _over_classes(node: ir.Node) -> bool:
    """A softmax is the final one only over the axis of the classes, not over samples or positions."""
    shape = node.outputs[0].shape
    if node.op_type == "Sigmoid" or shape is None:
        return True
    axis = node.attributes.get_int("axis", -1) % len(shape)
    return (axis > 0 or len(shape) == 1) and all(d == 1 for i, d in enumerate(shape) if i not in (0, axis))
