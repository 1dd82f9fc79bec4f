from __future__ import annotations

from collections.abc import Callable
from functools import partial
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
# Functions of x and alpha, then of x, alpha and beta, with the defaults of onnxruntime.
ALPHA = {
    "LeakyRelu": (lambda x, a: np.where(x > 0, x, a * x), 0.01),
    "ThresholdedRelu": (lambda x, a: np.where(x > a, x, 0), 0.0),
    "Elu": (lambda x, a: np.where(x > 0, x, a * np.expm1(x)), 1.0),
}
BETA = {
    "Affine": (lambda x, a, b: a * x + b, 0.0, 0.0),
    "ScaledTanh": (lambda x, a, b: a * np.tanh(b * x), 0.0, 0.0),
    "HardSigmoid": (lambda x, a, b: np.clip(a * x + b, 0, 1), 0.2, 0.5),
}
DEFAULTS = {"RNN": ["Tanh"], "GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
STEPS, BATCH, INPUTS, HIDDEN = 4, 3, 2, 3


def functions(op: str, attributes: dict[str, Any], directions: int) -> list[list[Callable[[Array], Array]]]:
    """The activations of each direction; alphas and betas are used up in order by those that have one."""
    alphas, betas = (iter(attributes.get(f"activation_{name}", ())) for name in ("alpha", "beta"))
    own: list[Callable[[Array], Array]] = []
    for name in attributes.get("activations", DEFAULTS[op] * directions):
        if name in ALPHA:
            f, a = ALPHA[name]
            own.append(partial(lambda f, a, x: f(x, a), f, next(alphas, a)))
        elif name in BETA:
            f, a, b = BETA[name]
            own.append(partial(lambda f, a, b, x: f(x, a, b), f, next(alphas, a), next(betas, b)))
        else:
            own.append(ACTIVATIONS[name])
    return [own[d * len(DEFAULTS[op]) :][: len(DEFAULTS[op])] for d in range(directions)]


def step(op: str, attributes: dict[str, Any], fs: list[Any], gates: list[Array], h: Array, c: Array, p: Any) -> Any:
    """One step of one sample: h and c; `gates` are the rows of X W + b, R and the bias of R."""
    xs, rs, bs = gates
    bound = attributes.get("clip", np.inf)
    # The state of an LSTM, which its third function takes, is not clipped.
    fs = [*(lambda x, f=f: f(np.clip(x, -bound, bound)) for f in fs[:2]), *fs[2:]]
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
    directions, gates = w.shape[0], GATES[op]
    y = np.zeros((len(x), directions, x.shape[1], HIDDEN))
    last = np.zeros((2, directions, x.shape[1], HIDDEN))
    for d in range(directions):
        fs = functions(op, attributes, directions)[d]
        bias = np.zeros((2, gates, HIDDEN)) if b is None else b[d].reshape(2, gates, HIDDEN)
        peep = np.zeros((3, HIDDEN)) if p is None else p[d].reshape(3, HIDDEN)
        for n in range(x.shape[1]):
            h, c = (np.zeros(HIDDEN) if v is None else v[d, n] for v in (h0, c0))
            order = list(range(len(x) if lengths is None else lengths[n]))
            for t in order[::-1] if d == 1 or attributes.get("direction") == "reverse" else order:
                xs = (w[d] @ x[t, n]).reshape(gates, HIDDEN) + bias[0]
                h, c = step(op, attributes, fs, [xs, r[d].reshape(gates, HIDDEN, HIDDEN), bias[1]], h, c, peep)
                y[t, d, n] = h
            last[:, d, n] = (h, c) if order else 0  # as onnxruntime ends an empty sequence
    return [y, *last][:outputs]


def row(op: str, optional: str = "", *, outputs: int = 0, fixed: tuple[int, ...] = (), **attributes: Any) -> Case:
    """A layer with the optional inputs whose letters are given: b, l(engths), h, c, p; with 0 one length is 0."""
    directions, gates = 2 if attributes.get("direction") == "bidirectional" else 1, GATES[op]
    shapes = {"b": (2 * gates * HIDDEN,), "h": (BATCH, HIDDEN), "c": (BATCH, HIDDEN), "p": (3 * HIDDEN,)}
    inputs: list[Any] = [
        normal(STEPS, BATCH, INPUTS),
        normal(directions, gates * HIDDEN, INPUTS),
        normal(directions, gates * HIDDEN, HIDDEN) / 2,
    ]
    for letter in "blhcp" if op == "LSTM" else "blh":
        lengths = np.array([2, 4, int("0" not in optional)], np.int32) if letter == "l" else None
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
    *(
        row(op, "bhc", clip=clip, direction=direction)
        for op, direction in (("RNN", "forward"), ("GRU", "reverse"), ("LSTM", "bidirectional"))
        for clip in (0.3, 0.9)
    ),
    *(row(op, "lhc0", direction=d) for op in ("RNN", "GRU", "LSTM") for d in ("forward", "bidirectional")),
    row("GRU", "bh", clip=0.4, linear_before_reset=1),
    row("LSTM", "bhcp", clip=0.5),
    row("LSTM", "blhcp", clip=0.5, input_forget=1),
    *(
        row("RNN", "b", activations=[name], activation_alpha=[0.7], activation_beta=[0.4], **clip)
        for name in (*ALPHA, *BETA)
        for clip in ({}, {"clip": 1.2})
    ),
    *(row("RNN", "b", activations=[name]) for name in ("LeakyRelu", "ThresholdedRelu", "Elu", "HardSigmoid")),
    row(
        "GRU",
        "bh",
        direction="bidirectional",
        activations=["HardSigmoid", "ScaledTanh", "Sigmoid", "LeakyRelu"],
        activation_alpha=[0.3, 1.7, 0.2],
        activation_beta=[0.6, 0.7],
    ),
    row(
        "LSTM",
        "bhc",
        activations=["HardSigmoid", "Elu", "Affine"],
        activation_alpha=[0.3, 0.8, 0.4],
        activation_beta=[0.6, 0.1],
    ),
    row("LSTM", "b", activations=["Sigmoid", "Relu", "Tanh", "Sigmoid", "Tanh", "Softsign"], direction="bidirectional"),
]
