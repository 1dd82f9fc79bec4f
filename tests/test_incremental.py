"""Incremental occlusion against runs of the whole graph, for every place of a box, way of pasting, and place to stop."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import onnx_inspect as oi
from onnx_inspect.engine import Engine
from onnx_inspect.incremental import Boxes, Choice, Ground, Patches, Path, choose, cost, places, write
from onnx_inspect.incremental.path import candidates, changes, lie
from onnx_inspect.incremental.table import Window, Windows
from onnx_inspect.model import Model
from onnx_inspect.rewrite import expose

from . import nets
from .graphs import Row, f, i, r, run, s

ENGINE, PLAIN = Engine("cpu", 1), Engine("cpu", 1, lowering=False)
rng = np.random.default_rng(0)


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but multiply-adds costs anything, so that small networks gain, too."""
    for name in ("POINT", "MOVE", "NODE", "WEIGHT", "EDGE", "RUN"):
        monkeypatch.setattr(cost, name, 0)


# Windows, against loops over all that they read.


@pytest.mark.parametrize(
    ("n", "extent", "stride", "before", "after", "ceil"),
    [(9, 3, 1, 1, 1, False), (10, 3, 2, 1, 0, False), (11, 5, 3, 2, 1, False), (12, 3, 2, 0, 0, True),
     (13, 2, 2, 1, 1, True), (7, 1, 2, 0, 0, False), (9, 4, 1, 0, 3, False), (8, 7, 4, 3, 3, False)],
)  # fmt: skip
def test_windows(n: int, extent: int, stride: int, before: int, after: int, ceil: bool) -> None:
    over = n + before + after - extent
    out = (-(-over // stride) if ceil else over // stride) + 1
    out -= ceil and (out - 1) * stride >= n + before
    window = Window(n, out, extent, stride, before, after, ceil)
    windows = Windows([window])
    reads = [set(range(o * stride - before, o * stride - before + extent)) for o in range(out)]
    ahead, behind = window.beyond
    assert (-ahead, n + behind) == (min(map(min, reads)), max(n, 1 + max(map(max, reads))))
    for first in range(n):
        for last in range(first + 1, n + 1):
            span = np.array([[[first], [last]]])
            inside = set(range(first, last))
            touched = [o for o, read in enumerate(reads) if read & inside]
            lo, hi = windows.changed(span)[0, :, 0]
            if touched:
                assert (lo, hi) == (touched[0], touched[-1] + 1)
            assert 0 <= lo < hi <= out
            wanted = windows.reads(np.array([[[lo], [hi]]]))[0]
            assert set(range(*wanted[:, 0])) >= set.union(*reads[lo:hi])
            assert set(range(wanted[0, 0], wanted[1, 0])) <= set(range(min(reads[lo]), max(reads[hi - 1]) + 1))
            start, stop = windows.aligned(wanted[None])[0, :, 0]
            assert start % stride == 0 and inside_of(wanted[:, 0], n) <= set(range(start, stop))
            right = windows.right(windows.aligned(span))[0, :, 0]
            held = set(range(*windows.aligned(span)[0, :, 0])) | set(
                range(-ahead, 0) if windows.aligned(span)[0, 0, 0] == 0 else ()
            )
            held |= set(range(n, n + behind) if last == n else ())
            assert [o for o in range(out) if reads[o] <= held] == [*range(*right)]


@pytest.mark.parametrize(
    ("before", "after", "ceil"), [(0, 0, 0), (1, 1, 0), (0, 0, 1), (1, 0, 1), (1, 2, 1), (2, 2, 1)]
)
@pytest.mark.parametrize(("extent", "stride"), [(3, 1), (3, 2), (3, 4), (4, 3)])
def test_a_crop_has_as_many_outputs_as_onnxruntime_gives(
    before: int, after: int, ceil: int, extent: int, stride: int
) -> None:
    for length in range(extent, 14):
        pool = f"y = MaxPool <kernel_shape = [{extent}], strides = [{stride}], pads = [{before}, {after}], ceil_mode = {ceil}> (x)"
        (y,) = run(r(21, pool, x=f(1, 1, length)).proto().SerializeToString(), {"x": f(1, 1, length)})
        window = Window(99, 99, extent, stride, before, after, bool(ceil))
        first, last = Windows([window]).computed(np.array([[[3 * stride], [3 * stride + length]]]))[0, :, 0]
        assert (first, last - first) == (3, y.shape[-1])


def inside_of(span: Any, n: int) -> set[int]:
    return set(range(*span)) & set(range(n))


# Networks: odd sizes, and everything that moves or widens a box.

NETS = {
    "chain": r(21, "a = Conv <pads = [1,1,1,1]> (x, W, B) b = Relu(a) c = MaxPool <kernel_shape = [2,2], strides = [2,2]> (b) y = Conv <pads = [1,1,1,1]> (c, V)",
               x=f(1, 2, 17, 15), W=f(4, 2, 3, 3), B=f(4), V=f(3, 4, 3, 3)),
    "pads of two sizes": r(21, "a = Conv <pads = [2,0,1,3], strides = [2,1]> (x, W) b = Relu(a) y = Conv <pads = [0,1,2,0]> (b, V)",
                          x=f(1, 2, 16, 13), W=f(4, 2, 4, 4), V=f(3, 4, 3, 2)),
    "dilated and in groups": r(21, "a = Conv <dilations = [2,3], pads = [2,3,2,3], group = 2> (x, W) b = Conv <group = 4, pads = [1,1,1,1], strides = [2,2]> (a, V) y = Conv (b, U)",
                               x=f(1, 2, 18, 19), W=f(4, 1, 3, 3), V=f(4, 1, 3, 3), U=f(3, 4, 1, 1)),
    "residual": r(21, "a = Conv <pads = [1,1,1,1]> (x, W) b = Relu(a) c = Conv <pads = [1,1,1,1], strides = [2,2]> (b, V) d = Relu(c) e = Conv <pads = [1,1,1,1]> (d, U) h = Conv <strides = [2,2]> (b, T) k = Add(e, h) l = Relu(k) m = Conv <pads = [1,1,1,1]> (l, U) y = Add(m, l)",
                  x=f(1, 2, 15, 18), W=f(4, 2, 3, 3), V=f(4, 4, 3, 3), U=f(4, 4, 3, 3), T=f(4, 4, 1, 1)),
    "concat": r(21, "a = Conv (x, W) b = Conv <pads = [1,1,1,1]> (a, V) c = Conv <pads = [2,2,2,2]> (a, U) d = Concat <axis = 1> (b, c, a) y = MaxPool <kernel_shape = [3,3], strides = [2,2], ceil_mode = 1> (d)",
                x=f(1, 2, 16, 17), W=f(4, 2, 1, 1), V=f(3, 4, 3, 3), U=f(2, 4, 5, 5)),
    "pools": r(21, "a = Conv (x, W) b = AveragePool <kernel_shape = [3,3], pads = [1,1,1,1]> (a) c = AveragePool <kernel_shape = [3,2], pads = [1,0,1,1], count_include_pad = 1, strides = [2,1]> (b) d = MaxPool <kernel_shape = [3,3], pads = [1,1,1,1], strides = [2,2]> (c) e = Neg(d) h = MaxPool <kernel_shape = [2,3], pads = [0,1,1,1], ceil_mode = 1, strides = [2,2]> (e) y = AveragePool <kernel_shape = [2,2], ceil_mode = 1, pads = [1,0,0,1]> (h)",
               x=f(1, 2, 25, 27), W=f(4, 2, 1, 1)),
    "pointwise": r(21, "a = Conv <pads = [1,1,1,1]> (x, W) b = PRelu(a, P) c = BatchNormalization(b, G, H, H, G) d = Sigmoid(c) e = Mul(c, d) h = Clip(e, L, U) k = Add(h, P) l, m = Split <axis = 1, num_outputs = 2> (k) n = Max(l, m) o = Dropout(n) y = LRN <size = 3> (o)",
                   x=f(1, 2, 12, 13), W=f(4, 2, 3, 3), P=f(4, 1, 1), G=f(4, low=0.5), H=f(4), L=s(-1.0), U=s(1.5)),
    "pad": r(21, "a = Conv (x, W) b = Pad(a, P, V) c = Conv <strides = [2,2]> (b, U) d = Relu(c) y = Conv <auto_pad = \"SAME_UPPER\", strides = [2,2]> (d, T)",
             x=f(1, 2, 14, 15), W=f(4, 2, 1, 1), P=i(0, 0, 1, 2, 0, 0, 2, 1), V=s(0.25), U=f(4, 4, 3, 3), T=f(3, 4, 3, 3)),
    "channels last": r(21, "t = Transpose <perm = [0,3,1,2]> (x) a = Conv <pads = [1,1,1,1]> (t, W) u = Transpose <perm = [0,2,3,1]> (a) n = LayerNormalization <axis = -1> (u, G, H) b = Relu(n) p = MatMul(b, M) v = Transpose <perm = [0,3,1,2]> (p) c = Conv <pads = [1,0,1,2], strides = [1,2]> (v, V) y = Transpose <perm = [0,2,3,1]> (c)",
                       x=f(1, 13, 14, 2), W=f(4, 2, 3, 3), G=f(4), H=f(4), M=f(4, 5), V=f(3, 5, 3, 3)),
    "a signal": r(21, "a = Conv <pads = [2,2], strides = [2]> (x, W) b = Relu(a) c = MaxPool <kernel_shape = [3], strides = [2]> (b) y = Conv <pads = [1,1]> (c, V)",
                  x=f(1, 2, 41), W=f(4, 2, 5), V=f(3, 4, 3)),
}  # fmt: skip
AXES = {"channels last": (1, 2), "a signal": (2,)}


def boxes_in(shape: tuple[int, ...], axes: tuple[int, ...], size: int) -> Boxes:
    """Boxes of a size every second place, and at each end, where they may be cut."""
    starts = [np.unique([*range(0, shape[a], 3), shape[a] - 1]) for a in axes]
    first = np.stack([s.ravel() for s in np.meshgrid(*starts, indexing="ij")])
    return np.stack([first, np.minimum(first + size, np.array([[shape[a]] for a in axes]))], axis=1)


def ways(path: Path, boxes: Boxes) -> Iterator[Choice]:
    """Everything pasted, nothing, and some, with stops from first to last."""
    edges, steps = candidates(path, changes(path, boxes)), len(path.steps)
    inputs = {e for e in edges if path.tensor(e) == path.name}
    yield Choice(frozenset(edges), steps, 1.0)
    yield Choice(frozenset(inputs), steps, 1.0)
    for _ in range(3):
        stop = int(rng.integers(1, steps + 1))
        some = {e for e in edges if e[0] < stop and (e in inputs or rng.random() < 0.5)}
        above = {other for e in edges if e[0] < stop and rng.random() < 0.5 for other in path.above(e)}
        yield Choice(frozenset(some | above), stop, 1.0)


def computed(model: Model, row: Row, path: Path, boxes: Boxes, choice: Choice, x: Any, patches: Any) -> dict[str, Any]:
    """Maps for all boxes, put together from crops."""
    ground = Ground(path, boxes, choice, lambda layout, cut: write(model, path, layout, cut, choice.stop))
    pasted = {path.tensor(edge) for edge in choice.pasted}
    found = Patches(ENGINE, model, path, ground.crops, pasted, {"x": x})
    maps = {t: found.clean[t].repeat(boxes.shape[2], axis=0) for t in path.frontier(choice.stop)}
    for k in range(boxes.shape[2]):
        part, own = ground.part(k)
        if not own:
            found.place(ground.places(part))
        found.put(maps, k, own, patches[k : k + 1][found.places.given[own]])
    return maps


@pytest.mark.parametrize("size", [1, 4])
@pytest.mark.parametrize("name", NETS)
def test_maps_are_those_of_the_whole_graph(name: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "_TOGETHER", 7)  # boxes come in parts
    row = NETS[name]
    x = np.asarray(row.arrays["x"], np.float32)
    model = oi.load(row.proto())
    sides = tuple(None if a == 0 else n for a, n in enumerate(x.shape))
    assert model.inputs[0].shape[1:] == sides[1:]
    axes = AXES.get(name, (2, 3))
    boxes = boxes_in(x.shape, axes, size)
    covered = x.repeat(boxes.shape[2], axis=0)
    for one, ends in zip(covered, np.moveaxis(boxes, 2, 0).tolist(), strict=True):
        at = [slice(None)] * x.ndim
        for a, (first, last) in zip(axes, ends, strict=True):
            at[a] = slice(first, last)
        one[tuple(at[1:])] = f(*one[tuple(at[1:])].shape, low=-5, high=5)
    path = Path(model, "x", axes, {"x": x.shape})
    outputs = {y for node in model.ir.graph for y in (v.name for v in node.outputs)} - {v.name for v in model.outputs}
    assert path.steps and {step.node.op_type for step in path.steps} >= {"Conv"}
    wanted = sorted(outputs)
    shown = expose(model, wanted).to_proto().SerializeToString()
    names = [v.name for v in expose(model, wanted).outputs]
    whole = [dict(zip(names, run(shown, {"x": one[None]}), strict=True)) for one in covered]
    for choice in ways(path, boxes):
        layout = lie(path, changes(path, boxes), choice.pasted, choice.stop)
        for step in path.steps[: choice.stop]:
            for y in step.outputs:  # what is right holds what changes
                assert (layout.right[y][:, 0] <= layout.changed[y][:, 0]).all()
                assert (layout.right[y][:, 1] >= layout.changed[y][:, 1]).all()
        for tensor, maps in computed(model, row, path, boxes, choice, x, covered).items():
            expected = np.concatenate(
                [covered[k : k + 1] if tensor == "x" else one[tensor] for k, one in enumerate(whole)]
            )
            np.testing.assert_allclose(maps, expected, atol=1e-6 * np.abs(expected).max(), err_msg=f"{tensor} {choice}")


def test_what_is_read_as_a_whole_ends_the_path() -> None:
    row = r(21, "a = Conv <pads = [1,1,1,1]> (x, W) g = GlobalAveragePool(a) h = Sigmoid(g) b = Mul(a, h) c = Conv(b, V) y = Relu(c)",
            x=f(1, 2, 12, 12), W=f(4, 2, 3, 3), V=f(2, 4, 3, 3))  # fmt: skip
    path = Path(oi.load(row.proto()), "x", (2, 3), {"x": (1, 2, 12, 12)})
    assert [step.node.op_type for step in path.steps] == ["Conv"]
    assert [node.op_type for node in path.ends] == ["GlobalAveragePool", "Mul"]


@pytest.mark.parametrize(
    "body",
    ["Add(x, C)", "Concat <axis = 2> (x, x)", "Softmax <axis = 3> (x)", "Reshape(x, S)", "InstanceNormalization(x, G, G)",
     "Pad <mode = \"reflect\"> (x, P)", "Pad(x, Q)", "Pad(x, R)", "Mul(x, T)", "LayerNormalization <axis = 2> (x, L, L)",
     "Transpose <perm = [1,0,2,3]> (x)", "Transpose <perm = [2,0,1,3]> (x)", "Concat <axis = 0> (x, x)", "Add(x, N)",
     "AveragePool <kernel_shape = [4,4], dilations = [2,2], count_include_pad = 1, ceil_mode = 1> (x)"],
)  # fmt: skip
def test_what_has_no_rule_is_not_guessed(body: str) -> None:
    pads = dict(P=i(0, 0, 1, 1, 0, 0, 1, 1), Q=i(0, 1, 0, 0, 0, 0, 0, 0), R=i(0, 0, 0, -1, 0, 0, 0, 0))
    weights = dict(C=f(1, 2, 6, 6), S=i(1, 2, 36), G=f(2), L=f(6, 6), T=f(6), N=f(3, 2, 1, 1))
    row = r(21, f"a = {body} y = Relu(a)", x=f(1, 2, 6, 6), **pads, **weights)
    assert not Path(oi.load(row.proto()), "x", (2, 3), {"x": (1, 2, 6, 6)}).steps


@pytest.mark.parametrize("scale", [f(1, 6, 6, 2), f(6, 1, 2), f(6, 6, 1)])
def test_a_scale_that_varies_over_positions_ends_the_path(scale: Any) -> None:
    row = r(21, "a = LayerNormalization <axis = -1> (x, G) y = Relu(a)", x=f(1, 6, 6, 2), G=scale)
    assert not Path(oi.load(row.proto()), "x", (1, 2), {"x": (1, 6, 6, 2)}).steps


def test_samples_that_change_places_with_a_single_channel_end_the_path() -> None:
    row = r(21, "a = Transpose <perm = [1,0,2,3]> (x) y = Relu(a)", x=f(1, 1, 6, 6))
    assert not Path(oi.load(row.proto()), "x", (2, 3), {"x": (1, 1, 6, 6)}).steps


def test_the_way_is_the_cheapest() -> None:
    """Two convolutions of many channels behind one another: pasting in between saves more than it takes."""
    row = r(21, "a = Conv <pads = [1,1,1,1]> (x, W) b = Conv <pads = [1,1,1,1]> (a, V) c = Conv <pads = [1,1,1,1]> (b, V) y = GlobalAveragePool(c)",
            x=f(1, 2, 64, 64), W=f(64, 2, 3, 3), V=f(64, 64, 3, 3))  # fmt: skip
    path = Path(oi.load(row.proto()), "x", (2, 3), {"x": (1, 2, 64, 64)})
    small, large = (choose(path, np.array([[[30 - n], [30 + n]]] * 2)) for n in (2, 30))
    assert small.gain > 4 > 1.2 > large.gain
    assert small.stop == 3 and (2, 0) in small.pasted


# The methods.


def net(**options: Any) -> Model:
    return oi.load(nets.classifier(**options))


def same(method: Any, model: Model, x: Any, **options: Any) -> tuple[oi.Attribution, oi.Attribution]:
    """A method with and without lowering, which has to make no difference."""
    found, whole = (method(model, x, engine=engine, **options) for engine in (ENGINE, PLAIN))
    np.testing.assert_allclose(found.values, whole.values, atol=1e-6)
    for key, value in whole.extra.items():
        np.testing.assert_allclose(found.extra[key], value, atol=1e-5, err_msg=key)
    return found, whole


def notes_of(found: oi.Attribution, words: str) -> list[str]:
    return [note for note in found.notes if words in note]


@pytest.mark.usefixtures("free")
@pytest.mark.parametrize("nhwc", [False, True])
@pytest.mark.parametrize(("window", "stride"), [(3, 2), (5, 5), (1, 1)])
def test_occlusion(nhwc: bool, window: int, stride: int) -> None:
    found, whole = same(oi.occlusion, net(nhwc=nhwc), nets.images(2, nhwc), window=window, stride=stride)
    assert found.params["incremental"] and not whole.params["incremental"]
    assert len(notes_of(found, "only what a variant changes")) == 1 and not notes_of(whole, "variant")


@pytest.mark.usefixtures("free")
def test_threads_share_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each goes through the parts of the same boxes at its own pace."""
    monkeypatch.setattr(places, "_TOGETHER", 7)
    model, pictures = net(), nets.images(4)
    expected = [oi.occlusion(model, x[None], window=3, stride=2, engine=ENGINE).values for x in pictures]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            found = pool.map(lambda x: oi.occlusion(model, x[None], window=3, stride=2, engine=ENGINE).values, pictures)
            for one, other in zip(found, expected, strict=True):
                np.testing.assert_array_equal(one, other)


CELLS = np.abs(np.arange(nets.SIZE)[:, None] - 3) // 3 + 5 * (np.arange(nets.SIZE) // 5)  # of several pieces, some


@pytest.mark.usefixtures("free")
@pytest.mark.parametrize("features", ["grid:4", CELLS], ids=["grid", "pieces"])
@pytest.mark.parametrize("baseline", ["0", "blur", "local"])
def test_feature_ablation(features: Any, baseline: str) -> None:
    found, _ = same(oi.feature_ablation, net(), nets.images(2), features=features, baseline=baseline)
    assert notes_of(found, "only what a variant changes")


@pytest.mark.usefixtures("free")
def test_samples_may_have_features_of_their_own() -> None:
    """Boxes of other sizes and numbers in each sample, and one feature less."""
    cells = np.stack([CELLS, np.minimum(CELLS.T, CELLS.max() - 1)])[:, None]
    found, _ = same(oi.feature_ablation, net(), nets.images(2), features=cells)
    assert notes_of(found, "only what a variant changes")


@pytest.mark.usefixtures("free")
@pytest.mark.parametrize(
    "options",
    [
        dict(preset="captum", window=(1, 4, 4), stride=(1, 3, 3)),
        dict(baseline="inpaint"),
        dict(target=2, score="output"),
    ],
)
def test_occlusion_of_another_kind(options: dict[str, Any]) -> None:
    found, _ = same(oi.occlusion, net(), nets.images(2), **options)
    assert notes_of(found, "only what a variant changes")


def test_what_gains_nothing_is_computed_as_a_whole() -> None:
    found, whole = same(oi.occlusion, net(), nets.images(1), window=4)
    assert not found.params["incremental"]
    assert len(notes_of(found, "every variant is run through all of the network")) == 1
    np.testing.assert_array_equal(found.values, whole.values)
