"""What is smooth about quantising, against central differences; what rounds has none, and is checked in tests/test_quantize.py."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, helper

from .harness import Array, Case, normal, positive


def along(p: Array, x: Array, axis: int = 1, block_size: int = 0, **_: Any) -> Array:
    """Scales or zero points, one per element of x."""
    p = np.asarray(p, np.float64)
    if block_size and p.ndim:
        return np.repeat(p, block_size, axis)[tuple(map(slice, x.shape))]
    if p.ndim == 1 and p.size > 1:
        return p.reshape([-1 if a == axis % x.ndim else 1 for a in range(x.ndim)])
    return p


class Dequantize:
    """DequantizeLinear in NumPy."""

    def __init__(self, **attributes: Any) -> None:
        self.attributes = attributes

    def __call__(self, q: Array, scale: Array, zero: Array | float = 0) -> Array:
        steps = q.astype(np.float64) - along(np.asarray(zero), q, **self.attributes)
        return np.asarray(steps * along(scale, q, **self.attributes))


def dequantize(q: Array, scale: Array, *zero: Array, fixed: tuple[int, ...] = (), **attributes: Any) -> Case:
    return Case("DequantizeLinear", [q, scale, *zero], attributes, fixed=fixed, forward=Dequantize(**attributes))


def integers(dtype: str, *shape: int) -> Array:
    """Integers of a type, over its whole range if it is a small one."""
    info = np.iinfo(dtype)
    rng = np.random.default_rng(sum(shape))
    return rng.integers(max(info.min, -1000), min(info.max, 1000), shape, dtype=dtype, endpoint=True)


INT4, UINT4 = (np.dtype(helper.tensor_dtype_to_np_dtype(t)) for t in (TensorProto.INT4, TensorProto.UINT4))


def dynamic(x: Array) -> list[Array]:
    """DynamicQuantizeLinear in NumPy, as far as it is smooth: its scale."""
    scale = (max(0.0, x.max()) - min(0.0, x.min())) / 255
    return [np.zeros(x.shape, np.uint8), np.asarray(scale), np.asarray(0, np.uint8)]


FEW = np.arange(9).reshape(3, 3)
ELSEWHERE = set("QuantizeLinear ConvInteger MatMulInteger QLinearConv QLinearMatMul".split())
CASES = [
    dequantize(integers("int8", 3, 4), positive()),
    dequantize(integers("uint8", 3, 4), positive(1), integers("uint8", 1)),
    dequantize(integers("int32", 7), positive(1)),
    dequantize(integers("uint8", 2, 3, 4), positive(3), integers("uint8", 3)),
    dequantize(integers("int16", 2, 3, 4), positive(4), integers("int16", 4), axis=-1),
    dequantize(integers("int8", 4, 3), positive(4), integers("int8", 4), axis=0),
    dequantize(integers("uint16", 6, 3), positive(3, 3), integers("uint16", 3, 3), axis=0, block_size=2),
    dequantize(integers("int8", 2, 7), positive(2, 3), axis=-1, block_size=3),
    # Smaller ones cannot be fed, so they are weights.
    dequantize(integers("int8", 3, 4).astype(INT4), positive(4), fixed=(0,)),
    dequantize(
        integers("uint8", 6, 3).astype(UINT4), positive(3, 3), FEW.astype(UINT4), fixed=(0, 2), axis=0, block_size=2
    ),
    *(
        Case("DynamicQuantizeLinear", [x], outputs=3, forward=dynamic)
        for x in (normal(3, 4), positive(3), -positive(4))
    ),
]
