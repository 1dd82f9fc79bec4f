"""Which layer `auto` takes, what the graph says of its maps, and what they see."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, parser

import onnx_inspect as oi
from onnx_inspect.engine import Engine
from onnx_inspect.errors import LayerError
from onnx_inspect.layer import auto, separators
from onnx_inspect.scores import scores

from . import nets
from .rules.harness import run

SHAPES = {
    "low": [4, 3, 1, 3],
    "w": [4, 3, 3, 3],
    "v": [4, 4, 3, 3],
    "one": [4, 4, 1, 1],
    "dense": [4, 5],
    "deep": [4, 1, 3, 3],
    "bias": [4],
    "gain": [4, 8, 8],
}


def net(body: str, image: tuple[object, ...] = ("N", 3, 8, 8), output: str = "y") -> oi.Model:
    """A graph in onnx's textual form over `image`, with random weights named in SHAPES."""
    graph = parser.parse_graph(f"g (float[1] image) => (float[1] {output}) {{ {body} }}")
    graph.input[0].CopyFrom(helper.make_tensor_value_info("image", TensorProto.FLOAT, image))
    graph.output[0].CopyFrom(onnx.ValueInfoProto(name=output))
    rng = np.random.default_rng(0)
    for name, shape in SHAPES.items():
        graph.initializer.append(onnx.numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name))
    for name, values in {"hw": [2, 3], "middle": [1, 2]}.items():
        graph.initializer.append(onnx.numpy_helper.from_array(np.array(values, np.int64), name))
    return oi.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10))


def chosen(model: oi.Model) -> str:
    return auto(model, scores(model).tensor).layer.tensor


CONV = "a = Conv <pads=[1,1,1,1]> (image, w) r = Relu (a)"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (f"{CONV} p = GlobalAveragePool (r) f = Flatten (p) y = MatMul (f, dense)", "r"),
        (f"{CONV} p = ReduceMean <keepdims=0> (r, hw) y = MatMul (p, dense)", "r"),
        # What merely hands the map on is the map.
        (f"{CONV} d = Dropout (r) i = Identity (d) p = GlobalAveragePool (i) f = Flatten (p) y = MatMul (f, dense)", "r"),
        (f"{CONV} t = Transpose <perm=[0,2,3,1]> (r) p = ReduceMean <keepdims=0> (t, middle) y = MatMul (p, dense)", "r"),
        # A 1x1 head behind the pool is no map, nor is a gate that bypasses one.
        (f"{CONV} p = GlobalAveragePool (r) k = Conv (p, one) y = Flatten (k)", "r"),
        (f"{CONV} g = GlobalAveragePool (r) s = Sigmoid (g) m = Mul (r, s) p = GlobalAveragePool (m) f = Flatten (p) y = MatMul (f, dense)", "m"),
        # Parallel branches are joined first.
        (f"{CONV} l = Conv <pads=[1,1,1,1]> (r, v) m = Add (r, l) p = GlobalAveragePool (m) f = Flatten (p) y = MatMul (f, dense)", "m"),
        # The pooled map is the last map.
        (f"{CONV} m = MaxPool <kernel_shape=[2,2], strides=[2,2]> (r) p = GlobalAveragePool (m) f = Flatten (p) y = MatMul (f, dense)", "m"),
    ],
)  # fmt: skip
def test_auto(body: str, expected: str) -> None:
    assert chosen(net(body)) == expected


def test_a_branch_that_skips_a_map_rules_it_out() -> None:
    """Two pools over two maps are joined as vectors: neither map separates, the one before both does."""
    model = net(
        f"{CONV} l = Conv <pads=[1,1,1,1]> (r, v) p = GlobalAveragePool (r) q = GlobalAveragePool (l) "
        "s = Add (p, q) f = Flatten (s) y = MatMul (f, dense)"
    )
    assert chosen(model) == "r"


def test_maps_off_the_path_do_not_count() -> None:
    model = net(
        f"{CONV} p = GlobalAveragePool (r) f = Flatten (p) y = MatMul (f, dense) off = Conv <pads=[1,1,1,1]> (r, v) z = Relu (off)"
    )
    assert chosen(model) == "r"


def test_no_map_at_all() -> None:
    model = net("f = Flatten (image) y = Relu (f)")
    with pytest.raises(LayerError, match="explain the input instead"):
        auto(model, "y")


def test_the_class_map_is_named_as_such() -> None:
    model = net(f"{CONV} k = Conv (r, one) p = GlobalAveragePool (k) y = Flatten (p)")
    choice = auto(model, "y")
    assert choice.layer.tensor == "k"
    assert "the class map itself" in choice.reason
    assert (
        "the class map itself"
        not in auto(net(f"{CONV} p = GlobalAveragePool (r) f = Flatten (p) y = MatMul (f, dense)"), "y").reason
    )


def test_the_reason_names_the_flag() -> None:
    reason = auto(oi.load(nets.classifier()), "scores").reason
    assert reason.startswith("layer: 'body.relu2' (Relu 6×6×6)")
    assert "(--layer" in reason


def test_open_sizes_are_maps() -> None:
    assert chosen(oi.load(nets.classifier(size="open"))) == "a:2/x;0"


# Layouts.


@pytest.mark.parametrize(
    ("body", "image", "layouts"),
    [
        (f"{CONV} y = Identity (r)", ("N", 3, 8, 8), {"image": "NCHW", "r": "NCHW"}),
        (
            "x = Transpose <perm=[0,3,1,2]> (image) a = Conv (x, w) t = Transpose <perm=[0,2,3,1]> (a) y = Relu (t)",
            ("N", 8, 8, 3),
            {"image": "NHWC", "a": "NCHW", "t": "NHWC", "y": "NHWC"},
        ),
        (
            "s = Mul (image, image) x = Transpose <perm=[0,3,1,2]> (s) y = Conv (x, w)",
            ("N", 8, 8, 3),
            {"image": "NHWC", "s": "NHWC"},
        ),
        ("f = Flatten (image) y = Relu (f)", ("N", 3, 8, 8), {"image": None, "f": None}),
        (
            "k = Constant <value_ints=[-2]> () u = Unsqueeze (image, k) c = Conv (u, low) y = Squeeze (c, k)",
            ("N", 3, 8),
            {"image": "NCW", "u": "NCHW", "y": "NCW"},
        ),
        (
            "k = Constant <value_ints=[1]> () u = Unsqueeze (image, k) x = Transpose <perm=[0,3,1,2]> (u) "
            "c = Conv (x, low) t = Transpose <perm=[0,2,3,1]> (c) y = Squeeze (t, k)",
            ("N", 8, 3),
            {"image": "NWC", "u": "NHWC", "y": "NWC"},
        ),
    ],
)
def test_layouts(body: str, image: tuple[object, ...], layouts: dict[str, str | None]) -> None:
    model = net(body, image)
    for name, letters in layouts.items():
        assert model.layouts.get(model.value(name)) == letters, name


# Receptive fields, by what really changes.

STACKS = {
    "plain": "a = Conv <pads=[1,1,1,1]> (image, w) r = Relu (a) y = Conv <pads=[1,1,1,1]> (r, v)",
    "strided": "a = Conv <pads=[1,1,1,1], strides=[2,2]> (image, w) y = Conv <strides=[2,2]> (a, v)",
    "dilated": "a = Conv <dilations=[2,2], pads=[2,2,2,2]> (image, w) y = AveragePool <kernel_shape=[2,2], strides=[2,2]> (a)",
    "asymmetric": "a = Conv <pads=[0,1,2,1], strides=[2,1]> (image, w) y = Conv (a, one)",
    "residual": "a = Conv <pads=[1,1,1,1]> (image, w) l = Conv <pads=[1,1,1,1]> (a, v) y = Add (a, l)",
    "depthwise": "a = Conv <pads=[1,1,1,1], strides=[2,2]> (image, w) y = Conv <group=4, pads=[1,1,1,1]> (a, deep)",
}  # fmt: skip


@pytest.mark.parametrize("name", STACKS)
def test_receptive_fields_are_what_a_unit_sees(name: str) -> None:
    """Change one pixel at a time: the units that move are those whose field holds the pixel, and no others."""
    model = net(STACKS[name], ("N", 3, 16, 16))
    field = model.layer("y").receptive_field
    assert field is not None
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1, 3, 16, 16)).astype(np.float32)
    engine = Engine("cpu", threads=1)
    y = engine.run(model, {"image": x}, ["y"])["y"]
    for axis in (0, 1):
        for pixel in range(16):
            changed = x.copy()
            changed[
                (slice(None), slice(None), pixel) if axis == 0 else (slice(None), slice(None), slice(None), pixel)
            ] += 1
            moved = np.abs(engine.run(model, {"image": changed}, ["y"])["y"] - y).max(axis=(0, 1, 3 - axis)) > 1e-4
            centres = field.offset[axis] + np.arange(len(moved)) * field.stride[axis]
            inside = np.abs(centres - pixel) <= (field.size[axis] - 1) / 2
            assert not (moved & ~inside).any(), "a unit moved that should not see the pixel"
            if name not in ("dilated", "residual"):
                assert (moved == inside).all()


@pytest.mark.parametrize(
    "tail",
    ["y = InstanceNormalization (a, bias, bias)", "y = Softmax <axis=3> (a)", "y = Concat <axis=2> (a, a)",
     "g = GlobalAveragePool (a) y = Mul (a, g)", "y = LayerNormalization <axis=1> (a, gain)"],
)  # fmt: skip
def test_fields_end_where_positions_meet(tail: str) -> None:
    model = net("a = Conv <pads=[1,1,1,1]> (image, w) " + tail)
    assert model.layer("a").receptive_field is not None
    assert model.layer("y").receptive_field is None


def test_separators_are_in_order() -> None:
    model = oi.load(nets.classifier())
    assert [c.tensor for c in separators(model, "scores")] == ["c1", "r1", "c2", "a:2/x;0"]


def captured() -> oi.Model:
    """A map `a` that goes on by a Relu, and that an If takes from outside as well."""
    model = """
    <ir_version: 10, opset_import: ["" : 21]>
    g (float[N, 3, 8, 8] image, float[4, 3, 3, 3] w, float[4, 5] dense, bool c) => (float[N, 5] y) {
        a = Conv <pads=[1,1,1,1]> (image, w)
        r = Relu (a)
        p = GlobalAveragePool (r)
        q = If (c) <
            then_branch = one () => (float[N, 4, 1, 1] b) { b = GlobalAveragePool (a) },
            else_branch = two () => (float[N, 4, 1, 1] d) { d = GlobalMaxPool (a) }
        >
        s = Add (p, q)
        f = Flatten (s)
        y = MatMul (f, dense)
    }
    """
    return oi.load(parser.parse_model(model))


def test_what_a_branch_takes_from_outside_counts() -> None:
    assert auto(captured(), "y").layer.tensor == "a"
    part = oi.cut(captured(), outputs=["r"])
    assert [i.name for i in part.inputs] == ["image", "w"]
    assert [n.op_type for n in part.ir.graph] == ["Conv", "Relu"]


@pytest.mark.parametrize("c", [True, False])
def test_what_a_branch_takes_from_outside_has_a_gradient(c: bool) -> None:
    """Both ways to the score count: y is linear in the maps, but for the Relu and the maximum."""
    adjoint = oi.vjp(oi.expose(captured(), ["a"]), ["a"], ["y"])
    rng = np.random.default_rng(0)
    x, w = (rng.normal(size=shape).astype(np.float32) for shape in ((2, 3, 8, 8), (4, 3, 3, 3)))
    dense, dy = (rng.normal(size=shape).astype(np.float32) for shape in ((4, 5), (2, 5)))
    feeds = {"image": x, "w": w, "dense": dense, "c": np.array(c)}
    a = run(oi.cut(captured(), outputs=["a"]).to_bytes(), feeds)["a"]
    got = run(adjoint.to_bytes(), feeds | {"cotangent.y": dy})["gradient.a"]
    dpool = (dy @ dense.T)[:, :, None, None]
    branch = np.full_like(a, 1 / 64) if c else (a == a.max((2, 3), keepdims=True)).astype(a.dtype)
    np.testing.assert_allclose(got, dpool * ((a > 0) / 64 + branch), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("tail", "said"),
    [
        ("z = MatMul (f, dense) y = Softmax (z)", False),
        ("s = Softmax (f) y = MatMul (s, dense)", True),
    ],
)
def test_a_final_softmax_is_no_attention(tail: str, said: bool) -> None:
    choice = auto(net(f"{CONV} p = GlobalAveragePool (r) f = Flatten (p) {tail}"), "y")
    assert ("attention follows it" in choice.reason) == said
