"""What one process finds out and the next need not: facts about models, and gradient models, in a folder.

ONNX_INSPECT_CACHE names the folder, or says "on", for that of the user, or "off"; without it nothing is kept, but the
command line says "on" (--no-cache). Files belong to an edition of
this package and of those it builds with: another edition never reads them. They are written beside and renamed, so that
processes may share the folder and crash.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from .amounts import parse
from .errors import OutputError
from .facts import FOREIGN, Facts, Record
from .files import atomic
from .source import Opened

VARIABLE, SIZE = "ONNX_INSPECT_CACHE", "ONNX_INSPECT_CACHE_SIZE"
LIMIT = 10**9  # bytes of all files together
_EDITION, _OWN = re.compile(r"[0-9a-f]{16}"), re.compile(r"[0-9a-f]{64}\.(onnx|json|weights)|\.[0-9a-f]{16}\.\w+")
_PART = 4  # no file takes more of the limit than one in so many
_open: dict[Path, tuple[str, Record]] = {}  # the records in use, and how they were read


def home() -> Path:
    """The folder of this user."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "onnx_inspect"


def folder() -> Path | None:
    """The folder of this edition; None where nothing is to be kept."""
    named = os.environ.get(VARIABLE, "off") or "off"
    with suppress(OSError, RuntimeError):  # a user without a home; a package in an archive
        return None if named == "off" else (home() if named == "on" else Path(named).expanduser()) / edition()
    return None


@functools.cache
def edition() -> str:
    """Names the code that facts follow from: all files of this package, and the releases of what it builds with."""
    states = []
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        state = path.stat()
        states.append(f"{path.name} {state.st_size} {state.st_mtime_ns}")
    for name in ("onnx", "onnx_ir", "onnxruntime", "numpy"):
        spec = find_spec(name)
        if spec is not None and spec.origin is not None:
            state = Path(spec.origin).stat()
            states.append(f"{spec.origin} {state.st_size} {state.st_mtime_ns}")
    return hashlib.sha256("\n".join(states).encode()).hexdigest()[:16]


# Facts.


def facts(file: Opened) -> Facts:
    """What is known of a file."""
    at = folder()
    if at is None or FOREIGN or not file.data:
        return Facts()
    path = at / f"{file.sha256}.json"
    if path not in _open:
        if not _open:
            atexit.register(flush)
        _open[path] = _read(path)
    return Facts(_open[path][1])


def _read(path: Path) -> tuple[str, Record]:
    with suppress(OSError, ValueError):
        text = path.read_text(encoding="utf-8")
        record = json.loads(text)
        if isinstance(record, dict):
            return text, record
    return "", {}


def flush() -> None:
    """Write what was found out since the files were read."""
    for path, (before, record) in list(_open.items()):
        text = json.dumps(record)
        if text != before:
            _write(path, text.encode())
            _open[path] = text, record


# Models.


def name(*parts: str) -> str:
    """What a model is kept as that is told from all others by these texts."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def model(name: str) -> Path | None:
    """The file of a model, None if there is none."""
    at = folder()
    path = at / f"{name}.onnx" if at is not None else None
    if path is None or not path.is_file():
        return None
    with suppress(OSError):
        os.utime(path)  # what was used least lately goes first
    return path


def keep(name: str, data: bytes) -> None:
    """Keep a model, if there is a folder, and room."""
    if (at := folder()) is not None and len(data) <= limit() // _PART:
        _write(at / f"{name}.onnx", data)
        trim(at.parent, limit())


def weights(name: str, size: int) -> Path | None:
    """Where weights of so many bytes are kept, None where there is no folder, or no room."""
    at = folder()
    if at is None or size > limit() // _PART:
        return None
    with suppress(OSError):
        os.utime(at / name)
    return at / name


def forget(path: Path) -> None:
    """Remove a file."""
    with suppress(OSError):
        path.unlink()


def limit() -> int:
    """Bytes that all files may take together.

    Raises:
        InputError: the variable is no amount of memory.
    """
    given = os.environ.get(SIZE, "")
    return parse(given, SIZE) if given else LIMIT


def trim(root: Path, most: int) -> None:
    """Remove the files that were used least lately, until the others take no more than that."""
    found = sorted(_files(root), reverse=True)
    total = 0
    for _, size, path in found:
        total += size
        if total > most:
            forget(path)


def _files(root: Path) -> Iterator[tuple[float, int, Path]]:
    """What is ours in a folder that may hold other things, too."""
    for path in root.glob("*/*"):
        with suppress(OSError):
            if _EDITION.fullmatch(path.parent.name) and _OWN.fullmatch(path.name):
                state = path.stat()
                yield state.st_mtime, state.st_size, path


def _write(path: Path, data: bytes) -> None:
    """Write a file, or leave it: a folder that is full, or of somebody else, is no reason to fail."""
    with suppress(OSError, OutputError):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with atomic(path) as temporary:
            temporary.write_bytes(data)
