"""Differentiating models: `vjp`, and the gradient of a score."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from typing import Any, Protocol, get_args

import onnx_ir as ir

from ..canonical import infer_shapes
from ..collector import uncollected
from ..dtypes import Precision, is_float
from ..emit import Op
from ..errors import InputError, LayerError, TargetError
from ..model import Model
from ..pruning import prune
from .sequences import lifted
from .table import RULES, Rules
from .walk import backward


class Emits(Protocol):
    """What a target must be able to do: write its score, one number per sample, into the graph."""

    def emit(self, op: Op, model: Model) -> ir.Value:
        """Emit the nodes of the score and return it, shape (N,)."""


class Part(Emits, Protocol):
    """Elements of a tensor; their score is their sum."""

    @property
    def output(self) -> str:
        """The tensor."""


@uncollected()
def vjp(
    model: Model,
    wrt: Iterable[str],
    outputs: Iterable[str],
    *,
    rules: Rules | None = None,
    precision: Precision = "float32",
) -> Model:
    """The vector-Jacobian product as a model of its own.

    Args:
        model: the model; unchanged.
        wrt: tensors to differentiate with respect to: inputs, initializers or intermediate tensors, by name.
        outputs: tensors to differentiate, by name.
        rules: the table of rules, None for `RULES`; another one gives guided backprop, LRP and the like.
        precision: of cotangents and gradients in models of half precision, whose small gradients would underflow:
            "float32", or "model" for that of the model itself.

    Returns:
        A model with the inputs of `model` and one input `cotangent.<output>` per output, of its shape; its outputs
        are `gradient.<tensor>` per tensor of `wrt`, of its shape: zeros where no output depends on it.

    Raises:
        LayerError: no such tensor.
        MissingRule: an operator in between has no rule.
    """
    rules = RULES if rules is None else rules
    new = writable(model)
    graph = new.ir.graph
    ys, xs = [float_value(new, n) for n in outputs], [float_value(new, n) for n in wrt]
    op = emitter(graph, precision)
    seeds: dict[ir.Value, ir.Value] = {}
    for y in dict.fromkeys(ys):
        seeds[y] = ir.Value(name=f"cotangent.{y.name}", shape=y.shape, type=_type(op, y))
    with op:
        gradients = backward(op, seeds, xs, rules)
        found = {x: gradients.get(x) or filled(op, x, 0) for x in xs}
    graph.inputs.extend(seeds.values())
    graph.outputs.clear()
    graph.outputs.extend(output(op, f"gradient.{x.name}", g, x) for x, g in found.items())
    prune(new.ir)
    return new.derived("vjp", *(y.name for y in ys), "wrt", *(x.name for x in xs), _name(rules), precision)


@uncollected()
def differentiate(
    model: Model,
    target: Emits,
    wrt: Iterable[str],
    *,
    rules: Rules | None = None,
    precision: Precision = "float32",
    score: str = "score",
    through: Part | None = None,
) -> Model:
    """`onnx_inspect.gradient`, for a target that writes its score by itself; `score` names that output.

    With `through`, elements of a tensor between, only what passes them counts.
    """
    rules = RULES if rules is None else rules
    new = writable(model)
    graph = new.ir.graph
    xs = list(dict.fromkeys(float_value(new, n) for n in wrt))
    op = emitter(graph, precision)
    with op:
        value = target.emit(op, new)
        seeds = {value: filled(op, value, 1)}
        if through is not None:
            seeds = _through(op, seeds, through, new, rules)
        gradients = backward(op, seeds, xs, rules)
    for x in xs:
        if x not in gradients:
            what = f"The target {target}" if through is None else f"{through}"
            raise TargetError(f"{what} does not depend on '{x.name}': there is no gradient to show.")
    graph.outputs.append(output(op, score, value, value))
    graph.outputs.extend(output(op, f"gradient.{x.name}", gradients[x], x) for x in xs)
    prune(new.ir)
    return new.derived("gradient", f"{target} {through}", "wrt", *(x.name for x in xs), _name(rules), precision)


def _through(
    op: Op, seeds: dict[ir.Value, ir.Value], part: Part, model: Model, rules: Rules
) -> dict[ir.Value, ir.Value]:
    """The cotangent of a tensor between, where some of its elements are, and zero elsewhere."""
    between = model.value(part.output)
    whole = backward(op, seeds, [between], rules).get(between)
    if whole is None:
        raise TargetError(f"The target does not depend on '{part.output}'.")
    chosen = part.emit(op, model)
    where = backward(op, {chosen: filled(op, chosen, 1)}, [between], RULES)[between]
    return {between: whole * where}


def scored(model: Model, target: Emits, *, score: str = "score") -> Model:
    """The model with the score of a target as one more output, and no gradients."""
    new = writable(model)
    op = Op(new.ir.graph)
    with op:
        value = target.emit(op, new)
    new.ir.graph.outputs.append(output(op, score, value, value))
    return new.derived("score", str(target))


def writable(model: Model) -> Model:
    """A copy to write in; nodes that an earlier gradient added get their shapes, which rules ask for."""
    new = model.clone()
    if any(step.startswith(("vjp", "gradient")) for step in model.history):
        infer_shapes(new.ir)
    return new


def emitter(graph: ir.Graph, precision: Precision) -> Op:
    """What writes into a graph, with cotangents of a precision."""
    if precision not in get_args(Precision):
        raise InputError(f"There is no precision '{precision}': choose from {', '.join(get_args(Precision))}.")
    op = Op(graph)
    op.wide = precision == "float32"
    return op


def filled(op: Op, like: ir.Value, fill: float) -> ir.Value:
    """A constant cotangent of a value."""
    return lifted(op, lambda op, x: op.full(op.shape(x), fill, op.cotangent_dtype(x) or ir.DataType.FLOAT), like)


def _type(op: Op, value: ir.Value) -> ir.TypeProtocol:
    """The type of a value's cotangent."""
    kind = deepcopy(value.type) or ir.TensorType(ir.DataType.FLOAT)
    kind.dtype = op.cotangent_dtype(value) or ir.DataType.FLOAT
    return kind


def float_value(model: Model, name: str) -> ir.Value:
    """A value by name; it has to hold floats."""
    value = model.value(name)
    if not is_float(value):
        raise LayerError(f"'{name}' holds {value.dtype} numbers: only float tensors have gradients.")
    return value


def output(op: Op, name: str, value: ir.Value, like: ir.Value) -> ir.Value:
    """The value under a name of its own, typed and shaped as a graph output must be."""
    old = next((y for node in op.graph for y in node.outputs if y.name == name), None) if name in op.names else None
    if name in op.names and (old is None or old.is_graph_output()):
        raise LayerError(f"The model has a tensor '{name}' already, so the new output cannot be called that.")
    if old is not None:  # what an earlier gradient called so is a step on the way now
        old.name = op.fresh(name)
    found: Any = op.Identity(value, name=name)
    cotangent = name.startswith(("gradient.", "contribution."))
    found.type = _type(op, like) if cotangent else like.type or ir.TensorType(ir.DataType.FLOAT)
    found.shape = like.shape
    return found  # type: ignore[no-any-return]


def _name(rules: Rules) -> str:
    return "RULES" if rules is RULES else getattr(rules, "name", None) or f"rules@{id(rules):x}"
