"""Small transformers for tests, in the ways that exporters write attention, and the same in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, parser

SIZE, PATCH, DIM, HEADS, DEPTH, CLASSES = (12, 20), 4, 8, 2, 2, 4
FORMS = ("plain", "guarded", "merged", "transposed", "einsum", "exp", "fused", "grouped", "packed")


def arrays(extra: int = 1, size: tuple[int, int] = SIZE, seed: int = 0) -> dict[str, np.ndarray]:
    """Weights: the same ones every time."""
    rng = np.random.default_rng(seed)
    tokens = extra + size[0] // PATCH * (size[1] // PATCH)
    shapes: dict[str, tuple[int, ...]] = {"Patch": (DIM, 3, PATCH, PATCH), "Position": (1, tokens, DIM)}
    shapes |= {"Extra": (1, extra, DIM)} if extra else {}
    for i in range(DEPTH):
        shapes |= {f"{name}{i}": (DIM, DIM) for name in ("Q", "K", "V", "O")} | {f"S{i}": (DIM,), f"U{i}": (DIM,)}
        shapes |= {f"Up{i}": (DIM, 2 * DIM), f"Down{i}": (2 * DIM, DIM)}
    shapes |= {"S": (DIM,), "Head": (DIM, CLASSES)}
    found = {k: rng.normal(0, 0.15 if k == "Patch" else 0.7, s).astype(np.float32) for k, s in shapes.items()}
    return found | {k: 1 + 0.2 * v for k, v in found.items() if k[0] in "SU" and k[:2] != "Up"}


def vit(
    form: str = "plain",
    *,
    extra: int = 1,
    pool: str = "class",
    nhwc: bool = False,
    size: tuple[int, int] = SIZE,
    weights: dict[str, np.ndarray] | None = None,
) -> onnx.ModelProto:
    """Patches, `extra` tokens before them, two blocks, the class token or the mean of the patches, a dense layer.

    Args:
        form: how attention is written: "plain" as (N, heads, T, T); "guarded" with Where, Cast and Dropout; "merged"
            with (N heads, T, T); "transposed" with keys before queries; "einsum"; "exp" without a Softmax; "fused" as
            an Attention of opset 23; "grouped" as that with one head of keys; "packed" as onnxruntime's Attention.
        extra: tokens that are no patch.
        pool: "class" for the first token, "mean" for the mean of the patches, "all" for that of all tokens.
        nhwc: channels come last.
        size: of the picture.
        weights: None for those of `arrays`.
    """
    h, w = (n // PATCH for n in size)
    t, width = extra + h * w, DIM // HEADS
    lines = ["c = Transpose <perm=[0,3,1,2]> (image)"] if nhwc else []
    lines += [f"p = Conv <strides=[{PATCH},{PATCH}]> ({'c' if nhwc else 'image'}, Patch)", "f = Reshape (p, Flat)"]
    lines += ["g = Transpose <perm=[0,2,1]> (f)"]
    if extra:
        lines += ["n = Shape <start=0, end=1> (g)", "e0 = Concat <axis=0> (n, OneOne)", "e = Expand (Extra, e0)"]
        lines += ["a = Concat <axis=1> (e, g)"]
    lines += [f"x0 = Add ({'a' if extra else 'g'}, Position)"]
    for i in range(DEPTH):
        lines += [f"l{i} = LayerNormalization (x{i}, S{i})", *_attention(form, i)]
        lines += [f"o{i} = MatMul (y{i}, O{i})", f"r{i} = Add (x{i}, o{i})", f"m{i} = LayerNormalization (r{i}, U{i})"]
        lines += [f"u{i} = MatMul (m{i}, Up{i})", f"v{i} = Relu (u{i})", f"d{i} = MatMul (v{i}, Down{i})"]
        lines += [f"x{i + 1} = Add (r{i}, d{i})"]
    lines += [f"z = LayerNormalization (x{DEPTH}, S)"]
    first = {"class": "z0 = Gather <axis=1> (z, First)", "mean": "zs = Slice (z, From, To, One)", "all": ""}[pool]
    lines += [first] * bool(first)
    if pool != "class":
        lines += [f"z0 = ReduceMean <keepdims=0> ({'zs' if pool == 'mean' else 'z'}, One)"]
    lines += ["scores = MatMul (z0, Head)"]
    given = weights or arrays(extra, size)
    given = given | {
        "Flat": np.array([0, DIM, -1]), "OneOne": np.array([1, 1]), "First": np.array(0), "From": np.array([extra]),
        "To": np.array([t]), "One": np.array([1]), "Split": np.array([0, 0, HEADS, width]),
        "Merge": np.array([-1, t, width]), "Unmerge": np.array([-1, HEADS, t, width]), "Join": np.array([0, 0, DIM]),
        "Scale": np.float32(width**-0.5), "Zero": np.float32(0), "Last": np.array([-1]),
    }  # fmt: skip
    if form == "packed":
        given |= {f"W{i}": np.concatenate([given[f"{k}{i}"] for k in "QKV"], axis=1) for i in range(DEPTH)}
        given |= {f"B{i}": np.zeros(3 * DIM, np.float32) for i in range(DEPTH)}
    if form == "grouped":
        given |= {f"{k}{i}": given[f"{k}{i}"][:, :width] for k in "KV" for i in range(DEPTH)}
    graph = parser.parse_graph("g (float[1] image) => (float[1] scores) { " + "\n".join(lines) + " }")
    shape = ["N", *size, 3] if nhwc else ["N", 3, *size]
    graph.input[0].CopyFrom(helper.make_tensor_value_info("image", TensorProto.FLOAT, shape))
    graph.output[0].CopyFrom(helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", CLASSES]))
    used = {name for node in graph.node for name in node.input}
    graph.initializer.extend(
        numpy_helper.from_array(np.asarray(v, np.float32 if np.asarray(v).dtype.kind == "f" else np.int64), k)
        for k, v in given.items()
        if k in used
    )
    opsets = [helper.make_opsetid("", 23 if form in ("fused", "grouped") else 21)]
    opsets += [helper.make_opsetid("com.microsoft", 1)] if form == "packed" else []
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def _attention(form: str, i: int) -> list[str]:
    """From l, normalised tokens, to y, what attention makes of them, both (N, T, DIM)."""
    q, k, v = (f"{name}{i} = MatMul (l{i}, {name.upper()[1]}{i})" for name in ("qq", "kk", "vv"))
    if form == "packed":
        return [f"y{i} = com.microsoft.Attention <num_heads={HEADS}> (l{i}, W{i}, B{i})"]
    if form in ("fused", "grouped"):
        kv = HEADS if form == "fused" else 1
        return [q, k, v, f"y{i} = Attention <q_num_heads={HEADS}, kv_num_heads={kv}> (qq{i}, kk{i}, vv{i})"]
    lines = [q, k, v, *(f"{n}r{i} = Reshape ({n}{n}{i}, Split)" for n in "qkv")]
    if form == "einsum":
        lines += [f'ss{i} = Einsum <equation="bqhd,bkhd->bhqk"> (qr{i}, kr{i})', f"sc{i} = Mul (ss{i}, Scale)"]
        lines += [f"weights{i} = Softmax <axis=3> (sc{i})"]
        return [
            *lines,
            f'w{i} = Einsum <equation="bhqk,bkhd->bqhd"> (weights{i}, vr{i})',
            f"y{i} = Reshape (w{i}, Join)",
        ]
    lines += [f"{n}h{i} = Transpose <perm=[0,2,1,3]> ({n}r{i})" for n in "qkv"]
    four = "h"
    if form == "merged":
        four, lines = "m", [*lines, *(f"{n}m{i} = Reshape ({n}h{i}, Merge)" for n in "qkv")]
    turn = "0,2,1" if form == "merged" else "0,1,3,2"
    if form == "transposed":
        lines += [f"qt{i} = Transpose <perm=[{turn}]> (qh{i})", f"ss{i} = MatMul (kh{i}, qt{i})"]
        lines += [f"sc{i} = Mul (ss{i}, Scale)", f"weights{i} = Softmax <axis=2> (sc{i})"]
        lines += [f"vt{i} = Transpose <perm=[{turn}]> (vh{i})", f"wt{i} = MatMul (vt{i}, weights{i})"]
        lines += [f"w{i} = Transpose <perm=[0,3,1,2]> (wt{i})"]
        return [*lines, f"y{i} = Reshape (w{i}, Join)"]
    lines += [f"kt{i} = Transpose <perm=[{turn}]> (k{four}{i})", f"ss{i} = MatMul (q{four}{i}, kt{i})"]
    lines += [f"sc{i} = Mul (ss{i}, Scale)"]
    if form == "exp":
        lines += [f"mx{i} = ReduceMax (sc{i}, Last)", f"sm{i} = Sub (sc{i}, mx{i})", f"ex{i} = Exp (sm{i})"]
        lines += [f"su{i} = ReduceSum (ex{i}, Last)", f"weights{i} = Div (ex{i}, su{i})"]
    else:
        lines += [f"weights{i} = Softmax <axis=-1> (sc{i})"]
    found = f"weights{i}"
    if form == "guarded":
        lines += [f"nan{i} = IsNaN (weights{i})", f"safe{i} = Where (nan{i}, Zero, weights{i})"]
        lines += [
            f"wide{i} = Cast <to=11> (safe{i})",
            f"back{i} = Cast <to=1> (wide{i})",
            f"drop{i} = Dropout (back{i})",
        ]
        found = f"drop{i}"
    lines += [f"w{four}{i} = MatMul ({found}, v{four}{i})"]
    lines += [f"wh{i} = Reshape (wm{i}, Unmerge)"] if form == "merged" else []
    return [*lines, f"wr{i} = Transpose <perm=[0,2,1,3]> (wh{i})", f"y{i} = Reshape (wr{i}, Join)"]


def images(count: int = 2, nhwc: bool = False, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Inputs of the transformer."""
    x = np.random.default_rng(3).normal(size=(count, 3, *size)).astype(np.float32)
    return np.ascontiguousarray(np.moveaxis(x, 1, -1)) if nhwc else x


def forward(
    x: np.ndarray,
    *,
    extra: int = 1,
    pool: str = "class",
    weights: dict[str, np.ndarray] | None = None,
    given: dict[int, np.ndarray] | None = None,
    grouped: bool = False,
) -> dict[str, Any]:
    """The transformer in NumPy and float64: weights0, weights1 as (N, heads, T, T), tokens x0, x1, x2, and scores.

    Args:
        x: pictures (N, 3, H, W).
        extra, pool, weights: as for `vit`.
        given: attention weights that stand for those of a layer.
        grouped: all heads share keys and values.
    """
    size = x.shape[2:]
    w = {k: v.astype(np.float64) for k, v in (weights or arrays(extra, size)).items()}  # type: ignore[arg-type]
    n, (h, v) = len(x), (s // PATCH for s in size)
    patches = x.astype(np.float64).reshape(n, 3, h, PATCH, v, PATCH)
    tokens = np.einsum("nchiwj,dcij->nhwd", patches, w["Patch"]).reshape(n, h * v, DIM)
    if extra:
        tokens = np.concatenate([np.broadcast_to(w["Extra"], (n, extra, DIM)), tokens], axis=1)
    found: dict[str, Any] = {"x0": tokens + w["Position"]}

    def norm(t: np.ndarray, scale: np.ndarray) -> np.ndarray:
        centred = t - t.mean(axis=-1, keepdims=True)
        return np.asarray(centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5) * scale)

    width = DIM // HEADS
    for i in range(DEPTH):
        t = found[f"x{i}"]
        q, k, value = (norm(t, w[f"S{i}"]) @ w[f"{name}{i}"] for name in "QKV")
        q, k, value = (a.reshape(n, -1, HEADS, width).transpose(0, 2, 1, 3) for a in (q, k, value))
        if grouped:
            k, value = k[:, :1], value[:, :1]
        s = q @ np.swapaxes(k, -1, -2) * width**-0.5
        A = np.exp(s - s.max(axis=-1, keepdims=True))
        A = (given or {}).get(i, A / A.sum(axis=-1, keepdims=True))
        found[f"weights{i}"] = A
        y = (A @ value).transpose(0, 2, 1, 3).reshape(n, -1, DIM)
        r = t + y @ w[f"O{i}"]
        found[f"x{i + 1}"] = r + np.maximum(norm(r, w[f"U{i}"]) @ w[f"Up{i}"], 0) @ w[f"Down{i}"]
    z = norm(found[f"x{DEPTH}"], w["S"])
    read = {"class": z[:, 0], "mean": z[:, extra:].mean(axis=1), "all": z.mean(axis=1)}[pool]
    return found | {"scores": read @ w["Head"]}
