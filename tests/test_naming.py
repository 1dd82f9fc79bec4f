"""Layers have names that people can read and type, whatever the exporter wrote."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from onnx_inspect.errors import LayerError
from onnx_inspect.model import Model

from .graphs import f, i, r

ZOO = Path(__file__).parents[2] / "shared" / "zoo"
needs_zoo = pytest.mark.skipif(not ZOO.exists(), reason="shared/zoo is not beside this checkout")

BODY = "c = Conv(x, W) a = Relu(c) d = Conv(a, V) b = Relu(d) p = GlobalAveragePool(b) q = Reshape(p, S) y = Softmax(q)"


def net(
    names: list[str] | None = None, scopes: list[str] | None = None, tensors: dict[str, str] | None = None
) -> Model:
    proto = r(21, BODY, x=f(2, 3, 8, 8), W=f(4, 3, 3, 3), V=f(4, 4, 3, 3), S=i(0, -1)).proto()
    for index, node in enumerate(proto.graph.node):
        node.name = names[index] if names else ""
        if scopes and scopes[index]:
            path = ["", *scopes[index].split("/"), node.op_type]
            node.metadata_props.add(key="pkg.torch.onnx.name_scopes", value=repr(path))
        for listed in (node.input, node.output):
            listed[:] = [(tensors or {}).get(t, t) for t in listed]
    for value in proto.graph.output:
        value.name = (tensors or {}).get(value.name, value.name)
    return Model.load(proto)


def names(model: Model) -> list[str]:
    return [layer.name for layer in model.layers]


NUMBERED = ["conv_1", "relu_1", "conv_2", "relu_2", "globalaveragepool_1", "reshape_1", "softmax_1"]


def test_without_names() -> None:
    assert names(net()) == NUMBERED
    assert names(net(names=["Conv_0", "Relu_1", "Conv_2", "Relu_3", "Pool", "view", "node_softmax"])) == NUMBERED


def test_torch_dynamo() -> None:
    scopes = ["stem/stem.0", "stem/stem.1", "body/body.0", "body/body.0", "", "", "head"]
    assert names(net(scopes=scopes)) == [
        "stem.0", "stem.1", "body.0.conv", "body.0.relu", "globalaveragepool_1", "reshape_1", "head",
    ]  # fmt: skip


def test_torch_dynamo_with_broken_metadata() -> None:
    model = r(21, "y = Relu(x)", x=f(2)).proto()
    for text in ("[unclosed", "'only text'", "[1, 2, 3]", "", "__import__('os')"):
        del model.graph.node[0].metadata_props[:]
        model.graph.node[0].metadata_props.add(key="pkg.torch.onnx.name_scopes", value=text)
        assert names(Model.load(model)) == ["relu_1"]


def test_torch_script() -> None:
    listed = [
        "/stem/stem.0/Conv", "/stem/stem.1/Relu", "/layer1/layer1.0/conv1/Conv", "/layer1/layer1.0/Relu", "/pool/Pool",
        "/Reshape", "/Softmax",
    ]  # fmt: skip
    assert names(net(names=listed)) == [
        "stem.0", "stem.1", "layer1.0.conv1", "layer1.0", "pool", "reshape_1", "softmax_1",
    ]  # fmt: skip


def test_tensorflow() -> None:
    listed = [
        "model/conv1/Conv2D", "model/conv1/Relu", "model/block_1/conv/Conv2D", "model/block_1/relu/Relu",
        "model/pool/Mean", "Reshape__22", "model/dense/Softmax",
    ]  # fmt: skip
    assert names(net(names=listed)) == [
        "model/conv1.conv", "model/conv1.relu", "model/block_1/conv", "model/block_1/relu", "model/pool", "reshape_1",
        "model/dense",
    ]  # fmt: skip


def test_names_are_unique_and_never_those_of_other_tensors() -> None:
    for model in (
        net(tensors={"c": "relu_1", "a": "conv_1", "d": "conv_2"}),
        net(tensors={"a": "relu_2", "b": "relu_1", "y": "conv_1"}),
        net(scopes=["conv_1", "conv_1", "conv_1", "", "", "conv_2", ""]),
        net(names=["/x/Conv", "/x/Relu", "/x/Conv", "/x/Relu", "/x.relu/Mean", "/x.conv_1/View", "/x/S"]),
    ):
        assert len(set(names(model))) == len(model.layers)
        for layer in model.layers:
            assert model.layer(layer.tensor).tensor == layer.tensor
            assert model.value(layer.name).name in (layer.tensor, layer.name)
            assert model.layer(layer.name).tensor == layer.tensor or layer.name in model.values


@pytest.mark.parametrize(
    "odd", ["model/relu:0", "a;b", "Identity:0", "/layer.0/Add_output_0", "x[0]", "*", "très", "a b"]
)
def test_exact_tensor_names_with_odd_characters(odd: str) -> None:
    model = net(tensors={"a": odd})
    assert model.value(odd).name == odd
    assert model.layer(odd).tensor == odd
    assert model.layer("relu_1").tensor == odd


def test_globs() -> None:
    model = net(scopes=["stem/stem.0", "stem/stem.1", "body/body.0", "body/body.1", "", "", "head"])
    assert [layer.name for layer in model.find_layers("stem.*")] == ["stem.0", "stem.1"]
    assert [layer.name for layer in model.find_layers("*.1")] == ["stem.1", "body.1"]
    assert model.layer("hea?").name == "head"
    with pytest.raises(LayerError, match=r"'\*\.1' means 2 layers \('stem\.1', 'body\.1'\)"):
        model.layer("*.1")


@pytest.mark.parametrize(("typo", "meant"), [("relu1", "relu_1"), ("Conv_2", "conv_2"), ("softmx_1", "softmax_1")])
def test_did_you_mean(typo: str, meant: str) -> None:
    with pytest.raises(LayerError, match=f"no layer or tensor '{typo}'.*Did you mean.*'{meant}'"):
        net().layer(typo)
    with pytest.raises(LayerError, match=r"no layer or tensor 'zzzzzz'\. `onnx-inspect layers"):
        net().layer("zzzzzz")


def test_only_floats_that_depend_on_the_input_are_layers() -> None:
    row = r(21, "w = Abs(W) h = Mul(x, w) k = ArgMax(h) y = Cast<to=1>(k)", x=f(2, 3), W=f(3))
    assert [layer.tensor for layer in Model.load(row.proto()).layers] == ["h", "y"]


ZOO_NAMES = {
    "torch_dynamo_cnn": ["features.0.1", "features.0.2", "fc"],
    "torch_legacy_cnn": ["features.0.0", "features.0.2", "fc"],
    "keras_tensorflow_cnn": ["cnn_1/relu0_1"],
    "jax_mbv3": ["conv_1", "relu_1"],
    "paddle_mbv3": ["conv_1", "relu_1"],
    "variants/no_node_names": ["conv_1", "relu_1"],
}


@needs_zoo
@pytest.mark.parametrize("file", ZOO_NAMES)
def test_exporters(file: str) -> None:
    model = Model.load(ZOO / f"{file}.onnx")
    assert set(ZOO_NAMES[file]) <= set(names(model)), names(model)


@needs_zoo
@pytest.mark.parametrize("path", sorted(ZOO.rglob("*.onnx")), ids=lambda p: p.stem)
def test_names_in_the_zoo_are_unique(path: Path) -> None:
    if path.stem == "keras_tf_gelu_erfc":
        pytest.skip("not a legal file")
    model = Model.load(path)
    assert len(set(names(model))) == len(model.layers)
    computed = {y for n in onnx.load(path, load_external_data=False).graph.node for y in n.output}
    assert {layer.tensor for layer in model.layers} & computed or not model.layers
