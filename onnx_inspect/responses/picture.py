"""What a page of patches shows: photos are read again, fields cut out, activations projected."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..image import Picture
from ..surveys.survey import Survey
from . import sheet
from .cutter import Cutter
from .projection import TABLES, Projection
from .strongest import Watched

TOGETHER = 8
"""Activations that are projected in one go."""
HEADS = {"deconvnet": "deconvnet", "guided": "guided backprop"}


@dataclass(frozen=True)
class Place:
    """One of a unit's strongest places; `box` is its field, in pixels of the input."""

    unit: int
    rank: int
    photo: int
    value: float
    index: tuple[int, ...]
    position: tuple[int, ...]
    box: tuple[int, int, int, int]


class Drawing:
    """Draws places: photos are read again, activations projected."""

    def __init__(self, survey: Survey, seen: Watched) -> None:
        self.survey, self.seen = survey, seen
        self.cutter = Cutter(survey, seen)
        self.projection = Projection(survey, seen.layer.tensor, seen.shape)
        self.rules = list(TABLES) if self.projection.pixels is not None else []
        self._selectivity = seen.tally.selectivity()
        self._blank = 0

    @property
    def notes(self) -> list[str]:
        """What a user should know of the fields and the projections."""
        found = [*self.projection.notes, *self.cutter.notes]
        if self._blank:
            found.append(
                f"{self._blank} projections are zero everywhere: nothing comes back from these activations, as where a "
                "bound or a quantiser has cut them off (--layer NAME)"
            )
        return found

    def page(self, channels: Sequence[int], title: str) -> tuple[Picture, list[dict[str, Any]]]:
        """A page of channels, and what it shows as plain data."""
        places = [p for unit in channels for p in self._places(unit)]
        tiles: dict[tuple[int, int], list[Picture]] = {}
        records: dict[tuple[int, int], dict[str, Any]] = {}
        ordered = sorted(places, key=lambda p: p.photo)
        for i in range(0, len(ordered), TOGETHER):
            for place, pictures, record in self._draw(ordered[i : i + TOGETHER]):
                tiles[place.unit, place.rank], records[place.unit, place.rank] = pictures, record
        blocks, found = [], []
        for unit in channels:
            mine = sorted(key for key in tiles if key[0] == unit)
            grids = [[tiles[key][k] for key in mine] for k in range(1 + len(self.rules))]
            summary = self._summary(unit, [records[key] for key in mine])
            blocks.append(sheet.block(self._title(summary), grids, self.seen.tally.value.shape[1], self.cutter.shape))
            found.append(summary)
        heads = ["strongest patches", *(HEADS[rule] for rule in self.rules)]
        return sheet.page(blocks, heads, title), found

    def _places(self, unit: int) -> Iterator[Place]:
        """The unit's places; of a rectified layer those where it fires."""
        tally = self.seen.tally
        least = 0 if tally.low.min() >= 0 else -np.inf
        for rank, (value, photo, place) in enumerate(
            zip(tally.value[unit], tally.photo[unit], tally.place[unit], strict=True)
        ):
            if photo >= 0 and value > least:
                index = self.seen.index(unit, place)
                position = self.seen.position(place)
                yield Place(unit, rank, int(photo), float(value), index, position, self.cutter.box(index))

    def _draw(self, places: Sequence[Place]) -> Iterator[tuple[Place, list[Picture], dict[str, Any]]]:
        photos = {i: self.survey.photos.read(i) for i in {p.photo for p in places}}
        inputs = {i: self.survey.sample(photo) for i, photo in photos.items()}
        samples = np.stack([inputs[p.photo] for p in places])
        units, values = [p.index for p in places], [p.value for p in places]
        projected = [self.projection(rule, samples, units, values) for rule in self.rules]
        self._blank += sum(not one.any() for values in projected for one in values)
        for k, place in enumerate(places):
            patch, part = self.cutter.patch(photos[place.photo], place.box)
            pictures = [patch, *(self.cutter.projected(values[k], place.box) for values in projected)]
            record = {
                "photo": self.survey.photos.name(place.photo),
                "label": self.survey.photos.label(place.photo),
                "value": place.value,
                "position": list(place.position),
                "input_box": list(place.box),
                "photo_box": list(part),
            }
            yield place, pictures, record

    def _summary(self, unit: int, places: list[dict[str, Any]]) -> dict[str, Any]:
        tally = self.seen.tally
        selectivity, kind = self._selectivity
        return {
            "channel": unit,
            "max": float(tally.value[unit, 0]),
            "fires_on": float(tally.fires_on[unit]),
            "selectivity": float(selectivity[unit]),
            "class": self.seen.names.get(int(kind[unit])),
            "places": places,
        }

    def _title(self, summary: dict[str, Any]) -> list[str]:
        first = f"{summary['channel']}    max {summary['max']:.4g}, fires on {summary['fires_on']:.0%} of photos"
        if not summary["places"]:
            return [first, "never fires"]
        labels = Counter(place["label"] for place in summary["places"] if place["label"])
        if labels:
            return [first, ", ".join(f"{name} {n}" if n > 1 else name for name, n in labels.most_common())]
        if summary["class"]:
            return [first, f"most for {summary['class']} (selectivity {summary['selectivity']:.2f})"]
        return [first, ""]
