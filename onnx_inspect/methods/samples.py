"""`Samples`: values by input name, and what their parts are called; brought into the form that a model takes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..structure import Spec

Feeds = dict[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Samples(Mapping[str, Any]):
    """Values by input name, and what people call samples, columns and tokens: pictures and tables of results say it.

    Args:
        values: by input: an array, numbers in lists, or one number; for the input that takes photos also their paths.
        names: of the samples.
        columns: of each input, the names of its last axis.
        tokens: the text of each token, by its number: a list, or a dictionary.

    Example:
        >>> oi.saliency("model.onnx", oi.Samples({"ids": ids}, tokens=open("vocab.txt").read().splitlines()))
    """

    values: Mapping[str, Any]  # type: ignore[assignment]
    names: Sequence[str] = ()
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)
    tokens: Sequence[str] | Mapping[int, str] = ()

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.values)

    def __len__(self) -> int:
        return len(self.values)

    def check(self, feeds: Feeds, main: str) -> None:
        """Refuse names of which there are too many or too few.

        Raises:
            InputError: there are, or of an input that is not given.
        """
        if self.names and len(self.names) != len(feeds[main]):
            raise InputError(f"There are {len(self.names)} names for {len(feeds[main])} samples.")
        for name, columns in self.columns.items():
            if name not in feeds or feeds[name].shape[-1:] != (len(columns),):
                size = f"is {feeds[name].shape}" if name in feeds else "is not given"
                raise InputError(f"There are {len(columns)} names for the last axis of '{name}', which {size}.")

    def words(self, name: str, value: NDArray[Any]) -> list[str]:
        """What the elements of one sample are called, along the last axis of a value; none if nobody said."""
        if name in self.columns:
            return list(self.columns[name])
        if not self.tokens or value.dtype.kind not in "iu" or value.ndim != 1:
            return []
        known = self.tokens if isinstance(self.tokens, Mapping) else dict(enumerate(self.tokens))
        return [known.get(int(number), f"[{number}]") for number in value]


def numbered(stem: str, count: int) -> list[str]:
    """Names of the samples that a file holds."""
    return [stem] if count == 1 else [f"{stem}-{i}" for i in range(1, count + 1)]


# One value.


def fitted(spec: Spec, given: Any, lead: int | str | None) -> NDArray[Any]:
    """The value of an input in its type, with the axis of samples; what would change numbers is refused.

    Args:
        spec: the input.
        given: numbers.
        lead: what the graph calls the number of samples.

    Raises:
        InputError: it is no array, or holds what the input's type cannot.
    """
    try:
        value = np.asarray(given)
    except ValueError as error:  # rows of different lengths
        raise InputError(f"The value of '{spec.name}' is no array: {error}.") from error
    if spec.dtype in ("unknown", "str", "object"):
        value = (np.char.decode(value) if value.dtype.kind == "S" else value).astype(object)
    elif value.dtype.kind not in "biuf":
        first = np.ravel(value)[0] if value.size else ""
        raise InputError(
            f"The input '{spec.name}' takes {spec.dtype} numbers, not '{first}': photos are named by their paths only "
            "for the input that takes pictures; numbers are a file, or a list (0.5,1,2)."
        )
    else:
        value = _cast(spec, value)
    if spec.rank_known and (not value.ndim or (not spec.shape and value.size == 1)):
        return value.reshape((1,) * len(spec.shape))
    if spec.rank_known and value.ndim == len(spec.shape) - 1:
        value = np.expand_dims(value, spec.shape.index(lead) if isinstance(lead, str) and lead in spec.shape else 0)
    return value


def _cast(spec: Spec, value: NDArray[Any]) -> NDArray[Any]:
    """Numbers in the type of an input."""
    wanted, kind = np.dtype(spec.dtype), value.dtype.kind
    if value.dtype == wanted or wanted.kind not in "biuf":
        return value
    if wanted.kind in "biu" and kind == "f":
        raise InputError(
            f"The input '{spec.name}' takes {spec.dtype}, whole numbers, not {value.dtype}: round them yourself, if "
            "that is what you want."
        )
    with np.errstate(over="ignore"):
        cast = value.astype(wanted)
    exact = np.isfinite(cast) | ~np.isfinite(value) if wanted.kind == "f" else cast == value
    if not exact.all():
        raise InputError(f"The input '{spec.name}' takes {spec.dtype}, which cannot hold {value[~exact].flat[0]}.")
    return cast


def counted(spec: Spec, value: NDArray[Any]) -> int:
    """How many samples the main input holds.

    Raises:
        InputError: it holds none.
    """
    if not value.ndim or not len(value):
        what = "holds no samples" if value.ndim else "is a single number, which has no samples to tell apart"
        raise InputError(f"The input '{spec.name}' {what}: give an array (N, ...).")
    return len(value)


# The values that nobody gave.


def completed(inputs: Sequence[Spec], feeds: Feeds, main: str) -> tuple[Feeds, list[str]]:
    """Values for the inputs that have none, and notes that say which.

    Zeros where the sizes are known, ones for masks, 0, 1, 2, ... for positions.

    Args:
        inputs: what the model takes.
        feeds: what is given, in the form of `fitted`.
        main: the input that counts the samples.

    Raises:
        InputError: an input's sizes are not known, or it is a single number, text or a mask of floats; says how to
            give it.
    """
    sizes = {d: n for s in inputs if s.name in feeds for d, n in zip(s.shape, feeds[s.name].shape, strict=False)}
    known, notes = dict[str, NDArray[Any]](), list[str]()
    for spec in inputs:
        if spec.name in feeds:
            continue
        shape = [d if isinstance(d, int) else sizes.get(d) if d is not None else None for d in spec.shape]
        if shape and spec.shape[0] is None:
            shape[0] = len(feeds[main])
        lone = math.prod(d or 0 for d in shape) == 1 and isinstance((*spec.shape, 1)[0], int)
        hides = "mask" in spec.name.lower() and not is_mask(spec)  # is it what is kept that floats mark, or the rest?
        if not spec.rank_known or lone or hides or None in shape or spec.dtype == "unknown":
            raise InputError(_missing(spec, lone))
        made, what = _made(spec, [d for d in shape if d is not None])
        known[spec.name] = made
        notes.append(f"'{spec.name}' is not given and taken as {what} (--input {spec.name}=FILE)")
    return known, notes


def is_mask(spec: Spec) -> bool:
    """True for an input of whole numbers that says by its name that it is a mask."""
    return "mask" in spec.name.lower() and not spec.dtype.startswith("float")


def _made(spec: Spec, shape: list[int]) -> tuple[NDArray[Any], str]:
    if is_mask(spec):
        return np.ones(shape, spec.dtype), "ones"
    if "position" in spec.name.lower() and spec.dtype.startswith("int"):
        return np.broadcast_to(np.arange(shape[-1], dtype=spec.dtype), shape), "0, 1, 2, ..."
    return np.zeros(shape, spec.dtype), "zeros"


def _missing(spec: Spec, lone: bool) -> str:
    kind = "text" if spec.dtype == "unknown" else spec.dtype
    what = "a single number" if lone and kind != "text" else spec.sizes()
    value = {"text": "TEXT"}.get(kind, "NUMBER" if lone else "FILE.npy")
    return (
        f"The input '{spec.name}' ({kind}, {what}) has no value: give it with --input {spec.name}={value}, from Python "
        "in a dictionary by input name."
    )
