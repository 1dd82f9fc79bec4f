"""Which layer to explain when nobody says: the last map, or grid of tokens, on the path to the target."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from . import structure
from .emit import ints
from .errors import InspectError, LayerError
from .maps import positions
from .model import Model
from .naming import Choice, Layer
from .places import Places
from .reach import regions

# Operators that hand a map on as it is, at most with its axes in another order or grouped otherwise.
_SAME = frozenset("Identity Dropout Cast Transpose Reshape Flatten Squeeze Unsqueeze".split())
POOLING = frozenset("GlobalAveragePool ReduceMean AveragePool".split())
RESHAPING = frozenset(
    "Reshape Flatten Squeeze Unsqueeze Identity Dropout Cast Transpose Shape Gather Concat QuantizeLinear "
    "DequantizeLinear".split()
)
LINEAR = RESHAPING | frozenset(
    "Gemm MatMul Conv Add Sub Mul Div BatchNormalization DynamicQuantizeLinear MatMulInteger ConvInteger".split()
)


def auto(model: Model, *scores: str, places: Places | None = None) -> Choice:
    """The last map with more than one position that the whole path to the scores runs through.

    With `places`, tokens that make up a grid count as a map, as long as their cells still count for the scores: behind
    the last attention only the class token may.

    Args:
        model: the model.
        scores: the tensors that are explained.
        places: where tensors lie on the picture; None if only what convolutions make counts as a map.

    Raises:
        LayerError: nothing on the path is a map.
    """
    chain = separators(model, *scores, places=places)
    while chain and places is not None and not _counts(model, chain[-1], scores, places):
        chain.pop()
    if not chain:
        foreign = sorted({f"{n.domain}::{n.op_type}" for n in model.ir.graph if n.domain not in ("", "ai.onnx.ml")})
        if foreign:
            raise LayerError(
                f"This file holds {', '.join(foreign[:4])}, which are no standard operators: onnxruntime's "
                "optimiser, or a custom export, wrote it for one machine: take the original model, or occlusion."
            )
        raise LayerError(
            "No tensor on the path to the target is a map with more than one position, so there is nothing to draw: "
            "explain the input instead (saliency), or name a --layer."
        )
    chosen = chain[-1]
    what = structure.sizes(chosen.shape[1:])
    if chosen.grid is not None and chosen.role == "tokens":
        what = f"{structure.sizes(chosen.shape)}, tokens in a grid of {structure.sizes(chosen.grid.sizes)}"
        if chosen.grid.extra:
            what += " and 1 other" if chosen.grid.extra == 1 else f" and {chosen.grid.extra} others"
    reason = (
        f"layer: '{chosen.name}' ({chosen.op_type} {what}), the last map with spatial "
        "extent that the whole path to the target runs through"
    )
    if _attention_follows(model, chosen, scores):
        reason += "; attention follows it, so its positions are mixed before they count"
    if not is_class_map(model, chosen, *scores):
        return Choice(chosen, f"{reason} (--layer NAME)")
    reason += "; it is the class map itself: each channel is a class"
    before = next((c for c in reversed(chain[:-1]) if _channels(c) != _channels(chosen)), None)
    return Choice(
        chosen, f"{reason} (--layer {before.name} for the features before it)" if before else f"{reason} (--layer NAME)"
    )


def _counts(model: Model, layer: Layer, scores: Sequence[str], places: Places) -> bool:
    """True if a score depends on a cell of a grid, and not on class tokens alone."""
    if layer.grid is None or not layer.grid.extra:
        return True
    try:
        found = list(regions(model, layer.tensor, scores, places))
    except InspectError:  # what cannot be followed may count
        return True
    read = [functools.reduce(np.logical_and.outer, [region[a] for a in layer.grid.axes]) for region in found]
    return any(np.ravel(one)[layer.grid.cells].any() for one in read)


def _between(model: Model, layer: Layer, scores: Sequence[str]) -> set[ir.Node]:
    """The nodes on the way from a map to the scores."""
    start, after = model.values[layer.tensor], structure.varying(model.ir.graph, [model.values[layer.tensor]])
    values = after & _behind(model, scores)
    return {node for v in values if v is not start and (node := v.producer()) is not None}


def _behind(model: Model, scores: Sequence[str]) -> set[ir.Value]:
    """All that the scores are computed from."""
    found: set[ir.Value] = set()
    return found.union(*(structure.needed(model.ir.graph, model.value(score)) for score in scores))


def _attention_follows(model: Model, layer: Layer, scores: Sequence[str]) -> bool:
    """True if weights that a Softmax makes multiply something, on the way to the score; a final Softmax does not."""
    nodes = _between(model, layer, scores)
    weights = structure.varying(model.ir.graph, [n.outputs[0] for n in nodes if n.op_type == "Softmax"])
    multiplied = any(n.op_type == "MatMul" and any(x in weights for x in n.inputs) for n in nodes)
    return multiplied or any(n.op_type in ("Attention", "MultiHeadAttention") for n in nodes)


def separators(model: Model, *scores: str, places: Places | None = None) -> list[Layer]:
    """Maps that every path from the input to the scores runs through, in order, without mere copies.

    Args:
        model: the model.
        scores: the tensors where the paths end.
        places: where tensors lie on the picture, for grids of tokens; None for maps alone.
    """
    graph = model.ir.graph
    targets = {model.value(score) for score in scores}
    # Where some inputs are pictures, maps of those are wanted: other inputs may join the path late.
    sources = [v for v in graph.inputs if v in model.layouts] or list(graph.inputs)
    path = _behind(model, scores) & structure.dependent(graph, sources)
    axes = {len(positions(model.layouts.get(v, "NCHW"))) for v in sources}
    by_value = {model.values[c.tensor]: c for c in model.layers}
    order = [v for node in graph for v in node.outputs if v in path and v in by_value]
    passed = _passed_by_all(graph, path, targets, order)
    if places is not None:
        passed = {v for v in passed if not _one(by_value[v], places)}
        by_value |= {v: places.seen(by_value[v]) for v in passed}
    pooled = [y for n in graph if n.op_type in ("RoiAlign", "MaxRoiPool") for y in n.outputs]
    pieces = structure.varying(graph, pooled) if pooled else set()  # maps of proposals, not of the picture
    maps = [
        v
        for v in order
        if v in passed
        and v not in pieces
        and by_value[v].role != "vector"
        and len(by_value[v].axes) in axes
        and v not in targets
    ]
    known = set(maps)
    return [by_value[v] for v in maps if not _copies(v, known)]


def _one(layer: Layer, places: Places) -> bool:
    """True if a map whose size the graph leaves open turns out to have a single position."""
    shape, letters = places.shape(layer.tensor), layer.layout
    return shape is not None and letters is not None and all(shape[letters.index(a)] == 1 for a in positions(letters))


def _copies(value: ir.Value, maps: set[ir.Value]) -> bool:
    node = value.producer()
    return node is not None and node.op_type in _SAME and node.inputs[0] in maps


def _passed_by_all(
    graph: ir.Graph, path: set[ir.Value], targets: set[ir.Value], order: list[ir.Value]
) -> set[ir.Value]:
    """Values that separate the inputs from the targets: no edge of the path jumps over their place in the order.

    Nodes are in topological order, so a value separates if every value made before it was used for the last time
    at or before the node that makes it.
    """
    place = {v: i + 1 for i, v in enumerate(order)} | {v: 0 for v in graph.inputs if v in path}
    reach = dict.fromkeys(place, 0)  # the last place at which a value is used
    for node in graph:
        ends = [place[y] for y in node.outputs if y in place]
        for x in structure.all_inputs(node) if ends else ():
            if x in reach:
                reach[x] = max(reach[x], *ends)
    reach |= {target: len(place) for target in targets if target in reach}
    found, furthest = set(), max((reach[v] for v in graph.inputs if v in reach), default=0)
    for value in order:
        if furthest <= place[value]:
            found.add(value)
        furthest = max(furthest, reach[value])
    return found


def is_class_map(model: Model, layer: Layer, *scores: str) -> bool:
    """True if nothing but pooling lies between a map and the scores: its channels are the classes."""
    return all(n.op_type in POOLING | RESHAPING for n in _between(model, layer, scores))


def _channels(layer: Layer) -> int | str | None:
    return layer.shape[layer.layout.index("C")] if layer.layout and "C" in layer.layout else None


def before_pooling(model: Model, score: str) -> Layer:
    """The map before global average pooling, if one chain of linear operators follows.

    Raises:
        LayerError: the model does not end in that way.
    """
    value = model.value(score)
    while (node := value.producer()) is not None:
        given = node.inputs[:1] if node.op_type in RESHAPING - {"Concat"} else node.inputs
        varying = [v for v in given if v is not None and v in model.varying and not _is_scale(v, model)]
        if _is_pooling(node, model):
            at = next((c for c in model.layers if c.tensor == varying[0].name), None)
            if at is not None and at.role == "spatial":
                return at
        # Linear in one tensor: a second one that varies, or a divisor, would make the weights depend on the photo.
        if node.op_type not in LINEAR or len(varying) != 1 or (node.op_type == "Div" and varying[0] is node.inputs[1]):
            raise LayerError(
                f"cam needs a model that ends in global average pooling and a linear layer; here '{node.op_type}' "
                f"(node '{structure.label(node)}') comes after the last map. gradcam needs "
                "neither where there is a map: `onnx-inspect doctor MODEL` lists the methods that fit."
            )
        value = varying[0]
    raise LayerError(
        "cam needs a model that ends in global average pooling and a linear layer; this one has no such pooling. "
        "`onnx-inspect doctor MODEL` lists the methods that fit."
    )


def _is_scale(value: ir.Value, model: Model) -> bool:
    """True for what a dynamic quantiser measures, or a multiple: it holds still where numbers go straight through."""
    node = value.producer()
    if node is not None and node.op_type == "Mul":
        varying = [v for v in node.inputs if v is not None and v in model.varying]
        value, node = varying[0], varying[0].producer() if len(varying) == 1 else None
    return node is not None and node.op_type == "DynamicQuantizeLinear" and value is not node.outputs[0]


def _is_pooling(node: ir.Node, model: Model) -> bool:
    """True if a node leaves the mean over all positions of a map, and nothing else."""
    x, y = node.inputs[0], node.outputs[0]
    letters = model.layouts.get(x) if x is not None else None
    if node.op_type not in POOLING or x is None or letters is None:
        return False
    if node.op_type == "ReduceMean":
        axes = ints(node.inputs[1]) if len(node.inputs) > 1 else None
        return axes is not None and {letters[a] for a in axes} == set(letters) - {"N", "C"}
    return node.op_type == "GlobalAveragePool" or structure.size_one(y, letters)
