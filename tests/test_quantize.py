"""Quantised graphs: the straight-through estimator in NumPy, small nets beside their float twins, real files."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnx_inspect as oi
from onnx_inspect.engine import Engine
from onnx_inspect.errors import MissingRule, UnsupportedError

from . import nets
from .rules.harness import Array, normal, positive
from .rules.quantize import INT4, UINT4, along, integers
from .shared import ASSETS, ZOO, needs_assets, needs_zoo, photos

ENGINE = Engine("cpu", threads=1)
F = np.float32


def model(
    nodes: list[Any], feeds: dict[str, Array], weights: dict[str, Array], output: str = "y", opset: int = 21
) -> oi.Model:
    """A model of some nodes; the feeds are its inputs, with a free batch."""
    inputs = [
        helper.make_tensor_value_info(k, helper.np_dtype_to_tensor_dtype(v.dtype), ["N", *v.shape[1:]])
        for k, v in feeds.items()
    ]
    outputs = [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)]
    initializers = [numpy_helper.from_array(np.asarray(v), k) for k, v in weights.items()]
    graph = helper.make_graph(nodes, "net", inputs, outputs, initializers)
    return oi.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10))


def run(adjoint: oi.Model, feeds: dict[str, Array]) -> dict[str, Array]:
    onnx.checker.check_model(adjoint.to_proto(), full_check=True)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(adjoint.to_bytes(), options, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    known = {i.name for i in session.get_inputs()}
    return dict(zip(names, session.run(names, {k: v for k, v in feeds.items() if k in known}), strict=True))


node = helper.make_node
BACK = [node("DequantizeLinear", ["q", "one"], ["y"])]  # integers as floats


@dataclass
class Quantiser:
    """A case of QuantizeLinear: scale and zero point (None: uint8 zero) for inputs of shape (4, 6, 5)."""

    scale: Array
    zero: Array | None = None
    attributes: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        kind = "absent" if self.zero is None else f"{self.zero.dtype}"
        return f"{kind}-{self.scale.shape}-{self.attributes}".replace(" ", "")


QUANTISERS = [
    Quantiser(np.array(0.004)),
    Quantiser(np.array([0.015]), np.array([3], np.int8)),
    Quantiser(np.array(0.02), np.array(100, np.uint8)),
    Quantiser(np.array(5e-5), np.array(-7, np.int16)),
    Quantiser(np.array(5e-5), np.array(15000, np.uint16)),
    Quantiser(positive(6) / 60, integers("int8", 6)),
    Quantiser(positive(5) / 60, integers("uint8", 5), {"axis": -1}),
    Quantiser(positive(4) / 60, integers("uint8", 4), {"axis": 0}),
    Quantiser(positive(4, 2, 5) / 60, integers("int8", 4, 2, 5), {"axis": 1, "block_size": 3}),
    Quantiser(positive(4, 6, 3) / 60, integers("uint8", 4, 6, 3), {"axis": -1, "block_size": 2}),
    Quantiser(np.array(0.02), None, {"output_dtype": TensorProto.INT8}),
    Quantiser(np.array(0.2), np.array(-3, INT4)),
    Quantiser(positive(6) / 4, np.arange(6).astype(UINT4)),
    Quantiser(
        positive(4, 2, 5) / 4, (np.arange(40) % 7 - 3).reshape(4, 2, 5).astype(INT4), {"axis": 1, "block_size": 3}
    ),
]


def bounds(dtype: np.dtype[Any]) -> tuple[int, int]:
    few = {INT4: (-8, 7), UINT4: (0, 15)}
    return few[dtype] if dtype in few else (np.iinfo(dtype).min, np.iinfo(dtype).max)


@pytest.mark.parametrize("kind", [np.float32, np.float16])
@pytest.mark.parametrize("case", QUANTISERS, ids=str)
def test_straight_through(case: Quantiser, kind: Any) -> None:
    """dX = dQ / scale inside the range and 0 outside; d scale = -sum dQ X / scale²; both by the letter."""
    x, dq = normal(4, 6, 5).astype(kind), normal(5, 6, 4).T.astype(F)
    zero = case.zero if case.zero is not None else np.zeros(case.scale.shape, np.uint8)
    if "output_dtype" in case.attributes:
        zero = zero.view(np.int8)
    scale = np.maximum(case.scale, 6.2e-5 if kind == np.float16 else 0).astype(kind)
    inputs = ["x", "scale", *(["zero"] if case.zero is not None else [])]
    weights = {"scale": scale, "one": np.array(1, F)} | ({} if case.zero is None else {"zero": case.zero})
    net = model([node("QuantizeLinear", inputs, ["q"], **case.attributes), *BACK], {"x": x}, weights)
    got = run(oi.vjp(net, ["x", "scale"], ["y"]), {"x": x, "cotangent.y": dq})

    how = {k: v for k, v in case.attributes.items() if k != "output_dtype"}
    wide, s = x.astype(F), along(scale, x, **how).astype(F)
    q = np.round(wide / s) + along(zero, x, **how)
    low, high = bounds(zero.dtype)
    inside = (q >= low) & (q <= high)
    assert 0.005 < 1 - inside.mean() < 0.9
    expected = np.where(inside, dq / s, 0)
    np.testing.assert_allclose(got["gradient.x"], expected, rtol=2e-3 if kind == np.float16 else 1e-5)
    assert got["gradient.x"].dtype == np.float32
    if kind == np.float32:
        parts = -expected * wide / s
        for at in np.ndindex(scale.shape):  # by definition: what moves when one scale moves
            one = np.zeros(scale.shape)
            one[at] = 1
            total = np.sum(parts * along(one, x, **how))
            np.testing.assert_allclose(got["gradient.scale"][at], total, rtol=1e-3, atol=1e-2)


def test_the_range_ends_where_rounding_leaves_it() -> None:
    x = np.array([[-0.6, -0.5, -0.4, 0.0, 254.6, 255.0, 255.4, 255.6]], F)
    net = model(
        [node("QuantizeLinear", ["x", "one", "zero"], ["q"]), *BACK],
        {"x": x},
        {"one": np.array(1, F), "zero": np.array(0, np.uint8)},
    )
    got = run(oi.vjp(net, ["x"], ["y"]), {"x": x, "cotangent.y": np.ones_like(x)})["gradient.x"]
    np.testing.assert_array_equal(got, [[0, 1, 1, 1, 1, 1, 1, 0]])


def test_dynamic_quantisation_passes_everything() -> None:
    x, dq = normal(3, 4).astype(F), normal(4, 3).T.astype(F)
    nodes = [node("DynamicQuantizeLinear", ["x"], ["q", "scale", "zero"])]
    net = model([*nodes, node("DequantizeLinear", ["q", "scale", "zero"], ["y"])], {"x": x}, {})
    got = run(oi.vjp(net, ["x"], ["y"]), {"x": x, "cotangent.y": dq})
    np.testing.assert_allclose(got["gradient.x"], dq, rtol=1e-5)


@pytest.mark.parametrize("kind", ["FLOAT8E4M3FN", "FLOAT8E5M2"])
@pytest.mark.parametrize("like", [False, True])
def test_small_floats_are_a_grid(kind: str, like: bool) -> None:
    """Rounding to 8 bits passes cotangents on, saturation stops them."""
    small, top = getattr(TensorProto, kind), {"FLOAT8E4M3FN": 448.0, "FLOAT8E5M2": 57344.0}[kind]
    x = np.array([[-2 * top, -0.3, 0, 0.3, top, 2 * top]], F)
    there = node("CastLike", ["x", "kind"], ["s"]) if like else node("Cast", ["x"], ["s"], to=small)
    nodes = [there, node("Transpose", ["s"], ["t"]), node("Cast", ["t"], ["f"], to=1), node("Mul", ["f", "two"], ["y"])]
    net = model(
        nodes,
        {"x": x},
        {"two": np.array(2, F)} | ({"kind": np.array(1, helper.tensor_dtype_to_np_dtype(small))} if like else {}),
    )
    dy = normal(6, 1).astype(F)
    got = run(oi.vjp(net, ["x"], ["y"]), {"x": x, "cotangent.y": dy})["gradient.x"]
    np.testing.assert_allclose(got, [[0, *(2 * dy[1:5, 0]), 0]], rtol=1e-6)


# Integers that stand for floats pass other operators; these compute the same of floats.

ON_THE_WAY: list[tuple[list[Any], dict[str, Array]]] = [
    ([node("Identity", ["q"], ["r"])], {}),
    ([node("Transpose", ["q"], ["r"], perm=[0, 2, 3, 1])], {}),
    ([node("Reshape", ["q", "to"], ["r"])], {"to": np.array([0, -1])}),
    ([node("Flatten", ["q"], ["r"])], {}),
    ([node("Unsqueeze", ["q", "to"], ["s"]), node("Squeeze", ["s", "to"], ["r"])], {"to": np.array([1])}),
    ([node("Concat", ["q", "q"], ["r"], axis=1)], {}),
    ([node("Split", ["q"], ["r", "rest"], axis=3, num_outputs=2)], {}),
    ([node("MaxPool", ["q"], ["r"], kernel_shape=[2, 2], strides=[2, 1])], {}),
    ([node("Relu", ["q"], ["r"])], {}),
    ([node("Clip", ["q", "low", "high"], ["r"])], {"low": np.array(-30, np.int8), "high": np.array(25, np.int8)}),
    ([node("Pad", ["q", "to", "zero"], ["r"])], {"to": np.array([0, 0, 1, 0, 0, 0, 2, 1])}),
    (
        [node("Slice", ["q", "to", "end", "axes"], ["r"])],
        {"to": np.array([1]), "end": np.array([3]), "axes": np.array([2])},
    ),
    ([node("Gather", ["q", "to"], ["r"], axis=2)], {"to": np.array([0, 2, 2])}),
    ([node("Max", ["q", "low"], ["r"])], {"low": np.array(-3, np.int8)}),
    ([node("Cast", ["q"], ["i"], to=TensorProto.INT32), node("Mul", ["i", "i"], ["r"])], {}),
    ([node("Cast", ["q"], ["i"], to=TensorProto.INT64), node("Add", ["i", "i"], ["r"])], {}),
    ([node("ReduceMax", ["q"], ["r"])], {}),
    ([node("ReduceSum", ["q"], ["r"])], {}),
]


@pytest.mark.parametrize(("nodes", "weights"), ON_THE_WAY, ids=lambda v: v[-1].op_type if isinstance(v, list) else "")
def test_integers_on_the_way(nodes: list[Any], weights: dict[str, Array]) -> None:
    if nodes[-1].op_type == "ReduceSum":
        nodes = [node("Cast", ["q"], ["i"], to=TensorProto.INT32), node("ReduceSum", ["i"], ["r"])]
    x = np.random.default_rng(0).permutation(96).reshape(2, 2, 4, 6).astype(F) - 48  # on the grid: nothing is rounded
    quantise, back = node("QuantizeLinear", ["x", "one", "zero"], ["q"]), node("Cast", ["r"], ["y"], to=1)
    constants = {"one": np.array(1, F), "zero": np.array(0, np.int8)} | weights
    quantised = model([quantise, *nodes, back], {"x": x}, constants)
    floats = {k: v if v.dtype == np.int64 else v.astype(F) for k, v in constants.items()}
    same = [n for n in nodes if n.op_type != "Cast"]
    copy = [onnx.NodeProto.FromString(n.SerializeToString()) for n in same]
    for n in copy:
        n.input[:] = ["x" if i in ("q", "i") else i for i in n.input]
    twin = model([*copy, node("Identity", ["r"], ["y"])], {"x": x}, floats)
    dy = run(twin, {"x": x})["y"]
    cotangent = np.random.default_rng(1).normal(size=dy.shape).astype(F)
    got = [run(oi.vjp(m, ["x"], ["y"]), {"x": x, "cotangent.y": cotangent})["gradient.x"] for m in (quantised, twin)]
    assert np.abs(got[1]).max() > 0
    np.testing.assert_allclose(got[0], got[1], rtol=1e-6)


@pytest.mark.parametrize("integer", ["MatMulInteger", "ConvInteger"])
@pytest.mark.parametrize("each", [False, True])
def test_products_of_integers(integer: str, each: bool) -> None:
    """(a - a_zero) (b - b_zero), with one zero point or one per output channel, as the float operator does it."""
    matrix = integer == "MatMulInteger"
    x = normal(2, 3, 5).astype(F) if matrix else normal(2, 3, 6, 5).astype(F)
    w = integers("int8", 5, 4) if matrix else integers("int8", 4, 3, 3, 2)
    zero = integers("int8", 4) if each else np.array(5, np.int8)
    nodes = [
        node("DynamicQuantizeLinear", ["x"], ["q", "scale", "x_zero"]),
        node(integer, ["q", "w", "x_zero", "w_zero"], ["i"], **({} if matrix else {"pads": [1, 1, 0, 0]})),
        node("Cast", ["i"], ["f"], to=1),
        node("Mul", ["f", "scale"], ["y"]),
    ]
    net = model(nodes, {"x": x}, {"w": w, "w_zero": zero})
    real = w - (zero if matrix or not each else zero.reshape(-1, 1, 1, 1)).astype(F)
    float_node = node("MatMul" if matrix else "Conv", ["x", "w"], ["y"], **({} if matrix else {"pads": [1, 1, 0, 0]}))
    twin = model([float_node], {"x": x}, {"w": real.astype(F)})
    dy = normal(*run(twin, {"x": x})["y"].shape).astype(F)
    got = [run(oi.vjp(m, ["x"], ["y"]), {"x": x, "cotangent.y": dy})["gradient.x"] for m in (net, twin)]
    np.testing.assert_allclose(got[0], got[1], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("form", ["matmul", "matmul-each", "conv", "conv-each", "conv-bias"])
def test_quantised_products(form: str) -> None:
    """QLinearConv and QLinearMatMul as what they abbreviate: DequantizeLinear, the float operator, QuantizeLinear."""
    matrix, each, biased = form.startswith("matmul"), form.endswith("each"), form.endswith("bias")
    x = normal(2, 3, 5).astype(F) if matrix else normal(2, 3, 6, 5).astype(F)
    w = integers("int8", 5, 4) if matrix else integers("int8", 4, 3, 3, 2)
    # The output saturates now and then.
    weights: dict[str, Array] = {
        "xs": np.array(0.02, F),
        "xz": np.array(120, np.uint8),
        "ws": (positive(4) / 80).astype(F) if each else np.array(0.01, F),
        "wz": np.zeros(4, np.int8) if each else np.array(0, np.int8),
        "ys": np.array(0.01, F),
        "yz": np.array(100, np.uint8),
        "w": w,
        "b": np.array([300, -200, 5000, 0], np.int32),
    }
    weights["bs"] = np.asarray(weights["xs"] * weights["ws"], F)
    first = node("QuantizeLinear", ["x", "xs", "xz"], ["q"])
    last = node("DequantizeLinear", ["r", "ys", "yz"], ["y"])
    names = ["q", "xs", "xz", "w", "ws", "wz", "ys", "yz", *(["b"] if biased else [])]
    how = {} if matrix else {"pads": [1, 1, 0, 0]}
    short = node("QLinearMatMul" if matrix else "QLinearConv", names, ["r"], **how)
    long = [
        node("DequantizeLinear", ["q", "xs", "xz"], ["xr"]),
        node("DequantizeLinear", ["w", "ws", "wz"], ["wr"], axis=1 if matrix else 0),
        node("DequantizeLinear", ["b", "bs"], ["br"], axis=0),
        node("MatMul" if matrix else "Conv", ["xr", "wr", *(["br"] if biased else [])], ["real"], **how),
        node("QuantizeLinear", ["real", "ys", "yz"], ["r"]),
    ]
    forms = [model([first, *middle, last], {"x": x}, weights) for middle in ([short], long)]
    ys = [run(m, {"x": x})["y"] for m in forms]
    assert np.mean(ys[0] == ys[0].max()) > 0.02
    dy = normal(*ys[0].shape).astype(F)
    wrt = ["x", "ys"] if biased else ["x", "xs", "ws", "ys"]
    a, b = (run(oi.vjp(m, wrt, ["y"]), {"x": x, "cotangent.y": dy}) for m in forms)
    for name in wrt:
        np.testing.assert_allclose(a[f"gradient.{name}"], b[f"gradient.{name}"], rtol=1e-3, atol=1e-3)


def test_the_steps_of_a_bias_cannot_vary() -> None:
    x, w = normal(1, 1, 3, 3).astype(F), integers("int8", 1, 1, 2, 2)
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        node("QLinearConv", ["q", "s", "z", "w", "s", "wz", "s", "z", "b"], ["r"]),
        node("DequantizeLinear", ["r", "s", "z"], ["y"]),
    ]
    zeros = {"z": np.array(0, np.uint8), "wz": np.array(0, np.int8), "b": np.array([1], np.int32)}
    net = model(nodes, {"x": x}, {"s": np.array(0.1, F), "w": w, **zeros})
    with pytest.raises(UnsupportedError, match="bias"):
        oi.vjp(net, ["s"], ["y"])


# What has no gradient says so.


def test_integers_without_a_cotangent_are_an_error() -> None:
    """A rule that gives nothing for integers that stand for floats stops the walk; indices are none of those."""
    x = positive(2, 4).astype(F)
    quantise = node("QuantizeLinear", ["x", "one", "zero"], ["q"])
    constants = {"one": np.array(1, F), "zero": np.array(0, np.uint8), "table": normal(300, 2).astype(F)}
    looked_up = [node("Cast", ["q"], ["i"], to=TensorProto.INT64), node("Gather", ["table", "i"], ["y"])]
    with pytest.raises(MissingRule, match="Gather gives nothing for the integers 'i'"):
        oi.vjp(model([quantise, *looked_up], {"x": x}, constants), ["x"], ["y"])
    shifted = [node("BitShift", ["q", "zero"], ["r"], direction="LEFT"), node("Cast", ["r"], ["y"], to=1)]
    with pytest.raises(MissingRule, match="BitShift"):
        oi.vjp(model([quantise, *shifted], {"x": x}, constants), ["x"], ["y"])
    index = [node("ArgMax", ["x"], ["i"], axis=1), node("Gather", ["table", "i"], ["y"])]
    net = model(index, {"x": x}, constants)
    got = run(oi.vjp(net, ["x"], ["y"]), {"x": x, "cotangent.y": np.ones((2, 1, 2), F)})
    np.testing.assert_array_equal(got["gradient.x"], np.zeros_like(x))


def test_integers_from_an_unknown_operator_pass_to_it() -> None:
    """Also behind operators with rules: the error names the quantiser that has none."""
    x = positive(2, 4).astype(F)
    nodes = [
        node("QuantizeLinear", ["x", "one", "zero"], ["q"], name="foreign"),
        node("Transpose", ["q"], ["t"]),
        node("Cast", ["t"], ["y"], to=1),
    ]
    net = model(nodes, {"x": x}, {"one": np.array(1, F), "zero": np.array(0, np.uint8)})
    rules = {k: v for k, v in oi.RULES.items() if k != "QuantizeLinear"}
    with pytest.raises(MissingRule, match="'foreign' has the operator QuantizeLinear"):
        oi.vjp(net, ["x"], ["y"], rules=rules)


# Whole nets.


def quantised(net: onnx.ModelProto, x: Array) -> onnx.ModelProto:
    """The net with QuantizeLinear and DequantizeLinear around every Conv and Gemm, int8 weights per channel."""
    proto = onnx.ModelProto.FromString(net.SerializeToString())
    weights = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}
    taps = [n.input[0] for n in proto.graph.node if n.op_type in ("Conv", "Gemm")]
    probe = oi.expose(oi.load(net), [t for t in taps if t != "image"])
    seen = {"image": x} | ENGINE.run(probe, {"image": x})
    nodes: list[Any] = []
    add: dict[str, Array] = {}
    for n in proto.graph.node:
        if n.op_type in ("Conv", "Gemm"):
            a, w = n.input[0], n.input[1]
            low, high = min(seen[a].min(), 0), seen[a].max()
            add |= {f"{a}.s": np.array((high - low) / 255, F)}
            add |= {f"{a}.z": np.array(np.round(-low / add[f"{a}.s"]), np.uint8)}
            axis = 0 if n.op_type == "Conv" else 1
            rest = tuple(i for i in range(weights[w].ndim) if i != axis)
            scale = np.abs(weights[w]).max(rest) / 127
            along_w = scale.reshape([-1 if i == axis else 1 for i in range(weights[w].ndim)])
            add |= {f"{w}.s": scale.astype(F), f"{w}.q": np.round(weights[w] / along_w).astype(np.int8)}
            nodes += [
                node("QuantizeLinear", [a, f"{a}.s", f"{a}.z"], [f"{a}.q"]),
                node("DequantizeLinear", [f"{a}.q", f"{a}.s", f"{a}.z"], [f"{a}.d"]),
                node("DequantizeLinear", [f"{w}.q", f"{w}.s"], [f"{w}.d"], axis=axis),
            ]
            n.input[0], n.input[1] = f"{a}.d", f"{w}.d"
        nodes.append(n)
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    proto.graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in add.items())
    return proto


def likeness(a: Array, b: Array) -> float:
    """The lowest correlation of two maps over the samples."""
    return min(float(np.corrcoef(u.ravel(), v.ravel())[0, 1]) for u, v in zip(a, b, strict=True))


def test_a_quantised_net_explains_itself_as_its_float_twin() -> None:
    x = np.random.default_rng(0).normal(size=(3, 3, nets.SIZE, nets.SIZE)).astype(F)
    net = nets.classifier()
    twin = quantised(net, x)
    for method, least in ((oi.gradcam, 0.99), (oi.saliency, 0.95)):
        a, b = (method(m, x, [0, 1, 2], engine=ENGINE).values for m in (twin, net))
        assert likeness(a, b) > least
    again = oi.vjp(oi.vjp(oi.load(twin), ["image"], ["scores"]), ["image"], ["gradient.image"])
    onnx.checker.check_model(again.to_proto(), full_check=True)


TEST64 = ZOO / "twins" / "test64.npz"


def both(method: Any, quantised: Any, twin: Any, x: Any, target: Any) -> float:
    a, b = (method(m, x, target, engine=ENGINE).values for m in (quantised, twin))
    return likeness(np.asarray(a, F), np.asarray(b, F))


@needs_zoo
@pytest.mark.parametrize(
    ("name", "method", "least"),
    [
        ("qdq_int8", "gradcam", 0.99),
        ("qdq_int8", "saliency", 0.95),
        ("dynamic_int8", "gradcam", 0.99),
        ("dynamic_int8", "saliency", 0.96),
        ("fp16", "gradcam", 0.999),
        ("fp16", "saliency", 0.998),
    ],
)
def test_variants_of_one_net_agree(name: str, method: str, least: float) -> None:
    samples = np.load(TEST64)
    x, target = samples["x_nchw"][:8], [int(i) for i in samples["torch_logits"][:8].argmax(1)]
    files = (ZOO / "variants" / f"{n}.onnx" for n in (name, "const_weights"))
    assert both(getattr(oi, method), *files, x, target) > least


@needs_assets
@pytest.mark.parametrize(
    ("name", "twin", "method", "least"),
    [
        ("mobilenetv2-12-qdq_int8", "mobilenetv2_fp32_pytorch_opset12", "gradcam", 0.97),
        ("mobilenet_v1_0.25_128_nhwc_uint8_tf", "mobilenet_v1_0.25_128_nhwc_fp32_tf", "gradcam", 0.97),
        ("squeezenet1.1_fp16_caffe2", "squeezenet1.1_fp32_caffe2", "gradcam", 0.999),
        ("squeezenet1.1_fp16_caffe2", "squeezenet1.1_fp32_caffe2", "saliency", 0.98),
    ],
)
def test_trained_models_agree_with_their_float_twins(name: str, twin: str, method: str, least: float) -> None:
    photo = ASSETS / photos("imagenet")[2]["file"]  # the first has a score beyond the end of the final quantiser
    files = (ASSETS / "models" / f"{n}.onnx" for n in (name, twin))
    assert both(getattr(oi, method), *files, photo, "top") > least


@needs_assets
def test_pictures_of_integers_are_attributed_to_as_floats() -> None:
    """Where the quantised model and its float twin agree, behind a Transpose, too."""
    photo = ASSETS / photos("imagenet")[0]["file"]
    models = [ASSETS / "models" / f"mobilenet_v1_0.25_128_nhwc_{kind}_tf.onnx" for kind in ("uint8", "fp32")]
    bytes_, floats = (oi.saliency(model, photo, "top", engine=ENGINE) for model in models)
    assert bytes_.values.shape == floats.values.shape == (1, 128, 128, 3)
    assert list(bytes_.tensors) == ["input"]
    ranks = [value.values.ravel().argsort().argsort() for value in (bytes_, floats)]
    assert np.corrcoef(*ranks)[0, 1] > 0.5
    assert bytes_.overlay().shape[2] == 3
