"""What one process keeps for the next: the same results without the graph, and nothing that is stale or damaged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import onnx_inspect as oi
from onnx_inspect import facts, stores
from onnx_inspect.engine import Engine
from onnx_inspect.errors import InputError, ModelError
from onnx_inspect.facts import Facts, decode, encode, text
from onnx_inspect.methods.registry import NEEDS
from onnx_inspect.naming import Layer
from onnx_inspect.structure import ReceptiveField

from . import nets, vits
from .test_every_method import METHOD, explain

ROOT = Path(__file__).parents[1]
SIGNS = ROOT / "models" / "signs"
X = nets.images(3)
WARM = """
import sys
from contextlib import suppress
from onnx_inspect.cli import cli
with suppress(SystemExit):
    cli(sys.argv[1:])
from onnx_inspect.lazily import PENDING
print("pending", *sorted(PENDING))
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, and nothing in memory."""
    folder = tmp_path / "cache"
    monkeypatch.setenv(stores.VARIABLE, str(folder))
    monkeypatch.setattr(stores, "_open", {})
    monkeypatch.setattr(facts, "FOREIGN", [])
    monkeypatch.setattr(stores, "FOREIGN", [])
    return folder


def again() -> None:
    """As if a new process began."""
    stores.flush()
    stores._open.clear()


def run(cache: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {stores.VARIABLE: str(cache)}
    command = [sys.executable, "-c", WARM, *map(str, words)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True)


@pytest.mark.parametrize("method", ["gradcam", "saliency"])
def test_a_warm_run_needs_no_graph(cache: Path, tmp_path: Path, method: str) -> None:
    told = []
    for name in ("cold", "warm"):
        out = tmp_path / name / "stop.png"
        done = run(cache, method, SIGNS / "clean.onnx", SIGNS / "photos" / "00_stop.jpg", "-o", out, "--npz")
        *lines, pending = done.stdout.splitlines()
        told.append(([line.replace(str(out.parent), "") for line in lines], done.stderr, out.read_bytes()))
        with np.load(out.with_suffix(".npz")) as found:
            told[-1] += (found["values"].tobytes(),)
        assert pending.split()[1:] == ([] if name == "cold" else ["onnx", "onnx_ir"]), done.stderr
    assert told[0] == told[1]


@METHOD
def test_every_method_is_the_same_from_what_was_kept(cache: Path, name: str) -> None:
    size = (nets.SIZE, nets.SIZE)
    net = vits.vit(size=size) if "attention" in NEEDS[name] else nets.classifier()
    file, found = net.SerializeToString(), []
    for _ in range(2):
        result = explain(name, oi.load(file), X, engine=Engine("cpu", 1))
        found.append((result.values, result.heat, result.notes, result.scores, result.predictions, result.layer))
        again()
    for one, two in zip(*found, strict=True):
        np.testing.assert_array_equal(one, two) if isinstance(one, np.ndarray) else None
        assert isinstance(one, np.ndarray) or one == two
    assert list(cache.glob("*/*.json"))


@pytest.mark.parametrize("name", ["torch_dynamo_cnn", "onnx_cnn_fp16", "onnx_cnn_if_size", "jax_vit", "ort_cnn_qdq"])
def test_exports_of_all_kinds(cache: Path, name: str) -> None:
    file, found = Path(__file__).parent / "zoo" / f"{name}.onnx", []
    spec = oi.load(file).inputs[0]
    x = np.random.default_rng(0).random([d if isinstance(d, int) else 1 for d in spec.shape]).astype(spec.dtype)
    for _ in range(2):
        again()
        result = oi.gradcam(file, x, engine=Engine("cpu", 1))
        found.append((result.values.tobytes(), result.notes, result.layer))
    assert found[0] == found[1]


def test_another_file_of_the_same_name_is_another_model(cache: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    shapes = []
    for classes in (4, 6):
        path.write_bytes(nets.classifier(classes=classes).SerializeToString())
        shapes.append(oi.load(path).outputs[0].shape[-1])
        again()
    assert shapes == [4, 6]


@pytest.mark.parametrize("harm", ["", "{", "[]", '{"\'inputs\'": ["k", "Nonsense", {}]}', "{\"'digest'\": 7}"])
def test_damaged_files_are_made_again(cache: Path, harm: str) -> None:
    file = nets.classifier().SerializeToString()
    expected = oi.saliency(oi.load(file), X, engine=Engine("cpu", 1)).values
    again()
    records, models = list(cache.glob("*/*.json")), list(cache.glob("*/*.onnx"))
    assert records and models
    for path in records:
        path.write_text(harm)
    for path in models:
        path.write_bytes(path.read_bytes()[: len(harm)])
    np.testing.assert_array_equal(oi.saliency(oi.load(file), X, engine=Engine("cpu", 1)).values, expected)
    again()
    assert all(json.loads(path.read_text()) for path in records)
    assert all(onnx.load(path).graph.node for path in cache.glob("*/*.onnx"))


def test_facts_of_other_rules_stay_in_this_process(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = nets.classifier().SerializeToString()
    plain = oi.saliency(oi.load(file), X, engine=Engine("cpu", 1)).values
    again()
    kept = oi.RULES["Relu"]
    foreign: list[str] = []
    monkeypatch.setattr(facts, "FOREIGN", foreign)
    monkeypatch.setattr(stores, "FOREIGN", foreign)
    before = sorted(cache.glob("*/*"))
    try:
        oi.rule("Relu")(lambda op, node, dy: dy * 3)
        other = oi.saliency(oi.load(file), X, engine=Engine("cpu", 1)).values
        assert foreign and not np.allclose(other, plain)
        again()
        assert sorted(cache.glob("*/*.json")) == [p for p in before if p.suffix == ".json"]
    finally:
        oi.rule("Relu")(kept)


def test_off_keeps_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(stores.VARIABLE, "off")
    oi.saliency(nets.classifier().SerializeToString(), X, engine=Engine("cpu", 1))
    again()
    assert not cache.exists()
    done = run(
        cache, "gradcam", SIGNS / "clean.onnx", SIGNS / "photos" / "00_stop.jpg", "--no-cache", "-o", cache.parent
    )
    assert not cache.exists() and done.stdout.endswith("pending\n")


def test_what_was_used_least_lately_goes_first(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(stores.SIZE, "4000")
    for i, name in enumerate(map(stores.name, "abcd")):
        stores.keep(name, bytes(900))
        path = stores.model(name)
        assert path is not None
        os.utime(path, (i, i))
    assert stores.model(stores.name("a")) is not None  # which is a use
    stores.keep(stores.name("e"), bytes(900))
    left = {path.stem for path in cache.glob("*/*.onnx")}
    assert left == {*map(stores.name, "acde")}
    stores.keep(stores.name("f"), bytes(1001))  # more than its part
    assert stores.model(stores.name("f")) is None


def test_a_folder_that_cannot_be_written_is_no_reason_to_fail(cache: Path) -> None:
    cache.write_text("a file")
    assert oi.saliency(nets.classifier().SerializeToString(), X, engine=Engine("cpu", 1)).values.any()
    again()
    assert cache.read_text() == "a file"


def test_processes_share_a_folder(cache: Path, tmp_path: Path) -> None:
    words = ["gradcam", str(SIGNS / "clean.onnx"), str(SIGNS / "photos" / "00_stop.jpg"), "--json", "-q", "-o"]
    environment = os.environ | {stores.VARIABLE: str(cache)}
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "onnx_inspect", *words, str(tmp_path / str(i))],
            env=environment,
            stdout=subprocess.PIPE,
        )
        for i in range(3)
    ]
    assert all(process.wait() == 0 for process in running if process.communicate())
    pictures = [(tmp_path / str(i) / "00_stop.gradcam.png").read_bytes() for i in range(3)]
    assert len(set(pictures)) == 1
    assert not list(cache.glob("*/.*")), "nothing half written is left"


@dataclass(frozen=True)
class Other:
    one: Any = 1
    two: Any = "x"


def test_keys_are_texts_that_tell_them_apart() -> None:
    keys = [
        "a",
        ("a",),
        ("a", "b"),
        ("a, b",),
        ("a", ("b",)),
        1,
        1.0,
        True,
        None,
        "None",
        ReceptiveField((3,), (1,), (0.5,)),
        ReceptiveField((3,), (2,), (0.5,)),
        ("ReceptiveField",),
    ]
    assert len({text(key) for key in keys}) == len(keys)
    assert text(("a", object())) is None and text(ReceptiveField(np.zeros(2), (1,), (0.5,))) is None  # type: ignore[arg-type]
    assert text(Other()) is None, "what a user wrote may say something else tomorrow"


@pytest.mark.parametrize(
    "value",
    [
        None,
        -1.5,
        "ü",
        ["l", "t"],
        ("t", 1, ("n",)),
        {"a": (1, None), 3: []},
        frozenset({"b", "a"}),
        Path("a/b"),
        Layer("n", "t", "Conv", ("N", 3, None), "NCHW", "spatial", ReceptiveField((3, 3), (2, 2), (0.5, 1.0))),
    ],
)
def test_what_is_kept_comes_back(value: Any) -> None:
    back = decode(json.loads(json.dumps(encode(value))))
    assert back == value and type(back) is type(value)


def test_arrays_come_back_as_they_were() -> None:
    for array in (np.arange(6, dtype=np.int64).reshape(2, 3), np.array([], np.float32), np.array([[True]])):
        back = decode(json.loads(json.dumps(encode(array))))
        np.testing.assert_array_equal(back, array)
        assert back.dtype == array.dtype


def test_what_cannot_be_kept_is_found_again() -> None:
    record: dict[str, Any] = {}
    calls = []
    for _ in range(2):
        known = Facts(record)
        assert known.get("a", lambda: calls.append(1) or object()) is known.get("a", object)
    assert len(calls) == 2 and record == {}


def test_a_file_that_changes_behind_a_warm_model(cache: Path, tmp_path: Path) -> None:
    """Its bytes are not held, so the graph is read again where somebody asks for it."""
    path = tmp_path / "model.onnx"
    path.write_bytes(nets.classifier().SerializeToString())
    nodes = len(oi.load(path).ir.graph)
    again()
    warm = oi.load(path)
    assert len(warm.ir.graph) == nodes
    again()
    warm = oi.load(path)
    path.write_bytes(nets.classifier(classes=9).SerializeToString())
    with pytest.raises(ModelError, match="was changed after it was loaded"):
        _ = warm.ir


def test_facts_of_sizes_that_never_end_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "_MOST", 10)
    record: dict[str, Any] = {}
    known = Facts(record)
    for size in range(25):
        assert known.get(("need", size), lambda size=size: size) == size  # type: ignore[misc]
    assert len(record) == len(known._found) == 10 and known.get(("need", 24), int) == 24


def test_files_of_others_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever folder somebody names."""
    monkeypatch.setenv(stores.VARIABLE, str(tmp_path))
    monkeypatch.setenv(stores.SIZE, "100")
    for name in ("mine/precious.onnx", "mine/package.json", f"{'0' * 16}/model.weights"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(bytes(1000))
    stores.trim(tmp_path, 0)
    stores.keep(stores.name("a"), bytes(20))
    assert len(list(tmp_path.glob("*/*"))) == 4
    stores.trim(tmp_path, 0)
    assert len(list(tmp_path.glob("*/*"))) == 3


def test_a_table_that_is_changed_keeps_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = nets.classifier().SerializeToString()
    plain = oi.saliency(oi.load(model), X, engine=Engine("cpu", 1)).values
    again()
    relu = oi.RULES["Relu"]
    monkeypatch.setitem(oi.RULES, "Relu", lambda op, node, dy: op.Mul(relu(op, node, dy), 3.0))
    assert facts.FOREIGN
    other = oi.saliency(oi.load(model), X, engine=Engine("cpu", 1)).values
    assert not np.allclose(other, plain)
    again()
    monkeypatch.undo()
    monkeypatch.setenv(stores.VARIABLE, str(cache))
    np.testing.assert_array_equal(oi.saliency(oi.load(model), X, engine=Engine("cpu", 1)).values, plain)
    again()


def test_without_a_home_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setenv(stores.VARIABLE, "on")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert stores.folder() is None


@pytest.mark.parametrize(("given", "size"), [("2GB", 2 * 10**9), ("1000", 1000), ("", stores.LIMIT)])
def test_sizes_of_the_store(given: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(stores.SIZE, given)
    assert stores.limit() == size
    monkeypatch.setenv(stores.SIZE, "much")
    with pytest.raises(InputError, match="ONNX_INSPECT_CACHE_SIZE"):
        stores.limit()


def test_threads_get_one_graph(cache: Path) -> None:
    file = nets.classifier().SerializeToString()
    oi.load(file).layers  # noqa: B018
    again()
    for _ in range(5):
        warm = oi.load(file)
        with ThreadPoolExecutor(8) as pool:
            assert len({id(graph) for graph in pool.map(lambda _, warm=warm: warm.ir, range(8))}) == 1  # type: ignore[misc]


def test_threads_wait_for_a_package_that_is_postponed() -> None:
    code = """
import threading
import onnx_inspect
import onnx
ready, found = threading.Barrier(8), []
def look():
    ready.wait()
    found.append(onnx.load)
threads = [threading.Thread(target=look) for _ in range(8)]
[t.start() for t in threads]
[t.join() for t in threads]
print(len(found), hasattr(onnx, "no_such_name"), onnx.helper.__name__)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["8", "False", "onnx.helper"]
