"""A way up from where a rectifier lets nothing through."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir

from ..autodiff.table import RULES, Cotangents, Rule, Table
from ..emit import Op


def reviving_rules(tensor: str = "") -> Table:
    """Gradients, but a rectifier that is shut passes on what would open it; after lucid's redirected gradients.

    Where X <= 0, dS/dX = max(dS/dY, 0) instead of 0. A unit that the first, nearly grey picture does not excite has no
    gradient at all; this one says how it could be excited. Rectifiers are Relu and Clip (ReLU6) at their lower end.

    Args:
        tensor: only the rectifier that computes this tensor: the others' gradients are true. "" for all.
    """

    def relu(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
        passes: Any = op.Or(op.Greater(node.outputs[0], 0), op.Greater(dy, 0))
        return [dy * op.mask(passes, dy)]

    def clip(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
        found = RULES["Clip"](op, node, dy)
        assert isinstance(found, Sequence)
        x, low = node.inputs[0], node.inputs[1] if len(node.inputs) > 1 else None
        if low is None:
            return found
        return [op.Where(op.And(op.LessOrEqual(x, low), op.Greater(dy, 0)), dy, found[0]), *found[1:]]

    def here(name: str, rule: Rule) -> Rule:
        def chosen(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
            meant = tensor in ("", (op.node or node).outputs[0].name)
            return rule(op, node, dy) if meant else RULES[name](op, node, dy)

        return chosen

    return Table(f"reviving {tensor}", RULES | {"Relu": here("Relu", relu), "Clip": here("Clip", clip)})
