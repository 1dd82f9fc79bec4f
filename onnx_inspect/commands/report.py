"""What a run of a method says: results on stdout or as JSON, notes and failures on stderr, the manifest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import options

if TYPE_CHECKING:
    from ..attribution import Attribution
    from ..evidence import LayerRanking


class Report:
    """Collects results over chunks of photos: notes and failures on stderr, results on stdout or as JSON."""

    def __init__(self, notes: list[str], as_json: bool, quiet: bool, targets: list[str]) -> None:
        self.notes, self.as_json, self.quiet, self.targets = notes, as_json, quiet, targets
        self.record: dict[str, Any] = {}
        self.results: list[dict[str, Any]] = []
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
        record = result.to_json()
        for entry, made in zip(record["results"], written, strict=True):
            entry["files"] = {k: str(v) for k, v in made.items()}
            if len(self.targets) > 1:
                entry["target"] = result.target
        self.results += record["results"]
        self.record = record | {"results": self.results}
        if len(self.targets) > 1:
            self.record["target"] = "; ".join(self.targets)
        if not self.as_json:
            for i, made in enumerate(written):
                _print(result, i, made)

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
        from ..files import write_json

        if self.record:
            self.record["notes"] = list(self.said)
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
