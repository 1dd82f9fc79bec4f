"""Layers have names that people can read and type, whatever the exporter wrote."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from onnx_inspect.errors import LayerError
from onnx_inspect.globs import matcher
from onnx_inspect.model import Model
from onnx_inspect.scopes import scopes as scopes_of

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
    for value in [*proto.graph.output, *proto.graph.initializer]:
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


@pytest.mark.parametrize(
    ("pattern", "meant", "not_meant"),
    [
        ("layer3.*.conv2", ["layer3.0.conv2", "layer3.11.conv2"], ["layer3.0.downsample.conv2", "layer3.conv2", "layer30.0.conv2"]),
        ("layer3.**", ["layer3.0", "layer3.0.conv2"], ["layer3", "layer4.0"]),
        ("**.conv2", ["conv.conv2", "a.b.conv2"], ["conv2", "a.b.conv21"]),
        ("features.?", ["features.4"], ["features.10", "features..", "features.4.1"]),
        ("features.[0-3]", ["features.0", "features.3"], ["features.4", "features.-"]),
        ("features.[!0-3]", ["features.4"], ["features.0"]),
        ("model.*.conv", ["model/block_1/conv", "model.block_1.conv"], ["model/block_1/deep/conv"]),
        ("model/*/conv", ["model/block_1/conv", "model.block_1.conv"], ["model/conv"]),
        ("*conv2", ["conv2", "layer1.0.conv2", "a/b/myconv2"], ["conv2.relu"]),
        ("*", ["conv1", "a.b.c", "a/b"], []),
        ("a+.(b)", ["a+.(b)"], ["aa.b"]),
    ],
)  # fmt: skip
def test_patterns_over_levels(pattern: str, meant: list[str], not_meant: list[str]) -> None:
    means = matcher(pattern)
    assert [n for n in meant if not means(n)] == []
    assert [n for n in not_meant if means(n)] == []


@pytest.mark.filterwarnings("error")
def test_sets_of_characters() -> None:
    for pattern in ("a.[x!^&~|\\]", "a.[!b]", "a.[w-y&&]"):
        assert matcher(pattern)("a.x")
        assert not matcher(pattern)("a.b")
    assert matcher("a.[!]x")("a.!x")
    with pytest.raises(LayerError, match=r"'a\.\[z-a\]' is no pattern"):
        net().find_layers("a.[z-a]")


def test_globs_keep_to_levels_and_then_do_not() -> None:
    model = net(scopes=["stem", "stem/stem.act", "body/body.0/body.0.conv", "body/body.0/body.0.act", "", "", "head"])
    tensors = [c.tensor for c in model.layers]
    assert [c.tensor for c in model.find_layers("body.*.conv")] == ["d"]
    assert [c.tensor for c in model.find_layers("body.**")] == ["d", "b"]
    assert [c.tensor for c in model.find_layers("body.*")] == ["b"]  # the output of body.0
    assert [c.tensor for c in model.find_layers("body*conv")] == ["d"]
    assert [c.tensor for c in model.find_layers("*y.*nv")] == ["d"]  # no such name has two levels
    assert [c.tensor for c in model.find_layers("*")] == tensors


def test_a_module_means_its_output() -> None:
    model = net(scopes=["stem/stem.0", "stem/stem.1", "body/body.0", "body/body.0", "", "", "head"])
    assert model.layer("stem").tensor == "a"
    assert model.layer("body").tensor == model.layer("body.0").tensor == "b"
    assert model.layer("stem.0").tensor == "c"
    row = r(21, "a = Relu(x) b = Abs(a) c = Neg(a) y = Add(b, c)", x=f(2, 3)).proto()
    for node, module in zip(row.graph.node, ("two/two.a", "two/two.b", "two/two.c", ""), strict=True):
        node.metadata_props.add(key="pkg.torch.onnx.name_scopes", value=repr(["", *module.split("/"), "op"]))
    with pytest.raises(LayerError, match="no layer or tensor 'two'"):  # it hands on two tensors
        Model.load(row).layer("two")


def test_a_module_lends_its_name_only_to_what_it_hands_on() -> None:
    scopes = ["m", "m/m.a", "m/m.a", "m/m.b", "", "", "head"]
    assert names(net(scopes=scopes)) == [
        "m.conv", "m.a.relu", "m.a.conv", "m.b", "globalaveragepool_1", "reshape_1", "head",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("weight", "module"),
    [
        ("layer1.0.conv1.weight", "layer1.0.conv1"),
        ("conv1.weight_quantized", "conv1"),
        ("fire2/squeeze1x1_w_0", "fire2/squeeze1x1"),
        ("conv2d_34/kernel:0", "conv2d_34"),
        ("cnn_1/conv0_1/convolution/merged_input:0", "cnn_1/conv0_1"),
        ("model/dense/BiasAdd/ReadVariableOp/resource", "model/dense"),
        ("resnet0_conv1_weight", "resnet0_conv1"),
        *((told_nothing, "conv_1") for told_nothing in (
            "conv2d_4.w_0", "onnx::Conv_39", "475", "1178_quantized", "weight", "kernel_oih_0", "Parameter5", "/conv/Constant_output_0",
            "p2o.pd_op.reshape.0.0", "", "_output_1" * 20_000 + "x", "w_1" * 50_000,
        )),
    ],
)  # fmt: skip
def test_names_of_weights(weight: str, module: str) -> None:
    model = net(tensors={"W": weight} if weight else None)
    assert names(model)[0] == module
    assert model.layer("conv_1").tensor == "c"  # what it was called without the weight's name
    assert names(model)[1:] == NUMBERED[1:]


def test_weights_that_are_shared_or_misnamed_name_nothing() -> None:
    scopes = ["stem/stem.0", "stem/stem.1", "body/body.0", "body/body.1", "", "", ""]
    folded = net(scopes=scopes, tensors={"W": "stem.conv.weight", "V": "stem.0.weight"})
    assert folded.layer("stem.conv").tensor == "c"
    assert folded.layer("stem.0").tensor == "c"  # not body.0, which reads a weight of that name
    assert "stem.0" not in {n for c in folded.layers for n in c.also}
    shared = r(21, "c = Conv(x, W) d = Conv(c, W) y = Relu(d)", x=f(1, 3, 8, 8), W=f(3, 3, 3, 3)).proto()
    shared.graph.initializer[0].name = "a.weight"
    for node, module in zip(shared.graph.node, "pqr", strict=True):
        node.name = f"/{module}/{node.op_type}"
        node.input[:] = ["a.weight" if x == "W" else x for x in node.input]
    assert not any(module.held for module in scopes_of(Model.load(shared).ir.graph).values())


def test_tensor_names_where_nodes_have_none() -> None:
    model = net(tensors={"c": "/layer1/conv1/Conv_output_0", "a": "/layer1/relu/Relu_output_0"})
    assert model.layer("layer1").tensor == model.layer("layer1.relu").tensor == "/layer1/relu/Relu_output_0"
    assert model.layer("layer1.conv1").tensor == "/layer1/conv1/Conv_output_0"
    assert names(model) == NUMBERED


def test_caffe2() -> None:
    tensors = {"c": "fire2/squeeze_1", "a": "fire2/squeeze_2", "d": "fire2/concat_1", "W": "fire2/squeeze_w_0"}
    model = net(tensors=tensors)
    assert model.layer("fire2.squeeze").tensor == "fire2/squeeze_2"
    assert model.layer("fire2").tensor == model.layer("fire2.concat").tensor == "fire2/concat_1"


def test_sequentials_within_modules() -> None:
    listed = ["/0/0.1/fn/fn.0/norm/Conv", "/enc/layers.0/act/Relu", "", "", "", "", ""]
    assert names(net(names=listed))[:2] == ["0.1.fn.0.norm", "enc.layers.0.act"]


def test_tensorflow_lite_joins_what_it_fused() -> None:
    fused = "model/act/Relu;model/bn/FusedBatchNormV3;model/conv/BiasAdd/ReadVariableOp/resource;model/conv/Conv2D1"
    assert names(net(names=[fused, "Relu__5", "", "", "", "", ""]))[:2] == ["model/conv", "relu_1"]


def test_tf2onnx_puts_transposes_into_scopes_of_neighbours() -> None:
    listed = ["m/conv/Conv2D", "m/conv/Relu", "m/conv/Conv2D__9", "m/b/Relu", "", "", ""]
    model = net(names=listed)
    assert model.layer("m.conv").tensor == "a"


def test_model_local_functions() -> None:
    text = """
    <ir_version: 10, opset_import: ["" : 21, "own" : 1]>
    g (float[1, 3, 8, 8] x, float[3, 3, 1, 1] w) => (float[1, 3, 8, 8] y) {
        a = own.Block (x, w)
        y = own.Block (a, w)
    }
    <domain: "own", opset_import: ["" : 21, "own" : 1]>
    Block (x, w) => (y) { c = own.Layer (x, w)  y = Add (x, c) }
    <domain: "own", opset_import: ["" : 21]>
    Layer (x, w) => (y) { c = Conv (x, w)  y = Relu (c) }
    """
    proto = onnx.parser.parse_model(text)
    proto.graph.node[0].name = "/net/first"
    proto.functions[0].node[0].name = "inner"
    model = Model.load(proto)
    assert names(model) == [
        "first.inner.conv", "first.inner.relu", "first", "Block_2.inner.conv", "Block_2.inner.relu", "Block_2",
    ]  # fmt: skip
    assert model.layer("first.inner").name == "first.inner.relu"
    assert model.layer("Block_2").tensor == "y"


def test_numbers_of_tensors_are_kept_where_they_would_clash() -> None:
    assert names(net(tensors={"a": "relu", "b": "relu_1"}))[1:4:2] == ["relu", "relu_1"]
    assert names(net(tensors={"a": "relu", "b": "relu_7"}))[1:4:2] == ["relu_1", "relu_2"]


def test_names_as_deep_as_a_file_can_make_them() -> None:
    deep = net(names=["/".join("a" * 5000) + "/Conv", "/" + ".".join("b" * 5000) + "/Relu", *[""] * 5])
    assert len(set(names(deep))) == 7
    assert net(scopes=["/".join(["a." * 3000 + "x"] * 3), *[""] * 6]).layers


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
