"""Turning tensors of half precision into float32, throughout a graph and the graphs within it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir

FLOAT = ir.DataType.FLOAT
# Integer attributes that name an element type: what a node computes in, or gives.
_TYPES = ("to", "dtype", "output_dtype", "softmax_precision", "stash_type")


def widen(graph: ir.Graph, half: ir.DataType, outside: Callable[[ir.Value], ir.Value] = lambda x: x) -> bool:
    """Make every tensor of one type float32, in place. True if there was any.

    Args:
        graph: the graph.
        half: the type to replace.
        outside: what stands for a value that the graph takes from around it.
    """
    graphs = [graph, *graph.subgraphs()]
    nodes = list(graph.all_nodes())
    own = {v for g in graphs for v in (*g.inputs, *g.initializers.values())} | {y for n in nodes for y in n.outputs}
    found = False
    for node in nodes:
        for i, x in enumerate(node.inputs):
            if x is not None and x not in own:
                node.replace_input_with(i, outside(x))
        for attribute in list(node.attributes.values()):
            found |= _widen_attribute(node, attribute, half)
    for value in own:
        if value.const_value is not None and value.const_value.dtype == half:
            value.const_value = _float(value.const_value)
        if value.dtype == half:
            found, value.type = True, _wide_type(value.type)
    return found


def _wide_type(kind: ir.TypeProtocol | None) -> ir.TypeProtocol:
    """The type with float32 in it; types are shared, so this is a new one."""
    if isinstance(kind, ir.SequenceType | ir.OptionalType):
        return type(kind)(_wide_type(kind.elem_type))
    return ir.TensorType(FLOAT)


def _widen_attribute(node: ir.Node, attribute: ir.Attr, half: ir.DataType) -> bool:
    if attribute.name in _TYPES and attribute.type == ir.AttributeType.INT and attribute.value == half:
        node.attributes[attribute.name] = ir.AttrInt64(attribute.name, int(FLOAT))
    elif attribute.type == ir.AttributeType.TYPE_PROTO and attribute.value.type.dtype == half:
        kind = ir.TypeAndShape(_wide_type(attribute.value.type), attribute.value.shape)
        node.attributes[attribute.name] = ir.AttrTypeProto(attribute.name, kind)
    elif attribute.type == ir.AttributeType.TENSOR and attribute.value.dtype == half:
        node.attributes[attribute.name] = ir.AttrTensor(attribute.name, _float(attribute.value))
    else:
        return False
    return True


def _float(tensor: Any) -> ir.LazyTensor:
    """The tensor in float32, computed when it is asked for: it may lie in a file of its own."""

    def wide() -> ir.TensorProtocol:
        return ir.Tensor(tensor.numpy().astype(np.float32), name=tensor.name)

    return ir.LazyTensor(wide, dtype=FLOAT, shape=tensor.shape, name=tensor.name)
