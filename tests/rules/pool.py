from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from .harness import Array, Case, distinct, normal

Shape = tuple[int, ...]


def pool(op: str, x: Shape, dynamic: bool = True, **attributes: Any) -> Case:
    forward = None if op == "MaxPool" else Pool(op, **attributes)
    return Case(op, [distinct(*x) if op == "MaxPool" else normal(*x)], attributes, dynamic=dynamic, forward=forward)


class Pool:
    """AveragePool and LpPool in NumPy, window by window, by the letter of the standard."""

    def __init__(self, op: str, **attributes: Any) -> None:
        self.op, self.attributes = op, attributes

    def __call__(self, x: Array) -> Array:
        get, kernel, size = self.attributes.get, self.attributes["kernel_shape"], x.shape[2:]
        rank = len(kernel)
        strides, dilations, pads = (
            get("strides", [1] * rank),
            get("dilations", [1] * rank),
            get("pads", [0] * rank * 2),
        )
        extent = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
        mode = get("auto_pad", "NOTSET")
        if mode[:4] == "SAME":
            total = [max((-(-n // s) - 1) * s + e - n, 0) for n, s, e in zip(size, strides, extent, strict=True)]
            begin = [t // 2 if mode == "SAME_UPPER" else t - t // 2 for t in total]
            pads = begin + [t - b for t, b in zip(total, begin, strict=True)]
        begin, end = pads[:rank], pads[rank:]
        outs = []
        for n, s, e, b, f in zip(size, strides, extent, begin, end, strict=True):
            steps = (n + b + f - e) / s
            out = int(np.ceil(steps) if get("ceil_mode", 0) else np.floor(steps)) + 1
            outs.append(out - (get("ceil_mode", 0) and (out - 1) * s >= n + b))  # no window starts behind the map
        y = np.zeros((*x.shape[:2], *outs))
        for at in product(*map(range, outs)):
            taps = [
                [a * s + d * j - b for j in range(k)]
                for a, s, d, k, b in zip(at, strides, dilations, kernel, begin, strict=True)
            ]
            inside = [[t for t in ts if 0 <= t < n] for ts, n in zip(taps, size, strict=True)]
            padded = [[t for t in ts if -b <= t < n + f] for ts, n, b, f in zip(taps, size, begin, end, strict=True)]
            values = x[(..., *np.ix_(*inside))].reshape(*x.shape[:2], -1)
            if self.op == "AveragePool":
                count = np.prod([len(ts) for ts in (padded if get("count_include_pad", 0) else inside)])
                y[(..., *at)] = values.sum(-1) / count
            else:
                p = get("p", 2)
                y[(..., *at)] = (np.abs(values) ** p).sum(-1) ** (1 / p)
        return y


def average_rows() -> list[Case]:
    rows: list[tuple[Shape, dict[str, Any]]] = [
        ((2, 3, 6, 7), {"kernel_shape": [2, 3]}),
        ((2, 3, 7, 8), {"kernel_shape": [3, 3], "strides": [2, 2]}),
        ((1, 2, 7, 8), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
        ((1, 2, 8, 7), {"kernel_shape": [3, 2], "strides": [2, 3], "pads": [1, 0, 2, 1]}),
        ((1, 2, 9, 10), {"kernel_shape": [2, 2], "strides": [3, 3], "pads": [1, 0, 0, 0]}),
        ((1, 2, 7, 8), {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
        ((1, 2, 8, 10), {"kernel_shape": [3, 3], "strides": [2, 3], "pads": [1, 1, 1, 1], "ceil_mode": 1}),
        ((1, 2, 9, 6), {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}),
        ((1, 2, 9, 9), {"kernel_shape": [3, 2], "dilations": [2, 3], "pads": [1, 1, 0, 1]}),
        (
            (1, 2, 10, 9),
            {
                "kernel_shape": [3, 3],
                "dilations": [2, 1],
                "strides": [2, 2],
                "pads": [1, 1, 1, 1],
                "ceil_mode": 1,
            },
        ),
        ((2, 3, 10), {"kernel_shape": [4], "strides": [3], "pads": [1, 2]}),
        ((1, 2, 5, 6, 4), {"kernel_shape": [3, 2, 2], "strides": [2, 3, 1], "pads": [1, 0, 1, 1, 1, 0]}),
        ((1, 2, 5, 6), {"kernel_shape": [3, 2], "auto_pad": "SAME_UPPER"}),
        ((1, 2, 5, 6), {"kernel_shape": [3, 2], "auto_pad": "SAME_LOWER"}),
        ((1, 2, 5, 6), {"kernel_shape": [3, 2], "auto_pad": "VALID", "strides": [2, 2]}),
    ]
    return [
        pool("AveragePool", shape, **attributes, **include)
        for shape, attributes in rows
        for include in ({}, {"count_include_pad": 1})
    ]


CASES = [
    pool("MaxPool", (2, 2, 1), kernel_shape=[2], dilations=[2], pads=[1, 1]),  # no window holds an element
    pool("MaxPool", (1, 2, 2), kernel_shape=[2], dilations=[3], pads=[1, 1]),
    pool("MaxPool", (2, 3, 6, 7), kernel_shape=[2, 2]),
    pool("MaxPool", (2, 3, 6, 7), kernel_shape=[2, 2], strides=[2, 2]),
    pool("MaxPool", (2, 3, 7, 8), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    pool("MaxPool", (2, 3, 8, 10), kernel_shape=[3, 3], strides=[2, 3], pads=[1, 0, 0, 1], ceil_mode=1),
    # A window that would start in the pads is dropped; before opset 22, shape inference forgets that.
    Case(
        "MaxPool",
        [distinct(2, 3, 8, 9)],
        {"kernel_shape": [3, 3], "strides": [2, 3], "pads": [1, 0, 0, 2], "ceil_mode": 1},
        opset=22,
    ),
    pool("MaxPool", (1, 2, 9, 9), kernel_shape=[3, 2], dilations=[2, 3], storage_order=1),
    pool("MaxPool", (2, 3, 10), kernel_shape=[4], strides=[3]),
    pool("MaxPool", (1, 2, 5, 6, 4), kernel_shape=[3, 2, 2], strides=[2, 2, 1]),
    pool("MaxPool", (1, 2, 7, 8), kernel_shape=[3, 2], strides=[2, 3], auto_pad="SAME_UPPER"),
    pool("MaxPool", (1, 2, 7, 8), kernel_shape=[2, 2], strides=[3, 3], auto_pad="SAME_LOWER"),
    Case(
        "MaxPool",
        [distinct(2, 3, 7, 8)],
        {"kernel_shape": [3, 3], "strides": [2, 2], "storage_order": 1},
        outputs=2,
    ),
    *average_rows(),
    *(
        pool("AveragePool", (1, 2, n, 9), False, kernel_shape=[3, 4], strides=[2, 3], auto_pad=mode)
        for n in (7, 8)
        for mode in ("SAME_UPPER", "SAME_LOWER")
    ),
    *(pool("LpPool", (1, 2, 7, 8), kernel_shape=[3, 2], strides=[2, 3], pads=[1, 0, 0, 1], p=p) for p in (1, 2, 3)),
    pool("LpPool", (1, 2, 7, 8), kernel_shape=[3, 2], strides=[2, 2], dilations=[1, 2], ceil_mode=1),
    pool("LpPool", (1, 2, 8), kernel_shape=[3], strides=[2]),
    *(
        Case(
            "GlobalLpPool",
            [normal(2, 3, 4, 5)],
            {"p": p},
            forward=lambda x, p=p: (np.abs(x) ** p).sum((2, 3), keepdims=True) ** (1 / p),
        )
        for p in (1, 2, 3)
    ),
    Case("GlobalAveragePool", [normal(2, 3, 4, 5)]),
    Case("GlobalAveragePool", [normal(2, 3, 5)]),
    Case("GlobalAveragePool", [normal(2, 3, 2, 3, 4)]),
    *(
        Case(
            "GlobalMaxPool",
            [distinct(2, 3, *rest)],
            forward=lambda x: x.max(tuple(range(2, x.ndim)), keepdims=True),
        )
        for rest in ((5,), (4, 5), (2, 3, 4))
    ),
]
