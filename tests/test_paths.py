"""Integrated, expected and SHAP gradients: literal sums in float64, closed forms, and the axioms."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from onnx import TensorProto, helper, numpy_helper

import onnx_inspect as oi
from onnx_inspect.engine import Engine
from onnx_inspect.errors import InputError
from onnx_inspect.methods.baselines import absent
from onnx_inspect.methods.job import Job, draws
from onnx_inspect.methods.lines import nodes

from . import nets
from .test_backprop import RECTIFIERS, adjoint, backward, close

ENGINE = Engine("cpu", threads=1, batch=7)  # so that runs end in the middle of a line
X = nets.images(2)
ROWS = np.random.default_rng(5).normal(size=(2, 3, 12, 12)).astype(np.float32)
QUADRATURES = {
    "left": lambda n: (np.arange(n) / n, np.ones(n) / n),
    "right": lambda n: (np.arange(1, n + 1) / n, np.ones(n) / n),
    "middle": lambda n: ((2 * np.arange(n) + 1) / (2 * n), np.ones(n) / n),
    "trapezoid": lambda n: (np.arange(n) / (n - 1), np.array([0.5, *[1] * (n - 2), 0.5]) / (n - 1)),
}


@pytest.fixture(scope="module")
def model() -> oi.Model:
    return oi.load(nets.classifier())


def score(x: np.ndarray, target: int = 1) -> np.ndarray:
    return nets.forward(x)["logits"][:, target]


def integral(quadrature: str, steps: int, start: np.ndarray | float, tensor: str = "image") -> np.ndarray:
    """The weighted sum of gradients on the line from `start`."""
    x = X.astype(np.float64)
    places = zip(*QUADRATURES[quadrature](steps), strict=True)
    return sum(w * backward(start + a * (x - start), 1)[tensor] for a, w in places)


def ig(model: oi.Model, x: Any = X, target: Any = 1, **more: Any) -> oi.Attribution:
    return oi.integrated_gradients(model, x, target=target, engine=ENGINE, **more)


# Quadratures.


@pytest.mark.parametrize("steps", [2, 3, 10])
@pytest.mark.parametrize("quadrature", sorted(QUADRATURES))
def test_quadratures_are_their_sums(quadrature: Any, steps: int) -> None:
    for found, expected in zip(nodes(quadrature, steps), QUADRATURES[quadrature](steps), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-15)


@pytest.mark.parametrize("steps", [1, 2, 5, 20])
def test_gauss_legendre_is_exact_for_polynomials(steps: int) -> None:
    at, weights = nodes("gausslegendre", steps)
    for degree in range(2 * steps):
        np.testing.assert_allclose((weights * at**degree).sum(), 1 / (degree + 1), rtol=1e-12)
    assert abs((weights * at ** (2 * steps)).sum() * (2 * steps + 1) - 1) > 1e-14


def test_the_trapezoid_of_captum_sums_up_to_less_than_one() -> None:
    assert nodes("trapezoid", 10)[1].sum() == pytest.approx(1)
    assert nodes("trapezoid", 10, captum=True)[1].sum() == pytest.approx(0.9)


@pytest.mark.parametrize("options", [{"quadrature": "trapezoid", "steps": 1}, {"steps": -3}])
def test_too_few_steps_are_refused(model: oi.Model, options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="steps"):
        ig(model, **options)


# Integrated gradients.


@pytest.mark.parametrize("quadrature", sorted(QUADRATURES))
def test_integrated_gradients_are_their_sum(quadrature: Any, model: oi.Model) -> None:
    result = ig(model, quadrature=quadrature, steps=5, baseline=0.25)
    close(result.values, (X - 0.25) * integral(quadrature, 5, 0.25))
    average = ig(model, quadrature=quadrature, steps=5, baseline=0.25, average=True)
    close(average.values, integral(quadrature, 5, 0.25))
    assert average.measures == {}
    missed = result.values.sum(axis=(1, 2, 3)) - (score(X) - score(np.full_like(X, 0.25)))
    np.testing.assert_allclose(result.measures["delta"], missed, atol=1e-5)


def test_zennit_goes_by_the_right_in_20_steps(model: oi.Model) -> None:
    result = ig(model, preset="zennit")
    close(result.values, X * integral("right", 20, 0.0))
    assert (result.params["steps"], result.params["quadrature"]) == (20, "right")


def test_they_are_complete(model: oi.Model) -> None:
    whole = score(X) - score(np.zeros_like(X))
    few, many = (np.abs(ig(model, steps=n).measures["delta"] / whole).max() for n in (4, 400))
    assert many < 2e-3 < few


def test_several_baselines_are_meaned(model: oi.Model) -> None:
    together = ig(model, baseline=ROWS, steps=6)
    alone = [ig(model, baseline=row, steps=6) for row in ROWS]  # an array without samples is one baseline
    close(together.values, np.mean([a.values for a in alone], axis=0))
    np.testing.assert_allclose(
        together.measures["delta"], np.mean([a.measures["delta"] for a in alone], axis=0), atol=1e-5
    )
    assert not np.allclose(alone[0].values, alone[1].values, atol=1e-3)


def gemm(weights: np.ndarray, nodes: list[onnx.NodeProto], **more: np.ndarray) -> oi.Model:
    graph = helper.make_graph(
        nodes,
        "same",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])],
        [numpy_helper.from_array(v, k) for k, v in {"w": weights, **more}.items()],
    )
    return oi.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


W = np.random.default_rng(1).normal(size=(6, 4)).astype(np.float32)
V = np.random.default_rng(2).normal(size=(3, 6)).astype(np.float32)


@pytest.mark.parametrize("quadrature", ["gausslegendre", "left", "right", "middle"])
def test_one_step_is_exact_for_linear_models(quadrature: Any) -> None:
    linear = gemm(W, [helper.make_node("Gemm", ["x", "w"], ["y"])])
    result = ig(linear, V, steps=1, quadrature=quadrature, baseline=0.5)
    close(result.values, (V - 0.5) * W[:, 1])
    np.testing.assert_allclose(result.measures["delta"], 0, atol=1e-5)


def test_the_same_function_gets_the_same_values() -> None:
    n = helper.make_node
    one = gemm(W, [n("Gemm", ["x", "w", "b"], ["h"]), n("Tanh", ["h"], ["y"])], b=W[0])
    other = [n("MatMul", ["x", "w"], ["m"]), n("Add", ["m", "b"], ["a"]), n("Mul", ["a", "half"], ["p"])]
    other += [n("Mul", ["a", "half"], ["q"]), n("Add", ["p", "q"], ["h"]), n("Tanh", ["h"], ["y"])]
    two = gemm(W, other, b=W[0], half=np.float32(0.5))
    close(ig(one, V).values, ig(two, V).values)


# Layers and units.


def test_the_line_in_a_layer(model: oi.Model) -> None:
    """captum's LayerIntegratedGradients: between A(x') and A(x), whatever leads there."""
    w, end, start = nets.weights(), nets.forward(X), nets.forward(np.zeros_like(X))
    total = np.zeros_like(end["r1"])
    for alpha, weight in zip(*QUADRATURES["middle"](6), strict=True):
        r1 = start["r1"] + alpha * (end["r1"] - start["r1"])
        c2 = forward_from(r1)
        a = np.broadcast_to(w["w3"][:, 1][None, :, None, None] / 36, c2.shape)
        total += weight * adjoint(RECTIFIERS["gradient"](a, c2), w["w2"], 2, 12)
    result = ig(model, wrt=["r1"], quadrature="middle", steps=6)
    close(result.values, (end["r1"] - start["r1"]) * total)
    missed = result.values.sum(axis=(1, 2, 3)) - (score(X) - score(np.zeros_like(X)))
    np.testing.assert_allclose(result.measures["delta"], missed, atol=1e-5)


def forward_from(r1: np.ndarray) -> np.ndarray:
    """The second convolution."""
    w = nets.weights()
    windows = sliding_window_view(np.pad(r1, ((0, 0), (0, 0), (1, 1), (1, 1))), (3, 3), axis=(2, 3))[:, :, ::2, ::2]
    return np.einsum("nchwij,ocij->nohw", windows, w["w2"].astype(np.float64)) + w["b2"][:, None, None]


def test_conductance_is_its_sum(model: oi.Model) -> None:
    """Gradients at n points, times the steps of the layer to the next: captum's LayerConductance."""
    points = [a * X.astype(np.float64) for a in QUADRATURES["trapezoid"](6)[0]]
    layers, gradients = [nets.forward(p)["r1"] for p in points], [backward(p, 1)["r1"] for p in points]
    expected = sum(g * (after - A) for g, A, after in zip(gradients[:-1], layers[:-1], layers[1:], strict=True))
    result = ig(model, wrt=["r1"], along="input", quadrature="trapezoid", steps=5)
    close(result.values, expected)
    twice = ig(model, wrt=["r1"], along="input", quadrature="trapezoid", steps=5, baseline=np.zeros_like(ROWS))
    close(twice.values, expected)


def test_conductance_sums_up_to_the_difference_of_the_scores(model: oi.Model) -> None:
    for tensor in ("c1", "r1", "c2", "p"):
        result = ig(model, wrt=[tensor], along="input", steps=400)
        whole = score(X) - score(np.zeros_like(X))
        np.testing.assert_allclose(result.values.reshape(2, -1).sum(axis=1), whole, rtol=0.02)


def test_influence_is_the_mean_gradient_of_a_layer(model: oi.Model) -> None:
    result = ig(model, wrt=["r1"], along="input", average=True, quadrature="left", steps=5)
    close(result.values, integral("left", 5, 0.0, "r1"))


def test_a_unit_explained_and_one_passed(model: oi.Model) -> None:
    unit = ig(model, target="c2[2,3,3]", quadrature="right", steps=1).values  # linear up to c1, so not to c2
    gradient = oi.saliency(model, X, target="c2[2,3,3]", signed=True, engine=ENGINE).values
    close(unit, X * gradient)
    slices = [ig(model, through=f"r1[{part},:,:]", steps=5) for part in ("0:2", "2:5")]
    close(slices[0].values + slices[1].values, ig(model, steps=5).values)
    assert slices[0].measures == {}


# Inputs of several kinds.


def test_two_inputs_move_together() -> None:
    model = oi.load(nets.classifier(extra_input=True))
    offset = np.random.default_rng(6).normal(size=(2, 4)).astype(np.float32)
    x = {"image": X, "offset": offset}
    result = ig(model, x, quadrature="right", steps=5, baseline={"image": ROWS[:1], "offset": np.full((1, 4), 0.5)})
    close(result.tensors["image"], (X - ROWS[:1]) * integral("right", 5, ROWS[:1].astype(np.float64)))
    close(result.tensors["offset"], (offset - 0.5) * np.eye(4)[1])
    both = score(X) + offset[:, 1] - score(ROWS[:1]) - 0.5
    total = sum(v.reshape(2, -1).sum(axis=1) for v in result.tensors.values())
    np.testing.assert_allclose(result.measures["delta"], total - both, atol=1e-5)
    one = ig(model, x, wrt=["offset"], steps=1)  # the image stays
    assert list(one.tensors) == ["offset"]
    np.testing.assert_allclose(one.measures["delta"], 0, atol=1e-5)


def embedding() -> oi.Model:
    """Words to vectors to a Tanh to two classes."""
    n = helper.make_node
    words = [n("Gather", ["table", "ids"], ["vectors"]), n("Tanh", ["vectors"], ["h"]), n("Flatten", ["h"], ["f"])]
    graph = helper.make_graph(
        [*words, n("MatMul", ["f", "w"], ["y"])],
        "words",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["N", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])],
        [numpy_helper.from_array(v, k) for k, v in {"table": V, "w": np.concatenate([W, W[::-1]])}.items()],
    )
    return oi.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


def test_words_are_attributed_to_by_their_embedding() -> None:
    """Each number of a vector is on its own here: the integral is that of tanh', and known."""
    ids = np.array([[1, 2], [2, 1]])
    result = ig(embedding(), ids, wrt=["vectors"], baseline={"ids": np.zeros((1, 2), np.int64)})
    w = np.concatenate([W, W[::-1]])[:, 1].reshape(2, 6)
    close(result.values, (np.tanh(V[ids]) - np.tanh(V[0])) * w)
    np.testing.assert_allclose(result.measures["delta"], 0, atol=1e-5)
    close(ig(embedding(), ids, wrt=["vectors"]).values, result.values)  # by default, too, the word 0 says nothing


def test_whole_numbers_are_floats_to_a_model_of_floats(model: oi.Model) -> None:
    whole = (X * 4).astype(np.int64)
    close(ig(model, whole, steps=4).values, ig(model, whole.astype(np.float32), steps=4).values)


def test_the_baseline_of_what_does_not_move_is_not_asked_for() -> None:
    """The offset has no positions to blur, and stays."""
    model = oi.load(nets.classifier(extra_input=True))
    x = {"image": X, "offset": np.ones((2, 4), np.float32)}
    result = ig(model, x, wrt=["image"], baseline="blur", steps=3)
    alone = ig(oi.load(nets.classifier()), X, baseline="blur", steps=3)
    close(result.values, alone.values)


def test_a_baseline_of_noise_does_not_depend_on_the_layout(model: oi.Model) -> None:
    last = oi.load(nets.classifier(nhwc=True))
    first = ig(model, X, baseline="noise", steps=3)
    close(ig(last, nets.images(2, nhwc=True), baseline="noise", steps=3).heat, first.heat)


def test_half_precision_is_blurred(model: oi.Model) -> None:
    half = nets.classifier()
    half.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    half.graph.node.insert(0, helper.make_node("Cast", ["image"], ["single"], to=TensorProto.FLOAT))
    half.graph.node[1].input[0] = "single"
    blurred, expected = (
        absent(Job(m, x, engine=ENGINE), "blur")["image"] for m, x in ((half, X.astype(np.float16)), (model, X))
    )
    assert blurred.dtype == np.float16
    np.testing.assert_allclose(blurred, expected, atol=2e-3)


def test_an_input_that_all_samples_share_cannot_move() -> None:
    n = helper.make_node
    graph = helper.make_graph(
        [n("Mul", ["x", "scale"], ["s"]), n("MatMul", ["s", "w"], ["y"])],
        "shared",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 6]),
            helper.make_tensor_value_info("scale", TensorProto.FLOAT, []),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])],
        [numpy_helper.from_array(W, "w")],
    )
    shared = oi.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    with pytest.raises(InputError, match="'scale' is one for all samples"):
        ig(shared, {"x": V, "scale": np.float32(2)})
    close(ig(shared, {"x": V, "scale": np.float32(2)}, wrt=["x"]).values, 2 * V * W[:, 1])


# By chance.


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_expectations_are_their_mean(noise: float, model: oi.Model) -> None:
    expected = np.zeros((2, 3, 12, 12))
    for source in draws(4, np.arange(9)):
        x = X.astype(np.float64)
        row, alpha = ROWS[source.integers(2)], source.random()
        deviation = noise * (x.max(axis=(1, 2, 3), keepdims=True) - x.min(axis=(1, 2, 3), keepdims=True))
        x = x + deviation * source.standard_normal((1, 3, 12, 12))
        expected += (x - row) * backward(row + alpha * (x - row), 1)["image"] / 9
    if noise:
        result = oi.gradient_shap(model, X, target=1, baseline=ROWS, samples=9, noise=noise, seed=4, engine=ENGINE)
    else:
        result = oi.expected_gradients(model, X, target=1, baseline=ROWS, samples=9, seed=4, engine=ENGINE)
    close(result.values, expected)
    missed = expected.sum(axis=(1, 2, 3)) - (score(X) - score(ROWS).mean())
    np.testing.assert_allclose(result.measures["delta"], missed, atol=1e-5)


def test_the_noise_of_captum_is_absolute(model: oi.Model) -> None:
    share = dict(target=1, samples=6, engine=ENGINE)
    absolute = oi.gradient_shap(model, X[:1], noise=0.3, preset="captum", **share)
    close(absolute.values, oi.gradient_shap(model, X[:1], noise=0.3 / float(np.ptp(X[0])), **share).values)


def test_expectations_are_complete_in_the_end(model: oi.Model) -> None:
    whole = np.abs(score(X) - score(ROWS).mean())
    for options in ({}, {"wrt": ["r1"]}):
        result = oi.expected_gradients(
            model, X, target=1, baseline=ROWS, samples=1500, engine=Engine("cpu", 1), **options
        )
        assert (np.abs(result.measures["delta"]) < 0.1 * whole.max()).all(), options
    with pytest.raises(InputError, match="samples"):
        oi.gradient_shap(model, X, samples=0, engine=ENGINE)
