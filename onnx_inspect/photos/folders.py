"""Photos that are files, and folders of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from .. import image
from ..errors import PhotoError
from ..files import visible_image
from ..image import Picture
from .strings import Strings


class Files:
    """Photos by their names from a folder on."""

    def __init__(self, folder: str | Path, names: Strings) -> None:
        self._folder, self.names = str(folder), names

    def name(self, k: int) -> str:
        """The path, as it was given."""
        return str(self.path(k))

    def path(self, k: int) -> Path:
        """The same as a Path."""
        return Path(self._folder, self.names[k])

    def home(self, k: int) -> str | None:
        """None: a list that has no labels means none."""

    def stamp(self, k: int) -> str:
        """Size and time of the last change."""
        try:
            found = os.stat(self.name(k))  # noqa: PTH116  (a path may be any text)
        except (OSError, ValueError):
            return "missing"
        return f"{found.st_size} {found.st_mtime_ns}"

    def read(self, k: int) -> Picture:
        """The photo; PhotoError where it cannot be read."""
        return image.read(self.path(k))


class Folder(Files):
    """All photos of a folder."""

    def home(self, k: int) -> str | None:
        """The folder's own name."""
        return Path(self._folder).resolve().name or None


class Loose(Files):
    """Photos that are named one by one, or by a pattern."""

    def home(self, k: int) -> str | None:
        """The name of the folder that it lies in, as far as it is given."""
        return self.path(k).parent.name or None


def walk(root: Path, without: Path | None = None) -> Iterator[str]:
    """The visible images in a folder and below, sorted part by part; each folder once, whatever links lead to it.

    A folder ``without`` below is left out.
    """
    seen = set[tuple[int, int]]()
    todo = ["\0"]  # folders end in NUL, which no name holds and which sorts before all that names hold
    try:
        while todo:
            name = todo.pop()
            if not name.endswith("\0"):
                yield name
                continue
            folder = root / name[:-1]
            status = folder.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            if not name[:-1] and without is not None and without.is_dir():
                seen.add((without.stat().st_dev, without.stat().st_ino))
            prefix = f"{name[:-1]}/" if name != "\0" else ""
            with os.scandir(folder) as entries:
                inner = [prefix + entry.name + "\0" * entry.is_dir() for entry in entries if _wanted(entry)]
            todo += sorted(inner, reverse=True)
    except OSError as error:
        raise PhotoError(f"Cannot look for photos in {error.filename or root}: {error.strerror}.") from error


def _wanted(entry: os.DirEntry[str]) -> bool:
    return entry.name[0] != "." if entry.is_dir() else visible_image(entry.name) and entry.is_file()


def labels(names: Strings, start: int = 0) -> Iterator[str | None]:
    """The first folder of each name from ``start`` on, where there are two or more."""

    def top(name: str) -> str | None:
        folder, slash, _ = name[start:].partition("/")
        return folder if slash and folder.strip(".") else None

    several = len({top(name) for name in names} - {None}) > 1
    return (top(name) if several else None for name in names)
