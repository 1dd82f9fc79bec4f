"""`drift`: what becomes of explanations when a model is converted: quantised, in half precision, exported anew."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from . import files
from .attribution import Attribution, identity
from .errors import AbsentError, InputError, PhotoError, TargetError
from .maps import channels_back, channels_first
from .methods.inputs import Input, ModelLike, image_input
from .methods.job import How
from .methods.registry import explanation
from .methods.samples import Samples
from .model import Model, load
from .pairs import Drift, Found, Pair
from .preprocess import Preprocessing
from .scores import ScoreKind, scores
from .target import TargetLike

CHUNK = 8  # photos whose maps are in memory at the same time


def drift(
    original: ModelLike,
    converted: ModelLike,
    photos: Input,
    method: str = "gradcam",
    target: TargetLike = "top",
    *,
    layer: str = "auto",
    converted_layer: str = "",
    shift: int = 0,
    options: dict[str, Any] | None = None,
    pictures: int = 8,
    converted_preprocessing: Preprocessing | None = None,
    **how: Unpack[How],
) -> Drift:
    """Explain the same photos by a model and by its converted form, and measure how far the maps differ.

    Both explain the same class, that which the original settles on, each from the photo as it takes it itself. Maps of
    one shape are compared as they are, others in the coordinates of the photo. For each photo there are: spearman, the
    rank correlation; pearson; difference, the largest, raw; scaled_difference, the largest of maps brought to 0 to 1
    (signed ones to -1 to 1); overlap, the intersection over union of the top 20 % of the positions; score_difference,
    the converted score less the original's; agrees, whether the most probable class is the same.

    Args:
        original: a model, or what `load` takes.
        converted: likewise.
        photos: as a method of the original takes them; arrays are turned to the layout of the converted.
        method: what makes the maps: the name of any method that explains.
        target: as for a method.
        layer: the layer of the method, of each model's own choice by "auto".
        converted_layer: its name in the converted model, where it is called otherwise.
        shift: added to the original's class for the converted one, as 1 where it has a background class in front.
        options: further arguments of the method.
        pictures: the photos that drifted most, of which pictures are kept.
        converted_preprocessing: how photos become inputs of the converted model; None for its metadata, or a guess.
        how: as for a method; preprocessing and labels are the original's.

    Raises:
        InputError: no such method, or classes that cannot be matched.
        PhotoError: no photo can be read.

    Example:
        >>> drift("model.onnx", "model_int8.onnx", ["cat.jpg", "dog.jpg"]).save("drift")
    """
    explain = explanation(method)
    if layer != "auto" and "layer" not in inspect.signature(explain).parameters:
        raise InputError(f"'{method}' takes no layer: leave it out, or name a method that does (--layer).")
    models = [m if isinstance(m, Model) else load(m) for m in (original, converted)]
    counts = [_count(model, how.get("score", "logits")) for model in models]
    if not shift and None not in counts and counts[0] != counts[1]:
        raise InputError(
            f"The original has {counts[0]} classes, the converted model {counts[1]}: say what to add to a class of the "
            "original, as 1 where the converted model has a background class in front, -1 where the original has "
            "(--shift)."
        )
    common: Any = (options or {}) | {k: v for k, v in how.items() if k not in ("preprocessing", "labels", "progress")}
    own: list[Any] = [
        common | _at(layer) | {"preprocessing": how.get("preprocessing"), "labels": how.get("labels")},
        common | _at(converted_layer or layer) | {"preprocessing": converted_preprocessing},
    ]

    def both(x: Any) -> tuple[Attribution, Attribution]:
        one = explain(models[0], x, target, **own[0])
        return one, explain(models[1], _turned(x, *models), _same(one, target, shift, counts[1]), **own[1])

    names, parts = _parts(photos, models[0])
    progress = how.get("progress")
    advance = progress("photos", len(names) or 1) if progress is not None else lambda n: None
    found = Found(pictures)
    for start, part in parts:
        for first, one, other in _explained(both, start, part, found.skipped):
            called = names[first : first + len(one)] or one.stems
            found.add([Pair(name, one, other, i, shift) for i, name in enumerate(called)])
        advance(len(part) if names else 1)
    if not found.rows:
        raise PhotoError(found.skipped[0]["reason"] if found.skipped else "There is no photo to explain: name one.")
    params = {"method": method, "target": str(target), "shift": shift, "options": options or {}, "pictures": pictures}
    return found.finding([identity(m) for m in models], params)


# What both models are given.


def _at(layer: str) -> dict[str, str]:
    return {} if layer == "auto" else {"layer": layer}


def _count(model: Model, kind: ScoreKind) -> int | None:
    """How many classes there are, None where the scores are none of classes."""
    with suppress(TargetError):
        return scores(model, kind=kind).count
    return None


def _same(one: Attribution, target: TargetLike, shift: int, count: int | None) -> TargetLike:
    """The classes that the original explained, as numbers of the converted model; a target that is no class stays.

    Raises:
        AbsentError: the converted model has no such class.
    """
    classes = [e.index + shift for e in one.explained if e is not None]
    if len(classes) < len(one):
        return target
    for c in classes:
        if c < 0 or (count is not None and c >= count):
            raise AbsentError(
                f"Class {c - shift} of the original would be {c} of the converted model, which has no such class "
                "(--shift, --target)."
            )
    return classes


def _turned(x: Any, original: Model, converted: Model) -> Any:
    """Arrays as the converted model takes them."""
    one, other = image_input(original), image_input(converted)
    if isinstance(x, Mapping):
        values = {other.name if k == one.name else k: _turned(v, original, converted) for k, v in x.items()}
        return replace(x, values=values) if isinstance(x, Samples) else values
    if isinstance(x, np.ndarray) and {one.layout, other.layout} <= {"NCHW", "NHWC"} and x.ndim == 4:
        return channels_back(channels_first(x, one.layout), other.layout)
    return x


def _parts(photos: Input, model: Model) -> tuple[list[str], Iterator[tuple[int, Any]]]:
    """Names of the samples as far as they are known, and some samples at a time with the number of the first."""
    if isinstance(photos, str | Path):
        photos = [photos]
    if isinstance(photos, np.ndarray) and photos.ndim == len(image_input(model).shape):
        names = [f"sample-{i}" for i in range(len(photos))]
    elif isinstance(photos, list | tuple):
        names = files.stems(photos)
    else:
        return [], iter([(0, photos)])
    return names, ((k, photos[k : k + CHUNK]) for k in range(0, len(photos), CHUNK))


def _explained(
    both: Callable[[Any], tuple[Attribution, Attribution]], start: int, part: Any, skipped: list[dict[str, str]]
) -> Iterator[tuple[int, Attribution, Attribution]]:
    """Some samples as both models explain them; photos that cannot be are left out."""
    try:
        yield start, *both(part)
    except (AbsentError, PhotoError) as error:
        if not isinstance(part, list | tuple):
            raise
        if len(part) == 1:
            skipped.append({"photo": str(part[0]), "reason": str(error)})
            return
        for k, one in enumerate(part):
            yield from _explained(both, start + k, [one], skipped)
