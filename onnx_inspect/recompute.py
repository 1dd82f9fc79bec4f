"""Gradients in less memory: parts of the forward pass are computed a second time, when the backward pass gets there.

A backward pass needs what the forward pass computed, first layers last, so all of it is held. Here the forward pass is
divided into segments; what passes from one to another is held, what stays inside is let go of and computed again
(Chen et al., Training Deep Nets with Sublinear Memory Cost, 2016). With n layers alike and √n segments that takes
O(√n) memory, for at most one more forward pass.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import onnx_ir as ir

from .collector import uncollected
from .dtypes import is_float
from .emit import PREFIX, Op
from .memory import views
from .model import Model
from .sizes import Sized, Sizes
from .structure import all_inputs, subgraphs, varying

_RANDOM = frozenset("Bernoulli Dropout Multinomial RandomNormalLike RandomUniformLike".split())
_BACKWARD = ("gradient.", "contribution.")
_SHRINK = 0.8  # from one size of segments that is tried to the next
_TRIED = 24


@uncollected()
def recomputed(model: Model, sizes: Sizes, samples: frozenset[str]) -> Model:
    """The model with its forward pass in segments, of which the backward pass computes all but the last again.

    Copies are nodes of the model under other names, so results stay what they were. What a segment starts from is held,
    and read through a Reshape whose sizes wait for the cotangent that arrives at its end: so no copy runs early, and
    onnxruntime merges none with the node that it is a copy of.

    Args:
        model: with gradients; unchanged, and returned as it is where nothing can be computed again.
        sizes: of the inputs, for one sample.
        samples: the inputs that hold samples.
    """
    new = model.clone()
    graph = new.ir.graph
    per_sample = varying(graph, [v for v in graph.inputs if v.name in samples])
    passes = _Passes(graph, per_sample, Sized(graph, sizes, per_sample))
    op = Op(graph)
    done = [_again(op, passes, segment) for segment in passes.divided()[:-1]]
    return new.derived("recomputed") if any(done) else model


@dataclass(frozen=True)
class _Segment:
    """A stretch of the forward pass, and what of its tensors is held for the backward pass alone."""

    nodes: list[ir.Node]
    asleep: list[ir.Value]


class _Passes:
    """The forward and the backward pass of a graph: what the one leaves for the other, and what that takes."""

    def __init__(self, graph: ir.Graph, per_sample: set[ir.Value], sized: Sized) -> None:
        self.per_sample, self.sized = per_sample, sized
        self.order = list(graph)
        self.at = {node: i for i, node in enumerate(self.order)}
        first = _forward(graph)
        self.forward = [node for node in self.order if node in first]
        self.place = {node: i for i, node in enumerate(self.forward)}
        self.owner = views(self.order, per_sample)
        self.held = {*graph.inputs, *graph.outputs}
        for node in self.forward:
            once = node.op_type in _RANDOM or subgraphs(node)
            self.held.update(y for y in node.outputs if once or any(user not in self.at for user, _ in y.uses()))

    def divided(self) -> list[_Segment]:
        """The forward pass in segments of the size that takes least; what passes from one to another is held."""
        total = self._bytes(y for node in self.forward for y in self._asleep[node])
        if not total:
            return []
        cuts = min((self._cuts(total * _SHRINK**k) for k in range(1, _TRIED)), key=self._cost)
        self.held |= self._crossing(cuts)
        return self._segments(cuts, self.held)

    def readers(self, value: ir.Value) -> list[ir.Node]:
        """The nodes of the backward pass that read a tensor of the forward pass."""
        return [node for node, _ in value.uses() if node in self.at and node not in self.place]

    def arriving(self, position: int) -> ir.Value | None:
        """Of the tensors that the backward pass carries across a position, that which has to wait longest."""
        computed = [y for node in self.order[:position] if node not in self.place for y in node.outputs]
        across = [y for y in computed if any(self.at.get(user, 0) >= position for user, _ in y.uses())]
        tensors = [y for y in across if y in self.per_sample and is_float(y) and self.sized.elements(y)]
        return max(tensors, key=self._depth.__getitem__, default=None)

    @cached_property
    def _depth(self) -> dict[ir.Value, int]:
        """How many nodes have to run one after the other before a tensor is there."""
        depth: dict[ir.Value, int] = {}
        for node in self.order:
            most = 1 + max((depth.get(x, 0) for x in all_inputs(node)), default=0)
            depth.update(dict.fromkeys(node.outputs, most))
        return depth

    @cached_property
    def _asleep(self) -> dict[ir.Node, list[ir.Value]]:
        free = self.per_sample - self.held
        return {node: [y for y in node.outputs if y in free and self.readers(y)] for node in self.forward}

    def _bytes(self, values: Iterable[ir.Value]) -> int:
        return sum(map(self.sized.bytes, {self.owner.get(y, y) for y in values}))

    def _cuts(self, most: float) -> list[int]:
        """Where segments end that hold about `most` bytes asleep, so that little passes from one to the next."""
        cuts, begun, filled = [-1], 0, 0
        for i, node in enumerate(self.forward):
            filled += self._bytes(self._asleep[node])
            if filled >= most / 2 and not begun:
                begun = i
            if filled >= most:
                best = min(range(begun, i + 1), key=lambda k: (self._passing[k], -k))
                cuts.append(best)
                filled = self._bytes(y for n in self.forward[best + 1 : i + 1] for y in self._asleep[n])
                begun = 0
        return [*cuts, len(self.forward) - 1]

    @cached_property
    def _passing(self) -> list[int]:
        """Bytes that pass from a node, or from those before it, to later ones of the forward pass."""
        steps = [0] * len(self.forward)
        for i, node in enumerate(self.forward):
            for y in node.outputs:
                if y in self.per_sample and (last := self._last(y)) > i:
                    steps[i] += self.sized.bytes(y)
                    steps[last] -= self.sized.bytes(y)
        total = 0
        return [total := total + step for step in steps]

    def _last(self, value: ir.Value) -> int:
        return max((self.place[user] for user, _ in value.uses() if user in self.place), default=-1)

    def _crossing(self, cuts: list[int]) -> set[ir.Value]:
        """What is computed before a cut, and read behind it."""
        return {
            y
            for begin, end in pairwise(cuts)
            for node in self.forward[begin + 1 : end + 1]
            for y in node.outputs
            if y in self.per_sample and self._last(y) > end
        }

    def _segments(self, cuts: list[int], held: set[ir.Value]) -> list[_Segment]:
        parts = [self.forward[begin + 1 : end + 1] for begin, end in pairwise(cuts)]
        return [_Segment(nodes, [y for n in nodes for y in self._asleep[n] if y not in held]) for nodes in parts]

    def _cost(self, cuts: list[int]) -> int:
        """Bytes that are held, and those of the segment where most sleeps."""
        crossing = self._crossing(cuts)
        inside = [self._bytes(segment.asleep) for segment in self._segments(cuts, crossing)]
        return self._bytes(crossing - self.held) + max(inside)


def _forward(graph: ir.Graph) -> set[ir.Node]:
    """The nodes that the model's own nodes, or outputs that are no gradients, need."""
    outputs = {y for y in graph.outputs if not (y.name or "").startswith(_BACKWARD)}
    found: set[ir.Node] = set()
    for node in reversed(list(graph)):
        own = not (node.name or "").startswith(f"{PREFIX}/")
        if own or any(y in outputs for y in node.outputs):
            found.add(node)
            outputs.update(all_inputs(node))
    return found


def _again(outer: Op, passes: _Passes, segment: _Segment) -> bool:
    """Compute a segment again, where the backward pass first reads what is inside; False if that cannot be."""
    readers = [(y, node) for y in segment.asleep for node in passes.readers(y)]
    position = min((passes.at[node] for _, node in readers), default=0)
    if (late := passes.arriving(position)) is None:
        return False
    op = Op(ir.Graph([], [], nodes=[], name="again"), outer)
    with op:
        copies = _Copies(op, passes, segment, late)
    for y, node in readers:
        for i, x in enumerate(node.inputs):
            if x is y:
                node.replace_input_with(i, copies.of[y])
    nodes = list(op.graph)
    op.graph.remove(nodes)
    outer.graph.insert_before(passes.order[position], nodes)
    return True


class _Copies:
    """A segment that is computed again, as far as the backward pass needs it."""

    def __init__(self, op: Op, passes: _Passes, segment: _Segment, late: ir.Value) -> None:
        self.op, self.passes, self.late = op, passes, late
        inside = {y for node in segment.nodes for y in node.outputs} - passes.held
        self.needed = set(segment.asleep)
        for node in reversed(segment.nodes):
            if any(y in self.needed for y in node.outputs):
                self.needed.update(x for x in all_inputs(node) if x in inside)
        self.of: dict[ir.Value, ir.Value] = {}
        self.held_back: dict[ir.Value, ir.Value] = {}
        for node in segment.nodes:
            if any(y in self.needed for y in node.outputs):
                self._add(node)

    def _add(self, node: ir.Node) -> None:
        inputs = [x and self.of.get(x, x) for x in node.inputs]
        if not any(x in self.of for x in node.inputs):  # one that waits is enough; fusions see the others as they are
            inputs = self._waiting(inputs)
        outputs = [ir.Value(name=self._name(y.name), type=y.type, shape=y.shape) for y in node.outputs]
        how: dict[str, Any] = {"overload": node.overload, "outputs": outputs, "name": self._name(node.name)}
        copy = ir.Node(node.domain, node.op_type, inputs, node.attributes.values(), **how)
        copy.metadata_props.update(node.metadata_props)
        self.op.graph.append(copy)
        self.of.update((y, new) for y, new in zip(node.outputs, outputs, strict=True) if y not in self.passes.held)

    def _waiting(self, inputs: list[ir.Value | None]) -> list[ir.Value | None]:
        """Inputs of which the first that can be is held back until the cotangent has arrived."""
        for i, x in enumerate(inputs):
            shape = self.passes.sized.shape(x) if x in self.passes.per_sample else None
            if x is not None and shape is not None and isinstance(x.type, ir.TensorType):
                if x not in self.held_back:
                    late = self.op.Reshape(x, self.op.Sub([0] * len(shape), self._zero))
                    late.type, late.shape = x.type, x.shape
                    self.held_back[x] = late
                return [*inputs[:i], self.held_back[x], *inputs[i + 1 :]]
        return inputs

    @cached_property
    def _zero(self) -> ir.Value:
        """0, computed from the cotangent whatever that holds."""
        # Not by Gather: inference would follow each number of a row.
        first = self.op.GatherND(self.op.Reshape(self.late, [-1]), np.zeros((1, 1), np.int64))
        return self.op.Cast(self.op.Less(first, first), to=ir.DataType.INT64)  # type: ignore[no-any-return]

    def _name(self, name: str | None) -> str:
        """A name of its own: not one of ours where the node is the model's, since lowering tells them by it."""
        name = name and f"{name}/again"  # an output without a name is left out
        while name and name in self.op.names:
            name += "_"
        self.op.names.add(name)
        return name or ""
