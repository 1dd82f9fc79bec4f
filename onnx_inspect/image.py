"""Pictures as arrays, and the only user of OpenCV: read, write, resize, inpaint, colour, blend, letter.

A picture is uint8 of shape (H, W, 3) in RGB everywhere outside this file.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from . import files, header
from .errors import InputError, OutputError, PhotoError

Picture = NDArray[np.uint8]
Colormap = Literal["jet", "viridis", "magma", "inferno", "turbo", "coolwarm", "grey"]
Interpolation = Literal["auto", "area", "linear", "nearest", "cubic"]
Edge = Literal["grey", "reflect", "repeat"]

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


class _Threads:
    """How many threads OpenCV had before the first of those who want it to have one."""

    lock, inside, before = Lock(), 0, 1


@contextmanager
def single_threaded() -> Iterator[None]:
    """OpenCV starts no threads of its own meanwhile; several may be inside at once.

    For work that is already spread over threads: two teams on the same cores are slower than one.
    """
    with _Threads.lock:
        if _Threads.inside == 0:
            _Threads.before = cv2.getNumThreads()
            cv2.setNumThreads(1)
        _Threads.inside += 1
    try:
        yield
    finally:
        with _Threads.lock:
            _Threads.inside -= 1
            if _Threads.inside == 0:
                cv2.setNumThreads(_Threads.before)


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


_INTERPOLATION = {
    "area": cv2.INTER_AREA,
    "linear": cv2.INTER_LINEAR,
    "nearest": cv2.INTER_NEAREST_EXACT,
    "cubic": cv2.INTER_CUBIC,
}


def resize(array: NDArray[Any], size: tuple[int, int], interpolation: Interpolation = "auto") -> NDArray[Any]:
    """``array`` (H, W) or (H, W, C), any C, at ``size`` (height, width); pixel edges stay on pixel edges.

    uint8 stays uint8, all else comes back as float32. "auto" averages along the sides that shrink and
    interpolates linearly along those that grow. InputError where a side is zero.
    """
    if min(*array.shape[:2], *size) < 1:
        raise InputError(f"A picture of {array.shape[:2]} cannot be resized to {size}: no side may be zero.")
    out = array if array.dtype == np.uint8 else array.astype(np.float32)
    if interpolation != "auto":
        return _resize(out, size, interpolation)
    height, width = out.shape[:2]
    out = _resize(out, (min(height, size[0]), min(width, size[1])), "area")
    return _resize(out, size, "linear")


def _resize(array: NDArray[Any], size: tuple[int, int], interpolation: Interpolation) -> NDArray[Any]:
    if array.shape[:2] == tuple(size):
        return array
    if array.ndim == 3 and array.shape[2] > 4:  # more than OpenCV takes at once
        parts = [_resize(array[..., i : i + 4], size, interpolation) for i in range(0, array.shape[2], 4)]
        return np.concatenate(parts, axis=-1)
    out = cv2.resize(np.ascontiguousarray(array), size[::-1], interpolation=_INTERPOLATION[interpolation])
    return np.asarray(out).reshape(*size, *array.shape[2:])


def warp(photo: Picture, matrix: NDArray[Any], edge: Edge = "grey") -> Picture:
    """``photo`` after an affine map of its plane: what was at (x, y) comes to ``matrix @ (x, y, 1)``.

    ``matrix`` is (2, 3), coordinates are those of ``geometry``: pixel ``i`` covers ``[i, i + 1]``. What lies between
    pixels is interpolated linearly. What comes from outside the photo is grey (128), the photo mirrored at its edges
    ("reflect"), or the pixel at its edge ("repeat").
    """
    centres = np.asarray(matrix, np.float64) @ [[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]] - [[0, 0, 0.5]] * 2
    out = cv2.warpAffine(
        np.ascontiguousarray(photo),
        centres,
        photo.shape[1::-1],
        flags=cv2.INTER_LINEAR,
        borderMode=_EDGES[edge],
        borderValue=(128, 128, 128),
    )
    return np.asarray(out, np.uint8)


_EDGES = {"grey": cv2.BORDER_CONSTANT, "reflect": cv2.BORDER_REFLECT, "repeat": cv2.BORDER_REPLICATE}


def inpaint(photo: Picture, hole: NDArray[np.bool_], radius: float = 3) -> Picture:
    """``photo`` with ``hole`` (H, W) painted from what is around it, after Telea (2004); some of it must be left."""
    return np.asarray(cv2.inpaint(np.ascontiguousarray(photo), hole.astype(np.uint8), radius, cv2.INPAINT_TELEA))


def to_grey(rgb: NDArray[Any]) -> NDArray[np.float32]:
    """The luma of an RGB picture (H, W, 3) after ITU-R 601 as float32 (H, W), not rounded."""
    return np.asarray(rgb, np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)


@cache
def _table(name: str) -> Picture:
    ramp = np.arange(256, dtype=np.uint8)
    if name == "grey":
        return np.repeat(ramp[:, None], 3, axis=1)
    if name == "coolwarm":  # 511 steps, so that there is one for zero
        share = np.linspace(-1, 1, 511)[:, None]
        ends = np.where(share < 0, np.array([59, 76, 192]), np.array([180, 4, 38]))
        return np.asarray(np.rint(255 + abs(share) * (ends - 255)), np.uint8)
    coloured = cv2.applyColorMap(ramp[:, None], getattr(cv2, f"COLORMAP_{name.upper()}"))
    return np.asarray(coloured, np.uint8).reshape(256, 3)[:, ::-1].copy()


def colormap(values: NDArray[Any], name: Colormap = "jet") -> Picture:
    """Colours for ``values`` of any shape: uint8 of that shape and 3 more, RGB.

    Values lie in [0, 1], for "coolwarm" in [-1, 1] with blue below, white at and red above zero; others are
    clipped.
    """
    values = np.asarray(values, np.float32)
    steps = 255 * (values.clip(-1, 1) + 1) if name == "coolwarm" else 255 * values.clip(0, 1)
    return np.asarray(np.take(_table(name), np.rint(steps).astype(np.intp), axis=0), np.uint8)


def blend(photo: Picture, heat: Picture, alpha: float | NDArray[Any] = 0.5) -> Picture:
    """``photo * (1 - alpha) + heat * alpha``, rounded; ``alpha`` is a number or a map (H, W) in [0, 1]."""
    if not isinstance(alpha, np.ndarray):
        return np.asarray(cv2.addWeighted(photo, 1 - alpha, heat, alpha, 0), np.uint8)
    share = np.asarray(alpha, np.float32)[..., None]
    return np.rint(photo + (heat.astype(np.float32) - photo) * share).astype(np.uint8)


def text(
    canvas: Picture,
    string: str,
    at: tuple[int, int],
    size: int = 14,
    colour: tuple[int, int, int] = (0, 0, 0),
) -> None:
    """Letters ``string`` into ``canvas`` in place, its line's top left corner at ``at`` (x, y).

    ``size`` is in pixels, the line is 1.3 times as high. OpenCV 5 brings a font for most of the world's
    scripts; older ones write a question mark for all that is not ASCII.
    """
    x, y = int(at[0]), int(at[1]) + size
    if hasattr(cv2, "FontFace"):
        cv2.putText(canvas, _clean(string), (x, y), colour, cv2.FontFace("sans"), size, 400)
    else:
        cv2.putText(canvas, _clean(string), (x, y), *_hershey(size)[:2], colour, 1, cv2.LINE_AA)


def text_size(string: str, size: int = 14) -> tuple[int, int]:
    """Width and height in pixels of the line that ``text`` would draw."""
    height = round(1.3 * size)
    if hasattr(cv2, "FontFace"):
        x, _, width, _ = cv2.getTextSize((0, 0), _clean(string), (0, 0), cv2.FontFace("sans"), size, 400)
        return int(x + width), height
    return int(cv2.getTextSize(_clean(string), *_hershey(size), 1)[0][0]), height


def _hershey(size: int) -> tuple[int, float]:
    return cv2.FONT_HERSHEY_SIMPLEX, size / 34


def _clean(string: str) -> str:
    """One printable line: OpenCV stops at a NUL, and fails on half a character of a broken file name."""
    line = "".join(c if c.isprintable() else " " for c in string.encode("utf-8", "replace").decode())
    return line if hasattr(cv2, "FontFace") else line.encode("ascii", "replace").decode()
