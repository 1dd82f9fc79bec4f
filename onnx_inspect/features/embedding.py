"""`Embedding`: photos as vectors, computed or read from what `embed` wrote."""

from __future__ import annotations

import json
import os
from bisect import bisect_left
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import image
from ..attribution import identity
from ..errors import InputError, InspectError, PhotoError
from ..finding import Finding
from ..image import Picture
from ..methods.inputs import ModelLike
from ..model import Model, load
from ..photos.source import gather
from ..preprocess import Preprocessing
from ..surveys.survey import Over, Survey
from .vectors import Names, choose, matrix, tabulate

if TYPE_CHECKING:
    import pyarrow as pa

VECTORS, TABLE, RECORD = "vectors.npy", "embeddings.parquet", "embed.json"
_BLANK = np.full((96, 96, 3), 235, np.uint8)


@dataclass
class Embedding:
    """N photos as points in the space of a layer's features.

    Attributes:
        vectors: (N, D) float32, in memory or mapped from a file.
        table: a row per photo: path, label, prediction.
        layer: readable name of the layer.
        read: the photo with a number; PhotoError where it cannot be read.
        folder: what relative paths start from.
        about: fields of `Finding`: model, preprocessing, photos that could not be read, notes.
    """

    vectors: NDArray[np.float32]
    table: pa.Table
    layer: str
    read: Callable[[int], Picture]
    folder: str
    about: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.vectors)

    def name(self, i: int) -> str:
        """The path of a photo, as it was given."""
        return str(self.table["path"][i])

    def stem(self, i: int) -> str:
        """Its file's name without the suffix, for captions."""
        return Path(self.name(i)).stem

    @cached_property
    def labels(self) -> Names:
        """The class of each photo, None where nobody says."""
        return Names(self.table["label"])

    @cached_property
    def predictions(self) -> Names:
        """The class that the model takes each photo for, None where it has no classes."""
        return Names(self.table["prediction"])

    @property
    def labelled(self) -> bool:
        """Whether anybody says what class a photo is of."""
        return bool(self.labels.kinds)

    @property
    def classes(self) -> Names:
        """The labels, or where there are none what the model takes the photos for."""
        return self.labels if self.labelled else self.predictions

    def picture(self, i: int) -> Picture:
        """A photo, blank where it is no longer there or cannot be read."""
        with suppress(PhotoError):
            return self.read(i)
        return _BLANK

    def numbers_in(self, other: Embedding) -> NDArray[np.int64]:
        """For each photo its number in another embedding, -1 where it is not there."""
        if other is self:
            return np.arange(len(self))
        import pyarrow as pa
        import pyarrow.compute as pc

        found = np.full(len(self), -1)
        here = [os.path.abspath(Path(self.folder, self.name(i))) for i in range(len(self))]  # noqa: PTH100
        for known in (here, [os.path.relpath(name, other.folder) for name in here]):
            at = pc.index_in(other.table["path"], value_set=pa.array(known)).combine_chunks()
            rows = np.flatnonzero(at.is_valid().to_numpy(zero_copy_only=False))
            found[at.drop_null().to_numpy()] = rows
        number = {name: i for i, name in enumerate(here)}
        winding = pc.match_substring(other.table["path"], "..").to_numpy()  # as in lists of what lies elsewhere
        for j in np.flatnonzero(winding).tolist():
            if (i := number.get(os.path.abspath(Path(other.folder, other.name(j))))) is not None:  # noqa: PTH100
                found[i] = j
        return found

    def finding(self, study: str, values: dict[str, Any], **more: Any) -> Finding:
        """The result of a study of these vectors; `more` are further fields of `Finding`."""
        notes = [*self.about["notes"], *more.pop("notes", [])]
        return Finding(study, values, **self.about | {"notes": list(dict.fromkeys(notes)), "layer": self.layer} | more)


def embedded(model: ModelLike, photos: Any, layer: str, how: Over) -> Embedding:
    """The vectors of photos: read, where `photos` is a folder that `embed` wrote, else computed and kept in memory."""
    folder = written_by_embed(photos)
    if folder is None:
        return compute(Survey(model, photos, **how), layer)
    found = read(folder, model, layer)
    asked, made = how.get("preprocessing"), found.about["preprocessing"]
    if asked is not None and asked.describe() != made.describe():
        found.about["notes"].append(f"preprocessing: that of the vectors in {folder}, {made.describe()} (PHOTO)")
    return found


def written_by_embed(photos: Any) -> Path | None:
    """The folder that `photos` names, if `embed` wrote it."""
    named = [photos] if isinstance(photos, str | Path) else photos
    if isinstance(named, Sequence) and len(named) == 1 and isinstance(named[0], str | Path):
        folder = Path(named[0])
        if (folder / RECORD).is_file() and (folder / VECTORS).is_file():
            return folder
    return None


def compute(survey: Survey, layer: str) -> Embedding:
    """All photos of a survey, in memory."""
    chosen = choose(survey, layer)
    table = tabulate(survey, chosen, 0, len(survey.photos))
    if not len(table):
        raise survey.photos.illegible(survey.skipped)
    which = table["photo"].to_numpy()
    return Embedding(
        matrix(table),
        table.drop_columns("vector"),
        chosen.name,
        lambda i: survey.photos.read(int(which[i])),
        str(Path.cwd()),
        about(survey),
    )


def about(survey: Survey) -> dict[str, Any]:
    """What is known of a survey that is over, as fields of `Finding`."""
    found = vars(survey.finding("", {}, skipped=[])) | {"skipped": survey.skipped}
    return {name: found[name] for name in ("models", "provider", "photos", "skipped", "preprocessing", "notes")}


def read(folder: Path, model: ModelLike, layer: str = "auto") -> Embedding:
    """What `embed` wrote, its vectors mapped from the file.

    Raises:
        InputError: it is damaged, or comes from another model or layer.
    """
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        was, named = record["models"][0], str(record["layer"])
        known = {name: record[name] for name in ("models", "provider", "photos", "skipped")}
        again = Finding("", **known, values={}).notes  # what every finding says of photos that could not be read
        known |= {
            "preprocessing": Preprocessing.from_json(record["preprocessing"]),
            "notes": [note for note in record["notes"] if note not in again],
        }
        found = stored(folder, named, str(record["params"]["folder"]), known)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, NotImplementedError, InspectError) as error:
        reason = (str(error) or repr(error)).splitlines()[0]
        raise InputError(f"The embedding in {folder} is damaged: {reason}. Run embed again.") from error
    loaded = model if isinstance(model, Model) else load(model)
    if was["sha256"] != (now := identity(loaded))["sha256"]:
        raise InputError(
            f"The vectors in {folder} are those of another model: '{was['name']}', {was['sha256'][:12]}, and this is "
            f"'{now['name']}', {now['sha256'][:12]}. Name that model, or embed the photos again."
        )
    if layer != "auto" and loaded.layer(layer).name != named:
        raise InputError(
            f"The vectors in {folder} are those of the layer '{named}', not of '{layer}': leave --layer out, or embed "
            "the photos again."
        )
    found.about["notes"].append(f"the vectors were read from {folder}, layer '{named}' (PHOTO)")
    return found


def stored(folder: Path, layer: str, start: str, known: dict[str, Any]) -> Embedding:
    """The files of an embedding: vectors mapped, not read, and the table without them; ValueError for other files."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = pa.field("path", "string", nullable=False)
    schema = pa.schema([("photo", "int64"), path, ("label", "string"), ("prediction", "string")])
    vectors = np.load(folder / VECTORS, mmap_mode="r", allow_pickle=False)
    table = pq.read_table(folder / TABLE, columns=schema.names).cast(schema)
    if vectors.dtype != np.float32 or vectors.ndim != 2 or not len(vectors) or len(vectors) != len(table):
        raise ValueError(f"there are {len(table)} photos, and vectors {vectors.dtype} {vectors.shape}")
    return Embedding(vectors, table, layer, _reader(Path(start), table["path"]), start, known)


def _reader(start: Path, paths: Any) -> Callable[[int], Picture]:
    """Reads photos by their paths, which may lead into a zip."""
    archives = cache(gather)

    def read(i: int) -> Picture:
        path = os.path.join(start, str(paths[i]))  # noqa: PTH118  (members of zips may have any names)
        archive = next((p for p in Path(path).parents if p.suffix.lower() == ".zip" and p.is_file()), None)
        if archive is None:
            return image.read(path)
        photos = archives(archive)
        number = bisect_left(range(len(photos)), path, key=photos.name)  # they are sorted
        if number == len(photos) or photos.name(number) != path:
            raise PhotoError(f"There is no photo {path}: the zip has changed. Embed the photos again.")
        return photos.read(number)

    return read


def same_space(one: Embedding, other: Embedding) -> None:
    """InputError where two embeddings cannot be compared."""
    for what, a, b in (
        ("layers", one.layer, other.layer),
        ("numbers of features", one.vectors.shape[1], other.vectors.shape[1]),
        ("preprocessings", _how(one), _how(other)),
    ):
        if a != b:
            raise InputError(
                f"Photos and those they are compared with have different {what}, '{a}' and '{b}': embed both alike."
            )


def _how(embedding: Embedding) -> str:
    made = embedding.about["preprocessing"]
    return made.describe() if isinstance(made, Preprocessing) else str(made)
