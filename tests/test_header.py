import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx_inspect import header
from onnx_inspect.errors import PhotoError


def png(width, height, *chunks):
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = [(b"IHDR", head), *chunks, (b"IEND", b"")]
    body = b"".join(struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in parts)
    return b"\x89PNG\r\n\x1a\n" + body


def test_headers_say_the_size_without_decoding():
    exif = b"MM\0*" + struct.pack(">IHHHIHH", 8, 1, 274, 3, 1, 6, 0) + b"\0" * 4
    assert header.read(png(70000, 3, (b"eXIf", exif))) == header.Header("PNG", 70000, 3, 6)
    assert header.read(b"GIF89a" + struct.pack("<HH", 5, 6)) == header.Header("GIF", 5, 6, alpha=True)
    bmp = b"BM" + b"\0" * 12 + struct.pack("<Iii", 40, 7, -8)
    assert header.read(bmp) == header.Header("BMP", 7, 8)
    vp8x = b"RIFF\0\0\0\0WEBPVP8X" + struct.pack("<I", 10) + b"\0" * 4 + b"\x09\0\0\x63\0\0"
    assert header.read(vp8x) == header.Header("WebP", 10, 100)
    thumbnail = b"\xff\xe1\x00\x08\xff\xc0\xff\xd9\0\0"
    sof = b"\xff\xc2\x00\x11\x08" + struct.pack(">HH", 300, 400) + b"\0" * 10
    jpeg = b"\xff\xd8" + thumbnail + b"\xff" + sof + b"\xff\xda\0\0\1\2\3"
    assert header.read(jpeg + b"\xff\xd9 and a film") == header.Header("JPEG", 400, 300)
    with pytest.raises(PhotoError, match="cut short"):
        header.read(jpeg)


def gif(frames):
    table = b"\0\0\0\xff\xff\xff"
    frame = b"!\xf9\4\0\0\0\0\0" + b",\0\0\0\0\1\0\1\0\x80" + table + b"\2\2\x4c\1\0"
    return b"GIF89a\1\0\1\0\x80\0\0" + table + b"!\xfe\3,;,\0" + frame * frames + b";"


def test_headers_tell_animations_and_transparency():
    for frames in (0, 1, 2, 5):
        assert header.read(gif(frames)).animated == (frames > 1)
        assert header.read(gif(frames)[:-1]).animated == (frames > 1)
    for chunk, flags in ((b"acTL", (False, True)), (b"tRNS", (True, False)), (b"tEXt", (False, False))):
        found = header.read(png(1, 1, (chunk, b"")))
        assert (found.alpha, found.animated) == flags
    for bits, flags in ((0x10, (True, False)), (0x02, (False, True)), (0x28, (False, False))):
        found = header.read(b"RIFF\0\0\0\0WEBPVP8X" + struct.pack("<I", 10) + bytes([bits]) + b"\0" * 9)
        assert (found.alpha, found.animated) == flags


def test_a_damaged_png_is_refused():
    data = bytearray(png(5, 5, (b"IDAT", b"pixels")))
    data[data.index(b"pixels")] ^= 1
    with pytest.raises(PhotoError, match="checksum"):
        header.read(bytes(data))


@given(st.sampled_from([b"", *header._READERS, b"RIFF\0\0\0\0WEBPVP8X"]), st.binary(max_size=200))
def test_no_header_crashes(magic, rest):
    try:
        assert isinstance(header.read(magic + rest), header.Header)
    except PhotoError as error:
        assert str(error)
