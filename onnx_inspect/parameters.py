"""Which weights an operator reads."""

from __future__ import annotations

import onnx_ir as ir

from . import structure

_WEIGHTS = frozenset({ir.DataType.INT4, ir.DataType.UINT4, ir.DataType.INT8, ir.DataType.UINT8, ir.DataType.INT32})
# Inputs that say how values are scaled, by operator.
_SCALES = {
    "QuantizeLinear": {1, 2},
    "DequantizeLinear": {1, 2},
    "QLinearConv": {1, 2, 4, 5, 6, 7},
    "QLinearMatMul": {1, 2, 4, 5, 6, 7},
    "ConvInteger": {2, 3},
    "MatMulInteger": {2, 3},
    "Resize": {1, 2, 3},
}


def held_weights(graph: ir.Graph) -> dict[ir.Node, list[ir.Value]]:
    """The weights that each node reads, itself or through nodes that compute on weights alone; without those scales."""
    varying = structure.varying(graph)
    origins: dict[ir.Value, list[ir.Value]] = {v: [v] for v in graph.initializers.values() if _is_weight(v)}
    found = {}
    for node in graph:
        scales = _SCALES.get(node.op_type, ())
        direct = [x for i, x in enumerate(node.inputs) if x is not None and x not in varying and i not in scales]
        outer = [x for inner in structure.subgraphs(node) for n in inner for x in structure.all_inputs(n)]
        read = list(dict.fromkeys(o for x in [*direct, *outer] for o in origins.get(x, ())))
        if any(y in varying for y in node.outputs):
            found[node] = read
        else:
            origins.update(dict.fromkeys(node.outputs, read))
    return found


def _is_weight(value: ir.Value) -> bool:
    kind = value.dtype
    rank = structure.rank(value)
    return bool(rank) and kind is not None and (kind in _WEIGHTS or kind.is_floating_point())
