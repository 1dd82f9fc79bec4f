"""What rules give where difference quotients cannot tell: ties, kinks, extremes, half precision, refusals."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnx_inspect.autodiff.gradient import differentiate, vjp
from onnx_inspect.emit import Op
from onnx_inspect.errors import TargetError, UnsupportedError
from onnx_inspect.model import Model

from .rules.harness import Case, build, distinct, normal, positive, run, typed

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


MASKED = np.array([[-INF, -INF, -INF], [1, -INF, 2]])


@pytest.mark.parametrize(
    ("case", "dy"),
    [
        (Case("Softmax", [MASKED]), [[0, 0, 0], [1, 0, 3]]),
        (Case("LogSoftmax", [MASKED]), [[0, 0, 0], [1, 0, 3]]),
        (Case("ReduceLogSumExp", [MASKED, np.array([1])], {"keepdims": 0}), [0, 3]),
        (Case("SoftmaxCrossEntropyLoss", [MASKED, np.array([0, 2])], {"reduction": "none"}), [0, 3]),
    ],
    ids=str,
)
def test_rows_that_are_masked_altogether(case: Case, dy: Any) -> None:
    """What replaces their NaN passes 0 to them, and they pass that on."""
    got = gradients(case, dy=dy)
    np.testing.assert_array_equal(got[0], 0)
    assert np.isfinite(got).all() and got[1].any()


def test_a_row_of_nan_that_counts_stays_nan() -> None:
    assert np.isnan(gradients(Case("Softmax", [MASKED]), dy=[[1, 2, 3], [1, 0, 3]])[0]).all()


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


SCALES, TRAINING = np.array([1, 1, 1.5, 2.0]), np.array(True)
CROP = {"mode": "linear", "coordinate_transformation_mode": "tf_crop_and_resize"}


@pytest.mark.parametrize(("case", "wrt", "reason"), [
    (Case("Resize", [normal(1, 2, 4, 5), None, SCALES], {"mode": "linear"}), 2, "'x2' depends on what is"),
    (Case("Resize", [normal(1, 2, 4, 5), normal(8), SCALES], CROP, fixed=[2]), 1, "'x1' depends on what is"),
    (Case("Dropout", [normal(5), np.array(0.5), TRAINING]), 1, "its ratio, which depends on what is"),
], ids=str)  # fmt: skip
def test_refusals_name_the_node(case: Case, wrt: int, reason: str) -> None:
    with pytest.raises(UnsupportedError, match=rf"Node 'node' \({case.op}\).*{reason}"):
        gradients(case, wrt)


@pytest.mark.parametrize(("case", "wrt"), [
    (Case("Resize", [normal(1, 2, 4, 5), None, SCALES]), 2),
    (Case("Resize", [normal(1, 2, 4, 5), normal(8), SCALES], {"mode": "linear"}, fixed=[2]), 1),
    (Case("Range", [np.array(1.0), np.array(6.0), np.array(2.0)]), 1),
    (Case("OneHot", [np.array([1.0, 0, 2]), np.array(3.0), np.array([2.0, 5.0])]), 0),
    (Case("OneHot", [np.array([1.0, 0, 2]), np.array(3.0), np.array([2.0, 5.0])]), 1),
    (Case("CastLike", [normal(5), normal(1)]), 1),
    (Case("Dropout", [normal(5), np.array(0.5)]), 1),
    (Case("MaxRoiPool", [normal(1, 2, 6, 6), np.array([[0, 0, 0, 4.0, 5]])], {"pooled_shape": [2, 2]}), 1),
], ids=str)  # fmt: skip
def test_what_only_steps_or_counts_for_nothing_gets_zeros(case: Case, wrt: int) -> None:
    np.testing.assert_array_equal(gradients(case, wrt), np.zeros_like(case.inputs[wrt]))


BOXES, SCORES = positive(1, 5, 4), positive(1, 1, 5)
STEPS = [
    Case("NonMaxSuppression", [BOXES, SCORES, np.array(2)], fixed=[2]),
    Case("ArgMax", [normal(3, 4)]),
    Case("ai.onnx.ml::LabelEncoder", [normal(3)], {"keys_floats": [0.0], "values_floats": [1.0], "default_float": 0.0}),
    Case("ai.onnx.ml::OneHotEncoder", [normal(3, 1)], {"cats_int64s": [0, 1]}),
]


class Total:
    """The sum of y0."""

    def emit(self, op: Op, model: Model) -> ir.Value:
        return op.ReduceSum(op.Cast(model.value("y0"), to=ir.DataType.FLOAT))  # type: ignore[no-any-return]


@pytest.mark.parametrize("case", STEPS, ids=str)
def test_steps_are_an_error_not_zeros(case: Case) -> None:
    proto = build(case, TensorProto.FLOAT, symbolic=False)
    if case.op.endswith("LabelEncoder"):
        proto.opset_import[1].version = 2
    with pytest.raises(TargetError, match="does not depend on 'x0'"):
        differentiate(Model.load(proto), Total(), ["x0"])


def test_boxes_that_were_chosen_have_gradients() -> None:
    """The choice is a step; what is chosen varies smoothly."""
    proto = build(STEPS[0], TensorProto.FLOAT, symbolic=False)
    nodes = [("Gather", ["y0", "two"], ["which"], {"axis": 1}), ("Gather", ["x0", "which"], ["boxes"], {"axis": 1})]
    proto.graph.node.extend(helper.make_node(op, xs, ys, **attributes) for op, xs, ys, attributes in nodes)
    proto.graph.initializer.append(numpy_helper.from_array(np.array(2), "two"))
    proto.graph.output.append(helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [1, None, 4]))
    feeds = {"x0": BOXES.astype(np.float32), "x1": SCORES.astype(np.float32)}
    count = run(proto, feeds)["y0"][:, 2]
    dy = normal(1, len(count), 4).astype(np.float32)
    got = run(vjp(Model.load(proto), ["x0"], ["boxes"]).to_bytes(), feeds | {"cotangent.boxes": dy})["gradient.x0"]
    expected = np.zeros_like(got)
    expected[:, count] = dy
    np.testing.assert_array_equal(got, expected)
