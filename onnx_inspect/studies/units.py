"""What each unit of a layer responds to, and how often, over any number of photos."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from .. import charts, structure
from ..finding import Finding
from ..methods.inputs import ModelLike
from ..photos import tables
from ..photos.source import gather
from ..responses.strongest import Watched, watch
from ..surveys.survey import Over, Survey
from .registry import study

SHOWN = 20
LISTED = 1000


@study
def units(
    model: ModelLike,
    photos: Any,
    *,
    layer: str = "auto",
    top: int = 9,
    out: str | Path | None = None,
    **how: Unpack[Over],
) -> Finding:
    """Units: how often each fires over all photos, for which class, and where it is strongest.

    A unit is a channel of a map, or an element of a vector. It fires where it is above 0. In one pass over the photos,
    whose memory does not grow with their number, each unit's strongest places are found (one per photo; of equal ones
    the first), on which share of the photos and of all positions it fires, its mean, standard deviation, least and
    greatest value. Dead units never fire; those that always fire do so at every position of every photo, so that their
    rectifier does nothing.

    Selectivity is (m - r) / (m + r), m being the mean activity, what is below 0 counting as 0, for the class that
    activates the unit most and r the mean of those for the others: 1 if only that class does, 0 if all do alike.
    Classes are those of the photos (folders or lists say them), else the predicted ones. Few photos per class make
    units look selective.

    With `out`, that folder gets units.parquet, a row per unit, and strongest.parquet, a row per unit and rank; the pass
    is made in pieces, so that a run that was killed goes on where it was, and gives the same bytes.

    Morcos et al., On the Importance of Single Directions for Generalization, ICLR 2018.

    Args:
        layer: the layer; "auto" takes the last map before the classes.
        top: how many strongest places are kept, per unit.
        out: a folder for the results; None keeps them in memory, as `arrays`.

    Raises:
        LayerError: no such layer.
        PhotoError: no photo can be read.

    Example:
        >>> units("model.onnx", "photos/", out="units").values["dead"]["share"]
    """
    folder = None if out is None else Path(out)
    survey = Survey(model, gather(photos, folder), **how)
    written: list[Path] = []
    with watch(survey, layer, top, folder) as seen:
        arrays = _arrays(seen)
        if folder is not None:
            written = [folder / "units.parquet", folder / "strongest.parquet"]
            _write(seen, survey, arrays, *written)
    values = _values(seen, arrays)
    return survey.finding(
        "units",
        values,
        pictures={"": _picture(seen, arrays, values)},
        arrays={} if written else arrays,
        lines=_lines(seen, values),
        layer=seen.layer.name,
        params={"layer": seen.layer.name, "top": top},
        written=written,
    )


def _arrays(seen: Watched) -> dict[str, NDArray[Any]]:
    """What was found, one row per unit."""
    tally = seen.tally
    selectivity, kind = tally.selectivity()
    return {
        "fires_on": tally.fires_on,
        "fires_at": tally.fires_at,
        "mean": tally.mean,
        "std": tally.std,
        "min": tally.low,
        "max": tally.value[:, 0],
        "selectivity": selectivity,
        "class": kind,
        "photo": tally.photo,
        "place": tally.place,
        "value": tally.value,
    }


def _write(seen: Watched, survey: Survey, arrays: dict[str, NDArray[Any]], units: Path, strongest: Path) -> None:
    import pyarrow as pa

    tally = seen.tally
    count, top = tally.value.shape
    columns = {"unit": pa.array(np.arange(count))} | {k: pa.array(v) for k, v in arrays.items() if v.ndim == 1}
    columns["selectivity"] = pa.array(arrays["selectivity"], from_pandas=True)
    columns["class"] = tables.texts(seen.names.get(int(k)) for k in arrays["class"])
    table = pa.table(columns)
    tables.write(units, table.schema, [table])
    there = np.flatnonzero(tally.photo >= 0)
    numbers, places = tally.photo.ravel()[there], tally.place.ravel()[there]
    at = np.stack(np.unravel_index(places, seen.map), 1) if seen.map else np.empty((len(there), 0), np.int64)
    axes = ["row", "column"] if at.shape[1] == 2 else [f"position_{i}" for i in range(at.shape[1])]
    table = pa.table(
        {
            "unit": there // top,
            "rank": there % top,
            "value": tally.value.ravel()[there],
            "photo": numbers,
            "path": tables.texts(survey.photos.name(int(i)) for i in numbers),
            "label": tables.texts(survey.photos.label(int(i)) for i in numbers),
            **{name: at[:, i] for i, name in enumerate(axes)},
        }
    )
    tables.write(strongest, table.schema, [table])


def _values(seen: Watched, arrays: dict[str, NDArray[Any]]) -> dict[str, Any]:
    tally = seen.tally
    count = len(tally.mean)
    known = np.flatnonzero(np.isfinite(arrays["selectivity"]))
    most = known[np.argsort(-arrays["selectivity"][known], kind="stable")][:SHOWN]

    def listed(which: NDArray[np.bool_]) -> dict[str, Any]:
        found = np.flatnonzero(which)
        return {"count": len(found), "share": len(found) / count, "units": found[:LISTED].tolist()}

    return {
        "units": count,
        "positions": list(seen.map),
        "photos": tally.photos,
        "dead": listed(tally.fired == 0),
        "always": listed(tally.firing == tally.photos * tally.positions),
        "fires_on": _spread(tally.fires_on),
        "fires_at": _spread(tally.fires_at),
        "selectivity": {
            "by": seen.by or None,
            "classes": {seen.names[k]: n for k, (n, _) in tally.classes.items()},
            **(_spread(arrays["selectivity"][known]) if len(known) else {}),
            "most": [
                {
                    "unit": int(u),
                    "selectivity": float(arrays["selectivity"][u]),
                    "class": seen.names[int(arrays["class"][u])],
                    "fires_on": float(tally.fires_on[u]),
                }
                for u in most
            ],
        },
    }


def _spread(values: NDArray[Any]) -> dict[str, float]:
    low, median, high = np.percentile(values, (10, 50, 90))
    return {"median": float(median), "10 %": float(low), "90 %": float(high)}


def _lines(seen: Watched, values: dict[str, Any]) -> list[str]:
    size = structure.sizes(seen.map)
    where = f"{values['units']} units of {size} positions" if seen.map else f"{values['units']} units"
    dead, always, kinds = values["dead"], values["always"], values["selectivity"]
    lines = [
        f"layer      '{seen.layer.name}': {where}, over {values['photos']} photos",
        f"fires      the median unit on {values['fires_on']['median']:.0%} of the photos, at "
        f"{values['fires_at']['median']:.1%} of all positions",
        f"dead       {_counted(dead)}",
        f"always on  {_counted(always)}",
    ]
    if kinds["most"]:
        source = {"label": "by label", "prediction": "by prediction"}[seen.by]
        lines.append(f"selective  median {kinds['median']:.2f}, {len(kinds['classes'])} classes, {source}")
        lines += [f"           unit {m['unit']:<5} {m['selectivity']:.2f}  {m['class']}" for m in kinds["most"][:5]]
    return lines


def _counted(found: dict[str, Any]) -> str:
    first = ", ".join(map(str, found["units"][:8])) + (", ..." if found["count"] > 8 else "")
    return f"{found['count']} ({found['share']:.1%})" + (f": {first}" if found["count"] else "")


def _picture(seen: Watched, arrays: dict[str, NDArray[Any]], values: dict[str, Any]) -> NDArray[np.uint8]:
    dead, always, kinds = values["dead"], values["always"], values["selectivity"]
    draw = [
        charts.histogram(
            100 * arrays["fires_on"],
            title=f"{dead['share']:.1%} of the units never fire, {always['share']:.1%} always do",
            xlabel="% of photos on which a unit fires",
            ylabel="units",
        ),
        charts.histogram(
            100 * arrays["fires_at"], title="Sparseness", xlabel="% of positions at which a unit fires", ylabel="units"
        ),
    ]
    if kinds["most"]:
        known = arrays["selectivity"][np.isfinite(arrays["selectivity"])]
        source = {"label": "of the photos", "prediction": "as predicted"}[seen.by]
        draw += [
            charts.histogram(
                known,
                title=f"Selectivity for {len(kinds['classes'])} classes, {source}",
                xlabel="0: all classes alike, 1: one class only",
                ylabel="units",
            ),
            charts.bars(
                {f"{m['unit']}  {m['class']}": m["selectivity"] for m in kinds["most"]},
                title="The most selective units, and their classes",
                xlabel="selectivity",
            ),
        ]
    title = f"{values['units']} units of '{seen.layer.name}' over {values['photos']} photos"
    return charts.figure(draw, title=title, columns=2)
