"""Central differences of <c, f(x)> in float64, and comparing a gradient with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from .cases import Value, leaves, mapped
from .forward import Forward

Array = np.ndarray[Any, Any]
AXES = 64  # up to so many numbers each has its own difference
MASKED = 1e30  # what is larger hides something, and is not computed with


@dataclass
class Slopes:
    """The slope of <c, f> along directions, one per row. floor: what is too small to tell from nothing."""

    directions: Array
    values: Array
    floor: float

    def error(self, gradient: Value, scale: float = 1.0) -> float:
        """Relative l2 error of a gradient, multiplied by `scale` first."""
        return distance(scale * (self.directions @ flat(gradient)), self.values, self.floor)


def slopes(
    f: Forward, feeds: dict[str, Value], x: str, cotangents: dict[str, Value], step: float | None, floor: float
) -> Slopes:
    """Differences with respect to the input x: along its axes, or along random directions of a large one."""
    numbers = flat(feeds[x])
    n, usual = numbers.size, numbers[np.abs(numbers) < 1e6]
    # A direction moves every number, so that some kink is nearer.
    step = step or (1e-5 if n <= AXES else 1e-7)
    step *= max(1.0, float(np.sqrt(np.mean(usual**2))) if usual.size else 1.0)
    directions = np.eye(n) if n <= AXES else np.random.default_rng(n).normal(size=(6 if n < 10_000 else 1, n))

    def products(by: Array) -> Iterator[Array]:
        found = f(feeds | {x: _moved(feeds[x], by)})
        for o, whole in cotangents.items():
            for c, y in zip(leaves(whole), leaves(found[o]), strict=True):
                yield c * np.where(c == 0, 0, y)

    def slope(by: Array) -> float:
        pairs = zip(products(step * by), products(-step * by), strict=True)
        return sum(float(np.sum(plus.astype(np.float64) - minus)) for plus, minus in pairs) / (2 * step)

    with np.errstate(all="ignore"):
        return Slopes(directions, np.array([slope(u) for u in directions]), floor)


def _moved(value: Value, by: Array) -> Value:
    rest = iter(np.split(by, np.cumsum([v.size for v in leaves(value)])))
    return mapped(lambda v: (v + next(rest).reshape(v.shape)).astype(v.dtype), value)


def distance(actual: Array, expected: Array, floor: float = 0.0) -> float:
    """|actual - expected| / |expected|; infinite where something is not a number."""
    with np.errstate(all="ignore"):
        found = float(np.linalg.norm(actual - expected)) / max(float(np.linalg.norm(expected)), floor, 1e-30)
    return found if np.isfinite(found) else float("inf")


def flat(value: Value) -> Array:
    """All numbers of a value, in float64."""
    return np.concatenate([np.zeros(0), *(np.ravel(v).astype(np.float64) for v in leaves(value))])


def wide(values: dict[str, Value], kind: Any = np.float64) -> dict[str, Value]:
    """The values with one type for every float."""
    return {n: mapped(lambda v: v.astype(kind) if floating(v) else v, value) for n, value in values.items()}


def floating(x: Any) -> bool:
    return isinstance(x, np.ndarray) and (x.dtype.kind == "f" or x.dtype.name == "bfloat16")


def usable(y: Any) -> Array:
    """Where an output is a number, and not one that hides something."""
    with np.errstate(all="ignore"):
        return np.abs(np.asarray(y).astype(np.float64)) < MASKED


def everywhere(test: Callable[[Array, Array], Any], a: Value, b: Value) -> bool:
    """Whether two values are built alike and a test holds for each pair of their arrays."""
    x, y = leaves(a), leaves(b)
    return len(x) == len(y) and all(
        np.shape(v) == np.shape(w) and bool(np.all(test(v, w))) for v, w in zip(x, y, strict=True)
    )
