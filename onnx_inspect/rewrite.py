"""Graph to graph: expose intermediate tensors, cut a part out."""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir

from .errors import LayerError
from .model import Model, prune


def expose(model: Model, tensors: Iterable[str]) -> Model:
    """The model with more outputs.

    Args:
        model: the model; unchanged.
        tensors: names of intermediate tensors, exact or readable; those that are outputs already stay so.

    Raises:
        LayerError: no such tensor.
    """
    new = model.clone()
    names = []
    for tensor in tensors:
        value = new.value(tensor)
        names.append(value.name)
        if value not in new.ir.graph.outputs:
            new.ir.graph.outputs.append(_typed(value))
    return new.derived("expose", *names)


def cut(model: Model, inputs: Iterable[str] | None = None, outputs: Iterable[str] | None = None) -> Model:
    """The part of a model between some tensors.

    Args:
        model: the model; unchanged.
        inputs: tensors that become inputs, exact or readable names; the model's own inputs stay as far as they are
            still needed. None: the model's inputs.
        outputs: tensors that become the outputs. None: the model's outputs.

    Raises:
        LayerError: no such tensor, or a given input that no output depends on.
    """
    new = model.clone()
    graph = new.ir.graph
    chosen = [new.value(n) for n in inputs] if inputs is not None else []
    if outputs is not None:
        graph.outputs[:] = list(dict.fromkeys(_typed(new.value(n)) for n in outputs))
    names = [v.name for v in [*chosen, *graph.outputs]]
    for value in chosen:
        if not value.is_graph_input():
            _detach(graph, value)
    prune(new.ir)
    for value in list(graph.inputs):
        if not value.uses() and value not in graph.outputs:
            if inputs is not None and value.name in names:
                raise LayerError(f"None of the outputs depends on '{value.name}': it cannot be where the cut begins.")
            graph.inputs.remove(value)
    return new.derived("cut", *names)


def _detach(graph: ir.Graph, value: ir.Value) -> None:
    """Make an intermediate tensor an input of the same name."""
    name = value.name
    fresh = ir.Value(name=name, shape=value.shape, type=value.type)
    ir.convenience.replace_all_uses_with(value, fresh, replace_graph_outputs=True)
    value.name = f"{name}.before_cut"
    graph.inputs.append(fresh)


def _typed(value: ir.Value) -> ir.Value:
    """Graph outputs must have a type; float where nobody knows it (operators of foreign domains)."""
    value.type = value.type or ir.TensorType(ir.DataType.FLOAT)
    return value
