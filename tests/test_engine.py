"""The engine: providers, batches, sessions, and what it says when something does not fit."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

import onnx_inspect as oi
from onnx_inspect import budget, memory
from onnx_inspect.engine import Engine
from onnx_inspect.errors import DeviceError, InputError, ModelError, ResultError
from onnx_inspect.providers import probe

from . import nets

X = nets.images(5)


def test_the_probe_is_one_convolution() -> None:
    proto = onnx.ModelProto.FromString(probe())
    onnx.checker.check_model(proto, full_check=True)
    assert [n.op_type for n in proto.graph.node] == ["Conv"]


def test_results_are_onnxruntimes() -> None:
    model = oi.load(nets.classifier())
    session = ort.InferenceSession(nets.classifier().SerializeToString(), providers=["CPUExecutionProvider"])
    expected = session.run(None, {"image": X})[0]
    np.testing.assert_allclose(Engine("cpu").run(model, {"image": X})["scores"], expected, rtol=1e-6)


@pytest.mark.parametrize("batch", [1, 2, 3, 8])
def test_batches_do_not_matter(batch: int) -> None:
    done: list[int] = []
    found = Engine("cpu", batch=batch).run(oi.load(nets.classifier()), {"image": X}, progress=done.append)["scores"]
    np.testing.assert_allclose(found, nets.forward(X)["logits"], rtol=1e-4)
    assert sum(done) == 5


@pytest.mark.parametrize("fixed", [1, 2, 4])
def test_a_fixed_batch_is_filled_up(fixed: int) -> None:
    found = Engine("cpu").run(oi.load(nets.classifier(batch=fixed)), {"image": X})["scores"]
    np.testing.assert_allclose(found, nets.forward(X)["logits"], rtol=1e-4)


def test_a_batch_that_was_relaxed_wrongly_is_run_singly() -> None:
    """The canonical form would not relax this; if it did, the engine would notice."""
    nodes = [helper.make_node("Softmax", ["x"], ["y"], axis=0)]
    info = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", 3]) for n in "xy"]
    model = oi.load(
        helper.make_model(
            helper.make_graph(nodes, "g", info[:1], info[1:]),
            opset_imports=[helper.make_opsetid("", 21)],
            ir_version=10,
        )
    )
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    mixed = Engine("cpu").run(model, {"x": x})["y"]
    model.batch_relaxed = True
    np.testing.assert_array_equal(Engine("cpu").run(model, {"x": x})["y"], np.ones((2, 3)))
    assert not np.allclose(mixed, 1)


def test_only_what_is_wanted_is_computed() -> None:
    model = oi.load(nets.classifier())
    found = Engine("cpu").run(model, {"image": X}, ["r1"])
    assert set(found) == {"r1"}
    np.testing.assert_allclose(found["r1"], nets.forward(X)["r1"], atol=1e-5)


def test_sessions_are_kept_up_to_a_limit() -> None:
    engine, model = Engine("cpu", sessions=2), oi.load(nets.classifier())
    for wanted in (["r1"], ["c1"], ["r1"], ["scores"], ["c2"]):
        engine.run(model, {"image": X}, wanted)
    assert len(engine.sessions) == 2
    again = oi.load(nets.classifier())
    before = list(engine.sessions._kept)
    engine.run(again, {"image": X}, ["c2"])
    assert list(engine.sessions._kept) == before, "an equal model loaded again uses the same session"


def test_a_device_is_what_really_runs() -> None:
    assert Engine("cpu").provider == "CPUExecutionProvider"
    assert Engine("auto").provider in ("CPUExecutionProvider", "CUDAExecutionProvider")
    if Engine("auto").provider == "CPUExecutionProvider":
        with pytest.raises(DeviceError, match="cannot run here"):
            Engine("cuda")


@pytest.mark.parametrize("device", ["gpu", "cpu:0", "cuda:x", "", "auto:1"])
def test_unknown_devices(device: str) -> None:
    with pytest.raises(DeviceError, match="no device"):
        Engine(device)


@pytest.mark.parametrize(
    ("feeds", "said"),
    [
        ({}, "without values: 'image'"),
        ({"image": X[0]}, "4 axes"),
        ({"image": X[:, :2]}, "shape N×3×12×12"),
        ({"image": X.astype(np.complex64)}, "takes float32, not complex64"),
    ],
    ids=["none", "axes", "shape", "type"],
)
def test_inputs_that_do_not_fit(feeds: dict[str, np.ndarray], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Engine("cpu").run(oi.load(nets.classifier()), feeds)


def test_types_are_cast_where_nothing_is_lost() -> None:
    model = oi.load(nets.classifier())
    found = Engine("cpu").run(model, {"image": X.astype(np.float64)})["scores"]
    np.testing.assert_allclose(found, nets.forward(X)["logits"], rtol=1e-4)


def test_no_threads_and_no_batch_are_refused() -> None:
    with pytest.raises(DeviceError):
        Engine("cpu", threads=0)
    with pytest.raises(InputError):
        Engine("cpu", batch=0)


def test_a_model_that_the_runtime_refuses_gets_a_sentence() -> None:
    nodes = [helper.make_node("Nope", ["x"], ["y"], domain="nowhere")]
    info = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", 3]) for n in "xy"]
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("nowhere", 1)]
    model = oi.load(
        helper.make_model(helper.make_graph(nodes, "g", info[:1], info[1:]), opset_imports=opsets, ir_version=10)
    )
    with pytest.raises(ModelError, match="does not accept"):
        Engine("cpu").run(model, {"x": np.zeros((1, 3), np.float32)})


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    Engine("auto").run(oi.load(nets.classifier()), {"image": X})
    with pytest.raises(oi.InspectError):
        Engine("cpu").run(oi.load(nets.classifier(size="HW")), {"image": np.zeros((1, 3, 0, 0), np.float32)})
    assert capfd.readouterr() == ("", "")


def test_sums_over_samples_do_not_come_in_parts() -> None:
    """The gradient of a weight is one for all samples: parts of it must not be glued together."""
    adjoint = oi.vjp(oi.load(nets.classifier()), ["w3"], ["scores"])
    x, c = nets.images(12), np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
    found = Engine("cpu", batch=12).run(adjoint, {"image": x, "cotangent.scores": c})["gradient.w3"]
    np.testing.assert_allclose(found, nets.forward(x)["p"].T @ c, rtol=1e-3, atol=1e-4)
    with pytest.raises(InputError, match="one for all samples"):
        Engine("cpu", batch=6).run(adjoint, {"image": x, "cotangent.scores": c})
    freed = oi.vjp(oi.load(nets.classifier(batch=6)), ["w3"], ["scores"])
    found = Engine("cpu").run(freed, {"image": x[:4], "cotangent.scores": c[:4]})["gradient.w3"]
    np.testing.assert_allclose(found, nets.forward(x[:4])["p"].T @ c[:4], rtol=1e-3, atol=1e-4)


def test_outputs_that_mix_samples_do_not_come_in_parts() -> None:
    """Their first axis may be called what it likes: what matters is one entry per sample."""
    for op, attributes in (("Transpose", dict(perm=[1, 0])), ("ReduceSum", dict(keepdims=0)), ("Shape", {})):
        nodes = [helper.make_node(op, ["x"], ["y"], **attributes)]
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", "C"])
        kind = TensorProto.INT64 if op == "Shape" else TensorProto.FLOAT
        graph = helper.make_graph(nodes, "g", [x], [helper.make_tensor_value_info("y", kind, None)])
        model = oi.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10))
        values = np.arange(48, dtype=np.float32).reshape(16, 3)
        whole = Engine("cpu", batch=16).run(model, {"x": values})["y"]
        assert whole.shape == {"Transpose": (3, 16), "ReduceSum": (), "Shape": (2,)}[op]
        with pytest.raises(InputError, match="one for all samples"):
            Engine("cpu", batch=8).run(model, {"x": values})


def test_inputs_counted_by_another_name_go_in_whole() -> None:
    nodes = [helper.make_node("Transpose", ["b"], ["t"], perm=[1, 0]), helper.make_node("MatMul", ["a", "t"], ["y"])]
    info = {
        n: helper.make_tensor_value_info(n, TensorProto.FLOAT, s)
        for n, s in {"a": ["N", 2], "b": ["M", 2], "y": ["N", "M"]}.items()
    }
    graph = helper.make_graph(nodes, "g", [info["a"], info["b"]], [info["y"]])
    model = oi.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10))
    a, b = np.ones((16, 2), np.float32), np.arange(6, dtype=np.float32).reshape(3, 2)
    np.testing.assert_array_equal(Engine("cpu").run(model, {"a": a, "b": b})["y"], a @ b.T)


def test_weights_that_were_changed_are_other_models() -> None:
    """Sessions are kept by digest: a large constant that a rule or a user puts in must count."""
    engine, model = Engine("cpu"), oi.load(nets.classifier(classes=64))
    first = engine.run(model, {"image": X})["scores"]
    other = model.clone()
    name = "w3"
    assert other.ir.graph.initializers[name].const_value.nbytes > 1024
    other.ir.graph.initializers[name].const_value = ir.Tensor(np.zeros((6, 64), np.float32), name=name)
    assert other.digest != model.digest
    np.testing.assert_allclose(
        engine.run(other, {"image": X})["scores"], np.tile(nets.weights(64)["b3"], (5, 1)), rtol=1e-6
    )
    assert not np.allclose(first, nets.weights(64)["b3"])


def test_constants_of_rules_count_where_a_model_has_no_weights() -> None:
    """Two tables that differ in a large constant only: the second must not get the first one's session."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 512])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 512])
    graph = helper.make_graph([helper.make_node("Tanh", ["x"], ["y"])], "g", [x], [y])
    model = oi.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10))
    feeds = {"x": np.ones((1, 512), np.float32), "cotangent.y": np.ones((1, 512), np.float32)}
    engine = Engine("cpu")
    for factor in (2, 5):
        rules = {"Tanh": lambda op, node, dy, k=factor: dy * op.const(np.full(512, k, np.float32))}
        found = engine.run(oi.vjp(model, ["x"], ["y"], rules=rules), feeds)["gradient.x"]
        np.testing.assert_array_equal(found, np.full((1, 512), factor))


def test_inputs_of_unknown_rank_run() -> None:
    net = nets.classifier()
    net.graph.input[0].type.tensor_type.ClearField("shape")
    np.testing.assert_allclose(
        Engine("cpu").run(oi.load(net), {"image": X})["scores"], nets.forward(X)["logits"], rtol=1e-4
    )


@pytest.mark.parametrize("fixed", ["N", 1, 2, 4])
def test_targets_per_sample_keep_to_their_samples(fixed: int | str) -> None:
    """Over several runs, and where the last one is filled up."""
    classes = [0, 1, 2, 3, 1]
    model = oi.load(nets.classifier(batch=fixed))
    if fixed != "N":
        model.batch_relaxed = False
        for value in [*model.ir.graph.inputs, *model.ir.graph.outputs]:
            assert value.shape is not None
            value.shape = type(value.shape)([fixed, *list(value.shape)[1:]])
    found = oi.saliency(model, X, target=classes, engine=Engine("cpu", batch=2))
    apart = [
        oi.saliency(nets.classifier(), X[i : i + 1], target=c, engine=Engine("cpu")) for i, c in enumerate(classes)
    ]
    np.testing.assert_allclose(found.values, np.concatenate([a.values for a in apart]), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.scores, nets.forward(X)["logits"][range(5), classes], rtol=1e-4)


def test_inputs_that_hold_no_samples_go_in_whole() -> None:
    """A state of shape (2, N) or a table of fixed length is not cut into samples."""
    nodes = [helper.make_node("MatMul", ["x", "table"], ["y"])]
    info = {
        n: helper.make_tensor_value_info(n, TensorProto.FLOAT, s)
        for n, s in {"x": ["N", 2], "table": [2, 3], "y": ["N", 3]}.items()
    }
    graph = helper.make_graph(nodes, "g", [info["table"], info["x"]], [info["y"]])
    model = oi.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10))
    x, table = np.arange(10, dtype=np.float32).reshape(5, 2), np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(Engine("cpu", batch=2).run(model, {"x": x, "table": table})["y"], x @ table)


def test_inputs_have_to_agree_on_the_samples() -> None:
    model = oi.load(nets.classifier(extra_input=True))
    with pytest.raises(InputError, match="different numbers of samples"):
        Engine("cpu").run(model, {"image": X, "offset": np.zeros((2, 4), np.float32)})
    with pytest.raises(InputError, match="no samples"):
        Engine("cpu").run(oi.load(nets.classifier()), {"image": X[:0]})


# Memory.


class Watched:
    """A session that keeps count of its runs, and has room for so many samples at a time."""

    def __init__(self, session: ort.InferenceSession, sizes: list[int], room: int, said: str) -> None:
        self.session, self.sizes, self.room, self.said = session, sizes, room, said

    def run(self, outputs: list[str], feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        count = len(next(iter(feeds.values())))
        self.sizes.append(count)
        if count > self.room:
            raise MemoryError(self.said) if self.said == "std::bad_alloc" else RuntimeError(self.said)
        return self.session.run(outputs, feeds)


def watched(
    monkeypatch: pytest.MonkeyPatch, engine: Engine, room: int = 1000, said: str = "std::bad_alloc"
) -> list[int]:
    """The sizes of all runs from here on."""
    sizes: list[int] = []
    opened = engine.sessions._open
    monkeypatch.setattr(engine.sessions, "_open", lambda model: Watched(opened(model), sizes, room, said))
    return sizes


def needed(model: oi.Model, samples: int, x: np.ndarray = X) -> int:
    engine = Engine("cpu")
    engine.run(model, {"image": x[:1]})
    return next(iter(engine._budget._needs.values())).of(samples)


@pytest.mark.parametrize(("fits", "sizes"), [(1, [1] * 5), (2, [2, 2, 1]), (4, [4, 1]), (100, [5])])
def test_as_many_samples_go_into_a_run_as_fit(monkeypatch: pytest.MonkeyPatch, fits: int, sizes: list[int]) -> None:
    model = oi.load(nets.classifier())
    engine = Engine("cpu", max_memory=needed(model, fits) + 1)
    runs, done = watched(monkeypatch, engine), list[int]()
    found = engine.run(model, {"image": X}, progress=done.append)["scores"]
    np.testing.assert_allclose(found, nets.forward(X)["logits"], rtol=1e-4)
    assert runs == done == sizes
    assert engine.notes == []
    assert engine.fits(model, {"image": X}) == engine.fits(model, {"image": X[:1]}) == min(fits, 8)


def test_gradients_take_more_than_the_forward_pass() -> None:
    model = oi.load(nets.classifier())
    adjoint = oi.vjp(model, ["image"], ["scores"])
    engine = Engine("cpu", max_memory=needed(model, 8) + 1)
    feeds = {"image": X, "cotangent.scores": np.ones((5, 4), np.float32)}
    assert engine.fits(model, feeds) == 8 > engine.fits(adjoint, feeds) >= 1


def test_less_is_needed_for_less_of_a_model_and_for_smaller_inputs() -> None:
    model = oi.load(nets.classifier(size="HW"))
    large = nets.images(1, size=48)
    engine = Engine("cpu", max_memory=needed(model, 2, large) + 1)
    assert engine.fits(model, {"image": large}) == 2
    assert engine.fits(model, {"image": X}) == 8
    first = Engine("cpu", batch=100, max_memory=engine.max_memory)
    assert first.fits(model, {"image": large}, ["p"]) <= 3
    assert first.fits(model, {"image": X}, ["p"]) > 20


def test_memory_is_estimated_once_per_model_and_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    estimate = memory.need
    monkeypatch.setattr(memory, "need", lambda *given: calls.append(given) or estimate(*given))
    engine, model = Engine("cpu", batch=2), oi.load(nets.classifier(size="HW"))
    for x in (X, X[:1], X, nets.images(2, size=20), X):
        engine.run(model, {"image": x})
        engine.fits(model, {"image": x})
    assert len(calls) == 2
    engine.run(oi.load(nets.classifier(size="HW")), {"image": X})
    assert len(calls) == 2, "an equal model loaded again takes the same"


def test_one_sample_that_is_too_large_runs_all_the_same() -> None:
    engine, model = Engine("cpu", max_memory=1000), oi.load(nets.classifier())
    engine.run(model, {"image": X[:1]})
    found = engine.run(model, {"image": X})["scores"]
    np.testing.assert_allclose(found, nets.forward(X)["logits"], rtol=1e-4)
    (note,) = engine.notes
    assert note.startswith("one sample of '") and "more than the 1.0 kB that a run may" in note
    assert note.endswith("(--max-memory)")


@pytest.mark.parametrize(
    "said",
    [
        "std::bad_alloc",
        "Failed to allocate memory for requested buffer of size 4294967296",
        "bfc_arena.cc:376 void* onnxruntime::BFCArena::AllocateRawInternal(size_t, bool) Available memory of 1 is smaller"
        " than requested bytes of 2",
        "CUDA failure 2: out of memory ; GPU=0",
        "CUDA out of memory",
        "onnxruntime::BFCArena::AllocateRawInternal Failed to find a free memory block despite calling Extend",
    ],
)
def test_a_run_that_does_not_fit_is_halved(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    model, x = oi.load(nets.classifier()), nets.images(9)
    engine = Engine("cpu")
    runs, done = watched(monkeypatch, engine, 3, said), list[int]()
    found = engine.run(model, {"image": x}, progress=done.append)["scores"]
    np.testing.assert_allclose(found, nets.forward(x)["logits"], rtol=1e-4)
    assert runs == [8, 4, 2, 2, 2, 2, 1] and done == [2, 2, 2, 2, 1]
    assert [n.partition(" in a run")[0] for n in engine.notes] == [
        "memory ran out with 8 samples",
        "memory ran out with 4 samples",
    ]
    assert all(n.endswith("(--batch, --max-memory)") for n in engine.notes)
    runs.clear()
    engine.notes.clear()
    engine.run(model, {"image": x})
    assert runs == [2, 2, 2, 2, 1], "the next run of this model begins with what has fitted"
    assert engine.notes == [] and engine.fits(model, {"image": x}) == 2


def test_a_run_may_run_out_of_memory_in_the_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = oi.load(nets.classifier()), nets.images(9)
    engine = Engine("cpu", batch=4)
    runs = watched(monkeypatch, engine)
    original, opened = engine.sessions._open, []

    def once(part: oi.Model) -> Watched:
        session = original(part)
        opened.append(session)
        run = session.run
        if len(opened) == 1:
            session.run = lambda *given: run(*given) if len(runs) < 1 else (_ for _ in ()).throw(MemoryError())
        return session

    monkeypatch.setattr(engine.sessions, "_open", once)
    np.testing.assert_allclose(engine.run(model, {"image": x})["scores"], nets.forward(x)["logits"], rtol=1e-4)
    assert runs == [4, 2, 2, 1] and len(opened) == 2, "a new session: the arena of the old one holds what is missing"


def test_memory_that_other_sessions_hold_is_given_back_first(monkeypatch: pytest.MonkeyPatch) -> None:
    model, other = oi.load(nets.classifier()), oi.load(nets.classifier(classes=5))
    engine = Engine("cpu")
    engine.run(other, {"image": X})
    runs = watched(monkeypatch, engine, 4)
    engine.run(model, {"image": X})
    assert runs == [5, 5, 2, 2, 1] and len(engine.sessions) == 1


def test_where_not_even_one_sample_fits_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    model, engine = oi.load(nets.classifier()), Engine("cpu")
    runs = watched(monkeypatch, engine, 0, "Failed to allocate memory for requested buffer of size 77")
    with pytest.raises(
        ResultError, match=r"one sample took more than there is, where .* kB were estimated.*--size"
    ) as e:
        engine.run(model, {"image": X})
    assert runs == [5, 2, 1] and "size 77" in str(e.value)
    with pytest.raises(ResultError, match="onnxruntime failed"):  # any other error is none of memory
        watched(monkeypatch, engine, 0, "Non-zero status code")
        engine.sessions.clear()
        engine.run(model, {"image": X})


@pytest.mark.parametrize("kind", ["fixed", "shared"])
def test_what_cannot_be_divided_goes_in_whole(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """A batch that the graph insists on, and sums over all samples."""
    if kind == "fixed":
        model = oi.load(nets.classifier(batch=4))
        model.batch_relaxed = False
        for value in [*model.ir.graph.inputs, *model.ir.graph.outputs]:
            assert value.shape is not None
            value.shape = type(value.shape)([4, *list(value.shape)[1:]])
        feeds, sizes = {"image": X[:4]}, [4]
    else:
        model = oi.vjp(oi.load(nets.classifier()), ["w3"], ["scores"])
        feeds, sizes = {"image": X, "cotangent.scores": np.ones((5, 4), np.float32)}, [5]
    engine = Engine("cpu", max_memory=2000)
    runs = watched(monkeypatch, engine)
    whole = engine.run(model, feeds)
    np.testing.assert_array_equal(*(e[next(iter(e))] for e in (whole, Engine("cpu").run(model, feeds))))
    assert runs == sizes
    assert f"{sizes[0]} samples, which have to go into one run, of" in engine.notes[0]
    assert engine.fits(model, feeds) == (4 if kind == "fixed" else 1)
    engine.sessions.clear()
    watched(monkeypatch, engine, 0)
    with pytest.raises(ResultError, match=f"{sizes[0]} samples, which have to go into one run, took more"):
        engine.run(model, feeds)


def test_sessions_are_kept_while_there_is_room_for_what_they_took() -> None:
    small, large = oi.load(nets.classifier()), oi.load(nets.classifier(classes=5, size="HW"))
    x = nets.images(1, size=60)
    engine = Engine("cpu", max_memory=needed(large, 1, x) + needed(small, 1) // 2)
    engine.run(small, {"image": X[:1]})
    engine.run(large, {"image": X[:1]})
    assert len(engine.sessions) == 2
    engine.run(large, {"image": x})
    assert large in engine.sessions and small not in engine.sessions
    engine.run(small, {"image": X[:1]})
    assert small in engine.sessions and large not in engine.sessions, "the other still holds what the large input took"


def test_results_whose_size_differs_from_run_to_run() -> None:
    """Rows of another length must neither be stretched nor cut."""
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["m"], keepdims=0),
        helper.make_node("Reshape", ["m", "one"], ["k"]),
        helper.make_node("Cast", ["k"], ["n"], to=TensorProto.INT64),
        helper.make_node("Slice", ["x", "zero", "n", "one"], ["y"]),
    ]
    info = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in {"x": ["N", 3], "y": ["N", "M"]}.items()]
    weights = [helper.make_tensor(n, TensorProto.INT64, [1], [v]) for n, v in {"one": 1, "zero": 0}.items()]
    graph = helper.make_graph(nodes, "g", info[:1], info[1:], weights)
    model = oi.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10))
    x = np.array([[1, 0, 0], [3, 3, 3]], np.float32)
    assert Engine("cpu").run(model, {"x": x})["y"].shape == (2, 3)
    with pytest.raises(InputError, match="per sample in one run"):
        Engine("cpu", batch=1).run(model, {"x": x[::-1]})


def test_amounts_that_are_none_are_refused() -> None:
    with pytest.raises(InputError, match="'lots' is no amount"):
        Engine("cpu", max_memory="lots")
    assert Engine("cpu", max_memory="2GiB").max_memory == 2**31
    assert 10**6 < Engine("cpu").max_memory <= memory.available()


def test_samples_that_meet_run_alone_even_where_the_file_takes_any_batch() -> None:
    """x less the mean over all samples: a batch would give what no sample gives alone."""
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["m"], axes=[0], keepdims=1),
        helper.make_node("Sub", ["x", "m"], ["y"]),
    ]
    shape = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", 3]) for n in "xy"]
    proto = helper.make_model(
        helper.make_graph(nodes, "meet", shape[:1], shape[1:]),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    engine = Engine("cpu", 1)
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    model = oi.load(proto)
    np.testing.assert_array_equal(engine.run(model, {"x": x}, apart=True)["y"], np.zeros_like(x))
    np.testing.assert_array_equal(engine.run(model, {"x": x})["y"], x - x.mean(axis=0))  # as the model is
    assert engine.notes == ["samples do not stay apart in this model, so each runs alone"]


@pytest.mark.parametrize(
    ("size", "batch", "runs"), [(16, None, [4]), (600, None, [1] * 4), (600, 4, [4]), (64, None, [2, 2])]
)
def test_samples_share_a_run_while_the_cache_holds_them(
    monkeypatch: pytest.MonkeyPatch, size: int, batch: int | None, runs: list[int]
) -> None:
    model, x = oi.load(nets.classifier(size="HW")), nets.images(4, size=size)
    engine = Engine("cpu", 1, batch=batch)
    if size == 64:  # room for two and a half
        monkeypatch.setattr(
            budget, "_CACHE", 5 * memory.need(model, {"image": (1, 3, 64, 64)}, {"image"}).steps[0][0] // 2
        )
        engine = Engine("cpu", 1)
    seen = watched(monkeypatch, engine)
    engine.run(model, {"image": x}, apart=True)  # which checks once that samples stay apart
    seen.clear()
    engine.run(model, {"image": x}, apart=True)
    assert seen == runs
    assert engine.fits(model, {"image": x}) == engine.batch, "of those that have to go together all may"


def test_there_is_one_engine_for_runs_side_by_side() -> None:
    """Else each study of each model would keep its own compiled models."""
    engine = Engine("cpu", max_memory="1GB")
    narrow = engine.narrow(4)
    assert narrow is engine.narrow(4) is not engine.narrow(2)
    assert (narrow.threads, narrow.max_memory) == (1, 250_000_000)
    assert engine.narrow(1) is engine
    assert Engine("cpu", 2).narrow(4).threads == 2


def test_words_may_come_in_batches() -> None:
    """A classifier that gives names, whose batch is freed."""
    nodes = [
        helper.make_node("ArgMax", ["x"], ["k"], axis=1, keepdims=0),
        helper.make_node("Gather", ["names", "k"], ["y"]),
    ]
    infos = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3]),
        helper.make_tensor_value_info("y", TensorProto.STRING, ["N"]),
    ]
    names = helper.make_tensor("names", TensorProto.STRING, [3], [b"a", b"b", b"c"])
    proto = helper.make_model(
        helper.make_graph(nodes, "words", infos[:1], infos[1:], [names]),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    found = Engine("cpu", 1).run(oi.load(proto), {"x": np.eye(3, dtype=np.float32)}, apart=True)["y"]
    assert found.tolist() == ["a", "b", "c"]
