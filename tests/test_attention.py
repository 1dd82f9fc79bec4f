"""Finding attention in whatever form it was exported, what it looks at, and rollouts, against NumPy in float64."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, parser

import onnx_inspect as oi
from onnx_inspect import attentions, image
from onnx_inspect.cli import cli
from onnx_inspect.decompose.fusion import unfused
from onnx_inspect.engine import Engine
from onnx_inspect.errors import InputError, LayerError
from onnx_inspect.methods.attention_rollout import rollout
from onnx_inspect.methods.setting import Setting

from . import blobs, vits
from .rules import attention as cases
from .rules.harness import Case, forward64, load, names, run, typed

ENGINE = Engine("cpu", threads=1)
ZOO = Path(__file__).parent / "zoo"
SWIN = next(e["truth"] for e in json.loads((ZOO / "index.json").read_text(encoding="utf-8")) if "swin" in e["file"])
X = vits.images()
GRID = (3, 5)
CLASS = vits.arrays()


def close(found: Any, expected: Any, within: float = 1e-5) -> None:
    np.testing.assert_allclose(found, expected, rtol=within, atol=within * float(np.abs(expected).max()))


def literal_rollout(layers: list[np.ndarray], fusion: str, discard: float) -> np.ndarray:
    """One sample's layers (heads, T, T), as the paper and its usual code have it."""
    total = None
    for heads in layers:
        fused = {"mean": heads.mean(0), "max": heads.max(0), "min": heads.min(0)}[fusion].copy()
        order = np.sort(fused.ravel())
        fused[fused < order[int(discard * (len(order) - 1) + 0.999999)]] = 0
        with_residual = 0.5 * fused + 0.5 * np.eye(len(fused))
        step = with_residual / with_residual.sum(axis=1)[:, None]
        total = step if total is None else step @ total
    assert total is not None
    return np.asarray(total)


def slopes(i: int, target: int, layer: int, **how: Any) -> np.ndarray:
    """dS/dA of a sample's layer, by central differences in float64."""
    truth = vits.forward(X[i : i + 1], **how)
    given = {k: truth[f"weights{k}"].copy() for k in range(vits.DEPTH)}
    free = {k: v for k, v in given.items() if k <= layer}  # those behind it follow from it
    found = np.zeros_like(given[layer])
    for at in np.ndindex(*found.shape):
        scores = []
        for step in (1e-5, -1e-5):
            free[layer] = given[layer].copy()
            free[layer][at] += step
            scores.append(vits.forward(X[i : i + 1], given=free, **how)["scores"][0, target])
        found[at] = (scores[0] - scores[1]) / 2e-5
    return found[0]


# Finding it.


@pytest.mark.parametrize("form", vits.FORMS)
def test_every_form_shows_the_same_attention(form: str) -> None:
    truth = vits.forward(X, grouped=form == "grouped")
    model = oi.load(vits.vit(form))
    last = oi.attention(model, X, engine=ENGINE)
    assert last.values.shape == (2, vits.HEADS, *GRID)
    close(last.values, truth["weights1"][:, :, 0, 1:].reshape(last.values.shape))
    close(last.heat, last.values.mean(axis=1))
    assert any("the class token (0)" in note for note in last.notes)
    cell = oi.attention(model, X, layer="0", query="2,1", engine=ENGINE)
    close(cell.values, truth["weights0"][:, :, 1 + 2 * 5 + 1, 1:].reshape(last.values.shape))


@pytest.mark.parametrize("extra", [0, 1, 2, 5])
@pytest.mark.parametrize("pool", ["class", "mean", "all"])
@pytest.mark.parametrize("nhwc", [False, True])
def test_tokens_are_told_apart(extra: int, pool: str, nhwc: bool) -> None:
    """Class and register tokens are no cells; whose attention is shown follows from where the score is read."""
    if pool == "class" and not extra:
        pytest.skip("no class token")
    x = vits.images(1, nhwc)
    found = oi.attention(oi.load(vits.vit(extra=extra, pool=pool, nhwc=nhwc)), x, engine=ENGINE)
    A = vits.forward(vits.images(1), extra=extra, pool=pool)["weights1"]
    rows = {"class": A[:, :, 0], "mean": A[:, :, extra:].mean(axis=2), "all": A.mean(axis=2)}[pool]
    close(found.values, rows[..., extra:].reshape(1, vits.HEADS, *GRID))


def test_whose_attention_it_is_can_be_said() -> None:
    model, A = oi.load(vits.vit(extra=2)), vits.forward(X, extra=2)["weights1"]
    for query, rows in (("1", A[:, :, 1]), ("all", A.mean(axis=2)), ("0,4", A[:, :, 2 + 4])):
        found = oi.attention(model, X, query=query, engine=ENGINE)
        close(found.values, rows[..., 2:].reshape(found.values.shape))
    for wrong in ("17", "3,0", "cat", "-1", "1,2,3"):
        with pytest.raises(InputError, match=r"below 17, or ROW,COLUMN of 3×5 \(--query\)"):
            oi.attention(model, X, query=wrong, engine=ENGINE)


def test_layers_are_named_in_many_ways() -> None:
    model = oi.load(ZOO / "torch_dynamo_vit.onnx")
    x = blobs.floats(blobs.photos(seed=5, count=1))
    for text, name in (
        ("last", "blocks.2.attn"),
        ("-1", "blocks.2.attn"),
        ("1", "blocks.1.attn"),
        ("blocks.0", "blocks.0.attn"),
        ("*.1.*", "blocks.1.attn"),
        ("blocks.1.attn.softmax", "blocks.1.attn"),
    ):
        assert oi.attention(model, x, layer=text, engine=ENGINE).layer == name
    for text, told in (("blocks", "means 3 layers"), ("3", "counted from 0"), ("head", "There is no attention 'head'")):
        with pytest.raises(LayerError, match=told):
            oi.attention(model, x, layer=text, engine=ENGINE)


@pytest.mark.parametrize("exporter", ["dynamo", "legacy"])
def test_windows_of_swin_are_put_together(exporter: str) -> None:
    """Each cell looks at the cells of its window, rolled in every second block: literally, on a picture of indices."""
    model = oi.load(ZOO / f"torch_{exporter}_swin.onnx")
    x = blobs.floats(blobs.photos(seed=5, count=2))
    found = attentions.find(model, Setting(model).places)
    assert len(found) == 4
    for number, at in enumerate(found):
        (h, w), side = SWIN["grids"][number // 2], SWIN["windows"][number // 2]
        tokens, shift = side * side, side // 2 * (number % 2)
        cells = np.roll(np.arange(h * w).reshape(h, w), (-shift, -shift), (0, 1))
        windows = cells.reshape(h // side, side, w // side, side).transpose(0, 2, 1, 3).reshape(-1, tokens)
        assert (at.windows, at.size, at.itself) == (len(windows), (tokens, tokens), True)
        raw = [ENGINE.run(oi.expose(model, [at.tensor]), {"x": x[i : i + 1]})[at.tensor] for i in range(2)]
        for row, column in ((0, 0), (h - 1, w - 1), (5, 7)):
            result = oi.attention(model, x, layer=str(number), query=f"{row},{column}", engine=ENGINE)
            window, token = np.argwhere(windows == row * w + column)[0]
            expected = np.zeros((2, at.heads, h * w))
            expected[:, :, windows[window]] = np.stack(raw).reshape(2, -1, at.heads, tokens, tokens)[
                :, window, :, token
            ]
            close(result.values, expected.reshape(2, at.heads, h, w))
    mean = oi.attention(model, x, engine=ENGINE)
    close(mean.values.sum(axis=(2, 3)), np.ones((2, found[-1].heads)))


# What is no attention, and what is none between the same tokens.


def graph(body: str, shape: tuple[Any, ...] = ("N", 2, 4, 6), **arrays: np.ndarray) -> oi.Model:
    made = parser.parse_graph(f"g (float[1] x) => (float[1] y) {{ {body} }}")
    made.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.FLOAT, shape))
    made.output[0].CopyFrom(onnx.ValueInfoProto(name="y"))
    made.initializer.extend(onnx.numpy_helper.from_array(v, k) for k, v in arrays.items())
    return oi.load(helper.make_model(made, opset_imports=[helper.make_opsetid("", 21)], ir_version=10))


TOKENS = "c = Conv (x, Eye)  f = Reshape (c, Flat)  t = Transpose <perm=[0,2,1]> (f)"  # (N, 24, 2)
FLAT = {"Flat": np.array([0, 2, -1]), "W": np.eye(2, dtype=np.float32), "Axis": np.array([1])}
FLAT |= {"Eye": np.eye(2, dtype=np.float32).reshape(2, 2, 1, 1)}
PICTURES = np.random.default_rng(0).normal(size=(2, 2, 4, 6)).astype(np.float32)
BACK = "s0 = MatMul (t, W)  b = Transpose <perm=[0,2,1]> (t)"


@pytest.mark.parametrize(
    "body",
    [
        f"{TOKENS} y = ReduceMean <keepdims=0> (t, Axis)",
        # Weights of constants: the bins of a box, or classes.
        f"{TOKENS} s = Softmax <axis=-1> (t)  v = MatMul (s, W)  y = ReduceMean <keepdims=0> (v, Axis)",
        # Attention of channels for each other (XCiT).
        f"{TOKENS} {BACK} s = MatMul (b, s0)  p = Softmax <axis=-1> (s)  v = MatMul (p, b)  y = ReduceMean <keepdims=0> (v, Axis)",
    ],
)
def test_what_is_no_attention(body: str) -> None:
    with pytest.raises(LayerError, match="This model has no attention"):
        oi.attention(graph(body, **FLAT), PICTURES, engine=ENGINE)


CROSS = (
    f"{TOKENS} {BACK} s = MatMul (Asked, b)  p = Softmax <axis=-1> (s)  v = MatMul (p, t)"
    "  y = ReduceMean <keepdims=0> (v, Axis)"
)


def test_cross_attention_is_shown_and_not_rolled_out() -> None:
    """Three learned questions about the picture, as DETR has them."""
    asked = np.array([[[1, 0], [0, 2], [-1, 1]]], np.float32)
    model = graph(CROSS, **FLAT, Asked=asked)
    tokens = PICTURES.reshape(2, 2, 24).transpose(0, 2, 1).astype(np.float64)
    s = asked[0] @ tokens.transpose(0, 2, 1)
    expected = np.exp(s) / np.exp(s).sum(axis=-1, keepdims=True)
    close(oi.attention(model, PICTURES, query="1", engine=ENGINE).values, expected[:, 1].reshape(2, 1, 4, 6))
    close(oi.attention(model, PICTURES, engine=ENGINE).values, expected.mean(axis=1).reshape(2, 1, 4, 6))
    with pytest.raises(InputError, match=r"There is no token '0,1': give a number below 3 \(--query\)"):
        oi.attention(model, PICTURES, query="0,1", engine=ENGINE)
    for name in ("attention_rollout", "generic_attention", "transformer_attribution"):
        with pytest.raises(LayerError, match="is cross attention: its 3 queries and 24 keys"):
            getattr(oi, name)(model, PICTURES, engine=ENGINE)


def test_what_a_detector_asks_the_picture() -> None:
    """DETR: no class scores, eight questions, and an encoder over the cells of the picture."""
    x = blobs.floats(blobs.photos(seed=5, count=2, size=(64, 96)))
    model = oi.load(ZOO / "torch_legacy_detr.onnx")
    asked = oi.attention(model, x, layer="decoders.1", query="3", engine=ENGINE)
    assert asked.values.shape[2:] == (8, 12)
    close(asked.values.sum(axis=(2, 3)), np.ones(asked.values.shape[:2]))
    assert oi.attention(model, x, layer="0", query="2,3", engine=ENGINE).values.shape == asked.values.shape
    with pytest.raises(LayerError, match="rollout follows the same tokens"):
        oi.attention_rollout(model, x, target="logits[0, 0]", engine=ENGINE)


def test_windows_are_not_rolled_out() -> None:
    x = blobs.floats(blobs.photos(seed=5, count=1))
    with pytest.raises(LayerError, match=r"'stage1.0.attn' attends within \d+ windows.*\(attention\)"):
        oi.attention_rollout(ZOO / "torch_dynamo_swin.onnx", x, engine=ENGINE)


# Rollouts.


@pytest.mark.parametrize(("fusion", "discard"), [("mean", 0), ("max", 0), ("min", 0), ("mean", 0.7), ("max", 0.9)])
def test_rollout_by_its_formula(fusion: Any, discard: float) -> None:
    truth = vits.forward(X)
    found = oi.attention_rollout(oi.load(vits.vit()), X, fusion=fusion, discard=discard, engine=ENGINE)
    for i in range(2):
        expected = literal_rollout([truth[f"weights{k}"][i] for k in range(2)], fusion, discard)
        close(found.values[i], expected[0, 1:].reshape(GRID), 1e-4)
    last = oi.attention_rollout(oi.load(vits.vit()), X, start=1, query="1,1", engine=ENGINE)
    close(last.values[1], literal_rollout([truth["weights1"][1]], "mean", 0)[1 + 6, 1:].reshape(GRID), 1e-4)


def test_rows_of_a_rollout_are_shares() -> None:
    layers = [np.random.default_rng(k).dirichlet(np.ones(7), (3, 7)) for k in range(4)]
    np.testing.assert_allclose(rollout(layers, "max", 0.5).sum(axis=1), 1)
    np.testing.assert_allclose(rollout([np.eye(7)[None]] * 3), np.eye(7))


@pytest.mark.parametrize(("form", "how"), [("plain", {}), ("fused", {}), ("merged", dict(extra=0, pool="mean"))])
def test_generic_attention_by_its_formula(form: str, how: dict[str, Any]) -> None:
    """R <- R + E_h (dS/dA * A)+ R, with gradients from central differences."""
    extra, target = how.get("extra", 1), 2
    found = oi.generic_attention(oi.load(vits.vit(form, **how)), X, target=target, engine=ENGINE)
    for i in range(2 if form == "plain" else 1):
        truth = vits.forward(X[i : i + 1], **how)
        R = np.eye(extra + 15)
        for k in range(vits.DEPTH):
            R = R + np.maximum(slopes(i, target, k, **how) * truth[f"weights{k}"][0], 0).mean(axis=0) @ R
        row = R[0] if extra else R.mean(axis=0)
        close(found.values[i], row[extra:].reshape(GRID), 1e-3)


def test_transformer_attribution_by_hand() -> None:
    """One layer: S = E_t (A V)_t w. Relevance of A is half of what its products bring; zplus behind it."""
    rng = np.random.default_rng(4)
    values, head = rng.normal(size=(2, 3)), rng.normal(size=(3, 2))
    body = (
        f"{TOKENS} {BACK} s = MatMul (s0, b)  p = Softmax <axis=-1> (s)  u = MatMul (t, Values)  v = MatMul (p, u)"
        "  m = ReduceMean <keepdims=0> (v, Axis)  y = MatMul (m, Head)"
    )
    given = {"Values": values.astype(np.float32), "Head": head.astype(np.float32)}
    found = oi.transformer_attribution(graph(body, **FLAT, **given), PICTURES, target=1, engine=ENGINE)
    for i in range(2):
        t = PICTURES[i].reshape(2, 24).T.astype(np.float64)
        s = t @ t.T
        A = np.exp(s - s.max(axis=1, keepdims=True))
        A /= A.sum(axis=1, keepdims=True)
        u, w = t @ values, head[:, 1]
        v, m = A @ u, (A @ u).mean(axis=0)
        plus = np.maximum(m * w, 0)
        R_m = plus / plus.sum()  # from 1 for the target
        R_v = v / 24 / m * R_m
        R_A = A * ((R_v / v) @ u.T) / 2
        gradient = np.outer(np.ones(24), w / 24) @ u.T
        C = np.eye(24) + np.maximum(gradient * R_A, 0)
        close(found.values[i], C.mean(axis=0).reshape(4, 6), 1e-3)


def test_a_patch_that_alone_is_looked_at() -> None:
    """A transformer made by hand: the class token's query fits one colour, and so the patch that has it."""
    arrays = {k: np.zeros_like(v) for k, v in CLASS.items()}
    for i in range(vits.DEPTH):
        arrays[f"S{i}"][:] = arrays[f"U{i}"][:] = 1
        arrays[f"V{i}"][:] = arrays[f"O{i}"][:] = np.eye(vits.DIM)
    arrays["S"][:] = 1
    arrays["Patch"][0, 0] = 1 / 16  # the first feature is how red a patch is
    arrays["Extra"][0, 0, 1] = 4  # the second marks the class token
    for i in range(vits.DEPTH):
        arrays[f"Q{i}"][1, 0] = arrays[f"Q{i}"][1, 4] = 3  # both heads ask for red
        arrays[f"K{i}"][0, 0] = arrays[f"K{i}"][0, 4] = 3
    arrays["Head"][0, 1] = 1
    model = oi.load(vits.vit(weights=arrays))
    for row, column in np.ndindex(*GRID):
        x = np.zeros((1, 3, *vits.SIZE), np.float32)
        x[0, 0, row * 4 : row * 4 + 4, column * 4 : column * 4 + 4] = 6
        for name in ("attention", "attention_rollout", "generic_attention", "transformer_attribution"):
            given = {} if name == "attention" else {"target": 1}
            heat = getattr(oi, name)(model, x, engine=ENGINE, **given).heat[0]
            assert np.unravel_index(heat.argmax(), GRID) == (row, column), name
            assert heat.max() > 1.2 * np.partition(heat.ravel(), -2)[-2], name


@pytest.mark.parametrize("exporter", ["dynamo", "legacy"])
def test_the_object_is_found(exporter: str) -> None:
    """A trained transformer with registers: what it looks at is the only thing in the picture, nearly always."""
    photos = blobs.photos(seed=11, count=8)
    model, x = oi.load(ZOO / f"torch_{exporter}_vit.onnx"), blobs.floats(photos)
    for name, most in (("attention_rollout", 8), ("generic_attention", 6), ("transformer_attribution", 6)):
        hits = 0
        for heat, photo in zip(getattr(oi, name)(model, x, engine=ENGINE).heat, photos, strict=True):
            row, column = np.unravel_index(heat.argmax(), (6, 10))
            x0, y0, x1, y1 = photo.boxes[0]
            hits += bool(x0 < 8 * column + 8 and 8 * column < x1 and y0 < 8 * row + 8 and 8 * row < y1)
        assert hits >= most, name


ONE_NET = ["torch_legacy_vit", "torch_dynamo_vit_attention", "ort_vit_extended", "ort_vit_dynamic", "onnx_vit_fp16"]


@pytest.mark.parametrize("file", ONE_NET)
def test_one_transformer_in_many_files(file: str) -> None:
    """Exporters, fused nodes, int8 and half precision say the same, as near as their numbers are."""
    x, near = (
        blobs.floats(blobs.photos(seed=5, count=2)),
        {"ort_vit_dynamic": 0.1, "onnx_vit_fp16": 0.01}.get(file, 1e-3),
    )
    for name in ("attention", "attention_rollout", "generic_attention", "transformer_attribution"):
        # Relevance is a share of sums, which may nearly cancel: rounded ones, then, are far from each other.
        within = 0.4 if near > 1e-3 and name == "transformer_attribution" else near
        one, other = (getattr(oi, name)(ZOO / f"{f}.onnx", x, engine=ENGINE) for f in ("torch_dynamo_vit", file))
        assert np.abs(one.heat - other.heat).max() < within * one.heat.max(), name
        assert [h.argmax() for h in one.heat] == [h.argmax() for h in other.heat]


# Tokens of no picture.


def test_attention_of_a_text() -> None:
    rng = np.random.default_rng(0)
    body = (
        "t = Gather (Words, x)  b = Transpose <perm=[0,2,1]> (t)  s = MatMul (t, b)  p = Softmax <axis=-1> (s)"
        "  v = MatMul (p, t)  f = Gather <axis=1> (v, First)  y = MatMul (f, Head)"
    )
    made = parser.parse_graph(f"g (int64[N,5] x) => (float[N,2] y) {{ {body} }}")
    arrays = {"Words": rng.normal(size=(9, 4)), "Head": rng.normal(size=(4, 2)), "First": np.array(0)}
    made.initializer.extend(
        onnx.numpy_helper.from_array(v.astype(np.float32 if v.dtype.kind == "f" else np.int64), k)
        for k, v in arrays.items()
    )
    model = oi.load(helper.make_model(made, opset_imports=[helper.make_opsetid("", 21)], ir_version=10))
    words = np.array([[1, 2, 3, 4, 8], [0, 5, 5, 6, 7]])
    t = arrays["Words"][words]
    A = np.exp(t @ t.transpose(0, 2, 1))
    A /= A.sum(axis=-1, keepdims=True)
    found = oi.attention(model, words, engine=ENGINE)
    close(found.values, A[:, 0])
    close(found.extra["heads"], A[:, None, 0])
    rolled = oi.attention_rollout(model, words, engine=ENGINE)
    close(rolled.values, (A[:, 0] + np.eye(5)[0]) / 2)
    assert rolled.overlay(0).dtype == np.uint8


# Attention nodes written out.


FUSED = [c for c in cases.CASES if c.op == "Attention"]


@pytest.mark.parametrize("case", FUSED, ids=str)
def test_written_out_it_computes_the_same(case: Case) -> None:
    model = load(case, TensorProto.FLOAT, False, forward64(case)(list(case.inputs)))
    copy = model.clone()
    assert unfused(copy.ir)
    assert not any(node.op_type == "Attention" for node in copy.ir.graph)
    feeds = {n: typed(x, TensorProto.FLOAT) for n, x in zip(names(case), case.inputs, strict=True) if x is not None}
    whole, parts = (run(m.to_bytes(), feeds) for m in (model, copy))
    for name, values in whole.items():
        np.testing.assert_allclose(parts[name], values, rtol=2e-3, atol=2e-4)


# Relevance.


@pytest.mark.parametrize("form", ["plain", "exp", "einsum", "fused", "grouped"])
@pytest.mark.parametrize("composite", ["epsilon", "gamma"])
def test_relevance_is_conserved_through_attention(form: str, composite: Any) -> None:
    found = oi.lrp(oi.load(vits.vit(form)), X[:1], composite=composite, wrt=["x0"], engine=ENGINE)
    np.testing.assert_allclose(found.measures["conservation"], 1, atol=1e-3)


def test_attnlrp_of_a_fused_attention_is_that_of_its_parts() -> None:
    found = [oi.lrp(oi.load(vits.vit(form)), X, attention="attnlrp", engine=ENGINE) for form in ("plain", "fused")]
    close(found[1].values, found[0].values, 1e-3)
    assert np.abs(found[0].values - oi.lrp(oi.load(vits.vit()), X, engine=ENGINE).values).max() > 1e-3


# Commands and pictures.


def test_commands_draw(tmp_path: Path) -> None:
    photo = blobs.photos(seed=5, count=1)[0]
    image.write(tmp_path / "blob.png", photo.pixels)
    model, given = str(ZOO / "torch_legacy_vit.onnx"), ["--mean", "0", "--std", "1", "-o", str(tmp_path), "--panel"]
    for name in ("attention", "attention_rollout"):
        done = CliRunner().invoke(cli, [name, model, str(tmp_path / "blob.png"), *given])
        assert done.exit_code == 0, done.output
        assert image.read(tmp_path / f"blob.{name}.panel.png").shape[2] == 3
    heads = image.read(tmp_path / "blob.attention.png")
    assert heads.shape[1] > 3 * 300 - 1  # the mean and four heads, three in a row


@pytest.mark.parametrize("name", ["attention_rollout", "generic_attention", "transformer_attribution"])
def test_the_position_that_is_explained_is_the_query(name: str) -> None:
    """A decoder has scores at every position: those at one are read from its own token, which sees none behind it."""
    x = np.random.default_rng(0).integers(1, 15, (2, 12))
    model = oi.load(ZOO / "torch_legacy_causal.onnx")
    found = getattr(oi, name)(model, x, "logits[5, 3]", engine=ENGINE)
    asked = getattr(oi, name)(model, x, "logits[5, 3]", query="5", engine=ENGINE)
    np.testing.assert_array_equal(found.values, asked.values)
    assert (found.values[:, 5] > 0).all()
    assert not found.values[:, 6:].any()
    assert any("the token (5)" in note for note in found.notes)
