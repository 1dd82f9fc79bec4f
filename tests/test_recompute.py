"""Parts of the forward pass computed again: the same numbers, in less memory, no earlier than they are needed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onnx_inspect as oi
from onnx_inspect import memory, sessions
from onnx_inspect.engine import Engine
from onnx_inspect.lowering import CPU, lower
from onnx_inspect.model import Model
from onnx_inspect.recompute import recomputed
from onnx_inspect.structure import needed

from . import graphs, stacks, vits

SAMPLES = frozenset(["x"])
PLAIN, FAST = (Engine("cpu", threads=1, lowering=lowering) for lowering in (False, True))
CONVOLUTIONAL = [name for name in stacks.STACKS if name != "recurrent"]


def gradient(model: Model, *, of: str = "y", size: int = 16) -> tuple[Model, Model, dict[str, tuple[int, ...]]]:
    """The vector-Jacobian product of a network, the same with parts computed again, and the sizes it was made for."""
    adjoint = oi.vjp(model, ["x"], [of])
    sizes = stacks.sizes(adjoint, size)
    return adjoint, recomputed(adjoint, sizes, frozenset(sizes)), sizes


def feeds(model: Model, size: int = 16, count: int = 2) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    shapes = stacks.sizes(model, size)
    return {name: rng.normal(size=(count, *shape[1:])).astype(np.float32) for name, shape in shapes.items()}


def live(model: Model, sizes: dict[str, tuple[int, ...]]) -> int:
    """The most bytes that tensors take at once, beside weights and what kernels need for themselves."""
    return max(each for each, _ in memory.need(model, sizes, frozenset(sizes)).steps)


def copies(model: Model) -> list[Any]:
    return [node for node in model.ir.graph if (node.outputs[0].name or "").endswith("/again")]


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_results_stay(name: str) -> None:
    adjoint, lean, _ = gradient(oi.load(stacks.STACKS[name](12)))
    assert lean is not adjoint
    given = feeds(adjoint)
    for engine in (PLAIN, FAST):
        whole, again = (engine.run(m, given)["gradient.x"] for m in (adjoint, lean))
        np.testing.assert_allclose(again, whole, rtol=0, atol=1e-6 * np.abs(whole).max())


def test_results_stay_in_transformers() -> None:
    model = oi.load(vits.vit())
    image = model.inputs[0].name
    adjoint = oi.vjp(model, [image], [model.outputs[0].name])
    sizes = stacks.sizes(adjoint)
    lean = recomputed(adjoint, sizes, frozenset(sizes))
    assert copies(lean)
    whole, again = (FAST.run(m, feeds(adjoint))[f"gradient.{image}"] for m in (adjoint, lean))
    np.testing.assert_allclose(again, whole, rtol=0, atol=1e-6 * np.abs(whole).max())


def test_scores_and_layers_stay() -> None:
    """What else is asked for in the same run: a layer, its gradient, the score of a class."""
    model = oi.load(stacks.residual(12))
    layer = model.layers[20].tensor
    whole = oi.gradient(oi.expose(model, [layer]), 3, wrt=["x", layer])
    sizes = stacks.sizes(whole)
    lean = recomputed(whole, sizes, frozenset(sizes))
    assert copies(lean)
    given = feeds(whole) | {s.name: np.array([3, 3]) for s in whole.inputs if s.name != "x"}
    results = [PLAIN.run(m, given) for m in (whole, lean)]
    for name, value in results[0].items():
        np.testing.assert_allclose(results[1][name], value, rtol=0, atol=1e-6 * np.abs(value).max(), err_msg=name)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_stays_where_it_is(value: float) -> None:
    adjoint, lean, _ = gradient(oi.load(stacks.plain(12)))
    given = feeds(adjoint)
    given["cotangent.y"][0] = value
    whole, again = (PLAIN.run(m, given)["gradient.x"] for m in (adjoint, lean))
    assert not np.isfinite(whole[0]).all() and np.isfinite(whole[1]).all()
    np.testing.assert_array_equal(np.isnan(again), np.isnan(whole))
    np.testing.assert_allclose(again[1], whole[1], rtol=0, atol=1e-6 * np.abs(whole[1]).max())


@pytest.mark.parametrize("name", [n for n in CONVOLUTIONAL if n not in ("vgg", "ladder")])
def test_memory_grows_with_the_root_of_the_depth(name: str) -> None:
    found = [gradient(oi.load(stacks.STACKS[name](blocks, 64)), size=64) for blocks in (16, 64)]
    (whole, lean), (deep, deep_lean) = [(live(a, sizes), live(b, sizes)) for a, b, sizes in found]
    assert lean < 0.75 * whole
    assert deep > 3 * whole
    assert deep_lean < 2.4 * lean


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_each_node_runs_twice_at_most(name: str) -> None:
    adjoint, lean, _ = gradient(oi.load(stacks.STACKS[name](12)))
    again = [node.outputs[0].name for node in copies(lean)]
    assert len(again) == len(set(again)) > 0
    own = [node for node in adjoint.ir.graph if not (node.name or "").startswith("inspect/")]
    assert len(again) < len(own)
    before = {node.name: (node.op_type, [x and x.name for x in node.inputs]) for node in own}
    after = {node.name: (node.op_type, [x and x.name for x in node.inputs]) for node in lean.ir.graph}
    assert all(after[name] == found for name, found in before.items())


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_copies_wait_for_the_backward_pass(name: str) -> None:
    """Every copy depends on a cotangent, else it would run at once, or be merged with what it is a copy of."""
    _, lean, _ = gradient(oi.load(stacks.STACKS[name](12)))
    for node in copies(lean):
        assert "cotangent.y" in {x.name for x in needed(lean.ir.graph, node.outputs[0])}, node.name


def test_what_sleeps_is_let_go_of() -> None:
    """Of the tensors inside segments, none but the last segment's is read by both passes."""
    adjoint, lean, _ = gradient(oi.load(stacks.plain(36)))

    def in_both(model: Model) -> int:
        late = {y for node in model.ir.graph for y in node.outputs if (node.name or "").startswith("inspect/")}
        own = [y for node in model.ir.graph for y in node.outputs if y not in late and "/again" not in (y.name or "")]
        return sum(any((user.name or "").startswith("inspect/") for user in y.consumers()) for y in own)

    assert in_both(adjoint) == 36 + 1  # the last for its shape
    assert in_both(lean) <= 6 + 6 + 1  # six segments of six: what begins them, and all of the last


MEASURED = """
import sys, numpy as np, onnxruntime as ort
options = ort.SessionOptions()
options.intra_op_num_threads, options.enable_mem_pattern, options.log_severity_level = 1, False, 4
session = ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
feeds = {i.name: np.ones([d if isinstance(d, int) else 1 for d in i.shape], np.float32) for i in session.get_inputs()}
def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
open("/proc/self/clear_refs", "w").write("5")
before = peak()
session.run(None, feeds)
print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux says how much a process had")
def test_onnxruntime_takes_less(tmp_path: Path) -> None:
    adjoint, lean, _ = gradient(oi.load(stacks.residual(24, 256, 16)), size=256)
    taken = []
    for i, model in enumerate((adjoint, lean)):
        command = [sys.executable, "-c", MEASURED, str(lower(model, CPU).save(tmp_path / f"{i}.onnx"))]
        taken.append(1024 * int(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    assert taken[1] < 0.6 * taken[0], taken


def test_estimates_follow_no_rows_of_numbers() -> None:
    """onnx infers what Gather and Slice take from a row number by number: gigabytes for a map that was flattened."""
    adjoint, lean, _ = gradient(oi.load(stacks.plain(12)))
    before = {node.name for node in adjoint.ir.graph}
    assert not {n.op_type for n in lean.ir.graph if n.name not in before} & {"Gather", "Slice", "Squeeze", "Size"}


# What stays as it is.


def test_without_gradients_nothing_changes() -> None:
    model = oi.load(stacks.plain(12))
    assert recomputed(model, {"x": (1, 3, 16, 16)}, SAMPLES) is model


def test_loops_are_not_run_twice() -> None:
    """Nor is what their bodies read let go of."""
    scan = """Scan <num_scan_inputs = 1, body = s (float[8] v, float[8] u) => (float[8] w, float[8] t)
        { p = Mul(u, v) t = Tanh(p) w = Add(t, v) }>"""
    body = " ".join(f"b{i}, c{i} = {scan} (h, a{i}) a{i + 1} = Sin(c{i})" for i in range(6))
    model = oi.load(graphs.r(21, f"a0 = Exp(x) h = ReduceMax <keepdims = 0> (x, ZERO) {body} y = Tanh(a6)",
                             x=graphs.f(5, 8), ZERO=graphs.i(0)).proto())  # fmt: skip
    adjoint, lean, _ = gradient(model)
    assert copies(lean) and not any(node.op_type == "Scan" for node in copies(lean))
    whole, again = (PLAIN.run(m, feeds(adjoint, count=5))["gradient.x"] for m in (adjoint, lean))
    np.testing.assert_allclose(again, whole, rtol=1e-5, atol=1e-6)


def test_recurrent_layers_are_run_again() -> None:
    model = oi.load(stacks.recurrent(6))
    adjoint = oi.vjp(model, ["x"], ["y"])
    sizes = {"x": (1, 1, 8, 8), "cotangent.y": (1, 7)}
    lean = recomputed(adjoint, sizes, frozenset(sizes))
    assert any(node.op_type == "GRU" for node in copies(lean))
    whole, again = (PLAIN.run(m, feeds(adjoint))["gradient.x"] for m in (adjoint, lean))
    np.testing.assert_allclose(again, whole, rtol=1e-4, atol=1e-6)


def test_random_numbers_are_not_drawn_twice() -> None:
    body = " ".join(f"n{i} = RandomNormalLike(a{i}) b{i} = Mul(a{i}, n{i}) a{i + 1} = Exp(b{i})" for i in range(9))
    model = oi.load(graphs.r(21, f"a0 = Exp(x) {body} y = Tanh(a9)", x=graphs.f(1, 8)).proto())
    _, lean, _ = gradient(model)
    assert copies(lean) and not any(node.op_type == "RandomNormalLike" for node in copies(lean))


def test_open_sizes_are_followed() -> None:
    """Made for one size of photos, run with another."""
    net = stacks.Net(16)
    net.input[2:] = ["H", "W"]
    at = net.relu(net.conv("x", 8))
    for _ in range(12):
        at = net.relu(net.op("Add", net.conv(at, 8), at))
    adjoint, lean, _ = gradient(oi.load(net.scores(at)), size=16)
    assert copies(lean)
    given = feeds(adjoint, size=24, count=3)
    whole, again = (FAST.run(m, given)["gradient.x"] for m in (adjoint, lean))
    np.testing.assert_allclose(again, whole, rtol=0, atol=1e-6 * np.abs(whole).max())


# The engine.


def test_the_engine_does_so_where_memory_is_short() -> None:
    model, x = oi.load(stacks.residual(24, 64, 8)), stacks.images(1, 64)
    whole = oi.saliency(model, x, engine=Engine("cpu", threads=1))
    assert not any("a second time" in note for note in whole.notes)
    adjoint, lean, sizes = gradient(model, size=64)
    most = 1.2 * memory.need(lean, sizes, frozenset(sizes)).of(1)
    assert most < memory.need(adjoint, sizes, frozenset(sizes)).of(1)
    again = oi.saliency(model, x, engine=Engine("cpu", threads=1, max_memory=int(most)))
    (note,) = [note for note in again.notes if "a second time" in note]
    assert note.endswith("(--max-memory)") and not any("run all the same" in note for note in again.notes)
    np.testing.assert_allclose(again.values, whole.values, rtol=0, atol=1e-6 * np.abs(whole.values).max())
    assert again.scores == pytest.approx(whole.scores, rel=1e-6)


def test_the_engine_leaves_what_has_no_gradients() -> None:
    model, poor = oi.load(stacks.residual(4)), Engine("cpu", threads=1, max_memory=1000)
    poor.run(model, {"x": stacks.images(1)})
    (note,) = poor.notes
    assert "run all the same" in note


def test_heavy_weights_are_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = oi.load(stacks.residual(4)), stacks.images(1)
    light = oi.saliency(model, x, engine=Engine("cpu", threads=1)).values
    monkeypatch.setattr(sessions, "_HEAVY", 1000)
    engine, adjoint = Engine("cpu", threads=1), oi.vjp(model, ["x"], ["y"])
    assert "ConvTranspose" in [node.op_type for node in engine.sessions._lowered(adjoint).ir.graph]
    heavy = oi.saliency(model, x, engine=engine).values
    np.testing.assert_allclose(heavy, light, rtol=0, atol=1e-5 * np.abs(light).max())
