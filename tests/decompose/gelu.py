"""Rows of decompose/gelu.py."""

from __future__ import annotations

from ..rules.harness import Case, normal

MS = "com.microsoft"
CASES = [
    Case(f"{MS}::Gelu", [normal(2, 5)]),
    Case(f"{MS}::BiasGelu", [normal(2, 3, 5), normal(5)]),
    Case(f"{MS}::FastGelu", [normal(2, 5)]),
    Case(f"{MS}::FastGelu", [normal(2, 3, 4), normal(4)]),
    Case(f"{MS}::QuickGelu", [normal(2, 5)]),
    Case(f"{MS}::QuickGelu", [normal(2, 5)], {"alpha": 0.7}),
]
