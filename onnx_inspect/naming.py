"""Readable layer names for files from any exporter, and finding a layer by name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import onnx_ir as ir
from numpy.typing import NDArray

from . import structure
from .dtypes import is_float
from .errors import LayerError
from .facts import kept
from .globs import flat, matcher
from .maps import Grid, channels_back, channels_first, positions
from .structure import ReceptiveField


@kept
@dataclass(frozen=True)
class Layer:
    """A tensor that a node computes, under a name that people can read.

    Attributes:
        name: readable name: the exporter's module path where there is one, else operator and number.
        tensor: exact tensor name.
        op_type: the operator that computes it.
        shape: see `Spec`.
        layout: a letter per axis, None where the graph does not tell.
        role: "spatial" for maps with more than one position, "tokens" for those that make up a grid, "vector" for the
            rest.
        receptive_field: of a unit, None where it is not a window.
        grid: how tokens make up a map, None where they do not, or nobody asked (see `places`).
        also: what else it answers to: the module whose output it is, or the module of its weights.
    """

    name: str
    tensor: str
    op_type: str
    shape: tuple[int | str | None, ...]
    layout: str | None
    role: Literal["spatial", "tokens", "vector"]
    receptive_field: ReceptiveField | None
    grid: Grid | None = None
    also: tuple[str, ...] = ()

    def maps(self, values: NDArray[Any]) -> NDArray[Any]:
        """The tensor's values as maps, (N, C, positions...); tokens that are no cell are left out."""
        return self.grid.first(values) if self.grid is not None else channels_first(values, self.layout)

    def tensor_of(self, maps: NDArray[Any], like: NDArray[Any]) -> NDArray[Any]:
        """Maps (n, C, positions...) as values of the tensor, the inverse of `maps`.

        Args:
            maps: one or several per sample.
            like: the tensor's values for one sample: what tokens hold that are no cell.
        """
        return self.grid.back(maps, like) if self.grid is not None else channels_back(maps, self.layout)

    def placed(self, maps: NDArray[Any]) -> NDArray[Any]:
        """Maps (..., positions) from edge to edge of the picture, 0 where the tensor does not reach."""
        return self.grid.placed(maps) if self.grid is not None else maps

    @property
    def axes(self) -> str:
        """The positions of its maps, a letter each: "HW"."""
        if self.grid is not None:
            return {1: "W", 2: "HW", 3: "DHW"}.get(len(self.grid.sizes), "?")
        return positions(self.layout or "")


@kept
@dataclass(frozen=True)
class Choice:
    """A layer and why it was chosen."""

    layer: Layer
    reason: str


def layers(graph: ir.Graph, layouts: dict[ir.Value, str]) -> list[Layer]:
    """All float tensors that depend on an input, in the order of computation."""
    from .names import names

    varying = structure.varying(graph)
    fields = structure.receptive_fields(graph, layouts)
    values = [
        (node, value) for node in graph for value in node.outputs if value.name and value in varying and is_float(value)
    ]
    named = names(graph, values)
    found = []
    for (node, value), (name, also) in zip(values, named, strict=True):
        letters = layouts.get(value)
        spatial = letters is not None and not structure.size_one(value, letters)
        found.append(
            Layer(
                name,
                value.name or "",
                node.op_type,
                structure.spec(value).shape,
                letters,
                "spatial" if spatial else "vector",
                fields.get(value),
                also=also,
            )
        )
    return found


def find(candidates: Iterable[Layer], pattern: str) -> list[Layer]:
    """All layers meant by an exact name, or by a glob.

    What is looked for, until something is found: a tensor of that name; a layer of that readable name; what else a
    layer is called (a module's name means its output, so that "layer4" is the last tensor of layer4); and then globs
    as `globs.matcher` reads them, over levels: `layer3.*.conv2` means one level between, `features.**` all that is
    within, `*conv2`, which has no levels, any name that ends so. A glob over levels that means nothing is read again
    without them.

    Raises:
        LayerError: none; says which are near.
    """
    candidates = list(candidates)
    levels, shell = matcher(pattern), flat(pattern)
    for meant in (
        [c for c in candidates if c.tensor == pattern],
        [c for c in candidates if c.name == pattern],
        [c for c in candidates if pattern in c.also],
        [c for c in candidates if any(map(levels, (c.name, c.tensor, *c.also)))],
        [c for c in candidates if any(map(shell, (c.name, c.tensor, *c.also)))],
    ):
        if meant:
            return meant
    known = {n.lower(): n for c in candidates for n in (*c.also, c.tensor, c.name)}
    near = difflib.get_close_matches(pattern.lower(), known, n=3, cutoff=0.5)
    hint = f" Did you mean {', '.join(repr(known[n]) for n in near)}?" if near else ""
    raise LayerError(f"There is no layer or tensor '{pattern}'.{hint} `onnx-inspect layers MODEL` lists them all.")
