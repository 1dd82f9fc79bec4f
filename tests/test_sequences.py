"""Gradients through sequences and optionals, against central differences in float64 on onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import parser

import onnx_inspect as oi
from onnx_inspect.autodiff.gradient import vjp

from .rules.harness import normal, positive, run

Nested = Any  # an array, a list of them (a sequence), or None (an optional that holds nothing)


def loaded(signature: str, body: str) -> oi.Model:
    return oi.load(parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21]> g {signature} {{ {body} }}'))


def like(x: Nested, rng: np.random.Generator) -> Nested:
    if x is None:
        return None
    return [like(e, rng) for e in x] if isinstance(x, list) else rng.normal(size=np.shape(x))


def moved(x: Nested, u: Nested, step: float) -> Nested:
    if x is None:
        return None
    return [moved(a, b, step) for a, b in zip(x, u, strict=True)] if isinstance(x, list) else np.asarray(x + step * u)


def dot(x: Nested, y: Nested) -> float:
    if x is None or y is None:
        assert x is None and y is None
        return 0.0
    if isinstance(x, list):
        assert isinstance(y, list)
        return sum(dot(a, b) for a, b in zip(x, y, strict=True))
    assert np.shape(x) == np.shape(y)
    return float(np.sum(x * y))


def check(model: oi.Model, feeds: dict[str, Nested], wrt: list[str], outputs: list[str]) -> dict[str, Nested]:
    """Compare the vjp with central differences; returns it."""
    rng, step, forward = np.random.default_rng(0), 1e-5, model.to_bytes()
    y = run(forward, feeds)
    cs = {n: like(y[n], rng) for n in outputs}
    adjoint = vjp(model, wrt, outputs).to_bytes()
    onnx.checker.check_model(adjoint, full_check=True)
    got = run(adjoint, feeds | {f"cotangent.{n}": c for n, c in cs.items()})
    for name in wrt:
        u = like(feeds[name], rng)
        plus, minus = (run(forward, feeds | {name: moved(feeds[name], u, h)}) for h in (step, -step))
        expected = sum(dot(c, plus[n]) - dot(c, minus[n]) for n, c in cs.items()) / (2 * step)
        gradient = got[f"gradient.{name}"]
        actual, scale = dot(gradient, u), dot(gradient, gradient) ** 0.5 + abs(expected) + 1e-3
        assert abs(actual - expected) <= 1e-6 * scale, f"{name}: {actual} instead of {expected}"
    return got


RAGGED = [normal(2, 3), normal(1, 3), normal(3, 3)]
EXTRA = positive(2, 3)
POSITIONS = [*range(3), *range(-3, 0)]


def constant_or_input(i: int, constant: bool) -> tuple[str, str, dict[str, Nested]]:
    """A position as a constant or as an input: what to declare, what to compute, what to feed."""
    if constant:
        return "", f"i = Constant <value = int64 {{{i}}}> ()", {}
    return ", int64 i", "", {"i": np.array(i)}


@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize("i", POSITIONS)
def test_at(i: int, constant: bool) -> None:
    declared, node, feeds = constant_or_input(i, constant)
    model = loaded(
        f"(seq(double[N, 3]) s{declared}) => (double[M, 3] y)",
        f"{node} a = SequenceAt (s, i) z = Constant <value = int64 {{0}}> () b = SequenceAt (s, z) y = Mul (a, b)"
        if i in (0, -3)
        else f"{node} a = SequenceAt (s, i) y = Mul (a, a)",
    )
    got = check(model, {"s": RAGGED} | feeds, ["s"], ["y"])
    assert [bool(g.any()) for g in got["gradient.s"]] == [k == i % 3 for k in range(3)]


@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize("i", [*POSITIONS, 3])
def test_insert(i: int, constant: bool) -> None:
    declared, node, feeds = constant_or_input(i, constant)
    model = loaded(
        f"(seq(double[N, 3]) s, double[M, 3] x{declared}) => (seq(double[K, 3]) t)",
        f"{node} e = Sin (x) t = SequenceInsert (s, e, i)",
    )
    check(model, {"s": RAGGED, "x": EXTRA} | feeds, ["s", "x"], ["t"])


@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize("i", POSITIONS)
def test_erase(i: int, constant: bool) -> None:
    declared, node, feeds = constant_or_input(i, constant)
    model = loaded(f"(seq(double[N, 3]) s{declared}) => (seq(double[K, 3]) t)", f"{node} t = SequenceErase (s, i)")
    got = check(model, {"s": RAGGED} | feeds, ["s"], ["t"])
    assert [bool(g.any()) for g in got["gradient.s"]] == [k != i % 3 for k in range(3)]


def test_positions_left_out_mean_the_end() -> None:
    model = loaded(
        "(seq(double[N, 3]) s, double[M, 3] x) => (seq(double[K, 3]) t)",
        "e = SequenceErase (s) y = Exp (x) t = SequenceInsert (e, y)",
    )
    check(model, {"s": RAGGED, "x": EXTRA}, ["s", "x"], ["t"])


@pytest.mark.parametrize("axis", [0, 1, -1, -2])
def test_construct_and_concat(axis: int) -> None:
    model = loaded(
        "(double[N, 3] x, double[N, 3] z) => (double[K, M] y)",
        f"s = SequenceConstruct (x, z, x) c = ConcatFromSequence <axis = {axis}> (s) y = Mul (c, c)",
    )
    check(model, {"x": normal(2, 3), "z": positive(2, 3)}, ["x", "z"], ["y"])


def test_concat_of_elements_of_many_sizes() -> None:
    model = loaded("(seq(double[N, 3]) s) => (double[K, 3] y)", "c = ConcatFromSequence <axis = 0> (s) y = Mul (c, c)")
    check(model, {"s": RAGGED}, ["s"], ["y"])


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2, -3])
def test_concat_along_a_new_axis(axis: int) -> None:
    model = loaded(
        "(seq(double[2, 3]) s) => (double[A, B, C] y)",
        f"c = ConcatFromSequence <axis = {axis}, new_axis = 1> (s) y = Mul (c, c)",
    )
    check(model, {"s": [normal(2, 3), positive(2, 3)]}, ["s"], ["y"])


SPLITS = [
    ("axis = 0,", "", {}),
    ("axis = 1,", "", {}),
    ("axis = -1, keepdims = 0,", "", {}),
    ("axis = 0, keepdims = 0,", "", {}),
    ("axis = 0,", "int64 split", {"split": np.array(3)}),
    ("axis = -2,", "int64[K] split", {"split": np.array([3, 1])}),
    ("axis = 1, keepdims = 0,", "int64[K] split", {"split": np.array([2, 1, 0])}),
]


@pytest.mark.parametrize(("attributes", "declared", "feeds"), SPLITS)
def test_split(attributes: str, declared: str, feeds: dict[str, Nested]) -> None:
    rank = "A" if "keepdims = 0" in attributes and not declared else "A, B"
    model = loaded(
        f"(double[4, 3] x{declared and ', '}{declared}) => (seq(double[{rank}]) t)",
        f"e = Sin (x) t = SplitToSequence <{attributes.rstrip(',')}> (e{declared and ', split'})",
    )
    check(model, {"x": normal(4, 3)} | feeds, ["x"], ["t"])


def test_sums_of_cotangents_of_sequences() -> None:
    model = loaded(
        "(seq(double[N, 3]) s, double[M, 3] x) => (seq(double[N, 3]) t, double[K, 3] y, double[L, 3] z)",
        """t = SequenceInsert (s, x) y = ConcatFromSequence <axis = 0> (s)
        i = Constant <value = int64 {1}> () e = SequenceAt (t, i) z = Exp (e)""",
    )
    feeds = {"s": RAGGED, "x": EXTRA}
    check(model, feeds, ["s", "x"], ["t", "y", "z"])
    got = check(model, feeds, ["s", "x"], ["y"])
    assert not got["gradient.x"].any()


MAP = """
    t, l = SequenceMap <body = f (double[A, 3] a, double[B, 3] b, double[3] c) => (double[C, 3] d, int64 n) {
        p = Mul (a, b) q = Mul (p, c) d = Mul (q, w) n = Size (a)
    }> (s, r, v)
"""


def test_map() -> None:
    """Captured values, tensors, the same sequence twice."""
    signature = "(seq(double[N, 3]) s, double[3] v, double w{}) => (seq(double[M, 3]) t)"
    feeds = {"s": RAGGED, "v": normal(3), "w": np.array(1.5)}
    other = {"r": [positive(*x.shape) for x in RAGGED]}
    model = loaded(signature.format(", seq(double[M, 3]) r"), MAP)
    check(model, feeds | other, ["s", "r", "v", "w"], ["t"])
    check(model, feeds | other, ["w"], ["t"])
    check(loaded(signature.format(""), MAP.replace("(s, r,", "(s, s,")), feeds, ["s", "v", "w"], ["t"])


def test_map_that_reads_another_sequence() -> None:
    model = loaded(
        "(seq(double[N, 3]) s, seq(double[3]) r) => (seq(double[M, 3]) t)",
        """i = Constant <value = int64 {-1}> ()
        t = SequenceMap <body = f (double[A, 3] a) => (double[A, 3] d) { b = SequenceAt (r, i) d = Mul (a, b) }> (s)""",
    )
    check(model, {"s": RAGGED, "r": [normal(3), positive(3)]}, ["s", "r"], ["t"])


BRANCHES = """
    t = If (c) <
        then_branch = one () => (seq(double[N, 3]) p) { e = Sin (x) p = SequenceInsert (s, e) },
        else_branch = two () => (seq(double[N, 3]) q) { q = Identity (s) }
    >
    y = ConcatFromSequence <axis = 0> (t)
"""


@pytest.mark.parametrize("c", [True, False])
def test_if(c: bool) -> None:
    model = loaded("(seq(double[N, 3]) s, double[M, 3] x, bool c) => (double[K, 3] y)", BRANCHES)
    got = check(model, {"s": RAGGED, "x": EXTRA, "c": np.array(c)}, ["s", "x"], ["y"])
    assert got["gradient.x"].any() == c


GROWING = """
    go = Constant <value = bool {1}> ()
    last = Constant <value = int64 {-1}> ()
    first = SequenceConstruct (x)
    t, h = Loop <body = step (int64 i, bool c, seq(double[N, 3]) s, double[N, 3] g) =>
                            (bool d, seq(double[N, 3]) u, double[N, 3] k) {
        a = SequenceAt (s, last) b = SequenceAt (s, i) m = MatMul (b, w) n = Add (m, a) e = Tanh (n)
        k = Mul (g, e) u = SequenceInsert (s, e) d = Identity (c)
    }> (trips, go, first, x)
    y = ConcatFromSequence <axis = 1, new_axis = 1> (t)
"""


@pytest.mark.parametrize("trips", [0, 1, 4])
def test_a_loop_whose_state_is_a_sequence_that_grows(trips: int) -> None:
    model = loaded("(double[N, 3] x, double[3, 3] w, int64 trips) => (double[N, T, 3] y, double[N, 3] h)", GROWING)
    feeds = {"x": normal(2, 3), "w": normal(3, 3), "trips": np.array(trips)}
    for outputs in (["y", "h"], ["y"], ["h"]):
        check(model, feeds, ["x", "w"], outputs)


def test_a_loop_that_consumes_a_sequence() -> None:
    """As long as it holds something."""
    model = loaded(
        "(seq(double[3]) s, double[3] x) => (double[3] y, seq(double[3]) r)",
        """go = Constant <value = bool {1}> ()
        one = Constant <value = int64 {1}> ()
        r, y = Loop <body = step (int64 i, bool c, seq(double[3]) a, double[3] h) =>
                                (bool d, seq(double[3]) b, double[3] k) {
            zero = Constant <value = int64 {0}> ()
            e = SequenceAt (a, zero) p = Mul (h, e) k = Sin (p) b = SequenceErase (a, zero)
            n = SequenceLength (b) d = Greater (n, one)
        }> (, go, s, x)""",
    )
    check(model, {"s": [normal(3), positive(3), normal(3) + 1, positive(3)], "x": normal(3)}, ["s", "x"], ["y", "r"])


def test_a_loop_over_a_sequence_around_it() -> None:
    model = loaded(
        "(seq(double[N, 3]) s, double[3] w) => (double[3] y)",
        """n = SequenceLength (s)
        y = Loop <body = step (int64 i, bool c, double[3] h) => (bool d, double[3] k) {
            zero = Constant <value = int64[1] {0}> ()
            e = SequenceAt (s, i) f = ReduceSum <keepdims = 0> (e, zero) k = Mul (h, f) d = Identity (c)
        }> (n, , w)""",
    )
    check(model, {"s": RAGGED, "w": normal(3)}, ["s", "w"], ["y"])


def test_a_scan_that_reads_a_sequence_around_it() -> None:
    model = loaded(
        "(seq(double[N, 3]) s, double[T, 3] x, int64[T] i, double[3] h0) => (double[3] h)",
        """h = Scan <num_scan_inputs = 2, body = step (double[3] g, double[3] a, int64 j) => (double[3] k) {
            zero = Constant <value = int64[1] {0}> ()
            e = SequenceAt (s, j) f = ReduceSum <keepdims = 0> (e, zero) m = Mul (g, f) k = Add (m, a)
        }> (h0, x, i)""",
    )
    feeds = {"s": RAGGED, "x": normal(4, 3), "i": np.array([2, 0, -3, 2]), "h0": positive(3)}
    check(model, feeds, ["s", "x", "h0"], ["h"])


OPTIONALS = """
    some = OptionalHasElement (o)
    y = If (some) <
        then_branch = one () => (double[N] p) { a = OptionalGetElement (o) b = Mul (a, x) p = Mul (a, b) },
        else_branch = two () => (double[N] q) { q = Sin (x) }
    >
"""


@pytest.mark.parametrize("o", [normal(3), None])
def test_optional_tensors(o: Nested) -> None:
    model = loaded("(optional(double[N]) o, double[N] x) => (double[N] y)", OPTIONALS)
    check(model, {"o": o, "x": positive(3)}, ["o", "x"], ["y"])


@pytest.mark.parametrize("o", [[normal(3), positive(2)], None])
def test_optional_sequences(o: Nested) -> None:
    model = loaded(
        "(optional(seq(double[N])) o, seq(double[N]) r) => (seq(double[M]) s, seq(double[M]) t)",
        """some = OptionalHasElement (o)
        s, t = If (some) <
            then_branch = one () => (seq(double[N]) p, seq(double[N]) u) {
                p = OptionalGetElement (o)
                c = OptionalGetElement (o)
                u = SequenceMap <body = f (double[A] a, double[A] b) => (double[A] d) { d = Mul (a, b) }> (c, r)
            },
            else_branch = two () => (seq(double[N]) q, seq(double[N]) v) { q = Identity (r) v = Identity (r) }
        >""",
    )
    check(model, {"o": o, "r": [positive(3), normal(2)]}, ["o", "r"], ["s", "t"])


def test_optional() -> None:
    model = loaded("(double[N] x) => (double[N] y)", "o = Optional (x) a = OptionalGetElement (o) y = Mul (a, x)")
    check(model, {"x": normal(3)}, ["x"], ["y"])


@pytest.mark.parametrize("precision", ["float32", "model"])
def test_half_precision(precision: Any) -> None:
    model = loaded(
        "(seq(float16[N]) s, seq(float16[N]) r) => (float16[M] y)",
        "i = Constant <value = int64 {1}> () a = SequenceAt (s, i) y = Mul (a, a)",
    )
    dtype = np.float32 if precision == "float32" else np.float16
    x = [np.array([1, 2, 3], np.float16), np.array([4, 5], np.float16)]
    adjoint = vjp(model, ["s", "r"], ["y"], precision=precision)
    got = run(adjoint.to_bytes(), {"s": x, "r": x, "cotangent.y": np.array([1, 10], dtype)})
    for gradient, expected in zip(got["gradient.s"], [[0, 0, 0], [8, 100]], strict=True):
        assert gradient.dtype == dtype
        np.testing.assert_array_equal(gradient, expected)
    assert [(g.dtype, g.any()) for g in got["gradient.r"]] == [(dtype, False)] * 2


def test_a_sequence_that_nothing_depends_on() -> None:
    model = loaded("(seq(double[N, 3]) s, double[3] x) => (double[3] y)", "n = Sin (x) y = Identity (n)")
    got = check(model, {"s": RAGGED, "x": normal(3)}, ["s", "x"], ["y"])
    assert [g.shape for g in got["gradient.s"]] == [x.shape for x in RAGGED]


def test_a_state_that_is_optional_only_at_first_is_refused() -> None:
    model = loaded(
        "(optional(seq(double[3])) o, seq(double[3]) r, int64 n) => (seq(double[3]) t)",
        """t = Loop <body = step (int64 i, bool c, optional(seq(double[3])) a) => (bool d, seq(double[3]) b) {
            some = OptionalHasElement (a)
            b = If (some) <
                then_branch = one () => (seq(double[3]) p) { p = OptionalGetElement (a) },
                else_branch = two () => (seq(double[3]) q) { q = Identity (r) }
            >
            d = Identity (c)
        }> (n, , o)""",
    )
    with pytest.raises(oi.InspectError, match=r"\(Loop\).*optional before a step and not after it"):
        vjp(model, ["o", "r"], ["t"])


def test_a_scan_that_reads_an_optional_is_refused() -> None:
    model = loaded(
        "(optional(double[3]) o, double[T, 3] x, double[3] h0) => (double[3] h)",
        """h = Scan <num_scan_inputs = 1, body = step (double[3] g, double[3] a) => (double[3] k) {
            e = OptionalGetElement (o) m = Mul (g, e) k = Add (m, a)
        }> (h0, x)""",
    )
    with pytest.raises(oi.InspectError, match=r"\(Scan\).*reads an optional"):
        vjp(model, ["o", "x"], ["h"])


def test_the_gradient_of_a_gradient() -> None:
    model = loaded("(double[N, 3] x, double[3, 3] w, int64 trips) => (double[N, T, 3] y, double[N, 3] h)", GROWING)
    feeds = {"x": normal(2, 3), "w": normal(3, 3), "trips": np.array(2), "cotangent.h": positive(2, 3)}
    check(vjp(model, ["w"], ["h"]), feeds, ["x", "w"], ["gradient.w"])
