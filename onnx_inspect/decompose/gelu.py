"""Activations of com.microsoft, most of them with a bias added first."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from ..emit import Op, inputs
from .table import decomposition


@decomposition("com.microsoft::Gelu", "com.microsoft::BiasGelu")
def gelu(op: Op, node: ir.Node) -> Any:
    """Y = Z Φ(Z), Z = X + bias."""
    return op.Gelu(_biased(op, node))


@decomposition("com.microsoft::FastGelu")
def fast_gelu(op: Op, node: ir.Node) -> Any:
    """Y = Z (1 + tanh(√(2/π) (Z + 0.044715 Z³))) / 2, Z = X + bias."""
    return op.Gelu(_biased(op, node), approximate="tanh")


@decomposition("com.microsoft::QuickGelu")
def quick_gelu(op: Op, node: ir.Node) -> Any:
    """Y = X σ(α X)."""
    x = node.inputs[0]
    return op.Mul(x, op.Sigmoid(op.Mul(x, node.attributes.get_float("alpha", 1.702))))


def _biased(op: Op, node: ir.Node) -> Any:
    x, bias = inputs(node, 2)
    return x if bias is None else op.Add(x, bias)
