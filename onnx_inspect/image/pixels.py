"""What is done to pictures as arrays: resize, warp, inpaint, colour, blend, letter."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import InputError

Picture = NDArray[np.uint8]
Colormap = Literal["jet", "viridis", "magma", "inferno", "turbo", "coolwarm", "grey"]
Interpolation = Literal["auto", "area", "linear", "nearest", "cubic"]
Edge = Literal["grey", "reflect", "repeat"]


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
    scripts, older ones for ASCII; letters that it lacks are written as their numbers, \\u0e01.
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
    fonts = hasattr(cv2, "FontFace")
    return "".join(c if c.isascii() or (fonts and _drawn(c)) else escaped(c) for c in line)


def escaped(letter: str) -> str:
    """A letter that no font has, in those that all have."""
    return letter.encode("ascii", "backslashreplace").decode()


@cache
def _drawn(letter: str) -> bool:
    """Whether the font has a letter: a question mark stands for all others."""
    one, other = (np.zeros((32, 48), np.uint8) for _ in range(2))
    for canvas, what in ((one, letter), (other, "?")):
        cv2.putText(canvas, what, (8, 24), 255, cv2.FontFace("sans"), 20, 400)
    return not np.array_equal(one, other)
