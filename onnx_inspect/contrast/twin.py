"""The second forward pass: all that depends on some inputs, written once more, on references in their place."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import onnx_ir as ir

from ..autodiff.subgraph import copied
from ..emit import Op
from ..errors import LayerError
from ..structure import all_inputs, key, needed

# What these give depends on sizes alone, which both passes share.
_ALIKE = frozenset("Shape Size ConstantOfShape EyeLike RandomNormalLike RandomUniformLike".split())

Twins = dict[ir.Value, ir.Value]


def references(op: Op, inputs: Iterable[ir.Value]) -> Twins:
    """An input `reference.<input>` for each of some inputs, of its shape and type.

    Raises:
        LayerError: the model has a tensor of that name.
    """
    found = {}
    for x in inputs:
        name = f"reference.{x.name}"
        if name in op.names:
            raise LayerError(f"The model has a tensor '{name}' already, so the reference of '{x.name}' has no name.")
        found[x] = ir.Value(name=name, shape=x.shape, type=x.type)
        op.names.add(name)
    op.home.inputs.extend(found.values())
    return found


def second_pass(op: Op, given: Twins, score: ir.Value, shared: Collection[ir.Node] = ()) -> Twins:
    """The twin of each value between those whose twins are given and a score: their nodes, written a second time.

    Nodes that are `shared`, and those that tell sizes, give the second pass what they give the first.
    """
    twins, reached = dict(given), needed(op.graph, score)
    for node in list(op.graph):
        if key(node) in _ALIKE or node in shared or not any(y in reached for y in node.outputs):
            continue
        if any(x in twins for x in all_inputs(node)):
            op.node = node
            inputs = [x and twins.get(x, x) for x in node.inputs]
            twins.update(zip(node.outputs, repeated(op, node, inputs, twins), strict=True))
    op.node = None
    return twins


def repeated(
    op: Op, node: ir.Node, inputs: Sequence[ir.Value | None], within: Mapping[ir.Value, ir.Value] | None = None
) -> list[ir.Value]:
    """The outputs of a node like this one with other inputs; `within` is what subgraphs take instead from outside."""
    attributes = [
        ir.AttrGraph(a.name, _body(op, a.as_graph(), within or {})) if a.type == ir.AttributeType.GRAPH else a
        for a in node.attributes.values()
    ]
    outputs = [ir.Value(name=y.name and op.fresh(node.op_type), type=y.type, shape=y.shape) for y in node.outputs]
    op.graph.append(
        ir.Node(node.domain, node.op_type, inputs, attributes, outputs=outputs, name=op.fresh(node.op_type))
    )
    return outputs


def _body(op: Op, graph: ir.Graph, within: Mapping[ir.Value, ir.Value]) -> ir.Graph:
    body = copied(op, graph).graph
    for node in body.all_nodes():
        for i, x in enumerate(node.inputs):
            if x is not None and x in within:
                node.replace_input_with(i, within[x])
    return body
