"""Slice, Gather and Scatter operators at random places."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ..rules.harness import Array, Case
from ..rules.scatter import scattered
from .oracle import EXAMPLES, Draw, adjoint, generators, ints, maybe, quotient, shapes, some, spaced, whole

INDEX = st.sampled_from([np.int32, np.int64])
STEP = st.sampled_from([-3, -2, -1, 1, 2, 3])
FAR = st.sampled_from([-(2**31) + 1, -99, 99, 2**31 - 1])


def fixed(draw: Draw, *places: int) -> list[int]:
    """Integer inputs are constants, or come at run time."""
    return list(places) if draw(maybe) else []


def signed(draw: Draw, indices: Array, size: Any) -> Array:
    """Some of the indices counted from the end."""
    back = np.array(draw(ints(0, 1, indices.size))).reshape(indices.shape)
    return np.asarray(np.where(back, indices - size, indices), dtype=draw(INDEX))


@st.composite
def slices(draw: Draw) -> Case:
    shape, rng, kind = draw(shapes(1, 4, 6)), draw(generators), draw(INDEX)
    rank = len(shape)
    axes = some(draw, rank, 1)
    bound = st.one_of(st.integers(-8, 8), FAR)
    starts, ends = (draw(st.lists(bound, min_size=len(axes), max_size=len(axes))) for _ in range(2))
    steps = draw(st.one_of(st.none(), st.lists(STEP, min_size=len(axes), max_size=len(axes))))
    if steps is not None:  # onnxruntime takes the largest integer for the far end, at either side
        ends = [min(e, 99) if s < 0 else e for e, s in zip(ends, steps, strict=True)]
    inputs: list[Array | None] = [whole(rng, *shape), np.array(starts, kind), np.array(ends, kind)]
    if draw(maybe) or steps is not None:
        inputs += [np.array([a - rank * draw(maybe) for a in axes], kind)]
    if steps is not None:
        inputs += [np.array(steps, kind)]
    if steps is not None and axes == list(range(len(axes))) and draw(maybe):
        inputs[3] = None
    places = [i for i in range(1, len(inputs)) if inputs[i] is not None]
    return Case("Slice", inputs, fixed=fixed(draw, *places))


@st.composite
def gathers(draw: Draw) -> Case:
    shape, rng = draw(shapes(1)), draw(generators)
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    size = shape[axis]
    indices = rng.integers(-size, size, draw(shapes(0, 3, 3))).astype(draw(INDEX))
    return Case("Gather", [whole(rng, *shape), np.asarray(indices)], {"axis": axis}, fixed=fixed(draw, 1))


@st.composite
def gathers_of_elements(draw: Draw) -> Case:
    shape, rng = draw(shapes(1)), draw(generators)
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    size = shape[axis]
    lead = [draw(st.integers(1, n)) for n in shape]
    lead[axis] = draw(st.integers(1, 5))
    indices = rng.integers(-size, size, lead).astype(draw(INDEX))
    return Case("GatherElements", [whole(rng, *shape), indices], {"axis": axis}, fixed=fixed(draw, 1))


@st.composite
def gathers_of_slices(draw: Draw) -> Case:
    shape, rng = draw(shapes(1)), draw(generators)
    batch = draw(st.integers(0, len(shape) - 1))
    depth = draw(st.integers(1, len(shape) - batch))
    sizes = np.array(shape[batch : batch + depth])
    lead = [*shape[:batch], *draw(shapes(0, 2, 3))]
    indices = rng.integers(-sizes, sizes, (*lead, depth))
    return Case("GatherND", [whole(rng, *shape), indices], {"batch_dims": batch}, fixed=fixed(draw, 1))


@st.composite
def scatters(draw: Draw) -> Case:
    """Places that differ if nothing is reduced; else they may repeat, and numbers are far apart or near 1."""
    shape, rng = draw(shapes(1)), draw(generators)
    reduction = draw(st.sampled_from(["none", "add", "mul", "max", "min"]))
    elements = draw(maybe)
    attributes: dict[str, Any] = {} if reduction == "none" else {"reduction": reduction}
    axis: int | None = None
    if elements:
        axis = attributes["axis"] = draw(st.integers(-len(shape), len(shape) - 1))
        lead = [draw(st.integers(1, n)) for n in shape]
        if reduction == "none":
            orders = np.argsort(rng.random([*shape[:axis], *shape[axis:][1:], shape[axis]]))
            orders = np.moveaxis(orders, -1, axis)
            indices = orders[tuple(map(slice, lead))]
        else:
            lead[axis] = draw(st.integers(1, 5))
            indices = rng.integers(0, shape[axis], lead)
        indices, written = signed(draw, indices, shape[axis]), lead
    else:
        depth = draw(st.integers(1, len(shape)))
        sizes = np.array(shape[:depth])
        count = int(np.prod(sizes))
        lead = draw(shapes(0, 2, 3))
        number = int(np.prod(lead))
        if reduction == "none" and number > count:
            lead = [number := 1]
        flat = rng.permutation(count)[:number] if reduction == "none" else rng.integers(0, count, number)
        indices = np.stack(np.unravel_index(flat, sizes), -1).reshape(*lead, depth)
        indices = signed(draw, indices, sizes).astype(np.int64)
        written = [*lead, *shape[depth:]]
    if reduction == "mul":
        x, u = (rng.normal(size=s) for s in (shape, written))
    elif reduction in ("max", "min"):
        x, u = spaced(rng, shape, written)
    else:
        x, u = whole(rng, *shape), whole(rng, *written)
    forward = scattered("mul", axis) if reduction == "mul" else None
    op = "ScatterElements" if elements else "ScatterND"
    return Case(op, [x, indices, u], attributes, fixed=fixed(draw, 1), forward=forward)


@EXAMPLES
@given(slices(), maybe)
def test_slice(case: Case, symbolic: bool) -> None:
    adjoint(case, symbolic)


@EXAMPLES
@given(gathers(), maybe)
def test_gather(case: Case, symbolic: bool) -> None:
    adjoint(case, symbolic)


@EXAMPLES
@given(gathers_of_elements(), maybe)
def test_gather_elements(case: Case, symbolic: bool) -> None:
    adjoint(case, symbolic)


@EXAMPLES
@given(gathers_of_slices(), maybe)
def test_gather_nd(case: Case, symbolic: bool) -> None:
    adjoint(case, symbolic)


@EXAMPLES
@given(scatters(), maybe)
def test_scatter(case: Case, symbolic: bool) -> None:
    (quotient if case.forward else adjoint)(case, symbolic)
