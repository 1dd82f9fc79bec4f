"""From a study to its command: arguments and options from the signature, help from the docstring."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import options
from .progress import Progress
from .signature import described, own_options

if TYPE_CHECKING:
    from ..finding import Finding

    Study = Callable[..., Finding]

_ARGUMENTS: dict[str, dict[str, Any]] = {
    "model": dict(metavar="MODEL"),
    "models": dict(nargs=-1, required=True, metavar="MODEL..."),
    "photos": dict(nargs=-1, required=True, metavar="PHOTO..."),
}
_OUT = "A picture's name or a folder [default: MODEL.STUDY.png here]."
_FOLDER = "The folder for the results, where a run that was killed goes on, or a picture's name [default: MODEL.STUDY]."


def build(study: Study) -> click.Command:
    """The click command of a study."""
    parameters = inspect.signature(study).parameters
    positional = [n for n, p in parameters.items() if p.kind is p.POSITIONAL_OR_KEYWORD]

    def run(**values: Any) -> None:
        _run(study, positional, values)

    run.__doc__ = described(study)
    run = options.output(options.engine(options.preprocessing(run)))
    if "photos" in parameters:
        run = options.workers(run)
    for option in reversed(
        [
            *own_options(study, [*positional, "out", "how"], {"target": ("-t",)}),
            *options.EXPLAINED[1:],
            click.option("-o", "--out", metavar="OUT", help=_FOLDER if "out" in parameters else _OUT),
        ]
    ):
        run = option(run)
    for name in reversed(positional):
        needless = parameters[name].default is not inspect.Parameter.empty
        optional = {"required": False, "metavar": f"[{_ARGUMENTS[name]['metavar']}]"} if needless else {}
        run = click.argument(name, **_ARGUMENTS[name] | optional)(run)
    return click.command(study.__name__)(run)


def _run(study: Study, positional: list[str], values: dict[str, Any]) -> None:
    from ..finding import PICTURES
    from ..model import load

    as_json, quiet, _ = values.pop("as_json"), values.pop("quiet"), values.pop("debug")
    named = [values["model"]] if "model" in positional else list(values["models"])
    takes_folder = "out" in inspect.signature(study).parameters
    given_out = values.pop("out")
    writes_itself = takes_folder and Path(given_out or "").suffix.lower() not in PICTURES
    # The folder itself, also where it is there already: a run that was killed goes on in it.
    out = place(given_out, study.__name__, named[0], writes_itself)
    models = [load(name) for name in named]
    engine = options.make_engine(values)
    # Unasked, the study looks for it if it needs any: weights need none, and embeddings have their own.
    preprocessing, notes = None, list[str]()
    if any(values[name] is not None for name in options.PREPROCESSING):
        preprocessing, notes = options.make_preprocessing(models[0], values)
    values = {name: value for name, value in values.items() if name not in options.PREPROCESSING}
    given = {"model": models[0], "models": models, "photos": values.pop("photos", ())}
    if "photos" not in positional and "photos" in inspect.signature(study).parameters:
        values["photos"] = list(given["photos"])
    if takes_folder:
        values["out"] = out if writes_itself else None
    if not writes_itself:
        _spare(out, named, given["photos"], values)
    with Progress(quiet) as progress:
        result = study(
            *(given[name] for name in positional),
            **{k: v for k, v in values.items() if k not in positional},
            engine=engine,
            preprocessing=preprocessing,
            progress=progress,
        )
    result.notes = list(dict.fromkeys([*notes, *result.notes]))
    written = [*result.written, *result.save(out / study.__name__ if writes_itself else out)]
    options.tell(result, written, as_json, quiet)


def place(given: str | None, study: str, model: str, folder: bool) -> Path:
    """Where results go: a picture's name or stem, or with `folder` the folder that the study itself writes."""
    from ..errors import OutputError
    from ..files import in_the_way

    if given == "":
        raise OutputError("-o is empty: is a variable of the shell unset? Name a file or a folder.")
    stem = f"{Path(model).stem}.{study}"
    out = Path(given or stem)
    try:
        if given and not folder and (out.is_dir() or given.endswith(("/", "\\"))):
            out /= stem
        file = in_the_way(out if folder else out.parent)
    except OSError as error:
        raise OutputError(f"'{out}' cannot be written: {error.strerror}. Name another with -o.") from error
    if file is not None:
        raise OutputError(f"'{file}' is a file, not a folder: name another with -o.")
    return out


def _spare(out: Path, models: Sequence[str], photos: Sequence[str], values: Mapping[str, Any]) -> None:
    """Refuse to write over what is read: a model, the file of an option, a photo."""
    from .. import files
    from ..errors import PhotoError
    from ..finding import WRITTEN, picture_of
    from ..photos.source import gather

    picture = picture_of(out)
    written = [out, picture, *(picture.with_suffix(s) for s in sorted(WRITTEN))]
    read: dict[str | Path, str] = {v: f"the file of --{k}" for k, v in values.items() if isinstance(v, str)}
    files.spare(read | dict.fromkeys(models, "the model"), written)
    for name in photos if any(map(os.path.isfile, written)) else ():
        with suppress(PhotoError):  # what embed has written holds no photos
            found = gather(name)
            files.spare({p: "a photo" for p in map(found.path, range(len(found))) if p is not None}, written)
