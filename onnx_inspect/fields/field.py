"""Fields: from a unit to the part of an input that it can depend on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from .. import pads, structure
from ..decompose.table import lowered
from ..errors import InputError, LayerError
from ..model import Model
from ..sizes import Sized
from .table import RULES, At, Reach, Region, Unknown, everything

Interval = tuple[int, int]


class Fields:
    """The receptive fields of a layer's units: which numbers of an input they can depend on.

    Read off the graph alone, walking from the layer to the input: which indices a node's output reads of its inputs is
    followed for every axis, with pads, strides, dilation, groups and branches. So the field of a unit is the smallest
    box that holds all that a path leads from to it; a path counts even if the weights on it happen to be 0.

        field = Fields(model, "features.4", {"image": (1, 3, 224, 224)})
        x0, y0, x1, y1 = field.box((17, 5, 9))

    Where an operator's reach is not known it is taken to read all of its inputs, and a note says so: fields are then
    never too small, but may be too large.

    Args:
        model: the model.
        layer: the layer whose units are meant, or any tensor.
        sizes: the shape of each input, for one sample. Inputs whose shape the model fixes may be left out.
        input: the input that is looked at. Default: the only one.
        layout: what the axes of the input mean, a letter each ("NHWC"). Default: as the graph tells.

    Attributes:
        shape: of the layer, for these sizes; None if only a run tells.
        notes: where fields may be too large.

    Raises:
        LayerError: no such layer, or it does not depend on the input.
        InputError: no such input, or a shape that is missing or does not fit.
    """

    def __init__(
        self,
        model: Model,
        layer: str,
        sizes: Mapping[str, Sequence[int]] | None = None,
        *,
        input: str | None = None,
        layout: str | None = None,
    ) -> None:
        given = _sizes(model, sizes or {})
        name = _input(model, input)
        self.layer, self.input = layer, name
        self._layout = layout or model.layouts.get(model.values[name], "")
        graph = lowered(model.ir).clone().graph
        values = {v.name: v for v in [*graph.inputs, *(y for node in graph for y in node.outputs)]}
        self._from, self._to = values[name], values[model.value(layer).name]
        path = structure.dependent(graph, [self._from]) & structure.needed(graph, self._to)
        if self._to not in path:
            raise LayerError(f"'{layer}' does not depend on the input '{name}': name another (--layer).")
        sized = Sized(graph, given, set(graph.inputs), all_shapes=True)
        settle(graph, sized)
        self._extent = given[name]
        self.shape = sized.shape(self._to)
        unknown: dict[str, list[str]] = {}
        self._steps = list(_steps(graph, path, sized, unknown))
        self.notes = tuple(
            f"which numbers {op} reads is not known, so '{layer}' is taken to see all that {where} sees (--layer NAME)"
            for op, nodes in unknown.items()
            for where in [f"'{nodes[0]}'" + (f" and {len(nodes) - 1} more" if len(nodes) > 1 else "")]
        )

    def intervals(self, unit: Sequence[int | None]) -> tuple[Interval, ...]:
        """The part of the input that a unit can depend on, as (start, stop) for every axis of the input.

        Args:
            unit: its index in the layer along every axis but the first, N, as (channel, row, column); None for all
                along an axis.

        Returns:
            Half-open intervals within the input, all (0, 0) if the unit depends on none of it.

        Raises:
            LayerError: there is no such unit.
        """
        inside = [np.flatnonzero(mask) for mask in self.reads(unit)]
        return tuple((int(at[0]), int(at[-1]) + 1) if at.size else (0, 0) for at in inside)

    def reads(self, unit: Sequence[int | None]) -> Region:
        """The part of the input that a unit can depend on, as a mask per axis, all false if it depends on none of it.

        Args:
            unit: as for `intervals`.

        Raises:
            LayerError: there is no such unit.
        """
        found: dict[ir.Value, Region] = {self._to: self._unit(unit)}
        for y, reads in self._steps:
            if (region := found.pop(y, None)) is None:
                continue
            for x, reach in reads:
                part = reach(region)
                if all(mask.any() for mask in part):
                    found[x] = tuple(map(np.logical_or, found[x], part)) if x in found else part
        return found.get(self._from) or tuple(np.zeros(n, bool) for n in self._extent)

    def box(self, unit: Sequence[int | None]) -> tuple[int, int, int, int]:
        """The pixels of the input that a unit can depend on: (x0, y0, x1, y1), whole and half-open, within the input.

        Args:
            unit: as for `intervals`.

        Raises:
            LayerError: there is no such unit.
            InputError: the input is no picture.
        """
        if not {"H", "W"} <= set(self._layout) or len(self._layout) != len(self._extent):
            raise InputError(
                f"The input '{self.input}' ({structure.sizes(self._extent)}) is not known to be a picture, so there "
                "are no boxes in it: say which of its axes are H and W (--layout), or ask for its intervals."
            )
        found = self.intervals(unit)
        (y0, y1), (x0, x1) = found[self._layout.index("H")], found[self._layout.index("W")]
        return x0, y0, x1, y1

    def _unit(self, unit: Sequence[int | None]) -> Region:
        if self.shape is None:
            return ()
        rest = self.shape[1:]
        if len(unit) != len(rest) or any(i is not None and not 0 <= i < n for i, n in zip(unit, rest, strict=True)):
            raise LayerError(
                f"'{self.layer}' ({structure.sizes(self.shape)}) has no unit {tuple(unit)}: give an index from 0 on "
                f"for each of its {len(rest)} axes behind the first."
            )
        chosen = (np.ones(n, bool) if i is None else np.arange(n) == i for n, i in zip(rest, unit, strict=True))
        return tuple(np.ones(n, bool) for n in self.shape[:1]) + tuple(chosen)


def _sizes(model: Model, sizes: Mapping[str, Sequence[int | str | None]]) -> dict[str, tuple[int, ...]]:
    """The shape of every input: as given, else as the model fixes it, with a free first axis for one sample."""
    found = {}
    for spec in model.inputs:
        fixed = [1 if i == 0 and not isinstance(d, int) else d for i, d in enumerate(spec.shape)]
        given = sizes.get(spec.name, fixed if spec.rank_known else [None])
        known = tuple(n for n in given if isinstance(n, int))
        agrees = len(given) == len(fixed) and all(
            n == d or not isinstance(d, int) for n, d in zip(given, spec.shape, strict=True)
        )
        if len(known) < len(given) or (spec.rank_known and not agrees):
            raise InputError(
                f"The input '{spec.name}' is {spec.sizes()}, not {structure.sizes(given)}: give its size (--size HxW)."
            )
        found[spec.name] = known
    return found


def _input(model: Model, name: str | None) -> str:
    names = [spec.name for spec in model.inputs]
    if name is None and len(names) == 1:
        return names[0]
    if name not in names:
        raise InputError(f"Which input is meant has to be said: {', '.join(map(repr, names))}, not {name!r} (--input).")
    return name


def settle(graph: ir.Graph, sized: Sized) -> None:
    """Pads in numbers wherever they follow from the sizes."""
    for node in graph:
        for value in node.inputs:
            shape = None if value is None else sized.shape(value)
            if value is not None and shape is not None:
                value.shape = ir.Shape(shape)
    pads.explicit(graph)


def _steps(
    graph: ir.Graph, path: set[ir.Value], sized: Sized, unknown: dict[str, list[str]]
) -> Iterator[tuple[ir.Value, list[tuple[ir.Value, Reach]]]]:
    """From the end to the beginning: each tensor on the path, and what it reads of others on it."""
    for node in reversed(list(graph)):
        for o, y in enumerate(node.outputs):
            if y in path:
                yield y, _reads(node, o, path, sized, unknown)


def _reads(
    node: ir.Node, o: int, path: set[ir.Value], sized: Sized, unknown: dict[str, list[str]]
) -> list[tuple[ir.Value, Reach]]:
    """What an output reads of the inputs that are on the path; all of them where that is not known."""
    try:
        rule = RULES.get(structure.key(node))
        if rule is None:
            raise Unknown
        return [(x, rule(At(node, i, o, sized))) for i, x in enumerate(node.inputs) if x in path]
    except Unknown:
        shapes = [(x, sized.shape(x)) for x in structure.all_inputs(node) if x in path]
        if all(shape is not None for _, shape in shapes):  # else an earlier node is to blame
            unknown.setdefault(structure.key(node), []).append(structure.label(node))
        return [(x, everything(shape or ())) for x, shape in shapes]
