"""Several methods on the same photo: a sheet of their maps, with times and deletion scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from . import options
from .progress import Progress


@click.command("explain")
@click.argument("model", metavar="MODEL")
@click.argument("photos", nargs=-1, required=True, metavar="PHOTO...")
@options.explained
@click.option(
    "--methods",
    default="gradcam,ig,lrp,occlusion",
    show_default=True,
    metavar="NAMES",
    help="Methods with commas between, short names are ig, ixg, gbp and shap; all for every one that fits the model.",
)
@click.option(
    "--metrics",
    default="deletion",
    show_default=True,
    metavar="NAMES",
    help="deletion, insertion, road, average_drop, infidelity, max_sensitivity, with commas between.",
)
@click.option(
    "--boxes", metavar="FILE", default="", help="Known boxes, as localize takes them: does a map point at the thing?"
)
@click.option("-o", "--out", default=".", show_default=True, metavar="OUT", help="A picture's name, or a folder.")
@options.preprocessing
@options.engine
@options.output
def command(
    model: str, photos: tuple[str, ...], methods: str, metrics: str, out: str, as_json: bool, quiet: bool, **values: Any
) -> None:
    """Several methods on the same photo: a sheet of their maps, with times and deletion scores.

    Deletion is the mean probability of the class, or the mean score of a target that is none, while the most important
    pixels turn grey: less is better. Methods that cannot explain the model are left out, and said.
    """
    from .. import files, image
    from ..comparison import explain, sheet
    from ..errors import PhotoError
    from ..model import load
    from .of_method import outputs

    values.pop("debug")
    found = files.photos(photos)
    targets, _ = outputs(out, found, "explain")
    read = {model: "the model", values["labels"] or "": "the labels file", values["boxes"]: "the file of boxes"}
    files.spare(read | dict.fromkeys(found, "the photo"), list(targets.values()))
    loaded = load(model)
    engine = options.make_engine(values)
    preprocessing, notes = options.make_preprocessing(loaded, values)
    shared: dict[str, Any] = {"engine": engine, "preprocessing": preprocessing, **values}
    record: list[dict[str, Any]] = []
    said: set[str] = set()
    with Progress(quiet) as progress:
        for photo in found:
            try:
                entries = explain(loaded, photo, methods=methods, metrics=metrics, progress=progress, **shared)
            except PhotoError as error:  # it does not stop the rest
                click.echo(options.printable(f"error: {error}"), err=True)
                record.append({"photo": str(photo), "error": str(error)})
                continue
            progress.hide()
            image.write(targets[photo], sheet(entries))
            told = [*notes, *(n for e in entries for n in e.notes)]
            options.say([n for n in told if n not in said], quiet)
            said.update(told)
            record.append(
                {"photo": str(photo), "sheet": str(targets[photo]), "methods": [e.to_json() for e in entries]}
            )
            if not as_json:
                _print(photo, targets[photo], record[-1]["methods"])
    if as_json:
        options.print_json(record)
    if any("error" in entry for entry in record):
        raise click.exceptions.Exit(2)


def _print(photo: Path, written: Path, entries: list[dict[str, Any]]) -> None:
    click.echo(options.printable(f"{photo.name} -> {written}"))
    if (first := next((entry["result"] for entry in entries if "result" in entry), None)) is not None:
        of, score = first["results"][0]["explained"], first["results"][0]["score"]
        subject = f"{of['label']} ({of['index']})" if of is not None else first["target"]
        click.echo(options.printable(f"   score {score:.4g} of {subject}"))
    for entry in entries:
        if "seconds" in entry:
            numbers = "".join(f"  {k} {v[0]:.3g}" for k, v in entry["measures"].items() if v[0] is not None)
            click.echo(f"   {entry['method']:24} {entry['seconds']:7.2f} s{numbers}")
