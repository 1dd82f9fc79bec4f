"""From a method to its command: options from the signature, help from the docstring."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import best, options
from .given import Given, chunks
from .progress import Progress
from .report import Report
from .signature import NAMES, described, own_options

if TYPE_CHECKING:
    from ..attribution import Attribution

    Method = Callable[..., Attribution]

# Parameters that every method shares; the rest become options of their own.
_SHARED = frozenset({"model", "x", "target", "how"})
_CHUNK, _ROWS = 16, 1024  # photos, and other samples, whose maps are in memory at the same time


def build(method: Method) -> click.Command:
    """The click command of a method."""
    parameters = inspect.signature(method).parameters

    def run(**values: Any) -> None:
        _run(method, values)

    run.__doc__ = described(method)
    run = options.output(options.engine(options.preprocessing(run)))
    targets = [options.TARGETS] if "target" in parameters else []
    explained = [*targets, *options.EXPLAINED[1:]]
    own = own_options(method, _SHARED, more=best.HELP if best.possible(parameters) else {})
    for option in reversed([*explained, *own, *options.INPUTS, *_output_options()]):
        run = option(run)
    run = click.argument("photos", nargs=-1, metavar="PHOTO...")(run)
    run = click.argument("model", metavar="MODEL")(run)
    return click.command(method.__name__)(run)


def _output_options() -> Iterator[Callable[[Any], Any]]:
    yield click.option(
        "-o",
        "--out",
        default=".",
        show_default=True,
        metavar="OUT",
        help="A picture's name (for one photo) or a folder, for PHOTO.METHOD.png, or PHOTO.METHOD.TARGET.png.",
    )
    yield click.option("--panel", is_flag=True, help="Also write photo, map and the top five side by side.")
    yield click.option("--npz", is_flag=True, help="Also write the raw maps; without a photo they always are.")
    yield click.option("--csv", is_flag=True, help="Also write a table: a row per sample and number of the input.")
    yield click.option("--manifest", is_flag=True, help="Also write manifest.json: how every result came about.")


def _run(method: Method, values: dict[str, Any]) -> None:
    from .. import files
    from ..model import load
    from ..saving import HEADER

    as_json, quiet, _ = values.pop("as_json"), values.pop("quiet"), values.pop("debug")
    kinds = {k: values.pop(k) for k in ("panel", "npz")}
    lists = {k: values.pop(k) for k in ("csv", "manifest")}
    given = Given(*(values.pop(k) for k in ("photos", "inputs", "tokens", "drop")))
    kinds["npz"] |= bool(values.get("tensors") or values.get("wrt"))  # tensors are asked for by name
    place, name, wanted = values.pop("out"), values.pop("model"), _targets(values)
    read = given.read | {name: "the model", values.get("labels") or "": "the labels file"}
    found = partial(_outputs, place, method=method.__name__, targets=wanted, kinds=kinds, lists=lists, read=read)
    # What is wrong with the names of photos is said before anything large is read.
    outputs = found(given.names) if given.photos else None
    model = load(name)
    given.load(model)
    pictures, listed = outputs or found(given.names)
    engine = options.make_engine(values)
    preprocessing, notes = None, list[str]()
    if given.photos or any(values[flag] is not None for flag in options.PREPROCESSING):
        preprocessing, notes = options.make_preprocessing(model, values)
    values = {k: v for k, v in values.items() if k not in options.PREPROCESSING}
    values |= {name: values.pop(word) for name, word in NAMES.items() if word in values}
    shared: dict[str, Any] = {"engine": engine, "preprocessing": preprocessing}

    with ExitStack() as stack:
        progress = stack.enter_context(Progress(quiet))
        table = stack.enter_context(files.table(listed["csv"], HEADER)) if lists["csv"] else None
        shared["progress"] = progress
        report = Report([*given.notes, *notes], as_json, quiet, list(wanted), manifest=lists["manifest"])
        if best.asked(values):
            report.ranked(best.ranking(method.__name__, model, given, wanted, values | shared, quiet))
            values["layer"] = report.ranking["best"]
        chunk = _CHUNK if given.photos else _ROWS
        advance = progress("photos", len(given)) if len(given) > chunk else lambda n: None
        for which in chunks(given, chunk):
            for target, made in pictures.items():
                explain = partial(method, model, **({"target": target} if wanted else {}), **values, **shared)
                for some, result in _explain(explain, which, report, given):
                    progress.hide()
                    report.add(result, result.write([made[i] for i in some], **kinds))
                    if table is not None:
                        table(row for i in range(len(result)) for row in result.rows(i))
            advance(len(which))
    if table is not None:
        report.wrote(listed["csv"])
    report.finish(listed["manifest"] if lists["manifest"] else None)


def _targets(values: dict[str, Any]) -> list[str]:
    """What is to be explained, each once; takes it out of `values`."""
    from ..target import several

    return list(dict.fromkeys(target for text in values.pop("target", ()) for target in several(text)))


def _outputs(
    place: str,
    names: Sequence[str],
    method: str,
    targets: Sequence[str],
    kinds: dict[str, bool],
    lists: dict[str, bool],
    read: dict[Any, str],
) -> tuple[dict[str, list[Path]], dict[str, Path]]:
    """Where the picture of each target and sample goes, and the lists of all; none of them is what is read."""
    from .. import files

    ends = [f".{method}"] if len(targets) < 2 else [f".{method}.{t}" for t in files.short_names(targets, 40)]
    pictures, listed = places(place, [name + end for end in ends for name in names], method)
    written = [*pictures, *(listed[k] for k in lists if lists[k])]
    for kind, suffix in (("panel", ".panel.png"), ("npz", ".npz")):
        written += [p.with_suffix(suffix) for p in pictures if kinds[kind]]
    files.spare(read, written)
    n = len(names)
    return {t: pictures[k * n : (k + 1) * n] for k, t in enumerate(targets or [""])}, listed


def _explain(
    explain: Callable[[Any], Attribution], which: range, report: Report, given: Given
) -> Iterator[tuple[range, Attribution]]:
    """Explain some samples at once; if a photo cannot be read, or lacks what is to be explained, that is reported.

    The others go one by one.
    """
    from ..errors import AbsentError, PhotoError

    try:
        yield which, explain(given.part(which))
    except (AbsentError, PhotoError) as error:
        if not given.photos:
            raise
        if len(which) == 1:
            report.fail(given.photos[which[0]], error)
            return
        for i in which:
            yield from _explain(explain, range(i, i + 1), report, given)


def outputs(text: str, photos: Sequence[Path], method: str) -> tuple[dict[Path, Path], Path]:
    """Where each photo's picture goes, and the manifest."""
    from ..files import stems

    pictures, listed = places(text, [f"{stem}.{method}" for stem in stems(photos)], method)
    return dict(zip(photos, pictures, strict=True)), listed["manifest"]


def places(text: str, names: Sequence[str], method: str) -> tuple[list[Path], dict[str, Path]]:
    """Where the pictures with these names go, and what is written of all of them: "manifest" and "csv"."""
    from ..errors import OutputError
    from ..files import in_the_way
    from ..saving import PICTURES

    if not text:
        raise OutputError("-o is empty: is a variable of the shell unset? Name a file or a folder.")
    out = Path(text)
    try:
        # A suffix is that of a file, unless it begins with a digit, as in v1.5, or a slash says otherwise.
        named = not out.is_dir() and out.suffix[1:2].isalpha() and not text.endswith(("/", os.sep))
        file = in_the_way(out.parent if named else out)
    except OSError as error:
        raise OutputError(f"'{out}' cannot be written: {error.strerror}. Name another with -o.") from error
    if file is not None:
        raise OutputError(f"'{file}' is a file, not a folder: name another with -o.")
    if named and out.suffix.lower() not in PICTURES:
        raise OutputError(
            f"'{out}' cannot be written: a picture's name ends in .png or .jpg, a new folder's in {os.sep} (-o)."
        )
    if named and len(names) > 1:
        raise OutputError(f"There are {len(names)} pictures for the one file '{out}': name a folder with -o.")
    if named:
        return [out], {"manifest": out.with_suffix(".json"), "csv": out.with_suffix(".csv")}
    pictures = [out / f"{name}.png" for name in names]
    return pictures, {"manifest": out / "manifest.json", "csv": out / f"{method}.csv"}
