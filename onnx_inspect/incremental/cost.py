"""What a box costs, computed by itself or with all of the map, in multiply-adds; and the cheapest way.

A multiply-add of a convolution is the unit; what else takes time is given in it, as measured on the CPU provider with
one thread, which makes about fifty of them in a nanosecond.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

import onnx_ir as ir

from .. import structure
from ..sizes import Sized
from .path import Edge, Layout, Path, areas, candidates, changes, lie
from .table import Boxes

POINT = 12  # a number through a node that is no convolution
LONE = 10  # a multiply-add of a depthwise convolution
MOVE = 150  # a number cut out, or pasted into clean ones, out of the blocks that convolutions work on and into them
NODE = 7e5  # a node
WEIGHT = 10  # a weight that is fetched
EDGE = 8e5  # clean values put around a box
RUN = 2e6  # a run
GAIN = 1.1  # what must be gained at least


@dataclass(frozen=True)
class Choice:
    """Which way is cheapest.

    pasted: the edges on which clean values are put around what was computed. stop: how many steps are computed so; what
    follows gets full maps. gain: how many times cheaper that is than full maps all along.
    """

    pasted: frozenset[Edge]
    stop: int
    gain: float


def choose(path: Path, boxes: Boxes) -> Choice:
    """The cheapest way for some boxes.

    Pastes are tried one after another: without it, or at the node before, where there may be fewer channels.
    """
    costs, changed = Costs(path), changes(path, boxes)

    def cost(pasted: frozenset[Edge], stop: int) -> float:
        return costs.of(lie(path, changed, pasted, stop), pasted, stop)

    pasted = frozenset(candidates(path, changed))
    stop = costs.best(lie(path, changed, pasted, len(path.steps)), pasted)[0]
    least = cost(pasted, stop)
    for edge in sorted(pasted):
        if edge[0] < stop and path.tensor(edge) != path.name:
            rest = pasted - {edge}
            for other in (rest, rest | path.above(edge)):
                if (new := cost(other, stop)) < least:
                    pasted, least = other, new
    stop, least = costs.best(lie(path, changed, pasted, len(path.steps)), pasted)
    return Choice(frozenset(e for e in pasted if e[0] < stop), stop, costs.whole / least)


class Costs:
    """What the nodes of a path cost.

    Attributes:
        whole: all of the graph, for one sample.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        sized = path.sized
        self._of_position = [_work(step.node, sized) / _positions(path, step.outputs[0]) for step in path.steps]
        self._of_step = [_work(step.node, sized) for step in path.steps]
        self._fixed = [NODE + WEIGHT * _weights(step.node) for step in path.steps]
        self.whole = float(sum(_work(node, sized) for node in path.graph))

    def best(self, layout: Layout, pasted: Collection[Edge]) -> tuple[int, float]:
        """Where to stop, and what that costs; the layout is that of all steps."""
        spent, found = RUN, []
        for k in range(len(self.path.steps) + 1):
            found.append((spent + self._rest(k), k))
            if k < len(self.path.steps):
                spent += self._step(k, layout, pasted)
        cost, stop = min(found)
        return stop, cost

    def of(self, layout: Layout, pasted: Collection[Edge], stop: int) -> float:
        """What a box costs, with the rest of the graph."""
        return RUN + sum(self._step(k, layout, pasted) for k in range(stop)) + self._rest(stop)

    def _step(self, k: int, layout: Layout, pasted: Collection[Edge]) -> float:
        step = self.path.steps[k]
        cost = self._fixed[k] + self._of_position[k] * float(areas(layout.computed[step.outputs[0]]).mean())
        for i, x in step.edges:
            taken = layout.taken[k, i]
            if taken.paste or (taken.crop != layout.computed[x]).any():
                depth = math.prod(self.path.shapes[x]) / _positions(self.path, x)
                cost += MOVE * depth * float(areas(taken.crop).mean()) + (EDGE if taken.paste else NODE)
        return cost

    def _rest(self, stop: int) -> float:
        """Full maps from here on; those that go in are put together first."""
        maps = sum(math.prod(self.path.shapes[t]) for t in self.path.frontier(stop))
        return self.whole - sum(self._of_step[:stop]) + MOVE * maps


def _positions(path: Path, tensor: str) -> int:
    return math.prod(path.shapes[tensor][a] for a in path.axes[tensor])


def _weights(node: ir.Node) -> int:
    """How many weights a node has."""
    return sum(x.const_value.size for x in node.inputs if x is not None and x.const_value is not None)


def _work(node: ir.Node, sized: Sized) -> float:
    """What a node costs with all of its output."""
    numbers = sum(sized.elements(y) for y in node.outputs)
    if node.op_type in ("MaxPool", "AveragePool", "LpPool"):
        return float(numbers * math.prod(node.attributes.get_ints("kernel_shape", (1,))) * POINT / 4)
    macs = structure.multiply_adds(node) or 0
    if node.op_type == "Conv" and (shape := sized.shape(node.inputs[1])) is not None:  # type: ignore[arg-type]
        macs = numbers * math.prod(shape[1:])
        return float(macs * (LONE if shape[1] == 1 else 1) + POINT * numbers)
    return float(macs + POINT * numbers)
