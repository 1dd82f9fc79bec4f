"""Applying a table of rewrites to the nodes that gradients and targets added.

A lowering looks at a node, emits what computes the same through `op`, and returns it; or None to leave the node:

    def relu(op, node):
        '''max(X, 0).'''
        return op.Max(node.inputs[0], 0.0)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import onnx_ir as ir

from ..collector import uncollected
from ..decompose.table import replaced
from ..emit import PREFIX, Op
from ..model import Model
from ..pruning import prune

Lowering = Callable[[Op, ir.Node], "ir.Value | None"]


@uncollected()
def lower(model: Model, table: Mapping[str, Lowering]) -> Model:
    """The model as a provider computes it fast; itself where the table has nothing to say.

    Args:
        model: with the gradients that were asked for.
        table: of the provider.
    """
    if not any(_ours(node, table) for node in model.ir.graph):
        return model
    new = model.clone()
    op, changed = Op(new.ir.graph), False
    for node in list(new.ir.graph):
        if _ours(node, table):
            changed |= replaced(op, node, table[node.op_type]) is not None
    if not changed:
        return model
    prune(new.ir)
    return new.derived("lowered")


def _ours(node: ir.Node, table: Mapping[str, Lowering]) -> bool:
    return node.op_type in table and not node.domain and (node.name or "").startswith(f"{PREFIX}/")


def folded(value: ir.Value | None) -> bool:
    """True for weights, and for what is computed of weights alone, which onnxruntime folds; of known sizes."""
    if value is None or value.shape is None or not value.shape.is_static():
        return False
    node = value.producer()
    if value.const_value is not None or node is None:
        return value.const_value is not None
    return all(x is None or folded(x) for x in node.inputs)
