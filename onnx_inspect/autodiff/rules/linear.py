"""Dense layers: matrix products."""

from __future__ import annotations

import onnx_ir as ir

from ...emit import Op, inputs
from ..table import Cotangents, rule


@rule("MatMul")
def matmul(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = A B over broadcast batches: dA = dY Bᵀ, dB = Aᵀ dY. A vector is a row as A, a column as B.

    What has no known rank is taken for matrices; the vjp fails where it runs, and they are vectors.
    """
    a, b = node.inputs
    assert a is not None and b is not None
    row, column = (x.shape is not None and len(x.shape) == 1 for x in (a, b))
    if column:
        dy = op.Unsqueeze(dy, [-1])
    if row:
        dy = op.Unsqueeze(dy, [-2])
    da = db = None
    if op.wants(a):
        da = op.MatMul(dy, op.Unsqueeze(b, [0])) if column else cleared(op, _back(op, dy, a, b), b, -1)
        da = _sum_batch(op, da, node, a)
    if op.wants(b):
        db = op.MatMul(op.Unsqueeze(a, [1]), dy) if row else cleared(op, op.MatMul(_transposed(op, a), dy), a, -2)
        db = _sum_batch(op, op.Squeeze(db, [-1]) if column else db, node, b)
    return [da, db]


def cleared(op: Op, y: ir.Value, summed: ir.Value, axis: int) -> ir.Value:
    """Y, which is summed over what is an axis of `summed`; zeros where that is empty.

    onnxruntime does not clear sums over nothing: those of batched products with a transpose, which it fuses, and of
    convolutions.
    """
    return y if op.dim(summed, axis) else op.Where(op.Equal(op.size(summed, axis), 0), 0, y)


def _back(op: Op, dy: ir.Value, a: ir.Value, b: ir.Value) -> ir.Value:
    """dY Bᵀ. Weights that are transposed onnxruntime holds twice, once each way; Gemm reads them as they are."""
    if any(x.shape is None or len(x.shape) != 2 for x in (a, b)):
        return op.MatMul(dy, _transposed(op, b))  # type: ignore[no-any-return]
    return op.Gemm(dy, b, transB=1)  # type: ignore[no-any-return]


def _transposed(op: Op, matrix: ir.Value) -> ir.Value:
    if matrix.shape is None:
        return op.Einsum(matrix, equation="...ij->...ji")  # type: ignore[no-any-return]
    rank = op.rank(matrix)
    return op.Transpose(matrix, perm=[*range(rank - 2), rank - 1, rank - 2])  # type: ignore[no-any-return]


def _sum_batch(op: Op, d: ir.Value, node: ir.Node, like: ir.Value) -> ir.Value:
    """Sum over the batch axes along which an operand was broadcast: none beside a matrix, which has no such axes."""
    a, b = (x.shape for x in node.inputs if x is not None)
    other = b if like is node.inputs[0] else a
    if like.shape is not None and len(like.shape) >= 2 and other is not None and len(other) == 2:
        return d
    if a is None or b is None or len(a) != len(b) or len(a) < 2 or a[:-2] != b[:-2]:
        return op.sum_to(d, like)
    named = all(isinstance(size, int) or size.value is not None for size in a[:-2])
    return d if named else op.sum_to(d, like)


@rule("Gemm")
def gemm(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = alpha A' B' + beta C, where ' transposes if transA, transB say so."""
    a, b, c = inputs(node, 3)
    alpha, beta = node.attributes.get_float("alpha", 1.0), node.attributes.get_float("beta", 1.0)
    ta, tb = node.attributes.get_int("transA", 0), node.attributes.get_int("transB", 0)
    da = op.wants(a) and (
        op.Gemm(b, dy, transA=tb, transB=1, alpha=alpha) if ta else op.Gemm(dy, b, transB=1 - tb, alpha=alpha)
    )
    db = op.wants(b) and (
        op.Gemm(dy, a, transA=1, transB=ta, alpha=alpha) if tb else op.Gemm(a, dy, transA=1 - ta, alpha=alpha)
    )
    dc = c is not None and op.wants(c) and op.sum_to(dy if beta == 1 else dy * beta, c, of=node.outputs[0])
    return [da or None, db or None, dc or None]
