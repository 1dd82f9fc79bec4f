"""Cotangents of sequences and optionals, which are sequences and optionals: made, summed, and taken element by element.

All of it works for tensors just as well.
"""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import onnx_ir as ir

from ..emit import Op


def lifted(op: Op, function: Callable[..., ir.Value], *xs: ir.Value) -> ir.Value:
    """`function(op, *xs)` of tensors; of the elements of sequences of one length, or of what optionals hold."""
    kinds: list[Any] = [x.type for x in xs]
    if isinstance(kinds[0], ir.SequenceType):
        elements = [
            ir.Value(name=op.fresh("element"), type=k.elem_type, shape=x.shape) for k, x in zip(kinds, xs, strict=True)
        ]
        body = _graph(op, elements, lambda inner: lifted(inner, function, *elements))
        element: Any = body.outputs[0].type
        return op.SequenceMap(*xs, body=body, dtype=ir.SequenceType(element))
    if isinstance(kinds[0], ir.OptionalType):

        def some(inner: Op) -> ir.Value:
            held = [inner.OptionalGetElement(x, dtype=k.elem_type) for k, x in zip(kinds, xs, strict=True)]
            y: Any = lifted(inner, function, *held)
            return inner.Optional(y, dtype=ir.OptionalType(y.type))

        then = _graph(op, [], some)
        kind: Any = then.outputs[0].type
        nothing = ir.AttrTypeProto("type", ir.TypeAndShape(kind.elem_type, None))
        none = _graph(op, [], lambda inner: inner.Optional(type=nothing, dtype=kind))
        return op.If(op.OptionalHasElement(xs[0]), then_branch=then, else_branch=none, dtype=kind)
    return function(op, *xs)


def zeros_like(op: Op, value: ir.Value) -> ir.Value:
    """Zeros of the shape and type of a value."""
    return lifted(op, lambda op, x: op.zeros_like(x), value)


def plus(op: Op, a: ir.Value, b: ir.Value) -> ir.Value:
    """A + B."""
    for total, term in ((a, b), (b, a)):
        if term in op.spots:
            i, x = op.spots[term]
            return _put(op, total, i, plus(op, op.SequenceAt(total, i, dtype=x.type), x))
    return lifted(op, lambda op, x, y: op.Add(x, y), a, b)


def spot(op: Op, like: ir.Value, i: ir.Value, x: ir.Value) -> ir.Value:
    """A sequence of zeros but for X at a position; `plus` adds only that."""
    y = _put(op, zeros_like(op, like), i, x)
    op.spots[y] = i, x
    return y


def _put(op: Op, sequence: ir.Value, i: ir.Value, x: ir.Value) -> ir.Value:
    rest = op.SequenceErase(sequence, i, dtype=sequence.type)
    return op.SequenceInsert(rest, x, i, dtype=sequence.type)


def _graph(op: Op, inputs: Sequence[ir.Value], emit: Callable[[Op], ir.Value]) -> ir.Graph:
    inner = Op(ir.Graph(inputs, [], nodes=[], name=op.fresh("graph")), op)
    with inner:
        inner.graph.outputs.append(emit(inner))
    return inner.graph
