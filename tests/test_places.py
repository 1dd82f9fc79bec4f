"""Where the numbers of a tensor lie on the picture, and that methods of maps find them there, whatever tokens went through."""

from __future__ import annotations

import json
import re
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper, parser

import onnx_inspect as oi
from onnx_inspect.engine import Engine
from onnx_inspect.layer import auto
from onnx_inspect.maps import Grid
from onnx_inspect.methods.setting import Setting
from onnx_inspect.places import Places
from onnx_inspect.scores import scores

from . import vits
from .graphs import run
from .shared import ZOO, needs_zoo

ENGINE = Engine("cpu", threads=1)
FIXTURES = Path(__file__).parent / "zoo"
Node = onnx.NodeProto


# Random moves, against an index picture pushed through onnxruntime.

SIZE = (4, 6)
TOKEN = -1.0


class Moves:
    """A graph that grows node by node, and what is known of its last tensor."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.weights: list[TensorProto] = []
        self.shape: list[int] = [1, 2, *SIZE]
        self.last = "x"

    def constant(self, values: Any, kind: type = np.int64) -> str:
        name = f"c{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(values, kind), name))
        return name

    def add(self, op: str, inputs: list[str], shape: list[int], **attributes: Any) -> None:
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], **attributes))
        self.last, self.shape = name, shape

    def cut(self, axis: int, start: int, stop: int, step: int = 1) -> str:
        """A Slice, beside the chain."""
        name = f"s{len(self.nodes)}"
        bounds = [self.constant([v]) for v in (start, stop, axis, step)]
        self.nodes.append(helper.make_node("Slice", [self.last, *bounds], [name]))
        return name

    def model(self) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "moves",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, *SIZE])],
            [helper.make_empty_tensor_value_info(self.last)],
            self.weights,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def move(draw: Any, at: Moves) -> None:
    """Append a random move."""
    kind = draw(st.sampled_from("merge divide transpose roll flip concat slice gather split pad tile one".split()))
    axis = draw(st.integers(0, len(at.shape) - 1))
    n, shape = at.shape[axis], list(at.shape)
    if kind == "merge" and axis + 1 < len(shape):
        shape[axis : axis + 2] = [shape[axis] * shape[axis + 1]]
        at.add("Reshape", [at.last, at.constant(shape)], shape)
    elif kind == "divide" and len(shape) < 6:
        part = draw(st.sampled_from([d for d in range(1, n + 1) if n % d == 0]))
        shape[axis : axis + 1] = [n // part, part]
        at.add("Reshape", [at.last, at.constant(shape)], shape)
    elif kind == "transpose":
        perm = draw(st.permutations(range(len(shape))))
        at.add("Transpose", [at.last], [shape[p] for p in perm], perm=perm)
    elif kind == "roll" and n > 1:
        by = draw(st.integers(1, n - 1))
        at.add("Concat", [at.cut(axis, by, n), at.cut(axis, 0, by)], shape, axis=axis)
    elif kind == "flip":
        bounds = [at.constant([v]) for v in (-1, -n - 5, axis, -1)]
        at.add("Slice", [at.last, *bounds], shape)
    elif kind == "concat":
        token = at.constant(np.full([*shape[:axis], 1, *shape[axis + 1 :]], TOKEN), np.float32)
        first = draw(st.booleans())
        at.add(
            "Concat",
            [token, at.last] if first else [at.last, token],
            [*shape[:axis], n + 1, *shape[axis + 1 :]],
            axis=axis,
        )
    elif kind == "slice" and n > 2:
        start, step = draw(st.integers(0, 1)), draw(st.integers(1, 2))
        count = len(range(n)[start:n:step])
        at.add("Identity", [at.cut(axis, start, n, step)], [*shape[:axis], count, *shape[axis + 1 :]])
    elif kind == "gather":
        index = np.array(draw(st.permutations(range(n))))
        index = index[: n - n % 2].reshape(2, -1) if n > 1 and draw(st.booleans()) and len(shape) < 6 else index
        at.add("Gather", [at.last, at.constant(index)], [*shape[:axis], *index.shape, *shape[axis + 1 :]], axis=axis)
    elif kind == "split" and n > 1:
        name, sizes = f"t{len(at.nodes)}", [1, n - 1]
        at.nodes.append(helper.make_node("Split", [at.last, at.constant(sizes)], [f"{name}.0", name], axis=axis))
        at.last, at.shape = name, [*shape[:axis], n - 1, *shape[axis + 1 :]]
    elif kind == "pad":
        before, after = draw(st.integers(0, 2)), draw(st.integers(0, 2))
        amounts = at.constant([before, after])
        mode = draw(st.sampled_from(["constant", "edge"]))
        at.add(
            "Pad",
            [at.last, amounts, "", at.constant([axis])],
            [*shape[:axis], before + n + after, *shape[axis + 1 :]],
            mode=mode,
        )
    elif kind == "tile" and np.prod(shape) < 500:
        at.add(
            "Tile",
            [at.last, at.constant([2 if a == axis else 1 for a in range(len(shape))])],
            [*shape[:axis], 2 * n, *shape[axis + 1 :]],
        )
    elif kind == "one" and len(shape) < 6:
        at.add("Unsqueeze", [at.last, at.constant([axis])], [*shape[:axis], 1, *shape[axis:]])


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_places_are_where_an_index_picture_goes(data: Any) -> None:
    """Pixels hold where they are, tokens that are none -1, and padding 0, whose place may be anywhere."""
    at = Moves()
    for _ in range(data.draw(st.integers(1, 8))):
        move(data.draw, at)
    if not at.nodes:
        return
    proto = at.model()
    numbers = np.arange(1, 1 + SIZE[0] * SIZE[1], dtype=np.float32).reshape(SIZE)
    (moved,) = run(proto.SerializeToString(), {"x": np.broadcast_to(numbers, (1, 2, *SIZE)).copy()})
    places = Places(oi.load(proto), "x", "NCHW", {"x": (1, 2, *SIZE)})
    place = places.place(at.last)
    assert place is not None
    found = np.broadcast_to(place, (*moved.shape, 2))
    real = moved > 0
    rows, columns = np.divmod(moved[real] - 1, SIZE[1])
    np.testing.assert_allclose(found[real], np.stack([rows, columns], axis=-1) + 0.5)
    assert np.isnan(found[moved == TOKEN]).all()
    grid = places.grid(at.last)
    if grid is not None and not (moved == 0).any():
        cells = grid.first(moved)
        assert (cells > 0).all()
        lines = [np.unique(v) for v in np.divmod(cells[0, 0] - 1, SIZE[1])]
        np.testing.assert_array_equal(cells[0, 0], lines[0][:, None] * SIZE[1] + lines[1] + 1)
        back = grid.back(2 * cells, moved)
        np.testing.assert_array_equal(back, np.where(moved > 0, 2 * moved, moved))


# Operators that compute.


def placed(body: str, shape: tuple[int, ...], layout: str, tensor: str = "y", **arrays: Any) -> np.ndarray | None:
    graph = parser.parse_graph(f"g (float[1] x) => (float[1] y) {{ {body} }}")
    graph.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.FLOAT, shape))
    graph.output[0].CopyFrom(onnx.ValueInfoProto(name="y"))
    graph.initializer.extend(numpy_helper.from_array(np.asarray(v), k) for k, v in arrays.items())
    model = oi.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10))
    return Places(model, "x", layout, {"x": shape}).place(tensor)


W = np.ones((2, 2, 2, 2), np.float32)


@pytest.mark.parametrize(
    ("body", "layout", "rows", "columns"),
    [
        ("y = Conv <strides=[2,2]> (x, W)", "NCHW", [1, 3], [1, 3, 5]),
        ("y = Conv <strides=[2,2], pads=[1,1,1,1]> (x, W)", "NCHW", [0, 2, 4], [0, 2, 4, 6]),
        ('y = Conv <strides=[2,2], auto_pad="SAME_UPPER"> (x, W)', "NCHW", [1, 3], [1, 3, 5]),
        ("y = MaxPool <kernel_shape=[3,3], pads=[1,1,1,1]> (x)", "NCHW", [0.5, 1.5, 2.5, 3.5], [0.5, 1.5, 2.5, 3.5, 4.5, 5.5]),
        ("a = Conv <strides=[2,2]> (x, W)  y = ConvTranspose <strides=[2,2]> (a, W)", "NCHW", [0.5, 1.5, 2.5, 3.5], [0.5, 1.5, 2.5, 3.5, 4.5, 5.5]),
        ("y = Resize (x, , , Half)", "NCHW", [1, 3], [1, 3, 5]),
        ('y = Resize <coordinate_transformation_mode="align_corners"> (x, , , Half)', "NCHW", [0.5, 3.5], [0.5, 3, 5.5]),
        ("t = Transpose <perm=[0,2,3,1]> (x)  r = Resize (t, , , HalfLast)  y = Transpose <perm=[0,3,1,2]> (r)", "NCHW", [1, 3], [1, 3, 5]),
        ("y = SpaceToDepth <blocksize=2> (x)", "NCHW", [1, 3], [1, 3, 5]),
        ("a = SpaceToDepth <blocksize=2> (x)  y = DepthToSpace <blocksize=2> (a)", "NCHW", [0.5, 1.5, 2.5, 3.5], [0.5, 1.5, 2.5, 3.5, 4.5, 5.5]),
    ],
)  # fmt: skip
def test_maps_that_are_computed(body: str, layout: str, rows: list[float], columns: list[float]) -> None:
    given = {"W": W, "Half": np.array([1, 2, 2, 3]), "HalfLast": np.array([1, 2, 3, 2])}
    place = placed(body, (1, 2, 4, 6), layout, **{k: v for k, v in given.items() if f"{k})" in body or f"{k}," in body})
    assert place is not None
    found = place.squeeze(1)[0] if place.shape[1] == 1 else place[0, 0]
    assert found.shape[:2] == (len(rows), len(columns))
    np.testing.assert_allclose(found[..., 0], np.broadcast_to(np.array(rows)[:, None], found.shape[:2]))
    np.testing.assert_allclose(found[..., 1], np.broadcast_to(columns, found.shape[:2]))


def test_what_is_read_from_anywhere_is_lost() -> None:
    index = np.zeros((1, 2, 4, 6), np.int64)
    assert placed("y = GatherElements <axis=3> (x, I)", (1, 2, 4, 6), "NCHW", I=index) is None
    assert placed("y = ReverseSequence (x, L)", (1, 2, 4, 6), "NCHW", L=np.array([1, 1])) is None


def test_scores_lie_where_queries_and_where_keys_do() -> None:
    """Along rows those of Q, along columns those of K, and behind the values those of Q, whichever product comes first."""
    for form, (query, key) in {"plain": (2, 3), "transposed": (3, 2), "einsum": (2, 3)}.items():
        places = Places(oi.load(vits.vit(form)), "image", "NCHW")
        for axis in (query, key):
            place = places.along("weights0", axis)
            assert place is not None
            tokens = np.moveaxis(place, axis, 0).reshape(16, 2)
            assert np.isnan(tokens[0]).all()
            np.testing.assert_allclose(tokens[1:].reshape(3, 5, 2)[2, 4], (10, 18))
        grid = places.grid({"plain": "wh0", "transposed": "wt0", "einsum": "w0"}[form])
        assert grid is not None
        assert (grid.sizes, grid.extra) == ((3, 5), 1)


# Files of exporters.


def grids(path: Path) -> set[tuple[tuple[int, ...], int]]:
    """Sizes of the grids in a file, and how many tokens are no cell."""
    model = oi.load(path)
    setting = Setting(model)
    found = [setting.places.grid(layer.tensor) for layer in model.layers]
    return {(g.sizes, g.extra) for g in found if isinstance(g, Grid)}


TRUTHS = {e["file"]: e["truth"] for e in json.loads((FIXTURES / "index.json").read_text(encoding="utf-8"))
          if "grid" in e.get("truth", {}) or "grids" in e.get("truth", {})}  # fmt: skip


@pytest.mark.parametrize("file", sorted(f for f in TRUTHS if re.search("vit|swin|mixer|deit", f)))
def test_grids_of_our_own_files(file: str) -> None:
    truth, found = TRUTHS[file], grids(FIXTURES / file)
    for size in truth.get("grids") or [truth["grid"]]:
        assert tuple(size) in {s for s, _ in found}
    if isinstance(truth.get("tokens"), list):
        assert (tuple(truth["grid"]), len(truth["tokens"]) - 1) in found
    if "class_tokens" in truth:
        assert (tuple(truth["grid"]), truth["class_tokens"]) in found


@pytest.mark.parametrize("file", sorted(f.name for f in FIXTURES.glob("*[lg][sr][tu]*.onnx")))
def test_what_cannot_be_followed_is_nowhere(file: str) -> None:
    """Recurrent networks, with shapes that only a run knows: no grid, and no error."""
    assert not any(extra for _, extra in grids(FIXTURES / file))


@needs_zoo
@pytest.mark.parametrize(
    ("file", "extra"),
    [(f"hf_vit_{a}_{e}", 1) for a in ("eager", "sdpa") for e in ("dynamo", "legacy")]
    + [("torch_dynamo_vit", 1), ("torch_legacy_vit", 1), ("variants/onnxsim_vit", 1)]
    + [("jax_vit", 0), ("keras_jax_vit", 0), ("keras_tensorflow_vit", 0)],
)
def test_grids_of_the_zoo(file: str, extra: int) -> None:
    model = oi.load(ZOO / f"{file}.onnx")
    assert ((4, 4), extra) in grids(ZOO / f"{file}.onnx")
    setting = Setting(model)
    chosen = auto(model, scores(model).tensor, places=setting.places).layer
    assert chosen.axes == "HW"
    assert (chosen.grid is not None and chosen.grid.sizes == (4, 4)) or chosen.role == "spatial"


# One map in many forms: methods say the same of all of them.

GRID, PATCH, WIDTH = (4, 6), 4, 5
PICTURE = (GRID[0] * PATCH, GRID[1] * PATCH)
FORMS = (
    "map",  # (N, C, 4, 6)
    "last",  # (N, 4, 6, C)
    "tokens",  # (N, 24, C)
    "columns",  # (N, C, 24)
    "classed",  # (N, 26, C), a class token before and a distillation token behind
    "rolled",  # (N, 4, 6, C), rolled by (1, 2)
    "windows",  # (6 N, 4, C), as Swin has them
    "apart",  # (N, 6, 4, C)
    "sequence",  # (24, N, C)
    "unfolded",  # (4 N, 6, C), as MobileViT has them: the first pixels of all patches, the second ones, ...
)  # fmt: skip


def network(only: int | None = None, seed: int = 0) -> onnx.ModelProto:
    """Patches, a map in every form of FORMS one after the other, and a head that reads all cells, or one of them."""
    rng = np.random.default_rng(seed)
    h, w = GRID
    body = f"""
    p = Conv <strides=[{PATCH},{PATCH}]> (image, Patch)  map = Relu (p)
    last = Transpose <perm=[0,2,3,1]> (map)
    tokens = Reshape (last, Flat)  columns = Transpose <perm=[0,2,1]> (tokens)  again = Transpose <perm=[0,2,1]> (columns)
    sequence = Transpose <perm=[1,0,2]> (again)  tokenwise = Transpose <perm=[1,0,2]> (sequence)
    n = Shape <start=0, end=1> (again)  e0 = Concat <axis=0> (n, OneOne)  e = Expand (Class, e0)
    classed = Concat <axis=1> (e, tokenwise, e)  l = Add (classed, Position)  parts = Slice (l, One, Last, One)
    grid = Reshape (parts, Grid)
    r1 = Slice (grid, One, End, One)  r2 = Slice (grid, Zero, One, One)  r3 = Concat <axis=1> (r1, r2)
    r4 = Slice (r3, Two, End, Two)  r5 = Slice (r3, Zero, Two, Two)  rolled = Concat <axis=2> (r4, r5)
    s6 = Reshape (rolled, Six)  t6 = Transpose <perm=[0,1,3,2,4,5]> (s6)
    windows = Reshape (t6, Windows)  apart = Reshape (windows, Apart)
    u6 = Reshape (apart, Parted)  v6 = Transpose <perm=[0,3,4,1,2,5]> (u6)  unfolded = Reshape (v6, Unfolded)
    m = MatMul (unfolded, Mix)  g = Tanh (m)
    b6 = Reshape (g, Folded)  f6 = Transpose <perm=[0,3,4,1,2,5]> (b6)  w6 = Reshape (f6, Parted)
    x6 = Transpose <perm=[0,1,3,2,4,5]> (w6)  y6 = Reshape (x6, Grid)
    z4 = Slice (y6, Back2, End, Two)  z5 = Slice (y6, Zero, Back2, Two)  z3 = Concat <axis=2> (z4, z5)
    z1 = Slice (z3, Back1, End, One)  z2 = Slice (z3, Zero, Back1, One)  z = Concat <axis=1> (z1, z2)
    q = Reshape (z, Flat)  o = Mul (q, Only)  a = ReduceSum <keepdims=0> (o, One)  scores = MatMul (a, Head)
    """
    chosen = rng.uniform(0.5, 1.5, (1, h * w, 1)) if only is None else (np.arange(h * w) == only)[None, :, None]
    floats = {"Patch": np.abs(rng.normal(0, 0.3, (WIDTH, 3, PATCH, PATCH))), "Class": rng.normal(size=(1, 1, WIDTH)),
              "Position": np.zeros((1, h * w + 2, WIDTH)), "Mix": rng.normal(0, 0.5, (WIDTH, WIDTH)), "Only": chosen,
              "Head": rng.normal(size=(WIDTH, 3))}  # fmt: skip
    if only is not None:
        floats |= {"Mix": np.eye(WIDTH) / 4, "Head": np.ones((WIDTH, 3)) * [1, 2, 3]}
    whole = {"Flat": [0, h * w, WIDTH], "OneOne": [1, 1], "One": [1], "Zero": [0], "Two": [2], "Last": [-1], "End": [99],
             "Grid": [-1, h, w, WIDTH], "Six": [-1, 2, 2, 3, 2, WIDTH], "Windows": [-1, 4, WIDTH],
             "Apart": [-1, 6, 4, WIDTH], "Parted": [-1, 2, 3, 2, 2, WIDTH], "Unfolded": [-1, 6, WIDTH],
             "Folded": [-1, 2, 2, 2, 3, WIDTH], "Back1": [h - 1], "Back2": [w - 2]}  # fmt: skip
    graph = parser.parse_graph("g (float[1] image) => (float[1] scores) {" + body + "}")
    graph.input[0].CopyFrom(helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, *PICTURE]))
    graph.output[0].CopyFrom(helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 3]))
    graph.initializer.extend(numpy_helper.from_array(v.astype(np.float32), k) for k, v in floats.items())
    graph.initializer.extend(numpy_helper.from_array(np.array(v, np.int64), k) for k, v in whole.items())
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


IMAGES = np.random.default_rng(5).normal(size=(2, 3, *PICTURE)).astype(np.float32)
MODEL = oi.load(network())


def test_every_form_is_a_grid() -> None:
    places = Places(MODEL, "image", "NCHW")
    for form in FORMS[1:]:
        layer = places.seen(MODEL.layer(form))
        assert layer.axes == "HW"
        grid = places.grid(form)
        assert grid is not None
        assert (grid.sizes, grid.extra) == (GRID, 2 if form == "classed" else 0)


CAMS = ("gradcam layercam hirescam xgradcam elementwise_gradcam gradcam_plusplus smooth_gradcam_plusplus eigencam "
        "eigen_gradcam scorecam ablationcam reciprocam guided_gradcam").split()  # fmt: skip


@pytest.mark.parametrize("name", CAMS)
def test_a_map_is_explained_alike_in_every_form(name: str) -> None:
    how: dict[str, Any] = {"samples": 2} if name.startswith("smooth_") else {}
    how |= {} if name in ("guided_gradcam", "reciprocam", "elementwise_gradcam") else {"signed": True}
    how |= {"preset": ""} if name == "gradcam" else {}
    whole = getattr(oi, name)(MODEL, IMAGES, target=1, layer="map", engine=ENGINE, **how)
    assert np.ptp(whole.heat) > 1e-6
    for form in FORMS[1:]:
        found = getattr(oi, name)(MODEL, IMAGES, target=1, layer=form, engine=ENGINE, **how)
        np.testing.assert_allclose(
            found.heat, whole.heat, rtol=2e-3, atol=2e-4 * np.abs(whole.heat).max(), err_msg=form
        )


def test_gradcam_of_tokens_by_its_formula() -> None:
    """Literally, from raw tensors: tokens 1 to 24 of 26, weights the mean over them."""
    given = {"image": IMAGES, "target.index": np.array([2, 2])}
    tensors = ENGINE.run(oi.gradient(MODEL, 2, ["classed"]), given)
    tokens = ENGINE.run(oi.expose(MODEL, ["classed"]), {"image": IMAGES})["classed"].astype(np.float64)
    A, g = tokens[:, 1:-1], tensors["gradient.classed"][:, 1:-1].astype(np.float64)
    expected = np.maximum((A * g.mean(axis=1, keepdims=True)).sum(axis=2), 0).reshape(2, *GRID)
    found = oi.gradcam(MODEL, IMAGES, target=2, layer="classed", engine=ENGINE)
    np.testing.assert_allclose(found.values, expected, rtol=1e-4, atol=1e-6)


def test_activations_of_tokens() -> None:
    whole = oi.activations(MODEL, IMAGES, layer="map", engine=ENGINE)
    for form in FORMS[1:]:
        found = oi.activations(MODEL, IMAGES, layer=form, engine=ENGINE)
        np.testing.assert_allclose(found.heat, whole.heat, rtol=1e-5)
        assert found.overlay(1).shape == whole.overlay(1).shape


@pytest.mark.parametrize("only", [0, 5, 8, 15, 18, 23])
def test_the_patch_that_alone_counts_is_found_on_the_photo(only: int, tmp_path: Path) -> None:
    """A photo of twice the size, wider than what the model sees of it: maps peak inside the patch's pixels."""
    from onnx_inspect import image

    pixels = np.zeros((PICTURE[0] * 2, PICTURE[1] * 2 + 20, 3), np.uint8)
    row, column = divmod(only, GRID[1])
    y, x = 2 * PATCH * row, 10 + 2 * PATCH * column
    pixels[y : y + 2 * PATCH, x : x + 2 * PATCH] = np.random.default_rng(only).integers(
        60, 200, (2 * PATCH, 2 * PATCH, 3)
    )
    image.write(tmp_path / "photo.png", pixels)
    how = dict(engine=ENGINE, preprocessing=oi.Preprocessing(size=PICTURE, scale=1 / 255))
    model, photo = oi.load(network(only)), tmp_path / "photo.png"
    results = [
        getattr(oi, name)(model, photo, layer=form, **how, **({} if name == "activations" else {"target": 2}))
        for name in ("gradcam", "layercam", "reciprocam", "scorecam", "activations")
        for form in ("map", "classed", "windows", "unfolded")
    ]
    results.append(oi.occlusion(model, photo, target=2, window=PATCH, stride=PATCH, baseline="0", **how))
    results.append(oi.saliency(model, photo, target=2, **how))
    for result in results:
        found = np.unravel_index(result.map(0).argmax(), pixels.shape[:2])
        inside = y <= found[0] < y + 2 * PATCH and x <= found[1] < x + 2 * PATCH
        assert inside, (result.method, result.layer)


def test_samples_on_the_second_axis_run_together() -> None:
    """As layers of torch.nn have them, unless batch_first: (tokens, N, channels)."""
    result = oi.ablationcam(MODEL, IMAGES, target=1, layer="sequence", engine=Engine("cpu", threads=1))
    assert not [note for note in result.notes if "alone" in note]


# Tensors that hold a part of the picture, and large ones.


def small(body: str, shape: tuple[int | str, ...], rank: int, **arrays: Any) -> oi.Model:
    graph = parser.parse_graph(f"g (float[1] x) => (float[1] y) {{ {body} }}")
    graph.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.FLOAT, shape))
    graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", *[None] * (rank - 1)]))
    graph.initializer.extend(numpy_helper.from_array(np.asarray(v), k) for k, v in arrays.items())
    return oi.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10))


PARTS = {
    "a crop of the picture": "c = Slice (x, From, To, Sides)  map = Conv <strides=[4,4]> (c, W)",
    "a crop of the map": "m = Conv <strides=[4,4]> (x, W)  map = Slice (m, First, Last, Sides)",
    "no padding": "map = Conv <strides=[4,4], dilations=[7,7]> (x, W)",
}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("cell", [(0, 0), (2, 1), (3, 5)])
def test_a_map_of_a_part_is_drawn_where_it_lies(part: str, cell: tuple[int, int]) -> None:
    """The one cell that counts lies in the middle of the pixels that have a gradient."""
    sizes = (7, 9) if part == "no padding" else (4, 6)
    only = np.zeros((1, 1, *sizes), np.float32)
    only[0, 0][cell] = 1
    numbers = {"From": [8, 16], "To": [24, 40], "First": [2, 4], "Last": [6, 10], "Sides": [2, 3],
               "Places": [2, 3]}  # fmt: skip
    weights = {"W": np.ones((1, 3, 4, 4), np.float32), "Only": only, "Ones": np.ones((1, 3), np.float32)}
    body = f"{PARTS[part]}  o = Mul (map, Only)  s = ReduceSum <keepdims=0> (o, Places)  y = MatMul (s, Ones)"
    arrays: dict[str, Any] = {k: v for k, v in (numbers | weights).items() if re.search(rf"\b{k}\b", body)}
    model = small(body, ("N", 3, 48, 56), 2, **arrays)
    x = np.ones((1, 3, 48, 56), np.float32)
    found = oi.hirescam(model, x, target=0, layer="map", engine=ENGINE)
    assert found.values.shape[1:] == sizes
    pixels = np.argwhere(oi.saliency(model, x, target=0, engine=ENGINE).heat[0]).mean(axis=0) + 0.5
    peak = (np.argwhere(found.heat[0])[0] + 0.5) / found.heat.shape[1:] * (48, 56)
    np.testing.assert_allclose(peak, pixels, atol=2)  # half a cell


def test_tokens_that_pass_as_a_line_are_a_grid() -> None:
    """Batch normalisation over (N, C, tokens) says that tokens are a length: they are the patches, and the class."""
    body = """
    p = Conv <strides=[8,8]> (x, W)  f = Reshape (p, Flat)  t = Transpose <perm=[0,2,1]> (f)
    n = Shape <start=0, end=1> (t)  e0 = Concat <axis=0> (n, OneOne)  e = Expand (Class, e0)
    a = Concat <axis=1> (e, t)  c = Transpose <perm=[0,2,1]> (a)  b = BatchNormalization (c, One, Zero, Zero, One)
    d = Transpose <perm=[0,2,1]> (b)  m = MatMul (d, Mix)  r = Relu (m)  y = ReduceMean <keepdims=0> (r, Axis)
    """
    rng = np.random.default_rng(0)
    floats = {"W": rng.normal(size=(5, 3, 8, 8)), "Class": rng.normal(size=(1, 1, 5)), "Mix": rng.normal(size=(5, 5)),
              "One": np.ones(5), "Zero": np.zeros(5)}  # fmt: skip
    arrays = {k: v.astype(np.float32) for k, v in floats.items()} | {"Flat": [0, 5, -1], "OneOne": [1, 1], "Axis": [1]}
    model = small(body, ("N", 3, 16, 24), 2, **arrays)
    places = Places(model, "x", "NCHW")
    chosen = auto(model, "y", places=places).layer
    assert (chosen.tensor, chosen.role) == ("r", "tokens")
    assert chosen.grid is not None
    assert (chosen.grid.sizes, chosen.grid.extra) == ((2, 3), 1)
    assert places.seen(model.layer("b")).axes == "HW"


def test_places_of_large_pictures_take_little() -> None:
    """Rows and columns of a map are lines of numbers, at 4K, too: no coordinates of every pixel."""
    body = """
    a = Conv <pads=[1,1,1,1]> (x, W)  b = Conv <pads=[1,1,1,1], strides=[2,2]> (a, V)
    u = Resize <mode="linear"> (b, , Twice)  c = Concat <axis=1> (u, a)  d = Conv <pads=[1,1,1,1]> (c, U)
    r = Relu (d)  y = Conv (r, H)
    """
    shapes = {"W": (2, 3, 3, 3), "V": (2, 2, 3, 3), "U": (2, 4, 3, 3), "H": (2, 2, 1, 1)}
    weights = {k: np.ones(v, np.float32) for k, v in shapes.items()}
    model = small(body, ("N", 3, 2160, 3840), 4, **weights, Twice=np.array([1, 1, 2, 2], np.float32))
    tracemalloc.start()
    try:
        chosen = auto(model, "y", places=Places(model, "x", "NCHW")).layer
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (chosen.tensor, chosen.grid) == ("r", None)
    assert peak < 20e6
