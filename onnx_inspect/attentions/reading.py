"""Reading attention off a graph: weights that a Softmax makes, of which token for which.

Attention is a Softmax whose output multiplies values that vary: Y = W V. The axis that the product sums over holds the
keys, the one that it keeps the queries; all others are samples, windows and heads, told apart by where on the picture
their queries and keys lie.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from ..dtypes import is_float
from ..maps import Array, Grid
from ..model import Model
from ..places import Places
from ..places.walk import grid
from .weights import Attention, Cells

# What weights pass on their way to the values.
_PASSED = frozenset(
    "Identity Dropout Cast Where IsNaN Mul Div Reshape Squeeze Unsqueeze Flatten Transpose Slice Split QuantizeLinear "
    "DequantizeLinear DynamicQuantizeLinear".split()
)
_PRODUCTS = frozenset("MatMul Gemm Einsum MatMulInteger QLinearMatMul".split())


def read(model: Model, places: Places) -> Iterator[Attention]:
    """Every attention of a graph, called by the tensor that the Softmax makes."""
    for node in model.ir.graph:
        if (axis := _softmax(node)) is None or node.outputs[0] not in model.varying:
            continue
        shape = places.shape(node.outputs[0].name or "")
        for weights, product, i in _products(node.outputs[0], model):
            found = _read(weights, product, i, places)
            if found is not None and shape is not None and found.size[1] == shape[axis]:
                yield replace(found, name=node.outputs[0].name or "")
                break


def _softmax(node: ir.Node) -> int | None:
    """The axis along which a node makes numbers that sum to 1, None if it does not."""
    if node.op_type == "Softmax":
        return node.attributes.get_int("axis", -1)
    if node.op_type != "Div" or None in node.inputs:  # exp(x) / Σ exp(x)
        return None
    (x, total) = (v.producer() if v is not None else None for v in node.inputs)
    if x is None or total is None or (x.op_type, total.op_type) != ("Exp", "ReduceSum"):
        return None
    axes = total.inputs[1].const_value if len(total.inputs) > 1 and total.inputs[1] is not None else None
    same = total.inputs[0] is x.outputs[0] and axes is not None and axes.size == 1
    return int(axes.numpy().ravel()[0]) if same and axes is not None else None


def _products(value: ir.Value, model: Model) -> Iterator[tuple[ir.Value, ir.Node, int]]:
    """Products that weights reach: the weights there as floats, the node, and which of its operands they are."""
    stack, known = [(value, value)], {value}
    while stack:
        x, weights = stack.pop()
        for node in x.consumers():
            i = next(k for k, v in enumerate(node.inputs) if v is x)
            if node.op_type in _PRODUCTS:
                first, second = (0, 3) if node.op_type == "QLinearMatMul" else (0, 1)
                values = node.inputs[second if i == first else first]
                if i in (first, second) and len(node.inputs) > 1 and values in model.varying:
                    yield weights, node, int(i != first)
            elif node.op_type in _PASSED and (y := node.outputs[0]) not in known:
                known.add(y)
                stack.append((y, y if is_float(y) else weights))


def _read(weights: ir.Value, product: ir.Node, i: int, places: Places) -> Attention | None:
    """What the axes of weights mean, which are operand `i` of a product; None where that cannot be told."""
    tensor, output = weights.name or "", product.outputs[0].name or ""
    operands = [product.inputs[0], product.inputs[3 if product.op_type == "QLinearMatMul" else 1]]
    values, of = operands[1 - i], operands[i]
    shape, whole = places.shape(tensor), places.shape(output)
    if values is None or of is None or shape is None or whole is None:
        return None
    other = places.shape(values.name or "")
    if other is None or places.shape(of.name or "") != shape or len(shape) < 2 or len(other) < 2:
        return None
    known = _letters(product, i, len(shape), len(other), len(whole))
    if known is None:
        return None
    (query, key), summed, kept, moved = known
    place = places.place(values.name or "")
    if place is not None and place.shape[summed] == 1 < place.shape[moved]:
        return None  # it weighs channels, not tokens
    lead = [a for a in range(len(shape)) if a not in (query, key)]
    sides = [_tokens(places.along(tensor, axis), axis, lead, shape) for axis in (query, key)]
    if sides[1] is None and place is not None and len(other) == len(shape):
        sides[1] = _tokens(place, summed, [a for a in range(len(other)) if a not in (summed, moved)], other)
    order = _order([side for side in sides if side is not None], math.prod(shape[a] for a in lead))
    if order is None:
        return None
    grids = [None if s is None else _grid(s[order[:, 0]], places.extent) for s in sides]
    return Attention(tensor, tensor, output, shape, (query, key), order, grids[0], grids[1], kept)


def _letters(node: ir.Node, i: int, rank: int, other: int, whole: int) -> tuple[tuple[int, int], int, int, int] | None:
    """Axes of a product: queries and keys of the weights, keys of the values, queries of the output, and the values'
    axis that becomes the output's other one.
    """
    if node.op_type == "Einsum":
        terms, _, out = node.attributes.get_string("equation", "").replace(" ", "").partition("->")
        ours, theirs = (terms.split(",") if i == 0 else terms.split(",")[::-1])[:2] if "," in terms else ("", "")
        queries = [c for c in ours if c in out and c not in theirs]
        keys = [c for c in ours if c in theirs and c not in out]
        moved = [c for c in theirs if c in out and c not in ours]
        if "." in terms or len(queries) != 1 or len(keys) != 1 or not moved:
            return None
        q, k = queries[0], keys[0]
        return (ours.index(q), ours.index(k)), theirs.index(k), out.index(q), theirs.index(moved[-1])
    turned = [bool(node.attributes.get_int(flag, 0)) for flag in ("transA", "transB")]
    back = turned[i] != (i == 1)  # the weights' keys come first
    query, key = (rank - 1, rank - 2) if back else (rank - 2, rank - 1)
    summed, moved_ = (other - 1, other - 2) if turned[1 - i] == (i == 0) else (other - 2, other - 1)
    return (query, key), summed, whole - (2 if i == 0 else 1), moved_


def _tokens(place: Array | None, axis: int, lead: list[int], shape: tuple[int, ...]) -> Array | None:
    """Places of the tokens along an axis, (all other axes in a row, tokens, coordinates)."""
    if place is None or place.shape[axis] == 1:
        return None
    gone = tuple(a for a in range(len(shape)) if a != axis and a not in lead)
    if any(place.shape[a] > 1 for a in gone):
        return None
    whole = np.broadcast_to(place, [1 if a in gone else n for a, n in enumerate(shape)] + [place.shape[-1]])
    rows = np.moveaxis(whole, axis, -2)
    return np.asarray(rows.reshape(-1, shape[axis], place.shape[-1]))


def _order(sides: list[Array], count: int) -> Cells | None:
    """Which rows are heads of which window: those of equal places. None if they are not equally many."""
    if any(len(side) != count for side in sides):
        return None
    if not sides:
        return np.arange(count)[None]
    marks = np.concatenate([side.reshape(count, -1) for side in sides], axis=1).round(3)
    _, which = np.unique(np.nan_to_num(marks, nan=-1e9), axis=0, return_inverse=True)
    which = which.ravel()
    groups = [np.flatnonzero(which == w) for w in dict.fromkeys(which.tolist())]
    return np.stack(groups) if len({len(g) for g in groups}) == 1 else None


def _grid(place: Array, extent: tuple[int, ...]) -> Grid | None:
    """Tokens of windows, (windows, tokens, coordinates), as a map."""
    return grid(tuple(np.moveaxis(place, -1, 0)), place.shape[:2], extent)
