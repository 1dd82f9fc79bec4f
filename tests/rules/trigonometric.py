from __future__ import annotations

import numpy as np

from .harness import Case, distinct, normal, positive

CASES = [
    *(Case(op, [distinct(3, 6)]) for op in ("Sin", "Cos", "Tan", "Atan", "Sinh", "Cosh", "Asinh")),
    *(Case(op, [np.tanh(normal(3, 5))]) for op in ("Asin", "Acos", "Atanh")),
    Case("Acosh", [1 + positive(3, 5)]),
]
