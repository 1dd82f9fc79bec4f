"""Relevance: each rule against the same rule written out over a matrix, and the laws that all must keep."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

import onnx_inspect as oi
import onnx_inspect.autodiff.rules
import onnx_inspect.relevance.rules
from onnx_inspect.autodiff.table import RULES
from onnx_inspect.engine import Engine
from onnx_inspect.errors import InputError, MissingRule
from onnx_inspect.relevance.composites import COMPOSITES
from onnx_inspect.relevance.layers import RULES_OF_LAYERS
from onnx_inspect.relevance.merge import merge_batchnorm
from onnx_inspect.relevance.table import KINDS, How, Relevance, kind

from . import nets
from .graphs import Row, f, i, r

Array = NDArray[Any]
ENGINE = Engine("cpu", threads=1)
NAMES = sorted(COMPOSITES)
ROOT = Path(__file__).parents[1]


def spread(*shape: int, low: float = -2.0, high: float = 2.0) -> Array:
    return np.asarray(f(*shape, low=low, high=high), np.float32)


def weights(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng([seed, *shape]).normal(0, 0.5, shape).astype(np.float32)


def relevance(row: Row, how: How, given: Array | None = None) -> Array:
    """What arrives at x of some relevance of y."""
    model = oi.vjp(oi.load(row.proto()), ["x"], ["y"], rules=Relevance(how))
    feeds: dict[str, Any] = dict(row.feeds())
    shape = ENGINE.run(oi.load(row.proto()), feeds, ["y"])["y"].shape
    given = weights(*shape, seed=9) if given is None else given
    return np.asarray(ENGINE.run(model, feeds | {"cotangent.y": given}, ["gradient.x"])["gradient.x"])


def floats(row: Row, name: str) -> Array:
    array: Array = np.asarray(row.arrays[name], np.float64)
    return array


def kept(row: Row, how: How) -> float:
    """How much of the relevance arrives, of one that is 0 where y is."""
    feeds: dict[str, Any] = dict(row.feeds())
    given = np.abs(ENGINE.run(oi.load(row.proto()), feeds, ["y"])["y"])
    return float(relevance(row, how, given).sum() / given.sum())


# Each rule, literally: R_i = Σ_j c_ij R_j / Σ_i c_ij.


def shared(c: Array, bias: Array, r: Array, eps: float = 1e-6) -> Array:
    z = c.sum(axis=1) + bias
    found: Array = np.einsum("ji,j->i", c, r / (z + np.where(z < 0, -eps, eps)))
    return found


def literal(
    rule: str, w: Array, x: Array, b: Array, r: Array, low: float = -3.0, high: float = 3.0, eps: float = 1e-6
) -> Array:
    """A rule for y = W x + b, in float64."""
    w, x, b, r = (v.astype(np.float64) for v in (w, x, b, r))
    c, y = w * x, w @ x + b

    def share(c: Array, bias: Array, r: Array) -> Array:
        return shared(c, bias, r, eps)

    def plus(v: Array) -> Array:
        return np.maximum(v, 0)

    if rule == "epsilon":
        return share(c, b, r)
    if rule == "zplus":
        return share(plus(c), plus(b), r)
    if rule == "alpha_beta":
        return 2 * share(plus(c), plus(b), r) - share(-plus(-c), -plus(-b), r)
    if rule == "gamma":
        up = share(c + 0.25 * plus(c) - (w < 0) * 0, b + 0.25 * plus(b), np.where(y > 0, r, 0))
        return up + share(c - 0.25 * plus(-c), b - 0.25 * plus(-b), np.where(y < 0, r, 0))
    if rule == "box":
        return share(c - low * plus(w) + high * plus(-w), 0 * b, r)
    return share(w**2, b**2, r) if rule == "wsquare" else share((w != 0) * 1.0, 0 * b, r)


def matrix(run: Any, shape: tuple[int, ...]) -> Array:
    """The matrix of a linear function of arrays, column by column."""
    size = int(np.prod(shape))
    return np.stack([run(np.eye(size)[k].reshape(shape)).reshape(-1) for k in range(size)], axis=1)


def test_gamma_by_its_definition() -> None:
    """For negative inputs the generalised rule favours contributions, not weights."""
    w, x = np.array([[1.0, -2.0]]), np.array([-1.0, -1.0])
    np.testing.assert_allclose(literal("gamma", w, x, np.zeros(1), np.ones(1)), [-1 / 1.5, 2.5 / 1.5], rtol=1e-5)


LAYER_RULES = ["epsilon", *RULES_OF_LAYERS]
BOX = {"x": (np.full((1, 1), -3, np.float32), np.full((1, 1), 3, np.float32))}


@pytest.mark.parametrize("rule", LAYER_RULES)
@pytest.mark.parametrize("form", ["y = Gemm <transB = 1> (x, W, B)", "h = MatMul (x, V)  y = Add (h, B)"])
def test_dense_layers(rule: Any, form: str) -> None:
    w, b, x = weights(5, 7), weights(5), f(3, 7)
    row = r(21, form, x=x, B=b, **({"W": w} if "Gemm" in form else {"V": w.T.copy()}))
    given = weights(3, 5, seed=3)
    model = oi.vjp(merge_batchnorm(oi.load(row.proto())), ["x"], ["y"], rules=Relevance(How(dense=rule, box=BOX)))
    found = ENGINE.run(model, {"x": x, "cotangent.y": given}, ["gradient.x"])["gradient.x"]
    for n in range(3):
        np.testing.assert_allclose(found[n], literal(rule, w, x[n], b, given[n]), rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize("rule", LAYER_RULES)
@pytest.mark.parametrize(
    "form", ["h = MatMul (x, V)  y = Add (B, h)", "V = Transpose (W) h = MatMul (x, V)  y = Add (h, B)"]
)
def test_dense_layers_over_sequences_have_their_bias(rule: Any, form: str) -> None:
    w, b, x, given = weights(5, 7), weights(5), f(2, 3, 7), weights(2, 3, 5, seed=3)
    row = r(21, form, x=x, B=b, **({"W": w} if "Transpose" in form else {"V": w.T.copy()}))
    box = {"x": tuple(np.full((1, 1, 1), end, np.float32) for end in (-3, 3))}
    merged = merge_batchnorm(oi.load(row.proto()))
    before, after = (ENGINE.run(m, {"x": x}, ["y"])["y"] for m in (oi.load(row.proto()), merged))
    np.testing.assert_allclose(after, before, atol=1e-6)
    model = oi.vjp(merged, ["x"], ["y"], rules=Relevance(How(dense=rule, box=box)))  # type: ignore[arg-type]
    found = ENGINE.run(model, {"x": x, "cotangent.y": given}, ["gradient.x"])["gradient.x"]
    for at in np.ndindex(2, 3):
        np.testing.assert_allclose(found[at], literal(rule, w, x[at], b, given[at]), rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize("rule", LAYER_RULES)
def test_factors_of_a_gemm_belong_to_its_weights(rule: Any) -> None:
    w, b, x = weights(5, 7), weights(5), f(1, 7)
    row = r(21, "y = Gemm <transB = 1, alpha = -2.0, beta = -0.5> (x, W, B)", x=x, W=w, B=b)
    found = relevance(row, How(dense=rule, box=BOX), given := weights(1, 5, seed=3))
    np.testing.assert_allclose(found[0], literal(rule, -2 * w, x[0], -b / 2, given[0]), rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize("rule", ["flat", "zplus"])
def test_an_einsum_may_have_any_number_of_factors(rule: Any) -> None:
    """One only moves and is no first layer; of three, two stand for weights."""
    w, v = weights(6, 5), weights(5, seed=1)
    moved = r(21, 't = Einsum <equation = "nij->nji"> (x)  h = Flatten (t)  y = MatMul (h, W)', x=f(2, 2, 3), W=w)
    plain = r(21, "t = Transpose <perm = [0, 2, 1]> (x)  h = Flatten (t)  y = MatMul (h, W)", **moved.arrays)
    found, expected = (relevance(row, How(dense=rule, first="flat")) for row in (moved, plain))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)
    three = r(21, 'y = Einsum <equation = "ni,ij,j->nj"> (x, W, V)', x=f(1, 6), W=w, V=v)
    given = weights(1, 5, seed=9)
    expected = literal("epsilon", (w * v).T, three.arrays["x"][0], 0 * v, given[0])
    np.testing.assert_allclose(relevance(three, How(dense=rule), given)[0], expected, rtol=2e-3, atol=2e-4)


def test_tables_with_other_bounds_have_other_names() -> None:
    low = np.array([-3, -4, -5], np.float32)
    names = {How(box={"x": (low.reshape(shape), low)}).name for shape in ((1, 3, 1, 1), (1, 1, 3, 1))}
    assert len(names) == 2


@pytest.mark.parametrize("rule", ["epsilon", "zplus", "gamma", "flat"])
def test_quantised_layers(rule: Any) -> None:
    """As the layer of what the integers stand for, behind a quantiser that rounds nothing."""
    x, w = np.arange(-6, 6, dtype=np.float32).reshape(1, 3, 2, 2) / 4, np.arange(12).reshape(4, 3, 1, 1) - 5
    step, zero = np.array(0.25, np.float32), np.array(100, np.uint8)
    body = "q = QuantizeLinear (x, S, Z)  i = ConvInteger (q, W, Z)  c = Cast <to = 1> (i)  y = Mul (c, S)"
    integers = r(21, body, x=x, S=step, Z=zero, W=w.astype(np.int8))
    plain = r(21, "y = Conv (x, W)", x=x, W=w.astype(np.float32))
    found, expected = (relevance(row, How(conv=rule)) for row in (integers, plain))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
    body = "q = QuantizeLinear (x, S, Z)  i = QLinearConv (q, S, Z, W, T, N, U, Z, B)  y = DequantizeLinear (i, U, Z)"
    one, none = np.array(1, np.float32), np.array(0, np.int8)
    bias = np.array([4, -8, 12, 0], np.int32)
    linear = r(21, body, x=x, S=step, Z=zero, W=w.astype(np.int8), T=one, N=none, U=step, B=bias)
    plain = r(21, "y = Conv (x, W, B)", x=x, W=w.astype(np.float32), B=bias.astype(np.float32) / 4)
    found, expected = (relevance(row, How(conv=rule)) for row in (linear, plain))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


CONVOLUTIONS = {
    "same": ("Conv <pads = [1, 1, 1, 1]>", (4, 2, 3, 3), 2),
    "strided": ("Conv <strides = [2, 3], pads = [0, 1, 2, 0]>", (3, 2, 3, 2), 2),
    "grouped": ("Conv <group = 2, dilations = [2, 1]>", (4, 1, 2, 3), 2),
    "transposed": ("ConvTranspose <strides = [2, 2], pads = [1, 0, 0, 1], output_padding = [1, 0]>", (2, 3, 3, 2), 2),
}


@pytest.mark.parametrize("rule", LAYER_RULES)
@pytest.mark.parametrize("form", CONVOLUTIONS)
@pytest.mark.parametrize("eps", [1e-6, 0.5])  # the second so large that it shows
def test_convolutions(rule: Any, form: str, eps: float) -> None:
    text, shape, channels = CONVOLUTIONS[form]
    count = shape[1] if "Transpose" in text else shape[0]
    w, b, x = weights(*shape), weights(count), f(1, channels, 7, 6)
    row = r(21, f"y = {text} (x, W, B)", x=x, W=w, B=b)
    linear = oi.load(r(21, f"y = {text} (x, W)", x=x, W=w).proto())

    def run(v: Array) -> Array:
        return ENGINE.run(linear, {"x": v.astype(np.float32)}, ["y"])["y"]

    flat, y = matrix(run, x.shape), run(x)
    given = weights(*y.shape, seed=4)
    ends = {"x": (np.full((1, 1, 1, 1), -3, np.float32), np.full((1, 1, 1, 1), 3, np.float32))}
    found = relevance(row, How(conv=rule, box=ends, epsilon=eps, stabiliser=eps), given)
    bias = np.broadcast_to(b.reshape(1, -1, 1, 1), y.shape).reshape(-1)
    expected = literal(rule, flat, x.reshape(-1), bias, given.reshape(-1), eps=eps)
    np.testing.assert_allclose(found.reshape(-1), expected, rtol=2e-3, atol=2e-4 * np.abs(expected).max())


# Laws.

SQUARE = weights(6, 6, seed=1)
NETS = {
    "plain": "h = Conv <pads = [1, 1, 1, 1]> (x, C)  g = Relu (h)  p = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (g)"
    "  q = GlobalAveragePool (p)  v = Flatten (q)  y = MatMul (v, W)",
    "residual": "h = Conv <pads = [1, 1, 1, 1]> (x, C)  g = Relu (h)  k = Conv <pads = [1, 1, 1, 1]> (g, D)  s = Add (g, k)"
    "  a = Relu (s)  q = AveragePool <kernel_shape = [2, 2], strides = [2, 2]> (a)"
    "  m = ReduceMean <keepdims = 0> (q, Axes)  y = MatMul (m, W)",
    "concat": "h = Conv <pads = [1, 1, 1, 1]> (x, C)  g = Relu (h)  k = Conv <pads = [1, 1, 1, 1]> (g, D)  a = Relu (k)"
    "  s = Concat <axis = 1> (g, a)  e, o = Split <axis = 1, num_outputs = 2> (s)  t = Add (e, o)"
    "  m = ReduceMean <keepdims = 0> (t, Axes)  y = MatMul (m, W)",
    "gates": "h = Conv <pads = [1, 1, 1, 1]> (x, C)  g = Relu (h)  q = GlobalAveragePool (g)  z = Conv (q, E)"
    "  u = Sigmoid (z)  s = Mul (g, u)  l = Sigmoid (s)  n = Mul (s, l)  m = ReduceMean <keepdims = 0> (n, Axes)"
    "  y = MatMul (m, W)",
}
ARRAYS: dict[str, Array] = {
    "C": weights(6, 3, 3, 3), "D": weights(6, 6, 3, 3), "E": weights(6, 6, 1, 1), "W": SQUARE, "Axes": i(2, 3)
}  # fmt: skip


def network(name: str, count: int = 2) -> Row:
    return r(21, NETS[name], x=f(count, 3, 7, 6), **{k: v for k, v in ARRAYS.items() if k in NETS[name]})


@pytest.mark.parametrize("composite", NAMES)
@pytest.mark.parametrize("name", NETS)
def test_relevance_is_conserved_without_biases(name: str, composite: str) -> None:
    row = network(name)
    result = oi.lrp(row.proto(), row.feeds(), composite=composite, low=-2.0, high=2.0, engine=ENGINE)  # type: ignore[arg-type]
    np.testing.assert_allclose(result.measures["conservation"], 1, atol=1e-3)
    np.testing.assert_allclose(result.measures["relevance"], result.values.sum(axis=(1, 2, 3)), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(result.measures["delta"], 0, atol=2e-3 * np.abs(result.scores).max())


ATTENTION = (
    "a = LayerNormalization <axis = -1> (x, Scale)  q = MatMul (a, W)  k = MatMul (a, V)  v = MatMul (a, U)"
    "  t = Transpose <perm = [0, 2, 1]> (k)  s = MatMul (q, t)  p = Softmax <axis = -1> (s)  o = MatMul (p, v)"
    "  b = Add (x, o)  y = ReduceMean <keepdims = 0> (b, Axes)"
)
WEIGHTS: dict[str, Array] = {
    "W": weights(6, 6, seed=2), "V": weights(6, 6, seed=3), "U": weights(6, 6, seed=4), "Axes": i(1)
}  # fmt: skip
SCALE = 1 + weights(6)


def test_the_first_layer_has_a_rule_of_its_own() -> None:
    """The flat rule in the first layer and zplus in the second, literally."""
    row = r(21, "h = Conv (x, W)  g = Relu (h)  k = Conv (g, V)  y = Flatten (k)", x=weights(1, 5, 1, 1, seed=8),
            W=weights(6, 5, 1, 1), V=np.abs(weights(3, 6, 1, 1)))  # fmt: skip
    x, w, v = (floats(row, name).reshape(shape) for name, shape in (("x", 5), ("W", (6, 5)), ("V", (3, 6))))
    g = np.maximum(w @ x, 0)
    assert g.any()
    given = np.array([0.0, 1.0, 0.0])
    expected = literal("flat", w, x, np.zeros(6), literal("zplus", v, g, np.zeros(3), given))
    found = oi.lrp(row.proto(), row.feeds(), target=1, preset="zennit", engine=ENGINE)
    np.testing.assert_allclose(found.values.reshape(-1), expected, rtol=1e-4)
    plus = oi.lrp(row.proto(), row.feeds(), target=1, preset="zennit", composite="epsilon_plus", engine=ENGINE)
    assert np.abs(plus.values - found.values).max() > 1e-3


def test_epsilon_moves_sums_away_from_zero() -> None:
    w, x, given = weights(5, 7), spread(1, 7), weights(1, 5, seed=3)
    y = w @ x[0]
    assert (y < 0).any() and (y > 0).any()
    found = relevance(r(21, "y = MatMul (x, W)", x=x, W=w.T.copy()), How(epsilon=0.3), given)
    np.testing.assert_allclose(found[0], shared(w * x[0], np.zeros(5), given[0], eps=0.3), rtol=1e-4)


def test_attention_conserves_through_its_values() -> None:
    row = r(21, ATTENTION, x=f(2, 5, 6), Scale=SCALE, **WEIGHTS)
    values = oi.lrp(row.proto(), row.feeds(), target=2, engine=ENGINE)
    np.testing.assert_allclose(values.measures["conservation"], 1, atol=1e-3)
    both = oi.lrp(row.proto(), row.feeds(), target=2, attention="attnlrp", engine=ENGINE)
    assert np.isfinite(both.values).all()
    assert np.abs(both.values - values.values).max() > 1e-3


def test_attnlrp_by_its_formulas() -> None:
    """Half each of a product of two that vary, and x (R - y ΣR) of a softmax, in NumPy."""
    row = r(21, "p = Softmax <axis = -1> (x)  o = MatMul (p, x)  y = MatMul (o, W)", x=f(4, 4), W=weights(4, 3))
    x, w, given = row.arrays["x"].astype(np.float64), row.arrays["W"].astype(np.float64), weights(4, 3, seed=9)
    p = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
    o = p @ x
    s = np.stack([shared(w.T * o[n], np.zeros(3), given[n]) for n in range(4)]) / (o + 1e-6 * np.where(o < 0, -1, 1))
    r_p, r_x = p * (s @ x.T) / 2, x * (p.T @ s) / 2
    expected = r_x + x * (r_p - p * r_p.sum(axis=1, keepdims=True))
    np.testing.assert_allclose(relevance(row, How(attention="attnlrp"), given), expected, rtol=1e-3, atol=1e-4)


def test_a_fused_attention_is_one_that_is_written_out() -> None:
    fused = "y = Attention <q_num_heads = 1, kv_num_heads = 1, scale = 1.0> (a, b, x)"
    written = "t = Transpose <perm = [0, 2, 1]> (b)  s = MatMul (a, t)  p = Softmax <axis = -1> (s)  y = MatMul (p, x)"
    arrays = {"a": f(2, 3, 4), "b": f(2, 5, 4), "x": weights(2, 5, 4)}
    for how in (How(), How(attention="attnlrp")):
        found = [relevance(r(23, body, **arrays), how) for body in (fused, written)]
        np.testing.assert_allclose(found[0], found[1], rtol=1e-4, atol=1e-5)


NORMALISED = {
    "LayerNormalization": "m = ReduceMean (x, Axes)  c = Sub (x, m)  d = Mul (c, c)  v = ReduceMean (d, Axes)"
    "  w = Add (v, Tiny)  s = Sqrt (w)  n = Div (c, s)  k = Mul (n, Scale)  y = Add (k, Bias)",
    "reciprocal": "m = ReduceMean (x, Axes)  c = Sub (x, m)  d = Mul (c, c)  v = ReduceMean (d, Axes)  w = Add (v, Tiny)"
    "  s = Sqrt (w)  i = Reciprocal (s)  g = Mul (i, Scale)  a = Mul (x, g)  b = Mul (m, g)  o = Sub (Bias, b)  y = Add (a, o)",
}


@pytest.mark.parametrize("form", NORMALISED)
def test_normalisations_are_those_written_out(form: str) -> None:
    arrays = {"z": f(3, 6), "Eye": np.eye(6, dtype=np.float32), "Scale": SCALE, "Bias": weights(6)}
    behind = "x = MatMul (z, Eye)  "
    whole = relevance(r(21, f"{behind}y = LayerNormalization <axis = -1> (x, Scale, Bias)", **arrays), How())
    parts = relevance(r(21, behind + NORMALISED[form], **arrays, Axes=i(-1), Tiny=np.array(1e-5, np.float32)), How())
    np.testing.assert_allclose(parts, whole, rtol=1e-3, atol=1e-3 * np.abs(whole).max())


@pytest.mark.parametrize(
    "body",
    [
        "y = RMSNormalization <axis = -1> (x, Scale)",
        "y = GroupNormalization <num_groups = 2> (x, Scale, Zero)",
        "y = InstanceNormalization (x, Scale, Zero)",
        "y = MeanVarianceNormalization <axes = [2]> (x)",
        "y = LpNormalization <axis = 1> (x)",
        "y = LRN <size = 3> (x)",
    ],
)
def test_normalisations_conserve(body: str) -> None:
    arrays = {"Scale": SCALE, "Zero": np.zeros(6, np.float32)}
    x = weights(2, 6, 6, 1) if "LRN" in body else weights(2, 6, 6)
    row = r(23 if "RMS" in body else 21, body, x=x, **{k: v for k, v in arrays.items() if k in body})
    assert kept(row, How()) == pytest.approx(1, abs=1e-3)


ONE = np.array(1, np.float32)
SWISH = "s = Sigmoid (x)  y = Mul (x, s)"
GELU = "d = Div (x, Root)  e = Erf (d)  p = Add (e, One)  m = Mul (x, p)  y = Mul (m, Half)"
HARD = "a = Add (x, Three)  c = Clip (a, Zero, Six)  m = Mul (x, c)  y = Div (m, Six)"
CONSTANTS = {"Root": ONE * 1.4142135, "One": ONE, "Half": ONE / 2, "Three": ONE * 3, "Zero": ONE * 0, "Six": ONE * 6}


@pytest.mark.parametrize(
    "body", [SWISH, GELU, HARD, "y = Swish (x)", "y = Gelu (x)", "y = HardSwish (x)", "y = Exp (x)"]
)
def test_activations_pass_however_they_are_written(body: str) -> None:
    used = {k: v.astype(np.float32) for k, v in CONSTANTS.items() if f"{k})" in body or f"{k}," in body}
    version = 24 if "Swish (" in body and "Hard" not in body else 21
    row = r(version, f"x = MatMul (z, Eye)  {body}", z=f(4, 5), Eye=np.eye(5, dtype=np.float32), **used)
    given = weights(4, 5)
    np.testing.assert_allclose(relevance(row, How(), given), given, rtol=1e-5)


@pytest.mark.parametrize(
    "body",
    [
        "y = Mul (x, x)",
        "y = ReduceProd <keepdims = 0> (x, Axes)",
        "y = ReduceSumSquare <keepdims = 0> (x, Axes)",
        "y = ReduceL2 <keepdims = 0> (x, Axes)",
        "y = ReduceLogSumExp <keepdims = 0> (x, Axes)",
        "y = ReduceMax <keepdims = 0> (x, Axes)",
        "y = CumSum (x, Axis)",
        "y = Det (x)",
        'y = Resize <mode = "linear"> (x, , , Sizes)',
        "y = Pad (x, Pads)",
        "y = Expand (x, Shape)",
        "a = Relu (x)  b = Neg (x)  c = Relu (b)  y = Sub (a, c)",
        "y = Max (x, Floor)",
        "a, b = TopK <axis = 1> (x, Two)  y = Identity (a)",
        'y = Einsum <equation = "nij,njk->nik"> (x, x)',
        "y = Div (x, Floor)",
    ],
)
def test_other_operators_conserve(body: str) -> None:
    arrays: dict[str, Array] = {
        "Axes": i(1), "Axis": np.array(1), "Sizes": i(2, 5, 7), "Pads": i(0, 1, 0, 0, 0, 2), "Shape": i(3, 2, 3, 3),
        "Floor": np.array(-9, np.float32), "Two": i(2),
    }  # fmt: skip
    row = r(21, body, x=weights(2, 3, 3, seed=5), **{k: v for k, v in arrays.items() if f"{k})" in body})
    assert kept(row, How()) == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize("op_type", ["LSTM", "GRU", "RNN"])
def test_recurrent_layers_conserve_past_their_gates(op_type: str) -> None:
    gates, hidden = {"LSTM": 4, "GRU": 3, "RNN": 1}[op_type], 5
    body = f"h = {op_type} <hidden_size = {hidden}> (x, W, R)  y = Identity (h)"
    row = r(21, body, x=f(6, 2, 4), W=weights(1, gates * hidden, 4), R=weights(1, gates * hidden, hidden))
    assert kept(row, How()) == pytest.approx(1, abs=5e-3)


def test_rules_reach_into_branches() -> None:
    branch = "then_branch = g () => (float[2, 3] a) { a = MatMul (x, W) }, else_branch = h () => (float[2, 3] b) { b = MatMul (x, W) }"
    row = r(21, f"y = If <{branch}> (Yes)", x=f(2, 4), W=weights(4, 3), Yes=np.array(True))
    plain = r(21, "y = MatMul (x, W)", x=f(2, 4), W=weights(4, 3))
    np.testing.assert_allclose(relevance(row, How(dense="zplus")), relevance(plain, How(dense="zplus")), rtol=1e-5)


def test_a_linear_model_gives_weights_times_inputs() -> None:
    row = r(21, "y = Gemm (x, W, B)", x=f(3, 6), W=weights(6, 4), B=weights(4))
    result = oi.lrp(row.proto(), row.feeds(), target=1, composite="epsilon", epsilon=1e-9, engine=ENGINE)
    np.testing.assert_allclose(result.values, floats(row, "x") * floats(row, "W")[:, 1], rtol=1e-4, atol=1e-5)
    bias = floats(row, "B")[1]
    np.testing.assert_allclose(result.measures["delta"], bias, rtol=1e-3)


# Exports, batches, presets.


@pytest.mark.parametrize("composite", NAMES)
def test_exports_and_batches_agree(composite: Any) -> None:
    x, how = nets.images(3), {"composite": composite, "low": -3.0, "high": 3.0, "engine": ENGINE}
    whole = oi.lrp(nets.classifier(), x, target=1, **how)
    nhwc = oi.lrp(nets.classifier(nhwc=True, final="Softmax"), nets.images(3, nhwc=True), target=1, **how)
    scale = np.abs(whole.values).max()
    np.testing.assert_allclose(np.moveaxis(nhwc.values, -1, 1), whole.values, atol=1e-5 * scale)
    for n in range(3):
        single = oi.lrp(nets.classifier(size="any"), x[n : n + 1], target=1, **how)
        np.testing.assert_allclose(single.values[0], whole.values[n], atol=1e-5 * scale)


def test_the_start_of_presets() -> None:
    x = nets.images(2)
    score = oi.lrp(nets.classifier(), x, engine=ENGINE)
    one = oi.lrp(nets.classifier(), x, preset="zennit", engine=ENGINE)
    np.testing.assert_allclose(one.values * score.scores.reshape(-1, 1, 1, 1), score.values, rtol=1e-4, atol=1e-6)
    captum = oi.lrp(nets.classifier(), x, preset="captum", engine=ENGINE)
    same = oi.lrp(nets.classifier(), x, composite="epsilon", epsilon=1e-9, engine=ENGINE)
    np.testing.assert_allclose(captum.values, same.values, rtol=1e-2, atol=1e-4 * np.abs(same.values).max())


def test_small_scores_hand_all_on() -> None:
    """What keeps sums from 0 does not show in the start."""
    row = r(
        21, "h = MatMul (x, W)  y = Sigmoid (h)", x=np.full((2, 5), 2, np.float32), W=np.full((5, 3), -1, np.float32)
    )
    result = oi.lrp(
        row.proto(), row.feeds(), target=1, score="output", preset="zennit", composite="epsilon", engine=ENGINE
    )
    assert result.scores.max() < 1e-4
    np.testing.assert_allclose(result.values.sum(axis=1), 1, atol=1e-5)


def test_a_layer_in_the_middle() -> None:
    row = network("residual")
    middle = oi.lrp(row.proto(), row.feeds(), composite="epsilon_plus", wrt=["s"], engine=ENGINE)
    assert middle.values.shape == (2, 6, 7, 6)
    np.testing.assert_allclose(middle.measures["conservation"], 1, atol=1e-3)
    flat = oi.lrp(row.proto(), row.feeds(), composite="epsilon_plus_flat", wrt=["g"], engine=ENGINE)
    plus = oi.lrp(row.proto(), row.feeds(), composite="epsilon_plus", wrt=["g"], engine=ENGINE)
    np.testing.assert_array_equal(flat.values, plus.values)  # the first layer comes before it


NORMALISES = "a = Sub (x, M)  b = Div (a, S)  h = Conv (b, W)  g = Relu (h)  y = ReduceMean <keepdims = 0> (g, Axes)"


@pytest.mark.parametrize("composite", ["epsilon_gamma_box", "epsilon_plus_flat", "epsilon"])
def test_normalising_in_the_graph_changes_nothing(composite: Any) -> None:
    """The shift of an input is a change of its unit; bounds are those of the input, not of the layer."""
    m, s, w, axes = spread(3, 1, 1) * 40 + 120, np.abs(spread(3, 1, 1)) * 20 + 30, weights(4, 3, 3, 3), i(2, 3)
    x = np.round(spread(2, 3, 6, 6, low=0, high=255))
    inside = r(21, NORMALISES, x=x, M=m, S=s, W=w, Axes=axes)
    outside = r(21, NORMALISES.partition("b = Div (a, S)")[2].replace("(b,", "(x,"), x=(x - m) / s, W=w, Axes=axes)
    low, high = (-m / s).reshape(-1), ((255 - m) / s).reshape(-1)
    one = oi.lrp(inside.proto(), x, target=1, composite=composite, low=0.0, high=255.0, engine=ENGINE)
    two = oi.lrp(outside.proto(), outside.feeds(), target=1, composite=composite, low=low, high=high, engine=ENGINE)
    np.testing.assert_allclose(one.values, two.values, rtol=1e-3, atol=1e-5 * np.abs(two.values).max())
    assert abs(float(one.values.sum())) > 1e-3


def test_the_box_is_that_of_black_and_white() -> None:
    """By default; and other bounds are another explanation, on the same model too."""
    model, x = oi.load(nets.classifier()), nets.images(2)
    how: dict[str, Any] = {"composite": "epsilon_gamma_box", "engine": ENGINE}
    preprocessing = oi.Preprocessing((12, 12), scale=1 / 255, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
    black, white = [-2, -5 / 3, -1.5], [3, 5 / 3, 1.0]
    default = oi.lrp(model, x, preprocessing=preprocessing, **how)
    given = oi.lrp(model, x, low=black, high=white, **how)
    np.testing.assert_allclose(given.values, default.values, rtol=1e-4, atol=1e-6)
    wider = oi.lrp(model, x, low=-9.0, high=np.full((1, 3, 12, 12), 9.0), **how)
    assert np.abs(wider.values - default.values).max() > 1e-3
    with pytest.raises(InputError, match=r"\(1, 2, 1, 1\)"):
        oi.lrp(model, x, low=[1.0, 2.0], high=3.0, **how)


def test_the_box_needs_bounds() -> None:
    row = r(21, "y = MatMul (x, W)", x=f(3, 6), W=weights(6, 4))
    with pytest.raises(InputError, match="--low, --high"):
        oi.lrp(row.proto(), row.feeds(), composite="epsilon_gamma_box", engine=ENGINE)
    with pytest.raises(InputError, match="epsilon_plus_flat"):
        oi.lrp(row.proto(), row.feeds(), composite="plus", engine=ENGINE)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="--gamma"):
        oi.lrp(row.proto(), row.feeds(), gamma=-1.0, engine=ENGINE)


# Merging.

STATS = {"S": SCALE[:4], "B": weights(4), "M": weights(4, seed=1), "V": np.abs(weights(4, seed=2)) + 0.5}
NORM = "n = BatchNormalization ({}, S, B, M, V)"
COLUMN = weights(4, 1, 1)
MERGED = {
    "convolution": (f"h = Conv (x, W)  {NORM.format('h')}  y = Relu (n)", {"W": weights(4, 3, 2, 2), **STATS}, 1),
    "transposed": (
        f"h = ConvTranspose <group = 3> (x, W)  {NORM.format('h')}  y = Relu (n)",
        {"W": weights(3, 2, 2, 2), **{k: np.resize(v, 6) for k, v in STATS.items()}}, 1,
    ),
    "written": ("h = Conv (x, W)  a = Mul (h, C)  n = Add (C, a)  y = Relu (n)", {"W": weights(4, 3, 2, 2), "C": COLUMN}, 2),
    "last": (
        "h = Conv (x, W)  t = Transpose <perm = [0, 2, 3, 1]> (h)  a = Mul (t, C)  n = Sub (a, C)  y = Relu (n)",
        {"W": weights(4, 3, 2, 2), "C": weights(4)}, 2,
    ),
    "dense": (
        f"v = Flatten (x)  h = Gemm <alpha = 2.0, beta = 3.0> (v, W, C)  {NORM.format('h')}  y = Relu (n)",
        {"W": weights(90, 4), "C": weights(4), **STATS}, 1,
    ),
    "spread": ("h = Conv (x, W)  a = Mul (h, C)  n = Add (a, C)  y = Relu (n)", {"W": weights(1, 3, 2, 2), "C": COLUMN}, 0),
    "used twice": (
        f"h = Conv (x, W)  {NORM.format('h')}  y = Add (n, h)", {"W": weights(4, 3, 2, 2), **STATS}, 0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MERGED)
def test_merging_changes_no_number(name: str) -> None:
    body, arrays, fewer = MERGED[name]
    row = r(21, body, x=f(2, 3, 6, 5), **arrays)
    model = oi.load(row.proto())
    merged = merge_batchnorm(model)
    assert len(model.ir.graph) - len(merged.ir.graph) == fewer
    before, after = (ENGINE.run(m, row.feeds(), ["y"])["y"] for m in (model, merged))
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-5)
    assert merge_batchnorm(model, ["h", "a", "t"]) is model or "n" in merged.values


def test_what_is_asked_for_is_not_merged_away() -> None:
    body = f"h = Conv (x, W)  {NORM.format('h')}  g = Relu (n)  y = ReduceMean <keepdims = 0> (g, Axes)"
    row = r(21, body, x=f(2, 3, 6, 6), W=weights(4, 3, 2, 2), Axes=i(2, 3), **STATS)
    result = oi.lrp(row.proto(), row.feeds(), target=1, wrt=["h"], engine=ENGINE)
    assert result.values.shape == (2, 4, 5, 5)
    at_x = oi.lrp(row.proto(), row.feeds(), target=1, composite="epsilon", engine=ENGINE)
    alone = oi.lrp(row.proto(), row.feeds(), target=1, composite="epsilon", preset="captum", engine=ENGINE)
    np.testing.assert_allclose(alone.values, at_x.values, rtol=1e-2, atol=1e-4 * np.abs(at_x.values).max())


def test_batch_normalisation_alone() -> None:
    row = r(
        21,
        f"a = Conv (x, W)  b = Relu (a)  {NORM.format('b')}  y = Relu (n)",
        x=f(1, 3, 6, 6),
        W=weights(4, 3, 2, 2),
        **STATS,
    )
    assert kept(row, How(conv="zplus", norm="pass")) == pytest.approx(1, abs=2e-2)
    scale = STATS["S"] / np.sqrt(STATS["V"] + 1e-5)
    shift = STATS["B"] - STATS["M"] * scale
    only = r(
        21,
        NORM.format("x").replace("n =", "h = Relu (x)  n =").replace("(x, S", "(x, S") + "  y = Identity (n)",
        x=f(2, 4, 3, 3),
        **STATS,
    )
    x, given = only.arrays["x"].astype(np.float64), weights(2, 4, 3, 3)
    np.testing.assert_array_equal(relevance(only, How(), given), given)  # nothing comes before it: a change of unit
    behind = r(
        21,
        f"c = Conv (x, W)  {NORM.format('c')}  y = Identity (n)",
        x=x.astype(np.float32),
        W=np.eye(4, dtype=np.float32)[..., None, None],
        **STATS,
    )
    a, b = scale.reshape(4, 1, 1) * x, shift.reshape(4, 1, 1)
    np.testing.assert_allclose(relevance(behind, How(conv="epsilon"), given), a * given / (a + b), rtol=1e-2, atol=1e-3)


# Excitation backprop.


def test_excitation_backprop_is_a_probability() -> None:
    row = network("plain")
    row.arrays["x"] = np.abs(row.arrays["x"])
    result = oi.excitation_backprop(row.proto(), row.feeds(), engine=ENGINE)
    np.testing.assert_allclose(result.values.sum(axis=(1, 2, 3)), 1, atol=1e-3)
    assert result.values.min() >= 0
    biased = oi.excitation_backprop(nets.classifier(), np.abs(nets.images(2)), engine=ENGINE)
    np.testing.assert_allclose(biased.measures["relevance"], 1, atol=1e-3)
    with_biases = oi.excitation_backprop(nets.classifier(), np.abs(nets.images(2)), preset="zennit", engine=ENGINE)
    assert (with_biases.measures["relevance"] < 0.99).all()


def test_excitation_backprop_literally() -> None:
    row = r(
        21, "h = MatMul (x, W)  g = Relu (h)  y = MatMul (g, V)", x=np.abs(f(1, 5)), W=weights(5, 6), V=weights(6, 3)
    )
    x, w, v = (row.arrays[k].astype(np.float64) for k in ("x", "W", "V"))
    g = np.maximum(x @ w, 0)
    p = g[0] * np.maximum(v[:, 1], 0)
    p /= p.sum()
    c = x[0][:, None] * np.maximum(w, 0)
    found = oi.excitation_backprop(row.proto(), row.feeds(), target=1, engine=ENGINE)
    np.testing.assert_allclose(found.values[0], (c / c.sum(axis=0)) @ p, rtol=1e-4)


# The table.


def test_every_operator_with_a_gradient_has_a_stated_relevance_rule() -> None:
    ours = {op for op in RULES if "::" not in op or op.startswith("ai.onnx")}
    assert {op: kind(op) for op in ours if kind(op) not in KINDS} == {}


def test_an_operator_without_any_rule_is_named() -> None:
    node = helper.make_node("Mystery", ["x"], ["h"], domain="somebody", name="odd")
    dense = helper.make_node("MatMul", ["h", "W"], ["y"])
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [2, s]) for n, s in (("x", 3), ("h", 3), ("y", 4))]
    graph = helper.make_graph(
        [node, dense],
        "g",
        values[:1],
        values[2:],
        [numpy_helper.from_array(weights(3, 4), "W")],
        value_info=values[1:2],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("somebody", 1)]
    model = oi.load(helper.make_model(graph, opset_imports=opsets, ir_version=10))
    with pytest.raises(MissingRule, match=r"odd.*somebody::Mystery.*occlusion"):
        oi.vjp(model, ["x"], ["y"], rules=Relevance(How()))


@pytest.mark.skipif(not (ROOT / "docs").exists(), reason="needs a checkout (docs/)")
def test_the_documented_table_is_the_table() -> None:
    spec = importlib.util.spec_from_file_location("lrp_rules", ROOT / "scripts" / "lrp_rules.py")
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.FILE.read_text(encoding="utf-8") == script.text(), "run scripts/lrp_rules.py"
