"""Letting a batch that a file fixes at 1 vary, wherever the graph treats every sample by itself.

Each operator has a rule that says on which axis of its outputs the batch comes out, given the axis on which it comes
in. An operator without a rule, or one that mixes samples, keeps the batch fixed: that is always right.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import onnx_ir as ir

if TYPE_CHECKING:
    import onnx

_TRIAL = 10007  # a prime that is no size of any layer, so that the batch is known again wherever it appears

Light = Callable[[ir.Model, "Callable[[onnx.ModelProto], onnx.ModelProto]"], "onnx.ModelProto"]
Axes = list["int | None"]  # per input or output of a node: where the batch is, None without one
Rule = Callable[[ir.Node, Axes, "Shapes"], Axes]
Shapes = Mapping[str, "list[int | None]"]  # by name, with _TRIAL samples; None for sizes known only at run time


class _Mixed(Exception):
    """The node mixes samples, or might."""


def relax(model: ir.Model, light: Light) -> bool:
    """Make the batch axis of all inputs symbolic if every output then carries it, sample by sample.

    Args:
        model: in canonical form, with inferred shapes; changed only if the answer is True, shapes not inferred again.
        light: calls a C++ pass without the big weights.
    """
    images = [v for v in model.graph.inputs if v.shape is None or len(v.shape) > 0]
    if not images or any(v.shape is None or len(v.shape) < 2 or v.shape[0] != 1 for v in images):
        return False
    trial = model.clone()
    _free_reshapes(trial.graph)
    shapes = _shapes(trial, light)
    if shapes is None or not _follows(trial.graph, {v.name for v in images}, shapes):
        return False
    _free_reshapes(model.graph)
    for value in images:
        assert value.shape is not None
        value.shape = ir.Shape(["batch", *list(value.shape)[1:]])
    for output in model.graph.outputs:
        output.shape = None
    return True


def _free_reshapes(graph: ir.Graph) -> None:
    """Constant Reshape targets that spell a leading 1 copy it from their input instead (0), if it is 1 there."""
    for node in graph:
        if node.op_type != "Reshape" or node.domain != "" or node.attributes.get_int("allowzero", 0):
            continue
        x, shape = node.inputs[0], node.inputs[1]
        target = ir.convenience.get_const_tensor(shape) if shape is not None else None
        if x is None or x.shape is None or len(x.shape) == 0 or x.shape[0] != 1 or target is None:
            continue
        sizes = target.numpy().tolist()
        if sizes and sizes[0] == 1:
            name = f"{node.outputs[0].name}.any_batch"
            new = ir.val(name, const_value=ir.tensor([0, *sizes[1:]], name=name, dtype=ir.DataType.INT64))
            graph.register_initializer(new)
            node.replace_input_with(1, new)


def _shapes(model: ir.Model, light: Light) -> Shapes | None:
    """All shapes with the trial batch, None where inference finds a contradiction. Changes the model's inputs."""
    import onnx

    weights = {v.name or "": list(v.shape) for v in model.graph.initializers.values() if v.shape is not None}
    for value in model.graph.inputs:
        if value.shape is not None and len(value.shape) > 0:
            value.shape = ir.Shape([_TRIAL, *list(value.shape)[1:]])
    for node in model.graph:
        for value in node.outputs:
            value.shape = None
    try:
        proto = light(model, lambda p: onnx.shape_inference.infer_shapes(p, strict_mode=True, data_prop=True))
    except Exception:  # whatever onnx objects to
        return None
    found: dict[str, list[int | None]] = {n: [d if isinstance(d, int) else None for d in s] for n, s in weights.items()}
    for info in [*proto.graph.value_info, *proto.graph.input, *proto.graph.output]:
        kind = info.type.tensor_type
        if kind.HasField("shape"):
            found[info.name] = [d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim]
    return found


def _follows(graph: ir.Graph, images: set[str | None], shapes: Shapes) -> bool:
    where: dict[ir.Value, int] = {v: 0 for v in graph.inputs if v.name in images}
    try:
        for node in graph:
            axes: Axes = [where.get(x) if x is not None else None for x in node.inputs]
            if all(a is None for a in axes) and not _captures(node):
                continue
            if node.op_type == "Shape":
                _shape(node)
                continue
            rule = _RULES.get(node.op_type) if node.domain == "" else None
            if rule is None:
                return False
            for y, axis in zip(node.outputs, rule(node, axes, shapes), strict=False):
                if axis is None or not y.name:
                    continue
                if (sizes := shapes.get(y.name)) is None or not -1 < axis < len(sizes) or sizes[axis] != _TRIAL:
                    return False
                where[y] = axis
    except _Mixed:
        return False
    return all(where.get(y) == 0 for y in graph.outputs)
