"""Sums that onnxruntime fuses with what follows."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from ..emit import Op, inputs
from .table import decomposition


@decomposition("com.microsoft::BiasAdd")
def bias_add(op: Op, node: ir.Node) -> Any:
    """Y = X + bias + skip."""
    x, bias, skip = node.inputs
    return x + bias + skip  # type: ignore[operator]


@decomposition("com.microsoft::BiasDropout")
def bias_dropout(op: Op, node: ir.Node) -> Any:
    """Y = X + bias + residual: there is nothing to drop but in training."""
    x, bias, residual, _, training = inputs(node, 5)
    if training is not None and (training.const_value is None or training.const_value.numpy().any()):
        raise op.unsupported("its training_mode is on; export the model for inference")
    y = x + bias
    return y if residual is None else y + residual


@decomposition("com.microsoft::BiasSplitGelu")
def bias_split_gelu(op: Op, node: ir.Node) -> Any:
    """Y = A Gelu(B), A and B the halves of X + bias along the last axis."""
    a, b = op.Split(op.Add(*node.inputs), axis=-1, num_outputs=2, outputs=2)
    return a * op.Gelu(b)


@decomposition("com.microsoft::BiasSoftmax")
def bias_softmax(op: Op, node: ir.Node) -> Any:
    """Y = softmax(X + bias), where all axes from `axis` on count as one."""
    scores, axis = op.Add(*node.inputs), node.attributes.get_int("axis", 1)
    if axis == -1:
        return op.Softmax(scores, axis=-1)
    return op.Reshape(op.Softmax(op.Flatten(scores, axis=axis), axis=-1), op.Shape(scores))
