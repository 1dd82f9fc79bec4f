"""Large weights lie in a file that this process and onnxruntime map, so that memory holds them once, or not at all.

Not in the model's own file, which somebody may write anew while it is in use: in one of the store, or else in one of
this process alone, which goes when nobody needs it.
"""

from __future__ import annotations

import math
import mmap
import os
import shutil
import tempfile
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from . import stores, wire
from .errors import OutputError
from .files import atomic
from .source import Opened

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LEAST = 2**23  # bytes of weights; fewer stay in memory
_PREFIX = "onnx_inspect-"


class File:
    """A file of weights, mapped.

    Attributes:
        path: the file, which may be gone: the map stays.
        bytes: what is in it.
    """

    def __init__(self, path: Path, *, own: bool) -> None:
        self.path = path
        with path.open("rb") as stream:
            self.bytes = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
            lock = _locked(os.dup(stream.fileno())) if own else None
        if own:
            weakref.finalize(self, _leave, path.parent, lock)


def _locked(file: int) -> int | None:
    """A lock on a file as long as this process lives; None where somebody has one."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        return None
    return file


def _leave(folder: Path, lock: int | None) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    if lock is not None:
        os.close(lock)


def _sweep() -> None:
    """Remove what processes that were killed left behind."""
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*/*.weights"):
        with suppress(OSError):
            if (lock := _locked(os.open(path, os.O_RDONLY))) is not None:
                _leave(path.parent, lock)


class Mapped(ir.Tensor[Any]):
    """A weight in such a file, which stays as long as one of its weights."""

    def __init__(self, tensor: ir.ExternalTensor, file: File) -> None:
        self.file, self.offset = file, tensor.offset or 0
        shape = tensor.shape.numpy()
        array = np.frombuffer(file.bytes, tensor.dtype.numpy(), math.prod(shape), self.offset)
        super().__init__(array.reshape(shape), tensor.dtype, name=tensor.name)

    def outside(self) -> ir.ExternalTensor:
        """It, as onnxruntime finds it."""
        place: tuple[Any, ...] = (self.file.path.name, self.offset, self.nbytes, self.dtype)
        return ir.ExternalTensor(*place, shape=self.shape, name=self.name or "", base_dir=self.file.path.parent)


def taken_out(file: Opened) -> tuple[bytes, File] | None:
    """A model's message without its large weights, and the file where they are; None if that is not worth it.

    Args:
        file: the model's.
    """
    name = f"{file.sha256}.weights"
    if len(file.data) < LEAST or (found := wire.split(file.data, name)) is None or found.size < LEAST:
        return None
    with suppress(OSError, OutputError):  # no room: they stay in memory
        return found.message, _written(file.data, found, name)
    return None


def keep(graph: ir.Graph, file: File) -> None:
    """Let the weights of a graph that lie in a file be arrays that map it."""
    for value in graph.initializers.values():
        tensor = value.const_value
        if isinstance(tensor, ir.ExternalTensor) and tensor.path == str(file.path):
            value.const_value = Mapped(tensor, file)


def message(model: ir.Model) -> tuple[ir.Model, Path | None]:
    """A graph whose weights in a file are named rather than included, and the folder of that file."""
    held = [v.const_value for v in model.graph.initializers.values() if isinstance(v.const_value, Mapped)]
    if not held or not held[0].file.path.is_file():
        return model, None
    file, model = held[0].file, model.clone()
    for value in model.graph.initializers.values():
        if isinstance(value.const_value, Mapped) and value.const_value.file is file:
            value.const_value = value.const_value.outside()
    return model, file.path.parent


def _written(data: bytes, found: wire.Split, name: str) -> File:
    kept = stores.weights(name, found.size)
    if kept is None:
        if fcntl is None:
            raise OSError("Windows removes no file that is mapped.")
        _sweep()
        path = Path(tempfile.mkdtemp(prefix=_PREFIX), name)
        try:
            _write(path, data, found)
            return File(path, own=True)
        except OSError:
            shutil.rmtree(path.parent, ignore_errors=True)
            raise
    if not kept.is_file() or kept.stat().st_size != found.size:
        with atomic(kept) as draft:
            _write(draft, data, found)
        stores.trim(kept.parents[1], stores.limit())
    return File(kept, own=False)


def _write(path: Path, data: bytes, found: wire.Split) -> None:
    view = memoryview(data)
    with path.open("wb") as stream:
        for start, offset, size in found.parts:
            stream.seek(offset)
            stream.write(view[start : start + size])
