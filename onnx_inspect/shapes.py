"""Shapes of all tensors, inferred afresh, and calling onnx's C++ passes without the big weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from .shape_rules import Known, corrections

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

BIG = 1024  # bytes; larger weights are kept away from onnx's C++ passes, which copy and serialise
_INTEGERS = frozenset({ir.DataType.INT64, ir.DataType.INT32, ir.DataType.BOOL})
_ARITHMETIC = frozenset(
    "Abs Add And Cast Concat Div Equal Gather Greater Less Max Min Mod Mul Neg Not Or Reshape Slice Squeeze Sub "
    "Unsqueeze Where".split()
)
Declared = dict["str | None", tuple["ir.ShapeProtocol | None", "ir.TypeProtocol | None"]]


def infer_shapes(model: ir.Model) -> None:
    """Forget all shapes but those of the inputs and weights, and infer them again."""
    declared = declared_outputs(model)
    constants = _constants(model)
    known: Known = {}
    while True:
        values = forget_shapes(model)
        for value, (shape, type_) in known.items():
            value.shape, value.type = shape, type_
        inferred = _inferred(model, constants, {value.name for value in known})
        infos = {i.name: i for graph in _graphs(inferred.graph) for i in [*graph.value_info, *graph.output]}
        for value in values:
            if (info := infos.get(value.name or "")) is not None:
                value.shape = ir.serde.deserialize_type_proto_for_shape(info.type)
                value.type = ir.serde.deserialize_type_proto_for_type(info.type)
            elif (tensor := constants.get(value.name or "")) is not None:
                value.shape, value.type = ir.Shape(tensor.shape), ir.TensorType(ir.DataType.from_numpy(tensor.dtype))
        corrected = (corrections(node) for node in model.graph.all_nodes())
        found = {y: shape for each in corrected for y, shape in each.items() if y not in known}
        if not found:
            break
        known |= found
    restore_outputs(model, declared)


def _constants(model: ir.Model) -> dict[str, NDArray[Any]]:
    """Integers that follow from constants alone: onnx propagates few of the operators that exporters reckon with."""
    known = {
        name: v.const_value.numpy()
        for name, v in model.graph.initializers.items()
        if v.const_value is not None and v.const_value.dtype in _INTEGERS and v.const_value.nbytes <= BIG
    }
    found: dict[str, NDArray[Any]] = {}
    for node in model.graph:
        names = {x.name or "" for x in node.inputs if x is not None}
        y = node.outputs[0]
        if node.domain or node.op_type not in _ARITHMETIC or not names <= known.keys() or y.is_graph_output():
            continue
        from onnx.reference import ReferenceEvaluator

        try:
            results: Any = ReferenceEvaluator(ir.serde.serialize_node(node)).run(None, {n: known[n] for n in names})
        except Exception:  # it cannot be computed: onnxruntime will say so
            continue
        if y.name and results[0].nbytes <= BIG and ir.DataType.from_numpy(results[0].dtype) in _INTEGERS:
            known[y.name] = found[y.name] = results[0]
    return found


def _inferred(model: ir.Model, constants: Mapping[str, NDArray[Any]], known: set[str | None]) -> onnx.ModelProto:
    """The graph as onnx infers it, with what it would not see, or get wrong, written in another way.

    Args:
        model: the graph.
        constants: what nodes compute that follow from constants alone.
        known: tensors whose shapes are to be believed.
    """
    import onnx

    def infer(proto: onnx.ModelProto) -> onnx.ModelProto:
        for graph in _graphs(proto.graph):
            for node in graph.node:
                if node.domain == "" and node.op_type == "GroupNormalization":  # plain, but not inferred
                    node.op_type, node.input[:] = "Identity", node.input[:1]
                if known.intersection(node.output):
                    node.domain = "known"
        for node in [n for n in proto.graph.node if n.output and n.output[0] in constants]:
            proto.graph.node.remove(node)
        proto.graph.initializer.extend(onnx.numpy_helper.from_array(a, name) for name, a in constants.items())
        proto.opset_import.append(onnx.helper.make_opsetid("known", 1))
        return onnx.shape_inference.infer_shapes(proto, data_prop=True)

    return light(model, infer)


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
