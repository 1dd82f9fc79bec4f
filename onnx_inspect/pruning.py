"""Nodes that nobody needs go."""

from __future__ import annotations

import onnx_ir

from . import structure


def prune(model: onnx_ir.Model) -> None:
    """Drop nodes and weights that no output needs. Inputs stay."""
    graph = model.graph
    live = set(graph.outputs)
    for node in reversed(list(graph)):
        if any(y in live for y in node.outputs):
            live.update(structure.all_inputs(node))
        else:
            detach(node)
            graph.remove(node, safe=True)
    for name, value in list(graph.initializers.items()):
        if value not in live:
            del graph.initializers[name]


def detach(node: onnx_ir.Node) -> None:
    """Let go of what the subgraphs of a node, which is needed no more, take from outside: they count as uses."""
    for graph in structure.subgraphs(node):
        for inner in graph:
            detach(inner)
            for i in range(len(inner.inputs)):
                inner.replace_input_with(i, None)
