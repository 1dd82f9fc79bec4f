"""Results of many photos as files that grow without being held: Parquet tables and arrays of vectors."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..files import atomic

if TYPE_CHECKING:
    import pyarrow as pa

# All that could differ from one version or machine to the next and has a switch.
_SETTINGS: dict[str, Any] = {
    "version": "2.6",
    "data_page_version": "1.0",
    "compression": "zstd",
    "compression_level": 3,
}


def version() -> str:
    """pyarrow's, on which the bytes of a Parquet file depend."""
    import pyarrow as pa

    return str(pa.__version__)


def texts(values: Iterable[str | None]) -> pa.Array:
    """A column of strings; of file names that are no text, bytes that are none are spelled out."""
    import pyarrow as pa

    return pa.array([v if v is None else v.encode("utf-8", "backslashreplace").decode() for v in values], pa.string())


def encode(table: pa.Table) -> bytes:
    """A table as the bytes of a Parquet file with one row group: the same for the same table."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=max(1, len(table)), **_SETTINGS)
    return bytes(sink.getvalue())


def decode(data: bytes) -> pa.Table:
    """What ``encode`` was given."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    return pq.ParquetFile(pa.BufferReader(data)).read()


def write(path: str | Path, schema: pa.Schema, tables: Iterable[pa.Table]) -> None:
    """Writes tables of one schema as one Parquet file, a row group each, all or nothing.

    One table is in memory at a time, and the same tables give the same bytes. OutputError where writing fails.
    """
    import pyarrow.parquet as pq

    with atomic(path) as draft, pq.ParquetWriter(draft, schema, **_SETTINGS) as writer:
        for table in tables:
            writer.write_table(table, row_group_size=max(1, len(table)))


def write_vectors(path: str | Path, width: int, blocks: Iterable[NDArray[Any]]) -> int:
    """Writes blocks of rows (n, width), any n, as one float32 array for ``np.load(path, mmap_mode="r")``.

    One block is in memory at a time; all or nothing. Returns the number of rows. OutputError where writing fails.
    """
    rows = 0
    with atomic(path) as draft, draft.open("wb") as file:
        _header(file, (0, width))
        start = file.tell()
        for block in blocks:
            if block.shape != (len(block), width):
                raise ValueError(f"a block of shape {block.shape} among vectors of {width}")
            file.write(np.ascontiguousarray(block, "<f4").data)
            rows += len(block)
        file.seek(0)
        _header(file, (rows, width))
        # NumPy leaves room in the header for a first axis that grows.
        assert file.tell() == start
    return rows


def _header(file: Any, shape: tuple[int, int]) -> None:
    np.lib.format.write_array_header_1_0(file, {"shape": shape, "fortran_order": False, "descr": "<f4"})
