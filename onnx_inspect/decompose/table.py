"""The tables of decompositions, and replacing nodes by what they decompose to.

A decomposition writes a node down in other operators, through `op`, and returns what stands for its outputs:

    @decomposition("com.microsoft::QuickGelu")
    def quick_gelu(op, node):
        '''Y = X σ(α X).'''
        x = node.inputs[0]
        return x * op.Sigmoid(x * node.attributes.get_float("alpha", 1.702))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import onnx_ir as ir

from ..emit import Op
from ..errors import UnsupportedError
from ..facts import changed, ours
from ..structure import key, label

Decomposition = Callable[[Op, ir.Node], "ir.Value | Sequence[ir.Value | None]"]

DECOMPOSITIONS: dict[str, Decomposition] = {}  # applied at load: from then on the model has standard operators
FORMS: dict[str, Callable[[ir.Node], bool]] = {}  # of standard operators: in which form they are decomposed
LOWERINGS: dict[str, Decomposition] = {}  # applied where a model leaves for onnxruntime: until then rules see the node
RULED: set[str] = set()  # operators with rules of their own, which are therefore not decomposed at load


def decomposition(
    *op_types: str, when: Callable[[ir.Node], bool] | None = None
) -> Callable[[Decomposition], Decomposition]:
    """Register `decomposition(op, node) -> outputs` for operators, as "domain::Op"; None for an output left out.

    Operators of the standard are decomposed `when` they have a form that onnxruntime lacks or gets wrong.
    """

    def register(function: Decomposition) -> Decomposition:
        if not ours(function):
            changed(f"decomposition of {', '.join(op_types)}")
        for op_type in op_types:
            DECOMPOSITIONS[op_type] = function
            if when is not None:
                FORMS[op_type] = when
        return function

    return register


def applies(node: ir.Node, table: Mapping[str, Decomposition] = DECOMPOSITIONS) -> bool:
    """True if a table decomposes this node."""
    name = key(node)
    if name not in table or name not in FORMS or table[name] is not DECOMPOSITIONS[name]:
        return name in table
    return FORMS[name](node)


def at_load(model: ir.Model) -> list[str]:
    """Decompose, in place, what has no rule of its own; says which operators those were, and which nodes stay."""
    return decompose(model, {k: function for k, function in DECOMPOSITIONS.items() if k not in RULED}, keep=True)


def lowered(model: ir.Model) -> ir.Model:
    """The model as onnxruntime gets it: a copy if there is something to lower, else itself."""
    if not any(key(node) in LOWERINGS for node in model.graph.all_nodes()):
        return model
    copy = model.clone()
    decompose(copy, LOWERINGS)
    return copy


def decompose(model: ir.Model, table: Mapping[str, Decomposition], *, keep: bool = False) -> list[str]:
    """Replace, in place, every node that a table knows, again until none is left.

    Args:
        model: the model.
        table: what to replace, and by what.
        keep: leave a node whose form its decomposition does not cover.

    Returns:
        Sentences for the user: which operators were taken apart, what that changes, and which nodes stay.

    Raises:
        UnsupportedError: a form that its decomposition does not cover.
    """
    done: dict[str, None] = {}
    kept: dict[ir.Node, str] = {}
    notes: list[str] = []
    while any(applies(node, table) and node not in kept for node in model.graph.all_nodes()):
        op = Op(model.graph)
        for node in list(model.graph.all_nodes()):
            added = [node]
            if applies(node, table) and node not in kept:
                try:
                    added = replaced(op, node, table[key(node)]) or []
                    done[key(node).replace("::", ".")] = None
                except UnsupportedError as error:
                    if not keep:
                        raise
                    kept[node] = f"{error} It stays as it is, and gradients stop there."
            for new in added:
                _type(model, new)
        notes += op.notes
    used = {node.domain for node in model.graph.all_nodes()}
    for domain in [d for d in model.graph.opset_imports if d and d not in used]:
        del model.graph.opset_imports[domain]
    return [*([f"{', '.join(done)} taken apart into standard operators"] if done else []), *notes, *kept.values()]


def replaced(
    outer: Op, node: ir.Node, decomposition: Callable[[Op, ir.Node], ir.Value | Sequence[ir.Value | None] | None]
) -> list[ir.Node] | None:
    """Put what a decomposition emits in the place of a node; None if it leaves the node."""
    graph = node.graph
    assert isinstance(graph, ir.Graph)
    op = Op(ir.Graph([], [], nodes=[], name=label(node)), outer, prefix=label(node))
    op.node, op.doing = node, "taken apart"
    with op:
        emitted = decomposition(op, node)
        if emitted is None:
            return None
        outputs = [emitted] if isinstance(emitted, ir.Value) else list(emitted)
        outputs += [None] * (len(node.outputs) - len(outputs))
        given = [(y, new) for y, new in zip(node.outputs, outputs, strict=True) if y.name]
        pairs = [(y, _own(op, new)) for y, new in given if new is not None]
    for y, new in given:
        if new is None and (y.uses() or y.is_graph_output()):
            raise UnsupportedError(
                f"Node '{label(node)}' ({key(node)}) has an output '{y.name}' that standard operators do not give."
            )
    nodes = list(op.graph)
    op.graph.remove(nodes)
    for inner in nodes:
        inner.metadata_props.update(node.metadata_props)
    old, fresh = [y for y, _ in pairs], [new for _, new in pairs]
    ir.convenience.replace_nodes_and_values(graph, node, [node], nodes, old, fresh)
    return nodes


def _own(op: Op, value: ir.Value) -> ir.Value:
    """A value that a new node computes, and that nothing else is called by."""
    producer = value.producer()
    return value if producer is not None and producer.graph is op.graph else op.Identity(value)


def _type(model: ir.Model, node: ir.Node) -> None:
    """Type and shape behind replaced nodes, which inference over the whole graph did not reach."""
    import onnx

    version = model.graph.opset_imports.get(node.domain)
    known = all(y.type is not None and y.shape is not None for y in node.outputs)
    if known or version is None or not onnx.defs.has(node.op_type, node.domain):
        return
    schema = onnx.defs.get_schema(node.op_type, version, node.domain)
    typed = [x for x in node.inputs if x is not None and x.type is not None]
    types = {x.name or "": ir.serde.serialize_value(x).type for x in typed}
    small = {x.name or "": x.const_value for x in typed if x.const_value is not None and x.const_value.size < 64}
    data: Any = {name: ir.serde.serialize_tensor(tensor) for name, tensor in small.items()}
    try:
        found = onnx.shape_inference.infer_node_outputs(schema, ir.serde.serialize_node(node), types, data)
    except (onnx.shape_inference.InferenceError, KeyError):  # KeyError: an input without a type
        return
    for y in node.outputs:
        if y.name in found:
            y.type = ir.serde.deserialize_type_proto_for_type(found[y.name])
            y.shape = ir.serde.deserialize_type_proto_for_shape(found[y.name])
