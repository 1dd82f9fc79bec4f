"""Photos inside a zip: read where they lie, never extracted."""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np

from .. import image
from ..errors import PhotoError
from ..files import visible_image
from ..image import Picture
from .strings import Strings

MAX_BYTES = 512 * 2**20
"""Members that are larger, packed or unpacked, are refused: a few kilobytes can unpack to gigabytes."""

_MEMBER = np.dtype("i8, i8, i8, u4, u2, u2")
_BROKEN = (OSError, ValueError, zipfile.BadZipFile, NotImplementedError, struct.error, RuntimeError)


class Archive:
    """The visible images of a zip, sorted by name.

    What ``zipfile`` keeps of a member takes 600 bytes, so only what reading needs is kept, and members are read
    from an opening of the file of their own: any number of threads may read at once.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            with zipfile.ZipFile(path) as archive:
                # Of members with the same name the last one counts, as for everybody who unpacks it.
                members = {info.orig_filename: info for info in archive.filelist if _visible(info.orig_filename)}
        except _BROKEN as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise PhotoError(f"Cannot read the zip {path}: {reason}. Name another file.") from error
        if not members:
            raise PhotoError(f"The zip {path} has no images. Name another.")
        self.names = Strings(sorted(members))
        self._members = np.array(
            [
                (m.header_offset, m.compress_size, m.file_size, m.CRC, m.compress_type, m.flag_bits)
                for m in map(members.__getitem__, self.names)
            ],
            _MEMBER,
        )

    def name(self, k: int) -> str:
        """The path of the zip, and behind it that inside."""
        return f"{self._path}/{self.names[k]}"

    def path(self, k: int) -> None:
        """There is no file."""

    def home(self, k: int) -> None:
        """There is no folder."""

    def stamp(self, k: int) -> str:
        """Size and checksum."""
        _, _, size, crc, _, _ = self._members[k].item()
        return f"{size} {crc:08x}"

    def read(self, k: int) -> Picture:
        """The photo; PhotoError where it cannot be read."""
        with image.named(self.name(k)):
            return image.decode(self._data(k))

    def _data(self, k: int) -> bytes:
        offset, packed, size, crc, method, flags = self._members[k].item()
        if flags & 1:
            raise PhotoError("it is encrypted: unpack it first")
        if max(packed, size) > MAX_BYTES:
            raise PhotoError(f"it has {max(packed, size)} bytes, more than {MAX_BYTES}")
        if method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise PhotoError(f"it is packed by method {method}, not stored or deflated: unpack it first")
        try:
            with self._path.open("rb") as file:
                # Only the lengths of name and extra field are taken from the member's own header.
                file.seek(offset + 26)
                file.seek(sum(struct.unpack("<HH", file.read(4))), os.SEEK_CUR)
                data = file.read(packed)
            if method == zipfile.ZIP_DEFLATED:
                data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, size + 1)
        except OSError as error:
            raise PhotoError(error.strerror or str(error)) from error
        except (ValueError, struct.error, zlib.error) as error:
            raise PhotoError("its data in the zip are damaged") from error
        if zlib.crc32(data) != crc:
            raise PhotoError("its data in the zip are damaged: the checksum is wrong")
        return data


def _visible(name: str) -> bool:
    """Whether a member is an image that is not hidden, nor below a hidden folder."""
    return (
        visible_image(name)
        and name[-1] != "/"
        and not any(part[:1] == "." and part.strip(".") for part in name.split("/"))
    )
