"""From the tensor of scores to predictions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..attribution import Prediction
from ..labels import Labels
from ..model import Model
from ..scores import ScoreKind, Scores, as_floats
from ..target import Element, Target, Top


def rows(found: Scores, kind: ScoreKind, values: NDArray[Any]) -> NDArray[Any]:
    """The class scores as a matrix (N, classes), float64; a lone score as its two sides, class 1 being its own."""
    return found.rows(kind, values)


def probabilities(found: Scores, kind: ScoreKind, rows: NDArray[Any]) -> NDArray[Any]:
    """What a final activation makes of the scores; softmax where the file ends in logits."""
    if kind == "output" and found.activation is not None:
        return np.exp(rows) if found.activation == "log softmax" else rows
    if found.activation == "sigmoid" or found.count == 1:
        sigmoid: NDArray[Any] = 1 / (1 + np.exp(-np.clip(rows, -700, 700)))
        return sigmoid
    if found.activation is None and rows.min() >= 0 and (abs(rows.sum(axis=1) - 1) < 1e-2).all():
        return rows  # scores that are probabilities already
    exponentials: NDArray[Any] = np.exp(rows - rows.max(axis=1, keepdims=True))
    softmax: NDArray[Any] = exponentials / exponentials.sum(axis=1, keepdims=True)
    return softmax


def ranked(
    rows: NDArray[Any], probabilities: NDArray[Any], labels: Labels, most: int | None = None
) -> list[list[Prediction]]:
    """The classes per sample, or the `most` probable, the highest score first; the first among equals."""
    return [
        [one(i, row, p, labels) for i in _best(row, most or len(row))]
        for row, p in zip(rows, probabilities, strict=True)
    ]


def _best(row: NDArray[Any], most: int) -> list[int]:
    """The indices of the largest, the first among equals first."""
    able = np.flatnonzero(row >= np.partition(row, -most)[-most]) if most < len(row) else np.arange(len(row))
    best: list[int] = able[np.argsort(-row[able], kind="stable")][:most].tolist()
    return best


def one(i: int, row: NDArray[Any], probabilities: NDArray[Any], labels: Labels) -> Prediction:
    """A class of a sample."""
    return Prediction(i, labels.name(i), float(row[i]), float(probabilities[i]))


def meant(top: Top, found: Scores, model: Model, labels: Labels) -> tuple[Target, list[str]]:
    """What the most probable class stands for where nothing says that there are classes, and notes on that."""
    if found.count == 1 and found.activation is None and top.rank == 1 and not _said(model, labels):
        number = Element(found.output, (0,) * (len(model.value(found.output).shape or ()) - 1), top.kind)
        note = f"target: {number}, a number as it is: nothing says that it is a yes or no (--target 1 reads it so)"
        return number, [note]
    if found.numbers:
        return top, [f"target: '{found.output}' holds no classes: {top} is its largest (--target NAME[3], say)"]
    return top, []


def _said(model: Model, labels: Labels) -> bool:
    """True if names, or labels beside the scores, say that there are classes."""
    return bool(labels.names) or any(as_floats(v) is None for v in model.ir.graph.outputs)
