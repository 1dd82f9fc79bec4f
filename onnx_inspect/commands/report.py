"""What a run of a method says: results on stdout or as JSON, notes and failures on stderr, the manifest."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from functools import cached_property, partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from . import options

if TYPE_CHECKING:
    from ..attribution import Attribution
    from ..evidence import LayerRanking

_SMALL = 2**20
_RESULTS = "\0results"  # where they go in the record


class Report:
    """Collects results over chunks of photos: notes and failures on stderr, results on stdout or as JSON.

    Records are kept only where they are asked for, as JSON or for a manifest, and those of samples in a file: so memory
    does not grow with their number.
    """

    def __init__(self, notes: list[str], as_json: bool, quiet: bool, targets: list[str], *, manifest: bool) -> None:
        self.notes, self.as_json, self.quiet, self.targets = notes, as_json, quiet, targets
        self.keeps = as_json or manifest
        self.record: dict[str, Any] = {}
        self.said: dict[str, None] = {}  # every note once, in order
        self.failed: list[str] = []
        self.ranking: dict[str, Any] = {}

    def fail(self, photo: Path, error: Exception) -> None:
        """Say that a photo cannot be read, or explained; it does not stop the rest."""
        click.echo(options.printable(f"error: {error}"), err=True)
        self.failed += [str(photo)] if str(photo) not in self.failed else []

    def add(self, result: Attribution, written: list[dict[str, Path]]) -> None:
        """Say what came out of a chunk."""
        notes = [n for n in dict.fromkeys([*self.notes, *result.notes]) if n not in self.said]
        self.said |= dict.fromkeys(notes)
        options.say(notes, self.quiet)
        if self.keeps:
            self._keep(result, written)
        if not self.as_json:
            for i, made in enumerate(written):
                _print(result, i, made)

    @cached_property
    def results(self) -> IO[str]:
        """The records of samples, as JSON."""
        from tempfile import SpooledTemporaryFile

        how = {"encoding": "utf-8", "errors": "surrogatepass", "newline": ""}
        return SpooledTemporaryFile(_SMALL, "w+", **how)  # type: ignore[call-overload, no-any-return]

    def _keep(self, result: Attribution, written: list[dict[str, Path]]) -> None:
        record = result.to_json()
        for entry, made in zip(record["results"], written, strict=True):
            entry["files"] = {k: str(v) for k, v in made.items()}
            if len(self.targets) > 1:
                entry["target"] = result.target
            self.results.write(",\n" if self.results.tell() else "")
            self.results.write(textwrap.indent(_json(entry), "    "))
        self.record = record | {"results": _RESULTS}
        if len(self.targets) > 1:
            self.record["target"] = "; ".join(self.targets)

    def ranked(self, ranking: LayerRanking) -> None:
        """Say how layers were ranked: a table on stderr, and in the record."""
        self.notes += ranking.notes
        self.ranking = ranking.to_json()
        if not self.quiet:
            click.echo("\n".join(map(options.printable, ranking.table().splitlines())), err=True)

    def wrote(self, table: Path) -> None:
        """Say that a table of all samples is written."""
        self.record["table"] = str(table)
        if not self.as_json:
            click.echo(options.printable(f"-> {table}"))

    def finish(self, manifest: Path | None) -> None:
        """Write the manifest, print JSON, and fail if photos could not be read."""
        from ..files import atomic

        if self.record:
            self.record["notes"] = list(self.said)
        if self.failed:
            self.record["failed"] = self.failed
        if self.ranking:
            self.record["layer_ranking"] = self.ranking
        if manifest is not None and "results" in self.record:
            with atomic(manifest) as draft, draft.open("w", encoding="utf-8", errors="replace", newline="") as file:
                file.writelines(self._pieces())
        if self.as_json and "results" in self.record:
            for piece in self._pieces():
                click.echo(piece, nl=False)
        if self.failed:
            raise click.exceptions.Exit(2)

    def _pieces(self) -> Iterator[str]:
        """The record as JSON, a piece at a time."""
        head, tail = _json(self.record).split(_json(_RESULTS))
        yield f"{head}[\n"
        self.results.seek(0)
        yield from iter(partial(self.results.read, _SMALL), "")
        yield f"\n  ]{tail}\n"


def _json(value: Any) -> str:
    from ..files import plain

    return json.dumps(plain(value), ensure_ascii=False, allow_nan=False, indent=2)


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
