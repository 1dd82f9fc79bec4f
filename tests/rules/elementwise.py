from __future__ import annotations

import numpy as np
from scipy.special import erf

from .harness import Case, distinct, normal, positive

BOTH = [normal(2, 3, 1), normal(3, 4)]  # broadcast on both sides
SCALAR = [normal(2, 3), normal()]

CASES = [
    *(
        Case(op, [a, b])
        for op in ("Add", "Sub", "Mul")
        for a, b in (BOTH, SCALAR, SCALAR[::-1], [normal(2, 3, 4), normal(3, 1)], [normal(1), normal(2, 5)])
    ),
    Case("Add", [normal(3, 3), normal(3, 3)]),
    Case("Div", [normal(2, 3, 1), positive(3, 4)]),
    Case("Div", [normal(), -positive(2, 3)]),
    Case("Div", [normal(2, 3), positive()]),
    Case("Mod", [distinct(3, 5) * 3, positive(5)], {"fmod": 1}, step=1e-7, forward=np.fmod),
    Case("Mod", [distinct(3, 5) * 3, -positive(3, 1)], {"fmod": 1}, step=1e-7, forward=np.fmod),
    Case("Pow", [positive(2, 3, 1), normal(3, 4)]),
    Case("Pow", [positive(2, 3), normal()]),
    Case("Pow", [positive(), normal(2, 3)]),
    Case("Pow", [distinct(2, 3), np.array(2.0)], fixed=[1]),
    Case("Pow", [distinct(2, 3), np.array(3.0)], fixed=[1]),
    Case("Pow", [np.array([-1.0, 0, 2]), np.array([2])], label="int"),
    Case("Pow", [np.array([-1.0, 0, 2]), np.array(3, np.int32)], label="int32"),
    Case("Pow", [np.array([0.0, 0, 0, 3, -2]), np.array([0.0, 1, 2, 0, -3])], fixed=[1], label="zero"),
    Case("Pow", [np.array([0.0, 0, 3]), np.array([1.5, 2, 3])], fixed=[0], label="zerobase"),
    Case("Sum", [normal(2, 3, 1), normal(3, 4), normal()]),
    Case("Sum", [normal(2, 3)]),
    Case("Mean", [normal(2, 3, 1), normal(3, 4), normal()], forward=lambda a, b, c: (a + b + c) / 3),
    Case("Mean", [normal(2, 3), normal(3)]),
    *(
        Case(op, xs)
        for op in ("Max", "Min")
        for xs in (
            [distinct(2, 3, 1), distinct(3, 4)],
            [distinct(2, 3, 1), distinct(3, 4), np.array(0.1)],
            [distinct(4, 5), distinct(4, 5)[::-1]],
            [distinct(2, 3)],
        )
    ),
    *(Case(op, [distinct(3, 5)]) for op in ("Neg", "Abs", "Reciprocal", "Exp", "Identity")),
    *(Case(op, [positive(3, 5)]) for op in ("Sqrt", "Log")),
    Case("Erf", [distinct(3, 5)], forward=erf),
    Case("Where", [normal(3, 1) > 0, normal(2, 1, 4), normal()]),
    Case("Where", [normal(2, 3, 4) > 0, normal(3, 1), normal(1, 4)]),
    Case("Where", [np.array(True), normal(3, 1), normal(1, 4)]),
    Case("Where", [np.array([True, False, True]), normal(3), normal(3)], fixed=[0]),
    Case("Clip", [distinct(3, 5), np.array(-0.8), np.array(0.9)]),
    Case("Clip", [distinct(3, 5), None, np.array(0.9)]),
    Case("Clip", [distinct(3, 5), np.array(-0.8)]),
    Case("Clip", [distinct(3, 5), np.array(0.0), np.array(0.95)], fixed=[1, 2]),
    Case("Clip", [distinct(3, 5), np.array(0.9), np.array(-0.8)], label="crossed"),
    Case("Clip", [np.array(0.3), np.array(-0.8), np.array(0.9)]),
    Case("Clip", [distinct(3, 5)]),
    Case("Cast", [normal(3, 5)], {"to": 1}, step=1e-2, label="float32"),
    Case("Cast", [normal(3, 5)], {"to": 11}, label="float64"),
    Case("CastLike", [normal(3, 5), np.array(1, np.float32)], step=1e-2),
    Case("Dropout", [normal(3, 5)]),
    Case("Dropout", [normal(3, 5), np.array(0.3)], outputs=2, fixed=[1]),
    Case("Dropout", [normal(3, 5), None, np.array(False)], fixed=[2]),
    # At a jump the forward function is the branch whose slope counts.
    Case(
        "Mod",
        [np.array([4.0, -6]), np.array(2.0)],
        {"fmod": 1},
        forward=lambda a, b: a - np.array([2, -3]) * b,
        label="jump",
    ),
    # In training, with the mask that a seed fixes.
    *(
        Case("Dropout", [normal(5, 7), ratio, np.array(True)], {"seed": 7}, outputs=n, fixed=fixed, label=f"train{n}")
        for ratio in (np.array(0.3), np.array(0.4, np.float32), None)
        for n in (1, 2)
        for fixed in ([1], [1, 2])
    ),
    Case("Dropout", [normal(5, 7), np.array(0.4, np.float32), np.array(False)], {"seed": 7}, label="off"),
]
