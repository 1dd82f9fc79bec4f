"""Reductions, norms and softmax over random axes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ..rules.harness import Array, Case
from ..rules.norm import group_norm, layer_norm, lrn, rms_norm
from ..rules.reduce import OPS
from .oracle import EXAMPLES, Draw, generators, maybe, quotient, shapes, some, spaced


def values(draw: Draw, *shapes: list[int]) -> list[Array]:
    """Numbers between -2 and 2, far apart."""
    xs = spaced(draw(generators), *shapes)
    return [x / max(1.0, np.abs(np.concatenate([np.ravel(x) for x in xs])).max() / 2) for x in xs]


@st.composite
def reductions(draw: Draw, op: str) -> Case:
    shape = draw(shapes())
    (x,) = values(draw, shape)
    x = np.exp(x) if op == "ReduceLogSum" else x
    inputs, attributes = [x], {name: draw(st.integers(0, 1)) for name in ("keepdims", "noop_with_empty_axes")}
    axes = draw(st.sampled_from(["none", "constant", "constant", "runtime"]))
    if axes != "none":
        inputs.append(np.array([a - len(shape) * draw(maybe) for a in some(draw, len(shape))], np.int64))
    return Case(op, inputs, attributes, fixed=[1] if axes == "constant" else [])


@st.composite
def softmaxes(draw: Draw) -> Case:
    shape = draw(shapes(1, 4, 5))
    op = draw(st.sampled_from(["Softmax", "LogSoftmax", "LpNormalization"]))
    attributes: dict[str, Any] = {}
    if draw(maybe):
        attributes["axis"] = draw(st.integers(-len(shape), len(shape) - 1))
    if op == "LpNormalization":
        attributes["p"] = draw(st.integers(1, 2))
    return Case(op, values(draw, shape), attributes)


@st.composite
def layer_norms(draw: Draw) -> Case:
    """Scale and bias broadcast; LayerNormalization may give mean and 1/σ, too."""
    shape = [*draw(shapes(0, 3)), draw(st.integers(2, 4))]
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    rms = draw(maybe)
    own = shape[axis:] if axis < 0 else shape[axis - len(shape) :]
    inputs = values(draw, shape, own, own)[: 2 if rms else 2 + draw(maybe)]
    attributes = {"axis": axis, "epsilon": 1e-2}
    if rms:
        return Case(
            "RMSNormalization",
            inputs,
            attributes,
            opset=23,
            forward=lambda x, s: rms_norm(x, s, axis=axis, epsilon=1e-2),
        )
    outputs = draw(st.integers(1, 3))
    return Case(
        "LayerNormalization",
        inputs,
        attributes,
        outputs=outputs,
        forward=lambda *xs: layer_norm(*xs, axis=axis, epsilon=1e-2)[:outputs],
    )


@st.composite
def channel_norms(draw: Draw) -> Case:
    op = draw(st.sampled_from(["BatchNormalization", "InstanceNormalization", "GroupNormalization", "LRN"]))
    groups, each = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    channels = groups * each
    rest = [draw(st.integers(2, 4)), *draw(shapes(0, 2) if op != "LRN" else shapes(1, 1))]
    x, *others = values(draw, [draw(st.integers(1, 3)), channels, *rest], *[[channels]] * 4)
    if op == "BatchNormalization":
        return Case(op, [x, *others[:3], np.exp(others[3])], {"epsilon": 1e-2})
    if op == "LRN":
        how = {
            "size": draw(st.sampled_from([1, 3, 5])),
            "alpha": 0.3,
            "beta": draw(st.sampled_from([0.6, 1.5])),
            "bias": 1.5,
        }
        return Case(op, [x], how, forward=lambda x: lrn(x, **how))
    count = groups if op == "GroupNormalization" else channels
    more = {"num_groups": groups} if op == "GroupNormalization" else {}
    return Case(
        op,
        [x, *others[:2]],
        {"epsilon": 1e-2, **more},
        forward=lambda *xs: group_norm(*xs, groups=count, epsilon=1e-2),
    )


@pytest.mark.parametrize("op", OPS)
@EXAMPLES
@given(st.data(), maybe)
def test_reduction(op: str, data: st.DataObject, symbolic: bool) -> None:
    quotient(data.draw(reductions(op)), symbolic)


@EXAMPLES
@given(softmaxes(), maybe)
def test_softmax(case: Case, symbolic: bool) -> None:
    quotient(case, symbolic)


@EXAMPLES
@given(layer_norms(), maybe)
def test_layer_norm(case: Case, symbolic: bool) -> None:
    quotient(case, symbolic)


@EXAMPLES
@given(channel_norms(), maybe)
def test_channel_norm(case: Case, symbolic: bool) -> None:
    quotient(case, symbolic)
