"""Variants made in the graph, against NumPy in float64; and methods that use them, against those that do not."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnx_inspect as oi
from onnx_inspect.engine import Engine
from onnx_inspect.errors import LayerError
from onnx_inspect.expand import (
    CELLS,
    FILLING,
    GROW,
    PICTURE,
    PLACE,
    SQUARES,
    START,
    SUM,
    WAY,
    WEIGHT,
    masked,
    on_lines,
    summed,
)
from onnx_inspect.methods import lines, noise, sums
from onnx_inspect.methods.cam_common import resized
from onnx_inspect.methods.job import Job
from onnx_inspect.methods.runs import SCORE

from . import nets

ENGINE = Engine("cpu", threads=1, batch=4)  # so that runs end in the middle of what is summed up
X = nets.images(2)
RNG = np.random.default_rng(3)
Array = np.ndarray[Any, Any]


def model(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, tuple[list[Any], int]],
    outputs: dict[str, list[Any]],
    **arrays: Array,
) -> oi.Model:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, kind, shape) for name, (shape, kind) in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(v, k) for k, v in arrays.items()],
    )
    return oi.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


def seen(shape: list[Any], kind: int = TensorProto.FLOAT) -> oi.Model:
    """A model whose output is its input, as floats."""
    cast = helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)
    return model([cast], {"x": (shape, kind)}, {"y": shape})


def one(*shape: int, high: float = 1.0) -> Array:
    return RNG.uniform(0, high, (1, *shape)).astype(np.float32)


# Masks.


def given(x: Array, cells: Array, *grow: Array, **more: Array) -> dict[str, Array]:
    """Feeds of a masked model; how cells grow is (masks or 1, cells, pixels) along each axis."""
    ways = {f"{GROW}{n}": g.reshape(len(g), *[1] * (len(grow) - 1), *g.shape[1:]) for n, g in enumerate(grow)}
    floats = {k: v.astype(np.float32) for k, v in {CELLS: cells, **ways, **more}.items()}
    return {PICTURE: x, **floats}


def growth(cells: int, pixels: int) -> Array:
    """How bilinear cells grow to pixels, by interpolating one cell at a time."""
    at = (np.arange(pixels) + 0.5) * cells / pixels - 0.5
    return np.stack([np.interp(at, np.arange(cells), row) for row in np.eye(cells)])


@pytest.mark.parametrize("unit", [False, True])
@pytest.mark.parametrize("filled", [False, True])
@pytest.mark.parametrize(("shape", "channels"), [((3, 8, 10), 1), ((8, 10, 3), 3), ((8, 10), None)])
def test_a_mask_is_enlarged_and_laid_over_the_picture(
    shape: tuple[int, ...], channels: int | None, filled: bool, unit: bool
) -> None:
    x, behind, cells = one(*shape), one(*shape), RNG.normal(size=(6, 3, 4)).astype(np.float32)
    cells[2] = 0.7  # constant: nothing is left of it once it is brought to 0 to 1
    down, along = growth(3, 8), growth(4, 10)
    m = np.einsum("kij,ia,jb->kab", cells.astype(np.float64), down, along)
    if unit:
        m = m - m.min(axis=(1, 2), keepdims=True)
        m = m / (m.max(axis=(1, 2), keepdims=True) + 1e-8)
    m = m if channels is None else np.expand_dims(m, channels)
    expected = x * m + behind * (1 - m) if filled else x * m
    net = masked(seen(["N", *shape]), "x", channels, unit=unit, filled=filled)
    found = ENGINE.run(net, given(x, cells, down[None], along[None], **{FILLING: behind}), apart=True)["y"]
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_masks_may_each_grow_in_a_way_of_their_own() -> None:
    x, cells = one(3, 8, 10), one(5, 2, 3)[0]
    down, along = RNG.uniform(size=(5, 2, 8)), RNG.uniform(size=(5, 3, 10))
    net = masked(seen(["N", 3, 8, 10]), "x", 1, own=True)
    found = ENGINE.run(net, given(x, cells, down, along), apart=True)["y"]
    np.testing.assert_allclose(found, x * np.einsum("kij,kia,kjb->kab", cells, down, along)[:, None], atol=2e-6)


@pytest.mark.parametrize(("shape", "sizes"), [((2, 9), (9,)), ((2, 5, 6, 7), (5, 6, 7))])
def test_signals_and_volumes_have_masks_too(shape: tuple[int, ...], sizes: tuple[int, ...]) -> None:
    x, cells = one(*shape), RNG.uniform(size=(3, *[2] * len(sizes)))
    feeds = given(x, cells, *(growth(2, n)[None] for n in sizes))
    found = ENGINE.run(masked(seen(["N", *shape]), "x", 1), feeds)["y"]
    np.testing.assert_allclose(found, x * resized(cells, sizes)[:, None], atol=1e-6)


def test_whole_numbers_are_the_nearest_ones() -> None:
    x, behind = np.full((1, 1, 1, 4), 200, np.uint8), np.full((1, 1, 1, 4), 300.2, np.float32)
    cells = np.array([[[1, 0.404, 0.002, 0]]], np.float32)
    feeds = given(x, cells, np.ones((1, 1, 1)), np.eye(4)[None], **{FILLING: behind})
    net = masked(seen(["N", 1, 1, 4], TensorProto.UINT8), "x", 1, filled=True)
    np.testing.assert_array_equal(ENGINE.run(net, feeds)["y"].ravel(), [200, 255, 255, 255])
    net = masked(seen(["N", 1, 1, 4], TensorProto.UINT8), "x", 1)
    np.testing.assert_array_equal(ENGINE.run(net, feeds)["y"].ravel(), [200, 81, 0, 0])


def test_an_input_has_to_be_one_and_its_new_names_free() -> None:
    net = seen(["N", 3, 8, 10])
    with pytest.raises(LayerError, match="'y' is no input"):
        masked(net, "y", 1)
    taken = helper.make_node("Identity", ["x"], [PICTURE])
    back = helper.make_node("Identity", [PICTURE], ["y"])
    twice = model([taken, back], {"x": (["N", 3, 8, 10], TensorProto.FLOAT)}, {"y": ["N", 3, 8, 10]})
    with pytest.raises(LayerError, match="has a tensor 'inspect/picture' already"):
        masked(twice, "x", 1)


def insisting(batch: int) -> oi.Model:
    """The classifier for a batch that cannot be freed, since a Max over it is added, though 0 times."""
    proto = nets.classifier(batch=batch)
    last = proto.graph.node[-1]
    last.output[0] = "before"
    proto.graph.node.extend(
        [
            helper.make_node("ReduceMax", ["before"], ["most"], axes=[0], keepdims=1),
            helper.make_node("Mul", ["most", "zero"], ["none"]),
            helper.make_node("Add", ["before", "none"], ["scores"]),
        ]
    )
    proto.graph.initializer.append(numpy_helper.from_array(np.float32(0), "zero"))
    return oi.load(proto)


@pytest.mark.parametrize("name", ["scorecam", "rise", "integrated_gradients", "smoothgrad"])
@pytest.mark.parametrize("batch", [1, 3])
def test_a_fixed_batch_gives_what_a_free_one_does(name: str, batch: int) -> None:
    more = {"scorecam": {"signed": True}, "integrated_gradients": {"steps": 7}}.get(name, {"samples": 10})
    net = insisting(batch)
    assert net.inputs[0].shape[0] == batch
    results = [getattr(oi, name)(m, X, 1, engine=ENGINE, **more) for m in (oi.load(nets.classifier()), net)]
    np.testing.assert_allclose(results[1].values, results[0].values, rtol=1e-5, atol=1e-7)


# Lines and sums.


def test_points_on_lines_of_several_inputs() -> None:
    shapes = {"a": (3, 4), "b": (5,)}
    nodes = [helper.make_node("Identity", [k], [f"y{k}"]) for k in shapes]
    inputs = {k: (["N", *v], TensorProto.FLOAT) for k, v in shapes.items()}
    net = on_lines(model(nodes, inputs, {f"y{k}": ["N", *v] for k, v in shapes.items()}), shapes)
    ends = {k: (one(*v), one(*v)) for k, v in shapes.items()}
    places = np.linspace(-0.5, 1.5, 6).astype(np.float32)
    feeds = {f"{end}.{k}": v[n] for k, v in ends.items() for n, end in enumerate((START, WAY))}
    found = ENGINE.run(net, feeds | {PLACE: places}, apart=True)
    for k, (start, way) in ends.items():
        expected = start + places.reshape(-1, *[1] * (start.ndim - 1)) * way
        np.testing.assert_allclose(found[f"y{k}"], expected, atol=1e-6)


def test_sums_over_variants_and_those_of_squares() -> None:
    x, w = RNG.normal(size=(4, 3, 5)).astype(np.float32), np.array([0.1, -2, 0, 3], np.float32)
    net = summed(seen(["N", 3, 5]), ["y"], squares=True)
    found = ENGINE.run(net, {"x": x, WEIGHT: w})
    assert set(found) == {f"{SUM}y", f"{SQUARES}y"}
    for name, each in ((SUM, x), (SQUARES, x.astype(np.float64) ** 2)):
        np.testing.assert_allclose(found[f"{name}y"], np.einsum("k,kij->ij", w, each)[None], rtol=1e-5, atol=1e-6)


@pytest.fixture
def on_card(monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """Sums are taken in the graph, as on a card; the jobs that asked."""
    asked: list[Job] = []
    for module in (lines, noise):
        monkeypatch.setattr(module, "in_graph", lambda job: asked.append(job) or True)
    return asked


BASELINES = RNG.normal(size=(3, 3, 12, 12)).astype(np.float32)


@pytest.mark.parametrize(
    "more",
    [
        {"steps": 9},
        {"steps": 10, "quadrature": "trapezoid", "baseline": BASELINES},
        {"steps": 6, "average": True, "through": "r1[2,3,4]"},
        {"steps": 6, "wrt": ["r1"], "baseline": "0.3"},
    ],
    ids=["plain", "baselines", "through", "layer"],
)
def test_integrated_gradients_summed_in_the_graph(more: dict[str, Any], on_card: list[Job]) -> None:
    net = oi.load(nets.classifier())
    found = oi.integrated_gradients(net, X, 1, engine=ENGINE, **more)
    assert on_card
    with pytest.MonkeyPatch.context() as host:
        host.setattr(lines, "in_graph", lambda job: False)
        expected = oi.integrated_gradients(net, X, 1, engine=ENGINE, **more)
    np.testing.assert_allclose(found.values, expected.values, rtol=1e-5, atol=1e-6 * np.abs(expected.values).max())
    assert found.notes == expected.notes
    for name, delta in expected.measures.items():
        np.testing.assert_allclose(found.measures[name], delta, atol=1e-5)


@pytest.mark.parametrize("kind", ["mean", "squared", "variance"])
def test_smoothgrad_summed_in_the_graph(kind: Any, on_card: list[Job]) -> None:
    net = oi.load(nets.classifier())
    found = oi.smoothgrad(net, X, 1, samples=9, kind=kind, engine=ENGINE)
    assert on_card
    with pytest.MonkeyPatch.context() as host:
        host.setattr(noise, "in_graph", lambda job: False)
        expected = oi.smoothgrad(net, X, 1, samples=9, kind=kind, engine=ENGINE)
    np.testing.assert_allclose(found.values, expected.values, rtol=1e-4, atol=1e-6 * np.abs(expected.values).max())


def test_samples_that_meet_are_summed_up_one_by_one() -> None:
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["most"], axes=[0], keepdims=1),  # of the whole batch
        helper.make_node("Mul", ["x", "most"], ["scores"]),
    ]
    net = model(nodes, {"x": (["N", 4], TensorProto.FLOAT)}, {"scores": ["N", 4]})
    x = RNG.uniform(1, 2, (1, 4)).astype(np.float32)
    job, weights = Job(net, x, 2, engine=ENGINE), np.array([0.5, 0.25, 1.0])
    points = np.array([[1.0], [0.3], [0.6]], np.float32) * x
    found = sums.Summed(job, ["x"])({"x": points, WEIGHT: weights}, job.fixed[0])
    expected = np.eye(4)[[2]] * (2 * points[:, 2] * weights).sum()  # each alone is its own largest: (x²)' = 2 x
    np.testing.assert_allclose(found["x"], expected[0], rtol=1e-6)
    np.testing.assert_allclose(found[SCORE], points[:, 2] ** 2, rtol=1e-6)


def test_sums_are_taken_in_the_graph_on_cards_only() -> None:
    job = Job(oi.load(nets.classifier()), X, 1, engine=ENGINE)
    assert not sums.in_graph(job)
    job.engine = SimpleNamespace(provider="CUDAExecutionProvider")  # type: ignore[assignment]
    assert sums.in_graph(job)
    job.input = replace(job.input, shape=(3, *job.input.shape[1:]))  # a run has to be filled up with copies
    assert not sums.in_graph(job)
