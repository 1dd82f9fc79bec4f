"""Branches that are always taken: an If whose condition is known gives way to what it runs, with its layers.

Exporters write a whole network into an If that they could not decide (a training flag, the rate of a sound), and one
around every squeeze of an axis that may be of size 1. What the condition is follows from weights, from sizes, and from
values that are the same for all samples.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from .sizes import RECKONED
from .structure import needed, subgraphs, varying

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]
    _Found = dict[ir.Value, tuple[Array, Array]]

# Operators that put elements elsewhere, and leave what they are.
_MOVING = frozenset("Cast Concat Expand Gather Identity Reshape Slice Squeeze Transpose Unsqueeze".split())
_ELEMENTWISE = frozenset(
    "Abs Add And Ceil Div Equal Floor Greater GreaterOrEqual Less LessOrEqual Max Min Mod Mul Neg Not Or Sub".split()
)
_SMALL = 64  # elements: conditions are made of sizes and flags


def known(graph: ir.Graph, numbers: Mapping[str, Array], *, any_batch: bool) -> dict[ir.Node, bool]:
    """Which branch the Ifs of a graph take, as far as that is known, True for the first.

    Args:
        graph: with inferred shapes; a size that is no number may be any.
        numbers: what inputs hold.
        any_batch: the first size of what depends on an input may be any too, even if it is a number.
    """
    ifs = [n for n in graph if n.op_type == "If" and not n.domain]
    batched = varying(graph) if ifs and any_batch else set()
    found = {n: _number(graph, n.inputs[0], numbers, batched) for n in ifs}
    return {n: bool(number.reshape(-1)[0]) for n, number in found.items() if number is not None}


def take(node: ir.Node, first: bool) -> None:
    """Put the nodes of one branch in the place of an If."""
    graph, branch = node.graph, node.attributes["then_branch" if first else "else_branch"].as_graph()
    other = node.attributes["else_branch" if first else "then_branch"].as_graph()
    assert isinstance(graph, ir.Graph)
    made, nodes = list(branch.outputs), list(branch)
    branch.outputs.clear()
    branch.remove(nodes)
    _let_go(other)
    for i, (y, value) in enumerate(zip(node.outputs, made, strict=True)):
        if value in made[:i]:
            nodes.append(ir.node("Identity", [value], outputs=[value := ir.Value(name=None)]))
        value.type, value.shape = value.type or y.type, value.shape if value.shape is not None else y.shape
        ir.convenience.replace_all_uses_with(y, value, replace_graph_outputs=True)
        y.name, value.name = None, y.name
    graph.insert_after(node, nodes)
    graph.remove(node, safe=True)


def take_all(model: ir.Model, infer: Callable[[ir.Model], None]) -> bool:
    """Take every branch that is known, in place, and those within; True if there was any. `infer` infers shapes."""
    any_taken = False
    while found := known(model.graph, {}, any_batch=True):
        for node, first in found.items():
            take(node, first)
        infer(model)
        any_taken = True
    return any_taken


def _let_go(graph: ir.Graph) -> None:
    """Drop what a graph that is needed no more takes from outside: it counts as use."""
    for node in graph:
        for inner in subgraphs(node):
            _let_go(inner)
        for i in range(len(node.inputs)):
            node.replace_input_with(i, None)


def _number(
    graph: ir.Graph, value: ir.Value | None, numbers: Mapping[str, Array], batched: Collection[ir.Value]
) -> Array | None:
    """What a value holds, whatever the samples; None if that is not known.

    With each array goes another that says which of its elements may be anything: sizes that are no numbers.
    """
    if value is None:
        return None
    found: _Found = {}
    path = needed(graph, value)
    for x in path:
        held = numbers.get(x.name or "") if x.is_graph_input() else x.const_value
        if held is not None and held.size <= _SMALL:
            array = np.asarray(held if isinstance(held, np.ndarray) else held.numpy())
            found[x] = array, np.zeros(array.shape, bool)
    for node in graph:
        if any(y in path for y in node.outputs):
            found |= _computed(node, found, batched)
    array, open_ = found.get(value, (np.zeros(0), np.zeros(0)))
    return array if array.size == 1 and not open_.any() else None


def _computed(node: ir.Node, found: _Found, batched: Collection[ir.Value]) -> _Found:
    """What a node gives, if that is known."""
    op, y, x = node.op_type, node.outputs[0], node.inputs[0] if node.inputs else None
    if op == "Shape" and x is not None and x.shape is not None:
        dims: list[Any] = [d if isinstance(d, int) else None for d in x.shape]
        dims[:1] = [None] if x in batched else dims[:1]
        dims = dims[node.attributes.get_int("start", 0) : node.attributes.get_int("end", 2**31)]
        return {y: (np.array([d or 0 for d in dims], np.int64), np.array([d is None for d in dims], bool))}
    if node.domain or op not in _MOVING | _ELEMENTWISE or any(x is not None and x not in found for x in node.inputs):
        return {}
    given = [(None, None) if x is None else found[x] for x in node.inputs]
    try:
        array = np.asarray(RECKONED[op](node, *(a for a, _ in given)))
        return {y: (array, np.asarray(_open(node, array, given)))}
    except Exception:  # what it makes no sense of stays unknown
        return {}


def _open(node: ir.Node, array: Array, given: Sequence[tuple[Any, Any]]) -> Any:
    """Which elements of a result may be anything."""
    if node.op_type in _ELEMENTWISE:
        return np.logical_or.reduce([np.broadcast_to(o, array.shape) for _, o in given])
    if node.op_type == "Cast":
        return given[0][1]
    moved = len(given) if node.op_type == "Concat" else 1
    if any(o is not None and o.any() for _, o in given[moved:]):  # where they go is open
        return np.ones(array.shape, bool)
    return RECKONED[node.op_type](node, *(o for _, o in given[:moved]), *(a for a, _ in given[moved:]))
