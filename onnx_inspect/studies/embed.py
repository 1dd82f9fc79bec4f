"""Embedding: each photo as the vector of features that the network's decision rests on."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
from numpy.typing import NDArray

from .. import charts, files, layout
from ..features.cards import card
from ..features.embedding import RECORD, TABLE, VECTORS, Embedding, about, compute, stored
from ..features.nearest import nearest
from ..features.vectors import choose, matrix, picked, tabulate
from ..finding import Finding
from ..image import Picture
from ..methods.inputs import ModelLike
from ..naming import Layer
from ..photos import tables
from ..photos.shards import Shards
from ..photos.source import gather
from ..surveys.survey import Over, Survey
from .registry import study

if TYPE_CHECKING:
    import pyarrow as pa

_SAMPLE = 2000  # vectors that the picture is drawn from
_NUMBERS = 2 * 10**7  # numbers in them
_SHOWN = 16  # photos in it
_MOST = 16  # classes in it


@study
def embed(
    model: ModelLike,
    photos: Any,
    *,
    layer: str = "auto",
    out: str | Path | None = None,
    **how: Unpack[Over],
) -> Finding:
    """A vector of features per photo, in files for any other tool.

    A photo is run up to a layer, by default to what the last layer with weights decides upon, and what the layer says
    is the photo's vector; maps are averaged over their positions. Photos that the network takes for alike are near each
    other there, whatever their pixels (Krizhevsky et al. 2012, section 6.1).

    The folder gets vectors.npy (a row per photo, float32; numpy.load(..., mmap_mode="r") needs no memory),
    embeddings.parquet (photo, path, label, prediction, index, score, probability and vector) and embed.json (model,
    layer, preprocessing, photos that could not be read). The commands neighbours and project take the folder in the
    place of photos. Work is kept in parts, so a run that was killed goes on where it was and writes the same bytes;
    memory does not grow with the number of photos.

    The picture shows some photos with what the model takes them for, how many directions the vectors spread in, and
    how alike the classes are: the mean cosine between the vectors of each two, or, without classes of several photos,
    how alike each photo's most similar one is.

    Args:
        model: a model, or what `load` takes.
        photos: files, folders, globs, zip archives or lists; folders, or a list's column, may say the classes.
        layer: the layer whose features are taken, "auto" for what the last layer with weights decides upon.
        out: the folder for the files; None keeps all in memory, in `arrays`: vectors and the photos' numbers.
        how: see `Over`.

    Raises:
        PhotoError: no photo can be read.
        OutputError: the folder holds other unfinished work, or cannot be written.

    Example:
        >>> embed("squeezenet.onnx", "holidays", out="holidays.vectors")
    """
    survey = Survey(model, gather(photos, None if out is None else Path(out)), **how)
    if out is None:
        found = compute(survey, layer)
        return _finding(found, arrays={"vectors": found.vectors, "photos": found.table["photo"].to_numpy()})
    folder, chosen = Path(out), choose(survey, layer)
    named = hashlib.sha256("\n".join(survey.labels.names).encode()).hexdigest()
    plan = {"study": "embed", **survey.plan(chosen), "labels": named}
    with Shards(folder / "parts", plan, len(survey.photos)) as shards:
        _work(survey, chosen, shards)
        _merge(survey, folder, shards)
        result = _finding(
            stored(folder, chosen.name, str(Path.cwd()), about(survey)), written=[folder / VECTORS, folder / TABLE]
        )
        files.write_json(folder / RECORD, result.to_json())
        shards.done()
    return result


def _work(survey: Survey, layer: Layer, shards: Shards) -> None:
    """Do what is missing, under one progress bar."""
    todo = list(shards.missing())
    if survey.progress is not None:
        advance = survey.progress("photos", sum(stop - start for _, start, stop in todo))
        survey.progress = lambda name, total: advance
    for shard, start, stop in todo:
        before = len(survey.skipped)
        table = tabulate(survey, layer, start, stop)
        shards.write(shard, table.replace_schema_metadata({"skipped": json.dumps(survey.skipped[before:])}))


def _merge(survey: Survey, folder: Path, shards: Shards) -> None:
    """One file of each kind from all shards."""
    survey.skipped = [p for table in shards.tables() for p in json.loads(table.schema.metadata[b"skipped"])]

    def full() -> Iterator[pa.Table]:
        return (table.replace_schema_metadata() for table in shards.tables() if len(table))

    first = next(full(), None)
    if first is None:
        raise survey.photos.illegible(survey.skipped)
    (folder / RECORD).unlink(missing_ok=True)  # without it nobody takes the files of two runs for one
    tables.write(folder / TABLE, first.schema, full())
    tables.write_vectors(folder / VECTORS, first.schema.field("vector").type.list_size, map(matrix, full()))


def _finding(found: Embedding, **more: Any) -> Finding:
    """What the vectors are like, with a picture."""
    count, width = found.vectors.shape
    rows = np.unique(np.linspace(0, count - 1, min(count, _SAMPLE, max(2, _NUMBERS // width))).astype(np.int64))
    vectors = picked(found.vectors, rows)
    share = _spectrum(vectors)
    names, alike = _alike(vectors, [found.classes[i] for i in rows])
    half, most = (int(np.searchsorted(share, level)) + 1 if len(share) else 0 for level in (0.5, 0.9))
    members = found.classes.counts()
    from_ = "label" if found.labelled else "prediction"
    values = {
        "photos": count,
        "features": width,
        "active": float((vectors != 0).mean()),
        "norm": float(np.linalg.norm(vectors, axis=1).mean()),
        "directions": {"50 %": half, "90 %": most},
        "sampled": len(rows),
        "classes_from": from_ if members else None,
        "classes": dict(members.most_common()),
        "similarity": {"classes": names, "cosine": np.round(alike, 4)},
    }
    common = ", ".join(f"{name} {n}" for name, n in members.most_common(5))
    lines = [
        f"{count} photos, {width} features each, from {found.layer}",
        f"90 % of their variance lies in {most} directions; {100 * values['active']:.0f} % of the features are not 0",
        *([f"{len(members)} classes ({from_}): {common}{', ...' if len(members) > 5 else ''}"] if members else []),
    ]
    picture = _draw(found, vectors, share, names, alike, f"{count} photos in {width} features of {found.layer}")
    params = {"layer": found.layer, "folder": found.folder}
    return found.finding("embed", values, pictures={"": picture}, lines=lines, params=params, **more)


def _spectrum(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """The share of variance in the first 1, 2, ... principal directions."""
    centred = vectors - vectors.mean(axis=0, dtype=np.float64)
    square = centred @ centred.T if len(centred) < centred.shape[1] else centred.T @ centred
    found = np.linalg.eigvalsh(square)[::-1].clip(0)
    return np.cumsum(found) / found.sum() if found.sum() > 0 else np.empty(0)


def _alike(vectors: NDArray[np.float32], classes: list[str | None]) -> tuple[list[str], NDArray[np.float64]]:
    """The largest classes of two photos or more, and the mean cosine between two vectors of each two."""
    common = Counter(c for c in classes if c is not None).most_common(_MOST)
    names = sorted(name for name, count in common if count > 1)
    length = np.linalg.norm(vectors, axis=1, keepdims=True).astype(np.float64)
    unit = np.divide(vectors, length, out=np.zeros(vectors.shape), where=length > 0)
    member = np.array([[c == name for c in classes] for name in names], np.float64).reshape(len(names), len(classes))
    sums, size = member @ unit, member.sum(axis=1)
    own = np.diag(member @ (unit**2).sum(axis=1))  # a vector is not compared with itself
    pairs = np.outer(size, size) - np.diag(size)
    return names, (sums @ sums.T - own) / pairs


def _draw(
    found: Embedding,
    vectors: NDArray[np.float32],
    share: NDArray[np.float64],
    names: list[str],
    alike: NDArray[np.float64],
    title: str,
) -> Picture:
    """Some photos, the spectrum, and how alike the classes are; the photos, where there are no classes."""
    shown = np.unique(np.linspace(0, len(found) - 1, _SHOWN).astype(int)).tolist()
    cards = [card(found.picture(i), [found.stem(i), found.predictions[i] or ""]) for i in shown]
    ends = min(len(share), 100)
    draws = [
        charts.curves(
            range(1, ends + 1),
            {"variance": share[:ends].tolist()},
            title="how many directions the photos spread in",
            xlabel="principal directions",
            ylabel="share of the variance",
            limits=(0, 1.02),
        )
    ]
    if len(names) > 1:
        kind = "label" if found.labelled else "prediction"
        draws.append(charts.table(alike, names, names, title=f"mean cosine between photos of two classes ({kind})"))
    else:
        _, far = nearest(vectors, vectors, 1, without=np.arange(len(vectors)))
        alone = 1 - far[np.isfinite(far)]
        draws.append(charts.histogram(alone, title="cosine to the most similar other photo", ylabel="photos"))
    sheet = layout.grid(cards, 8)
    plot = charts.figure(draws, (max(480, sheet.shape[1] // 2), 440))
    return layout.frame(layout.titled(layout.column([sheet, plot]), title, 18), 12)
