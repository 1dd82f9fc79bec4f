"""Files that are no models, or not whole: each gets a sentence, and nothing else ever escapes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnx_inspect.errors import InspectError, ModelError
from onnx_inspect.model import Model
from onnx_inspect.source import read

from .graphs import f, i, r

SMALL = r(
    11,
    'c = Conv<auto_pad="SAME_UPPER", strides=[2,2]>(x, W) h = Clip(c, L) p = GlobalAveragePool(h) s = Reshape(p, S) '
    "y = Softmax(s)",
    x=f(1, 3, 5, 5),
    W=f(2, 3, 3, 3),
    L=np.array(0, np.float32),
    S=i(1, 2),
).proto()
DATA = SMALL.SerializeToString()


def changed(change: Callable[[onnx.ModelProto], object]) -> bytes:
    proto = onnx.ModelProto.FromString(DATA)
    change(proto)
    return proto.SerializeToString()


def illegal(proto: onnx.ModelProto) -> None:
    proto.graph.node[1].op_type, proto.graph.node[1].name = "Erfc", "head/gelu"


BAD = {
    "text": (b"import torch\n" * 20, "not an ONNX model"),
    "PNG": (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "not an ONNX model"),
    "random bytes": (np.random.default_rng(0).bytes(4096), "not an ONNX model"),
    "HTML": (b"<!DOCTYPE html><html><body>Not found</body></html>", "not an ONNX model"),
    "zip, as torch.save writes": (b"PK\x03\x04" + bytes(64) + b"archive/data.pkl", "not an ONNX model"),
    "LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "Git LFS pointer.*git lfs pull"),
    "empty": (b"", "is empty"),
    "zeros": (bytes(100), "not an ONNX model"),
    "illegal operator": (changed(illegal), r"'head/gelu' has the operator Erfc.*does not exist"),
    "no graph": (changed(lambda p: p.ClearField("graph")), "no nodes or no outputs"),
    "no nodes": (changed(lambda p: p.graph.ClearField("node")), "damaged: nothing computes its output 'y'"),
    "no outputs": (changed(lambda p: p.graph.ClearField("output")), "no nodes or no outputs"),
    "illegal operator without outputs": (changed(lambda p: p.graph.node.add(op_type="Erfc")), "has the operator Erfc"),
    "input without name": (changed(lambda p: setattr(p.graph.input.add(), "name", "")), "an input has no name"),
    "name that is no text": (DATA.replace(b"Clip", b"Cl\xffp"), "damaged|not an ONNX model"),
    "no opset": (changed(lambda p: p.ClearField("opset_import")), "no operator set"),
}


@pytest.mark.parametrize(("data", "says"), BAD.values(), ids=BAD)
def test_bad_files_get_a_sentence(data: bytes, says: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    for source in (data, path):
        with pytest.raises(ModelError, match=says) as caught:
            Model.load(source)
        assert str(caught.value).rstrip().endswith((".", ")"))
    assert "model.onnx" in str(caught.value)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"There is no file '.*nowhere\.onnx'"):
        Model.load(tmp_path / "nowhere.onnx")
    with pytest.raises(ModelError, match="is a folder"):
        Model.load(tmp_path)


@pytest.mark.skipif(os.name == "nt" or (hasattr(os, "geteuid") and os.geteuid() == 0), reason="root may read anything")
def test_no_permission(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(DATA)
    path.chmod(0)
    with pytest.raises(ModelError, match="No permission"):
        Model.load(path)


def test_permission_and_other_failures_of_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(DATA)
    for error, says in (
        (PermissionError(13, "denied"), "No permission"),
        (OSError(5, "Input/output error"), "Input/output"),
    ):

        def fail(_: Path, error: OSError = error) -> bytes:
            raise error

        monkeypatch.setattr(Path, "read_bytes", fail)
        with pytest.raises(ModelError, match=says):
            Model.load(path)


@pytest.fixture
def external(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    proto = r(21, "y = MatMul(x, W)", x=f(2, 64), W=f(64, 64)).proto()
    onnx.save(proto, path, save_as_external_data=True, location="model.data", size_threshold=0)
    return path


def test_external_data(external: Path) -> None:
    whole = read(external)[1]
    before, known = whole.sha256, whole.identity
    data = external.with_name("model.data")
    assert whole.size == external.stat().st_size + data.stat().st_size
    content = data.read_bytes()
    data.write_bytes(bytes(len(content)))
    assert read(external)[1].sha256 != before
    assert read(external)[1].identity != known
    data.write_bytes(content[:-1])
    with pytest.raises(ModelError, match=r"model\.data' is shorter"):
        Model.load(external)
    data.unlink()
    with pytest.raises(ModelError, match=r"needs the file 'model\.data'"):
        Model.load(external)
    with pytest.raises(ModelError, match="load it by path"):
        Model.load(external.read_bytes())


@pytest.mark.parametrize(("key", "value"), [("offset", "x"), ("length", "-5"), ("offset", "-1"), ("length", "100")])
def test_external_data_with_bad_numbers(external: Path, key: str, value: str) -> None:
    proto = onnx.load(external, load_external_data=False)
    entries = proto.graph.initializer[0].external_data
    del entries[:]
    for name, text in {"location": "model.data", "offset": "0", "length": "16384", key: value}.items():
        entries.add(key=name, value=text)
    external.write_bytes(proto.SerializeToString())
    with pytest.raises(ModelError, match="external data"):
        Model.load(external)


def test_external_data_longer_than_the_file_by_its_shape(external: Path) -> None:
    proto = onnx.load(external, load_external_data=False)
    entries = proto.graph.initializer[0].external_data
    del entries[:]
    entries.add(key="location", value="model.data")  # neither offset nor length: all of the file
    proto.graph.initializer[0].dims[:] = [64, 65]
    external.write_bytes(proto.SerializeToString())
    with pytest.raises(ModelError, match=r"model\.data' is shorter"):
        Model.load(external)


def test_truncated_at_every_length() -> None:
    for cut in range(len(DATA)):
        try:
            model = Model.load(DATA[:cut])
        except ModelError as error:
            assert str(error)
        else:
            assert model.to_proto() != Model.load(DATA).to_proto()


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, len(DATA) - 1), st.integers(1, 255)), min_size=1, max_size=6))
def test_flipped_bytes(flips: list[tuple[int, int]]) -> None:
    data = bytearray(DATA)
    for place, mask in flips:
        data[place] ^= mask
    try:
        model = Model.load(bytes(data))
        assert model.layers is not None and model.digest
    except InspectError as error:
        assert str(error)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    with pytest.raises(ModelError):
        Model.load(data)


def test_what_a_source_says() -> None:
    proto = onnx.ModelProto.FromString(DATA)
    proto.producer_name, proto.producer_version = "tf2onnx", "1.2"
    _, source = read(proto)
    assert (source.producer, source.opset, source.name) == ("tf2onnx 1.2", {"ai.onnx": 11}, "(model in memory)")
    assert read(DATA)[1].sha256 == read(DATA)[1].sha256 != source.sha256
    untouched = proto.SerializeToString()
    Model.load(proto)
    assert proto.SerializeToString() == untouched
