"""Evolution: the same units, saliency maps and layers through the checkpoints of a training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from .. import charts, depth
from ..attribution import identity
from ..errors import InputError, LayerError, PhotoError
from ..features.similarity import bounded, cka, gram
from ..finding import Finding
from ..image import Picture
from ..methods.inputs import ModelLike
from ..naming import Layer
from ..photos.source import gather
from ..responses.checkpoints import saliencies, units
from ..responses.strongest import Watched, watch
from ..surveys.survey import Over, Seen, Survey
from .registry import study

Floats = NDArray[np.float64]


@study
def evolve(
    models: Sequence[ModelLike],
    *,
    photos: Sequence[str] = (),
    layer: str = "auto",
    channel: Sequence[int] = (),
    rows: int = 6,
    top: int = 1,
    target: str | int = "top",
    threshold: float = 0.95,
    compare: int = 500,
    debiased: bool = False,
    **how: Unpack[Over],
) -> Finding:
    """How features come about in training, through checkpoints of the same network, the first one first.

    Three pictures. Units: a row per channel of one layer, a column per checkpoint; each cell is the strongest place of
    this channel over all photos at that checkpoint: the receptive field cut out of the photo, and the deconvnet
    projection of this activation, in which 0 is grey. Saliency: some photos, what each checkpoint says of them, and the
    gradient of one class, that of the last checkpoint unless a target is named. Similarity: linear CKA of each layer
    between neighbouring checkpoints and with the last; maps are averaged over a grid so that no more than 4096 features
    of a photo are compared. A layer has stopped changing at the first checkpoint from which on the CKA of neighbours
    stays at the threshold or above it.

    Zeiler & Fergus, Visualizing and Understanding Convolutional Networks, ECCV 2014, figure 4; Kornblith et al.,
    Similarity of Neural Network Representations Revisited, ICML 2019 (CKA); Raghu et al., SVCCA, NeurIPS 2017 (lower
    layers come to rest first).

    Args:
        photos: the photos, folders, archives or lists to look at; may be given several times.
        layer: the layer whose units are shown; "auto" takes the last map before the classes.
        channel: the channels to show; by default those whose strongest place at the last checkpoint stands out most
            from their mean.
        rows: how many channels, and photos, are shown.
        top: how many of the strongest places of a unit are shown at each checkpoint, one per photo.
        target: the class whose gradient is shown; top is that of the last checkpoint.
        threshold: CKA of neighbours from which on a layer counts as unchanged.
        compare: photos that CKA compares, evenly spread over all.
        debiased: take the unbiased estimate of CKA, which is not too high for few photos.

    Raises:
        InputError: no photos, a single checkpoint, or numbers out of range.
        LayerError: a checkpoint lacks a layer of the last one.
        PhotoError: no photo can be read.

    Example:
        >>> evolve(["epoch1.onnx", "epoch9.onnx"], photos=["photos/"]).save("evolve")
    """
    if len(models) < 2:
        raise InputError("A single checkpoint does not evolve: name two or more, the first one first (MODEL...).")
    if not photos:
        raise InputError("Units and features are seen by what they do on photos: name some (--photos PHOTO).")
    if not 0 < threshold <= 1:
        raise InputError(f"A CKA of {threshold:g} is no threshold: above 0 and at most 1 (--threshold).")
    if rows < 1 or compare < 4:
        raise InputError("There is nothing to show or compare: at least 1 row, and 4 photos (--rows, --compare).")
    given = gather(photos)
    surveys = [Survey(model, given, target, **how) for model in models]
    last = surveys[-1]
    names = _names(surveys)
    layers = depth.along(last.model, last.explained_tensor)
    same = [_alike(last, survey, layers, names) for survey in surveys]
    grams, numbers = _grams(surveys, same, compare)
    if len(numbers) < 4:
        raise PhotoError(
            f"CKA compares four photos or more, and only {len(numbers)} can be read: give more (--photos)."
        )
    similar = np.array([[[cka(a, b, debiased) for b in of] for a in of] for of in zip(*grams, strict=True)])
    watched = [watch(last, layer, top, None)]
    for survey in surveys[-2::-1]:
        (found,) = _alike(last, survey, [watched[0].layer], names)
        watched.insert(0, watch(survey, found.name, top, None))
        if len(watched[0].tally.mean) != len(watched[-1].tally.mean):
            raise LayerError(
                f"'{found.name}' has {len(watched[0].tally.mean)} channels in '{survey.model.source.name}' and "
                f"{len(watched[-1].tally.mean)} in '{last.model.source.name}': checkpoints have to be one network."
            )
    last.skipped[:] = list({s["photo"]: s for s in last.skipped}.values())
    channels = _channels(last, watched[-1], channel, rows)
    unit_sheet, places = units(surveys, watched, channels, names, top)
    shown = [
        numbers[k] for k in np.unique(np.linspace(0, len(numbers) - 1, min(rows, len(numbers))).round().astype(int))
    ]
    saliency_sheet, said = saliencies(surveys, shown, names)
    if len(numbers) < 100 and not debiased:
        last.notes.append(f"CKA over {len(numbers)} photos, fewer than features, is too high (--debiased, --photos)")
    notes = dict.fromkeys(note for survey in reversed(surveys) for note in survey.notes)
    last.notes[:] = [note for note in notes if not note.startswith("classes:")]  # of selectivity, which is not shown
    titles = [c.name for c in layers]
    still = {name: _rest(values, threshold) for name, values in zip(titles, similar, strict=True)}
    return last.finding(
        "evolve",
        {
            "checkpoints": names,
            "units": places,
            "photos": said,
            "layers": [
                {
                    "layer": name,
                    "neighbours": [_number(values[k, k + 1]) for k in range(len(names) - 1)],
                    "last": [_number(v) for v in values[:, -1]],
                    "still_from": names[still[name]] if still[name] is not None else None,  # type: ignore[index]
                }
                for name, values in zip(titles, similar, strict=True)
            ],
        },
        models=[identity(survey.model) for survey in surveys],
        pictures={"": unit_sheet, "saliency": saliency_sheet, "similarity": _curves(similar, titles, names, threshold)},
        arrays={"cka": similar},
        lines=_lines(similar, titles, names, still, threshold, len(numbers)),
        layer=watched[-1].layer.name,
        params={
            "layer": watched[-1].layer.name,
            "channel": channels,
            "top": top,
            "target": str(last.target),
            "threshold": threshold,
            "compare": len(numbers),
            "debiased": debiased,
        },
    )


def _names(surveys: Sequence[Survey]) -> list[str]:
    """What checkpoints are called: file names, numbered where two are alike."""
    stems = [Path(survey.model.source.name).stem for survey in surveys]
    return [stem if stems.count(stem) == 1 else f"{stem} #{k}" for k, stem in enumerate(stems, 1)]


def _alike(last: Survey, other: Survey, layers: Sequence[Layer], names: Sequence[str]) -> list[Layer]:
    """Layers of the last checkpoint in another one, by their readable name or that of their tensor."""
    by_name = {c.name: c for c in other.model.layers}
    by_tensor = {c.tensor: c for c in other.model.layers}
    found = []
    for c in layers:
        twin = by_name.get(c.name) or by_tensor.get(c.tensor)
        if twin is None:
            raise LayerError(
                f"'{other.model.source.name}' has no layer '{c.name}', which '{last.model.source.name}' has: "
                "checkpoints have to be the same network with other weights."
            )
        found.append(twin)
    return found


def _grams(
    surveys: Sequence[Survey], layers: Sequence[Sequence[Layer]], most: int
) -> tuple[list[list[Floats]], list[int]]:
    """Per checkpoint and layer the Gram matrix of the photos that are compared; and which photos these are."""
    count = len(surveys[0].photos)
    which = np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(int)).tolist()
    spans = [(0, count)] if len(which) == count else [(i, i + 1) for i in which]
    if len(which) < count:
        surveys[-1].notes.append(f"CKA compares {len(which)} of {count} photos, evenly spread (--compare NUMBER)")
    grams, numbers = [], list[int]()
    for survey, of in zip(surveys, layers, strict=True):

        def reduce(seen: Seen, survey: Survey = survey, of: Sequence[Layer] = of) -> tuple[list[int], list[Any]]:
            return seen.which, [bounded(seen.found[c.tensor], survey.layout(c.tensor)) for c in of]

        parts = [
            p for _, p, _ in survey.each(spans, [c.tensor for c in of], reduce, name="similarity") if p is not None
        ]
        numbers = [i for which, _ in parts for i in which]
        grams.append([gram(np.concatenate([values[k] for _, values in parts])) for k in range(len(of) if parts else 0)])
    return grams, numbers


def _channels(survey: Survey, seen: Watched, given: Sequence[int], rows: int) -> list[int]:
    count = len(seen.tally.mean)
    if wrong := [k for k in given if not 0 <= k < count]:
        raise InputError(
            f"'{seen.layer.name}' has no channel {wrong[0]}: they are numbered 0 to {count - 1} (--channel)."
        )
    if given:
        return list(dict.fromkeys(given))
    best = np.argsort(-seen.tally.prominence, kind="stable")[:rows]
    survey.notes.append(
        f"channels: the {len(best)} of {count} whose strongest place at the last checkpoint stands out most from their "
        "mean (--channel NUMBER)"
    )
    return sorted(best.tolist())


def _rest(values: Floats, threshold: float) -> int | None:
    """The first checkpoint from which on neighbours are alike, None if the last two are not."""
    alike = [values[a, b] >= threshold for a, b in pairwise(range(len(values)))]
    moving = [k for k, still in enumerate(alike) if not still]
    first = moving[-1] + 1 if moving else 0
    return first if first < len(alike) else None


# How it is told.


def _curves(similar: Floats, titles: Sequence[str], names: Sequence[str], threshold: float) -> Picture:
    steps = range(len(names) - 1)
    near = {t: [float(v[k, k + 1]) for k in steps] for t, v in zip(titles, similar, strict=True)}
    far = {t: v[:, -1].tolist() for t, v in zip(titles, similar, strict=True)}
    low = min(0.0, float(np.nan_to_num(similar).min())) - 0.02
    return charts.figure(
        [
            charts.curves(
                steps,
                near,
                levels={f"threshold {threshold:g}": threshold},
                title="linear CKA with the next checkpoint",
                ticks=[f"{a} → {b}" for a, b in pairwise(charts.shortened(n, 12) for n in names)],
                limits=(low, 1.02),
            ),
            charts.curves(
                range(len(names)), far, title="linear CKA with the last checkpoint", ticks=names, limits=(low, 1.02)
            ),
        ],
        size=(620, 480),
    )


def _lines(
    similar: Floats,
    titles: Sequence[str],
    names: Sequence[str],
    still: dict[str, int | None],
    threshold: float,
    count: int,
) -> list[str]:
    width = min(28, max(map(len, titles)))
    found = [f"{len(names)} checkpoints, {names[0]} to {names[-1]}; linear CKA with the next one over {count} photos:"]
    for title, values in zip(titles, similar, strict=True):
        near = "  ".join(f"{values[k, k + 1]:.2f}" for k in range(len(names) - 1))
        first = still[title]
        rest = (
            f"at {threshold:g} or above from '{names[first]}' on" if first is not None else "still changing at the end"
        )
        if np.isnan(values).any():
            rest = "the same for all photos in a checkpoint, which has no CKA"
        found.append(f"{title[-width:]:{width}s}  {near}  {rest}")
    return found


def _number(value: float) -> float | None:
    return round(float(value), 6) if math.isfinite(value) else None
