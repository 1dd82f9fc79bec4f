from __future__ import annotations

import numpy as np

from .harness import Case, distinct, normal


def ints(*numbers: object) -> np.ndarray:
    return np.array(numbers[0] if len(numbers) == 1 else numbers, np.int64)


GRID = ints([[0, 2], [-1, 2]])  # a negative one, and a duplicate
PAIRS = ints([[0, 1], [2, -1], [0, 1]])

CASES = [
    *(
        Case("Gather", [normal(3, 4, 5), GRID], {"axis": axis}, fixed=fixed)
        for axis in (0, 1, -1)
        for fixed in ([], [1])
    ),
    Case("Gather", [normal(3, 4), ints(2)], {"axis": 1}, label="scalar"),
    Case("Gather", [normal(3, 4), ints(-1)], {"axis": 0}, fixed=[1], label="scalar"),
    Case("Gather", [normal(4), ints([1, 1, 3])]),
    Case("Gather", [normal(3, 4), ints([1, 1, 2])]),
    Case("Gather", [normal(4), ints(1)], label="scalar"),
    Case("Gather", [normal(3, 4), GRID.astype(np.int32)], {"axis": 1}, label="int32"),
    *(
        Case("GatherElements", [normal(3, 4), GRID], {"axis": axis}, fixed=fixed)
        for axis in (0, -1)
        for fixed in ([], [1])
    ),
    Case("GatherElements", [normal(3, 4), ints([[1, 1, -1, 0, 2]])], {"axis": 1}, label="wide"),
    Case("GatherElements", [normal(3, 4), GRID.astype(np.int32)], label="int32"),
    Case("GatherND", [normal(3, 4, 2), PAIRS]),
    Case("GatherND", [normal(3, 4), PAIRS], fixed=[1]),
    Case("GatherND", [normal(3, 4), ints([[[2]], [[-1]]])]),
    Case("GatherND", [normal(3, 4, 5), PAIRS], {"batch_dims": 1}),
    Case("GatherND", [normal(2, 3, 4), ints([[[1], [1]], [[-1], [0]]])], {"batch_dims": 1}, fixed=[1]),
    Case("GatherND", [normal(2, 3, 4, 2), ints(np.arange(6).reshape(2, 3, 1) % 4)], {"batch_dims": 2}),
    Case("TopK", [distinct(3, 5), ints([2])], outputs=2, fixed=[1]),
    Case("TopK", [distinct(5, 3), ints([2])], {"axis": 0, "largest": 0}, outputs=2),
    Case("TopK", [distinct(2, 4, 3), ints([3])], {"axis": -2, "sorted": 0}, outputs=2),
    Case("CumSum", [normal(3, 4), ints(1)]),
    *(
        Case("CumSum", [normal(3, 4), ints(axis)], {"exclusive": exclusive, "reverse": reverse}, fixed=fixed)
        for axis, exclusive, reverse, fixed in (
            (0, 0, 0, []),
            (1, 1, 0, [1]),
            (-1, 0, 1, []),
            (-2, 1, 1, [1]),
        )
    ),
    Case("OneHot", [ints([[0, 2], [-1, 9]]), ints(4), normal(2)]),
    Case(
        "OneHot",
        [ints([0, 2]), ints([3]), normal(2)],
        {"axis": 0},
        fixed=[0, 1],
        forward=lambda i, d, v: v[np.eye(3, dtype=int)[i].T],
    ),
]
