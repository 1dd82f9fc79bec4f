"""Detectors of two stages: the proposals of the first are those of the untouched photo, whatever becomes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from .. import structure
from ..dtypes import is_float
from ..errors import TargetError
from .frontier import POOLING, selections
from .telling import HeadError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..asks import Samples
    from ..emit import Op
    from ..model import Model


def tensor(model: Model) -> str:
    """The tensor of proposals, "" for detectors of one stage.

    Raises:
        HeadError: there are several, as where each level of a pyramid is pooled by itself.
    """
    found = {n.inputs[1].name for n in model.ir.graph if n.op_type in POOLING and n.inputs[1] is not None}
    if len(found) > 1:
        what = f"This detector pools {len(found)} sets of proposals, one for each level of a pyramid"
        raise HeadError(f"{what}, which is not known how to hold still", elements="TENSOR[row, column]")
    return found.pop() or "" if found else ""


def seen(samples: Samples) -> dict[str, tuple[int, ...]]:
    """The shapes of what is computed from proposals, whose number depends on the photo; {} for one stage.

    Raises:
        TargetError: there are several photos, with proposals of their own each.
    """
    graph = samples.model.ir.graph
    if not tensor(samples.model):
        return {}
    if samples.n > 1:
        raise TargetError("This detector makes proposals for one photo at a time: explain them one after the other.")
    pooled = structure.varying(graph, [y for n in graph if n.op_type in POOLING for y in n.outputs])
    after = structure.varying(graph, [y for n in selections(graph) for y in n.outputs])
    between = [y.name for n in graph for y in n.outputs if y in pooled and y not in after and is_float(y) and y.name]
    return {name: value.shape for name, value in samples.forward(between).items()}


def fixed(op: Op, model: Model, added: ir.Value) -> None:
    """Let the second stage read proposals (1, P, 4) from an input in the place of what the first one makes."""
    value = model.values.get(tensor(model))
    if value is None:  # another term of a sum has done so
        return
    flat = ir.Value(name=op.fresh("proposals"), type=value.type, shape=ir.Shape([None, 4]))
    shape = op.const([-1, 4])
    node = ir.node("Reshape", [added, shape], outputs=[flat], name=op.fresh("Reshape"))
    op.graph.insert_before(next(iter(op.graph)), node)
    ir.convenience.replace_all_uses_with(value, flat)


def of(samples: Samples) -> NDArray[Any] | None:
    """The proposals of the photo as it is, (1, P, 4); None for detectors of one stage."""
    name = tensor(samples.model)
    return samples.forward([name])[name][None] if name else None
