"""Broadcasting, pads, and chains of operators that only move elements."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import mutually_broadcastable_shapes
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from ..rules.harness import Array, Case
from .oracle import EXAMPLES, Draw, adjoint, adjoint_of, generators, ints, maybe, quotient, shapes, some, spaced, whole


@st.composite
def broadcast(draw: Draw) -> Case:
    """Two operands, of some operators up to three, of shapes that fit each other."""
    op = draw(st.sampled_from("Add Sub Mul Div Pow Mod PRelu Where Max Min Sum Mean".split()))
    count = draw(st.integers(1, 3)) if op in ("Max", "Min", "Sum", "Mean") else 3 if op == "Where" else 2
    fitting = mutually_broadcastable_shapes(num_shapes=count, max_dims=4, max_side=3)
    sizes, rng = list(draw(fitting).input_shapes), draw(generators)
    if op == "PRelu":  # the slope must fit X, which is not broadcast
        sizes[0] = np.broadcast_shapes(*sizes)
    xs = [x / 16 for x in spaced(rng, *sizes)]
    attributes: dict[str, Any] = {}
    if op in ("Div", "Mod"):
        xs[1] = rng.uniform(0.5, 2, sizes[1]) * rng.choice([-1.0, 1.0], sizes[1])
    if op == "Mod":
        attributes["fmod"] = 1
    if op == "Pow":
        xs[0] = rng.uniform(0.5, 2, sizes[0])
        xs[1] = rng.normal(size=sizes[1])
    if op == "Where":
        xs[0] = xs[0] > 0
    forward = (lambda *xs: sum(xs) / len(xs)) if op == "Mean" else np.fmod if op == "Mod" else None
    return Case(op, xs, attributes, step=1e-7 if op == "Mod" else 1e-5, forward=forward)


@st.composite
def pads(draw: Draw) -> Case:
    shape, rng = draw(shapes(1, 4, 5)), draw(generators)
    mode = draw(st.sampled_from(["constant", "reflect", "edge", "wrap"]))
    rank = len(shape)
    axes = some(draw, rank, 1) if draw(maybe) else list(range(rank))
    begin, end = [], []
    for a in axes:
        least = -(shape[a] - 1)
        most = {"reflect": shape[a] - 1, "wrap": shape[a]}.get(mode, 3)
        begin.append(draw(st.integers(least, most)))
        end.append(draw(st.integers(max(least, least - min(begin[-1], 0)), most)))
    inputs: list[Array | None] = [whole(rng, *shape), np.array(begin + end), None]
    if mode == "constant" and draw(maybe):
        inputs[2] = np.array(2.0)
    if axes != list(range(rank)) or draw(maybe):
        inputs += [np.array([a - rank * draw(maybe) for a in axes])]
    places = [i for i in (1, 3) if i < len(inputs)]
    return Case("Pad", inputs, {"mode": mode}, fixed=places if draw(maybe) else [])


@st.composite
def chains(draw: Draw) -> tuple[ModelProto, dict[str, Array]]:
    """A value that goes through operators one after another; earlier ones may join it again."""
    rng = draw(generators)
    start = draw(shapes(1, 3, 4))
    x = whole(rng, *start)
    chain = _Chain(draw, start)
    chain.emit("Identity", ["x"], start)
    for _ in range(draw(st.integers(1, 5))):
        draw(st.sampled_from(STEPS))(chain)
    symbolic = draw(maybe)
    sizes = [f"size_{a}" for a in range(len(start))] if symbolic else start
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, sizes)
    last, shape = chain.values[-1]
    y = helper.make_tensor_value_info(last, TensorProto.FLOAT, [None] * len(shape))
    graph = helper.make_graph(chain.nodes, "chain", [given], [y], chain.constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), {
        "x": x.astype(np.float32)
    }


class _Chain:
    """What was emitted so far: nodes, constants, and values with their shapes."""

    def __init__(self, draw: Draw, shape: list[int]) -> None:
        self.draw, self.values = draw, [("x", shape)]
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []

    def emit(self, op: str, inputs: list[str], *shapes: list[int], **attributes: Any) -> None:
        names = [f"v{len(self.values) + i}" for i in range(len(shapes))]
        self.nodes.append(helper.make_node(op, inputs, names, **attributes))
        self.values += zip(names, shapes, strict=True)

    def const(self, values: list[int]) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(values, np.int64), name))
        return name

    def axis(self) -> int:
        return int(self.draw(st.integers(0, len(self.values[-1][1]) - 1)))


def transpose(chain: _Chain) -> None:
    name, shape = chain.values[-1]
    perm = chain.draw(st.permutations(range(len(shape))))
    chain.emit("Transpose", [name], [shape[a] for a in perm], perm=perm)


def reshape(chain: _Chain) -> None:
    """Two axes become one, or an axis of 1 appears; one size is left to be found."""
    name, shape = chain.values[-1]
    at = chain.axis()
    new = [*shape[:at], int(np.prod(shape[at : at + 2])), *shape[at + 2 :]] if chain.draw(maybe) else [*shape, 1]
    given = list(new)
    if chain.draw(maybe):
        given[chain.draw(st.integers(0, len(new) - 1))] = -1
    chain.emit("Reshape", [name, chain.const(given)], new)


def expand(chain: _Chain) -> None:
    name, shape = chain.values[-1]
    new = [chain.draw(st.integers(1, 2)) if n == 1 else chain.draw(st.sampled_from([1, n])) for n in shape]
    lead = chain.draw(ints(1, 2, 1)) if len(shape) < 4 else []
    chain.emit("Expand", [name, chain.const(lead + new)], [*lead, *map(max, shape, new)])


def tile(chain: _Chain) -> None:
    name, shape = chain.values[-1]
    repeats = chain.draw(ints(1, 2, len(shape)))
    chain.emit("Tile", [name, chain.const(repeats)], [n * r for n, r in zip(shape, repeats, strict=True)])


def split(chain: _Chain) -> None:
    """Both parts stay; the second goes on."""
    name, shape = chain.values[-1]
    axis = chain.axis()
    if shape[axis] < 2:
        return
    first = chain.draw(st.integers(1, shape[axis] - 1))
    parts = [[*shape[:axis], n, *shape[axis + 1 :]] for n in (first, shape[axis] - first)]
    sizes = chain.const([first, shape[axis] - first])
    chain.emit("Split", [name, sizes], *parts, axis=axis - len(shape) * chain.draw(maybe))


def concat(chain: _Chain) -> None:
    """Everything that fits along an axis."""
    _, shape = chain.values[-1]
    axis = chain.axis()
    fits: Callable[[list[int]], bool] = lambda other: (  # noqa: E731
        len(other) == len(shape) and all(a == axis or n == m for a, (n, m) in enumerate(zip(shape, other, strict=True)))
    )
    parts = [(name, other) for name, other in chain.values if fits(other)][-3:]
    total = [*shape[:axis], sum(other[axis] for _, other in parts), *shape[axis + 1 :]]
    chain.emit("Concat", [name for name, _ in parts], total, axis=axis)


STEPS = [transpose, reshape, expand, tile, split, concat]


@EXAMPLES
@given(broadcast(), maybe)
def test_broadcast(case: Case, symbolic: bool) -> None:
    quotient(case, symbolic)


@EXAMPLES
@given(pads(), maybe)
def test_pad(case: Case, symbolic: bool) -> None:
    adjoint(case, symbolic)


@EXAMPLES
@given(chains())
def test_chain(chain: tuple[ModelProto, dict[str, Array]]) -> None:
    adjoint_of(*chain)
