"""The walk: one reverse sweep over a graph, from cotangents of some values to those of others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, cast

import onnx_ir as ir

from ..emit import Op, is_float
from ..structure import all_inputs, key
from .table import CONSTANTS, INTEGERS, Cotangents, Rules, as_list, find, lookup, missing

_INDICES = (ir.DataType.INT64, ir.DataType.BOOL, ir.DataType.STRING)


def backward(
    op: Op, seeds: Mapping[ir.Value, ir.Value], wrt: Iterable[ir.Value], rules: Rules
) -> dict[ir.Value, ir.Value]:
    """One reverse sweep over the graph of `op`: from the cotangents of some values to those of others.

    Only nodes between the two are visited, so nothing is computed that the result does not need.
    """
    wrt = set(wrt)
    nodes = list(op.graph)
    varying, quantised = _varying(nodes, wrt, rules)
    op.wanted = varying
    op.rules = rules
    cotangents: dict[ir.Value, ir.Value] = {y: dy for y, dy in seeds.items() if y in varying}
    for node in reversed(nodes):
        if not any(y in cotangents for y in node.outputs) or not any(x in varying for x in all_inputs(node)):
            continue
        op.node = node
        found, shown = lookup(rules, node), _as_floats(op, node, quantised)
        dys = [cotangents.get(y) or _missing_cotangent(op, z) for y, z in zip(node.outputs, shown.outputs, strict=True)]
        for x, dx in _pairs(node, found(op, shown, *dys)):
            if x is None or x not in varying:
                continue
            if dx is not None:
                cotangents[x] = op.Add(cotangents[x], dx) if x in cotangents else dx
            elif not is_float(x) and key(node) not in CONSTANTS:
                raise missing(_unknown_origin(x, varying, rules) or node, x)
    op.node = None
    return {x: cotangents[x] for x in wrt if x in cotangents}


def _varying(nodes: Iterable[ir.Node], wrt: set[ir.Value], rules: Rules) -> tuple[set[ir.Value], set[ir.Value]]:
    """What depends on `wrt` smoothly, as far as anybody knows, and which of it are integers that stand for floats.

    Integers do where they come out of a quantiser, and on from there through operators with rules. Behind an operator
    without a rule they may: they count, so that the walk meets the operator and complains instead of finding zeros.
    All other integers (indices, sizes) do not vary.
    """
    varying, quantised = set(wrt), {x for x in wrt if not is_float(x)}
    for node in nodes:
        if not any(x in varying for x in all_inputs(node)):
            continue
        op_type, integers = key(node), [y for y in node.outputs if not is_float(y)]
        varying.update(y for y in node.outputs if is_float(y))
        if find(rules, node) is None:
            varying.update(integers)
            quantised.update(y for y in integers if y.dtype not in _INDICES)
        elif op_type in INTEGERS:
            quantised.update(y for y in integers if y is node.outputs[0])
        elif any(a.type == ir.AttributeType.GRAPH for a in node.attributes.values()):
            quantised.update(y for y in integers if y.dtype in (ir.DataType.INT8, ir.DataType.UINT8))
        elif op_type not in CONSTANTS and any(x in quantised for x in all_inputs(node)):
            first = node.outputs[0].dtype  # the others may be indices
            quantised.update(y for y in integers if y.dtype == first and first != ir.DataType.BOOL)
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
) -> ir.Node:
    """A node as if it had other inputs and outputs: so one rule calls another. `wanted`: see `Op.wants`."""
    if op.wanted is not None:
        op.wanted = op.wanted.union(wanted)
    return cast(ir.Node, _View(node.name, node.domain, node.op_type, node.attributes, inputs, outputs))


def _as_floats(op: Op, node: ir.Node, quantised: set[ir.Value]) -> ir.Node:
    """The node as its rule is shown it: integers that stand for floats, and numbers of their type, are floats."""
    inner = any(a.type == ir.AttributeType.GRAPH for a in node.attributes.values())
    if inner or key(node) in INTEGERS or not any(v in quantised for v in (*node.inputs, *node.outputs)):
        return node
    types = {v.dtype for v in (*node.inputs, *node.outputs) if v in quantised} - set(_INDICES)

    def shown(value: Any) -> Any:
        if value is None or (value not in quantised and value.dtype not in types):
            return value
        real = op.Cast(value, to=ir.DataType.FLOAT)
        real.shape = value.shape
        return real

    inputs, outputs = [shown(x) for x in node.inputs], [shown(y) for y in node.outputs]
    return view(op, node, inputs, outputs, [z for x, z in zip(node.inputs, inputs, strict=True) if op.wants(x)])


def _missing_cotangent(op: Op, y: ir.Value) -> ir.Value | None:
    return op.zeros_like(y) if y.name and y.dtype is not None and is_float(y) else None


def _unknown_origin(value: ir.Value, varying: set[ir.Value], rules: Rules) -> ir.Node | None:
    """The node without a rule that integers which may stand for floats come from, None if all have one."""
    node = value.producer()
    assert node is not None
    if find(rules, node) is None:
        return node
    before = next((x for x in all_inputs(node) if x in varying and not is_float(x)), None)
    return _unknown_origin(before, varying, rules) if before is not None else None


def _pairs(node: ir.Node, dxs: Cotangents) -> Iterable[tuple[ir.Value | None, ir.Value | None]]:
    if isinstance(dxs, Mapping):
        return [(x, dxs.get(x)) for x in dict.fromkeys(all_inputs(node))]
    return zip_longest(node.inputs, as_list(dxs))
