"""The walk: one reverse sweep over a graph, from cotangents of some values to those of others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, cast

import onnx_ir as ir

from ..dtypes import is_float
from ..emit import Op
from ..pruning import detach
from ..structure import all_inputs, key, subgraphs
from ..widen import widen
from .sequences import lifted, plus, zeros_like
from .table import FLAT, INTEGERS, Cotangents, Rules, as_list, find, is_constant, lookup, missing, silent

FLOAT = ir.DataType.FLOAT
_INDICES = (ir.DataType.INT64, ir.DataType.BOOL, ir.DataType.STRING)
_TYPES = (t for t in ir.DataType if t not in (ir.DataType.UNDEFINED, ir.DataType.STRING))
SMALL_FLOATS = frozenset(t for t in _TYPES if t.is_floating_point() and t.bitwidth <= 8)


def backward(
    op: Op, seeds: Mapping[ir.Value, ir.Value], wrt: Iterable[ir.Value], rules: Rules
) -> dict[ir.Value, ir.Value]:
    """One reverse sweep over the graph of `op`: from the cotangents of some values to those of others.

    Only nodes between the two are visited, so nothing is computed that the result does not need.
    """
    wrt = set(wrt)
    nodes = list(op.graph)
    varying, quantised = _varying(nodes, wrt, rules)
    op.wanted = set(varying)
    op.rules = rules
    floats = _Floats(op, quantised)
    cotangents: dict[ir.Value, ir.Value] = {y: dy for y, dy in seeds.items() if y in varying}
    for node in reversed(nodes):
        moving = [x for x in all_inputs(node) if x in varying]
        if not moving or not any(y in cotangents for y in node.outputs) or is_constant(rules, node):
            continue
        op.node = node
        for v in moving:
            if v.dtype is None and (origin := _origin(v, varying, rules)) is not None:
                raise missing(origin)
        found, shown = lookup(rules, node), floats.node(node)
        dys = [cotangents.get(y) or _missing_cotangent(op, z) for y, z in zip(node.outputs, shown.outputs, strict=True)]
        dxs = found(op, shown, *dys)
        if shown is not node:  # its subgraphs are copies
            detach(shown)
        for x, dx, flat in _pairs(node, dxs, floats):
            if x is None or x not in varying:
                continue
            if dx is not None:
                dx = dx if dx.dtype == op.cotangent_dtype(dx) else lifted(op, lambda op, x: op.Cast(x, to=FLOAT), dx)
                dx.shape = dx.shape or x.shape  # a runtime plans with shapes that it knows
                cotangents[x] = plus(op, cotangents[x], dx) if x in cotangents else dx
                cotangents[x].shape = cotangents[x].shape or x.shape
            elif not flat:
                origin = None if is_float(x) else _origin(x, varying, rules)
                raise missing(origin) if origin is not None else silent(node, x)
    op.node = None
    return {x: cotangents[x] for x in wrt if x in cotangents}


def _varying(nodes: Iterable[ir.Node], wrt: set[ir.Value], rules: Rules) -> tuple[set[ir.Value], set[ir.Value]]:
    """What depends on `wrt` smoothly, as far as anybody knows, and which of it are integers that stand for floats.

    Integers do where they come out of a quantiser, and on from there through operators with rules. Behind an operator
    without a rule they may: they count, so that the walk meets the operator and complains instead of finding zeros.
    All other integers (indices, sizes) do not vary. Floats of 8 bits and less are such integers that always do.
    """
    varying, quantised = set(wrt), {x for x in wrt if not is_float(x)}
    for node in nodes:
        if not any(x in varying for x in all_inputs(node)) or is_constant(rules, node):
            continue
        op_type, integers = key(node), [y for y in node.outputs if not is_float(y)]
        varying.update(y for y in node.outputs if is_float(y))
        bodies = subgraphs(node)
        if find(rules, node) is None:
            varying.update(integers)
            quantised.update(y for y in integers if y.dtype not in _INDICES)
        elif op_type in INTEGERS:
            quantised.update(y for y in integers if y is node.outputs[0])
        elif bodies:
            small = SMALL_FLOATS | {ir.DataType.INT8, ir.DataType.UINT8}
            quantised.update(y for y in integers if y.dtype in small)
            for body in bodies:  # a Loop's gives a condition first
                states = zip(body.inputs, node.inputs, strict=False)
                begun = {state for state, x in states if x in varying or is_float(state)}
                inside, _ = _varying(body, varying | begun, rules)
                pairs = zip(reversed(node.outputs), reversed(body.outputs), strict=False)
                quantised.update(y for y, inner in pairs if not is_float(y) and inner in inside)
        elif any(x in quantised for x in all_inputs(node)):
            first = node.outputs[0].dtype  # the others may be indices
            quantised.update(y for y in integers if y.dtype == first and first != ir.DataType.BOOL)
        else:
            quantised.update(y for y in integers if y.dtype in SMALL_FLOATS)
        varying.update(y for y in integers if y in quantised)
    return varying, quantised


@dataclass(frozen=True)
class _View:
    """What a rule asks of a node, for a node that is not in the graph."""

    name: str | None
    domain: str
    op_type: str
    attributes: Any
    inputs: Sequence[ir.Value | None]
    outputs: Sequence[ir.Value]


def view(
    op: Op,
    node: ir.Node,
    inputs: Sequence[ir.Value | None],
    outputs: Sequence[ir.Value],
    wanted: Iterable[ir.Value],
    attributes: Iterable[ir.Attr] | None = None,
) -> ir.Node:
    """A node as if it had other inputs, outputs or attributes: so one rule calls another. `wanted`: see `Op.wants`."""
    if op.wanted is not None:
        op.wanted.update(wanted)
    # Attributes live in a node of their own.
    own = node.attributes if attributes is None else ir.Node("", node.op_type, [], attributes).attributes
    return cast(ir.Node, _View(node.name, node.domain, node.op_type, own, inputs, outputs))


class _Floats:
    """How rules are shown nodes: what stands for floats, and half precision unless `op` keeps it, is float32."""

    def __init__(self, op: Op, quantised: set[ir.Value]) -> None:
        self.op, self.quantised = op, quantised
        self.casts: dict[ir.Value, ir.Value] = {}

    def node(self, node: ir.Node) -> ir.Node:
        """The node itself, or a view of it."""
        values = [v for v in (*all_inputs(node), *node.outputs) if v is not None]
        standing = set() if subgraphs(node) or key(node) in INTEGERS else {v for v in values if v in self.quantised}
        # Numbers of the same type are of the same kind, but what an index counts is never a float.
        types = {v.dtype for v in standing} - set(_INDICES)
        shown = {v: self.cast(v) for v in values if v in standing or v.dtype in types or self.half(v)}
        if not shown:
            return node
        attributes = [
            ir.AttrGraph(a.name, self.graph(a.as_graph())) if a.type == ir.AttributeType.GRAPH else a
            for a in node.attributes.values()
        ]
        inputs = [x and shown.get(x, x) for x in node.inputs]
        wanted = [z for x, z in shown.items() if self.op.wants(x)]
        return view(self.op, node, inputs, [shown.get(y, y) for y in node.outputs], wanted, attributes)

    def half(self, value: ir.Value) -> bool:
        """True for half precision that is to be differentiated in float32."""
        return value.dtype != self.op.cotangent_dtype(value)

    def graph(self, graph: ir.Graph) -> ir.Graph:
        """A copy of a subgraph, in float32 as well."""
        copy = graph.clone(allow_outer_scope_values=True)
        widen(copy, ir.DataType.FLOAT16, lambda x: self.cast(x) if self.half(x) else x)
        return copy

    def cast(self, value: ir.Value) -> ir.Value:
        """A value as float32, computed once."""
        if value not in self.casts:
            self.casts[value] = lifted(self.op, lambda op, x: op.Cast(x, to=FLOAT), value)
            self.casts[value].shape = value.shape
        return self.casts[value]


def _missing_cotangent(op: Op, y: ir.Value) -> ir.Value | None:
    return zeros_like(op, y) if y.name and y.dtype is not None and is_float(y) else None


def _origin(value: ir.Value, varying: set[ir.Value], rules: Rules) -> ir.Node | None:
    """The node without a rule that numbers which may stand for floats come from, None if all have one."""
    at: ir.Value | None = value
    while at is not None and (node := at.producer()) is not None:
        if find(rules, node) is None:
            return node
        at = next((x for x in all_inputs(node) if x in varying and (x.dtype is None or not is_float(x))), None)
    return None


def _pairs(node: ir.Node, dxs: Cotangents, floats: _Floats) -> Iterable[tuple[ir.Value | None, ir.Value | None, bool]]:
    """What a rule returned: inputs, their cotangents, and whether None is a zero."""
    if isinstance(dxs, Mapping):
        found = {x: dxs.get(x) or dxs.get(floats.casts.get(x, x)) for x in all_inputs(node)}
        return [(x, dx, is_float(x)) for x, dx in found.items()]
    flat = FLAT.get(key(node), ())
    return [(x, dx, i in flat) for i, (x, dx) in enumerate(zip_longest(node.inputs, as_list(dxs)))]
