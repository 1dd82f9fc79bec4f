"""Rows of decompose/conv_transpose.py."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..rules.harness import Case, normal


def case(pads: list[int], *bias: Any, fixed: tuple[int, ...] = (), **attributes: Any) -> Case:
    xs = [normal(2, 2, 4, 3), normal(2, 3, 3, 2), np.array(pads), *bias]
    return Case("com.microsoft::ConvTransposeWithDynamicPads", xs, attributes, fixed=fixed, rtol=1e-5)


CASES = [
    case([0, 0, 0, 0]),
    case([1, 0, 0, 2], normal(3), strides=[2, 2], output_padding=[1, 0]),
    case([1, 0, 2, 1], strides=[2, 1], dilations=[1, 2], fixed=(2,)),
    Case(
        "com.microsoft::ConvTransposeWithDynamicPads",
        [normal(1, 4, 5), normal(4, 1, 3), np.array([1, 1])],
        {"group": 2},
    ),
]
