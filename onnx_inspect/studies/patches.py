"""The strongest patches of a layer's units, and what of them the units responded to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from .. import image
from ..errors import InputError
from ..fields import Fields
from ..finding import Finding
from ..image import Picture
from ..methods.inputs import ModelLike
from ..preprocess import Preprocessing
from . import sheet
from .projection import RULES, Projection, drawn
from .registry import study
from .sheet import Frame
from .strongest import Watched, watch
from .survey import Over, Survey

PAGE = 16
"""Channels on a page."""
TOGETHER = 8
"""Activations that are projected in one go."""
DEFAULT = 9
HEADS = {"deconvnet": "deconvnet", "guided": "guided backprop"}


@study
def patches(
    model: ModelLike,
    photos: Any,
    *,
    layer: str = "auto",
    channel: Sequence[int] = (),
    every: bool = False,
    top: int = 9,
    out: str | Path | None = None,
    **how: Unpack[Over],
) -> Finding:
    """Patches: where each channel is strongest over all photos, and what it saw there, by deconvnet.

    In one pass over the photos the strongest places of every channel are found, one per photo. Each is shown as its
    exact receptive field, cut out of the photo in full resolution: pixels outside of it do not change the activation.
    It is grey where the field leaves what the model sees. Beside it stands the same part of the deconvnet projection of
    this single activation: all others of the layer are zero, pooling is undone by its switches, rectifiers rectify what
    comes back, filters are transposed. Then guided backprop of the same. There grey is 0, and contrast is each
    patch's own. For elements of a vector the patch is all that the model sees.

    Models that bend in other ways (GELU, SiLU, ...) have no rectifiers to work backwards: both projections are then
    the gradient through these, scaled by the activation.

    Zeiler & Fergus, Visualizing and Understanding Convolutional Networks, ECCV 2014, figure 2.

    Args:
        layer: the layer; "auto" takes the last map before the classes.
        channel: the channels to show; by default the nine that stand out most: whose weakest place of those shown lies
            the most standard deviations above their mean.
        every: show every channel, sixteen on a page.
        top: how many places are shown, per channel.
        out: a folder for the results; None keeps all pages in memory.

    Raises:
        LayerError: no such layer.
        InputError: no such channel.
        PhotoError: no photo can be read.

    Example:
        >>> patches("model.onnx", "photos/", layer="features.7", channel=[3, 17]).save("patches")
    """
    survey = Survey(model, photos, **how)
    folder = None if out is None else Path(out)
    seen = watch(survey, layer, top, folder)
    channels = _channels(survey, seen, channel, every)
    drawing = _Drawing(survey, seen)
    advance = survey.progress("patches", len(channels)) if survey.progress is not None else lambda n: None
    pictures: dict[str, Picture] = {}
    written: list[Path] = []
    found: list[dict[str, Any]] = []
    pages = [channels[i : i + PAGE] for i in range(0, len(channels), PAGE)]
    for number, these in enumerate(pages, 1):
        title = f"'{seen.layer.name}' over {seen.tally.photos} photos"
        title += f", page {number} of {len(pages)}" if len(pages) > 1 else ""
        picture, records = drawing.page(these, title)
        found += records
        advance(len(these))
        if folder is not None and number > 1:
            written.append(folder / f"patches.page-{number}.png")
            image.write(written[-1], picture)
        else:
            pictures[f"page-{number}" if number > 1 else ""] = picture
    seen.finish()
    survey.notes += drawing.notes
    return survey.finding(
        "patches",
        {"field": {"height": drawing.full[0], "width": drawing.full[1]}, "channels": found},
        pictures=pictures,
        lines=_lines(seen, found, drawing.full),
        layer=seen.layer.name,
        params={"layer": seen.layer.name, "channel": channels, "top": top},
        written=written,
    )


def _channels(survey: Survey, seen: Watched, given: Sequence[int], every: bool) -> list[int]:
    count = len(seen.tally.mean)
    if every:
        return list(range(count))
    if wrong := [k for k in given if not 0 <= k < count]:
        raise InputError(
            f"'{seen.layer.name}' has no channel {wrong[0]}: they are numbered 0 to {count - 1} (--channel)."
        )
    if given:
        return list(dict.fromkeys(given))
    best = np.argsort(-seen.tally.prominence, kind="stable")[:DEFAULT]
    survey.notes.append(
        f"channels: the {len(best)} of {count} whose strongest places stand out most from their mean "
        "(--channel NUMBER, --every)"
    )
    return sorted(best.tolist())


@dataclass(frozen=True)
class _Place:
    """One of a unit's strongest places: its field in pixels of the input (`box`) and of the photo (`part`)."""

    unit: int
    rank: int
    photo: int
    value: float
    index: tuple[int, ...]
    position: tuple[int, ...]
    box: tuple[int, int, int, int]


class _Drawing:
    """Draws places: photos are read again, activations projected."""

    def __init__(self, survey: Survey, seen: Watched) -> None:
        assert isinstance(survey.preprocessing, Preprocessing)
        self.survey, self.seen, self.preprocessing = survey, seen, survey.preprocessing
        self._fields: Fields | None = None
        self.extent = self.preprocessing.size
        if seen.map:
            sample = survey.sample(np.zeros((*self.extent, 3), np.uint8))
            sizes = {survey.input.name: (1, *sample.shape)}
            name = seen.layer.tensor
            self._fields = Fields(survey.model, name, sizes, input=survey.input.name, layout=self.preprocessing.layout)
        middle = int(np.ravel_multi_index([n // 2 for n in seen.map], seen.map)) if seen.map else 0
        x0, y0, x1, y1 = self._box(seen.index(0, middle))
        self.full = (y1 - y0, x1 - x0)
        self.projection = Projection(survey, seen.layer.tensor, seen.shape)
        self.rules = list(RULES) if self.projection.pixels is not None else []
        self.notes = [*self.projection.notes, *(self._fields.notes if self._fields is not None else ())]

    def _box(self, index: tuple[int, ...]) -> tuple[int, int, int, int]:
        return self._fields.box(index) if self._fields is not None else (0, 0, self.extent[1], self.extent[0])

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
        shape = Frame(self.full, self.extent, (0, 0, 1, 1)).place(np.zeros((1, 1, 3), np.uint8), (0, 0, 1, 1)).shape
        for unit in channels:
            mine = sorted(key for key in tiles if key[0] == unit)
            grids = [[tiles[key][k] for key in mine] for k in range(1 + len(self.rules))]
            summary = self._summary(unit, [records[key] for key in mine])
            blocks.append(sheet.block(self._title(summary), grids, self.seen.tally.value.shape[1], shape))
            found.append(summary)
        heads = ["strongest patches", *(HEADS[rule] for rule in self.rules)]
        return sheet.page(blocks, heads, title), found

    def _places(self, unit: int) -> Iterator[_Place]:
        """The unit's places; of a rectified layer those where it fires."""
        tally = self.seen.tally
        least = 0 if tally.low.min() >= 0 else -np.inf
        for rank, (value, photo, place) in enumerate(
            zip(tally.value[unit], tally.photo[unit], tally.place[unit], strict=True)
        ):
            if photo >= 0 and value > least:
                index = self.seen.index(unit, place)
                position = self.seen.position(place)
                yield _Place(unit, rank, int(photo), float(value), index, position, self._box(index))

    def _draw(self, places: Sequence[_Place]) -> Iterator[tuple[_Place, list[Picture], dict[str, Any]]]:
        photos = {i: self.survey.photos.read(i) for i in {p.photo for p in places}}
        inputs = {i: self.survey.sample(photo) for i, photo in photos.items()}
        samples = np.stack([inputs[p.photo] for p in places])
        units, values = [p.index for p in places], [p.value for p in places]
        projected = [self.projection(rule, samples, units, values) for rule in self.rules]
        for k, place in enumerate(places):
            frame = Frame(self.full, self.extent, place.box)
            photo = photos[place.photo]
            geometry = self.preprocessing.geometry(photo.shape)
            x0, y0, x1, y1 = part = geometry.support(place.box)
            pictures = [frame.place(photo[y0:y1, x0:x1], geometry.to_model(part))]
            pictures += [frame.place(_cropped(values[k], place.box), place.box) for values in projected]
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
        selectivity, kind = tally.selectivity()
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
        return [first]


def _cropped(values: NDArray[np.float32], box: tuple[int, int, int, int]) -> Picture:
    x0, y0, x1, y1 = box
    return drawn(values[:, y0:y1, x0:x1])


def _lines(seen: Watched, found: Sequence[dict[str, Any]], full: tuple[int, int]) -> list[str]:
    lines = [
        f"layer    '{seen.layer.name}': {len(seen.tally.mean)} channels, {seen.tally.photos} photos",
        f"field    {full[0]}×{full[1]} pixels of the input",
    ]
    for one in found[:PAGE]:
        kind = f"  {one['class']} {one['selectivity']:.2f}" if one["class"] else ""
        lines.append(f"channel  {one['channel']:<5} max {one['max']:<8.4g} fires on {one['fires_on']:>4.0%}{kind}")
    return [*lines, f"         and {len(found) - PAGE} more"] if len(found) > PAGE else lines
