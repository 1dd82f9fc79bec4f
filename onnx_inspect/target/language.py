"""From a text to a target, and the gradient of one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..dtypes import Precision
from ..errors import TargetError
from ..labels import Labels, resolve
from ..model import Model
from ..scores import ScoreKind
from .base import Target
from .classes import Index
from .reader import Reader

if TYPE_CHECKING:
    from ..autodiff.table import Rules

TargetLike = Target | str | int | Sequence[int] | Sequence[str]


def parse(target: TargetLike, model: Model, labels: Labels, kind: ScoreKind = "logits") -> Target:
    """A target from its text, an index, one index or name per sample, or a target as it is.

    Raises:
        TargetError: unknown class or output, or a text that is no target.
    """
    if isinstance(target, Target):
        return target
    if isinstance(target, int | np.integer):
        return Index(int(target), kind)
    if not isinstance(target, str | Sequence | np.ndarray):
        raise TargetError(f"{target!r} is no target: give a class, by index or name, one per sample, or a text.")
    if not isinstance(target, str):
        return Index(tuple(_class(t, labels) for t in target), kind)
    text = target.strip()
    if re.fullmatch(r"-?\d+", text):
        return Index(int(text), kind)
    if text != "top" and (found := labels.find(text)) is not None:
        return Index(found, kind)
    return Reader(text, model, labels, kind).target()


def several(text: str) -> list[str]:
    """The targets of a text with ; between them; one between quotes is part of a name."""
    parts = re.findall(r"(?:'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|[^;])+", text)
    return [part.strip() for part in parts if part.strip()] or [text]


def gradient(
    model: Model,
    target: TargetLike,
    wrt: Iterable[str],
    *,
    rules: Rules | None = None,
    precision: Precision = "float32",
    score: ScoreKind = "logits",
) -> Model:
    """The model with the gradient of a target's score added: one run gives prediction, score and gradients.

    Args:
        model: the model; unchanged. `expose` tensors first if their values are wanted too.
        target: what is explained, as in every method.
        wrt: tensors to differentiate with respect to, by name.
        rules: the table of rules, None for `RULES`.
        precision: of the gradients of half precision: "float32", or "model" for that of the model itself.
        score: "logits" explains the score before a final softmax or sigmoid, "output" the output itself.

    Returns:
        A model with the outputs of `model`, `score` of shape (N,), and `gradient.<tensor>` per tensor of `wrt`.
        A class by index or name adds the input `target.index`, int64 of shape (N,): one model serves every class.

    Raises:
        LayerError: no such tensor.
        TargetError: no such target, or it does not depend on one of the tensors.
        MissingRule: an operator in between has no rule.
    """
    from ..autodiff.gradient import differentiate

    known = resolve(model.metadata, None)[0]
    return differentiate(model, parse(target, model, known, score), wrt, rules=rules, precision=precision)


def _class(target: str | int, labels: Labels) -> int:
    """A class by index, in digits or not, or by name."""
    if isinstance(target, str):
        return int(target) if re.fullmatch(r"-?\d+", target.strip()) else labels.index(target)
    if not isinstance(target, int | np.integer):
        raise TargetError(f"{target!r} is no class: give its index or its name.")
    return int(target)
