"""What methods are given: a model, photos or arrays, and how photos become inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import geometry, guess
from ..attribution import Photo
from ..errors import InputError, InspectError
from ..model import Model
from ..preprocess import Preprocessing
from ..structure import Spec, normalises

ModelLike = Model | str | Path | bytes
PhotoLike = str | Path
Input = PhotoLike | Sequence[PhotoLike] | NDArray[Any] | Mapping[str, NDArray[Any]]
Feeds = dict[str, NDArray[Any]]


def read(
    model: Model, x: Input, preprocessing: Preprocessing | None
) -> tuple[Preprocessing | None, list[Photo | None], Feeds, list[str]]:
    """How photos become inputs, the photos, a value per input, and what was assumed."""
    main = image_input(model)
    if isinstance(x, Mapping | np.ndarray):
        given = x if isinstance(x, Mapping) else {main.name: x}
        names = [s.name for s in model.inputs]
        if unknown := [k for k in given if k not in names]:
            raise InputError(f"There is no input {unknown[0]!r}: the model has {', '.join(map(repr, names))}.")
        feeds = {s.name: _array(s, given[s.name]) for s in model.inputs if s.name in given}
        if main.name not in feeds:
            raise InputError(f"The input '{main.name}' has no value; given are {sorted(given)}.")
        array = feeds[main.name]
        if array.ndim and array.ndim == len(main.shape) - 1 and isinstance(x, np.ndarray):
            feeds[main.name] = array = array[None]
        found, photos, notes = _of_arrays(model, array, preprocessing)
        return found, photos, feeds, notes
    if not isinstance(x, str | Path | Sequence):
        raise InputError(f"{type(x).__name__} is no input: give a photo's path, several, an array, or arrays by name.")
    named = [x] if isinstance(x, str | Path) else list(x)
    if strange := [type(p).__name__ for p in named if not isinstance(p, str | Path)]:
        raise InputError(f"A photo is named by its path, not by {strange[0]}: give numbers as one array, (N, ...).")
    paths = [Path(p) for p in named]
    if not paths:
        raise InputError("There is no photo to explain.")
    from .. import image

    notes = []
    if preprocessing is None:
        preprocessing, notes = guess_preprocessing(model)
    pixels = [image.read(p) for p in paths]
    notes += [note for p in paths for note in image.remarks(p)]
    pictures: list[Photo | None] = [
        Photo(p, a, preprocessing.geometry(a.shape)) for p, a in zip(paths, pixels, strict=True)
    ]
    return preprocessing, pictures, {main.name: preprocessing.batch(pixels)}, notes


def _array(spec: Spec, given: Any) -> NDArray[Any]:
    """The value of an input; whole numbers as floats where the model takes floats: methods compute with them."""
    try:
        value = np.asarray(given)
    except ValueError as error:  # rows of different lengths
        raise InputError(f"The value of '{spec.name}' is no array: {error}.") from error
    if value.dtype.kind not in "OUS" or spec.dtype in ("object", "str", "unknown"):
        return value.astype(spec.dtype) if spec.dtype.startswith("float") and value.dtype.kind in "iub" else value
    raise InputError(
        f"The input '{spec.name}' takes an array of {spec.dtype}, not {type(given).__name__}: only a photo that is "
        "given by itself is named by its path."
    )


def _of_arrays(
    model: Model, array: NDArray[Any], preprocessing: Preprocessing | None
) -> tuple[Preprocessing | None, list[Photo | None], list[str]]:
    """Arrays that are pictures get a photo back, so that maps can be drawn on them."""
    notes = []
    try:
        if preprocessing is None:
            preprocessing = guess_preprocessing(model)[0]
            if array.ndim == 3 and preprocessing.source.startswith("guess"):
                return None, [None] * len(array), []  # a sequence, rather than grey pictures
            notes.append(
                "the input came as an array, as the model takes it; pictures of it, and what is grey, assume "
                f"{preprocessing.describe()} (preprocessing=)"
            )
        pictures = [preprocessing.inverse(a) for a in array]
    except InspectError:
        return preprocessing, [None] * len(array), notes
    return preprocessing, [Photo(None, p, geometry.squash(p.shape[:2], p.shape[:2])) for p in pictures], notes


def image_input(model: Model) -> Spec:
    """The input that takes the photo: the first that looks like one, else the first.

    Raises:
        InputError: the model has no inputs.
    """
    if not model.inputs:
        raise InputError("The model has no inputs.")
    return next((s for s in model.inputs if s.layout is not None and len(s.layout) == 4), model.inputs[0])


def guess_preprocessing(model: Model, preset: str | None = None, **flags: Any) -> tuple[Preprocessing, list[str]]:
    """Preprocessing from flags, the file's metadata, or a guess that the notes own up to."""
    spec = image_input(model)
    value = next(v for v in model.ir.graph.inputs if v.name == spec.name)
    return guess.resolve(spec, model.metadata, normalises(value), preset=preset, **flags)


def channels_first(values: NDArray[Any], layout: str | None) -> NDArray[Any]:
    """(N, C, H, W) from whatever order the layout says; grey pictures without the axis have one channel."""
    if layout is None or layout.startswith("NC"):
        return values
    return np.moveaxis(values, layout.index("C"), 1) if "C" in layout else values[:, None]


def channels_back(values: NDArray[Any], layout: str | None) -> NDArray[Any]:
    """The inverse of `channels_first`."""
    if layout is None or layout.startswith("NC"):
        return values
    return np.moveaxis(values, 1, layout.index("C")) if "C" in layout else values[:, 0]


def positions(layout: str) -> str:
    """The axes of a layout that are neither samples nor channels: "HW"."""
    return layout.replace("N", "").replace("C", "")
