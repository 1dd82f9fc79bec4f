"""Operators written out in others: the standard's function bodies, and our own where it has none or one with a loop."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from .structure import subgraphs

if TYPE_CHECKING:
    import onnx

FLOATS = frozenset({ir.DataType.FLOAT16, ir.DataType.FLOAT, ir.DataType.DOUBLE})
SIGNED = frozenset({ir.DataType.INT8, ir.DataType.INT16, ir.DataType.INT32, ir.DataType.INT64})


def _type(node: ir.Node) -> ir.DataType | None:
    return node.inputs[0].dtype if node.inputs[0] is not None else None


# Operator, first opset of the form, when it applies, what it is in older operators.
WRITTEN: list[tuple[str, int, Callable[[ir.Node], bool], str]] = [
    (  # numbers are counted, and computed, in float32
        "Range",
        27,
        lambda n: _type(n) == ir.DataType.FLOAT16 and n.attributes.get_int("stash_type", 1) == 1,
        """(start, limit, delta) => (output) {
            from = Cast <to = 1> (start)  until = Cast <to = 1> (limit)  step = Cast <to = 1> (delta)
            range = Range (from, until, step)
            output = CastLike (range, start)
        }""",
    ),
    (  # A - floor(A / B) B: the remainder of division has the sign of A, and becomes that of B
        "Mod",
        28,
        lambda n: _type(n) in FLOATS and not n.attributes.get_int("fmod", 0),
        """(A, B) => (C) {
            zero = Constant <value_float = 0.0> ()  like = CastLike (zero, B)
            rest = Mod <fmod = 1> (A, B)
            below = Less (rest, like)  negative = Less (B, like)  other = Xor (below, negative)
            none = Equal (rest, like)  some = Not (none)  wrong = And (other, some)
            moved = Add (rest, B)
            C = Where (wrong, moved, rest)
        }""",
    ),
    (  # x >> n = -1 - ((-1 - x) >> n) where x < 0; what is moved too far leaves the sign
        "BitShift",
        28,
        lambda n: n.attributes.get_string("direction") == "RIGHT" and _type(n) in SIGNED,
        """(X, Y) => (Z) {
            x = Cast <to = 7> (X)  y = Cast <to = 7> (Y)
            minus = Constant <value_int = -1> ()
            zero = Constant <value_int = 0> ()  most = Constant <value_int = 63> ()
            least = LessOrEqual (zero, y)  last = LessOrEqual (y, most)  legal = And (least, last)
            count = Where (legal, y, most)
            negative = Less (x, zero)  mirrored = Sub (minus, x)
            magnitude = Where (negative, mirrored, x)
            bits = Cast <to = 13> (magnitude)  places = Cast <to = 13> (count)
            shifted = BitShift <direction = "RIGHT"> (bits, places)
            number = Cast <to = 7> (shifted)  back = Sub (minus, number)
            signed = Where (negative, back, number)
            Z = CastLike (signed, X)
        }""",
    ),
    (  # what is moved by more bits than there are is 0
        "BitShift",
        28,
        lambda n: True,
        """<direction> (X, Y) => (Z) {
            bits = Cast <to = 13> (X)  y = Cast <to = 7> (Y)
            zero = Constant <value_int = 0> ()  most = Constant <value_int = 63> ()
            least = LessOrEqual (zero, y)  last = LessOrEqual (y, most)  legal = And (least, last)
            count = Where (legal, y, zero)
            places = Cast <to = 13> (count)
            shifted = BitShift <direction : string = @direction> (bits, places)
            number = Cast <to = 7> (shifted)
            kept = Where (legal, number, zero)
            Z = CastLike (kept, X)
        }""",
    ),
]


def written(node: ir.Node, version: int, target: int) -> str | None:
    """Our own text for a node that means something else, or is not there, in the opset `target`."""
    return next(
        (
            text
            for op, since, applies, text in WRITTEN
            if node.op_type == op and target < since <= version and applies(node)
        ),
        None,
    )


def body(node: ir.Node, version: int, target: int) -> onnx.FunctionProto | None:
    """What a node is in other operators, None if nobody says. Types must be inferred."""
    import onnx

    if (text := written(node, version, target)) is not None:
        return onnx.parser.parse_function(f'<domain: "", opset_import: ["": {target}]> {node.op_type} {text}')
    schema: Any = onnx.defs.get_schema(node.op_type, version, node.domain)
    if schema.has_context_dependent_function:
        types = [ir.serde.serialize_value(x).type if x is not None else onnx.TypeProto() for x in node.inputs]
        data = schema.get_context_dependent_function_with_opset_version(
            schema.context_dependent_function_opset_versions[-1],
            _by_number(node).SerializeToString(),
            [t.SerializeToString() for t in types],
        )
    elif schema.has_function:
        data = schema.get_function_with_opset_version(schema.function_opset_versions[-1])
    else:
        return None
    function = onnx.FunctionProto.FromString(data)
    return function if function.node else None


def inline(
    node: ir.Node, proto: onnx.FunctionProto, defaults: Mapping[str, ir.Attr], taken: set[str | None]
) -> list[ir.Node]:
    """Put a function's nodes in the place of the one that calls it; tensors are named OUTPUT/TENSOR.

    Args:
        node: the one to replace; its outputs keep their names.
        proto: the function, as `body` gives it; used up.
        defaults: of the operator's attributes.
        taken: names of all values of the model; those of new ones are added.

    Returns:
        The new nodes.
    """
    assert node.graph is not None
    named = [(y, name) for y, name in zip(node.outputs, proto.output, strict=False) if y.name]
    del proto.output[:]
    proto.output.extend(name for _, name in named)  # a body leaves out what the node leaves out, or computes it in vain
    function = ir.serde.deserialize_function(proto)
    inputs = [*node.inputs, *[None] * len(function.inputs)]
    given: dict[str | None, ir.Value | None] = {f"captured/{i}": x for i, x in enumerate(_captured(node))}
    given |= {formal.name: x for formal, x in zip(function.inputs, inputs, strict=False)}
    attributes = {**defaults, **node.attributes}
    within = {v for graph in function.graph.subgraphs() for v in graph.inputs}
    for inner in function.all_nodes():
        inner.metadata_props.update(node.metadata_props)
        for index, x in enumerate(inner.inputs):
            if x is not None and x.producer() is None and x not in within:
                inner.replace_input_with(index, given[x.name])
        for name, attribute in [(k, a) for k, a in inner.attributes.items() if a.is_ref()]:
            del inner.attributes[name]
            if (actual := attributes.get(attribute.ref_attr_name or "")) is not None:
                inner.attributes[name] = ir.Attr(name, actual.type, actual.value)
    for value in [*within, *(y for inner in function.all_nodes() for y in inner.outputs if y.name)]:
        name = f"{named[0][0].name}/{value.name}"
        names = itertools.chain([name], (f"{name}.{i}" for i in itertools.count(1)))
        value.name = next(n for n in names if n not in taken)
        taken.add(value.name)
    for inner in function.all_nodes():
        inner.name = next(y.name for y in inner.outputs if y.name)
    outputs = list(function.outputs)
    for inner in reversed(list(function)):
        if not any(y.uses() or y in outputs for y in inner.outputs):
            function.remove(inner, safe=True)
    nodes = list(function)
    function.outputs.clear()
    function.remove(nodes)
    ir.convenience.replace_nodes_and_values(node.graph, node, [node], nodes, [y for y, _ in named], outputs)
    return nodes


def _captured(node: ir.Node) -> list[ir.Value]:
    """What the subgraphs of a node take from around it."""
    graphs = subgraphs(node)
    graphs += [inner for graph in graphs for inner in graph.subgraphs()]
    own = {y for g in graphs for n in g for y in n.outputs} | {v for g in graphs for v in g.inputs}
    used = [x for g in graphs for n in g for x in n.inputs if x is not None]
    return list(dict.fromkeys(x for x in used if x not in own))


def _by_number(node: ir.Node) -> onnx.NodeProto:
    """A node whose subgraphs call what they take from around it `captured/0` and so on, which no body does."""
    captured = _captured(node)
    names = [x.name for x in captured]
    for i, x in enumerate(captured):
        x.name = f"captured/{i}"
    proto = ir.serde.serialize_node(node)
    for x, name in zip(captured, names, strict=True):
        x.name = name
    return proto
