"""`Head`: how the boxes and scores of all candidates are read from a detector's last tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import formats
from .formats import Stated
from .frontier import Raw
from .lineage import Elements

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Head:
    """The raw head of a detector, with A candidates and C classes.

    Attributes:
        raw: the tensors of boxes and scores.
        boxes: elements (A, 4 b): the numbers of each box; of raw distributions b bins for each.
        scores: elements (A, C), one for each factor of a score: the class, and objectness where there is one.
        plain: likewise, as the model gives them: behind their activation.
        objectness: elements (A,), None where there is none; it is the last factor of the scores then.
        cells: (A, 6), see `formats.corners`; None where candidates belong to no cell of a map.
        size: height and width of the model's input.
        stated: what was stated, or inferred.
        activations: what makes a probability of each factor: "sigmoid", "softmax", "none" if it is one already.
        names: what classes are called: a name per column, "" where it has none.
    """

    raw: Raw
    boxes: Elements
    scores: tuple[Elements, ...]
    plain: tuple[Elements, ...]
    objectness: Elements | None
    cells: Array | None
    size: tuple[int, int]
    stated: Stated
    activations: tuple[str, ...] = ()
    names: tuple[str, ...] = ()

    @property
    def tensors(self) -> list[str]:
        """All tensors that are read."""
        every = [self.boxes, *self.scores, *self.plain]
        return list(dict.fromkeys(leaf.tensor for e in every for leaf in e.leaves))

    @property
    def background(self) -> int | None:
        """The class that means nothing, None if all mean something."""
        return {"first": 0, "last": self.scores[0].numbers.shape[1] - 1}.get(self.stated.background)

    def class_name(self, index: int) -> str:
        """What a class is called."""
        return (self.names[index] if index < len(self.names) else "") or f"class {index}"

    def factors(self, found: Mapping[str, Array]) -> list[Array]:
        """The probabilities that a score is the product of, (N, A, C) each, the class first."""
        return [_probability(kind, e.values(found)) for e, kind in self.given(whole=False)]

    def given(self, *, whole: bool) -> list[tuple[Elements, str]]:
        """What is read of each factor, behind its activation, and the activation that it still lacks, "none" for none.

        Args:
            whole: a product that the graph holds is not to be taken apart.
        """
        if len(self.plain) == len(self.scores):
            parts = zip(self.scores, self.plain, self.activations, strict=True)
            return [(plain, "none" if e.leaves[0].activation else kind) for e, plain, kind in parts]
        if whole:
            return [(e, "none") for e in self.plain]
        return list(zip(self.scores, self.activations, strict=True))

    def numbers(self, found: Mapping[str, Array]) -> Array:
        """The four numbers of each box, (N, A, 4); of distributions the mean."""
        t = self.boxes.values(found)
        return expected(t) if self.stated.format == "dfl" else t

    def corners(self, found: Mapping[str, Array]) -> Array:
        """The boxes (N, A, 4) in pixels of the model's input."""
        t = self.numbers(found) * self.scale
        cells = np.zeros((t.shape[1], 6)) if self.cells is None else self.cells
        return np.stack(formats.corners(self.stated.format, np.moveaxis(t, -1, 0), cells.T), axis=-1)

    @property
    def scale(self) -> Array:
        """From the unit of the four numbers to pixels."""
        height, width = self.size
        sides = (height, width) if self.stated.format == "yxyx" else (width, height)
        return np.array(sides * 2 if self.stated.unit == "share" else (1, 1, 1, 1), float)


def _probability(kind: str, values: Array) -> Array:
    if kind == "softmax":
        values = np.exp(values - values.max(axis=-1, keepdims=True))
        return values / values.sum(axis=-1, keepdims=True)  # type: ignore[no-any-return]
    return 1 / (1 + np.exp(-values.clip(-700, 700))) if kind == "sigmoid" else values


def expected(t: Array) -> Array:
    """The means (..., 4) of four distributions over 0, 1, 2, ..., given by logits (..., 4 b)."""
    z = t.reshape(*t.shape[:-1], 4, -1)
    p = np.exp(z - z.max(axis=-1, keepdims=True))
    return (p / p.sum(axis=-1, keepdims=True)) @ np.arange(z.shape[-1])  # type: ignore[no-any-return]
