"""`filters`: weights are read in whatever form a file keeps them, and what is wrong with them is found."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

from onnx_inspect import image
from onnx_inspect.cli import cli
from onnx_inspect.errors import InspectError, LayerError, ResultError, UnsupportedError
from onnx_inspect.finding import Finding
from onnx_inspect.kernels import checks, picture
from onnx_inspect.kernels.weights import Kernels
from onnx_inspect.preprocess import Preprocessing
from onnx_inspect.studies.filters import filters

from . import nets
from .shared import ASSETS, needs_assets

RNG = np.random.default_rng(5)
GREY = Preprocessing((8, 8), color="GREY")
RGB, BGR = Preprocessing((8, 8)), Preprocessing((8, 8), color="BGR")
node = helper.make_node


def weights(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def build(
    nodes: list[onnx.NodeProto],
    shape: tuple[int | str, ...],
    opset: int = 21,
    dtype: int = TensorProto.FLOAT,
    **w: np.ndarray,
) -> onnx.ModelProto:
    """A model from x to the last output; weights are given by name."""
    out = onnx.ValueInfoProto(name=nodes[-1].output[0])
    out.type.tensor_type.elem_type = dtype
    tensors = [v if isinstance(v, TensorProto) else numpy_helper.from_array(v, k) for k, v in w.items()]
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", dtype, shape)], [out], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def conv(w: np.ndarray, **how: object) -> onnx.ModelProto:
    groups = int(how.get("group", 1))  # type: ignore[call-overload]
    return build([node("Conv", ["x", "w"], ["y"], **how)], ("N", w.shape[1] * groups, 8, 8), w=w)


def read(model: onnx.ModelProto, preprocessing: Preprocessing | None = None, layer: str = "first") -> Finding:
    return filters(model.SerializeToString(), layer=layer, preprocessing=preprocessing)


@pytest.fixture(autouse=True)
def quick(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Charts only where the picture matters."""
    if not {"picture", "drawn", "command"} & set(request.node.name.split("_")):
        monkeypatch.setattr(picture, "_charts", lambda values, width: np.zeros((1, width, 3), np.uint8))


# What is wrong with filters.


def gabor(size: int, frequency: float, angle: float = 0.6) -> np.ndarray:
    y, x = np.mgrid[:size, :size] - size // 2
    along = np.cos(angle) * x + np.sin(angle) * y
    return np.exp(-(x**2 + y**2) / (0.18 * size**2)) * np.cos(2 * np.pi * frequency * along)


def handmade() -> np.ndarray:
    """Gabor, the same again, its negative, dead, checkerboard, dominating blob, and some others."""
    y, x = np.mgrid[:7, :7] - 3
    blob = np.exp(-(x**2 + y**2) / 12)
    unit = [gabor(7, 0.12), 1.2 * gabor(7, 0.12), -gabor(7, 0.12), gabor(7, 0.2, 1.7), (-1.0) ** (x + y), blob]
    unit += [gabor(7, 0.15, 2.5), gabor(7, 0.1, 2.1) + 0.2, weights(7, 7)]
    w = np.array([u / np.linalg.norm(u) for u in unit])
    w[1] *= 1.2
    w[3] *= 1e-4
    w[5] *= 9
    return w[:, None].astype(np.float32)


def test_what_is_wrong_is_found() -> None:
    w = handmade()
    found = read(conv(w, strides=[2, 2]), GREY)
    values = found.values
    assert values["dead"] == [3]
    assert values["dominating"] == [5]
    assert 5 in values["outliers"]
    assert 0 not in values["outliers"]
    assert {(p["a"], p["b"]): round(p["cosine"], 3) for p in values["duplicates"]} == {
        (0, 1): 1,
        (0, 2): -1,
        (1, 2): -1,
    }
    norms = np.sqrt((w.astype(np.float64) ** 2).sum(axis=(1, 2, 3)))
    assert np.allclose([f["norm"] for f in values["filters"]], norms, rtol=1e-3)
    assert np.allclose([f["rms"] for f in values["filters"]], norms / 7, rtol=1e-3)
    high = [f["high_frequency"] for f in values["filters"]]
    assert high[4] > 0.95
    assert high[5] < 0.05
    assert high[3] is None  # of what is dead
    assert found.lines[3].startswith("dead        1: 3 ")
    assert (found.layer, values["layer"]["stride"]) == ("conv_1", [2, 2])


def test_scores_are_robust() -> None:
    """log norms 0, ±1 and 10: their median is 0, the median distance 1."""
    norm = np.exp([-1.0, 0, 0, 1, -1, 1, 10])
    z = checks.robust(norm, np.ones(7, bool))
    assert np.allclose(z, np.log(norm) / 1.4826)


def shares(w: np.ndarray, limit: float, dilation: int = 1) -> np.ndarray:
    """By Fourier transform of the kernels on a large plane."""
    size = 512
    wide = np.zeros((len(w), (w.shape[2] - 1) * dilation + 1, (w.shape[3] - 1) * dilation + 1))
    wide[:, ::dilation, ::dilation] = w[:, 0]
    energy = np.abs(np.fft.fft2(wide, (size, size))) ** 2
    f = np.abs(np.fft.fftfreq(size))
    # Bins at the edge of the box are half inside.
    inside = np.where(np.isclose(f, limit), 0.5, f < limit)
    return 1 - (energy * inside[:, None] * inside).sum(axis=(1, 2)) / energy.sum(axis=(1, 2))


@pytest.mark.parametrize(("limit", "dilation"), [(0.25, 1), (0.125, 1), (0.25, 2)])
def test_spectra_are_those_of_a_fourier_transform(limit: float, dilation: int) -> None:
    w = weights(6, 1, 5, 4)
    kernels = Kernels(w, np.ones(6), dilation=(dilation, dilation))
    assert np.allclose(checks.beyond(kernels, (limit, limit)), shares(w, limit, dilation), atol=1e-4)


def test_a_single_weight_is_white_and_a_line_has_one_axis() -> None:
    spot = np.zeros((1, 1, 5, 5), np.float32)
    spot[..., 2, 2] = 1
    kernels = Kernels(spot, np.ones(1))
    assert np.allclose(checks.beyond(kernels, (0.25, 0.25)), 0.75)
    assert checks.white(kernels, (0.25, 0.25)) == 0.75
    assert np.allclose(checks.beyond(Kernels(spot[:, :, 2:3], np.ones(1)), (0.25, 0.25)), 0.5)
    assert checks.beyond(Kernels(spot[..., :1, :1], np.ones(1)), (0.25, 0.25)) is None


def test_aliasing_depends_on_the_stride() -> None:
    """Waves of 0.2 cycles a pixel survive a stride of 2, which keeps up to 0.25, and not one of 4."""
    wave = np.array([[gabor(11, 0.2, 0.0)]], np.float32)

    def aliasing(stride: int) -> dict[str, object]:
        return read(conv(wave[..., :8, :8], strides=[stride] * 2), GREY).values["aliasing"]

    assert aliasing(1) is None
    assert not aliasing(2)["warning"]
    assert aliasing(4)["warning"]
    assert aliasing(4)["white_noise"] == pytest.approx(1 - 1 / 16)
    assert aliasing(8) is None  # patches that do not overlap


def test_units_of_different_groups_are_no_duplicates() -> None:
    w = np.repeat(weights(1, 1, 3, 3), 4, axis=0)
    pairs = read(conv(w, group=2)).values["duplicates"]
    assert [(p["a"], p["b"]) for p in pairs] == [(0, 1), (2, 3)]


def test_comparing_in_blocks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    flat = np.repeat(weights(4, 6), 5, axis=0) + 0.01 * weights(20, 6)
    count, whole = checks.duplicates(flat, np.ones(20, bool), 1)
    monkeypatch.setattr(checks, "_BLOCK", 3)
    again, pairs = checks.duplicates(flat, np.ones(20, bool), 1)
    assert {p[:2] for p in pairs} == {p[:2] for p in whole}
    assert count == again == len(whole) >= 40
    monkeypatch.setattr(checks, "_LISTED", 7)
    few, pairs = checks.duplicates(flat, np.ones(20, bool), 1)
    assert few == count
    assert {p[:2] for p in pairs} == {p[:2] for p in whole[:7]}  # the closest, whichever block they are of


@pytest.mark.parametrize("size", [1e-25, 1e30])
def test_duplicates_are_found_whatever_the_scale(size: float) -> None:
    """The square of such weights is no number of float32."""
    w = np.repeat(weights(2, 3, 3, 3), 2, axis=0) * np.float32(size)
    pairs = read(conv(w)).values["duplicates"]
    assert {(p["a"], p["b"], p["cosine"]) for p in pairs} == {(0, 1, 1.0), (2, 3, 1.0)}


def test_norms_include_batch_normalisation() -> None:
    w, scale, var = weights(4, 3, 3, 3), np.array([1, -2, 0, 3], np.float32), np.array([1, 4, 1, 0.25], np.float32)
    zeros = np.zeros(4, np.float32)
    nodes = [
        node("Conv", ["x", "w"], ["c"]),
        node("Add", ["c", "bias"], ["a"]),
        node("BatchNormalization", ["a", "s", "z", "z", "v"], ["y"], epsilon=0.5),
    ]
    found = read(build(nodes, ("N", 3, 8, 8), w=w, bias=weights(4, 1, 1), s=scale, z=zeros, v=var), RGB)
    expected = np.linalg.norm(w.reshape(4, -1), axis=1) * np.abs(scale) / np.sqrt(var + 0.5)
    assert np.allclose([f["norm"] for f in found.values["filters"]], expected, rtol=1e-3)
    assert found.values["dead"] == [2]
    assert "batch normalisation included" in found.lines[1]
    assert np.array_equal(found.arrays["kernels"], w)


# In whatever form.


def test_layouts_and_computed_weights() -> None:
    """As TensorFlow's exporter writes it: NHWC, and kernels as (height, width, in, out)."""
    w = weights(5, 3, 3, 2)
    nodes = [
        node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]),
        node("Transpose", ["hwio"], ["v"], perm=[3, 2, 0, 1]),
        node("Mul", ["v", "two"], ["w"]),
        node("Conv", ["t", "w"], ["y"]),
    ]
    model = build(nodes, ("N", 8, 8, 3), hwio=w.transpose(2, 3, 1, 0).copy(), two=np.float32(2))
    found = read(model, Preprocessing((8, 8), layout="NHWC"))
    assert np.array_equal(found.arrays["kernels"], 2 * w)
    assert found.values["layer"]["colours"]


def test_colours_are_shown_in_the_order_of_the_preprocessing() -> None:
    w = weights(4, 3, 3, 3)
    assert np.array_equal(read(conv(w), RGB).arrays["kernels"], w)
    assert np.array_equal(read(conv(w), BGR).arrays["kernels"], w[:, ::-1])
    red = np.zeros((1, 3, 3, 3), np.float32)
    red[0, 2] = 1  # the last channel of BGR
    picture = read(conv(red), BGR).picture.reshape(-1, 3)
    assert (picture == (255, 128, 128)).all(axis=1).sum() > 500
    assert not (picture == (128, 128, 255)).all(axis=1).any()
    guessed = read(conv(w))
    assert [n for n in guessed.notes if n.endswith("RGB (--color ORDER)")]


def by_differences(model: onnx.ModelProto, shape: tuple[int, ...], unit: tuple[object, ...]) -> np.ndarray:
    """What one unit at one place multiplies the pixels by: (units, *shape), by changing one at a time."""
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    eye = np.eye(int(np.prod(shape)), dtype=np.float32).reshape(-1, *shape)
    y = session.run(None, {"x": np.concatenate([np.zeros((1, *shape), np.float32), eye])})[0]
    return np.moveaxis((y[1:] - y[:1])[:, *unit], 1, 0).reshape(-1, *shape)


def cropped(kernels: np.ndarray) -> np.ndarray:
    seen = np.abs(kernels).max(axis=(0, 1)) > 1e-6
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    return kernels[:, :, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def focus() -> onnx.ModelProto:
    """Space to depth by four slices, as YOLOX begins."""
    w = {"axes": np.array([2, 3]), "steps": np.array([2, 2]), "end": np.array([99, 99]), "w": weights(5, 12, 3, 3)}
    starts = {f"s{i}": np.array([i // 2, i % 2]) for i in range(4)}
    nodes = [node("Slice", ["x", f"s{i}", "end", "axes", "steps"], [f"p{i}"]) for i in range(4)]
    nodes += [node("Concat", [f"p{i}" for i in range(4)], ["p"], axis=1), node("Conv", ["p", "w"], ["y"], pads=[1] * 4)]
    return build(nodes, ("N", 3, 8, 8), **w, **starts)


def patches() -> onnx.ModelProto:
    """Patches of 4×4 pixels through a dense layer, in NHWC."""
    shapes = {"split": np.array([-1, 2, 4, 2, 4, 3]), "flat": np.array([-1, 4, 48])}
    nodes = [
        node("Reshape", ["x", "split"], ["s"]),
        node("Transpose", ["s"], ["t"], perm=[0, 1, 3, 2, 4, 5]),
        node("Reshape", ["t", "flat"], ["f"]),
        node("MatMul", ["f", "w"], ["y"]),
    ]
    return build(nodes, ("N", 8, 8, 3), w=weights(48, 6), **shapes)


def dense(turned: int) -> onnx.ModelProto:
    nodes = [
        node("Sub", ["x", "mean"], ["c"]),
        node("Flatten", ["c"], ["f"]),
        node("Gemm", ["f", "w"], ["y"], transB=turned, alpha=0.5),
    ]
    return build(nodes, ("N", 3, 8, 8), mean=np.float32(0.5), w=weights(7, 192) if turned else weights(192, 7))


def depthwise() -> onnx.ModelProto:
    return build([node("Conv", ["x", "w"], ["y"], group=3)], ("N", 3, 8, 8), w=weights(6, 1, 3, 3))


def mirrored() -> onnx.ModelProto:
    """The graph itself turns RGB into BGR."""
    return build([node("Gather", ["x", "i"], ["g"], axis=1), node("Conv", ["g", "w"], ["y"])], ("N", 3, 8, 8), i=np.array([2, 1, 0]), w=weights(4, 3, 3, 3))  # fmt: skip


def flipped() -> onnx.ModelProto:
    """Of one colour, and the graph mirrors it."""
    s = {"start": np.array([-1]), "end": np.array([-99]), "axis": np.array([3]), "step": np.array([-1])}
    nodes = [node("Slice", ["x", *s], ["t"]), node("Conv", ["t", "w"], ["y"])]
    return build(nodes, ("N", 1, 8, 8), w=weights(4, 1, 3, 3), **s)


def spread() -> onnx.ModelProto:
    """A transposed convolution turns its kernels round."""
    return build([node("ConvTranspose", ["x", "w"], ["y"])], ("N", 3, 8, 8), w=weights(3, 4, 3, 3))


ALL = slice(None)
TRACED = {
    "focus": (focus(), (3, 8, 8), (ALL, 2, 2)),
    "patches": (patches(), (8, 8, 3), (2, ALL)),
    "gemm": (dense(0), (3, 8, 8), (ALL,)),
    "gemm transposed": (dense(1), (3, 8, 8), (ALL,)),
    "depthwise": (depthwise(), (3, 8, 8), (ALL, 3, 3)),
    "mirrored": (mirrored(), (3, 8, 8), (ALL, 3, 3)),
    "flipped": (flipped(), (1, 8, 8), (ALL, 3, 3)),
    "spread": (spread(), (3, 8, 8), (ALL, 5, 5)),
}


@pytest.mark.parametrize("name", TRACED)
def test_kernels_are_traced_back_to_the_pixels(name: str) -> None:
    model, shape, unit = TRACED[name]
    expected = by_differences(model, shape, unit)
    layout = "NHWC" if shape[-1] == 3 else "NCHW"
    expected = np.moveaxis(expected, -1, 1) if layout == "NHWC" else expected
    color = "GREY" if 1 in shape else "RGB"
    found = read(model, Preprocessing((8, 8), layout=layout, color=color))
    assert np.allclose(found.arrays["kernels"], cropped(expected), atol=1e-5)
    assert found.values["layer"]["pixels"]
    assert found.values["layer"]["colours"] == (color == "RGB")
    assert found.values["layer"]["groups"] == 1
    assert any("traced back" in note for note in found.notes)


def test_products_with_itself_are_no_filters_of_pixels() -> None:
    """x · x is not linear, so what follows has no kernels in pixels, only weights."""
    w = weights(4, 192)
    nodes = [node("Mul", ["x", "x"], ["m"]), node("Flatten", ["m"], ["f"]), node("Gemm", ["f", "w"], ["y"], transB=1)]
    found = read(build(nodes, ("N", 3, 8, 8), w=w), Preprocessing((8, 8), mean=(9.0,)))
    assert not found.values["layer"]["pixels"]
    assert np.array_equal(found.arrays["kernels"][..., 0, 0], w[:, : found.arrays["kernels"].shape[1]])


def quantised(w: np.ndarray, scale: np.ndarray, zero: np.ndarray) -> np.ndarray:
    info = np.iinfo(zero.dtype)
    return np.clip(np.rint(w / scale) + zero, info.min, info.max).astype(zero.dtype)


PER_TENSOR = (np.float32(0.03), np.uint8(120))
PER_UNIT = (np.array([0.02, 0.03, 0.05, 0.01], np.float32), np.array([0, 3, -4, 7], np.int8))


@pytest.mark.parametrize("grid", [PER_TENSOR, PER_UNIT], ids=["tensor", "unit"])
@pytest.mark.parametrize("form", ["DequantizeLinear", "QLinearConv"])
def test_quantised_convolutions(form: str, grid: tuple[np.ndarray, np.ndarray]) -> None:
    w, (scale, zero) = weights(4, 3, 3, 3), grid
    s, z = (v.reshape(-1, 1, 1, 1) if v.ndim else v for v in map(np.asarray, grid))
    q = quantised(w, s, z)
    given = {"q": q, "s": np.asarray(scale), "z": np.asarray(zero), "a": np.float32(0.1), "b": np.uint8(3)}
    if form == "DequantizeLinear":
        axis = {"axis": 0} if np.ndim(scale) else {}
        nodes = [node("DequantizeLinear", ["q", "s", "z"], ["w"], **axis), node("Conv", ["x", "w"], ["y"])]
    else:
        nodes = [node("QuantizeLinear", ["x", "a", "b"], ["i"])]
        nodes += [node("QLinearConv", ["i", "a", "b", "q", "s", "z", "a", "b"], ["o"])]
        nodes += [node("DequantizeLinear", ["o", "a", "b"], ["y"])]
    model = build(nodes, ("N", 3, 8, 8), **given)
    kernels = read(model, RGB).arrays["kernels"]
    assert np.allclose(kernels, (q.astype(np.float32) - z) * s, atol=1e-6)
    near = np.abs(w / s + z) < 100
    assert np.abs(kernels - w)[near].max() <= 0.5001 * np.max(scale)
    assert np.array_equal(kernels, read(model, RGB, layer="dequantizelinear_*" if form != "DequantizeLinear" else "conv_1").arrays["kernels"])  # fmt: skip


@pytest.mark.parametrize("form", ["QLinearMatMul", "MatMulInteger", "ConvInteger", "product first"])
def test_quantised_products(form: str) -> None:
    scale, _ = PER_UNIT
    rank4 = form == "ConvInteger"
    w = weights(4, 3, 3, 3) if rank4 else weights(4, 6)
    s, z = (v.reshape(-1, *[1] * (w.ndim - 1)) for v in (scale, np.zeros(4, np.int8)))
    q = quantised(w, s, z)
    stored = q if rank4 else q.T.copy()
    given = {"q": stored, "s": scale.reshape(-1, 1, 1) if rank4 else scale, "a": np.float32(0.1), "b": np.uint8(3)}
    shape: tuple[int | str, ...] = ("N", 3, 8, 8) if rank4 else ("N", 6)
    if form == "QLinearMatMul":
        nodes = [node("QuantizeLinear", ["x", "a", "b"], ["i"])]
        nodes += [node("QLinearMatMul", ["i", "a", "b", "q", "s", "z", "a", "b"], ["o"])]
        nodes += [node("DequantizeLinear", ["o", "a", "b"], ["y"])]
        given["z"] = z.reshape(-1)
    else:
        op = "ConvInteger" if rank4 else "MatMulInteger"
        nodes = [node("DynamicQuantizeLinear", ["x"], ["i", "xs", "xz"]), node(op, ["i", "q", "xz"], ["o"])]
        nodes += [node("Cast", ["o"], ["f"], to=TensorProto.FLOAT), node("Mul", ["xs", "s"], ["both"])]
        nodes += [node("Mul", ["f", "both"] if form != "product first" else ["both", "f"], ["y"])]
    found = read(build(nodes, shape, **given), RGB if rank4 else None)
    expected = q.astype(np.float32) * s
    assert np.allclose(found.arrays["kernels"], expected if rank4 else expected[..., None, None], atol=1e-6)
    assert found.values["layer"]["colours"] == rank4


def test_an_unknown_scale_is_said() -> None:
    q = RNG.integers(-100, 100, (4, 3, 3, 3)).astype(np.int8)
    nodes = [node("DynamicQuantizeLinear", ["x"], ["i", "xs", "xz"]), node("ConvInteger", ["i", "q", "xz"], ["o"])]
    nodes += [node("Cast", ["o"], ["y"], to=TensorProto.FLOAT)]
    found = read(build(nodes, ("N", 3, 8, 8), q=q), RGB)
    assert np.array_equal(found.arrays["kernels"], q)
    assert any("was not found" in note for note in found.notes)


def test_blocks_of_four_bits() -> None:
    q = RNG.integers(-8, 8, (8, 4)).astype(np.int8)
    scale = np.abs(weights(2, 4)) + 0.1
    packed = helper.make_tensor("q", TensorProto.INT4, q.shape, q.reshape(-1).tolist())
    nodes = [node("DequantizeLinear", ["q", "s"], ["w"], axis=0, block_size=4), node("MatMul", ["x", "w"], ["y"])]
    found = read(build(nodes, ("N", 8), q=packed, s=scale))  # type: ignore[arg-type]
    assert np.allclose(found.arrays["kernels"][..., 0, 0], (q * np.repeat(scale, 4, axis=0)).T)


def test_half_precision() -> None:
    w = weights(4, 3, 3, 3).astype(np.float16)
    found = read(build([node("Conv", ["x", "w"], ["y"])], ("N", 3, 8, 8), dtype=TensorProto.FLOAT16, w=w), RGB)
    assert found.arrays["kernels"].dtype == np.float32
    assert np.array_equal(found.arrays["kernels"], w)


def test_transposed_convolutions_and_weights_in_front() -> None:
    w = weights(4, 3, 3, 3)  # 4 channels in 2 groups to 6 units
    found = read(build([node("ConvTranspose", ["x", "w"], ["y"], group=2, strides=[2, 2])], ("N", 4, 8, 8), w=w))
    expected = np.stack([w[2 * g : 2 * g + 2, u] for g in range(2) for u in range(3)])
    assert np.array_equal(found.arrays["kernels"], expected)
    assert found.values["aliasing"] is None
    w = weights(5, 6)
    turned = node("Gemm", ["v", "x"], ["y"], transA=1, alpha=0.5)
    for one in (node("MatMul", ["w", "x"], ["y"]), node("Gemm", ["w", "x"], ["y"]), turned):
        found = read(build([one], (6, 2), w=w, v=2 * w.T))
        assert np.array_equal(found.arrays["kernels"][..., 0, 0], w)


def test_signals_and_volumes() -> None:
    w = weights(5, 2, 7)
    assert np.array_equal(
        read(build([node("Conv", ["x", "w"], ["y"])], ("N", 2, 30), w=w)).arrays["kernels"][:, :, 0], w
    )
    w = weights(5, 2, 3, 4, 4)
    found = read(build([node("Conv", ["x", "w"], ["y"])], ("N", 2, 6, 8, 8), w=w))
    assert np.array_equal(found.arrays["kernels"], w.reshape(5, 6, 4, 4))


# Layers, pictures, errors.


def test_layers_are_found_by_what_follows_them(tmp_path: Path) -> None:
    path = nets.save(tmp_path)
    w = nets.weights()
    for name in ("body.conv2", "c2", "body.relu2", "body.*2", "p"):
        found = filters(path, layer=name)
        assert found.layer == "body.conv2"
        assert np.array_equal(found.arrays["kernels"], w["w2"])
    assert np.array_equal(filters(path, layer="scores").arrays["kernels"][..., 0, 0], w["w3"].T)
    first = filters(path)
    assert np.array_equal(first.arrays["kernels"], w["w1"])
    assert any(note.endswith("the first with weights (--layer NAME)") for note in first.notes)


def test_what_cannot_be_shown_is_refused(tmp_path: Path) -> None:
    path = nets.save(tmp_path)
    with pytest.raises(LayerError, match="means 2 layers with weights"):
        filters(path, layer="body.*")
    with pytest.raises(LayerError, match=r"no layer or tensor 'body.conv3'. Did you mean"):
        filters(path, layer="body.conv3")
    plain = build([node("Relu", ["x"], ["y"])], ("N", 3, 8, 8))
    with pytest.raises(LayerError, match="no layer with constant weights"):
        read(plain)
    with pytest.raises(LayerError, match=r"'relu_1' \(Relu\) is not computed by a layer"):
        read(plain, layer="relu_1")
    with pytest.raises(ResultError, match=r"1 kernels of .* are not finite, the first is 0"):
        filters(nets.save(tmp_path, "nan.onnx", broken="nan"), layer="body.conv2")
    stack = build([node("MatMul", ["x", "w"], ["y"])], ("N", 2, 3, 4), w=weights(2, 4, 5))
    with pytest.raises(UnsupportedError, match="stack of matrices"):
        read(stack)
    with pytest.raises((InspectError, TypeError)):
        filters(path, layer=3)  # type: ignore[arg-type]


def test_all_zero_weights_are_dead_and_drawn() -> None:
    found = read(conv(np.zeros((3, 3, 3, 3), np.float32)), RGB)
    assert found.values["dead"] == [0, 1, 2]
    assert found.values["dominating"] == found.values["duplicates"] == []


def test_the_picture_frames_what_it_names() -> None:
    w = handmade()
    for model, preprocessing in ((conv(w), GREY), (conv(np.repeat(w, 2, axis=1)), None)):  # tiles, and a table
        picture = read(model, preprocessing).picture.reshape(-1, 3)
        for colour in [(214, 39, 40), (40, 40, 40), (31, 119, 180)]:  # that of the key are 144 pixels
            assert (picture == colour).all(axis=1).sum() > 400
    quiet = read(conv(weights(9, 1, 7, 7)), GREY).picture.reshape(-1, 3)
    assert not (quiet == (214, 39, 40)).all(axis=1).any()


def test_large_layers_are_drawn_in_part_and_counted_in_full() -> None:
    found = read(build([node("Gemm", ["x", "w"], ["y"], transB=1)], ("N", 900), w=weights(700, 900)))
    assert len(found.values["filters"]) == 700
    rows, columns = found.arrays["kernels"].shape[:2]
    assert 20 < rows < 200
    assert 20 < columns < 200
    assert max(found.picture.shape) < 1500


def test_the_command(tmp_path: Path) -> None:
    path = nets.save(tmp_path)
    out = tmp_path / "out" / "seen.png"
    done = CliRunner().invoke(cli, ["filters", str(path), "--layer", "body.conv2", "-o", str(out)])
    assert done.exit_code == 0, done.output
    assert "layer       body.conv2 (Conv): 6 filters 5×3×3, stride 2" in done.output
    assert image.read(out).shape[2] == 3
    record = json.loads(out.with_suffix(".json").read_text(encoding="utf-8"))
    assert len(record["values"]["filters"]) == 6
    wrong = CliRunner().invoke(cli, ["filters", str(path), "--layer", "nothing"])
    assert wrong.exit_code == 2
    assert "no layer or tensor 'nothing'" in wrong.output


# Trained networks.


@needs_assets
def test_trained_first_layers() -> None:
    models = ASSETS / "models"
    whole, half = (filters(models / f"squeezenet1.1_{t}_caffe2.onnx").arrays["kernels"] for t in ("fp32", "fp16"))
    assert np.allclose(whole, half, rtol=1e-3)
    mobile = filters(models / "mobilenetv2-12-qdq_int8.onnx").values
    assert mobile["dead"] == [9, 17, 23]
    tiles = filters(models / "yolox_nano.onnx").values["layer"]
    assert (tiles["size"], tiles["channels"], tiles["stride"]) == ([6, 6], 3, [2, 2])
    integers, floats = (
        filters(models / f"mobilenet_v1_0.25_128_nhwc_{t}_tf.onnx").arrays["kernels"] for t in ("uint8", "fp32")
    )
    assert np.allclose(integers, floats, atol=0.01 * np.abs(floats).max())
