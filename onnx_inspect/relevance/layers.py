"""Layers with weights: y = Σ x w + b. Each rule is a few such sums with other x, w and b, and shares R by them."""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import onnx_ir as ir

from ..autodiff.rules.grid import Grid
from ..autodiff.table import Cotangents
from ..autodiff.walk import view
from ..emit import Op, inputs
from .table import How, epsilon, gradient, relevance, stabilised, times, to
from .upstream import box, gate, is_first, nonnegative

# Where an operator has its bias; factors are its first two inputs.
_BIAS = {"Conv": 2, "ConvTranspose": 2, "DeformConv": 3, "Gemm": 2}


class Part(NamedTuple):
    """A layer with another input, other weights and another bias, and the sign that it counts with."""

    x: ir.Value
    w: ir.Value
    b: ir.Value | None
    sign: int = 1


@dataclass(frozen=True)
class Layer:
    """A node as y = Σ x w + b; `at` is the input that x is."""

    how: How
    op: Op
    node: ir.Node
    at: int

    @property
    def x(self) -> ir.Value:
        """What varies."""
        return self.node.inputs[self.at]  # type: ignore[return-value]

    @property
    def w(self) -> ir.Value:
        """What it is multiplied by."""
        return self.node.inputs[1 - self.at]  # type: ignore[return-value]

    @property
    def b(self) -> ir.Value | None:
        """The bias, where there is one and it takes a share."""
        place = _BIAS.get(self.node.op_type)
        return inputs(self.node, place + 1)[place] if place is not None and self.how.bias else None

    def share(self, r: ir.Value, *parts: Part) -> ir.Value:
        """R_i = Σ_j c_ij R_j / Σ_i c_ij, with c_ij what x_i adds to y_j in all parts."""
        ys = [self._forward(p) for p in parts]
        s = r / stabilised(
            self.op, _total([-y if p.sign < 0 else y for y, p in zip(ys, parts, strict=True)]), self.how.stabiliser
        )
        cs = [p.x * self._back(p, y, s) for p, y in zip(parts, ys, strict=True)]
        return _total([-c if p.sign < 0 else c for c, p in zip(cs, parts, strict=True)])

    def _inputs(self, part: Part) -> list[ir.Value | None]:
        given = list(self.node.inputs)
        given[self.at], given[1 - self.at] = part.x, part.w
        if (place := _BIAS.get(self.node.op_type)) is not None and place < len(given):
            given[place] = part.b
        return given

    def _forward(self, part: Part) -> ir.Value:
        attributes = {k: v.value for k, v in self.node.attributes.items()}
        return _shaped(getattr(self.op, self.node.op_type)(*self._inputs(part), **attributes), self.node.outputs[0])

    def _back(self, part: Part, y: ir.Value, dy: ir.Value) -> ir.Value:
        shown = view(self.op, self.node, self._inputs(part), [y], [part.x])
        return gradient(self.op, shown, dy)[self.at]  # type: ignore[return-value]

    def above(self, v: ir.Value | None) -> ir.Value | None:
        """What of a value is positive."""
        return v and _shaped(self.op.Relu(v), v)

    def below(self, v: ir.Value | None) -> ir.Value | None:
        """What of a value is negative."""
        return v and _shaped(self.op.Min(v, self.op.const(0, v.dtype)), v)

    def signs(self, positive: ir.Value, negative: ir.Value, b: ir.Value | None) -> list[Part]:
        """x⁺ with some weights and a bias, x⁻ with others and none; the second only where x can be negative."""
        x = (self.op.node or self.node).inputs[self.at]
        if x is not None and nonnegative(x):
            return [Part(self.x, positive, b)]
        return [Part(self.above(self.x), positive, b), Part(self.below(self.x), negative, None)]  # type: ignore[arg-type]


def _total(values: Sequence[ir.Value]) -> ir.Value:
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total


def _shaped(value: ir.Value, like: ir.Value) -> ir.Value:
    value.shape = like.shape
    return value


def zplus(layer: Layer, r: ir.Value) -> ir.Value:
    """By what adds to y: c = (x w)⁺."""
    w = layer.w
    return layer.share(r, *layer.signs(layer.above(w), layer.below(w), layer.above(layer.b)))  # type: ignore[arg-type]


def alpha_beta(layer: Layer, r: ir.Value) -> ir.Value:
    """alpha times by what adds to y, less beta times by what takes from it."""
    w, how = layer.w, layer.how
    less = layer.share(r, *layer.signs(layer.below(w), layer.above(w), layer.below(layer.b)))  # type: ignore[arg-type]
    return zplus(layer, r) * how.alpha - less * how.beta


def gamma(layer: Layer, r: ir.Value) -> ir.Value:
    """c = x w + gamma (x w)⁺ where y > 0, and x w + gamma (x w)⁻ where y < 0."""
    op, y, w, b = layer.op, layer.node.outputs[0], layer.w, layer.b

    def more(v: ir.Value | None, part: Callable[[ir.Value | None], ir.Value | None]) -> ir.Value:
        return v and _shaped(v + part(v) * layer.how.gamma, v)  # type: ignore[return-value, operator]

    up, down = more(w, layer.above), more(w, layer.below)
    risen = layer.share(op.Where(op.Greater(y, 0), r, 0), *layer.signs(up, down, more(b, layer.above)))
    return risen + layer.share(op.Where(op.Less(y, 0), r, 0), *layer.signs(down, up, more(b, layer.below)))


def boxed(layer: Layer, r: ir.Value) -> ir.Value:
    """c = x w - low w⁺ - high w⁻, for inputs between low and high."""
    low, high = (_shaped(layer.op.CastLike(v, layer.x, dtype=layer.x.dtype), layer.x) for v in _ends(layer))
    w, b = layer.w, layer.b
    bottom, top = (Part(end, part(w), part(b), -1) for end, part in ((low, layer.above), (high, layer.below)))  # type: ignore[arg-type]
    return layer.share(r, Part(layer.x, w, b), bottom, top)


def _ends(layer: Layer) -> tuple[ir.Value, ir.Value]:
    return box(layer.how, layer.op, (layer.op.node or layer.node).inputs[layer.at])  # type: ignore[arg-type]


def flat(layer: Layer, r: ir.Value) -> ir.Value:
    """c = 1: all inputs that reach y alike."""
    return layer.share(r, Part(_ones(layer.op, layer.x), _ones(layer.op, layer.w), None))


def wsquare(layer: Layer, r: ir.Value) -> ir.Value:
    """c = w²."""
    w, b = layer.w, layer.b
    return layer.share(r, Part(_ones(layer.op, layer.x), _shaped(w * w, w), b and _shaped(b * b, b)))


def _ones(op: Op, v: ir.Value) -> ir.Value:
    return _shaped(op.full_like(v, 1), v)


RULES_OF_LAYERS = {
    "zplus": zplus, "alpha_beta": alpha_beta, "gamma": gamma, "box": boxed, "flat": flat, "wsquare": wsquare
}  # fmt: skip


def _by(how: How, op: Op, node: ir.Node, r: ir.Value, name: str) -> dict[Any, Any]:
    """The rule of the composite, for a layer of which one factor varies."""
    moving = [i for i, x in enumerate(node.inputs[:2]) if op.wants(x)]
    x = (op.node or node).inputs[moving[0]] if moving else None
    if how.first and x is not None and is_first(op, x):
        name = how.first
    bias = _BIAS.get(node.op_type, 3)
    if name == "epsilon" or len(moving) != 1 or len(node.inputs) < 2 or op.wants(inputs(node, bias + 1)[bias]):
        return epsilon(how, op, node, r, eps=how.epsilon)
    layer = Layer(how, op, node, moving[0])
    return to(op, node, [RULES_OF_LAYERS[name](layer, r) if i == layer.at else None for i in range(len(node.inputs))])


@relevance("convolution", "Conv", "ConvTranspose", "DeformConv")
def convolution(how: How, op: Op, node: ir.Node, r: ir.Value) -> Cotangents:
    """A convolution by the composite's rule; offsets of windows get nothing."""
    found = _by(how, op, node, r, how.conv)
    return to(op, node, [found.get(x) if i in (0, 1, _BIAS[node.op_type]) else None for i, x in enumerate(node.inputs)])


@relevance("dense", "Gemm", "MatMul", "Einsum")
def dense(how: How, op: Op, node: ir.Node, r: ir.Value) -> Cotangents:
    """A matrix product by the composite's rule; of two that vary as `shares` says."""
    moving = [i for i, x in enumerate(node.inputs) if op.wants(x) and i != _BIAS.get(node.op_type)]
    if len(moving) < 2:
        return _by(how, op, node, r, how.dense if len(node.inputs) < 4 else "epsilon")
    shared = shares(how, op, op.node or node, moving, both=how.attention == "attnlrp")
    found: list[Any] = times(node.inputs, gradient(op, node, r / stabilised(op, node.outputs[0], how.epsilon)))
    for i, share in zip(moving, shared, strict=True):
        found[i] = found[i] * share if share else None
    return to(op, node, found)


def shares(how: How, op: Op, node: ir.Node, moving: Sequence[int], *, both: bool = False) -> list[float]:
    """How much of R each of some factors gets: what is least of a gate takes all."""
    ranks = [0 if both or x is None else gate(op, x) for x in (node.inputs[i] for i in moving)]
    signals = [rank == min(ranks) for rank in ranks]
    return [signal / sum(signals) for signal in signals]


@relevance("quantised", "ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul")
def quantised(how: How, op: Op, node: ir.Node, r: ir.Value) -> Cotangents:
    """The epsilon rule for integers less their zero points."""
    quantised_output = node.op_type.startswith("QLinear")
    zeros, a, b = ((2, 5), 0, 3) if quantised_output else ((2, 3), 0, 1)
    conv = "Conv" in node.op_type
    given = inputs(node, 8)
    y = Grid(None, given[7] if quantised_output else None, -2).reals(op, node.outputs[0])
    found = list(gradient(op, node, r / stabilised(op, y, how.epsilon)))
    grids = {a: Grid(None, given[zeros[0]], 1 if conv else -2), b: Grid(None, given[zeros[1]], 0 if conv else -1)}
    return to(
        op, node, [dx and grids[i].reals(op, given[i]) * dx if i in grids else None for i, dx in enumerate(found)]
    )
