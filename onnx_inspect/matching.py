"""Which layer of one export is which of another, of the same network.

A pair says how it was found:

- "weights": the operators hold the same numbers, by their `fingerprints`: a batch normalisation on one side is the
  convolution that it was folded into on the other. Weights that several layers share tell nothing.
- "rounded weights": the same, but for what quantising changes.
- "name": the modules are called the same, once what exporters add is taken off ("functional_1/", "_1"), and hold as
  many operators of this kind, of the same shapes.
- "neighbours": the only operators of this kind that read what is already paired, of the same shapes.

"other weights" warns of a pair by name or neighbours whose weights differ: the network was trained on, or one side
folded what the other did not, so that the values differ. A pair stands at the same place in both networks; pads,
strides and what comes before are not compared, so a faulty export has pairs whose values differ.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from .fingerprints import PASSING, Fingerprint, distances, fingerprints
from .model import Model
from .naming import Layer
from .scopes import Path, Scope, scopes

_SAME, _ROUNDED = 1e-3, 2e-2  # how far fingerprints may be apart; half precision keeps to the one, int8 to the other
# Operators that different exporters write for one another.
_KINDS = {"Gemm": "MatMul", "GlobalAveragePool": "ReduceMean", "Flatten": "Reshape", "Squeeze": "Reshape"}
_COPIES = PASSING | {"QuantizeLinear", "DequantizeLinear"}
_EITHER_WAY = frozenset("Add Mul Max Min Sum".split())
_NUMBERED = re.compile(r"_\d+$")


@dataclass(frozen=True)
class Pair:
    """A layer of either model, and what says that they are the same."""

    a: Layer
    b: Layer
    how: tuple[str, ...]


@dataclass(frozen=True)
class Matches:
    """Pairs in the order of the first model, and the layers of either that have no partner."""

    pairs: list[Pair]
    only_a: list[Layer]
    only_b: list[Layer]

    def to_json(self) -> dict[str, Any]:
        """Names and tensors, as plain data."""
        pairs = [{"a": _said(p.a), "b": _said(p.b), "how": list(p.how)} for p in self.pairs]
        return {"pairs": pairs, "only_a": list(map(_said, self.only_a)), "only_b": list(map(_said, self.only_b))}


def _said(layer: Layer) -> dict[str, Any]:
    return {"name": layer.name, "tensor": layer.tensor, "op_type": layer.op_type, "shape": layer.shape}


@dataclass(frozen=True, eq=False)
class _Spot:
    """A layer, the node that computes it, where that stands, and what it computes."""

    layer: Layer
    node: ir.Node
    scope: Scope
    print: Fingerprint | None

    @property
    def kind(self) -> str:
        return _KINDS.get(self.node.op_type, self.node.op_type)

    def fits(self, other: _Spot) -> bool:
        """False if the shapes, or the numbers of weights, cannot be those of one layer."""
        a, b = (_sizes(s.layer.shape) for s in (self, other))
        mine, its = (s.print.form if s.print else None for s in (self, other))
        return (a is None or b is None or a == b) and (mine is None or its is None or mine == its)


def _sizes(shape: tuple[int | str | None, ...]) -> list[int] | None:
    """The sizes of a sample in whatever order, None where they are not known."""
    known = [d for d in shape[1:] if isinstance(d, int)]
    return sorted(d for d in known if d != 1) if len(known) == len(shape[1:]) else None


Found = dict[_Spot, tuple[_Spot, list[str]]]


def match(a: Model, b: Model, layers: Iterable[Layer] | None = None) -> Matches:
    """Pair the layers of two exports of one network.

    Args:
        a: one export.
        b: another.
        layers: those of `a` that are asked for, and then nothing is said of what is left over in `b` [default: all].

    Example:
        >>> [(p.a.name, p.b.name, p.how) for p in match(load("torch.onnx"), load("keras.onnx")).pairs]
        [('conv1', 'twin_1/conv1_1', ('weights', 'name')), ('relu_1', 'twin_1/relu1_1', ('neighbours',)), ...]
    """
    left, right = _spots(a), _spots(b)
    found: Found = {}
    for limit, how in ((_SAME, "weights"), (_ROUNDED, "rounded weights")):
        _by_weights(_free(left, found), _free(right, found), limit, how, found)
    _by_name(left, right, found)
    _by_neighbours(a, b, left, right, found)
    asked = None if layers is None else {c.tensor for c in layers}
    wanted = [s for s in left if asked is None or s.layer.tensor in asked]
    return Matches(
        [Pair(s.layer, found[s][0].layer, tuple(found[s][1])) for s in wanted if s in found],
        [s.layer for s in wanted if s not in found],
        [s.layer for s in _free(right, found)] if asked is None else [],
    )


def _spots(model: Model) -> list[_Spot]:
    known, prints = scopes(model.ir.graph), fingerprints(model.ir.graph)
    nodes = [(layer, model.values[layer.tensor].producer()) for layer in model.layers]
    return [_Spot(layer, node, known[node], prints.get(node)) for layer, node in nodes if node is not None]


def _free(spots: list[_Spot], found: Found) -> list[_Spot]:
    taken = {other for other, _ in found.values()} | set(found)
    return [s for s in spots if s not in taken]


def _by_weights(left: list[_Spot], right: list[_Spot], limit: float, how: str, found: Found) -> None:
    """Pairs of which each is the only one that computes what the other does."""
    forms: dict[Hashable, list[tuple[_Spot, Fingerprint]]] = defaultdict(list)
    for spot in right:
        if spot.print is not None:
            forms[spot.print.form].append((spot, spot.print))
    near: dict[_Spot, list[_Spot]] = {}
    back: Counter[_Spot] = Counter()
    for spot in left:
        alike = forms.get(spot.print.form) if spot.print is not None else None
        if spot.print is not None and alike:
            far = distances(spot.print, [seen for _, seen in alike])
            near[spot] = [other for (other, _), d in zip(alike, far, strict=True) if d <= limit]
            back.update(near[spot])
    for spot, others in near.items():
        if len(others) == 1 == back[others[0]]:
            found[spot] = (others[0], [how])


def _by_name(left: list[_Spot], right: list[_Spot], found: Found) -> None:
    """Pairs of modules that are called the same and hold as many operators of a kind."""
    ways: list[Callable[[_Spot], Path]] = [lambda s: s.scope.path, lambda s: s.scope.held or s.scope.path]
    for way in ways:
        paths = _alike({s: way(s) for s in left}, {s: way(s) for s in right})
        for spot, (other, how) in found.items():
            if paths.get(spot) and paths[spot] == paths[other] and "name" not in how:
                how.append("name")
        mine, its = (_grouped(_free(spots, found), paths) for spots in (left, right))
        for where, spots in mine.items():
            others = its.get(where, [])
            if len(spots) == len(others):
                for spot, other in zip(spots, others, strict=True):
                    if spot.fits(other):
                        found[spot] = (other, ["name", *_warning(spot, other)])


def _grouped(spots: list[_Spot], paths: dict[_Spot, Path]) -> dict[Hashable, list[_Spot]]:
    groups: dict[Hashable, list[_Spot]] = defaultdict(list)
    for spot in spots:
        if paths[spot]:
            groups[paths[spot], spot.kind].append(spot)
    return groups


def _alike(left: dict[_Spot, Path], right: dict[_Spot, Path]) -> dict[_Spot, Path]:
    """Paths without what only one exporter writes around them: those of the ways to read both that agree most often."""
    readings = [{**mine, **its} for mine in _readings(left) for its in _readings(right)]
    return max(readings, key=lambda r: len({r[s] for s in left} & {r[s] for s in right}))


def _readings(paths: dict[_Spot, Path]) -> list[dict[_Spot, Path]]:
    """As they are; without the numbers that Keras puts at every name; and either without the outermost module."""
    found = [paths]
    if all(_NUMBERED.search(part) for path in paths.values() for part in path):
        found.append({s: tuple(_NUMBERED.sub("", part) for part in path) for s, path in paths.items()})
    roots = {path[0] for path in paths.values() if path}
    if len(roots) == 1:
        found += [{s: path[1:] for s, path in reading.items()} for reading in list(found)]
    return found


def _warning(spot: _Spot, other: _Spot) -> list[str]:
    if spot.print is None or other.print is None or spot.print.form != other.print.form:
        return []
    return ["other weights"] if distances(spot.print, [other.print])[0] > _ROUNDED else []


def _by_neighbours(a: Model, b: Model, left: list[_Spot], right: list[_Spot], found: Found) -> None:
    """Pairs of operators that are the only ones of their kind to read what is paired, from the inputs onwards."""
    images: dict[ir.Value, ir.Value] = {}
    if len(a.ir.graph.inputs) == len(b.ir.graph.inputs):
        images.update(zip(a.ir.graph.inputs, b.ir.graph.inputs, strict=True))
    free = set(_free(right, found))
    readers: dict[Hashable, list[_Spot]] = defaultdict(list)
    for spot in right:
        if spot in free:
            readers[_key(spot, _sources(b, spot))].append(spot)
    alone: dict[Hashable, int] = defaultdict(int)
    for spot in _free(left, found):
        alone[_key(spot, _sources(a, spot))] += 1
    for spot in left:
        if spot not in found and spot.node.op_type not in _COPIES:
            sources = _sources(a, spot)
            seen = [images.get(v) for v in sources]
            others = readers.get(_key(spot, seen), []) if sources and None not in seen else []
            if len(others) == 1 == alone[_key(spot, sources)] and spot.fits(others[0]):
                found[spot] = (others[0], ["neighbours", *_warning(spot, others[0])])
        if spot in found:
            images[a.values[spot.layer.tensor]] = b.values[found[spot][0].layer.tensor]


def _sources(model: Model, spot: _Spot) -> list[ir.Value]:
    """What an operator reads that depends on an input, past copies."""
    read = []
    for value in spot.node.inputs:
        while value is not None and (node := value.producer()) is not None and node.op_type in _COPIES:
            value = node.inputs[0]
        if value is not None and value in model.varying:
            read.append(value)
    return read


def _key(spot: _Spot, sources: Iterable[ir.Value | None]) -> Hashable:
    read = list(map(id, sources))
    return spot.kind, tuple(sorted(read) if spot.node.op_type in _EITHER_WAY else read)
