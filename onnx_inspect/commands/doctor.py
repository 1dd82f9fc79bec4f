"""Can this model be explained? What stands in the way, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from . import options

if TYPE_CHECKING:
    from ..doctor import Report
    from ..doctor.photos import Trial
    from ..doctor.sightings import Sighting

_COLORS = {"error": "red", "warning": "yellow", "note": "cyan"}
_SHOWN = 8  # preprocessings, and kinds of operators


@click.command("doctor")
@click.argument("model", metavar="MODEL")
@click.argument("photos", nargs=-1, metavar="[PHOTO...]")
@click.option("-t", "--target", default="top", show_default=True, metavar="TARGET", help="What is to be explained.")
@click.option("--layer", default="auto", show_default=True, metavar="TEXT", help="The map to explain at.")
@click.option("--labels", metavar="FILE", help="Class names: one per line, or JSON.")
@click.option(
    "--score",
    type=click.Choice(["logits", "output"]),
    default="logits",
    show_default=True,
    help="Explain the score before a final softmax or sigmoid, or the output itself.",
)
@options.preprocessing
@options.engine
@options.output
def command(model: str, photos: tuple[str, ...], as_json: bool, quiet: bool, debug: bool, **values: Any) -> None:
    """Can this model be explained? What stands in the way, and what to do about it.

    The file is read, the operators between input and target are looked up, and the gradient is run, on the photos or on
    made-up input. With photos, every preset and order of colours is tried as well; photos in folders that are named
    after classes, or with a class in their own name, show which is right; for detectors it is boxes that are found in
    the mirror image, too.

    Exit code: 0 if all is well, 1 with errors or warnings, 2 for a file that is no model.
    """
    from .. import files
    from ..doctor import examine

    flags = {name: values.pop(name) for name in options.PREPROCESSING}
    how = options.manners(values)
    report = examine(model, files.photos(photos), preprocessing=flags, **how, **values)
    if as_json:
        options.print_json(report.to_json())
    else:
        _print(report)
    options.say(report.notes, quiet)
    if not report.fine:
        raise click.exceptions.Exit(1)


def _print(report: Report) -> None:
    facts = report.facts

    def line(name: str, value: str) -> None:
        click.echo(f"{name:10} {options.printable(value)}")

    line("model", facts["model"])
    if "opset" in facts:
        used = {op.rpartition("::")[0] or "ai.onnx" for op in facts["operators"]}
        opset = ", ".join(f"{domain} {version}" for domain, version in facts["opset"].items() if domain in used)
        line("written by", f"{facts['producer'] or '(not said)'}, opset {opset} (IR {facts['ir_version']})")
        ops = [f"{op} {n}" for op, n in facts["operators"].items()]
        line("operators", ", ".join(ops[:_SHOWN]) + (f" and {len(ops) - _SHOWN} more kinds" if ops[_SHOWN:] else ""))
    if facts.get("external_data"):
        line("weights in", ", ".join(facts["external_data"]))
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    line("install", f"{versions}; {facts['provider']}")
    if report.fitting:
        line("fitting", ", ".join(name for name, fits in report.fitting.items() if fits) or "no method")
        line("not", ", ".join(name for name, fits in report.fitting.items() if not fits) or "(none)")
    click.echo()
    for found in report.findings:
        click.echo(click.style(f"{found.severity:10} ", fg=_COLORS[found.severity]) + options.printable(str(found)))
    if report.presets:
        click.echo()
        table(report.presets)
    click.echo(("\n" if report.findings or report.presets else "") + options.printable(report.verdict))


def table(presets: Sequence[Trial] | Sequence[Sighting], *, err: bool = False) -> None:
    """How photos fare with each preprocessing, the best first."""
    shown = [*presets[:_SHOWN], *(t for t in presets[_SHOWN:] if t.used)]
    rows = [(*shown[0].COLUMNS, "preprocessing"), *((*t.cells, t.flags or "as used") for t in shown)]
    for row in rows:
        click.echo("{:>10} {:>6} {:>6}  {}".format(*row), err=err)
