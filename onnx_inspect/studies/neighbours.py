"""Neighbours: the photos that a network takes for most alike."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from .. import layout
from ..errors import InputError
from ..features.cards import OTHER, PLAIN, SAME, card
from ..features.embedding import Embedding, embedded, same_space
from ..features.nearest import Metric, nearest
from ..finding import Finding
from ..image import Picture
from ..methods.inputs import ModelLike
from ..model import Model, load
from ..surveys.survey import Over
from .registry import study

_LISTED = 1000  # queries whose neighbours the record names; arrays have all
_FIRST = 5  # precision is said at this many neighbours, and at all


@study
def neighbours(
    model: ModelLike,
    photos: Any,
    *,
    among: Sequence[str] | str | Path = (),
    layer: str = "auto",
    metric: Metric = "cosine",
    top: int = 10,
    rows: int = 12,
    **how: Unpack[Over],
) -> Finding:
    """The photos nearest to each photo in feature space.

    Two photos are near when a layer, by default what the last layer with weights decides upon, says nearly the same
    of both (Krizhevsky et al. 2012, section 6.1; Zeiler & Fergus 2014). The search is exact: matrix products in blocks
    over the vectors, which may lie on disk, find the candidates, and distances in float64 rank them. A photo is not
    its own neighbour.

    Where labels are known, precision@k is the share of a photo's first k neighbours that have its label, averaged per
    class; beside it stands what chance gives. A class of fewer than k + 1 photos cannot reach 1: `best` says how far.

    The picture is a contact sheet: each photo at the left of its row, then its neighbours with their distances,
    framed green for the same label and red for another.

    Args:
        model: a model, or what `load` takes.
        photos: the photos to find neighbours of, or the folder that embed wrote.
        among: where to look for them: photos, or the folder that embed wrote; none for the photos themselves.
        layer: the layer whose features are compared, "auto" for what the last layer with weights decides upon.
        metric: the distance: "cosine", which is 1 - cos, or "l2".
        top: how many neighbours.
        rows: how many photos the contact sheet shows with their neighbours.
        how: see `Over`.

    Raises:
        InputError: an embedding comes from another model, layer or preprocessing.
        PhotoError: no photo can be read.

    Example:
        >>> neighbours("squeezenet.onnx", "my_dog.jpg", among="holidays.vectors").lines
    """
    if top < 1 or rows < 1:
        raise InputError(f"{top} neighbours of {rows} photos are nothing to show: ask for at least 1 (--top, --rows).")
    loaded = model if isinstance(model, Model) else load(model)
    found = embedded(loaded, photos, layer, how)
    other = found
    if given := among if isinstance(among, str | Path) else list(among):
        other = embedded(loaded, given, found.layer, how)
        same_space(found, other)
    without = found.numbers_in(other)
    if not len(other) - (without >= 0).any():
        raise InputError("One photo alone has no neighbours: name more photos, or others with --among.")
    start = how.get("progress")
    advance = (lambda n: None) if start is None else start("search", len(found) * len(other))
    which, far = nearest(found.vectors, other.vectors, min(top, len(other)), metric, without, advance)
    values: dict[str, Any] = {
        "photos": len(found),
        "among": len(other),
        "precision": _precision(found, other, which, without, sorted({min(_FIRST, top), top})),
        "neighbours": [_record(found, other, i, which[i], far[i]) for i in range(min(len(found), _LISTED))],
    }
    notes = [*other.about["notes"], *_remarks(found, other, without)]
    shown = np.unique(np.linspace(0, len(found) - 1, min(rows, len(found))).astype(int)).tolist()
    if len(shown) < len(found):
        notes.append(f"the picture shows {len(shown)} of {len(found)} photos, evenly spread (--rows)")
    skipped = [*found.about["skipped"], *(other.about["skipped"] if other is not found else [])]
    return found.finding(
        "neighbours",
        values,
        pictures={"": _sheet(found, other, shown, which, far, metric)},
        arrays={"neighbours": which, "distances": far},
        lines=_lines(values, found, other, shown, which, far),
        params={"among": [str(p) for p in _several(among)], "metric": metric, "top": top, "layer": found.layer},
        notes=notes,
        photos=found.about["photos"] + (other.about["photos"] if other is not found else 0),
        skipped=skipped,
    )


def _several(among: Sequence[str] | str | Path) -> list[str | Path]:
    return [among] if isinstance(among, str | Path) else list(among)


def _remarks(found: Embedding, other: Embedding, without: NDArray[np.int64]) -> list[str]:
    """What should be known of the search."""
    notes = []
    if other is not found and (own := int((without >= 0).sum())):
        notes.append(f"{own} of the photos are also among those searched, and no neighbours of themselves (--among)")
    if not (found.labelled and other.labelled):
        notes.append("no labels, so no precision: put photos into a folder per class, or name a list (PHOTO)")
    if len(found) > _LISTED:
        notes.append(f"the record names the neighbours of the first {_LISTED} photos, the arrays those of all (PHOTO)")
    return notes


def _precision(
    found: Embedding, other: Embedding, which: NDArray[np.int64], without: NDArray[np.int64], at: list[int]
) -> dict[str, Any]:
    """Precision at k per class and over all photos with a label, with the best that is possible and chance."""
    if not (found.labelled and other.labelled):
        return {}
    kinds = sorted({*found.labels.kinds, *other.labels.kinds})
    rank = {c: i for i, c in enumerate(kinds)}
    own, theirs = (np.array([*map(rank.get, e.labels.kinds), -1])[e.labels.codes] for e in (found, other))
    size = np.bincount(theirs[theirs >= 0], minlength=len(kinds))
    mine = without >= 0
    members = size[own] - (mine & (theirs[without] == own))  # of a photo's class, without the photo
    chance = members / np.maximum(len(other) - mine, 1)
    hits = (theirs[which] == own[:, None]) & (which >= 0)
    result = {}
    for k in at:
        got = hits[:, :k].sum(axis=1) / k
        best = np.minimum(members / k, 1)
        table = {
            name: {
                "photos": int(rows.sum()),
                "precision": float(got[rows].mean()),
                "best": float(best[rows].mean()),
                "chance": float(chance[rows].mean()),
            }
            for name, rows in [("", own >= 0), *((c, own == rank[c]) for c in kinds)]
            if rows.any()
        }
        result[str(k)] = table.pop("") | {"classes": table}
    return result


def _record(
    found: Embedding, other: Embedding, i: int, which: NDArray[np.int64], far: NDArray[np.float64]
) -> dict[str, Any]:
    near = [
        {"path": other.name(j), "label": other.labels[j], "prediction": other.predictions[j], "distance": float(d)}
        for j, d in zip(which.tolist(), far, strict=True)
        if j >= 0
    ]
    return {"path": found.name(i), "label": found.labels[i], "prediction": found.predictions[i], "neighbours": near}


def _lines(
    values: dict[str, Any],
    found: Embedding,
    other: Embedding,
    shown: list[int],
    which: NDArray[np.int64],
    far: NDArray[np.float64],
) -> list[str]:
    """Precision where it is known, then the neighbours of some photos."""
    lines = []
    for k, row in values["precision"].items():
        lines.append(f"precision@{k}: {row['precision']:.3f} (best {row['best']:.3f}, chance {row['chance']:.3f})")
    if first := next(iter(values["precision"]), ""):
        kinds = values["precision"][first]["classes"]
        width = max(map(len, kinds))
        for name, row in sorted(kinds.items(), key=lambda item: (-item[1]["precision"], item[0]))[:20]:
            best = f" (best {row['best']:.3f})" if row["best"] < 1 else ""
            lines.append(f"  {name:{width}}  {row['precision']:.3f}{best}")
        if len(kinds) > 20:
            lines.append(f"  ... and {len(kinds) - 20} more classes")
    for i in shown:
        near = ", ".join(
            f"{other.stem(j)} {d:.3g}" for j, d in zip(which[i, :5].tolist(), far[i], strict=False) if j >= 0
        )
        lines.append(f"{found.stem(i)}: {near}")
    return lines


def _sheet(
    found: Embedding,
    other: Embedding,
    shown: list[int],
    which: NDArray[np.int64],
    far: NDArray[np.float64],
    metric: Metric,
) -> Picture:
    """A row per photo: the photo, a gap, its neighbours."""

    def kind(e: Embedding, i: int) -> str:
        return e.labels[i] or e.predictions[i] or ""

    lines = []
    for i in shown:
        near = []
        for j, d in zip(which[i, :10].tolist(), far[i], strict=False):
            if j < 0:
                continue
            known = found.labels[i] is not None and other.labels[j] is not None
            colour = (SAME if found.labels[i] == other.labels[j] else OTHER) if known else PLAIN
            near.append(card(other.picture(j), [f"{d:.3f}  {kind(other, j)}", other.stem(j)], colour=colour))
        query = card(found.picture(i), [kind(found, i), found.stem(i)])
        lines.append(layout.row([query, layout.row(near, 6)], 24) if near else query)
    says = {"cosine": "1 - cosine", "l2": "Euclidean distance"}[metric]
    title = [f"The nearest of {len(other)} photos in the features of {found.layer}", f"distance: {says}"]
    return layout.frame(layout.titled(layout.column(lines, 10), title, 18), 12)
