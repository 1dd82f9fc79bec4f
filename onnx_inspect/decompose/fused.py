"""Convolutions and matrix products with what onnxruntime fuses into them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import onnx_ir as ir

from ..emit import Op, inputs
from .common import channels_first
from .table import decomposition

# The activations that are fused, and what their numbers are called, in the order of `activation_params`.
_NUMBERS = {
    "Relu": (),
    "Tanh": (),
    "Sigmoid": (),
    "HardSwish": (),
    "Softplus": (),
    "Softsign": (),
    "Clip": ("min", "max"),
    "LeakyRelu": ("alpha",),
    "Elu": ("alpha",),
    "ThresholdedRelu": ("alpha",),
    "HardSigmoid": ("alpha", "beta"),
    "Selu": ("alpha", "gamma"),
    "Softmax": ("axis",),
}


@decomposition("com.microsoft::FusedConv")
def fused_conv(op: Op, node: ir.Node) -> Any:
    """Y = activation(Conv(X, W, B) + Z)."""
    x, w, b, z = inputs(node, 4)
    return _conv(op, node, x, w, b, z)


@decomposition("com.microsoft::NhwcConv", "com.microsoft::NhwcFusedConv")
def nhwc_conv(op: Op, node: ir.Node) -> Any:
    """Y = activation(Conv(X, W, B) + Z), where X, Y and Z, but not W, have their channels last."""
    x, w, b, z = inputs(node, 4)
    first, last = channels_first(op.rank(w))
    z = z and op.Transpose(z, perm=first)
    return op.Transpose(_conv(op, node, op.Transpose(x, perm=first), w, b, z), perm=last)


@decomposition("com.microsoft::FusedGemm")
def fused_gemm(op: Op, node: ir.Node) -> Any:
    """Y = activation(α A B + β C)."""
    return _activated(op, node, op.Gemm(*node.inputs, **_attributes(node)))


@decomposition("com.microsoft::FusedMatMul", "com.microsoft::TransposeMatMul", "com.microsoft::FusedMatMulActivation")
def fused_matmul(op: Op, node: ir.Node) -> Any:
    """Y = activation(α A B), A and B transposed before: the first axis goes behind the batch, the last two swap."""
    a, b = (_transposed(op, node, x, side) for x, side in zip(inputs(node, 2), "AB", strict=True))
    y, alpha = op.MatMul(a, b), node.attributes.get_float("alpha", 1.0)
    return _activated(op, node, y if alpha == 1 else y * alpha)


@decomposition("com.microsoft::GemmFastGelu")
def gemm_fast_gelu(op: Op, node: ir.Node) -> Any:
    """Y = FastGelu(X W + bias)."""
    x, w, bias = inputs(node, 3)
    y = op.MatMul(x, w)
    return op.Gelu(y if bias is None else y + bias, approximate="tanh")


def _conv(op: Op, node: ir.Node, x: Any, w: Any, b: Any, z: Any) -> Any:
    y = op.Conv(x, w, b, **_attributes(node))
    return _activated(op, node, y if z is None else y + z)


def _transposed(op: Op, node: ir.Node, x: ir.Value, side: str) -> ir.Value:
    swap, lead = node.attributes.get_int(f"trans{side}", 0), node.attributes.get_int(f"transBatch{side}", 0)
    axes = list(range(op.rank(x))) if swap or lead else []
    if len(axes) < 2:
        return x
    axes = [*axes[1:-1], axes[0], axes[-1]] if lead else axes
    return op.Transpose(x, perm=[*axes[:-2], axes[-1], axes[-2]] if swap else axes)  # type: ignore[no-any-return]


def _attributes(node: ir.Node) -> dict[str, Any]:
    """The attributes of the operator itself."""
    return {n: a.value for n, a in node.attributes.items() if not n.startswith("activation")}


def _activated(op: Op, node: ir.Node, y: ir.Value) -> Any:
    kind = node.attributes.get_string("activation", "")
    if not kind:
        return y
    if kind not in _NUMBERS:
        raise op.unsupported(f"its activation {kind} is not known")
    numbers = dict(_numbers(node, kind))
    return op.Clip(y, numbers["min"], numbers["max"]) if kind == "Clip" else getattr(op, kind)(y, **numbers)


def _numbers(node: ir.Node, kind: str) -> Iterator[tuple[str, Any]]:
    """The numbers of the activation: convolutions list them, matrix products have an attribute for each."""
    yield from zip(_NUMBERS[kind], node.attributes.get_floats("activation_params", ()), strict=False)
    for name in _NUMBERS[kind]:
        if f"activation_{name}" in node.attributes:
            yield name, node.attributes[f"activation_{name}"].value
