"""The table of rules, and the walk from cotangents of outputs back to cotangents of inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Protocol, cast

import onnx_ir as ir

from ..canonical import infer_shapes
from ..errors import LayerError, MissingRule, TargetError
from ..model import Model, prune
from ..structure import all_inputs, label
from .emit import Op, is_float

Cotangents = Sequence[ir.Value | None] | Mapping[ir.Value, ir.Value | None] | ir.Value | None
Rule = Callable[..., Cotangents]
Rules = Mapping[str, Rule] | Callable[[ir.Node], Rule | None]

RULES: dict[str, Rule] = {}
CONSTANTS: set[str] = set()
INTEGERS: set[str] = set()
_registered = 0


def rule(*op_types: str, broadcast: bool = False, integers: bool = False) -> Callable[[Rule], Rule]:
    """Register `rule(op, node, *cotangents of the outputs) -> cotangents of the inputs`.

    Args:
        op_types: operators, as "Conv" or, outside the standard domain, "domain::Op".
        broadcast: the operator broadcasts its inputs: sum each cotangent back to its input's shape.
        integers: the operator quantises, or computes with quantised numbers: its first output stands for floats even
            if it holds integers, and the rule sees integers as they are. All other rules are shown such as floats.

    The rule returns one cotangent per input, None where there is none; a single value stands for the first input.
    The rule of a node with subgraphs returns a mapping, from inputs and values taken from outside to cotangents.
    A missing output's cotangent arrives as zeros if it is a float, as None otherwise.
    """

    def register(function: Rule) -> Rule:
        def summed(op: Op, node: ir.Node, *dys: ir.Value | None) -> Cotangents:
            dxs = _as_list(function(op, node, *dys))
            y = node.outputs[0]
            return [dx and x and op.sum_to(dx, x, of=y) for x, dx in zip(node.inputs, dxs, strict=False)]

        global _registered
        _registered += 1
        for op_type in op_types:
            RULES[op_type] = summed if broadcast else function
            (INTEGERS.add if integers else INTEGERS.discard)(op_type)
        return function

    return register


def edition() -> int:
    """Changes whenever a rule is registered: what was built with an older edition of the table is stale."""
    return _registered


def constant(*op_types: str) -> None:
    """Register operators whose outputs do not vary smoothly with any input: no cotangent passes them."""
    for op_type in op_types:
        RULES[op_type] = lambda op, node, *dys: None
        CONSTANTS.add(op_type)


class Emits(Protocol):
    """What a target must be able to do: write its score, one number per sample, into the graph."""

    def emit(self, op: Op, model: Model) -> ir.Value:
        """Emit the nodes of the score and return it, shape (N,)."""


def vjp(model: Model, wrt: Iterable[str], outputs: Iterable[str], *, rules: Rules | None = None) -> Model:
    """The vector-Jacobian product as a model of its own.

    Args:
        model: the model; unchanged.
        wrt: tensors to differentiate with respect to: inputs, initializers or intermediate tensors, by name.
        outputs: tensors to differentiate, by name.
        rules: the table of rules, None for `RULES`; another one gives guided backprop, LRP and the like.

    Returns:
        A model with the inputs of `model` and one input `cotangent.<output>` per output, of its shape; its outputs
        are `gradient.<tensor>` per tensor of `wrt`, of its shape: zeros where no output depends on it.

    Raises:
        LayerError: no such tensor.
        MissingRule: an operator in between has no rule.
    """
    rules = RULES if rules is None else rules
    new = _copy(model)
    graph = new.ir.graph
    ys, xs = [_float(new, n) for n in outputs], [_float(new, n) for n in wrt]
    op = Op(graph)
    seeds: dict[ir.Value, ir.Value] = {}
    for y in dict.fromkeys(ys):
        seeds[y] = ir.Value(name=f"cotangent.{y.name}", shape=y.shape, type=y.type)
    with op:
        gradients = backward(op, seeds, xs, rules)
        found = {x: gradients.get(x) or op.zeros_like(x) for x in xs}
    graph.inputs.extend(seeds.values())
    graph.outputs.clear()
    graph.outputs.extend(_named(op, f"gradient.{x.name}", g, x) for x, g in found.items())
    prune(new.ir)
    return new.derived("vjp", *(y.name for y in ys), "wrt", *(x.name for x in xs), _name(rules))


def differentiate(
    model: Model, target: Emits, wrt: Iterable[str], *, rules: Rules | None = None, score: str = "score"
) -> Model:
    """`onnx_inspect.gradient`, for a target that writes its score by itself; `score` names that output."""
    rules = RULES if rules is None else rules
    new = _copy(model)
    graph = new.ir.graph
    xs = list(dict.fromkeys(_float(new, n) for n in wrt))
    op = Op(graph)
    with op:
        value = target.emit(op, new)
        gradients = backward(op, {value: op.full_like(value, 1)}, xs, rules)
    for x in xs:
        if x not in gradients:
            raise TargetError(f"The target {target} does not depend on '{x.name}': there is no gradient to show.")
    graph.outputs.append(_named(op, score, value, value))
    graph.outputs.extend(_named(op, f"gradient.{x.name}", gradients[x], x) for x in xs)
    prune(new.ir)
    return new.derived("gradient", str(target), "wrt", *(x.name for x in xs), _name(rules))


def scored(model: Model, target: Emits, *, score: str = "score") -> Model:
    """The model with the score of a target as one more output, and no gradients."""
    new = _copy(model)
    op = Op(new.ir.graph)
    with op:
        value = target.emit(op, new)
    new.ir.graph.outputs.append(_named(op, score, value, value))
    return new.derived("score", str(target))


def backward(
    op: Op, seeds: Mapping[ir.Value, ir.Value], wrt: Iterable[ir.Value], rules: Rules
) -> dict[ir.Value, ir.Value]:
    """One reverse sweep over the graph of `op`: from the cotangents of some values to those of others.

    Only nodes between the two are visited, so nothing is computed that the result does not need.
    """
    wrt = set(wrt)
    nodes = list(op.graph)
    varying, quantised = _varying(nodes, wrt, rules)
    op.wanted = varying
    op.rules = rules
    cotangents: dict[ir.Value, ir.Value] = {y: dy for y, dy in seeds.items() if y in varying}
    for node in reversed(nodes):
        if not any(y in cotangents for y in node.outputs) or not any(x in varying for x in all_inputs(node)):
            continue
        op.node = node
        found, shown = _lookup(rules, node), _as_floats(op, node, quantised)
        dys = [cotangents.get(y) or _missing_cotangent(op, z) for y, z in zip(node.outputs, shown.outputs, strict=True)]
        for x, dx in _pairs(node, found(op, shown, *dys)):
            if x is None or x not in varying:
                continue
            if dx is not None:
                cotangents[x] = op.Add(cotangents[x], dx) if x in cotangents else dx
            elif not is_float(x) and _key(node) not in CONSTANTS:
                raise _missing(_unknown_origin(x, varying, rules) or node, x)
    op.node = None
    return {x: cotangents[x] for x in wrt if x in cotangents}


def _copy(model: Model) -> Model:
    """A copy to write in; nodes that an earlier gradient added get their shapes, which rules ask for."""
    new = model.clone()
    if any(step.startswith(("vjp", "gradient")) for step in model.history):
        infer_shapes(new.ir)
    return new


def _varying(nodes: Iterable[ir.Node], wrt: set[ir.Value], rules: Rules) -> tuple[set[ir.Value], set[ir.Value]]:
    """What depends on `wrt` smoothly, as far as anybody knows, and which of it are integers that stand for floats.

    Integers do where they come out of a quantiser, and on from there through operators with rules. Behind an operator
    without a rule they may: they count, so that the walk meets the operator and complains instead of finding zeros.
    All other integers (indices, sizes) do not vary.
    """
    varying, quantised = set(wrt), {x for x in wrt if not is_float(x)}
    for node in nodes:
        if not any(x in varying for x in all_inputs(node)):
            continue
        key, integers = _key(node), [y for y in node.outputs if not is_float(y)]
        varying.update(y for y in node.outputs if is_float(y))
        if _find(rules, node) is None:
            varying.update(integers)
            quantised.update(y for y in integers if y.dtype not in _INDICES)
        elif key in INTEGERS:
            quantised.update(y for y in integers if y is node.outputs[0])
        elif any(a.type == ir.AttributeType.GRAPH for a in node.attributes.values()):
            quantised.update(y for y in integers if y.dtype in (ir.DataType.INT8, ir.DataType.UINT8))
        elif key not in CONSTANTS and any(x in quantised for x in all_inputs(node)):
            first = node.outputs[0].dtype  # the others may be indices
            quantised.update(y for y in integers if y.dtype == first and first != ir.DataType.BOOL)
        varying.update(y for y in integers if y in quantised)
    return varying, quantised


_INDICES = (ir.DataType.INT64, ir.DataType.BOOL, ir.DataType.STRING)


@dataclass(frozen=True)
class _View:
    """What a rule asks of a node, for a node that is not in the graph."""

    name: str | None
    domain: str
    op_type: str
    attributes: Any
    inputs: Sequence[ir.Value | None]
    outputs: Sequence[ir.Value]


def view(
    op: Op,
    node: ir.Node,
    inputs: Sequence[ir.Value | None],
    outputs: Sequence[ir.Value],
    wanted: Iterable[ir.Value],
) -> ir.Node:
    """A node as if it had other inputs and outputs: so one rule calls another. `wanted`: see `Op.wants`."""
    if op.wanted is not None:
        op.wanted = op.wanted.union(wanted)
    return cast(ir.Node, _View(node.name, node.domain, node.op_type, node.attributes, inputs, outputs))


def _as_floats(op: Op, node: ir.Node, quantised: set[ir.Value]) -> ir.Node:
    """The node as its rule is shown it: integers that stand for floats, and numbers of their type, are floats."""
    inner = any(a.type == ir.AttributeType.GRAPH for a in node.attributes.values())
    if inner or _key(node) in INTEGERS or not any(v in quantised for v in (*node.inputs, *node.outputs)):
        return node
    types = {v.dtype for v in (*node.inputs, *node.outputs) if v in quantised} - set(_INDICES)

    def shown(value: Any) -> Any:
        if value is None or (value not in quantised and value.dtype not in types):
            return value
        real = op.Cast(value, to=ir.DataType.FLOAT)
        real.shape = value.shape
        return real

    inputs, outputs = [shown(x) for x in node.inputs], [shown(y) for y in node.outputs]
    return view(op, node, inputs, outputs, [z for x, z in zip(node.inputs, inputs, strict=True) if op.wants(x)])


def _missing_cotangent(op: Op, y: ir.Value) -> ir.Value | None:
    return op.zeros_like(y) if y.name and y.dtype is not None and is_float(y) else None


def _key(node: ir.Node) -> str:
    return f"{node.domain}::{node.op_type}" if node.domain else node.op_type


def _find(rules: Rules, node: ir.Node) -> Rule | None:
    return rules(node) if callable(rules) else rules.get(_key(node))


def _unknown_origin(value: ir.Value, varying: set[ir.Value], rules: Rules) -> ir.Node | None:
    """The node without a rule that integers which may stand for floats come from, None if all have one."""
    node = value.producer()
    assert node is not None
    if _find(rules, node) is None:
        return node
    before = next((x for x in all_inputs(node) if x in varying and not is_float(x)), None)
    return _unknown_origin(before, varying, rules) if before is not None else None


def _lookup(rules: Rules, node: ir.Node) -> Rule:
    found = _find(rules, node)
    if found is None:
        raise _missing(node)
    return found


def _missing(node: ir.Node, by: ir.Value | None = None) -> MissingRule:
    """The error for a node without a rule, or with one that gives nothing for its integer input `by`."""
    key = _key(node)
    if by is not None and any(x is by for x in node.inputs):
        return MissingRule(
            f"The gradient rule of {key} gives nothing for the integers '{by.name}' of node '{label(node)}', but they "
            "stand for floats. Choose a layer behind this node; or cover parts of the input instead (occlusion), which "
            "needs no gradients."
        )
    return MissingRule(
        f"Node '{label(node)}' has the operator {key}, which has no gradient rule. "
        f'Write one: @onnx_inspect.rule("{key}") over a function (op, node, dy) that returns the cotangents of '
        "its inputs; or choose a layer behind this node; or cover parts of the input instead (occlusion), which needs "
        "no gradients."
    )


def _pairs(node: ir.Node, dxs: Cotangents) -> Iterable[tuple[ir.Value | None, ir.Value | None]]:
    if isinstance(dxs, Mapping):
        return [(x, dxs.get(x)) for x in dict.fromkeys(all_inputs(node))]
    return zip_longest(node.inputs, _as_list(dxs))


def _as_list(dxs: Cotangents) -> Sequence[ir.Value | None]:
    assert not isinstance(dxs, Mapping)
    return [dxs] if isinstance(dxs, ir.Value) else dxs or []


def _float(model: Model, name: str) -> ir.Value:
    value = model.value(name)
    if not is_float(value):
        raise LayerError(f"'{name}' holds {value.dtype} numbers: only float tensors have gradients.")
    return value


def _named(op: Op, name: str, value: ir.Value, like: ir.Value) -> ir.Value:
    """The value under a name of its own, typed and shaped as a graph output must be."""
    old = next((y for node in op.graph for y in node.outputs if y.name == name), None) if name in op.names else None
    if name in op.names and (old is None or old.is_graph_output()):
        raise LayerError(f"The model has a tensor '{name}' already, so the new output cannot be called that.")
    if old is not None:  # what an earlier gradient called so is a step on the way now
        old.name = op.fresh(name)
    output: Any = op.Identity(value, name=name)
    output.type = like.type or ir.TensorType(ir.DataType.FLOAT)
    output.shape = like.shape
    return output  # type: ignore[no-any-return]


def _name(rules: Rules) -> str:
    return "RULES" if rules is RULES else getattr(rules, "name", None) or f"rules@{id(rules):x}"
