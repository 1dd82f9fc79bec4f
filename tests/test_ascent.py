"""Pictures as parameters and the way up: adjoints, views, scores, steps, films."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnx_inspect as oi
from onnx_inspect import film, image
from onnx_inspect.ascent import canvas, climb, octaves, styles, transform
from onnx_inspect.ascent.easel import Easel, whole
from onnx_inspect.ascent.objective import Direction, Energy, channels
from onnx_inspect.ascent.revive import reviving_rules
from onnx_inspect.engine import Engine
from onnx_inspect.errors import InputError, OutputError, TargetError
from onnx_inspect.methods.job import SCORE
from onnx_inspect.preprocess import Preprocessing

from . import nets

RNG = np.random.default_rng(5)
PLAIN = Preprocessing((12, 12), scale=1 / 255, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))


def picture(size: tuple[int, int] = (12, 12), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(20, 230, (*size, 3))


def tiny(dtype: int = TensorProto.FLOAT, colours: int = 3, nhwc: bool = False, bias: float = 0.0) -> onnx.ModelProto:
    """Conv, Relu, mean: two channels that are the scores."""
    kind = helper.tensor_dtype_to_np_dtype(dtype)
    rng = np.random.default_rng(2)
    arrays = {"w": rng.normal(0, 0.3, (2, colours, 3, 3)).astype(kind), "b": np.array([bias, bias], kind)}
    shape = ["N", 8, 8, colours] if nhwc else ["N", colours, 8, 8]
    nodes = [helper.make_node("Transpose", ["image"], ["x"], perm=[0, 3, 1, 2])] if nhwc else []
    nodes += [
        helper.make_node("Conv", ["x" if nhwc else "image", "w", "b"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", dtype, shape)],
        [helper.make_tensor_value_info("scores", dtype, ["N", 2])],
        [numpy_helper.from_array(v, k) for k, v in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def easel(model: Any = None, target: Any = 1, preprocessing: Preprocessing = PLAIN, **how: Any) -> Easel:
    given = (model if model is not None else nets.classifier()).SerializeToString()
    return Easel(oi.load(given), target, preprocessing=preprocessing, **how)


# Canvases.


@pytest.mark.parametrize("size", [(6, 8), (7, 5), (1, 4), (5, 1)])
@pytest.mark.parametrize("grey", [False, True])
def test_waves_are_the_sum_of_waves(size: tuple[int, int], grey: bool) -> None:
    made = canvas.Fourier(size, 3, deviation=1.0, grey=grey)
    z = (made.start[0] + 1j * made.start[1]).copy()
    height, width = size
    expected = np.zeros((height, width, z.shape[-1]))
    for v in range(height):
        for u in range(width // 2 + 1):
            f = np.hypot(min(v, height - v) / height, u / width)
            s = np.sqrt(height * width) / max(f, 1 / max(height, width)) / 4 / (height * width)
            twice = 1 if u == 0 or 2 * u == width else 2
            for y in range(height):
                for x in range(width):
                    wave = np.exp(2j * np.pi * (v * y / height + u * x / width))
                    expected[y, x] += twice * s * (z[v, u] * wave).real
    mixed = expected @ made.colours.T
    assert np.allclose(made.pixels(made.start), 255 / (1 + np.exp(-mixed)), rtol=0, atol=1e-9)
    if grey:
        assert np.ptp(made.pixels(made.start), axis=-1).max() < 1e-9


@pytest.mark.parametrize("size", [(6, 8), (7, 5), (9, 4)])
@pytest.mark.parametrize("grey", [False, True])
def test_gradients_go_back_through_waves(size: tuple[int, int], grey: bool) -> None:
    made = canvas.Fourier(size, 1, deviation=0.3, grey=grey)
    step, slope = RNG.normal(size=made.start.shape), RNG.normal(size=(*size, 3))
    ahead, behind = (made.pixels(made.start + e * step) for e in (1e-6, -1e-6))
    assert np.isclose(
        ((ahead - behind) / 2e-6 * slope).sum(), (made.adjoint(made.start, slope) * step).sum(), rtol=1e-6
    )


def test_the_first_picture_of_waves_is_nearly_grey_and_inside() -> None:
    first = canvas.Fourier((64, 48), 0)
    assert first.pixels(first.start).std() < 20
    assert abs(first.pixels(first.start).mean() - 127.5) < 10
    assert first.pixels(1e6 * first.start).min() >= 0
    assert first.pixels(1e6 * first.start).max() <= 255
    assert (canvas.Fourier((8, 8), 0).start == canvas.Fourier((8, 8), 0).start).all()
    assert (canvas.Fourier((8, 8), 0).start != canvas.Fourier((8, 8), 1).start).any()


# Views.


def views() -> dict[str, transform.Affine]:
    source = np.random.default_rng(4)
    return {
        "shaken": transform.Shaken((9, 12), 0.2, 40, 0.3)(source),
        "rolled": transform.Rolled((9, 12), (20, 31), 0.4)(source),
        "smaller": transform.Affine((9, 12), np.array([[2.0, 0.3, 1.2], [0.1, 1.7, -2.0]]), (5, 4)),
    }


@pytest.mark.parametrize("name", ["shaken", "rolled", "smaller"])
def test_the_adjoint_of_a_view(name: str) -> None:
    view = views()[name]
    x, y = RNG.normal(size=(9, 12, 3)), RNG.normal(size=(*view.out, 3))
    black = view.apply(np.zeros((9, 12, 3)))
    assert np.isclose(((view.apply(x) - black) * y).sum(), (x * view.adjoint(y)).sum(), rtol=1e-10)


@pytest.mark.parametrize("name", ["shaken", "rolled", "smaller"])
def test_a_view_is_bilinear(name: str) -> None:
    """Pixel by pixel: the place in the picture, and the four pixels around it."""
    source = np.random.default_rng(4)
    size, out, wrap = (9, 12), (9, 12), name == "rolled"
    if name == "shaken":
        shift = source.uniform(-0.2, 0.2, 2) * size
        angle, grown = np.deg2rad(source.uniform(-40, 40)), source.uniform(0.7, 1.3)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / grown
        matrix = np.column_stack([turn, shift])
        view = views()[name]
    elif name == "rolled":
        out = (20, 31)
        matrix = np.array([[9 / 20, 0, 3.0], [0, 12 / 31, -5.0]])
        view = transform.Affine(size, matrix, out, wrap=True)
    else:
        out = (5, 4)
        matrix = np.array([[2.0, 0.3, 1.2], [0.1, 1.7, -2.0]])
        view = views()[name]
    x = picture(size)
    seen = view.apply(x)
    for i in range(out[0]):
        for j in range(out[1]):
            y0, x0 = matrix @ [i - (out[0] - 1) / 2, j - (out[1] - 1) / 2, 1] + [(size[0] - 1) / 2, (size[1] - 1) / 2]
            expected = np.zeros(3)
            for r in (int(np.floor(y0)), int(np.floor(y0)) + 1):
                for c in (int(np.floor(x0)), int(np.floor(x0)) + 1):
                    share = (1 - abs(y0 - r)) * (1 - abs(x0 - c))
                    inside = 0 <= r < size[0] and 0 <= c < size[1]
                    colour = x[r % size[0], c % size[1]] if wrap or inside else np.full(3, 127.5)
                    expected += share * colour
            assert np.allclose(seen[i, j], expected, atol=1e-9), (i, j)


def test_a_view_that_changes_nothing() -> None:
    x = picture((9, 12))
    assert np.allclose(transform.Shaken((9, 12), 0, 0, 0)(RNG).apply(x), x, atol=1e-12)
    assert np.allclose(transform.Rolled((9, 12), (9, 12), 0)(RNG).apply(x), x, atol=1e-12)
    rolled = transform.Affine((9, 12), np.array([[1.0, 0, 2], [0, 1, -3]]), wrap=True).apply(x)
    assert np.allclose(rolled, np.roll(x, (-2, 3), (0, 1)), atol=1e-12)


# Between pictures and inputs.

WAYS = {
    "rgb": (dict(), PLAIN),
    "bgr": (dict(), Preprocessing((8, 8), color="BGR", mean=(104, 117, 123))),
    "nhwc": (dict(nhwc=True), Preprocessing((8, 8), scale=1 / 127.5, mean=(1.0,), layout="NHWC")),
    "grey": (dict(colours=1), Preprocessing((8, 8), color="GREY", scale=1 / 255, mean=(0.1,), std=(0.3,))),
    "half": (dict(dtype=TensorProto.FLOAT16), Preprocessing((8, 8), scale=1 / 255, dtype="float16")),
}


@pytest.mark.parametrize("name", WAYS)
def test_whole_pixels_become_what_preprocessing_makes_of_them(name: str) -> None:
    options, made = WAYS[name]
    at = easel(tiny(**options), preprocessing=Preprocessing(**{**vars(made), "size": (8, 8)}))
    photo = whole(picture((8, 8)))
    expected = at.preprocessing.apply(photo)
    assert at.encode(photo).dtype == expected.dtype
    assert (at.encode(photo)[0] == expected).all()


@pytest.mark.parametrize("name", WAYS)
def test_gradients_by_the_input_become_gradients_by_pixels(name: str) -> None:
    options, made = WAYS[name]
    at = easel(tiny(**options), preprocessing=Preprocessing(**{**vars(made), "size": (8, 8), "dtype": "float32"}))
    step, first = RNG.normal(size=(8, 8, 3)), picture((8, 8))
    change = at.encode(first + step).astype(np.float64) - at.encode(first)
    slope = RNG.normal(size=change.shape)
    assert np.isclose((change * slope).sum(), (at.adjoint(slope) * step).sum(), rtol=1e-3)


def score_in_numpy(pixels: np.ndarray, index: int) -> float:
    x = (pixels / 255 - [0.5, 0.4, 0.3]) / [0.2, 0.3, 0.4]
    return float(nets.forward(np.moveaxis(x, -1, 0)[None])["logits"][0, index])


def test_the_slope_of_a_class() -> None:
    at, x, step = easel(target=2), picture(), RNG.normal(size=(12, 12, 3))
    score, slope = at.slope(x)
    assert np.isclose(score, score_in_numpy(x, 2), rtol=1e-5)
    ahead, behind = (score_in_numpy(x + e * step, 2) for e in (1e-4, -1e-4))
    assert np.isclose((slope * step).sum(), (ahead - behind) / 2e-4, rtol=1e-3)


def test_inputs_that_are_no_pictures_are_refused() -> None:
    with pytest.raises(InputError, match="whole numbers have no gradient"):
        easel(tiny(), preprocessing=Preprocessing((8, 8), dtype="uint8"))
    with pytest.raises(InputError, match="'offset' besides the picture"):
        easel(nets.classifier(extra_input=True))


# Scores.


@pytest.mark.parametrize("nhwc", [False, True])
def test_directions_and_energies(nhwc: bool) -> None:
    at = easel(nets.classifier(nhwc=nhwc), preprocessing=Preprocessing((12, 12), layout="NHWC" if nhwc else "NCHW"))
    x = picture() / 100
    maps = nets.forward(np.moveaxis(x, -1, 0)[None])["a"][0]
    vector = RNG.normal(size=6)
    dot = np.tensordot(vector, maps, 1)
    cosine = dot / (np.sqrt((maps**2).sum(0)) * np.linalg.norm(vector) + 1e-12)
    layer = "a:2/x;0"
    assert channels(at.model, layer) == 6
    for target, expected in (
        (Direction(layer, np.eye(6)[4]), maps[4].mean()),
        (Direction(layer, vector), dot.mean()),
        (Direction(layer, vector, cosine=True), (dot * np.maximum(cosine, 0.1)).mean()),
        (Energy(layer), (maps**2).mean()),
    ):
        found = at.slope(x, target)[0]
        assert np.isclose(found, expected, rtol=1e-4), target
        assert np.isclose(at.look(x, target=target)[SCORE][0], found, rtol=1e-5)


def test_a_direction_has_a_gradient() -> None:
    at, step = easel(preprocessing=Preprocessing((12, 12))), RNG.normal(size=(12, 12, 3))
    x, vector = picture() / 100, RNG.normal(size=6)

    def dot(pixels: np.ndarray) -> float:
        maps = nets.forward(np.moveaxis(pixels, -1, 0)[None])["a"][0]
        return float(np.tensordot(vector, maps, 1).mean())

    slope = at.slope(x, Direction("a:2/x;0", vector))[1]
    assert np.isclose((slope * step).sum(), (dot(x + 1e-6 * step) - dot(x - 1e-6 * step)) / 2e-6, rtol=1e-3)


def test_directions_in_layers_of_double_precision() -> None:
    w, v = RNG.normal(size=(192, 5)), np.array([1.0, 0, -2, 0.5, 0])
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["image"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["scores"])],
        "double",
        [helper.make_tensor_value_info("image", TensorProto.DOUBLE, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info("scores", TensorProto.DOUBLE, ["N", 5])],
        [numpy_helper.from_array(w, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    at, x = easel(model, preprocessing=Preprocessing((8, 8), dtype="float64")), picture((8, 8))
    score, slope = at.slope(x, Direction("scores", v))
    assert np.isclose(score, np.moveaxis(x, -1, 0).ravel() @ w @ v, rtol=1e-4)
    assert np.allclose(np.moveaxis(slope, -1, 0).ravel(), w @ v, rtol=1e-4, atol=1e-6)


def test_one_compiled_model_serves_every_class_and_every_channel() -> None:
    engine = Engine("cpu", 1)
    at = easel(engine=engine)
    for k in range(4):
        at.aim(k)
        at.slope(picture())
    assert len(engine.sessions) == 1
    for k in range(6):
        at.slope(picture(), Direction("a:2/x;0", np.eye(6)[k]))
    assert len(engine.sessions) == 2


def test_directions_of_another_length_are_refused() -> None:
    with pytest.raises(TargetError, match="6 channels, the direction 5"):
        easel().slope(picture(), Direction("a:2/x;0", np.ones(5)))


def test_shut_rectifiers_are_revived() -> None:
    """Nothing comes through the Relu: the gradient is that of the convolution, where it would open."""
    at = easel(tiny(bias=-100.0), target=0, preprocessing=Preprocessing((8, 8), scale=1 / 255))
    x = picture((8, 8))
    assert not at._slope(x, None)[1].any()
    found = at.slope(x)[1]
    weight = numpy_helper.to_array(tiny().graph.initializer[0]).astype(np.float64)[0]
    expected = np.zeros((10, 10, 3))
    for i in range(8):
        for j in range(8):
            expected[i : i + 3, j : j + 3] += np.moveaxis(weight, 0, -1) / 64 / 255
    assert np.allclose(found, expected[1:-1, 1:-1], rtol=1e-4, atol=1e-9)
    falling = at.gradients(["image"], reviving_rules(), target=_Minus())
    assert not falling["gradient.image"].any()


def test_of_a_unit_only_its_own_rectifier_is_revived() -> None:
    """Everywhere else the gradient is that of what comes before the rectifier, all others as they are."""
    at, x, step = easel(nets.classifier(broken="dead")), picture(), RNG.normal(size=(12, 12, 3))
    found = at.slope(x, Direction("a:2/x;0", np.eye(6)[2]))
    assert found[0] == 0

    def before(pixels: np.ndarray) -> float:
        x = (pixels / 255 - [0.5, 0.4, 0.3]) / [0.2, 0.3, 0.4]
        return float(nets.forward(np.moveaxis(x, -1, 0)[None])["c2"][0, 2].mean())

    expected = (before(x + 1e-4 * step) - before(x - 1e-4 * step)) / 2e-4
    assert np.isclose((found[1] * step).sum(), expected, rtol=1e-3)


class _Minus(Energy):
    """Less of a channel that is shut is no reason to open it."""

    def __init__(self) -> None:
        super().__init__("r")

    def emit(self, op: Any, model: Any) -> Any:
        value = op.Neg(op.ReduceSum(op.Flatten(model.value("r"), axis=1), [1], keepdims=0))
        value.shape = onnx_shape()
        return value


def onnx_shape() -> Any:
    import onnx_ir as ir

    return ir.Shape([None])


# Steps.


def test_adam_is_adam() -> None:
    adam, m, v = climb.Adam(0.1), np.zeros(4), np.zeros(4)
    for t in range(1, 6):
        gradient = RNG.normal(size=4)
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        expected = 0.1 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        assert np.allclose(adam(gradient), expected, rtol=1e-12)


def test_normalised_steps() -> None:
    gradient = RNG.normal(size=(4, 4, 3)) * 1e-9
    assert np.isclose(np.abs(climb.Normalised(1.5)(gradient)).mean(), 1.5)
    assert (climb.Normalised(1.5)(0 * gradient) == 0).all()
    assert (climb.Normalised(2, plain=True)(gradient) == 2 * gradient).all()


def quadratic(pixels: np.ndarray) -> tuple[float, np.ndarray]:
    return float(-((pixels - 200) ** 2).sum()), -2 * (pixels - 200)


def test_a_climb_reaches_the_top() -> None:
    made = climb.climb(quadratic, canvas.Pixels(np.full((4, 5, 3), 90.0)), climb.Normalised(0.1, plain=True), 60)
    assert np.allclose(made.pixels, 200, atol=1e-3)
    assert (np.diff(made.history) > 0).all()
    assert made.history == made.totals
    assert len(made.history) == 60
    assert made.ended == ""


def test_penalties_are_subtracted() -> None:
    """-(x - 200)^2 - 3 (x - 100)^2 is largest at 125."""

    def penalty(pixels: np.ndarray) -> tuple[float, np.ndarray]:
        return float(3 * ((pixels - 100) ** 2).sum()), 6 * (pixels - 100)

    start = canvas.Pixels(np.full((2, 2, 3), 60.0))
    made = climb.climb(quadratic, start, climb.Normalised(0.1, plain=True), 80, penalties=[penalty])
    assert np.allclose(made.pixels, 125, atol=1e-3)
    assert np.isclose(made.totals[0], made.history[0] - 3 * 40**2 * 12)


def test_frames_time_and_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    said, counted = [], []

    class Counter:
        def __call__(self, n: int) -> None:
            counted.append(n)

        def say(self, text: str) -> None:
            said.append(text)

    def run(steps: int, **more: Any) -> climb.Climb:
        start = canvas.Pixels(np.full((2, 2, 3), 60.0))
        return climb.climb(quadratic, start, climb.Normalised(1), steps, progress=lambda n, total: Counter(), **more)

    made = run(7, every=3)
    assert len(made.frames) == 3
    assert (made.frames[-1] == whole(made.pixels)).all()
    assert len(counted) == 7
    assert said[0] == "ascent -2.352e+05"
    clock = iter(range(100))
    monkeypatch.setattr(climb.time, "monotonic", lambda: next(clock))
    made = run(50, seconds=4, every=100)
    assert len(made.history) == 4
    assert "4 of 50 steps" in made.ended
    assert made.ended.endswith("(--seconds)")
    assert len(made.frames) == 1
    for wrong in (dict(steps=0), dict(steps=1, seconds=-1), dict(steps=1, every=-1)):
        with pytest.raises(InputError):
            run(**wrong)


def test_progress_bars_say_what_is_reached() -> None:
    from rich.text import Text

    from onnx_inspect.commands.progress import _Counter, _new

    bar = _new()
    _Counter(bar, bar.add_task("ascent", total=2)).say("layer[3] 1.5")
    assert Text.from_markup(bar.tasks[0].description).plain == "layer[3] 1.5"


def smoothed(history: list[float], width: int = 20) -> np.ndarray:
    return np.convolve(history, np.ones(width) / width, mode="valid")


@pytest.mark.parametrize("style", ["fourier", "simonyan", "yosinski"])
def test_scores_rise_when_smoothed(style: str) -> None:
    at = easel(target=3)
    way = {
        "fourier": lambda: styles.fourier(at.size, 0, False, 0.05, 0.05, 10, 0.1),
        "simonyan": lambda: styles.simonyan(at.size, 0, False, 1.5, 0.001),
        "yosinski": lambda: styles.yosinski(at.size, 0, False, 5.0, 0.005, 0.7, 4, 20, 20),
    }[style]()
    made = climb.climb(at.slope, way.canvas, way.stride, 200, penalties=way.penalties, view=way.view, after=way.after)
    means = smoothed(made.history)
    gain = means.max() - means[0]
    assert gain > 1
    assert np.diff(means).min() > (0 if style == "simonyan" else -0.03 * gain)  # views and blurs come and go
    assert means[-1] > means[0] + 0.9 * gain


def test_yosinski_puts_out_small_pixels() -> None:
    way = styles.yosinski((10, 10), 0, False, 1, 0.5, 0, 1, 30, 0)
    x = 127.5 + RNG.normal(0, 20, (10, 10, 3))
    found = way.after(0, x, np.ones_like(x))  # type: ignore[misc]
    out = (found == 127.5).all(axis=-1)
    assert out.sum() == 30
    norms = np.linalg.norm(x - 127.5, axis=-1)
    assert norms[out].max() < norms[~out].min()
    assert np.allclose((found - 127.5)[~out], (x - 127.5)[~out] / 2)


def test_simonyan_pays_for_contrast() -> None:
    [penalty] = styles.simonyan((6, 6), 0, False, 1, 0.25).penalties
    x, step = picture((6, 6)), RNG.normal(size=(6, 6, 3))
    assert np.isclose(penalty(x)[0], 0.25 * (((x - 127.5) / 127.5) ** 2).sum())
    ahead, behind = (penalty(x + e * step)[0] for e in (1e-4, -1e-4))
    assert np.isclose((penalty(x)[1] * step).sum(), (ahead - behind) / 2e-4, rtol=1e-6)


# Octaves.


def test_sizes_of_octaves() -> None:
    assert octaves.sizes((224, 280), 3, 2.0) == [(56, 70), (112, 140), (224, 280)]
    assert octaves.sizes((40, 400), 4, 1.4) == [(40, 400)]
    assert octaves.sizes((12, 12), 4, 1.4) == [(12, 12)]


def test_detail_is_carried_on() -> None:
    """What a small photo gained is there, enlarged, before the first step on the next: no step adds more than 5."""
    photo = np.full((64, 64, 3), 100, np.uint8)
    seen = []

    def slope(pixels: np.ndarray) -> tuple[float, np.ndarray]:
        seen.append(pixels.mean())
        return 0.0, np.ones_like(pixels)

    made = octaves.climb_octaves(slope, photo, 3, count=2, scale=2.0, rate=5.0, jitter=0.3)
    assert np.allclose(seen, [100, 105, 110, 115, 120, 125])
    assert np.allclose(made.pixels, 130)
    assert [len(h) for h in made.history] == [3, 3]


# Films.


def test_films_can_be_read_again(tmp_path: Path) -> None:
    from PIL import Image

    frames = [np.full((33, 41, 3), v, np.uint8) for v in (0, 90, 200)]
    film.write(tmp_path / "a.gif", frames, rate=10)
    with Image.open(tmp_path / "a.gif") as read:
        assert read.n_frames == 3
        shades, waits = [], []
        for i in range(3):
            read.seek(i)
            shades.append(int(np.asarray(read.convert("RGB")).mean()))
            waits.append(read.info["duration"])
    assert shades == [0, 90, 200]
    assert waits == [100, 100, 2000]
    film.write(tmp_path / "a.mp4", frames, rate=10)
    assert (tmp_path / "a.mp4").read_bytes()[4:8] == b"ftyp"
    import cv2

    read = cv2.VideoCapture(str(tmp_path / "a.mp4"))
    assert read.get(cv2.CAP_PROP_FRAME_COUNT) == 3
    assert (read.get(cv2.CAP_PROP_FRAME_WIDTH), read.get(cv2.CAP_PROP_FRAME_HEIGHT)) == (40, 32)
    assert abs(float(read.read()[1].mean())) < 5
    with pytest.raises(OutputError, match="no film"):
        film.write(tmp_path / "a.avi", frames)
    with pytest.raises(OutputError, match="no frames"):
        film.write(tmp_path / "b.gif", [])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.gif", "a.mp4"]


def test_the_same_film_is_the_same_bytes() -> None:
    frames = [whole(picture((20, 20), k)) for k in range(3)]
    assert film._gif(frames, 12) == film._gif(frames, 12)
    assert io.BytesIO(film._gif(frames, 12)).read(6) == b"GIF89a"
    assert image.encode_mp4(frames, 12)[4:8] == b"ftyp"
