"""The CAM family: each method against its formula, written out in NumPy and float64, and laws that hold of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnx_inspect as oi
from onnx_inspect import image
from onnx_inspect.engine import Engine
from onnx_inspect.errors import InputError, LayerError, TargetError
from onnx_inspect.methods.cam_common import resized
from onnx_inspect.methods.cam_guided import full_gradients
from onnx_inspect.methods.job import Job, draws
from onnx_inspect.preprocess import Preprocessing

from . import nets

ENGINE = Engine("cpu", threads=1)
X = nets.images(3)
EARLY, LAST = "body.relu1", "body.relu2"
TARGET = 2
CAMS = (
    "gradcam gradcam_plusplus smooth_gradcam_plusplus xgradcam hirescam elementwise_gradcam layercam eigencam "
    "eigen_gradcam scorecam ablationcam reciprocam"
).split()
FEW = {"smooth_gradcam_plusplus": {"samples": 3}}


@pytest.fixture(scope="module")
def model() -> oi.Model:
    return oi.load(nets.classifier())


def call(name: str, net: Any, x: np.ndarray, **options: Any) -> oi.Attribution:
    result: oi.Attribution = getattr(oi, name)(net, x, engine=ENGINE, **{**FEW.get(name, {}), **options})
    return result


def relu(values: np.ndarray) -> np.ndarray:
    return np.maximum(values, 0)


def rest(r1: np.ndarray, target: int = TARGET) -> np.ndarray:
    """The score, given the first map: what follows the early layer, tap by tap."""
    w = {k: v.astype(np.float64) for k, v in nets.weights().items()}
    padded = np.pad(r1, ((0, 0), (0, 0), (1, 1), (1, 1)))
    c2 = np.zeros((len(r1), 6, 6, 6)) + w["b2"][:, None, None]
    for i in range(3):
        for j in range(3):
            c2 += np.einsum("ncyx,oc->noyx", padded[:, :, i : i + 12 : 2, j : j + 12 : 2], w["w2"][:, :, i, j])
    score: np.ndarray = relu(c2).mean(axis=(2, 3)) @ w["w3"][:, target] + w["b3"][target]
    return score


def early(x: np.ndarray, target: int = TARGET) -> tuple[np.ndarray, np.ndarray]:
    """The first map and the score's gradient there, backwards tap by tap."""
    found, w = nets.forward(x), {k: v.astype(np.float64) for k, v in nets.weights().items()}
    dc2 = w["w3"][:, target][:, None, None] / 36 * (found["c2"] > 0)
    g = np.zeros((len(x), 5, 14, 14))
    for i in range(3):
        for j in range(3):
            g[:, :, i : i + 12 : 2, j : j + 12 : 2] += np.einsum("noyx,oc->ncyx", dc2, w["w2"][:, :, i, j])
    return found["r1"], g[:, :, 1:13, 1:13]


def test_the_gradient_of_these_tests_is_one() -> None:
    A, g = early(X)
    u = np.random.default_rng(0).normal(size=A.shape)
    slope = (rest(A + 1e-7 * u) - rest(A - 1e-7 * u)) / 2e-7
    np.testing.assert_allclose((g * u).sum(axis=(1, 2, 3)), slope, rtol=1e-5)


def weighted(A: np.ndarray, g: np.ndarray, weigh: Any) -> np.ndarray:
    """sum_k w_k A_k, sample by sample and channel by channel."""
    return np.array([sum(weigh(a, d) * a for a, d in zip(As, gs, strict=True)) for As, gs in zip(A, g, strict=True)])


def plusplus(a: np.ndarray, d: np.ndarray) -> float:
    alpha = d**2 / (2 * d**2 + a.sum() * d**3 + 1e-6)
    return float((alpha * relu(d)).sum())


def principal(rows: np.ndarray) -> np.ndarray:
    """The first principal component of each sample, by its covariance, growing where the sum over channels does."""
    found = []
    for one in rows:
        flat = one.reshape(len(one), -1).T
        flat = flat - flat.mean(axis=0)
        along = flat @ np.linalg.eigh(flat.T @ flat)[1][:, -1]
        found.append((along if along @ flat.sum(axis=1) > 0 else -along).reshape(one.shape[1:]))
    return np.array(found)


FORMULAS = {
    "gradcam": lambda A, g: weighted(A, g, lambda a, d: d.mean()),
    "gradcam_plusplus": lambda A, g: weighted(A, g, plusplus),
    "xgradcam": lambda A, g: weighted(A, g, lambda a, d: (d * a).sum() / (a.sum() + 1e-7)),
    "hirescam": lambda A, g: (A * g).sum(axis=1),
    "elementwise_gradcam": lambda A, g: relu(A * g).sum(axis=1),
    "layercam": lambda A, g: (A * relu(g)).sum(axis=1),
    "eigencam": lambda A, g: principal(A),
    "eigen_gradcam": lambda A, g: principal(A * g),
    "ablationcam": lambda A, g: weighted(A, lost(A), lambda a, d: d),
}


def lost(A: np.ndarray) -> np.ndarray:
    """How much of the score goes with each channel, a share: (N, C)."""
    S, shares = rest(A), np.zeros(A.shape[:2])
    for k in range(A.shape[1]):
        without = A.copy()
        without[:, k] = 0
        shares[:, k] = (S - rest(without)) / S
    return shares


@pytest.mark.parametrize("name", FORMULAS)
def test_methods_are_their_formulas(name: str, model: oi.Model) -> None:
    raw = FORMULAS[name](*early(X))
    size = np.abs(raw).max()
    result = call(name, model, X, target=TARGET, layer=EARLY)
    np.testing.assert_allclose(result.values, relu(raw), atol=1e-5 * size)
    assert (result.layer, result.tensor, result.signed) == (EARLY, "r1", False)
    if name != "elementwise_gradcam":
        signed = call(name, model, X, target=TARGET, layer=EARLY, signed=True)
        np.testing.assert_allclose(signed.values, raw, atol=1e-5 * size)
        assert signed.signed
        assert (raw.min() < 0) != (name in ("gradcam_plusplus", "layercam"))


def test_gradcam_plusplus_of_the_papers_code(model: oi.Model) -> None:
    A, g = early(X)
    S, expected = rest(A), np.zeros((3, 12, 12))
    for n in range(3):
        first, second, third = (np.exp(S[n]) * g[n] ** power for power in (1, 2, 3))
        for k in range(5):
            below = 2 * second[k] + third[k] * A[n, k].sum()
            alpha = second[k] / np.where(below == 0, 1, below)
            expected[n] += (relu(first[k]) * alpha / alpha.sum()).sum() * A[n, k]
    result = call("gradcam_plusplus", model, X, target=TARGET, layer=EARLY, variant="paper")
    np.testing.assert_allclose(result.values, relu(expected), rtol=1e-4, atol=1e-4 * expected.max())


def test_smooth_gradcam_plusplus_averages_over_noise(model: oi.Model) -> None:
    options: dict[str, Any] = {"target": TARGET, "layer": EARLY, "signed": True}
    same = call("smooth_gradcam_plusplus", model, X, noise=0.0, **options)
    np.testing.assert_allclose(same.values, call("gradcam_plusplus", model, X, **options).values, rtol=1e-5)
    A, expected = early(X)[0], np.zeros((3, 12, 12))
    noises = [np.random.default_rng([7, k]).standard_normal(X.shape[1:]) for k in range(4)]
    for n in range(3):
        spread = 0.1 * (X[n].max() - X[n].min())
        gs = np.stack([early((X[n] + spread * noise)[None])[1][0] for noise in noises])
        g1, g2, g3 = ((gs**power).mean(axis=0) for power in (1, 2, 3))
        for k in range(5):
            alpha = g2[k] / (2 * g2[k] + A[n, k].sum() * g3[k] + 1e-6)
            expected[n] += (alpha * relu(g1[k])).sum() * A[n, k]
    runs = [
        oi.smooth_gradcam_plusplus(
            model, X, samples=4, noise=0.1, seed=seed, engine=Engine("cpu", batch=size), **options
        )
        for seed, size in [(7, 8), (7, 3), (8, 8)]
    ]
    np.testing.assert_allclose(runs[0].values, expected, rtol=1e-3, atol=1e-4 * expected.max())
    np.testing.assert_allclose(runs[1].values, runs[0].values, rtol=1e-5)
    assert not np.allclose(runs[2].values, runs[0].values, rtol=1e-3)


def stretched(one: np.ndarray, size: int, corners: bool) -> np.ndarray:
    """A map, linearly interpolated along one axis and then the other."""
    for _ in range(2):
        pixel, n = np.arange(size), one.shape[0]
        place = pixel * (n - 1) / (size - 1) if corners else (pixel + 0.5) * n / size - 0.5
        one = np.array([np.interp(place, np.arange(n), column) for column in one.T])
    return one


def unit(one: np.ndarray) -> np.ndarray:
    return (one - one.min()) / (one.max() - one.min() + 1e-8)


@pytest.mark.parametrize("preset", ["", "pgc", "torchcam"])
def test_scorecam_is_its_definition(preset: str, model: oi.Model) -> None:
    """A literal loop: upsample, normalise, mask, run, softmax."""
    A = nets.forward(X)["a"]
    expected = np.zeros((3, 6, 6))
    for n in range(3):
        maps = [unit(a) for a in A[n]] if preset == "torchcam" else list(A[n])
        masks = [stretched(a, 12, corners=preset == "pgc") for a in maps]
        masks = masks if preset == "torchcam" else [unit(m) for m in masks]
        scores = np.array([nets.forward(X[n : n + 1] * m)["logits"][0, TARGET] for m in masks])
        w = np.exp(scores) / np.exp(scores).sum()
        expected[n] = sum(share * a for share, a in zip(w, maps, strict=True))
    result = call("scorecam", model, X, target=TARGET, preset=preset, signed=True)
    np.testing.assert_allclose(result.values, expected, atol=1e-5)
    if not preset:  # weights that add up to 1 stay between the least and the largest channel
        assert (A.min(axis=1) <= result.values + 1e-6).all()
        assert (result.values <= A.max(axis=1) + 1e-6).all()


@pytest.mark.parametrize("gaussian", [False, True])
def test_reciprocam_is_its_definition(gaussian: bool, model: oi.Model) -> None:
    A = early(X)[0]
    kernel = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16
    expected = np.zeros((3, 12, 12))
    for i in range(12):
        for j in range(12):
            alone = np.zeros((3, 5, 14, 14))
            if gaussian:
                alone[:, :, i : i + 3, j : j + 3] = A[:, :, i, j, None, None] * kernel
            else:
                alone[:, :, i + 1, j + 1] = A[:, :, i, j]
            expected[:, i, j] = rest(alone[:, :, 1:13, 1:13])
    result = call("reciprocam", model, X, target=TARGET, layer=EARLY, gaussian=gaussian)
    np.testing.assert_allclose(result.values, expected, atol=1e-5)
    assert not result.signed


def test_ablation_needs_a_score() -> None:
    zero = np.zeros((1, 3, 12, 12), np.float32)
    weights = {k: np.zeros_like(v) if k.startswith("b") else v for k, v in nets.weights().items()}
    proto = nets.classifier()
    for tensor in proto.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(weights[tensor.name], tensor.name))
    with pytest.raises(TargetError, match="exactly 0"):
        call("ablationcam", proto, zero, target=TARGET)


# Laws.


def test_behind_a_linear_head_all_gradients_agree(model: oi.Model) -> None:
    g = call("gradcam", model, X, target=TARGET).values
    np.testing.assert_allclose(call("cam", model, X, target=TARGET).heat / 36, g, atol=1e-6)
    for name in ("hirescam", "xgradcam"):
        np.testing.assert_allclose(call(name, model, X, target=TARGET).values, g, atol=1e-6)
    total = call("hirescam", model, X, target=TARGET, signed=True)
    np.testing.assert_allclose(
        total.values.sum(axis=(1, 2)) + nets.weights()["b3"][TARGET], total.scores, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("name", [*CAMS, "cam", "fullgrad", "guided_gradcam"])
def test_a_batch_is_its_samples_and_axes_may_be_in_any_order(name: str, model: oi.Model) -> None:
    options: dict[str, Any] = {} if name in ("cam", "fullgrad") else {"layer": EARLY}
    together = call(name, model, X, **options)
    apart = np.concatenate([call(name, model, one, **options).values for one in X])
    size = np.abs(together.values).max()
    np.testing.assert_allclose(together.values, apart, atol=1e-5 * size)
    twin = call(name, nets.classifier(nhwc=True), nets.images(3, nhwc=True), **options).values
    twin = np.moveaxis(twin, -1, 1) if name == "guided_gradcam" else twin
    np.testing.assert_allclose(twin, together.values, atol=1e-5 * size)


@pytest.mark.parametrize("name", [*CAMS, "cam"])
def test_mirrored_inputs_have_mirrored_maps(name: str, model: oi.Model) -> None:
    options: dict[str, Any] = {"target": TARGET} | ({} if name == "cam" else {"layer": EARLY})
    both = call(name, model, X, flips=True, **options).values
    there, back = (call(name, model, x, **options).values for x in (X, X[..., ::-1].copy()))
    size = np.abs(there).max()
    np.testing.assert_allclose(both, (there + back[..., ::-1]) / 2, atol=1e-5 * size)
    if name != "smooth_gradcam_plusplus":  # the noise is not mirrored
        mirrored = call(name, model, X[..., ::-1].copy(), flips=True, **options).values
        np.testing.assert_allclose(both, mirrored[..., ::-1], atol=1e-5 * size)


def test_scaled_inputs_keep_the_class_of_the_clean_one(model: oi.Model) -> None:
    classes = nets.forward(X)["logits"].argmax(axis=1)
    assert (nets.forward(10 * X)["logits"].argmax(axis=1) != classes).any()
    scaled = call("hirescam", model, X, scales=[10.0, 0.5])
    expected = np.mean([call("hirescam", model, s * X, target=classes).values for s in np.float32([10, 0.5])], axis=0)
    np.testing.assert_allclose(scaled.values, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(scaled.scores, nets.forward(X)["logits"].max(axis=1), rtol=1e-5)
    assert scaled.params["scales"] == [10.0, 0.5]


@pytest.mark.parametrize("fuse", ["mean", "max"])
@pytest.mark.parametrize("name", ["gradcam", "eigencam", "ablationcam", "scorecam"])
def test_layers_are_fused_at_the_largest_size(name: str, fuse: str, model: oi.Model) -> None:
    fine, coarse = (call(name, model, X, target=TARGET, layer=one).values for one in (EARLY, LAST))
    coarse = np.stack([image.resize(m, (12, 12), "linear") for m in coarse])
    fused = call(name, model, X, target=TARGET, layer=[EARLY, LAST], fuse=fuse)
    np.testing.assert_allclose(fused.values, getattr(np, fuse)([fine, coarse], axis=0), atol=1e-5 * fine.max())
    assert fused.layer == f"{EARLY}, {LAST}"


def test_gradcam_of_pytorch_grad_cam(model: oi.Model) -> None:
    """Scaled, resized, fused and scaled again; captum's has no ReLU."""

    def scaled(one: np.ndarray) -> np.ndarray:
        return (one - one.min()) / (one.max() - one.min() + 1e-7)

    raw = [call("gradcam", model, X, target=TARGET, layer=one).values for one in (EARLY, LAST)]
    for fuse in ("mean", "max"):
        fused = [
            getattr(np, fuse)([image.resize(scaled(m[n]), (12, 12), "linear") for m in raw], axis=0) for n in range(3)
        ]
        both = call("gradcam", model, X, target=TARGET, layer=[EARLY, LAST], preset="pgc", fuse=fuse)
        np.testing.assert_allclose(both.values, [scaled(m) for m in fused], atol=1e-5)
    signed = call("gradcam", model, X, target=TARGET, layer=EARLY, signed=True)
    for preset in ("captum", "pgc"):
        same = call("gradcam", model, X, target=TARGET, layer=EARLY, preset=preset, signed=preset == "pgc")
        np.testing.assert_array_equal(same.values, signed.values)
        assert same.signed


def test_maps_of_turned_pictures_are_refused() -> None:
    proto = nets.classifier()
    proto.graph.node[0].input[0] = "turned"
    proto.graph.node.insert(0, helper.make_node("Transpose", ["image"], ["turned"], perm=[0, 1, 3, 2]))
    with pytest.raises(LayerError, match="another order"):
        call("gradcam", proto, X)


def test_noise_stays_within_the_bytes() -> None:
    """Noisy bytes are cut off at 0 and 255: they do not begin again at the other end."""
    proto = nets.classifier()
    proto.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    proto.graph.node.insert(0, helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT))
    proto.graph.node[1].input[0] = "floats"
    x = np.repeat(np.array([0, 255], np.uint8), 216).reshape(1, 3, 12, 12)
    noises = [rng.standard_normal((3, 12, 12)) for rng in draws(0, np.arange(4))]
    copies = np.rint(x + 0.15 * 255 * np.array(noises)).clip(0, 255).astype(np.float32)
    clean = oi.load(nets.classifier())
    g = oi.saliency(clean, copies, TARGET, wrt=EARLY, signed=True, engine=ENGINE).values.astype(np.float64)
    A, (g1, g2, g3) = nets.forward(x)["r1"][0], ((g**power).mean(axis=0) for power in (1, 2, 3))
    a = g2 / (2 * g2 + A.sum(axis=(1, 2), keepdims=True) * g3 + 1e-6)
    expected = relu(np.einsum("k,khw->hw", (a * relu(g1)).sum(axis=(1, 2)), A))
    result = call("smooth_gradcam_plusplus", proto, x, target=TARGET, layer=EARLY, samples=4)
    np.testing.assert_allclose(result.values[0], expected, rtol=1e-3, atol=1e-4 * expected.max())


def test_resizing() -> None:
    m = np.random.default_rng(0).normal(size=(2, 5, 7)).astype(np.float32)
    for size in [(13, 9), (3, 20), (5, 7)]:
        np.testing.assert_allclose(
            resized(m, size), [image.resize(one, size, "linear") for one in m], atol=1e-5 * np.abs(m).max()
        )
    square = m[:, :, :5]
    np.testing.assert_allclose(
        resized(square, (12, 12), "corners"), [stretched(one, 12, True) for one in square], atol=1e-6
    )
    np.testing.assert_array_equal(resized(m, (10, 21), "nearest"), m.repeat(2, axis=1).repeat(3, axis=2))
    np.testing.assert_array_equal(resized(m[:, :1, :1], (3, 3), "corners"), np.broadcast_to(m[:, :1, :1], (2, 3, 3)))


# Other shapes.


def small(axes: int, last: bool = False) -> onnx.ModelProto:
    """Convolution, Relu, mean and a dense layer over sequences, pictures or volumes; channels of all maps may be last."""
    rng = np.random.default_rng(1)
    weights = {"w": rng.normal(size=(4, 2, *[3] * axes)), "d": rng.normal(size=(4, 3)), "b": rng.normal(size=3)}
    there, back = [0, axes + 1, *range(1, axes + 1)], [0, *range(2, axes + 2), 1]
    n = helper.make_node
    nodes = [
        n("Transpose" if last else "Identity", ["x"], ["first"], name="/there", **({"perm": there} if last else {})),
        n("Conv", ["first", "w"], ["c"], name="/conv/Conv", pads=[1] * 2 * axes),
        n("Transpose" if last else "Identity", ["c"], ["l"], name="/back", **({"perm": back} if last else {})),
        n("Relu", ["l"], ["a"], name="/relu/Relu"),
        n("ReduceMean", ["a"], ["f"], name="/pool/Pool", axes=[i + (not last) for i in range(1, axes + 1)], keepdims=0),
        n("Gemm", ["f", "d", "b"], ["y"], name="/head/Gemm"),
    ]
    sizes = ["N", *[6] * axes, 2] if last else ["N", 2, *[6] * axes]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, sizes)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(v.astype(np.float32), k) for k, v in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("axes", [1, 2])
@pytest.mark.parametrize("name", [*CAMS, "fullgrad", "guided_gradcam"])
def test_channels_may_be_last(name: str, axes: int) -> None:
    x = np.random.default_rng(2).normal(size=(2, 2, *[6] * axes)).astype(np.float32)
    options = {} if name == "fullgrad" else {"layer": "relu"}
    first = call(name, small(axes), x, target=1, **options).values
    last = call(name, small(axes, last=True), np.moveaxis(x, 1, -1).copy(), target=1, **options).values
    last = np.moveaxis(last, -1, 1) if name == "guided_gradcam" else last
    np.testing.assert_allclose(last, first, atol=1e-5 * np.abs(first).max())


@pytest.mark.parametrize("axes", [1, 3])
@pytest.mark.parametrize("name", CAMS)
def test_sequences_and_volumes_have_maps_too(name: str, axes: int) -> None:
    net = oi.load(small(axes))
    x = np.random.default_rng(2).normal(size=(2, 2, *[6] * axes)).astype(np.float32)
    result = call(name, net, x, target=1, layer="relu", flips=name == "gradcam")
    assert result.values.shape == (2, *[6] * axes)
    if name == "hirescam":
        A = ENGINE.run(oi.expose(net, ["a"]), {"x": x}, ["a"])["a"]
        w = numpy_helper.to_array(small(axes).graph.initializer[1])[:, 1]
        expected = np.einsum("k,nk...->n...", w, A) / 6**axes
        np.testing.assert_allclose(result.values, relu(expected), atol=1e-6)


def grey(axis: bool) -> onnx.ModelProto:
    """The classifier of pictures in grey, with or without an axis for their channel."""
    proto = nets.classifier()
    proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(nets.weights()["w1"][:, :1].copy(), "w1"))
    sizes = ["N", 1, 12, 12] if axis else ["N", 12, 12]
    proto.graph.input[0].CopyFrom(helper.make_tensor_value_info("image", TensorProto.FLOAT, sizes))
    if not axis:
        proto.graph.node[0].input[0] = "channel"
        proto.graph.node.insert(0, helper.make_node("Unsqueeze", ["image", "one"], ["channel"]))
        proto.graph.initializer.append(numpy_helper.from_array(np.array([1]), "one"))
    return proto


@pytest.mark.parametrize("name", [*CAMS, "guided_gradcam", "fullgrad"])
def test_grey_pictures_need_no_axis_of_channels(name: str) -> None:
    how = dict(color="GREY", mean=(0.0,), std=(1.0,))
    flat, deep = Preprocessing((12, 12), layout="NHW", **how), Preprocessing((12, 12), layout="NCHW", **how)  # type: ignore[arg-type]
    found = call(name, grey(False), X[:, 0], target=TARGET, preprocessing=flat)
    expected = call(name, grey(True), X[:, :1], target=TARGET, preprocessing=deep)
    np.testing.assert_allclose(found.heat, expected.heat, atol=1e-5 * np.abs(expected.heat).max())


@pytest.mark.parametrize(("options", "said"), [({"layer": "head"}, "not a map"), ({"layer": []}, "no layer")], ids=str)
def test_what_is_no_map_is_refused(options: dict[str, Any], said: str, model: oi.Model) -> None:
    for name in (*CAMS, "guided_gradcam"):
        with pytest.raises(LayerError, match=said):
            call(name, model, X, **options)


def test_what_cannot_be_mirrored_or_scaled_is_refused() -> None:
    proto = small(2)
    proto.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    proto.graph.node.insert(0, helper.make_node("Cast", ["x"], ["xf"], name="/cast/Cast", to=TensorProto.FLOAT))
    proto.graph.node[1].input[0] = "xf"
    x = np.random.default_rng(0).integers(0, 255, (1, 2, 6, 6)).astype(np.uint8)
    with pytest.raises(InputError, match="cannot be scaled"):
        call("gradcam", proto, x, scales=[0.9])
    assert call("gradcam", proto, x, flips=True).values.shape == (1, 6, 6)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("gradcam", {"preset": "zennit"}),
        ("gradcam", {"fuse": "min"}),
        ("gradcam_plusplus", {"variant": "captum"}),
        ("smooth_gradcam_plusplus", {"samples": 0}),
        ("scorecam", {"preset": "captum"}),
        ("guided_gradcam", {"preset": "pgc"}),
        ("fullgrad", {"rescale": "all"}),
    ],
    ids=str,
)
def test_unknown_conventions_are_refused(name: str, options: dict[str, Any], model: oi.Model) -> None:
    with pytest.raises(InputError):
        call(name, model, X, **options)


# FullGrad and Guided Grad-CAM.


def with_biases(final: str = "") -> onnx.ModelProto:
    """Biases of every kind: constants added and subtracted, convolutions, batch normalisation, dense layers."""
    rng = np.random.default_rng(5)
    shapes = {
        "mean": (3, 1, 1), "w1": (4, 3, 3, 3), "gamma": (4,), "beta": (4,), "mu": (4,), "var": (4,), "w2": (5, 4, 3, 3),
        "b2": (5,), "offset": (1, 5, 1, 1), "d1": (5, 6), "e1": (6,), "d2": (6, 3), "e2": (3,), "top": (3,),
    }  # fmt: skip
    weights = {k: rng.normal(0, 0.5, v).astype(np.float32) for k, v in shapes.items()}
    weights["var"] = np.abs(weights["var"]) + 0.5
    n = helper.make_node
    nodes = [
        n("Sub", ["x", "mean"], ["x0"]),
        n("Conv", ["x0", "w1"], ["c1"], pads=[1, 1, 1, 1]),
        n("BatchNormalization", ["c1", "gamma", "beta", "mu", "var"], ["n1"], epsilon=0.01),
        n("Relu", ["n1"], ["r1"]),
        n("Conv", ["r1", "w2", "b2"], ["c2"], strides=[2, 2], pads=[1, 1, 1, 1]),
        n("Add", ["offset", "c2"], ["o2"]),
        n(final or "Relu", ["o2"], ["r2"]),
        n("GlobalAveragePool", ["r2"], ["p"]),
        n("Flatten", ["p"], ["f"]),
        n("MatMul", ["f", "d1"], ["m"]),
        n("Add", ["m", "e1"], ["h"]),
        n("Relu", ["h"], ["r3"]),
        n("Gemm", ["r3", "d2", "e2"], ["g"], beta=0.5),
        n("Sub", ["top", "g"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "biases",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(v, k) for k, v in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_full_gradients_add_up_to_the_score() -> None:
    """The paper's law, exact where everything is linear or a rectifier."""
    x = nets.images(2, size=8)
    for target in range(3):
        job = Job(with_biases(), x, target, engine=ENGINE)
        terms = list(full_gradients(job))
        sums = [sum(float(t.sum()) for i, _, t in terms if i == n) for n in range(2)]
        result = call("fullgrad", with_biases(), x, target=target)
        np.testing.assert_allclose(sums, result.scores, rtol=1e-5)
        np.testing.assert_allclose(result.measures["delta"], 0, atol=1e-5)
        assert len(terms) == 2 * 8
    bent = call("fullgrad", with_biases("Sigmoid"), x, target=1)
    assert np.abs(bent.measures["delta"]).min() > 1e-2
    assert any("(delta)" in note for note in bent.notes)


@pytest.mark.parametrize("rescale", ["layer", "channel", "none"])
def test_fullgrad_is_its_formula(rescale: str, model: oi.Model) -> None:
    """x dS/dx and b dS/dy at both convolutions, with gradients by hand."""
    found, w = nets.forward(X), {k: v.astype(np.float64) for k, v in nets.weights().items()}
    dc2 = w["w3"][:, TARGET][:, None, None] / 36 * (found["c2"] > 0)
    dc1 = early(X)[1] * (found["c1"] > 0)
    dx = np.zeros((3, 3, 14, 14))
    for i in range(3):
        for j in range(3):
            dx[:, :, i : i + 12, j : j + 12] += np.einsum("noyx,oc->ncyx", dc1, w["w1"][:, :, i, j])
    terms = [X * dx[:, :, 1:13, 1:13], w["b1"][:, None, None] * dc1, w["b2"][:, None, None] * dc2]
    expected = np.zeros((3, 12, 12))
    for term in terms:
        for n in range(3):
            size = np.abs(term[n])
            if rescale == "layer":
                size = (size - size.min()) / (size - size.min()).max()
            if rescale == "channel":
                size = np.stack([(c - c.min()) / (c - c.min()).max() for c in size])
            expected[n] += sum(stretched(c, 12, corners=False) for c in size)
    result = call("fullgrad", model, X, target=TARGET, rescale=rescale)
    np.testing.assert_allclose(result.values, expected, rtol=1e-3, atol=1e-4 * expected.max())


@pytest.mark.parametrize("preset", ["", "captum"])
def test_guided_gradcam_is_a_product(preset: str, model: oi.Model) -> None:
    coarse = call("gradcam", model, X, target=TARGET).values
    guided = oi.guided_backprop(model, X, target=TARGET, preset=preset, engine=ENGINE).values
    if preset == "captum":
        fine = coarse.repeat(2, axis=1).repeat(2, axis=2)
    else:
        fine = np.stack([image.resize(m, (12, 12), "linear") for m in coarse])
    result = call("guided_gradcam", model, X, target=TARGET, preset=preset)
    assert result.values.any()
    np.testing.assert_allclose(result.values, guided * fine[:, None], atol=1e-6)
    np.testing.assert_array_equal(result.tensors["image"], result.values)
