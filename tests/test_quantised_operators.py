"""The gradients of quantised operators against how much onnxruntime's own kernels change over steps of many integers.

The first operand comes from a quantiser with steps of 1, so that f is a function of floats. Its changes along random
directions, over 12 steps, are its slope and what rounding adds, which is random: a regression against the vjp finds 1.
A few percent are missing where 6 steps reach into saturation, or change which number is the largest.
"""

from __future__ import annotations

import re

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnx_inspect as oi

from .decompose import quantised, quantised_products
from .rules.harness import Array, Case, build, names, run

STEPS = 6  # to either side
F = np.float32
OF = {"QLinearConcat": 2, "QLinearWhere": 1}  # which input varies, where it is not the first


def operand(case: Case) -> int:
    return OF.get(case.op.rpartition("::")[2], 0)


CASES = [
    case
    for case in (*quantised.CASES, *quantised_products.CASES)
    if np.asarray(case.inputs[operand(case)]).dtype in (np.int8, np.uint8) and case.op != "com.microsoft::MulInteger"
]


def between_quantisers(case: Case) -> tuple[onnx.ModelProto, Array]:
    """The operator behind a quantiser, its output as floats; and an x some steps away from the ends of the range."""
    at, q = operand(case), np.asarray(case.inputs[operand(case)])
    fixed = Case(case.op, case.inputs, case.attributes, case.outputs, fixed=[i for i in range(20) if i != at])
    proto = build(fixed, TensorProto.FLOAT, symbolic=False)
    graph, name = proto.graph, names(case)[at]
    graph.node[0].output[0] = "q_out"
    graph.node.insert(0, helper.make_node("QuantizeLinear", ["x", "one", "zero"], [name]))
    graph.node.append(helper.make_node("Cast", ["q_out"], ["y"], to=TensorProto.FLOAT))
    graph.initializer.append(numpy_helper.from_array(np.array(1, F), "one"))
    graph.initializer.append(numpy_helper.from_array(np.array(0, q.dtype), "zero"))
    del graph.input[:], graph.output[:]
    graph.input.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, q.shape))
    graph.output.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, None))
    info = np.iinfo(q.dtype)
    return proto, np.clip(q.astype(F), info.min + 2 * STEPS, info.max - 2 * STEPS)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_slope_of_a_quantised_operator(case: Case) -> None:
    proto, x = between_quantisers(case)
    # Where onnxruntime has no kernel, its row in tests/decompose has checked what it is taken apart into.
    session = ort.InferenceSession(oi.load(proto).to_bytes() if case.forward else proto.SerializeToString())

    def f(x: Array) -> Array:
        return np.asarray(session.run(["y"], {"x": x})[0])

    rng = np.random.default_rng(0)
    c = rng.normal(size=f(x).shape).astype(F)
    dx = run(oi.vjp(oi.load(proto), ["x"], ["y"]).to_bytes(), {"x": x, "cotangent.y": c})["gradient.x"]
    us = rng.choice([-1.0, 1.0], (200, *x.shape)).astype(F)
    predicted = [float(np.sum(dx * u)) for u in us]
    measured = [float(np.sum(c * (f(x + STEPS * u) - f(x - STEPS * u)))) / (2 * STEPS) for u in us]
    assert abs(np.dot(predicted, measured) / np.dot(predicted, predicted) - 1) < 0.15
    assert np.corrcoef(predicted, measured)[0, 1] > 0.9


INT = np.zeros((2, 3, 4, 5), np.uint8)
ONE, ZERO = np.array(1, F), np.array(0, np.uint8)
REFUSED = [
    (
        Case(
            "com.microsoft::QLinearAveragePool",
            [INT, ONE, ZERO, ONE, ZERO],
            {"kernel_shape": [2, 2], "ceil_mode": 1, "count_include_pad": 1},
        ),
        "it counts padding",
    ),
    (Case("com.microsoft::QGemm", [INT[0, 0], ONE, ZERO, INT[0, 0].T, ONE, ZERO, None, ONE]), "no zero point"),
    (
        Case("com.microsoft::MatMulIntegerToFloat", [INT[0, 0], INT[0, 0].T, ONE.astype(np.float16), ONE]),
        "it gives FLOAT16 numbers",
    ),
    (
        Case("com.microsoft::GatherBlockQuantized", [INT[0, 0].astype(np.int8), np.array([0]), np.ones((4, 1), F)]),
        "its data are INT8 numbers",
    ),
    (
        Case(
            "com.microsoft::ConvTransposeWithDynamicPads",
            [INT.astype(F), INT[:, :, :2].astype(F), np.array([0, 0, 0, 0])],
            {"auto_pad": "VALID"},
        ),
        "auto_pad",
    ),
]


@pytest.mark.parametrize(("case", "reason"), REFUSED, ids=lambda v: str(v) if isinstance(v, Case) else "")
def test_forms_that_are_refused(case: Case, reason: str) -> None:
    notes = oi.load(build(case, TensorProto.FLOAT, symbolic=False)).notes
    said = rf"Node 'node' \({case.op}\) cannot be taken apart: .*{reason}.* It stays as it is"
    assert any(re.match(said, note) for note in notes)
