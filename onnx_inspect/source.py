"""Reading model files that come from somebody else: from a path, bytes or a ModelProto to a checked ModelProto."""

from __future__ import annotations

import hashlib
import itertools
import math
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import ModelError
from .facts import kept

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import onnx

_LFS = b"version https://git-lfs"
_LIMIT = 2**31 - 1  # protobuf refuses larger messages


@kept
@dataclass(frozen=True)
class Source:
    """Where a model came from, as the file says it.

    Attributes:
        path: the file, or None for bytes and protos.
        graph_sha256: of the file's own bytes, without those of external data.
        size: bytes of the file and of its external data.
        producer: name and version of the exporter, "" when the file does not say.
        ir_version: of the file.
        opset: version per operator domain, "ai.onnx" being the standard one.
        functions: names of the model-local functions.
        data_files: its external data.
    """

    path: Path | None
    graph_sha256: str
    size: int
    producer: str
    ir_version: int
    opset: dict[str, int] = field(default_factory=dict)
    functions: tuple[str, ...] = ()
    data_files: tuple[Path, ...] = ()

    @cached_property
    def sha256(self) -> str:
        """Of the file's bytes, or, with external data, of all files' digests in the order of their names.

        Without external data this is what `sha256sum FILE` prints. Reading gigabytes takes its time: it is done when
        asked for.
        """
        if not self.data_files:
            return self.graph_sha256
        digests = [self.graph_sha256]
        for file in self.data_files:
            with file.open("rb") as stream:
                digests.append(hashlib.file_digest(stream, "sha256").hexdigest())
        return hashlib.sha256("\n".join(digests).encode()).hexdigest()

    @cached_property
    def identity(self) -> str:
        """Tells files apart within a process without reading external data: its sizes and times of change stand in."""
        found = [(f.resolve(), f.stat()) for f in self.data_files]
        states = [(str(f), s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino) for f, s in found]
        return f"{self.graph_sha256} {states}"

    @property
    def name(self) -> str:
        """The file's name, or a stand-in for a model that came from memory."""
        return self.path.name if self.path else "(model in memory)"


@dataclass(frozen=True)
class Opened:
    """A model that was given, not parsed yet.

    path: the file, None for bytes and protos. data: its bytes; none of a proto beyond 2 GB. proto: what was given, None
    for bytes. where: how messages call it.
    """

    path: Path | None
    data: bytes
    proto: onnx.ModelProto | None
    where: str

    @cached_property
    def sha256(self) -> str:
        """Of the bytes."""
        return hashlib.sha256(self.data).hexdigest()

    def again(self) -> Callable[[], Opened]:
        """How to open it later; its bytes are not held until then if they can be read again.

        Raises:
            ModelError: when it is opened: the file is gone, or another one.
        """
        path, known = self.path, self.sha256
        if path is None:
            return lambda: self

        def read() -> Opened:
            file = opened(path)
            if file.sha256 != known:
                raise ModelError(f"{file.where} was changed after it was loaded: load it again.")
            return file

        return read


def opened(source: str | Path | bytes | onnx.ModelProto) -> Opened:
    """Read a model's bytes.

    Raises:
        ModelError: there is no such file, or it cannot be read.
    """
    if isinstance(source, str | Path):
        path = Path(source)
        return Opened(path, _bytes(path), None, f"'{path}'")
    if isinstance(source, bytes | bytearray | memoryview):
        return Opened(None, bytes(source), None, "the given bytes")
    import onnx

    if not isinstance(source, onnx.ModelProto):
        raise ModelError(f"A {type(source).__name__} is no model: give a path, bytes or a ModelProto.")
    data = source.SerializeToString(deterministic=True) if source.ByteSize() < _LIMIT else b""
    return Opened(None, data, source, "the given ModelProto")


def described(file: Opened, lean: bytes = b"", weights: str = "") -> tuple[onnx.ModelProto, Source]:
    """Parse and check a model; external data stays on disk.

    Args:
        file: the model's.
        lean: its bytes without the weights that lie in a file of ours.
        weights: the name of that file.

    Raises:
        ModelError: not an ONNX model, truncated, a Git LFS pointer, or with external data that is missing, too short,
            or outside the model's folder.
    """
    proto = file.proto if file.proto is not None and not lean else _parse(lean or file.data, file.where)
    try:
        _check(proto, file.where)
        return proto, _describe(proto, file, weights)
    except (TypeError, ValueError) as error:  # names that are no text, types that do not exist
        raise ModelError(f"{file.where} is damaged: it is no ONNX model any more ({error}).") from error


def read(source: str | Path | bytes | onnx.ModelProto) -> tuple[onnx.ModelProto, Source]:
    """Read, parse and check a model, see `opened` and `described`."""
    return described(opened(source))


def _describe(proto: onnx.ModelProto, file: Opened, weights: str) -> Source:
    path = file.path
    files = tuple(_external_files(proto, path.parent if path else None, file.where, weights))
    size = len(file.data) + sum(f.stat().st_size for f in files)
    opset: dict[str, int] = {}
    for entry in proto.opset_import:
        domain = entry.domain or "ai.onnx"
        opset[domain] = max(entry.version, opset.get(domain, 0))
    producer = f"{proto.producer_name} {proto.producer_version}".strip()
    functions = tuple(f.name for f in proto.functions)
    return Source(path, file.sha256, size, producer, proto.ir_version, opset, functions, files)


def _bytes(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise ModelError(f"'{path}' is a folder, not an ONNX file: name the .onnx file inside it.")
        if path.stat().st_size > _LIMIT:
            raise ModelError(
                f"'{path}' is larger than 2 GB, which protobuf cannot read: export it with external data "
                "(onnx.save(model, path, save_as_external_data=True))."
            )
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ModelError(f"There is no file '{path}'.") from error
    except PermissionError as error:
        raise ModelError(f"No permission to read '{path}'.") from error
    except OSError as error:
        raise ModelError(f"Cannot read '{path}': {error.strerror}.") from error


def _parse(data: bytes, where: str) -> onnx.ModelProto:
    import onnx
    from google.protobuf.message import DecodeError

    if not data:
        raise ModelError(f"{where} is empty, not an ONNX model.")
    if data.startswith(_LFS):
        raise ModelError(f"{where} is a Git LFS pointer, not the model itself: run `git lfs pull` first.")
    try:
        proto: onnx.ModelProto = onnx.ModelProto.FromString(data)
        return proto
    except DecodeError as error:
        raise ModelError(f"{where} is not an ONNX model, or is truncated ({len(data):,} bytes).") from error


def _check(proto: onnx.ModelProto, where: str) -> None:
    import onnx

    # Protobuf reads many foreign files without complaint: a real model has a graph with outputs and an IR version.
    if not proto.ir_version or not proto.graph.output or not (proto.graph.node or proto.graph.initializer):
        raise ModelError(f"{where} is not an ONNX model: its graph has no nodes or no outputs.")
    if not proto.opset_import:
        raise ModelError(f"{where} names no operator set; it cannot be interpreted.")
    graph = proto.graph
    known = {y for n in graph.node for y in n.output} | {v.name for v in [*graph.input, *graph.initializer]}
    known |= {t.values.name for t in graph.sparse_initializer}
    if not all(v.name for v in graph.input):
        raise ModelError(f"{where} is damaged: an input has no name.")
    if missing := [y.name for y in graph.output if y.name not in known]:
        raise ModelError(f"{where} is damaged: nothing computes its output '{missing[0]}'.")
    local = {(f.domain, f.name) for f in proto.functions}
    for node in itertools.chain.from_iterable(map(nodes, [*proto.functions, proto.graph])):
        # SimplifiedLayerNormalization is onnxruntime's own, although it writes no domain.
        standard = node.domain in ("", "ai.onnx") and node.op_type != "SimplifiedLayerNormalization"
        if standard and (node.domain, node.op_type) not in local and not onnx.defs.has(node.op_type, ""):
            raise ModelError(
                f"{where}: node '{node.name or ' '.join(node.output)}' has the operator {node.op_type}, which does not "
                "exist in ONNX; the exporter wrote an illegal file. Export it again, with another exporter."
            )


def nodes(graph: onnx.GraphProto | onnx.FunctionProto) -> Iterator[onnx.NodeProto]:
    """All nodes of a graph and of its subgraphs."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                yield from nodes(inner)


def _external_files(proto: onnx.ModelProto, folder: Path | None, where: str, weights: str) -> list[Path]:
    """The external data files, checked: inside the model's folder, there, and long enough."""
    from onnx.external_data_helper import _get_all_tensors, uses_external_data

    files: dict[Path, int] = {}
    for tensor in _get_all_tensors(proto):
        if not uses_external_data(tensor):
            continue
        entry = {e.key: e.value for e in tensor.external_data}
        location = entry.get("location", "")
        if weights and location == weights:
            continue
        if folder is None:
            raise ModelError(f"{where} keeps weights in '{location}': load it by path, so that they can be found.")
        file = folder / location
        root = folder.resolve()
        if not location or not file.resolve().is_relative_to(root):
            raise ModelError(
                f"{where} points outside its own folder for its weights ('{location}'): refused. If both are links, as "
                "in a download cache, copy them into a folder as files (cp -L)."
            )
        if not file.is_file():
            raise ModelError(f"{where} needs the file '{location}' with its weights beside it; it is missing.")
        files[file] = max(files.get(file, 0), _end(tensor, entry, where))
    for file, end in files.items():
        if file.stat().st_size < end:
            raise ModelError(f"'{file}' is shorter than {where} says ({end:,} bytes): the download was cut off.")
    return sorted(files)


def _end(tensor: onnx.TensorProto, entry: dict[str, str], where: str) -> int:
    """Bytes that the external file must have for a tensor."""
    from onnx_ir import DataType

    needed = -(-math.prod(tensor.dims) * DataType(tensor.data_type).bitwidth // 8)
    try:
        offset, length = int(entry.get("offset") or 0), int(entry.get("length") or needed)
    except ValueError:
        offset = length = -1
    if offset < 0 or length < needed:
        raise ModelError(f"{where}: the external data of '{tensor.name}' does not fit its shape {list(tensor.dims)}.")
    return offset + length
