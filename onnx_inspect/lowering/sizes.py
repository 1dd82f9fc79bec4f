"""Sizes without the tensor: a Shape node has its input brought out of blocked layout, only to count it."""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import math
from collections import Counter
from itertools import groupby

import numpy as np
import onnx_ir as ir

from ..emit import Op


def shape(op: Op, node: ir.Node) -> ir.Value | None:
    """The shape, from numbers that are known and the sizes of the graph's inputs."""
    sizes = _sizes(op, node)
    if sizes is None:
        return None
    start, end = (node.attributes.get_int(k, n) for k, n in (("start", 0), ("end", len(sizes))))
    parts: list[ir.Value] = []
    for known, some in groupby(sizes[start:end], key=lambda n: isinstance(n, int)):
        here = list(some)
        parts += [op.const([n for n in here if isinstance(n, int)])] if known else _values(here)
    if not parts:
        return None
    return op.Concat(*parts, axis=0) if len(parts) > 1 else op.Identity(parts[0])


def _values(sizes: list[int | ir.Value]) -> list[ir.Value]:
    return [n for n in sizes if isinstance(n, ir.Value)]


def size(op: Op, node: ir.Node) -> ir.Value | None:
    """The number of elements."""
    sizes = _sizes(op, node)
    if not sizes:
        return None
    total = op.const(np.int64(math.prod(n for n in sizes if isinstance(n, int))))
    for n in sizes:
        if not isinstance(n, int):
            total = op.Mul(total, op.Squeeze(n, [0]))
    return total if total.producer() is not None else op.Identity(total)


def _sizes(op: Op, node: ir.Node) -> list[int | ir.Value] | None:
    """The sizes of a tensor, those that only the run knows as vectors of one; None where no input has one."""
    x, graph = node.inputs[0], node.graph
    if x is None or x.shape is None or graph is None or x.is_graph_input():
        return None
    named = {n.value: (v, axis) for v in reversed(graph.inputs) for axis, n in _open(v)}  # of the first that has it
    # A name that one input has twice, as "?" or "None", says nothing.
    vague = {n for v in graph.inputs for n, k in Counter(n.value for _, n in _open(v)).items() if k > 1}
    if any(n.value is None or n.value in vague or n.value not in named for _, n in _open(x)):
        return None

    def found(name: str | None) -> ir.Value:
        value, axis = named[name]
        return op.Shape(value, start=axis, end=axis + 1)

    return [n if isinstance(n, int) else found(n.value) for n in x.shape]


def _open(value: ir.Value) -> list[tuple[int, ir.SymbolicDim]]:
    return [(axis, n) for axis, n in enumerate(value.shape or ()) if not isinstance(n, int)]
