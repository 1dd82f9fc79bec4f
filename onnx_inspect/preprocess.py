"""From a photo to the model's input tensor and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, NoReturn, get_args

import numpy as np
from numpy.typing import NDArray

from . import geometry
from .errors import InputError, PhotoError
from .facts import kept

Resize = Literal["crop", "squash", "letterbox"]
Color = Literal["RGB", "BGR", "GREY"]
Layout = Literal["NCHW", "NHWC", "NHW"]

FLAGS = {
    "size": "--size HxW",
    "resize": "--resize RULE",
    "crop_ratio": "--crop-ratio SHARE",
    "color": "--color ORDER",
    "scale": "--scale NUMBER",
    "mean": "--mean NUMBERS",
    "std": "--std NUMBERS",
    "pad_value": "--pad-value PIXEL",
    "layout": "--layout AXES",
}
"""How the command line sets a field of Preprocessing."""


@kept
@dataclass(frozen=True)
class Preprocessing:
    """How a photo becomes the model's input. Wrong values raise InputError when it is made.

    ``size`` is (height, width). ``resize``: "crop" takes the largest centred crop of the input's shape, of
    which only ``crop_ratio`` where it is larger than the input; "squash" the whole photo out of shape;
    "letterbox" the whole photo, in shape, on ``pad_value`` (0 to 255). Pixels of 0 to 255 become
    ``(x * scale - mean) / std`` with one number, or one per channel in the order that ``color`` says.
    ``layout`` is the tensor's, NHW for grey without a channel axis; ``dtype`` is numpy's name,
    whole numbers are rounded and clipped. ``source`` says where all this came from.
    """

    size: tuple[int, int]
    resize: Resize = "crop"
    crop_ratio: float = 1.0
    color: Color = "RGB"
    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    layout: Layout = "NCHW"
    dtype: str = "float32"
    pad_value: float = 114.0
    source: str = "flags"

    def __post_init__(self) -> None:
        for name, kind in (("resize", Resize), ("color", Color), ("layout", Layout)):
            if getattr(self, name) not in get_args(kind):
                refuse(name, getattr(self, name), "one of " + ", ".join(get_args(kind)))
        if len(self.size) != 2 or not all(1 <= side <= 65536 for side in self.size):
            refuse("size", "x".join(map(str, self.size)), "HxW, each from 1 to 65536")
        if not 0 < self.crop_ratio <= 1:
            refuse("crop_ratio", self.crop_ratio, "above 0 and at most 1")
        if not 0 <= self.pad_value <= 255:
            refuse("pad_value", self.pad_value, "from 0 to 255")
        for name in ("scale", "mean", "std"):
            values = np.atleast_1d(getattr(self, name))
            if not np.isfinite(values).all():
                refuse(name, getattr(self, name), "finite")
            if name != "mean" and not values.all():
                refuse(name, getattr(self, name), "other than 0")
            if name != "scale" and len(values) not in (1, self.channels):
                refuse(name, getattr(self, name), f"one number or {self.channels}, one per channel")
        if self.layout == "NHW" and self.color != "GREY":
            refuse("color", self.color, "GREY, since the layout NHW has no channels")
        if not _is_numeric(self.dtype):
            refuse("dtype", self.dtype, "a numeric type such as float32 or uint8")

    @property
    def channels(self) -> int:
        """1 for grey, else 3."""
        return 1 if self.color == "GREY" else 3

    @property
    def shades(self) -> int:
        """How many of a photo's 256 shades are left in the channel where it is fewest: whole numbers are rounded."""
        ramp = np.arange(256, dtype=np.float32)[:, None]
        values = _cast((ramp * np.float32(self.scale) - _row(self.mean)) / _row(self.std), self.dtype)
        return min(len(np.unique(channel)) for channel in values.T)

    @property
    def formula(self) -> str:
        """What becomes of a pixel, as in "(x/255 - mean) / std"."""
        x = "x" if self.scale == 1 else f"x/{1 / self.scale:g}" if self.scale < 1 else f"x*{self.scale:g}"
        if any(self.mean):
            x = f"{x} - {_numbers(self.mean)}"
        if any(value != 1 for value in self.std):
            x = f"({x}) / {_numbers(self.std)}" if any(self.mean) else f"{x} / {_numbers(self.std)}"
        return x

    def geometry(self, photo_shape: Sequence[int]) -> geometry.Geometry:
        """Where the model's input lies in a photo of shape (H, W, ...)."""
        height, width = photo_shape[:2]
        if min(height, width) < 1:
            raise PhotoError(f"A photo of {height}x{width} pixels has nothing to look at. Use another.")
        if self.resize == "squash":
            return geometry.squash((height, width), self.size)
        if self.resize == "letterbox":
            return geometry.letterbox((height, width), self.size)[0]
        return geometry.crop((height, width), self.size, self.crop_ratio)

    def apply(self, photo: NDArray[np.uint8]) -> NDArray[Any]:
        """A photo, uint8 (H, W, 3) RGB, as one sample in ``layout`` and ``dtype``, without the axis N."""
        from . import image

        if photo.ndim != 3 or photo.shape[2] != 3 or photo.dtype != np.uint8:
            raise PhotoError(f"A photo is uint8 (H, W, 3), this is {photo.dtype} {photo.shape}. Convert it.")
        x0, y0, x1, y1 = self.geometry(photo.shape).box
        if self.resize == "letterbox":
            _, (top, left, inner_h, inner_w) = geometry.letterbox(photo.shape[:2], self.size)
            pixels = np.full((*self.size, 3), self.pad_value, np.float32)
            pixels[top : top + inner_h, left : left + inner_w] = image.resize(photo, (inner_h, inner_w))
        else:
            pixels = image.resize(photo[int(y0) : int(y1), int(x0) : int(x1)], self.size)
        # In planes and in place: three numbers at a time, and fresh memory for each step, cost more than the resizing.
        planes = image.to_grey(pixels)[None] if self.color == "GREY" else np.moveaxis(pixels, -1, 0)
        values = np.array(planes[::-1] if self.color == "BGR" else planes, np.float32, order="C")
        values *= np.float32(self.scale)
        values -= _row(self.mean)[:, None, None]
        values /= _row(self.std)[:, None, None]
        if self.layout == "NHWC":
            values = np.moveaxis(values, 0, -1)
        elif self.layout == "NHW":
            values = values[0]
        return np.ascontiguousarray(_cast(values, self.dtype))

    def batch(self, photos: Sequence[NDArray[np.uint8]]) -> NDArray[Any]:
        """Photos of any sizes as one tensor (N, ...)."""
        if not photos:
            raise PhotoError("There are no photos to make a batch of. Name at least one.")
        return np.stack([self.apply(photo) for photo in photos])

    def inverse(self, tensor: NDArray[Any]) -> NDArray[np.uint8]:
        """The picture that the model saw, uint8 (h, w, 3) RGB, from one sample with or without its axis N."""
        if tensor.ndim == len(self.layout) and len(tensor) == 1:
            tensor = tensor[0]
        self.extent(tensor.shape)
        values = np.nan_to_num(np.asarray(tensor, np.float32))
        if self.layout == "NHW":
            values = values[..., None]
        elif self.layout == "NCHW":
            values = np.moveaxis(values, 0, -1)
        pixels = (values * _row(self.std) + _row(self.mean)) / np.float32(self.scale)
        pixels = pixels[..., ::-1] if self.color == "BGR" else pixels
        return np.ascontiguousarray(_cast(np.broadcast_to(pixels, (*pixels.shape[:2], 3)), "uint8"))

    def extent(self, shape: Sequence[int]) -> tuple[int, int]:
        """Height and width of a sample of some shape, without the axis N; InputError where it is no picture."""
        sides = dict(zip(self.layout[1:], shape, strict=False))
        if len(sides) != len(shape) or sides.get("C", 1) != self.channels:
            raise InputError(f"A tensor of shape {tuple(shape)} is not one sample in {self.layout}.")
        return sides["H"], sides["W"]

    def describe(self) -> str:
        """How, on one line, as in "224x224 centre crop 0.875, RGB, (x/255 - mean) / std, NCHW float32"."""
        fit = {"crop": "centre crop", "squash": "squashed", "letterbox": "letterboxed"}[self.resize]
        fit += f" {self.crop_ratio:g}" if self.resize == "crop" and self.crop_ratio < 1 else ""
        height, width = self.size
        return f"{height}x{width} {fit}, {self.color}, {self.formula}, {self.layout} {self.dtype}"

    def to_json(self) -> dict[str, Any]:
        """Its fields as what JSON can say."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Preprocessing:
        """The inverse of ``to_json``; unknown names are passed over, InputError for what makes no sense."""
        known = {field.name for field in fields(cls)}
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items() if k in known}
        try:
            return cls(**values)
        except (TypeError, ValueError) as error:
            raise InputError(f"This preprocessing cannot be read: {error}. Write it again.") from error


def refuse(name: str, value: object, wanted: str) -> NoReturn:
    """InputError for a field of Preprocessing that cannot be ``value``."""
    flag = f"; see {FLAGS[name].split()[0]}" if name in FLAGS else ""
    raise InputError(f"The {name.replace('_', ' ')} {value} is impossible: it has to be {wanted}{flag}.")


def _row(values: Sequence[float]) -> NDArray[np.float32]:
    return np.array(values, np.float32)


def _numbers(values: Sequence[float]) -> str:
    return f"{values[0]:g}" if len(values) == 1 else "(" + ", ".join(f"{v:g}" for v in values) + ")"


def _is_numeric(dtype: str) -> bool:
    try:
        return np.dtype(dtype).kind in "fiu"
    except TypeError:
        return False


def _cast(values: NDArray[np.float32], dtype: str) -> NDArray[Any]:
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return values.astype(kind)
    limits = np.iinfo(kind)
    return np.rint(values).astype(np.float64).clip(limits.min, limits.max).astype(kind)
