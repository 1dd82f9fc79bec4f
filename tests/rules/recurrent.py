from __future__ import annotations

from typing import Any

import numpy as np

from .harness import Array, Case, normal

ACTIVATIONS = {
    "Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "Tanh": np.tanh,
    "Relu": lambda x: np.maximum(x, 0),
    "Softsign": lambda x: x / (1 + np.abs(x)),
    "Softplus": lambda x: np.log1p(np.exp(x)),
}
DEFAULTS = {"RNN": ["Tanh"], "GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
STEPS, BATCH, INPUTS, HIDDEN = 4, 3, 2, 3


def step(op: str, attributes: dict[str, Any], fs: list[Any], gates: list[Array], h: Array, c: Array, p: Any) -> Any:
    """One step of one sample: h and c; `gates` are the rows of X W + b, R and the bias of R."""
    xs, rs, bs = gates
    if op == "RNN":
        return fs[0](xs[0] + rs[0] @ h + bs[0]), c
    if op == "GRU":
        z, r = (fs[0](xs[k] + rs[k] @ h + bs[k]) for k in (0, 1))
        late = attributes.get("linear_before_reset", 0)
        new = fs[1](xs[2] + (r * (rs[2] @ h + bs[2]) if late else rs[2] @ (r * h) + bs[2]))
        return (1 - z) * new + z * h, c
    i, o, f, new = (xs[k] + rs[k] @ h + bs[k] for k in range(4))
    i = fs[0](i + p[0] * c)
    f = 1 - i if attributes.get("input_forget", 0) else fs[0](f + p[2] * c)
    c = f * c + i * fs[1](new)
    return fs[0](o + p[1] * c) * fs[2](c), c


def layer(op: str, attributes: dict[str, Any], outputs: int, *inputs: Any) -> list[Array]:
    """A recurrent layer sample by sample, as the specification writes it."""
    x, w, r, b, lengths, h0, c0, p = [*inputs, *[None] * 8][:8]
    directions, gates, names = w.shape[0], GATES[op], attributes.get("activations", DEFAULTS[op] * 2)
    y = np.zeros((len(x), directions, x.shape[1], HIDDEN))
    last = np.zeros((2, directions, x.shape[1], HIDDEN))
    for d in range(directions):
        fs = [ACTIVATIONS[name] for name in names[d * len(DEFAULTS[op]) :][: len(DEFAULTS[op])]]
        bias = np.zeros((2, gates, HIDDEN)) if b is None else b[d].reshape(2, gates, HIDDEN)
        peep = np.zeros((3, HIDDEN)) if p is None else p[d].reshape(3, HIDDEN)
        for n in range(x.shape[1]):
            h, c = (np.zeros(HIDDEN) if v is None else v[d, n] for v in (h0, c0))
            order = list(range(len(x) if lengths is None else lengths[n]))
            for t in order[::-1] if d == 1 or attributes.get("direction") == "reverse" else order:
                xs = (w[d] @ x[t, n]).reshape(gates, HIDDEN) + bias[0]
                h, c = step(op, attributes, fs, [xs, r[d].reshape(gates, HIDDEN, HIDDEN), bias[1]], h, c, peep)
                y[t, d, n] = h
            last[:, d, n] = h, c
    return [y, *last][:outputs]


def row(op: str, optional: str = "", *, outputs: int = 0, fixed: tuple[int, ...] = (), **attributes: Any) -> Case:
    """A layer with the optional inputs whose letters are given: b, l(engths), h, c, p."""
    directions, gates = 2 if attributes.get("direction") == "bidirectional" else 1, GATES[op]
    shapes = {"b": (2 * gates * HIDDEN,), "h": (BATCH, HIDDEN), "c": (BATCH, HIDDEN), "p": (3 * HIDDEN,)}
    inputs: list[Any] = [
        normal(STEPS, BATCH, INPUTS),
        normal(directions, gates * HIDDEN, INPUTS),
        normal(directions, gates * HIDDEN, HIDDEN) / 2,
    ]
    for letter in "blhcp" if op == "LSTM" else "blh":
        lengths = np.array([2, 4, 1], np.int32) if letter == "l" else None
        inputs.append(lengths if lengths is not None else normal(directions, *shapes[letter]))
        if letter not in optional:
            inputs[-1] = None
    outputs = outputs or (3 if op == "LSTM" else 2)
    attributes |= {"hidden_size": HIDDEN}
    return Case(op, inputs, attributes, outputs, fixed=fixed, forward=lambda *xs: layer(op, attributes, outputs, *xs))


CASES = [
    *(
        row(op, optional, direction=direction)
        for op in ("RNN", "GRU", "LSTM")
        for direction in ("forward", "reverse", "bidirectional")
        for optional in ("", "blhcp")
    ),
    row("RNN", "b", activations=["Relu"]),
    row("RNN", "bh", activations=["Sigmoid", "Softsign"], direction="bidirectional"),
    row("RNN", "l", outputs=1),
    row("GRU", "b", linear_before_reset=1),
    row("GRU", "", linear_before_reset=1, direction="reverse"),
    row("GRU", "blh", linear_before_reset=1, direction="bidirectional"),
    row("GRU", "bh", activations=["Sigmoid", "Softsign"]),
    row("LSTM", "hc", outputs=1),
    row("LSTM", "bc", input_forget=1),
    row("LSTM", "blhcp", input_forget=1, direction="bidirectional"),
    row("LSTM", "bp", outputs=2),
    row("LSTM", "bhc", fixed=(1, 2, 3)),
    row("LSTM", "b", activations=["Sigmoid", "Relu", "Tanh", "Sigmoid", "Tanh", "Softsign"], direction="bidirectional"),
]
