"""Raising a model's opset with onnx's own converter, and mending what that converter gets wrong."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import onnx_ir as ir

from .errors import UnsupportedError
from .mends import DISGUISED, MENDS, REFUSED
from .shapes import infer_shapes, light
from .source import nodes

if TYPE_CHECKING:
    import onnx


def raise_opset(model: ir.Model, version: int, target: int) -> ir.Model:
    """Convert to a newer opset; weights, tensor names and metadata stay.

    onnx's C++ converter is used rather than a Python one: it covers every opset from 7 on, keeps all tensor names
    and takes milliseconds. Where it is known to change the result, the case is mended here or refused.

    Args:
        model: without functions and Constant nodes; left with its weights unchanged.
        version: the standard opset that it has.
        target: the one it shall have.

    Raises:
        UnsupportedError: the converter refuses, or the file uses a form that it would silently change.
    """
    from onnx import version_converter

    for node in model.graph.all_nodes():
        for op, last, applies, does in REFUSED:
            if node.domain == "" and node.op_type == op and version <= last and applies(node):
                raise UnsupportedError(
                    f"{_named(node)} {does}: opset {target} has no such form. Export the model for inference, "
                    f"with opset {target}."
                )
    try:
        proto = light(model, lambda p: version_converter.convert_version(_disguise(p, version), target))
    except Exception as error:
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise UnsupportedError(
            f"{_culprit(model, version, target)} cannot be raised from opset {version} to {target} "
            f"({reason.rsplit('failed: ')[-1].rstrip('.')}). Export the model with opset {target}."
        ) from error
    converted = ir.serde.deserialize_model(proto)
    _restore_weights(model.graph, converted.graph)
    for before, after in zip(model.graph.inputs, converted.graph.inputs, strict=True):
        after.type, after.shape = before.type, before.shape  # it leaves the batch out behind a Scan of opset 8
    infer_shapes(converted)
    for old, new, same in list(_origins(model.graph, converted.graph)):
        new.metadata_props.update(old.metadata_props)
        if not same:
            continue
        new.name = new.name or old.name
        new.doc_string = old.doc_string
        last, mend = MENDS.get(old.op_type, (0, None))
        if mend is not None and old.domain == "" and version <= last:
            mend(old, new)
    converted.metadata_props.update(model.metadata_props)
    converted.graph.metadata_props.update(model.graph.metadata_props)
    return converted


def _disguise(proto: onnx.ModelProto, version: int) -> onnx.ModelProto:
    """Show the converter an operator that it has no need to change, where it would do damage; shapes are the same."""
    for node in nodes(proto.graph):
        if node.domain == "" and node.op_type in DISGUISED and version <= MENDS[node.op_type][0]:
            node.op_type = "Elu"
            del node.attribute[:]
    return proto


def _restore_weights(old: ir.Graph, new: ir.Graph) -> None:
    """The original tensors again: big ones stood in as inputs, small ones went through C++ and lost their type."""
    weights = {name: v.const_value for name, v in old.initializers.items()}
    for value in [v for v in new.inputs if v.name in weights]:
        new.inputs.remove(value)
        value.const_value = weights[value.name or ""]
        new.register_initializer(value)
    for name in weights.keys() & new.initializers.keys():
        new.initializers[name].const_value = weights[name]


def _origins(old: ir.Graph, new: ir.Graph) -> Iterator[tuple[ir.Node, ir.Node, bool]]:
    """Every new node with the old one it stems from, and whether it computes the same tensor; in subgraphs too."""
    before = {y.name: node for node in old for y in node.outputs if y.name}
    origin = None
    for node in reversed(new):  # what the converter needs for a node, it puts in front of it
        same = next((before[y.name] for y in node.outputs if y.name in before), None)
        origin = same or origin
        if origin is None:
            continue
        yield origin, node, same is not None
        for name, attribute in node.attributes.items():
            if same and attribute.type == ir.AttributeType.GRAPH:
                yield from _origins(same.attributes[name].as_graph(), attribute.as_graph())


def _culprit(model: ir.Model, version: int, target: int) -> str:
    """The node that the converter refuses, found by trying them one by one."""
    import onnx

    for node in model.graph.all_nodes():
        proto = onnx.helper.make_model(
            onnx.helper.make_graph(
                [ir.serde.serialize_node(node)],
                "one",
                [_info(x) for x in dict.fromkeys(node.inputs) if x is not None and x.name],
                [_info(y) for y in node.outputs if y.name],
            ),
            opset_imports=[onnx.helper.make_opsetid("", version)],
            ir_version=10,
        )
        try:
            onnx.version_converter.convert_version(proto, target)
        except Exception:
            return _named(node)
    return "The model"


def _info(value: ir.Value) -> onnx.ValueInfoProto:
    import onnx

    kind = value.dtype if value.dtype is not None else ir.DataType.FLOAT
    return onnx.helper.make_tensor_value_info(value.name or "", int(kind), None)


def _named(node: ir.Node) -> str:
    return f"Node '{node.name or ' '.join(y.name or '' for y in node.outputs)}' ({node.op_type})"
