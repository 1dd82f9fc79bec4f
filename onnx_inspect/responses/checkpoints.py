"""What `evolve` draws: units and saliency maps, a column per checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import layout
from ..image import Picture
from ..methods.gradients import saliency
from ..surveys.survey import Survey
from ..target import Index
from .cutter import Cutter
from .projection import Projection
from .strongest import Watched

TILE = 88
SALIENCY = 150


def units(
    surveys: Sequence[Survey], watched: Sequence[Watched], channels: Sequence[int], names: Sequence[str], top: int
) -> tuple[Picture, list[dict[str, Any]]]:
    """A row per channel, a column per checkpoint: its strongest patches and projections; and plain data."""
    columns, found = [], []
    for survey, seen, name in zip(surveys, watched, names, strict=True):
        tiles, records = _column(survey, seen, channels, top)
        columns.append(tiles)
        found += [{"checkpoint": name, "channel": k} | record for k, record in zip(channels, records, strict=True)]
    heads = [f"channel {k}" for k in channels]
    sheet = layout.contact_sheet([list(row) for row in zip(*columns, strict=True)], heads, names)
    last = watched[-1]
    title = f"'{last.layer.name}': strongest patch and its deconvnet projection, over {last.tally.photos} photos"
    return layout.frame(layout.titled(sheet, title, 18), 4), found


def _column(
    survey: Survey, seen: Watched, channels: Sequence[int], top: int
) -> tuple[list[Picture], list[dict[str, Any]]]:
    """The units of one checkpoint."""
    projection = Projection(survey, seen.layer.tensor, seen.shape)
    cutter = Cutter(survey, seen, TILE)
    survey.notes += [*projection.notes, *cutter.notes]
    tiles, records = [], []
    for unit in channels:
        strips, places = [], []
        for rank in range(min(top, seen.tally.value.shape[1])):
            value, number, place = (
                float(seen.tally.value[unit, rank]),
                *(int(a[unit, rank]) for a in (seen.tally.photo, seen.tally.place)),
            )
            if number < 0:
                continue
            index = seen.index(unit, place)
            photo, box = survey.photos.read(number), cutter.box(index)
            pair = [cutter.patch(photo, box)[0]]
            if projection.pixels is not None:
                (back,) = projection("deconvnet", survey.sample(photo)[None], [index], [value])
                pair.append(cutter.projected(back, box))
            strip = layout.row(pair, 2)
            caption = f"{value:.3g}  {survey.photos.stem(number)}"
            strips.append(layout.column([strip, layout.line(caption, strip.shape[1], 11)], 1))
            places.append({"photo": survey.photos.name(number), "value": value, "position": list(seen.position(place))})
        tiles.append(layout.row(strips, 4))
        records.append({"places": places})
    return tiles, records


def saliencies(
    surveys: Sequence[Survey], photos: Sequence[int], names: Sequence[str]
) -> tuple[Picture, list[dict[str, Any]]]:
    """A row per photo, a column per checkpoint: the gradient of one class, and what the checkpoint says."""
    rows, found = [], []
    for i in photos:
        tiles: list[Picture] = []
        target: Any = None
        for survey, name in reversed(list(zip(surveys, names, strict=True))):
            sample = survey.sample(survey.photos.read(i))[None]
            result = saliency(
                survey.model,
                sample,
                survey.target if target is None else target,
                engine=survey.engine,
                preprocessing=survey.preprocessing,
                labels=survey.labels,
                score=survey.score,
                precision=survey.precision,
            )
            explained = result.explained[0]
            if target is None and explained is not None:
                target = Index(explained.index, survey.score)
            top = result.predictions[0][0] if result.predictions[0] else None
            said = f"{top.label} {top.probability:.0%}" if top is not None else ""
            tile = layout.fit(result.overlay(0), SALIENCY, SALIENCY)
            tiles.insert(0, layout.column([tile, layout.line(said, tile.shape[1], 12)], 1))
            found.append(
                {"photo": survey.photos.name(i), "checkpoint": name}
                | ({"says": top.label, "probability": round(top.probability, 6)} if top is not None else {})
                | ({"explained": explained.label} if explained is not None else {})
            )
        rows.append(tiles)
    stems = [surveys[-1].photos.stem(i) for i in photos]
    sheet = layout.contact_sheet(rows, stems, names)
    title = "What speaks for the class that is explained (gradient), and below what the checkpoint says"
    return layout.frame(layout.titled(sheet, title, 18), 4), found
