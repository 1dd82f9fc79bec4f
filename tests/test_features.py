"""Occlusion of any input, feature ablation, Shapley values and permutation, against literal loops in NumPy."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

import onnx_inspect as oi
from onnx_inspect import image
from onnx_inspect.cli import cli
from onnx_inspect.engine import Engine
from onnx_inspect.errors import InputError
from onnx_inspect.methods.inputs import guess_preprocessing

from . import nets

Array = np.ndarray
ENGINE = Engine("cpu", threads=1)
X = nets.images(3)
RNG = np.random.default_rng(5)
IDS = RNG.integers(0, 5, (3, 12, 12)) * 10 - 7  # any integers
CLASS = 2


@pytest.fixture(scope="module")
def model() -> oi.Model:
    return oi.load(nets.classifier(metadata=nets.NAMES))


def small(text: str, **weights: Array) -> onnx.ModelProto:
    """A model from the text of its graph."""
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')
    proto.graph.initializer.extend(numpy_helper.from_array(v.astype(np.float32), k) for k, v in weights.items())
    return proto


W = RNG.normal(size=(6, 3))
LINEAR = small("g (float[N, 6] x) => (float[N, 3] y) { y = Gemm(x, w, c) }", w=W, c=RNG.normal(size=3))
V = RNG.normal(size=(2, 6)).astype(np.float32)
PAIR = small(
    """g (float[N, 4] a, float[N, 3] b) => (float[N, 3] y)
    { p = MatMul(a, u) q = MatMul(b, v) s = Add(p, q) t = Tanh(s) y = MatMul(t, w) }""",
    u=RNG.normal(size=(4, 5)),
    v=RNG.normal(size=(3, 5)),
    w=RNG.normal(size=(5, 3)),
)
FEEDS = {"a": RNG.normal(size=(2, 4)).astype(np.float32), "b": RNG.normal(size=(2, 3)).astype(np.float32)}
SHARED = {"a": np.array([0, 1, 1, 2]), "b": np.array([3, 0, 2])}
SEQUENCE = small(
    """g (float[N, 4, 9] x) => (float[N, 3] y)
    { c = Conv <pads = [1, 1]> (x, k) r = Relu(c) m = ReduceMax <axes = [2], keepdims = 0> (r) y = MatMul(m, w) }""",
    k=RNG.normal(size=(5, 4, 3)),
    w=RNG.normal(size=(5, 3)),
)
S = RNG.normal(size=(2, 4, 9)).astype(np.float32)


def run(proto: onnx.ModelProto, **feeds: Array) -> Array:
    """The scores by onnx's own evaluator."""
    return np.asarray(ReferenceEvaluator(proto).run(None, {k: v.astype(np.float32) for k, v in feeds.items()})[0])


def score(x: Array) -> Array:
    return nets.forward(x)["logits"][:, CLASS]


def masked(x: Array, baseline: Array | float, absent: Array) -> Array:
    return np.where(absent, baseline, x.astype(np.float64))


def ablated(x: Array, ids: Array, baseline: Array | float) -> Array:
    expected = np.zeros(x.shape)
    for k in np.unique(ids):
        drop = score(x) - score(masked(x, baseline, np.broadcast_to(ids == k, x.shape)))
        expected += (ids == k) * drop.reshape(-1, 1, 1, 1)
    return expected


def by_permutations(value: Callable[[list[int]], Array], n: int, orders: list[tuple[int, ...]]) -> list[Array]:
    """The mean over orders of what each player adds."""
    found = [np.zeros_like(value([])) for _ in range(n)]
    for order in orders:
        for at, player in enumerate(order):
            found[player] = found[player] + value(list(order[: at + 1])) - value(list(order[:at]))
    return [f / len(orders) for f in found]


def game(x: Array, ids: Array, baseline: Array | float) -> Callable[[list[int]], Array]:
    """The score of a coalition of features."""
    used, known = np.unique(ids), {}

    def value(present: list[int]) -> Array:
        key = tuple(sorted(present))
        if key not in known:
            known[key] = score(masked(x, baseline, np.broadcast_to(~np.isin(ids, used[list(key)]), x.shape)))
        return known[key]

    return value


def written(numbers: list[Array], ids: Array, shape: tuple[int, ...]) -> Array:
    expected = np.zeros(shape)
    for k, number in zip(np.unique(ids), numbers, strict=True):
        expected += (ids == k) * np.asarray(number).reshape(-1, 1, 1, 1)
    return expected


# Feature ablation.


@pytest.mark.parametrize("baseline", [0.25, RNG.normal(size=(3, 12, 12)).astype(np.float32)], ids=["number", "array"])
def test_ablation_is_its_definition(model: oi.Model, baseline: Any) -> None:
    result = oi.feature_ablation(model, X, CLASS, features=IDS, baseline=baseline, engine=ENGINE)
    np.testing.assert_allclose(result.values, ablated(X, IDS, baseline), atol=1e-5)
    assert result.signed
    np.testing.assert_allclose(result.heat, result.values.sum(axis=1), atol=1e-6)


def test_maps_of_features_that_share_their_channels_are_in_units_of_the_score(model: oi.Model) -> None:
    result = oi.feature_ablation(model, X, CLASS, features="grid:3", engine=ENGINE)
    np.testing.assert_array_equal(result.heat, result.values[:, 1])
    rows = np.arange(12) // 4
    np.testing.assert_array_equal(result.extra["features"][0, 0], rows[:, None] * 3 + rows)
    np.testing.assert_allclose(result.values, ablated(X, (rows[:, None] * 3 + rows)[None], 0), atol=1e-5)


def test_features_of_several_inputs_are_shared() -> None:
    result = oi.feature_ablation(PAIR, FEEDS, 1, features=SHARED, baseline=0.5, engine=ENGINE)
    for k in range(4):
        without = {n: masked(v, 0.5, np.broadcast_to(SHARED[n] == k, v.shape)) for n, v in FEEDS.items()}
        drop = (run(PAIR, **FEEDS) - run(PAIR, **without))[:, 1]
        for n in FEEDS:
            np.testing.assert_allclose(
                result.tensors[n][:, SHARED[n] == k], drop[:, None].repeat((SHARED[n] == k).sum(), 1), atol=1e-5
            )
    alone = oi.feature_ablation(PAIR, FEEDS, 1, baseline=0.5, engine=ENGINE)  # every number by itself
    without = {**FEEDS, "b": masked(FEEDS["b"], 0.5, np.arange(3) == 2)}
    np.testing.assert_allclose(alone.tensors["b"][:, 2], (run(PAIR, **FEEDS) - run(PAIR, **without))[:, 1], atol=1e-5)
    only = oi.feature_ablation(PAIR, FEEDS, 1, features={"b": SHARED["b"]}, engine=ENGINE)
    assert list(only.tensors) == ["b"]


def test_token_ids_are_replaced_by_whole_numbers() -> None:
    net = small(
        "g (int64[N, 5] ids) => (float[N, 3] y) { e = Gather(table, ids) y = ReduceMean <axes = [1], keepdims = 0> (e) }",
        table=RNG.normal(size=(7, 3)),
    )
    ids = np.array([[1, 2, 3, 4, 5], [6, 5, 4, 3, 2]])
    result = oi.feature_ablation(net, {"ids": ids}, 1, engine=ENGINE)
    table = numpy_helper.to_array(net.graph.initializer[0])
    np.testing.assert_allclose(result.values, (table[ids] - table[0])[..., 1] / 5, atol=1e-6)
    with pytest.raises(InputError, match="whole numbers"):
        oi.feature_ablation(net, {"ids": ids}, 1, baseline=0.5, engine=ENGINE)


def test_superpixels_are_those_of_what_the_model_sees(model: oi.Model, tmp_path: Path) -> None:
    from skimage.segmentation import slic

    photo = nets.photo(tmp_path)
    result = oi.feature_ablation(model, photo, engine=ENGINE)
    how = guess_preprocessing(model)[0]
    seen = how.inverse(how.apply(image.read(photo)))
    expected = slic(seen, n_segments=50, compactness=10, start_label=0)
    np.testing.assert_array_equal(result.extra["features"][0], np.broadcast_to(expected, (3, 12, 12)))
    assert any(n.startswith("features: superpixels:50") for n in result.notes)


# Shapley.


def test_exact_shapley_values_are_the_mean_over_all_orders(model: oi.Model) -> None:
    result = oi.shapley_value_sampling(model, X, CLASS, features=IDS, baseline=0.3, exact=True, engine=ENGINE)
    numbers = by_permutations(game(X, IDS, 0.3), 5, list(itertools.permutations(range(5))))
    np.testing.assert_allclose(result.values, written(numbers, IDS, X.shape), atol=1e-5)


def test_sampled_shapley_values_are_the_mean_over_the_orders_drawn(model: oi.Model) -> None:
    result = oi.shapley_value_sampling(model, X, CLASS, features=IDS, baseline=0.3, samples=3, seed=4, engine=ENGINE)
    orders = [tuple(np.random.default_rng([4, p]).permutation(5).tolist()) for p in range(3)]
    np.testing.assert_allclose(
        result.values, written(by_permutations(game(X, IDS, 0.3), 5, orders), IDS, X.shape), atol=1e-5
    )


@pytest.mark.parametrize("exact", [False, True])
def test_shapley_values_share_out_what_there_is(model: oi.Model, exact: bool) -> None:
    result = oi.shapley_value_sampling(
        model, X, CLASS, features="grid:3", baseline=0.3, samples=2, exact=exact, engine=ENGINE
    )
    shares = [[result.values[i][result.extra["features"][i] == k][0] for k in range(9)] for i in range(3)]
    np.testing.assert_allclose(np.sum(shares, axis=1), score(X) - score(np.full_like(X, 0.3)), atol=1e-5)


def test_one_feature_gets_everything(model: oi.Model) -> None:
    for exact in (False, True):
        result = oi.shapley_value_sampling(
            model, X, CLASS, features=np.zeros((1, 1, 1), int), exact=exact, engine=ENGINE
        )
        np.testing.assert_allclose(result.values[:, 0, 0, 0], score(X) - score(np.zeros_like(X)), atol=1e-5)


# Permutation.


def test_permutation_is_its_definition(model: oi.Model) -> None:
    result = oi.permutation(model, X, CLASS, features=IDS, samples=2, seed=1, engine=ENGINE)
    expected = np.zeros(X.shape)
    for f, k in enumerate(np.unique(IDS)):
        for repetition in range(2):
            rng = np.random.default_rng([1, 2 * f + repetition])
            order = rng.permutation(3)
            while (order == np.arange(3)).all():
                order = rng.permutation(3)
            drop = score(X) - score(masked(X, X[order], np.broadcast_to(k == IDS, X.shape)))
            expected += (k == IDS) * drop.reshape(-1, 1, 1, 1) / 2
    np.testing.assert_allclose(result.values, expected, atol=1e-5)


# Occlusion of any input, as captum does it.


def slid(x: Array, value: Callable[[Array], Array], sizes: tuple[int, ...], steps: tuple[int, ...], b: float) -> Array:
    """captum's: windows over every axis, the last cut at the border, the mean over those that cover an element."""
    total, count = np.zeros(x.shape), np.zeros(x.shape[1:])
    counts = [math.ceil((n - w) / s) + 1 for n, w, s in zip(x.shape[1:], sizes, steps, strict=True)]
    for at in itertools.product(*map(range, counts)):
        where = np.zeros(x.shape[1:], bool)
        where[tuple(slice(a * s, a * s + w) for a, w, s in zip(at, sizes, steps, strict=True))] = True
        drop = value(x) - value(masked(x, b, np.broadcast_to(where, x.shape)))
        total += where * drop.reshape(-1, *[1] * (x.ndim - 1))
        count += where
    return total / count


@pytest.mark.parametrize(
    ("window", "stride", "sizes", "steps"),
    [
        ((2, 5, 4), (1, 3, 4), (2, 5, 4), (1, 3, 4)),
        (7, 5, (3, 7, 7), (1, 5, 5)),
        (9, 0, (3, 9, 9), (1, 1, 1)),
        ((3, 12, 12), 13, (3, 12, 12), (1, 1, 1)),
    ],
    ids=str,
)
def test_captum_slides_over_channels_too(model: oi.Model, window: Any, stride: Any, sizes: Any, steps: Any) -> None:
    result = oi.occlusion(model, X, CLASS, window=window, stride=stride, preset="captum", engine=ENGINE)
    np.testing.assert_allclose(result.values, slid(X, score, sizes, steps, 0.0), atol=1e-5)
    np.testing.assert_allclose(result.heat, result.values.mean(axis=1), atol=1e-6)


@pytest.mark.parametrize("preset", ["", "captum"])
def test_windows_slide_along_a_sequence(preset: Any) -> None:
    result = oi.occlusion(SEQUENCE, {"x": S}, 0, window=4, stride=3, preset=preset, engine=ENGINE)
    expected = slid(S, lambda x: run(SEQUENCE, x=x)[:, 0], (4, 4), (1, 3), 0.0)
    np.testing.assert_allclose(result.values, expected, atol=1e-5)


def test_windows_slide_over_one_vector_after_the_other() -> None:
    result = oi.occlusion(PAIR, FEEDS, 1, window=2, stride=1, baseline=0.5, engine=ENGINE)
    for name, x in FEEDS.items():
        expected = slid(x, lambda v, name=name: run(PAIR, **{**FEEDS, name: v})[:, 1], (2,), (1,), 0.5)  # type: ignore[misc]
        np.testing.assert_allclose(result.tensors[name], expected, atol=1e-5)
    alone = oi.occlusion(LINEAR, V, 1, engine=ENGINE)
    np.testing.assert_allclose(alone.values, V * W[:, 1], atol=1e-5)


def test_a_hole_is_painted_from_around_it(model: oi.Model, tmp_path: Path) -> None:
    photo = nets.photo(tmp_path)
    result = oi.occlusion(model, photo, CLASS, window=6, stride=6, baseline="inpaint", engine=ENGINE)
    how = guess_preprocessing(model)[0]
    x = how.batch([image.read(photo)])
    hole = np.zeros((12, 12), bool)
    hole[6:, :6] = True
    painted = how.apply(image.inpaint(how.inverse(x[0]), hole))[None]
    np.testing.assert_allclose(result.values[0, 8, 2], (score(x) - score(masked(x, painted, hole)))[0], atol=1e-4)
    assert not np.array_equal(painted[..., hole], x[..., hole])
    everything = oi.occlusion(model, photo, CLASS, window=12, stride=12, baseline="inpaint", engine=ENGINE)
    mean = np.rint(how.inverse(x[0]).mean(axis=(0, 1))).astype(np.uint8)
    plain = how.apply(np.broadcast_to(mean, (12, 12, 3)))[None]
    np.testing.assert_allclose(everything.values[0], (score(x) - score(plain))[0], atol=1e-4)


@pytest.mark.parametrize("baseline", ["grey", "mean", "blur", "noise", "inpaint", "local", "0.5", "photo"])
@pytest.mark.parametrize("nhwc", [False, True])
def test_every_baseline_covers(baseline: str, nhwc: bool, tmp_path: Path) -> None:
    net, x = nets.classifier(nhwc=nhwc), nets.images(2, nhwc)
    if baseline == "photo":
        baseline = str(nets.photo(tmp_path))
    result = oi.feature_ablation(net, x, CLASS, features="grid:2", baseline=baseline, engine=ENGINE)
    twin = oi.feature_ablation(nets.classifier(), X[:2], CLASS, features="grid:2", baseline=baseline, engine=ENGINE)
    if baseline != "noise":  # which is drawn in the order of the axes
        np.testing.assert_allclose(result.heat, twin.heat, atol=1e-5)
    assert all(np.ptp(h) > 0 for h in result.heat)


def test_the_local_baseline_is_the_mean_of_each_feature(model: oi.Model) -> None:
    cells = np.arange(12) // 6
    ids = cells[:, None] * 2 + cells
    means = np.zeros(X.shape)
    for k in range(4):
        means[..., ids == k] = X[..., ids == k].mean(axis=-1, keepdims=True)
    result = oi.feature_ablation(model, X, CLASS, features="grid:2", baseline="local", engine=ENGINE)
    np.testing.assert_allclose(result.values, ablated(X, ids[None], means), atol=1e-5)


def test_pixels_in_whole_numbers_are_rounded() -> None:
    net = small(
        """g (uint8[N, 3, 6, 6] image) => (float[N, 4] y)
        { c = Cast <to = 1> (image) f = Flatten(c) y = MatMul(f, w) }""",
        w=RNG.normal(size=(108, 4)) / 255,
    )
    x = RNG.integers(0, 256, (2, 3, 6, 6)).astype(np.uint8)
    weights = numpy_helper.to_array(net.graph.initializer[0])[:, 1].reshape(3, 6, 6)
    for baseline, b in (("3", 3), ("mean", np.rint(x.mean(axis=(2, 3), keepdims=True)))):
        result = oi.feature_ablation(net, x, 1, features="elements", baseline=baseline, engine=ENGINE)
        np.testing.assert_allclose(result.values, weights * (x.astype(int) - b), atol=1e-4)


# Laws.

METHODS: list[Any] = [
    pytest.param(oi.feature_ablation, {}, id="feature_ablation"),
    pytest.param(oi.shapley_value_sampling, {"samples": 2}, id="shapley_value_sampling"),
    pytest.param(oi.shapley_value_sampling, {"exact": True}, id="exact"),
    pytest.param(oi.kernel_shap, {}, id="kernel_shap"),
    pytest.param(oi.kernel_shap, {"samples": 30}, id="kernel_shap-sampled"),
    pytest.param(oi.lime, {"of": "score", "alpha": 1e-6}, id="lime"),
]
RANDOM: list[Any] = [
    *METHODS,
    pytest.param(oi.rise, {"samples": 20}, id="rise"),
    pytest.param(oi.rise, {"samples": 20, "features": "grid:3"}, id="rise-features"),
    pytest.param(oi.occlusion, {"window": 5, "stride": 4, "baseline": "noise"}, id="occlusion"),
]


@pytest.mark.parametrize(("method", "options"), METHODS)
def test_a_linear_model_is_explained_by_its_weights(method: Any, options: dict[str, Any]) -> None:
    b = np.linspace(-1, 1, 6, dtype=np.float32)
    result = method(LINEAR, V, 1, baseline=b, engine=ENGINE, **options)
    np.testing.assert_allclose(result.values, W[:, 1] * (V - b), atol=1e-4)


def gridded(method: Any, options: dict[str, Any]) -> dict[str, Any]:
    return options if method in (oi.rise, oi.occlusion) else {"features": "grid:3", **options}


@pytest.mark.parametrize(("method", "options"), RANDOM)
def test_a_batch_is_its_singles_and_runs_in_any_parts(model: oi.Model, method: Any, options: dict[str, Any]) -> None:
    options = gridded(method, options)
    together = method(model, X, CLASS, seed=3, engine=ENGINE, **options)
    again = method(model, X, CLASS, seed=3, engine=ENGINE, **options)
    assert together.values.tobytes() == again.values.tobytes()
    if options.get("baseline") != "noise":
        alone = np.concatenate([method(model, x[None], CLASS, seed=3, engine=ENGINE, **options).values for x in X])
        np.testing.assert_allclose(together.values, alone, atol=2e-5)
    parts = method(model, X, CLASS, seed=3, engine=Engine("cpu", threads=1, batch=3), **options)
    np.testing.assert_allclose(together.values, parts.values, atol=2e-5)


@pytest.mark.parametrize(("method", "options"), RANDOM)
def test_channels_last_is_a_twin(method: Any, options: dict[str, Any]) -> None:
    options = {k: v for k, v in gridded(method, options).items() if v != "noise"}
    first = method(nets.classifier(), X, CLASS, engine=ENGINE, **options)
    last = method(nets.classifier(nhwc=True), nets.images(3, True), CLASS, engine=ENGINE, **options)
    np.testing.assert_allclose(last.heat, first.heat, atol=2e-5)
    if first.values.ndim == 4:
        np.testing.assert_allclose(np.moveaxis(last.values, -1, 1), first.values, atol=2e-5)


@pytest.mark.parametrize(
    ("method", "options"), [p for p in RANDOM if p.id in ("shapley_value_sampling", "rise", "lime", "occlusion")]
)
def test_another_seed_is_another_draw(model: oi.Model, method: Any, options: dict[str, Any]) -> None:
    options = gridded(method, options)
    one, other = (method(model, X, CLASS, seed=s, engine=ENGINE, **options).values for s in (0, 1))
    assert not np.array_equal(one, other)


@pytest.mark.parametrize(("method", "options"), RANDOM)
def test_variants_are_never_all_in_memory(
    model: oi.Model, method: Any, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, sizes = Engine("cpu", threads=1, batch=4), []
    inner = engine.run

    def run(m: oi.Model, feeds: dict[str, Any], *args: Any, **more: Any) -> Any:
        """Pictures go in, or what makes them: which cells are seen."""
        sizes.append(max(map(len, feeds.values())))
        return inner(m, feeds, *args, **more)

    monkeypatch.setattr(engine, "run", run)
    counts: list[int] = []
    method(
        model, X, CLASS, engine=engine, progress=lambda name, total: counts.append(total) or counts.append,
        **gridded(method, options),
    )  # fmt: skip
    assert max(sizes) == 4
    assert counts[0] == sum(counts[1:]) > 0


def test_the_class_stays_what_it_was(model: oi.Model) -> None:
    """Without a feature another class may win; the drop is still that of the first."""
    top = oi.feature_ablation(model, X, features="grid:2", baseline=3.0, engine=ENGINE)
    classes = nets.forward(X)["logits"].argmax(axis=1).tolist()
    named = oi.feature_ablation(model, X, classes, features="grid:2", baseline=3.0, engine=ENGINE)
    np.testing.assert_allclose(top.values, named.values, atol=1e-6)


def test_an_input_that_all_samples_share_stays_as_it_is() -> None:
    net = small(
        """g (float[N, 6] x, float[2] t) => (float[N, 3] y)
        { p = MatMul(x, w) s = ReduceSum <keepdims = 0> (t) y = Mul(p, s) }""",
        w=W,
    )
    feeds = {"x": V, "t": np.array([0.5, 1.5], np.float32)}
    for x in (feeds, {**feeds, "x": V[:1]}):  # as long as there are samples, and not
        for method in (oi.occlusion, oi.feature_ablation):
            result = method(net, x, 1, engine=ENGINE)
            np.testing.assert_allclose(result.values, 2 * W[:, 1] * x["x"], atol=1e-4)
            assert any("'t' holds no entry per sample" in n for n in result.notes)


def test_whole_numbers_may_be_given_for_others() -> None:
    x = np.array([[1, 2, 3, 4, 5, 6]])
    result = oi.feature_ablation(LINEAR, x, 1, baseline=0.5, engine=ENGINE)
    np.testing.assert_allclose(result.values, W[:, 1] * (x - 0.5), atol=1e-4)


# What is refused.


@pytest.mark.parametrize(
    ("method", "options", "said"),
    [
        (oi.feature_ablation, {"features": "blobs"}, "no features 'blobs'"),
        (oi.feature_ablation, {"features": "grid:0"}, "no features 'grid:0'"),
        (oi.feature_ablation, {"features": "elements:4"}, "no features 'elements:4'"),
        (oi.feature_ablation, {"features": np.zeros((5, 5), int)}, r"shape \(5, 5\)"),
        (oi.feature_ablation, {"features": np.zeros((12, 12))}, "numbered by integers"),
        (oi.feature_ablation, {"features": {"picture": np.zeros((12, 12), int)}}, "name 'picture'"),
        (oi.feature_ablation, {"features": "missing.npy"}, "cannot be read"),
        (oi.feature_ablation, {"baseline": "sky"}, "no baseline 'sky'"),
        (oi.feature_ablation, {"features": "elements", "baseline": "local"}, "takes nothing away"),
        (oi.shapley_value_sampling, {"samples": 0}, "0 samples"),
        (oi.shapley_value_sampling, {"features": "grid:5", "exact": True}, r"25 features have 2\^25"),
        (oi.occlusion, {"preset": "captum", "window": (3, 4)}, "does not fit"),
        (oi.occlusion, {"preset": "captum", "window": (3, 4, 13)}, "does not fit"),
        (oi.occlusion, {"preset": "captum", "window": (1, 4, 4), "stride": (2, 4, 4)}, "leaves gaps"),
    ],
)
def test_what_is_refused(model: oi.Model, method: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        method(model, X, CLASS, engine=ENGINE, **options)


def test_one_sample_cannot_be_shuffled(model: oi.Model) -> None:
    with pytest.raises(InputError, match="only one"):
        oi.permutation(model, X[:1], CLASS, engine=ENGINE)
    with pytest.raises(InputError, match="needs a picture"):
        oi.feature_ablation(LINEAR, V, 1, features="superpixels:4", engine=ENGINE)


def test_features_from_a_file(model: oi.Model, tmp_path: Path) -> None:
    np.save(tmp_path / "ids.npy", IDS)
    result = oi.feature_ablation(model, X, CLASS, features=str(tmp_path / "ids.npy"), engine=ENGINE)
    np.testing.assert_allclose(result.values, ablated(X, IDS, 0), atol=1e-5)
    np.save(tmp_path / "evil.npy", np.array([{"a": 1}], object), allow_pickle=True)
    with pytest.raises(InputError, match="cannot be read"):
        oi.feature_ablation(model, X, features=str(tmp_path / "evil.npy"), engine=ENGINE)


@pytest.mark.parametrize(
    "words",
    [
        "feature_ablation --features grid:3 --baseline inpaint",
        "shapley_value_sampling --features grid:2 --exact",
        "kernel_shap --features grid:2",
        "lime --features grid:3 --samples 30 --fit lasso --alpha 0.001",
        "rise --samples 16 --cells 4",
        "occlusion --window 6 --stride 3 --baseline blur",
        "occlusion --window 6 --stride 3 --reference captum",
    ],
)
def test_on_the_command_line(words: str, tmp_path: Path) -> None:
    name, *flags = words.split()
    arguments = [name, nets.save(tmp_path), nets.photo(tmp_path), "-o", tmp_path / "out", "--device", "cpu", "--panel"]
    done = CliRunner().invoke(cli, [*map(str, arguments), *flags])
    assert done.exit_code == 0, done.output
    assert len(list((tmp_path / "out").glob("*.png"))) == 2


def test_a_picture_without_maps_is_occluded_all_the_same() -> None:
    """No layer to follow in a model of patches; the rest of the figure stands."""
    net = small(
        "g (float[N, 3, 6, 6] image) => (float[N, 4] y) { f = Flatten(image) y = MatMul(f, w) }",
        w=RNG.normal(size=(108, 4)),
    )
    x = RNG.normal(size=(1, 3, 6, 6)).astype(np.float32)
    result = oi.occlusion(net, x, 1, window=3, stride=3, baseline="0", engine=ENGINE)
    assert "activation" not in result.extra
    assert result.extra["probability"].shape == (1, 2, 2)
    assert any("no activation is followed" in n for n in result.notes)
