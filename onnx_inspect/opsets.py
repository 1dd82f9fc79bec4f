"""Raising a model's opset with onnx's own converter, and mending what that converter gets wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from .errors import UnsupportedError

if TYPE_CHECKING:
    import onnx

Light = Callable[[ir.Model, "Callable[[onnx.ModelProto], onnx.ModelProto]"], "onnx.ModelProto"]
Mend = Callable[[ir.Node, ir.Node], None]

_MENDS: dict[str, tuple[int, Mend]] = {}

# Operator, last opset of the form, when it applies, what it does: forms that later opsets cannot say in a few nodes.
_REFUSED: list[tuple[str, int, Callable[[ir.Node], bool], str]] = [
    ("BatchNormalization", 8, lambda n: not n.attributes.get_int("spatial", 1), "normalises every pixel by itself"),
    ("BatchNormalization", 13, lambda n: any(y.name for y in n.outputs[1:]), "is exported for training"),
    ("Dropout", 11, lambda n: any(_used(y) for y in n.outputs[1:]), "passes on its random mask"),
    ("Scan", 8, lambda n: True, "loops over a batch, which later opsets do not"),
]


def raise_opset(model: ir.Model, version: int, target: int, light: Light, infer: Callable[[ir.Model], None]) -> ir.Model:
    """Convert to a newer opset; weights, tensor names and metadata stay.

    onnx's C++ converter is used rather than a Python one: it covers every opset from 7 on, keeps all tensor names
    and takes milliseconds. Where it is known to change the result, the case is mended here or refused.

    Args:
        model: without functions and Constant nodes; left with its weights unchanged.
        version: the standard opset that it has.
        target: the one it shall have.
        light: calls a C++ pass without the big weights.
        infer: infers all shapes.

    Raises:
        UnsupportedError: the converter refuses, or the file uses a form that it would silently change.
    """
    from onnx import version_converter

    for node in model.graph.all_nodes():
        for op, last, applies, does in _REFUSED:
            if node.domain == "" and node.op_type == op and version <= last and applies(node):
                raise UnsupportedError(
                    f"{_named(node)} {does}: opset {target} has no such form. Export the model for inference, "
                    f"with opset {target}."
                )
    try:
        proto = light(model, lambda p: version_converter.convert_version(p, target))
    except Exception as error:
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise UnsupportedError(
            f"{_culprit(model, version, target)} cannot be raised from opset {version} to {target} "
            f"({reason.rsplit('failed: ')[-1].rstrip('.')}). Export the model with opset {target}."
        ) from error
    converted = ir.serde.deserialize_model(proto)
    _restore_weights(model.graph, converted.graph)
    infer(converted)
    changed = list(_origins(model.graph, converted.graph))
    for old, new, same in changed:
        new.metadata_props.update(old.metadata_props)
        if not same:
            continue
        new.name = new.name or old.name
        new.doc_string = old.doc_string
        last, mend = _MENDS.get(old.op_type, (0, None))
        if mend is not None and old.domain == "" and version <= last:
            mend(old, new)
    for _, new, same in changed:  # what the converter wrote for a node that was mended another way
        if not same and new.graph is not None and not any(_used(y) for y in new.outputs):
            new.graph.remove(new, safe=True)
    converted.metadata_props.update(model.metadata_props)
    converted.graph.metadata_props.update(model.graph.metadata_props)
    return converted


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
    return onnx.helper.make_tensor_value_info(value.name, int(kind), None)


def _named(node: ir.Node) -> str:
    return f"Node '{node.name or node.outputs[0].name}' ({node.op_type})"


def _used(value: ir.Value) -> bool:
    return bool(value.uses()) or value.is_graph_output()


def _mend(op: str, last: int) -> Callable[[Mend], Mend]:
    """Register how to mend an operator in its forms up to an opset, after conversion."""

    def register(mend: Mend) -> Mend:
        _MENDS[op] = (last, mend)
        return mend

    return register


@_mend("Upsample", 9)
@_mend("Resize", 10)
def _resize(old: ir.Node, new: ir.Node) -> None:
    # The converter leaves out the old coordinates, y = x * scale; what later opsets take instead is half_pixel.
    new.attributes["coordinate_transformation_mode"] = ir.AttrString("coordinate_transformation_mode", "asymmetric")
    if new.attributes.get_string("mode", "nearest") != "nearest":
        return
    # Nearest rounded down along axes that it enlarged, and up along those that it shrank.
    new.attributes["nearest_mode"] = ir.AttrString("nearest_mode", "floor")
    x, roi, scales = new.inputs[:3]
    known = ir.convenience.get_const_tensor(scales) if scales is not None else None
    if known is None or (known.numpy() < 1).any():
        one = _node(new, "Constant", [], value=ir.tensor([1.0], dtype=ir.DataType.FLOAT))
        up = _node(new, "Max", [scales, one.outputs[0]])
        down = _node(new, "Min", [scales, one.outputs[0]])
        larger = _node(new, "Resize", [x, roi, up.outputs[0]])
        smaller = _node(new, "Resize", [larger.outputs[0], roi, down.outputs[0]])
        for node, mode in ((larger, "floor"), (smaller, "ceil")):
            node.attributes.update(new.attributes)
            node.attributes["nearest_mode"] = ir.AttrString("nearest_mode", mode)
        _replace(new, [one, up, down, larger, smaller])


@_mend("Clip", 10)
@_mend("Pad", 10)
def _limits(old: ir.Node, new: ir.Node) -> None:
    # Attributes are float whatever the type of the data; as inputs they must have its type, which is not always known.
    dtype = new.inputs[0].dtype if new.inputs[0] is not None else None
    for i, value in enumerate(new.inputs):
        made = value.producer() if value is not None else None
        if made is None or made.op_type != "Constant" or dtype == ir.DataType.FLOAT:
            continue
        tensor = made.attributes["value"].as_tensor()
        if tensor.dtype == ir.DataType.FLOAT and dtype is not None:
            made.attributes["value"] = ir.AttrTensor("value", ir.tensor(tensor.numpy().astype(dtype.numpy())))
        elif tensor.dtype == ir.DataType.FLOAT:
            like = _node(new, "CastLike", [value, new.inputs[0]])
            like.outputs[0].name = f"{new.outputs[0].name}.limit_{i}"
            new.replace_input_with(i, like.outputs[0])
            assert new.graph is not None
            new.graph.insert_before(new, like)


@_mend("Softmax", 12)
@_mend("LogSoftmax", 12)
@_mend("Hardmax", 12)
def _softmax(old: ir.Node, new: ir.Node) -> None:
    # Up to opset 12 all axes from `axis` on count as one, which the converter does not know of Hardmax. Of the others
    # it does, but spells out Shape, Flatten and Reshape also where there is but one such axis, or but one beside 1s.
    flat = new.inputs[0].producer().inputs[0].producer() if new.op_type == "Reshape" else new  # type: ignore[union-attr]
    x = flat.inputs[0]  # type: ignore[union-attr]
    sizes = list(x.shape) if x is not None and x.shape is not None else []
    axis = old.attributes.get_int("axis", 1)
    if sizes and all(d == 1 for d in sizes[axis % len(sizes) + 1 :]):
        _replace(new, [_node(new, old.op_type, [x], axis=axis % len(sizes))])
    elif old.op_type == "Hardmax":
        flat = _node(new, "Flatten", [x], axis=axis)
        _reshaped(new, [flat, _node(new, "Hardmax", flat.outputs, axis=-1)])


@_mend("GroupNormalization", 20)
def _group_normalization(old: ir.Node, new: ir.Node) -> None:
    # Up to opset 20 scale and bias are per group: that is an instance normalisation with groups for channels.
    if [x.name for x in new.inputs if x] != [x.name for x in old.inputs if x]:
        return  # the converter has repeated them per channel, which it does now and then
    sizes = ir.tensor([0, old.attributes["num_groups"].as_int(), -1], dtype=ir.DataType.INT64)
    groups = _node(new, "Constant", [], value=sizes)
    flat = _node(new, "Reshape", [new.inputs[0], groups.outputs[0]])
    epsilon = old.attributes.get_float("epsilon", 1e-5)
    norm = _node(new, "InstanceNormalization", [flat.outputs[0], *new.inputs[1:]], epsilon=epsilon)
    _reshaped(new, [groups, flat, norm])


def _reshaped(node: ir.Node, nodes: list[ir.Node]) -> None:
    """Put nodes in the place of one, and give what the last one computes the shape of its input."""
    shape = _node(node, "Shape", [node.inputs[0]])
    back = _node(node, "Reshape", [nodes[-1].outputs[0], shape.outputs[0]])
    _replace(node, [*nodes, shape, back])


def _node(place: ir.Node, op: str, inputs: Sequence[ir.Value | None], **attributes: Any) -> ir.Node:
    """A node whose output is named after what it helps to compute, with the names of its modules."""
    name = f"{place.outputs[0].name}.{op.lower()}"
    return ir.node(op, inputs, attributes, outputs=[ir.Value(name=name)], metadata_props=dict(place.metadata_props))


def _replace(node: ir.Node, nodes: list[ir.Node]) -> None:
    """Put nodes in the place of one; the last one takes over its output and its name."""
    assert node.graph is not None
    nodes[-1].name = node.name
    ir.convenience.replace_nodes_and_values(node.graph, node, [node], nodes, node.outputs, nodes[-1].outputs)
