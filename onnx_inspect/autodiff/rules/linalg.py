"""Determinants."""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import onnx_ir as ir

from ...emit import Op, inputs
from ..subgraph import closed, emit_like
from ..table import Cotangents, rule

BOOL, INT64 = ir.DataType.BOOL, ir.DataType.INT64


@rule("Det")
def det(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = det X; dX is dY times the cofactors, which need no inverse, so X may be singular.

    From 4 rows on, or where only the run knows how many, the derivatives of these need a rank of at least n - 1.
    """
    (x,) = inputs(node, 1)
    rows = op.dim(x, -1) if op.dim(x, -1) is not None else op.dim(x, -2)
    if rows is not None and rows <= 3:
        return op.Unsqueeze(dy, [-2, -1]) * _cofactors(op, x, rows)
    n = op.size(x, -1)
    stack = op.Reshape(x, op.Concat([-1], n, n, axis=0))
    return op.like(op.Reshape(dy, [-1, 1, 1]) * op.Transpose(_adjugate(op, stack, n), perm=[0, 2, 1]), x)


def _cofactors(op: Op, x: ir.Value, n: int) -> ir.Value:
    """The cofactors of up to 3 rows, as polynomials."""

    def moved(rows: int, columns: int) -> ir.Value:
        """X with its rows and columns rotated."""
        turn = [[*range(k, n), *range(k)] for k in range(n)]
        return op.Gather(op.Gather(x, turn[rows], axis=-2), turn[columns], axis=-1)

    if n == 1:
        return op.full_like(x, 1)
    if n == 2:
        return op.Mul(moved(1, 1), op.Cast(op.Reshape([1, -1, -1, 1], [2, 2]), to=x.dtype))
    return moved(1, 1) * moved(2, 2) - moved(1, 2) * moved(2, 1)


def _adjugate(op: Op, x: ir.Value, n: ir.Value) -> ir.Value:
    """The transposed cofactors of (B, n, n).

    Gauss and Jordan with complete pivoting, one pivot short: E X = Q M, with the rows of M in the order of their
    pivots' columns: a diagonal D, but for one full column c, where u stands above and below the element d that is left.
    As det E = 1 and Q is a permutation, adj X = det Q adj M Qᵀ E, and adj M only divides by pivots other than d, which
    is what vanishes first.
    """
    eye = op.EyeLike(op.full(op.Concat(n, n, axis=0), 0, x.dtype or ir.DataType.FLOAT))
    augmented = op.Concat(x, op.Expand(eye, op.Shape(x)), axis=2)
    reduced, pivots = _eliminated(op, augmented, op.zeros_like(x), n)
    column = 1 - op.ReduceSum(pivots, [1], keepdims=1)
    q = pivots + (1 - op.ReduceSum(pivots, [2], keepdims=1)) * column
    m, e = op.Split(op.MatMul(op.Transpose(q, perm=[0, 2, 1]), reduced), outputs=2, axis=2, num_outputs=2)
    last = op.Transpose(column, perm=[0, 2, 1])
    diagonal, u = op.ReduceSum(m * eye, [2], keepdims=1), op.ReduceSum(m * column, [2], keepdims=1)
    d, e_last = op.ReduceSum(diagonal * last, [1], keepdims=1), op.ReduceSum(e * last, [1], keepdims=1)
    factors = op.Where(op.Greater(last, 0), 1, diagonal)
    product, zero = op.ReduceProd(factors, [1], keepdims=1), op.Equal(factors, 0)
    others = op.Where(zero, 0, product / op.Where(zero, 1, factors))
    adjugate = op.Where(op.Greater(last, 0), product * e_last, others * (d * e - u * e_last))
    # The sign of Q: the parity of the pairs that it puts in the wrong order.
    order = op.ArgMax(q, axis=2, keepdims=0)
    wrong = op.mask(op.Greater(op.Unsqueeze(order, [2]), op.Unsqueeze(order, [1])), x)
    count = op.ReduceSum(op.Trilu(wrong, upper=1), [1, 2], keepdims=1)
    return adjugate * (1 - 2 * op.Mod(count, 2, fmod=1))


def _eliminated(op: Op, matrix: ir.Value, none: ir.Value, n: ir.Value) -> list[ir.Value]:
    """(B, n, 2n) after n - 1 steps on its left half, and ones (B, n, n) where the pivots were; `none` are zeros."""
    inner = Op(ir.Graph([], [], nodes=[], name=op.fresh("graph")), op)
    step, going = (
        ir.Value(name=op.fresh("step"), type=ir.TensorType(kind), shape=ir.Shape([])) for kind in (INT64, BOOL)
    )
    now, pivots = (ir.Value(name=op.fresh("state"), type=v.type) for v in (matrix, none))
    with inner:
        left = inner.Slice(now, [0], n, [2])
        taken = inner.ReduceSum(pivots, [1], keepdims=1) + inner.ReduceSum(pivots, [2], keepdims=1)
        sizes = inner.Where(inner.Greater(taken, 0), -1, inner.Abs(left))
        best = inner.ArgMax(inner.Reshape(sizes, [0, -1]), axis=1, keepdims=1)
        places = inner.Range(inner.const(0, INT64), inner.Squeeze(n * n, [0]), inner.const(1, INT64))
        here = inner.Reshape(inner.mask(inner.Equal(best, places), left), inner.Shape(left))
        row, column = (inner.ReduceSum(here, [axis], keepdims=1) for axis in (2, 1))
        pivot = inner.ReduceSum(here * left, [1, 2], keepdims=1)
        factors = inner.ReduceSum(left * column, [2], keepdims=1) / inner.Where(inner.Equal(pivot, 0), 1, pivot)
        reduced = now - factors * (1 - row) * inner.ReduceSum(now * row, [1], keepdims=1)
        body = closed(inner, [step, going, now, pivots], [going, reduced, pivots + here])
    done = emit_like(op, "Loop", [op.Squeeze(n - 1, [0]), None, matrix, none], [matrix, none], body=body)
    return [op.like(value, state) for value, state in zip(done, (matrix, none), strict=True)]  # a Loop hides ranks
