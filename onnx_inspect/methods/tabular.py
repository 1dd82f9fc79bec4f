"""Tables as values of a model's inputs: which column goes where, and which is left out."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..rows import Rows
from ..structure import Spec
from .samples import Samples

# What columns are called that describe a row, and are no features of it.
_ASIDE = frozenset("id index row name label labels target class category y split fold weight".split())
_COUNTED = frozenset({"", "unnamed: 0"})  # how pandas calls the numbers of rows
_EXACT = 2**53  # beyond, floats leave out whole numbers
_NONE: Mapping[str, Sequence[str]] = MappingProxyType({})


def samples(
    table: Rows, inputs: Sequence[Spec], drop: Collection[str] = (), said: Mapping[str, Sequence[str]] = _NONE
) -> tuple[Samples, list[str]]:
    """The rows of a table as samples, with notes on what was left out.

    Columns that are called like inputs go there, one to each; of the rest, columns of numbers are the one input of
    numbers in their order, and columns of words the one input of text. What is too much is left out where its name or
    its cells say that it is no feature.

    Args:
        table: the table.
        inputs: what the model takes.
        drop: columns to leave out.
        said: the columns of some inputs.

    Raises:
        InputError: there is no such column, or there are too many or too few; a cell is missing, or is no number.
    """
    if unknown := [name for name in drop if name not in table.columns]:
        raise InputError(f"'{table.path}' has no column {unknown[0]!r}: there are {', '.join(table.columns)} (--drop).")
    kept = {s.name: list(said[s.name]) for s in inputs if s.name in said}
    taken = {name for names in kept.values() for name in names}
    columns = [name for name in table.columns if name not in drop and name not in taken]
    kept |= {s.name: [s.name] for s in inputs if s.name in columns and s.name not in kept and _width(s) in (1, None)}
    if others := [s for s in inputs if s.name not in kept]:
        kept |= _by_order(table, others, [c for c in columns if c not in kept])
    values = {s.name: _cells(table, s, kept[s.name]) for s in inputs if s.name in kept}
    called = [f"{table.path.stem}-{i}" for i in range(1, len(table.lines) + 1)]
    left = [repr(c) for c in columns if not any(c in names for names in kept.values())]
    notes = [f"left out: {', '.join(left)}, which the model has no input for (--drop)"] if left else []
    return Samples(values, called, {k: names for k, names in kept.items() if values[k].ndim > 1}), notes


def _by_order(table: Rows, inputs: Sequence[Spec], columns: list[str]) -> dict[str, list[str]]:
    """Columns of numbers to the one input of numbers, columns of words to the one of text."""
    wide = [s for s in inputs if len(s.shape) == 2]
    texts, numbers = [[s for s in wide if (s.dtype == "unknown") is text] for text in (True, False)]
    if len(numbers) > 1 or len(texts) > 1 or not wide:
        told = ", ".join(f"'{s.name}' ({s.sizes()} {s.dtype})" for s in inputs)
        raise InputError(
            f"'{table.path}' has the columns {', '.join(columns)}, which do not fit the inputs {told}: call columns as "
            f"inputs are called, or say which go where (--input {inputs[0].name}=COLUMN,COLUMN)."
        )
    numeric = [c for c in columns if table.numeric(c)]
    words = [c for c in columns if c not in numeric]
    for name in words if not texts else ():
        if table.mixed(name) and not _is_aside(name.lower()):
            table.numbers(name)  # says where: what may be a feature is not left out in silence
    found = {s.name: _fitting(table, s, numeric, [] if texts else words) for s in numbers}
    return found | {s.name: _fitting(table, s, words, []) for s in texts}


def _fitting(table: Rows, spec: Spec, candidates: list[str], words: list[str]) -> list[str]:
    """As many columns as an input takes: of too many those whose names say that they are no features are left out."""
    width = _width(spec)
    if width is None or len(candidates) == width:
        return candidates
    features = [c for c in candidates if not _is_aside(c.lower())]
    if len(features) == width:
        return features
    found = f"'{table.path}' has {len(candidates)} columns that fit"
    if len(candidates) < width:
        what = f"; no numbers are in {', '.join(words)}" if words else ""
        raise InputError(f"{found}, the input '{spec.name}' takes {width}: add what is missing{what}.")
    shown = ", ".join(candidates[:6]) + (", ..." if len(candidates) > 6 else "")
    raise InputError(
        f"{found} ({shown}), the input '{spec.name}' takes {width}: name those to leave out (--drop NAME)."
    )


def _is_aside(name: str) -> bool:
    return name in _ASIDE | _COUNTED or name.endswith("_id")


def _width(spec: Spec) -> int | None:
    """How many columns an input takes, None if any number."""
    if len(spec.shape) < 2:
        return 1
    return spec.shape[1] if isinstance(spec.shape[1], int) else None


def _cells(table: Rows, spec: Spec, columns: Sequence[str]) -> NDArray[Any]:
    """The value of an input: its columns side by side."""
    if (width := _width(spec)) not in (len(columns), None):
        raise InputError(f"The input '{spec.name}' takes {width} columns, not {len(columns)}: {', '.join(columns)}.")
    cells = np.stack([_column(table, spec, name) for name in columns], axis=1)
    return cells if len(spec.shape) > 1 else cells[:, 0]


def _column(table: Rows, spec: Spec, name: str) -> NDArray[Any]:
    if spec.dtype == "unknown":
        return table.words(name)
    values = table.numbers(name)
    if np.dtype(spec.dtype).kind not in "iu":
        return values
    if (broken := (values % 1 != 0) | (np.abs(values) >= _EXACT)).any():
        line, value = table.lines[int(broken.argmax())], values[broken][0]
        raise InputError(
            f"Column '{name}' of '{table.path}' holds {value:g} in line {line}, the input takes whole numbers up to "
            "2^53."
        )
    return values.astype(np.int64)
