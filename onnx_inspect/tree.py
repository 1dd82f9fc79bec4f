"""The modules of a network as its author wrote them, with their tensors, shapes and shares of the weights."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from . import structure
from .model import Model
from .naming import Layer
from .parameters import held_weights
from .scopes import Path, Scope, scopes

Shape = tuple[int | str | None, ...]


@dataclass(frozen=True)
class Leaf:
    """A tensor and how many weights its operator reads; a weight that several read counts at the first.

    Attributes:
        layer: the tensor.
        weights: how many.
        held: the module that they are named after, if that is another one: see `Scope`.
    """

    layer: Layer
    weights: int
    held: Path = ()


@dataclass(frozen=True)
class Module:
    """A module, what is in it in the order of computation, and how many weights that has.

    Attributes:
        name: what it is called within the module around it; "" for the network.
        path: all its levels.
        class_name: of the author's code, "" where unknown.
        children: modules and tensors.
    """

    name: str
    path: Path
    class_name: str
    children: tuple[Module | Leaf, ...]

    @property
    def leaves(self) -> Iterator[Leaf]:
        """All tensors within."""
        for child in self.children:
            yield from child.leaves if isinstance(child, Module) else (child,)

    @property
    def weights(self) -> int:
        """All weights within."""
        return sum(leaf.weights for leaf in self.leaves)


def tree(model: Model, layers: Iterable[Layer] | None = None) -> Module:
    """The modules that hold some layers, all by default.

    What the exporter wrote down is taken as it is (see `scopes`). An operator of which it said nothing stands in the
    innermost module that holds both what it reads and what reads it. Modules that hold nothing but one other module
    are folded into it: "encoder.layers".
    """
    known = scopes(model.ir.graph)
    places = _places(model.ir.graph, known)
    counted = _counted(model)
    classes = {s.path[:i]: name for s in known.values() for i, name in enumerate(s.classes) if name}
    grown: dict[Any, Any] = {}
    for layer in model.layers if layers is None else layers:
        node = model.values[layer.tensor].producer()
        assert node is not None
        at = grown
        for part in places[node]:
            at = at.setdefault(part, {})
        at[len(at)] = Leaf(layer, counted.pop(node, 0), known[node].held)
    return _module(grown, (), "", classes)


def _module(grown: dict[Any, Any], path: Path, name: str, classes: dict[Path, str]) -> Module:
    while path and len(grown) == 1 and isinstance(next(iter(grown.values())), dict):
        ((part, grown),) = grown.items()
        path, name = (*path, part), f"{name}.{part}"
    children = [
        _module(child, (*path, part), part, classes) if isinstance(child, dict) else child
        for part, child in grown.items()
    ]
    return Module(name, path, classes.get(path, ""), tuple(children))


def _places(graph: ir.Graph, known: dict[ir.Node, Scope]) -> dict[ir.Node, Path]:
    """The module of each node; where nobody said it, what the modules before and after it have in common."""
    varying = structure.varying(graph)
    before: dict[ir.Node, Path] = {}
    for node in graph:
        makers = [x.producer() for x in structure.all_inputs(node) if x in varying]
        before[node] = known[node].path if known[node].source else _common([before.get(m, ()) for m in makers if m])
    after: dict[ir.Node, Path] = {}
    for node in reversed(graph):
        users = [after[use.node] for y in node.outputs for use in y.uses() if use.node in after]
        after[node] = known[node].path if known[node].source else _common(users)
    return {node: _common([before[node], after[node]]) for node in before}


def _common(paths: list[Path]) -> Path:
    if not paths:
        return ()
    low, high = min(paths), max(paths)
    return low[: next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), len(low))]


def _counted(model: Model) -> dict[ir.Node, int]:
    """How many weights each operator reads; those of one that is no layer, as of integers, go to what reads it."""
    shown = {model.values[layer.tensor].producer() for layer in model.layers}
    seen: set[ir.Value] = set()
    counts: Counter[ir.Node] = Counter()
    for node, values in held_weights(model.ir.graph).items():
        new = [v for v in values if v not in seen]
        seen.update(new)
        counts[node] += sum(math.prod(v.shape.numpy()) for v in new if v.shape is not None and v.shape.is_static())
        reader = next((use.node for y in node.outputs for use in y.uses()), None)
        if node not in shown and reader is not None:
            counts[reader] += counts.pop(node)
    return counts


# As text, and as nested data.


def _last(child: Module | Leaf) -> Shape | None:
    """The shape of the last tensor."""
    found = list(child.leaves) if isinstance(child, Module) else [child]
    return found[-1].layer.shape if found else None


HEADER = ("module", "class or operator", "shape", "weights", "share", "layer")


def rows(root: Module, depth: int | None = None) -> list[tuple[str, ...]]:
    """A row per module and tensor as in HEADER, indented by box-drawing lines.

    Args:
        root: the network.
        depth: levels of modules to show; what lies deeper is summed up. None shows all.
    """
    total = root.weights or 1
    found: list[tuple[str, ...]] = [("(network)", root.class_name, *_numbers(root, total), "")]

    def below(module: Module, indent: str, level: int) -> None:
        for i, child in enumerate(module.children):
            last = i == len(module.children) - 1
            mark, inner = ("└── ", "    ") if last else ("├── ", "│   ")
            found.append((indent + mark + _label(child), *_cells(child, total)))
            if isinstance(child, Module) and not _single(child) and (depth is None or level < depth):
                below(child, indent + inner, level + 1)

    if depth is None or depth > 0:
        below(root, "", 1)
    return found


def _label(child: Module | Leaf) -> str:
    """What a line is called: "conv1 + bn1" where the weights of one module ended up in the other."""
    if isinstance(child, Leaf):
        return child.layer.op_type
    held = next(child.leaves).held if _single(child) else ()
    return " + ".join([*held[-1:], child.name])


def _single(module: Module) -> bool:
    """True for a module that is one operator: it takes one line."""
    return len(module.children) == 1 and isinstance(module.children[0], Leaf)


def _cells(child: Module | Leaf, total: int) -> tuple[str, ...]:
    if isinstance(child, Leaf):
        return ("", *_numbers(child, total), child.layer.name)
    if not _single(child):
        return (child.class_name, *_numbers(child, total), "")
    layer = next(child.leaves).layer
    what = f"{child.class_name} ({layer.op_type})" if child.class_name else layer.op_type
    same = child.class_name.lower() == layer.op_type.lower()
    return (layer.op_type if same else what, *_numbers(child, total), layer.name)


def _numbers(child: Module | Leaf, total: int) -> tuple[str, str, str]:
    """Shape of the last tensor, weights, share of all."""
    shape = _last(child)
    share = f"{100 * child.weights / total:.1f} %" if child.weights else ""
    return structure.sizes(shape) if shape is not None else "", f"{child.weights:,}" if child.weights else "", share


def data(root: Module, depth: int | None = None) -> dict[str, Any]:
    """The tree as nested dictionaries: modules have "children", tensors a "layer"."""
    total = root.weights or 1

    def of(child: Module | Leaf, level: int) -> dict[str, Any]:
        numbers: dict[str, Any] = {"weights": child.weights, "share": child.weights / total}
        if isinstance(child, Leaf):
            layer = child.layer
            named = {"layer": layer.name, "tensor": layer.tensor, "op_type": layer.op_type, "shape": layer.shape}
            return {**named, **numbers}
        facts: dict[str, Any] = {
            "name": child.name,
            "path": child.path,
            "class": child.class_name,
            "shape": _last(child),
        }
        shown = depth is None or level < depth
        return {**facts, **numbers, "children": [of(c, level + 1) for c in child.children] if shown else []}

    return of(root, 0)
