"""Losses of class scores against labels."""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import onnx_ir as ir

from ...emit import Op, inputs
from ..table import Cotangents, rule
from .index import INT64, scatter_add
from .norm import log_softmax_adjoint


@rule("NegativeLogLikelihoodLoss")
def nll(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = -X at each label, times the weight of its class; by default averaged, by weight. ignore_index counts as 0."""
    x = inputs(node, 1)[0]
    return _likelihood(op, node, x, dy)


@rule("SoftmaxCrossEntropyLoss")
def softmax_cross_entropy(op: Op, node: ir.Node, dy: ir.Value, dlog: ir.Value | None = None) -> Cotangents:
    """Y = that loss of log softmax X, which is the second output."""
    x = inputs(node, 1)[0]
    log = op.LogSoftmax(x, axis=1)
    dlogx, _, dw = _likelihood(op, node, log, dy)
    assert dlogx is not None
    if dlog is not None:
        dlogx = dlogx + dlog
    return [log_softmax_adjoint(op, log, dlogx, 1), None, dw]


def _likelihood(op: Op, node: ir.Node, x: ir.Value, dy: ir.Value) -> list[ir.Value | None]:
    """The cotangents of the log likelihoods X (N, C, ...), of the labels (none) and of the weights (C)."""
    _, label, w = inputs(node, 3)
    reduction, dtype = node.attributes.get_string("reduction", "mean"), x.dtype or ir.DataType.FLOAT
    index = op.Unsqueeze(op.Cast(label, to=INT64), [1])  # (N, 1, ...), as all that follows
    ignored = node.attributes.get_int("ignore_index", None)
    counts = None if ignored is None else op.Not(op.Equal(index, ignored))
    if counts is not None:
        index = op.Where(counts, index, op.const(0, INT64))
    each = op.full(op.shape(index), 1, dtype) if w is None else op.Gather(w, index)
    if counts is not None:
        each = op.Where(counts, each, 0)
    total = op.ReduceSum(each, keepdims=0)
    share = op.Unsqueeze(dy, [1]) if reduction == "none" else dy
    share = share / total if reduction == "mean" else share
    dx = op.ScatterElements(op.zeros_like(x), index, -each * share, axis=1)
    if not op.wants(w):
        return [dx, None, None]
    loss = op.GatherElements(x, index, axis=1)
    if reduction == "mean":  # the weights are in the average, too
        loss = loss - op.ReduceSum(loss * each, keepdims=0) / total
    dw = -loss * share if counts is None else op.Where(counts, -loss * share, 0)
    return [dx, None, scatter_add(op, "ScatterElements", op.shape(w), op.Reshape(index, [-1]), op.Reshape(dw, [-1]))]
