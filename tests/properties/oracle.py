"""Gradient rules on random shapes and attributes, against two oracles.

`adjoint` is for what is linear in each of its inputs, or piecewise so:

    <vjp(c), u>  =  <c, f(x + u) - f(x)>

with f in float32 on onnxruntime. The numbers are whole and small, so nothing is rounded and the two sides are equal;
operators that divide get a tolerance. `quotient` is for the rest: the harness's central differences in float64. What
onnxruntime itself refuses to run is no example, and Hypothesis complains where that is the rule.

PROPERTIES=long draws at random, and PROPERTIES_EXAMPLES (3000) of each property.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from hypothesis import event, reject, settings
from hypothesis import strategies as st
from onnx import TensorProto

from onnx_inspect.autodiff.gradient import vjp
from onnx_inspect.model import Model

from ..rules.harness import Array, Case, build, check, differentiable, load, names, typed

SHORT = settings(derandomize=True, database=None, deadline=None, max_examples=100)
LONG = settings(database=None, deadline=None, max_examples=int(os.environ.get("PROPERTIES_EXAMPLES", "3000")))
EXAMPLES = LONG if os.environ.get("PROPERTIES") == "long" else SHORT

Shape = Sequence[int]
Draw = Any
generators = st.integers(0, 999).map(np.random.default_rng)
maybe = st.booleans()
mostly = st.sampled_from([True, True, True, False])


def ints(low: int, high: int, count: int) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(low, high), min_size=count, max_size=count)


def shapes(low: int = 0, high: int = 4, size: int = 4) -> st.SearchStrategy[list[int]]:
    """From `low` to `high` axes of 1 to `size` elements; any rank as likely as another, which plain lists are not."""
    return st.integers(low, high).flatmap(lambda rank: ints(1, size, rank))


def some(draw: Draw, rank: int, least: int = 0) -> list[int]:
    """Some axes in any order, counted from the start."""
    return list(draw(st.permutations(range(rank))))[: draw(st.integers(least, rank))]


def whole(rng: np.random.Generator, *shape: int, top: int = 8) -> Array:
    """Whole numbers between -top and top, but 0."""
    return np.asarray(rng.integers(1, top + 1, shape) * rng.choice([-1.0, 1.0], shape))


def spaced(rng: np.random.Generator, *shapes: Shape) -> list[Array]:
    """Whole numbers so far apart, also from 0, that steps of 1 exchange no two of them."""
    sizes = [int(np.prod(s)) for s in shapes]
    numbers = rng.permutation(4.0 * (np.arange(sum(sizes)) - sum(sizes) // 2) + 2)
    parts = np.split(numbers, np.cumsum(sizes)[:-1])
    return [p.reshape(s) for p, s in zip(parts, shapes, strict=True)]


def session(data: bytes) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def adjoint(case: Case, symbolic: bool, rtol: float = 0.0) -> None:
    """Assert the adjoint identity for each input of a node."""
    pairs = enumerate(zip(names(case), case.inputs, strict=True))
    feeds = {n: typed(x, TensorProto.FLOAT) for i, (n, x) in pairs if x is not None and i not in case.fixed}
    proto = build(case, TensorProto.FLOAT, symbolic=False)
    f, before = _forward(proto, feeds)
    model = load(case, TensorProto.FLOAT, symbolic and case.dynamic, before)
    _hold(str(case), f, before, model, [f"x{i}" for i in differentiable(case)], feeds, rtol)


def adjoint_of(proto: onnx.ModelProto, feeds: dict[str, Array]) -> None:
    """Assert the adjoint identity for each input of a model."""
    f, before = _forward(proto, feeds)
    label = onnx.printer.to_text(proto.graph)
    _hold(label, f, before, Model.load(proto), list(feeds), feeds, 0.0)


def _forward(proto: onnx.ModelProto, feeds: dict[str, Array]) -> tuple[ort.InferenceSession, list[Array]]:
    try:
        f = session(proto.SerializeToString())
        return f, f.run(None, feeds)
    except Exception as error:
        event(f"onnxruntime refuses: {str(error)[-90:]}")  # for --hypothesis-show-statistics
        reject()


def _hold(
    label: str,
    f: ort.InferenceSession,
    before: list[Array],
    model: Model,
    wrt: list[str],
    feeds: dict[str, Array],
    rtol: float,
) -> None:
    ys = {o.name: y for o, y in zip(f.get_outputs(), before, strict=True) if y.dtype == np.float32}
    data = vjp(model, wrt, ys).to_bytes()
    onnx.checker.check_model(data, full_check=True)
    back = session(data)
    kept, gradients = {i.name for i in back.get_inputs()}, [o.name for o in back.get_outputs()]
    rng = np.random.default_rng(0)
    for _ in range(2):
        cs = {y: typed(whole(rng, *v.shape, top=64), TensorProto.FLOAT) for y, v in ys.items()}
        given = feeds | {f"cotangent.{y}": c for y, c in cs.items()}
        got = dict(zip(gradients, back.run(gradients, {k: v for k, v in given.items() if k in kept}), strict=True))
        for x in wrt:
            dx = got[f"gradient.{x}"].astype(np.float64)
            assert dx.shape == feeds[x].shape, f"{label}: the cotangent of {x} has shape {dx.shape}"
            u = rng.choice([-1.0, 1.0], dx.shape)
            after = f.run(list(ys), feeds | {x: typed(feeds[x] + u, TensorProto.FLOAT)})
            terms = [(cs[y].astype(np.float64), v, w) for (y, v), w in zip(ys.items(), after, strict=True)]
            expected = sum(float(np.sum(c * (w.astype(np.float64) - v))) for c, v, w in terms)
            scale = sum(float(np.linalg.norm(c)) for c, _, _ in terms) * float(np.linalg.norm(feeds[x]))
            actual = float(np.sum(dx * u))
            assert abs(actual - expected) <= rtol * scale, f"{label}: {x}: {actual} instead of {expected}"


def quotient(case: Case, symbolic: bool) -> None:
    """Assert that the vjp agrees with central differences, for a node that onnxruntime runs."""
    pairs = enumerate(zip(names(case), case.inputs, strict=True))
    feeds = {n: typed(x, TensorProto.FLOAT) for i, (n, x) in pairs if x is not None and i not in case.fixed}
    _forward(build(case, TensorProto.FLOAT, symbolic=False), feeds)
    check(case, symbolic and case.dynamic, trials=1)
