"""The four rewriters: they leave the model alone, and what they return is valid ONNX that computes what it says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

import onnx_inspect as oi
from onnx_inspect.engine import Engine
from onnx_inspect.errors import LayerError, MissingRule, TargetError
from onnx_inspect.target import Index, Top

from . import nets

ENGINE = Engine("cpu", threads=1)
X = nets.images(3)
FOUND = nets.forward(X)
LAST = "a:2/x;0"


def run(model: oi.Model, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """On plain onnxruntime, from bytes that pass onnx's full check."""
    onnx.checker.check_model(model.to_bytes(), full_check=True)
    session = ort.InferenceSession(model.to_bytes(), providers=["CPUExecutionProvider"])
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, feeds), strict=True))


@pytest.fixture
def model() -> oi.Model:
    return oi.load(nets.classifier())


def test_expose(model: oi.Model) -> None:
    found = run(oi.expose(model, [LAST, "body.conv1", "scores"]), {"image": X})
    assert list(found) == ["scores", LAST, "c1"]
    np.testing.assert_allclose(found[LAST], FOUND["a"], atol=1e-5)
    np.testing.assert_allclose(found["c1"], FOUND["c1"], atol=1e-5)


def test_cut(model: oi.Model) -> None:
    front = oi.cut(model, outputs=["body.relu2"])
    back = oi.cut(model, [LAST], ["scores"])
    assert [i.name for i in back.inputs] == [LAST]
    middle = run(front, {"image": X})[LAST]
    np.testing.assert_allclose(run(back, {LAST: middle})["scores"], FOUND["logits"], rtol=1e-4)
    assert {n.op_type for n in back.ir.graph} == {"GlobalAveragePool", "Flatten", "Gemm"}
    assert not {"w1", "w2"} & set(back.ir.graph.initializers)
    with pytest.raises(LayerError, match="cannot be where the cut begins"):
        oi.cut(model, ["scores"], [LAST])
    with pytest.raises(LayerError, match="no layer or tensor 'nowhere'"):
        oi.cut(model, outputs=["nowhere"])


def test_vjp(model: oi.Model) -> None:
    adjoint = oi.vjp(model, ["image", LAST, "w3", "b3"], ["scores"])
    assert [i.name for i in adjoint.inputs] == ["image", "cotangent.scores"]
    c = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    found = run(adjoint, {"image": X, "cotangent.scores": c})
    assert list(found) == ["gradient.image", f"gradient.{LAST}", "gradient.w3", "gradient.b3"]
    np.testing.assert_allclose(found["gradient.b3"], c.sum(axis=0), rtol=1e-5)
    np.testing.assert_allclose(found["gradient.w3"], FOUND["p"].T @ c, rtol=1e-4, atol=1e-5)
    expected = (c @ nets.weights()["w3"].T)[:, :, None, None] / 36
    np.testing.assert_allclose(found[f"gradient.{LAST}"], np.broadcast_to(expected, FOUND["a"].shape), rtol=1e-4)


def test_vjp_of_several_outputs_adds_up(model: oi.Model) -> None:
    adjoint = oi.vjp(model, ["image"], ["scores", "c1"])
    c = {
        n: np.random.default_rng(i).normal(size=s).astype(np.float32)
        for i, (n, s) in enumerate({"scores": (3, 4), "c1": (3, 5, 12, 12)}.items())
    }
    zeros = {n: np.zeros_like(v) for n, v in c.items()}

    def gradient(**given: np.ndarray) -> np.ndarray:
        return run(adjoint, {"image": X, **{f"cotangent.{n}": v for n, v in {**zeros, **given}.items()}})[
            "gradient.image"
        ]

    np.testing.assert_allclose(gradient(**c), gradient(scores=c["scores"]) + gradient(c1=c["c1"]), atol=1e-4)


def test_vjp_of_what_does_not_depend_is_zero(model: oi.Model) -> None:
    found = run(
        oi.vjp(model, [LAST, "w3", "image"], ["r1"]), {"image": X, "cotangent.r1": np.ones((3, 5, 12, 12), np.float32)}
    )
    assert found[f"gradient.{LAST}"].shape == FOUND["a"].shape
    assert not found[f"gradient.{LAST}"].any()
    assert found["gradient.w3"].shape == (6, 4)
    assert not found["gradient.w3"].any()
    assert found["gradient.image"].any()


def test_vjp_of_a_tensor_by_itself_is_the_cotangent(model: oi.Model) -> None:
    c = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    np.testing.assert_array_equal(
        run(oi.vjp(model, ["scores"], ["scores"]), {"image": X, "cotangent.scores": c})["gradient.scores"], c
    )


def test_gradients_can_be_differentiated_again(model: oi.Model) -> None:
    """<d/dx <vjp(c), u>, v> against differences of vjp: a second derivative."""
    smooth = nets.classifier()
    for node in smooth.graph.node:
        if node.op_type == "Relu":
            node.op_type = "Tanh"
    model = oi.load(smooth)
    first = oi.vjp(model, ["image"], ["scores"])
    second = oi.vjp(first, ["image"], ["gradient.image"])
    rng = np.random.default_rng(0)
    c, u, v = (rng.normal(size=s).astype(np.float32) for s in ((3, 4), X.shape, X.shape))
    feeds = {"image": X, "cotangent.scores": c}
    actual = (run(second, {**feeds, "cotangent.gradient.image": u})["gradient.image"].astype(np.float64) * v).sum()
    h = 1e-2
    plus, minus = (run(first, {**feeds, "image": X + s * h * v})["gradient.image"].astype(np.float64) for s in (1, -1))
    np.testing.assert_allclose(actual, ((plus - minus) * u).sum() / (2 * h), rtol=2e-2)


def test_gradient(model: oi.Model) -> None:
    found = run(oi.gradient(model, Top(), ["image", LAST]), {"image": X})
    assert list(found) == ["scores", "score", "gradient.image", f"gradient.{LAST}"]
    np.testing.assert_allclose(found["score"], FOUND["logits"].max(axis=1), rtol=1e-4)
    per_sample = oi.gradient(model, Index((0, 1, 2)), [LAST])
    found = run(per_sample, {"image": X, "target.index": np.arange(3)})
    np.testing.assert_allclose(found["score"], FOUND["logits"][range(3), range(3)], rtol=1e-4)
    with pytest.raises(TargetError, match="does not depend on 'image'"):
        oi.gradient(oi.load(unrelated()), Top(), ["image"])


def unrelated() -> onnx.ModelProto:
    """Scores that come from another input than the image."""
    net = nets.classifier(extra_input=True)
    del net.graph.node[:]
    net.graph.node.append(helper.make_node("Tanh", ["offset"], ["scores"], name="tanh"))
    return net


def test_another_table_is_another_backward_pass(model: oi.Model) -> None:
    def guided(op: object, node: ir.Node, dy: ir.Value) -> ir.Value:
        return oi.RULES["Relu"](op, node, op.Relu(dy))  # type: ignore[attr-defined, return-value]

    plain, other = (oi.gradient(model, Index(1), ["c1"], rules=r) for r in (oi.RULES, {**oi.RULES, "Relu": guided}))
    feeds = {"image": X, "target.index": np.full(3, 1)}
    a, b = run(plain, feeds)["gradient.c1"], run(other, feeds)["gradient.c1"]
    assert not np.allclose(a, b)
    assert (b * (FOUND["c1"] <= 0) == 0).all()
    assert b.min() >= 0


def test_models_are_left_alone(model: oi.Model) -> None:
    before, digest = model.to_bytes(), model.digest
    oi.gradient(oi.expose(model, [LAST]), Top(), ["image"])
    oi.vjp(model, ["image"], ["scores"])
    oi.cut(model, [LAST])
    assert model.to_bytes() == before
    assert model.digest == digest
    assert oi.vjp(model, ["image"], ["scores"]).digest != digest


def test_digests_tell_models_apart() -> None:
    same = [oi.load(nets.classifier()).digest for _ in range(2)]
    assert same[0] == same[1]
    other = nets.classifier()
    other.graph.initializer[0].raw_data = bytes(len(other.graph.initializer[0].raw_data))
    assert oi.load(other).digest != same[0]


def missing() -> onnx.ModelProto:
    net = nets.classifier()
    net.graph.node[1].op_type, net.graph.node[1].domain = "Nope", "nowhere"
    net.opset_import.append(helper.make_opsetid("nowhere", 1))
    net.graph.value_info.append(helper.make_tensor_value_info("r1", TensorProto.FLOAT, ["N", 5, 12, 12]))
    return net


def test_a_missing_rule_is_named_and_can_be_added() -> None:
    model = oi.load(missing())
    with pytest.raises(
        MissingRule, match=r"Node '/body/relu1/Relu' has the operator nowhere::Nope.*@onnx_inspect\.rule"
    ):
        oi.vjp(model, ["image"], ["scores"])
    oi.vjp(model, [LAST], ["scores"])
    rules = {**oi.RULES, "nowhere::Nope": lambda op, node, dy: dy * 2}
    onnx.checker.check_model(oi.vjp(model, ["image"], ["scores"], rules=rules).to_proto())


@pytest.mark.parametrize(
    ("nodes", "named"),
    [
        (
            [("QuantizeLinear", [LAST, "s", "z"], ["q"], {}), ("DequantizeLinear", ["q", "s", "z"], ["back"], {})],
            "DequantizeLinear",
        ),
        ([("QuantizeLinear", [LAST, "s", "z"], ["q"], {}), ("Cast", ["q"], ["back"], {"to": 1})], "QuantizeLinear"),
        (
            [("DynamicQuantizeLinear", [LAST], ["q", "s1", "z1"], {}), ("Cast", ["q"], ["back"], {"to": 1})],
            "DynamicQuantizeLinear",
        ),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_quantised_tensors_do_not_pass_as_zeros(
    nodes: list[tuple[str, list[str], list[str], dict[str, int]]], named: str
) -> None:
    """Behind an operator without a rule integers may stand for floats: that is an error, never a silent zero."""
    net = nets.classifier()
    for k, (op, inputs, outputs, attributes) in enumerate(nodes):
        net.graph.node.insert(4 + k, helper.make_node(op, inputs, outputs, name=f"n{k}", **attributes))
    net.graph.node[4 + len(nodes)].input[0] = "back"
    net.graph.initializer.append(helper.make_tensor("s", TensorProto.FLOAT, [], [0.1]))
    net.graph.initializer.append(helper.make_tensor("z", TensorProto.UINT8, [], [0]))
    rules = {k: v for k, v in oi.RULES.items() if "uantize" not in k}
    with pytest.raises(MissingRule, match=named):
        oi.vjp(oi.load(net), ["image"], ["scores"], rules=rules)


def test_save_and_load_again(model: oi.Model, tmp_path: Path) -> None:
    path = oi.vjp(model, ["image"], ["scores"]).save(tmp_path / "grädient.onnx")
    assert [f.name for f in tmp_path.iterdir()] == ["grädient.onnx"]
    again = oi.load(path)
    c = np.ones((3, 4), np.float32)
    found = ENGINE.run(again, {"image": X, "cotangent.scores": c})["gradient.image"]
    np.testing.assert_allclose(
        found,
        run(oi.vjp(model, ["image"], ["scores"]), {"image": X, "cotangent.scores": c})["gradient.image"],
        atol=1e-6,
    )


def test_weights_beside_the_file_stay_there(tmp_path: Path) -> None:
    net = nets.classifier()
    onnx.save(net, tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=100)
    model = oi.load(tmp_path / "m.onnx")
    assert model.external
    np.testing.assert_allclose(ENGINE.run(model, {"image": X})["scores"], FOUND["logits"], rtol=1e-4)
    found = oi.saliency(model, X, engine=ENGINE)
    np.testing.assert_allclose(found.values, oi.saliency(nets.classifier(), X, engine=ENGINE).values, atol=1e-6)
    path = model.save(tmp_path / "sub" / "copy.onnx")
    np.testing.assert_allclose(ENGINE.run(oi.load(path), {"image": X})["scores"], FOUND["logits"], rtol=1e-4)


def test_models_too_big_for_one_file_keep_their_weights_beside_it(
    model: oi.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onnx_inspect.serial.LIMIT", 100)
    with pytest.raises(oi.InspectError, match="save it"):
        model.to_bytes()
    path = model.save(tmp_path / "big.onnx")
    monkeypatch.undo()
    assert sorted(f.name for f in tmp_path.iterdir()) == ["big.onnx", "big.onnx.data"]
    np.testing.assert_allclose(ENGINE.run(oi.load(path), {"image": X})["scores"], FOUND["logits"], rtol=1e-4)
