"""Lines of softmax and of the normalisations, which are exact."""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from ..autodiff.table import Cotangents, as_list
from .pair import Pair, along, rescale

NEAR = 1e-2  # logarithms nearer than that have a mean that is as good as the arithmetic one


def _log_mean(pair: Pair, axis: int) -> Any:
    """The logarithmic mean of two softmaxes, (P - P') / (log P - log P')."""
    op, (x, reference) = pair.op, pair.inputs(0)
    z, other = op.LogSoftmax(x, axis=axis), op.LogSoftmax(reference, axis=axis)
    p, q, step = op.Exp(z), op.Exp(other), z - other
    apart = op.GreaterOrEqual(op.Abs(step), NEAR)
    return op.Where(apart, (p - q) / op.Where(apart, step, 1), (p + q) * 0.5)


def softmax(pair: Pair, dy: ir.Value) -> Cotangents:
    """ΔY = L (ΔX - Σ L ΔX / Σ L), with the logarithmic mean L of Y and Y'; equal cotangents pass nothing."""
    op, axis = pair.op, pair.node.attributes.get_int("axis", -1)
    equal = op.Equal(op.ReduceMax(dy, [axis], keepdims=1), op.ReduceMin(dy, [axis], keepdims=1))
    mean = _log_mean(pair, axis)
    share = op.ReduceSum(mean * dy, [axis], keepdims=1) / op.ReduceSum(mean, [axis], keepdims=1)
    return op.Where(equal, 0, mean * (dy - share))


def log_softmax(pair: Pair, dy: ir.Value) -> Cotangents:
    """ΔY = ΔX - Σ L ΔX / Σ L, with the logarithmic mean L of exp Y and exp Y'."""
    op, axis = pair.op, pair.node.attributes.get_int("axis", -1)
    mean = _log_mean(pair, axis)
    total = op.ReduceSum(dy, [axis], keepdims=1)
    return dy - op.Where(op.Equal(total, 0), 0, mean / op.ReduceSum(mean, [axis], keepdims=1) * total)


def captum_softmax(pair: Pair, dy: ir.Value) -> Cotangents:
    """The rescale rule, and minus its mean: over a sample, where captum takes that of the whole batch."""
    op, (x, _), m = pair.op, pair.inputs(0), as_list(rescale(pair, dy))[0]
    return m - op.ReduceMean(m, list(range(1, op.rank(x))), keepdims=1)


def normalisation(pair: Pair, dy: ir.Value, *more: ir.Value | None) -> Cotangents:
    """Y = s C / σ + b, C = X - mean X, σ² = mean C² + ε: `division` by σ, with Δσ = mean (C + C') ΔC / (σ + σ')."""
    op, node = pair.op, pair.node
    if pair.moving != [0] or len([y for y in node.outputs if y.name and y.uses()]) > 1:
        return along(pair, dy, *more)
    given, reference = pair.inputs(0)
    x, rank = given, op.rank(given)
    epsilon, centred, shape = node.attributes.get_float("epsilon", 1e-5), True, None
    if node.op_type in ("InstanceNormalization", "GroupNormalization"):
        scale = op.Reshape(node.inputs[1], [-1, *[1] * (rank - 2)])
        shape, axes = [0, node.attributes.get_int("num_groups", 0), -1], [2]
    elif node.op_type == "MeanVarianceNormalization":
        scale, epsilon = None, 1e-18
        axes = list(node.attributes.get_ints("axes", (0, 2, 3)))
    else:
        scale, first = node.inputs[1], node.attributes.get_int("axis", -1)
        axes, centred = list(range(first, 0 if first < 0 else rank)), node.op_type != "RMSNormalization"
    dhat = dy if scale is None else dy * scale
    if shape is not None:
        x, reference, dhat = (op.Reshape(v, shape) for v in (x, reference, dhat))

    def mean(v: Any) -> Any:
        return op.ReduceMean(v, axes, keepdims=1)

    c, other = ((v - mean(v) if centred else v) for v in (x, reference))
    sigma, before = (op.Sqrt(mean(v * v) + epsilon) for v in (c, other))
    middle = (sigma + before) * 0.5
    dc = dhat / middle - (c + other) * 0.25 * mean(dhat * (c / sigma + other / before)) / (middle * middle)
    dx = dc - mean(dc) if centred else dc
    return pair.only(0, op.like(dx, given) if shape is not None else dx)
