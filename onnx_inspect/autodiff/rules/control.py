"""Control flow: the same node over the adjoints of its subgraphs, which compute again what they need.

The cotangents of what a subgraph takes from outside (weights, as a rule) are outputs of an If, and are summed over the
iterations of a Loop or Scan. Both run once more first, to keep the states that each iteration started from. Sequences
cannot be kept so: those that an iteration needs are computed by a Loop that stops before it.
"""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from ...dtypes import is_float
from ...emit import Op, inputs
from ...structure import all_inputs, subgraphs
from ..sequences import zeros_like
from ..subgraph import Found, add, adjoint, closed, copied, emit_like, invariant, is_tensor, summed, to_front
from ..table import Cotangents, rule
from .sequence import at, element, erase, flat, insert, unflat

BOOL, INT64 = ir.DataType.BOOL, ir.DataType.INT64


@rule("If")
def if_(op: Op, node: ir.Node, *dys: ir.Value | None) -> Cotangents:
    """Y = those of one branch or the other."""
    captured = outside(op, node)
    if not captured:
        return {}
    branches = {}
    for name in ("then_branch", "else_branch"):
        inner = copied(op, node.attributes[name].as_graph())
        found = adjoint(inner, list(inner.graph.outputs), dict(enumerate(dys)), captured)
        branches[name] = closed(inner, [], [found.get(x) or zeros_like(inner, x) for x in captured])
    return dict(zip(captured, emit_like(op, "If", node.inputs, captured, **branches), strict=True))


@rule("Scan")
def scan(op: Op, node: ir.Node, *dys: ir.Value | None) -> Cotangents:
    """States, Ys = a step over slices of the inputs, one after another."""
    get, scanned = node.attributes.get_ints, node.attributes.get_int("num_scan_inputs")
    body, count = node.attributes["body"].as_graph(), len(node.inputs) - scanned
    xs, captured, stacks = inputs(node, len(node.inputs)), outside(op, node), len(node.outputs) - count
    directions = [
        list(get(f"scan_{side}_directions") or [0] * n) for side, n in (("input", scanned), ("output", stacks))
    ]
    axes = [list(get(f"scan_{side}_axes") or [0] * n) for side, n in (("input", scanned), ("output", stacks))]
    found = through_scan(op, body, xs[:count], xs[count:], captured, dys, axes, directions)
    return summed(op, [*xs, *captured], found)


def through_scan(
    op: Op,
    body: ir.Graph,
    initial: Sequence[ir.Value],
    scanned: Sequence[ir.Value],
    captured: Sequence[ir.Value],
    dys: Found,
    axes: Sequence[list[int]],
    directions: Sequence[list[int]],
) -> list[ir.Value | None]:
    """The adjoint of a Scan: cotangents of initial states, scanned inputs and captured values from those of outputs.

    Args:
        op: the emitter.
        body: one step; unchanged.
        initial: first states.
        scanned: the inputs that the step sees slices of.
        captured: what the step takes from outside and is to be differentiated.
        dys: cotangents of final states and stacked outputs.
        axes: of scanned inputs and of stacked outputs.
        directions: of both, 1 for backward in time.
    """
    count, like = len(initial), [*initial, *(_slice(x, a) for x, a in zip(scanned, axes[0], strict=True))]
    # Run again, and keep the states that each step started from.
    inner = copied(op, body, like)
    before = list(inner.graph.inputs)[:count]
    graph = closed(inner, list(inner.graph.inputs), [*list(inner.graph.outputs)[:count], *before])
    kept = emit_like(
        op, "Scan", [*initial, *scanned], [*initial, *map(_stack, initial)], body=graph,
        num_scan_inputs=len(scanned), scan_input_axes=axes[0], scan_input_directions=directions[0],
    )[count:]  # fmt: skip
    # Run backwards: the states are the cotangents of states, and the sums of those of captured values.
    inner = copied(op, body, like)
    xs, ys = list(inner.graph.inputs), list(inner.graph.outputs)
    moving = [i for i, x in enumerate(initial) if is_float(x)]
    wanted = [i for i, x in enumerate(scanned) if is_float(x) and op.wants(x)]
    given = {i: dy for i, dy in enumerate(dys) if i >= count and dy is not None}
    zeros = [flat(op, zeros_like(op, x)) for x in captured]  # a Scan carries no sequences
    totals = [x if is_tensor(x) else zero for x, zero in zip(captured, zeros, strict=True)]
    dstates, sums = [_new(inner, initial[i]) for i in moving], [_new(inner, x) for x in totals]
    slices = [_new(inner, _slice(dy, axes[1][i - count])) for i, dy in given.items()]
    smooth, slopes = [xs[i] for i in moving], [xs[count + i] for i in wanted]
    seeds = dict(zip([*moving, *given], [*dstates, *slices], strict=True))
    found = adjoint(inner, ys, seeds, [*smooth, *slopes, *captured])
    found |= {x: flat(inner, found[x]) for x in captured if x in found}
    dsmooth, dslopes = ([found.get(x) or zeros_like(inner, x) for x in part] for part in (smooth, slopes))
    results = [*dsmooth, *add(inner, sums, captured, found), *dslopes]
    graph = closed(inner, [*dstates, *sums, *xs, *slices], results)
    starts = [*(dys[i] or zeros_like(op, initial[i]) for i in moving), *zeros]
    back, picked = [1 - d for d in directions[0]], [scanned[i] for i in wanted]
    dxs = emit_like(
        op, "Scan", [*starts, *kept, *scanned, *given.values()], [*(initial[i] for i in moving), *totals, *picked],
        body=graph,
        num_scan_inputs=count + len(scanned) + len(given),
        scan_input_axes=[0] * count + axes[0] + [axes[1][i - count] for i in given],
        scan_input_directions=[1] * count + back + [1 - directions[1][i - count] for i in given],
        scan_output_axes=[axes[0][i] for i in wanted] or None,
        scan_output_directions=[back[i] for i in wanted] or None,
    )  # fmt: skip
    end = count + len(scanned)
    found_at = dict(zip([*moving, *range(end, end + len(captured)), *(count + i for i in wanted)], dxs, strict=True))
    return [*map(found_at.get, range(end)), *(unflat(op, found_at[end + i], x) for i, x in enumerate(captured))]


@rule("Loop")
def loop(op: Op, node: ir.Node, *dys: ir.Value | None) -> Cotangents:
    """States, Ys = a step, repeated while a condition holds and a count lasts."""
    body, captured = node.attributes["body"].as_graph(), outside(op, node)
    trips, condition, *initial = inputs(node, max(2, len(node.inputs)))
    count, inner = len(initial), invariant(op, body, initial)
    # Run again, and keep the number and the states of each iteration.
    iteration, _, *before = inner.graph.inputs
    tensors = [x for x in before if is_tensor(x)]
    results = [*list(inner.graph.outputs)[: 1 + count], iteration, *tensors]
    graph = closed(inner, list(inner.graph.inputs), results)
    like = [*before, _stack(iteration), *map(_stack, tensors)]
    again = emit_like(op, "Loop", [trips, condition, *initial], like, body=graph)
    final, numbers, kept = again[:count], again[count], again[1 + count :]
    # Run backwards, as often: T - 1, T - 2, ...
    total, inner = op.Size(numbers), invariant(op, body, initial)
    iteration, going, *before = inner.graph.inputs
    index, alive = _new(inner, iteration), _new(inner, going)
    moving = [i for i, x in enumerate(initial) if is_float(x)]
    given = {i: dy for i, dy in enumerate(dys) if i >= count and dy is not None}
    dstates, sums = [_new(inner, before[i]) for i in moving], [_new(inner, x) for x in captured]
    length = len(inner.graph)
    now = inner.Sub(inner.Sub(total, 1), index)
    stacks, states = iter(kept), _states(op, inner, body, [now, condition], initial) if len(kept) < count else before
    picks = [
        _pick(inner, numbers, now, iteration),
        *(_pick(inner, next(stacks), now, x) if is_tensor(x) else x for x in before),
    ]
    slices = [_pick(inner, dy, now, _slice(dy, 0)) for dy in given.values()]
    to_front(inner.graph, length)
    for x, value in zip([going, iteration, *before], [op.const(np.array(True)), *picks], strict=True):
        x.replace_all_uses_with(value, replace_graph_outputs=True)
    smooth = [picks[1 + i] for i in moving]
    seeds = dict(zip([*moving, *given], [*dstates, *slices], strict=True))
    found = adjoint(inner, list(inner.graph.outputs)[1:], seeds, [*smooth, *captured])
    results = [alive, *(found.get(x) or zeros_like(inner, x) for x in smooth), *add(inner, sums, captured, found)]
    for x, state in zip(before, states, strict=True):  # sequences only now, for the walk not to enter that Loop
        x.replace_all_uses_with(state)
    graph = closed(inner, [index, alive, *dstates, *sums], results)
    xs = [*(initial[i] for i in moving), *captured]
    starts = [*(dys[i] or zeros_like(op, final[i]) for i in moving), *(zeros_like(op, x) for x in captured)]
    return summed(op, xs, emit_like(op, "Loop", [total, None, *starts], xs, body=graph))


@rule("SequenceMap")
def sequence_map(op: Op, node: ir.Node, *dys: ir.Value | None) -> Cotangents:
    """Ys = sequences of a function of the elements of others, with tensors that are the same for all of them."""
    xs = inputs(node, len(node.inputs))
    inner = copied(op, node.attributes["body"].as_graph(), [element(x) for x in xs])
    elements, ys = list(inner.graph.inputs), inner.graph.outputs
    i, going = (ir.Value(name=op.fresh("i"), type=ir.TensorType(t), shape=ir.Shape([])) for t in (INT64, BOOL))
    start = len(inner.graph)
    picks = [x if is_tensor(x) else at(inner, x, i, e) for x, e in zip(xs, elements, strict=True)]
    slices = {k: at(inner, dy, i, ys[k]) for k, dy in enumerate(dys) if dy is not None}
    to_front(inner.graph, start)
    for x, value in zip(elements, picks, strict=True):
        x.replace_all_uses_with(value, replace_graph_outputs=True)
    mapped = [k for k, x in enumerate(xs) if not is_tensor(x) and is_float(x) and op.wants(x)]
    same = dict.fromkeys([*(x for x in xs if is_tensor(x) and is_float(x) and op.wants(x)), *outside(op, node)])
    found = adjoint(inner, ys, slices, [*(picks[k] for k in mapped), *same])
    like = [*(xs[k] for k in mapped), *same]
    states = [_new(inner, x) for x in like]
    dxs = [found.get(picks[k]) or zeros_like(inner, picks[k]) for k in mapped]
    zero = op.const(np.int64(0))
    turned = [insert(inner, erase(inner, s, zero), dx, None) for s, dx in zip(states, dxs, strict=False)]
    graph = closed(inner, [i, going, *states], [going, *turned, *add(inner, states[len(mapped) :], list(same), found)])
    starts = [zeros_like(op, x) for x in like]
    return summed(op, like, emit_like(op, "Loop", [op.SequenceLength(xs[0]), None, *starts], like, body=graph))


def _states(
    op: Op, inner: Op, body: ir.Graph, limits: Sequence[ir.Value | None], initial: Sequence[ir.Value]
) -> list[ir.Value]:
    """The states that a Loop ends with, in a subgraph of `op`."""
    step = invariant(op, body, initial)
    states = list(step.graph.inputs)[2:]
    if any(type(x.type) is not type(y.type) for x, y in zip(states, list(step.graph.outputs)[1:], strict=False)):
        raise op.unsupported("one of its states is optional before a step and not after it")
    graph = closed(step, list(step.graph.inputs), list(step.graph.outputs)[: 1 + len(initial)])
    return emit_like(inner, "Loop", [*limits, *initial], states, body=graph)


# Values.


def outside(op: Op, node: ir.Node) -> list[ir.Value]:
    """What the subgraphs of a node take from outside and needs a cotangent."""
    found = dict.fromkeys(x for graph in subgraphs(node) for inner in graph for x in all_inputs(inner))
    quantised = next((y for y in node.outputs if not is_float(y) and op.wants(y)), None)
    if quantised is not None:
        raise op.unsupported(f"'{quantised.name}' holds quantised numbers; choose a layer behind it")
    return [x for x in found if is_float(x) and op.wants(x)]


def _new(op: Op, like: ir.Value) -> ir.Value:
    return ir.Value(name=op.fresh(like.name or "value"), type=like.type, shape=like.shape)


def _stack(value: ir.Value) -> ir.Value:
    """The type and shape of such values stacked over time."""
    shape = None if value.shape is None else ir.Shape([None, *value.shape])
    return ir.Value(type=value.type, shape=shape)


def _slice(value: ir.Value, axis: int) -> ir.Value:
    """The type and shape of a slice along an axis."""
    sizes = None if value.shape is None else list(value.shape)
    if sizes is not None:
        del sizes[axis]
    return ir.Value(name=value.name, type=value.type, shape=None if sizes is None else ir.Shape(sizes))


def _pick(op: Op, stack: ir.Value, index: ir.Value, like: ir.Value) -> ir.Value:
    (value,) = emit_like(op, "Gather", [stack, index], [like], axis=0)
    return value
