"""Canonical form: one dialect of ONNX for all that follows, with the original tensor names kept.

After `canonicalise` a graph has: opset 21 to 26, no model-local functions, no Constant nodes, no initializers among
its inputs, no If that always takes one branch, explicit pads, no bfloat16, shapes inferred afresh (the file's own are
not trusted), plain tensors as outputs, and any batch size where the graph allows it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import onnx_ir as ir
from onnx_ir.passes import common as passes

from . import batch, branches, pads, shapes
from .decompose.table import applies, at_load, lowered
from .downgrade import lower_opset, runnable
from .errors import ModelError, UnsupportedError
from .opsets import raise_opset
from .scopes import mark_calls
from .shapes import BIG, declared_outputs, forget_shapes, restore_outputs
from .widen import widen

if TYPE_CHECKING:
    from pathlib import Path

    import onnx

OPSET_MIN, OPSET_MAX = 21, 26  # 26 is the newest that onnxruntime 1.31 accepts
IR_MIN, IR_MAX = 10, 12

logging.getLogger("onnx_ir").setLevel(logging.ERROR)
_NAMELESS = frozenset({"", "?", "any", "dynamic", "none", "unk", "unknown"})


def canonicalise(proto: onnx.ModelProto, folder: Path | None = None) -> tuple[ir.Model, list[str], bool]:
    """Bring a model into canonical form.

    Args:
        proto: the model as read; left unchanged.
        folder: where its external data lies; the data stays on disk.

    Returns:
        The model, notes on what was changed that a user should know, and whether a fixed batch was freed.
    """
    notes: list[str] = []
    model = ir.serde.deserialize_model(_without_maps(proto, notes))
    if folder is not None:
        ir.external_data.set_base_dir(model.graph, folder)
    _short_domain(model)
    mark_calls(model)
    passes.InlinePass()(model)
    _own_domain(model)
    passes.RemoveInitializersFromInputsPass()(model)
    _once(model.graph)
    _unname(model.graph)
    _lift(model)
    _trim(model)
    _load_small(model.graph)
    if widen(model.graph, ir.DataType.BFLOAT16):
        notes.append("bfloat16 numbers are computed in float32: onnxruntime has no bfloat16 kernels on the CPU")
    model = _convert(model, notes)
    _decompose(model, notes)
    _lift(model)  # the converter has written constants of its own
    model.ir_version = min(max(model.ir_version or 0, IR_MIN), IR_MAX)
    model.graph.sort()
    infer_shapes(model)
    branches.take_all(model, infer_shapes)
    if led := batch.lead(model.graph):
        notes.append(f"{', '.join(map(repr, led))} had no axis for samples: there is one now, before the others")
        infer_shapes(model)
    pads.explicit(model.graph)
    relaxed = batch.relax(model) is not None
    if relaxed:
        infer_shapes(model)
    return model, notes, relaxed


def infer_shapes(model: ir.Model) -> None:
    """Forget all shapes but those of the inputs and weights, and infer them again; see through lowerings."""
    standard = lowered(model)
    shapes.infer_shapes(standard)
    if standard is model:
        return
    known = {v.name: v for graph in standard.graphs() for v in _values(graph)}
    for value in [v for graph in model.graphs() for v in _values(graph) if v.name in known]:
        value.shape, value.type = known[value.name].shape, known[value.name].type


def _decompose(model: ir.Model, notes: list[str]) -> None:
    """Take operators apart that are not standard, or have a form that onnxruntime lacks."""
    from .decompose import forms  # noqa: F401  (fills the table)

    if any(node.domain for node in model.graph.all_nodes()):
        from .decompose import families  # noqa: F401
    if any(applies(node) for node in model.graph.all_nodes()):
        infer_shapes(model)
        notes += at_load(model)


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


def _short_domain(model: ir.Model) -> None:
    """The standard domain has two names, "" and "ai.onnx"."""
    scopes: list[ir.Graph | ir.Function] = [model.graph, *model.functions.values()]
    for scope in scopes:
        if "ai.onnx" in scope.opset_imports:
            scope.opset_imports[""] = scope.opset_imports.pop("ai.onnx")
        for node in scope.all_nodes():
            if node.domain == "ai.onnx":
                node.domain = ""


def _own_domain(model: ir.Model) -> None:
    """onnxruntime writes normalisations of its own into the standard domain, which has one of them since opset 17."""
    imports = model.graph.opset_imports
    own = {"SimplifiedLayerNormalization", "LayerNormalization" if imports.get("", OPSET_MIN) < 17 else None}
    for node in model.graph.all_nodes():
        if node.domain == "" and node.op_type in own:
            node.domain = "com.microsoft"
            imports.setdefault(node.domain, 1)


def _once(graph: ir.Graph) -> None:
    """Weights that are listed among the inputs twice, which onnxruntime passes over."""
    for value in [v for v in graph.inputs if v.name in graph.initializers]:
        ir.convenience.replace_all_uses_with(value, graph.initializers[value.name or ""])
        graph.inputs.remove(value)


def _unname(graph: ir.Graph) -> None:
    """Exporters that call every open axis by one name mean that it has none."""
    for value in [*graph.inputs, *graph.outputs]:
        if value.shape is not None:
            axes = [n if isinstance(n, int) or str(n.value).casefold() not in _NAMELESS else None for n in value.shape]
            value.shape = ir.Shape(axes)


def _trim(model: ir.Model) -> None:
    """Leave out absent inputs at the end: onnxruntime 1.31 crashes on some nodes that have them."""
    for node in model.graph.all_nodes():
        count = len(node.inputs)
        while count and node.inputs[count - 1] is None:
            count -= 1
        if count < len(node.inputs):
            node.resize_inputs(count)


def _load_small(graph: ir.Graph) -> None:
    """Small external tensors are shapes, axes and the like: conversion and inference need to see them."""
    for value in graph.initializers.values():
        if isinstance(value.const_value, ir.ExternalTensor) and value.const_value.nbytes <= BIG:
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


def _convert(model: ir.Model, notes: list[str]) -> ir.Model:
    """Raise the opset to 21, or lower it to the newest that onnxruntime runs."""
    imports = model.graph.opset_imports
    version = imports.get("") or OPSET_MIN
    if version >= OPSET_MIN:
        if done := lower_opset(model, version, runnable(model, version, OPSET_MAX)):
            notes.append(f"{', '.join(done)} taken apart into other operators, which onnxruntime has")
    else:
        declared = declared_outputs(model)
        forget_shapes(model)
        model = raise_opset(model, version, OPSET_MIN)
        restore_outputs(model, declared)
    reached = model.graph.opset_imports[""]
    if not OPSET_MIN <= reached <= OPSET_MAX:
        raise UnsupportedError(
            f"The model could not be brought from opset {version} to {OPSET_MIN}: it is at {reached}."
        )
    return model


def require_opset(model: ir.Model) -> int:
    """The standard opset of a canonical model."""
    version = model.graph.opset_imports.get("")
    if version is None:
        raise ModelError("The model imports no standard operator set.")
    return version
