"""The strongest patches of a layer's units, and what of them the units responded to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from .. import image
from ..errors import InputError
from ..finding import Finding
from ..image import Picture
from ..methods.inputs import ModelLike
from ..photos.source import gather
from ..responses.picture import Drawing
from ..responses.strongest import Watched, watch
from ..surveys.survey import Over, Survey
from .registry import study

PAGE = 16
"""Channels on a page."""
DEFAULT = 9


@study
def patches(
    model: ModelLike,
    photos: Any,
    *,
    layer: str = "auto",
    channel: Sequence[str] | Sequence[int] = (),
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
            the most standard deviations above their mean; "all" shows every one, sixteen on a page.
        top: how many places are shown, per channel.
        out: a folder for the results; None keeps all pages in memory.

    Raises:
        LayerError: no such layer.
        InputError: no such channel.
        PhotoError: no photo can be read.

    Example:
        >>> patches("model.onnx", "photos/", layer="features.7", channel=[3, 17]).save("patches")
    """
    folder = None if out is None else Path(out)
    survey = Survey(model, gather(photos, folder), **how)
    pictures: dict[str, Picture] = {}
    written: list[Path] = []
    found: list[dict[str, Any]] = []
    with watch(survey, layer, top, folder) as seen:
        channels = _channels(survey, seen, channel)
        drawing = Drawing(survey, seen)
        advance = survey.progress("patches", len(channels)) if survey.progress is not None else lambda n: None
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
    survey.notes += drawing.notes
    return survey.finding(
        "patches",
        {"field": {"height": drawing.cutter.full[0], "width": drawing.cutter.full[1]}, "channels": found},
        pictures=pictures,
        lines=_lines(seen, found, drawing.cutter.full),
        layer=seen.layer.name,
        params={"layer": seen.layer.name, "channel": channels, "top": top},
        written=written,
    )


def _channels(survey: Survey, seen: Watched, given: Sequence[str] | Sequence[int]) -> list[int]:
    count = len(seen.tally.mean)
    given = [given] if isinstance(given, str) else given
    if list(given) == ["all"]:
        return list(range(count))
    if wrong := [k for k in given if not str(k).isdecimal() or int(k) >= count]:
        raise InputError(
            f"'{seen.layer.name}' has no channel {wrong[0]}: they are numbered 0 to {count - 1} (--channel)."
        )
    if given:
        return list(dict.fromkeys(map(int, given)))
    best = np.argsort(-seen.tally.prominence, kind="stable")[:DEFAULT]
    survey.notes.append(
        f"channels: the {len(best)} of {count} whose strongest places stand out most from their mean "
        "(--channel NUMBER, --channel all)"
    )
    return sorted(best.tolist())


def _lines(seen: Watched, found: Sequence[dict[str, Any]], full: tuple[int, int]) -> list[str]:
    lines = [
        f"layer    '{seen.layer.name}': {len(seen.tally.mean)} channels, {seen.tally.photos} photos",
        f"field    {full[0]}×{full[1]} pixels of the input",
    ]
    for one in found[:PAGE]:
        kind = f"  {one['class']} {one['selectivity']:.2f}" if one["class"] else ""
        lines.append(f"channel  {one['channel']:<5} max {one['max']:<8.4g} fires on {one['fires_on']:>4.0%}{kind}")
    return [*lines, f"         and {len(found) - PAGE} more"] if len(found) > PAGE else lines
