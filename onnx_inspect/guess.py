"""From flags, metadata or a guess to a Preprocessing, with a note for whatever is guessed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, replace
from typing import Any, Protocol, get_args

import numpy as np

from . import preprocess
from .errors import InputError
from .preprocess import Color, Layout, Preprocessing, Resize, refuse

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

FLAGS = preprocess.FLAGS | {"preset": "--preset NAME"}
METADATA = {"input_size": "size"} | {
    key: key for key in ("size", "color", "scale", "mean", "std", "resize", "crop_ratio", "pad_value")
}
COLORS: dict[int, Color] = {1: "GREY", 3: "RGB"}
NORMALISATION = {"scale": 1, "mean": 0, "std": 1}
WORDS: dict[str, dict[str, str]] = {
    field: {word.upper(): word for word in get_args(kind)}
    for field, kind in (("resize", Resize), ("color", Color), ("layout", Layout))
}
WORDS["color"] |= dict.fromkeys(("GRAY", "GRAYSCALE", "GREYSCALE"), "GREY")
FREE = {False: 224, True: 640}  # the side of pictures where the file leaves it open; for detectors
_SHADES = 16  # fewer make no picture
WANTED = {"size": "HxW, like 224x224", "scale": "a number, like 1/255"} | dict.fromkeys(
    ("mean", "std"), "a number, or one per channel between commas"
)
_PYTHON = "oi.Preprocessing((height, width), scale=1/255), say"
ARRAY = "Methods take arrays and tables instead (x.npy, rows.csv, --input NAME=VALUE); other commands need photos."


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
    detects: bool = False,
    preset: str | None = None,
    **overrides: Any,
) -> tuple[Preprocessing, list[str]]:
    """The preprocessing of a model's input, and notes on what it is and what is assumed, with flags that change it.

    What ``overrides`` (fields of Preprocessing, as values or as text; None is unset) leave open comes from
    ``preset``, a name in PRESETS; then from the model's ``metadata``: input_layout, color, scale, mean, std,
    size, resize, crop_ratio, pad_value; then from a guess: pixels as they are where the graph ``normalises``
    itself or takes whole numbers, [0, 1] for grey, else ImageNet's. ImageNet's crop of 0.875 is guessed only
    where the shorter side has 128 pixels or more: models for smaller pictures are trained on whole ones.
    A model that ``detects`` is guessed to take the whole photo, letterboxed, from 0 to 1. Where only some of
    scale, mean and std are said, the rest is none. Metadata that make no sense are noted and passed over.
    InputError for an input that takes no photos, and where overrides or preset do not fit it.
    """
    notes: list[str] = []
    flags = {field: parse(field, value) for field, value in overrides.items() if value is not None}
    layout = _layout(spec, flags.pop("layout", None), metadata, notes)
    axes = dict(zip(layout, spec.shape, strict=True))
    channels = _channels(spec, axes.get("C", 1), flags, notes)
    height, width = (side if isinstance(side := axes[axis], int) else FREE[detects] for axis in "HW")
    size, color = (height, width), COLORS[channels]
    plain = Preprocessing(size, color=color, layout=layout, dtype=spec.dtype)

    def fits(**values: Any) -> Preprocessing:
        color = values.get("color", plain.color)
        if (color == "GREY") != (channels == 1):
            written = overrides.get("color") or color
            raise InputError(f"The input {_say(spec)} has {channels} channels, not {written}; see --color.")
        made = replace(plain, **values)
        if (shades := made.shades) < _SHADES:
            raise InputError(
                f"The input {_say(spec)} takes {spec.dtype}, whole numbers, and {made.formula} leaves {shades} of a "
                "photo's 256 shades: give pixels as they are (--preset raw)."
            )
        if any(isinstance(axes[axis], int) and axes[axis] != side for axis, side in zip("HW", made.size, strict=True)):
            raise InputError(f"The input {_say(spec)} is of a fixed size; leave out --size.")
        return made

    told = _told(metadata, fits, notes)
    sources = [name for name, used in (("flags", flags), ("metadata", told)) if used]
    if preset is not None:
        told |= _turned(_preset(preset, spec, channels), flags)
        sources.append(f"preset {preset}")
    said = told | flags
    if "size" not in said and not all(isinstance(axes[axis], int) for axis in "HW"):
        notes.append(f"the input's size is free and taken to be {size[0]}x{size[1]} ({FLAGS['size']})")
    guess: dict[str, Any] = {}
    guesses: dict[str, str] = {}
    missing = [field for field in NORMALISATION if field not in said]
    if missing == list(NORMALISATION):
        name, guess, guesses["preset"] = _guess(spec.dtype, normalises, channels, detects)
        sources.append(f"guess: {name}")
    elif missing:
        rest = " and ".join(f"{field} {NORMALISATION[field]}" for field in missing)
        notes.append(f"the rest of the normalisation is taken to be {rest} ({_flags(missing)})")
    if channels == 3 and (guess or not told):
        # Classifiers of photos are tested on the middle of them; small inputs come from whole pictures.
        guess["crop_ratio"] = 0.875 if min(said.get("size", size)) >= 128 and not detects else 1.0
    if channels == 3 and "color" not in said:
        guesses["color"] = "the order of colours"
    if "resize" not in said:
        guesses["resize"] = "the crop"
        if detects:  # what lies at the edge is to be found as well
            guess["resize"], guesses["resize"] = "letterbox", "the letterbox, as the model is a detector"
    made = fits(**_turned(guess, said) | said | {"source": " + ".join(sources)})
    how = f"guessed: {', '.join(guesses.values())}" if guesses else f"from {made.source}"
    return made, [*notes, f"preprocessing: {made.describe()}; {how} ({_flags(guesses or ['preset'])})"]


def _flags(names: Iterable[str]) -> str:
    return ", ".join(FLAGS[name] for name in names)


def _channels(spec: InputSpec, length: int | str | None, flags: Mapping[str, Any], notes: list[str]) -> int:
    """1 or 3; where the axis is free, what the flag for the colours says."""
    if not isinstance(length, int):
        length = 1 if flags.get("color") == "GREY" else 3
        notes.append(f"the number of channels is free and taken to be {length} ({FLAGS['color']})")
    if length not in COLORS:
        raise InputError(f"The input {_say(spec)} has {length} channels; a photo has 3, or 1 when grey. {ARRAY}")
    return length


def _told(metadata: Mapping[str, str], fits: Callable[..., Preprocessing], notes: list[str]) -> dict[str, Any]:
    """The fields that the metadata tell; what is impossible is noted and passed over."""
    told: dict[str, Any] = {}
    for key, field in METADATA.items():
        if key in metadata:
            try:
                value = parse(field, metadata[key])
                fits(**{field: value})
                told[field] = value
            except InputError:
                notes.append(_passed_over(key, metadata[key], field))
    return told


def _passed_over(key: str, value: str, field: str) -> str:
    flag = FLAGS.get(field, FLAGS["resize"])  # pad_value has none
    return f"the metadata's {key} = {value!r:.40} is impossible here and passed over ({flag})"


def _preset(name: str, spec: InputSpec, channels: int) -> dict[str, Any]:
    if name not in PRESETS:
        known = ", ".join(PRESETS)
        raise InputError(f"There is no preset {name}; --preset is one of {known}, from Python preprocessing={_PYTHON}.")
    if len(PRESETS[name]["mean"]) > channels:
        raise InputError(f"The preset {name} is for colours, the input {_say(spec)} is grey: try unit.")
    fields = _raw(spec.dtype) if name == "raw" else PRESETS[name]
    return fields | ({"color": "GREY"} if channels == 1 else {})


def in_python(preset: str) -> str:
    """A preset as Python says it, as in "oi.Preprocessing((height, width), scale=1/255)"."""
    plain = {field.name: field.default for field in fields(Preprocessing)}
    own = {name: value for name, value in PRESETS[preset].items() if value != plain[name]}
    told = [f"{name}=1/{1 / value:g}" if name == "scale" else f"{name}={value!r}" for name, value in own.items()]
    return f"oi.Preprocessing({', '.join(['(height, width)', *told])})"


def _raw(dtype: str) -> dict[str, Any]:
    """Pixels as they are: a quantised int8 input is uint8 with its zero in the middle."""
    return PRESETS["raw"] | ({"mean": (128.0,)} if dtype == "int8" else {})


def _turned(preset: Mapping[str, Any], said: Mapping[str, Any]) -> dict[str, Any]:
    """``preset`` for the order of colours that is said: its mean and std are in the order of its own."""
    if {preset.get("color"), said.get("color")} != {"RGB", "BGR"}:
        return dict(preset)
    return {k: v[::-1] if isinstance(v, tuple) else v for k, v in preset.items()}


def _guess(dtype: str, normalises: bool, channels: int, detects: bool) -> tuple[str, dict[str, Any], str]:
    """The name of a preset, its fields, and a clause for the note."""
    if normalises:
        return "raw", dict(PRESETS["raw"]), "pixels as 0 to 255 since the graph scales them itself"
    if np.dtype(dtype).kind in "iu":
        span = "-128 to 127" if dtype == "int8" else "0 to 255"
        return "raw", _raw(dtype), f"pixels as {span} since the input is {dtype}"
    if channels == 1 or detects:
        return "unit", dict(PRESETS["unit"]), "pixels from 0 to 1"
    return "imagenet", dict(PRESETS["imagenet"]), "ImageNet's mean and std"


def _layout(spec: InputSpec, flag: Any, metadata: Mapping[str, str], notes: list[str]) -> Layout:
    """By flag, by metadata, by the graph, or by the axis that looks like channels."""
    possible: list[Layout] = ["NCHW", "NHWC"] if len(spec.shape) == 4 else []
    # Signals have three axes too: the graph knows their layout, and pictures are seldom so much longer than wide.
    sides = [d for d in spec.shape[1:] if isinstance(d, int)]
    grey = spec.layout is None and (len(sides) < 2 or max(sides) <= 4 * min(sides))
    if len(spec.shape) == 3 and grey and not {spec.shape[0], spec.shape[2]} & {3, 4} and spec.shape[2] != 1:
        possible = ["NHW"]
    if not possible:
        raise InputError(
            f"The input {_say(spec)} takes no photos, which have axes N,C,H,W or N,H,W,C, or N,H,W if grey. {ARRAY}"
        )
    if flag is not None and flag not in possible:
        raise InputError(f"The input {_say(spec)} cannot be {flag}; --layout is {' or '.join(possible)}.")
    told = metadata.get("input_layout", "").strip().upper()
    if told and told not in possible:
        notes.append(_passed_over("input_layout", told, "layout"))
    for layout in possible:
        if layout in ((flag,) if flag else (told,) if told in possible else (spec.layout,)):
            return layout
    if len(possible) == 1:
        return possible[0]
    for channels in (3, 1, 4):
        for layout in possible:
            if spec.shape[layout.index("C")] == channels:
                notes.append(f"the layout is taken to be {layout} by the sizes of its axes ({FLAGS['layout']})")
                return layout
    raise InputError(f"The input {_say(spec)} does not show which axis has the channels; say so with --layout.")


def _say(spec: InputSpec) -> str:
    return f"'{spec.name}' ({', '.join('?' if side is None else str(side) for side in spec.shape)})"


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
    if field in ("dtype", "source"):
        return word
    if field in WORDS:
        known = WORDS[field]
        return known.get(word.upper()) or refuse(field, value, "one of " + ", ".join(dict.fromkeys(known.values())))
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
        refuse(field, value, WANTED.get(field, "a number"))
    return number


def _number(text: str) -> float:
    above, _, below = text.partition("/")
    return float(above) / float(below or 1)
