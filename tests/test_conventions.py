"""What rules give where difference quotients cannot tell: ties, kinks, extremes, half precision, refusals."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
from onnx import TensorProto

from onnx_inspect.autodiff.gradient import vjp
from onnx_inspect.errors import UnsupportedError
from onnx_inspect.model import Model

from .rules.harness import Case, build, distinct, normal, run, typed

INF = np.inf
EXTREME = np.array([-1e20, -1e4, -1000, -100, -20, -1e-3, 0, 1e-3, 20, 100, 1000, 1e4, 1e20])


def gradients(
    case: Case,
    wrt: int = 0,
    dy: Any = None,
    float_type: int = TensorProto.FLOAT,
    precision: Literal["float32", "model"] = "model",
) -> np.ndarray:
    """The cotangent of one input, for a cotangent of ones unless told otherwise."""
    model = Model.load(build(case, float_type, symbolic=False))
    adjoint = vjp(model, [f"x{wrt}"], ["y0"], precision=precision).to_bytes()
    feeds = {f"x{i}": typed(x, float_type) for i, x in enumerate(case.inputs) if x is not None}
    if dy is None:
        dy = np.ones_like(run(build(case, float_type, symbolic=False), feeds)["y0"])
    given = typed(np.asarray(dy, np.float64), float_type if precision == "model" else TensorProto.FLOAT)
    return run(adjoint, feeds | {"cotangent.y0": given})[f"gradient.x{wrt}"]


@pytest.mark.parametrize(
    ("op", "attributes", "x", "expected"),
    [
        ("Relu", {}, [-1, 0, 1], [0, 0, 1]),
        ("Abs", {}, [-2, 0, 3], [-1, 0, 1]),
        ("LeakyRelu", {"alpha": 0.25}, [-1, 0, 1], [0.25, 0.25, 1]),
        ("Elu", {"alpha": 0.5}, [0], [0.5]),
        ("Celu", {"alpha": 0.5}, [0], [1]),
        ("HardSigmoid", {"alpha": 0.5, "beta": 0.5}, [-1, 0, 1], [0, 0.5, 0]),
        ("HardSwish", {}, [-3, 3], [0, 1]),
        ("ThresholdedRelu", {}, [1, 1.5], [0, 1]),
        ("Shrink", {}, [-0.5, 0.5, 1], [0, 0, 1]),
        ("ReduceMax", {}, [3, 1, 3, 2], [0.5, 0, 0.5, 0]),
        ("ReduceMin", {"keepdims": 0}, [1, 1, 1, 2], [1 / 3, 1 / 3, 1 / 3, 0]),
        ("ReduceL1", {}, [-1, 0, 2], [-1, 0, 1]),
        ("ReduceL2", {}, [0, 0], [0, 0]),
        ("ReduceProd", {}, [0, 2, 3], [6, 0, 0]),
        ("ReduceProd", {}, [0, 2, 0], [0, 0, 0]),
        ("ReduceLogSumExp", {}, [-INF, 0, 0], [0, 0.5, 0.5]),
        ("Sqrt", {}, [0, 4], [INF, 0.25]),
    ],
)
def test_kinks(op: str, attributes: dict[str, Any], x: list[float], expected: list[float]) -> None:
    case = Case(op, [np.array(x, np.float64)], attributes)
    np.testing.assert_allclose(gradients(case), expected, rtol=1e-6)


@pytest.mark.parametrize("op", ["Max", "Min"])
def test_ties_share(op: str) -> None:
    case = Case(op, [np.array([1.0, 2]), np.array([1.0, 2]), np.array([1.0, 2])])
    np.testing.assert_allclose(gradients(case, 1), [1 / 3, 1 / 3], rtol=1e-6)
    case = Case(op, [np.array([1.0, 2]), np.array(1.0)])
    assert gradients(case)[0] == 0.5


def test_clip_passes_its_bounds() -> None:
    case = Case("Clip", [np.array([-2.0, -1, 0, 1, 2]), np.array(-1.0), np.array(1.0)])
    dy = [1.0, 2, 4, 8, 16]
    np.testing.assert_array_equal(gradients(case, dy=dy), [0, 2, 4, 8, 0])
    assert gradients(case, 1, dy) == 1
    assert gradients(case, 2, dy) == 16


def test_pow_at_zero_and_below() -> None:
    x, e = np.array([0.0, 0, 0, -2, -2]), np.array([0.0, 1, 2, 3, 0])
    np.testing.assert_array_equal(gradients(Case("Pow", [x, e])), [0, 1, 0, 12, 0])
    np.testing.assert_array_equal(gradients(Case("Pow", [x, e]), 1), np.zeros(5))


@pytest.mark.parametrize("op", [
    "Relu", "LeakyRelu", "Elu", "Selu", "Celu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Softplus",
    "Softsign", "Gelu", "Mish", "ThresholdedRelu", "Shrink", "Erf", "Atan", "Asinh",
])  # fmt: skip
def test_activations_stay_finite(op: str) -> None:
    assert np.isfinite(gradients(Case(op, [EXTREME]))).all()


def test_gates_saturate() -> None:
    for case in (
        Case("Mish", [EXTREME]),
        Case("Softplus", [EXTREME]),
        Case("Gelu", [EXTREME], {"approximate": "tanh"}),
    ):
        got = gradients(case)
        np.testing.assert_allclose(got[:4], 0, atol=1e-30)
        np.testing.assert_allclose(got[-4:], 1, rtol=1e-6)


@pytest.mark.parametrize("case", [
    Case("Gather", [normal(3, 4), np.array([1, 1, -1])]),
    Case("GatherElements", [normal(3, 4), np.array([[1, 1, -1, 0]])]),
    Case("GatherND", [normal(3, 4), np.array([[1], [1], [-1]])]),
    Case("Slice", [normal(5), np.array([4]), np.array([-9]), np.array([0]), np.array([-2])]),
    Case("Pad", [normal(5), np.array([2, 3])], {"mode": "reflect"}),
    Case("TopK", [distinct(3, 5), np.array([2])], outputs=2),
], ids=str)  # fmt: skip
def test_half_precision(case: Case) -> None:
    half, single = (gradients(case, float_type=t) for t in (TensorProto.FLOAT16, TensorProto.FLOAT))
    assert half.dtype == np.float16
    np.testing.assert_array_equal(half, single)
    wide = gradients(case, float_type=TensorProto.FLOAT16, precision="float32")
    assert wide.dtype == np.float32
    np.testing.assert_array_equal(wide, single)


@pytest.mark.parametrize(("case", "reason"), [
    (Case("Resize", [normal(1, 2, 4, 5), None, None, np.array([7])], {"axes": [-2], "keep_aspect_ratio_policy":
          "not_larger"}, fixed=[3]), "negative axes"),
], ids=str)  # fmt: skip
def test_refusals_name_the_node(case: Case, reason: str) -> None:
    with pytest.raises(UnsupportedError, match=rf"Node 'node' \({case.op}\).*{reason}"):
        gradients(case)
