"""Canonical form: one dialect of ONNX for all that follows, with the original tensor names kept.

After `canonicalise` a graph has: opset 21 to 26, no model-local functions, no Constant nodes, no initializers among
its inputs, explicit pads, shapes inferred afresh (the file's own are not trusted), plain tensors as outputs, and
any batch size where the graph allows it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import onnx_ir as ir
from onnx_ir.passes import common as passes

from . import batch, pads
from .errors import ModelError, UnsupportedError
from .opsets import raise_opset

if TYPE_CHECKING:
    from pathlib import Path

    import onnx

OPSET_MIN, OPSET_MAX = 21, 26  # 26 is the newest that onnxruntime 1.31 accepts
IR_MIN, IR_MAX = 10, 12
_BIG = 1024  # bytes; larger weights are kept away from onnx's C++ passes, which copy and serialise

logging.getLogger("onnx_ir").setLevel(logging.ERROR)


def canonicalise(proto: onnx.ModelProto, folder: Path | None = None) -> tuple[ir.Model, list[str]]:
    """Bring a model into canonical form.

    Args:
        proto: the model as read; left unchanged.
        folder: where its external data lies; the data stays on disk.

    Returns:
        The model, and notes on what was changed that a user should know.
    """
    notes: list[str] = []
    model = ir.serde.deserialize_model(_without_maps(proto, notes))
    if folder is not None:
        ir.external_data.set_base_dir(model.graph, folder)
        _load_small(model.graph)
    passes.InlinePass()(model)
    passes.RemoveInitializersFromInputsPass()(model)
    _lift(model)
    model = _convert(model)
    _lift(model)  # the converter has written constants of its own
    model.ir_version = min(max(model.ir_version or 0, IR_MIN), IR_MAX)
    model.graph.sort()
    infer_shapes(model)
    pads.explicit(model.graph)
    if (size := batch.relax(model, _light)) is not None:
        infer_shapes(model)
        notes.append(f"the batch size was fixed at {size} in the file; the graph allows any, so any is accepted")
    return model, notes


def _lift(model: ir.Model) -> None:
    """Make all constants weights of the main graph."""
    for node in list(model.graph.all_nodes()):
        value = node.outputs[0] if node.op_type == "Constant" and node.domain == "" else None
        if value is not None and value.is_graph_output():
            assert node.graph is not None and value.name is not None
            copy = ir.node("Identity", [value], outputs=[ir.Value(name=value.name)], name=node.name)
            value.replace_all_uses_with(copy.outputs[0], replace_graph_outputs=True)
            copy.replace_input_with(0, value)
            value.name = f"{value.name}.constant"
            node.graph.insert_after(node, copy)
    passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    _distinct_names(model)
    passes.LiftSubgraphInitializersToMainGraphPass()(model)


def _distinct_names(model: ir.Model) -> None:
    """Rename tensors of subgraphs that are called like another: branches are written without regard to each other."""
    graphs = list(model.graphs())
    taken = {v.name for v in _values(model.graph)}
    for graph in graphs:
        for value in _values(graph) if graph is not model.graph else ():
            name, number = value.name, 1
            while value.name in taken:
                value.name, number = f"{name}.{number}", number + 1
            taken.add(value.name)


def _values(graph: ir.Graph) -> list[ir.Value]:
    outputs = [y for node in graph for y in node.outputs if y.name]
    return list(dict.fromkeys([*graph.inputs, *graph.initializers.values(), *outputs]))


def infer_shapes(model: ir.Model) -> None:
    """Forget all shapes but those of the inputs and weights, and infer them again."""
    import onnx

    declared = _declared(model)
    values = _forget_shapes(model)
    inferred = _light(model, lambda p: onnx.shape_inference.infer_shapes(p, data_prop=True))
    infos = {i.name: i for graph in _graphs(inferred.graph) for i in [*graph.value_info, *graph.output]}
    for value in values:
        if (info := infos.get(value.name or "")) is not None:
            value.shape = ir.serde.deserialize_type_proto_for_shape(info.type)
            value.type = ir.serde.deserialize_type_proto_for_type(info.type)
    _restore(model, declared)


Declared = dict["str | None", tuple["ir.ShapeProtocol | None", "ir.TypeProtocol | None"]]


def _declared(model: ir.Model) -> Declared:
    return {v.name: (v.shape, v.type) for graph in model.graphs() for v in graph.outputs}


def _restore(model: ir.Model, declared: Declared) -> None:
    """What the file says of outputs of which inference finds nothing: outputs must have a type."""
    for value in [v for graph in model.graphs() for v in graph.outputs]:
        shape, type_ = declared.get(value.name, (None, None))
        value.type = value.type or type_
        value.shape = shape if value.shape is None else value.shape  # type: ignore[assignment]


def _forget_shapes(model: ir.Model) -> list[ir.Value]:
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


def _light(model: ir.Model, function: Callable[[onnx.ModelProto], onnx.ModelProto]) -> onnx.ModelProto:
    """Call one of onnx's C++ passes on the graph without its big weights, which stand in as inputs meanwhile."""
    graph = model.graph
    big = [
        v for v in graph.initializers.values() if v.const_value is not None and v.const_value.nbytes > _BIG
    ]
    for value in big:
        assert value.name is not None and value.const_value is not None
        value.shape = ir.Shape(value.const_value.shape)
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


def _load_small(graph: ir.Graph) -> None:
    """Small external tensors are shapes, axes and the like: conversion and inference need to see them."""
    for value in graph.initializers.values():
        if isinstance(value.const_value, ir.ExternalTensor) and value.const_value.nbytes <= _BIG:
            value.const_value = ir.Tensor(value.const_value.numpy().copy(), name=value.name)


def _without_maps(proto: onnx.ModelProto, notes: list[str]) -> onnx.ModelProto:
    """ZipMap turns class scores into a list of dictionaries, which no tensor tool can use: pass the scores on."""
    zips = [n for n in proto.graph.node if n.op_type == "ZipMap" and n.domain == "ai.onnx.ml"]
    if not zips:
        return proto
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    for node in copy.graph.node:
        if node.op_type == "ZipMap" and node.domain == "ai.onnx.ml":
            node.op_type, node.domain = "Identity", ""
            del node.attribute[:]
            for output in copy.graph.output:
                if output.name == node.output[0]:
                    output.type.CopyFrom(onnx.helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, [None, None]))
                    notes.append(f"'{output.name}' is a list of dictionaries (ZipMap); its scores are used as they are")
    return copy


def _convert(model: ir.Model) -> ir.Model:
    """Raise the opset to 21, or relabel one that is too new where no operator changed."""
    imports = model.graph.opset_imports
    version = imports.get("") or OPSET_MIN
    if version > OPSET_MAX:
        _relabel(model, version)
    elif version < OPSET_MIN:
        declared = _declared(model)
        _forget_shapes(model)
        model = raise_opset(model, version, OPSET_MIN, _light, infer_shapes)
        _restore(model, declared)
    else:
        imports[""] = version
    reached = model.graph.opset_imports[""]
    if not OPSET_MIN <= reached <= OPSET_MAX:
        raise UnsupportedError(f"The model could not be brought from opset {version} to {OPSET_MIN}: it is at {reached}.")
    return model


def _relabel(model: ir.Model, version: int) -> None:
    import onnx

    for node in model.graph.all_nodes():
        if node.domain == "" and (not onnx.defs.has(node.op_type, "") or
                                  onnx.defs.get_schema(node.op_type, version).since_version > OPSET_MAX):
            raise UnsupportedError(
                f"Node '{node.name}' ({node.op_type}) uses opset {version}, which changed this operator; onnxruntime "
                f"knows opsets up to {OPSET_MAX}. Export the model with opset {OPSET_MAX} or lower."
            )
    model.graph.opset_imports[""] = OPSET_MAX


def require_opset(model: ir.Model) -> int:
    """The standard opset of a canonical model."""
    version = model.graph.opset_imports.get("")
    if version is None:
        raise ModelError("The model imports no standard operator set.")
    return version
