"""Files in and out: whole files or none, photos by name, folder or pattern."""

from __future__ import annotations

import contextlib
import csv
import glob
import io
import itertools
import json
import math
import os
import re
import secrets
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .errors import OutputError, PhotoError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif"})
"""What counts as a photo when a folder or a pattern is given."""


@contextlib.contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yields a hidden sibling of ``path`` to write to; it takes the place of ``path`` only on success.

    Missing folders are made, a link is followed, and whatever goes wrong (Ctrl-C too) removes the sibling and
    leaves an older file as it was. Every OSError becomes OutputError, and so does a ``path`` that is no
    ordinary file.
    """
    target = Path(path)
    draft: Path | None = None
    try:
        target = Path(os.path.realpath(target))
        # A rename would replace /dev/null or a pipe by a file instead of writing into it.
        if target.exists() and not target.is_file():
            raise OutputError(f"Cannot write {path}: it is not an ordinary file. Name a file.")
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = target.with_name(f".{secrets.token_hex(8)}{target.suffix}")
        yield draft
        draft.replace(target)
    except (OSError, ValueError) as error:
        if isinstance(error, ValueError) and "null byte" not in str(error):
            raise
        reason = getattr(error, "strerror", None) or str(error)
        raise OutputError(f"Cannot write {path}: {reason}. Choose another place or make room.") from error
    finally:
        if draft is not None:
            with contextlib.suppress(OSError):
                draft.unlink()


def write_bytes(path: str | Path, data: bytes) -> None:
    """Writes ``data`` to ``path``, all or nothing; OutputError where that fails."""
    with atomic(path) as draft:
        draft.write_bytes(data)


def write_text(path: str | Path, text: str) -> None:
    """Writes ``text`` as UTF-8 with the line ends it has; what UTF-8 cannot say becomes a question mark."""
    write_bytes(path, text.encode("utf-8", "replace"))


def write_json(path: str | Path, value: Any) -> None:
    """Writes ``value`` as indented JSON in UTF-8.

    NumPy scalars and arrays, tuples, sets and paths are accepted; NaN and infinity, which JSON cannot say,
    become null.
    """
    write_text(path, json.dumps(plain(value), ensure_ascii=False, allow_nan=False, indent=2) + "\n")


def write_npz(path: str | Path, arrays: Mapping[str, Any]) -> None:
    """Writes named arrays as a compressed ``.npz``; any name is allowed, arrays of Python objects are not."""
    with atomic(path) as draft, zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            # np.savez takes names as keyword arguments and so has none for "file".
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, np.asanyarray(array), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), buffer.getbuffer(), zipfile.ZIP_DEFLATED)


@contextlib.contextmanager
def table(path: str | Path, header: Iterable[str]) -> Iterator[Callable[[Iterable[Iterable[Any]]], None]]:
    """Writes a CSV file, all or nothing: yields what takes its rows, some at a time."""
    with atomic(path) as draft, draft.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        yield writer.writerows


def spare(inputs: Mapping[str | Path, str], outputs: Iterable[Path]) -> None:
    """OutputError where a file to be written is one of ``inputs``, which says of each what it is."""
    known = {_identity(path): what for path, what in inputs.items()}
    for path in outputs:
        if (there := _identity(path)) is not None and there in known:
            raise OutputError(f"'{path}' is {known[there]} itself: name another file with -o.")


def _identity(path: str | Path) -> tuple[int, int] | None:
    """Equal for all names of a file, None where there is none."""
    try:
        found = os.stat(path)  # noqa: PTH116  (a path may be any text)
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino


def in_the_way(folder: Path) -> Path | None:
    """The file where ``folder`` or a folder above it should be."""
    return next((path for path in (folder, *folder.parents) if os.path.isfile(path)), None)  # noqa: PTH113


def plain(value: Any) -> Any:
    """``value`` as what JSON can say; NaN and infinity as None."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(plain(item) for item in value)
    return str(value) if isinstance(value, os.PathLike) else value


def photos(args: Iterable[str | Path]) -> list[Path]:
    """The photos that ``args`` name, in their order and each once. PhotoError where one names none.

    A file is taken whatever it is called; a folder stands for its visible images by name, not for its
    subfolders; anything else is a pattern with ``*``, ``?``, ``[...]`` and ``**`` for any depth.
    """
    return list(dict.fromkeys(Path(name) for arg in args for name in photo_names(arg)))


def photo_names(arg: str | Path) -> list[str]:
    """What ``photos`` finds for one argument, as text."""
    if arg == "":
        raise PhotoError("A photo has an empty name: is a variable of the shell unset? Name a file.")
    path = Path(arg)
    try:
        if path.is_dir():
            names = sorted(str(entry) for entry in path.iterdir())
            missing = f"The folder {arg} has no images ({', '.join(sorted(SUFFIXES))}). Name another."
        elif path.exists():
            return [str(path)]
        else:
            # Path.glob takes no absolute patterns.
            pattern = str(arg) if glob.has_magic(str(arg)) else ""
            names = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207
            missing = f"No photo is called {arg}. Check the spelling and the folder."
        found = [name for name in names if visible_image(name) and Path(name).is_file()]
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise PhotoError(f"Cannot look for photos at {arg!r}: {reason}.") from error
    if not found:
        raise PhotoError(missing)
    return found


def visible_image(name: str) -> bool:
    """Whether a file of this name counts as a photo when a folder or a pattern is given."""
    # Not by PurePath, which takes ten times as long and keeps all parts of all names in one table.
    base = os.path.basename(name)  # noqa: PTH119
    return base[:1] != "." and os.path.splitext(base)[1].lower() in SUFFIXES  # noqa: PTH122


def short_names(names: Iterable[str], most: int) -> list[str]:
    """A part of a file name for each name, ``most`` characters of its end and all different, in either case."""
    short = [re.sub(r"[^\w.-]+", "_", name).strip("_.")[-most:] or "_" for name in names]
    count = Counter(map(str.casefold, short))
    taken = {name for name, times in count.items() if times == 1}
    for i, name in enumerate(short):
        if count[name.casefold()] > 1:
            short[i] = next(n for k in itertools.count(i) if (n := f"{name}-{k}").casefold() not in taken)
            taken.add(short[i].casefold())
    return short


def stems(paths: Iterable[str | Path]) -> list[str]:
    """One output name per photo, all different even where upper and lower case are the same.

    ``cat`` for ``a/cat.jpg``. Photos that would share a name take their suffix along (``cat_png``),
    then their folder (``a_cat_jpg``), and what is still the same a number (``a_cat_jpg-2``).
    """
    files = [Path(path) for path in paths]
    names = [path.stem for path in files]
    wider: tuple[Callable[[Path], str], ...] = (
        lambda path: path.stem + path.suffix.replace(".", "_"),
        lambda path: f"{path.absolute().parent.name}_{path.stem}{path.suffix.replace('.', '_')}",
    )
    for widen in wider:
        count = Counter(map(str.casefold, names))
        names = [widen(path) if count[name.casefold()] > 1 else name for path, name in zip(files, names, strict=True)]
    taken: set[str] = set()
    for i, name in enumerate(names):
        number = 1
        while names[i].casefold() in taken or (number > 1 and names[i] in names[i + 1 :]):
            number += 1
            names[i] = f"{name}-{number}"
        taken.add(names[i].casefold())
    return names
