"""The path of a box through a graph, and what lies where when only its surroundings are computed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from .. import structure
from ..fields.field import settle
from ..fields.table import Unknown
from ..model import Model
from ..sizes import Sized, Sizes
from .table import RULES, At, Axes, Boxes, Reading, Windows

Edge = tuple[int, int]
"""The step, and which input of its node."""


@dataclass(frozen=True)
class Step:
    """A node that boxes go through.

    at: its place in the graph. edges: the inputs that hold a box, with their tensors.
    """

    at: int
    node: ir.Node
    reading: Reading
    edges: tuple[tuple[int, str], ...]

    @property
    def outputs(self) -> list[str]:
        """The tensors that it computes."""
        return [y.name for y in self.node.outputs if y.name]

    @cached_property
    def windows(self) -> Windows:
        """How it reads, along the axes of boxes."""
        return Windows(self.reading.windows)


class Path:
    """The nodes that a box of an input goes through, as far as what it changes stays a box.

    Args:
        model: with no more outputs than are wanted.
        name: the input.
        axes: of it that the box has; along all others it is whole.
        sizes: of all inputs, for one sample.

    Attributes:
        steps: the nodes, in the order of the graph.
        axes: of the tensors on the path, those that the box has.
        shapes: of the tensors on the path.
        ends: the first nodes that the box does not get through.
    """

    def __init__(self, model: Model, name: str, axes: Axes, sizes: Sizes) -> None:
        self.name, self.graph = name, model.clone().ir.graph
        self.sized = Sized(self.graph, sizes, set(self.graph.inputs), all_shapes=True)
        settle(self.graph, self.sized)
        boxed: dict[ir.Value, Axes] = {next(v for v in self.graph.inputs if v.name == name): axes}
        varying, outputs = structure.varying(self.graph), set(self.graph.outputs)
        self.steps: list[Step] = []
        self.ends: list[ir.Node] = []
        for i, node in enumerate(self.graph):
            at = At(node, self.sized, boxed, varying)
            if not at.boxed:
                continue
            try:
                reading = self._reading(at, outputs)
            except Unknown:
                self.ends.append(node)
                continue
            boxed.update(dict.fromkeys(node.outputs, reading.axes))
            edges = tuple((k, node.inputs[k].name or "") for k in at.boxed)  # type: ignore[union-attr]
            self.steps.append(Step(i, node, reading, edges))
        self.axes = {v.name or "": along for v, along in boxed.items()}
        self._made = {y: k for k, step in enumerate(self.steps) for y in step.outputs}
        self.shapes = {v.name or "": self.sized.shape(v) or () for v in boxed}

    def _reading(self, at: At, outputs: set[ir.Value]) -> Reading:
        node = at.node
        values = [x for x in structure.all_inputs(node) if x in at.varying and x not in at.axes]
        floats = all(
            v.dtype == ir.DataType.FLOAT for v in [*(node.inputs[i] for i in at.boxed), *node.outputs] if v is not None
        )
        if values or not floats or outputs.intersection(node.outputs) or structure.key(node) not in RULES:
            raise Unknown
        if len({at.axes[node.inputs[i]] for i in at.boxed}) > 1:  # type: ignore[index]
            raise Unknown
        reading = RULES[structure.key(node)](at)
        if 0 in reading.axes or any(at.shape(y)[0] != 1 for y in node.outputs if y.name):
            raise Unknown  # rows are samples, and there is one
        return reading

    def tensor(self, edge: Edge) -> str:
        """What is read on an edge."""
        return dict(self.steps[edge[0]].edges)[edge[1]]

    def above(self, edge: Edge) -> set[Edge]:
        """The edges of the node with weights, or the pool, that a tensor comes from."""
        k = self._made.get(self.tensor(edge))
        while k is not None and len(self.steps[k].edges) == 1 and self.steps[k].reading.pad is None:
            k = self._made.get(self.steps[k].edges[0][1])
        return set() if k is None else {(k, i) for i, _ in self.steps[k].edges}

    def frontier(self, stop: int) -> list[str]:
        """The tensors that what follows the first steps reads."""
        return [t for t, last in self._last.items() if self._made.get(t, -1) < stop <= last]

    @cached_property
    def _last(self) -> dict[str, int]:
        """The last step that reads a tensor; one behind all where another node reads it."""
        steps = {step.node: k for k, step in enumerate(self.steps)}
        last = dict.fromkeys([self.name, *self._made], -1)
        for node in self.graph:
            k = steps.get(node, len(self.steps))
            for x in structure.all_inputs(node):
                if x.name in last:
                    last[x.name] = max(last[x.name], k)
        return last


@dataclass
class Taken:
    """What a node is given of a tensor.

    crop: what goes in. at: where what was computed of the tensor lies in it. paste: around that stand clean values;
    else `crop` is cut out of what was computed, unless it is that. padded: the crop holds the node's pads, too.
    """

    crop: Boxes
    at: Boxes
    paste: bool
    padded: bool = False


@dataclass
class Layout:
    """Where boxes lie in all tensors of a path, m at a time.

    changed: what the box changes. computed: what is computed. right: as much of that as is what it is in the whole
    map. taken: what nodes are given, by edge.
    """

    changed: dict[str, Boxes]
    computed: dict[str, Boxes] = field(default_factory=dict)
    right: dict[str, Boxes] = field(default_factory=dict)
    taken: dict[Edge, Taken] = field(default_factory=dict)


def changes(path: Path, boxes: Boxes) -> dict[str, Boxes]:
    """What boxes of the input change of all tensors of a path."""
    changed = {path.name: boxes}
    for step in path.steps:
        hull = _hull([changed[x] for _, x in step.edges])
        changed.update(dict.fromkeys(step.outputs, step.windows.changed(hull)))
    return changed


def lie(path: Path, changed: dict[str, Boxes], pasted: Collection[Edge], stop: int) -> Layout:
    """Where everything lies for the first `stop` steps.

    Args:
        path: the path.
        changed: what the boxes change.
        pasted: the edges on which clean values are put around what was computed, so that no more of it is needed than
            the box changes. On others it is computed as far as the node reads it, and the node pads by itself: then
            what lies at the rim is wrong, unless that is the rim of the map, and is cut off later.
        stop: how many steps.
    """
    steps = path.steps[:stop]
    found, need = Layout(changed), dict(changed)
    reads: dict[int, Boxes] = {}
    for k, step in reversed([*enumerate(steps)]):
        wanted = _hull([need[y] for y in step.outputs])
        need.update(dict.fromkeys(step.outputs, wanted))
        reads[k] = step.windows.reads(wanted)
        for i, x in step.edges:
            if (k, i) not in pasted:
                need[x] = _hull([need[x], step.windows.aligned(reads[k])])
    found.computed[path.name] = found.right[path.name] = changed[path.name]
    for k, step in enumerate(steps):
        _take(found, k, step, reads[k], need, pasted)
    return found


def _take(found: Layout, k: int, step: Step, reads: Boxes, need: dict[str, Boxes], pasted: Collection[Edge]) -> None:
    """What a step is given, and what comes out."""
    inner = step.windows.aligned(reads)
    whole = len({found.computed[x].tobytes() for _, x in step.edges}) == 1
    for i, x in step.edges:
        at, right = found.computed[x], found.right[x]
        if (k, i) in pasted:
            padded = step.reading.pad is not None
            crop = reads if padded else inner
            found.taken[k, i] = Taken(crop, _within(right, crop), True, padded)
            continue
        if len(step.edges) == 1 or whole:
            fits = not (at[:, 0] % step.windows.stride).any() and not any((k, j) in pasted for j, _ in step.edges)
            crop = at if fits else inner
        else:
            crop = inner
        found.taken[k, i] = Taken(crop, _within(right, crop), False)
    first = found.taken[k, step.edges[0][0]]
    if first.padded:
        computed = right = need[step.outputs[0]]
    else:
        computed = step.windows.computed(first.crop)
        parts = [found.taken[k, i] for i, _ in step.edges]
        inside = [t.crop if t.paste else t.at for t in parts]
        right = _within(step.windows.right(_meet(inside)), computed)
    found.computed.update(dict.fromkeys(step.outputs, computed))
    found.right.update(dict.fromkeys(step.outputs, right))


def candidates(path: Path, changed: dict[str, Boxes]) -> list[Edge]:
    """The edges on which a node reads more than the box changes, and those of the input, which is always at hand."""
    found = []
    for k, step in enumerate(path.steps):
        inner = step.windows.aligned(step.windows.reads(changed[step.outputs[0]]))
        found += [(k, i) for i, x in step.edges if x == path.name or (_within(inner, changed[x]) != inner).any()]
    return found


def areas(boxes: Boxes) -> NDArray[np.int64]:
    """How many positions boxes have."""
    return np.asarray(np.prod(boxes[:, 1] - boxes[:, 0], axis=0))


def _hull(boxes: Sequence[Boxes]) -> Boxes:
    if len(boxes) == 1:
        return boxes[0]
    return np.stack([np.min([b[:, 0] for b in boxes], axis=0), np.max([b[:, 1] for b in boxes], axis=0)], axis=1)


def _meet(boxes: Sequence[Boxes]) -> Boxes:
    if len(boxes) == 1:
        return boxes[0]
    return np.stack([np.max([b[:, 0] for b in boxes], axis=0), np.min([b[:, 1] for b in boxes], axis=0)], axis=1)


def _within(boxes: Boxes, around: Boxes) -> Boxes:
    """What of boxes lies in others; nothing, somewhere in them, of those beside."""
    first = np.minimum(np.maximum(boxes[:, 0], around[:, 0]), around[:, 1])
    return np.stack([first, np.minimum(np.maximum(boxes[:, 1], first), around[:, 1])], axis=1)
