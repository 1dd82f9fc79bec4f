"""Canonical form: one dialect of ONNX for all that follows, with the original tensor names kept.

After `canonicalise` a graph has: opset 21 to 26, no model-local functions, no Constant nodes, no initializers among
its inputs, explicit pads, shapes inferred afresh (the file's own are not trusted), plain tensors as outputs, and
any batch size where the graph allows it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import onnx_ir as ir
from onnx_ir.passes import common as passes

from .errors import ModelError, UnsupportedError

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
    passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    model = _convert(model)
    model.ir_version = min(max(model.ir_version or 0, IR_MIN), IR_MAX)
    model.graph.sort()
    infer_shapes(model)
    _explicit_pads(model.graph)
    if _relax_batch(model):
        notes.append("the batch size was fixed at 1 in the file; the graph allows any, so any is accepted")
    return model, notes


def infer_shapes(model: ir.Model) -> None:
    """Forget all shapes but those of the inputs and weights, and infer them again."""
    import onnx

    graph = model.graph
    declared = {v: (v.shape, v.type) for v in graph.outputs}
    keep = {*graph.inputs, *graph.initializers.values()}
    for node in graph:
        for value in node.outputs:
            if value not in keep:
                value.shape = None
                value.type = None
    inferred = _light(model, lambda p: onnx.shape_inference.infer_shapes(p, data_prop=True))
    infos = {i.name: i for i in [*inferred.graph.value_info, *inferred.graph.output]}
    for node in graph:
        for value in node.outputs:
            if (info := infos.get(value.name or "")) is not None:
                value.shape = ir.serde.deserialize_type_proto_for_shape(info.type)
                value.type = ir.serde.deserialize_type_proto_for_type(info.type)
    for value, (shape, type_) in declared.items():
        value.type = value.type or type_
        value.shape = shape if value.shape is None else value.shape


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
        from .opsets import raise_opset

        model = raise_opset(model, version, OPSET_MIN, _light)
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


def _explicit_pads(graph: ir.Graph) -> None:
    """Replace auto_pad by pads wherever the sizes are known; SAME at stride 1 does not need them."""
    for node in graph.all_nodes():
        mode = node.attributes.get_string("auto_pad", "NOTSET")
        if node.domain != "" or mode == "NOTSET":
            continue
        pads = _pads(node, mode)
        if pads is not None:
            del node.attributes["auto_pad"]
            node.attributes["pads"] = ir.AttrInt64s("pads", pads)


def _pads(node: ir.Node, mode: str) -> list[int] | None:
    """Pads (all begins, then all ends) that auto_pad stands for, None where the input's size must be known first."""
    x, y = node.inputs[0], node.outputs[0]
    kernel = list(node.attributes.get_ints("kernel_shape", ()))
    if not kernel and len(node.inputs) > 1 and node.inputs[1] is not None and node.inputs[1].shape is not None:
        kernel = [d for d in node.inputs[1].shape.numpy()[2:]]
    if not kernel:
        return None
    rank = len(kernel)
    if mode == "VALID":
        return [0] * (2 * rank)
    stride = list(node.attributes.get_ints("strides", ())) or [1] * rank
    dilation = list(node.attributes.get_ints("dilations", ())) or [1] * rank
    extent = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    if node.op_type == "ConvTranspose":
        extra = list(node.attributes.get_ints("output_padding", ())) or [0] * rank
        # The output is input * stride: what the full output has beyond that is cut off.
        totals: list[int | None] = [max(e + o - s, 0) for e, o, s in zip(extent, extra, stride, strict=True)]
        if "output_shape" in node.attributes:
            return None
    else:
        sizes = x.shape[2:] if x is not None and x.shape is not None else [None] * rank
        totals = [
            e - 1 if s == 1 else max((-(-n // s) - 1) * s + e - n, 0) if isinstance(n, int) else None
            for n, s, e in zip(sizes, stride, extent, strict=True)
        ]
    if any(t is None for t in totals):
        return None
    small = [t // 2 for t in totals if t is not None]
    large = [t - t // 2 for t in totals if t is not None]
    begin, end = (small, large) if mode == "SAME_UPPER" else (large, small)
    if y.shape is None:
        return None
    return begin + end


def _relax_batch(model: ir.Model) -> bool:
    """Let a batch that is fixed at 1 vary, if the whole graph then follows it; else leave the graph alone."""
    graph = model.graph
    images = [v for v in graph.inputs if v.shape is not None and len(v.shape) > 1]
    if not images or any(v.shape is None or v.shape[0] != 1 for v in images):
        return False
    if any(o.shape is None or len(o.shape) == 0 or o.shape[0] != 1 for o in graph.outputs):
        return False
    if any(a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for n in graph for a in n.attributes.values()):
        return False
    trial = model.clone()
    _free_reshapes(trial.graph)
    if not all(_follows(trial, n) for n in (2, 3)):
        return False
    for name in [v.name for v in images]:
        value = next(v for v in graph.inputs if v.name == name)
        assert value.shape is not None
        value.shape = ir.Shape(["batch", *list(value.shape)[1:]])
    for output in graph.outputs:
        output.shape = None
    _free_reshapes(graph)
    infer_shapes(model)
    return True


def _free_reshapes(graph: ir.Graph) -> None:
    """Constant Reshape targets that spell the batch as 1 copy it from their input instead (0)."""
    for node in graph:
        if node.op_type != "Reshape" or node.domain != "" or node.attributes.get_int("allowzero", 0):
            continue
        x, shape = node.inputs[0], node.inputs[1]
        target = ir.convenience.get_const_tensor(shape) if shape is not None else None
        if x is None or x.shape is None or len(x.shape) == 0 or x.shape[0] != 1 or target is None or x.is_initializer():
            continue
        sizes = target.numpy().tolist()
        if sizes and sizes[0] == 1:
            name = f"{node.outputs[0].name}.any_batch"
            new = ir.val(name, const_value=ir.tensor([0, *sizes[1:]], name=name, dtype=ir.DataType.INT64))
            graph.register_initializer(new)
            node.replace_input_with(1, new)


def _follows(model: ir.Model, batch: int) -> bool:
    """True if shape inference with this batch size finds no contradiction and every output carries it."""
    import onnx

    trial = model.clone()
    for value in trial.graph.inputs:
        if value.shape is not None and len(value.shape) > 1:
            value.shape = ir.Shape([batch, *list(value.shape)[1:]])
    for node in trial.graph:
        for value in node.outputs:
            value.shape = None
    try:
        inferred = _light(trial, lambda p: onnx.shape_inference.infer_shapes(p, strict_mode=True, data_prop=True))
    except Exception:  # whatever onnx objects to: then the batch stays fixed, which is always right
        return False
    for output in inferred.graph.output:
        dims = output.type.tensor_type.shape.dim
        if not dims or dims[0].dim_value != batch:
            return False
    return True


def require_opset(model: ir.Model) -> int:
    """The standard opset of a canonical model."""
    version = model.graph.opset_imports.get("")
    if version is None:
        raise ModelError("The model imports no standard operator set.")
    return version
