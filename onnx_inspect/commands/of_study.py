"""From a study to its command: arguments and options from the signature, help from the docstring."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import options
from .of_method import described, own_options
from .progress import Progress

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
        optional = {"required": False} if parameters[name].default is not inspect.Parameter.empty else {}
        run = click.argument(name, **_ARGUMENTS[name] | optional)(run)
    return click.command(study.__name__)(run)


def _run(study: Study, positional: list[str], values: dict[str, Any]) -> None:
    from .. import files
    from ..errors import InputError, OutputError
    from ..finding import PICTURES
    from ..model import load

    as_json, quiet, _ = values.pop("as_json"), values.pop("quiet"), values.pop("debug")
    named = [values["model"]] if "model" in positional else list(values["models"])
    takes_folder = "out" in inspect.signature(study).parameters
    given_out = values.pop("out")
    writes_itself = takes_folder and Path(given_out or "").suffix.lower() not in PICTURES
    # The folder itself, also where it is there already: a run that was killed goes on in it.
    out = Path(given_out) if given_out and writes_itself else _out(given_out, study.__name__, named[0])
    if writes_itself and out.is_file():
        raise OutputError(f"'{out}' is a file, not a folder: name another with -o.")
    models = [load(name) for name in named]
    engine = options.make_engine(values)
    flagged = any(values[name] is not None for name in options.PREPROCESSING)
    preprocessing, notes = None, list[str]()
    try:
        preprocessing, notes = options.make_preprocessing(models[0], values)
    except InputError:  # a model that takes no photos has weights all the same
        if flagged or "photos" in inspect.signature(study).parameters:
            raise
    given = {"model": models[0], "models": models, "photos": values.pop("photos", ())}
    if "photos" not in positional and "photos" in inspect.signature(study).parameters:
        values["photos"] = list(given["photos"])
    if takes_folder:
        values["out"] = out if writes_itself else None
    read = dict.fromkeys(named, "the model") | {values["labels"] or "": "the labels file"}
    files.spare(read, [] if writes_itself else [out])
    with Progress(quiet) as progress:
        result = study(
            *(given[name] for name in positional),
            **{k: v for k, v in values.items() if k not in positional},
            engine=engine,
            preprocessing=preprocessing,
            progress=progress,
        )
    written = [*result.written, *result.save(out / study.__name__ if writes_itself else out)]
    result.notes = list(dict.fromkeys([*notes, *result.notes]))
    options.say(result.notes, quiet)
    if as_json:
        options.print_json(result.to_json() | {"files": written})
        return
    click.echo(options.printable(f"{study.__name__} -> {', '.join(map(str, written))}"))
    for line in result.lines:
        click.echo(f"   {options.printable(line)}")


def _out(given: str | None, study: str, model: str) -> Path:
    stem = f"{Path(model).stem}.{study}"
    if given is None:
        return Path(stem)
    out = Path(given)
    return out / stem if out.is_dir() or given.endswith(("/", "\\")) else out
