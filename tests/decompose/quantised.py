"""Rows of decompose/quantised.py; the tolerance of integers is in steps."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..rules.harness import Array, Case, normal
from ..rules.quantize import integers

MS = "com.microsoft"
F = np.float32


def scale(value: float, *shape: int) -> Array:
    """A scale, which is no input to differentiate by."""
    return np.full(shape, value, F)


def grid(step: float, zero: int, kind: str, *shape: int) -> list[Array]:
    """A scale and a zero point."""
    return [scale(step, *shape), np.full(shape, zero, kind)]


def mean(q: Array, s: Array, z: Array, s_out: Array, z_out: Array) -> Array:
    """QLinearReduceMean over the axes 1 and 3 in NumPy."""
    y = ((q.astype(np.float64) - z) * s).mean((1, 3), keepdims=True)
    return np.clip(np.round(y / s_out) + z_out, 0, 255).astype(np.uint8)


U, I = grid(0.0213, 120, "uint8"), grid(0.0317, -5, "int8")  # noqa: E741
OUT_U, OUT_I = grid(0.0251, 100, "uint8"), grid(0.0403, 7, "int8")
IMAGE_U, IMAGE_I = integers("uint8", 2, 3, 6, 7), integers("int8", 2, 3, 6, 7)
TINY = grid(1 / 256, 0, "uint8")


def pool(op: str, x: Array, *rest: Array, kernel: int = 3, last: int = 0, rtol: float = 0, **attributes: Any) -> Case:
    """A pool over a map with 3 channels, on the last axis if asked for."""
    x = np.moveaxis(x, 1, -1) if last else x
    how = {"channels_last": last} if op == "QLinearAveragePool" else {}
    return Case(f"{MS}::{op}", [x, *rest], {"kernel_shape": [kernel, 2], **how, **attributes}, rtol=rtol)


def case(op: str, *xs: Array | None, rtol: float = 0, **attributes: Any) -> Case:
    return Case(f"{MS}::{op}", xs, attributes, rtol=rtol)


CASES = [
    case("QuantizeLinear", normal(2, 5), scale(0.02)),
    case("QuantizeLinear", normal(2, 5), *grid(0.01, -3, "int8")),
    case("QuantizeLinear", normal(2, 5), *grid(1e-4, 900, "uint16", 1)),
    case("QuantizeLinear", normal(2, 5), *grid(1e-4, -900, "int16")),
    case("QuantizeLinear", normal(2, 5, 3), scale(0.01, 5), integers("int8", 5), axis=1),
    case("QuantizeLinear", normal(2, 5, 3), scale(0.01, 3), integers("uint8", 3), axis=-1),
    Case(f"{MS}::QuantizeLinear", [normal(2, 5, 3), scale(0.01, 5)], {"axis": 1}, fixed=(1,), rtol=0),
    case("DequantizeLinear", integers("int8", 2, 5), scale(0.02)),
    case("DequantizeLinear", integers("uint8", 2, 5), *grid(0.01, 7, "uint8", 1)),
    case("DequantizeLinear", integers("uint16", 2, 5), *grid(0.01, 7, "uint16")),
    case("DequantizeLinear", integers("int16", 2, 5, 3), scale(0.01, 5), integers("int16", 5), axis=1),
    case("DequantizeLinear", integers("int32", 5, 3), scale(0.01, 5), axis=0),
    *[
        case(f"QLinear{op}", a, *of_a, b, *of_b, *out)
        for op, out_u, out_i in (("Add", OUT_U, OUT_I), ("Mul", grid(0.04, 90, "uint8"), grid(0.05, 3, "int8")))
        for a, of_a, b, of_b, out in (
            (integers("uint8", 2, 3, 5), U, integers("uint8", 2, 3, 5), grid(0.0119, 128, "uint8"), out_u),
            (integers("int8", 2, 3, 5), I, integers("int8", 3, 1), grid(0.0237, 4, "int8"), out_i),
            (integers("uint8", 3, 1), U, integers("uint8", 2, 1, 5), U, [scale(0.0213)]),
        )
    ],
    case("QLinearSigmoid", integers("uint8", 2, 300), *U, *TINY),
    case("QLinearSigmoid", integers("int8", 2, 300), *I, *grid(1 / 256, -128, "int8", 1)),
    case("QLinearSigmoid", integers("int8", 2, 30), scale(0.01), None, scale(1 / 200), None),
    case("QLinearLeakyRelu", integers("uint8", 2, 300), *U, *OUT_U, alpha=0.2),
    case("QLinearLeakyRelu", integers("int8", 2, 30), scale(0.01, 1), None, scale(0.02), None),
    case("QLinearSoftmax", integers("uint8", 2, 3, 10), *U, *TINY, axis=-1, opset=13, rtol=1),
    case("QLinearSoftmax", integers("int8", 2, 3, 10), *I, *grid(1 / 256, -128, "int8"), axis=1, opset=13, rtol=1),
    case("QLinearSoftmax", integers("uint8", 2, 3, 10), *U, *TINY, axis=1, opset=12, rtol=1),
    case("QLinearSoftmax", integers("uint8", 2, 3, 10), *U, *TINY, opset=12, rtol=1),
    case("QLinearSoftmax", integers("uint8", 2, 3, 10), scale(0.02), None, *TINY, opset=13, rtol=1),
    # The processor has no kernel for this one.
    Case(f"{MS}::QLinearReduceMean", [IMAGE_U, *U, *OUT_U], {"axes": [1, 3], "keepdims": 1}, rtol=0, forward=mean),
    case("QLinearGlobalAveragePool", IMAGE_U, *U, *TINY, rtol=1),
    case("QLinearGlobalAveragePool", IMAGE_I, *I, *grid(0.01, 7, "int8"), rtol=1),
    case("QLinearGlobalAveragePool", IMAGE_U, *U, *grid(0.01, 9, "uint8"), channels_last=1, rtol=1),
    pool("QLinearAveragePool", IMAGE_U, *U, *OUT_U),
    pool("QLinearAveragePool", IMAGE_I, *I, *OUT_I, strides=[2, 2], pads=[1, 0, 1, 1]),
    pool("QLinearAveragePool", IMAGE_U, *U, *OUT_U, strides=[2, 2], ceil_mode=1, last=1),
    pool("QLinearAveragePool", IMAGE_U, *U, *OUT_U, pads=[1, 1, 1, 1], count_include_pad=1, last=1),
    pool("QLinearAveragePool", IMAGE_I, *I, *OUT_I, auto_pad="SAME_UPPER"),
    pool("NhwcMaxPool", IMAGE_U, last=1),
    pool("NhwcMaxPool", IMAGE_I, last=1, strides=[2, 2], pads=[1, 0, 1, 1], dilations=[2, 1]),
    pool("NhwcMaxPool", IMAGE_I, last=1, strides=[2, 2], ceil_mode=1),
    case("QLinearConcat", *OUT_U, integers("uint8", 2, 3), *U, integers("uint8", 2, 4), *OUT_U, axis=1),
    case("QLinearConcat", *OUT_I, *3 * [integers("int8", 2, 3), *I], axis=0),
    case("QLinearWhere", normal(2, 1, 5) > 0, integers("uint8", 2, 3, 5), *U, integers("uint8", 3, 1), *OUT_U, *U),
    case("QLinearWhere", normal(3, 1) > 0, integers("int8", 2, 3, 5), *I, integers("int8", 5), *OUT_I, *OUT_I),
]
