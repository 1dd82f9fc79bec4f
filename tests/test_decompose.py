"""Every decomposition against onnxruntime's own kernel: the rows are the CASES of the modules in tests/decompose.

A row is loaded, which takes the operator apart; both models run on the same numbers. Where the processor has no kernel,
the row brings its formula in NumPy (`forward`). Then the vjp with respect to all float inputs is built and run: what is
emitted has rules, which have rows of their own. The forms that are REFUSED say why.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto

from onnx_inspect.autodiff.gradient import vjp
from onnx_inspect.autodiff.table import RULES, rule
from onnx_inspect.decompose import families
from onnx_inspect.decompose.table import DECOMPOSITIONS, LOWERINGS
from onnx_inspect.emit import Op
from onnx_inspect.errors import MissingRule, UnsupportedError
from onnx_inspect.model import Model

from . import decompose
from .rules.harness import Array, Case, build, differentiable, names, normal, run, typed

CASES: list[Case] = [
    case
    for module in pkgutil.iter_modules(decompose.__path__)
    for case in importlib.import_module(f"{decompose.__name__}.{module.name}").CASES
]
REFUSED: list[tuple[Case, str]] = [
    row
    for module in pkgutil.iter_modules(decompose.__path__)
    for row in getattr(importlib.import_module(f"{decompose.__name__}.{module.name}"), "REFUSED", [])
]
RUNS = [(c, symbolic) for c in CASES for symbolic in ((False, True) if c.dynamic else (False,))]


@pytest.mark.parametrize(("case", "symbolic"), RUNS, ids=[f"{c}-{'symbolic' if s else 'static'}" for c, s in RUNS])
def test_decomposition(case: Case, symbolic: bool) -> None:
    feeds = {n: typed(x, TensorProto.FLOAT) for n, x in zip(names(case), case.inputs, strict=True) if x is not None}
    expected = forward(case, build(case, TensorProto.FLOAT, symbolic), feeds)
    model = Model.load(build(case, TensorProto.FLOAT, symbolic, list(expected.values())))
    assert not [node for node in model.ir.graph.all_nodes() if node.domain]
    actual = run(model.to_bytes(), feeds)
    for name, y in expected.items():
        assert actual[name].shape == y.shape and actual[name].dtype == y.dtype
        if y.dtype == object:  # strings
            np.testing.assert_array_equal(actual[name], y, name)
            continue
        steps = y.dtype.kind in "iu"  # the tolerance of integers is in steps
        scale = 1.0 if steps else np.abs(y.astype(np.float64)).max(initial=1e-3)
        np.testing.assert_allclose(actual[name] / scale, y / scale, atol=case.rtol, err_msg=name)
    wrt = [f"x{i}" for i in differentiable(case)]
    ys = [n for n, y in expected.items() if y.dtype == np.float32]
    if wrt and ys:
        found = run(vjp(model, wrt, ys).to_bytes(), feeds | {f"cotangent.{y}": np.ones_like(expected[y]) for y in ys})
        assert all(np.isfinite(g).all() for g in found.values())


@pytest.mark.parametrize(("case", "reason"), REFUSED, ids=[f"{case}-{reason}" for case, reason in REFUSED])
def test_refusal(case: Case, reason: str) -> None:
    model = Model.load(build(case, TensorProto.FLOAT, symbolic=False))
    sentence = (
        rf"Node 'node' \({case.op}\) cannot be taken apart: .*{reason}.* It stays as it is, and gradients stop there\."
    )
    assert any(re.fullmatch(sentence, note) for note in model.notes)
    assert [node for node in model.ir.graph if node.domain]


def forward(case: Case, original: onnx.ModelProto, feeds: dict[str, Array]) -> dict[str, Array]:
    """What the operator itself gives."""
    if case.forward is None:
        return run(original, feeds)
    ys = case.forward(*(None if x is None else typed(x, TensorProto.FLOAT) for x in case.inputs))
    return {f"y{i}": typed(y, TensorProto.FLOAT) for i, y in enumerate(ys if isinstance(ys, tuple | list) else (ys,))}


def test_every_decomposition_has_a_row() -> None:
    assert families.__name__ and set(DECOMPOSITIONS) == {case.op for case in CASES}


def test_what_is_computed_otherwise_is_said() -> None:
    case = next(case for case in CASES if case.op.endswith("DynamicQuantizeLSTM"))
    assert Model.load(build(case, TensorProto.FLOAT, symbolic=False)).notes == (
        "com.microsoft.DynamicQuantizeLSTM taken apart into standard operators",
        "'node' (DynamicQuantizeLSTM) is computed without rounding its state to 8 bits",
    )


def test_layers_keep_their_names() -> None:
    model = Model.load(build(Case("com.microsoft::QuickGelu", [normal(2, 5)]), TensorProto.FLOAT, symbolic=False))
    assert [y.name for node in model.ir.graph for y in node.outputs] == ["node/Mul_2", "node/Sigmoid_4", "y0"]
    assert model.notes == ("com.microsoft.QuickGelu taken apart into standard operators",)


def test_a_chain_is_typed_on_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind a foreign operator onnx infers nothing; a decomposition further on still sees types."""
    seen: list[Any] = []

    def spy(op: Op, node: ir.Node) -> Any:
        seen.append((node.inputs[0].dtype, node.inputs[0].shape))  # type: ignore[union-attr]
        return op.Relu(node.inputs[0])

    monkeypatch.setitem(DECOMPOSITIONS, "com.microsoft::QuickGelu", spy)
    case = Case("com.microsoft::Gelu", [normal(2, 5)])
    proto = build(case, TensorProto.DOUBLE, symbolic=False)
    proto.graph.node[0].output[0] = "a"
    proto.graph.node.append(onnx.helper.make_node("Transpose", ["a"], ["b"]))
    proto.graph.node.append(onnx.helper.make_node("QuickGelu", ["b"], ["y0"], domain="com.microsoft"))
    Model.load(proto)
    assert seen == [(ir.DataType.DOUBLE, ir.Shape([5, 2]))]


def custom(monkeypatch: pytest.MonkeyPatch, lowering: Any) -> Model:
    """Two nodes of an operator that onnxruntime does not have, behind each other; its gradient is a rule."""
    for table in (RULES, LOWERINGS):
        monkeypatch.setitem(table, "my.domain::Steps", None)

    @rule("Steps", domain="my.domain", lowering=lowering)
    def straight_through(op: Op, node: ir.Node, dy: ir.Value) -> ir.Value:
        return dy

    proto = build(Case("my.domain::Steps", [normal(2, 5)]), TensorProto.FLOAT, symbolic=False)
    proto.graph.node[0].output[0] = "a"
    proto.graph.node.append(onnx.helper.make_node("Flatten", ["a"], ["b"], axis=0))
    proto.graph.node.append(onnx.helper.make_node("Steps", ["b"], ["y0"], domain="my.domain"))
    return Model.load(proto)


def test_a_rule_with_a_lowering(monkeypatch: pytest.MonkeyPatch) -> None:
    model = custom(monkeypatch, lambda op, node: op.Round(node.inputs[0]))
    x = normal(2, 5).astype(np.float32)
    assert [node.op_type for node in model.ir.graph] == ["Steps", "Flatten", "Steps"]
    assert model.value("b").shape == ir.Shape([1, 10]) and model.value("y0").dtype == ir.DataType.FLOAT
    np.testing.assert_array_equal(run(model.to_bytes(), {"x0": x})["y0"], np.round(x).reshape(1, 10))
    dy = normal(1, 10).astype(np.float32)
    found = run(vjp(model, ["x0"], ["y0"]).to_bytes(), {"x0": x, "cotangent.y0": dy})
    np.testing.assert_array_equal(found["gradient.x0"], dy.reshape(2, 5))  # Round has none: it was not lowered before


def test_another_lowering_is_another_model(monkeypatch: pytest.MonkeyPatch) -> None:
    first = custom(monkeypatch, lambda op, node: op.Round(node.inputs[0])).digest
    assert first != custom(monkeypatch, lambda op, node: op.Floor(node.inputs[0])).digest


def test_an_output_that_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DECOMPOSITIONS, "com.microsoft::Gelu", lambda op, node: [None])
    model = Model.load(build(Case("com.microsoft::Gelu", [normal(2, 5)]), TensorProto.FLOAT, symbolic=False))
    assert model.notes[0].startswith(
        "Node 'node' (com.microsoft::Gelu) has an output 'y0' that standard operators do not"
    )
    with pytest.raises(MissingRule, match=r'rule\("Gelu", domain="com.microsoft"\)'):
        vjp(model, ["x0"], ["y0"])


def test_outputs_without_a_name() -> None:
    """What they would give is used on the way, and needs a name of its own."""
    case = Case("com.microsoft::SkipLayerNormalization", [normal(1, 3, 4), normal(1, 3, 4), normal(4)], outputs=4)
    proto = build(case, TensorProto.FLOAT, symbolic=False)
    proto.graph.node[0].output[1:] = [""] * 3
    del proto.graph.output[1:]
    feeds = {n: typed(x, TensorProto.FLOAT) for n, x in zip(names(case), case.inputs, strict=True) if x is not None}
    np.testing.assert_allclose(run(Model.load(proto).to_bytes(), feeds)["y0"], run(proto, feeds)["y0"], atol=1e-6)


def test_a_form_that_is_not_covered(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(op: Op, node: ir.Node) -> Any:
        raise op.unsupported("its attribute 'mode' is new")

    monkeypatch.setitem(DECOMPOSITIONS, "com.microsoft::Gelu", refuse)
    model = Model.load(build(Case("com.microsoft::Gelu", [normal(2, 5)]), TensorProto.FLOAT, symbolic=False))
    assert model.notes == (
        "Node 'node' (com.microsoft::Gelu) cannot be taken apart: its attribute 'mode' is new. "
        "It stays as it is, and gradients stop there.",
    )
    x = normal(2, 5).astype(np.float32)
    assert run(model.to_bytes(), {"x0": x})["y0"].shape == x.shape


def test_a_lowering_must_cover_what_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(op: Op, node: ir.Node) -> Any:
        raise op.unsupported("its attribute 'mode' is new")

    with pytest.raises(UnsupportedError, match="cannot be taken apart: its attribute 'mode' is new"):
        custom(monkeypatch, refuse)
