"""Work on many photos in pieces: what was done before a kill stays done, and the result has the same bytes."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO

from .. import files
from ..errors import OutputError
from . import tables

if TYPE_CHECKING:
    import pyarrow as pa

_SHARD = re.compile(r"(\d{8})\.([0-9a-f]{16})\.parquet")
_DRAFT = re.compile(r"\.[0-9a-f]{16}\.(parquet|json)")
_RESULT = re.compile(r"\.[0-9a-f]{16}\.(parquet|npy)")


class Shards:
    """Tables for ``count`` photos, ``size`` at a time, each a Parquet file in ``folder`` until all is done.

    Names of shards hold a checksum of their bytes, so a shard that a crash of the machine has cut short or
    blanked is done again. ``folder`` belongs to one process at a time, by a lock that ends with the process.

    Args:
        folder: where the shards are, in the folder of the results; nothing else belongs into it. What a kill has left
            of the writing of results is removed.
        plan: all that decides the bytes of a shard, as JSON can say it: digests of model and photos, layer,
            preprocessing, options, versions. ``count``, ``size`` and pyarrow's version are added.
        count: the number of photos.
        size: photos per shard, 512 by default: how much work a kill can cost.

    Raises:
        OutputError: ``folder`` holds work with another plan, another process works in it, or it cannot be written.

    Example:
        >>> with Shards(Path("out/parts"), plan, len(photos)) as shards:
        ...     for shard, start, stop in shards.missing():
        ...         shards.write(shard, table_of(range(start, stop)))
        ...     tables.write("out/all.parquet", shards.tables())
        ...     shards.done()
    """

    def __init__(self, folder: Path, plan: Mapping[str, Any], count: int, size: int = 512) -> None:
        self.folder, self.count, self.size = Path(folder), count, size
        self._lock = _locked(self.folder)
        try:
            self._agree({**plan, "count": count, "size": size, "pyarrow": tables.version()})
        except BaseException:
            self.close()
            raise
        found = (_SHARD.fullmatch(path.name) for path in self.folder.iterdir())
        self._names = {int(match[1]): match[0] for match in found if match}

    def _agree(self, plan: Mapping[str, Any]) -> None:
        path, new = self.folder / "plan.json", files.plain(plan)
        self._remove(_DRAFT)
        self._remove(_RESULT, self.folder.parent)
        if not path.exists():
            self._remove(_SHARD)  # whose they are, nobody can say
            files.write_json(path, new)
            return
        try:
            old = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise OutputError(f"{path} is damaged: remove the folder to start over.") from error
        if found := _difference(old, json.loads(json.dumps(new))):
            raise OutputError(
                f"{self.folder} holds unfinished work of another kind: {found}. "
                "Give the same options again (--batch and --max-memory count too), name another place with -o, or "
                "remove the folder."
            )

    def missing(self) -> Iterator[tuple[int, int, int]]:
        """Number, first photo and end (exclusive) of each shard still to do, in order."""
        for shard, start in enumerate(range(0, self.count, self.size)):
            if self._data(shard) is None:
                yield shard, start, min(start + self.size, self.count)

    def write(self, shard: int, table: pa.Table) -> None:
        """Keeps the table of a shard, all or nothing."""
        data = tables.encode(table)
        if shard in self._names:
            (self.folder / self._names[shard]).unlink(missing_ok=True)
        self._names[shard] = f"{shard:08}.{_checksum(data)}.parquet"
        files.write_bytes(self.folder / self._names[shard], data)

    def tables(self) -> Iterator[pa.Table]:
        """The tables of all shards in order, one in memory at a time. OutputError where one is missing."""
        for shard in range(-(-self.count // self.size)):
            if (data := self._data(shard)) is None:
                raise OutputError(f"Part {shard} in {self.folder} is missing or damaged: run the command again.")
            yield tables.decode(data)

    def _data(self, shard: int) -> bytes | None:
        """The bytes of a shard; None where it is missing or damaged."""
        try:
            name = self._names[shard]
            data = (self.folder / name).read_bytes()
        except (KeyError, OSError):
            return None
        return data if _checksum(data) in name else None

    def _remove(self, kind: re.Pattern[str], folder: Path | None = None) -> None:
        for path in (folder or self.folder).iterdir():
            if kind.fullmatch(path.name):
                path.unlink()

    def done(self) -> None:
        """Removes the shards, the plan, the lock, and the folder if nothing else is in it: the result is in place."""
        self._remove(_SHARD)
        (self.folder / "plan.json").unlink(missing_ok=True)
        if sys.platform == "win32":  # which removes no file that is open, here or elsewhere
            self.close()
        with suppress(OSError):
            (self.folder / "lock").unlink()
            self.folder.rmdir()
        self.close()

    def close(self) -> None:
        """Lets other processes work in the folder; the shards stay for them."""
        self._lock.close()

    def __enter__(self) -> Shards:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _checksum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _difference(old: Any, new: Any, key: str = "") -> str:
    """The first thing that differs, as a clause; "" if nothing does."""
    if isinstance(old, dict) and isinstance(new, dict):
        found = (_difference(old.get(k), new.get(k), f"{key}.{k}" if key else k) for k in {**old, **new})
        return next(filter(None, found), "")
    was, now = (json.dumps(value, sort_keys=True) for value in (old, new))
    return "" if was == now else f"{key or 'the plan'} was {_short(was)} and is {_short(now)} now"


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."


def _locked(folder: Path) -> BinaryIO:
    """The folder's lock file, open and locked; the system ends the lock when the process ends, however it does."""
    path = folder / "lock"
    try:
        while True:
            folder.mkdir(parents=True, exist_ok=True)
            file = path.open("ab")
            if not _lock(file):
                file.close()
                raise OutputError(
                    f"Another process is working in {folder}: wait for it, or name another place with -o."
                )
            if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
            file.close()  # its owner was done and removed it meanwhile
    except OSError as error:
        raise OutputError(
            f"Cannot work in {folder}: {error.strerror or error}. Choose another place or make room."
        ) from error


if sys.platform == "win32":
    import msvcrt

    def _lock(file: BinaryIO) -> bool:
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        return True

else:
    import fcntl

    def _lock(file: BinaryIO) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
