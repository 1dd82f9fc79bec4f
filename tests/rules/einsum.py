from __future__ import annotations

import numpy as np

from .harness import Case, normal


def row(equation: str, *shapes: tuple[int, ...], opset: int = 21) -> Case:
    return Case(
        "Einsum",
        [normal(*s) for s in shapes],
        {"equation": equation},
        opset=opset,
        forward=lambda *xs: np.asarray(np.einsum(equation, *xs)),
    )


CASES = [
    Case("Einsum", [normal(1), normal(1, 2)], {"equation": "L,iL->L"}),  # the first is stretched
    row("ij,jk->ik", (3, 4), (4, 2)),
    row("bij, bkj -> bki", (2, 3, 4), (2, 5, 4)),
    row("ij->ji", (3, 4)),
    row("ij->i", (3, 4)),
    row("ij->", (3, 4)),
    row("i,j->ij", (3,), (4,)),
    row("i,j->i", (3,), (4,)),  # j in one operand only
    row("i,i->", (3,), (3,)),
    row("ii->i", (3, 3)),
    row("ii->", (3, 3)),
    row("iij,jk->ik", (3, 3, 4), (4, 2)),
    row("iii->i", (3, 3, 3)),
    row("ii,ij->j", (3, 3), (3, 4)),
    row("ij,jk,kl->il", (2, 3), (3, 4), (4, 5)),
    row("ij,ij,ij->i", (2, 3), (2, 3), (2, 3)),
    row("ij,jk", (3, 4), (4, 2)),
    row("ba", (3, 4)),
    row("ii", (3, 3)),
    row("...ij,...jk->...ik", (2, 3, 4), (2, 4, 2)),
    row("...ij,...jk->...ik", (5, 1, 3, 4), (2, 4, 2)),
    row("...ij,jk->...ik", (5, 2, 3, 4), (4, 2)),
    row("i...,j...->ij...", (3, 1, 5), (2, 4, 1)),
    row("...ij,...jk", (2, 3, 4), (1, 4, 2)),
    row("...i->...", (2, 3, 4)),
    row("...i,i->...", (4,), (4,)),
    row("bhid,bhjd->bhij", (2, 2, 3, 4), (2, 2, 5, 4)),
    row("Ab,bA->A", (2, 3), (3, 2)),
    row("ij,ij->i", (2, 3), (1, 3)),  # NumPy and onnxruntime stretch named axes, too
    row("ij,ij->i", (2, 1), (2, 3)),
]
