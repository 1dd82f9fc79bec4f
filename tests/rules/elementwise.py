from __future__ import annotations

from .harness import Case, distinct, normal

CASES = [
    Case("Add", [normal(2, 3, 4), normal(3, 1)]),
    Case("Mul", [normal(2, 3, 4), normal(3, 1)]),
    Case("Mul", [normal(1), normal(2, 5)]),
    Case("Relu", [distinct(3, 5)]),
    Case("Tanh", [normal(3, 5)]),
]
