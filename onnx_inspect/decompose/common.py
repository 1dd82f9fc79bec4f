"""What several families need."""

from __future__ import annotations

import onnx_ir as ir

FLOAT, HALF = ir.DataType.FLOAT, (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


def wanted(node: ir.Node, index: int) -> bool:
    """True if somebody uses an output, which may be left out."""
    return any(y.uses() or y.is_graph_output() for y in node.outputs[index : index + 1])


def channels_first(rank: int) -> tuple[list[int], list[int]]:
    """The permutations that move channels from the last axis to the second one, and back."""
    return [0, rank - 1, *range(1, rank - 1)], [0, *range(2, rank), 1]
