"""The headers of photos, read from bytes that nobody vouches for: format, size and orientation, no pixels."""

from __future__ import annotations

import contextlib
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from .errors import PhotoError


@dataclass(frozen=True)
class Header:
    """What a photo says of itself: its format, its size in pixels as stored, its EXIF orientation.

    ``alpha``: it has room for transparency, used or not; ``animated``: it has several frames.
    """

    format: str
    width: int
    height: int
    orientation: int = 1
    alpha: bool = False
    animated: bool = False


def read(data: bytes) -> Header:
    """Reads the header of a JPEG, PNG, GIF, BMP, WebP or TIFF file without decoding a pixel.

    PhotoError, a clause without the file's name, for every other format, for a JPEG or PNG that is cut short
    and for a PNG with a damaged chunk: some decoders quietly fill up what is missing.
    """
    try:
        for magic, reader in _READERS.items():
            if data.startswith(magic):
                return reader(data)
    except (struct.error, IndexError, zlib.error):
        raise PhotoError("its header is damaged or cut short") from None
    raise PhotoError("it is not a JPEG, PNG, GIF, BMP, WebP or TIFF image")


def _png(data: bytes) -> Header:
    width, height = struct.unpack(">II", data[16:24])
    at, kind, orientation, kinds = 8, b"", 1, set()
    while kind != b"IEND":
        if at + 12 > len(data):
            raise PhotoError("it is cut short")
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        checked = memoryview(data)[at + 4 : at + 8 + size]
        if at + 12 + size > len(data):
            raise PhotoError("it is cut short")
        if zlib.crc32(checked) != struct.unpack(">I", data[at + 8 + size : at + 12 + size])[0]:
            raise PhotoError("it is damaged: a checksum is wrong")
        if kind == b"eXIf":
            orientation = _orientation(bytes(checked[4:]))
        kinds.add(kind)
        at += 12 + size
    alpha = data[25] in (4, 6) or b"tRNS" in kinds
    return Header("PNG", width, height, orientation, alpha, b"acTL" in kinds)


def _jpeg(data: bytes) -> Header:
    at, size = 2, (0, 0)
    while data[at + 1] != 0xDA:
        if data[at] != 0xFF:
            raise PhotoError("it is damaged: a marker is missing")
        if data[at + 1] == 0xFF:
            at += 1
            continue
        # SOF0 to SOF15 without the tables DHT, JPG and DAC that lie among them
        if 0xC0 <= data[at + 1] <= 0xCF and data[at + 1] not in (0xC4, 0xC8, 0xCC):
            size = struct.unpack(">HH", data[at + 5 : at + 9])
        at += 2 + max(2, *struct.unpack(">H", data[at + 2 : at + 4]))
    # Pixels never contain FFD9, so one end mark behind their start is enough; phones append films and maps.
    if data.rfind(b"\xff\xd9") < at:
        raise PhotoError("it is cut short")
    return Header("JPEG", size[1], size[0])


def _webp(data: bytes) -> Header:
    if data[8:12] != b"WEBP":
        raise PhotoError("it is not a JPEG, PNG, GIF, BMP, WebP or TIFF image")
    kind, orientation, at, alpha, animated = data[12:16], 1, 12, False, False
    if kind == b"VP8X":
        alpha, animated = bool(data[20] & 0x10), bool(data[20] & 0x02)
        width, height = (1 + int.from_bytes(data[i : i + 3], "little") for i in (24, 27))
    elif kind == b"VP8L":
        bits = struct.unpack("<I", data[21:25])[0]
        width, height, alpha = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF), bool(bits >> 28 & 1)
    else:
        width, height = (side & 0x3FFF for side in struct.unpack("<HH", data[26:30]))
    while at + 8 <= len(data):
        kind, size = struct.unpack("<4sI", data[at : at + 8])
        if kind == b"EXIF":
            orientation = _orientation(data[at + 8 : at + 8 + size].removeprefix(b"Exif\0\0"))
        at += 8 + size + size % 2
    return Header("WebP", width, height, orientation, alpha, animated)


def _bmp(data: bytes) -> Header:
    core = struct.unpack("<I", data[14:18])[0] == 12
    width, height = struct.unpack("<HH", data[18:22]) if core else struct.unpack("<ii", data[18:26])
    return Header("BMP", abs(width), abs(height))


def _gif(data: bytes) -> Header:
    width, height = struct.unpack("<HH", data[6:10])
    return Header("GIF", width, height, alpha=True, animated=_gif_frames(data) > 1)


def _gif_frames(data: bytes) -> int:
    """How many frames there are, up to where the file ends or makes no sense; counts no further than 2."""

    def colours(flags: int) -> int:
        return 6 << (flags & 7) if flags & 0x80 else 0

    frames = 0
    with contextlib.suppress(IndexError):
        at = 13 + colours(data[10])
        while frames < 2 and data[at] in b"!,":
            if data[at] == ord(","):
                frames += 1
                at += 9 + colours(data[at + 9])
            at += 2
            while data[at]:
                at += data[at] + 1
            at += 1
    return frames


def _tiff(data: bytes) -> Header:
    tags = _tags(data)
    return Header("TIFF", tags.get(256, 0), tags.get(257, 0), tags.get(274, 1), tags.get(277) in (2, 4))


def _tags(data: bytes) -> dict[int, int]:
    """The whole-number tags of the first directory of a TIFF file, which is what EXIF is too."""
    order = "<" if data[:2] == b"II" else ">"
    start = struct.unpack(order + "I", data[4:8])[0]
    tags = {}
    for i in range(struct.unpack(order + "H", data[start : start + 2])[0]):
        entry = data[start + 2 + 12 * i : start + 14 + 12 * i]
        tag, kind, _ = struct.unpack(order + "HHI", entry[:8])
        if kind in (3, 4):
            tags[tag] = struct.unpack(order + "HI"[kind - 3], entry[8 : 10 if kind == 3 else 12])[0]
    return tags


def _orientation(exif: bytes) -> int:
    try:
        return _tags(exif).get(274, 1)
    except struct.error:
        return 1


_READERS: dict[bytes, Callable[[bytes], Header]] = {
    b"\x89PNG\r\n\x1a\n": _png,
    b"\xff\xd8": _jpeg,
    b"RIFF": _webp,
    b"BM": _bmp,
    b"GIF8": _gif,
    b"II*\0": _tiff,
    b"MM\0*": _tiff,
}
