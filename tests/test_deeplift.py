"""DeepLIFT: multipliers written out in NumPy, and contributions that sum up to the difference of two scores."""

from __future__ import annotations

import importlib
import itertools
import math
import pkgutil
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, numpy_helper, parser

import onnx_inspect as oi
from onnx_inspect.autodiff.gradient import Precision
from onnx_inspect.autodiff.table import CONSTANTS, RULES
from onnx_inspect.contrast.gradient import Convention, contrast
from onnx_inspect.contrast.rules import LINEAR, LINES, PRODUCTS, WEIGHTED
from onnx_inspect.emit import Op
from onnx_inspect.engine import Engine
from onnx_inspect.errors import InputError, InspectError, LayerError, TargetError
from onnx_inspect.model import Model
from onnx_inspect.scores import ScoreKind

from . import nets, rules
from .rules.harness import Case, differentiable, forward64, load, names, run, typed

ENGINE = Engine("cpu", threads=1)
Array = np.ndarray[Any, Any]


def network(text: str, **shapes: tuple[int, ...]) -> onnx.ModelProto:
    """A model from onnx's text, "(inputs) => (outputs) { nodes }", with random weights of these shapes."""
    proto = parser.parse_model(f'<ir_version: 10, opset_import: ["": 23]> net {text}')
    rng = np.random.default_rng(0)
    for name, shape in shapes.items():
        w = rng.normal(0, 1 / math.sqrt(math.prod(shape[1:])), shape).astype(np.float32)
        proto.graph.initializer.append(numpy_helper.from_array(w, name))
    return proto


def drawn(*shape: int, seed: int = 1) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def complete(result: oi.Attribution, tolerance: float = 1e-5) -> None:
    """The contributions sum up to the difference of the scores, and delta says so."""
    assert not [note for note in result.notes if "delta" in note]
    total = sum(v.reshape(len(v), -1).sum(axis=1, dtype=np.float64) for v in result.tensors.values())
    step = result.scores - result.measures["reference score"]
    size = sum(np.abs(v).reshape(len(v), -1).sum(axis=1) for v in result.tensors.values())
    assert np.abs(step).max() > 1e-3, "nothing to explain"
    assert size.max() < 1e3 * np.abs(step).max(), "contributions cancel each other"
    np.testing.assert_allclose(result.measures["delta"], total - step, atol=1e-5)
    assert (np.abs(total - step) < tolerance * (np.abs(step) + size)).all()


# Against the formula.

DENSE = """(float[N, 6] x) => (float[N, 3] y) {
    a = Gemm (x, w1, b1)  r = Relu (a)  c = Gemm (r, w2, b2)  t = Tanh (c)  y = Gemm (t, w3, b3)
}"""
WEIGHTS = {"w1": (6, 5), "b1": (5,), "w2": (5, 4), "b2": (4,), "w3": (4, 3), "b3": (3,)}


def dense() -> tuple[onnx.ModelProto, dict[str, Array]]:
    proto = network(DENSE, **WEIGHTS)
    return proto, {i.name: numpy_helper.to_array(i).astype(np.float64) for i in proto.graph.initializer}


@pytest.mark.parametrize("preset", ["", "captum"])
def test_multipliers_are_their_formula(preset: Convention) -> None:
    proto, w = dense()
    x, reference = drawn(4, 6), drawn(4, 6, seed=2)
    result = oi.deeplift(proto, x, target=1, baseline=reference, preset=preset, engine=ENGINE)

    def layers(v: Array) -> list[Array]:
        a = v @ w["w1"] + w["b1"]
        c = np.maximum(a, 0) @ w["w2"] + w["b2"]
        return [a, np.maximum(a, 0), c, np.tanh(c)]

    (a, r, c, t), (a0, r0, c0, t0) = layers(x.astype(np.float64)), layers(reference.astype(np.float64))
    m = w["w3"][:, 1] * (t - t0) / (c - c0)
    m = m @ w["w2"].T * (r - r0) / (a - a0)
    np.testing.assert_allclose(result.values, m @ w["w1"].T * (x - reference), atol=2e-6)
    np.testing.assert_allclose(result.measures["reference score"], (t0 @ w["w3"] + w["b3"])[:, 1], atol=1e-6)
    layer = oi.deeplift(proto, x, target=1, baseline=reference, wrt=["r"], preset=preset, engine=ENGINE)
    np.testing.assert_allclose(layer.values, (w["w3"][:, 1] * (t - t0) / (c - c0)) @ w["w2"].T * (r - r0), atol=2e-6)


def test_it_sees_through_saturation() -> None:
    """Figure 1 of the paper: y = 1 - max(0, 1 - a - b), whose gradient vanishes at a = b = 1."""
    text = "(float[N, 2] x) => (float[N, 1] y) { s = Gemm <alpha = -1.0> (x, ones, one) r = Relu (s) y = Sub (one, r) }"
    proto = network(text)
    proto.graph.initializer.extend(
        [
            numpy_helper.from_array(np.ones((2, 1), np.float32), "ones"),
            numpy_helper.from_array(np.ones(1, np.float32), "one"),
        ]
    )
    x = np.ones((1, 2), np.float32)
    assert not oi.saliency(proto, x, target="y[0]", engine=ENGINE).values.any()
    np.testing.assert_allclose(oi.deeplift(proto, x, target="y[0]", engine=ENGINE).values, [[0.5, 0.5]])


def test_of_a_linear_model_it_is_weight_times_step() -> None:
    proto = network("(float[N, 6] x) => (float[N, 3] y) { y = Gemm (x, w, b) }", w=(6, 3), b=(3,))
    w = numpy_helper.to_array(proto.graph.initializer[0])
    x, reference = drawn(2, 6), drawn(6, seed=2)
    found = oi.deeplift(proto, x, target=2, baseline=reference, engine=ENGINE)
    np.testing.assert_allclose(found.values, w[:, 2] * (x - reference), atol=1e-6)


@pytest.mark.parametrize("preset", ["", "captum"])
def test_no_step_no_contribution(preset: Convention) -> None:
    proto = made("relu, pools, bn, residual")
    x = drawn(2, 3, 9, 11)
    result = oi.deeplift(proto, x, baseline=x, preset=preset, engine=ENGINE)
    np.testing.assert_array_equal(result.values, 0)
    np.testing.assert_array_equal(result.measures["delta"], 0)
    near = oi.deeplift(proto, x, baseline=x - np.float32(1e-3) * drawn(*x.shape, seed=3), target=0, engine=ENGINE)
    gradient = oi.saliency(proto, x, target=0, signed=True, engine=ENGINE).values
    along = np.corrcoef(near.values.ravel(), (gradient * drawn(*x.shape, seed=3)).ravel())[0, 1]
    assert along > 0.99  # towards the gradient, not towards the noise of small quotients


@pytest.mark.parametrize("activation", ["Sigmoid", "Tanh", "Gelu", "Erf", "Exp", "Softplus", "Elu"])
def test_units_that_hardly_differ_pass_their_gradient(activation: str) -> None:
    """The quotient of two roundings is noise, which large steps of the inputs would blow up."""
    text = f"(float[N, 6] x) => (float[N, 3] y) {{ h = MatMul (x, w) g = {activation} (h) y = MatMul (g, w2) }}"
    proto = network(text, w2=(6, 3))
    w = np.random.default_rng(4).normal(size=(6, 6)) * 1e-3
    w -= w.mean(axis=0)  # steps of all inputs alike change nothing
    proto.graph.initializer.append(numpy_helper.from_array(w.astype(np.float32), "w"))
    x = drawn(4, 6)
    result = oi.deeplift(proto, x, target=1, baseline=x - 1, engine=ENGINE)
    gradient = oi.saliency(proto, x, target=1, signed=True, engine=ENGINE).values
    np.testing.assert_allclose(result.values, gradient, atol=3e-3 * np.abs(gradient).max())


# Completeness.

CONV = "c = Conv <pads = [1, 1, 1, 1]> (x, w1, b1)"
HEAD = "g = GlobalAveragePool (last)  f = Flatten (g)  y = Gemm (f, w9, b9)"
IMAGE = "(float[N, 3, 9, 11] x) => (float[N, 4] y)"
BASE = {"w1": (6, 3, 3, 3), "b1": (6,), "w9": (6, 4), "b9": (4,)}
POINT = {"w2": (6, 6, 1, 1)}
TOKENS = "(float[N, 5, 8] x) => (float[N, 3] y)"
NETWORKS: dict[str, tuple[str, dict[str, tuple[int, ...]]]] = {
    "relu, pools, bn, residual": (
        f"""{IMAGE} {{ {CONV} n = BatchNormalization (c, s, b1, m, variance) r = Relu (n)
        p = MaxPool <kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]> (r)
        q = Conv <pads = [1, 1, 1, 1]> (p, w2, b2) a = Add (q, p) e = Relu (a)
        last = AveragePool <kernel_shape = [2, 2], ceil_mode = 1, strides = [2, 2]> (e) {HEAD} }}
        """,
        {**BASE, "s": (6,), "m": (6,), "w2": (6, 6, 3, 3), "b2": (6,)},
    ),
    "elu, clip, leaky relu, prelu": (
        f"{IMAGE} <float[6,1,1] slope = {{0.1,0.2,0.3,0.4,0.5,-0.6}}, float low = {{0.0}}, float six = {{0.4}}> {{ {CONV} "
        "e = Elu (c) l = LeakyRelu (e) p = PRelu (l, slope) k = Clip (c, low, six) s = Selu (c) last = Sum (p, k, s) "
        f"{HEAD} }}",
        BASE,
    ),
    "gates: hard swish, squeeze and excite": (
        f"{IMAGE} {{ {CONV} h = HardSwish (c) g1 = GlobalAveragePool (h) e = Conv (g1, w2) z = HardSigmoid (e) "
        f"last = Mul (h, z) {HEAD} }}",
        {**BASE, **POINT},
    ),
    "gate: silu as exported": (
        f"{IMAGE} {{ {CONV} z = Sigmoid (c) m = Mul (c, z) last = Conv (m, w2) {HEAD} }}", {**BASE, **POINT}
    ),
    "group and instance normalisation": (
        f"{IMAGE} {{ {CONV} i = InstanceNormalization (c, s, b1) r = Relu (i) "
        f"n = GroupNormalization <num_groups = 2> (r, s, b1) last = Mish (n) {HEAD} }}",
        {**BASE, "s": (6,)},
    ),
    "largest over positions": (
        f"{IMAGE} {{ {CONV} t = Tanh (c) a = GlobalMaxPool (t) r = ReduceMin <keepdims = 1> (c, axes) "
        f"last = Max (a, r) {HEAD} }}",
        BASE,
    ),
    "a switch": (
        f"{IMAGE} <float zero = {{0.0}}, float k = {{0.3}}> {{ {CONV} p = Greater (c, zero) d = Mul (c, k) "
        f"q = Where (p, c, d) e = Exp (c) o = Where (p, q, zero) last = Add (o, e) {HEAD} }}",
        BASE,
    ),
    "arithmetic": (
        f"{IMAGE} <float two = {{2.0}}, float one = {{1.0}}, float e = {{1.7}}> {{ {CONV} q = Pow (c, two) "
        "s = Add (q, one) r = Sqrt (s) d = Div (c, r) l = Log (s) p = Pow (s, e) i = Reciprocal (s) "
        f"a = Mul (d, l) b = Mul (p, i) n = ReduceL2 <keepdims = 1> (c, axis) u = Div (a, n) last = Sum (u, b, l) {HEAD} }}",
        BASE,
    ),
    "upsampled and padded": (
        f'{IMAGE} <float[4] scales = {{1.0, 1.0, 1.5, 2.0}}> {{ {CONV} r = Softplus (c) '
        f'last = Resize <mode = "linear"> (r, "", scales) {HEAD} }}',
        BASE,
    ),
    "attention": (
        f"""{TOKENS} <float k = {{0.4}}> {{ n = LayerNormalization (x, s, b) q = MatMul (n, wq) a = MatMul (n, wk)
        v = MatMul (n, wv) t = Transpose <perm = [0, 2, 1]> (a) qk = MatMul (q, t) z = Mul (qk, k) p = Softmax (z)
        o = MatMul (p, v) h = Add (x, o) m = RMSNormalization (h, s) f = MatMul (m, w1) g = Gelu (f) e = MatMul (g, w2)
        r = Add (h, e) c = ReduceMean <keepdims = 0> (r, one) y = MatMul (c, w9) }}""",
        {"s": (8,), "b": (8,), "wq": (8, 8), "wk": (8, 8), "wv": (8, 8), "w1": (8, 16), "w2": (16, 8), "w9": (8, 3)},
    ),
    "two inputs": (
        """(float[N, 5] a, float[N, 4] b) => (float[N, 3] y) { l = Gemm (a, w1) r = Relu (l) s = Gemm (b, w2)
        t = Tanh (s) m = Mul (r, t) c = Concat <axis = 1> (m, r) y = Gemm (c, w3) }""",
        {"w1": (5, 6), "w2": (4, 6), "w3": (12, 3)},
    ),
}  # fmt: skip
MADE = {
    "variance": np.linspace(0.5, 2, 6), "axes": np.array([2, 3]), "axis": np.array([1]), "one": np.array([1]),
}  # fmt: skip


def made(name: str) -> onnx.ModelProto:
    text, shapes = NETWORKS[name]
    proto = network(text, **shapes)
    used = {i for node in proto.graph.node for i in node.input} - {i.name for i in proto.graph.initializer}
    for key in sorted(used & set(MADE)):
        values = MADE[key]
        typed = values.astype(np.float32) if values.dtype == np.float64 else values
        proto.graph.initializer.append(numpy_helper.from_array(typed, key))
    return proto


def samples(proto: onnx.ModelProto, count: int, seed: int = 1) -> dict[str, Array]:
    weights = {i.name for i in proto.graph.initializer}
    shapes = {
        i.name: [d.dim_value or count for d in i.type.tensor_type.shape.dim]
        for i in proto.graph.input
        if i.name not in weights
    }
    return {k: drawn(*shape, seed=seed + j) for j, (k, shape) in enumerate(shapes.items())}


@pytest.mark.parametrize("score", ["logits", "output"])
@pytest.mark.parametrize("name", NETWORKS)
def test_contributions_sum_up(name: str, score: ScoreKind) -> None:
    proto = made(name)
    if score == "output":
        proto.graph.node[-1].output[0] = "logits"
        proto.graph.node.add(op_type="Softmax", input=["logits"], output=["y"])
    x, reference = samples(proto, 3), samples(proto, 3, seed=5)
    complete(oi.deeplift(proto, x, target=1, baseline=reference, score=score, engine=ENGINE))
    complete(oi.deeplift(proto, x, target=1, score=score, engine=ENGINE))


@pytest.mark.parametrize("name", NETWORKS)
def test_samples_do_not_mix(name: str) -> None:
    proto = made(name)
    x, reference = samples(proto, 3), samples(proto, 3, seed=5)
    presets: tuple[Convention, ...] = ("", "captum")
    for preset in presets:
        whole = oi.deeplift(proto, x, baseline=reference, preset=preset, engine=ENGINE)
        for i in range(3):
            one = {k: v[i : i + 1] for k, v in x.items()}
            other = {k: v[i : i + 1] for k, v in reference.items()}
            alone = oi.deeplift(proto, one, baseline=other, preset=preset, engine=ENGINE)
            for k, v in alone.tensors.items():
                np.testing.assert_allclose(whole.tensors[k][i : i + 1], v, atol=1e-6)


class Weighted:
    """The sum of a model's outputs, times given weights."""

    def __init__(self, weights: dict[str, Array]) -> None:
        self.weights = weights

    def emit(self, op: Op, model: Model) -> ir.Value:
        sums = [op.ReduceSum(model.value(k) * op.const(w), keepdims=0) for k, w in self.weights.items()]
        total = op.Reshape(op.Sum(*sums), [1])
        total.shape = ir.Shape([1])
        return total  # type: ignore[no-any-return]


ALL_CASES = [
    case
    for module in pkgutil.iter_modules(rules.__path__)
    if module.name != "harness"
    for case in importlib.import_module(f"{rules.__name__}.{module.name}").CASES
]
EXACT = LINEAR | PRODUCTS | WEIGHTED | set(LINES)
OWN = {
    "Cast",
    "DFT",
    "Einsum",
    "Resize",
    "Slice",
    "ConvTranspose",
    "RotaryEmbedding",
    "Range",
    "QuantizeLinear",
}  # odd shapes
ROWS = [
    case
    for op in sorted(EXACT - OWN)
    for case in list(itertools.islice((c for c in ALL_CASES if c.op == op and differentiable(c)), 3))
    if not set(case.attributes) & {"training_mode", "mode", "dilations"} and case.attributes.get("reduction") is None
]


@pytest.mark.parametrize("case", ROWS, ids=str)
def test_operators_have_lines(case: Case) -> None:
    """Σ m (X - X') = Y - Y' for every operator whose line is known, between an input and its reverse."""
    moving = differentiable(case)
    moving = moving[:1] if case.op in WEIGHTED or "Norm" in case.op or case.op in ("PRelu", "Pow", "Clip") else moving
    model = load(case, TensorProto.FLOAT, False, forward64(case)(list(case.inputs)))
    xs = {
        n: typed(np.asarray(x), TensorProto.FLOAT)
        for i, (n, x) in enumerate(zip(names(case), case.inputs, strict=True))
        if x is not None and i not in case.fixed
    }
    ours = [names(case)[i] for i in moving]
    other = {f"reference.{n}": np.ascontiguousarray(xs[n].reshape(-1)[::-1].reshape(xs[n].shape)) for n in ours}
    rng = np.random.default_rng(1)
    found = run(model.to_bytes(), xs)
    weights = {k: np.asarray(rng.normal(size=v.shape), np.float32) for k, v in found.items() if v.dtype == np.float32}
    both = contrast(model, Weighted(weights), ours, ours)
    assert both.notes == model.notes, "approximated"
    got = run(both.to_bytes(), xs | other)
    parts = np.concatenate([got[f"contribution.{n}"].ravel() for n in ours]).astype(np.float64)
    step = float(got["score"][0]) - float(got["reference.score"][0])
    assert abs(parts.sum() - step) <= 1e-5 * (abs(step) + np.abs(parts).sum() + 1e-3)


APPROXIMATE = """
    Attention AffineGrid Bernoulli Binarizer ConvInteger CumProd Det DynamicQuantizeLinear GRU GlobalLpPool If LRN LSTM
    Loop LpNormalization LpPool MatMulInteger MaxRoiPool MaxUnpool Mod NegativeLogLikelihoodLoss QLinearConv
    QLinearMatMul RNN ReduceLogSum ReduceLogSumExp ReduceProd Scan SequenceMap SoftmaxCrossEntropyLoss TopK Unique
    Upsample
""".split()


def test_every_operator_is_exact_or_known_not_to_be() -> None:
    operators = {name for name in RULES if "::" not in name} - CONSTANTS
    assert operators - EXACT == set(APPROXIMATE) & operators
    assert EXACT - operators == set()


# The same in other words.


def both(one: str, other: str, shape: str = "N, 6", **weights: tuple[int, ...]) -> tuple[Array, Array]:
    """Contributions of two networks that compute the same."""
    x, reference = drawn(3, 6), drawn(3, 6, seed=2)
    found = []
    for text in (one, other):
        proto = network(f"(float[N, 6] x) => (float[N, 3] y) {text}", w=(6, 6), w2=(6, 3), **weights)
        result = oi.deeplift(proto, x, target=1, baseline=reference, engine=ENGINE)
        complete(result)
        found.append(result.values)
    return found[0], found[1]


FORMS = {
    "gelu": (
        "{ h = MatMul (x, w) g = Gelu (h) y = MatMul (g, w2) }",
        """<float r = {1.4142135}, float one = {1.0}, float half = {0.5}> { h = MatMul (x, w) d = Div (h, r) e = Erf (d)
        a = Add (e, one) m = Mul (h, a) g = Mul (m, half) y = MatMul (g, w2) }""",
    ),
    "hard swish": (
        "{ h = MatMul (x, w) g = HardSwish (h) y = MatMul (g, w2) }",
        """<float three = {3.0}, float zero = {0.0}, float six = {6.0}> { h = MatMul (x, w) a = Add (h, three)
        c = Clip (a, zero, six) d = Div (c, six) g = Mul (h, d) y = MatMul (g, w2) }""",
    ),
    "relu": (
        "{ h = MatMul (x, w) g = Relu (h) y = MatMul (g, w2) }",
        "<float zero = {0.0}> { h = MatMul (x, w) g = Max (zero, h) y = MatMul (g, w2) }",
    ),
    "leaky relu": (
        "{ h = MatMul (x, w) g = LeakyRelu <alpha = 0.1> (h) y = MatMul (g, w2) }",
        """<float zero = {0.0}, float k = {0.1}> { h = MatMul (x, w) p = Greater (h, zero) n = Mul (h, k)
        g = Where (p, h, n) y = MatMul (g, w2) }""",
    ),
    "layer normalisation": (
        """<float[6] one = {1.0, 1.0, 1.0, 1.0, 1.0, 1.0}> { h = MatMul (x, w)
        g = LayerNormalization <epsilon = 0.01> (h, one) y = MatMul (g, w2) }""",
        """<int64[1] last = {-1}, float e = {0.01}> { h = MatMul (x, w) m = ReduceMean (h, last) c = Sub (h, m)
        s = Mul (c, c) v = ReduceMean (s, last) a = Add (v, e) d = Sqrt (a) g = Div (c, d) y = MatMul (g, w2) }""",
    ),
    "layer normalisation, 1 / sigma first": (
        """<int64[1] last = {-1}, float e = {0.01}> { h = MatMul (x, w) m = ReduceMean (h, last) c = Sub (h, m)
        s = Mul (c, c) v = ReduceMean (s, last) a = Add (v, e) d = Sqrt (a) g = Div (c, d) y = MatMul (g, w2) }""",
        """<int64[1] last = {-1}, float e = {0.01}, float two = {2.0}> { h = MatMul (x, w) m = ReduceMean (h, last)
        s = Sub (h, m) q = Pow (s, two) v = ReduceMean (q, last) a = Add (v, e) d = Sqrt (a) i = Reciprocal (d)
        k = Mul (i, two) l = Mul (h, k) o = Mul (m, k) n = Sub (l, o) g = Div (n, two) y = MatMul (g, w2) }""",
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_operators_written_out_get_the_same(name: str) -> None:
    one, other = both(*FORMS[name])
    np.testing.assert_allclose(other, one, atol=3e-6)


def test_a_flat_reference_does_not_blow_up_a_normalisation() -> None:
    """At σ' = √ε the reciprocal of σ' is huge; its mean with that of σ must not stand for either."""
    proto = made("attention")
    reference = np.ones((1, 5, 8), np.float32)
    result = oi.deeplift(proto, drawn(2, 5, 8), target=0, baseline=reference, engine=ENGINE)
    complete(result)
    assert np.abs(result.values).max() < 10


@pytest.mark.parametrize("method", ["deeplift", "deep_shap"])
def test_layouts_give_the_same(method: str) -> None:
    first = getattr(oi, method)(nets.classifier(), nets.images(2), target=2, engine=ENGINE)
    last = getattr(oi, method)(nets.classifier(nhwc=True), nets.images(2, nhwc=True), target=2, engine=ENGINE)
    np.testing.assert_allclose(np.moveaxis(last.values, -1, 1), first.values, atol=1e-6)
    np.testing.assert_allclose(last.heat, first.heat, atol=1e-6)


# Conventions.


def test_the_class_is_that_of_the_sample() -> None:
    proto = made("two inputs")
    x = samples(proto, 9)
    top = oi.deeplift(proto, x, engine=ENGINE)
    classes = [p.index for p in top.explained if p is not None]
    assert len(set(classes)) > 1
    named = oi.deeplift(proto, x, target=classes, engine=ENGINE)
    np.testing.assert_allclose(top.values, named.values, atol=1e-7)
    np.testing.assert_allclose(top.measures["reference score"], named.measures["reference score"], atol=1e-6)


def test_captum_contrasts_what_it_knows() -> None:
    proto = network(
        "(float[N, 6] x) => (float[N, 3] y) { h = MatMul (x, w) g = Gelu (h) y = MatMul (g, w2) }", w=(6, 6), w2=(6, 3)
    )
    x = drawn(3, 6)
    result = oi.deeplift(proto, x, target=1, preset="captum", engine=ENGINE)
    np.testing.assert_allclose(result.values, oi.input_x_gradient(proto, x, target=1, engine=ENGINE).values, atol=1e-6)
    assert any("as in captum, only Relu" in note for note in result.notes)
    assert np.abs(result.measures["delta"]).max() > 1e-2


def test_captum_normalises_softmax() -> None:
    proto, w = dense()
    proto.graph.node[-1].output[0] = "z"
    proto.graph.node.add(op_type="Softmax", input=["z"], output=["y"])
    x = drawn(2, 6)
    result = oi.deeplift(proto, x, target=1, wrt=["z"], score="output", preset="captum", engine=ENGINE)

    def forward(v: Array) -> Array:
        hidden = np.tanh(np.maximum(v @ w["w1"] + w["b1"], 0) @ w["w2"] + w["b2"])
        return np.asarray(hidden @ w["w3"] + w["b3"])

    z, z0 = forward(x.astype(np.float64)), forward(np.zeros((2, 6)))
    p, p0 = (np.exp(v) / np.exp(v).sum(axis=1, keepdims=True) for v in (z, z0))
    m = np.where(np.arange(3) == 1, (p - p0) / (z - z0), 0)
    np.testing.assert_allclose(result.values, (m - m.mean(axis=1, keepdims=True)) * (z - z0), atol=1e-6)


def test_captum_loses_a_pool_behind_a_relu() -> None:
    """The pool's multipliers are overwritten there, as tests/parity shows too; ours are complete."""
    text = f"{IMAGE} {{ {CONV} r = Relu (c) last = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (r) {HEAD} }}"
    proto = network(text, **BASE)
    x = drawn(1, 3, 9, 11)
    other = drawn(1, 3, 9, 11, seed=2)
    complete(oi.deeplift(proto, x, target=0, baseline=other, engine=ENGINE))
    lost = oi.deeplift(proto, x, target=0, baseline=other, preset="captum", engine=ENGINE)
    assert abs(lost.measures["delta"][0]) > 1e-2
    layer = oi.deeplift(proto, x, target=0, wrt=["r"], preset="captum", engine=ENGINE)
    np.testing.assert_allclose(
        layer.values, oi.deeplift(proto, x, target=0, wrt=["r"], engine=ENGINE).values, atol=1e-6
    )


def test_what_is_approximated_is_noted() -> None:
    text = """(float[N, 7, 4] x) => (float[N, 3] y) { t = Transpose <perm = [1, 0, 2]> (x)
        o, h = LSTM <hidden_size = 5> (t, w, r) s = Squeeze (h, zero)
        y = MatMul (s, w2) }"""
    proto = network(text, w=(1, 20, 4), r=(1, 20, 5), w2=(5, 3))
    for weights in proto.graph.initializer[:2]:
        weights.CopyFrom(numpy_helper.from_array(3 * numpy_helper.to_array(weights), weights.name))
    proto.graph.initializer.append(numpy_helper.from_array(np.array([0]), "zero"))
    result = oi.deeplift(proto, drawn(2, 7, 4), target=1, engine=ENGINE)
    assert any(note.startswith("LSTM pass") for note in result.notes)
    step = result.scores - result.measures["reference score"]
    assert np.abs(result.measures["delta"] / step).max() < 1e-2
    halfway = oi.input_x_gradient(proto, drawn(2, 7, 4), target=1, engine=ENGINE)
    assert abs(halfway.values[0].sum() - step[0]) > 5 * abs(result.measures["delta"][0])


def test_a_scan_is_approximated_as_a_whole() -> None:
    text = """(float[N, 7, 4] x) => (float[N, 3] y) <float[1, 5] start = {0.0, 0.0, 0.0, 0.0, 0.0}> {
        d = Shape <end = 1> (x) n = Concat <axis = 0> (d, five) h0 = Expand (start, n)
        h, o = Scan <num_scan_inputs = 1, scan_input_axes = [1], body = step (float[N, 5] s, float[N, 4] v) =>
        (float[N, 5] s2, float[N, 5] out) { a = MatMul (v, w) b = MatMul (s, r) c = Add (a, b) s2 = Tanh (c)
        out = Identity (s2) }> (h0, x) y = MatMul (h, w2) }"""
    proto = network(text, w=(4, 5), r=(5, 5), w2=(5, 3))
    proto.graph.initializer.append(numpy_helper.from_array(np.array([5]), "five"))
    result = oi.deeplift(proto, drawn(2, 7, 4), target=1, engine=ENGINE)
    assert any(note.startswith("Scan pass") for note in result.notes)
    step = result.scores - result.measures["reference score"]
    assert np.abs(result.measures["delta"] / step).max() < 1e-3


def test_a_branch_passes_its_gradient() -> None:
    text = """(float[N, 6] x) => (float[N, 3] y) <float zero = {0.0}> { s = ReduceSum <keepdims = 0> (x)
        c = Greater (s, zero) k = Mul (x, x) h = If (c) <then_branch = g1 () => (float[N, 6] t) { t = Relu (k) },
        else_branch = g2 () => (float[N, 6] e) { e = Tanh (k) }> y = MatMul (h, w2) }"""
    proto = network(text, w2=(6, 3))
    w = numpy_helper.to_array(proto.graph.initializer[-1]).astype(np.float64)
    for sign in (1, -1):
        x, reference = sign * np.abs(drawn(1, 6)), sign * np.abs(drawn(1, 6, seed=2))
        result = oi.deeplift(proto, x, target=1, baseline=reference, engine=ENGINE)
        slope = np.ones((1, 6)) if sign > 0 else 1 - np.tanh(x.astype(np.float64) ** 2) ** 2
        np.testing.assert_allclose(result.values, w[:, 1] * slope * (x * x - reference * reference), atol=1e-5)
        assert any(note.startswith("If pass") for note in result.notes)
    assert np.abs(result.measures["delta"]).max() > 1e-3


def test_states_and_shared_inputs() -> None:
    text = "(float[N, 6] x, float[6] k) => (float[N, 3] y) { m = Mul (x, k) y = MatMul (m, w2) }"
    proto, x = network(text, w2=(6, 3)), {"x": drawn(2, 6), "k": drawn(6)}
    one = oi.deeplift(proto, {"x": x["x"][:1], "k": x["k"]}, target=1, engine=ENGINE)
    w = numpy_helper.to_array(proto.graph.initializer[0])[:, 1]
    np.testing.assert_allclose(one.tensors["k"], x["k"] * x["x"][0] / 2 * w, atol=1e-6)
    np.testing.assert_allclose(one.measures["delta"], 0, atol=1e-6)
    both = {"x": np.repeat(x["x"], 3, axis=0), "k": x["k"]}  # as many samples as k has numbers
    for feeds in (x, both):
        for method in (oi.lrp, oi.deeplift, oi.deep_shap):
            with pytest.raises(InputError, match="'k' is one for all samples"):
                method(proto, feeds, target=1, engine=ENGINE)
    row = network(text.replace("float[6] k", "float[1, 6] k"), w2=(6, 3))
    with pytest.raises(InputError, match="'k' is one for all samples: give it one baseline, not 2"):
        given = {"x": drawn(2, 6), "k": drawn(2, 6)}
        oi.deep_shap(row, {**x, "k": drawn(1, 6)}, target=1, baseline=given, wrt=["x"], engine=ENGINE)


@pytest.mark.parametrize("method", ["deeplift", "deep_shap"])
def test_what_is_not_attributed_to_stays(method: str) -> None:
    """As it does in integrated gradients: the contributions of some inputs sum up as well, in any order of inputs."""
    text = "(float[N, 6] x, float[4] k) => (float[N, 3] y) { m = MatMul (x, w) s = ReduceSum (k) y = Mul (m, s) }"
    proto = network(text, w=(6, 3))
    feeds = {"k": drawn(4), "x": drawn(2, 6)}
    result = getattr(oi, method)(proto, feeds, target=[1, 2], wrt=["x"], engine=ENGINE)
    w = numpy_helper.to_array(proto.graph.initializer[0])[:, [1, 2]].T
    np.testing.assert_allclose(result.values, feeds["x"] * w * feeds["k"].sum(), atol=1e-6)
    complete(result)


def test_half_precision() -> None:
    proto = made("relu, pools, bn, residual")
    x, reference = drawn(2, 3, 9, 11), drawn(2, 3, 9, 11, seed=2)
    wide = oi.deeplift(proto, x, target=1, baseline=reference, engine=ENGINE)
    half = onnx.ModelProto()
    half.CopyFrom(proto)
    for weights in half.graph.initializer:
        weights.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weights).astype(np.float16), weights.name))
    for value in (*half.graph.input, *half.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    precisions: tuple[Precision, ...] = ("float32", "model")
    for precision in precisions:
        for baseline in (reference.astype(np.float16), x.astype(np.float16)):
            found = oi.deeplift(half, x.astype(np.float16), target=1, baseline=baseline, precision=precision)
            expected = wide.values if baseline[0, 0, 0, 0] != np.float16(x[0, 0, 0, 0]) else 0 * x
            np.testing.assert_allclose(found.values, expected, atol=0.05 * np.abs(wide.values).max())


def test_saturated_quantisers_rectify() -> None:
    text = """(float[N, 6] x) => (float[N, 3] y) <float s = {0.02}, uint8 z = {0}> { h = MatMul (x, w)
        q = QuantizeLinear (h, s, z) d = DequantizeLinear (q, s, z) y = MatMul (d, w2) }"""
    proto = network(text, w=(6, 6), w2=(6, 3))
    x, reference = drawn(3, 6), drawn(3, 6, seed=2)
    result = oi.deeplift(proto, x, target=1, baseline=reference, engine=ENGINE)
    plain = network(
        "(float[N, 6] x) => (float[N, 3] y) { h = MatMul (x, w) d = Relu (h) y = MatMul (d, w2) }", w=(6, 6), w2=(6, 3)
    )
    relu = oi.deeplift(plain, x, target=1, baseline=reference, engine=ENGINE)
    np.testing.assert_allclose(result.values, relu.values, atol=0.05)
    assert np.abs(result.measures["delta"]).max() < 0.05


# Several references.


def test_deep_shap_is_the_mean_over_references() -> None:
    proto = made("two inputs")
    x, rows = samples(proto, 3), samples(proto, 11, seed=7)
    result = oi.deep_shap(proto, x, target=1, baseline=rows, engine=Engine("cpu", threads=1, batch=4))
    singles = [
        oi.deeplift(proto, x, target=1, baseline={k: v[j : j + 1] for k, v in rows.items()}, engine=ENGINE)
        for j in range(11)
    ]
    for name in ("a", "b"):
        np.testing.assert_allclose(result.tensors[name], np.mean([s.tensors[name] for s in singles], 0), atol=1e-6)
    np.testing.assert_allclose(
        result.measures["reference score"], np.mean([s.measures["reference score"] for s in singles], 0), atol=1e-6
    )
    complete(result)
    top = oi.deep_shap(proto, x, baseline=rows, engine=ENGINE)
    expected = [p.index for p in oi.deeplift(proto, x, engine=ENGINE).explained if p is not None]
    assert [p.index for p in top.explained if p is not None] == expected
    named = oi.deep_shap(proto, x, target=expected, baseline=rows, engine=ENGINE)
    np.testing.assert_allclose(named.values, top.values, atol=1e-7)


# Errors.


def test_an_unknown_tensor_or_baseline_is_an_error() -> None:
    proto, _ = dense()
    with pytest.raises(LayerError):
        oi.deeplift(proto, drawn(1, 6), wrt=["nothing"], engine=ENGINE)
    with pytest.raises(InputError, match="no baseline 'sky'"):
        oi.deeplift(proto, drawn(1, 6), baseline="sky", engine=ENGINE)
    with pytest.raises(InspectError):
        oi.deeplift(proto, drawn(1, 6), baseline=drawn(1, 5), engine=ENGINE)


def test_the_name_of_a_reference_may_be_taken() -> None:
    text = "(float[N, 6] x) => (float[N, 6] y) { r = Relu (x) y = Neg (r) }"
    proto = network(text)
    proto.graph.node[0].output[0] = proto.graph.node[1].input[0] = "reference.x"
    with pytest.raises(LayerError, match=r"has a tensor 'reference\.x' already"):
        oi.deeplift(proto, drawn(1, 6), engine=ENGINE)


def test_a_target_that_does_not_depend_is_an_error() -> None:
    text = "(float[N, 6] x) => (float[N, 3] y, float[N, 6] z) { y = MatMul (x, w) z = Relu (x) }"
    with pytest.raises(TargetError, match="does not depend on 'z'"):
        oi.deeplift(network(text, w=(6, 3)), drawn(1, 6), target="y[0]", wrt=["z"], engine=ENGINE)


def test_numbers_that_name_things_are_compared_with_number_0() -> None:
    text = """(int64[N, 4] ids, float[N, 4] k) => (float[N, 3] y)
        { e = Gather (w, ids) u = Unsqueeze (k, one) m = Mul (e, u) s = Flatten (m) y = MatMul (s, v) }"""
    proto = network(text, w=(9, 2), v=(8, 3))
    proto.graph.initializer.append(numpy_helper.from_array(np.array([2]), "one"))
    feeds: dict[str, Any] = {"ids": np.array([[1, 2, 3, 4], [5, 6, 7, 8]]), "k": drawn(2, 4)}
    both = oi.deeplift(proto, feeds, target=0, wrt=["e", "k"], engine=ENGINE)
    complete(both)
    assert "baseline: token 0 of 'ids' says nothing (--baseline N)" in both.notes
    baseline = {"ids": np.zeros((1, 4), np.int64), "k": feeds["k"]}
    complete(oi.deeplift(proto, feeds, target=0, wrt=["e"], baseline=baseline, engine=ENGINE))
    with pytest.raises(LayerError, match="'ids' holds INT64 numbers"):
        oi.guided_ig(proto, feeds, target=0, engine=ENGINE)
