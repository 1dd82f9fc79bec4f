"""Real files from many exporters: loading changes no output, loses no name and gives a valid, stable model."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest

from onnx_inspect.errors import ModelError
from onnx_inspect.model import Model

from .graphs import Array, run

SHARED = Path(__file__).parents[2] / "shared"
FOLDERS = ("zoo", "zoo/twins", "zoo/variants", "assets/models")
FILES = sorted(p for folder in FOLDERS for p in (SHARED / folder).glob("*.onnx"))
BROKEN = SHARED / "zoo/broken"

needs_files = pytest.mark.skipif(not FILES, reason="shared/zoo and shared/assets are not beside this checkout")
needs_broken = pytest.mark.skipif(not BROKEN.exists(), reason="shared/zoo/broken is not beside this checkout")
every_file = pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)

_loaded = cache(Model.load)


@cache
def _bytes(path: Path) -> bytes:
    return _loaded(path).to_bytes()


def feeds(path: Path, batch: int) -> dict[str, Array]:
    rng = np.random.default_rng(0)
    if path.name.startswith("silero_vad"):
        audio = rng.normal(size=(1, 576)).astype(np.float32)
        return {"input": audio, "state": np.zeros((2, 1, 128), np.float32), "sr": np.array(16000, np.int64)}
    found: dict[str, Array] = {}
    graph = onnx.load(path, load_external_data=False).graph
    weights = {t.name for t in graph.initializer}
    for value in graph.input:
        if value.name in weights:
            continue
        kind = value.type.tensor_type
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
        shape = [d.dim_value or batch for d in kind.shape.dim]
        high = 255 if dtype == np.uint8 else 1
        found[value.name] = rng.uniform(0, high, shape).astype(dtype)
    return found


def assert_same(actual: Array, expected: object) -> None:
    if isinstance(expected, list):  # ZipMap
        expected = np.array([list(row.values()) for row in expected], np.float32)
    assert isinstance(expected, np.ndarray)
    assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape)
    if actual.dtype.kind == "f":
        tolerance = 1e-6 if actual.dtype == np.float32 else 1e-3
        error = np.abs(actual.astype(float) - expected.astype(float)) / np.maximum(1, np.abs(expected.astype(float)))
        assert error.max() <= tolerance
    else:
        assert (actual == expected).all()


@needs_files
@every_file
def test_same_outputs(path: Path) -> None:
    x = feeds(path, batch=2)
    actual = run(_bytes(path), x)
    for before, after in zip(run(str(path), x), actual, strict=True):
        assert_same(after, before)


@needs_files
@every_file
def test_valid_and_nothing_lost(path: Path) -> None:
    model = _loaded(path)
    graph = onnx.load(path, load_external_data=False).graph
    functions = "local_functions" in path.name  # what a call of a function computes inside has no name outside
    for name in [y for n in graph.node for y in n.output if y and not functions]:
        assert model.value(name).name == name
    onnx.checker.check_model(_bytes(path), full_check=not _foreign(model))
    assert model.digest == Model.load(path).digest
    nodes = list(model.ir.graph.all_nodes())
    assert not model.ir.functions and all(n.op_type != "Constant" for n in nodes)
    assert 21 <= model.opset <= 26


def _foreign(model: Model) -> bool:
    """Operators whose types the checker cannot know."""
    return any(n.domain == "com.microsoft" for n in model.ir.graph.all_nodes())


@needs_files
@every_file
def test_relaxed_batch(path: Path) -> None:
    model = _loaded(path)
    if not model.batch_relaxed:
        return
    singles = [{n: a[k : k + 1] for n, a in _free(model, 3).items()} for k in range(3)]
    alone = [run(_bytes(path), x) for x in singles]
    together = run(_bytes(path), _free(model, 3))
    for index, output in enumerate(together):
        assert_same(output, np.concatenate([a[index] for a in alone]))


def _free(model: Model, batch: int) -> dict[str, Array]:
    rng = np.random.default_rng(1)
    shapes = {i.name: (batch, *i.shape[1:]) for i in model.inputs}
    return {i.name: (rng.uniform(0, 200, shapes[i.name])).astype(i.dtype) for i in model.inputs}


@needs_files
def test_which_batches_are_relaxed() -> None:
    relaxed = {p.stem for p in FILES if _loaded(p).batch_relaxed}
    assert {"yolox_nano", "ultraface_version-RFB-320", "squeezenet1.1_fp32_caffe2", "mnist-7_cntk"} <= relaxed
    assert "silero_vad_16k_op15" not in relaxed


@needs_broken
def test_illegal_operator_is_named() -> None:
    with pytest.raises(ModelError, match="Erfc"):
        Model.load(BROKEN / "keras_tf_gelu_erfc.onnx")


@needs_broken
@pytest.mark.parametrize("name", ["keras_jax_cnn", "twin_keras_jax"])
def test_files_that_only_fail_at_run_time_load(name: str) -> None:
    assert Model.load(BROKEN / f"{name}.onnx").layers


@needs_files
@pytest.mark.parametrize("path", [p for p in FILES if p.stem.startswith("torch_dynamo")], ids=lambda p: p.stem)
def test_modules_of_torch_survive_conversion(path: Path) -> None:
    names = [layer.name for layer in _loaded(path).layers]
    modules = [n for n in names if "." in n or n in ("fc", "patch")]
    assert len(modules) >= 5, names
