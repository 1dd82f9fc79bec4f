"""Gradients through If, Loop and Scan, against central differences in float64 on onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, parser

import onnx_inspect as oi
from onnx_inspect.autodiff.gradient import vjp
from onnx_inspect.autodiff.table import RULES

from .rules import recurrent
from .rules.harness import Case, build, normal, positive, run

Array = np.ndarray[Any, Any]


def loaded(signature: str, body: str) -> oi.Model:
    return oi.load(parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21]> g {signature} {{ {body} }}'))


def check(model: oi.Model, feeds: dict[str, Array], wrt: list[str], outputs: list[str]) -> dict[str, Array]:
    """Compare the vjp with central differences; returns it."""
    rng, step = np.random.default_rng(0), 1e-5
    forward = model.to_bytes()
    y = run(forward, feeds)
    cs = {n: rng.normal(size=y[n].shape) for n in outputs}
    adjoint = vjp(model, wrt, outputs)
    onnx.checker.check_model(adjoint.to_bytes(), full_check=True)
    got = run(adjoint.to_bytes(), feeds | {f"cotangent.{n}": c for n, c in cs.items()})
    for name in wrt:
        u = rng.normal(size=feeds[name].shape)
        plus, minus = (run(forward, feeds | {name: np.asarray(feeds[name] + h * u)}) for h in (step, -step))
        expected = sum(float(np.sum(c * (plus[n] - minus[n]))) for n, c in cs.items()) / (2 * step)
        actual = got[f"gradient.{name}"]
        assert actual.shape == feeds[name].shape
        scale = float(np.linalg.norm(actual)) + abs(expected) + 1e-3
        assert abs(float(np.sum(actual * u)) - expected) <= 1e-6 * scale, name
    return got


BRANCHES = """
    a = Tanh (x)
    y = If (c) <
        then_branch = one () => (double[N, M] p) { e = MatMul (a, w) p = Mul (e, e) },
        else_branch = two () => (double[N, M] q) { f = Add (x, a) s = Sin (f) q = MatMul (s, w) }
    >
"""


@pytest.mark.parametrize("c", [True, False])
def test_if(c: bool) -> None:
    model = loaded("(double[N, 3] x, double[3, 4] w, bool c) => (double[N, 4] z)", BRANCHES + "z = Exp (y)")
    check(model, {"x": normal(2, 3), "w": normal(3, 4) / 3, "c": np.array(c)}, ["x", "w"], ["z"])


def test_if_of_which_one_branch_needs_nothing() -> None:
    model = loaded(
        "(double[N] x, bool c) => (double[N] y)",
        """y = If (c) <
            then_branch = one () => (double[N] p) { p = Mul (x, x) },
            else_branch = two () => (double[N] q) { s = Shape (x) q = ConstantOfShape <value = double[1] {1.0}> (s) }
        >""",
    )
    for c in (True, False):
        got = check(model, {"x": normal(3), "c": np.array(c)}, ["x"], ["y"])
        assert got["gradient.x"].any() == c


def test_if_in_if() -> None:
    model = loaded(
        "(double[N] x, double[N] w, bool c, bool d) => (double[N] y)",
        """y = If (c) <
            then_branch = one () => (double[N] p) {
                a = Sin (x)
                b = If (d) <
                    then_branch = three () => (double[N] r) { r = Mul (a, w) },
                    else_branch = four () => (double[N] s) { s = Mul (x, a) }
                >
                p = Mul (b, w)
            },
            else_branch = two () => (double[N] q) { q = Cos (x) }
        >""",
    )
    for c, d in ((True, True), (True, False), (False, True)):
        feeds = {"x": normal(3), "w": positive(3), "c": np.array(c), "d": np.array(d)}
        check(model, feeds, ["x", "w"], ["y"])


SCAN = """
    h, y = Scan <num_scan_inputs = 2, {attributes}
        body = step (double[N, 3] s, double[N, 3] a, double[N, 3] b) => (double[N, 3] t, double[N, 3] o) {{
            m = MatMul (s, w) n = Add (m, a) t = Tanh (n) o = Mul (t, b)
        }}
    > (h0, x, z)
"""


@pytest.mark.parametrize(
    ("attributes", "shape"),
    [
        ("", "double[T, N, 3]"),
        ("scan_input_directions = [1, 0],", "double[T, N, 3]"),
        ("scan_output_directions = [1],", "double[T, N, 3]"),
        ("scan_input_directions = [1, 1], scan_input_axes = [1, 1], scan_output_axes = [1],", "double[N, T, 3]"),
        ("scan_input_axes = [-2, -2], scan_output_axes = [-2], scan_output_directions = [1],", "double[N, T, 3]"),
    ],
)
def test_scan(attributes: str, shape: str) -> None:
    model = loaded(
        f"({shape} x, {shape} z, double[N, 3] h0, double[3, 3] w) => (double[N, 3] h, {shape} y)",
        SCAN.format(attributes=attributes),
    )
    x = normal(4, 2, 3) if shape == "double[T, N, 3]" else normal(2, 4, 3)
    feeds = {"x": x, "z": positive(*x.shape), "h0": normal(2, 3), "w": normal(3, 3)}
    for outputs in (["h", "y"], ["h"], ["y"]):
        check(model, feeds, ["x", "z", "h0", "w"], outputs)
    check(model, feeds, ["w"], ["y"])


def test_scan_of_a_running_product_and_a_counter() -> None:
    model = loaded(
        "(double[T, 3] x, double[3] one) => (double[T, 3] y)",
        """start = Constant <value = int64 {0}> ()
        n, p, y = Scan <num_scan_inputs = 1,
            body = step (int64 i, double[3] s, double[3] a) => (int64 j, double[3] t, double[3] o) {
                unit = Constant <value = int64 {1}> ()
                j = Add (i, unit) f = Cast <to = 11> (j) g = Mul (a, f) t = Mul (s, g) o = Identity (t)
            }
        > (start, one, x)""",
    )
    check(model, {"x": positive(4, 3), "one": np.ones(3)}, ["x", "one"], ["y"])


LOOP = """
    h, y = Loop <
        body = step (int64 i, bool c, double[N, 3] s) => (bool d, double[N, 3] t, double[N, 3] o) {
            k = Cast <to = 11> (i) m = MatMul (s, w) n = Add (m, k) t = Sin (n) o = Mul (t, x)
            d = Identity (c)
        }
    > (trips, go, x)
"""


@pytest.mark.parametrize("trips", [0, 1, 4])
def test_loop(trips: int) -> None:
    model = loaded(
        "(double[N, 3] x, double[3, 3] w, int64 trips, bool go) => (double[N, 3] h, double[T, N, 3] y)", LOOP
    )
    feeds = {"x": normal(2, 3), "w": normal(3, 3), "trips": np.array(trips), "go": np.array(True)}
    for outputs in (["h", "y"], ["h"], ["y"]) if trips else (["h"],):
        got = check(model, feeds, ["x", "w"], outputs)
    assert trips or not got["gradient.w"].any()


def test_loop_until_a_condition_fails() -> None:
    """x^n times a weight, as long as it stays below a bound."""
    model = loaded(
        "(double x, double w, double bound) => (double y)",
        """go = Constant <value = bool {1}> ()
        one = Constant <value = double {1.0}> ()
        y = Loop <
            body = step (int64 i, bool c, double s) => (bool d, double t) {
                p = Mul (s, x) t = Mul (p, w) d = Less (t, bound)
            }
        > (, go, one)""",
    )
    feeds = {"x": np.array(1.5), "w": np.array(1.1), "bound": np.array(6.0)}
    got = check(model, feeds, ["x", "w"], ["y"])
    assert float(got["gradient.x"]) != 0


def test_a_loop_in_a_branch_of_an_if_in_a_scan() -> None:
    model = loaded(
        "(double[T, 3] x, double[3] w, bool[T] flags, int64 trips) => (double[3] h)",
        """zero = Constant <value = double[3] {0.1, 0.2, 0.3}> ()
        go = Constant <value = bool {1}> ()
        h = Scan <num_scan_inputs = 2,
            body = step (double[3] s, double[3] a, bool f) => (double[3] t) {
                v = Mul (a, w)
                t = If (f) <
                    then_branch = one () => (double[3] p) {
                        p = Loop <body = again (int64 i, bool c, double[3] q) => (bool d, double[3] r) {
                            e = Mul (q, v) r = Sin (e) d = Identity (c)
                        }> (trips, go, s)
                    },
                    else_branch = two () => (double[3] o) { o = Add (s, v) }
                >
            }
        > (zero, x, flags)""",
    )
    flags = np.array([False, True, True, False])
    feeds = {"x": normal(4, 3), "w": positive(3), "flags": flags, "trips": np.array(2)}
    check(model, feeds, ["x", "w"], ["h"])


def test_states_that_grow_are_refused() -> None:
    model = loaded(
        "(double[2] x, int64 trips) => (double[M] y)",
        """go = Constant <value = bool {1}> ()
        y = Loop <body = step (int64 i, bool c, double[K] s) => (bool d, double[L] t) {
            t = Concat <axis = 0> (s, x) d = Identity (c)
        }> (trips, go, x)""",
    )
    with pytest.raises(oi.InspectError, match=r"Loop.*shape of its state"):
        vjp(model, ["x"], ["y"])


def test_quantised_numbers_out_of_a_branch_are_refused() -> None:
    model = loaded(
        "(float[N] x, float scale, bool c) => (float[N] y)",
        """z = If (c) <
            then_branch = one () => (uint8[N] p) { p = QuantizeLinear (x, scale) },
            else_branch = two () => (uint8[N] q) { r = Neg (x) q = QuantizeLinear (r, scale) }
        >
        y = DequantizeLinear (z, scale)""",
    )
    with pytest.raises(oi.InspectError, match=r"If.*'z' holds quantised numbers"):
        vjp(model, ["x"], ["y"])


@pytest.mark.parametrize("first", ["x", "s"])
def test_quantised_numbers_that_a_loop_sums_are_refused(first: str) -> None:
    """Of 32 bits, they look like numbers that count something: what the step computes them from tells."""
    body = f"q = QuantizeLinear ({first}, scale) p = Cast <to = 6> (q) t = Add (a, p)"
    model = loaded(
        "(float[N] x, float scale, int32[N] zero, int64 trips) => (float[N] y)",
        f"""go = Constant <value = bool {{1}}> ()
        z, r = Loop <body = step (int64 i, bool c, int32[N] a, float[N] s) => (bool d, int32[N] t, float[N] u) {{
            {body} u = Tanh (s) d = Identity (c)
        }}> (trips, go, zero, x)
        y = Cast <to = 1> (z)""",
    )
    with pytest.raises(oi.InspectError, match=r"Loop.*'z' holds quantised numbers"):
        vjp(model, ["x"], ["y"])


def test_numbers_that_a_loop_counts_are_constant() -> None:
    model = loaded(
        "(double[N] x, int64 none, int64 trips) => (double[N] y)",
        """go = Constant <value = bool {1}> ()  one = Constant <value = int64 {1}> ()
        n, z = Loop <body = step (int64 i, bool c, int64 k, double[N] s) => (bool d, int64 l, double[N] t) {
            l = Add (k, one) t = Mul (s, x) d = Identity (c)
        }> (trips, go, none, x)
        m = Cast <to = 11> (n)  y = Mul (z, m)""",
    )
    check(model, {"x": normal(3), "none": np.array(0), "trips": np.array(2)}, ["x"], ["y"])


DRAWING = """
    go = Constant <value = bool {1}> ()
    y = Loop <body = step (int64 i, bool c, float[N] s) => (bool d, float[N] t) {
        r = RandomNormalLike (s) t = Mul (s, r) d = Identity (c)
    }> (trips, go, x)
"""


def test_random_numbers_within_a_loop_are_refused() -> None:
    """They would be others when the step runs again backwards."""
    model = loaded("(float[N] x, int64 trips) => (float[N] y)", DRAWING)
    with pytest.raises(oi.InspectError, match=r"Loop.*\(RandomNormalLike\) draws random numbers"):
        vjp(model, ["x"], ["y"])


def test_an_operator_without_a_rule_inside_is_named() -> None:
    model = loaded(
        "(double[3, 3] x, bool c) => (double y)",
        """y = If (c) <
            then_branch = one () => (double p) { p = Det (x) },
            else_branch = two () => (double q) { q = ReduceSum <keepdims = 0> (x) }
        >""",
    )
    with pytest.raises(oi.InspectError, match="operator Det"):
        vjp(model, ["x"], ["y"], rules={name: rule for name, rule in RULES.items() if name != "Det"})


# Recurrent layers.


@pytest.mark.parametrize("case", recurrent.CASES, ids=str)
def test_what_recurrent_rows_compute_is_what_onnxruntime_does(case: Case) -> None:
    feeds = {
        f"x{i}": x.astype(np.float32) if x.dtype == np.float64 else x
        for i, x in enumerate(case.inputs)
        if x is not None
    }
    assert case.forward is not None
    got = run(build(case, TensorProto.FLOAT, symbolic=True), feeds)
    for actual, expected in zip(got.values(), case.forward(*case.inputs), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


def test_what_recurrent_layers_cannot_is_said() -> None:
    model = oi.load(build(recurrent.row("GRU", activations=["Mish", "Tanh"]), TensorProto.FLOAT, symbolic=True))
    with pytest.raises(oi.InspectError, match=r"GRU.*activation 'Mish'"):
        vjp(model, ["x0"], ["y0"])
