"""What people call photos, from files, folders, patterns, zips and lists, as one sequence of pictures."""

from __future__ import annotations

import glob
import hashlib
import json
import os
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path, PurePath
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import PhotoError
from ..files import SUFFIXES, photo_names
from ..image import Picture
from . import folders, lists
from .archive import Archive
from .strings import Strings


class Source(Protocol):
    """Photos that lie in one place."""

    names: Strings

    def name(self, k: int) -> str:
        """What people call it."""

    def path(self, k: int) -> Path | None:
        """Where it lies; None if it is no file of its own."""

    def home(self, k: int) -> str | None:
        """The folder that makes a class of it where no label does."""

    def stamp(self, k: int) -> str:
        """What changes when the photo does."""

    def read(self, k: int) -> Picture:
        """The photo; PhotoError, which names it, where it cannot be read."""


class _Labels:
    """Labels, one per photo, None where nobody says, as numbers."""

    def __init__(self) -> None:
        self.numbers: dict[str | None, int] = {None: -1}
        self._given = array("i")

    def append(self, label: str | None) -> None:
        """The next photo's."""
        self._given.append(self.numbers.setdefault(label, len(self.numbers) - 1))

    def ranked(self) -> tuple[list[str], NDArray[np.int32]]:
        """The labels that occur, sorted, and each photo's place among them, -1 for none."""
        names = list(self.numbers)[1:]
        classes = sorted(name for name in names if name is not None)
        rank = {name: k for k, name in enumerate(classes)}
        ranks = np.array([*(rank[name] for name in names if name is not None), -1], np.int32)
        return classes, ranks[np.array(self._given, np.int32)]


class Photos:
    """A sequence of photos, each once, in the order in which they were named; read only when asked for.

    It costs a name, and twenty bytes, each. Any number of threads may read at once. Make one with ``gather``.

    Attributes:
        classes: the labels that occur, sorted; [] where nobody says.
        by_home: they are the folders that were named, or that photos lie in.
    """

    def __init__(self, sources: Iterable[tuple[Source, Iterable[str | None]]]) -> None:
        self._sources: list[Source] = []
        source, at, said = array("I"), array("I"), _Labels()
        for place, names in sources:
            for k, name in zip(range(len(place.names)), names, strict=True):
                source.append(len(self._sources))
                at.append(k)
                said.append(name)
            self._sources.append(place)
        self._source, self._at = np.array(source, np.uint32), np.array(at, np.uint32)
        self.classes, self._label = said.ranked()
        self._keep_each_once()
        homes = _Labels()
        for i in range(0 if self.classes else len(self)):
            place, k = self._where(i)
            homes.append(place.home(k))
        self.by_home = len(homes.numbers) > 2
        if self.by_home:
            self.classes, self._label = homes.ranked()

    def _keep_each_once(self) -> None:
        here, count = os.getcwd(), len(self)  # noqa: PTH109
        # A set of the names would take several times what is kept of them.
        hashes = np.fromiter((hash(os.path.join(here, self.name(i))) for i in range(count)), np.int64, count)  # noqa: PTH118
        _, inverse, counts = np.unique(hashes, return_inverse=True, return_counts=True)
        keep, first = np.ones(count, bool), dict[str, int]()
        for i in np.flatnonzero(counts[inverse] > 1).tolist():
            k = first.setdefault(os.path.join(here, self.name(i)), i)  # noqa: PTH118
            if k == i:
                continue
            keep[i] = False
            if self._label[k] < 0:
                self._label[k] = self._label[i]
            elif 0 <= self._label[i] != self._label[k]:
                raise PhotoError(
                    f"The photo {self.name(i)} has two labels, '{self.label(k)}' and '{self.label(i)}': "
                    "name only what has the right one."
                )
        self._source, self._at, self._label = self._source[keep], self._at[keep], self._label[keep]

    def __len__(self) -> int:
        return len(self._at)

    def _where(self, i: int) -> tuple[Source, int]:
        return self._sources[self._source[i]], int(self._at[i])

    def name(self, i: int) -> str:
        """What people call it: the path as given, for a member of a zip ``archive.zip/inner/cat.jpg``."""
        source, k = self._where(i)
        return source.name(k)

    def path(self, i: int) -> Path | None:
        """Where it lies; None inside a zip."""
        source, k = self._where(i)
        return source.path(k)

    def stem(self, i: int) -> str:
        """The file's name without its suffix, for captions."""
        return PurePath(self.name(i)).stem

    def label(self, i: int) -> str | None:
        """Its class; None where nobody says."""
        return self.classes[self._label[i]] if self._label[i] >= 0 else None

    def read(self, i: int) -> Picture:
        """The photo as uint8 (H, W, 3) RGB, upright. PhotoError, which names it, where it cannot be read."""
        source, k = self._where(i)
        return source.read(k)

    def legible(self, skipped: list[dict[str, str]]) -> Iterator[tuple[int, Picture]]:
        """The photos that can be read, one by one, with their numbers; of others `skipped` gets name and reason.

        Raises:
            PhotoError: none of them can be read.
        """
        before = len(skipped)
        for i in range(len(self)):
            try:
                photo = self.read(i)
            except PhotoError as error:
                skipped.append({"photo": self.name(i), "reason": str(error)})
                continue
            yield i, photo
        if len(skipped) - before == len(self):
            raise self.illegible(skipped)

    def illegible(self, skipped: Sequence[Mapping[str, str]]) -> PhotoError:
        """For when none of the photos can be read."""
        return PhotoError(f"None of the {len(self)} photos can be read, the first: {skipped[0]['reason']}")

    @cached_property
    def digest(self) -> str:
        """SHA-256 over names, labels, sizes and times of change, in a zip checksums: equal for the same photos."""
        digest = hashlib.sha256()
        for i in range(len(self)):
            source, k = self._where(i)
            digest.update(json.dumps([source.name(k), self.label(i), source.stamp(k)]).encode())
        return digest.hexdigest()


def gather(given: str | Path | Sequence[str | Path] | Photos, without: Path | None = None) -> Photos:
    """All photos that ``given`` names, in order and each once.

    What may be named, in any mixture: files; folders, for all visible images in them and below; zips, for all
    images inside; CSV, TSV and Parquet lists with a column ``path``, ``file``, ``image`` or ``filename`` (else
    the first), relative to the list's folder; patterns with ``*``, ``?``, ``[...]`` and ``**``, for images, or
    for zips or lists where they end in such a suffix.

    A photo's label is what its list says in the column ``label``, ``class`` or ``target``. In a folder or zip
    with photos in two or more folders directly below it, the name of that folder is the label; where all of a
    zip lies in one folder, as in the zip of a folder, that folder counts as the zip. Where that gives no labels at
    all, folders that are named one by one are, and of photos that are, the folders that they lie in: two or more.

    Args:
        given: one name or several; Photos come back as they are.
        without: a folder of results; in folders that hold it, what is inside counts for nothing.

    Raises:
        PhotoError: something named is not there, holds no photos, or gives one photo two labels.

    Example:
        >>> photos = gather(["holidays", "more.zip", "labels.csv"])
        >>> photos.name(0), photos.label(0), photos.read(0).shape
    """
    if isinstance(given, Photos):
        return given
    args = [given] if isinstance(given, str | Path) else given
    if not isinstance(args, Sequence) or not all(isinstance(arg, str | Path) for arg in args):
        raise PhotoError(
            f"{type(given).__name__} is no photos: name files, folders, zips or lists. Arrays are for methods, as "
            "oi.saliency(model, x)."
        )
    if not args:
        raise PhotoError("No photos are named. Name files, folders, zips or lists.")
    return Photos(_sources(args, without))


def _sources(args: Iterable[str | Path], without: Path | None) -> Iterator[tuple[Source, Iterable[str | None]]]:
    loose = Strings()
    for arg in args:
        containers = list(_containers(arg))
        if not containers:
            for name in photo_names(arg):
                loose.append(name)
            continue
        if loose:
            yield folders.Loose("", loose), [None] * len(loose)
            loose = Strings()
        yield from (_opened(path, without) for path in containers)
    yield folders.Loose("", loose), [None] * len(loose)


def _containers(arg: str | Path) -> list[Path]:
    """The folders, zips and lists that an argument names; none where it names photos, or nothing."""
    path, text = Path(arg), str(arg)
    if os.path.isdir(text):  # noqa: PTH112  (a path may be any text)
        return [path]
    if path.suffix.lower() not in {".zip"} | lists.SUFFIXES:
        return []
    if os.path.isfile(text):  # noqa: PTH113
        return [path]
    return sorted(map(Path, glob.glob(text, recursive=True)))  # noqa: PTH207


def _opened(path: Path, without: Path | None) -> tuple[Source, Iterable[str | None]]:
    if path.is_dir():
        if (path / "embeddings.parquet").is_file():
            raise PhotoError(
                f"The folder {path} is what embed wrote, which neighbours and project take. Name the photos themselves."
            )
        names = Strings(folders.walk(path, without))
        if not names:
            raise PhotoError(f"The folder {path} has no images ({', '.join(sorted(SUFFIXES))}). Name another.")
        return folders.Folder(path, names), folders.labels(names)
    if path.suffix.lower() == ".zip":
        archive = Archive(path)
        shared = os.path.commonprefix([archive.names[0], archive.names[-1]])  # noqa: RUF071  (cut at a slash below)
        return archive, folders.labels(archive.names, shared.rfind("/") + 1)
    names, labels = lists.read(path)
    return folders.Files(path.parent, names), labels
