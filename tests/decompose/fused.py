"""Rows of decompose/fused.py."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..rules.harness import Array, Case, normal

MS = "com.microsoft"
CONV = [normal(2, 3, 6, 5), normal(4, 3, 3, 3), normal(4)]


def swapped(a: Array, b: Array) -> Array:
    return np.maximum(np.matmul(a.swapaxes(-1, -2), b) * 0.5, 0)


def nhwc(x: Array, w: Array, b: Array, z: Array | None = None) -> Array:
    """A 1x1 convolution is a matrix product over the last axis."""
    y = x @ w[:, :, 0, 0].T + b
    return y if z is None else np.maximum(y + z, 0)


def fast_gelu(x: Array, w: Array, bias: Array | float = 0.0) -> Any:
    y = x @ w + bias
    return y * (1 + np.tanh(np.sqrt(2 / np.pi) * (y + 0.044715 * y**3))) / 2


CASES = [
    Case(f"{MS}::FusedConv", [normal(2, 3, 5), normal(4, 3, 3)]),
    Case(f"{MS}::FusedConv", CONV, {"activation": "Relu", "pads": [1, 0, 1, 0], "strides": [2, 1]}),
    Case(f"{MS}::FusedConv", [*CONV, normal(2, 4, 4, 3)], {"activation": "Relu"}),
    Case(f"{MS}::FusedConv", [normal(2, 4, 6, 5), normal(4, 2, 3, 3), None, normal(2, 4, 4, 3)], {"group": 2}),
    Case(f"{MS}::FusedConv", CONV, {"activation": "LeakyRelu", "activation_params": [0.2]}),
    Case(f"{MS}::FusedConv", CONV, {"auto_pad": "SAME_UPPER"}, dynamic=False),
    Case(f"{MS}::FusedConv", CONV, {"activation": "Sigmoid"}),
    Case(f"{MS}::FusedConv", CONV, {"activation": "Tanh", "dilations": [1, 2], "kernel_shape": [3, 3]}),
    Case(f"{MS}::FusedConv", CONV, {"activation": "Clip", "activation_params": [-0.5, 1.5]}),
    Case(f"{MS}::FusedConv", CONV, {"activation": "HardSigmoid", "activation_params": [0.1, 0.4]}),
    Case(f"{MS}::FusedConv", CONV, {"activation": "HardSwish"}),
    Case(f"{MS}::NhwcConv", [normal(2, 6, 5, 3), normal(4, 3, 1, 1), normal(4)], forward=nhwc),
    Case(
        f"{MS}::NhwcFusedConv",
        [normal(2, 6, 5, 3), normal(4, 3, 1, 1), normal(4), normal(2, 6, 5, 4)],
        {"activation": "Relu"},
        forward=nhwc,
    ),
    Case(f"{MS}::FusedGemm", [normal(3, 4), normal(4, 5), normal(5)], {"activation": "Relu"}),
    Case(
        f"{MS}::FusedGemm",
        [normal(4, 3), normal(5, 4), normal(3, 5)],
        {"activation": "LeakyRelu", "activation_alpha": 0.2, "transA": 1, "transB": 1, "alpha": 0.5, "beta": 2.0},
    ),
    Case(
        f"{MS}::FusedGemm",
        [normal(3, 4), normal(4, 5)],
        {"activation": "HardSigmoid", "activation_alpha": 0.1, "activation_beta": 0.4},
    ),
    Case(f"{MS}::FusedGemm", [normal(3, 4), normal(4, 5)], {"activation": "Elu", "activation_alpha": 0.7}),
    Case(f"{MS}::FusedMatMul", [normal(2, 3, 4), normal(2, 4, 5)], {"alpha": 0.5}),
    Case(f"{MS}::FusedMatMul", [normal(2, 4, 3), normal(2, 5, 4)], {"transA": 1, "transB": 1, "alpha": -2.0}),
    Case(f"{MS}::FusedMatMul", [normal(4), normal(5, 4)], {"transA": 1, "transB": 1}),
    Case(f"{MS}::FusedMatMul", [normal(3, 2, 4), normal(2, 5, 4)], {"transBatchA": 1, "transB": 1}),
    Case(f"{MS}::FusedMatMul", [normal(4, 2, 3), normal(4, 2, 5)], {"transBatchA": 1, "transA": 1, "transBatchB": 1}),
    Case(f"{MS}::TransposeMatMul", [normal(4, 3), normal(4, 5)], {"transA": 1}),
    Case(
        f"{MS}::FusedMatMulActivation",
        [normal(2, 4, 3), normal(2, 4, 5)],
        {"activation": "Relu", "transA": 1, "alpha": 0.5},
        forward=swapped,
    ),
    Case(f"{MS}::GemmFastGelu", [normal(2, 3, 4), normal(4, 5)], forward=fast_gelu),
    Case(f"{MS}::GemmFastGelu", [normal(2, 3, 4), normal(4, 5), normal(5)], forward=fast_gelu),
]
REFUSED = [(Case(f"{MS}::FusedConv", CONV, {"activation": "Mystery"}), "activation Mystery")]
