"""The layers of a model: readable name, tensor, operator, shape, receptive field."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from . import options

if TYPE_CHECKING:
    from ..model import Model
    from ..naming import Layer


@click.command("layers")
@click.argument("model", metavar="MODEL")
@click.argument("glob", required=False)
@click.option("--spatial", is_flag=True, help="Only maps, and grids of tokens.")
@click.option("--tree", "as_tree", is_flag=True, help="The modules as the author nested them, with their weights.")
@click.option(
    "--depth", type=click.IntRange(0), metavar="N", help="Levels of modules that --tree shows [default: all]."
)
@click.option("--match", "other", metavar="MODEL", help="The layers of another export of this network beside these.")
@options.output
def command(
    model: str,
    glob: str | None,
    spatial: bool,
    as_tree: bool,
    depth: int | None,
    other: str | None,
    as_json: bool,
    quiet: bool,
    debug: bool,
) -> None:
    """The layers of a model: readable name, tensor, operator, shape, receptive field.

    GLOB is a readable name, an exact tensor name, or a pattern over levels: 'layer3.*.conv2' has one level in between,
    'features.**' means all that is within, '*conv2' any name that ends so. A module's name means its output. The
    receptive field is written as size/stride@offset in pixels of the input; the offset is where the first unit's field
    has its centre. Tokens that lie on the picture are written as their grid, 6×10 + 5 with five others (class and
    register tokens); where an input's height and width are free, for 224×224.

    --tree shows modules, classes where the exporter wrote them down, shapes, weights and their share. --match lists
    which layer of another file is which of these, and what tells: see `onnx_inspect.matching`.
    """
    from ..errors import InputError
    from ..methods.setting import Setting
    from ..model import load

    if as_tree and other:
        raise InputError("A tree shows one model, and --match compares two: leave out --tree or --match.")
    if depth is not None and not as_tree:
        raise InputError("--depth counts the levels of a tree: add --tree.")
    loaded = load(model)
    places = Setting(loaded).places
    found = [places.seen(layer) for layer in (loaded.find_layers(glob) if glob else loaded.layers)]
    found = [layer for layer in found if not spatial or layer.role != "vector"]
    if other:
        _match(loaded, load(other), found if glob or spatial else None, as_json)
    elif as_tree:
        _tree(loaded, found, depth, as_json)
    elif as_json:
        options.print_json([_record(layer) for layer in found])
    else:
        told = [loaded.spec(loaded.value(c.tensor)).sizes() for c in found]
        rows = [(c.name, c.tensor, c.op_type, s, _arranged(c), _field(c)) for c, s in zip(found, told, strict=True)]
        _table([("name", "tensor", "op", "shape", "layout", "sees"), *rows])
    if not as_json:
        options.say(list(loaded.notes), quiet)


def _table(rows: list[tuple[str, ...]], right: tuple[int, ...] = ()) -> None:
    rows = [tuple(map(options.printable, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        click.echo("  ".join(cells).rstrip())


def _tree(model: Model, layers: list[Layer], depth: int | None, as_json: bool) -> None:
    from .. import tree

    root = tree.tree(model, layers)
    if as_json:
        options.print_json(tree.data(root, depth))
    else:
        _table([tree.HEADER, *tree.rows(root, depth)], right=(3, 4))


def _match(model: Model, other: Model, layers: list[Layer] | None, as_json: bool) -> None:
    from .. import matching

    found = matching.match(model, other, layers)
    if as_json:
        options.print_json(found.to_json())
        return
    rows = [(p.a.name, p.b.name, ", ".join(p.how)) for p in found.pairs]
    if rows:
        _table([(model.source.name, other.source.name, "how"), *rows])
    else:
        click.echo("no layer of one is known to be one of the other: no weights, names or neighbours tell")
    for source, left in ((model.source.name, found.only_a), (other.source.name, found.only_b)):
        if left:
            click.echo(f"\nonly in {options.printable(source)} ({len(left)}):")
            names = options.printable(", ".join(c.name for c in left))
            click.echo(click.wrap_text(names, 100, initial_indent="  ", subsequent_indent="  "))


def _record(layer: Layer) -> dict[str, Any]:
    field = layer.receptive_field
    grid = {"sizes": layer.grid.sizes, "other_tokens": layer.grid.extra} if layer.grid is not None else None
    return {**vars(layer), "receptive_field": vars(field) if field is not None else None, "grid": grid}


def _arranged(layer: Layer) -> str:
    """The letters of its axes, or the grid that its tokens are, "6×10 + 5" with 5 others."""
    return str(layer.grid) if layer.grid is not None else layer.layout or ""


def _field(layer: Layer) -> str:
    field = layer.receptive_field
    if field is None:
        return ""
    size, stride, offset = ("×".join(f"{n:g}" for n in numbers) for numbers in (field.size, field.stride, field.offset))
    return f"{size}/{stride}@{offset}"
