"""Normalisation and softmax. Statistics are computed anew, in float32 where tensors are half precision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir

from ...emit import Op, inputs
from ..table import Cotangents, rule

_HALF = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


# Where X is nothing but -inf, as masks make it, Y is NaN. What follows may replace it; its cotangents of 0 must pass
# nothing then, or all that X was made of became NaN.


@rule("Softmax")
def softmax(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = exp X / Σ exp X along an axis; equal cotangents pass nothing, since Σ Y = 1, not even where Y is NaN."""
    y, axis = node.outputs[0], node.attributes.get_int("axis", -1)
    equal = op.Equal(op.ReduceMax(dy, [axis], keepdims=1), op.ReduceMin(dy, [axis], keepdims=1))
    return op.Where(equal, 0, y * (dy - op.ReduceSum(dy * y, [axis], keepdims=1)))  # type: ignore[no-any-return]


@rule("LogSoftmax")
def log_softmax(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = X - log Σ exp X along an axis."""
    return log_softmax_adjoint(op, node.outputs[0], dy, node.attributes.get_int("axis", -1))


def log_softmax_adjoint(op: Op, y: ir.Value, dy: ir.Value, axis: int) -> ir.Value:
    """The cotangent of X; a sum of 0 passes nothing, not even where Y is NaN."""
    total = op.ReduceSum(dy, [axis], keepdims=1)
    return dy - op.Where(op.Equal(total, 0), 0, op.Exp(y) * total)  # type: ignore[no-any-return]


@rule("BatchNormalization", flat=(3, 4))
def batch_normalization(op: Op, node: ir.Node, dy: ir.Value, *running: ir.Value | None) -> Cotangents:
    """Y = s (X - m) / √(v + ε) + b per channel, with the statistics m and v given; in training those of the batch."""
    x, s, b, m, v = node.inputs
    assert x is not None and s is not None and b is not None and m is not None and v is not None
    rank = op.rank(x)
    others = [a for a in range(rank) if a != 1]
    if node.attributes.get_int("training_mode", 0):
        return _of_batch(op, node, dy, [*running, None, None][:2], others)
    inv = op.Reciprocal(op.Sqrt(op.Add(v, node.attributes.get_float("epsilon", 1e-5))))
    scale = _as(op, s, v) * inv
    dx = dy * _per_channel(op, _as(op, scale, dy), rank)
    db = _as(op, op.ReduceSum(dy, others, keepdims=0), v)
    ds = _as(op, op.ReduceSum(dy * (x - _per_channel(op, _as(op, m, x), rank)), others, keepdims=0), v) * inv
    return [dx, _as(op, ds, s), _as(op, db, b), op.Neg(db * scale), ds * scale * inv * -0.5]


def _of_batch(op: Op, node: ir.Node, dy: ir.Value, running: Sequence[ir.Value | None], others: list[int]) -> Cotangents:
    """Y = s X̂ + b; its other outputs are μ m + (1 - μ) mean X and μ v + (1 - μ) var X, with the momentum μ."""
    x, s, b = inputs(node, 3)
    momentum = node.attributes.get_float("momentum", 0.9)
    wide, dy = _wide(op, x, dy)
    hat, inv = _standardise(op, wide, others, node)
    dhat = dy * _per_channel(op, _as(op, s, dy), len(others) + 1)
    dx = _standardise_adjoint(op, dhat, hat, inv, others)
    share = (1 - momentum) / op.Cast(op.Div(op.Size(x), op.Size(s)), to=wide.dtype or ir.DataType.FLOAT)
    for d, slope in zip(running, (1.0, hat / inv * 2), strict=True):
        dx = dx if d is None else dx + _per_channel(op, _as(op, d, wide), len(others) + 1) * share * slope
    ds, db = (op.ReduceSum(d, others, keepdims=0) for d in (dy * hat, dy))
    return [_as(op, dx, x), _as(op, ds, s), _as(op, db, b), *(d and d * momentum for d in running)]


@rule("InstanceNormalization", "GroupNormalization")
def group_normalization(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = s X̂ + b per channel, X̂ standardised over each map, or over each group of maps."""
    x, s, b = node.inputs
    assert x is not None and s is not None and b is not None
    groups = [0, node.attributes.get_int("num_groups", 0), -1]  # a 0 copies C: each map is a group
    maps, dy = _wide(op, op.Reshape(x, [0, 0, -1]), op.Reshape(dy, [0, 0, -1]))
    hat, inv = _standardise(op, op.Reshape(maps, groups), [2], node)
    dhat = op.Reshape(dy * op.Unsqueeze(_as(op, s, dy), [-1]), groups)
    dx = op.like(_standardise_adjoint(op, dhat, hat, inv, [2]), x)
    ds = op.ReduceSum(dy * op.like(hat, maps), [0, 2], keepdims=0)
    return [_as(op, dx, x), _as(op, ds, s), _as(op, op.ReduceSum(dy, [0, 2], keepdims=0), b)]


@rule("LayerNormalization")
def layer_normalization(
    op: Op, node: ir.Node, dy: ir.Value, d_mean: ir.Value | None = None, d_inv: ir.Value | None = None
) -> Cotangents:
    """Y = s X̂ + b, X̂ standardised over the axes from `axis` on. Its outputs mean and 1/σ count too."""
    x, s, b = inputs(node, 3)
    assert x is not None and s is not None
    wide, dy = _wide(op, x, dy)
    axes = _axes_from(op, node, x)
    hat, inv = _standardise(op, wide, axes, node)
    dx = _standardise_adjoint(op, dy * _as(op, s, dy), hat, inv, axes)
    n = op.Cast(op.Div(op.Size(x), op.Size(inv)), to=wide.dtype or ir.DataType.FLOAT)
    if d_mean is not None:
        dx = dx + _as(op, d_mean, wide) / n
    if d_inv is not None:
        dx = dx - _as(op, d_inv, wide) * inv * inv * hat / n
    ds, db = op.sum_to(dy * hat, s, of=x), b and op.sum_to(dy, b, of=x)
    return [_as(op, dx, x), _as(op, ds, s), b and db and _as(op, db, b)]


@rule("RMSNormalization")
def rms_normalization(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = s X̂, X̂ = X / √(mean X² + ε) over the axes from `axis` on."""
    x, s = node.inputs
    assert x is not None and s is not None
    wide, dy = _wide(op, x, dy)
    axes = _axes_from(op, node, x)
    square = op.ReduceMean(wide * wide, axes, keepdims=1)
    inv = op.Reciprocal(op.Sqrt(op.Add(square, node.attributes.get_float("epsilon", 1e-5))))
    hat, dhat = wide * inv, dy * _as(op, s, dy)
    dx = inv * (dhat - hat * op.ReduceMean(dhat * hat, axes, keepdims=1))
    return [_as(op, dx, x), _as(op, op.sum_to(dy * hat, s, of=x), s)]


@rule("MeanVarianceNormalization")
def mean_variance_normalization(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = (X - mean X) / (σ + 1e-9) over the given axes."""
    x, axes = node.inputs[0], list(node.attributes.get_ints("axes", (0, 2, 3)))
    assert x is not None
    wide, dy = _wide(op, x, dy)
    centred = op.Sub(wide, op.ReduceMean(wide, axes, keepdims=1))
    inv = op.Reciprocal(op.Add(op.Sqrt(op.ReduceMean(centred * centred, axes, keepdims=1)), 1e-9))
    return _as(op, _standardise_adjoint(op, dy, centred * inv, inv, axes), x)  # type: ignore[no-any-return]


@rule("LpNormalization")
def lp_normalization(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = X / ‖X‖ along an axis, in the 1- or 2-norm; 0 where the norm is 0."""
    x, y, axis = node.inputs[0], node.outputs[0], node.attributes.get_int("axis", -1)
    first = node.attributes.get_int("p", 2) == 1
    norm = op.ReduceL1(x, [axis], keepdims=1) if first else op.ReduceL2(x, [axis], keepdims=1)
    zero = op.Equal(norm, 0)
    away = op.Mul(op.Sign(x) if first else y, op.ReduceSum(dy * y, [axis], keepdims=1))
    return op.Where(zero, 0, (dy - away) / op.Where(zero, 1, norm))  # type: ignore[no-any-return]


@rule("LRN")
def lrn(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = X S^-β, S = bias + α mean X², the mean over a window of channels that is padded with zeros."""
    x, n = node.inputs[0], node.attributes.get_int("size")
    assert x is not None
    alpha, beta = node.attributes.get_float("alpha", 1e-4), node.attributes.get_float("beta", 0.75)
    before, after = (n - 1) // 2, n // 2  # an even window has one channel more behind

    def mean(v: ir.Value, begin: int, end: int) -> Any:
        rows = op.Reshape(v, op.Concat([0, 1], op.size(x, 1), [-1], axis=0))
        pads = [begin, 0, end, 0]
        return op.like(op.AveragePool(rows, kernel_shape=[n, 1], pads=pads, count_include_pad=1), x)

    s = op.Add(mean(x * x, before, after) * alpha, node.attributes.get_float("bias", 1.0))
    back = mean(dy * x * op.Pow(s, -beta - 1), after, before)
    return dy * op.Pow(s, -beta) - x * back * (2 * alpha * beta)  # type: ignore[no-any-return]


def _standardise(op: Op, x: ir.Value, axes: Sequence[int], node: ir.Node) -> tuple[ir.Value, ir.Value]:
    """X̂ = (X - mean X) / σ over some axes, and 1/σ, where σ² = var X + ε."""
    centred = op.Sub(x, op.ReduceMean(x, list(axes), keepdims=1))
    variance = op.ReduceMean(centred * centred, list(axes), keepdims=1)
    inv = op.Reciprocal(op.Sqrt(op.Add(variance, node.attributes.get_float("epsilon", 1e-5))))
    return centred * inv, inv


def _standardise_adjoint(op: Op, dhat: ir.Value, hat: ir.Value, inv: ir.Value, axes: Sequence[int]) -> Any:
    """From the cotangent of X̂ to that of X: what moves mean or scale is taken out."""
    mean = op.ReduceMean(dhat, list(axes), keepdims=1)
    return inv * (dhat - mean - hat * op.ReduceMean(dhat * hat, list(axes), keepdims=1))


def _axes_from(op: Op, node: ir.Node, x: ir.Value) -> list[int]:
    axis = node.attributes.get_int("axis", -1)
    return list(range(axis, 0 if axis < 0 else op.rank(x)))


def _per_channel(op: Op, v: ir.Value, rank: int) -> Any:
    """A vector over channels, shaped to broadcast to N, C, ..."""
    return op.Reshape(v, [-1] + [1] * (rank - 2))


def _wide(op: Op, *values: ir.Value) -> list[Any]:
    return [op.Cast(v, to=ir.DataType.FLOAT) if v.dtype in _HALF else v for v in values]


def _as(op: Op, v: ir.Value, like: ir.Value) -> Any:
    return v if v.dtype == like.dtype or like.dtype is None else op.Cast(v, to=like.dtype)
