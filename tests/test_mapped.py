"""Large weights lie in a file of ours: the same model, less memory, and nothing that depends on the file it came from."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnx_inspect as oi
from onnx_inspect import mapped, stores, wire
from onnx_inspect.engine import Engine
from onnx_inspect.errors import ModelError

from . import nets

X = nets.images(3)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setattr(mapped, "LEAST", 1)
    monkeypatch.setattr(wire, "_SMALL", 64)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    yield


def weights(model: oi.Model) -> list[mapped.Mapped]:
    held = [v.const_value for v in model.ir.graph.initializers.values()]
    return [tensor for tensor in held if isinstance(tensor, mapped.Mapped)]


def test_the_message_without_weights_says_where_they_are() -> None:
    whole = nets.classifier()
    data = whole.SerializeToString()
    found = wire.split(data, "w")
    assert found is not None and found.parts
    lean = onnx.ModelProto.FromString(found.message)
    file = bytearray(found.size)
    for start, offset, size in found.parts:
        assert offset % 64 == 0
        file[offset : offset + size] = data[start : start + size]
    outside = 0
    for before, after in zip(whole.graph.initializer, lean.graph.initializer, strict=True):
        if after.data_location == TensorProto.EXTERNAL:
            place = {e.key: e.value for e in after.external_data}
            start, size = int(place["offset"]), int(place["length"])
            assert place["location"] == "w" and file[start : start + size] == before.raw_data
            after.raw_data = before.raw_data
            after.ClearField("external_data")
            after.ClearField("data_location")
            outside += 1
        assert after == before
    assert outside == len(found.parts) == sum(len(t.raw_data) >= 64 for t in whole.graph.initializer)
    lean.graph.ClearField("initializer")
    whole.graph.ClearField("initializer")
    assert lean == whole, "all else stays"


@pytest.mark.parametrize("cut", [1, 40, 0.5, 0.999])
def test_bytes_that_are_no_usual_model_stay_as_they_are(cut: float) -> None:
    data = nets.classifier().SerializeToString()
    assert wire.split(data[: int(cut if cut >= 1 else cut * len(data))], "w") is None
    assert wire.split(b"", "w") is None and wire.split(b"\xff" * 200, "w") is None and wire.split(b"{}", "w") is None


def test_damage_is_found_in_any_byte_as_without() -> None:
    """Whatever stands there: no crash, and nothing that the parser would not have read."""
    data = nets.classifier().SerializeToString()
    rng = np.random.default_rng(0)
    for _ in range(300):
        broken = bytearray(data)
        for at in rng.integers(0, len(data), 3):
            broken[at] = rng.integers(0, 256)
        found = wire.split(bytes(broken), "w")
        for start, _, size in found.parts if found is not None else []:
            assert 0 <= start <= start + size <= len(broken)


def test_bytes_that_are_meant_to_keep_us_busy() -> None:
    many = b"\x08\x01" * 2**21  # a field of two bytes, again and again
    assert wire.split(many, "w") is None
    assert wire.split(nets.classifier().SerializeToString() + many, "w") is None
    dims = helper.make_tensor("w", TensorProto.FLOAT, [1] * 10_000, [1.0])
    model = nets.classifier()
    model.graph.initializer.append(dims)
    found = wire.split(model.SerializeToString(), "w")
    assert found is None or found.parts


def tensor(kind: int, dims: list[int], raw: bytes, **more: object) -> onnx.TensorProto:
    return TensorProto(name="w", data_type=kind, dims=dims, raw_data=raw, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("held", "out"),
    [
        (tensor(TensorProto.FLOAT, [4, 8], bytes(128)), True),
        (tensor(TensorProto.INT64, [16], bytes(128)), True),
        (tensor(TensorProto.FLOAT, [4, 9], bytes(128)), False),  # too few bytes
        (tensor(TensorProto.INT4, [16, 16], bytes(128)), False),
        (tensor(TensorProto.BFLOAT16, [8, 8], bytes(128)), False),
        (tensor(TensorProto.FLOAT, [2, 4], bytes(32)), False),  # small
        (numpy_helper.from_array(np.array(["a" * 200], object), "w"), False),
    ],
)
def test_what_is_taken_out(held: onnx.TensorProto, out: bool) -> None:
    node = helper.make_node("Identity", ["x"], ["y"])
    infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in "xy"]
    model = helper.make_model(helper.make_graph([node], "g", infos[:1], infos[1:], [held]))
    found = wire.split(model.SerializeToString(), "w")
    assert found is not None and bool(found.parts) == out


def test_a_model_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(nets.classifier().SerializeToString())
    mine = oi.load(path)
    assert weights(mine) and not mine.external and not mine.source.data_files
    found = oi.saliency(mine, X, engine=Engine("cpu", 1))
    monkeypatch.setattr(mapped, "LEAST", 10**9)
    other = oi.load(path)
    assert not weights(other)
    expected = oi.saliency(other, X, engine=Engine("cpu", 1))
    np.testing.assert_array_equal(found.values, expected.values)
    assert (mine.digest, mine.nbytes, mine.source) == (other.digest, other.nbytes, other.source)
    assert mine.to_bytes() == other.to_bytes() and mine.to_proto() == other.to_proto()
    mine.save(tmp_path / "saved.onnx")
    assert onnx.load(tmp_path / "saved.onnx", load_external_data=False) == other.to_proto()


def test_weights_go_to_onnxruntime_by_name() -> None:
    model = oi.load(nets.classifier())
    data, folder = model.to_message()
    held = weights(model)
    assert folder == held[0].file.path.parent
    assert held[0].tobytes() not in data and len(data) < len(model.to_bytes()) - 0.8 * sum(t.nbytes for t in held)


def test_the_file_goes_with_the_model(tmp_path: Path) -> None:
    model = oi.load(nets.classifier())
    gradient = oi.vjp(model, ["image"], ["scores"])
    engine = Engine("cpu", 1)
    expected = engine.run(model, {"image": X})["scores"]
    assert len(list(tmp_path.glob("temporary/*/*.weights"))) == 1
    del model
    gc.collect()
    assert len(list(tmp_path.glob("temporary/*/*.weights"))) == 1, "a rewritten model has the same weights"
    del gradient
    gc.collect()
    engine.sessions.clear()
    assert not list(tmp_path.glob("temporary/*"))
    np.testing.assert_array_equal(Engine("cpu", 1).run(oi.load(nets.classifier()), {"image": X})["scores"], expected)


def test_a_model_whose_file_is_overwritten_stays_what_it_was(tmp_path: Path) -> None:
    """As an exporter does who writes the next version while the last one is looked at."""
    path = tmp_path / "model.onnx"
    path.write_bytes(nets.classifier().SerializeToString())
    model, engine = oi.load(path), Engine("cpu", 1)
    before = engine.run(model, {"image": X})["scores"]
    with path.open("r+b") as stream:
        stream.truncate(100)
    np.testing.assert_array_equal(engine.run(model, {"image": X})["scores"], before)
    np.testing.assert_array_equal(Engine("cpu", 1).run(model, {"image": X})["scores"], before)


def test_without_the_file_they_are_included(tmp_path: Path) -> None:
    """A store lets files go; what is mapped is still there."""
    model = oi.load(nets.classifier())
    before = Engine("cpu", 1).run(model, {"image": X})["scores"]
    weights(model)[0].file.path.unlink()
    np.testing.assert_array_equal(Engine("cpu", 1).run(model, {"image": X})["scores"], before)


def test_without_room_they_stay_in_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(mapped, "_write", full)
    model = oi.load(nets.classifier())
    assert not weights(model) and not list(tmp_path.glob("temporary/*"))
    assert Engine("cpu", 1).run(model, {"image": X})["scores"].shape == (3, 4)


def test_weights_are_kept_in_the_store_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(stores.VARIABLE, str(tmp_path / "store"))
    values = [oi.saliency(oi.load(nets.classifier()), X, engine=Engine("cpu", 1)).values for _ in range(2)]
    stores.flush()
    stores._open.clear()
    (kept,) = tmp_path.glob("store/*/*.weights")
    assert not list(tmp_path.glob("temporary/*"))
    values.append(oi.saliency(oi.load(nets.classifier()), X, engine=Engine("cpu", 1)).values)  # warm
    kept.write_bytes(b"short")
    stores._open.clear()
    values.append(oi.saliency(oi.load(nets.classifier()), X, engine=Engine("cpu", 1)).values)
    for value in values[1:]:
        np.testing.assert_array_equal(value, values[0])
    stores._open.clear()


def test_weights_of_another_file_are_not_read(tmp_path: Path) -> None:
    """A model cannot name our file: it would have to know the digest of itself."""
    model = nets.classifier()
    first = model.graph.initializer[0]
    first.ClearField("raw_data")
    first.data_location = TensorProto.EXTERNAL
    first.external_data.add(key="location", value="0" * 64 + ".weights")
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="it is missing"):
        oi.load(path)


def test_arrays_of_mapped_weights_cannot_be_written() -> None:
    held = weights(oi.load(nets.classifier()))[0]
    with pytest.raises(ValueError, match="read-only"):
        held.numpy()[:] = 0
    assert isinstance(held, ir.Tensor)


def test_a_model_with_weights_in_a_file_keeps_the_others_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapped, "LEAST", 1)
    model, path = nets.classifier(), tmp_path / "model.onnx"
    expected = Engine("cpu", 1).run(oi.load(nets.classifier()), {"image": X})["scores"]
    onnx.save(model, path, save_as_external_data=True, location="model.data", size_threshold=500)
    assert wire.split(path.read_bytes(), "w") is None
    mixed = oi.load(path)
    assert mixed.external and not weights(mixed)
    np.testing.assert_array_equal(Engine("cpu", 1).run(mixed, {"image": X})["scores"], expected)


def test_a_tensor_of_many_fields_ends_the_search() -> None:
    model = nets.classifier()
    held = TensorProto(name="odd", data_type=TensorProto.FLOAT, dims=[1] * 3000, raw_data=bytes(4))
    model.graph.initializer.append(held)
    held = model.graph.initializer[-1]
    found = wire.split(model.SerializeToString(), "w")
    assert found is None or all(size != 4 for *_, size in found.parts)


@pytest.mark.skipif(sys.platform == "win32", reason="keeps them in memory")
def test_what_a_killed_process_left_goes(tmp_path: Path) -> None:
    left = tmp_path / "temporary" / "onnx_inspect-left"
    left.mkdir()
    (left / "0.weights").write_bytes(bytes(10))
    first = oi.load(nets.classifier())
    assert not left.exists()
    second = oi.load(nets.classifier(classes=5))
    assert all(weights(model)[0].file.path.is_file() for model in (first, second)), "those in use stay"
