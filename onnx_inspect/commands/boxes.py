"""What a detector finds: a numbered list for each photo, and a picture of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import options
from .doctor import table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..detection import Detection
    from ..doctor.sightings import Sighting

_TRIED = 2  # photos that preprocessings are compared on


@click.command("boxes")
@click.argument("model", metavar="MODEL")
@click.argument("photos", nargs=-1, required=True, metavar="PHOTO...")
@click.option("--labels", metavar="FILE", help="Class names: one per line, or JSON.")
@click.option("--threshold", type=click.FloatRange(0, 1), default=0.25, show_default=True, help="The least score.")
@click.option(
    "--iou",
    type=click.FloatRange(0, 1),
    default=0.45,
    show_default=True,
    help="Of two boxes of a class that overlap more than this, the less sure one is dropped.",
)
@click.option(
    "--head",
    default="",
    metavar="TEXT",
    help="What the file does not tell, as format=cxcywh,unit=share,objectness=no,background=last,boxes=NAME.",
)
@click.option("-o", "--out", default=".", show_default=True, metavar="OUT", help="A picture's name, or a folder.")
@options.preprocessing
@options.engine
@options.output
def command(
    model: str,
    photos: tuple[str, ...],
    labels: str | None,
    threshold: float,
    iou: float,
    head: str,
    out: str,
    as_json: bool,
    quiet: bool,
    **values: Any,
) -> None:
    """What a detector finds: a numbered list for each photo, and a picture of it.

    Boxes are read from the raw head, before NonMaxSuppression and the like, and thinned out per class; the surest comes
    first. The numbers are those of the targets box:1, box:2, ... of every method; coordinates are pixels of the photo.
    The picture is PHOTO.boxes.png.

    Where nobody says how pixels become numbers, a table on stderr tells what the first photos give with each preset.
    """
    from .. import files, image
    from ..detection import parse
    from ..doctor.sightings import sightings
    from ..errors import PhotoError
    from ..methods.detect import detections, target
    from ..methods.job import Job
    from ..model import load
    from .of_method import outputs

    values.pop("debug")
    found = files.photos(photos)
    targets, _ = outputs(out, found, "boxes")
    read = {model: "the model", labels or "": "the labels file"}
    files.spare(read | dict.fromkeys(found, "the photo"), list(targets.values()))
    stated = parse(f"threshold={threshold},iou={iou},{head}")
    loaded, engine = load(model), options.make_engine(values)
    preprocessing, notes = options.make_preprocessing(loaded, values)
    record: list[dict[str, Any]] = []
    said: set[str] = set()
    for photo in found:
        try:
            job = Job(loaded, photo, target(stated), engine=engine, preprocessing=preprocessing, labels=labels)
        except PhotoError as error:  # it does not stop the rest
            click.echo(options.printable(f"error: {error}"), err=True)
            record.append({"photo": str(photo), "error": str(error)})
            continue
        boxes, pixels = detections(job)[0], job.photos[0]
        assert pixels is not None
        image.write(targets[photo], drawn(pixels.pixels, boxes))
        options.say([n for n in [*notes, *job.notes] if n not in said], quiet)
        said.update([*notes, *job.notes])
        entry: dict[str, Any] = {"photo": str(photo), "picture": str(targets[photo])}
        record.append(entry | {"boxes": [b.to_json() for b in boxes], "notes": [*notes, *job.notes]})
        if not as_json:
            _print(photo, targets[photo], boxes, threshold)
    if as_json:
        options.print_json(record)
    good = [Path(entry["photo"]) for entry in record if "error" not in entry]
    if good and "guess" in preprocessing.source and not quiet:
        _compare(sightings(loaded, good[:_TRIED], preprocessing, stated, labels=labels, engine=engine))
    if any("error" in entry for entry in record):
        raise click.exceptions.Exit(2)


def drawn(photo: NDArray[np.uint8], boxes: list[Detection]) -> NDArray[np.uint8]:
    """A photo with its boxes, numbered, a colour per class; to its right what the numbers stand for."""
    import numpy as np

    from .. import image, layout, render

    size = max(12, min(18, photo.shape[0] // 28))
    colours = image.colormap(np.array([[b.index * 0.618034 % 1 for b in boxes]]), "turbo")[0]
    hues = [(int(r), int(g), int(b)) for r, g, b in colours]
    for one, hue in reversed([*zip(boxes, hues, strict=True)]):  # the surest on top
        photo = render.box(photo, one.box, hue, str(one.number))
    lines = [f"{one.number}  {one.label}  {100 * one.score:.0f} %" for one in boxes]
    limit = max(1, int(photo.shape[0] / (1.7 * size)))
    told = [layout.key(line, hue, size) for line, hue in zip(lines[:limit], hues, strict=False)]
    told += [layout.line(f"and {len(lines) - limit} more", 160, size)] if len(lines) > limit else []
    return layout.row([photo, layout.column(told, size // 3)], 12) if told else photo


def _compare(tried: list[Sighting]) -> None:
    """How other preprocessings fare where this one is a guess, on stderr: it is no result."""
    from ..doctor.sightings import check

    if tried:
        table(tried, err=True)
    options.say([str(found) for found in check(tried)], quiet=False)


def _print(photo: Path, picture: Path, boxes: list[Detection], threshold: float) -> None:
    click.echo(options.printable(f"{photo.name} -> {picture}"))
    if not boxes:
        click.echo(
            f"   nothing at {threshold:g} or surer: give a lower --threshold, or the model's own preprocessing "
            "(`onnx-inspect doctor MODEL PHOTO` compares)"
        )
    width = max((len(one.label) for one in boxes), default=0)
    for one in boxes:
        sides = "  ".join(f"{name} {side:6.1f}" for name, side in zip(("x0", "y0", "x1", "y1"), one.box, strict=True))
        line = f"{one.number:4}  {one.label:{width}} ({one.index})  {100 * one.score:5.1f} %  {sides}"
        click.echo(options.printable(line))
