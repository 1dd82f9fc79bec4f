"""What a run takes: the estimate against liveness by hand, sizes against onnxruntime, and amounts as text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnx_inspect as oi
from onnx_inspect import amounts, memory
from onnx_inspect.engine import Engine
from onnx_inspect.errors import InputError
from onnx_inspect.methods.job import Job
from onnx_inspect.model import Model
from onnx_inspect.sizes import Sized
from onnx_inspect.structure import varying

from . import graphs, nets

F = 4  # bytes of a float32


def model(body: str, *, x: str = "float[N,1000] x", y: str = "float[N,M] y", weights: str = "") -> Model:
    text = f'<ir_version: 10, opset_import: ["" : 21]> g ({x}) => ({y}) {weights} {{ {body} }}'
    return oi.load(onnx.parser.parse_model(text))


def need(found: Model, *size: int) -> memory.Need:
    name = found.inputs[0].name
    return memory.need(found, {name: size}, frozenset([name]))


def live(found: Model, *size: int) -> int:
    return max(each + once for each, once in need(found, *size).steps)


# The estimate.


def test_a_chain_holds_two_tensors_at_a_time() -> None:
    """x all the time, and of a, b, c what is read and what is written."""
    chain = model("a = Exp(x) b = Concat <axis = 1> (a, a) c = Exp(b) y = Slice (c, zero, one, one)",
                  weights="<int64[1] zero = {0}, int64[1] one = {1}>")  # fmt: skip
    assert live(chain, 1, 1000) == F * (1000 + 2000 + 2000)


def test_a_branch_is_held_until_it_is_joined() -> None:
    """a is wanted at the very end, so it is live beside every step of the other branch."""
    body = "a = Exp(x) b = Exp(a) c = Concat <axis = 1> (b, b, b) d = ReduceMean <keepdims = 1> (c, axis) y = Add(a, d)"
    assert live(model(body, weights="<int64[1] axis = {1}>"), 1, 1000) == F * (1000 + 1000 + 1000 + 3000)
    without = body.replace("Add(a, d)", "Add(d, d)")
    assert live(model(without, weights="<int64[1] axis = {1}>"), 1, 1000) == F * (1000 + 1000 + 3000)


def test_views_take_nothing() -> None:
    body = "a = Exp(x) b = Reshape(a, s) c = Unsqueeze(b, z) d = Identity(c) e = Reshape(d, t) y = Add(a, e)"
    views = model(body, weights="<int64[3] s = {-1, 500, 2}, int64[1] z = {0}, int64[2] t = {-1, 1000}>")
    assert live(views, 1, 1000) == F * 3000


def test_outputs_stay() -> None:
    body = "a = Exp(x) b = Concat <axis = 1> (a, a) y = Slice (b, zero, one, one)"
    chain = model(body, weights="<int64[1] zero = {0}, int64[1] one = {1}>")
    assert live(chain, 1, 1000) == F * (1000 + 1000 + 2000)
    assert live(oi.expose(chain, ["a"]), 1, 1000) == F * (1000 + 1000 + 2000 + 1)


def test_views_keep_what_they_show() -> None:
    """b shows a: a must not be counted as freed at the node that makes b."""
    body = """a = Exp(x) b = Reshape(a, s) c = Concat <axis = 1> (x, x) d = Concat <axis = 1> (c, c)
        e = Flatten(b) y = Concat <axis = 1> (d, e)"""
    views = model(body, weights="<int64[3] s = {-1, 500, 2}>")
    assert live(views, 1, 1000) == F * (1000 + 1000 + 4000 + 5000)


def test_weights_and_what_follows_from_them_count_once() -> None:
    half = numpy_helper.from_array(np.ones((1000, 50), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("Relu", ["w"], ["p"]), helper.make_node("MatMul", ["x", "p"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1000])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 50])],
        [half],
    )
    found = need(oi.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)), 1, 1000)
    assert found.fixed == 2 * F * 50_000
    assert max(found.steps) == (F * 1050, 0)
    assert found.of(3) - found.of(1) == pytest.approx(2 * 1.7 * F * 1050, abs=1)


def test_what_fits_is_what_is_estimated_to() -> None:
    found = need(oi.load(nets.classifier()), 1, 3, 12, 12)
    for count in (1, 2, 5, 8):
        assert found.fit(found.of(count) + 1) == count
        assert found.fit(found.of(count) - 2) == count - 1
    assert found.fit(0) == 0


def test_a_transposed_convolution_needs_columns_of_one_sample() -> None:
    w = numpy_helper.from_array(np.ones((4, 5, 3, 3), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("ConvTranspose", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4, 10, 10])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 5, 12, 12])],
        [w],
    )
    found = need(
        oi.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)), 1, 4, 10, 10
    )
    assert found.steps == ((F * (400 + 5 * 144), F * 5 * 9 * 100),)


def test_bodies_count_at_their_node() -> None:
    body = """a = Exp(x) c = ReduceMax <keepdims = 0> (a) k = Greater(c, z)
        b = If (k) <then_branch = t () => (p) { o = Concat <axis = 1> (a, a) p = Exp(o) },
                    else_branch = e () => (q) { q = Concat <axis = 1> (a, a) }>
        y = Exp(b)"""
    found = live(model(body, weights="<float z = {0}>"), 1, 1000)
    assert found >= F * (1000 + 1000 + 2000 + 2000 + 2000)


def test_gradients_are_estimated_as_they_are_run() -> None:
    """What the backward pass needs again stays: more than the forward pass takes, and less than all tensors."""
    classifier = oi.load(nets.classifier())
    adjoint = oi.vjp(classifier, ["image"], ["scores"])
    sizes = {"image": (1, 3, 12, 12), "cotangent.scores": (1, 4)}
    found = memory.need(adjoint, sizes, frozenset(sizes))
    sized = Sized(adjoint.ir.graph, sizes, varying(adjoint.ir.graph))
    everything = sum(sized.bytes(y) for node in adjoint.ir.graph for y in node.outputs)
    assert live(classifier, 1, 3, 12, 12) < max(each for each, _ in found.steps) < everything


# Sizes.

ROWS = [
    graphs.r(21, "s = Shape(x) p = ReduceProd <keepdims = 1> (s) y = Reshape(x, p)", x=graphs.f(2, 3, 4)),
    graphs.r(
        21, "n = Size(x) m = Reshape(n, ONE) z = ConstantOfShape(m) y = Exp(z)", x=graphs.f(2, 3), ONE=graphs.i(1)
    ),
    graphs.r(
        21,
        "s = Shape(x) e = Equal(s, ONE) w = Where(e, TWO, s) y = Expand(x, w)",
        x=graphs.f(2, 1, 4),
        ONE=graphs.i(1, 1, 1),
        TWO=graphs.i(5, 5, 5),
    ),
    graphs.r(
        21,
        "s = Shape(x) e = Equal(s, ONE) n = NonZero(e) a = Reshape(n, LAST) y1 = ReduceSum <keepdims = 0> (x, a)"
        "t = Shape(y1) u = ReduceMax <keepdims = 1> (t) v = Concat <axis = 0> (u, u) o = Expand(X0, v) y2 = Exp(o)",
        x=graphs.f(2, 1, 4),
        ONE=graphs.i(1, 1, 1),
        LAST=graphs.i(-1),
        X0=graphs.f(1, 1),
    ),
    graphs.r(
        21,
        "s = Shape <start = 1> (x) h = Div(s, TWO) f = Cast <to = 1> (h) g = Mul(f, HALF) c = Ceil(g)"
        "i = Cast <to = 7> (c)"
        "m = Mod(i, TWO) o = Neg(m) j = Sub(i, o) k = Max(j, TWO) l = Slice(k, ZERO, ONE, ZERO) q = Squeeze(l) r = Range(Z, q, O)"
        "d = Gather(k, r) e = Unsqueeze(d, ZERO) n = Transpose <perm = [1, 0]> (e) p = Reshape(n, MINUS)"
        "y = ConstantOfShape(p)",
        x=graphs.f(2, 9),
        TWO=graphs.i(2),
        HALF=graphs.f(1, low=0.5, high=0.5),
        ZERO=graphs.i(0),
        ONE=graphs.i(1),
        Z=np.array(0, np.int64),
        O=np.array(2, np.int64),
        MINUS=graphs.i(-1),
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_sizes_that_are_reckoned_are_onnxruntimes(row: graphs.Row) -> None:
    proto = row.proto()
    loaded = oi.load(proto)
    for value in loaded.ir.graph.inputs:  # nothing but the feeds says how large anything is
        value.shape = type(value.shape)([None] * len(value.shape)) if value.shape is not None else None
    feeds = row.feeds()
    sized = Sized(loaded.ir.graph, {k: v.shape for k, v in feeds.items()}, set(loaded.ir.graph.inputs))
    names = [y.name for node in loaded.ir.graph for y in node.outputs]
    shown = onnx.ModelProto.FromString(proto.SerializeToString())
    del shown.graph.output[:]
    shown.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names)
    found = dict(zip(names, graphs.run(shown.SerializeToString(), feeds), strict=True))
    assert {n: sized.elements(loaded.values[n]) for n in names} == {n: v.size for n, v in found.items()}
    assert {n: sized.bytes(loaded.values[n]) for n in names} == {n: v.nbytes for n, v in found.items()}


def test_all_sizes_of_a_gradient_are_onnxruntimes() -> None:
    adjoint = oi.vjp(oi.load(nets.classifier(size="HW")), ["image"], ["scores"])
    feeds = {"image": nets.images(1, size=20), "cotangent.scores": np.ones((1, 4), np.float32)}
    proto = adjoint.to_proto()
    names = [y for node in proto.graph.node for y in node.output if y]
    del proto.graph.output[:]
    proto.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names)
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    found = dict(zip(names, session.run(None, feeds), strict=True))
    sized = Sized(adjoint.ir.graph, {k: v.shape for k, v in feeds.items()}, adjoint.varying)
    wrong = [n for n in names if sized.bytes(adjoint.values[n]) != np.asarray(found[n]).nbytes]
    assert not wrong


def test_what_stays_unknown_is_as_large_as_what_goes_in_or_as_the_largest() -> None:
    """How many elements NonZero finds nobody knows."""
    body = "m = ReduceMax(x) n = NonZero(m) t = Transpose(n) a = Cast <to = 1> (t) y = MatMul(a, w)"
    found = model(body, weights="<float[2,3] w = {1, 2, 3, 4, 5, 6}>")
    sized = Sized(found.ir.graph, {"x": (1, 1000)}, found.varying)
    assert [sized.elements(found.values[n]) for n in "nty"] == [1, 1, 1000]


# How much there is.


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4GB", 4 * 10**9),
        ("500MB", 500 * 10**6),
        ("2GiB", 2 * 2**30),
        ("1.5 gib", 3 * 2**29),
        ("64k", 64_000),
        ("1TB", 10**12),
        ("1000", 1000),
        (4096, 4096),
    ],
)
def test_amounts(text: str | int, size: int) -> None:
    assert amounts.parse(text) == size


@pytest.mark.parametrize(
    "text", ["lots", "-3GB", "0", "", "GB", "4XB", "4 G B", "1e9", "nan", "0.1", "4i", -1, 0, True]
)
def test_what_is_no_amount(text: str | int) -> None:
    with pytest.raises(InputError, match=f"'{text}' is no amount of memory.*--max-memory"):
        amounts.parse(text)


def test_amounts_are_told_as_they_are_given() -> None:
    assert [amounts.told(n) for n in (999, 64_000, 5 * 10**8, 1.96 * 10**9)] == [
        "999 B",
        "64.0 kB",
        "500.0 MB",
        "2.0 GB",
    ]


def machine(root: Path, **files: str) -> Path:
    names = {
        "free": "proc/meminfo",
        "groups": "proc/self/cgroup",
        "limit": "sys/fs/cgroup/memory.max",
        "own": "sys/fs/cgroup/jobs/1/memory.max",
        "old": "sys/fs/cgroup/memory/jobs/1/memory.limit_in_bytes",
    }
    for kind, text in files.items():
        (root / names[kind]).parent.mkdir(parents=True, exist_ok=True)
        (root / names[kind]).write_text(text)
    return root


FREE = "MemTotal:       8000 kB\nMemFree:         100 kB\nMemAvailable:   5000 kB\n"


@pytest.mark.parametrize(
    ("files", "size"),
    [
        ({}, 5000 * 1024),
        ({"limit": "max\n"}, 5000 * 1024),
        ({"limit": "1000000\n"}, 1_000_000),
        ({"groups": "0::/jobs/1\n", "own": "2000000\n", "limit": "max"}, 2_000_000),
        ({"groups": "4:memory:/jobs/1\n0::/\n", "old": "3000000\n"}, 3_000_000),
        ({"groups": "4:memory:/jobs/1\n0::/\n", "old": "9223372036854771712\n"}, 5000 * 1024),
    ],
    ids=["free", "no limit", "container", "group", "version 1", "version 1 without limit"],
)
def test_what_a_machine_says(tmp_path: Path, files: dict[str, str], size: int) -> None:
    assert memory.available(machine(tmp_path, free=FREE, **files)) == size


def test_machines_that_say_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert memory.available(tmp_path) > 10**6  # os.sysconf
    monkeypatch.delattr("os.sysconf", raising=False)
    assert memory.available(tmp_path) == 4 * 10**9


def test_a_card_is_asked_through_its_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    class Driver:
        def cuInit(self, flags: int) -> int:
            return 0

        def cuDeviceGet(self, card: object, number: int) -> int:
            return 0 if number == 1 else 101

        def cuDeviceTotalMem_v2(self, size: object, card: object) -> int:
            size._obj.value = 16 * 10**9  # type: ignore[attr-defined]
            return 0

    monkeypatch.setattr("ctypes.CDLL", lambda name: Driver())
    assert memory.of_card(1) == 16 * 10**9
    assert memory.of_card(0) == 4 * 10**9

    def missing(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr("ctypes.CDLL", missing)
    assert memory.of_card(1) == 4 * 10**9


def test_variants_leave_room_for_their_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside what a run takes there are its inputs, twice and in double precision, and its results."""
    x = nets.images(1)
    engine = Engine("cpu", 1, max_memory=8 * 3 * x.nbytes)
    monkeypatch.setattr(engine, "fits", lambda *_: 8)
    job = Job(oi.load(nets.classifier()), x, 1, engine=engine)
    sizes = [len(which) for _, which, _ in job.sweep("", 7, lambda i, which: {"image": x.repeat(len(which), axis=0)})]
    assert sizes == [3, 3, 1]


@pytest.mark.parametrize("error", [OSError, AttributeError, TypeError])
def test_another_c_library_keeps_what_is_free(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: object) -> None:
        raise error

    monkeypatch.setattr("ctypes.CDLL", load)
    memory.trim()
