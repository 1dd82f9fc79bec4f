"""Inputs at which a case has a gradient."""

from __future__ import annotations

from typing import Any
from zlib import crc32

import numpy as np

from .cases import Case, Value, leaves, mapped
from .differences import Array, everywhere, floating, usable
from .forward import Forward

# Inputs that say how large a result is, or how often something happens: they are not differentiated.
STRUCTURAL = {("Dropout", 1), ("Resize", 1), ("Resize", 2), ("Upsample", 1)}
# Inputs that are rounded to integers, or make one with others: where between two they go.
ROUNDED = {("OneHot", 0): 0.25, ("OneHot", 1): 0.25, ("Range", 1): -0.25}


def nudged(case: Case, forward: Forward) -> tuple[dict[str, Value], dict[str, Value]]:
    """Inputs off kinks and ties but inside the domain, and what comes of them.

    Noise is added; or multiplied, where adding it leads out of the domain or to other sizes; other sizes have to do
    where they come from ties.
    """
    feeds = {n: mapped(_written, v) for n, v in case.feeds.items()}
    base = forward(feeds)
    inside = {n: mapped(_inside, v) if n in case.wrt else v for n, v in feeds.items()}
    if not all(usable(y).all() for o in case.outputs for y in leaves(base[o])):
        found = forward(inside)
        if _usable(case, found) > _usable(case, base):
            feeds, base = inside, found
    size = 5e-2 if case.half else 1e-2
    fixed, rounded = places(case, STRUCTURAL), places(case, ROUNDED)
    for add, multiply, sizes in ((size, size, True), (0, size, True), (0, size / 10, True), (size, size, False)):
        rng = np.random.default_rng(crc32(case.name.encode()))

        def noisy(x: Array, add: float = add, multiply: float = multiply, rng: np.random.Generator = rng) -> Array:
            factor, summand = 1 + multiply * rng.uniform(-1, 1, x.shape), add * rng.uniform(-1, 1, x.shape)
            return np.where(usable(x), x.astype(np.float64) * factor + summand, x).astype(x.dtype)

        moved = dict(feeds)
        for x in case.wrt:
            if x in rounded:
                moved[x] = mapped(lambda v, by=ROUNDED[rounded[x]]: (v + by).astype(v.dtype), feeds[x])
            elif x not in fixed:
                moved[x] = mapped(noisy, feeds[x])
        try:
            found = forward(moved)
        except Exception:
            continue
        alike = all(everywhere(lambda v, w: usable(w) >= usable(v), base[o], found[o]) for o in case.outputs)
        if alike or (not sizes and _usable(case, found) >= _usable(case, base)):
            return moved, found
    return feeds, base


def _written(x: Any) -> Any:
    """Some float64 inputs of onnx are memory that nobody wrote to."""
    if floating(x) and x.dtype == np.float64 and (usable(x) < np.isfinite(x)).any():
        return np.random.default_rng(x.size).normal(size=x.shape)
    return x


def _inside(x: Array) -> Array:
    """Positive; where there are NaNs, finite too. Infinities alone are masks."""
    given = (x != 0) & (np.isfinite(x) | ~np.isnan(x).any())
    return np.abs(np.where(given, x, 1)).astype(x.dtype)


def places(case: Case, table: Any) -> dict[str, tuple[str, int]]:
    """The inputs of a case that go where the table says, by name."""
    nodes = case.whole.model.graph.node
    return {x: (n.op_type, i) for n in nodes for i, x in enumerate(n.input) if (n.op_type, i) in table}


def _usable(case: Case, found: dict[str, Value]) -> int:
    return sum(int(usable(y).sum()) for o in case.outputs for y in leaves(found[o]))
