"""Files in and out: whole files or none, photos by name, folder or pattern, the headers of photos."""

from __future__ import annotations

import contextlib
import glob
import io
import json
import math
import os
import secrets
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onnx_inspect.errors import OutputError, PhotoError

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
    found: list[Path] = []
    for arg in args:
        path = Path(arg)
        try:
            if path.is_dir():
                matches = [entry for entry in sorted(path.iterdir()) if _visible_image(entry)]
                missing = f"The folder {arg} has no images ({', '.join(sorted(SUFFIXES))}). Name another."
            elif path.exists():
                matches, missing = [path], ""
            else:
                # Path.glob takes no absolute patterns.
                pattern = str(arg) if glob.has_magic(str(arg)) else ""
                names = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207
                matches = [entry for entry in map(Path, names) if _visible_image(entry)]
                missing = f"No photo is called {arg}. Check the spelling and the folder."
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise PhotoError(f"Cannot look for photos at {arg!r}: {reason}.") from error
        if not matches:
            raise PhotoError(missing)
        found += matches
    return list(dict.fromkeys(found))


def _visible_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


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
        names = [
            widen(path) if count[name.casefold()] > 1 else name
            for path, name in zip(files, names, strict=True)
        ]
    taken: set[str] = set()
    for i, name in enumerate(names):
        number = 1
        while names[i].casefold() in taken or (number > 1 and names[i] in names[i + 1 :]):
            number += 1
            names[i] = f"{name}-{number}"
        taken.add(names[i].casefold())
    return names


@dataclass(frozen=True)
class Header:
    """What the first bytes of a photo say: its format, its size in pixels as stored, its EXIF orientation."""

    format: str
    width: int
    height: int
    orientation: int = 1


def header(data: bytes) -> Header:
    """Reads the header of a JPEG, PNG, GIF, BMP, WebP or TIFF file without decoding a pixel.

    PhotoError, a clause without the file's name, for every other format, for a JPEG or PNG that is cut short
    and for a PNG with a damaged chunk: some decoders quietly fill up what is missing.
    """
    try:
        for magic, read in _READERS.items():
            if data.startswith(magic):
                return read(data)
    except (struct.error, IndexError, zlib.error):
        raise PhotoError("its header is damaged or cut short") from None
    raise PhotoError("it is not a JPEG, PNG, GIF, BMP, WebP or TIFF image")


def _png(data: bytes) -> Header:
    width, height = struct.unpack(">II", data[16:24])
    at, kind, orientation = 8, b"", 1
    while kind != b"IEND":
        if at + 12 > len(data):
            raise PhotoError("it is cut short")
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        checked = memoryview(data)[at + 4 : at + 8 + size]
        if at + 12 + size > len(data):
            raise PhotoError("it is cut short")
        if zlib.crc32(checked) != struct.unpack(">I", data[at + 8 + size : at + 12 + size])[0]:
            raise PhotoError("it is damaged: a checksum is wrong")
        if kind == b"eXIf":
            orientation = _orientation(bytes(checked[4:]))
        at += 12 + size
    return Header("PNG", width, height, orientation)


def _jpeg(data: bytes) -> Header:
    at, size = 2, (0, 0)
    while data[at + 1] != 0xDA:
        if data[at] != 0xFF:
            raise PhotoError("it is damaged: a marker is missing")
        if data[at + 1] == 0xFF:
            at += 1
            continue
        # SOF0 to SOF15 without the tables DHT, JPG and DAC that lie among them
        if 0xC0 <= data[at + 1] <= 0xCF and data[at + 1] not in (0xC4, 0xC8, 0xCC):
            size = struct.unpack(">HH", data[at + 5 : at + 9])
        at += 2 + max(2, *struct.unpack(">H", data[at + 2 : at + 4]))
    # Pixels never contain FFD9, so one end mark behind their start is enough; phones append films and maps.
    if data.rfind(b"\xff\xd9") < at:
        raise PhotoError("it is cut short")
    return Header("JPEG", size[1], size[0])


def _webp(data: bytes) -> Header:
    if data[8:12] != b"WEBP":
        raise PhotoError("it is not a JPEG, PNG, GIF, BMP, WebP or TIFF image")
    kind, orientation, at = data[12:16], 1, 12
    if kind == b"VP8X":
        width, height = (1 + int.from_bytes(data[i : i + 3], "little") for i in (24, 27))
    elif kind == b"VP8L":
        bits = struct.unpack("<I", data[21:25])[0]
        width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    else:
        width, height = (side & 0x3FFF for side in struct.unpack("<HH", data[26:30]))
    while at + 8 <= len(data):
        kind, size = struct.unpack("<4sI", data[at : at + 8])
        if kind == b"EXIF":
            orientation = _orientation(data[at + 8 : at + 8 + size].removeprefix(b"Exif\0\0"))
        at += 8 + size + size % 2
    return Header("WebP", width, height, orientation)


def _bmp(data: bytes) -> Header:
    core = struct.unpack("<I", data[14:18])[0] == 12
    width, height = struct.unpack("<HH", data[18:22]) if core else struct.unpack("<ii", data[18:26])
    return Header("BMP", abs(width), abs(height))


def _gif(data: bytes) -> Header:
    return Header("GIF", *struct.unpack("<HH", data[6:10]))


def _tiff(data: bytes) -> Header:
    tags = _tags(data)
    return Header("TIFF", tags.get(256, 0), tags.get(257, 0), tags.get(274, 1))


def _tags(data: bytes) -> dict[int, int]:
    """The whole-number tags of the first directory of a TIFF file, which is what EXIF is too."""
    order = "<" if data[:2] == b"II" else ">"
    start = struct.unpack(order + "I", data[4:8])[0]
    tags = {}
    for i in range(struct.unpack(order + "H", data[start : start + 2])[0]):
        entry = data[start + 2 + 12 * i : start + 14 + 12 * i]
        tag, kind, _ = struct.unpack(order + "HHI", entry[:8])
        if kind in (3, 4):
            tags[tag] = struct.unpack(order + "HI"[kind - 3], entry[8 : 10 if kind == 3 else 12])[0]
    return tags


def _orientation(exif: bytes) -> int:
    try:
        return _tags(exif).get(274, 1)
    except struct.error:
        return 1


_READERS: dict[bytes, Callable[[bytes], Header]] = {
    b"\x89PNG\r\n\x1a\n": _png,
    b"\xff\xd8": _jpeg,
    b"RIFF": _webp,
    b"BM": _bmp,
    b"GIF8": _gif,
    b"II*\0": _tiff,
    b"MM\0*": _tiff,
}
