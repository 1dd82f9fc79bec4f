"""Where a segmentation's class scores are: the output, or what lies before the ArgMax or threshold that ends it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from ..errors import TargetError
from ..model import Model
from ..scores import ScoreKind, as_floats
from ..structure import rank, size, sizes

if TYPE_CHECKING:
    from numpy.typing import NDArray

_COPIES = frozenset("Identity Cast Dropout QuantizeLinear DequantizeLinear".split())
# What labels go through once they are decided upon.
_AFTER = _COPIES | frozenset("Squeeze Unsqueeze Reshape Flatten Transpose Resize Upsample Mul".split())
_ACTIVATIONS = {"Softmax": "softmax", "LogSoftmax": "log softmax", "Sigmoid": "sigmoid"}


@dataclass(frozen=True)
class ScoreMap:
    """A score per class and position.

    Attributes:
        output: the output that it belongs to.
        tensor: its exact name.
        axis: the classes', None where the map is of a single class and has none.
        count: classes, None if only known at run time; 1 for a yes or no at every position.
        activation: what lies between it and the output, or is its last step: "softmax", "log softmax", "sigmoid", None.
        inside: True if the map is what the activation gives.
        before: the operator that it was cut before: "ArgMax", "TopK", "Greater", ...; "" if it is the output.
        guessed: nobody says which axis is the classes'.
        limit: above which a yes or no is a yes, in the map's numbers.
    """

    output: str
    tensor: str
    axis: int | None
    count: int | None
    activation: str | None
    inside: bool
    before: str
    guessed: bool
    limit: float

    def predicted(self, values: NDArray[Any], index: int) -> NDArray[np.bool_]:
        """Where a class is predicted, given the map's values: the largest score wins, unless each is a yes or no."""
        found = self._first(values)
        if self.count == 1:
            return np.asarray((found[:, 0] > self.limit) == bool(index))
        return np.asarray(found[:, index] > self.limit if self._apart else found.argmax(axis=1) == index)

    def shares(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """On which part of a map each class is predicted."""
        found = self._first(values)
        if self._apart or self.count == 1:
            yes = np.asarray((found > self.limit).mean(axis=(0, *range(2, found.ndim))))
            return np.array([1 - yes[0], yes[0]]) if self.count == 1 else yes
        counts = np.bincount(found.argmax(axis=1).ravel(), minlength=found.shape[1])
        return np.asarray(counts / counts.sum())

    def _first(self, values: NDArray[Any]) -> NDArray[Any]:
        """The map's values as (N, classes, positions...)."""
        return np.moveaxis(values, self.axis, 1) if self.axis is not None else values[:, None]

    @property
    def _apart(self) -> bool:
        """True if several classes can be at one position."""
        return (self.activation == "sigmoid" or self.before.startswith("Greater")) and self.count != 1

    @property
    def is_probability(self) -> bool:
        """True for a yes or no whose other side is 1 less it, not its negative."""
        return self.inside and self.activation == "sigmoid"


def find(model: Model, output: str = "", kind: ScoreKind = "logits") -> ScoreMap:
    """The map of class scores that a segmentation ends in.

    Args:
        model: the model.
        output: which output, "" for the first that is a segmentation.
        kind: "logits" looks behind a final softmax or sigmoid, "output" does not.

    Raises:
        TargetError: there is no such output, or it is no segmentation.
    """
    outputs = list(model.ir.graph.outputs)
    if output and output not in [v.name for v in outputs]:
        names = ", ".join(repr(v.name) for v in outputs)
        raise TargetError(f"There is no output '{output}': the model has {names} (segmentation:output=NAME,class=K).")
    for value in outputs:
        if (not output or value.name == output) and (found := _of(model, value, kind)) is not None:
            return found
    shapes = ", ".join(f"'{s.name}' ({s.sizes()} {s.dtype})" for s in model.outputs if output in ("", s.name))
    raise TargetError(
        f"There is no map of class scores in {shapes}: name the elements to explain, as OUTPUT[class, rows, columns]."
    )


def _of(model: Model, value: ir.Value, kind: ScoreKind) -> ScoreMap | None:
    at, axis, before, half = _undecided(model, value)
    if not before:
        floats = as_floats(value)
        if floats is None or value not in model.varying:
            return None
        node = floats.producer()
        channel = node.inputs[0] if node is not None and node.op_type == "Squeeze" else None
        at = channel if channel is not None and rank(channel) == 4 else floats  # a lone channel is an axis again
    scores, own, activation, order = _inactive(at)
    axes, guessed = rank(scores) or 0, False
    if axis is not None:
        own = order.index(axis % axes)
    elif own is None:
        own, guessed = _classes(model, scores)
    if own is None and activation != "sigmoid" and not before:  # (N, tokens, features), say
        return None
    inside = kind == "output" and activation is not None
    if inside:
        scores, own = at, order[own] if own is not None else None
    if own == 0 or all(size(scores, i) == 1 for i in range(1, axes) if i != own):  # samples, or one row of classes
        return None
    count = 1 if own is None else size(scores, own)
    if half is None:
        half = 0.5 if inside else 0.0
    elif activation == "sigmoid" and not inside:
        half = math.log(half / (1 - half)) if 0 < half < 1 else math.copysign(math.inf, half - 0.5)
    return ScoreMap(value.name or "", scores.name or "", own, count, activation, inside, before, guessed, half)


def _undecided(model: Model, value: ir.Value) -> tuple[ir.Value, int | None, str, float | None]:
    """What an output decides about, along which axis, by which operator, above what; the output and "" if not."""
    at = value
    while (node := at.producer()) is not None:
        x = next((v for v in node.inputs if v is not None and v in model.varying), None)
        if x is None:
            break
        if node.op_type == "ArgMax":
            return x, node.attributes.get_int("axis", 0), node.op_type, None
        if node.op_type == "TopK" and at is node.outputs[1] and node.attributes.get_int("largest", 1) == 1:
            return x, node.attributes.get_int("axis", -1), node.op_type, None
        if node.op_type in ("Greater", "GreaterOrEqual") and x is node.inputs[0]:
            limit = node.inputs[1].const_value if node.inputs[1] is not None else None
            return x, None, node.op_type, float(limit.numpy().item()) if limit is not None and limit.size == 1 else None
        if node.op_type not in _AFTER:
            break
        at = x
    return value, None, "", None


def _inactive(at: ir.Value) -> tuple[ir.Value, int | None, str | None, list[int]]:
    """What lies before a map's last softmax or sigmoid: it, the softmax's axis, the operator, and where its axes went.

    Without an activation, the map itself.
    """
    order = list(range(rank(at) or 0))
    value = at
    while (node := value.producer()) is not None and node.inputs and (x := node.inputs[0]) is not None:
        if node.op_type in _ACTIVATIONS:
            axis = None
            if node.op_type != "Sigmoid":
                axis = node.attributes.get_int("axis", -1) % max(len(order), 1)
                if axis == 0:
                    break
            return x, axis, _ACTIVATIONS[node.op_type], order
        if node.op_type == "Transpose":
            perm = list(node.attributes.get_ints("perm", range(len(order))[::-1]))
            order = [order[perm.index(i)] for i in range(len(order))]
        elif node.op_type not in _COPIES:
            break
        value = x
    return at, None, None, list(range(rank(at) or 0))


def _classes(model: Model, value: ir.Value) -> tuple[int | None, bool]:
    """The axis of the classes, None for none, and whether that is a guess: the smaller of the two it can be."""
    letters, axes = model.layouts.get(value), rank(value) or 0
    if letters is not None and "C" in letters:
        return letters.index("C"), False
    if axes < 4:
        return None, False
    second, last = (size(value, i) or math.inf for i in (1, axes - 1))
    return (1, True) if second <= last else (axes - 1, True)


def described(found: ScoreMap, model: Model) -> str:
    """Where it is, for notes."""
    shape = sizes(model.spec(model.value(found.tensor)).shape[1:])
    where = f"before {found.before}" if found.before else "the output"
    if found.activation is not None and not found.inside:
        where = f"before {found.activation}" + (f" and {found.before}" if found.before else "")
    axis = "" if not found.guessed else f", axis {found.axis} taken to be the classes'"
    return f"'{found.tensor}' ({shape}, {where}{axis})"
