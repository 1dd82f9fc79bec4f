"""From a method to its command: options from the signature, help from the docstring."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import MappingProxyType, UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin, get_type_hints

import click

from . import best, options
from .given import Given, chunks
from .progress import Progress

if TYPE_CHECKING:
    from ..attribution import Attribution
    from ..evidence import LayerRanking

    Method = Callable[..., Attribution]

# Parameters that every method shares; the rest become options of their own.
_SHARED = frozenset({"model", "x", "target", "how"})
_NAMES = {"preset": "reference"}  # --preset is one of preprocessing
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


def own_options(
    function: Callable[..., Any],
    shared: Collection[str],
    short: Mapping[str, tuple[str, ...]] = MappingProxyType({}),
    more: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Callable[[Any], Any]]:
    """An option for every parameter of a function but those shared; some have a short form too, or more help."""
    hints, docs = get_type_hints(function), _arguments(function)
    for name, parameter in inspect.signature(function).parameters.items():
        if name not in shared:
            word = _NAMES.get(name, name)
            words = [*short.get(name, ()), "--" + word.replace("_", "-")]
            yield click.option(
                *words, word, help=docs[name] + more.get(name, ""), **_type(hints[name], parameter.default)
            )


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


def _type(hint: Any, default: Any) -> dict[str, Any]:
    """What click makes of a parameter; of a union, lists come first, then texts: arrays are for Python."""
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    several = next((k for k in kinds if get_origin(k) in (Sequence, list, tuple)), None)
    if several is not None:
        kind = get_args(several)[0]
        shown = [default] if isinstance(default, str | float | int) else list(default)
        metavar = "NAME" if kind is str else "NUMBER"
        return {"multiple": True, "type": kind, "metavar": metavar, "default": shown, "show_default": bool(shown)}
    hint = next((k for k in (str, float, int) if k in kinds), kinds[0])
    if hint is bool:
        if default:
            raise TypeError("A switch that is on by default cannot be switched off on the command line.")
        return {"is_flag": True, "default": default}
    if get_origin(hint) is Literal:  # "" stands for none of them
        choices = click.Choice([c for c in get_args(hint) if c])
        return {"type": choices, "default": default or None, "show_default": True, "callback": _or_empty}
    if default == "":
        return {"type": str, "metavar": "TEXT", "callback": _or_empty}
    if hint is int:  # sizes and numbers of things; 0 only where it is the default
        return {"type": click.IntRange(min(default, 1)), "default": default, "show_default": True}
    return {"type": hint, "default": default, "show_default": True}


def _or_empty(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    return "" if value is None else value


def described(method: Callable[..., Any]) -> str:
    """The docstring up to its sections."""
    text = inspect.getdoc(method) or ""
    return re.split(r"\n(?:Args|Raises|Returns|Example):\n", text)[0].strip()


def _arguments(method: Callable[..., Any]) -> dict[str, str]:
    """Parameter to help, from the Args section."""
    section = re.search(r"\nArgs:\n((?:[ ]{4}.*\n?|\n)+)", inspect.getdoc(method) or "")
    entries = re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", section[1] if section else "", re.MULTILINE)
    return {name: re.sub(r"\s+", " ", text).strip() for name, text in entries}


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
    values |= {name: values.pop(word) for name, word in _NAMES.items() if word in values}
    shared: dict[str, Any] = {"engine": engine, "preprocessing": preprocessing}

    with ExitStack() as stack:
        progress = stack.enter_context(Progress(quiet))
        table = stack.enter_context(files.table(listed["csv"], HEADER)) if lists["csv"] else None
        shared["progress"] = progress
        report = _Report([*given.notes, *notes], as_json, quiet, list(wanted))
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
                        table(report.rows(result))
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
    explain: Callable[[Any], Attribution], which: range, report: _Report, given: Given
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


class _Report:
    """Collects results over chunks of photos: notes and failures on stderr, results on stdout or as JSON."""

    def __init__(self, notes: list[str], as_json: bool, quiet: bool, targets: list[str]) -> None:
        self.notes, self.as_json, self.quiet, self.targets = notes, as_json, quiet, targets
        self.record: dict[str, Any] = {}
        self.failed: list[str] = []
        self.ranking: dict[str, Any] = {}

    def fail(self, photo: Path, error: Exception) -> None:
        """Say that a photo cannot be read, or explained; it does not stop the rest."""
        click.echo(options.printable(f"error: {error}"), err=True)
        self.failed += [str(photo)] if str(photo) not in self.failed else []

    def add(self, result: Attribution, written: list[dict[str, Path]]) -> None:
        """Say what came out of a chunk."""
        options.say([n for n in [*self.notes, *result.notes] if n not in self.record.get("notes", [])], self.quiet)
        record = result.to_json()
        record["notes"] = list(dict.fromkeys([*self.record.get("notes", []), *self.notes, *result.notes]))
        for entry, made in zip(record["results"], written, strict=True):
            entry["files"] = {k: str(v) for k, v in made.items()}
        if len(self.targets) > 1:
            record["target"] = "; ".join(self.targets)
            record["results"] = [{**entry, "target": result.target} for entry in record["results"]]
        record["results"] = [*self.record.get("results", []), *record["results"]]
        self.record = record
        if not self.as_json:
            for i, made in enumerate(written):
                _print(result, i, made)

    def ranked(self, ranking: LayerRanking) -> None:
        """Say how layers were ranked: a table on stderr, and in the record."""
        self.notes += ranking.notes
        self.ranking = ranking.to_json()
        if not self.quiet:
            click.echo("\n".join(map(options.printable, ranking.table().splitlines())), err=True)

    def rows(self, result: Attribution) -> Iterator[list[Any]]:
        """The rows of a table of all samples, and targets if there are several."""
        end = f" ({result.target})" if len(self.targets) > 1 else ""
        for i in range(len(result)):
            for sample, *rest in result.rows(i):
                yield [f"{sample}{end}", *rest]

    def wrote(self, table: Path) -> None:
        """Say that a table of all samples is written."""
        self.record["table"] = str(table)
        if not self.as_json:
            click.echo(options.printable(f"-> {table}"))

    def finish(self, manifest: Path | None) -> None:
        """Write the manifest, print JSON, and fail if photos could not be read."""
        from ..files import write_json

        if self.failed:
            self.record["failed"] = self.failed
        if self.ranking:
            self.record["layer_ranking"] = self.ranking
        if manifest is not None and self.record.get("results"):
            write_json(manifest, self.record)
        if self.as_json and self.record.get("results"):
            options.print_json(self.record)
        if self.failed:
            raise click.exceptions.Exit(2)


def _print(result: Attribution, i: int, made: dict[str, Path]) -> None:
    photo = result.photos[i]
    name = photo.path.name if photo is not None and photo.path is not None else result.stems[i]
    click.echo(options.printable(f"{name} -> {', '.join(str(v) for v in made.values())}"))
    explained = result.explained[i]
    for line in result.lines(i):
        click.echo(f"   {options.printable(line)}")
    for p in result.predictions[i]:
        mark = "*" if explained is not None and p.index == explained.index else " "
        click.echo(f" {mark} {100 * p.probability:5.1f} %  {options.printable(p.label)} ({p.index})")
    if explained is not None and all(p.index != explained.index for p in result.predictions[i]):
        click.echo(f" * {100 * explained.probability:5.1f} %  {options.printable(explained.label)} ({explained.index})")
