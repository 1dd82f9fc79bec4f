"""Recurrent layers, written as what they are: per direction a product of X and W, and a Scan over a cell.

That is emitted into a graph of its own, and the walk differentiates it like any other.
"""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from ...emit import Op, inputs
from ..subgraph import through_graph
from ..table import Cotangents, rule

INT64, FLOAT = ir.DataType.INT64, ir.DataType.FLOAT
DEFAULTS = {"RNN": ["Tanh"], "GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}
# Defaults are those of onnxruntime's kernels: not all are the standard's.
ALPHA = {"Affine": 0.0, "LeakyRelu": 0.01, "ThresholdedRelu": 0.0, "ScaledTanh": 0.0, "HardSigmoid": 0.2, "Elu": 1.0}
BETA = {"Affine": 0.0, "ScaledTanh": 0.0, "HardSigmoid": 0.5}
KNOWN = {name.lower(): name for name in ("Sigmoid", "Tanh", "Relu", "Softsign", "Softplus", *ALPHA)}
Acts = list[Callable[[Op, ir.Value], ir.Value]]
Weights = Sequence[Any]  # R, the bias of a GRU's candidate behind its reset gate, P; the last two may be None
Cell = Callable[[Op, Acts, int, ir.Value, list[ir.Value], Weights], list[ir.Value]]


@rule("RNN")
def rnn(op: Op, node: ir.Node, *dys: ir.Value | None) -> Cotangents:
    """H' = f(X W + H R + b)."""

    def cell(op: Op, act: Acts, size: int, xw: ir.Value, states: list[ir.Value], ws: Weights) -> list[ir.Value]:
        return [act[0](op, xw + op.Gemm(states[0], ws[0], transB=1))]

    return through_graph(op, node, dys, lambda inner: _layer(inner, node, cell))


@rule("GRU")
def gru(op: Op, node: ir.Node, *dys: ir.Value | None) -> Cotangents:
    """H' = (1 - z) g(X W + (r H) R + b) + z H; gates z, r = f(X W + H R + b). A linear R may stand before r."""

    def cell(op: Op, act: Acts, size: int, xw: ir.Value, states: list[ir.Value], ws: Weights) -> list[ir.Value]:
        (h,), (r, bias, _) = states, ws
        r_gates, r_new = op.Split(r, [2 * size, size], axis=0, outputs=2)
        x_gates, x_new = op.Split(xw, [2 * size, size], axis=1, outputs=2)
        gates = act[0](op, x_gates + op.Gemm(h, r_gates, transB=1))
        z, reset = op.Split(gates, [size, size], axis=1, outputs=2)
        late = bias is not None
        hidden = reset * op.Gemm(h, r_new, bias, transB=1) if late else op.Gemm(reset * h, r_new, transB=1)
        return [(1 - z) * act[1](op, x_new + hidden) + z * h]

    return through_graph(op, node, dys, lambda inner: _layer(inner, node, cell))


@rule("LSTM")
def lstm(op: Op, node: ir.Node, *dys: ir.Value | None) -> Cotangents:
    """C' = f C + i g(X W + H R + b), H' = o h(C'); gates i, o, f see X and H, and with peepholes P also C or C'."""
    coupled = node.attributes.get_int("input_forget", 0)

    def cell(op: Op, act: Acts, size: int, xw: ir.Value, states: list[ir.Value], ws: Weights) -> list[ir.Value]:
        (h, c), (r, _, p) = states, ws
        sums = xw + op.Gemm(h, r, transB=1)
        i, o, f, new = op.Split(sums, [size] * 4, axis=1, outputs=4)
        if p is not None:
            p_i, p_o, p_f = op.Split(p, [size] * 3, axis=0, outputs=3)
            i, f = i + p_i * c, f + p_f * c
        i = act[0](op, i)
        c = (1 - i if coupled else act[0](op, f)) * c + i * act[1](op, new)
        return [act[0](op, o if p is None else o + p_o * c) * act[2](op, c), c]

    return through_graph(op, node, dys, lambda inner: _layer(inner, node, cell))


def _layer(op: Op, node: ir.Node, cell: Cell) -> list[ir.Value]:
    """Emit all directions; Y and the last states."""
    direction = node.attributes.get_string("direction", "forward")
    count = 2 if direction == "bidirectional" else 1
    x, w, r, b, lengths, h, c, p = inputs(node, 8)
    # Rank 3, also where inference does not know.
    x, h, c = (op.Reshape(v, [0, 0, 0]) if v is not None and v.shape is None else v for v in (x, h, c))
    states = [h, c] if node.op_type == "LSTM" else [h]
    weights = [[None] * count if v is None else _parts(op, v, count) for v in (w, r, b, p, *states)]
    alive = None if lengths is None else _alive(op, x, lengths)
    results = []
    for number in range(count):
        own = [each[number] for each in weights]
        backwards = int(number == 1 or direction == "reverse")
        results.append(_direction(op, node, cell, x, own, alive, _activations(op, node, number), backwards))
    axes = [1] + [0] * len(states)
    return [
        op.Concat(*(op.Unsqueeze(v, [axis]) for v in each), axis=axis)
        for axis, each in zip(axes, zip(*results, strict=True), strict=True)
    ]


def _parts(op: Op, value: ir.Value, count: int) -> list[ir.Value]:
    """What belongs to each direction."""
    parts = [value] if count == 1 else op.Split(value, num_outputs=count, axis=0, outputs=count)
    return [op.Squeeze(part, [0]) for part in parts]


def _alive(op: Op, x: ir.Value, lengths: ir.Value) -> ir.Value:
    """Which steps of which sequence count, (T, N, 1)."""
    steps = op.Range(op.const(0, INT64), op.Squeeze(op.size(x, 0), [0]), op.const(1, INT64))
    return op.Less(op.Unsqueeze(steps, [1, 2]), op.Unsqueeze(op.Cast(lengths, to=INT64), [0, 2]))


def _activations(op: Op, node: ir.Node, number: int) -> Acts:
    """What one direction applies to its sums, which `clip` bounds, and an LSTM to its state, which it does not."""
    default, clip = DEFAULTS[node.op_type], node.attributes.get_float("clip", math.inf)
    given = [iter(node.attributes.get_floats(f"activation_{name}", ())) for name in ("alpha", "beta")]
    acts: Acts = []
    for i, name in enumerate(list(node.attributes.get_strings("activations", ())) or default * 2):
        if name.lower() not in KNOWN:
            raise op.unsupported(
                f"its activation '{name}' is none of {', '.join(KNOWN.values())}; choose a layer behind it"
            )
        name = KNOWN[name.lower()]
        # Each alpha belongs to the next activation that has one, as onnxruntime counts; so does each beta.
        alpha, beta = (next(v, d[name]) if name in d else 0.0 for v, d in zip(given, (ALPHA, BETA), strict=True))
        acts.append(_activation(name, alpha, beta, math.inf if i % len(default) == 2 else clip))
    return acts[number * len(default) : (number + 1) * len(default)]


def _activation(name: str, alpha: float, beta: float, clip: float) -> Callable[[Op, ir.Value], ir.Value]:
    names = {"alpha": alpha} if name in ALPHA else {}
    names |= {"beta": beta} if name in BETA else {}

    def call(op: Op, x: ir.Value) -> ir.Value:
        x = x if math.isinf(clip) else op.Clip(x, -clip, clip)
        if name == "Affine":
            return x * alpha + beta
        return op.Tanh(x * beta) * alpha if name == "ScaledTanh" else getattr(op, name)(x, **names)

    return call


def _direction(
    op: Op, node: ir.Node, cell: Cell, x: ir.Value, own: list[Any], alive: Any, act: Acts, backwards: int
) -> list[ir.Value]:
    """One direction: Y (T, N, H) and the last states (N, H)."""
    (w, r, b, p), first = own[:4], own[4:]
    size, dtype = node.attributes.get_int("hidden_size", 0) or op.dim(node.inputs[2], 2), x.dtype or FLOAT  # type: ignore[arg-type]
    if not size:
        raise op.unsupported("its hidden_size is not known; export it with that attribute")
    xw, late = op.MatMul(x, op.Transpose(w, perm=[1, 0])), None
    rows = {"RNN": 1, "GRU": 3, "LSTM": 4}[node.op_type] * size
    if node.attributes.get_int("linear_before_reset", 0):
        late = op.const(np.zeros(size, dtype.numpy()))
    if b is not None:
        b_w, b_r = op.Split(b, [rows, rows], axis=0, outputs=2)
        if late is not None:
            b_r, late = op.Split(b_r, [2 * size, size], axis=0, outputs=2)
            b_r = op.Concat(b_r, np.zeros(size, dtype.numpy()), axis=0)
        xw = xw + (b_w + b_r)
    shape = op.Concat(op.size(x, 1), [size], axis=0)
    first = [op.full(shape, 0, dtype) if v is None else v for v in first]
    *states, y = op.Scan(
        *first, xw, *([] if alive is None else [alive]),
        outputs=len(first) + 1, dtype=dtype, num_scan_inputs=1 if alive is None else 2,
        body=_body(op, cell, act, size, len(first), [r, late, p], rows, dtype, masked=alive is not None),
        scan_input_directions=[backwards] * (1 if alive is None else 2), scan_output_directions=[backwards],
    )  # fmt: skip
    for value in (*first, *states):
        value.shape = ir.Shape(["inspect/batch", size])
    if alive is not None:  # onnxruntime ends an empty sequence with 0, whatever it began with
        begun = op.Gather(alive, op.const(np.array(0)), axis=0)
        states = [op.Where(begun, v, 0) for v in states]
    return [y, *states]


def _body(
    op: Op, cell: Cell, act: Acts, size: int, count: int, ws: Weights, rows: int, dtype: Any, *, masked: bool
) -> ir.Graph:
    """One step as a graph: states, a row of X W + b, and whether the sequence goes on."""

    def value(hint: str, width: int, kind: ir.DataType) -> ir.Value:
        return ir.Value(name=op.fresh(hint), type=ir.TensorType(kind), shape=ir.Shape(["inspect/batch", width]))

    states, xw = [value("state", size, dtype) for _ in range(count)], value("row", rows, dtype)
    alive = [value("alive", 1, ir.DataType.BOOL)] if masked else []
    graph = ir.Graph([*states, xw, *alive], [], nodes=[], name=op.fresh("cell"))
    with Op(graph, op) as inner:
        new = cell(inner, act, size, xw, states, ws)
        y = new[0]
        for mask in alive:
            y = inner.Where(mask, y, 0)
            new = [inner.Where(mask, after, before) for after, before in zip(new, states, strict=True)]
        graph.outputs.extend([*new, inner.Identity(y)])
    return graph
