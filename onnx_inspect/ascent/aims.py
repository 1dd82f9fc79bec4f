"""What is to be climbed: classes, units, channels and directions by what people call them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tokenize import TokenError
from typing import TYPE_CHECKING

import numpy as np

from .. import depth
from ..errors import InputError
from ..target import Index, Target, Top
from .easel import GREY, Easel
from .objective import Direction, channels

if TYPE_CHECKING:
    from numpy.typing import NDArray

FEW = 10  # classes that are all shown when nobody chooses
FIRST = 9  # channels of a layer that are shown when nobody chooses


def aims_of(
    easel: Easel, target: Sequence[str], layer: str, channel: Sequence[int], direction: str, cosine: bool
) -> dict[str, Target]:
    """Targets by what people call them; where nobody names any, some are chosen, and notes say so.

    Args:
        easel: the model.
        target: classes, units.
        layer: of channels or a direction.
        channel: channels of the layer.
        direction: a .npy file with a number per channel.
        cosine: see `Direction`.

    Raises:
        TargetError: no such class.
        LayerError: no such layer.
        InputError: no such channel, or no such direction.
    """
    texts = [target] if isinstance(target, str | int) else list(target)
    aims: dict[str, Target] = {}
    for text in texts:
        easel.aim(text)
        aims |= _class(easel, easel.target)
    if layer or len(channel) or direction:
        aims |= _of_layer(easel, layer, channel, direction, cosine)
    return aims or _default(easel)


def _default(easel: Easel) -> dict[str, Target]:
    if easel.scores is None:
        easel.notes.append("target: the model has no row of class scores, so channels are shown (--target, --layer)")
        return _of_layer(easel, "auto", (), "", cosine=False)
    count = max(easel.scores.count or FEW + 1, 2)
    if count <= FEW:
        easel.notes.append(f"target: all {count} classes (--target CLASS)")
        return {k: v for c in range(count) for k, v in _class(easel, Index(c, easel.score)).items()}
    found = _class(easel, Top(1, easel.score))
    easel.notes.append(f"target: {next(iter(found))}, what the model sees in plain grey (--target CLASS)")
    return found


def _class(easel: Easel, target: Target) -> dict[str, Target]:
    """A class that stays what it is while the picture changes; others as they are."""
    if isinstance(target, Top):
        easel.target = target
        [index] = easel.explained(easel.look(np.full((*easel.size, 3), GREY)))
        assert index is not None
        target = Index(index, easel.score)
    if isinstance(target, Index):
        if not isinstance(target.index, int):
            raise InputError("One picture is of one class: name several targets one by one (-t 1 -t 2).")
        return {f"{easel.labels.name(target.index)} ({target.index})": target}
    return {str(target): target}


def _of_layer(easel: Easel, name: str, channel: Sequence[int], direction: str, cosine: bool) -> dict[str, Target]:
    """Directions in a layer: one from a file, or channels."""
    if direction and len(channel):
        raise InputError("A direction has a number for every channel: give either (--direction, --channel).")
    if direction and not name:
        choice = depth.features(easel.model, easel.explained_tensor)
        easel.notes.append(choice.reason)
        chosen = choice.layer
    else:
        chosen = easel.layer(name or "auto")
    count = channels(easel.model, chosen.tensor)
    if direction:
        return {f"{Path(direction).stem} in {chosen.name}": Direction(chosen.tensor, _vector(direction, count), cosine)}
    if not len(channel):
        channel = range(min(FIRST, count))
        if count > FIRST:
            easel.notes.append(f"channels: the first {FIRST} of {count} in '{chosen.name}' (--channel K)")
    for k in channel:
        if not 0 <= k < count:
            raise InputError(f"'{chosen.name}' has {count} channels, counted from 0: there is no {k} (--channel).")
    rows = np.eye(count, dtype=np.float32)
    return {f"{chosen.name}[{k}]": Direction(chosen.tensor, rows[k], cosine) for k in channel}


def _vector(path: str, count: int) -> NDArray[np.float32]:
    try:
        mapped = np.lib.format.open_memmap(path, mode="r")  # reads the header alone, and no pickles
    except OSError as error:
        raise InputError(f"The direction '{path}' cannot be read: {error.strerror} (--direction).") from error
    except (ValueError, TypeError, LookupError, OverflowError, SyntaxError, TokenError) as error:
        raise InputError(
            f"The direction '{path}' cannot be read: that is no array of numbers as numpy.save writes it (--direction)."
        ) from error
    if mapped.size != count:
        raise InputError(
            f"The direction '{path}' holds {mapped.size} numbers, the layer has {count} channels "
            "(--direction, --layer)."
        )
    with np.errstate(over="ignore"):
        found = mapped.ravel().astype(np.float32) if mapped.dtype.kind in "fiu" else np.full(count, np.nan, np.float32)
    if not np.isfinite(found).all():
        raise InputError(f"The direction '{path}' holds {mapped.dtype}s that are no finite numbers (--direction).")
    return found
