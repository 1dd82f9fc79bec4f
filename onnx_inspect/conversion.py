"""`drift`: what becomes of explanations when a model is converted: quantised, in half precision, exported anew."""

from __future__ import annotations

import csv
import inspect
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from . import files, pairs
from .attribution import Attribution, identity
from .errors import AbsentError, InputError, PhotoError, TargetError
from .finding import Finding
from .methods.inputs import Input, ModelLike, image_input
from .methods.job import How
from .methods.registry import explanation
from .model import Model, load
from .preprocess import Preprocessing
from .scores import ScoreKind, scores
from .target import TargetLike
from .trust.agreement import MEASURES

if TYPE_CHECKING:
    from .image import Picture

CHUNK = 8  # photos whose maps are in memory at the same time
SUMMARISED = (*MEASURES, "score_difference", "agrees")


@dataclass(repr=False)
class Drift(Finding):
    """How the maps of a converted model differ from those of the original.

    A `Finding` whose values hold `rows` and `summary`; `save` writes the sheet of the photos that drifted most, a
    picture of each, a table (.csv) and the record.
    """

    @property
    def rows(self) -> list[dict[str, Any]]:
        """What was measured of each photo, that with the lowest rank correlation first."""
        found: list[dict[str, Any]] = self.values["rows"]
        return found

    @property
    def summary(self) -> dict[str, dict[str, float]]:
        """The mean, min and median of each measure over the photos."""
        found: dict[str, dict[str, float]] = self.values["summary"]
        return found


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
    kind: ScoreKind = how.get("score", "logits")
    counts = [_count(model, kind) for model in models]
    if not shift and None not in counts and counts[0] != counts[1]:
        raise InputError(
            f"The original has {counts[0]} classes, the converted model {counts[1]}: say how their numbers differ, as 1 "
            "where the converted model has a background class in front, -1 where the original has (--shift)."
        )
    own: dict[str, Any] = dict(options or {})
    common = {k: v for k, v in how.items() if k not in ("preprocessing", "labels", "progress")}
    sides = [
        {**own, **common, **_layer(layer), "preprocessing": how.get("preprocessing"), "labels": how.get("labels")},
        {**own, **common, **_layer(converted_layer or layer), "preprocessing": converted_preprocessing},
    ]

    def both(x: Any) -> tuple[Attribution, Attribution]:
        one = explain(models[0], x, target, **sides[0])
        other = explain(models[1], _turned(x, *models), _same(one, target, shift, counts[1]), **sides[1])
        return one, other

    total, chunks = _chunks(photos, models[0])
    advance = how["progress"]("photos", total) if how.get("progress") else lambda n: None  # type: ignore[misc]
    found = _Found(shift, pictures, _stems(photos))
    for start, x in chunks:
        for first, result in _explained(both, start, x, found.skipped):
            found.add(first, *result)
        advance(len(x) if isinstance(x, Sequence | np.ndarray) else total)
    return found.finding(models, explain.__name__, target, own)
