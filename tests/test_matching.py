"""Layers that are paired hold the same values; what cannot be told is left alone or warned of."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from onnx_inspect.cli import cli
from onnx_inspect.engine import Engine
from onnx_inspect.fingerprints import distances, fingerprints
from onnx_inspect.matching import Matches, match
from onnx_inspect.model import Model

from .graphs import i, r
from .shared import ZOO, needs_zoo

Array = NDArray[np.float32]
rng = np.random.default_rng(0)


def a(*shape: int, low: float = -1.0) -> Array:
    return rng.uniform(low, 1.0, shape).astype(np.float32)


W, V, B, C, D, E = a(6, 3, 3, 3), a(6, 6, 3, 3), a(6), a(6), a(6, 5), a(5)
GAIN, SHIFT, MEAN, VAR = a(6, low=0.5), a(6), a(6), a(6, low=0.2)
S = (GAIN / np.sqrt(VAR + 1e-5)).astype(np.float32)
X = a(2, 3, 12, 12)
HEAD = "p = GlobalAveragePool(s) q = Reshape(p, Z)"
FOLDED = f"c = Conv(x, W, B) s = Relu(c) {HEAD} y = Gemm(q, D, E)"
Z = i(0, -1)


def load(body: str, names: list[str] | None = None, **weights: Array) -> Model:
    proto = r(21, body, x=X, **weights).proto()
    for node, name in zip(proto.graph.node, names or [], strict=False):
        node.name = name
    return Model.load(proto)


def folded(**more: Array) -> Model:
    bias = (S * (C - MEAN) + SHIFT).astype(np.float32)
    return load(FOLDED, **({"W": W * S[:, None, None, None], "B": bias, "D": D, "E": E, "Z": Z} | more))


def pairs(found: Matches) -> dict[str, tuple[str, tuple[str, ...]]]:
    return {p.a.tensor: (p.b.tensor, p.how) for p in found.pairs}


def apart(one: Model, other: Model, found: Matches) -> float:
    """The largest difference between paired tensors, axes aside, as a share of the largest value."""
    engine, values = Engine("cpu", threads=1), []
    for model, tensors in ((one, [p.a.tensor for p in found.pairs]), (other, [p.b.tensor for p in found.pairs])):
        spec = model.inputs[0]
        batch = (
            np.random.default_rng(1)
            .normal(size=(2, *sorted(d for d in spec.shape[1:] if isinstance(d, int))))
            .astype(np.float32)
        )
        feed = batch if spec.shape[1] == batch.shape[1] else batch.transpose(0, 2, 3, 1)
        ran = engine.run(model, {spec.name: feed}, tensors)
        values.append([np.sort(ran[t].astype(np.float64).reshape(2, -1)) for t in tensors])
    return max((np.abs(u - v).max() / np.abs(u).max() for u, v in zip(*values, strict=True)), default=0.0)


SPELLED = {
    "batch normalisation": "c = Conv(x, W, C) b = BatchNormalization(c, GAIN, SHIFT, MEAN, VAR)",
    "bias apart": "c = Conv(x, W) m = Add(BIAS, c) b = BatchNormalization(m, GAIN, SHIFT, MEAN, VAR)",
    "spelled out": "c = Conv(x, W, C) m = Sub(c, MEANS) n = Mul(m, SCALE) b = Add(n, SHIFTS)",
    "divided": "c = Conv(x, W, C) m = Sub(c, MEANS) n = Div(m, UNSCALE) b = Add(n, SHIFTS)",
    "through copies": "c = Conv(x, W, C) t = Transpose<perm=[0,2,3,1]>(c) m = Sub(t, MEAN) n = Mul(S, m) u = Identity(n) b = Add(u, SHIFT)",
}  # fmt: skip


@pytest.mark.parametrize("form", SPELLED)
def test_a_folded_batch_normalisation_is_found(form: str) -> None:
    last = "t2 = Transpose<perm=[0,3,1,2]>(b) s = Relu(t2)" if form == "through copies" else "s = Relu(b)"
    columns = {
        n: v.reshape(1, -1, 1, 1)
        for n, v in {"BIAS": C, "MEANS": MEAN, "SCALE": S, "UNSCALE": 1 / S, "SHIFTS": SHIFT}.items()
    }
    given = {
        "W": W,
        "C": C,
        "GAIN": GAIN,
        "SHIFT": SHIFT,
        "MEAN": MEAN,
        "VAR": VAR,
        "S": S,
        "D": D,
        "E": E,
        "Z": Z,
    } | columns
    body = f"{SPELLED[form]} {last} {HEAD} m2 = MatMul(q, D) y = Add(m2, E)"
    other = load(
        body,
        **{n: v for n, v in given.items() if n in body.replace("(", " ").replace(",", " ").replace(")", " ").split()},
    )
    found = match(folded(), other)
    assert pairs(found) == {
        "c": ("b", ("weights",)), "s": ("s", ("neighbours",)), "p": ("p", ("neighbours",)),
        "q": ("q", ("neighbours",)), "y": ("y", ("weights",)),
    }  # fmt: skip
    assert apart(folded(), other, found) < 1e-5
    assert found.only_a == [] and {"c", "m2"} <= {c.tensor for c in found.only_b}


def test_fingerprints_are_those_of_the_weights() -> None:
    """Against the numbers of the folded weights themselves."""
    body = "c = Conv(x, W, C) y = BatchNormalization(c, G, H, M, V)"
    model = load(body, W=W, C=C, G=GAIN, H=SHIFT, M=MEAN, V=VAR)
    _, made = fingerprints(model.ir.graph).values()
    weight = W.astype(np.float64) * (GAIN / np.sqrt(VAR + 1e-5))[:, None, None, None]
    wanted = [f(weight.reshape(6, -1), axis=1) for f in (np.mean, np.std, np.min, np.max)]
    np.testing.assert_allclose(made.channels, np.stack(wanted, axis=1), rtol=1e-5)
    np.testing.assert_allclose(made.bias, (C - MEAN) * GAIN / np.sqrt(VAR + 1e-5) + SHIFT, rtol=1e-5)
    assert made.scaled(-np.ones(6)).channels[:, 2] == pytest.approx(-made.channels[:, 3])


@pytest.mark.parametrize("layout", ["Gemm(x, T)", "Gemm<transB=1>(x, U)", "MatMul(x, T)"])
def test_layouts_of_weights(layout: str) -> None:
    weight = a(3, 7)
    one, other = (r(21, f"y = {body}", x=X[:, :, 0, 0], **{n: w for n, w in (("T", weight), ("U", weight.T)) if f", {n})" in body}).proto() for body in ("MatMul(x, T)", layout))  # fmt: skip
    assert pairs(match(Model.load(one), Model.load(other))) == {"y": ("y", ("weights",))}


def test_distance_is_the_largest_difference_in_units_of_the_largest_number() -> None:
    model, more = (load("y = Conv(x, W, B)", W=W + change, B=B) for change in (0, np.float32(0.05)))
    one, other = (next(iter(fingerprints(m.ir.graph).values())) for m in (model, more))
    assert distances(one, [one, other]) == pytest.approx([0, 0.05 / np.abs(W + 0.05).max()], rel=1e-4)


def test_half_precision_and_quantised_weights() -> None:
    q = np.abs(W).max() / 127
    body = "w = DequantizeLinear(Q, F) c = Conv(x, w, B) s = Relu(c) y = Conv(s, V)"
    given = {
        "Q": np.round(W / q).astype(np.int8),
        "F": np.float32(q),
        "B": B,
        "V": V.astype(np.float16).astype(np.float32),
    }
    found = match(load("c = Conv(x, W, B) s = Relu(c) y = Conv(s, V)", W=W, B=B, V=V), load(body, **given))
    assert pairs(found)["c"][1][0] in ("weights", "rounded weights")
    assert pairs(found)["y"] == ("y", ("weights",))
    rough = np.round(W * 30) / 30
    assert pairs(match(load("y = Conv(x, W)", W=W), load("y = Conv(x, W)", W=rough)))["y"][1] == ("rounded weights",)


def test_weights_that_two_layers_share_tell_nothing() -> None:
    body = "c = Conv(x, W) d = Conv(c, V) e = Conv(d, V) y = Relu(e)"
    found = match(load(body, W=W, V=V), load(body, W=W, V=V))
    assert pairs(found) == {"c": ("c", ("weights",)), **{t: (t, ("neighbours",)) for t in "dey"}}
    unlike = load("c = Conv(x, W) d = Conv(c, V) y = Conv(c, V)", W=W, V=V)
    assert set(pairs(match(load("d = Conv(x, W) y = Conv(d, V)", W=W, V=V), unlike))) == {"d"}


SCOPES = ["/features/features.0/Conv", "/features/features.1/Relu", "/pool/Pool", "/Reshape", "/fc/Gemm"]


@pytest.mark.parametrize(
    "names",
    [
        SCOPES,
        ["/net" + s for s in SCOPES],
        [
            "net_1/features_1/0_1/Conv2D",
            "net_1/features_1/1_1/Relu",
            "net_1/pool_1/Mean",
            "Reshape__1",
            "net_1/fc_1/Dense",
        ],
    ],
)
def test_names_without_what_exporters_add(names: list[str]) -> None:
    given = {"W": W, "B": B, "D": D, "E": E, "Z": Z}
    changed = given | {"W": a(*W.shape), "D": a(*D.shape)}
    found = match(load(FOLDED, SCOPES, **given), load(FOLDED, names, **changed))
    assert pairs(found) == {
        "c": ("c", ("name", "other weights")), "s": ("s", ("name",)), "p": ("p", ("name",)),
        "q": ("q", ("neighbours",)), "y": ("y", ("name", "other weights")),
    }  # fmt: skip


def test_a_name_is_not_enough_for_other_sizes() -> None:
    names = ["/conv/Conv"]
    assert not match(load("y = Conv(x, W)", names, W=W), load("y = Conv(x, W)", names, W=a(6, 3, 5, 5))).pairs
    assert not match(load("y = Relu(x)", names), load("y = Abs(x)", names)).pairs


def test_weights_and_names_agree() -> None:
    found = match(load("y = Conv(x, W)", ["/conv/Conv"], W=W), load("y = Conv(x, W)", ["/conv/Conv"], W=W))
    assert pairs(found)["y"][1] == ("weights", "name")


def test_neighbours_that_could_be_either_are_left_alone() -> None:
    body = "p = Relu(x) q = Relu(x) y = Add(p, q)"
    assert not match(load(body), load(body)).pairs
    other = load("t = Identity(x) p = Relu(t) q = Abs(x) y = Sub(q, p)")
    assert pairs(match(load("p = Relu(x) q = Abs(x) y = Sub(p, q)"), other)) == {
        "p": ("p", ("neighbours",)), "q": ("q", ("neighbours",)),
    }  # fmt: skip
    assert pairs(match(load("p = Relu(x) q = Abs(x) y = Add(p, q)"), load("p = Relu(x) q = Abs(x) y = Add(q, p)")))["y"]


TWINS = ["torch_legacy", "jax_nchw", "jax_nhwc", "keras_tensorflow", "keras_torch", "paddle", "tf2onnx_nchw_op13", "tf2onnx_nhwc_op18"]  # fmt: skip


@needs_zoo
@pytest.mark.parametrize("twin", TWINS)
def test_paired_layers_of_twins_hold_equal_values(twin: str) -> None:
    one, other = (Model.load(ZOO / "twins" / f"twin_{name}.onnx") for name in ("torch_dynamo", twin))
    found = match(one, other)
    assert len(found.pairs) == 11 and not found.only_a
    assert not any("other weights" in p.how for p in found.pairs)
    assert apart(one, other, found) < 1e-4


@needs_zoo
@pytest.mark.parametrize(("net", "count"), [("cnn", 11), ("unet", 17), ("mbv3", 13), ("vit", 58)])
def test_both_torch_exporters(net: str, count: int) -> None:
    one, other = (Model.load(ZOO / f"torch_{exporter}_{net}.onnx") for exporter in ("dynamo", "legacy"))
    found = match(one, other)
    assert len(found.pairs) >= count
    assert apart(one, other, found) < 1e-4


@needs_zoo
def test_a_broken_twin_is_warned_of() -> None:
    one, other = (Model.load(ZOO / "twins" / f"twin_torch_{name}.onnx") for name in ("dynamo", "BUG_bneps"))
    assert [p.a.name for p in match(one, other).pairs if "other weights" in p.how] == ["bn1", "bn2", "bn3"]


def test_command(tmp_path: Path) -> None:
    body = {"one": "y = Conv(x, W)", "other": "t = Conv(x, W) s = Abs(t) y = Exp(s)"}
    for name, text in body.items():
        onnx.save(r(21, text, x=X, W=W).proto(), tmp_path / f"{name}.onnx")
    words = ["layers", str(tmp_path / "one.onnx"), "--match", str(tmp_path / "other.onnx")]
    said = CliRunner().invoke(cli, words, prog_name="onnx-inspect").stdout.splitlines()
    assert [line.split() for line in said] == [
        ["one.onnx", "other.onnx", "how"], ["conv_1", "conv_1", "weights"], [], ["only", "in", "other.onnx", "(2):"],
        ["abs_1,", "exp_1"],
    ]  # fmt: skip
    found = json.loads(CliRunner().invoke(cli, [*words, "--json"], prog_name="onnx-inspect").stdout)
    assert [(p["a"]["tensor"], p["b"]["tensor"], p["how"]) for p in found["pairs"]] == [("y", "t", ["weights"])]
    assert [c["name"] for c in found["only_b"]] == ["abs_1", "exp_1"] and found["only_a"] == []
    some = json.loads(CliRunner().invoke(cli, [*words, "conv*", "--json"], prog_name="onnx-inspect").stdout)
    assert len(some["pairs"]) == 1 and some["only_b"] == []


def test_strangers(tmp_path: Path) -> None:
    for name, text in {"one": "y = Conv(x, W)", "other": "y = Tanh(x)"}.items():
        onnx.save(r(21, text, x=X, W=W).proto(), tmp_path / f"{name}.onnx")
    words = ["layers", str(tmp_path / "one.onnx"), "--match", str(tmp_path / "other.onnx")]
    said = CliRunner().invoke(cli, words, prog_name="onnx-inspect").stdout.splitlines()
    assert said[0].startswith("no layer of one is known to be one of the other") and len(said) == 7
