"""The tree of modules says what the author wrote, with every tensor and every weight in it once."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import helper, numpy_helper

from onnx_inspect.cli import cli
from onnx_inspect.model import Model
from onnx_inspect.tree import Leaf, Module, data, rows, tree

from .shared import ZOO, needs_zoo


def net(modules: list[str], classes: dict[str, str] | None = None, folder: Path | None = None) -> Model:
    """Conv, Relu, Conv, Relu and a pool, from one module each, as torch's dynamo exporter writes it."""
    rng = np.random.default_rng(0)
    weights = {"w1": (4, 3, 3, 3), "b1": (4,), "w2": (2, 4, 1, 1)}
    n = helper.make_node
    nodes = [
        n("Conv", ["x", "w1", "b1"], ["c1"]),
        n("Relu", ["c1"], ["r1"]),
        n("Conv", ["r1", "w2"], ["c2"]),
        n("Relu", ["c2"], ["r2"]),
        n("GlobalAveragePool", ["r2"], ["y"]),
    ]
    for node, module in zip(nodes, modules, strict=True):
        if module != "?":
            parts = module.split(".") if module else []
            names = ["", *(".".join(parts[: i + 1]) for i in range(len(parts)))]
            hierarchy = [(classes or {}).get(name, "") for name in names]
            node.metadata_props.add(key="pkg.torch.onnx.name_scopes", value=repr([*names, "op"]))
            node.metadata_props.add(key="pkg.torch.onnx.class_hierarchy", value=repr([*hierarchy, "aten.op"]))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", 1, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info("y", 1, ["N", 2, 1, 1])],
        [numpy_helper.from_array(rng.normal(size=s).astype(np.float32), k) for k, s in weights.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    if folder is not None:
        onnx.save(proto, folder / "net.onnx")
    return Model.load(proto)


MODULES = ["stem.0", "stem.1", "body.0.conv", "body.0.act", ""]
CLASSES = {"": "my.code.Net", "stem": "torch.nn.Sequential", "stem.0": "torch.nn.Conv2d", "body.0": "my.code.Block"}


def outline(module: Module) -> list[object]:
    """Names of modules with what is in them, and of tensors."""
    return [(c.name, outline(c)) if isinstance(c, Module) else c.layer.tensor for c in module.children]


def test_modules_hold_modules_and_tensors_in_order() -> None:
    root = tree(net(MODULES, CLASSES))
    assert outline(root) == [
        ("stem", [("0", ["c1"]), ("1", ["r1"])]),
        ("body.0", [("conv", ["c2"]), ("act", ["r2"])]),  # body holds nothing else
        "y",
    ]
    stem, body, _ = root.children
    assert isinstance(stem, Module) and isinstance(body, Module)
    assert [m.class_name for m in (root, stem, body)] == ["Net", "Sequential", "Block"]
    assert body.path == ("body", "0")


def test_weights_count_once_and_add_up() -> None:
    root = tree(net(MODULES))
    assert [leaf.weights for leaf in root.leaves] == [4 * 3 * 9 + 4, 0, 8, 0, 0]
    assert root.weights == 120
    shared = net(MODULES).to_proto()
    shared.graph.node[2].input[0], shared.graph.node[2].input[1] = "x", "w1"
    assert [leaf.weights for leaf in tree(Model.load(shared)).leaves] == [112, 0, 0, 0, 0]


def test_text() -> None:
    assert rows(tree(net(MODULES, CLASSES))) == [
        ("(network)", "Net", "N×2×1×1", "120", "100.0 %", ""),
        ("├── stem", "Sequential", "N×4×6×6", "112", "93.3 %", ""),
        ("│   ├── 0", "Conv2d (Conv)", "N×4×6×6", "112", "93.3 %", "stem.0"),
        ("│   └── 1", "Relu", "N×4×6×6", "", "", "stem.1"),
        ("├── body.0", "Block", "N×2×6×6", "8", "6.7 %", ""),
        ("│   ├── conv", "Conv", "N×2×6×6", "8", "6.7 %", "body.0.conv"),
        ("│   └── act", "Relu", "N×2×6×6", "", "", "body.0.act"),
        ("└── GlobalAveragePool", "", "N×2×1×1", "", "", "globalaveragepool_1"),
    ]


@pytest.mark.parametrize(("depth", "count"), [(0, 1), (1, 4), (2, 8), (None, 8)])
def test_depth(depth: int | None, count: int) -> None:
    root = tree(net(MODULES))
    found = rows(root, depth)
    assert len(found) == count
    assert found == [row for row in rows(root) if depth is None or row[0].count("── ") + row[0].count("│   ") <= depth]

    def levels(node: dict[str, object]) -> int:
        children = node.get("children") or []
        assert isinstance(children, list)
        return 1 + max(map(levels, children), default=0)

    assert levels(data(root, depth)) == min(4 if depth is None else depth + 1, levels(data(root)))


def test_a_level_more_is_a_level_less_of_sums() -> None:
    text = {depth: {row[0].strip("│├└─ "): row[3] for row in rows(tree(net(MODULES)), depth)} for depth in (1, None)}
    assert text[1].items() <= text[None].items()


def test_operators_of_which_nothing_is_known_stand_between_their_neighbours() -> None:
    assert outline(tree(net(["a.b.c", "?", "a.b.d", "?", "a.e"]))) == [("a", [("b", [("c", ["c1"]), "r1", ("d", ["c2"])]), "r2", ("e", ["y"])])]  # fmt: skip
    assert outline(tree(net(["a.b", "", "a.c", "?", "?"]))) == [("a", [("b", ["c1"]), ("c", ["c2"])]), "r1", "r2", "y"]
    assert outline(tree(net(["?"] * 5))) == ["c1", "r1", "c2", "r2", "y"]


def test_weights_that_moved_into_another_module_are_told() -> None:
    proto = net(["bn1", "", "", "", ""], {"bn1": "torch.nn.BatchNorm2d"}).to_proto()
    for node in proto.graph.node:
        node.input[:] = ["conv1.weight" if x == "w1" else x for x in node.input]
    next(w for w in proto.graph.initializer if w.name == "w1").name = "conv1.weight"
    assert ("├── conv1 + bn1", "BatchNorm2d (Conv)") in [row[:2] for row in rows(tree(Model.load(proto)))]


def test_some_layers_only() -> None:
    model = net(MODULES)
    assert outline(tree(model, model.find_layers("**.0"))) == [("stem.0", ["c1"]), ("body.0.act", ["r2"])]
    assert outline(tree(model, model.find_layers("body.0.*"))) == [("body.0", [("conv", ["c2"]), ("act", ["r2"])])]
    assert outline(tree(model, [])) == []
    assert rows(tree(model, [])) == [("(network)", "", "", "", "", "")]


def call(*words: object) -> Result:
    return CliRunner().invoke(cli, [str(w) for w in words], prog_name="onnx-inspect")


def test_command(tmp_path: Path) -> None:
    net(MODULES, CLASSES, tmp_path)
    model = tmp_path / "net.onnx"
    lines = call("layers", model, "--tree").stdout.splitlines()
    assert lines[0].split() == ["module", "class", "or", "operator", "shape", "weights", "share", "layer"]
    assert lines[3].split() == ["│", "├──", "0", "Conv2d", "(Conv)", "N×4×6×6", "112", "93.3", "%", "stem.0"]
    assert len({line.index("N×") for line in lines[1:]}) == 1
    assert len(call("layers", model, "--tree", "--depth", 1).stdout.splitlines()) == 5
    found = json.loads(call("layers", model, "--tree", "--json").stdout)
    assert found["class"] == "Net" and found["weights"] == 120
    assert found["children"][0]["children"][0]["children"] == [
        {"layer": "stem.0", "tensor": "c1", "op_type": "Conv", "shape": ["N", 4, 6, 6], "weights": 112, "share": 112 / 120}
    ]  # fmt: skip
    for words, said in ((("--depth", 1), "add --tree"), (("--tree", "--match", model), "leave out --tree or --match")):
        refused = call("layers", model, *words)
        assert refused.exit_code == 2 and said in refused.stderr


def test_names_from_a_file_cannot_steer_the_terminal(tmp_path: Path) -> None:
    net(["a.\x1b[31mb", "", "", "", ""], {"": "x.\x1b[0mEvil"}, tmp_path)
    said = call("layers", tmp_path / "net.onnx", "--tree").stdout
    assert "\x1b" not in said and "\\x1b" in said


def test_three_thousand_operators() -> None:
    n = helper.make_node
    nodes = [
        n("Relu" if i % 2 else "Abs", [f"t{i}"], [f"t{i + 1}"], name=f"/s/s.{i // 300}/b/b.{i // 3}/Op")
        for i in range(3000)
    ]
    ends = [helper.make_tensor_value_info(name, 1, ["N", 2]) for name in ("t0", "t3000")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:])
    model = Model.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10))
    root = tree(model)
    assert len(list(root.leaves)) == 3000
    assert len(rows(root, 1)) == 2 and len(rows(root, 2)) == 12


def leaves_of(node: dict[str, object]) -> list[object]:
    children = node.get("children")
    return [leaf for c in children for leaf in leaves_of(c)] if isinstance(children, list) else [node["layer"]]


@needs_zoo
@pytest.mark.parametrize(
    "path", sorted(p for p in ZOO.rglob("*.onnx") if p.stem != "keras_tf_gelu_erfc"), ids=lambda p: p.stem
)
def test_the_zoo(path: Path) -> None:
    """Each layer is in the tree once; so are all float weights of two axes and more that the file declares."""
    model = Model.load(path)
    root = tree(model)
    assert sorted(leaf.layer.name for leaf in root.leaves) == sorted(layer.name for layer in model.layers)
    assert leaves_of(data(root)) == [leaf.layer.name for leaf in root.leaves]
    matrices = [
        math.prod(w.dims)
        for w in onnx.load(path, load_external_data=False).graph.initializer
        if len(w.dims) >= 2 and w.data_type in (1, 3, 10)
    ]
    assert root.weights >= sum(matrices)
    assert all(not isinstance(c, Leaf) or c.layer.tensor for c in root.children)
    assert len({len(row) for row in rows(root)}) == 1
