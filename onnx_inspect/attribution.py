"""`Attribution`: what a method returns, with everything that was assumed on the way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import files
from .errors import ResultError
from .preprocess import Preprocessing
from .saving import Saved

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .geometry import Geometry
    from .model import Model
    from .signals import Part


NAME = 100  # letters of a sample's name, in those of files


@dataclass(frozen=True)
class Prediction:
    """A class as the model sees it: index, name, score before and probability after the final activation."""

    index: int
    label: str
    score: float
    probability: float


class Photo:
    """A photo as it was read: where from, pixels (H, W, 3), and where the model's input lies on it.

    Args:
        path: None for the picture that an array stands for.
        pixels: or what makes them when they are looked at first.
        geometry: where the model's input lies.
    """

    def __init__(
        self, path: Path | None, pixels: NDArray[np.uint8] | Callable[[], NDArray[np.uint8]], geometry: Geometry
    ) -> None:
        self.path, self.geometry, self._pixels = path, geometry, pixels

    @cached_property
    def pixels(self) -> NDArray[np.uint8]:
        """The photo, (H, W, 3) RGB."""
        return self._pixels() if callable(self._pixels) else self._pixels


@dataclass(frozen=True)
class Shown:
    """What an input that is no picture holds: values (N, ...), words for each sample, a letter per axis.

    Words are the texts of tokens, or the names along the last axis, as those of columns; none where nobody said.
    """

    values: NDArray[Any] | None
    words: list[list[str]]
    layout: str | None = None
    tokens: bool = False


@dataclass
class Attribution(Saved):
    """The result of a method for N samples.

    Attributes:
        method: its name.
        values: the raw result, N on the first axis: a map at the layer's resolution, or numbers shaped like the input.
        heat: (N, h, w), the values as maps over the model's input.
        target: what was explained, in the language of `onnx_inspect.target`.
        explained: the class that was explained per sample, None where the target is no class.
        scores: (N,), the explained score.
        predictions: the most probable classes per sample, best first.
        layer: readable name of the layer, "" where there is none; `tensor` is its exact name.
        photos: the photos, None for samples that came as arrays.
        preprocessing: how photos became inputs, None for inputs that are no pictures.
        provider: the onnxruntime provider that ran.
        model: file name and digest of the model.
        params: parameters of the method.
        options: what was asked for other than the method's defaults; pictures name it.
        notes: what was assumed, a sentence each.
        signed: negative values speak against the target; drawn in two colours.
        percentile: beyond this percentile of the magnitudes a picture shows no difference: single pixels would drown
            the rest; None for the extremes.
        extra: further arrays, N on the first axis.
        tensors: where inputs or tensors are attributed to, the values by their names, each shaped like its tensor.
        shares: where several inputs are attributed to, what part of all magnitudes falls on each, (N,), by its name;
            of methods whose units are those of the inputs, as saliency's are, a share depends on these.
        measures: a number per sample and name, as how far a method's promise was missed.
        shown: the inputs that are no pictures, by name, as far as they are attributed to.
        names: what samples are called, none if nobody named them: files are named by it.
    """

    method: str
    values: NDArray[Any]
    heat: NDArray[Any]
    target: str
    explained: list[Prediction | None]
    scores: NDArray[Any]
    predictions: list[list[Prediction]]
    photos: list[Photo | None]
    preprocessing: Preprocessing | None
    provider: str
    model: dict[str, Any]
    layer: str = ""
    tensor: str = ""
    params: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    signed: bool = False
    percentile: float | None = None
    extra: dict[str, NDArray[Any]] = field(default_factory=dict)
    tensors: dict[str, NDArray[Any]] = field(default_factory=dict)
    shares: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    measures: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    shown: dict[str, Shown] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        layer = f", layer='{self.layer}'" if self.layer else ""
        return f"Attribution({self.method}, target={self.target}{layer}, values{self.values.shape})"

    @cached_property
    def stems(self) -> list[str]:
        """A file name without suffix per sample, unique among them."""
        named = iter(files.stems([p.path for p in self.photos if p is not None and p.path is not None]))
        others = files.short_names(self.names or [f"sample-{i}" for i in range(len(self))], NAME)
        return [
            next(named) if photo is not None and photo.path is not None else other
            for photo, other in zip(self.photos, others, strict=True)
        ]

    def photo(self, i: int = 0) -> Photo:
        """The photo of a sample.

        Raises:
            ResultError: the sample is no picture.
        """
        found = self.photos[i]
        if found is None:
            raise ResultError("This input is not a picture, so there is nothing to draw on: use the values.")
        return found

    def parts(self, i: int = 0) -> list[Part]:
        """The inputs of a sample that are no pictures, with what was attributed to them."""
        from .signals import Part

        return [
            Part(
                name,
                self.tensors[name][i] if self.tensors else self.heat[i],
                None if shown.values is None else shown.values[i],
                shown.words[i] if shown.words else (),
                (shown.layout or "").replace("N", "") or None,
                shown.tokens,
            )
            for name, shown in self.shown.items()
        ]

    def map(self, i: int = 0) -> NDArray[np.float32]:
        """The map of a sample in the coordinates of its photo, (H, W); 0 where the model did not see the photo.

        Raises:
            ResultError: the sample is no picture, or the values have no height and width.
        """
        photo = self.photo(i)
        if not self.drawable:
            raise ResultError(f"Values {self.values.shape[1:]} are no map to draw on the picture: use the values.")
        return photo.geometry.to_photo(self.heat[i])

    @property
    def drawable(self) -> bool:
        """True if there is a map of height and width."""
        return self.heat.ndim == 3

    def has_picture(self, i: int) -> bool:
        """True if a sample can be drawn: a photo under a map, or inputs that are no pictures."""
        if self.photos[i] is not None:
            return self.drawable
        return bool(self.shown) and type(self).overlay is Attribution.overlay

    def overlay(self, i: int = 0) -> NDArray[np.uint8]:
        """The map over the photo, (H, W, 3) RGB; lines, bars or coloured words for what is no photo."""
        from . import layout, render, signals

        if self.photos[i] is None and self.shown:
            return layout.frame(layout.titled(signals.drawing(self.parts(i), self.signed), self.title(i), 17), 12)
        photo = self.photo(i)
        return render.overlay(
            photo.pixels,
            self.map(i),
            signed=self.signed,
            percentile=self.percentile,
            seen=photo.geometry.mask_in_photo(),
        )

    def panel(self, i: int = 0) -> NDArray[np.uint8]:
        """Photo, overlay with colour bar, and the five most probable classes, side by side; other inputs below."""
        from . import layout, render, signals

        top = [(p.label, p.probability) for p in self.predictions[i]]
        if self.photos[i] is None and self.shown:
            return layout.row([self.overlay(i), layout.frame(layout.bars(top), 12)] if top else [self.overlay(i)], 0)
        photo = self.photo(i)
        picture = render.panel(
            photo.pixels,
            self.map(i),
            title=self.title(i),
            top=top,
            signed=self.signed,
            percentile=self.percentile,
            seen=photo.geometry.mask_in_photo(),
        )
        if not self.shown:
            return picture
        others = layout.titled(signals.drawing(self.parts(i), self.signed), self._shared(i), 15)
        return layout.column([picture, layout.frame(others, 12)], 0)

    def title(self, i: int = 0) -> list[str]:
        """Two lines that say what a picture shows."""
        what = self.explained[i]
        subject = f"{what.label} ({what.index})" if what is not None else self.target
        where = f" at {self.layer}" if self.layer else ""
        return [
            f"{self.heading}: {subject}, score {self.scores[i]:.3g}{where}",
            f"{self.model['name']}, {self.provider}",
        ]

    @property
    def heading(self) -> str:
        """The method, with the first three of its options."""
        named = ", ".join(f"{k} {_short(v)}".strip() for k, v in list(self.options.items())[:3])
        return f"{self.method} ({named})" if named else self.method

    def lines(self, i: int = 0) -> list[str]:
        """What the terminal says of a sample before its classes."""
        known = self.explained[i] is None and np.isfinite(self.scores[i])  # that of a class is told with the classes
        score = [f"score {self.scores[i]:.4g} of {self.target}"] if known else []
        measures = [f"{k} unknown" if np.isnan(v[i]) else f"{k} {v[i]:.4g}" for k, v in self.measures.items()]
        return [*score, *self._shared(i), *measures]

    def _shared(self, i: int) -> list[str]:
        """The inputs' shares of the attribution, in a line."""
        told = [f"{name} {100 * share[i]:.3g} %" for name, share in self.shares.items() if np.isfinite(share[i])]
        return [f"of the attribution: {', '.join(told)}"] if told else []


def _short(value: Any) -> str:
    """An option in a few letters, or none where its name has to do."""
    parts = value if isinstance(value, list | tuple) else [value]
    text = "+".join(f"{part:g}" if isinstance(part, float) else str(part) for part in parts)
    return "" if value is True or len(text) > 24 else text


def shares(values: Mapping[str, NDArray[Any]], n: int) -> dict[str, NDArray[np.float64]]:
    """What part of all magnitudes falls on each input, for each of n samples; NaN where all are zero."""
    sums = {k: np.abs(v, dtype=np.float64).reshape(n, -1).sum(axis=1) for k, v in values.items()}
    total = np.sum([*sums.values()], axis=0)
    return {k: np.divide(v, total, out=np.full(n, np.nan), where=total > 0) for k, v in sums.items()}


def identity(model: Model) -> dict[str, Any]:
    """What a manifest says of the model."""
    source = model.source
    return {
        "name": source.name,
        "sha256": source.sha256,
        "producer": source.producer,
        "ir_version": source.ir_version,
        "opset": source.opset,
    }
