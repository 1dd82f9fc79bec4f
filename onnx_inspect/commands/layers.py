"""The layers of a model: readable name, tensor, operator, shape, receptive field."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from . import options

if TYPE_CHECKING:
    from ..naming import Layer


@click.command("layers")
@click.argument("model", metavar="MODEL")
@click.argument("glob", required=False)
@click.option("--spatial", is_flag=True, help="Only maps with more than one position.")
@options.output
def command(model: str, glob: str | None, spatial: bool, as_json: bool, quiet: bool, debug: bool) -> None:
    """The layers of a model: readable name, tensor, operator, shape, receptive field.

    GLOB is a readable name, an exact tensor name, or a pattern such as 'features.*'. The receptive field is written
    as size/stride@offset in pixels of the input; the offset is where the first unit's field has its centre.
    """
    from ..model import load

    loaded = load(model)
    found = loaded.find_layers(glob) if glob else loaded.layers
    found = [layer for layer in found if not spatial or layer.role == "spatial"]
    if as_json:
        options.print_json([_record(layer) for layer in found])
        return
    rows = [("name", "tensor", "op", "shape", "layout", "sees")]
    rows += [(c.name, c.tensor, c.op_type, _shape(c), c.layout or "", _field(c)) for c in found]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo(options.printable(line.rstrip()))
    options.say(list(loaded.notes), quiet)


def _record(layer: Layer) -> dict[str, Any]:
    field = layer.receptive_field
    return {**vars(layer), "receptive_field": vars(field) if field is not None else None}


def _shape(layer: Layer) -> str:
    return "×".join(str(d) if d is not None else "?" for d in layer.shape) or "scalar"


def _field(layer: Layer) -> str:
    field = layer.receptive_field
    if field is None:
        return ""
    size, stride, offset = ("×".join(f"{n:g}" for n in numbers) for numbers in (field.size, field.stride, field.offset))
    return f"{size}/{stride}@{offset}"
