"""Opsets and operators that onnxruntime does not have: written in others at load, judged by onnx's own reference."""

from __future__ import annotations

import re

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from onnx_inspect.downgrade import BODY_ENDS, KERNEL_ENDS
from onnx_inspect.errors import UnsupportedError
from onnx_inspect.model import Model

from .graphs import Array, Row, f, i, r, run, s

X = f(2, 3)
MAP = f(1, 2, 4, 6)
DEEP = f(1, 8, 2, 3)
HEADS = f(1, 2, 3, 4)
TOKENS = {"q": f(2, 5, 8), "k": f(2, 5, 8), "v": f(2, 5, 12)}
EDGES = np.float32([-5.5, 5.5, -0.0, 3.0, np.inf, 2.0, -2.0, 7.0])
DIVISORS = np.float32([2.0, -2.0, 3.0, -3.0, 3.0, np.inf, np.inf, np.nan])
INTEGERS = np.array([-128, -7, 7, 127, -1, 100])
PLACES = np.array([1, 2, 3, 9, -1, 7])
ROIS = np.float32([[0.2, 0.5, 3.5, 2.9], [1, 0, 5, 3]])


def half(x: Array) -> Array:
    return x.astype(np.float16)


# fmt: off
# Opset 28 and 27: what stays one node, because its version for opset 26 says the same
SAME = [
    r(28, "y = Cast<to=7>(x)", x=X),
    r(28, "y = Celu<alpha=0.5>(x)", x=X),
    r(28, "y = Compress<axis=1>(x, C)", x=X, C=np.array([True, False, True])),
    *[r(28, f'y = DepthToSpace<blocksize=2, mode="{mode}">(x)', x=DEEP) for mode in ("DCR", "CRD")],
    r(28, "y = DequantizeLinear(x, S)", x=np.int8([3, -4]), S=s(0.02)),
    r(28, 'y = Einsum<equation="ij,jk->ik">(x, W)', x=X, W=f(3, 4)),
    r(28, "y = Mod(x, W)", x=i(-7, 7, 5), W=i(3, -3, 3)),
    r(28, "y = Mod<fmod=1>(x, W)", x=f(6), W=f(6, low=0.5)),
    r(28, "y = OneHot<axis=0>(x, D, V)", x=i(1, 0, -2), D=s(4, np.int64), V=np.float32([0.5, 2])),
    r(28, "y = QuantizeLinear(x, S)", x=X, S=s(0.02)),
    r(27, "y = Range(x, B, C)", x=s(1.0), B=s(4.0), C=s(0.5)),
    r(27, "y = Range<stash_type=1>(x, B, C)", x=s(9, np.int64), B=s(0, np.int64), C=s(-2, np.int64)),
    r(28, "y = ReduceLogSum(x, A)", x=f(2, 3, low=0.1), A=i(1)),
    r(28, "y = ReduceLogSumExp(x, A)", x=X, A=i(1)),
    r(28, "y = ReverseSequence<batch_axis=0, time_axis=1>(x, L)", x=X, L=i(2, 3)),
    r(28, "y = SpaceToDepth<blocksize=2>(x)", x=MAP),
    r(28, 'y = SpaceToDepth<blocksize=2, mode="DCR">(x)', x=MAP),
    r(28, "y, y_i, y_v, y_n = Unique(x)", x=np.float32([2, 1, 2, 3])),
    r(27, "y = Softmax(x)", x=X),
    r(25, "y = Attention<left_window_size=-1>(q, k, v)", q=HEADS, k=HEADS, v=HEADS),
]
# ... and what is written in others
WRITTEN = [
    *[r(28, f'y = BitShift<direction="{d}">(x, z)', x=INTEGERS.astype(t), z=PLACES.astype(t))
      for d in ("LEFT", "RIGHT") for t in (np.int8, np.int16, np.int32, np.int64)],
    *[r(28, f'y = BitShift<direction="{d}">(x, z)', x=np.abs(INTEGERS).astype(t), z=np.abs(PLACES).astype(t))
      for d in ("LEFT", "RIGHT") for t in (np.uint8, np.uint32, np.uint64)],
    r(28, "y = Celu<alpha=0.5>(x)", x=half(X)),
    *[r(28, "y = Mod(x, z)", x=EDGES.astype(t), z=DIVISORS.astype(t)) for t in (np.float16, np.float32, np.float64)],
    r(28, "y = Mod(x, z)", x=f(2, 3), z=f(3, low=-1.5, high=1)),
    r(27, "y = Range(x, B, C)", x=half(s(1.0)), B=half(s(4.0)), C=half(s(0.5))),
    r(27, "y = Range<stash_type=11>(x, B, C)", x=half(s(4.0)), B=half(s(1.0)), C=half(s(-0.5))),
    r(28, 'y = SpaceToDepth<blocksize=2, mode="CRD">(x)', x=MAP),
    r(28, "y = SwiGLU(x, z)", x=X, z=f(2, 3, low=-1)),
    r(28, "y = SwiGLU<alpha=0.5>(x, z)", x=X, z=f(2, 3, low=-1)),
    r(27, 'y, y_s = LinearAttention<q_num_heads=2, kv_num_heads=2, update_rule="linear">(q, k, v)', **TOKENS),
    r(27, 'y, y_s = LinearAttention<q_num_heads=4, kv_num_heads=2, update_rule="gated", scale=0.5>(q, k, v, p, d)',
      q=f(2, 5, 16), k=f(2, 5, 8), v=f(2, 5, 12), p=f(2, 2, 4, 6), d=f(2, 5, 2, low=-1, high=0)),
    r(27, 'y, y_s = LinearAttention<q_num_heads=2, kv_num_heads=2>(q, k, v, , d, b)',
      **TOKENS, d=f(2, 5, 8, low=-1, high=0), b=f(2, 5, 2, low=0, high=1)),
    r(27, "y, y_s = CausalConvWithState(x, W)", x=f(2, 4, 6), W=f(4, 1, 3)),
    r(27, 'y, y_s = CausalConvWithState<activation="silu">(x, W, B, p)', x=f(2, 4, 6), W=f(4, 1, 3), B=f(4), p=f(2, 4, 2)),
    *[r(v, f"y = Swish{alpha}(x)", x=X) for v in (25, 26, 28) for alpha in ("", "<alpha=0.5>")],
    *[r(v, f"y = Attention<left_window_size={left}, right_window_size={right}>(q, k, v)", q=HEADS, k=HEADS, v=HEADS)
      for v in (25, 28) for left, right in ((1, -1), (1, 0), (-1, 1))],
    r(28, "y = Attention<is_causal=1, left_window_size=1>(q, k, v)", q=HEADS, k=HEADS, v=HEADS),
]
# Operators whose kernels end at opset 21
REGION = 'RoiAlign<output_height=2, output_width=2, sampling_ratio=2, mode="{}">'
ENDED = [
    *[r(v, f"y = {REGION.format(mode)}(x, R, I)", x=MAP, R=ROIS, I=i(0, 0)) for v in (22, 26, 28) for mode in ("avg", "max")],
    r(24, "y = MaxRoiPool<pooled_shape=[2,2]>(x, R)", x=MAP, R=np.float32([[0, 0, 1, 4, 3], [0, 1, 0, 2, 2]])),
    r(26, "y = GlobalLpPool<p=3>(x)", x=MAP),
    # beside them, what opset 21 says in the same way
    r(22, "h = AveragePool<kernel_shape=[2,2], strides=[2,2], ceil_mode=1>(x) y = GlobalLpPool(h)", x=f(1, 2, 5, 5)),
    r(25, "q = QuantizeLinear(x, S) h = DequantizeLinear(q, S) y = GlobalLpPool(h)", x=MAP, S=s(0.02)),
]
# fmt: on


def reference(row: Row) -> list[Array]:
    with np.errstate(invalid="ignore"):
        return list(ReferenceEvaluator(row.proto()).run(None, row.feeds()))


def loaded(row: Row, expected: list[Array]) -> Model:
    """The row as it is loaded: of an opset that onnxruntime has, with the same names, and the expected outputs."""
    proto = row.proto()
    model = Model.load(proto)
    assert 21 <= model.opset <= 26
    assert [o.name for o in proto.graph.output] == [o.name for o in model.outputs]
    for before, after in zip(expected, run(model.to_bytes(), row.feeds()), strict=True):
        assert before.dtype == after.dtype
        tolerance = 2e-3 if before.dtype == np.float16 else 1e-5
        np.testing.assert_allclose(after, before, rtol=tolerance, atol=tolerance)
    return model


@pytest.mark.parametrize("row", SAME, ids=str)
def test_what_uses_nothing_new_stays(row: Row) -> None:
    model = loaded(row, reference(row))
    assert [n.op_type for n in model.ir.graph] == [n.op_type for n in row.proto().graph.node]
    assert model.opset == min(row.version, 26) and not model.notes


@pytest.mark.parametrize("row", WRITTEN, ids=str)
def test_what_is_new_is_written_in_others(row: Row) -> None:
    model = loaded(row, reference(row))
    (node,) = row.proto().graph.node
    assert len(model.ir.graph) > 1
    assert model.notes == (f"{node.op_type} taken apart into other operators, which onnxruntime has",)


@pytest.mark.parametrize("row", ENDED, ids=str)
def test_the_opset_is_lowered_to_where_kernels_end(row: Row) -> None:
    old = Row(21, row.body, row.arrays)
    model = loaded(row, run(old.proto().SerializeToString(), row.feeds()))
    assert model.opset == 21
    assert [n.op_type for n in model.ir.graph] == [n.op_type for n in row.proto().graph.node]


# fmt: off
ENDS = {
    "Bernoulli": r(21, "y = Bernoulli(x)", x=X),
    "GlobalLpPool": r(21, "y = GlobalLpPool(x)", x=MAP),
    "MaxRoiPool": r(21, "y = MaxRoiPool<pooled_shape=[2,2]>(x, R)", x=MAP, R=f(1, 5, low=0, high=1)),
    "Multinomial": r(21, "y = Multinomial(x)", x=X),
    "RandomNormal": r(21, "y = RandomNormal<shape=[2,2]>()"),
    "RandomNormalLike": r(21, "y = RandomNormalLike(x)", x=X),
    "RandomUniform": r(21, "y = RandomUniform<shape=[2,2]>()"),
    "RandomUniformLike": r(21, "y = RandomUniformLike(x)", x=X),
    "RoiAlign": r(21, "y = RoiAlign(x, R, I)", x=MAP, R=ROIS, I=i(0, 0)),
    "Swish": r(24, "y = Swish(x)", x=X),
}
# fmt: on


@pytest.mark.parametrize("op", KERNEL_ENDS | BODY_ENDS)
def test_onnxruntime_still_lacks(op: str) -> None:
    row, end = ENDS[op], (KERNEL_ENDS | BODY_ENDS)[op]
    newer = Row(end + 1, row.body, row.arrays)
    run(row.proto().SerializeToString(), row.feeds())
    with pytest.raises(Exception, match="NOT_IMPLEMENTED"):
        run(newer.proto().SerializeToString(), row.feeds())
    assert len(run(Model.load(newer.proto()).to_bytes(), row.feeds())) == 1


def test_every_change_has_a_row() -> None:
    newer = {x.name for x in onnx.defs.get_all_schemas() if x.domain == "" and x.since_version > 26}
    rows = {n.op_type for row in [*SAME, *WRITTEN] for n in row.proto().graph.node}
    assert newer - rows == {"Optional", "OptionalGetElement", "OptionalHasElement"}  # no classifier holds them


# FlexAttention


def flexible(body: str, **arrays: Array) -> Row:
    return r(26, body.replace("FlexAttention", "ai.onnx.preview.FlexAttention"), q=HEADS, k=HEADS, v=HEADS, **arrays)


def preview(row: Row) -> onnx.ModelProto:
    proto = row.proto()
    proto.opset_import.append(onnx.helper.make_opsetid("ai.onnx.preview", 1))
    return proto


def attention(change: float = 0.0) -> Array:
    """softmax(q kᵀ / √d + change) v, the change for the second half of the keys only."""
    scores = HEADS @ np.swapaxes(HEADS, -1, -2) / 2
    scores[..., 1:] += change
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True) @ HEADS


@pytest.mark.parametrize("name", ["T", "Score", "captured/0", "Q"])  # the body has a Score and a Q of its own
def test_flexible_attention_with_a_tensor_from_outside(name: str) -> None:
    mod = "<score_mod = g (float[1,2,3,3] a) => (float[1,2,3,3] b) { b = Add(a, Outside) }>"
    row = flexible(f"y = FlexAttention{mod}(q, k, v)", Outside=np.float32([0, 0.7, 0.7]))
    proto = preview(row)
    proto.graph.initializer[0].name = name
    proto.graph.node[0].attribute[0].g.node[0].input[1] = name
    model = Model.load(proto)
    np.testing.assert_allclose(run(model.to_bytes(), row.feeds())[0], attention(0.7), rtol=1e-5, atol=1e-5)
    assert "ai.onnx.preview" not in model.ir.graph.opset_imports


def test_flexible_attention() -> None:
    row = flexible("h = FlexAttention(q, k, v) y = Relu(h)")
    model = Model.load(preview(row))
    np.testing.assert_allclose(run(model.to_bytes(), row.feeds())[0], np.maximum(attention(), 0), rtol=1e-5, atol=1e-5)


# What new nodes are called, and what they carry


def test_names_and_metadata() -> None:
    proto = r(28, "h = SwiGLU(x, x) y = Swish(h)", x=X).proto()
    proto.graph.node[0].metadata_props.add(key="scope", value="mlp")
    model = Model.load(proto)
    names = [y.name for node in model.ir.graph for y in node.outputs]
    assert {"h", "y", "h/SwishGate"} <= set(names) and len(set(names)) == len(names)
    assert all(n.startswith(("h", "y")) for n in names if n)
    assert {n.metadata_props.get("scope") for n in model.ir.graph if n.name.startswith("h")} == {"mlp"}  # type: ignore[union-attr]


def test_names_that_are_taken() -> None:
    row = r(28, "h = Relu(x) y = SwiGLU(h, x)", x=X)
    proto = row.proto()
    proto.graph.node[0].output[0] = proto.graph.node[1].input[0] = "y/SwishGate"
    model = Model.load(proto)
    np.testing.assert_allclose(run(model.to_bytes(), row.feeds())[0], reference(row)[0], rtol=1e-5)


def test_in_a_branch() -> None:
    branches = "then_branch = t () => (float[2,3] a) { a = SwiGLU(x, x) }, else_branch = e () => (float[2,3] b) { b = Celu(x) }"
    for choice in (True, False):
        row = r(28, f"y = If<{branches}>(B)", x=X, B=s(choice, np.bool_))
        expected = X * X / (1 + np.exp(-X)) if choice else np.maximum(X, 0) + np.minimum(0, np.exp(X) - 1)
        loaded(row, [expected.astype(np.float32)])


def test_a_batch_is_free_behind_a_body() -> None:
    model = Model.load(r(28, "h = SwiGLU(x, x) y = Relu(h)", x=f(1, 3)).proto())
    assert model.batch_relaxed


# Both at once: an operator whose kernel ends at 21, beside newer ones


def test_newer_operators_beside_an_ended_kernel() -> None:
    row = r(26, "h = RMSNormalization(x, W) g = Swish(h) y = GlobalLpPool(g)", x=MAP, W=f(6))
    h = MAP / np.sqrt((MAP * MAP).mean(-1, keepdims=True) + 1e-5) * row.arrays["W"]
    g = h / (1 + np.exp(-h))
    assert loaded(row, [np.sqrt((g * g).sum((2, 3), keepdims=True))]).opset == 21


# Refusals


# fmt: off
REFUSED = [
    (r(28, f"h = Cast<to={onnx.TensorProto.FLOAT6E2M3}>(x) y = Cast<to=1>(h)", x=X),
     "(Cast) cannot be brought from opset 28 to 26, the newest that onnxruntime knows: 'h' of type tensor(float6e2m3) is "
     "newer than its version 25"),
    (r(26, "h = BitCast<to=6>(x) g = BitCast<to=1>(h) y = GlobalLpPool(g)", x=MAP),
     "(BitCast) cannot be brought from opset 26 to 21, the newest in which onnxruntime runs GlobalLpPool: the operator is "
     "newer"),
    (r(25, 'h = QuantizeLinear<precision=1>(x, S) g = DequantizeLinear(h, S) y = GlobalLpPool(g)', x=MAP, S=s(0.1)),
     "its attribute 'precision' is newer than its version 21"),
]
# fmt: on


@pytest.mark.parametrize(("row", "reason"), REFUSED, ids=lambda x: "" if isinstance(x, str) else str(x))
def test_refusal(row: Row, reason: str) -> None:
    proto = row.proto()
    proto.graph.node[0].name = "the/node"
    with pytest.raises(UnsupportedError, match=rf"^Node 'the/node' .*{re.escape(reason)}\. Export the model"):
        Model.load(proto)


def test_opsets_that_nobody_knows_are_refused() -> None:
    newest = onnx.defs.onnx_opset_version()
    with pytest.raises(UnsupportedError, match=f"has opset {newest + 1}.*knows opsets up to {newest}.*26 or lower"):
        Model.load(r(newest + 1, "y = Relu(x)", x=X).proto())
