"""The node tests of onnx, and its small models, differentiated: one test per case with floats on both ends.

A case is excluded only if its output is random, if onnxruntime does not run it at all, or if it has no float path and is
refused by name: excluded.txt, which may only become shorter. zeros.txt names the cases whose gradient is truly zero; any other must tell zeros from its gradient.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import onnx_ir as ir
import pytest

from onnx_inspect.autodiff.gradient import vjp
from onnx_inspect.autodiff.table import RULES
from onnx_inspect.emit import Op
from onnx_inspect.errors import UnsupportedError
from onnx_inspect.model import Model

from .cases import named
from .check import NoForward, check, loaded, read

CASES = named()
FLOATING = {name for name, case in CASES.items() if case.wrt and case.outputs}
EXCLUDED, ZEROS = read("excluded.txt"), read("zeros.txt")
KINDS = Counter(reason.split(" (")[0] for reason in EXCLUDED.values())
RANDOM = {"Bernoulli", "Dropout", "RandomNormalLike", "RandomUniformLike"}


@pytest.mark.parametrize("name", sorted(FLOATING - EXCLUDED.keys()))
def test_case(name: str) -> None:
    outcome = check(CASES[name])
    assert outcome.passed, str(outcome)
    truly_zero = name in ZEROS or CASES[name].operator in ZEROS
    assert outcome.telling != truly_zero, f"{name}: a vjp of zeros has the error {outcome.zeros:.1e}; see zeros.txt"


@pytest.mark.parametrize("name", sorted(EXCLUDED))
def test_excluded(name: str) -> None:
    """What is excluded cannot pass: this fails when it could, and then its line goes."""
    if EXCLUDED[name].startswith("random"):
        assert RANDOM.intersection(n.op_type for n in CASES[name].model.graph.node), f"{name} is not random"
    elif EXCLUDED[name].startswith("no kernel"):
        with pytest.raises(NoForward):
            loaded(CASES[name])
    else:
        with pytest.raises(UnsupportedError):
            vjp(Model.load(CASES[name].model), CASES[name].wrt, CASES[name].outputs)


def test_lists_do_not_grow() -> None:
    assert KINDS["random"] <= 10
    assert KINDS["no kernel"] <= 14
    assert KINDS["no float path"] <= 3
    assert list(KINDS) == ["random", "no kernel", "no float path"]
    assert EXCLUDED.keys() <= FLOATING
    assert list(EXCLUDED) == sorted(EXCLUDED, key=lambda n: (list(KINDS).index(EXCLUDED[n].split(" (")[0]), n))
    assert ZEROS.keys() <= FLOATING | {CASES[n].operator for n in FLOATING}


@pytest.mark.parametrize(
    ("name", "operator"),
    [
        ("test_attention_4d_causal_expanded", "Softmax"),
        ("test_averagepool_2d_pads", "AveragePool"),
        ("test_conv_with_strides_padding", "Conv"),
        ("test_gather_1", "Gather"),
        ("test_gemm_all_attributes", "Gemm"),
        ("test_layer_normalization_3d_axis1_epsilon", "LayerNormalization"),
        ("test_maxpool_2d_default", "MaxPool"),
        ("test_mul", "Mul"),
        ("test_sce_mean_weight", "SoftmaxCrossEntropyLoss"),
        ("test_tanh", "Tanh"),
    ],
)
@pytest.mark.parametrize("factor", [0, 0.99, 1.01, -1])
def test_wrong_rules_fail(name: str, operator: str, factor: float) -> None:
    def wrong(op: Op, node: ir.Node, *dys: ir.Value | None) -> Any:
        found: Any = RULES[operator](op, node, *dys)
        found = [found] if isinstance(found, ir.Value) else found
        return [dx and op.Mul(dx, op.const(float(factor), dx.dtype)) for dx in found]

    assert check(CASES[name]).passed
    assert not check(CASES[name], RULES | {operator: wrong}).passed
