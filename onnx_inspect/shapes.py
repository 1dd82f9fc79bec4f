"""Shapes of all tensors, inferred afresh, and calling onnx's C++ passes without the big weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

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
    import onnx

    declared = declared_outputs(model)
    constants = _constants(model)
    known: dict[ir.Value, tuple[ir.Shape, ir.TypeProtocol]] = {}
    while True:
        values = forget_shapes(model)
        for value, (shape, type_) in known.items():
            value.shape, value.type = shape, type_
        eased = {value.name for value in known}
        inferred = light(
            model, lambda p: onnx.shape_inference.infer_shapes(_eased(p, constants, eased), data_prop=True)
        )
        infos = {i.name: i for graph in _graphs(inferred.graph) for i in [*graph.value_info, *graph.output]}
        for value in values:
            if (info := infos.get(value.name or "")) is not None:
                value.shape = ir.serde.deserialize_type_proto_for_shape(info.type)
                value.type = ir.serde.deserialize_type_proto_for_type(info.type)
            elif (tensor := constants.get(value.name or "")) is not None:
                value.shape, value.type = ir.Shape(tensor.shape), ir.TensorType(ir.DataType.from_numpy(tensor.dtype))
        found = {y: s for node in model.graph.all_nodes() for y, s in _attention(node).items() if y not in known}
        if not found:
            break
        known |= found
    restore_outputs(model, declared)


def _constants(model: ir.Model) -> dict[str, NDArray[Any]]:
    """Integers that follow from constants alone: onnx propagates few of the operators that exporters reckon with."""
    known = {
        v: v.const_value.numpy()
        for v in model.graph.initializers.values()
        if v.const_value is not None and v.const_value.dtype in _INTEGERS and v.const_value.nbytes <= BIG
    }
    found: dict[str, NDArray[Any]] = {}
    for node in model.graph:
        y = node.outputs[0]
        given = [x for x in node.inputs if x is not None]
        if node.domain or node.op_type not in _ARITHMETIC or not all(x in known for x in given) or y.is_graph_output():
            continue
        from onnx.reference import ReferenceEvaluator

        evaluator = ReferenceEvaluator(ir.serde.serialize_node(node))
        (result,) = evaluator.run(None, {x.name: known[x] for x in given})
        if y.name and result.nbytes <= BIG and ir.DataType.from_numpy(result.dtype) in _INTEGERS:
            known[y] = found[y.name] = result
    return found


def _eased(proto: onnx.ModelProto, constants: dict[str, NDArray[Any]], known: set[str | None]) -> onnx.ModelProto:
    """What onnx infers nothing of, or something wrong, written so that it does; tensors `known` keep their shapes."""
    import onnx

    for graph in _graphs(proto.graph):
        for node in graph.node:
            if node.domain == "" and node.op_type == "GroupNormalization":  # plain, but not inferred
                node.op_type, node.input[:] = "Identity", node.input[:1]
            if known.intersection(node.output):
                node.domain = "known"
    nodes = [node for node in proto.graph.node if not (node.output and node.output[0] in constants)]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(a, name) for name, a in constants.items())
    if known:
        proto.opset_import.append(onnx.helper.make_opsetid("known", 1))
    return proto


def _attention(node: ir.Node) -> dict[ir.Value, tuple[ir.Shape, ir.TypeProtocol]]:
    """Shapes of an Attention's outputs if onnx leaves them out, or takes sizes that nobody knows for 0."""
    given = [*node.inputs, *[None] * 6][:6]
    q, k, v, _, past, _ = given
    if (
        node.domain
        or node.op_type != "Attention"
        or any(x is None or x.shape is None or x.type is None for x in (q, k, v))
    ):
        return {}
    zero = any(d == 0 for x in given if x is not None and x.shape is not None for d in x.shape)
    if zero or all(y.shape is not None and 0 not in list(y.shape) for y in node.outputs if y.name):
        return {}
    batch, heads, length, _ = _heads(q, node.attributes.get_int("q_num_heads", 0))
    _, kv_heads, total, size = _heads(k, node.attributes.get_int("kv_num_heads", 0))
    width = _heads(v, node.attributes.get_int("kv_num_heads", 0))[3]
    if past is not None:
        before = past.shape[2] if past.shape is not None else None
        total = before + total if isinstance(before, int) and isinstance(total, int) else None
    flat = heads * width if isinstance(heads, int) and isinstance(width, int) else None
    shapes = [
        [batch, heads, length, width] if len(q.shape) == 4 else [batch, length, flat],
        [batch, kv_heads, total, size],
        [batch, kv_heads, total, width],
        [batch, heads, length, total],
    ]
    return {
        y: (ir.Shape(shape), like.type)
        for y, shape, like in zip(node.outputs, shapes, (q, k, v, q), strict=False)
        if y.name
    }


def _heads(x: ir.Value, heads: int) -> list[Any]:
    """The shape of queries, keys or values with an axis of heads."""
    shape = list(x.shape or ())
    if len(shape) == 4:
        return shape
    batch, length, width = shape
    return [batch, heads, length, width // heads if isinstance(width, int) else None]


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
