"""Shapes of all tensors, inferred afresh, and calling onnx's C++ passes without the big weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import onnx_ir as ir

if TYPE_CHECKING:
    import onnx

BIG = 1024  # bytes; larger weights are kept away from onnx's C++ passes, which copy and serialise
Declared = dict["str | None", tuple["ir.ShapeProtocol | None", "ir.TypeProtocol | None"]]


def infer_shapes(model: ir.Model) -> None:
    """Forget all shapes but those of the inputs and weights, and infer them again."""
    import onnx

    declared = declared_outputs(model)
    values = forget_shapes(model)
    while True:
        inferred = light(model, lambda p: onnx.shape_inference.infer_shapes(p, data_prop=True))
        infos = {i.name: i for graph in _graphs(inferred.graph) for i in [*graph.value_info, *graph.output]}
        for value in values:
            if (info := infos.get(value.name or "")) is not None:
                value.shape = ir.serde.deserialize_type_proto_for_shape(info.type)
                value.type = ir.serde.deserialize_type_proto_for_type(info.type)
        if not _help_on(model):
            break
    restore_outputs(model, declared)


def _help_on(model: ir.Model) -> bool:
    """Shapes that onnx does not infer although they are plain: those of GroupNormalization. True if there were any."""
    found = False
    for node in model.graph.all_nodes():
        x, y = (node.inputs[0], node.outputs[0]) if node.op_type == "GroupNormalization" else (None, None)
        if x is not None and y is not None and x.type is not None and y.type is None:
            y.shape, y.type, found = x.shape, x.type, True
    return found


def declared_outputs(model: ir.Model) -> Declared:
    """What the file says of the outputs, by name."""
    return {v.name: (v.shape, v.type) for graph in model.graphs() for v in graph.outputs}


def restore_outputs(model: ir.Model, declared: Declared) -> None:
    """What the file says of outputs of which inference finds nothing: outputs must have a type."""
    for value in [v for graph in model.graphs() for v in graph.outputs]:
        shape, type_ = declared.get(value.name, (None, None))
        value.type = value.type or type_
        value.shape = shape if value.shape is None else value.shape  # type: ignore[assignment]


def forget_shapes(model: ir.Model) -> list[ir.Value]:
    """Clear shape and type of all that nodes compute, and return those values."""
    weights = {v for graph in model.graphs() for v in graph.initializers.values()}
    values = [y for node in model.graph.all_nodes() for y in node.outputs if y not in weights]
    for value in values:
        value.shape = value.type = None
    return values


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            yield from _graphs(attribute.g) if attribute.HasField("g") else ()


def light(model: ir.Model, function: Callable[[onnx.ModelProto], onnx.ModelProto]) -> onnx.ModelProto:
    """Call one of onnx's C++ passes on the graph without its big weights, which stand in as inputs meanwhile."""
    graph = model.graph
    big = [v for v in graph.initializers.values() if v.const_value is not None and v.const_value.nbytes > BIG]
    for value in big:
        assert value.name is not None and value.const_value is not None
        value.shape = ir.Shape(list(value.const_value.shape))  # type: ignore[arg-type]
        value.type = ir.TensorType(value.const_value.dtype)
        del graph.initializers[value.name]
        graph.inputs.append(value)
    try:
        proto = ir.serde.serialize_model(model)
        proto.ir_version = max(proto.ir_version, 4)  # before 4, initializers had to be inputs too
    finally:
        for value in big:
            graph.inputs.remove(value)
            graph.register_initializer(value)
    return function(proto)
