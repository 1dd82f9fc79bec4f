"""Shapes that onnx infers otherwise than onnxruntime computes them, or not at all."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

Known = dict[ir.Value, tuple["ir.Shape", "ir.TypeProtocol"]]


def corrections(node: ir.Node) -> Known:
    """The right shapes of a node's outputs, where those that were inferred are wrong or missing."""
    correct = {
        "Attention": _attention,
        "AveragePool": _ceiled,
        "ConvTranspose": _given,
        "Einsum": _stretched,
        "LpPool": _ceiled,
        "MaxPool": _ceiled,
        "Resize": _scaled,
        "Slice": _reversed,
    }.get(node.op_type)
    return correct(node) if correct is not None and node.domain == "" else {}


def _corrected(node: ir.Node, sizes: list[Any]) -> Known:
    y = node.outputs[0]
    if y.shape is not None and list(y.shape) == sizes:
        return {}
    return {v: (ir.Shape(sizes), v.type) for v in node.outputs if v.name and v.type is not None}


def _scaled(node: ir.Node) -> Known:
    """Sizes that scales give: onnxruntime multiplies in float32, where 10 x 0.7 is 7, and onnx in float64."""
    x, y, scales = node.inputs[0], node.outputs[0], node.inputs[2] if len(node.inputs) > 2 else None
    crops = node.attributes.get_string("coordinate_transformation_mode", "") == "tf_crop_and_resize"
    if crops or scales is None or scales.const_value is None or x is None or x.shape is None or y.shape is None:
        return {}
    sizes: list[Any] = list(y.shape)
    axes = node.attributes.get_ints("axes", ()) or range(len(sizes))
    for axis, scale in zip(axes, scales.const_value.numpy().astype(np.float32), strict=False):
        n = x.shape[axis]
        if isinstance(n, int):
            sizes[axis] = int(np.float32(n) * scale)
    return _corrected(node, sizes)


def _given(node: ir.Node) -> Known:
    """Sizes that output_shape gives, smaller ones than those of the input too."""
    (x, w), sizes = node.inputs[:2], list(node.attributes.get_ints("output_shape", ()))
    if not sizes or x is None or x.shape is None or w is None or w.shape is None or node.outputs[0].type is None:
        return {}
    channels = w.shape[1] * node.attributes.get_int("group", 1) if isinstance(w.shape[1], int) else None
    return _corrected(node, [x.shape[0], channels, *sizes])


def _reversed(node: ir.Node) -> Known:
    """Slices that run backwards to the largest integer: onnxruntime takes that for the beginning."""
    constants = [None if v is None or v.const_value is None else v.const_value.numpy() for v in node.inputs[1:]]
    x, y = node.inputs[0], node.outputs[0]
    if len(constants) < 4 or any(c is None for c in constants) or x is None or x.shape is None or y.shape is None:
        return {}
    sizes: list[Any] = list(y.shape)
    for start, end, axis, step in zip(*(c.tolist() for c in constants if c is not None), strict=False):
        if step < 0 and end >= np.iinfo(np.int32).max:
            n = x.shape[axis]
            sizes[axis] = None
            if isinstance(n, int):
                first = min(max(start + n if start < 0 else start, 0), n - 1)
                sizes[axis] = first // -step + 1 if n else 0
    return _corrected(node, sizes)


def _stretched(node: ir.Node) -> Known:
    """Axes of one letter, one of which has size 1 and is stretched."""
    equation, y = node.attributes.get_string("equation", "").replace(" ", ""), node.outputs[0]
    operands, arrow, result = equation.partition("->")
    shapes = [None if x is None else x.shape for x in node.inputs]
    if not arrow or "." in equation or y.shape is None or any(shape is None for shape in shapes):
        return {}
    found: dict[str, list[Any]] = {}
    for letters, shape in zip(operands.split(","), shapes, strict=True):
        for letter, size in zip(letters, shape or (), strict=False):
            found.setdefault(letter, []).append(size)
    sizes: list[Any] = list(y.shape)
    for axis, letter in enumerate(result):
        others = [size for size in found.get(letter, []) if size != 1]
        if others and sizes[axis] == 1:
            sizes[axis] = others[0] if isinstance(others[0], int) else None
    return _corrected(node, sizes)


def _attention(node: ir.Node) -> Known:
    """Shapes of an Attention's outputs if onnx leaves them out, or takes sizes that nobody knows for 0."""
    given = [x for x in node.inputs if x is not None and x.name]
    zero = any(d == 0 for x in given for d in x.shape or ())
    outputs = [y for y in node.outputs if y.name]
    if zero or all(y.shape is not None and 0 not in list(y.shape) for y in outputs):
        return {}
    shapes = [list(x.shape) if x is not None and x.shape is not None else [] for x in (*node.inputs, None, None)]
    q_heads, kv_heads = (node.attributes.get_int(f"{name}_num_heads", 0) for name in ("q", "kv"))
    if not all(len(shape) in (3, 4) for shape in shapes[:3]):
        return {}
    batch, q_heads, length, _ = _heads(shapes[0], q_heads)
    _, kv_heads, total, size = _heads(shapes[1], kv_heads)
    width = _heads(shapes[2], kv_heads)[3]
    if len(node.inputs) > 4 and node.inputs[4] is not None:
        before = shapes[4][2] if len(shapes[4]) == 4 else None
        total = before + total if isinstance(before, int) and isinstance(total, int) else None
    flat = q_heads * width if isinstance(q_heads, int) and isinstance(width, int) else None
    results = [
        [batch, q_heads, length, width] if len(shapes[0]) == 4 else [batch, length, flat],
        [batch, kv_heads, total, size],
        [batch, kv_heads, total, width],
        [batch, q_heads, length, total],
    ]
    types = [node.inputs[i].type for i in (0, 1, 2, 0)]  # type: ignore[union-attr]
    pairs = zip(node.outputs, results, types, strict=False)
    return {y: (ir.Shape(shape), type_) for y, shape, type_ in pairs if y.name and type_ is not None}


def _ceiled(node: ir.Node) -> Known:
    """Shapes of a pool's outputs if its last window starts behind the input: onnx counts it below opset 22."""
    x, y = node.inputs[0] if node.inputs else None, node.outputs[0]
    kernel, get = node.attributes.get_ints("kernel_shape", ()), node.attributes.get_ints
    if not node.attributes.get_int("ceil_mode", 0) or x is None or x.shape is None or y.shape is None:
        return {}
    rank = len(kernel)
    strides, pads = get("strides", ()) or [1] * rank, get("pads", ()) or [0] * 2 * rank
    sizes: list[Any] = list(y.shape)
    for a, (s, begin) in enumerate(zip(strides, pads, strict=False)):
        size, n = sizes[2 + a], x.shape[2 + a]
        if isinstance(size, int) and isinstance(n, int) and (size - 1) * s >= n + begin:
            sizes[2 + a] = size - 1
    return _corrected(node, sizes)


def _heads(shape: list[Any], heads: int) -> list[Any]:
    """The shape of queries, keys or values with an axis of heads."""
    if len(shape) == 4:
        return shape
    batch, length, width = shape
    return [batch, heads, length, width // heads if isinstance(width, int) and heads else None]
