"""Results as files: pictures, raw arrays, tables and the manifest."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import files
from .errors import OutputError
from .versions import versions

if TYPE_CHECKING:
    from numpy.typing import NDArray

SCHEMA = 1
HEADER = ("sample", "target", "input", "index", "name", "value", "attribution")  # of tables
PICTURES = frozenset({".png", ".jpg", ".jpeg"})


class Saved(ABC):
    """What an `Attribution` writes; its attributes are described there."""

    method: str
    values: NDArray[Any]
    heat: NDArray[Any]
    target: str
    explained: list[Any]
    scores: NDArray[Any]
    predictions: list[list[Any]]
    photos: list[Any]
    preprocessing: Any
    provider: str
    model: dict[str, Any]
    layer: str
    tensor: str
    params: dict[str, Any]
    notes: list[str]
    extra: dict[str, NDArray[Any]]
    tensors: dict[str, NDArray[Any]]
    shares: dict[str, NDArray[np.float64]]
    measures: dict[str, NDArray[np.float64]]
    shown: dict[str, Any]

    @property
    @abstractmethod
    def stems(self) -> list[str]:
        """A file name without suffix per sample."""

    @property
    @abstractmethod
    def drawable(self) -> bool:
        """True if there is a map of height and width."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def has_picture(self, i: int) -> bool:
        """True if a sample can be drawn."""

    @abstractmethod
    def map(self, i: int = 0) -> NDArray[np.float32]:
        """The map of a sample on its photo."""

    @abstractmethod
    def overlay(self, i: int = 0) -> NDArray[np.uint8]:
        """The picture of a sample."""

    @abstractmethod
    def panel(self, i: int = 0) -> NDArray[np.uint8]:
        """The picture with what belongs to it."""

    def arrays(self, i: int) -> dict[str, NDArray[Any]]:
        """What the npz of a sample holds."""
        found = {"values": self.values[i], "heat": self.heat[i], "score": np.asarray(self.scores[i])}
        if self.photos[i] is not None and self.drawable:
            found["map"] = self.map(i)
        found |= {f"values.{k}": v[i] for k, v in self.tensors.items() if len(self.tensors) > 1}
        return found | {k: v[i] for k, v in self.extra.items()}

    def rows(self, i: int) -> Iterator[list[Any]]:
        """A row per number that something was attributed to, as `HEADER` says, for CSV."""
        for tensor, values in (self.tensors or {self.method: self.values}).items():
            shown = self.shown.get(tensor)
            words = shown.words[i] if shown is not None and shown.words else None
            given = shown.values[i] if shown is not None and shown.values is not None else None
            for at, worth in np.ndenumerate(values[i]):
                name = words[at[-1]] if words and at else ""
                value = given[at] if given is not None else ""
                yield [self.stems[i], self.target, tensor, ",".join(map(str, at)), name, value, worth]

    def record(self, i: int) -> dict[str, Any]:
        """What the manifest says of a sample."""
        photo, explained = self.photos[i], self.explained[i]
        return {
            "sample": self.stems[i],
            "photo": str(photo.path) if photo is not None and photo.path is not None else None,
            "photo_size": list(photo.pixels.shape[:2]) if photo is not None else None,
            "explained": vars(explained) if explained is not None else None,
            "score": float(self.scores[i]),
            "shares": {k: float(v[i]) for k, v in self.shares.items()},
            "measures": {k: float(v[i]) for k, v in self.measures.items()},
            "predictions": [vars(p) for p in self.predictions[i][:5]],
        }

    def to_json(self) -> dict[str, Any]:
        """The manifest: everything needed to know what was computed, from what, and how."""
        return {
            "schema": SCHEMA,
            "method": self.method,
            "params": self.params,
            "target": self.target,
            "layer": self.layer or None,
            "tensor": self.tensor or None,
            "attributed": list(self.tensors),
            "model": self.model,
            "preprocessing": self.preprocessing.to_json() if self.preprocessing is not None else None,
            "provider": self.provider,
            "versions": versions(),
            "notes": self.notes,
            "results": [self.record(i) for i in range(len(self))],
        }

    def save(
        self, path: str | Path, *, panel: bool = False, npz: bool = True, csv: bool = False, manifest: bool = True
    ) -> list[Path]:
        """Write pictures, raw maps and the manifest.

        Args:
            path: for one sample the common stem, "cat" for cat.png, cat.npz and cat.json (a picture's suffix is
                accepted and chooses its format); for several a folder.
            panel: write the side-by-side (.panel.png) as well.
            npz: write the raw arrays.
            csv: write a table of all samples, a row per number.
            manifest: write the manifest.

        Returns:
            The files.

        Raises:
            OutputError: something cannot be written; nothing half-written is left.
        """
        path = Path(path)
        named = path.suffix.lower() in PICTURES
        if len(self) == 1 and not path.is_dir():
            pictures = [path if named else path.with_name(path.name + ".png")]
            record, table = (pictures[0].with_suffix(suffix) for suffix in (".json", ".csv"))
        elif named:
            raise OutputError(f"There are {len(self)} samples for the one file '{path}': name a folder.")
        else:
            pictures = [path / f"{stem}.{self.method}.png" for stem in self.stems]
            record, table = path / "manifest.json", path / f"{self.method}.csv"
        written = self.write(pictures, panel=panel, npz=npz)
        if manifest:
            content = self.to_json()
            for entry, made in zip(content["results"], written, strict=True):
                entry["files"] = {k: v.name for k, v in made.items()}
            files.write_json(record, content)
        if csv:
            with files.table(table, HEADER) as write:
                write(row for i in range(len(self)) for row in self.rows(i))
        return [f for made in written for f in made.values()] + [table] * csv + [record] * manifest

    def write(self, pictures: Sequence[Path], *, panel: bool = False, npz: bool = False) -> list[dict[str, Path]]:
        """Write the files of every sample, given the name of each picture; says which were written.

        What cannot be drawn gets an npz instead of a picture, and what is no photo gets one beside it.
        """
        from . import image

        written: list[dict[str, Path]] = []
        for i, picture in enumerate(pictures):
            made: dict[str, Path] = {}
            if self.has_picture(i):
                made["picture"] = picture
                image.write(picture, self.overlay(i))
                if panel:
                    made["panel"] = picture.with_suffix(".panel.png")
                    image.write(made["panel"], self.panel(i))
            if npz or not made or self.photos[i] is None:
                made["npz"] = picture.with_suffix(".npz")
                files.write_npz(made["npz"], self.arrays(i))
            written.append(made)
        return written
