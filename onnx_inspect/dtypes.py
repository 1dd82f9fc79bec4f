"""Element types: which carry gradients, and which an operator's result has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import onnx_ir as ir

Precision = Literal["float32", "model"]  # of gradients in models of half precision
FLOATS = frozenset({"FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16"})
SECOND = frozenset({"Where"})  # operators whose results have the type of the second operand
_BOOL = frozenset("Equal Greater GreaterOrEqual Less LessOrEqual And Or Not Xor IsNaN IsInf OptionalHasElement".split())
_INT64 = frozenset("Shape Size ArgMax ArgMin NonZero SequenceLength".split())


def is_float(value: ir.Value) -> bool:
    """True if a value carries a gradient: a float tensor, or one whose type nobody knows."""
    return value.dtype is None or value.dtype.name in FLOATS


def result_dtype(op_type: str, inputs: Sequence[ir.Value | None], attributes: Mapping[str, Any]) -> ir.DataType | None:
    """The type of an operator's first output, None if it follows from no input."""
    if op_type == "Cast":
        return ir.DataType(attributes["to"])
    if op_type in _BOOL:
        return ir.DataType.BOOL
    if op_type in _INT64:
        return ir.DataType.INT64
    if op_type == "ConstantOfShape":
        return attributes["value"].dtype  # type: ignore[no-any-return]
    if op_type == "OneHot":
        return inputs[2].dtype if inputs[2] is not None else None
    values = inputs[1:] if op_type in SECOND else inputs
    return next((v.dtype for v in values if v is not None and v.dtype is not None), None)
