from __future__ import annotations

from typing import Any

import numpy as np

from .harness import Array, Case, distinct, normal, positive


def layer_norm(x: Array, scale: Array, bias: Array | None = None, *, axis: int, epsilon: float = 1e-5) -> list[Array]:
    """All three outputs, in float64."""
    axes = tuple(range(axis % x.ndim, x.ndim))
    mean = x.mean(axes, keepdims=True)
    inv = 1 / np.sqrt(x.var(axes, keepdims=True) + epsilon)
    return [(x - mean) * inv * scale + (0 if bias is None else bias), mean, inv]


def batch_norm(x: Array, s: Array, b: Array, m: Array, v: Array, *, momentum: float = 0.9) -> list[Array]:
    """Y with the statistics of the batch, and the running ones."""
    others, per_channel = tuple(a for a in range(x.ndim) if a != 1), (-1, *[1] * (x.ndim - 2))
    mean, var = x.mean(others), x.var(others)
    hat = (x - mean.reshape(per_channel)) / np.sqrt(var + 1e-2).reshape(per_channel)
    y = hat * s.reshape(per_channel) + b.reshape(per_channel)
    return [y, *(momentum * old + (1 - momentum) * new for old, new in ((m, mean), (v, var)))]


def rms_norm(x: Array, scale: Array, *, axis: int, epsilon: float = 1e-5) -> Array:
    axes = tuple(range(axis % x.ndim, x.ndim))
    return x / np.sqrt((x * x).mean(axes, keepdims=True) + epsilon) * scale


def group_norm(x: Array, scale: Array, bias: Array, *, groups: int, epsilon: float = 1e-5) -> Array:
    grouped = x.reshape(x.shape[0], groups, -1)
    hat = (grouped - grouped.mean(2, keepdims=True)) / np.sqrt(grouped.var(2, keepdims=True) + epsilon)
    per_channel = (-1, *[1] * (x.ndim - 2))
    return hat.reshape(x.shape) * scale.reshape(per_channel) + bias.reshape(per_channel)


def lrn(x: Array, *, size: int, alpha: float, beta: float, bias: float) -> Array:
    y = np.zeros_like(x)
    for c in range(x.shape[1]):
        window = x[:, max(0, c - (size - 1) // 2) : c + size // 2 + 1]
        y[:, c] = x[:, c] / (bias + alpha / size * (window**2).sum(1)) ** beta
    return y


def lrn_row(*shape: int, **attributes: Any) -> Case:
    attributes = {"alpha": 0.3, "beta": 0.6, "bias": 1.5} | attributes
    return Case("LRN", [normal(*shape)], attributes, forward=lambda x: lrn(x, **attributes))


def layer_row(axis: int, x: tuple[int, ...], *scale: tuple[int, ...], outputs: int = 1) -> Case:
    def forward(*xs: Array) -> list[Array]:
        return layer_norm(*xs, axis=axis, epsilon=1e-2)[:outputs]

    inputs = [normal(*x), *(normal(*s) for s in scale)]
    return Case("LayerNormalization", inputs, {"axis": axis, "epsilon": 1e-2}, outputs=outputs, forward=forward)


CASES = [
    *(Case(op, [normal(2, 3, 4)], {"axis": axis}) for op in ("Softmax", "LogSoftmax") for axis in (0, 1, -1)),
    Case("Softmax", [normal(3, 5)]),
    Case("LogSoftmax", [normal(3, 5)]),
    *(
        Case(
            "BatchNormalization",
            [normal(2, 3, *rest), normal(3), normal(3), normal(3), positive(3)],
            {"epsilon": 0.01},
        )
        for rest in ((), (4,), (4, 5), (2, 3, 2))
    ),
    *(
        Case(
            "BatchNormalization",
            [normal(5, 3, *rest), normal(3), normal(3), normal(3), positive(3)],
            {"epsilon": 0.01, "training_mode": 1, **momentum},
            outputs=3,
            forward=lambda *xs, momentum=momentum: batch_norm(*xs, **momentum),
        )
        for rest in ((), (4,), (2, 3))
        for momentum in ({}, {"momentum": 0.6})
    ),
    *(
        Case(
            "InstanceNormalization",
            [normal(2, 3, *rest), normal(3), normal(3)],
            {"epsilon": 0.01},
            forward=lambda x, s, b: group_norm(x, s, b, groups=3, epsilon=0.01),
        )
        for rest in ((5,), (4, 5), (2, 3, 2))
    ),
    *(
        Case(
            "GroupNormalization",
            [normal(2, 6, *rest), normal(6), normal(6)],
            {"num_groups": g, "epsilon": 0.01},
            forward=lambda x, s, b, g=g: group_norm(x, s, b, groups=g, epsilon=0.01),
        )
        for rest in ((5,), (4, 5))
        for g in (1, 2, 3, 6)
    ),
    layer_row(-1, (2, 3, 5), (5,), (5,)),
    layer_row(-1, (2, 3, 5), (5,)),
    layer_row(1, (2, 3, 5), (3, 5), (3, 5)),
    layer_row(-2, (2, 3, 5), (3, 1), (1,)),
    layer_row(0, (3, 5), (3, 5), (3, 5)),
    layer_row(-1, (2, 3, 5), (5,), (5,), outputs=2),
    layer_row(1, (2, 3, 5), (3, 5), (3, 5), outputs=3),
    *(
        Case(
            "RMSNormalization",
            [normal(2, 3, 5), normal(*s)],
            {"axis": a, "epsilon": 0.01},
            opset=23,
            forward=lambda x, s, a=a: rms_norm(x, s, axis=a, epsilon=0.01),
        )
        for a, s in ((-1, (5,)), (1, (3, 5)), (-2, (3, 1)))
    ),
    *(
        Case(
            "MeanVarianceNormalization",
            [normal(*x)],
            attributes,
            forward=lambda x, axes=axes: (x - x.mean(axes, keepdims=True)) / (x.std(axes, keepdims=True) + 1e-9),
        )
        for x, axes, attributes in (((2, 3, 4, 5), (0, 2, 3), {}), ((2, 3, 4), (1, 2), {"axes": [1, 2]}))
    ),
    *(Case("LpNormalization", [distinct(2, 3, 4)], {"p": p, "axis": axis}) for p in (1, 2) for axis in (-1, 1)),
    # At kinks the forward function is the branch whose slope counts.
    *(Case("LpNormalization", [np.zeros((2, 3))], {"p": p}, forward=lambda x: 0 * x, label="zero") for p in (1, 2)),
    Case("LpNormalization", [np.array([[0.0, 2]])], {"p": 1}, forward=lambda x: x / x[:, 1:], label="kink"),
    *(lrn_row(2, 7, 3, 2, size=size) for size in (1, 2, 3, 4, 5, 9)),
    lrn_row(2, 6, 5, size=3),
    lrn_row(1, 5, 2, 3, 2, size=4, beta=1.5),
]
