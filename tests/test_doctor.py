"""The doctor: one sick model per finding, and healthy ones of which it finds nothing."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import TensorProto, helper, numpy_helper

from onnx_inspect import gradient, image, load
from onnx_inspect.autodiff.table import RULES
from onnx_inspect.cli import cli
from onnx_inspect.doctor import Report, examine, install, path, photos, sightings
from onnx_inspect.doctor.sightings import Sighting
from onnx_inspect.engine import Engine
from onnx_inspect.errors import DeviceError, LayerError, ModelError
from onnx_inspect.labels import Labels
from onnx_inspect.methods.detect import detect
from onnx_inspect.methods.inputs import guess_preprocessing
from onnx_inspect.preprocess import Preprocessing

from . import blobs, detectors, nets
from .shared import ASSETS, needs_assets

n, info = helper.make_node, helper.make_tensor_value_info
FLOAT = TensorProto.FLOAT
PICTURE = [info("x", FLOAT, ["N", 3, 12, 12])]


def call(*words: object) -> Result:
    return CliRunner().invoke(cli, ["doctor", *map(str, words)], prog_name="onnx-inspect")


def model(nodes: Any, inputs: Any, outputs: dict[str, Any], *, foreign: str = "", **weights: Any) -> onnx.ModelProto:
    """A graph; outputs as name to shape, or to type and shape."""
    ends = [info(k, *(s if isinstance(s, tuple) else (FLOAT, s))) for k, s in outputs.items()]
    arrays = [numpy_helper.from_array(np.asarray(v), k) for k, v in weights.items()]
    opsets = [helper.make_opsetid("", 17), *([helper.make_opsetid(foreign, 1)] if foreign else [])]
    return helper.make_model(helper.make_graph(nodes, "g", inputs, ends, arrays), opset_imports=opsets, ir_version=8)


def look(given: Any, *args: Any, **options: Any) -> Report:
    given = given.SerializeToString() if isinstance(given, onnx.ModelProto) else given
    return examine(given, *args, device="cpu", threads=1, **options)


def only(report: Report, severity: str, *said: str) -> Any:
    """The one finding of a severity; there is none that is worse."""
    worst = [f for f in report.findings if f.severity in ("error", severity)]
    assert [f.severity for f in worst] == [severity], [str(f) for f in report.findings]
    for words in said:
        assert words in str(worst[0])
    return worst[0]


# The command.


def test_healthy(tmp_path: Path) -> None:
    for final in ("", "Softmax", "Sigmoid"):
        result = call(nets.save(tmp_path, final=final, metadata=nets.NAMES), "--device", "cpu")
        assert result.exit_code == 0, result.output
        assert result.stdout.splitlines()[-1] == "fine: gradcam, saliency and occlusion can explain this model"
        assert "Conv 2" in result.stdout
        assert "preprocessing: " in result.stderr


def test_json(tmp_path: Path) -> None:
    result = call(nets.save(tmp_path, final="ArgMax"), "--json", "-q")
    facts = json.loads(result.stdout)
    assert (result.exit_code, result.stderr, facts["fine"]) == (1, "", False)
    assert facts["operators"]["Conv"] == 2
    assert facts["opset"] == {"ai.onnx": 17}
    assert {"severity": "error", "where": "/final"}.items() <= facts["findings"][0].items()
    assert {"onnx", "numpy", "python"} <= facts["versions"].keys()


def test_wrong_words_and_files_are_no_findings(tmp_path: Path) -> None:
    path, text = nets.save(tmp_path), tmp_path / "text.onnx"
    text.write_text("hello")
    for words in ([text], [tmp_path / "none.onnx"], [path, tmp_path / "none.jpg"], [path, "--device", "gpu"],
                  [path, "--target", "99"], [path, "--target", "'scores'[99]"], [path, "--target", "'scores'[:, :, 0]"],
                  [path, "--layer", "nope"], [path, "--layer", "head"]):  # fmt: skip
        result = call(*words)
        assert result.exit_code == 2, result.output
        assert len(result.stderr.splitlines()) == 1


def test_names_do_not_steer_the_terminal(tmp_path: Path) -> None:
    proto = nets.classifier(final="ArgMax")
    proto.graph.node[-1].name = "\x1b[31mred\nline"
    proto.graph.output[0].CopyFrom(info("scores", TensorProto.INT64, None))
    onnx.save(proto, tmp_path / "m.onnx")
    result = CliRunner().invoke(cli, ["doctor", str(tmp_path / "m.onnx")], prog_name="onnx-inspect", color=True)
    assert "'\\x1b[31mred\\nline' (ArgMax)" in result.stdout


# The file.


def test_a_model_that_cannot_be_loaded(tmp_path: Path) -> None:
    proto = nets.classifier()
    proto.graph.node[1].op_type = "Erfc"
    report = look(proto)
    only(report, "error", "Erfc")
    assert report.facts["operators"]["Erfc"] == 1
    assert report.verdict == "cannot be explained as it is (1 error)"
    path = tmp_path / "external.onnx"
    onnx.save(nets.classifier(), path, save_as_external_data=True, location="weights", size_threshold=0)
    assert look(path).facts["external_data"] == [str(tmp_path / "weights")]
    (tmp_path / "weights").unlink()
    only(look(path), "error", "needs the file 'weights'")
    with pytest.raises(ModelError):
        look(b"hello")


@pytest.mark.parametrize(("kind", "shape", "said"), [
    (FLOAT, ["N", 12, 12, 5], "?×12×12×5 for 'r1', which is N×5×12×12"),
    (FLOAT, ["N", 5, 12], "?×5×12 for 'r1'"),
    (TensorProto.INT32, ["N", 5, 12, 12], "INT32 for 'r1', which is FLOAT"),
])  # fmt: skip
def test_contradictions(kind: int, shape: list[Any], said: str) -> None:
    proto = nets.classifier()
    proto.graph.value_info.append(info("r1", kind, shape))
    only(look(proto), "warning", said.replace("N×", "?×"))


def test_the_command_against_contradictions_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    proto = nets.classifier()
    proto.graph.value_info.append(info("r1", FLOAT, ["N", 5, 9]))
    proto.graph.output[0].CopyFrom(info(proto.graph.output[0].name, FLOAT, ["N", 77]))
    onnx.save(proto, "it's $HOME.onnx")
    command = only(look("it's $HOME.onnx"), "warning", "and of 1 more").remedy.split("`")[1]
    subprocess.run(command.replace("python", sys.executable, 1), shell=True, check=True)
    assert look("mended.onnx").fine


def test_bfloat16_is_no_contradiction() -> None:
    def bf16(name: str, shape: Any) -> Any:
        return info(name, TensorProto.BFLOAT16, shape)

    nodes = [n("GlobalAveragePool", ["x"], ["p"]), n("Flatten", ["p"], ["y"])]
    proto = helper.make_model(
        helper.make_graph(nodes, "g", [bf16("x", ["N", 3, 12, 12])], [bf16("y", ["N", 3])], value_info=[bf16("p", None)]),
        opset_imports=[helper.make_opsetid("", 22)], ir_version=10,
    )  # fmt: skip
    assert not [str(f) for f in look(proto).findings if f.check == "file" and f.severity != "note"]


def test_random_numbers() -> None:
    nodes = [n("GlobalAveragePool", ["x"], ["p"]), n("Flatten", ["p"], ["f"])]
    noise = [*nodes, n("RandomUniformLike", ["f"], ["r"], name="dice"), n("Add", ["f", "r"], ["y"])]
    said = [str(f) for f in look(model(noise, PICTURE, {"y": ["N", 3]})).findings if f.severity == "warning"]
    assert any("'dice' (RandomUniformLike) draws random numbers" in text for text in said)
    for trains in (True, False):
        drop = [*nodes, n("Dropout", ["f", "ratio", "mode"], ["y"], name="drop")]
        weights = {"ratio": np.float32(0.5), "mode": np.bool_(trains)}
        said = [str(f) for f in look(model(drop, PICTURE, {"y": ["N", 3]}, **weights)).findings]
        assert any("'drop' (Dropout)" in text for text in said) == trains


def test_true_value_info_is_fine() -> None:
    proto = onnx.shape_inference.infer_shapes(nets.classifier(batch=2, final="Softmax"))
    assert proto.graph.value_info
    assert look(proto).fine


@pytest.mark.parametrize(
    ("domain", "said"), [("com.microsoft.nchwc", "ORT_ENABLE_EXTENDED"), ("acme", "domain acme is not in")]
)
def test_operators_of_one_machine(domain: str, said: str) -> None:
    nodes = [
        n("Odd", ["x"], ["y"], domain=domain, name="odd"),
        n("GlobalAveragePool", ["y"], ["z"]),
        n("Flatten", ["z"], ["s"]),
    ]
    report = look(model(nodes, PICTURE, {"s": ["N", 3]}, foreign=domain))
    found = next(f for f in report.findings if f.check == "file" and f.severity == "warning")
    assert f"{domain}::Odd (1), first in node 'odd'" in str(found)
    assert found.where == "odd"
    assert said in str(found)
    assert report.facts["without_rule"] == {f"{domain}::Odd": 1}
    assert not any(report.methods.values())
    error = next(f for f in report.findings if f.severity == "error")
    assert f"{domain}::Odd" in str(error)
    assert "@onnx_inspect.rule" not in str(error), "what cannot run needs no rule"
    assert "occlusion" not in str(error)


def test_kinds_of_numbers() -> None:
    def notes(proto: onnx.ModelProto) -> str:
        report = look(proto)
        assert report.fine, [str(f) for f in report.findings]
        return " ".join(str(f) for f in report.findings if f.check == "precision")

    assert notes(nets.classifier()) == ""
    scale, zero = {"s": np.float32(0.02)}, {"z": np.int8(0)}
    tail = [n("GlobalAveragePool", ["c"], ["p"]), n("Flatten", ["p"], ["y"])]
    w = np.arange(-81, 81, dtype=np.int8).reshape(6, 3, 3, 3)
    stored = [n("DequantizeLinear", ["w", "s"], ["k"]), n("Conv", ["x", "k"], ["c"]), *tail]
    assert "gradients are exact" in notes(model(stored, PICTURE, {"y": ["N", 6]}, w=w, **scale))
    there = [n("QuantizeLinear", ["x", "s", "z"], ["q"]), n("DequantizeLinear", ["q", "s", "z"], ["d"])]
    both = [*there, n("DequantizeLinear", ["w", "s"], ["k"]), n("Conv", ["d", "k"], ["c"]), *tail]
    assert "3 quantisers, 0 integer" in notes(model(both, PICTURE, {"y": ["N", 6]}, w=w, **scale, **zero))
    half = [n("Cast", ["x"], ["h"], to=TensorProto.FLOAT16), n("Conv", ["h", "w"], ["c"]), *tail[:1],
            n("Flatten", ["p"], ["f"]), n("Cast", ["f"], ["y"], to=FLOAT)]  # fmt: skip
    assert "float16 (1 weights" in notes(model(half, PICTURE, {"y": ["N", 6]}, w=(w / 100).astype(np.float16)))


def test_sizes() -> None:
    assert any("was freed" in str(f) for f in look(nets.classifier(batch=1)).findings)
    assert any("leaves its size open" in str(f) for f in look(nets.classifier(size="open")).findings)
    proto = nets.classifier(batch=2)
    proto.graph.node.insert(6, n("CumSum", ["f0", "axis"], ["f"]))  # samples meet: the batch stays
    proto.graph.node[5].output[0] = "f0"
    proto.graph.initializer.append(numpy_helper.from_array(np.int64(0), "axis"))
    assert any("holds exactly 2 samples" in str(f) for f in look(proto).findings)


# The path.


def test_an_index_as_output() -> None:
    proto = nets.classifier(final="ArgMax")
    proto.graph.output[0].CopyFrom(info("scores", TensorProto.INT64, None))
    report = look(proto)
    only(report, "error", "'/final' (ArgMax)", "gives an index", "--target \"'logits'[0]\"")
    assert report.target == "'logits'[0]"
    assert all(report.methods.values()), "the stand-in is tried"
    assert look(proto, target=report.target).fine


def test_names_with_quotes_can_be_typed() -> None:
    proto = nets.classifier(final="ArgMax")
    for field in (proto.graph.node[-2].output, proto.graph.node[-1].input):
        field[0] = 'it\'s "$y"'
    proto.graph.output[0].CopyFrom(info("scores", TensorProto.INT64, None))
    report = look(proto)
    typed = only(report, "error", "'/final'").remedy.partition("--target ")[2]
    assert shlex.split(typed) == [report.target]
    assert all(report.methods.values())
    assert look(proto, target=report.target).fine


def pieces(*sizes: int) -> onnx.ModelProto:
    """A classifier that ends in its last map, as (N, *sizes)."""
    proto = nets.classifier()
    del proto.graph.node[4:], proto.graph.output[:]
    proto.graph.initializer.append(numpy_helper.from_array(np.array([0, *sizes]), "shape"))
    proto.graph.node.append(n("Reshape", ["a:2/x;0", "shape"], ["pieces"]))
    proto.graph.output.append(info("pieces", FLOAT, ["N", *sizes]))
    return proto


def test_pieces_need_elements() -> None:
    report = look(pieces(3, 72))
    only(report, "warning", "no output holds one score per class", "--target \"'pieces'[:, 0]\"")
    assert "with such a --target as \"'pieces'[:, 0]\"" in report.verdict
    assert not report.fitting["drise"]
    assert look(pieces(3, 72), target="'pieces'[:, 0]").fine


@pytest.mark.parametrize(("sizes", "kind", "told", "detects"), [
    ((6, 36), "detector: explain what it finds, as in --target box:1", "class:0", True),
    ((6, 6, 6), "segmentation: explain a class", "segmentation:class=0@all", False),
])  # fmt: skip
def test_what_is_found_needs_no_elements(sizes: tuple[int, ...], kind: str, told: str, detects: bool) -> None:
    report = look(pieces(*sizes))
    only(report, "note", f"this is a {kind}")
    assert report.target == told
    assert (
        report.verdict
        == f'fine: gradcam, saliency and occlusion can explain this model with such a --target as "{told}"'
    )
    assert report.fitting["drise"] == detects
    assert look(pieces(*sizes), target=told).fine


def test_sequences_have_no_elements() -> None:
    nodes = [
        n("GlobalAveragePool", ["x"], ["p"]),
        n("Flatten", ["p"], ["f"]),
        n("SplitToSequence", ["f"], ["y"], axis=1),
    ]
    proto = model(nodes, PICTURE, {"f": ["N", 3]})
    proto.graph.output.append(helper.make_tensor_sequence_value_info("y", FLOAT, None))
    graph = load(proto.SerializeToString())
    assert path.element(graph, graph.ir.graph.outputs[1:]) == ""
    assert path.element(graph, graph.ir.graph.outputs) == "'f'[0]"


def test_boxes_chosen_by_suppression() -> None:
    weights = {"k": np.int64([5]), "t": np.float32([0.5])}
    nodes = [
        n("Conv", ["x", "w"], ["map"], name="body"),
        n("ReduceMean", ["map"], ["m"], axes=[3]),
        n("Slice", ["m", "i0", "i4", "i1"], ["corners"]),
        n("Transpose", ["corners"], ["boxes"], perm=[0, 2, 1]),
        n("Slice", ["m", "i4", "i5", "i1"], ["scores"]),
        n("NonMaxSuppression", ["boxes", "scores", "k", "t"], ["kept"], name="nms"),
    ]
    weights |= {f"i{i}": np.int64([i]) for i in (0, 1, 4, 5)} | {"w": np.ones((5, 3, 3, 3), np.float32)}
    report = look(model(nodes, PICTURE, {"kept": (TensorProto.INT64, [None, 3])}, **weights))
    only(report, "error", "past 'nms' (NonMaxSuppression)", "indices of boxes", "'scores'[0]")


def test_trees() -> None:
    tree = n(
        "TreeEnsembleRegressor", ["x"], ["y"], name="forest", domain="ai.onnx.ml", n_targets=1,
        nodes_treeids=[0, 0, 0], nodes_nodeids=[0, 1, 2], nodes_featureids=[0, 0, 0],
        nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF"], nodes_values=[0.5, 0.0, 0.0], nodes_truenodeids=[1, 0, 0],
        nodes_falsenodeids=[2, 0, 0], nodes_hitrates=[1.0] * 3, nodes_missing_value_tracks_true=[0] * 3,
        target_treeids=[0, 0], target_nodeids=[1, 2], target_ids=[0, 0], target_weights=[1.0, 2.0],
    )  # fmt: skip
    report = look(model([tree], [info("x", FLOAT, ["N", 4])], {"y": ["N", 1]}, foreign="ai.onnx.ml"))
    only(report, "error", "'forest'", "step function of its input: change parts of the input")
    assert report.methods == {"saliency": False}
    assert not any("oi.saliency" in str(f) for f in report.findings), "what does not work is no advice"


def test_a_missing_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = dict(RULES)
    monkeypatch.delitem(RULES, "Relu")
    report = look(nets.classifier())
    only(report, "warning", "2 nodes between 'image' and the target have no gradient rule (Relu 2)", "/body/relu2/Relu")
    assert report.methods == {"gradcam": True, "saliency": False, "occlusion": True}
    assert report.facts["without_rule"] == {"Relu": 2}
    monkeypatch.setitem(RULES, "Relu", rules["Relu"])
    monkeypatch.delitem(RULES, "GlobalAveragePool")
    report = look(nets.classifier())
    only(report, "error", "node '/pool/GlobalAveragePool' (GlobalAveragePool)", "rule: cover parts of the input")
    assert report.methods == {"gradcam": False, "saliency": False, "occlusion": True}
    monkeypatch.setitem(RULES, "GlobalAveragePool", rules["GlobalAveragePool"])
    monkeypatch.delitem(RULES, "MaxPool", raising=False)
    proto = nets.classifier()
    proto.graph.node.insert(2, n("MaxPool", ["r1"], ["r"], name="pool", kernel_shape=[1, 1]))
    proto.graph.node[3].input[0] = "r"
    early = next(c.name for c in load(proto.SerializeToString()).layers if c.op_type == "Relu")
    advice = only(look(proto, layer=early), "error", "node 'pool' (MaxPool)").remedy
    later = shlex.split(advice.partition("--layer ")[2])[0].rstrip(",")
    assert look(proto, layer=later).methods["gradcam"]


def test_nobody_writes_rules_for_one_machine() -> None:
    nodes = [n("Odd", ["x"], ["y"], domain="com.microsoft.nchwc"), n("GlobalAveragePool", ["y"], ["s"])]
    given = load(model(nodes, PICTURE, {"s": ["N", 3, 1, 1]}, foreign="com.microsoft.nchwc").SerializeToString())
    found = path.blocked(given, "s", "x", ValueError(), "error", ["wait"])
    assert found.remedy == "wait"


def test_a_refusing_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(op: Any, node: Any, *dys: Any) -> Any:
        raise op.unsupported("it is a full moon")

    monkeypatch.setitem(RULES, "Gemm", refuse)
    only(look(nets.classifier()), "error", "Node '/head/Gemm' (Gemm) cannot be differentiated: it is a full moon.")


# The trial run.


def test_a_dead_layer() -> None:
    report = look(nets.classifier(broken="dead"))
    only(report, "warning", "gradient at 'image' is zero everywhere", "it becomes so in '/body/relu2/Relu' (Relu)")
    proto = nets.classifier()
    proto.graph.node.append(n("Mul", ["before", "zero"], [proto.graph.output[0].name], name="nothing"))
    proto.graph.node[-2].output[0] = "before"
    proto.graph.initializer.append(numpy_helper.from_array(np.float32(0), "zero"))
    only(look(proto), "warning", "it becomes so in 'nothing' (Mul)")


def test_dead_on_photos(tmp_path: Path) -> None:
    report = look(nets.classifier(broken="dead"), [nets.photo(tmp_path)])
    assert report.methods["saliency"] is False
    assert only(report, "error", "zero everywhere on these photos").where == "/body/relu2/Relu"


def test_dead_for_some_photos(tmp_path: Path) -> None:
    for name, pixel in (("light", 250), ("dark", 3)):
        image.write(tmp_path / f"{name}.png", np.full((20, 20, 3), pixel, np.uint8))
    nodes = [n("Add", ["x", "b"], ["d"]), n("Relu", ["d"], ["r"]), n("GlobalAveragePool", ["r"], ["p"]),
             n("Flatten", ["p"], ["y"])]  # fmt: skip
    proto = model(nodes, PICTURE, {"y": ["N", 3]}, b=np.float32([-0.5]))
    report = look(proto, [tmp_path / "light.png", tmp_path / "dark.png"], preprocessing={"preset": "unit"})
    assert any("zero everywhere for 1 of 2 inputs" in str(f) for f in report.findings if f.severity == "warning")


def test_a_weight_that_is_not_a_number() -> None:
    report = look(nets.classifier(broken="nan"))
    only(report, "error", "the weight 'w2' holds NaN")
    assert not any(report.methods.values()), "occlusion needs numbers too"
    proto = nets.classifier()
    weight = next(t for t in proto.graph.initializer if t.name == "w2")
    values = numpy_helper.to_array(weight).copy()
    values.flat[0] = -np.inf  # elsewhere a mask: no fault by itself
    weight.CopyFrom(numpy_helper.from_array(values, "w2"))
    only(look(proto), "error", "the weight 'w2' holds infinity")


def test_where_activations_overflow() -> None:
    proto = nets.classifier()
    proto.graph.node.insert(2, n("Mul", ["r1", "huge"], ["r"], name="scale"))
    proto.graph.node.insert(3, n("Exp", ["r"], ["e"], name="blow"))
    proto.graph.node[4].input[0] = "e"
    proto.graph.initializer.append(numpy_helper.from_array(np.float32(1e6), "huge"))
    only(look(proto), "error", "'e', from 'blow' (Exp) is the first tensor with infinity")


def test_where_gradients_overflow() -> None:
    proto = nets.classifier()
    proto.graph.node.insert(4, n("Sqrt", ["a:2/x;0"], ["root"], name="root"))
    proto.graph.node[5].input[0] = "root"
    report = look(proto)
    only(report, "error", "the gradient at 'image' is not finite", "it becomes so in 'root' (Sqrt)")


def sure(final: list[onnx.NodeProto]) -> onnx.ModelProto:
    """A classifier that is very sure, with some nodes after its logits."""
    proto = nets.classifier(final="Softmax")
    weight = next(t for t in proto.graph.initializer if t.name == "b3")
    weight.CopyFrom(numpy_helper.from_array(np.float32([0, 1e3, 0, 0]), "b3"))
    del proto.graph.node[-1]
    proto.graph.node.extend(final)
    proto.graph.initializer.append(numpy_helper.from_array(np.float32(1), "one"))
    return proto


def test_saturation() -> None:
    softmax = [n("Softmax", ["logits"], ["scores"])]
    assert look(sure(softmax)).fine
    only(look(sure(softmax), score="output"), "warning", "probability is 1,", "--score logits")
    hidden = look(sure([n("Softmax", ["logits"], ["q"]), n("Mul", ["q", "one"], ["scores"])]))
    assert any("probability is 1," in str(f) and "--target \"'logits'[0]\"" in str(f) for f in hidden.findings)
    assert look(nets.classifier(final="Softmax"), score="output").fine


def test_softmax_twice() -> None:
    proto = nets.classifier(final="Softmax")
    proto.graph.node[-1].output[0] = "p1"
    proto.graph.node.append(n("Softmax", ["p1"], ["scores"]))
    only(look(proto), "warning", "it is applied twice")


def test_models_that_do_not_run() -> None:
    sizes = {"shape": np.int64([-1, 7]), "w": np.ones((7, 4), np.float32)}
    nodes = [n("Reshape", ["x", "shape"], ["f"]), n("MatMul", ["f", "w"], ["y"])]
    report = look(model(nodes, [info("x", FLOAT, ["N", "M"])], {"y": ["N", 4]}, **sizes))
    only(report, "warning", "does not run on made-up numbers")
    assert report.methods == {"saliency": True}, "what can be built is built"
    nodes.insert(0, n("GlobalAveragePool", ["x"], ["p"]))
    nodes[1].input[0] = "p"
    report = look(model(nodes, PICTURE, {"y": ["N", 4]}, **sizes))
    only(report, "error", "onnxruntime failed", "export the file again")
    assert not any(report.methods.values())


def test_operators_that_nobody_has() -> None:
    nodes = [n("Odd", ["x"], ["a"], domain="com.microsoft", name="odd"), n("Flatten", ["a"], ["y"])]
    only(look(model(nodes, PICTURE, {"y": ["N", 3]}, foreign="com.microsoft")), "error", "as in node 'odd'")


def test_lengths_that_nobody_knows() -> None:
    """A sound of 16 samples is too short for a window of 100, one of 512 is not."""
    nodes = [n("Unsqueeze", ["x", "one"], ["u"]), n("Conv", ["u", "w"], ["c"]), n("GlobalAveragePool", ["c"], ["p"]),
             n("Flatten", ["p"], ["y"])]  # fmt: skip
    weights = {"w": np.ones((2, 1, 100), np.float32), "one": np.int64([1])}
    proto = model(nodes, [info("x", FLOAT, ["N", "T"])], {"y": ["N", 2]}, **weights)
    assert not [str(f) for f in look(proto).findings if "does not run" in str(f)]


@pytest.mark.parametrize("picture", [True, False])
def test_unknown_rank(picture: bool) -> None:
    nodes = [n("Relu", ["x"], ["y"])]
    if picture:
        nodes = [n("Conv", ["x", "w"], ["r"]), n("GlobalAveragePool", ["r"], ["y"])]
    report = look(model(nodes, [info("x", FLOAT, None)], {"y": None}, w=np.ones((2, 3, 3, 3), np.float32)))
    assert any("of unknown rank" in str(f) and "oi.saliency(model, x)" in str(f) for f in report.findings)
    assert any("does not run on made-up numbers" in str(f) for f in report.findings) == picture
    assert report.methods["saliency"]


def test_inputs_that_are_no_photos() -> None:
    w = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    nodes = [n("MatMul", ["x", "w"], ["y"])]
    report = look(model(nodes, [info("x", FLOAT, ["N", 4])], {"y": ["N", 3]}, w=w))
    assert report.verdict == "fine: saliency can explain this model"
    assert any("takes no photos: give x.npy or rows.csv" in str(f) for f in report.findings)
    image_of_bytes = [n("Cast", ["x"], ["f"], to=FLOAT), n("Conv", ["f", "k"], ["c"], name="conv"),
                      n("GlobalAveragePool", ["c"], ["p"]), n("Flatten", ["p"], ["y"])]  # fmt: skip
    k = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32)
    for kind, able in (
        (TensorProto.UINT8, "gradcam, saliency and occlusion"),
        (TensorProto.INT32, "gradcam and occlusion"),
    ):
        inputs = [info("x", kind, ["N", 3, 12, 12])]
        report = look(model(image_of_bytes, inputs, {"y": ["N", 4]}, k=k))
        assert report.verdict == f"fine: {able} can explain this model"
        assert any("holds int32 numbers" in str(f) for f in report.findings) == (kind == TensorProto.INT32)


@pytest.mark.parametrize("axes", [1, 3])
def test_maps_of_one_and_three_axes(axes: int) -> None:
    nodes = [n("Conv", ["x", "w"], ["c"]), n("GlobalAveragePool", ["c"], ["p"]), n("Flatten", ["p"], ["y"])]
    w = np.random.default_rng(0).normal(size=(4, 5, *[3] * axes)).astype(np.float32)
    proto = model(nodes, [info("x", FLOAT, ["N", 5, *[9] * axes])], {"y": ["N", 4]}, w=w)
    report = look(proto)
    assert [name for name, works in report.methods.items() if works] == ["saliency"]
    assert any("no tensor on the path to the target is a map with height and width" in str(f) for f in report.findings)
    with pytest.raises(LayerError):
        look(proto, layer="c")


def test_five_channels_are_no_photo_but_a_map() -> None:
    nodes = [n("Conv", ["x", "w"], ["c"]), n("GlobalAveragePool", ["c"], ["p"]), n("Flatten", ["p"], ["y"])]
    w = np.random.default_rng(0).normal(size=(4, 5, 3, 3)).astype(np.float32)
    report = look(model(nodes, [info("x", FLOAT, ["N", 5, 9, 9])], {"y": ["N", 4]}, w=w))
    assert report.methods == {"gradcam": True, "saliency": True}


def test_words() -> None:
    nodes = [n("Gather", ["table", "x"], ["g"]), n("ReduceMean", ["g"], ["y"], axes=[1], keepdims=0)]
    table = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
    proto = model(nodes, [info("x", TensorProto.INT64, ["N", 7])], {"y": ["N", 4]}, table=table)
    report = look(proto)
    assert report.fine
    assert report.methods == {"saliency": True}  # at the rows of the table
    assert any("give x.npy" in str(f) for f in report.findings)
    assert "gradient.g" in [o.name for o in gradient(load(proto.SerializeToString()), "top", ["g"]).outputs]


def test_two_inputs() -> None:
    def branch(x: str) -> list[Any]:
        return [n("Conv", [x, "w"], [f"c{x}"]), n("GlobalAveragePool", [f"c{x}"], [f"p{x}"])]

    nodes = [*branch("x"), *branch("z"), n("Add", ["px", "pz"], ["p"]), n("Flatten", ["p"], ["y"])]
    w = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32)
    proto = model(nodes, [*PICTURE, info("z", FLOAT, ["N", 3, 12, 12])], {"y": ["N", 4]}, w=w)
    report = look(proto)
    found = only(report, "warning", "no map with height and width has all of the path")
    assert any("made-up numbers stood for them" in str(f) and "{'x': ..., 'z': ...}" in str(f) for f in report.findings)
    layer = shlex.split(found.remedy.partition("--layer ")[2])[0]
    assert load(proto.SerializeToString()).layer(layer).tensor == "cx", "the photo goes there"
    report = look(proto, layer=layer)
    assert report.fine
    assert report.methods == {"gradcam": True, "saliency": True, "occlusion": True}


def test_samples_that_meet() -> None:
    nodes = [n("Conv", ["x", "w"], ["c"]), n("Reshape", ["c", "shape"], ["y"])]
    weights = {"w": np.ones((4, 3, 3, 3), np.float32), "shape": np.int64([1, -1, 4])}
    report = look(model(nodes, PICTURE, {"y": [1, None, 4]}, **weights), target="'y'[:, 0]")
    assert report.fine, report.findings  # each runs alone
    assert report.methods["occlusion"]


# Photos.


def coloured(folder: Path, *, by_name: bool = True) -> list[Path]:
    """Eight red and blue photos, in folders of these names, or under names that say nothing."""
    rng, made = np.random.default_rng(0), []
    for i in range(8):
        color, channel = [("red", 0), ("blue", 2)][i % 2]
        pixels = rng.integers(0, 60, (16, 16, 3), dtype=np.uint8)
        pixels[..., channel] += 150
        path = folder / (color if by_name else "all") / f"{i}.png"
        path.parent.mkdir(exist_ok=True, parents=True)
        image.write(path, pixels)
        made.append(path)
    return made


def judge(strength: float, metadata: dict[str, str]) -> onnx.ModelProto:
    """Knows red from blue, with the colours as BGR."""
    w = strength * np.float32([[0, 1], [0, 0], [1, 0]])
    nodes = [n("Conv", ["x", "k"], ["c"]), n("GlobalAveragePool", ["c"], ["p"]), n("Flatten", ["p"], ["f"]),
             n("MatMul", ["f", "w"], ["y"])]  # fmt: skip
    proto = model(nodes, PICTURE, {"y": ["N", 2]}, w=w, k=np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1))
    helper.set_model_props(proto, metadata)
    return proto


def test_photos_show_the_order_of_colours(tmp_path: Path) -> None:
    proto, pictures = judge(2, {"class_names": '["red", "blue"]'}), coloured(tmp_path)
    report = look(proto, pictures)
    only(report, "warning", "--color BGR, 8 of 8 photos are predicted right; as used, 0")
    assert (report.presets[0].right, report.presets[0].known) == (8, 8)
    assert report.presets[-1].right == 0
    assert look(proto, pictures, preprocessing={"color": "BGR"}).fine
    printed = tmp_path / "judge.onnx"
    onnx.save(proto, printed)
    result = call(printed, tmp_path / "red", tmp_path / "blue")
    assert result.exit_code == 1
    assert "8/8" in result.stdout


def test_photos_show_a_wrong_scale(tmp_path: Path) -> None:
    pictures = coloured(tmp_path, by_name=False)
    report = look(judge(0.05, {}), pictures)
    only(report, "warning", "says nearly the same of all photos (0.0 bits; 1.0 with --preset")
    assert any("weak evidence" in str(f) for f in report.findings)
    assert look(judge(0.05, {}), pictures, preprocessing={"preset": "raw"}).fine


def sighting(flags: str, boxes: int, surest: float, again: float) -> Sighting:
    return Sighting(flags, Preprocessing((4, 4)), not flags, boxes, surest, again)


@pytest.mark.parametrize(("tried", "said"), [
    ([sighting("--x", 3, 0.9, 0.9), sighting("", 0, 0.0, 0.0)], "with --x, the surest boxes score 0.90; as used, 0.00"),
    ([sighting("--x", 40, 1.0, 0.6), sighting("", 0, 0.0, 0.0)], "finds again in their mirror images: take photos of"),
    ([sighting("--x", 40, 1.0, 0.6), sighting("--y", 2, 0.4, 0.9), sighting("", 0, 0.0, 0.0)], "try --y, and look"),
    ([sighting("", 0, 0.0, 0.0), sighting("--x", 0, 0.0, 0.0)], "take photos of what the model knows"),
    ([sighting("--x", 4, 0.9, 0.9), sighting("", 3, 0.8, 0.9)], ""),
    ([sighting("", 3, 0.8, 0.9), sighting("--x", 3, 0.5, 0.9)], ""),
])  # fmt: skip
def test_only_steady_and_clear_sightings_count(tried: list[Sighting], said: str) -> None:
    found = [str(f) for f in sightings.check(tried)]
    assert [said in text for text in found] == [True] * bool(said), found


def iou(a: Sequence[float], b: Sequence[float]) -> float:
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(w, 0) * max(h, 0)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


@needs_assets
def test_yolox_and_ultraface_show_how_they_are_fed() -> None:
    cat, engine = ASSETS / "images/coco/000000000443.jpg", Engine("cpu", threads=1)

    def seen(name: str, picture: Path) -> list[Sighting]:
        detector = load(ASSETS / "models" / name)
        return sightings.sightings(detector, [picture], guess_preprocessing(detector)[0], engine=engine)

    tried = seen("yolox_nano.onnx", cat)
    assert tried[0].flags == "--preset raw --color BGR"
    assert "try --preset raw --color BGR" in str(next(sightings.check(tried)))
    tried = seen("ultraface_version-RFB-320.onnx", ASSETS / "images/misc/astronaut.png")
    assert (tried[0].used, tried[0].boxes, tried[0].again) == (True, 1, 1)
    caffe = next(s for s in tried if s.flags == "--preset caffe --color RGB")
    assert caffe.surest > 0.99
    assert caffe.again == 0, "sure, but of nothing"
    assert not list(sightings.check(tried))
    (found,) = sightings.check(seen("ultraface_version-RFB-320.onnx", cat))
    assert "take photos of what the model knows" in str(found), "there is no face in it"


def test_detectors_are_tried_with_every_preprocessing(tmp_path: Path) -> None:
    yolo = Path(__file__).parent / "zoo/torch_legacy_yolo.onnx"
    pictures = [tmp_path / f"{i}.png" for i in range(3)]
    for name, photo in zip(pictures, blobs.photos(seed=7, count=3, size=(64, 96), blobs=(1, 3)), strict=True):
        image.write(name, photo.pixels)
    report = look(yolo, pictures)
    assert report.fine, [str(f) for f in report.findings]
    assert report.methods == {"gradcam": True, "saliency": True, "occlusion": True}
    best = report.presets[0]
    assert (best.used, best.flags, best.boxes) == (True, "", 6)
    total = both = 0.0
    for name in pictures:
        x = best.preprocessing.batch([image.read(name)])
        one, other = detect(yolo, x)[0], detect(yolo, x[..., ::-1].copy())[0]
        for d, rest in [(d, other) for d in one] + [(d, one) for d in other]:
            total += d.score
            x0, y0, x1, y1 = d.box
            both += d.score * any(e.index == d.index and iou((96 - x1, y0, 96 - x0, y1), e.box) > 0.5 for e in rest)
    assert best.again == pytest.approx(both / total)
    assert 0.9 < best.again < 1
    proto = onnx.load(yolo)
    first = next(node for node in proto.graph.node if node.op_type == "Conv")
    weight = next(w for w in proto.graph.initializer if w.name == first.input[1])
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) / 255, weight.name))
    report = look(proto, pictures)
    only(report, "warning", "try --preset raw --color RGB, and look at the boxes")
    assert report.presets[-1].rank == 0
    assert json.dumps(report.to_json()["presets"][0]["preprocessing"])
    assert look(proto, pictures, preprocessing={"preset": "raw"}).fine
    onnx.save(proto, tmp_path / "bytes.onnx")
    lines = call(tmp_path / "bytes.onnx", *pictures).stdout.splitlines()
    header = next(i for i, line in enumerate(lines) if line.split() == ["boxes", "surest", "again", "preprocessing"])
    assert lines[header + 1].endswith(" %  --preset raw --color RGB")


def test_detectors_whose_first_class_means_nothing(tmp_path: Path) -> None:
    report = look(detectors.ssd())
    only(report, "note", "this is a detector")
    assert report.target == "class:1"


def trial(
    color: Any, sureness: float, *, used: bool, known: int = 0, right: int = -1, flags: str = "--x"
) -> photos.Trial:
    rng = np.random.default_rng(1 if used else 2)
    noise, how = rng.uniform(0, 0.1, 12), Preprocessing((4, 4), color=color)
    right = right if right >= 0 else round(known * sureness)
    return photos.Trial("" if used else flags, how, used, sureness, sureness, right, known, sureness + noise)


@pytest.mark.parametrize(("tried", "said"), [
    ([trial("BGR", 0.8, used=False), trial("RGB", 0.5, used=True)], "surer with the colours as BGR (0.80)"),
    ([trial("BGR", 0.5, used=False), trial("RGB", 0.5, used=True)], ""),
    ([trial("RGB", 0.5, used=True), trial("BGR", 0.4, used=False)], ""),
    ([trial("BGR", 0.8, used=False, known=12), trial("RGB", 0.5, used=True, known=12)], "10 of 12"),
    ([trial("BGR", 0.6, used=False, known=12), trial("RGB", 0.6, used=True, known=12)], ""),
    ([trial("BGR", 1.0, used=False, known=2), trial("RGB", 0.0, used=True, known=2)], "2 of 2"),
    ([trial("BGR", 0.5, used=False, known=12, right=9), trial("RGB", 0.5, used=True, known=12, right=4)], ""),
    ([trial("RGB", 0.5, used=False, known=12, right=9, flags="--resize squash"),
      trial("BGR", 0.5, used=False, known=12, right=8), trial("RGB", 0.2, used=True, known=12)],
     "with --x, 8 of 12"),
])  # fmt: skip
def test_only_clear_differences_count(tried: list[photos.Trial], said: str) -> None:
    found = [str(f) for f in photos.check(tried) if f.severity == "warning"]
    assert [said in text for text in found] == [True] * bool(said), found


@pytest.mark.parametrize(("path", "found"), [
    ("goldfish/1.jpg", 0), ("n01443537/1.jpg", 0), ("n01443537_goldfish.jpg", 0), ("03_great_white_shark.jpg", 1),
    ("Carassius-auratus-7.png", 0), ("7/a.png", 2), ("7_a.png", None), ("x/IMG_0007.jpg", None), ("crane/1.jpg", None),
])  # fmt: skip
def test_known_classes(path: str, found: int | None) -> None:
    names = (
        "n01443537 goldfish, Carassius auratus",
        "n01484850 great white shark",
        "7",
        "crane, machine",
        "crane, bird",
    )
    assert photos.known_class(Path("/nowhere") / path, Labels(names, "test")) == found


# The install.


def test_packages_over_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"onnxruntime": "1.31.0", "onnxruntime-gpu": "1.30.0"}
    monkeypatch.setattr(install, "_version", lambda name: there.get(name, ""))
    only(look(nets.classifier()), "warning", "onnxruntime 1.31.0 and onnxruntime-gpu 1.30.0", "pip uninstall")
    del there["onnxruntime"]
    assert look(nets.classifier()).fine


def test_a_device_that_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    real: Callable[..., Any] = install.Engine

    def engine(device: str, **how: Any) -> Any:
        if device != "cpu":
            raise DeviceError(f"Device '{device}' cannot run here: the card is missing.")
        return real(device, **how)

    monkeypatch.setattr(install, "Engine", engine)
    report = examine(nets.classifier(), device="cuda:1")
    only(report, "error", "Device 'cuda:1' cannot run here: the card is missing.")
    assert report.facts["provider"] == "CPUExecutionProvider"
    assert all(report.methods.values()), "the model itself is examined all the same"


# Files from elsewhere.


@pytest.mark.parametrize("name", ["clean", "biased"])
def test_bundled_models_are_fine(name: str) -> None:
    folder = Path(__file__).parents[1] / "models" / "signs"
    report = look(folder / f"{name}.onnx", sorted((folder / "photos").glob("*.jpg")))
    assert report.fine, [str(f) for f in report.findings]
    assert report.presets[0].known == 12, "names of photos tell their classes"


@needs_assets
@pytest.mark.parametrize("name", ["resnet8_cifar10_keras_nhwc", "squeezenet1.1_fp32_caffe2", "mnist-7_cntk"])
def test_classics_are_fine(name: str) -> None:
    report = look(ASSETS / "models" / f"{name}.onnx")
    assert report.fine, [str(f) for f in report.findings]


@needs_assets
def test_squeezenet_wants_caffe() -> None:
    """The order of colours makes 0.61 of 0.43."""
    pictures = sorted((ASSETS / "images" / "imagenet").glob("*.*"))[::2]
    report = look(ASSETS / "models" / "squeezenet1.1_fp32_caffe2.onnx", pictures)
    only(report, "warning", "--preset caffe --color BGR")
    right = {t.flags: t.right for t in report.presets}
    assert report.presets[0].known == len(pictures)
    assert right["--preset caffe --color BGR"] > right["--preset caffe --color RGB"] > right[""]
