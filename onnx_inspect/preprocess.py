"""From a photo to the model's input tensor and back."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, NoReturn, Protocol, get_args

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
"""Named ways to normalise, as fields of Preprocessing: torchvision, [-1, 1], Caffe, [0, 1] and none."""


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
        values: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in data.items() if k in known
        }
        try:
            return cls(**values)
        except (TypeError, ValueError) as error:
            raise InputError(f"This preprocessing cannot be read: {error}. Write it again.") from error


def _refuse(name: str, value: object, wanted: str) -> NoReturn:
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
        """NCHW or NHWC where the graph tells, else None."""


def resolve(
    spec: InputSpec,
    metadata: Mapping[str, str],
    normalises: bool,
    *,
    preset: str | None = None,
    **overrides: Any,
) -> tuple[Preprocessing, list[str]]:
    """The preprocessing of a model's input, and a sentence for each thing assumed, ending with its flag.

    What ``overrides`` (fields of Preprocessing, as values or as text; None is unset) leave open comes from
    ``preset``, a name in PRESETS; then from the model's ``metadata``: input_layout, color, scale, mean, std,
    size, resize, crop_ratio, pad_value; then from a guess: pixels as they are where the graph ``normalises``
    itself or takes whole numbers, [0, 1] for grey, else ImageNet's. Metadata that make no sense are noted and
    passed over. InputError for an input that takes no photos, and where overrides or preset do not fit it.
    """
    notes: list[str] = []
    flags = {field: parse(field, value) for field, value in overrides.items() if value is not None}
    layout = _layout(spec, flags.pop("layout", None), metadata, notes)
    axes = dict(zip(layout, spec.shape, strict=True))
    channels = axes.get("C", 1)
    if not isinstance(channels, int):
        channels = 1 if flags.get("color") == "GREY" else 3
        notes.append(f"The number of channels is free; {channels} is assumed: change it with --color.")
    if channels not in (1, 3):
        raise InputError(
            f"The input {_say(spec)} has {channels} channels; a photo has 3, or 1 when grey. "
            "Feed it an array instead of a photo."
        )
    size = (_side(axes["H"]), _side(axes["W"]))
    color: Color = "GREY" if channels == 1 else "RGB"
    plain = Preprocessing(size, color=color, layout=layout, dtype=spec.dtype)

    def fits(**values: Any) -> Preprocessing:
        color = values.get("color", plain.color)
        if (color == "GREY") != (channels == 1):
            raise InputError(f"The input {_say(spec)} has {channels} channels, not {color}; see --color.")
        made = replace(plain, **values)
        for axis, side in zip("HW", made.size, strict=True):
            if axes[axis] not in (side, None) and isinstance(axes[axis], int):
                raise InputError(f"The input {_say(spec)} is of a fixed size; leave out --size.")
        return made

    told: dict[str, Any] = {}
    for key, field in _METADATA.items():
        if key in metadata:
            try:
                value = parse(field, metadata[key])
                fits(**{field: value})
                told[field] = value
            except InputError:
                notes.append(
                    f"The model's metadata say {key} = {metadata[key]!r}, which is not possible here and "
                    f"passed over: change it with --{field.replace('_', '-')}."
                )
    sources = [name for name, used in (("flags", flags), ("metadata", told)) if used]
    if preset is not None:
        if preset not in PRESETS:
            raise InputError(f"There is no preset {preset}; --preset is one of {', '.join(PRESETS)}.")
        if len(PRESETS[preset]["mean"]) > channels:
            raise InputError(f"The preset {preset} is for colours, the input {_say(spec)} is grey: try unit.")
        told |= PRESETS[preset] | ({"color": "GREY"} if channels == 1 else {})
        sources.append(f"preset {preset}")
    guess: dict[str, Any] = {}
    if not {"scale", "mean", "std"} & (told.keys() | flags.keys()):
        guess, name, why = _guess(spec.dtype, normalises, channels)
        sources.append(f"guess: {name}")
        notes.append(f"{why}: change it with --preset.")
    said = told.keys() | flags.keys()
    if channels == 3 and "color" not in said:
        notes.append("The order of colours is not known, RGB is assumed: change it with --color.")
    if "size" not in said and not all(isinstance(axes[axis], int) for axis in "HW"):
        notes.append(f"The input's size is free, {size[0]}x{size[1]} is assumed: change it with --size.")
    if "resize" not in said:
        notes.append(
            "Photos are cropped to their centre, since nothing else is known: change it with --resize."
        )
    return fits(**guess | told | flags | {"source": " + ".join(sources)}), notes


_METADATA = {"input_size": "size"} | {
    key: key for key in ("size", "color", "scale", "mean", "std", "resize", "crop_ratio", "pad_value")
}


def _guess(dtype: str, normalises: bool, channels: int) -> tuple[dict[str, Any], str, str]:
    """Fields, the name of the preset they are, and why."""
    if normalises:
        return PRESETS["raw"], "raw", "The graph scales its input itself, so pixels go in as 0 to 255"
    if np.dtype(dtype).kind in "iu":
        # A quantised int8 input is uint8 with its zero in the middle.
        span, mean = ("-128 to 127", (128.0,)) if dtype == "int8" else ("0 to 255", (0.0,))
        return PRESETS["raw"] | {"mean": mean}, "raw", f"The input is {dtype}, so pixels go in as {span}"
    name, span = ("unit", "0 to 1") if channels == 1 else ("imagenet", "ImageNet's mean and std")
    return PRESETS[name], name, f"The model does not say how it wants its pixels, {span} is assumed"


def _layout(spec: InputSpec, flag: Any, metadata: Mapping[str, str], notes: list[str]) -> Layout:
    """By flag, by metadata, by the graph, or by the axis that looks like channels."""
    possible: list[Layout] = ["NCHW", "NHWC"] if len(spec.shape) == 4 else []
    if len(spec.shape) == 3 and not {spec.shape[0], spec.shape[2]} & {3, 4} and spec.shape[2] != 1:
        possible = ["NHW"]
    if not possible:
        raise InputError(
            f"The input {_say(spec)} takes no photos: they need axes N,C,H,W or N,H,W,C, or N,H,W if grey. "
            "Feed it an array, or export the model with a batch axis."
        )
    if flag is not None and flag not in possible:
        raise InputError(f"The input {_say(spec)} cannot be {flag}; --layout is {' or '.join(possible)}.")
    told = metadata.get("input_layout", "").strip().upper()
    if told and told not in possible:
        notes.append(
            f"The metadata say input_layout = {told!r}, which is passed over: change it with --layout."
        )
    for layout in possible:
        if layout in ((flag,) if flag else (told,) if told in possible else (spec.layout,)):
            return layout
    if len(possible) == 1:
        return possible[0]
    for channels in (3, 1, 4):
        for layout in possible:
            if spec.shape[layout.index("C")] == channels:
                notes.append(
                    f"The layout is taken as {layout} by the sizes of its axes: change it with --layout."
                )
                return layout
    raise InputError(
        f"The input {_say(spec)} does not show which axis has the channels; say so with --layout."
    )


def _side(length: int | str | None) -> int:
    return length if isinstance(length, int) else 224


def _say(spec: InputSpec) -> str:
    return f"{spec.name} ({', '.join('?' if side is None else str(side) for side in spec.shape)})"


def parse(field: str, value: Any) -> Any:
    """A field of Preprocessing from text as people and metadata write it; other values pass, lists as tuples.

    ``"224"`` and ``"480x640"`` are sizes (height first), ``"1/255"`` is a number, numbers stand in JSON lists
    or between commas, words are taken in any case. InputError for a name that is no field and for other text.
    """
    if field not in {known.name for known in fields(Preprocessing)}:
        raise InputError(f"There is no preprocessing called {field}. Leave it out.")
    if field == "size" and isinstance(value, int):
        return value, value
    if field in ("mean", "std") and isinstance(value, int | float):
        return (float(value),)
    if not isinstance(value, str):
        return tuple(value) if isinstance(value, list) else value
    word = value.strip().strip('"')
    if field in ("color", "layout"):
        return {"GRAY": "GREY", "GRAYSCALE": "GREY", "GREYSCALE": "GREY"}.get(word.upper(), word.upper())
    if field in ("resize", "dtype", "source"):
        return word.lower() if field == "resize" else word
    parts = re.split(r"[\s,;x×]+" if field == "size" else r"[\s,;]+", word.strip("[](){} \t"))
    try:
        numbers = tuple(_number(part) for part in parts)
        if field == "size":
            if any(number % 1 for number in numbers):
                raise ValueError
            return tuple(int(number) for number in (numbers * 2 if len(numbers) == 1 else numbers))
        if field in ("mean", "std"):
            return numbers
        (number,) = numbers
    except (ValueError, ZeroDivisionError, OverflowError):
        _refuse(field, value, "a number, or numbers between commas")
    return number


def _number(text: str) -> float:
    above, _, below = text.partition("/")
    return float(above) / float(below or 1)
