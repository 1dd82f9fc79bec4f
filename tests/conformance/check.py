"""One case: its vjp on onnxruntime against central differences in float64.

    gradient of <c, f(x)>    against    (<c, f(x + h e)> - <c, f(x - h e)>) / 2h

for a random cotangent c of every float output, with respect to every float input: along every axis e of an input with
up to 64 numbers, along random directions of a larger one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from onnx import TensorProto

from onnx_inspect import Model, vjp
from onnx_inspect.autodiff.table import Rules

from .cases import FLOATS, Case, Value, element, leaves, mapped
from .differences import Array, distance, everywhere, slopes, usable, wide
from .forward import Forward, doubled, oracles, retyped, session
from .nudge import STRUCTURAL, nudged, places

TOLERANCE, HALF_TOLERANCE = 1e-3, 2e-2


class NoForward(Exception):
    """onnxruntime does not run the case itself."""


@dataclass
class Outcome:
    """What came of a case.

    errors: relative l2 error per float input. zeros, scaled: the worst of them, were the gradients zero, or larger by
    ten times the tolerance. oracle: what computed the differences. double: the vjp ran in float64, since in float32
    rounding hides so small a gradient.
    """

    case: Case
    errors: dict[str, float] = field(default_factory=dict)
    zeros: float = 0.0
    scaled: float = 0.0
    oracle: str = "nothing"
    double: bool = False

    @property
    def worst(self) -> float:
        return max(self.errors.values(), default=0.0)

    @property
    def passed(self) -> bool:
        return self.worst <= tolerance(self.case)

    @property
    def telling(self) -> bool:
        """Whether gradients of zeros, and such as are a little too large, would not have passed."""
        return min(self.zeros, self.scaled) > tolerance(self.case)

    def __str__(self) -> str:
        numbers = ", ".join(f"{n}: {e:.2g}" for n, e in self.errors.items())
        return f"{self.case.name}: relative errors {numbers or '-'} (against {self.oracle})"


def tolerance(case: Case) -> float:
    return HALF_TOLERANCE if case.half else TOLERANCE


def check(case: Case, rules: Rules | None = None) -> Outcome:
    """Differentiate a case, with other rules than our own if there are any, and compare.

    Raises:
        NoForward: onnxruntime does not run it.
        InspectError: it is not differentiated.
        AssertionError: loading it changes its numbers.
    """
    model, forward = loaded(case)
    feeds, ys = nudged(case, forward)
    rng = np.random.default_rng(crc32(case.name.encode()))
    cotangents = {o: mapped(lambda y: _cotangent(y, rng), ys[o]) for o in case.outputs}
    wrt = [x for x in case.wrt if x not in places(case, STRUCTURAL)]
    gradients = _gradients(model, case, wrt, feeds, cotangents, rules)
    at, seeds = wide(feeds), wide(cotangents)
    floor = 1e-6 * sum(_product(c, y) for o in case.outputs for c, y in _pairs(seeds[o], ys[o]))
    outcomes = []
    for name, f, step in _agreeing(case, model, feeds, ys):
        expected = {x: slopes(f, at, x, seeds, step, floor) for x in wrt}
        for double in (False, True):
            if double and not np.isfinite(outcomes[-1].worst):
                break  # rounding does not explain that
            found = _in_double(case, wrt, at, seeds, rules) if double else gradients
            if found is None:
                break
            errors, zeros, scaled = (
                {x: expected[x].error(found[x], by) for x in wrt} for by in (1, 0, 1 + 10 * tolerance(case))
            )
            worst_zeros, worst_scaled = (max(e.values(), default=0.0) for e in (zeros, scaled))
            outcomes.append(Outcome(case, errors, worst_zeros, worst_scaled, name, double))
            if outcomes[-1].passed:
                return outcomes[-1]
    assert outcomes, f"{case.name}: nothing computes it as onnxruntime does"
    return min(outcomes, key=lambda o: o.worst)


def loaded(case: Case) -> tuple[Model, Forward]:
    """The model and its forward pass, which gives what the case expects, or what onnxruntime gives without us.

    Raises:
        NoForward: onnxruntime does not run it, neither as it is nor as it was loaded.
        AssertionError: it does, but not after loading, or not to the same numbers.
    """
    try:
        model = Model.load(case.model)
        forward = session(model.to_bytes(), case.feeds)
        found = forward(case.feeds)
    except Exception as error:
        if _plain(case) is None:
            raise NoForward(f"{case.name}: {str(error).splitlines()[0]}") from error
        raise AssertionError(f"{case.name}: onnxruntime runs it, but not as it was loaded: {error}") from error
    rtol, atol = max(case.rtol, 2**-6 if case.half else 0), max(case.atol, 1e-5)

    def close(a: Any, b: Any) -> Any:
        if np.asarray(b).dtype.kind not in "fV":
            return np.asarray(a) == np.asarray(b)
        return np.isclose(np.asarray(a, np.float64), np.asarray(b, np.float64), rtol, atol, equal_nan=True)

    if not all(everywhere(close, found[o], y) for o, y in case.expected.items()):
        plain = _plain(case)
        assert plain is not None, f"{case.name}: as it was loaded it does not give what is expected"
        assert all(everywhere(close, found[o], y) for o, y in plain.items()), (
            f"{case.name}: loading changed the numbers"
        )
    return model, forward


def read(name: str) -> dict[str, str]:
    """A committed list, `name: reason` per line."""
    lines = (Path(__file__).parent / name).read_text(encoding="utf-8").splitlines()
    return dict(line.rsplit(": ", 1) for line in lines if line and not line.startswith("#"))


def _plain(case: Case) -> dict[str, Value] | None:
    """What onnxruntime makes of the case without us, None if it does not run it."""
    with suppress(Exception):
        return session(case.model, case.feeds)(case.feeds)
    return None


def _cotangent(y: Any, rng: np.random.Generator) -> Array:
    y = np.asarray(y)
    return np.where(usable(y), rng.normal(size=y.shape), 0).astype(y.dtype)


def _product(c: Array, y: Any) -> float:
    return float(np.abs(c * np.where(c == 0, 0, y)).sum())


def _pairs(a: Value, b: Value) -> Iterator[tuple[Any, Any]]:
    return zip(leaves(a), leaves(b), strict=True)


def _gradients(
    model: Model, case: Case, wrt: list[str], feeds: dict[str, Value], cotangents: dict[str, Value], rules: Rules | None
) -> dict[str, Value]:
    adjoint = vjp(model, wrt, case.outputs, rules=rules).to_proto()
    types = {v.name: FLOATS.get(element(v.type)) for v in adjoint.graph.input}  # of halves, cotangents may be wider
    given = {f"cotangent.{o}": c for o, c in cotangents.items()}
    feeds = feeds | {n: mapped(lambda v, n=n: v.astype(types[n] or v.dtype), c) for n, c in given.items()}
    found = session(adjoint, feeds)(feeds)
    for x in wrt:
        shapes, wanted = ([np.shape(v) for v in leaves(w)] for w in (found[f"gradient.{x}"], feeds[x]))
        assert shapes == wanted, f"{case.name}: the gradient of {x} has the shapes {shapes}"
    return {x: found[f"gradient.{x}"] for x in wrt}


def _in_double(
    case: Case, wrt: list[str], feeds: dict[str, Value], cotangents: dict[str, Value], rules: Rules | None
) -> dict[str, Value] | None:
    """The gradients in float64, None without kernels for it."""
    with suppress(Exception):
        return _gradients(Model.load(doubled(case.model)), case, wrt, feeds, cotangents, rules)
    return None


def _agreeing(
    case: Case, model: Model, feeds: dict[str, Value], ys: dict[str, Value]
) -> Iterator[tuple[str, Forward, float | None]]:
    """What computes the outputs as the forward pass does, best first; and the step to take, if not the usual one.

    Where no float64 is right, it is onnxruntime in float32: a step of 1e-2 is exact for what is linear.
    """

    def agrees(a: Any, b: Any) -> bool:
        at, a, b = usable(b), np.asarray(a, np.float64), np.asarray(b).astype(np.float64)
        return distance(a[at], b[at], 1e-3) <= (3e-2 if case.half else 1e-3)

    files = [("the original", case.model), *((c.name, c.model) for c in case.expansions)]
    none = True
    for name, f in chain(oracles(files, feeds), oracles([("the loaded", model.to_proto())], feeds)):
        try:
            found = f(wide(feeds))
        except Exception:  # no such kernel
            continue
        exact = all(np.asarray(y).dtype == np.float64 for o in case.outputs for y in leaves(found[o]))
        if exact and all(everywhere(agrees, found[o], ys[o]) for o in case.outputs):
            none = False
            yield name, f, None
    if none:
        single = session(retyped(model.to_proto(), TensorProto.FLOAT), feeds)
        yield "onnxruntime in float32", lambda feeds: single(wide(feeds, np.float32)), 1e-2
