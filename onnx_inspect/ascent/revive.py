"""A way up from where no rectifier lets anything through."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from ..autodiff.table import RULES, Cotangents, Table
from ..emit import Op


def reviving_rules() -> Table:
    """Gradients, but a rectifier that is shut passes on what would open it: lucid's redirected gradients.

    Where X <= 0, dS/dX = max(dS/dY, 0) instead of 0. A unit that the first, nearly grey picture does not excite has no
    gradient at all; this one says how it could be excited. Rectifiers are Relu and Clip (ReLU6) at their lower end.
    """

    def relu(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
        return dy * op.mask(op.Or(op.Greater(node.outputs[0], 0), op.Greater(dy, 0)), dy)

    def clip(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
        found = RULES["Clip"](op, node, dy)
        assert isinstance(found, Sequence)
        x, low = node.inputs[0], node.inputs[1] if len(node.inputs) > 1 else None
        if low is None:
            return found
        return [op.Where(op.And(op.LessOrEqual(x, low), op.Greater(dy, 0)), dy, found[0]), *found[1:]]

    return Table("reviving", RULES | {"Relu": relu, "Clip": clip})
