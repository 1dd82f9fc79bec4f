import re
from dataclasses import dataclass, replace

import click
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx_inspect.errors import InputError
from onnx_inspect.guess import FLAGS, PRESETS, parse, resolve
from onnx_inspect.preprocess import Preprocessing


@dataclass
class Spec:
    shape: tuple
    dtype: str = "float32"
    layout: str | None = None
    name: str = "input"


def named(note):
    """The flags in the bracket that ends a note."""
    assert note[0].islower()
    bracket = re.search(r" \((--[a-z-]+ [A-Za-z]+(?:, --[a-z-]+ [A-Za-z]+)*)\)$", note)
    assert bracket, note
    return re.findall(r"--([a-z-]+)", bracket[1])


def fields(made, *names):
    return tuple(getattr(made, name) for name in names)


@pytest.mark.parametrize(
    ("spec", "normalises", "expected", "flags"),
    [
        (Spec((None, 3, 64, 48)), False, ("NCHW", (64, 48), "RGB", 1 / 255), ["layout", "preset color"]),
        (Spec(("N", 3, 64, 48), layout="NCHW"), True, ("NCHW", (64, 48), "RGB", 1.0), ["preset color"]),
        (Spec((1, 64, 48, 3), "uint8"), False, ("NHWC", (64, 48), "RGB", 1.0), ["layout", "preset color"]),
        (Spec((1, 1, 28, 28)), False, ("NCHW", (28, 28), "GREY", 1 / 255), ["layout", "preset"]),
        (Spec((None, 28, 30)), False, ("NHW", (28, 30), "GREY", 1 / 255), ["preset"]),
        (Spec((1, 3, "h", 96), layout="NCHW"), False, ("NCHW", (224, 96), "RGB", 1 / 255), ["size", "preset color"]),
        (Spec((1, None, 8, 8), layout="NCHW"), True, ("NCHW", (8, 8), "RGB", 1.0), ["color", "preset color"]),
    ],
)
def test_guesses_and_their_notes(spec, normalises, expected, flags):
    made, notes = resolve(spec, {}, normalises)
    assert fields(made, "layout", "size", "color", "scale") == expected
    assert made.dtype == spec.dtype and made.source.startswith("guess: ")
    assert [" ".join(named(note)) for note in notes] == [*flags[:-1], f"{flags[-1]} resize"]
    shape = [side if isinstance(side, int) else 1 for side in spec.shape]
    assert made.batch([np.zeros((50, 60, 3), np.uint8)]).ndim == len(shape)


def test_guesses_for_colour_and_int8():
    made, notes = resolve(Spec((1, 3, 224, 224), layout="NCHW"), {}, False)
    guessed = Preprocessing((224, 224), **PRESETS["imagenet"])
    assert made == replace(guessed, source="guess: imagenet")
    assert notes == [
        "preprocessing: 224x224 centre crop 0.875, RGB, (x/255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225), "
        "NCHW float32; guessed: ImageNet's mean and std, the order of colours, the crop "
        "(--preset NAME, --color ORDER, --resize RULE)"
    ]
    made, notes = resolve(Spec((1, 3, 8, 8)), {}, False, resize="crop")
    assert notes[1:] == [notes[1]] and "resize" not in named(notes[1])
    made, notes = resolve(Spec((1, 3, 8, 8)), {}, False, preset="caffe")
    assert notes[1:] == [f"preprocessing: {made.describe()}; guessed: the crop (--resize RULE)"]
    made, notes = resolve(Spec((1, 3, 8, 8), "int8"), {}, False)
    assert made.mean == (128.0,) and "-128 to 127" in notes[1]


@pytest.mark.parametrize(("shape", "ratio"), [((32, 32), 1), ((127, 300), 1), ((128, 128), 0.875), ((300, 128), 0.875)])
def test_small_inputs_see_whole_photos(shape, ratio):
    spec = Spec((1, 3, *shape))
    assert resolve(spec, {}, False)[0].crop_ratio == ratio
    assert resolve(Spec((1, 3, None, None)), {}, False, size=shape)[0].crop_ratio == ratio
    assert resolve(spec, {}, False, crop_ratio=0.5)[0].crop_ratio == 0.5
    assert resolve(spec, {}, False, preset="imagenet")[0].crop_ratio == 0.875


def test_mean_and_std_follow_the_order_of_colours():
    for options in ({"preset": "imagenet"}, {}):
        made, _ = resolve(Spec((1, 3, 8, 8)), {}, False, color="bgr", **options)
        assert fields(made, "mean", "std") == ((0.406, 0.456, 0.485), (0.225, 0.224, 0.229))
    assert resolve(Spec((1, 3, 8, 8)), {"color": "BGR"}, False)[0].mean == (0.406, 0.456, 0.485)
    assert resolve(Spec((1, 3, 8, 8)), {}, False, preset="caffe", color="RGB")[0].mean == (123.0, 117.0, 104.0)
    given = resolve(Spec((1, 3, 8, 8)), {}, False, preset="caffe", color="RGB", mean=(1.0, 2.0, 3.0))[0]
    assert given.mean == (1.0, 2.0, 3.0)


def test_detectors_see_the_whole_photo():
    made, notes = resolve(Spec((1, 3, 416, 320), layout="NCHW"), {}, False, detects=True)
    assert made == Preprocessing((416, 320), "letterbox", scale=1 / 255, source="guess: unit")
    assert named(notes[-1]) == ["preset", "color", "resize"] and "letterbox, as the model is a detector" in notes[-1]
    assert resolve(Spec((1, 3, "h", "w"), layout="NCHW"), {}, False, detects=True)[0].size == (640, 640)
    for preset in PRESETS:
        assert resolve(Spec((1, 3, 416, 416)), {}, False, detects=True, preset=preset)[0].resize == "letterbox"
    assert resolve(Spec((1, 3, 8, 8)), {}, False, detects=True, resize="squash")[0].resize == "squash"
    assert resolve(Spec((1, 3, 8, 8)), {"resize": "crop"}, False, detects=True)[0].resize == "crop"
    assert resolve(Spec((1, 3, 8, 8)), {}, True, detects=True)[0].scale == 1


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int32"])
@pytest.mark.parametrize(
    "flags", [{"preset": "unit"}, {"preset": "tf"}, {"preset": "imagenet"}, {"scale": "1/255"}, {"std": "100"}]
)
def test_whole_numbers_take_no_fractions(dtype, flags):
    spec = Spec((1, 3, 8, 8), dtype)
    with pytest.raises(InputError) as refused:
        resolve(spec, {}, False, **flags)
    for said in ("The input 'input' (1, 3, 8, 8) takes " + dtype, "of a photo's 256 shades", "(--preset raw)."):
        assert said in str(refused.value)
    assert resolve(spec, {}, False, preset="raw")[0].shades == 256, "what is advised helps"
    made, notes = resolve(spec, {"scale": "1/255"}, False)
    assert made.scale == 1 and any("scale = '1/255' is impossible here and passed over" in note for note in notes)


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_as_python_says_them(preset):
    """What is advised is what the command line does, but for how the photo is fitted."""
    from onnx_inspect.guess import in_python

    class oi:  # noqa: N801
        Preprocessing = Preprocessing

    made = eval(in_python(preset), {"oi": oi, "height": 224, "width": 224})
    assert replace(made, source="") == replace(resolve(Spec((1, 3, 224, 224)), {}, False, preset=preset)[0], source="")


def test_flags_are_those_of_the_command_line():
    from onnx_inspect.commands import options

    command = options.preprocessing(click.command()(lambda: None))
    assert set(FLAGS.values()) == {f"{o.opts[0]} {o.metavar}" for o in command.params}
    assert set(FLAGS) == set(options.PREPROCESSING)


METADATA = {
    "input_layout": "nhwc",
    "color": "bgr",
    "scale": "1/255",
    "mean": "[0.1, 0.2, 0.3]",
    "std": "0.5",
    "input_size": "3x3",
    "resize": "letterbox",
    "crop_ratio": "0.9",
    "pad_value": "0",
}


def test_metadata_say_everything():
    made, notes = resolve(Spec((1, 3, 3, 3)), METADATA, False)
    expected = Preprocessing(
        (3, 3), "letterbox", 0.9, "BGR", 1 / 255, (0.1, 0.2, 0.3), (0.5,), "NHWC", "float32", 0.0, "metadata"
    )
    assert made == expected
    assert notes == [f"preprocessing: {made.describe()}; from metadata (--preset NAME)"]


def test_flags_over_preset_over_metadata():
    made, notes = resolve(Spec((1, 3, 3, 3)), METADATA, False, preset="tf", mean="2", std=None, layout="nchw", size=3)
    assert made == Preprocessing(
        (3, 3), "letterbox", 0.9, "RGB", 1 / 127.5, (2.0,), (1.0,), "NCHW", "float32", 0.0, made.source
    )
    assert made.source == "flags + metadata + preset tf"
    assert notes == [f"preprocessing: {made.describe()}; from {made.source} (--preset NAME)"]


def test_some_numbers_are_not_filled_up_by_imagenet():
    for metadata, flags in (({"mean": "0.5"}, {}), ({}, {"mean": 0.5})):
        made, _ = resolve(Spec((1, 3, 8, 8)), metadata, False, **flags)
        assert fields(made, "scale", "mean", "std", "crop_ratio") == (1.0, (0.5,), (1.0,), 1.0)


def test_the_rest_of_a_normalisation_is_none_and_said():
    spec = Spec((1, 3, 224, 224), layout="NCHW")
    made, notes = resolve(spec, {}, False, scale="1/255")
    assert fields(made, "scale", "mean", "std", "crop_ratio") == (1 / 255, (0.0,), (1.0,), 0.875)
    rest = "the rest of the normalisation is taken to be mean 0 and std 1 (--mean NUMBERS, --std NUMBERS)"
    assert notes[0] == rest and notes[1].startswith("preprocessing: 224x224 centre crop 0.875, RGB, x/255, NCHW")
    _, notes = resolve(spec, {"mean": "0.5"}, False, std=2, size=224)
    assert notes[0] == "the rest of the normalisation is taken to be scale 1 (--scale NUMBER)"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("mean", "a,b,c"),
        ("mean", "0.1,0.2"),
        ("std", "0"),
        ("scale", "1/0"),
        ("scale", "__import__('os')"),
        ("scale", "1,2"),
        ("size", "9x9"),
        ("size", "8x8x8"),
        ("size", "8.5"),
        ("input_size", ""),
        ("size", "1e999"),
        ("color", "GREY"),
        ("color", "HSV"),
        ("resize", "stretch"),
        ("crop_ratio", "nan"),
        ("pad_value", "inf"),
        ("pad_value", "256"),
        ("input_layout", "CHWN"),
    ],
)
def test_bad_metadata_are_noted_and_passed_over(key, value):
    good, before = resolve(Spec((1, 3, 8, 8), layout="NCHW"), {}, False)
    made, notes = resolve(Spec((1, 3, 8, 8), layout="NCHW"), {key: value}, False)
    assert made == good and len(notes) == len(before) + 1
    (note,) = [note for note in notes if note not in before]
    field = {"input_layout": "layout", "input_size": "size"}.get(key, key)
    assert key in note and named(note) == [field.replace("_", "-")]


@given(st.dictionaries(st.sampled_from(list(METADATA)), st.text(max_size=12)))
def test_no_metadata_crash(metadata):
    for note in resolve(Spec((1, 3, 8, 8)), metadata, False)[1]:
        assert named(note) and len(note) < 300


@pytest.mark.parametrize(
    ("spec", "options", "match"),
    [
        (Spec((1, 4, 8, 8)), {}, "has 4 channels"),
        (Spec((1, 2, 8, 8), layout="NCHW"), {}, "has 2 channels"),
        (Spec((1, 7, 8, 9)), {}, "--layout"),
        (Spec((None,) * 4), {}, "--layout"),
        (Spec((3, 8, 8)), {}, "takes no photos"),
        (Spec((8, 8, 3)), {}, "takes no photos"),
        (
            Spec(("batch", 4)),
            {},
            r"'input' \(batch, 4\) takes no photos, .* take arrays and tables instead \(x\.npy, rows\.csv",
        ),
        (Spec(()), {}, "takes no photos"),
        (Spec((1, 3, 0, 8)), {}, "size"),
        (Spec((1, 3, 8, 8), "string"), {}, "dtype"),
        (Spec((1, 3, 8, 8)), {"size": "9x8"}, "fixed size"),
        (Spec((1, 3, 8, 8)), {"size": "axb"}, "The size axb is impossible: it has to be HxW, like 224x224; see --size"),
        (Spec((1, 3, 8, 8)), {"pad_value": "nan"}, "from 0 to 255; see --pad-value"),
        (Spec((1, 3, 8, 8)), {"pad_value": "-1"}, "from 0 to 255; see --pad-value"),
        (Spec((1, 3, 8, 8)), {"mean": "inf"}, "has to be finite; see --mean"),
        (Spec((1, 3, 8, 8)), {"color": "hsv"}, "The color hsv is impossible: it has to be one of RGB, BGR, GREY; "),
        (Spec((1, 3, 8, 8)), {"color": "gray"}, "'input' .* has 3 channels, not gray"),
        (Spec((1, 3, 8, 8)), {"resize": "Stretch"}, "The resize Stretch is impossible"),
        (Spec((1, 3, "h", "w")), {"size": "0x8"}, "--size"),
        (Spec((1, 3, 8, 8)), {"mean": "1,2"}, "--mean"),
        (Spec((1, 3, 8, 8)), {"std": "0"}, "--std"),
        (Spec((1, 3, 8, 8)), {"color": "grey"}, "--color"),
        (Spec((1, 1, 8, 8)), {"color": "rgb"}, "--color"),
        (Spec((1, 1, 8, 8)), {"preset": "imagenet"}, "try unit"),
        (
            Spec((1, 3, 8, 8)),
            {"preset": "pytorch"},
            r"one of imagenet, tf.*from Python preprocessing=oi\.Preprocessing",
        ),
        (Spec((1, 3, 8, 8)), {"layout": "NHW"}, "--layout"),
        (Spec((1, 3, 8, 8)), {"zoom": 2}, "zoom"),
    ],
)
def test_what_cannot_be_resolved_is_a_sentence(spec, options, match):
    with pytest.raises(InputError, match=match):
        resolve(spec, {}, False, **options)


def test_free_dimensions_take_flags():
    made, notes = resolve(Spec((None,) * 4), {}, True, layout="NHWC", size="32x48", color="gray", resize="squash")
    assert fields(made, "size", "color", "layout", "resize") == ((32, 48), "GREY", "NHWC", "squash")
    assert made.batch([np.zeros((5, 6, 3), np.uint8)]).shape == (1, 32, 48, 1) and len(notes) == 2


def test_parse():
    for text in ("224", 224, "[224, 224]", "224x224"):
        assert parse("size", text) == (224, 224)
    assert parse("mean", "[0.5, 1/4, -2e-1]") == (0.5, 0.25, -0.2)
    assert parse("mean", [1, 2]) == (1, 2) and parse("std", 2) == (2.0,)
    assert parse("color", '"Grayscale"') == "GREY" and parse("resize", "Crop") == "crop"
