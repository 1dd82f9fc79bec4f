"""Pictures from files and back: decoding upright to RGB, and encoding, all with OpenCV kept quiet."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .. import files, header
from ..errors import OutputError, PhotoError
from .pixels import Picture

MAX_PIXELS = 178_000_000
"""Larger photos are refused before a pixel is decoded."""


def read(path: str | Path) -> Picture:
    """The photo at ``path`` as uint8 (H, W, 3) RGB, upright as its EXIF data say.

    Grey becomes three equal channels, transparency shows white, 16 bits become 8, an animation its first
    frame. PhotoError where the file cannot be read, is no photo, is cut short or exceeds ``MAX_PIXELS``.
    """
    with named(path):
        return decode(_bytes(path))


def remarks(path: str | Path) -> list[str]:
    """Notes on what ``read`` leaves out of a photo: all but the first frame, and what is behind transparency."""
    with named(path):
        data = _bytes(path)
        head = header.read(data)
        clear = head.alpha and _transparent(_pixels(data, head))
    name = Path(path).name
    notes = [f"'{name}' is an animation: its first frame is explained (PHOTO)"] if head.animated else []
    return [*notes, f"'{name}' is transparent in places, which are taken to be white (PHOTO)"] if clear else notes


def _bytes(path: str | Path) -> bytes:
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116  (once per photo of very many)
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise PhotoError("it is a device or a pipe, which may have no end")
        with open(path, "rb") as file:  # noqa: PTH123
            return file.read()
    except (OSError, ValueError) as error:
        raise PhotoError(getattr(error, "strerror", None) or str(error)) from error


@contextmanager
def named(path: str | Path) -> Iterator[None]:
    """PhotoErrors that are clauses become sentences with the file's name."""
    try:
        yield
    except PhotoError as error:
        raise PhotoError(f"Cannot read the photo {path}: {error}. Name another file.") from error.__cause__


def decode(data: bytes) -> Picture:
    """As ``read``, for the bytes of a file; PhotoError is a clause without the file's name."""
    if not data:
        raise PhotoError("it is empty")
    head = header.read(data)
    turned = 1 if head.format in ("JPEG", "BMP", "TIFF") else head.orientation
    return _turn(_to_rgb(_pixels(data, head)), turned)


def _pixels(data: bytes, head: header.Header) -> NDArray[Any]:
    """As OpenCV decodes them: BGR, 1 to 4 channels of 8 or 16 bits."""
    if head.width * head.height > MAX_PIXELS:
        raise PhotoError(f"it has {head.width}x{head.height} pixels, more than {MAX_PIXELS // 1_000_000} million")
    # OpenCV turns a photo upright or keeps its transparency, never both.
    upright = head.format in ("JPEG", "BMP")
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH if upright else cv2.IMREAD_UNCHANGED
    pixels: Any
    try:
        with _silence:
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        pixels = None
    if pixels is None:
        raise PhotoError(f"its {head.format} data are damaged or of a kind that OpenCV cannot decode")
    if pixels.dtype not in (np.uint8, np.uint16):
        raise PhotoError(f"its pixels are {pixels.dtype}, not 8 or 16 bits")
    return np.asarray(pixels)


def _transparent(pixels: NDArray[Any]) -> bool:
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    return channels in (2, 4) and bool(pixels[..., -1].min() < np.iinfo(pixels.dtype).max)


def _to_rgb(pixels: NDArray[Any]) -> Picture:
    """OpenCV's pixels, 1 to 4 channels of 8 or 16 bits, as RGB."""
    if pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.dtype == np.uint8:
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8)
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    colours, alpha = pixels[..., :3][..., ::-1], pixels[..., 3:]
    if pixels.shape[-1] <= 2:
        colours, alpha = np.repeat(pixels[..., :1], 3, axis=-1), pixels[..., 1:]
    top = np.iinfo(pixels.dtype).max
    if _transparent(pixels):
        opaque = alpha.astype(np.float32) / top
        return np.rint((colours * opaque + top * (1 - opaque)) * (255 / top)).astype(np.uint8)
    if pixels.dtype == np.uint16:
        colours = (colours.astype(np.uint32) + 128) // 257
    return np.ascontiguousarray(colours, dtype=np.uint8)


def _turn(pixels: Picture, orientation: int) -> Picture:
    """Undoes an EXIF orientation: 1 is upright, 2 to 8 the mirrored and turned ones."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


# OpenCV 4 and 5 keep it in different places.
_set_log_level = cv2.setLogLevel if hasattr(cv2, "setLogLevel") else cv2.utils.logging.setLogLevel


class _Silence:
    """Nothing on stderr from OpenCV meanwhile; several threads may be inside at once.

    The log level alone does not hush libjpeg and libpng, which print to the descriptor itself.
    """

    def __init__(self) -> None:
        self._lock, self._inside, self._level, self._stderr = Lock(), 0, 0, -1

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._level = _set_log_level(0)
                with suppress(OSError):  # a program without a stderr has nothing to hush
                    self._stderr = os.dup(2)
                    null = os.open(os.devnull, os.O_WRONLY)
                    os.dup2(null, 2)
                    os.close(null)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                _set_log_level(self._level)
                if self._stderr >= 0:
                    os.dup2(self._stderr, 2)
                    os.close(self._stderr)
                    self._stderr = -1


_silence = _Silence()


def write(path: str | Path, rgb: Picture) -> None:
    """Writes an RGB picture, all or nothing; the suffix (.png, .jpg, .webp, ...) says how. OutputError."""
    files.write_bytes(path, _encode(rgb, Path(path).suffix, path))


def encode_png(rgb: Picture) -> bytes:
    """An RGB picture as the bytes of a PNG file."""
    return _encode(rgb, ".png", "the picture")


def encode_jpeg(rgb: Picture) -> bytes:
    """An RGB picture as the bytes of a JPEG file."""
    return _encode(rgb, ".jpg", "the picture")


def _encode(rgb: Picture, suffix: str, path: str | Path) -> bytes:
    if suffix.lower() not in files.SUFFIXES:
        raise OutputError(f"Cannot write {path}: {suffix or 'no suffix'} is no picture format. Use .png or .jpg.")
    try:
        with _silence:
            done, data = cv2.imencode(suffix.lower(), np.ascontiguousarray(rgb[..., ::-1]))
    except cv2.error as error:
        raise OutputError(f"Cannot write {path}: OpenCV refuses a picture of shape {rgb.shape}.") from error
    if not done:
        raise OutputError(f"Cannot write {path}: OpenCV refuses a picture of shape {rgb.shape}.")
    return bytes(data.tobytes())


def encode_mp4(frames: Sequence[Picture], rate: float) -> bytes:
    """RGB pictures of one size as the bytes of an MP4 film (MPEG-4 part 2), ``rate`` of them per second.

    Odd sides lose a pixel, which the format cannot say. OutputError where OpenCV has no such encoder.
    """
    height, width = (max(2, side - side % 2) for side in frames[0].shape[:2])
    with TemporaryDirectory() as folder, _silence:  # OpenCV writes films to files only
        path = Path(folder) / "film.mp4"
        film = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), rate, (width, height))
        opened = film.isOpened()
        for frame in frames if opened else ():
            film.write(np.ascontiguousarray(frame[:height, :width, ::-1]))
        film.release()
        if not opened or not path.is_file():
            raise OutputError("This OpenCV cannot write MP4 films: take a GIF (--film gif).")
        return path.read_bytes()
