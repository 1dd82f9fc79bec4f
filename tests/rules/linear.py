from __future__ import annotations

from .harness import Case, normal

CASES = [
    Case("Gemm", [normal(3, 4), normal(4, 5), normal(5)]),
    Case("Gemm", [normal(4, 3), normal(5, 4), normal(3, 1)], dict(transA=1, transB=1, alpha=0.5, beta=2.0)),
    Case("Gemm", [normal(4, 3), normal(4, 5), None], dict(transA=1)),
    Case("Gemm", [normal(3, 4), normal(5, 4)], dict(transB=1, alpha=2.0)),
]
