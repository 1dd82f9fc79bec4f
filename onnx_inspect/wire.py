"""A model's bytes without its large weights: protobuf's wire format read by hand, since its parser copies all.

A message is a row of fields: a number whose lowest three bits say how the value is written, then the value, or its
length and bytes. See https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

_GRAPH, _INITIALIZER = 7, 5  # of ModelProto, GraphProto
_DIMS, _TYPE, _RAW, _EXTERNAL, _LOCATION = 1, 2, 9, 13, 14  # of TensorProto
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_SIZES = {1: 4, 2: 1, 3: 1, 6: 4, 7: 8, 10: 2, 11: 8}  # bytes of TensorProto.DataType's plain numbers
_SMALL = 2**12  # bytes of a weight that is not worth it
_ALIGNED = 64  # bytes, what vector instructions like
_MOST, _RANK = 2**18, 64  # fields of a message, dimensions: more are no model, but may be meant to keep us busy


@dataclass(frozen=True)
class Field:
    """A field: its number and kind; where it begins, and its value; the number itself of a varint."""

    number: int
    kind: int
    begin: int
    start: int
    end: int
    value: int


@dataclass(frozen=True)
class Split:
    """A message whose weights are external data of a file, and where they are: in the bytes, in the file; of how many.

    Attributes:
        message: without the weights.
        parts: of the bytes: (offset there, offset in the file, length).
        size: of the file.
    """

    message: bytes
    parts: list[tuple[int, int, int]]
    size: int


def split(data: bytes, location: str) -> Split | None:
    """Take large weights of the graph out of a ModelProto; None for bytes that are no usual one, or have files already.

    Args:
        data: its bytes.
        location: the name of the file.
    """
    with suppress(IndexError, ValueError):
        graphs = [f for f in _fields(data, 0, len(data)) if f.number == _GRAPH]
        if len(graphs) == 1 and graphs[0].kind == _BYTES:
            return _split(data, graphs[0], location)
    return None


def _split(data: bytes, graph: Field, location: str) -> Split:
    view, last, end = memoryview(data), graph.start, 0
    pieces, parts = list[memoryview | bytes](), list[tuple[int, int, int]]()
    for field in _fields(data, graph.start, graph.end):
        if field.number != _INITIALIZER or field.kind != _BYTES or field.end - field.start < _SMALL:
            continue
        raw = _raw(data, field)
        if raw is None:
            continue
        at = -(-end // _ALIGNED) * _ALIGNED
        end = at + raw.end - raw.start
        parts.append((raw.start, at, end - at))
        told = _told(location, at, end - at)
        size = field.end - field.start - (raw.end - raw.begin) + len(told)
        pieces += [view[last : field.begin], _lengthened(_INITIALIZER, size)]
        pieces += [view[field.start : raw.begin], view[raw.end : field.end], told]
        last = field.end
    pieces.append(view[last : graph.end])
    head = _lengthened(_GRAPH, sum(map(len, pieces)))
    return Split(b"".join([view[: graph.begin], head, *pieces, view[graph.end :]]), parts, end)


def _raw(data: bytes, tensor: Field) -> Field | None:
    """The bytes of a tensor, if they are plain numbers, all that it says of them, and as many as it should have."""
    dims, raws, kind = list[int](), list[Field](), 0
    for field in _fields(data, tensor.start, tensor.end, _RANK + 16):
        if field.number == _DIMS:
            packed = field.kind == _BYTES
            dims += _varints(data, field.start, field.end) if packed else [field.value]
            if len(dims) > _RANK:
                return None
        elif field.number == _TYPE:
            kind = field.value
        elif field.number == _RAW:
            raws.append(field)
        elif field.number == _EXTERNAL or (field.number == _LOCATION and field.value):
            raise ValueError(field.number)  # weights in two files are more than onnxruntime finds
    if len(raws) != 1 or raws[0].kind != _BYTES or raws[0].end - raws[0].start != math.prod(dims) * _SIZES.get(kind, 0):
        return None
    return raws[0] if raws[0].end - raws[0].start >= _SMALL else None


def _fields(data: bytes, at: int, end: int, most: int = _MOST) -> Iterator[Field]:
    for _ in range(most):
        if at >= end:
            return
        begin = at
        tag, at = _varint(data, at)
        kind, value, start = tag & 7, 0, at
        if kind == _VARINT:
            value, at = _varint(data, at)
        elif kind == _BYTES:
            size, start = _varint(data, at)
            at = start + size
        elif kind in (_FIXED64, _FIXED32):
            at += 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(kind)
        if at > end:
            raise ValueError(at)
        yield Field(tag >> 3, kind, begin, start, at, value)
    raise ValueError(at)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Seven bits a byte, the lowest first; the eighth says that there are more."""
    value = shift = 0
    while True:
        byte = data[at]
        value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
        if byte < 128:
            return value, at
        if shift > 63:
            raise ValueError(at)


def _varints(data: bytes, at: int, end: int) -> Iterator[int]:
    if end - at > 10 * _RANK:
        raise ValueError(at)
    while at < end:
        value, at = _varint(data, at)
        yield value


def _number(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])


def _lengthened(number: int, size: int) -> bytes:
    """What stands before the bytes of a field."""
    return _number(number << 3 | _BYTES) + _number(size)


def _told(location: str, offset: int, length: int) -> bytes:
    """What a tensor says of where its bytes are."""
    found = b""
    for key, value in (("location", location), ("offset", str(offset)), ("length", str(length))):
        entry = b"".join(_lengthened(i, len(t.encode())) + t.encode() for i, t in ((1, key), (2, value)))
        found += _lengthened(_EXTERNAL, len(entry)) + entry
    return found + _number(_LOCATION << 3 | _VARINT) + _number(1)
