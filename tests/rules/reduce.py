from __future__ import annotations

from itertools import product

import numpy as np

from .harness import Case, distinct, normal, positive

OPS = [
    "ReduceSum",
    "ReduceMean",
    "ReduceMax",
    "ReduceMin",
    "ReduceProd",
    "ReduceL1",
    "ReduceL2",
    "ReduceSumSquare",
]
OPS += ["ReduceLogSum", "ReduceLogSumExp"]


def values(op: str, *shape: int) -> np.ndarray:
    return positive(*shape) if op == "ReduceLogSum" else distinct(*shape)


def axes(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


ZEROS = np.array([[1.0, 2, 0, 3], [0, 2, 0, 1], [2, 3, 4, 5]])

CASES = [
    *(
        Case(op, [values(op, 2, 3, 4), axes(*over)], {"keepdims": keep}, fixed=[1], label=f"{over}")
        for op, keep, over in product(OPS, (0, 1), ((1,), (-1, 0)))
    ),
    *(Case(op, [values(op, 2, 3)], {"keepdims": keep}) for op, keep in product(OPS, (0, 1))),
    *(
        Case(op, [values(op, 2, 3), axes()], {"keepdims": 0, "noop_with_empty_axes": noop}, fixed=[1])
        for op, noop in product(OPS, (0, 1))
    ),
    *(Case(op, [values(op, 2, 3)], {"keepdims": 0, "noop_with_empty_axes": 1}) for op in OPS),
    *(Case(op, [values(op)], {"keepdims": 0}) for op in OPS),
    # axes known only at run time
    *(Case(op, [values(op, 2, 3, 4), axes(-1, 0)], {"keepdims": k}, label="runtime") for op, k in product(OPS, (0, 1))),
    *(Case(op, [values(op, 2, 3), axes()], {"keepdims": 0}, label="runtime") for op in OPS),
    *(Case(op, [values(op, 2, 3), axes()], {"noop_with_empty_axes": 1, "keepdims": 0}, label="runtime") for op in OPS),
    Case("ReduceProd", [ZEROS, axes(1)], fixed=[1], label="zeros"),
    Case("ReduceProd", [ZEROS, axes(0)], {"keepdims": 0}, fixed=[1], label="zeros"),
    *(
        Case(op, [np.zeros((2, 0, 4)), axes(1)], fixed=[1], forward=lambda x, _: x.sum(1, keepdims=True), label="empty")
        for op in ("ReduceSum", "ReduceLogSum")
    ),
    Case("ReduceLogSumExp", [normal(3, 4) * 100 + 1000, axes(1)], fixed=[1], label="large"),
]
