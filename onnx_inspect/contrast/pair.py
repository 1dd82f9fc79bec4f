"""`Pair`: a node in both of two forward passes, and what the line between them gives for any operator."""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from ..autodiff.subgraph import is_tensor
from ..autodiff.table import Cotangents, Rule, as_list
from ..autodiff.walk import view
from ..dtypes import is_float
from ..emit import Op
from ..structure import key
from .twin import Twins, repeated

EQUAL = 1e-10  # captum's: inputs nearer than that have no line between them
POINTS = 5


@dataclass
class Pair:
    """A node in both passes, as its rule is shown it.

    Attributes:
        op: the emitter.
        node: the node, `other` its twin: their inputs that do not differ are the same values.
        plain: its rule for gradients.
        moving: the numbers of the inputs that differ.
        twins: all that differs, and its twin.
        approximate: the operators whose line was not known so far.
    """

    op: Op
    node: ir.Node
    other: ir.Node
    plain: Rule
    moving: list[int]
    twins: Twins
    approximate: dict[str, None]

    def gradient(self, *dys: ir.Value | None) -> list[ir.Value | None]:
        """The cotangents of the inputs by the rule for gradients, at X."""
        return self.by_rule(self.node, *dys)

    def halfway(self, *dys: ir.Value | None) -> list[ir.Value | None]:
        """The same at (X + X') / 2."""
        return self.by_rule(self.at(0.5), *dys)

    def by_rule(self, node: ir.Node, *dys: ir.Value | None) -> list[ir.Value | None]:
        """The same at another place."""
        found = self.plain(self.op, node, *dys)
        if isinstance(found, Mapping):
            return [x and found.get(x) for x in node.inputs]
        return [*as_list(found), *[None] * len(node.inputs)][: len(node.inputs)]

    def at(self, share: float) -> ir.Node:
        """The node at a place on the line from X' to X, a share of the way."""
        xs, op = list(self.node.inputs), self.op
        for i in self.moving:
            x, other = self.inputs(i)
            if is_float(x) and is_tensor(x):
                xs[i] = between = x * share + other * (1 - share)
                between.type, between.shape = x.type, x.shape
        wanted = [place for x, place in zip(self.node.inputs, xs, strict=True) if op.wants(x) and place is not None]
        return view(op, self.node, xs, repeated(op, self.node, xs), wanted)

    def inputs(self, i: int) -> tuple[Any, Any]:
        """An input in both passes."""
        return self.node.inputs[i], self.other.inputs[i]

    @property
    def outputs(self) -> tuple[Any, Any]:
        """The first output in both passes."""
        return self.node.outputs[0], self.other.outputs[0]

    def only(self, i: int, dx: ir.Value | None) -> Cotangents:
        """The cotangent of one input."""
        return [dx if k == i else None for k in range(len(self.node.inputs))]

    def sum_to(self, dx: ir.Value, i: int) -> ir.Value:
        """A cotangent of the output's shape for an input that was broadcast."""
        return self.op.sum_to(dx, self.node.inputs[i], of=self.node.outputs[0])  # type: ignore[arg-type]


def halfway(pair: Pair, *dys: ir.Value | None) -> Cotangents:
    """m = the gradient at (X + X') / 2: that of the line itself for squares and products of two."""
    return pair.halfway(*dys)


def along(pair: Pair, *dys: ir.Value | None) -> Cotangents:
    """m = the mean of the gradient between X' and X, by Gauss and Legendre's points."""
    pair.approximate[key(pair.node)] = None
    total: list[ir.Value | None] = [None] * len(pair.node.inputs)
    for place, weight in zip(*np.polynomial.legendre.leggauss(POINTS), strict=True):
        found = pair.by_rule(pair.at(float(place + 1) / 2), *dys)
        for i, dx in enumerate(found):
            share = dx and dx * float(weight / 2)
            total[i] = share if total[i] is None else total[i] + share  # type: ignore[operator]
    return total


def rescale(pair: Pair, dy: ir.Value, *, near: float = EQUAL, relative: bool = False) -> Cotangents:
    """m = (Y - Y') / (X - X'), elementwise; the gradient where X and X' are near each other."""
    if len(pair.moving) != 1:
        return along(pair, dy)
    op, (i,), (y, other) = pair.op, pair.moving, pair.outputs
    x, reference = pair.inputs(i)
    step, limit = x - reference, op.const(near, x.dtype)
    if relative:
        limit = op.Max(op.Min(op.Abs(x), op.Abs(reference)) * near, EQUAL)
    apart = op.Greater(op.Abs(step), limit)  # false for the difference of infinities
    m = (y - other) / op.Where(apart, step, 1)
    gradient = pair.gradient(dy) if near == EQUAL else pair.halfway(dy)
    return pair.only(i, op.Where(apart, pair.sum_to(dy * m, i), gradient[i]))
