"""Graphs within graphs: copies of subgraphs to write in, and the adjoint of what is written in one."""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from typing import Any

import onnx_ir as ir

from ..dtypes import is_float
from ..emit import Op
from ..pruning import prune
from ..structure import all_inputs, key, label
from .sequences import plus
from .walk import backward

BOOL, INT64 = ir.DataType.BOOL, ir.DataType.INT64
_SMALL = 1024
_RANDOM = frozenset("Bernoulli Multinomial RandomNormal RandomNormalLike RandomUniform RandomUniformLike".split())
Found = Sequence[ir.Value | None]


def through_graph(
    op: Op, node: ir.Node, dys: Found, emit: Callable[[Op], Sequence[ir.Value]]
) -> dict[ir.Value, ir.Value]:
    """The adjoint of a node that `emit` writes down in other operators, which have rules: its outputs, in order."""
    inner = Op(ir.Graph([], [], nodes=[], name=op.fresh("graph")), op)
    wrt = [x for x in dict.fromkeys(node.inputs) if x is not None and is_float(x) and op.wants(x)]
    with inner:
        ys = emit(inner)
    _infer(inner)
    seeds = {i: dy for i, dy in enumerate(dys) if dy is not None}
    found = adjoint(inner, ys, seeds, wrt)
    nodes = list(closed(inner, [], list(found.values())))
    outputs = list(inner.graph.outputs)
    inner.graph.outputs.clear()
    inner.graph.remove(nodes)
    op.graph.extend(nodes)
    return dict(zip(found, outputs, strict=True))


def is_tensor(value: ir.Value) -> bool:
    """True unless a value is a sequence or optional."""
    return not isinstance(value.type, ir.SequenceType | ir.OptionalType)


def copied(op: Op, graph: ir.Graph, like: Sequence[ir.Value | None] = ()) -> Op:
    """A copy of a subgraph to write in, its tensors under names of their own.

    Shapes are inferred afresh; inputs that have none get those of `like`.

    Raises:
        UnsupportedError: it draws random numbers, which would be others in the copy.
    """
    drawing = next((node for node in graph.all_nodes() if key(node) in _RANDOM), None)
    if drawing is not None:
        raise op.unsupported(
            f"its node '{label(drawing)}' ({key(drawing)}) draws random numbers, and runs again backwards; "
            "choose a layer behind it"
        )
    inner = Op(graph.clone(allow_outer_scope_values=True), op)
    for value in _values(inner.graph):
        if value.name:
            value.name = op.fresh(value.name)
    for x, known in zip(inner.graph.inputs, like, strict=False):
        if known is not None:
            x.type, x.shape = known.type or x.type, known.shape if known.shape is not None else x.shape
    _infer(inner)
    return inner


def _values(graph: ir.Graph) -> list[ir.Value]:
    graphs = [graph, *graph.subgraphs()]
    return list(dict.fromkeys(v for g in graphs for v in [*g.inputs, *(y for node in g for y in node.outputs)]))


def _infer(op: Op) -> None:
    """Types and shapes of a subgraph, which onnx's inference over the whole graph leaves out."""
    import onnx

    own = _values(op.graph)
    proto = ir.serde.serialize_graph(op.graph)
    for x in dict.fromkeys(x for node in op.graph for x in all_inputs(node) if x not in own and x.type is not None):
        if x.const_value is not None and x.const_value.nbytes <= _SMALL:
            proto.initializer.append(ir.serde.serialize_tensor(x.const_value))
            proto.initializer[-1].name = x.name
        else:
            proto.input.append(ir.serde.serialize_value(x))
    opsets = [onnx.helper.make_opsetid(k, v) for k, v in op.home.opset_imports.items()]
    inferred = onnx.shape_inference.infer_shapes(onnx.helper.make_model(proto, opset_imports=opsets), data_prop=True)
    infos = {i.name: i for i in [*inferred.graph.value_info, *inferred.graph.output]}
    for value in own:
        if value.name in infos and infos[value.name].HasField("type"):
            value.type = ir.serde.deserialize_type_proto_for_type(infos[value.name].type) or value.type
            value.shape = ir.serde.deserialize_type_proto_for_shape(infos[value.name].type)


def invariant(op: Op, body: ir.Graph, initial: Sequence[ir.Value]) -> Op:
    """A copy of a loop's body, its states with the sizes that no iteration changes."""
    like = [ir.Value(name=x.name, type=x.type, shape=x.shape) for x in initial]
    while True:
        inner = copied(op, body, [None, None, *like])
        pairs = zip(like, list(inner.graph.outputs)[1:], strict=False)
        again = [ir.Value(name=x.name, type=x.type, shape=_common(op, x, y)) for x, y in pairs]
        if [x.shape for x in again] == [x.shape for x in like]:
            return inner
        like = again


def _common(op: Op, x: ir.Value, y: ir.Value) -> ir.Shape | None:
    if x.shape is None or y.shape is None or not is_tensor(x):
        return None  # the elements of a sequence may differ
    pairs = list(zip_longest(x.shape, y.shape))
    if len(x.shape) != len(y.shape) or any(isinstance(a, int) and isinstance(b, int) and a != b for a, b in pairs):
        raise op.unsupported(f"the shape of its state '{x.name}' changes; choose a layer behind this node")
    return ir.Shape([a if a == b else None for a, b in pairs])


def adjoint(
    op: Op, ys: Sequence[ir.Value], dys: Mapping[int, ir.Value | None], wrt: Sequence[ir.Value]
) -> dict[ir.Value, ir.Value]:
    """The walk over a subgraph: from cotangents of its outputs, by number, to those of other values."""
    with op:
        return backward(op, summed(op, [ys[i] for i in dys], list(dys.values())), wrt, op.rules)


def add(op: Op, sums: Sequence[ir.Value], xs: Sequence[ir.Value], found: Mapping[ir.Value, ir.Value]) -> list[Any]:
    """The sums so far, with what an iteration found added."""
    return [plus(op, total, found[x]) if x in found else total for total, x in zip(sums, xs, strict=True)]


def to_front(graph: ir.Graph, start: int) -> None:
    """Move the nodes from one on before all others."""
    added = list(graph)[start:]
    if start:
        graph.remove(added)
        graph.insert_before(graph[0], added)


def closed(op: Op, xs: Sequence[ir.Value], ys: Sequence[ir.Value]) -> ir.Graph:
    """The finished subgraph with these inputs and outputs; what they do not need is dropped."""
    graph = op.graph
    outputs = _emit_each(op, ys)
    graph.inputs.clear()
    graph.inputs.extend(xs)
    graph.outputs.clear()
    graph.outputs.extend(outputs)
    prune(ir.Model(graph, ir_version=10))
    return graph


def _emit_each(op: Op, ys: Sequence[ir.Value]) -> list[ir.Value]:
    """Copies: an output of a subgraph has to be computed in it, and only once."""
    return [emit_like(op, "Identity", [y], [y])[0] for y in ys]


def emit_like(op: Op, op_type: str, xs: Sequence[ir.Value | None], like: Sequence[ir.Value], **attributes: Any) -> Any:
    """Emit a node whose outputs have the types and shapes of some values; a list of them."""
    results = getattr(op, op_type)(*xs, outputs=len(like), **attributes)
    results = [results] if isinstance(results, ir.Value) else list(results)
    for result, value in zip(results, like, strict=True):
        result.type, result.shape = value.type, value.shape
    return results


def summed(op: Op, xs: Sequence[ir.Value], dxs: Found) -> dict[ir.Value, ir.Value]:
    """Cotangents by value: one that is taken in more than one way gets their sum."""
    total: dict[ir.Value, ir.Value] = {}
    for x, dx in zip(xs, dxs, strict=True):
        if dx is not None:
            total[x] = plus(op, total[x], dx) if x in total else dx
    return total
