"""Tables with a header: CSV files with commas, semicolons or tabs between the cells."""

from __future__ import annotations

import csv
import math
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .errors import InputError

SUFFIXES = frozenset({".csv", ".tsv"})
_LARGEST = 128 << 20  # bytes of a file, which takes ten times as much when read
_MISSING = frozenset({"", "?", "na", "n/a", "nan", "null", "none"})
_MARKS = re.compile(r"[,\s%]")


@dataclass(frozen=True)
class Rows:
    """A table as text.

    Attributes:
        path: the file.
        columns: the cells by the name of their column, in order.
        lines: where each row stands in the file, from 1 on, the header's included.
    """

    path: Path
    columns: dict[str, list[str]]
    lines: list[int]

    def numeric(self, name: str) -> bool:
        """True if a column holds numbers, but for cells that are missing."""
        return all(_missing(cell) or _number(cell) is not None for cell in self.columns[name])

    def mixed(self, name: str) -> bool:
        """True if some cells are numbers, or would be without commas, spaces and percent signs, though not all are."""
        bare = (_MARKS.sub("", cell) for cell in self.columns[name] if not _missing(cell))
        return not self.numeric(name) and any(_number(cell) is not None for cell in bare)

    def numbers(self, name: str) -> NDArray[np.float64]:
        """The numbers of a column.

        Raises:
            InputError: a cell is missing, or is no number; says which.
        """
        found = [_number(cell) for cell in self.columns[name]]
        for line, cell, number in zip(self.lines, self.columns[name], found, strict=True):
            if number is None or not math.isfinite(number):
                what = f"holds {cell[:40]!r}, which is no number" if cell.strip() else "is empty"
                raise InputError(
                    f"Column '{name}' of '{self.path}' {what} in line {line}: write one like 1234.5, or leave out the "
                    "row, or the column (--drop)."
                )
        return np.array(found, np.float64)

    def words(self, name: str) -> NDArray[np.object_]:
        """The cells of a column as they are.

        Raises:
            InputError: a cell is empty; says which.
        """
        for line, cell in zip(self.lines, self.columns[name], strict=True):
            if not cell.strip():
                raise InputError(
                    f"Column '{name}' of '{self.path}' is empty in line {line}: fill it in, or leave out the row."
                )
        return np.array(self.columns[name], object)


def read(path: Path) -> Rows:
    """A table from a file; the header says what lies between cells.

    Raises:
        InputError: it cannot be read, has no header or no rows, or a row has more or fewer cells than the header.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise InputError(f"'{path}' is larger than {_LARGEST >> 20} MB: give it in parts.")
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            file.seek(0)
            reader = csv.reader(file, delimiter=_delimiter(first), strict=True)
            rows = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except OSError as error:
        raise InputError(f"'{path}' cannot be read: {error.strerror or error}.") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"'{path}' is no table: it has to be text in UTF-8, {error}.") from error
    names = [cell.strip() for cell in rows[0][1]] if rows else []
    _check(path, names)
    if len(rows) < 2:
        raise InputError(f"'{path}' has a header and no rows.")
    for line, row in rows[1:]:
        if len(row) != len(names):
            raise InputError(f"Line {line} of '{path}' has {len(row)} cells, the header {len(names)}.")
    columns = {name: [row[i].strip() for _, row in rows[1:]] for i, name in enumerate(names)}
    return Rows(path, columns, [line for line, _ in rows[1:]])


def _check(path: Path, names: list[str]) -> None:
    """Refuse what is no header."""
    if not names:
        raise InputError(f"'{path}' is empty: a table has a header, and a row per sample.")
    numbers = [number for name in names if (number := _number(name)) is not None]
    if len(numbers) == len(names) or any(number % 1 for number in numbers):
        raise InputError(f"The first line of '{path}' holds numbers: write the names of the columns above it.")
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise InputError(
            f"'{path}' has {'several columns without a name' if not twice[0] else f'two columns {twice[0]!r}'}."
        )


def _delimiter(header: str) -> str:
    """What comes most often in the header, outside of quotes."""
    bare = "".join(header.split('"')[::2])
    return max(",;\t", key=bare.count)


def _missing(cell: str) -> bool:
    return cell.strip().lower() in _MISSING


def _number(cell: str) -> float | None:
    try:
        return None if "_" in cell else float(cell)  # Python reads 1_000 as a number, nobody else does
    except ValueError:
        return None
