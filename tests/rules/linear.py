from __future__ import annotations

import numpy as np

from .harness import Case, normal

CASES = [
    Case("MatMul", [normal(3, 4), normal(4, 5)]),
    Case("MatMul", [normal(4), normal(4)]),
    Case("MatMul", [normal(4), normal(4, 5)]),
    Case("MatMul", [normal(3, 4), normal(4)]),
    Case("MatMul", [normal(4), normal(2, 4, 5)]),
    Case("MatMul", [normal(2, 3, 4), normal(4)]),
    Case("MatMul", [normal(2, 3, 4), normal(4, 5)]),
    Case("MatMul", [normal(3, 4), normal(2, 4, 5)]),
    Case("MatMul", [normal(2, 3, 4), normal(2, 4, 5)]),
    Case("MatMul", [normal(2, 1, 3, 4), normal(6, 4, 5)]),
    Case("MatMul", [normal(2, 1, 3, 4), normal(1, 6, 4, 5)]),
    Case("MatMul", [normal(1, 3, 4), normal(2, 6, 4, 5)]),
    Case("MatMul", [normal(1, 1, 4), normal(1, 4, 1)]),
    *(Case("MatMul", [np.zeros((2, 0, 3)), normal(*b)], label="nothing to sum") for b in ((3, 4), (2, 3, 4))),
    Case("MatMul", [normal(2, 3, 5), np.zeros((2, 5, 0))], label="nothing to sum"),
    Case("Gemm", [normal(3, 4), normal(4, 5), normal(5)]),
    Case(
        "Gemm",
        [normal(4, 3), normal(5, 4), normal(3, 1)],
        {"transA": 1, "transB": 1, "alpha": 0.5, "beta": 2.0},
    ),
    Case("Gemm", [normal(4, 3), normal(4, 5), None], {"transA": 1}),
    Case("Gemm", [normal(3, 4), normal(5, 4)], {"transB": 1, "alpha": 2.0}),
    Case("Gemm", [normal(3, 4), normal(4, 5), normal(1)], {"beta": 3.0}),
    Case("Gemm", [normal(3, 4), normal(4, 5), normal(1, 5)]),
]
