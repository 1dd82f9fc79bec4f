"""Lists of photos: CSV, TSV and Parquet files with a column of names and perhaps one of labels."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..errors import PhotoError
from ..files import visible_image
from .strings import Strings

SUFFIXES = frozenset({".csv", ".tsv", ".parquet"})
_NAMES = ("path", "file", "image", "filename")
_LABELS = ("label", "class", "target")


def read(path: Path) -> tuple[Strings, list[str | None]]:
    """The names and labels in a list, as they stand there.

    Names are in the column ``path``, ``file``, ``image`` or ``filename``, else in the first; labels in ``label``,
    ``class`` or ``target``. A text file is UTF-8, and may do without a header if it has a single column.
    PhotoError where the list cannot be read or a row names no photo.
    """
    names, labels = Strings(), list[str | None]()
    try:
        for place, name, label in _parquet(path) if path.suffix.lower() == ".parquet" else _text(path):
            if not isinstance(name, str) or not name.strip():
                raise PhotoError(f"{place} of {path} names no photo: fill it in or remove it.")
            names.append(name.strip())
            label = "" if label is None else str(label).strip()
            labels.append(sys.intern(label) or None)
    except (OSError, ValueError, LookupError, NotImplementedError, csv.Error) as error:  # as Arrow's errors are, too
        reason = getattr(error, "strerror", None) or str(error)
        raise PhotoError(f"Cannot read the list of photos {path}: {reason}. Repair it or name another.") from error
    if not names:
        raise PhotoError(f"The list {path} names no photos. Name another.")
    return names, labels


def _text(path: Path) -> Iterator[tuple[str, str, str | None]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        first = file.readline(2**16)
        file.seek(0)
        # Where the comma is the decimal sign, spreadsheets write semicolons.
        comma = ";" if ";" in first and "," not in first else ","
        reader = csv.reader(
            file, delimiter="\t" if path.suffix.lower() == ".tsv" else comma, skipinitialspace=True, strict=True
        )
        rows = (row for row in reader if any(row))
        header = next(rows, [])
        at, label_at, named = _columns(header)
        if not named:
            if len(header) > 1 and visible_image(header[0].strip()):
                raise PhotoError(f"The list {path} has no header: let its first line be path,label.")
            if len(header) == 1:
                yield "Line 1", header[0], None
        for row in rows:
            if len(row) > len(header):
                raise PhotoError(
                    f"Line {reader.line_num} of {path} has {len(row)} fields and the header {len(header)}: "
                    "put names that hold a separator into quotes."
                )
            row += [""] * (len(header) - len(row))
            yield f"Line {reader.line_num}", row[at], None if label_at is None else row[label_at]


def _parquet(path: Path) -> Iterator[tuple[str, Any, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        header = file.schema_arrow.names
        if not header:
            return
        at, label_at, _ = _columns(header)
        wanted = [header[i] for i in (at, label_at) if i is not None]
        kind = file.schema_arrow.field(at).type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
            raise PhotoError(
                f"The column '{wanted[0]}' of {path} holds {kind}, not names of photos. Rename the right one."
            )
        row = 0
        for batch in file.iter_batches(4096, columns=wanted):
            names, labels = batch.column(wanted[0]), batch.column(wanted[-1])
            for name, label in zip(names.to_pylist(), labels.to_pylist(), strict=True):
                row += 1
                yield f"Row {row}", name, None if label_at is None else label


def _columns(header: Sequence[str]) -> tuple[int, int | None, bool]:
    """Where names and labels are, and whether the header said so."""
    found = [name.strip().casefold() for name in header]
    at, label_at = (next((found.index(name) for name in known if name in found), None) for known in (_NAMES, _LABELS))
    first = 1 if label_at == 0 and len(header) > 1 else 0
    return first if at is None else at, label_at, (at, label_at) != (None, None)
