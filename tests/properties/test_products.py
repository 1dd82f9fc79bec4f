"""Gemm, MatMul and Einsum on random shapes."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ..rules.harness import Case
from .oracle import EXAMPLES, Draw, adjoint, generators, ints, maybe, whole

BROADCAST = st.sampled_from([1, None])  # a size of 1 in place of the full one


@st.composite
def gemms(draw: Draw) -> Case:
    (m, k, n), rng = draw(ints(1, 5, 3)), draw(generators)
    ta, tb = draw(ints(0, 1, 2))
    c = draw(st.sampled_from([None, (), (1,), (n,), (1, n), (m, 1), (1, 1), (m, n)]))
    inputs = [whole(rng, *((k, m) if ta else (m, k))), whole(rng, *((n, k) if tb else (k, n)))]
    inputs += [] if c is None else [whole(rng, *c)]
    attributes: dict[str, Any] = {"transA": ta, "transB": tb}
    for name in ("alpha", "beta"):
        if draw(maybe):
            attributes[name] = draw(st.sampled_from([1.0, 0.5, -2.0, 0.0]))
    return Case("Gemm", inputs, attributes, fixed=draw(st.sampled_from([[], [1]])))


@st.composite
def matmuls(draw: Draw) -> Case:
    (m, k, n), rng = draw(ints(1, 4, 3)), draw(generators)
    batch = draw(ints(1, 3, 2))
    shapes = []
    for own, vector in (((m, k), (k,)), ((k, n), (k,))):
        rank = draw(st.integers(1, 4))
        lead = [draw(BROADCAST) or size for size in batch[2 - max(rank - 2, 0) :]]
        shapes.append([*lead, *own] if rank > 1 else vector)
    return Case("MatMul", [whole(rng, *s) for s in shapes], fixed=draw(st.sampled_from([[], [1], [0]])))


@st.composite
def einsums(draw: Draw) -> Case:
    """One to three operands with repeated letters, sizes of 1 that are stretched, and axes behind an ellipsis."""
    rng = draw(generators)
    explicit = draw(maybe)
    # Without an output onnxruntime takes no capitals.
    size = {c: draw(st.integers(1, 3)) for c in ("ijkL" if explicit else "ijkl")}
    dots = draw(ints(1, 3, draw(st.integers(0, 2))))
    terms: list[str] = []
    inputs = []
    elliptic = draw(maybe)
    for _ in range(draw(st.integers(1, 3))):
        letters = draw(st.lists(st.sampled_from(list(size)), min_size=1, max_size=3))
        shape = [size[c] for c in letters]
        if len(set(letters)) == len(letters) and draw(maybe):  # a diagonal is not stretched
            # onnx infers from the first operand that has a letter.
            shape = [
                draw(BROADCAST) or n if any(c in t for t in terms) else n for c, n in zip(letters, shape, strict=True)
            ]
        if elliptic and draw(maybe):
            at = draw(st.integers(0, len(letters)))
            shape[at:at] = [draw(BROADCAST) or n for n in dots]  # onnxruntime wants the same number of axes everywhere
            letters.insert(at, "...")
        terms.append("".join(letters))
        inputs.append(whole(rng, *shape))
    equation = draw(st.sampled_from([",", ", "])).join(terms)
    known = sorted({c for term in terms for c in term if c != "."})
    if explicit:
        result = draw(st.permutations(known))[: draw(st.integers(0, len(known)))]
        if "..." in equation:
            result.insert(draw(st.integers(0, len(result))), "...")
        equation += "->" + "".join(result)
    return Case("Einsum", inputs, {"equation": equation})


@EXAMPLES
@given(gemms(), maybe)
def test_gemm(case: Case, symbolic: bool) -> None:
    adjoint(case, symbolic)


@EXAMPLES
@given(matmuls(), maybe)
def test_matmul(case: Case, symbolic: bool) -> None:
    adjoint(case, symbolic)


@EXAMPLES
@given(einsums(), maybe)
def test_einsum(case: Case, symbolic: bool) -> None:
    adjoint(case, symbolic)
