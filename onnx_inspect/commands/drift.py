"""What becomes of explanations when a model is quantised or converted: maps side by side, with rank correlation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from . import options
from .progress import Progress

if TYPE_CHECKING:
    from ..model import Model
    from ..preprocess import Preprocessing


@click.command("drift")
@click.argument("original", metavar="ORIGINAL")
@click.argument("converted", metavar="CONVERTED")
@click.argument("photos", nargs=-1, required=True, metavar="PHOTO...")
@options.explained
@click.option("--method", default="gradcam", show_default=True, metavar="NAME", help="What makes the maps.")
@click.option("--layer", default="auto", show_default=True, metavar="NAME", help="The layer of the method.")
@click.option("--converted-layer", default="", metavar="NAME", help="Its name in CONVERTED, if it is called otherwise.")
@click.option(
    "--shift",
    type=int,
    default=0,
    show_default=True,
    help="Added to a class of ORIGINAL for CONVERTED: 1 where that has a background class in front.",
)
@click.option(
    "--pictures",
    type=click.IntRange(0),
    default=8,
    show_default=True,
    help="Of how many photos, the most drifted, there are pictures.",
)
@click.option(
    "-o", "--out", metavar="OUT", help="A picture's name, a stem or a folder [default: named after CONVERTED]."
)
@click.option("--converted-preset", metavar="NAME", help="The --preset of CONVERTED, if it is another.")
@options.preprocessing
@options.engine
@options.output
def command(
    original: str,
    converted: str,
    photos: tuple[str, ...],
    out: str | None,
    converted_preset: str | None,
    as_json: bool,
    quiet: bool,
    **values: Any,
) -> None:
    """What becomes of explanations when a model is quantised or converted: maps side by side, with rank correlation.

    Both models explain the same class, that of ORIGINAL, each from the photo as it takes it. Pictures of the photos
    that drifted most, a table of all (.csv) and the record (.json) are written.
    """
    from .. import files
    from ..conversion import drift
    from ..finding import WRITTEN, picture_of
    from ..model import load
    from .of_study import place

    values.pop("debug")
    found = files.photos(photos)
    there = place(out, "drift", converted, False)
    read = {original: "the model", converted: "the model", values["labels"] or "": "the labels file"}
    picture = picture_of(there)
    written = [picture, *(picture.with_suffix(suffix) for suffix in sorted({*WRITTEN, ".csv"}))]
    files.spare(read | dict.fromkeys(found, "the photo"), written)
    models = [load(name) for name in (original, converted)]
    engine = options.make_engine(values)
    flags = {name: values.pop(name) for name in options.PREPROCESSING}
    presets = [flags["preset"], converted_preset or flags["preset"]]
    taken = [_preprocessing(m, flags | {"preset": preset}) for m, preset in zip(models, presets, strict=True)]
    with Progress(quiet) as progress:
        result = drift(
            models[0],
            models[1],
            list(found),
            **values,
            engine=engine,
            preprocessing=taken[0][0],
            converted_preprocessing=taken[1][0],
            progress=progress,
        )
    told = [
        f"{whose}: {note}" for whose, (_, notes) in zip(("original", "converted"), taken, strict=True) for note in notes
    ]
    result.notes = [*told, *result.notes]
    options.tell(result, result.save(there), as_json, quiet)


def _preprocessing(model: Model, flags: dict[str, Any]) -> tuple[Preprocessing | None, list[str]]:
    """What the flags say of a model's input, with notes; None where they say nothing, which the method finds out."""
    if all(value is None for value in flags.values()):
        return None, []
    return options.make_preprocessing(model, flags)
