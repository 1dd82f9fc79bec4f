"""Recurrent layers and attention."""

import numpy as np

from .spec import Array, Spec, normal, spec

STEPS, BATCH, INPUTS, HIDDEN = 4, 2, 3, 5
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


def layer(op: str, direction: str, name: str = "", more: str = "", **options: object) -> Spec:
    """A layer with biases and initial states; all outputs are seeded."""
    n, gates, lstm = 2 if direction == "bidirectional" else 1, GATES[op], op == "LSTM"
    states = {k: normal(n, BATCH, HIDDEN, seed=i) for i, k in enumerate("hc" if lstm else "h")}
    outputs = ["y", *(f"{k}n" for k in states)]
    given = "".join(f", {k}={v!r}" for k, v in options.items())
    return spec(
        f"{op.lower()} {direction}{name}",
        f'{", ".join(outputs)} = {op}<hidden_size = {HIDDEN}, direction = "{direction}"{more}>'
        f'(x, w, r, b, "", {", ".join(states)})',
        f'recurrent("{op}", "{direction}", x, w, r, b, {", ".join(states)}{given})',
        outputs=" ".join(outputs),
        x=normal(STEPS, BATCH, INPUTS),
        w=normal(n, gates * HIDDEN, INPUTS),
        r=normal(n, gates * HIDDEN, HIDDEN) / 2,
        b=normal(n, 2 * gates * HIDDEN),
        **states,
    )


RECURRENT = [
    *(layer("LSTM", d) for d in ("forward", "reverse", "bidirectional")),
    *(layer("GRU", d, more=", linear_before_reset = 1") for d in ("forward", "reverse", "bidirectional")),
    *(layer("RNN", d) for d in ("forward", "reverse", "bidirectional")),
    layer("RNN", "forward", " relu", ', activations = ["Relu"]', relu=True),
]

HEADS, WIDTH = 2, 4
q, k, v = (normal(2, HEADS, n, WIDTH, seed=i) for i, n in enumerate((4, 4, 4)))


def attention(name: str, torch: str = "", attributes: str = "", **inputs: Array) -> Spec:
    """Attention over heads, as scaled_dot_product_attention."""
    inputs = {"q": q, "k": k, "v": v} | inputs
    attributes = f"<{attributes}>" if attributes else ""
    return spec(
        name,
        f"y = Attention{attributes}({', '.join(inputs)})",
        f"F.scaled_dot_product_attention({', '.join(list(inputs)[:3])}{torch})",
        opset=23,
        **inputs,
    )


allowed = normal(4, 4) > -0.5
allowed[:, 0] = True  # no row is masked altogether

ATTENTION = [
    attention("attention"),
    attention("attention scale", ", scale=0.7", "scale = 0.7"),
    attention("attention causal", ", is_causal=True", "is_causal = 1"),
    attention("attention mask", ", attn_mask=m", m=normal(2, 1, 4, 4)),
    attention("attention allowed", ", attn_mask=m", m=allowed),
    attention("attention infinite", ", attn_mask=m", m=np.where(allowed, 0.0, -np.inf)),
    attention("attention longer", k=normal(2, HEADS, 6, WIDTH), v=normal(2, HEADS, 6, 3)),
    attention(
        "attention groups",
        ", enable_gqa=True, is_causal=True",
        "is_causal = 1",
        q=normal(2, 6, 4, WIDTH),
    ),
    attention("attention one head", ", enable_gqa=True", k=normal(2, 1, 5, WIDTH), v=normal(2, 1, 5, WIDTH)),
    spec(
        "attention flat",
        f"y = Attention<q_num_heads = {HEADS}, kv_num_heads = {HEADS}>(q, k, v)",
        "flat(F.scaled_dot_product_attention(heads(q, 2), heads(k, 2), heads(v, 2)))",
        q=normal(2, 4, 6),
        k=normal(2, 3, 6),
        v=normal(2, 3, 6, seed=1),
        opset=23,
    ),
    spec(
        "multihead",
        "s = Constant<value_ints = [2, 4, 2, 3]>() q3 = MatMul(x, w) q4 = Reshape(q3, s)"
        "h = Transpose<perm = [0, 2, 1, 3]>(q4) t = Transpose<perm = [0, 2, 3, 1]>(q4) f = Constant<value_float = 0.25>()"
        "z = MatMul(h, t) u = Mul(z, f) p = Softmax(u) o = MatMul(p, h) o4 = Transpose<perm = [0, 2, 1, 3]>(o)"
        "e = Constant<value_ints = [2, 4, 6]>() y = Reshape(o4, e)",
        "flat(F.scaled_dot_product_attention(*[heads(x @ w, 2)] * 3, scale=0.25))",
        x=normal(2, 4, 5),
        w=normal(5, 6),
    ),
]
