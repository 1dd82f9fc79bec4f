"""Letting a batch that a file fixes vary, wherever the graph treats every sample by itself.

Each operator has a rule that says on which axis of its outputs the batch comes out, given the axis on which it comes
in. An operator without a rule, or one that mixes samples, keeps the batch fixed: that is always right.
"""

from __future__ import annotations

import onnx_ir as ir

from .batch_rules import RULES, SIZED, Axes, MixedError, Node
from .shapes import light

_TRIAL = 10007  # a prime that is the size of no axis, so that the batch is known again wherever it appears

Shapes = dict[str, list[int | None]]


def relax(model: ir.Model) -> int | None:
    """Make the batch axis of all inputs symbolic if every output then carries it, sample by sample.

    Args:
        model: in canonical form, with inferred shapes; shapes have to be inferred again after a change.

    Returns:
        The batch that the file had, None if the graph stays as it is.
    """
    images = _images(model.graph)
    fixed = {v.shape[0] for v in images if v.shape is not None and len(v.shape) > 1}
    if len(fixed) != 1 or any(v.shape is None or len(v.shape) < 2 for v in images):
        return None
    size = fixed.pop()
    if not isinstance(size, int):
        return None
    trial = model.clone()
    _free_reshapes(trial.graph, size)
    shapes = _shapes(trial)
    if shapes is None or not _follows(trial.graph, shapes):
        return None
    _free_reshapes(model.graph, size)
    for value in images:
        assert value.shape is not None
        value.shape = ir.Shape(["batch", *list(value.shape)[1:]])
    for output in model.graph.outputs:
        output.shape = None
    return size


def lead(graph: ir.Graph) -> list[str]:
    """Give inputs the axis for samples that the graph gives them first thing; says which.

    That is the case for an input that goes into nothing but Unsqueeze, which puts an axis before all of its own. Where
    its first size is open, or 1, that may be the samples already. Outputs that have lost the axis again keep it.
    """
    images = _images(graph)
    if not images or not all(_is_led(v) for v in images):
        return []
    for value in images:
        value.shape = ir.Shape([1, *list(value.shape or ())])
    for output in graph.outputs:
        output.shape = None
    ends = [v.producer() for v in graph.outputs]
    for node in [*(user for v in images for user in v.consumers()), *filter(None, ends)]:
        if 0 in (axes := _axes(node)):
            _keep(graph, node, [a for a in axes if a != 0])
    return [v.name or "" for v in images]


def _is_led(value: ir.Value) -> bool:
    users, shape = value.consumers(), list(value.shape or ())
    first = shape[0] if shape else None
    added = all(node.op_type == "Unsqueeze" and _leads(_axes(node)) for node in users)
    return bool(users) and added and isinstance(first, int) and first > 1


def _leads(axes: list[int]) -> bool:
    """True if axes are those before all others."""
    return bool(axes) and sorted(axes) == list(range(len(axes)))


def _keep(graph: ir.Graph, node: ir.Node, axes: list[int]) -> None:
    """Let an Unsqueeze or Squeeze add, or drop, these axes only."""
    if axes:
        name = f"{node.outputs[0].name}.axes"
        graph.register_initializer(new := ir.val(name, const_value=ir.tensor(axes, name=name)))
        node.replace_input_with(1, new)
    else:
        node.op_type = "Identity"
        node.resize_inputs(1)


def _axes(node: ir.Node) -> list[int]:
    """Which axes an Unsqueeze or Squeeze adds or drops, none for other nodes."""
    axes = node.inputs[1] if node.op_type in ("Unsqueeze", "Squeeze") and len(node.inputs) > 1 else None
    return axes.const_value.numpy().reshape(-1).tolist() if axes is not None and axes.const_value is not None else []


def _images(graph: ir.Graph) -> list[ir.Value]:
    """The inputs with a batch: all but scalars."""
    return [v for v in graph.inputs if v.shape is None or len(v.shape) > 0]


def _free_reshapes(graph: ir.Graph, size: int) -> None:
    """Constant Reshape targets that begin with the batch copy it from their input instead (0), if it is there too."""
    for node in graph:
        if node.op_type != "Reshape" or node.domain != "":
            continue
        x, shape = node.inputs[:2]
        target = ir.convenience.get_const_tensor(shape) if shape is not None else None
        if target is None or x is None or x.shape is None or len(x.shape) == 0 or x.shape[0] != size:
            continue
        sizes = target.numpy().tolist()
        if sizes and sizes[0] == size and not (0 in sizes and node.attributes.get_int("allowzero", False)):
            node.attributes.pop("allowzero", None)
            name = f"{node.outputs[0].name}.any_batch"
            const = ir.tensor([0, *sizes[1:]], name=name, dtype=ir.DataType.INT64)
            graph.register_initializer(new := ir.val(name, const_value=const))
            node.replace_input_with(1, new)


def _shapes(model: ir.Model) -> Shapes | None:
    """All shapes with the trial batch, None where inference finds a contradiction. Changes the model's inputs."""
    import onnx

    weights = {v.name or "": list(v.shape) for v in model.graph.initializers.values() if v.shape is not None}
    for value in _images(model.graph):
        assert value.shape is not None
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


def _follows(graph: ir.Graph, shapes: Shapes) -> bool:
    """True if every output carries the batch on its first axis, and no node on the way mixes samples."""
    where: dict[ir.Value | None, int] = dict.fromkeys(_images(graph), 0)
    sizes: set[ir.Value | None] = set()  # integers computed from shapes: they may say how many samples there are
    for node in graph:
        axes: Axes = [where.get(x) for x in node.inputs]
        sized = [x in sizes for x in node.inputs]
        if any(a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for a in node.attributes.values()):
            return False
        if node.domain == "" and (node.op_type == "Shape" or (any(sized) and node.op_type not in SIZED)):
            if node.op_type != "Shape" and any(a is not None for a in axes):
                return False
            sizes.update(node.outputs if any(sized) or any(a is not None for a in axes) else ())
        elif any(sized) or any(a is not None for a in axes):
            try:
                found = RULES[node.domain, node.op_type](Node(node, shapes, _TRIAL), axes)
            except (MixedError, LookupError, TypeError, ValueError):  # without a rule, or a form it does not know
                return False
            where.update((y, a) for y, a in zip(node.outputs, found, strict=False) if y.name and a is not None)
            for y in node.outputs:
                if y in where and ((sizes_of := shapes.get(y.name or "")) is None or sizes_of[where[y]] != _TRIAL):
                    return False
    return all(where.get(y) == 0 for y in graph.outputs)
