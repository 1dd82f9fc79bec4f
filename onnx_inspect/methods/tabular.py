"""Tables as values of a model's inputs: which column goes where, and which is left out."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from ..errors import InputError
from ..rows import Rows
from ..structure import Spec
from .samples import Samples

# What columns are called that describe a row, and are no features of it.
_ASIDE = frozenset("id index row name label labels target class category y split fold weight".split())


def samples(table: Rows, inputs: Sequence[Spec], drop: Collection[str] = ()) -> tuple[Samples, list[str]]:
    """The rows of a table as samples, with notes on what was left out.

    Columns that are called like inputs go there, one to each; else columns of numbers are the one input of floats in
    their order, and columns of words the one input of text. What is too much is left out where its name or its cells
    say that it is no feature.

    Args:
        table: the table.
        inputs: what the model takes.
        drop: columns to leave out.

    Raises:
        InputError: there is no such column, or there are too many or too few; a cell is missing, or is no number.
    """
    if unknown := [name for name in drop if name not in table.columns]:
        raise InputError(f"'{table.path}' has no column {unknown[0]!r}: there are {', '.join(table.columns)} (--drop).")
    columns = [name for name in table.columns if name not in drop]
    called = [table.path.stem + f"-{i}" for i in range(1, len(table.lines) + 1)]
    named = [s for s in inputs if s.name in columns and _width(s) in (1, None)]
    if named:
        values = {s.name: _column(table, s).reshape(len(called), *[1] * (len(s.shape) > 1)) for s in named}
        rest = [c for c in columns if c not in values]
        return Samples(values, called, {s.name: [s.name] for s in named if len(s.shape) > 1}), _note(rest)
    return _by_order(table, inputs, columns, called)


def _by_order(table: Rows, inputs: Sequence[Spec], columns: list[str], called: list[str]) -> tuple[Samples, list[str]]:
    """Columns of numbers to the one input of numbers, columns of words to the one of text."""
    wide = [s for s in inputs if len(s.shape) == 2]
    texts, numbers = [[s for s in wide if (s.dtype == "unknown") is text] for text in (True, False)]
    if len(numbers) > 1 or len(texts) > 1 or not wide:
        told = ", ".join(f"'{s.name}' ({s.sizes()} {s.dtype})" for s in inputs)
        raise InputError(
            f"'{table.path}' has the columns {', '.join(columns)}, but rows do not fit the inputs {told}: call columns "
            "as inputs are called, or give arrays (--input NAME=FILE.npy)."
        )
    numeric = [c for c in columns if table.numeric(c)]
    split = {False: numeric, True: [c for c in columns if c not in numeric]}
    values, kept = {}, dict[str, list[str]]()
    for text, specs in ((False, numbers), (True, texts)):
        for spec in specs:
            kept[spec.name] = _fitting(table, spec, split[text], columns if not texts else split[text])
            cells = [table.words(c) if text else table.numbers(c) for c in kept[spec.name]]
            values[spec.name] = np.stack(cells, axis=1)
    used = {c for names in kept.values() for c in names}
    return Samples(values, called, kept), _note([c for c in columns if c not in used])


def _fitting(table: Rows, spec: Spec, candidates: list[str], columns: list[str]) -> list[str]:
    """As many columns as an input takes: of too many those whose names say that they are no features are left out."""
    width = _width(spec)
    if width is None or len(candidates) == width:
        return candidates
    features = [c for c in candidates if c.lower() not in _ASIDE and not c.lower().endswith("_id")]
    if len(features) == width:
        return features
    if len(candidates) < width:
        words = [c for c in columns if c not in candidates]
        what = f"; {', '.join(words)} hold no numbers" if words else ""
        raise InputError(
            f"'{table.path}' has {len(candidates)} columns that fit, the input '{spec.name}' takes {width}{what}."
        )
    raise InputError(
        f"'{table.path}' has {len(candidates)} columns that fit ({', '.join(candidates[:6])}, ...), the input "
        f"'{spec.name}' takes {width}: name those to leave out (--drop NAME)."
    )


def _width(spec: Spec) -> int | None:
    """How many columns an input takes, None if any number."""
    if len(spec.shape) < 2:
        return 1
    return spec.shape[1] if isinstance(spec.shape[1], int) else None


def _column(table: Rows, spec: Spec) -> np.ndarray:
    if spec.dtype == "unknown":
        return table.words(spec.name)
    values = table.numbers(spec.name)
    if np.dtype(spec.dtype).kind in "iu":
        if (broken := values % 1 != 0).any():
            line = table.lines[int(broken.argmax())]
            raise InputError(
                f"Column '{spec.name}' of '{table.path}' holds {values[broken][0]:g} in line {line}, the input takes "
                "whole numbers."
            )
        return values.astype(np.int64)
    return values


def _note(left: Sequence[str]) -> list[str]:
    return [f"left out: {', '.join(map(repr, left))}, which the model has no input for (--drop)"] if left else []
