"""Rows of decompose/normalisation.py."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..rules.harness import Array, Case, normal, positive

MS = "com.microsoft"
X, ROW = normal(2, 3, 8), [positive(8), normal(8)]


def standardised(x: Array, axes: Any, epsilon: float) -> tuple[Array, Array, Array]:
    mean = x.mean(axes, keepdims=True)
    inverse = 1 / np.sqrt(((x - mean) ** 2).mean(axes, keepdims=True) + epsilon)
    return (x - mean) * inverse, mean, inverse


def layer_norm(x: Array, scale: Array, shift: Array | None = None) -> Any:
    hat, mean, inverse = standardised(x, -1, 1e-3)
    return hat * scale + (0 if shift is None else shift), mean, inverse


def skip_layer_norm(x: Array, skip: Array, scale: Array, shift: Array, bias: Array) -> Any:
    s = x + skip + bias
    hat, mean, inverse = standardised(s, -1, 1e-3)
    return hat * scale + shift, mean, inverse, s


def simplified(x: Array, scale: Array, axes: Any = -1) -> Any:
    inverse = 1 / np.sqrt((x**2).mean(axes, keepdims=True) + 1e-3)
    return x * inverse * scale, inverse


def group_norm(x: Array, scale: Array, shift: Array, channel: int = -1, silu: bool = True) -> Array:
    x = np.moveaxis(x, channel, 1)
    hat = standardised(x.reshape(len(x), 2, -1), -1, 1e-3)[0].reshape(x.shape)
    y = np.moveaxis(hat * scale[:, None, None] + shift[:, None, None], 1, channel)
    return y / (1 + np.exp(-y)) if silu else y


def skip_group_norm(x: Array, scale: Array, shift: Array, skip: Array, bias: Array | None = None) -> Any:
    s = x + (skip[:, None, None] if skip.ndim == 2 else skip) + (0 if bias is None else bias)
    return group_norm(s, scale, shift, silu=False), s


def ids(*shape: int, high: int, dtype: Any = np.int32) -> Array:
    return np.random.default_rng(high).integers(0, high, shape).astype(dtype)


TABLES = [normal(9, 8), normal(6, 8), normal(2, 8)]
MASK = np.array([[1, 1, 1, 0], [1, 1, 0, 0]], np.int32)
IMAGE, CHANNELS = normal(2, 3, 5, 4), [positive(4), normal(4)]
GROUPS = {"groups": 2, "epsilon": 1e-3}
CASES = [
    Case(f"{MS}::LayerNormalization", [X, *ROW], {"epsilon": 1e-3}, outputs=3, forward=layer_norm),
    Case(f"{MS}::LayerNormalization", [X, ROW[0]], {"axis": -1, "epsilon": 1e-3}, outputs=3, forward=layer_norm),
    Case(f"{MS}::SkipLayerNormalization", [X, X[::-1], *ROW]),
    Case(f"{MS}::SkipLayerNormalization", [X, X[::-1], *ROW, normal(8)], {"epsilon": 0.1}),
    Case(f"{MS}::SkipLayerNormalization", [X, X[::-1], ROW[0]], label="no shift"),
    Case(f"{MS}::SkipLayerNormalization", [X, normal(1, 3, 8), *ROW]),
    Case(f"{MS}::SkipLayerNormalization", [X, normal(3, 8), *ROW]),
    Case(f"{MS}::SkipLayerNormalization", [X[0], X[1], *ROW]),
    Case(
        f"{MS}::SkipLayerNormalization",
        [X, X[::-1], *ROW, normal(8)],
        {"epsilon": 1e-3},
        outputs=4,
        forward=skip_layer_norm,
    ),
    Case(
        f"{MS}::EmbedLayerNormalization",
        [ids(2, 4, high=9), ids(2, 4, high=2), *TABLES, *ROW, MASK],
        outputs=2,
        fixed=(2, 3, 4, 5, 6),
    ),
    Case(
        f"{MS}::EmbedLayerNormalization",
        [ids(2, 4, high=9), None, *TABLES[:2], None, *ROW, None, ids(1, 4, high=6)],
        {"epsilon": 1e-3},
        outputs=3,
        fixed=(2, 3, 5, 6),
    ),
    Case(f"{MS}::SimplifiedLayerNormalization", [X, ROW[0]], {"epsilon": 1e-3}, outputs=2, forward=simplified),
    Case(
        f"{MS}::SimplifiedLayerNormalization",
        [X, positive(3, 8)],
        {"axis": 1, "epsilon": 1e-3},
        outputs=2,
        forward=lambda x, scale: simplified(x, scale, (1, 2)),
    ),
    Case(f"{MS}::SkipSimplifiedLayerNormalization", [X, X[::-1], ROW[0]]),
    Case(f"{MS}::SkipSimplifiedLayerNormalization", [X, X[::-1], ROW[0], normal(8)], {"epsilon": 0.1}),
    Case(f"{MS}::SkipSimplifiedLayerNormalization", [X[0], X[1], ROW[0]]),
    Case(f"{MS}::GroupNorm", [IMAGE, *CHANNELS], {**GROUPS, "activation": 1}, forward=group_norm),
    Case(
        f"{MS}::GroupNorm",
        [np.moveaxis(IMAGE, -1, 1), *CHANNELS],
        {**GROUPS, "activation": 0, "channels_last": 0},
        forward=lambda x, scale, shift: group_norm(x, scale, shift, 1, silu=False),
    ),
    Case(
        f"{MS}::SkipGroupNorm",
        [IMAGE, *CHANNELS, IMAGE[::-1], normal(4)],
        {**GROUPS, "activation": 0},
        outputs=2,
        forward=skip_group_norm,
    ),
    Case(
        f"{MS}::SkipGroupNorm",
        [IMAGE, *CHANNELS, normal(2, 4)],
        {**GROUPS, "activation": 0},
        outputs=2,
        forward=skip_group_norm,
    ),
]
REFUSED = [
    (
        Case(f"{MS}::SkipGroupNorm", [IMAGE, *CHANNELS, IMAGE], {**GROUPS, "activation": 0, "channels_last": 0}),
        "channels_last=0",
    )
]
