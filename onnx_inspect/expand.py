"""Variants made in the graph: what tells them apart goes in, a picture but once, and sums of gradients come out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import onnx_ir as ir

from .emit import PREFIX, Op
from .errors import LayerError
from .model import Model
from .pruning import prune

PICTURE, FILLING, CELLS, GROW = (f"{PREFIX}/{name}" for name in ("picture", "filling", "cells", "grow"))
START, WAY, PLACE, WEIGHT = (f"{PREFIX}/{name}" for name in ("start", "way", "place", "weight"))
SUM, SQUARES = "sum.", "squares."  # what the names of sums over variants begin with


def masked(
    model: Model, name: str, channels: int | None, *, unit: bool = False, filled: bool = False, own: bool = False
) -> Model:
    """The model of a picture behind masks: x m, or x m + x' (1 - m), with m enlarged bilinearly from cells.

    Args:
        model: the model; unchanged.
        name: the input that takes the picture.
        channels: its axis of channels, None for none: masks have an axis less than the picture, or two.
        unit: bring each mask to 0 to 1 once it is enlarged; 0 where it is constant.
        filled: what is behind masks is not 0, but x'.
        own: masks are each enlarged in a way of their own.

    Returns:
        A model without that input. PICTURE, and FILLING if `filled`, hold x, and x' in floats, once for all variants;
        CELLS a small mask per variant; GROW + "0", "1", ..., for each axis of the masks, the share of each cell in each
        pixel: (variants or 1, 1 for each further axis of masks, cells, pixels). Where the graph insists on a batch,
        what is once for all has a row for each.
    """
    new = model.clone()
    op, x = Op(new.ir.graph), _input(new, name)
    real = _real(x)
    axes = [a for a in range(1, op.rank(x)) if a != channels]
    cells = _given(op, CELLS, [_lead(x), *[None] * len(axes)], real)
    ways = [_lead(x) if own else _all(x), *[1] * (len(axes) - 1), None, None]
    grow = [_given(op, f"{GROW}{i}", ways, real) for i in range(len(axes))]
    with op:
        m, at = op.Unsqueeze(cells, [1]), list(range(2, 2 + len(axes)))
        for each in reversed(grow):  # the last axis is enlarged, and stands first then
            m = op.Transpose(op.MatMul(m, each), perm=[0, 1, at[-1], *at[:-1]])
        if unit:
            m = m - op.ReduceMin(m, at)
            m = m / (op.ReduceMax(m, at) + 1e-8)
        if channels != 1:
            m = op.Squeeze(m, [1])
            m = m if channels is None else op.Unsqueeze(m, [channels])
        picture = _cast(op, _once(op, PICTURE, x), real)
        if filled:
            behind = _once(op, FILLING, x, real)
            seen = behind + (picture - behind) * m
        else:
            seen = picture * m
        _stand(op, x, _rounded(op, seen, x))
    return new.derived("masked", name, str(channels), *["unit"] * unit, *["filled"] * filled, *["own"] * own)


def on_lines(model: Model, names: Iterable[str]) -> Model:
    """The model of points on straight lines, x' + a w.

    Args:
        model: the model; unchanged.
        names: inputs of floats, which move together.

    Returns:
        A model in whose graph these are no inputs any more, but tensors of the same name. START and WAY before their
        names, with a dot between, hold one x' and one w for all variants; PLACE holds the a of each.
    """
    new = model.clone()
    op, xs = Op(new.ir.graph), [_input(new, name) for name in names]
    place = _given(op, PLACE, [_lead(xs[0])], _real(xs[0]))
    with op:
        for x in xs:
            start, way = (_once(op, f"{end}.{x.name}", x) for end in (START, WAY))
            a = op.Reshape(place, [-1, *[1] * (op.rank(x) - 1)])
            _stand(op, x, _cast(op, start + _cast(op, a, _type(x)) * way, _type(x)))
    return new.derived("on lines", *(x.name or "" for x in xs))


def summed(model: Model, outputs: Sequence[str], *, squares: bool = False) -> Model:
    """The model with sums over variants in the place of some outputs, each variant with its WEIGHT.

    Args:
        model: the model; unchanged.
        outputs: their names, with variants on the first axis; of floats.
        squares: also of their squares.

    Returns:
        A model with outputs called SUM, or SQUARES, and the name; they have an axis of 1 for the variants.
    """
    new = model.clone()
    graph, op = new.ir.graph, Op(new.ir.graph)
    values = {v.name: v for v in graph.outputs}
    weight = _given(op, WEIGHT, [_lead(values[outputs[0]])], ir.DataType.FLOAT)
    with op:
        for name in outputs:
            y = values[name]
            graph.outputs.remove(y)
            w = _cast(op, op.Reshape(weight, [-1, *[1] * (op.rank(y) - 1)]), _type(y))
            for label, each in ((SUM, y), (SQUARES, y * y))[: 1 + squares]:
                total = op.ReduceSum(w * each, [0], keepdims=1)
                total.name, total.shape = f"{label}{name}", ir.Shape([1, *list(y.shape or ())[1:]])
                graph.outputs.append(total)
    prune(new.ir)
    return new.derived("summed", *outputs, *["squares"] * squares)


def _input(model: Model, name: str) -> ir.Value:
    found = next((v for v in model.ir.graph.inputs if v.name == name), None)
    if found is None or found.shape is None:
        raise LayerError(f"'{name}' is no input of a known rank: variants of it cannot be made in the graph.")
    return found


def _lead(value: ir.Value) -> ir.SymbolicDim | int:
    """What the first axis, of samples, is called, or its size."""
    assert value.shape is not None
    return value.shape[0]


def _all(value: ir.Value) -> int:
    """The size of an axis for what all variants share: 1, or in a fixed batch a row for each."""
    lead = _lead(value)
    return lead if isinstance(lead, int) else 1


def _type(value: ir.Value) -> ir.DataType:
    return value.dtype or ir.DataType.FLOAT


def _real(value: ir.Value) -> ir.DataType:
    """What is reckoned in for an input of this type."""
    return ir.DataType.DOUBLE if value.dtype == ir.DataType.DOUBLE else ir.DataType.FLOAT


def _given(op: Op, name: str, shape: Sequence[ir.SymbolicDim | int | None], dtype: ir.DataType) -> ir.Value:
    """A new input."""
    if name in op.names:
        raise LayerError(f"The model has a tensor '{name}' already, so no input can be called that.")
    value = ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(dtype))
    op.graph.inputs.append(value)
    op.names.add(name)
    return value


def _once(op: Op, name: str, like: ir.Value, dtype: ir.DataType | None = None) -> ir.Value:
    """A new input like another, with what all variants share."""
    return _given(op, name, [_all(like), *list(like.shape or ())[1:]], dtype or _type(like))


def _cast(op: Op, value: ir.Value, dtype: ir.DataType) -> ir.Value:
    return value if value.dtype == dtype else op.Cast(value, to=dtype)


def _rounded(op: Op, value: ir.Value, like: ir.Value) -> ir.Value:
    """As the type of an input: whole numbers are the nearest ones."""
    if _type(like).is_integer():
        limits = np.iinfo(_type(like).numpy())
        value = op.Round(value)
        value = op.Clip(value, float(limits.min), float(limits.max)) if limits.bits <= 16 else value
    return _cast(op, value, _type(like))


def _stand(op: Op, x: ir.Value, value: ir.Value) -> None:
    """Put a value in the place, and under the name, of an input."""
    name, value.shape = x.name, x.shape
    x.replace_all_uses_with(value, replace_graph_outputs=True)
    op.graph.inputs.remove(x)
    x.name, value.name = None, name
    op.graph.sort()
