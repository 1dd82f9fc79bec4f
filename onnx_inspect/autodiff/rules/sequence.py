"""Sequences and optionals. The cotangent of a sequence is a sequence of the cotangents of its elements; that of an
optional is an optional that holds one where it holds something."""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from ...emit import Op, inputs, ints
from ..sequences import lifted, spot, zeros_like
from ..subgraph import emit_like, is_tensor
from ..table import Cotangents, constant, rule

constant("SequenceEmpty", "SequenceLength", "OptionalHasElement")


@rule("SequenceConstruct")
def sequence_construct(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """S = [X_0, X_1, ...]."""
    return [at(op, dy, np.int64(i), x) if x and op.wants(x) else None for i, x in enumerate(node.inputs)]


@rule("SequenceAt")
def sequence_at(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = S[i]."""
    s, i = inputs(node, 2)
    return spot(op, s, position(op, s, i), dy)


@rule("SequenceInsert")
def sequence_insert(op: Op, node: ir.Node, dt: ir.Value) -> Cotangents:
    """T = S with X before i, or at the end."""
    s, x, i = inputs(node, 3)
    i = i and position(op, s, i)
    return [erase(op, dt, i), at(op, dt, np.int64(-1) if i is None else i, x)]


@rule("SequenceErase")
def sequence_erase(op: Op, node: ir.Node, dt: ir.Value) -> Cotangents:
    """T = S without S[i], or without the last."""
    s, i = inputs(node, 2)
    i = i and position(op, s, i)
    erased = op.SequenceAt(s, np.int64(-1) if i is None else i)
    return insert(op, dt, zeros_like(op, erased), i)


@rule("ConcatFromSequence")
def concat_from_sequence(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = concat(S[0], S[1], ...), along an axis they have or along a new one."""
    (s,) = inputs(node, 1)
    axis, sizes = node.attributes["axis"].as_int(), []
    if not node.attributes.get_int("new_axis", 0):
        each = lifted(op, lambda op, x: op.Shape(x, start=axis, end=axis + 1 or None), s)
        sizes = [op.ConcatFromSequence(each, axis=0)]
    return emit_like(op, "SplitToSequence", [dy, *sizes], [s], axis=axis, keepdims=0)[0]


@rule("SplitToSequence")
def split_to_sequence(op: Op, node: ir.Node, ds: ir.Value) -> Cotangents:
    """concat(S[0], S[1], ...) = X; with slices of length 1 the axis may be gone."""
    x, split = inputs(node, 2)
    get = node.attributes.get_int
    gone = split is None and not get("keepdims", 1)
    return emit_like(op, "ConcatFromSequence", [ds], [x], axis=get("axis", 0), new_axis=int(gone))[0]


@rule("Optional")
def optional(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = an optional that holds X."""
    (x,) = inputs(node, 1)
    return emit_like(op, "OptionalGetElement", [dy], [x])[0]


@rule("OptionalGetElement")
def optional_get_element(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = what X holds, or X itself if it is none."""
    (x,) = inputs(node, 1)
    return emit_like(op, "Optional", [dy], [x])[0] if isinstance(x.type, ir.OptionalType) else dy


# Values.


def at(op: Op, s: ir.Value, i: Any, like: ir.Value) -> ir.Value:
    """S[i]."""
    return emit_like(op, "SequenceAt", [s, i], [like])[0]


def insert(op: Op, s: ir.Value, x: ir.Value, i: ir.Value | None) -> ir.Value:
    """S with X before i, None for the end."""
    return emit_like(op, "SequenceInsert", [s, x, i], [s])[0]


def erase(op: Op, s: ir.Value, i: ir.Value | None) -> ir.Value:
    """S without S[i], None for the last."""
    return emit_like(op, "SequenceErase", [s, i], [s])[0]


def element(s: ir.Value) -> ir.Value:
    """The type and shape of the elements of a sequence; those of a tensor."""
    kind = s.type.elem_type if isinstance(s.type, ir.SequenceType) else s.type
    return ir.Value(name=s.name, type=kind, shape=s.shape)


def position(op: Op, s: ir.Value, i: ir.Value) -> ir.Value:
    """A position counted from the front: negative ones are counted from the end of S."""
    if (ints(i) or [-1])[0] >= 0:
        return i
    i = op.Cast(i, to=ir.DataType.INT64)
    return op.Where(op.Less(i, 0), i + op.SequenceLength(s), i)


def flat(op: Op, s: ir.Value) -> ir.Value:
    """The numbers of a sequence in one vector; a tensor as it is."""
    if is_tensor(s):
        return s
    if not isinstance(s.type, ir.SequenceType):
        raise op.unsupported("its step reads an optional; choose a layer behind this node")
    zero = op.full([0], 0, s.dtype or ir.DataType.FLOAT)
    rows = lifted(op, lambda op, x: op.Reshape(x, [-1]), s)
    values = op.ConcatFromSequence(insert(op, rows, zero, None), axis=0)  # of one vector at least
    values.shape = ir.Shape([None])
    return values


def unflat(op: Op, values: ir.Value, like: ir.Value) -> ir.Value:
    """What `flat` made of something like `like`, undone."""
    if is_tensor(like):
        return values
    sizes = lifted(op, lambda op, x: op.Reshape(op.Size(x), [1]), like)
    split = op.ConcatFromSequence(insert(op, sizes, op.const([]), None), axis=0)
    rows = op.SplitToSequence(values, split, axis=0, dtype=like.type)
    return lifted(op, lambda op, x, y: op.Reshape(y, op.Shape(x), allowzero=1), like, rows)
