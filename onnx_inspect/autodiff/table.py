"""The table of rules: `@rule`, `constant`, and looking an operator up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import onnx_ir as ir

from ..decompose.table import LOWERINGS, RULED, Decomposition
from ..dtypes import is_float
from ..emit import Op
from ..errors import MissingRule
from ..facts import changed, ours
from ..obstacles import STEPS, machine
from ..structure import key, label

Cotangents = Sequence[ir.Value | None] | Mapping[ir.Value, ir.Value | None] | ir.Value | None
Rule = Callable[..., Cotangents]
Rules = Mapping[str, Rule] | Callable[[ir.Node], Rule | None]


class Table(dict[str, Rule]):
    """Rules under a name, by which models that were built with them are remembered: Table("guided", RULES | {...}).

    Attributes:
        sealed: it is complete; who changes it from now on changes what follows from it, in this process alone.
    """

    def __init__(self, name: str, rules: Mapping[str, Rule]) -> None:
        super().__init__(rules)
        self.name, self.sealed = name, False
        for function in {*rules.values()}:
            if not ours(function):
                changed(f"{name}: {function}")


def _noted(name: str) -> Callable[..., Any]:
    change = getattr(dict, name)

    def method(self: Table, *args: Any, **more: Any) -> Any:
        if self.sealed:
            changed(f"{self.name}: {name} {args[:1]}")
        return change(self, *args, **more)

    return method


for _name in ("__setitem__", "__delitem__", "__ior__", "clear", "pop", "popitem", "setdefault", "update"):
    setattr(Table, _name, _noted(_name))


RULES = Table("gradient", {})
CONSTANTS: set[str] = set()
INTEGERS: set[str] = set()
FLAT: dict[str, tuple[int, ...]] = {}
_OTHERWISE = (
    "choose a layer behind this node; or take a method that needs no gradients: occlusion, feature_ablation, rise, "
    "lime, kernel_shap or shapley_value_sampling (`onnx-inspect doctor MODEL` lists those that fit)."
)


def rule(
    *op_types: str,
    domain: str = "",
    broadcast: bool = False,
    integers: bool = False,
    flat: tuple[int, ...] = (),
    lowering: Decomposition | None = None,
) -> Callable[[Rule], Rule]:
    """Register `rule(op, node, *cotangents of the outputs) -> cotangents of the inputs`.

    Args:
        op_types: operators, as "Conv".
        domain: theirs, "" for the standard one.
        broadcast: the operator broadcasts its inputs: sum each cotangent back to its input's shape.
        integers: the operator quantises, or computes with quantised numbers: its first output stands for floats even
            if it holds integers, and the rule sees integers as they are. All other rules are shown such as floats.
        flat: numbers of inputs that the operator ignores or varies with in steps: they need no cotangent.
        lowering: `lowering(op, node) -> outputs` writes the operator in standard ones, for a runtime that lacks it.

    The rule returns one cotangent per input; a single value stands for the first input. None stands for inputs that it
    is not asked for (see `Op.wants`), integers, and flat ones: for any other it is an error, not a zero.
    The rule of a node with subgraphs returns a mapping, from inputs and values taken from outside to cotangents; what
    it leaves out has none.
    A missing output's cotangent arrives as zeros if it is a float, as None otherwise.
    """

    def register(function: Rule) -> Rule:
        def summed(op: Op, node: ir.Node, *dys: ir.Value | None) -> Cotangents:
            dxs = as_list(function(op, node, *dys))
            y = node.outputs[0]
            return [dx and x and op.sum_to(dx, x, of=y) for x, dx in zip(node.inputs, dxs, strict=False)]

        for op_type in (f"{domain}::{name}" if domain else name for name in op_types):
            RULES[op_type] = summed if broadcast else function
            CONSTANTS.discard(op_type)
            (INTEGERS.add if integers else INTEGERS.discard)(op_type)
            FLAT[op_type] = flat
            if domain:
                RULED.add(op_type)
            if lowering is not None:
                LOWERINGS[op_type] = lowering
        return function

    return register


def constant(*op_types: str) -> None:
    """Register operators whose outputs do not vary smoothly with any input: no cotangent passes them."""
    for op_type in op_types:
        RULES[op_type] = _nothing
        CONSTANTS.add(op_type)


def _nothing(op: Op, node: ir.Node, *dys: ir.Value | None) -> Cotangents:
    return None


def find(rules: Rules, node: ir.Node) -> Rule | None:
    """The rule of a node, None if there is none."""
    return rules(node) if callable(rules) else rules.get(key(node))


def is_constant(rules: Rules, node: ir.Node) -> bool:
    """True if a table lets no cotangent pass a node."""
    return find(rules, node) is _nothing


def lookup(rules: Rules, node: ir.Node) -> Rule:
    """The rule of a node.

    Raises:
        MissingRule: there is none.
    """
    found = find(rules, node)
    if found is None:
        raise missing(node)
    return found


def missing(node: ir.Node) -> MissingRule:
    """The error for a node without a rule."""
    op = key(node)
    where = f"Node '{label(node)}' has the operator {op}"
    if op in STEPS:
        return MissingRule(f"{where}, which passes no gradient: {STEPS[op]}. C{_OTHERWISE[1:]}")
    if (found := machine(op)) is not None:
        return MissingRule(f"{where}, which has no gradient rule: {found[0]}; {found[1]}.")
    return MissingRule(
        f"{where}, which has no gradient rule. Write one: @onnx_inspect.rule({_arguments(node)}) over a function "
        f"(op, node, dy) that returns the cotangents of its inputs; or {_OTHERWISE}"
    )


def silent(node: ir.Node, x: ir.Value) -> MissingRule:
    """The error for a node whose rule gives nothing for an input that it should give something for."""
    what = "" if is_float(x) else "the integers "
    but = "" if is_float(x) else ", but they stand for floats"
    return MissingRule(
        f"The gradient rule of {key(node)} gives nothing for {what}'{x.name}' of node '{label(node)}'{but}. "
        f"C{_OTHERWISE[1:]}"
    )


def _arguments(node: ir.Node) -> str:
    return f'"{node.op_type}"' + (f', domain="{node.domain}"' if node.domain else "")


def as_list(dxs: Cotangents) -> Sequence[ir.Value | None]:
    """What a rule returned, as one cotangent per input."""
    assert not isinstance(dxs, Mapping)
    return [dxs] if isinstance(dxs, ir.Value) else dxs or []
