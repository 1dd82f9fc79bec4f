"""Writing at places, selecting by conditions, reversing parts, running products."""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import onnx_ir as ir

from ...emit import Op, inputs
from ..table import Cotangents, rule
from .index import FLOAT, HALF, INT64, gathered, picked, positions


class _Places:
    """The places where a ScatterElements or ScatterND node writes."""

    def __init__(self, op: Op, node: ir.Node) -> None:
        self.op, self.indices = op, node.inputs[1]
        elements = node.op_type == "ScatterElements"
        self.axis = node.attributes.get_int("axis", 0) if elements else None
        self.pick_type, self.put_type = ("GatherElements" if elements else "GatherND"), node.op_type

    def pick(self, x: ir.Value) -> ir.Value:
        """The elements of X there, shaped as the updates."""
        return getattr(self.op, self.pick_type)(x, self.indices, axis=self.axis)

    def put(self, x: ir.Value, updates: ir.Value, reduction: str | None = None) -> ir.Value:
        """X with updates put there; in float32 if it is half precision, which CPU kernels cannot reduce."""
        dtype = x.dtype or FLOAT
        if reduction and dtype in HALF:
            return self.op.Cast(
                self.put(self.op.Cast(x, to=FLOAT), self.op.Cast(updates, to=FLOAT), reduction), to=dtype
            )
        return getattr(self.op, self.put_type)(x, self.indices, updates, axis=self.axis, reduction=reduction)


@rule("ScatterElements", "ScatterND")
def scatter(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = X with updates written at indices, or reduced with what is there; what is overwritten gets nothing.

    Where two updates are written to one place, ONNX leaves open which one stays: each gets its cotangent. Of a
    maximum or minimum, those that tie share evenly.
    """
    x, _, u = inputs(node, 3)
    at, reduction = _Places(op, node), node.attributes.get_string("reduction", "none")
    if reduction == "none":
        return [at.put(dy, op.zeros_like(u)), None, at.pick(dy)]
    if reduction == "add":
        return [dy, None, at.pick(dy)]
    if reduction == "mul":
        return _product(op, at, x, u, dy)
    y = node.outputs[0]
    kept, won = op.mask(op.Equal(x, y), dy), op.mask(op.Equal(u, at.pick(y)), dy)
    share = dy / at.put(kept, won, "add")
    return [share * kept, None, at.pick(share) * won]


def _product(op: Op, at: _Places, x: ir.Value, u: ir.Value, dy: ir.Value) -> Cotangents:
    """Each factor gets dY times the product of the others, also where some are 0."""
    x0, u0 = op.Equal(x, 0), op.Equal(u, 0)
    x1, u1 = op.Where(x0, 1, x), op.Where(u0, 1, u)
    product, zeros = at.put(x1, u1, "mul"), at.put(op.mask(x0, dy), op.mask(u0, dy), "add")
    others = op.Equal(zeros, op.mask(x0, dy)), op.Equal(at.pick(zeros), op.mask(u0, dy))
    return [
        op.Where(others[0], dy * product / x1, 0),
        None,
        op.Where(others[1], at.pick(dy * product) / u1, 0),
    ]


@rule("TensorScatter")
def tensor_scatter(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = a cache with an update written from one position per sample on, in circles if the mode says so."""
    cache, update, start = inputs(node, 3)
    rank = op.rank(cache)
    axis = node.attributes.get_int("axis", -2) % rank
    steps = op.Range(op.const(0, INT64), op.Squeeze(op.size(update, axis), [0]), op.const(1, INT64))
    index = op.Unsqueeze(steps, [a for a in range(rank) if a != axis])
    if start is not None:
        index = op.Unsqueeze(op.Cast(start, to=INT64), list(range(1, rank))) + index
    if node.attributes.get_string("mode", "linear") == "circular":
        index = op.Mod(index, op.size(cache, axis))
    index = op.Expand(index, op.shape(update))
    return [
        op.ScatterElements(dy, index, op.zeros_like(update), axis=axis),
        op.GatherElements(dy, index, axis=axis),
    ]


@rule("Compress")
def compress(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = X where a condition holds along an axis, or in the flat order of X; it may end early."""
    x, condition = inputs(node, 2)
    axis = node.attributes.get_int("axis", None)
    return picked(op, x, op.Compress(positions(op, x), condition, axis=axis), dy)


@rule("Unique")
def unique(op: Op, node: ir.Node, dy: ir.Value, *_: object) -> Cotangents:
    """Y = the elements of X, or its slices along an axis, each once: of equal ones the first counts."""
    (x,), axis = inputs(node, 1), node.attributes.get_int("axis", None)
    _, first = op.Unique(x, axis=axis, sorted=node.attributes.get_int("sorted", 1), outputs=2)
    first.type, first.shape = ir.TensorType(INT64), ir.Shape([None])
    return picked(op, x, first, dy) if axis is None else gathered(op, x, first, dy, axis)


@rule("ReverseSequence")
def reverse_sequence(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = X with the first elements of each sequence in reverse order: its own adjoint."""
    axes = {name: node.attributes.get_int(name, None) for name in ("batch_axis", "time_axis")}
    return op.ReverseSequence(dy, node.inputs[1], **axes)


@rule("CenterCropPad")
def center_crop_pad(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = X cropped or padded around its centre."""
    (x,), axes = inputs(node, 1), node.attributes.get_ints("axes", None)
    shape = op.shape(x) if axes is None else op.Gather(op.shape(x), [a % op.rank(x) for a in axes])
    return op.CenterCropPad(dy, shape, axes=axes)


@rule("CumProd")
def cumprod(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = running products along an axis. Zeros are taken out: a 0 passes what only it made vanish."""
    x, axis = inputs(node, 2)
    exclusive, reverse = (node.attributes.get_int(name, 0) for name in ("exclusive", "reverse"))
    zero = op.Equal(x, 0)
    safe = op.Where(zero, 1, x)
    zeros = op.CumSum(op.mask(zero, dy), axis, exclusive=exclusive, reverse=reverse)
    each = dy * op.CumProd(safe, axis, exclusive=exclusive, reverse=reverse)
    none, one = (
        op.CumSum(op.Where(op.Equal(zeros, n), each, 0), axis, exclusive=exclusive, reverse=1 - reverse) for n in (0, 1)
    )
    return op.Where(zero, one, none / safe)


@rule("MaxUnpool")
def max_unpool(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = zeros with X at its places in the flat order of Y.

    So does onnxruntime also with an output_shape; in onnx's reference the places are then those of a smaller map.
    """
    x, indices = inputs(node, 2)
    return op.like(op.Gather(op.Reshape(dy, [-1]), indices), x)


@rule("Col2Im")
def col2im(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = the sum of blocks where they overlap; dX takes each block out of dY."""
    x, image, block = inputs(node, 3)
    count = op.dim(image, 0)
    rank = count if count is not None else op.rank(node.outputs[0]) - 2
    pads = list(node.attributes.get_ints("pads", [0] * rank * 2))
    strides, dilations = (node.attributes.get_ints(name, [1] * rank) for name in ("strides", "dilations"))
    place = op.const(0, INT64)  # offsets inside a block, then blocks
    for a, (s, d) in enumerate(zip(strides, dilations, strict=True)):
        n = op.Gather(image, op.const(a, INT64)) + (pads[a] + pads[rank + a])
        k = op.Gather(block, op.const(a, INT64))
        ranges = [(a, op.Range(op.const(0, INT64), k, op.const(1, INT64)) * d)]
        ranges += [(a + rank, op.Range(op.const(0, INT64), n - (k - 1) * d, op.const(s, INT64)))]
        offsets, starts = (op.Unsqueeze(v, [i for i in range(2 * rank) if i != own]) for own, v in ranges)
        place = place * n + offsets + starts
    maps = op.Pad(dy, [0, 0, *pads[:rank], 0, 0, *pads[rank:]])
    return op.like(op.Gather(op.Reshape(maps, [0, 0, -1]), op.Reshape(place, [-1]), axis=2), x)
