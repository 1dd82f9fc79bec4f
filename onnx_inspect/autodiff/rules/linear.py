"""Dense layers and convolutions."""

from __future__ import annotations

import onnx_ir as ir

from ..emit import Op
from ..gradient import Cotangents, rule


@rule("Gemm")
def gemm(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = alpha A' B' + beta C."""
    a, b = node.inputs[:2]
    alpha, beta = node.attributes.get_float("alpha", 1.0), node.attributes.get_float("beta", 1.0)
    ta, tb = node.attributes.get_int("transA", 0), node.attributes.get_int("transB", 0)
    da = op.wants(a) and (
        op.Gemm(b, dy, transA=tb, transB=1, alpha=alpha) if ta else op.Gemm(dy, b, transB=1 - tb, alpha=alpha)
    )
    db = op.wants(b) and (
        op.Gemm(dy, a, transA=1, transB=ta, alpha=alpha) if tb else op.Gemm(a, dy, transA=1 - ta, alpha=alpha)
    )
    c = node.inputs[2] if len(node.inputs) > 2 else None
    dc = c is not None and op.wants(c) and op.sum_to(dy * beta, c, of=node.outputs[0])
    return [da or None, db or None, dc or None]
