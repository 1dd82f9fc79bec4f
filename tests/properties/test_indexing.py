"""Slice, Gather and Scatter operators at random places."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ..rules.harness import Array, Case
from ..rules.scatter import scattered
from .oracle import EXAMPLES, Draw, adjoint, generators, ints, maybe, mostly, quotient, shapes, some, spaced, whole

INDEX = st.sampled_from([np.int32, np.int64])
STEP = st.sampled_from([-3, -2, -1, 1, 2, 3])
FAR = 2**31 - 1


def fixed(draw: Draw, *places: int) -> list[int]:
    """Integer inputs are constants, or come at run time."""
    return list(places) if draw(maybe) else []


def signed(draw: Draw, indices: Array, size: Any) -> Array:
    """Some of the indices counted from the end."""
    back = np.array(draw(ints(0, 1, indices.size))).reshape(indices.shape)
    return np.asarray(np.where(back, indices - size, indices), dtype=draw(INDEX))


@st.composite
def bounds(draw: Draw, size: int, step: int) -> tuple[int, int]:
    """Start and end of a part that is mostly not empty: counted from either side, or out of range where it ends there."""
    if not draw(mostly):
        return draw(st.integers(-size - 2, size + 2)), draw(st.integers(-size - 2, size + 2))
    low = draw(st.integers(0, size - 1))
    high = draw(st.integers(low, size - 1))
    first, last = (low, high) if step > 0 else (high, low)
    starts, ends = [first, first - size], []
    if step > 0:
        starts += [-size - 1, -99] if first == 0 else []
        ends = [last + 1, last + 1 - size] if last < size - 1 else [size, 99, FAR]
    else:  # onnxruntime takes the largest integer for the far end at this side, too
        starts += [size, 99, FAR] if first == size - 1 else []
        ends = [last - 1, last - 1 - size] if last > 0 else [-size - 1, -99, -FAR]
    return draw(st.sampled_from(starts)), draw(st.sampled_from(ends))


@st.composite
def slices(draw: Draw) -> Case:
    shape, rng, kind = draw(shapes(1, 4, 6)), draw(generators), draw(INDEX)
    rank = len(shape)
    axes = some(draw, rank, 1)
    steps = [draw(STEP) for _ in axes] if draw(maybe) else [1] * len(axes)
    parts = [draw(bounds(shape[a], s)) for a, s in zip(axes, steps, strict=True)]
    signs = [a - rank * draw(maybe) for a in axes]
    given: list[list[int] | None] = [[b for b, _ in parts], [e for _, e in parts], signs, steps]
    if axes == list(range(len(axes))) and draw(maybe):
        given[2] = None
    if set(steps) == {1} and draw(maybe):
        given = given[: 3 if given[2] else 2]
    inputs = [whole(rng, *shape), *(None if v is None else np.array(v, kind) for v in given)]
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
