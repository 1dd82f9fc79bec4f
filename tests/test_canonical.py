"""The canonical form: explicit pads, weights in one place, fresh shapes, free batch; and the outputs of before."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from onnx_inspect.errors import ModelError
from onnx_inspect.model import Model

from .graphs import Array, Row, f, i, r, run, s


def same(proto: onnx.ModelProto, feeds: dict[str, Array]) -> Model:
    model = Model.load(proto)
    for before, after in zip(run(proto.SerializeToString(), feeds), run(model.to_bytes(), feeds), strict=True):
        np.testing.assert_allclose(after, before, rtol=1e-6, atol=1e-6)
    return model


# Pads

OPS = {
    "Conv": "y = Conv<auto_pad={mode}, {rest}>(x, W)",
    "ConvTranspose": "y = ConvTranspose<auto_pad={mode}, {rest}>(x, T)",
    "MaxPool": "y = MaxPool<auto_pad={mode}, {rest}>(x)",
    "AveragePool": "y = AveragePool<auto_pad={mode}, {rest}>(x)",
    "AveragePool with the pads": "y = AveragePool<auto_pad={mode}, count_include_pad=1, {rest}>(x)",
    "LpPool": "y = LpPool<auto_pad={mode}, {rest}>(x)",
}


@pytest.mark.parametrize(("op", "mode"), list(itertools.product(OPS, ("SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET"))))
def test_pads(op: str, mode: str) -> None:
    cases = itertools.product(((7, 8), (12, 9)), ((3, 2), (1, 4)), ((1, 1), (2, 3)), ((1, 1), (2, 1)), (False, True))
    for size, kernel, stride, dilation, ceil in cases:
        if ceil and "Pool" not in op:
            continue
        rest = f"kernel_shape={list(kernel)}, strides={list(stride)}, dilations={list(dilation)}"
        body = OPS[op].format(mode=f'"{mode}"', rest=rest + (", ceil_mode=1" if ceil else ""))
        row = r(21, body, x=f(2, 3, *size), W=f(4, 3, *kernel), T=f(3, 4, *kernel))
        try:
            run(row.proto().SerializeToString(), row.feeds())
        except Exception:  # onnxruntime has not every combination
            continue
        model = same(row.proto(), row.feeds())
        (node,) = model.ir.graph
        assert "auto_pad" not in node.attributes or mode == "NOTSET"


def test_pads_in_subgraphs_and_of_transposed_convolutions_with_extra() -> None:
    for extra in ("", ", output_padding=[1, 0]"):
        for mode in ("SAME_UPPER", "SAME_LOWER"):
            row = r(
                21,
                f'y = ConvTranspose<auto_pad="{mode}", strides=[2, 3]{extra}>(x, W)',
                x=f(1, 2, 4, 5),
                W=f(2, 3, 3, 3),
            )
            same(row.proto(), row.feeds())
    row = r(
        21,
        "y = If(B) <then_branch = t () => (float[1,1,3,3] a) "
        '{ a = MaxPool<auto_pad="SAME_LOWER", kernel_shape=[3,3], strides=[2,2]>(x) }, '
        "else_branch = e () => (float[1,1,6,6] b) { b = Relu(x) }>",
        x=f(1, 1, 6, 6),
        B=s(True, np.bool_),
    )
    model = same(row.proto(), row.feeds())
    (pool,) = (n for n in model.ir.graph.all_nodes() if n.op_type == "MaxPool")
    assert list(pool.attributes.get_ints("pads")) == [1, 1, 0, 0]


def symbolic(row: Row, *dims: str | int) -> onnx.ModelProto:
    proto = row.proto()
    proto.graph.input[0].CopyFrom(onnx.helper.make_tensor_value_info("x", 1, dims))
    return proto


@pytest.mark.parametrize(("stride", "explicit"), [(1, True), (2, False)])
def test_pads_that_depend_on_an_unknown_size_stay(stride: int, explicit: bool) -> None:
    row = r(21, f'y = Conv<auto_pad="SAME_UPPER", strides=[{stride},{stride}]>(x, W)', x=f(2, 3, 7, 8), W=f(4, 3, 3, 3))
    for size in ((7, 8), (8, 7)):
        model = same(symbolic(row, "N", 3, "H", "W"), {"x": f(2, 3, *size)})
    (node,) = model.ir.graph
    assert ("pads" in node.attributes) == explicit


# Weights

CONSTANTS = {
    "value = float[2] {1.5, -2}": np.float32([1.5, -2]),
    "value_float = 2.5": np.float32(2.5),
    "value_floats = [1.5, 3.5]": np.float32([1.5, 3.5]),
    "value_int = 3": np.int64(3),
    "value_ints = [3, 4]": np.int64([3, 4]),
}


@pytest.mark.parametrize("text", CONSTANTS)
def test_constants_become_weights(text: str) -> None:
    row = r(13, f"c = Constant<{text}>() d = Cast<to=1>(c) y = Add(x, d)", x=f(3, 2))
    model = same(row.proto(), row.feeds())
    assert np.array_equal(model.value("c").const_value.numpy(), CONSTANTS[text])  # type: ignore[union-attr]
    assert all(n.op_type != "Constant" for n in model.ir.graph.all_nodes())


def test_a_constant_may_be_an_output() -> None:
    row = r(21, "y = Constant<value_floats = [1.0, 2.0]>() y2 = Add(x, y)", x=f(2))
    model = same(row.proto(), row.feeds())
    assert [o.name for o in model.outputs] == ["y", "y2"]
    assert all(n.op_type != "Constant" for n in model.ir.graph)


def test_the_converter_leaves_no_constants() -> None:
    row = r(7, "h = Clip<min=0.0>(x) y = Unsqueeze<axes=[0]>(h)", x=f(2))
    assert all(n.op_type != "Constant" for n in same(row.proto(), row.feeds()).ir.graph)


def test_weights_among_the_inputs() -> None:
    row = r(7, "y = Conv(x, W)", x=f(2, 3, 4, 4), W=f(2, 3, 3, 3))
    assert len(row.proto().graph.input) == 2
    assert [i.name for i in same(row.proto(), row.feeds()).inputs] == ["x"]


# Shapes


@pytest.mark.parametrize("version", [9, 21])
def test_wrong_shapes_are_ignored(version: int) -> None:
    row = r(version, "h = MaxPool<kernel_shape=[2,2], strides=[2,2]>(x) y = Relu(h)", x=f(2, 3, 8, 8))
    proto = row.proto()
    proto.graph.value_info.append(onnx.helper.make_tensor_value_info("h", 1, [2, 3, 5, 5]))
    proto.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("y", 1, [2, 7]))
    model = Model.load(proto)
    assert [model.spec(model.value(n)).shape[1:] for n in ("h", "y")] == [(3, 4, 4), (3, 4, 4)]
    onnx.checker.check_model(model.to_bytes(), full_check=True)
    assert np.array_equal(run(model.to_bytes(), row.feeds())[0], run(row.proto().SerializeToString(), row.feeds())[0])


# Batch

X = f(1, 4, 6, 6)
V = f(1, 12)
S3 = f(1, 5, 8)  # tokens
HEAD = "p = GlobalAveragePool(x) "
# fmt: off
FREE = [
    r(21, HEAD + "y = Reshape(p, S)", x=X, S=i(1, -1)),
    r(21, HEAD + "y = Reshape(p, S)", x=X, S=i(1, 4)),
    r(21, HEAD + "y = Reshape<allowzero=1>(p, S)", x=X, S=i(1, 4)),
    r(21, HEAD + "y = Reshape(p, S)", x=X, S=i(-1, 4)),
    r(21, HEAD + "y = Flatten(p)", x=X),
    r(21, HEAD + "y = Squeeze(p, A)", x=X, A=i(2, 3)),
    r(21, HEAD + "q = Flatten(p) y = Gemm<transB=1>(q, W, B)", x=X, W=f(3, 4), B=f(3)),
    r(9, HEAD + "q = Reshape(p, S) g = Gemm(q, W, B) y = Softmax(g)", x=X, S=i(1, 4), W=f(4, 3), B=f(3)),
    r(9, "y = Softmax<axis=2>(x)", x=S3),
    r(21, "t = Transpose<perm=[0,2,3,1]>(x) h = Reshape(t, S) m = MatMul(h, W) y = ReduceMean<keepdims=0>(m, A)", x=X, S=i(1, 36, 4), W=f(4, 3), A=i(1)),
    r(21, "q = MatMul(x, W) k = Reshape(q, S) a = Transpose<perm=[0,2,1,3]>(k) b = Transpose<perm=[0,1,3,2]>(a) "
          "m = MatMul(a, b) n = Softmax(m) o = MatMul(n, a) c = Transpose<perm=[0,2,1,3]>(o) z = Reshape(c, T) y = LayerNormalization(z, L)",
      x=S3, W=f(8, 8), S=i(1, 5, 2, 4), T=i(1, 5, 8), L=f(8)),
    r(21, "t = Transpose<perm=[1,0,2]>(x) h, k = LSTM<hidden_size=3>(t, W, R) q = Squeeze(h, A) y = Transpose<perm=[1,0,2]>(q)",
      x=S3, W=f(1, 12, 8), R=f(1, 12, 3), A=i(1)),
    r(21, "a, b = Split<axis=1, num_outputs=2>(x) y = Concat<axis=1>(b, a)", x=X),
    r(21, "y = Slice(x, A, B, C)", x=X, A=i(1, 2), B=i(3, 5), C=i(1, 3)),
    r(21, "y = Slice(x, A, B)", x=X, A=i(0, 1), B=i(2**40, 3)),
    r(21, "y = Pad(x, P)", x=X, P=i(0, 0, 1, 1, 0, 0, 2, 2)),
    r(21, "y = Gather<axis=1>(x, I)", x=S3, I=s(0, np.int64)),
    r(21, "y, y_where = TopK(x, K)", x=V, K=i(3)),
    r(21, "y = ArgMax<axis=1, keepdims=0>(x)", x=V),
    r(21, 'y = Einsum<equation="nld,dk->nlk">(x, W)', x=S3, W=f(8, 3)),
    r(21, "z = Shape(x) h = Expand(W, z) y = Add(x, h)", x=S3, W=f(1, 1, 8)),
    r(21, "z = Shape<start=0, end=1>(x) e = Concat<axis=0>(z, T) c = Expand(W, e) y = Concat<axis=1>(c, x)", x=S3, W=f(1, 1, 8), T=i(1, 8)),
    r(21, "z = Shape<start=0, end=1>(x) e = Concat<axis=0>(z, T) y = Reshape(x, e)", x=S3, T=i(-1)),
    r(21, "y = Add(x, z)", x=S3, z=f(1, 1, 8)),
    r(21, "y = MatMul(x, z)", x=S3, z=f(1, 8, 2)),
    r(10, 'y = Resize<mode="linear">(x, S)', x=X, S=np.float32([1, 1, 2, 2])),
    r(21, "h = DepthToSpace<blocksize=2>(x) y = Tile(h, T)", x=X, T=i(1, 2, 1, 1)),
    r(21, "q = QuantizeLinear(x, S) y = DequantizeLinear(q, S)", x=X, S=s(0.1)),
    r(21, "y = CumSum(x, A)", x=V, A=s(1, np.int64)),
    r(20, "y = GridSample(x, z)", x=X, z=f(1, 3, 3, 2)),
    r(21, 'y = Einsum<equation="nld,nkd->nlk">(x, x)', x=S3),
    r(21, "y = Gather(W, x)", x=np.array([[1, 0, 2]]), W=f(3, 4)),
]
FIXED = {
    "class token without a batch": r(21, "y = Concat<axis=1>(T, x)", x=S3, T=f(1, 1, 8)),
    "batch folded into heads": r(21, "h = Reshape(x, S) k = Softmax<axis=-1>(h) y = Reshape(k, T)", x=S3, S=i(10, -1), T=i(1, 5, 8)),
    "batch folded into rows": r(21, "y = Reshape(x, S)", x=S3, S=i(5, -1)),
    "output without batch": r(21, "y = ReduceMean<keepdims=0>(x, A)", x=V, A=i(0)),
    "output that is a constant": r(21, "y = Relu(x) y2 = Identity(W)", x=V, W=f(1, 3)),
    "scalar output": r(21, "y = ReduceSum<keepdims=0>(x)", x=V),
    "batch moved, then reshaped": r(21, "t = Transpose<perm=[1,0,2]>(x) y = Reshape(t, S)", x=S3, S=i(1, 40)),
    "batch moved": r(21, "y = Transpose<perm=[1,0,2]>(x)", x=f(1, 1, 8)),
    "softmax over samples": r(21, "y = Softmax<axis=0>(x)", x=V),
    "old softmax over samples": r(9, "y = Softmax<axis=0>(x)", x=V),
    "mean over samples": r(21, "m = ReduceMean(x, A) y = Sub(x, m)", x=V, A=i(0)),
    "mean over all": r(21, "m = ReduceMean(x) y = Sub(x, m)", x=V),
    "max over all": r(21, "m = ReduceMax<keepdims=0>(x) y = Div(x, m)", x=V),
    "sum over samples": r(21, "y = CumSum(x, A)", x=V, A=s(0, np.int64)),
    "product of samples": r(21, "t = Transpose(x) m = MatMul(x, t) y = MatMul(m, x)", x=V),
    "contraction over samples": r(21, "t = Transpose(x) m = MatMul(t, x) y = MatMul(x, m)", x=V),
    "transposed Gemm": r(21, "h = Gemm<transA=1>(x, x) y = Gemm(x, h)", x=V),
    "recurrence over samples": r(21, "h, k = RNN<hidden_size=3>(x, W, R) y = Squeeze(h, A)", x=S3, W=f(1, 3, 8), R=f(1, 3, 3), A=i(1)),
    "state without a batch": r(21, "t = Transpose<perm=[1,0,2]>(x) h, k = RNN<hidden_size=3>(t, W, R, , , H) q = Squeeze(h, A) y = Transpose<perm=[1,0,2]>(q)",
                               x=S3, W=f(1, 3, 8), R=f(1, 3, 3), H=f(1, 1, 3), A=i(1)),
    "statistics over samples": r(21, "y = MeanVarianceNormalization(x)", x=X),
    "training": r(21, "y, m, v = BatchNormalization<training_mode=1>(x, S, S, S, T)", x=X, S=f(4), T=f(4, low=1)),
    "range of all samples": r(21, "q, s, z = DynamicQuantizeLinear(x) y = DequantizeLinear(q, s, z)", x=V),
    "indices through all samples": r(21, "y, y_where = MaxPool<kernel_shape=[2,2]>(x)", x=X),
    "normalised over samples": r(21, "y = LayerNormalization<axis=0>(x, W)", x=V, W=f(1, 12)),
    "the number of samples as a factor": r(21, "z = Shape(x) c = Cast<to=1>(z) m = ReduceMean<keepdims=0>(c) y = Mul(x, m)", x=V),
    "the first sample": r(21, "y = Slice(x, A, B, A)", x=V, A=i(0), B=i(1)),
    "samples reversed": r(21, "y = Slice(x, A, B, C, A)", x=V, A=i(-1), B=i(-(2**40)), C=i(0)),
    "samples shifted": r(21, "y = Pad(x, P)", x=V, P=i(1, 0, -1, 0)),
    "folded, then moved to the front": r(21, "h = Reshape(x, S) y = Transpose(h)", x=V, S=i(12, -1)),
    "samples as channels": r(21, "t = Transpose<perm=[1,0,2,3]>(x) l = LRN<size=3>(t) y = Transpose<perm=[1,0,2,3]>(l)", x=X),
    "sampled at places without batch": r(20, "y = GridSample(x, G)", x=X, G=f(1, 3, 3, 2)),
    "all pairs": r(21, "t = Transpose(x) h = Add(x, t) y = ReduceMean(h, A)", x=f(1, 1), A=i(1)),
    "all pairs by letters": r(21, 'h = Einsum<equation="nd,md->nm">(x, x) y = ReduceMean(h, A)', x=V, A=i(1)),
    "one sample by index": r(21, "y = Gather<axis=0>(x, I)", x=V, I=i(0)),
    "padded with samples": r(21, "y = Pad(x, P)", x=V, P=i(0, 0, 1, 0)),
    "repeated samples": r(21, "y = Tile(x, T)", x=V, T=i(2, 1)),
    "samples side by side": r(21, "y = Concat<axis=0>(x, x)", x=V),
    "best sample": r(21, "y = ArgMax<axis=0>(x)", x=V),
    "fixed size": r(21, "y = Resize(x, , , Z)", x=X, Z=i(1, 4, 8, 8)),
    "norm over samples": r(21, "y = LpNormalization<axis=0>(x)", x=V),
    "triangle of samples": r(21, "y = Trilu(x)", x=V),
    "boxes of all samples": r(21, "n = NonMaxSuppression(x, z, K) y = Cast<to=1>(n)", x=f(1, 3, 4), z=f(1, 1, 3), K=i(2)),
    "branches": r(21, "y = If(B) <then_branch = t () => (float[1,12] a) { a = Softmax<axis=0>(x) }, else_branch = e () => (float[1,12] b) { b = Relu(x) }>", x=V, B=s(True, np.bool_)),
    "two sizes of batch": r(21, "y = MatMul(x, z)", x=f(1, 3), z=f(3, 2)),
    "an input without batch": r(21, "y = Add(x, z)", x=f(1, 3), z=f(1)),
}
# fmt: on


@pytest.mark.parametrize("row", FREE, ids=str)
def test_batch_becomes_free(row: Row) -> None:
    model = same(row.proto(), row.feeds())
    assert model.batch_relaxed
    feeds = [{n: np.roll(a, k, -1) for n, a in row.feeds().items()} for k in range(3)]
    alone = [run(row.proto().SerializeToString(), x) for x in feeds]
    together = run(model.to_bytes(), {n: np.concatenate([x[n] for x in feeds]) for n in feeds[0]})
    for index, output in enumerate(together):
        np.testing.assert_allclose(output, np.concatenate([a[index] for a in alone]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("row", FIXED.values(), ids=FIXED)
def test_batch_stays(row: Row) -> None:
    model = same(row.proto(), row.feeds())
    assert not model.batch_relaxed
    assert model.inputs[0].shape[0] == 1


def test_batch_of_two_becomes_free() -> None:
    row = r(21, HEAD + "q = Reshape(p, S) y = Gemm(q, W)", x=f(2, 4, 6, 6), S=i(2, 4), W=f(4, 3))
    model = same(row.proto(), row.feeds())
    assert model.batch_relaxed
    assert run(model.to_bytes(), {"x": f(5, 4, 6, 6)})[0].shape == (5, 3)


def test_symbolic_sizes_beside_the_batch() -> None:
    row = r(
        21,
        "h = Conv(x, W) p = GlobalAveragePool(h) q = Reshape(p, S) y = Gemm(q, V)",
        x=X,
        W=f(2, 4, 3, 3),
        S=i(1, 2),
        V=f(2, 3),
    )
    model = same(symbolic(row, 1, 4, "H", "W"), row.feeds())
    assert model.batch_relaxed and model.inputs[0].shape == ("batch", 4, "H", "W")


# External data

WEIGHTS = r(21, "h = MatMul(x, W) y = Reshape(h, S)", x=f(2, 64), W=f(64, 64), S=i(-1, 32))


@pytest.fixture
def external(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    onnx.save(WEIGHTS.proto(), path, save_as_external_data=True, location="model.data", size_threshold=0)
    return path


def test_external_data_stays_on_disk(external: Path) -> None:
    model = Model.load(external)
    assert model.external
    assert isinstance(model.value("W").const_value, ir.ExternalTensor)
    assert model.spec(model.value("y")).shape == (4, 32)  # small tensors are read: they say what shapes are
    after, before = (run(data, WEIGHTS.feeds())[0] for data in (model.to_bytes(), WEIGHTS.proto().SerializeToString()))
    assert np.array_equal(after, before)


def test_external_data_of_an_old_opset(tmp_path: Path) -> None:
    path = tmp_path / "old.onnx"
    row = r(11, "h = MatMul(x, W) y = Unsqueeze<axes=[0]>(h)", x=f(2, 64), W=f(64, 64))
    onnx.save(row.proto(), path, save_as_external_data=True, location="old.data", size_threshold=0)
    model = Model.load(path)
    assert isinstance(model.value("W").const_value, ir.ExternalTensor)
    assert np.array_equal(run(model.to_bytes(), row.feeds())[0], run(row.proto().SerializeToString(), row.feeds())[0])


def test_external_data_in_a_branch(tmp_path: Path) -> None:
    numbers = ", ".join(map(str, range(64)))
    row = r(
        11,
        "y = If(B) <then_branch = t () => (float[1,2,64] a) "
        f"{{ w = Constant<value = float[64] {{{numbers}}}>() h = Mul(x, w) a = Unsqueeze<axes=[0]>(h) }}, "
        "else_branch = e () => (float[2,64] b) { b = Relu(x) }>",
        x=f(2, 64),
        B=s(True, np.bool_),
    )
    proto, path = row.proto(), tmp_path / "branch.onnx"
    branch = proto.graph.node[0].attribute[0].g
    constant = branch.node[0]
    branch.initializer.append(constant.attribute[0].t)
    branch.initializer[0].name = "w"
    branch.node.remove(constant)
    expected = run(proto.SerializeToString(), row.feeds())
    onnx.save(proto, path, save_as_external_data=True, location="branch.data", size_threshold=0)
    model = Model.load(path)
    assert np.array_equal(run(model.to_bytes(), row.feeds())[0], expected[0])


def test_weights_outside_the_folder_are_refused(external: Path, tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "model.onnx").write_bytes(external.read_bytes())
    link = inner / "model.data"
    link.symlink_to(external.with_name("model.data"))
    with pytest.raises(ModelError, match="outside its own folder"):
        Model.load(inner / "model.onnx")
    proto = onnx.load(external, load_external_data=False)
    for location in ("../model.data", str(external.with_name("model.data").absolute()), ""):
        for tensor in proto.graph.initializer:
            for entry in tensor.external_data:
                entry.value = location if entry.key == "location" else entry.value
        (inner / "model.onnx").write_bytes(proto.SerializeToString())
        if location != "":
            link.unlink(missing_ok=True)
        with pytest.raises(ModelError, match="outside its own folder"):
            Model.load(inner / "model.onnx")


def test_shapes_behind_group_normalisation_are_known():
    row = r(21, "a = GroupNormalization <num_groups=2> (x, S, B) b = GroupNormalization <num_groups=2> (a, S, B) y = Relu (b)",
            x=f(2, 4, 5, 5), S=f(4), B=f(4))  # fmt: skip
    model = Model.load(row.proto())
    assert [model.spec(model.value(n)).shape[1:] for n in "aby"] == [(4, 5, 5)] * 3


SYMBOLIC = {
    "y, k, v, w = Attention<q_num_heads=2, kv_num_heads=2>(x, x, x)": (
        ("N", "S", "E"),
        [("N", "S", None), ("N", 2, "S", None), ("N", 2, "S", None), ("N", 2, "S", "S")],
    ),
    "y, k, v, w = Attention<q_num_heads=4, kv_num_heads=2>(x, p, p)": (
        ("N", "S", 32),
        [("N", "S", 40), ("N", 2, 5, 10), ("N", 2, 5, 10), ("N", 4, "S", 5)],
    ),
    "y, k, v, w = Attention<q_num_heads=2, kv_num_heads=2>(t, t, x, , r, r)": (
        (1, 4, "E"),
        [(1, 4, None), (1, 2, 7, 6), (1, 2, 7, None), (1, 2, 4, 7)],
    ),
}


@pytest.mark.parametrize("body", SYMBOLIC)
def test_shapes_of_attention_with_unknown_sizes(body: str) -> None:
    given, expected = SYMBOLIC[body]
    row = r(24, f"{body} z = Relu(y)", x=f(1), p=f(1, 5, 20), t=f(1, 4, 12), r=f(1, 2, 3, 6))
    model = Model.load(symbolic(row, *given))
    found = [model.value(y).shape for y in "ykvw"[: len(expected)]]
    sizes = [tuple(d if isinstance(d, int) else d.value for d in shape) for shape in found if shape is not None]
    assert sizes == expected
    assert len(model.value("z").shape or ()) == len(expected[0])


def test_shapes_behind_reckoning_with_constants() -> None:
    # onnx propagates neither Mod nor Reshape: the slice of the shape, and the rank behind it, would be unknown
    row = r(21, "m = Mod(A, B) e = Reshape(m, C) z = Shape(x) h = Slice(z, O, e) t = Concat<axis=0>(h, T) y = Reshape(x, t)",
            x=f(4, 6, 5), A=i(2), B=i(3), C=i(1), O=i(0), T=i(-1))  # fmt: skip
    model = same(row.proto(), row.feeds())
    assert model.spec(model.value("y")).shape[1:] == (6, 5)
    assert any(n.op_type == "Mod" for n in model.ir.graph)  # the graph itself stays as it is
