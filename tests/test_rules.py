"""Every gradient rule against central differences: the rows are the CASES of the modules in tests/rules."""

from __future__ import annotations

import importlib
import pkgutil

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from onnx_inspect.autodiff.gradient import vjp
from onnx_inspect.autodiff.table import CONSTANTS, RULES
from onnx_inspect.canonical import OPSET_MAX
from onnx_inspect.errors import MissingRule
from onnx_inspect.model import Model

from . import rules
from .rules.harness import Case, build, check, normal, positive, run
from .rules.quantize import ELSEWHERE
from .rules.sequence import ELSEWHERE as SEQUENCES

CASES: list[Case] = [
    case
    for module in pkgutil.iter_modules(rules.__path__)
    if module.name != "harness"
    for case in importlib.import_module(f"{rules.__name__}.{module.name}").CASES
]
RUNS = [(c, symbolic) for c in CASES for symbolic in ((False, True) if c.dynamic else (False,))]


@pytest.mark.parametrize(("case", "symbolic"), RUNS, ids=[f"{c}-{'symbolic' if s else 'static'}" for c, s in RUNS])
def test_rule(case: Case, symbolic: bool) -> None:
    check(case, symbolic)


FLAT = [
    *(Case(op, [normal(3, 4)]) for op in ("Sign", "Floor", "Ceil", "Round", "Hardmax", "EyeLike")),
    *(Case(op, [normal(3, 4)]) for op in ("RandomNormalLike", "RandomUniformLike")),
    Case("Bernoulli", [positive(3, 4) / 2]),
]


@pytest.mark.parametrize("case", FLAT, ids=str)
def test_constants_pass_nothing(case: Case) -> None:
    adjoint = vjp(Model.load(build(case, TensorProto.FLOAT, symbolic=True)), ["x0"], ["y0"])
    x = case.inputs[0].astype(np.float32)
    got = run(adjoint.to_bytes(), {"x0": x, "cotangent.y0": x})
    np.testing.assert_array_equal(got["gradient.x0"], np.zeros_like(x))


def test_rules_may_not_pass_over_an_input() -> None:
    model = Model.load(build(Case("Mul", [normal(3), normal(3)]), TensorProto.FLOAT, symbolic=False))
    first = RULES | {"Mul": lambda op, node, dy: dy * node.inputs[1]}
    assert vjp(model, ["x0"], ["y0"], rules=first)
    with pytest.raises(MissingRule, match=r"rule of Mul gives nothing for 'x1' of node 'node'\. Choose.*occlusion"):
        vjp(model, ["x0", "x1"], ["y0"], rules=first)


def test_constants_may_get_another_rule() -> None:
    """Straight through, say: what a table calls constant in one place varies in another."""
    case = Case("Round", [normal(3, 4)])
    straight = RULES | {"Round": lambda op, node, dy: dy}
    adjoint = vjp(Model.load(build(case, TensorProto.FLOAT, symbolic=True)), ["x0"], ["y0"], rules=straight)
    x = case.inputs[0].astype(np.float32)
    np.testing.assert_array_equal(run(adjoint.to_bytes(), {"x0": x, "cotangent.y0": x})["gradient.x0"], x)


def test_operators_of_one_processor_say_so() -> None:
    """Also where nothing is known of the type of what comes behind them."""
    case = Case("com.microsoft.nchwc::ReorderOutput", [normal(1, 8, 4, 4)], {"channels": 8})
    proto = build(case, TensorProto.FLOAT, symbolic=False)
    proto.graph.node.append(helper.make_node("ReduceMean", ["y0"], ["z"], keepdims=0))
    proto.graph.output[0].name = "z"
    with pytest.raises(MissingRule, match=r"'node'.*nchwc::ReorderOutput.*one kind of processor.*ORT_ENABLE_EXTENDED"):
        vjp(Model.load(proto), ["x0"], ["z"])


def test_every_rule_has_a_row() -> None:
    assert set(RULES) - CONSTANTS - {case.op for case in CASES} == ELSEWHERE | SEQUENCES | {"If", "Loop", "Scan"}


def test_every_differentiable_operator_of_the_standard_is_covered() -> None:
    """By a rule, or by the standard's own function body, which is put in its place at load."""
    differentiable = onnx.defs.OpSchema.DifferentiationCategory.Differentiable
    for schema in onnx.defs.get_all_schemas():
        wanted = any(x.differentiation_category == differentiable for x in schema.inputs)
        if schema.domain == "" and not schema.deprecated and wanted and schema.name not in RULES:
            assert schema.since_version > OPSET_MAX, schema.name
            assert schema.has_function or schema.has_context_dependent_function, schema.name
