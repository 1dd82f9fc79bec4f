"""A value per input for the trial: photos, or numbers that are made up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import image
from ..engine import Engine
from ..errors import InputError, InspectError
from ..methods.inputs import guess_preprocessing, image_input
from ..model import Model
from ..preprocess import Preprocessing
from ..structure import Spec

MOST = 8  # photos whose gradients are looked at
_OPEN = (16, 512)  # for sizes that nobody knows: words of a text, samples of a sound


def make(
    model: Model, photos: Sequence[Path], flags: Mapping[str, Any], engine: Engine
) -> tuple[dict[str, NDArray[Any]], Preprocessing | None, list[str]]:
    """A value per input: photos, else a smooth picture of random colours, else normal numbers; and notes.

    Raises:
        InputError: photos are given for an input that takes none.
        PhotoError: a photo cannot be read.
    """
    notes: list[str] = []
    first, rng = image_input(model), np.random.default_rng(0)
    preprocessing: Preprocessing | None = None
    try:
        preprocessing, notes = guess_preprocessing(model, **flags)
    except InputError:
        if photos or any(value is not None for value in flags.values()):
            raise
    n = _fixed(model, first) or min(len(photos), MOST) or 1
    batch = first.shape[0] if first.shape else None
    for size in _OPEN:
        found = {spec.name: _numbers(spec, n, batch, size, rng) for spec in model.inputs}
        if preprocessing is not None or _too_many_are_open(model) or _runs(engine, model, found):
            break
    if preprocessing is not None:
        coarse = rng.uniform(0, 255, (n, 8, 8, 3)).astype(np.float32)
        pictures = [image.resize(c, preprocessing.size, "linear").astype(np.uint8) for c in coarse]
        found[first.name] = preprocessing.batch([image.read(p) for p in photos[:MOST]] or pictures)
    return found, preprocessing, notes


def _fixed(model: Model, spec: Spec) -> int | None:
    """How many samples there have to be."""
    if not spec.shape:  # no axes, or nobody knows how many
        return 1
    return spec.shape[0] if isinstance(spec.shape[0], int) and not model.batch_relaxed else None


def _too_many_are_open(model: Model) -> bool:
    return any(sum(not isinstance(d, int) for d in spec.shape[1:]) > 2 for spec in model.inputs)


def _runs(engine: Engine, model: Model, feeds: Mapping[str, NDArray[Any]]) -> bool:
    try:
        return bool(engine.run(model, feeds))
    except InspectError:
        return False


def _numbers(spec: Spec, n: int, batch: int | str | None, size: int, rng: np.random.Generator) -> NDArray[Any]:
    shape = [
        d if isinstance(d, int) else n if i == 0 or (d is not None and d == batch) else size
        for i, d in enumerate(spec.shape if spec.rank_known else (None, None))
    ]
    kind = np.dtype(spec.dtype) if spec.dtype != "unknown" else np.dtype(np.float32)
    return (rng.normal(size=shape) if kind.kind == "f" else np.ones(shape)).astype(kind)
