"""What methods are given: a model, photos or arrays, and how photos become inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import arrays, geometry, guess, rows
from ..attribution import Photo
from ..errors import InputError, InspectError
from ..model import Model
from ..preprocess import Preprocessing
from ..structure import Spec, normalises
from . import tabular
from .samples import Feeds, Samples, completed, counted, fitted, is_mask, numbered

__all__ = ["Feeds", "Input", "ModelLike", "PhotoLike", "Taken", "guess_preprocessing", "image_input", "read"]

ModelLike = Model | str | Path | bytes
PhotoLike = str | Path
Input = PhotoLike | Sequence[PhotoLike] | NDArray[Any] | Mapping[str, Any]


@dataclass
class Taken:
    """What a model is given.

    Attributes:
        feeds: a value per input.
        photos: a photo per sample, None for what is no picture.
        preprocessing: how photos became inputs, None where there are none.
        notes: what was assumed.
        assumed: the inputs whose values nobody gave.
        samples: what samples and their parts are called.
    """

    feeds: Feeds
    photos: list[Photo | None]
    preprocessing: Preprocessing | None
    notes: list[str]
    assumed: frozenset[str] = frozenset()
    samples: Samples = field(default_factory=lambda: Samples({}))


def read(model: Model, x: Input, preprocessing: Preprocessing | None) -> Taken:
    """Photos and arrays as values of a model's inputs.

    Raises:
        InputError: something is missing, or does not fit.
        PhotoError: a photo cannot be read.
    """
    main = image_input(model)
    samples, left = _opened(model, main, x)
    specs = {s.name: s for s in model.inputs}
    if unknown := [k for k in samples if k not in specs]:
        raise InputError(f"There is no input {unknown[0]!r}: the model has {', '.join(map(repr, specs))}.")
    if main.name not in samples:
        raise InputError(f"The input '{main.name}' has no value; given are {sorted(samples)}.")
    shown = samples[main.name]
    paths = _paths(shown, main, named=isinstance(x, Mapping))
    lead = main.shape[0] if main.shape else None
    feeds = {k: fitted(specs[k], v, lead) for k, v in samples.items() if k != main.name or paths is None}
    n = counted(main, feeds[main.name]) if paths is None else len(paths)
    taken = (
        _of_arrays(model, feeds[main.name], preprocessing) if paths is None else _of_photos(model, paths, preprocessing)
    )
    feeds = taken.feeds | feeds
    for name in [k for k in feeds if k != main.name]:
        feeds[name] = _shared(specs[name], feeds[name], main, n, taken.notes)
    samples.check(feeds, main.name)
    more, notes = completed(model.inputs, feeds, main.name)
    return Taken(
        {k: (feeds | more)[k] for k in specs},
        taken.photos,
        taken.preprocessing,
        left + taken.notes + notes,
        frozenset(more),
        samples,
    )


def _opened(model: Model, main: Spec, x: Input) -> tuple[Samples, list[str]]:
    """Values by input, those in files read as on the command line; and notes on columns left out."""
    if isinstance(x, str | Path) and Path(x).suffix.lower() in rows.SUFFIXES:
        return tabular.samples(rows.read(Path(x)), model.inputs)
    samples = x if isinstance(x, Samples) else Samples(x if isinstance(x, Mapping) else {main.name: x})
    texts = {s.name for s in model.inputs if s.dtype == "unknown"} if isinstance(x, Mapping) else ()
    named = {k: str(v) for k, v in samples.items() if isinstance(v, str | Path) and k not in texts}
    files = {k: name for k, name in named.items() if arrays.is_file(name)}
    values = {k: arrays.read(files[k], k) if k in files else v for k, v in samples.items()}
    names = samples.names
    if main.name in files and not names:
        lead = main.shape[0] if main.shape else None
        names = numbered(Path(files[main.name]).stem, counted(main, fitted(main, values[main.name], lead)))
    return replace(samples, values=values, names=names) if files else samples, []


def _paths(given: Any, main: Spec, *, named: bool) -> list[Path] | None:
    """The photos that a value names, None for an array."""
    if isinstance(given, np.ndarray) or (named and not (is_photo(given) and len(main.shape) == 4)):
        return None
    if not isinstance(given, str | Path | Sequence):
        raise InputError(
            f"{type(given).__name__} is no input: give a photo's path, several, an array, or arrays by name."
        )
    several = [given] if isinstance(given, str | Path) else list(given)
    if strange := [type(p).__name__ for p in several if not isinstance(p, str | Path)]:
        raise InputError(f"A photo is named by its path, not by {strange[0]}: give numbers as one array, (N, ...).")
    if not several:
        raise InputError("There is no photo to explain.")
    if files := [p for p in several if arrays.is_file(str(p)) or Path(p).suffix.lower() in rows.SUFFIXES]:
        raise InputError(f"'{files[0]}' has to be given alone: one file of arrays or rows at a time.")
    return [Path(p) for p in several]


def is_photo(given: Any) -> bool:
    """True for a path, or several."""
    several = given if isinstance(given, list | tuple) else [given]
    return bool(several) and all(isinstance(p, str | Path) for p in several)


def _of_photos(model: Model, paths: Sequence[Path], preprocessing: Preprocessing | None) -> Taken:
    from .. import image

    notes = list[str]()
    if preprocessing is None:
        preprocessing, notes = guess_preprocessing(model)
    pixels = [image.read(p) for p in paths]
    notes += [note for p in paths for note in image.remarks(p)]
    pictures: list[Photo | None] = [
        Photo(p, a, preprocessing.geometry(a.shape)) for p, a in zip(paths, pixels, strict=True)
    ]
    return Taken({image_input(model).name: preprocessing.batch(pixels)}, pictures, preprocessing, notes)


def _of_arrays(model: Model, array: NDArray[Any], preprocessing: Preprocessing | None) -> Taken:
    """Arrays that are pictures get a photo back, so that maps can be drawn on them."""
    notes = list[str]()
    try:
        if preprocessing is None:
            preprocessing = guess_preprocessing(model)[0]
            if array.ndim == 3 and preprocessing.source.startswith("guess"):
                return Taken({}, [None] * len(array), None, [])  # a sequence, rather than grey pictures
            notes.append(
                "the input came as an array, as the model takes it; pictures of it, and what is grey, assume "
                f"{preprocessing.describe()} (preprocessing=)"
            )
        size = preprocessing.extent(array.shape[1:])
    except InspectError:
        return Taken({}, [None] * len(array), preprocessing, notes)
    lies = geometry.squash(size, size)
    photos: list[Photo | None] = [Photo(None, partial(preprocessing.inverse, a.copy()), lies) for a in array]
    return Taken({}, photos, preprocessing, notes)


def _shared(spec: Spec, value: NDArray[Any], main: Spec, n: int, notes: list[str]) -> NDArray[Any]:
    """One value for an entry per sample stands for all of them."""
    lead = main.shape[0] if main.shape else None
    axis = spec.shape.index(lead) if isinstance(lead, str) and lead in spec.shape else 0
    counts = bool(spec.shape) and spec.shape[axis] in (lead, None) and not isinstance(lead, int)
    if n == 1 or not counts or value.ndim <= axis or value.shape[axis] != 1:
        return value
    notes.append(f"'{spec.name}' has one value, which stands for all {n} samples (--input {spec.name}=FILE)")
    return value.repeat(n, axis)


def image_input(model: Model) -> Spec:
    """The main input: the first that looks like a photo, else the first with an entry per sample that is no mask.

    Raises:
        InputError: the model has no inputs.
    """
    if not model.inputs:
        raise InputError("The model has no inputs.")
    pictures = [s for s in model.inputs if s.layout is not None and len(s.layout) == 4]
    return pictures[0] if pictures else min(model.inputs, key=_aside)


def _aside(spec: Spec) -> int:
    """0 for what a model is about; more for numbers, states with their samples on another axis, and masks."""
    elsewhere = bool(spec.shape) and isinstance(spec.shape[0], int) and not all(isinstance(d, int) for d in spec.shape)
    return 2 * is_mask(spec) + (elsewhere or (spec.rank_known and not spec.shape))


def guess_preprocessing(model: Model, preset: str | None = None, **flags: Any) -> tuple[Preprocessing, list[str]]:
    """Preprocessing from flags, the file's metadata, or a guess that the notes own up to."""
    spec = image_input(model)
    plain = model.fact(("normalises", spec.name), lambda: normalises(model.value(spec.name)))

    def made() -> tuple[Preprocessing, list[str]]:
        from .. import detection

        detects = detection.present(model, spec)
        return guess.resolve(spec, model.metadata, plain, detects=detects, preset=preset, **flags)

    if preset is not None or any(value is not None for value in flags.values()):
        return made()
    preprocessing, notes = model.fact("preprocessing", made)
    return preprocessing, list(notes)
