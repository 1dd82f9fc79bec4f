"""Which part of a tensor in the middle a score is computed from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import onnx_ir as ir

from . import structure
from .fields import Fields
from .fields.table import Region
from .model import Model
from .places import Places
from .rewrite import cut


def regions(model: Model, tensor: str, scores: Sequence[str], places: Places) -> Iterator[Region]:
    """The part of a tensor that each of some scores depends on, a mask per axis.

    Scales that a quantiser finds at run time, from the whole of a tensor, count as constant.

    Raises:
        InspectError: that cannot be followed.
    """
    model, scales = model.memo("fixed scales", lambda: _fixed_scales(model))
    graph = model.ir.graph
    between = structure.dependent(graph, [model.values[tensor]])
    between &= {v for score in scores for v in structure.needed(graph, model.value(score))}
    rest = cut(model, [tensor, *(s for s in scales if model.values[s] in between)], scores)
    sizes = {s.name: places.sizes.get(s.name) or places.shape(s.name) for s in rest.inputs}
    for score in scores:
        fields = Fields(rest, score, {k: v for k, v in sizes.items() if v is not None}, input=tensor)
        yield fields.reads([None] * max(0, len(fields.shape or ()) - 1))


def _fixed_scales(model: Model) -> tuple[Model, list[str]]:
    """The model with quantisers that are given their scales, and the names of these and of their zero points."""
    if all(node.op_type != "DynamicQuantizeLinear" for node in model.ir.graph):
        return model, []
    new = model.clone()
    scales: list[str] = []
    for node in [n for n in new.ir.graph if n.op_type == "DynamicQuantizeLinear"]:
        y, scale, zero = node.outputs
        given = ir.node("QuantizeLinear", [node.inputs[0], scale, zero])
        given.outputs[0].type, given.outputs[0].shape = y.type, y.shape
        new.ir.graph.insert_after(node, given)
        ir.convenience.replace_all_uses_with(y, given.outputs[0])
        scales += [scale.name or "", zero.name or ""]
    return new.derived("fixed scales"), scales
