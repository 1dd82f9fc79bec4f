"""Rows of decompose/quantised_products.py."""

from __future__ import annotations

import numpy as np

from ..rules.harness import Array, Case, normal, positive
from ..rules.quantize import integers
from .quantised import MS, case, grid, scale

F = np.float32
EACH = (positive(4) / 80).astype(F)  # a scale per column, or per channel
ZEROS = integers("uint8", 4)
U, I = grid(0.02, 120, "uint8"), grid(0.03, -5, "int8", 1)  # noqa: E741
OUT = grid(0.5, 90, "uint8")
A, B = integers("uint8", 3, 5), integers("int8", 5, 4)
BIAS = np.array([3000, -2000, 5000, 0], np.int32)
IMAGE, WEIGHTS = integers("uint8", 2, 6, 5, 3), integers("int8", 4, 3, 3, 2)


def times(a: Array, a_zero: Array, b: Array, b_zero: Array) -> Array:
    """MulInteger in NumPy."""
    return np.asarray((a.astype(np.int32) - a_zero) * (b.astype(np.int32) - b_zero), np.int32)


CASES = [
    case("QLinearConv", IMAGE, *U, WEIGHTS, *grid(0.01, 0, "int8"), *OUT, channels_last=1),
    case(
        "QLinearConv",
        IMAGE,
        *U,
        WEIGHTS,
        EACH,
        np.zeros(4, np.int8),
        *OUT,
        BIAS,
        channels_last=1,
        pads=[1, 0, 1, 1],
        strides=[2, 1],
    ),
    case("QLinearConv", np.moveaxis(IMAGE, -1, 1), *U, WEIGHTS, *grid(0.01, 0, "int8"), *OUT, BIAS, pads=[1, 1, 1, 0]),
    case("QGemm", A, *U, B, *grid(0.03, 0, "int8")),
    case("QGemm", A, *U, B, EACH, np.zeros(4, np.int8), BIAS),
    case("QGemm", A, *U, B, EACH, np.zeros(4, np.int8), BIAS, *OUT, alpha=0.5),
    case("QGemm", A.T, *U, B.T, *grid(0.03, 4, "int8", 1), BIAS, *OUT, transA=1, transB=1),
    case("QGemm", integers("int8", 3, 5), *I, B, *grid(0.03, 4, "int8"), None, *grid(0.5, 3, "int8", 1)),
    case("QGemm", A, *U, integers("uint8", 5, 4), EACH, ZEROS, np.array([[7]], np.int32), *OUT),
    case("MatMulIntegerToFloat", A, B, U[0], scale(0.03)),
    case("MatMulIntegerToFloat", A, B, U[0], EACH, U[1], np.zeros(4, np.int8), normal(4)),
    case("MatMulIntegerToFloat", integers("int8", 2, 3, 5), B, I[0], scale(0.03, 1), I[1], np.array([4], np.int8)),
    case("MatMulIntegerToFloat", A, integers("uint8", 2, 5, 4), U[0], scale(0.03), U[1], np.array(9, np.uint8)),
    case("DynamicQuantizeMatMul", normal(3, 5), B, scale(0.03)),
    case("DynamicQuantizeMatMul", normal(2, 3, 5), B, EACH, np.zeros(4, np.int8), normal(4)),
    case("DynamicQuantizeMatMul", normal(3, 5), integers("uint8", 5, 4), scale(0.03, 1), np.array([9], np.uint8)),
    # The processor has no kernel for these.
    Case(f"{MS}::MulInteger", [A, U[1], A[:1], U[1]], rtol=0, forward=times),
    Case(f"{MS}::MulInteger", [A, None, A, None], rtol=0, forward=lambda a, _, b, __: times(a, 0, b, 0)),
    *[
        Case(
            f"{MS}::ReduceSumInteger",
            [integers(kind, 2, 3, 4)],
            {"axes": [1], "keepdims": keep},
            rtol=0,
            forward=lambda x, keep=keep: x.sum(1, keepdims=bool(keep), dtype=x.dtype.kind + "4"),
        )
        for kind, keep in (("int8", 1), ("uint8", 0))
    ],
    case("MatMulInteger16", integers("int16", 3, 5), integers("int16", 5, 4)),
    Case(
        f"{MS}::MatMulInteger16",
        [integers("uint16", 3, 5), integers("uint16", 5, 4)],
        rtol=0,
        forward=lambda a, b: a.astype(np.uint32) @ b.astype(np.uint32),
    ),
]
