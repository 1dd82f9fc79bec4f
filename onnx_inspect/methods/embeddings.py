"""Where whole numbers become floats: the tensors that stand for tokens, and for 8-bit pictures, in attributions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ..dtypes import is_float
from ..model import Model

# Operators that leave each number at its place, whatever they do to it.
_IN_PLACE = frozenset("Cast Identity Clip Where Min Max Add Sub Mul Mod Reshape Squeeze Unsqueeze Flatten".split())
_COPIES = frozenset("Transpose Identity Cast DequantizeLinear".split())
_BYTES = frozenset({"UINT8", "INT8"})


@dataclass(frozen=True)
class Stand:
    """Float tensors that stand for an input of whole numbers.

    Attributes:
        tensors: through them goes what its numbers say.
        rows: each holds, for every number, what it was looked up as: the row of a table, along one axis more.
        order: else, which axis of the input lies where: the permutation of the Transposes between.
    """

    tensors: tuple[ir.Value, ...]
    rows: bool
    order: tuple[int, ...] = ()

    def gathered(self, values: NDArray[Any], shape: Sequence[int]) -> NDArray[Any]:
        """What was attributed to one of the tensors, as numbers of the input: rows are summed."""
        if self.rows:
            return values.reshape(*shape, -1).sum(axis=-1)  # type: ignore[no-any-return]
        return values.transpose(np.argsort(self.order)) if self.order else values


def stand(model: Model, given: ir.Value) -> Stand | None:
    """What stands for an input of whole numbers: embeddings, or 8-bit numbers as floats; None where nothing does."""
    rows = _rows(model, given)
    if rows:
        return Stand(rows, rows=True)
    return _plain(given) if given.dtype is not None and given.dtype.name in _BYTES else None


def _rows(model: Model, given: ir.Value) -> tuple[ir.Value, ...]:
    """Rows of constant tables: what Gather takes from one, or a product with one-hot vectors."""
    at, hot, found = {given}, set[ir.Value](), list[ir.Value]()
    for node in model.ir.graph:
        x = list(node.inputs)
        if node.op_type == "Gather" and x[1] in at and x[0] not in model.varying:
            rows = _floats(node.outputs[0])
            if node.attributes.get_int("axis", 0) == 0 and rows is not None:
                found.append(rows)
        elif node.op_type in ("MatMul", "Gemm") and x[0] in hot and x[1] not in model.varying:
            found.append(node.outputs[0])
        elif (node.op_type == "OneHot" and x[0] in at) or (node.op_type == "Cast" and x[0] in hot):
            hot.add(node.outputs[0])
        elif node.op_type in _IN_PLACE and any(v in at for v in x[node.op_type == "Where" :]):
            at.add(node.outputs[0])
    return tuple(found)


def _floats(value: ir.Value) -> ir.Value | None:
    """Rows as floats: behind what makes floats of quantised ones."""
    while not is_float(value):
        users = value.consumers()
        if len(users) != 1 or users[0].op_type not in ("DequantizeLinear", "Cast"):
            return None
        value = users[0].outputs[0]
    return value


def _plain(given: ir.Value) -> Stand | None:
    """A picture of whole numbers as floats, as its one reader makes them."""
    value, order = given, np.arange(len(given.shape or ()))
    while len(users := value.consumers()) == 1 and users[0].op_type in _COPIES:
        if users[0].op_type == "Transpose":
            order = order[list(users[0].attributes.get_ints("perm", ())) or slice(None, None, -1)]
        value = users[0].outputs[0]
        if is_float(value):
            return Stand((value,), rows=False, order=tuple(order.tolist()))
    return None
