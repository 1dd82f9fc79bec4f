"""Merging what follows a layer with weights and is linear per channel into it: batch normalisation above all."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ..emit import Op, inputs
from ..model import Model
from ..structure import rank, size, varying

Channels = NDArray[Any]


def merge_batchnorm(model: Model, keep: Collection[str] = ()) -> Model:
    """The same function, with batch normalisations merged into the convolutions and dense layers before them.

    So do multiplications by and additions of constants per channel, as exporters write batch normalisation and biases.
    Dense layers over sequences become those of all their rows, since only these can have a bias.

    Args:
        model: the model; unchanged.
        keep: tensors that must stay.
    """
    new = model.clone()
    graph = new.ir.graph
    merged = _give_biases(graph, keep)
    for node in list(graph):
        x = next((v for v in node.inputs if v is not None and v.const_value is None), None)
        behind = None if x is None else _layer(x, keep)
        if (
            x is None
            or behind is None
            or behind[0].graph is not graph
            or (found := _affine(node, x, behind[1])) is None
        ):
            continue
        if _scale(behind[0], *found):
            y = node.outputs[0]
            y.replace_all_uses_with(x, replace_graph_outputs=True)
            name, kind, shape = y.name, y.type, y.shape
            graph.remove(node, safe=True)
            y.name, x.name, x.type, x.shape = None, name, kind or x.type, shape or x.shape
            merged += 1
    return new.derived("merge batchnorm", str(merged)) if merged else model


def _give_biases(graph: ir.Graph, keep: Collection[str]) -> int:
    """Let matrix products have the biases that are added to them; how many do."""
    varies, outer, count = varying(graph), Op(graph), 0
    for add in [node for node in graph if node.op_type == "Add" and not node.domain]:
        b, y = sorted(inputs(add, 2), key=lambda v: v in varies)
        product = y.producer()
        if product is None or product.op_type != "MatMul" or product.graph is not graph or b in varies:
            continue
        x, w = inputs(product, 2)
        kept = y.is_graph_output() or y.name in keep or len(list(y.uses())) > 1
        if kept or w in varies or rank(w) != 2 or rank(b) != 1 or size(b, 0) != size(w, 1) or (rank(x) or 0) < 2:
            continue
        with Op(ir.Graph([], [], nodes=[]), outer) as op:
            z = op.Gemm(x if rank(x) == 2 else _rows(op, x, w), w, b)
            z.shape = ir.Shape([None, size(w, 1)])
            if rank(x) != 2:
                z = op.Reshape(z, op.Concat(op.Shape(x, end=-1), op.size(w, 1), axis=0))
        nodes = list(op.graph)
        op.graph.remove(nodes)
        ir.convenience.replace_nodes_and_values(graph, add, [add, product], nodes, add.outputs, [z])
        count += 1
    return count


def _rows(op: Op, x: ir.Value, w: ir.Value) -> ir.Value:
    """All rows of a tensor as a matrix."""
    rows: ir.Value = op.Flatten(x, axis=-1)
    rows.shape = ir.Shape([None, size(w, 0)])
    return rows


def _layer(x: ir.Value, keep: Collection[str]) -> tuple[ir.Node, int] | None:
    """The layer that a value comes from, if nothing else uses it, and which axis of the value holds its channels."""
    perms: list[list[int]] = []
    while len(list(x.uses())) == 1 and not x.is_graph_output() and x.name not in keep:
        node = x.producer()
        if node is None or node.domain or not node.inputs or node.inputs[0] is None:
            return None
        if node.op_type in _AXES:
            axis = 1
            for perm in reversed(perms):
                axis = perm.index(axis)
            return node, axis
        perm = list(node.attributes.get_ints("perm", ()))
        if node.op_type == "Transpose" and perm:
            perms.append(perm)
        elif node.op_type not in ("Cast", "Identity") or x.dtype != node.inputs[0].dtype:
            return None
        x = node.inputs[0]
    return None


_AXES = {"Conv": 0, "ConvTranspose": 1, "Gemm": 1, "MatMul": 1}  # of W, what channels of y are


def _affine(node: ir.Node, x: ir.Value, channels: int) -> tuple[Channels | float, Channels | float] | None:
    """Factor and summand per channel of y = a x + b, None if a node is something else."""
    if node.domain or x.shape is None:
        return None
    if node.op_type == "BatchNormalization" and channels == 1 and not node.attributes.get_int("training_mode", 0):
        constants = [v.const_value for v in node.inputs[1:] if v is not None and v.const_value is not None]
        if len(constants) < 4 or len([y for y in node.outputs if y.name]) > 1:
            return None
        s, b, mean, var = (v.numpy().astype(np.float64) for v in constants)
        a = s / np.sqrt(var + node.attributes.get_float("epsilon", 1e-5))
        return a, b - mean * a
    if node.op_type not in ("Mul", "Add", "Sub", "Div") or len(node.inputs) != 2:
        return None
    other = node.inputs[1] if node.inputs[0] is x else node.inputs[0]
    if other is None or other.const_value is None or (node.op_type in ("Sub", "Div") and node.inputs[0] is not x):
        return None
    value = _per_channel(other.const_value.numpy(), len(x.shape), channels)
    if value is None or not np.isfinite(value).all() or (node.op_type == "Div" and not np.all(value)):
        return None
    if node.op_type in ("Add", "Sub"):
        return 1.0, value if node.op_type == "Add" else -value
    return value if node.op_type == "Mul" else 1 / value, 0.0


def _per_channel(value: NDArray[Any], rank: int, channels: int) -> Channels | None:
    """Numbers per channel, None where they vary along other axes."""
    shape = (1,) * (rank - value.ndim) + value.shape
    if len(shape) > rank or any(size != 1 for axis, size in enumerate(shape) if axis != channels):
        return None
    return value.astype(np.float64).reshape(-1)


def _scale(layer: ir.Node, a: Channels | float, b: Channels | float) -> bool:
    """Let a layer compute a y + b; False if its weights are no constants."""
    _, w, bias = inputs(layer, 3)
    if w.const_value is None or (bias is not None and bias.const_value is None):
        return False
    if layer.op_type == "MatMul" and any(v is None or v.shape is None or len(v.shape) != 2 for v in layer.inputs):
        return False
    if layer.op_type == "Gemm" and (bias is not None and bias.const_value.numpy().ndim > 1):
        return False
    weights, dtype = w.const_value.numpy().astype(np.float64), w.const_value.numpy().dtype
    group = layer.attributes.get_int("group", 1) if layer.op_type == "ConvTranspose" else 1
    if layer.op_type == "Gemm":
        alpha, beta = layer.attributes.get_float("alpha", 1.0), layer.attributes.get_float("beta", 1.0)
        axis, weights = (0 if layer.attributes.get_int("transB", 0) else 1), weights * alpha
    else:
        beta, axis = 1.0, _AXES[layer.op_type]
    count = weights.shape[axis] * group
    if max(np.size(a), np.size(b)) > count:  # one channel, spread over many
        return False
    old = np.zeros(count) if bias is None else np.broadcast_to(bias.const_value.numpy() * beta, (count,))
    a, b = np.broadcast_to(a, (count,)), np.broadcast_to(b, (count,))
    if group > 1:  # (C, M / group, ...): the channels of each group stand in its rows
        rows = weights.reshape(group, -1, *weights.shape[1:])
        scaled = rows * a.reshape(group, 1, -1, *[1] * (weights.ndim - 2))
        weights = scaled.reshape(weights.shape)
    else:
        weights = weights * a.reshape([-1 if i == axis else 1 for i in range(weights.ndim)])
    if layer.op_type == "MatMul":
        layer.op_type = "Gemm"
    layer.resize_inputs(3)
    layer.replace_input_with(1, _weight(layer, "weight", weights.astype(dtype)))
    layer.replace_input_with(2, _weight(layer, "bias", (old * a + b).astype(dtype)))
    for name in ("alpha", "beta"):
        layer.attributes.pop(name, None)
    return True


def _weight(layer: ir.Node, hint: str, array: NDArray[Any]) -> ir.Value:
    graph = layer.graph
    assert isinstance(graph, ir.Graph)
    name, number = f"merged/{layer.outputs[0].name}.{hint}", 0
    while name in graph.initializers:
        name, number = f"merged/{layer.outputs[0].name}.{hint}.{number}", number + 1
    tensor = ir.Tensor(array, name=name)
    value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=tensor.shape, const_value=tensor)
    graph.register_initializer(value)
    return value
