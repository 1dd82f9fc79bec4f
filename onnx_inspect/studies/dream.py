"""DeepDream: photos in which a layer sees more of what it sees."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Unpack

import numpy as np

from .. import depth, layout
from ..ascent.easel import Easel, whole
from ..ascent.objective import Direction, Energy, channels
from ..ascent.octaves import SMALLEST, climb_octaves
from ..errors import InputError
from ..files import stems
from ..film import Format, interval
from ..finding import Finding
from ..image import Picture
from ..methods.inputs import ModelLike
from ..methods.job import SCORE
from ..naming import Layer
from ..photos.source import gather
from ..surveys.survey import Over
from ..target import Target
from .registry import study

ROWS = 12  # of the overview


@study
def dream(
    model: ModelLike,
    photos: Any,
    *,
    layer: str = "auto",
    channel: int = -1,
    octaves: int = 4,
    octave_scale: float = 1.4,
    steps: int = 15,
    rate: float = 1.5,
    jitter: float = 0.15,
    longest: int = 768,
    seed: int = 0,
    seconds: float = 0.0,
    film: Format = "",
    every: int = 0,
    **how: Unpack[Over],
) -> Finding:
    """DeepDream: a photo that is changed so that a layer sees more of whatever it sees there.

    Ascent on the mean of the squares of the layer's features, or on the mean of one channel, from the photo, in steps
    whose size is set by the mean magnitude of the gradient, under random shifts. It begins with a small photo, and what
    has been dreamt is enlarged and added to the next larger one, so that there is detail of all sizes. A model of one
    input size dreams at that size, and sees the smaller photos enlarged; one of any size at that of the photo.

    Mordvintsev et al., Inceptionism: Going Deeper into Neural Networks, Google Research Blog 2015.

    Args:
        layer: what shall see more; auto takes one in the middle, behind two thirds of the layers that all paths share.
        channel: only this channel of the layer, counted from 0; -1 for all of them.
        octaves: how many sizes.
        octave_scale: from one size to the next.
        steps: at each size.
        rate: pixel steps that a number moves by on average.
        jitter: the most that the photo is shifted by, as a share of its sides; what leaves comes back at the other.
        longest: the longer side of the dream in pixels, for models of any size and photos that are larger.
        seed: of the shifts: the same seed gives the same bytes.
        seconds: how long at the most, for each photo; 0 for as long as it takes.
        film: also write the way there as a film, gif or mp4, or its frames, png; of the first photo.
        every: steps from one frame of the film to the next; 0 for 60 frames.

    Raises:
        LayerError: no such layer.
        InputError: the input is no picture, or takes whole numbers; or a number is out of its range.

    Example:
        >>> dream("model.onnx", ["clouds.jpg"], layer="features.12").save("dream")
    """
    _check(octaves, octave_scale, rate, jitter, longest)
    how.pop("workers", 0)  # dreams come one after the other: each keeps all cores busy
    easel = Easel(model, **how)  # type: ignore[misc]
    found = gather(photos)
    chosen = _middle(easel) if layer == "auto" else easel.layer(layer)
    name = chosen.name if channel < 0 else f"{chosen.name}[{channel}]"
    # What lies behind the layer, a dense layer for maps of one size, say, is not run.
    easel.scores, easel.target = None, _aim(easel, chosen, channel)
    any_size = _takes_any_size(easel, longest)
    every = interval(film, every, octaves * steps)
    pictures: dict[str, Picture] = {}
    records: list[dict[str, Any]] = []
    rows: list[list[Picture]] = []
    frames: list[Picture] = []
    skipped: list[dict[str, str]] = []
    names = stems([found.name(i) for i in range(len(found))])
    for i, photo in found.legible(skipped):
        stem = names[i]
        photo = (
            _limited(easel, photo, longest)
            if any_size
            else easel.preprocessing.inverse(easel.preprocessing.apply(photo))
        )
        dreamt = climb_octaves(
            easel.slope,
            photo,
            steps,
            count=octaves,
            scale=octave_scale,
            seen=None if any_size else easel.size,
            grey=easel.grey,
            rate=rate,
            jitter=jitter,
            seed=seed,
            seconds=seconds,
            every=every if film and not records else 0,
            name=stem,
            progress=easel.progress,
        )
        picture = pictures[stem] = whole(dreamt.pixels)
        frames += dreamt.frames
        easel.notes += [dreamt.ended] if dreamt.ended else []
        before, after = (float(easel.look(p)[SCORE][0]) for p in (photo, picture))
        records.append(
            {
                "photo": found.name(i),
                "picture": stem,
                "size": list(picture.shape[:2]),
                "score_of_photo": before,
                "score": after,
                "history": dreamt.history,
            }
        )
        if len(rows) < ROWS:
            rows.append([photo, picture])
    if len(records) > ROWS:
        easel.notes.append(f"the overview shows the first {ROWS} photos; every dream is a file of its own (PHOTO)")
    return easel.finding(
        "dream",
        {"dreams": records},
        pictures={"": _overview(rows, name)} | pictures,
        frames=frames,
        lines=[
            f"{r['picture']:<28} {name} {r['score_of_photo']:8.3g} in the photo, {r['score']:8.4g} in the dream"
            for r in records
        ],
        layer=chosen.name,
        photos=len(found),
        skipped=skipped,
        params={
            "layer": chosen.name,
            "channel": channel,
            "octaves": octaves,
            "octave_scale": octave_scale,
            "steps": steps,
            "rate": rate,
            "jitter": jitter,
            "longest": longest if any_size else None,
            "seed": seed,
            "seconds": seconds,
            "film": film,
        },
    )


def _check(octaves: int, octave_scale: float, rate: float, jitter: float, longest: int) -> None:
    """InputError for numbers out of their range."""
    for name, wrong, wanted in (
        ("octaves", octaves < 1, "at least 1"),
        ("octave-scale", octave_scale <= 1, "above 1"),
        ("rate", rate <= 0, "above 0"),
        ("jitter", not 0 <= jitter <= 1, "from 0 to 1"),
        ("longest", longest < SMALLEST, f"at least {SMALLEST}"),
    ):
        if wrong:
            raise InputError(f"The {name.replace('-', ' ')} of a dream has to be {wanted} (--{name}).")


def _middle(easel: Easel) -> Layer:
    """The layer behind two thirds of those that all paths share; noted."""
    maps = [c for c in depth.along(easel.model, easel.explained_tensor) if c.role == "spatial"]
    if not maps:
        return easel.layer("auto")
    chosen = maps[round(2 / 3 * (len(maps) - 1))]
    easel.notes.append(f"layer: '{chosen.name}' ({chosen.op_type}), behind two thirds of the network (--layer NAME)")
    return chosen


def _aim(easel: Easel, layer: Layer, channel: int) -> Target:
    if channel < -1:
        raise InputError(f"There is no channel {channel}: they are counted from 0, and -1 means all (--channel).")
    if channel < 0:
        return Energy(layer.tensor)
    count = channels(easel.model, layer.tensor)
    if channel >= count:
        raise InputError(f"'{layer.name}' has {count} channels, counted from 0: there is no {channel} (--channel).")
    return Direction(layer.tensor, np.eye(count, dtype=np.float32)[channel])


def _takes_any_size(easel: Easel, longest: int) -> bool:
    """Whether dreams are as large as photos, or as the model's input; noted."""
    letters, shape = easel.preprocessing.layout, easel.input.shape
    free = len(letters) == len(shape) and not any(isinstance(shape[letters.index(a)], int) for a in "HW")
    if free:
        easel.notes.append(
            f"size: the model takes any, so dreams are as large as photos, up to {longest} (--longest N)"
        )
    else:
        easel.notes.append(
            f"size: photos are brought to {easel.size[0]}x{easel.size[1]}, which the model takes (--resize RULE)"
        )
    return free


def _limited(easel: Easel, photo: Picture, longest: int) -> Picture:
    """A photo of its own size, or smaller, in the colours that the model sees."""
    share = min(1.0, longest / max(photo.shape[:2]))
    height, width = (max(1, round(side * share)) for side in photo.shape[:2])
    made = replace(easel.preprocessing, size=(height, width), resize="squash")
    return made.inverse(made.apply(photo))


def _overview(rows: list[list[Picture]], name: str) -> Picture:
    """Photos and dreams side by side."""
    tiles = [[layout.enlarge(p) for p in row] for row in rows]
    return layout.contact_sheet(tiles, column_titles=["photo", f"more of {name}"])
