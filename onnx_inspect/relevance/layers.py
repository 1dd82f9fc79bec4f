"""Layers with weights: y = Σ x w + b. Each rule is a few such sums with other x, w and b, and shares R by them."""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, cast

import onnx_ir as ir

from ..autodiff.rules.grid import Grid
from ..autodiff.table import Cotangents
from ..autodiff.walk import view
from ..emit import Op, inputs
from .table import How, epsilon, gradient, relevance, stabilised, times, to
from .upstream import box, gate, is_first, nonnegative

# Where an operator has its bias; factors are its first two inputs.
_BIAS = {"Conv": 2, "ConvTranspose": 2, "DeformConv": 3, "Gemm": 2}
_FACTORS = ("alpha", "beta")  # of a Gemm; they are shown as part of its weights and bias, whose signs rules look at


class Part(NamedTuple):
    """A layer with another input, other weights and another bias, and the sign that it counts with."""

    x: ir.Value
    w: ir.Value
    b: ir.Value | None
    sign: int = 1


@dataclass(frozen=True)
class Layer:
    """A node as y = Σ x w + b; `at` is the input that x is, `origin` the value of the model that it stands for."""

    how: How
    op: Op
    node: ir.Node
    at: int
    origin: ir.Value

    @property
    def x(self) -> ir.Value:
        """What varies."""
        return self.node.inputs[self.at]  # type: ignore[return-value]

    @property
    def w(self) -> ir.Value:
        """What it is multiplied by."""
        return self._times(self.node.inputs[1 - self.at], "alpha")  # type: ignore[return-value]

    @property
    def b(self) -> ir.Value | None:
        """The bias, where there is one and it takes a share."""
        place = _BIAS.get(self.node.op_type)
        return self._times(inputs(self.node, place + 1)[place], "beta") if place is not None and self.how.bias else None

    def _times(self, v: ir.Value | None, factor: str) -> ir.Value | None:
        number = self.node.attributes.get_float(factor, 1.0)
        return v if v is None or number == 1 else _shaped(v * number, v)

    def share(self, r: ir.Value, *parts: Part) -> ir.Value:
        """R_i = Σ_j c_ij R_j / Σ_i c_ij, with c_ij what x_i adds to y_j in all parts."""
        ys = [self._forward(p) for p in parts]
        total = _total([-y if p.sign < 0 else y for y, p in zip(ys, parts, strict=True)])
        return self._shared(r / stabilised(self.op, total, self.how.stabiliser), parts, ys)

    def share_of(self, sign: int, r: ir.Value, *parts: Part) -> ir.Value:
        """`share` where all c have this sign, so that a bias keeps their sum away from 0."""
        eps, op = sign * self.how.stabiliser, self.op
        apart = parts[0].b if self.node.op_type == "Conv" else None
        ys = [self._forward(p if apart is None or i else p._replace(b=apart + eps)) for i, p in enumerate(parts)]
        z = _total(ys) if apart is not None else _total(ys) + eps
        # Kernels that transform, as Winograd's do, may leave sums a little on the other side of 0.
        return self._shared(r / _shaped(op.Clip(z, eps) if sign > 0 else op.Clip(z, None, eps), z), parts, ys)

    def _shared(self, s: ir.Value, parts: Sequence[Part], ys: Sequence[ir.Value]) -> ir.Value:
        cs = [p.x * self._back(p, y, s) for p, y in zip(parts, ys, strict=True)]
        return _total([-c if p.sign < 0 else c for c, p in zip(cs, parts, strict=True)])

    def _inputs(self, part: Part) -> list[ir.Value | None]:
        given = list(self.node.inputs)
        given[self.at], given[1 - self.at] = part.x, part.w
        if (place := _BIAS.get(self.node.op_type)) is not None and place < len(given):
            given[place] = part.b
        return given

    def _forward(self, part: Part) -> ir.Value:
        attributes = {k: v.value for k, v in self.node.attributes.items() if k not in _FACTORS}
        return _shaped(getattr(self.op, self.node.op_type)(*self._inputs(part), **attributes), self.node.outputs[0])

    def _back(self, part: Part, y: ir.Value, dy: ir.Value) -> ir.Value:
        attributes = [a for a in self.node.attributes.values() if a.name not in _FACTORS]
        shown = view(self.op, self.node, self._inputs(part), [y], [part.x], attributes)
        return gradient(self.op, shown, dy)[self.at]  # type: ignore[return-value]

    def above(self, v: ir.Value | None) -> ir.Value | None:
        """What of a value is positive."""
        return v and _shaped(self.op.Relu(v), v)

    def below(self, v: ir.Value | None) -> ir.Value | None:
        """What of a value is negative."""
        return v and _shaped(self.op.Min(v, self.op.const(0, v.dtype)), v)

    def signs(self, positive: ir.Value, negative: ir.Value, b: ir.Value | None) -> list[Part]:
        """x⁺ with some weights and a bias, x⁻ with others and none; the second only where x can be negative."""
        if nonnegative(self.origin):
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
    parts = layer.signs(layer.above(w), layer.below(w), layer.above(layer.b))  # type: ignore[arg-type]
    return layer.share_of(1, r, *parts)


def alpha_beta(layer: Layer, r: ir.Value) -> ir.Value:
    """alpha times by what adds to y, less beta times by what takes from it."""
    w, how = layer.w, layer.how
    parts = layer.signs(layer.below(w), layer.above(w), layer.below(layer.b))  # type: ignore[arg-type]
    return zplus(layer, r) * how.alpha - layer.share_of(-1, r, *parts) * how.beta


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
    low, high = (
        _shaped(layer.op.CastLike(v, layer.x, dtype=layer.x.dtype), layer.x)
        for v in box(layer.how, layer.op, layer.origin)
    )
    w, b = layer.w, layer.b
    bottom, top = (Part(end, part(w), part(b), -1) for end, part in ((low, layer.above), (high, layer.below)))  # type: ignore[arg-type]
    return layer.share(r, Part(layer.x, w, b), bottom, top)


def flat(layer: Layer, r: ir.Value) -> ir.Value:
    """c = 1: all inputs that reach y alike; so one channel of a convolution stands for all."""
    op, node, x, w = layer.op, layer.node, layer.x, layer.w
    channels = op.dim(w, 1) if node.op_type == "Conv" and node.attributes.get_int("group", 1) == 1 else None
    if channels is None or layer.at:
        return layer.share_of(1, r, Part(_ones(op, x), _ones(op, w), None))
    x, w, y = _first(op, x, 1), _first(op, w, 0, 1), _first(op, node.outputs[0], 1)
    one = replace(layer, node=view(op, node, [x, w], [y], [x]))
    total = _shaped(op.ReduceSum(r, [1], keepdims=1) / channels, y)
    found = one.share_of(1, total, Part(_shaped(op.full_like(x, channels), x), _ones(op, w), None))
    return _shaped(op.Expand(found, op.shape(layer.x)), layer.x)


def wsquare(layer: Layer, r: ir.Value) -> ir.Value:
    """c = w²."""
    w, b = layer.w, layer.b
    return layer.share_of(1, r, Part(_ones(layer.op, layer.x), _shaped(w * w, w), b and _shaped(b * b, b)))


def _ones(op: Op, v: ir.Value) -> ir.Value:
    return _shaped(op.full_like(v, 1), v)


def _first(op: Op, v: ir.Value, *axes: int) -> ir.Value:
    found = op.Slice(v, [0] * len(axes), [1] * len(axes), list(axes))
    found.shape = ir.Shape([1 if axis in axes else size for axis, size in enumerate(v.shape or ())])
    return found


RULES_OF_LAYERS = {
    "zplus": zplus, "alpha_beta": alpha_beta, "gamma": gamma, "box": boxed, "flat": flat, "wsquare": wsquare
}  # fmt: skip


Origins = Sequence[ir.Value | None]


def _origins(op: Op, node: ir.Node) -> Origins:
    """What the inputs of a node are in the model, where the walk shows casts of them."""
    return (op.node or node).inputs


def _by(how: How, op: Op, node: ir.Node, r: ir.Value, name: str, origins: Origins) -> dict[ir.Value, ir.Value]:
    """The rule of the composite, for a layer of which one factor varies."""
    moving = [i for i, x in enumerate(node.inputs[:2]) if op.wants(x)]
    at = moving[0] if moving else 0
    origin, bias = origins[at], _BIAS.get(node.op_type)
    if how.first and origin is not None and is_first(op, origin):
        name = how.first
    # An Einsum may have any number of factors.
    others = len(node.inputs) != 2 if bias is None else op.wants(inputs(node, bias + 1)[bias])
    if name == "epsilon" or len(moving) != 1 or others or origin is None:
        return epsilon(how, op, node, r, eps=how.epsilon)
    found: list[Any] = [None] * len(node.inputs)
    found[at] = RULES_OF_LAYERS[name](Layer(how, op, node, at, origin), r)
    return to(op, node, found)


@relevance("convolution", "Conv", "ConvTranspose", "DeformConv")
def convolution(how: How, op: Op, node: ir.Node, r: ir.Value) -> Cotangents:
    """A convolution by the composite's rule; offsets of windows get nothing."""
    found, kept = _by(how, op, node, r, how.conv, _origins(op, node)), (0, 1, _BIAS[node.op_type])
    return to(op, node, [found.get(x) if x is not None and i in kept else None for i, x in enumerate(node.inputs)])


@relevance("dense", "Gemm", "MatMul", "Einsum")
def dense(how: How, op: Op, node: ir.Node, r: ir.Value) -> Cotangents:
    """A matrix product by the composite's rule; of two that vary as `shares` says."""
    return _dense(how, op, node, r, _origins(op, node))


def _dense(how: How, op: Op, node: ir.Node, r: ir.Value, origins: Origins) -> dict[ir.Value, ir.Value]:
    moving = [i for i, x in enumerate(node.inputs) if op.wants(x) and i != _BIAS.get(node.op_type)]
    if len(moving) < 2:
        return _by(how, op, node, r, how.dense, origins)
    shared = shares(op, [origins[i] for i in moving], both=how.attention == "attnlrp")
    found: list[Any] = times(node.inputs, gradient(op, node, r / stabilised(op, node.outputs[0], how.epsilon)))
    for i, share in zip(moving, shared, strict=True):
        found[i] = found[i] * share if share else None
    return to(op, node, found)


def shares(op: Op, factors: Origins, *, both: bool = False) -> list[float]:
    """How much of R each of some factors gets: what is least of a gate takes all."""
    ranks = [0 if both or x is None else gate(op, x) for x in factors]
    signals = [rank == min(ranks) for rank in ranks]
    return [signal / sum(signals) for signal in signals]


@relevance("quantised", "ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul")
def quantised(how: How, op: Op, node: ir.Node, r: ir.Value) -> Cotangents:
    """The layer of what its integers stand for; what saturates counts as well."""
    conv, bias = "Conv" in node.op_type, None
    if node.op_type.startswith("QLinear"):
        x, x_scale, x_zero, w, w_scale, w_zero, _, _, bias = inputs(node, 9)
    else:
        (x, w, x_zero, w_zero), x_scale, w_scale = inputs(node, 4), None, None
    pairs = [(x, Grid(x_scale, x_zero, 1 if conv else -2)), (w, Grid(w_scale, w_zero, 0 if conv else -1))]
    if bias is not None:
        pairs.append((bias, Grid(_shaped(op.Reshape(x_scale, []) * w_scale, w_scale), None, 0)))
    reals = [grid.reals(op, q) for q, grid in pairs]
    op_type, attributes = "Conv" if conv else "MatMul", {k: v.value for k, v in node.attributes.items()}
    y = _shaped(getattr(op, op_type)(*reals, **attributes), node.outputs[0])
    wanted = [real for (q, _), real in zip(pairs, reals, strict=True) if op.wants(q)]
    shown = cast(ir.Node, replace(cast(Any, view(op, node, reals, [y], wanted)), op_type=op_type))
    origins = [q for q, _ in pairs]
    found = _by(how, op, shown, r, how.conv, origins) if conv else _dense(how, op, shown, r, origins)
    return {q: found[real] for q, real in zip(origins, reals, strict=True) if real in found}
