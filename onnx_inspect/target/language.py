"""From a text to a target, and the gradient of one."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Sequence

import numpy as np

from ..autodiff.gradient import Precision, differentiate
from ..autodiff.table import Rules
from ..errors import LayerError, TargetError
from ..labels import Labels, resolve
from ..model import Model
from ..scores import ScoreKind
from .base import Target
from .classes import Index, Top
from .elements import Element

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
    if match := re.fullmatch(r"top(?::(.*))?", text):
        if match[1] is not None and not re.fullmatch(r"[1-9]\d*", match[1]):
            raise TargetError(f"'{text}' means nothing: the most probable class is top:1, the next top:2.")
        return Top(int(match[1] or 1), kind)
    if re.fullmatch(r"-?\d+", text):
        return Index(int(text), kind)
    if (found := labels.find(text)) is not None:
        return Index(found, kind)
    if match := re.fullmatch(r"('(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|[^\[\]'\"]+)\s*\[(.*)\]", text, re.DOTALL):
        name = ast.literal_eval(match[1]) if match[1][0] in "'\"" else match[1].strip()
        if name not in model.values:
            try:
                name = model.layer(name).tensor
            except LayerError as error:
                outputs = ", ".join(f"'{o.name}'" for o in model.outputs)
                raise TargetError(f"There is no output '{name}', nor a layer: the outputs are {outputs}.") from error
        own = kind if model.values[name].is_graph_output() else "output"  # units are explained as they are
        return Element(name, tuple(_axis(part, text) for part in match[2].split(",")), own)
    return Index(labels.index(text), kind)


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
    known = resolve(model.metadata, None)[0]
    return differentiate(model, parse(target, model, known, score), wrt, rules=rules, precision=precision)


def _class(target: str | int, labels: Labels) -> int:
    """A class by index, in digits or not, or by name."""
    if isinstance(target, str):
        return int(target) if re.fullmatch(r"-?\d+", target.strip()) else labels.index(target)
    if not isinstance(target, int | np.integer):
        raise TargetError(f"{target!r} is no class: give its index or its name.")
    return int(target)


def _axis(part: str, text: str) -> int | tuple[int | None, int | None] | None:
    part = part.strip()
    if part == ":":
        return None
    if re.fullmatch(r"-?\d+", part):
        return int(part)
    if match := re.fullmatch(r"(-?\d*):(-?\d*)", part):
        return (int(match[1]) if match[1] else None, int(match[2]) if match[2] else None)
    raise TargetError(f"'{part}' in the target {text} is neither an index nor a slice like 4:8.")
