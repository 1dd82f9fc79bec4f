"""Photos to vectors, a table of some photos at a time, and its columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import depth
from ..naming import Layer
from ..photos import tables
from ..surveys.survey import Seen, Survey

if TYPE_CHECKING:
    import pyarrow as pa


class Names(Sequence[str | None]):
    """A name per photo, None for some; each name is kept once.

    Attributes:
        kinds: the names that occur.
        codes: (N,), the number of each photo's name, -1 for None.
    """

    def __init__(self, column: pa.ChunkedArray) -> None:
        coded = column.combine_chunks().dictionary_encode()
        self.kinds: list[str] = coded.dictionary.to_pylist()
        self.codes: NDArray[np.int64] = coded.indices.cast("int64").fill_null(-1).to_numpy()

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, i: Any) -> Any:
        code = self.codes[i]
        return self.kinds[code] if code >= 0 else None

    def counts(self) -> Counter[str]:
        """How often each name occurs."""
        found = np.bincount(self.codes[self.codes >= 0], minlength=len(self.kinds))
        return Counter(dict(zip(self.kinds, found.tolist(), strict=True)))


def choose(survey: Survey, layer: str) -> Layer:
    """The layer with this name; "auto" is what the last layer with weights decides upon. Notes say what is done."""
    if layer == "auto":
        choice = depth.features(survey.model, survey.explained_tensor)
        survey.notes.append(choice.reason)
        found = choice.layer
    else:
        found = survey.layer(layer)
    layout = survey.layout(found.tensor)
    if found.role == "spatial" and layout is not None and "C" in layout:
        survey.notes.append(
            f"'{found.name}' is a map: features are the means of its channels over all positions (--layer NAME)"
        )
    return found


def tabulate(survey: Survey, layer: Layer, start: int, stop: int) -> pa.Table:
    """Photos from `start` to `stop` as rows: number, path, label, what the model takes it for, and the vector.

    Those that cannot be read have no row; `survey.skipped` has them.
    """
    import pyarrow as pa

    parts = list(survey.run([layer.tensor], partial(_reduced, survey, layer), start=start, stop=stop))
    which = [i for part in parts for i in part[0]]
    rows = {
        "photo": pa.array(which, pa.int64()),
        "path": tables.texts(map(survey.photos.name, which)),
        "label": tables.texts(map(survey.photos.label, which)),
    }
    if parts:
        vectors = np.concatenate([part[1] for part in parts])
        rows["vector"] = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
    best = np.concatenate([part[2] for part in parts]) if parts and parts[0][2] is not None else None
    empty = pa.nulls(len(which))
    named = [None] * len(which) if best is None else [survey.labels.name(int(i)) for i in best["index"]]
    rows["prediction"] = tables.texts(named)
    for name, kind in (("index", pa.int64()), ("score", pa.float64()), ("probability", pa.float64())):
        rows[name] = empty.cast(kind) if best is None else pa.array(best[name], kind)
    order = ("photo", "path", "label", "prediction", "index", "score", "probability", "vector")
    return pa.table({name: rows[name] for name in order if name in rows})


_BEST = np.dtype([("index", "i8"), ("score", "f8"), ("probability", "f8")])


def _reduced(survey: Survey, layer: Layer, seen: Seen) -> tuple[list[int], NDArray[np.float32], NDArray[Any] | None]:
    vectors = depth.pooled(seen.found[layer.tensor], survey.layout(layer.tensor))
    if (rows := survey.rows(seen.found)) is None:
        return seen.which, vectors, None
    best = np.empty(len(rows), _BEST)
    best["index"] = rows.argmax(axis=1)
    for name, values in (("score", rows), ("probability", survey.probabilities(rows))):
        best[name] = np.take_along_axis(values, best["index"][:, None], axis=1)[:, 0]
    return seen.which, vectors, best


def matrix(table: pa.Table) -> NDArray[np.float32]:
    """The column of vectors, (N, D)."""
    column = table["vector"].combine_chunks()
    return np.asarray(column.flatten().to_numpy(), np.float32).reshape(len(column), column.type.list_size)


def picked(vectors: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Some rows. Of a mapped file no page is touched for that: those count as memory of the process."""
    if not isinstance(vectors, np.memmap):
        return np.asarray(vectors[rows])
    width = vectors.shape[1]
    found = np.empty((len(rows), width), np.float32)
    with open(str(vectors.filename), "rb") as file:  # noqa: PTH123  (a path may be any text)
        for k, row in enumerate(rows.tolist()):
            file.seek(vectors.offset + row * width * 4)
            found[k] = np.fromfile(file, np.float32, width)
    return found
