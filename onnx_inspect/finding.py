"""`Finding`: what a study of a network returns, with everything that was assumed on the way."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import files
from .errors import OutputError
from .preprocess import Preprocessing
from .versions import versions

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SCHEMA = 1
PICTURES = frozenset({".png", ".jpg", ".jpeg"})
WRITTEN = frozenset({".json", ".npz", ".html", ".gif", ".mp4"})
"""Suffixes of what `save` may write beside pictures."""


@dataclass
class Finding:
    """What a study found out about a network.

    Attributes:
        study: its name.
        values: what was found, as plain data: numbers, names, lists, dictionaries.
        models: file name and digest of each model.
        provider: the onnxruntime provider that ran, "" where nothing did.
        pictures: RGB pictures by name; "" is the one that says it all.
        arrays: numbers too many to read, by name.
        texts: further files, by their suffix (".html").
        frames: pictures of a film, in order.
        lines: what the terminal says.
        layer: readable name of the layer, "" where there is none.
        photos: how many were looked at; `skipped` lists those that could not be read: name and reason.
        preprocessing: how photos became inputs.
        params: parameters of the study, as they were used.
        options: what was asked for other than the defaults.
        notes: what was assumed, a sentence each.
        written: files that the study wrote itself.
    """

    study: str
    values: dict[str, Any]
    models: list[dict[str, Any]]
    provider: str = ""
    pictures: dict[str, NDArray[np.uint8]] = field(default_factory=dict)
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    frames: Sequence[NDArray[np.uint8]] = ()
    lines: list[str] = field(default_factory=list)
    layer: str = ""
    photos: int = 0
    skipped: list[dict[str, str]] = field(default_factory=list)
    preprocessing: Preprocessing | None = None
    params: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    written: list[Path] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.skipped:
            left = f"{len(self.skipped)} of {self.photos} photos could not be read and were left out"
            self.notes = list(dict.fromkeys([*self.notes, f"{left}, the first: {self.skipped[0]['reason']} (PHOTO)"]))

    def __repr__(self) -> str:
        layer = f", layer='{self.layer}'" if self.layer else ""
        return f"Finding({self.study}{layer}, {', '.join(self.values)})"

    @property
    def picture(self) -> NDArray[np.uint8]:
        """The picture that says it all, (H, W, 3) RGB."""
        return self.pictures[""]

    def to_json(self) -> dict[str, Any]:
        """The record: everything needed to know what was computed, from what, and how."""
        return {
            "schema": SCHEMA,
            "study": self.study,
            "params": self.params,
            "options": self.options,
            "layer": self.layer or None,
            "models": self.models,
            "photos": self.photos,
            "skipped": self.skipped,
            "preprocessing": self.preprocessing.to_json() if self.preprocessing is not None else None,
            "provider": self.provider or None,
            "versions": versions(),
            "notes": self.notes,
            "values": self.values,
        }

    def save(self, path: str | Path, *, npz: bool = True) -> list[Path]:
        """Write pictures, arrays and the record.

        Args:
            path: the picture's name, whose suffix chooses its format, or the common stem: "units" for units.png,
                units.npz and units.json. A further picture has its name between stem and suffix.
            npz: write the arrays too, if there are any.

        Returns:
            The files, the picture first.

        Raises:
            OutputError: something cannot be written; nothing half-written is left.
        """
        from . import film, image

        path = Path(path)
        if os.path.isdir(path):  # noqa: PTH112  (a path may be any text)
            path = path / self.study
        picture = picture_of(path)
        if picture.stem in ("", "."):
            raise OutputError(f"'{path}' is no name for a picture: name it with -o.")
        written = []
        for name, pixels in self.pictures.items():
            safe = re.sub(r"[/\\:\x00-\x1f]", "_", name)  # names of photos and layers are somebody else's
            written.append(picture.with_suffix(f".{safe}{picture.suffix}") if name else picture)
            image.write(written[-1], pixels)
        for suffix, text in self.texts.items():
            written.append(picture.with_suffix(suffix))
            files.write_text(written[-1], text)
        if npz and self.arrays:
            written.append(picture.with_suffix(".npz"))
            files.write_npz(written[-1], self.arrays)
        kind = self.params.get("film") or "gif"
        if kind == "png":
            for k, frame in enumerate(self.frames):
                written.append(picture.with_suffix(f".{k:04}.png"))
                image.write(written[-1], frame)
        elif len(self.frames):
            written.append(picture.with_suffix(f".{kind}"))
            film.write(written[-1], self.frames)
        written.append(picture.with_suffix(".json"))
        files.write_json(written[-1], self.to_json() | {"files": [p.name for p in written]})
        return written


def picture_of(path: Path) -> Path:
    """The picture that a name means, which may be a stem."""
    return path if path.suffix.lower() in PICTURES else path.with_name(f"{path.name}.png")
