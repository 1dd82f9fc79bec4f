"""The forward pass of a model in half precision, on request: what tensor cores multiply, and what lies between.

As automatic mixed precision does, products take float16 and give float16 (cuDNN and cuBLAS add in float32); operators
that move, clip or compare numbers, or add two, stay in it between products; everything else, softmax and normalisation
with their sums and roots included, is float32. So are gradients, which begin with the forward pass's own numbers,
widened. What passes 65504 becomes infinite, which a run reports.
"""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir

from ..decompose.table import replaced
from ..emit import PREFIX, Op
from ..model import Model
from ..pruning import prune
from .table import Lowering

FLOAT, HALF = ir.DataType.FLOAT, ir.DataType.FLOAT16
_LARGEST = float(np.finfo(np.float16).max)


def halve(model: Model) -> Model:
    """The model with its own products in float16; itself where it has none, or keeps its weights in another file."""
    if model.external:  # whose halves would have to lie in memory
        return model
    new = model.clone()
    op, changed = Op(new.ir.graph), False
    for node in list(new.ir.graph):
        if node.op_type in TABLE and not node.domain and not (node.name or "").startswith(f"{PREFIX}/"):
            changed |= replaced(op, node, TABLE[node.op_type]) is not None
    if not changed:
        return model
    prune(new.ir)
    return new.derived("half")


def product(op: Op, node: ir.Node) -> ir.Value | None:
    """A product of float32, in float16, unless a weight is too large for it."""
    given = [x for x in node.inputs if x is not None]
    if any(x.dtype != FLOAT or not _fits(x) for x in given):
        return None
    return _emitted(op, node)


def follower(op: Op, node: ir.Node) -> ir.Value | None:
    """What only moves, clips, compares or adds numbers, where all of them come from products."""
    floats = [x for x in node.inputs if x is not None and x.dtype == FLOAT]
    if len([y for y in node.outputs if y.name]) > 1 or not any(_behind(x) for x in floats):
        return None
    if not all(_behind(x) is not None or (x.const_value is not None and _fits(x)) for x in floats):
        return None
    return _emitted(op, node)


def _emitted(op: Op, node: ir.Node) -> ir.Value:
    """The node on float16, widened again behind it: who takes float16 too finds it in front of the Cast."""
    inputs = [_half(op, x) if x is not None and x.dtype == FLOAT else x for x in node.inputs]
    attributes: dict[str, Any] = {k: a.value for k, a in node.attributes.items()}
    return op.Cast(getattr(op, node.op_type)(*inputs, dtype=HALF, **attributes), to=FLOAT)


def _behind(x: ir.Value) -> ir.Value | None:
    """The float16 numbers that a value was widened from."""
    cast = x.producer()
    source = cast.inputs[0] if cast is not None and cast.op_type == "Cast" else None
    return source if source is not None and source.dtype == HALF else None


def _half(op: Op, x: ir.Value) -> ir.Value:
    if (source := _behind(x)) is not None:
        return source
    if x.const_value is None:
        return op.Cast(x, to=HALF)
    tensor = ir.Tensor(x.const_value.numpy().astype(np.float16), name=op.fresh("half"))
    value = ir.Value(name=tensor.name, type=ir.TensorType(HALF), shape=x.shape, const_value=tensor)
    op.home.register_initializer(value)
    return value


def _fits(x: ir.Value) -> bool:
    return x.const_value is None or bool(np.abs(x.const_value.numpy()).max(initial=0) <= _LARGEST)


TABLE: Mapping[str, Lowering] = dict.fromkeys(("Conv", "ConvTranspose", "Gemm", "MatMul"), product) | dict.fromkeys(
    ("Add", "Clip", "Concat", "Flatten", "Identity", "LeakyRelu", "MaxPool", "Relu", "Reshape", "Slice", "Squeeze",
     "Transpose", "Unsqueeze"), follower,
)  # fmt: skip
