"""The graph that computes crops: the first nodes of a model, with clean values pasted in between."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ..emit import PREFIX, Op
from ..fields.field import settle
from ..model import Model
from ..pruning import prune
from .path import Edge, Layout, Path, Step

ROLES = ("before", "after")


@dataclass(frozen=True)
class Crops:
    """A model that computes crops of some tensors.

    Attributes:
        model: its inputs are, by edge, `crop` of the changed input; `before` and `after`, clean values around what was
            computed, along each axis; `starts` and `ends` of what is cut out. All are named after the edge.
        cut: the edges on which something is cut out of what was computed.
        outputs: the tensors.
    """

    model: Model
    cut: frozenset[Edge]
    outputs: tuple[str, ...]


def cuts(path: Path, layout: Layout, stop: int) -> frozenset[Edge]:
    """The edges on which less is taken of a tensor than was computed."""
    found = set()
    for edge, taken in layout.taken.items():
        x = path.tensor(edge)
        wanted = taken.at if taken.paste else taken.crop
        if edge[0] < stop and x != path.name and (wanted != layout.computed[x]).any():
            found.add(edge)
    return frozenset(found)


def name(what: str, edge: Edge, axis: int | None = None) -> str:
    """What an input is called."""
    return f"{PREFIX}/{what}.{edge[0]}.{edge[1]}" + (f".{axis}" if axis is not None else "")


def write(model: Model, path: Path, layout: Layout, cut: frozenset[Edge], stop: int) -> Crops:
    """The graph of the first `stop` steps.

    Args:
        model: that the path is of.
        path: the path.
        layout: where things lie; for other boxes with the same pastes and cuts the graph is the same.
        cut: the edges on which something may be cut out of what was computed.
        stop: how many steps.
    """
    new = model.clone()
    graph = new.ir.graph
    settle(graph, path.sized)
    nodes = list(graph)
    outputs = [t for t in path.frontier(stop) if t != path.name]
    values = {v.name: v for node in graph for v in node.outputs}
    for value in values.values():
        value.shape = None  # it was that of the whole map
    graph.inputs.clear()
    op = Op(graph)
    for k, step in enumerate(path.steps[:stop]):
        node = nodes[step.at]
        for i, x in step.edges:
            taken, edge = layout.taken[k, i], (k, i)
            if x == path.name:
                node.replace_input_with(i, _input(graph, name("crop", edge), path, x))
                continue
            given = values[x]
            if edge in cut:
                ends = [_input(graph, name(what, edge), path) for what in ("starts", "ends")]
                given = op.Slice(given, *ends, list(path.axes[x]))
            if taken.paste:
                for axis in reversed(path.axes[x]):
                    before, after = (_input(graph, name(role, edge, axis), path, x) for role in ROLES)
                    given = op.Concat(before, given, after, axis=axis)
            node.replace_input_with(i, given)
        if layout.taken[k, step.edges[0][0]].padded:
            _unpad(op, node, step)
    graph.outputs[:] = [values[t] for t in outputs]
    graph.sort()
    prune(new.ir)
    return Crops(new.derived("crops", *outputs), cut, tuple(outputs))


def _input(graph: ir.Graph, name: str, path: Path, like: str = "") -> ir.Value:
    """An input of integers, or like crops of a tensor."""
    if not like:
        value = ir.Value(name=name, shape=ir.Shape([None]), type=ir.TensorType(ir.DataType.INT64))
    else:
        sizes = [None if a in path.axes[like] else n for a, n in enumerate(path.shapes[like])]
        value = ir.Value(name=name, shape=ir.Shape(sizes), type=ir.TensorType(ir.DataType.FLOAT))
    graph.inputs.append(value)
    return value


def _unpad(op: Op, node: ir.Node, step: Step) -> None:
    """The node for crops that hold its pads."""
    if node.op_type == "Pad":
        node.op_type = "Identity"
        node.resize_inputs(1)
        node.attributes.clear()
    else:
        node.attributes["pads"] = ir.AttrInt64s("pads", np.zeros(2 * len(step.reading.windows), int).tolist())
        node.attributes.pop("ceil_mode", None)
