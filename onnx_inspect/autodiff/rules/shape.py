"""Operators that move, cut, join and repeat elements without changing them."""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import onnx_ir as ir

from ...emit import Op, inputs, ints
from ..table import Cotangents, constant, rule
from .index import INT64, picked, positions


@rule("Reshape", "Flatten", "Squeeze", "Unsqueeze")
def reshape(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = X in another shape."""
    return op.like(dy, inputs(node, 1)[0])


@rule("Transpose")
def transpose(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = X with its axes in the order perm, by default reversed."""
    perm = node.attributes.get_ints("perm")
    return op.Transpose(dy, perm=perm and [perm.index(a) for a in range(len(perm))])


@rule("Concat")
def concat(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = inputs one after another along an axis."""
    axis, xs = node.attributes.get_int("axis"), inputs(node, len(node.inputs))
    if len(xs) == 1:
        return dy
    static = [op.dim(x, axis) for x in xs]
    sizes = op.Concat(*(op.size(x, axis) for x in xs), axis=0) if None in static else static
    return op.Split(dy, sizes, axis=axis, outputs=len(xs))


@rule("Split")
def split(op: Op, node: ir.Node, *dys: ir.Value | None) -> Cotangents:
    """Outputs = X cut along an axis."""
    if None in dys:
        raise op.unsupported("one of its outputs has no name; give it one")
    return op.Concat(*dys, axis=node.attributes.get_int("axis", 0))


@rule("Slice")
def slice_(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = X from starts to ends along axes, in steps."""
    x, starts, ends, axes, steps = inputs(node, 5)
    if steps is not None and set(ints(steps) or [0]) != {1}:
        return picked(op, x, op.Slice(positions(op, x), starts, ends, axes, steps), dy)
    zero, one = op.const(0, INT64), op.const(1, INT64)
    axes = op.Range(zero, op.Size(starts), one) if axes is None else op.Cast(axes, to=INT64)
    starts = op.Cast(starts, to=INT64)
    size = op.Gather(op.shape(x), axes)
    begin = op.Where(op.Less(starts, 0), op.Max(starts + size, 0), op.Min(starts, size))
    end = size - begin - op.Gather(op.shape(node.outputs[0]), axes)
    return op.Pad(dy, op.Concat(_everywhere(op, x, axes, begin), _everywhere(op, x, axes, end), axis=0))


def _everywhere(op: Op, x: ir.Value, axes: ir.Value, pads: ir.Value) -> ir.Value:
    """Pads of some axes as pads of all: onnxruntime fails at a Pad of some axes behind a Transpose."""
    return op.ScatterElements(op.Mul(op.shape(x), 0), axes, pads)


@rule("Pad")
def pad(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = X with a border: constant_value, or elements of X again; negative pads crop."""
    x, pads, value, axes = inputs(node, 4)
    mode = node.attributes.get_string("mode", "constant")
    if mode != "constant":
        return picked(op, x, op.Pad(positions(op, x), pads, None, axes, mode=mode), dy)
    if axes is not None:
        axes, (begin, end) = op.Cast(axes, to=INT64), op.Split(pads, outputs=2, num_outputs=2)
        pads = op.Concat(_everywhere(op, x, axes, begin), _everywhere(op, x, axes, end), axis=0)
    dx = op.Pad(dy, op.Neg(pads))
    if not op.wants(value):
        return dx
    border = op.Pad(op.zeros_like(x), pads, op.const(1, x.dtype))
    return [dx, None, op.like(op.ReduceSum(dy * border, keepdims=0), value)]


@rule("Expand", broadcast=True)
def expand(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = X broadcast to a shape."""
    return dy


@rule("Tile")
def tile(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = X repeated along every axis."""
    x, repeats = inputs(node, 2)
    pairs = op.Concat(op.Unsqueeze(repeats, [1]), op.Unsqueeze(op.shape(x), [1]), axis=1)
    blocks = op.Reshape(dy, op.Reshape(pairs, [-1]), allowzero=1)
    return op.ReduceSum(blocks, list(range(0, 2 * op.rank(x), 2)), keepdims=0)


@rule("SpaceToDepth")
def space_to_depth(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = blocks of pixels as channels."""
    return op.DepthToSpace(dy, blocksize=node.attributes.get_int("blocksize"))


@rule("DepthToSpace")
def depth_to_space(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = channels as blocks of pixels; in mode CRD the channel varies slowest."""
    (x,), block = inputs(node, 1), node.attributes.get_int("blocksize")
    if node.attributes.get_string("mode", "DCR") == "DCR":
        return op.SpaceToDepth(dy, blocksize=block)
    shape = op.Concat([0, 0], op.size(x, 2), [block], op.size(x, 3), [block], axis=0)
    return op.like(op.Transpose(op.Reshape(dy, shape), perm=[0, 1, 3, 5, 2, 4]), x)


@rule("Trilu")
def trilu(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = the upper or lower triangle of X."""
    return op.Trilu(dy, inputs(node, 2)[1], upper=node.attributes.get_int("upper", 1))


@rule("Range", flat=(1,))
def range_(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = start + i delta, as many as fit below the limit, which moves none of them."""
    steps = op.Range(op.const(0, INT64), op.Size(dy), op.const(1, INT64))
    scaled = dy * op.Cast(steps, to=dy.dtype)
    return [op.ReduceSum(dy, keepdims=0), None, op.ReduceSum(scaled, keepdims=0)]


constant("Shape", "Size", "ConstantOfShape", "NonZero", "ArgMax", "ArgMin", "EyeLike")
constant("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial")
