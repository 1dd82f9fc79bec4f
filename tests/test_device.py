"""Runs on a card: what lies there already, what stays there, what is recorded. The memory of the CPU stands for a card's.

With `--device cuda` the whole suite runs on a card, and the tests at the end of this file on both.
"""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from onnx import helper

import onnx_inspect as oi
from onnx_inspect import binding, providers, sessions
from onnx_inspect import engine as engines
from onnx_inspect.binding import Bound, Card, Recorded
from onnx_inspect.engine import Engine
from onnx_inspect.errors import DeviceError
from onnx_inspect.model import Model
from onnx_inspect.providers import CPU, CUDA, GRAPHS, choose
from onnx_inspect.rewrite import cut, expose

from . import device, nets

X = nets.images(6)
F = np.float32


def session(model: Model) -> ort.InferenceSession:
    return ort.InferenceSession(model.to_bytes(), providers=[CPU])


@pytest.fixture
def card() -> Card:
    return Card("cpu", 0, 2**20)


@pytest.fixture
def bindings(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What is bound, and how."""
    done: list[tuple[str, str]] = []
    for how in ("bind_cpu_input", "bind_input", "bind_ortvalue_input"):
        plain = getattr(ort.IOBinding, how)

        def spied(self: Any, name: str, *given: Any, how: str = how, plain: Any = plain) -> None:
            done.append((how, name))
            plain(self, name, *given)

        monkeypatch.setattr(ort.IOBinding, how, spied)
    return done


# What lies on a card.


def test_what_is_held_cannot_be_written_to(card: Card) -> None:
    given = X.copy()
    held = card.hold(given)
    given[:] = 0
    np.testing.assert_array_equal(held, X)
    with pytest.raises(ValueError, match="read-only"):
        held[0] = 1
    assert card.hold(held) is held


def test_parts_of_what_is_held_are_found(card: Card) -> None:
    held = card.hold(X)
    start = card.find(held)
    assert start is not None
    assert card.find(held[2:5]) == start + 2 * X[0].nbytes
    assert card.find(held[1:][2:, None]) == start + 3 * X[0].nbytes
    assert card.find(held[:, :1]) is None, "its numbers do not lie side by side"
    assert card.find(X) is None
    assert card.find(held.copy()) is None


def test_what_nobody_has_leaves_the_card(card: Card) -> None:
    held = card.hold(X)
    part = held[:2]
    del held
    gc.collect()
    assert len(card) == 1, "a part keeps the whole"
    del part
    gc.collect()
    assert len(card) == 0


def test_what_finds_no_room_stays_where_it_is() -> None:
    card = Card("cpu", 0, X.nbytes + 10)
    held = card.hold(X)
    more = card.hold(X[:1])
    assert card.find(held) is not None and card.find(more) is None
    assert len(card) == 1
    texts = np.array(["a"])
    assert card.hold(texts) is texts


# Runs.


def test_runs_find_what_is_held(card: Card, bindings: list[tuple[str, str]]) -> None:
    model = oi.load(nets.classifier(extra_input=True))
    runs, held = Bound(session(model), card), card.hold(X)
    for start in (0, 2, 4):
        offset = np.full((2, 4), start, F)
        (found,) = runs.run(["scores"], {"image": held[start : start + 2], "offset": offset})
        np.testing.assert_allclose(found, nets.forward(X)["logits"][start : start + 2] + offset, rtol=1e-4, atol=1e-5)
    assert bindings == [("bind_input", "image"), ("bind_cpu_input", "offset")] * 3


def test_nothing_held_is_an_ordinary_run(card: Card, bindings: list[tuple[str, str]]) -> None:
    (found,) = Bound(session(oi.load(nets.classifier())), card).run(["scores"], {"image": X})
    np.testing.assert_allclose(found, nets.forward(X)["logits"], rtol=1e-4, atol=1e-5)
    assert bindings == []


def test_what_stays_is_given_to_the_next_run(card: Card, bindings: list[tuple[str, str]]) -> None:
    """A clean pass, and then many from one of its layers on: the layer's output does not come back."""
    model = oi.load(nets.classifier())
    first, rest = session(expose(model, ["r1", "scores"])), session(cut(model, inputs=["r1"]))
    r1, scores = Bound(first, card).run(["r1", "scores"], {"image": X}, ["r1"])
    np.testing.assert_allclose(r1, nets.forward(X)["r1"], atol=1e-5)
    assert not r1.flags.writeable
    bindings.clear()
    for start in range(6):
        (found,) = Bound(rest, card).run(["scores"], {"r1": r1[start : start + 1]})
        np.testing.assert_allclose(found, scores[start : start + 1], rtol=1e-4, atol=1e-5)
    assert bindings == [("bind_input", "r1")] * 6


def test_values_of_any_order_and_rank(card: Card) -> None:
    """Columns first, and a lone number."""
    info = [helper.make_tensor_value_info(n, 1, s) for n, s in (("a", [2, 3]), ("b", []), ("y", [2, 3]))]
    graph = helper.make_graph([helper.make_node("Mul", ["a", "b"], ["y"])], "g", info[:2], info[2:])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    runs = Bound(ort.InferenceSession(proto.SerializeToString(), providers=[CPU]), card)
    a, b = np.asfortranarray(np.arange(6, dtype=F).reshape(2, 3)), np.array(3, F)
    for feeds in ({"a": card.hold(a), "b": b}, {"a": a, "b": card.hold(b)}):
        np.testing.assert_array_equal(runs.run(["y"], feeds)[0], a * 3)


# Kernels that are recorded.


@pytest.fixture
def recorded(card: Card) -> Recorded:
    runs = Recorded(session(oi.load(nets.classifier())), card)
    assert runs.plain, "inputs that are wanted on the CPU cannot be recorded"
    runs.plain = False
    return runs


def test_a_recording_is_given_new_values(recorded: Recorded, bindings: list[tuple[str, str]]) -> None:
    kept = []
    for start in range(5):
        kept.append(recorded.run(["scores"], {"image": X[start : start + 2]})[0])
    assert bindings == [("bind_ortvalue_input", "image")], "bound once, and filled anew"
    for start, found in enumerate(kept):
        np.testing.assert_allclose(found, nets.forward(X)["logits"][start : start + 2], rtol=1e-4, atol=1e-5)


def test_other_shapes_are_not_replayed(recorded: Recorded) -> None:
    for rows in (2, 1, 3, 3, 1, 3, 1, 3, 6):
        (found,) = recorded.run(["scores"], {"image": X[:rows]})
        np.testing.assert_allclose(found, nets.forward(X[:rows])["logits"], rtol=1e-4, atol=1e-5)


def test_what_stays_of_a_replay_is_not_written_over(recorded: Recorded) -> None:
    kept = [recorded.run(["scores"], {"image": X[i : i + 1]}, ["scores"])[0] for i in range(5)]
    for i, found in enumerate(kept):
        assert recorded.card.find(found) is not None
        np.testing.assert_allclose(found, nets.forward(X)["logits"][i : i + 1], rtol=1e-4, atol=1e-5)


# Sessions and options.


def test_a_session_that_cannot_record_runs_without(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[dict[str, Any]] = []

    def refuse(model: bytes, options: Any, providers: list[Any], enable_fallback: int) -> str:
        assert enable_fallback == 0, "never to the CPU by itself"
        tried.append(dict(providers[0][1]))
        if GRAPHS in providers[0][1]:
            raise RuntimeError("the model has control flow nodes")
        return "opened"

    monkeypatch.setattr(binding.ort, "InferenceSession", refuse)
    for how in ({"device_id": 0, GRAPHS: 1}, {"device_id": 0}):
        assert binding.opened(b"", ort.SessionOptions(), [(CUDA, how), (CPU, {})]) == "opened"
    assert tried == [{"device_id": 0, GRAPHS: 1}, {"device_id": 0}, {"device_id": 0}]


def test_a_refused_model_stays_refused() -> None:
    with pytest.raises(Exception, match=r"(?i)protobuf|model"):
        binding.opened(b"nonsense", ort.SessionOptions(), [(CPU, {})])


def test_options_of_a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "_runs", lambda provider: True)
    (name, how), last = choose("cuda:3")
    assert (name, how["device_id"], how["use_tf32"], last) == (CUDA, 3, 0, (CPU, {}))
    assert GRAPHS not in how
    assert choose("cuda", tf32=True)[0][1]["use_tf32"] == 1
    assert choose("cuda", graphs=True)[0][1][GRAPHS] == 1
    assert choose("cpu", tf32=True, graphs=True) == [(CPU, {})]


@pytest.fixture
def cards(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The CPU in the place of cards, and the options that each was chosen with."""
    asked: list[dict[str, Any]] = []

    def chosen(device: str, **how: Any) -> list[tuple[str, dict[str, Any]]]:
        asked.append({"device": device} | how)
        return [(CPU, {})]

    monkeypatch.setattr(engines, "choose", chosen)
    return asked


def test_runs_at_the_same_time_are_shared_out(cards: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    engine, model = Engine("cuda:0,cuda:1", threads=1), oi.load(nets.classifier())
    assert [how["device"] for how in cards] == ["cuda:0", "cuda:1"]
    first, (second,) = engine, engine._others
    for _ in range(2):
        engine.run(model, {"image": X[:1]})
    assert (len(first.sessions), len(second.sessions)) == (1, 0), "one after another they stay on one card"
    both, run = Barrier(2, timeout=20), sessions.Session.run
    monkeypatch.setattr(sessions.Session, "run", lambda *given: (both.wait(), run(*given))[1])
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda i: engine.run(model, {"image": X[i : i + 1]})["scores"], range(6)))
    np.testing.assert_allclose(np.concatenate(found), nets.forward(X)["logits"], rtol=1e-4, atol=1e-5)
    assert len(second.sessions) == 1


@pytest.mark.parametrize("device", ["cuda:0,cuda:0", "cpu,cuda:0", "cuda,cuda:1", "cuda:0,"])
def test_what_are_no_cards(device: str) -> None:
    with pytest.raises(DeviceError, match="are no cards"):
        Engine(device)


def test_what_moves_numbers_is_noted() -> None:
    model = oi.load(nets.classifier())
    for how, said in (({"tf32": True}, "--tf32"), ({"half": True}, "--fp16"), ({"graphs": True}, "--cuda-graphs")):
        result = oi.saliency(model, X[:1], engine=Engine("cpu", threads=1, **how))
        again = oi.saliency(model, X[:1], engine=Engine("cpu", threads=1))
        assert any("on the CPU" in note and said in note for note in result.notes)
        assert not any(said in note for note in again.notes)
        np.testing.assert_array_equal(result.values, again.values)
    notes = providers.manners(CUDA, tf32=True, half=True, graphs=True)
    assert [note.split()[-1] for note in notes] == ["(--tf32)", "(--fp16)"]
    assert providers.manners(CUDA, tf32=False, half=False, graphs=True) == []


def test_what_a_card_cannot_do_is_said() -> None:
    engine = Engine("cpu", threads=1)
    engine.sessions.half = engine._graphs = True
    model = oi.load(Path(__file__).parent / "zoo" / "onnx_cnn_external.onnx")
    x = np.zeros([n if isinstance(n, int) else 1 for n in model.inputs[0].shape], F)
    engine.run(model, {model.inputs[0].name: x})
    assert [note.split()[-1] for note in engine.notes] == ["(--cuda-graphs)", "(--fp16)"]


def test_what_a_sweep_does_not_change_is_held_once_per_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """25 windows in runs of 4: six of them, and one of 1."""
    held: list[tuple[int, ...]] = []
    monkeypatch.setattr(Engine, "hold", lambda self, values: (held.append(values.shape), values)[1])
    model, feeds = oi.load(nets.classifier(extra_input=True)), {"image": X[:1], "offset": np.zeros((1, 4), F)}
    engine = Engine("cpu", threads=1, batch=4, lowering=False)
    oi.occlusion(model, feeds, target=1, window=4, stride=2, engine=engine)
    assert held == [(4, 4), (1, 4)]


def test_what_the_cpu_holds_is_the_array_itself() -> None:
    assert binding.held(X, (CPU, {})) is X


def test_tests_of_the_cpu_alone_are_there() -> None:
    for name in device.CPU_ONLY:
        file, _, start = name.partition("::")
        assert f"\ndef {start}" in (Path(__file__).parent / file).read_text(encoding="utf-8"), name


def test_a_card_that_is_not_there(capfd: pytest.CaptureFixture[str]) -> None:
    """onnxruntime lists cards without being able to use one, and says so on stdout."""
    if choose("auto")[0][0] == CUDA:
        pytest.skip("there is a card")
    with pytest.raises(DeviceError, match="cannot run here"):
        choose("cuda")
    assert capfd.readouterr() == ("", "")
