"""From a photo to the model's input tensor and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from onnx_inspect import geometry
from onnx_inspect.errors import InputError, PhotoError

Resize = Literal["crop", "squash", "letterbox"]
Color = Literal["RGB", "BGR", "GREY"]
Layout = Literal["NCHW", "NHWC", "NHW"]

PRESETS: dict[str, dict[str, Any]] = {
    "imagenet": {
        "color": "RGB",
        "scale": 1 / 255,
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
        "crop_ratio": 0.875,
    },
    "tf": {"color": "RGB", "scale": 1 / 127.5, "mean": (1.0,), "std": (1.0,)},
    "caffe": {"color": "BGR", "scale": 1.0, "mean": (104.0, 117.0, 123.0), "std": (1.0,)},
    "unit": {"scale": 1 / 255, "mean": (0.0,), "std": (1.0,)},
    "raw": {"scale": 1.0, "mean": (0.0,), "std": (1.0,)},
}
"""Named ways to normalise, as fields of Preprocessing: torchvision, TensorFlow [-1, 1], Caffe, [0, 1], none."""


@dataclass(frozen=True)
class Preprocessing:
    """How a photo becomes the model's input. Wrong values raise InputError when it is made.

    ``size`` is (height, width). ``resize``: "crop" takes the largest centred crop of the input's shape, of
    which only ``crop_ratio`` where it is larger than the input; "squash" the whole photo out of shape;
    "letterbox" the whole photo, in shape, on ``pad_value`` (0 to 255). Pixels of 0 to 255 become
    ``(x * scale - mean) / std`` with one number, or one per channel in the order that ``color`` says.
    ``layout`` is the tensor's, NHW for grey without a channel axis; ``dtype`` is numpy's name, whole numbers are rounded
    and clipped. ``source`` says where all this came from.
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
                _refuse(name, getattr(self, name), "one of " + ", ".join(get_args(kind)))
        if len(self.size) != 2 or not all(1 <= side <= 65536 for side in self.size):
            _refuse("size", "x".join(map(str, self.size)), "HxW, each from 1 to 65536")
        if not 0 < self.crop_ratio <= 1:
            _refuse("crop_ratio", self.crop_ratio, "above 0 and at most 1")
        for name in ("scale", "mean", "std", "pad_value"):
            values = np.atleast_1d(getattr(self, name))
            if not np.isfinite(values).all() or (name in ("scale", "std") and not values.all()):
                _refuse(name, getattr(self, name), "finite, and scale and std not zero")
            if name in ("mean", "std") and len(values) not in (1, self.channels):
                _refuse(name, getattr(self, name), f"one number or {self.channels}, one per channel")
        if self.layout == "NHW" and self.color != "GREY":
            _refuse("color", self.color, "GREY, since the layout NHW has no channels")
        if not _is_numeric(self.dtype):
            _refuse("dtype", self.dtype, "a numeric type such as float32 or uint8")

    @property
    def channels(self) -> int:
        """1 for grey, else 3."""
        return 1 if self.color == "GREY" else 3

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
        from onnx_inspect import image

        if photo.ndim != 3 or photo.shape[2] != 3 or photo.dtype != np.uint8:
            raise PhotoError(f"A photo is uint8 (H, W, 3), this is {photo.dtype} {photo.shape}. Convert it.")
        x0, y0, x1, y1 = self.geometry(photo.shape).box
        if self.resize == "letterbox":
            _, (top, left, inner_h, inner_w) = geometry.letterbox(photo.shape[:2], self.size)
            pixels = np.full((*self.size, 3), self.pad_value, np.float32)
            pixels[top : top + inner_h, left : left + inner_w] = image.resize(photo, (inner_h, inner_w))
        else:
            pixels = image.resize(photo[int(y0) : int(y1), int(x0) : int(x1)], self.size).astype(np.float32)
        pixels = image.to_grey(pixels)[..., None] if self.color == "GREY" else pixels
        pixels = pixels[..., ::-1] if self.color == "BGR" else pixels
        values = (pixels * np.float32(self.scale) - _row(self.mean)) / _row(self.std)
        if self.layout == "NCHW":
            values = np.moveaxis(values, -1, 0)
        elif self.layout == "NHW":
            values = values[..., 0]
        return np.ascontiguousarray(_cast(values, self.dtype))

    def batch(self, photos: Sequence[NDArray[np.uint8]]) -> NDArray[Any]:
        """Photos of any sizes as one tensor (N, ...)."""
        if not photos:
            raise PhotoError("There are no photos to make a batch of. Name at least one.")
        return np.stack([self.apply(photo) for photo in photos])

    def inverse(self, tensor: NDArray[Any]) -> NDArray[np.uint8]:
        """The picture that the model saw, uint8 (h, w, 3) RGB, from one sample with or without its axis N."""
        rank = 2 if self.layout == "NHW" else 3
        if tensor.ndim == rank + 1 and len(tensor) == 1:
            tensor = tensor[0]
        values = np.asarray(tensor, np.float32)
        if self.layout == "NHW":
            values = values[..., None]
        elif self.layout == "NCHW":
            values = np.moveaxis(values, 0, -1) if values.ndim == 3 else values
        if values.ndim != 3 or values.shape[-1] != self.channels:
            raise InputError(f"A tensor of shape {tensor.shape} is not one sample in {self.layout}.")
        pixels = (values * _row(self.std) + _row(self.mean)) / np.float32(self.scale)
        pixels = pixels[..., ::-1] if self.color == "BGR" else pixels
        return np.ascontiguousarray(_cast(np.broadcast_to(pixels, (*pixels.shape[:2], 3)), "uint8"))

    def describe(self) -> str:
        """All of it on one line, as in "224x224 centre crop 0.875, RGB, (x/255 - mean)/std, NCHW float32"."""
        fit = {"crop": "centre crop", "squash": "squashed", "letterbox": "letterboxed"}[self.resize]
        fit += f" {self.crop_ratio:g}" if self.resize == "crop" and self.crop_ratio < 1 else ""
        x = "x" if self.scale == 1 else f"x/{1 / self.scale:g}" if self.scale < 1 else f"x*{self.scale:g}"
        if any(self.mean):
            x = f"{x} - {_numbers(self.mean)}"
        if any(value != 1 for value in self.std):
            x = f"({x}) / {_numbers(self.std)}" if any(self.mean) else f"{x} / {_numbers(self.std)}"
        height, width = self.size
        return f"{height}x{width} {fit}, {self.color}, {x}, {self.layout} {self.dtype} ({self.source})"

    def to_json(self) -> dict[str, Any]:
        """Its fields as what JSON can say."""
        return {
            key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Preprocessing:
        """The inverse of ``to_json``; unknown names are passed over, InputError for what makes no sense."""
        known = {field.name for field in fields(cls)}
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items() if k in known}
        try:
            return cls(**values)
        except (TypeError, ValueError) as error:
            raise InputError(f"This preprocessing cannot be read: {error}. Write it again.") from error


def _refuse(name: str, value: object, wanted: str) -> None:
    flag = "--" + name.replace("_", "-")
    raise InputError(
        f"The {name.replace('_', ' ')} {value} is impossible: it has to be {wanted}; see {flag}."
    )


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


class InputSpec(Protocol):
    """What ``resolve`` asks of a model's input."""

    @property
    def name(self) -> str:
        """The tensor's name."""

    @property
    def shape(self) -> tuple[int | str | None, ...]:
        """With the batch axis; free dimensions are names or None."""

    @property
    def dtype(self) -> str:
        """numpy's name of the type."""

    @property
    def layout(self) -> str | None:
        """"NCHW" or "NHWC" where the graph tells, else None."""


def resolve(
    spec: InputSpec,
    metadata: Mapping[str, str],
    normalises: bool,
    *,
    preset: str | None = None,
    **overrides: Any,
) -> tuple[Preprocessing, list[str]]:
    """The preprocessing of a model's input, and a sentence for each thing assumed, ending with its flag.

    What ``overrides`` (fields of Preprocessing as values or text; None is unset) leave open comes from
    ``preset``, a name in PRESETS; then from the model's ``metadata``: input_layout, color, scale, mean, std,
    size, resize, crop_ratio, pad_value; then from a guess: nothing to normalise where the graph ``normalises``
    itself or takes whole numbers, [0, 1] for grey, else ImageNet's. Metadata that make no sense are noted and
    passed over. InputError for an input that takes no photos, and for overrides or a preset that do not fit it.
    """
    notes: list[str] = []
    flags = {key: _parse(key, value) for key, value in overrides.items() if value is not None}
    told = _told(metadata, notes)
    axes, layout = _layout(spec, flags.get("layout") or told.pop("layout", None), notes)
    channels = 1 if layout == "NHW" else axes[layout.index("C")]
    if channels is None:
        channels = 1 if "GREY" in (flags.get("color"), told.get("color")) else 3
        notes.append(f"The model takes any number of channels; {channels} is assumed: change it with --color.")
    if channels not in (1, 3):
        raise InputError(
            f"The input {spec.name} {_shape(spec)} has {channels} channels; a photo has 3, or 1 when grey. "
            "Feed it an array instead of a photo."
        )
    grey = channels == 1
    if grey != (told.get("color", "GREY" if grey else "RGB") == "GREY"):
        notes.append(_ignored("color", told.pop("color"), f"the input has {channels} channels", "--color"))
    for key in ("mean", "std"):
        if len(told.get(key, (0,))) not in (1, channels):
            notes.append(_ignored(key, told.pop(key), f"the input has {channels} channels", f"--{key}"))

    chosen: dict[str, Any] = {"color": "GREY"} if grey else {}
    sources = ["flags"] if flags else []
    if preset is not None:
        if preset not in PRESETS:
            raise InputError(f"There is no preset {preset}. Choose one of {', '.join(PRESETS)} for --preset.")
        told = told | PRESETS[preset] | chosen
        sources.append(f"preset {preset}")
    elif told:
        sources.append("metadata")
    if not (flags.keys() | told.keys()) & {"scale", "mean", "std"}:
        name, why = _guess(spec.dtype, normalises, grey)
        chosen = PRESETS[name] | ({"mean": (128.0,)} if spec.dtype == "int8" else {}) | chosen
        sources.append(f"guess: {name}")
        notes.append(f"{why}: change it with --preset.")
    if not grey and "color" not in flags.keys() | told.keys():
        notes.append("The order of colours is not known; RGB is assumed: change it with --color.")
    fixed = axes[layout.index("H")], axes[layout.index("W")]
    chosen["size"] = _size(spec, fixed, flags.pop("size", None), told.pop("size", None), notes)
    chosen |= told | flags
    if "resize" not in flags.keys() | told.keys():
        notes.append("Photos are cropped to the centre, since nothing says otherwise: change it with --resize.")
    made = Preprocessing(**chosen | {"layout": layout, "dtype": spec.dtype, "source": " + ".join(sources)})
    if grey != (made.color == "GREY"):
        raise InputError(f"The input {spec.name} has {channels} channels, which is not {made.color}; see --color.")
    return made, notes


def _guess(dtype: str, normalises: bool, grey: bool) -> tuple[str, str]:
    """The preset, and why."""
    if normalises:
        return "raw", "The graph begins by scaling its input itself, so pixels go in as 0 to 255"
    if np.dtype(dtype).kind in "iu":
        span = "-128 to 127" if dtype == "int8" else "0 to 255"
        return "raw", f"The input is {dtype}, so pixels go in as {span}"
    if grey:
        return "unit", "The model does not say how it wants pixels; 0 to 1 is assumed for grey"
    return "imagenet", "The model does not say how it wants pixels; ImageNet's mean and std are assumed"


def _told(metadata: Mapping[str, str], notes: list[str]) -> dict[str, Any]:
    """The fields that metadata set; a note for each that makes no sense."""
    names = {"input_layout": "layout", "input_size": "size"} | {
        key: key for key in ("color", "scale", "mean", "std", "size", "resize", "crop_ratio", "pad_value")
    }
    told: dict[str, Any] = {}
    for key, field in names.items():
        if key in metadata:
            flag = "--" + field.replace("_", "-")
            try:
                told[field] = _parse(field, metadata[key])
                if field != "layout":
                    Preprocessing(**{"size": (1, 1), "color": "GREY"} | _trial(field, told[field]))
            except InputError as error:
                told.pop(field, None)
                notes.append(_ignored(key, metadata[key], str(error).split(":")[-1].split(";")[0].strip(), flag))
    return told
