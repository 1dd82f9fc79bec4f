"""What onnx's version converter gets wrong, operator by operator: mended after it, or refused before it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import onnx_ir as ir

from .errors import UnsupportedError

# A mend takes the node as it was, and the one that the converter made of it, which it changes or replaces.
Mend = Callable[[ir.Node, ir.Node], None]

MENDS: dict[str, tuple[int, Mend]] = {}
# Shown to the converter as something else: it would change what it need not, and fail on some graphs.
DISGUISED = frozenset({"Softmax", "LogSoftmax", "Hardmax"})

# Operator, last opset of the form, when it applies, what it does: forms that later opsets cannot say in a few nodes.
REFUSED: list[tuple[str, int, Callable[[ir.Node], bool], str]] = [
    ("BatchNormalization", 8, lambda n: not n.attributes.get_int("spatial", 1), "normalises every pixel by itself"),
    ("BatchNormalization", 13, lambda n: any(y.name for y in n.outputs[1:]), "is exported for training"),
    ("Dropout", 11, lambda n: any(_used(y) for y in n.outputs[1:]), "passes on its random mask"),
    ("Scan", 8, lambda n: n.inputs[0] is not None, "loops over sequences of different lengths"),
]


def _used(value: ir.Value) -> bool:
    return bool(value.uses()) or value.is_graph_output()


def _mend(op: str, last: int) -> Callable[[Mend], Mend]:
    """Register how to mend an operator in its forms up to an opset, after conversion."""

    def register(mend: Mend) -> Mend:
        MENDS[op] = (last, mend)
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


@_mend("PRelu", 6)
def _prelu(old: ir.Node, new: ir.Node) -> None:
    # Up to opset 6 a slope with one axis is per channel; later ones align it with the last axis, as any other.
    x, slope = new.inputs
    if x is None or slope is None or x.shape is None or slope.shape is None:
        where = f"Node '{new.name or new.outputs[0].name}' (PRelu)"
        raise UnsupportedError(f"{where} cannot be raised from opset 6: the rank of its input is not known.")
    if len(slope.shape) == 1 and slope.shape[0] != 1 and len(x.shape) > 2:
        axes = _node(new, "Constant", [], value=ir.tensor(list(range(1, len(x.shape) - 1)), dtype=ir.DataType.INT64))
        channels = _node(new, "Unsqueeze", [slope, axes.outputs[0]])
        assert new.graph is not None
        new.graph.insert_before(new, [axes, channels])
        new.replace_input_with(1, channels.outputs[0])


@_mend("Scan", 8)
def _scan(old: ir.Node, new: ir.Node) -> None:
    # At opset 8 it loops over a batch: that is a Scan over the samples, without a state, and in it one over each.
    xs = [
        ir.Value(name=f"{new.outputs[0].name}.{x.name}", type=x.type, shape=x.shape and ir.Shape(x.shape[1:]))
        for x in old.inputs[1:]
        if x is not None
    ]
    body, count = new.attributes.pop("body"), old.attributes["num_scan_inputs"].as_int()
    how: dict[str, Any] = {"num_scan_inputs": count}
    if "directions" in old.attributes:
        how["scan_input_directions"] = list(old.attributes["directions"].as_ints())
    outputs = [ir.Value(name=f"{y.name}.sample") for y in new.outputs]
    inner = ir.node("Scan", xs, how, outputs=outputs)
    inner.attributes["body"] = body
    graph = ir.Graph(xs, outputs, nodes=[inner], name=f"{new.outputs[0].name}.samples")
    new.attributes.clear()
    new.attributes["num_scan_inputs"] = ir.AttrInt64("num_scan_inputs", len(xs))
    new.attributes["body"] = ir.AttrGraph("body", graph)


@_mend("Softmax", 12)
@_mend("LogSoftmax", 12)
@_mend("Hardmax", 12)
def _softmax(old: ir.Node, new: ir.Node) -> None:
    # Up to opset 12 all axes from `axis` on count as one. The converter forgets that for Hardmax, fails where a branch
    # uses the result of another Softmax, and always flattens, also where there is but one such axis, or 1s beside it.
    new.op_type, axis = old.op_type, old.attributes.get_int("axis", 1)
    x = new.inputs[0]
    sizes = list(x.shape) if x is not None and x.shape is not None else []
    if sizes and all(d == 1 for d in sizes[axis % len(sizes) + 1 :]):
        new.attributes["axis"] = ir.AttrInt64("axis", axis % len(sizes))
    else:
        flat = _node(new, "Flatten", [x], axis=axis)
        _reshaped(new, [flat, _node(new, new.op_type, flat.outputs, axis=-1)])


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
