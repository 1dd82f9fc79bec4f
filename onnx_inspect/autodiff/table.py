"""The table of rules: `@rule`, `constant`, and looking an operator up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import onnx_ir as ir

from ..decompose.table import LOWERINGS, RULED, Decomposition
from ..emit import Op
from ..errors import MissingRule
from ..structure import key, label

Cotangents = Sequence[ir.Value | None] | Mapping[ir.Value, ir.Value | None] | ir.Value | None
Rule = Callable[..., Cotangents]
Rules = Mapping[str, Rule] | Callable[[ir.Node], Rule | None]

RULES: dict[str, Rule] = {}
CONSTANTS: set[str] = set()
INTEGERS: set[str] = set()
_registered = 0


def rule(
    *op_types: str,
    domain: str = "",
    broadcast: bool = False,
    integers: bool = False,
    lowering: Decomposition | None = None,
) -> Callable[[Rule], Rule]:
    """Register `rule(op, node, *cotangents of the outputs) -> cotangents of the inputs`.

    Args:
        op_types: operators, as "Conv".
        domain: theirs, "" for the standard one.
        broadcast: the operator broadcasts its inputs: sum each cotangent back to its input's shape.
        integers: the operator quantises, or computes with quantised numbers: its first output stands for floats even
            if it holds integers, and the rule sees integers as they are. All other rules are shown such as floats.
        lowering: `lowering(op, node) -> outputs` writes the operator in standard ones, for a runtime that lacks it.

    The rule returns one cotangent per input, None where there is none; a single value stands for the first input.
    The rule of a node with subgraphs returns a mapping, from inputs and values taken from outside to cotangents.
    A missing output's cotangent arrives as zeros if it is a float, as None otherwise.
    """

    def register(function: Rule) -> Rule:
        def summed(op: Op, node: ir.Node, *dys: ir.Value | None) -> Cotangents:
            dxs = as_list(function(op, node, *dys))
            y = node.outputs[0]
            return [dx and x and op.sum_to(dx, x, of=y) for x, dx in zip(node.inputs, dxs, strict=False)]

        global _registered
        _registered += 1
        for op_type in (f"{domain}::{name}" if domain else name for name in op_types):
            RULES[op_type] = summed if broadcast else function
            (INTEGERS.add if integers else INTEGERS.discard)(op_type)
            if domain:
                RULED.add(op_type)
            if lowering is not None:
                LOWERINGS[op_type] = lowering
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


def find(rules: Rules, node: ir.Node) -> Rule | None:
    """The rule of a node, None if there is none."""
    return rules(node) if callable(rules) else rules.get(key(node))


def lookup(rules: Rules, node: ir.Node) -> Rule:
    """The rule of a node.

    Raises:
        MissingRule: there is none.
    """
    found = find(rules, node)
    if found is None:
        raise missing(node)
    return found


def missing(node: ir.Node, by: ir.Value | None = None) -> MissingRule:
    """The error for a node without a rule, or with one that gives nothing for its integer input `by`."""
    op = key(node)
    if by is not None and any(x is by for x in node.inputs):
        return MissingRule(
            f"The gradient rule of {op} gives nothing for the integers '{by.name}' of node '{label(node)}', but they "
            "stand for floats. Choose a layer behind this node; or cover parts of the input instead (occlusion), which "
            "needs no gradients."
        )
    return MissingRule(
        f"Node '{label(node)}' has the operator {op}, which has no gradient rule. "
        f"Write one: @onnx_inspect.rule({_arguments(node)}) over a function (op, node, dy) that returns the cotangents "
        "of its inputs; or choose a layer behind this node; or cover parts of the input instead (occlusion), which "
        "needs no gradients."
    )


def _arguments(node: ir.Node) -> str:
    return f'"{node.op_type}"' + (f', domain="{node.domain}"' if node.domain else "")


def as_list(dxs: Cotangents) -> Sequence[ir.Value | None]:
    """What a rule returned, as one cotangent per input."""
    assert not isinstance(dxs, Mapping)
    return [dxs] if isinstance(dxs, ir.Value) else dxs or []
