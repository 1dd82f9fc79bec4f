"""Arrays as somebody names them: a file (.npy, .npz, .json), a number or a list; nothing pickled, nothing huge."""

from __future__ import annotations

import json
import math
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tokenize import TokenError
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from .errors import InputError

LARGEST = 4 << 30  # bytes of one array
_LONGEST = 64 << 20  # bytes of JSON, which take ten times as much when read
FILES = (".npy", ".npz", ".json")
# What a file that is broken, encrypted or no such file at all makes its reader raise.
_BROKEN = (ValueError, EOFError, TypeError, OverflowError, RuntimeError, TokenError, zipfile.BadZipFile, zlib.error)


def is_file(text: str) -> bool:
    """True for the name of a file of numbers, of whose arrays "file.npz:key" takes one."""
    path, _ = _split(text)
    return path.suffix.lower() in FILES


def read(text: str, name: str = "") -> NDArray[Any]:
    """The array that a text names: x.npy, x.npz, x.npz:key, x.json, a number, numbers between commas, a list in JSON.

    Args:
        text: the text; what is none of these is a word.
        name: which array of an .npz to take where no key is given and there are several.

    Raises:
        InputError: it cannot be read, holds no numbers or words, or is too large.
    """
    if is_file(text):
        path, key = _split(text)
        with _told(path):
            return _of_json(path) if path.suffix.lower() == ".json" else _of_numpy(path, key, name)
    value: Any = text
    for written in (f"[{text}]", text):
        with suppress(ValueError, RecursionError):
            value = json.loads(written)
    return _array(value if isinstance(value, list | int | float | bool) else text, "what is given")


def _split(text: str) -> tuple[Path, str]:
    """The file, and which of its arrays."""
    cut = text.lower().rfind(".npz:") + 4
    return (Path(text[:cut]), text[cut + 1 :]) if cut > 3 else (Path(text), "")


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Whatever goes wrong with a file as a sentence that names it."""
    try:
        yield
    except OSError as error:
        raise InputError(f"'{path}' cannot be read: {error.strerror or error}.") from error
    except _BROKEN as error:
        what = "JSON" if path.suffix.lower() == ".json" else "what numpy.save or numpy.savez writes"
        raise InputError(f"'{path}' cannot be read: it is not {what}, or not all of it.") from error


def _of_numpy(path: Path, key: str, name: str) -> NDArray[Any]:
    if path.suffix.lower() == ".npy":
        with path.open("rb") as file:
            return _of_stream(file, path)
    with zipfile.ZipFile(path) as archive:
        keys = [member.removesuffix(".npy") for member in archive.namelist() if member.endswith(".npy")]
        chosen = key or (keys[0] if len(keys) == 1 else name)
        if chosen not in keys:
            raise InputError(f"'{path}' holds {', '.join(map(repr, keys)) or 'nothing'}: name one, as {path.name}:KEY.")
        with archive.open(f"{chosen}.npy") as member:
            return _of_stream(member, path)


def _of_stream(file: Any, path: Path) -> NDArray[Any]:
    """An array of numbers or words whose header promises no more than is read."""
    shape, fortran, dtype = _header(file)
    if dtype.hasobject or dtype.kind not in "biufSU":
        raise InputError(f"'{path}' holds {dtype}, not numbers or words: save it as an array of a plain type.")
    size = math.prod(shape)
    if size * dtype.itemsize > LARGEST:
        raise InputError(f"'{path}' promises {size} numbers, more than {LARGEST >> 30} GB: give it in parts.")
    data = file.read(size * dtype.itemsize)
    array = np.frombuffer(bytearray(data), dtype, size).reshape(shape[::-1] if fortran else shape)
    return array.T if fortran else array


def _header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    if any(not isinstance(n, int) or n < 0 for n in shape):
        raise ValueError(f"sizes {shape}")
    return shape, fortran, dtype


def _of_json(path: Path) -> NDArray[Any]:
    if path.stat().st_size > _LONGEST:
        raise InputError(f"'{path}' is too long for JSON: save the numbers with numpy.save.")
    return _array(json.loads(path.read_text(encoding="utf-8-sig")), f"'{path}'")


def _array(value: Any, what: str) -> NDArray[Any]:
    """An array of what JSON says; lists in lists are its axes."""
    try:
        array = np.array(value)
    except (ValueError, OverflowError) as error:
        raise InputError(f"{what[0].upper()}{what[1:]} is no array: its lists differ in length.") from error
    if array.dtype.kind not in "biufU" or (array.dtype.kind == "U" and not _words(value)):
        raise InputError(f"{what[0].upper()}{what[1:]} is no array of numbers, nor of words.")
    return array


def _words(value: Any) -> bool:
    """Whether all that lies in lists is text: numpy turns numbers beside words into words."""
    return all(map(_words, value)) if isinstance(value, list) else isinstance(value, str)
