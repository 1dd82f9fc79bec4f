"""Bringing a model down to an opset that onnxruntime runs, by what the operators' schemas and function bodies say."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import onnx_ir as ir

from .bodies import body, inline, written
from .errors import UnsupportedError
from .shapes import infer_shapes
from .structure import key, label

# What onnxruntime 1.31 runs on the CPU up to an opset only: it has no kernel for the version that follows.
KERNEL_ENDS = dict.fromkeys(
    ("Bernoulli", "GlobalLpPool", "MaxRoiPool", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform",
     "RandomUniformLike", "RoiAlign"), 21,
)  # fmt: skip
BODY_ENDS = {"Swish": 24}  # it has no kernel at all, and inlines the body in the body's own opset only
SCHEMA_ENDS = {"Attention": 24}  # it calls this version 25 and 26 too, which have attributes it does not know
PREVIEW = "ai.onnx.preview"  # operators that it does not know, all of which have bodies


def runnable(model: ir.Model, version: int, newest: int) -> int:
    """The newest opset, no newer than the model's, in which onnxruntime runs all its operators that have no body."""
    ends = [KERNEL_ENDS.get(node.op_type, newest) for node in model.graph.all_nodes() if node.domain == ""]
    return min([version, newest, *ends])


def lower_opset(model: ir.Model, version: int, target: int) -> list[str]:
    """Bring a model, in place, down to an opset, and write out operators that onnxruntime does not have in it.

    A node that uses nothing newer than the opset stays what it is.

    Args:
        model: without functions and Constant nodes.
        version: the standard opset that it has.
        target: the one it shall have, `version` or older.

    Returns:
        The operators of the file that were written out in others.

    Raises:
        UnsupportedError: an operator, or a form of one, is newer than the target and has no body.
    """
    import onnx

    if version > onnx.defs.onnx_opset_version():
        raise UnsupportedError(
            f"The model has opset {version}; the installed onnx {onnx.__version__} knows opsets up to "
            f"{onnx.defs.onnx_opset_version()}. Install a newer onnx, or export the model with opset {target} or lower."
        )
    original = set(model.graph.all_nodes())
    done: dict[str, None] = {}
    final: set[ir.Node] = set()
    pending = version > target or any(_misfit(node, version, target) for node in model.graph.all_nodes())
    while pending:
        infer_shapes(model)
        nodes = [node for node in model.graph.all_nodes() if node not in final]
        misfits = {node: why for node in nodes if (why := _misfit(node, version, target))}
        taken = {v.name for node in model.graph.all_nodes() for v in (*node.inputs, *node.outputs) if v is not None}
        for node, why in misfits.items():
            since = version if node.domain == "" else model.graph.opset_imports[node.domain]
            ours = node.domain == "" and written(node, version, target) is not None
            if (function := body(node, since, target)) is None:
                raise UnsupportedError(
                    f"Node '{label(node)}' ({key(node)}) cannot be brought from opset {version} to {target}, "
                    f"{_limit(model, target)}: {why}. Export the model with opset {target} or lower."
                )
            done |= {node.op_type: None} if node in original else {}
            added = inline(node, function, _defaults(_schema(node.op_type, since, node.domain)), taken)
            final.update(added if ours else ())
        pending = bool(misfits)
    for node in model.graph.all_nodes() if done else ():
        like = node.inputs[1] if node.op_type == "CastLike" else None
        if like is not None and like.dtype is not None:  # bodies have it for constants; the type is known by now
            node.op_type, node.attributes["to"] = "Cast", ir.AttrInt64("to", int(like.dtype))
            node.resize_inputs(1)
    for node in model.graph.all_nodes():
        schema = _known(node.op_type, target) if node.domain == "" else None
        for name in (node.attributes.keys() - schema.attributes.keys()) if schema is not None else ():
            del node.attributes[name]  # newer than the target, with the value that it has by default
    if all(node.domain != PREVIEW for node in model.graph.all_nodes()):
        model.graph.opset_imports.pop(PREVIEW, None)
    model.graph.opset_imports[""] = target
    return list(done)


def _misfit(node: ir.Node, version: int, target: int) -> str | None:
    """Why a node cannot stay as it is in the opset `target`, None if it can."""
    if node.domain:
        return "onnxruntime does not know the operator" if node.domain == PREVIEW else None
    if target > BODY_ENDS.get(node.op_type, target):
        return "onnxruntime has no kernel for it"
    old, new = _known(node.op_type, target), _schema(node.op_type, version)
    if old is None and new is not None:
        return "the operator is newer"
    if old is None or new is None or old.since_version == new.since_version:
        return None
    if written(node, version, target) is not None:
        return "it means something else there"
    defaults, since = _defaults(new), f"newer than its version {old.since_version}"
    for name, value in node.attributes.items():
        if name not in old.attributes and (name not in defaults or value.value != defaults[name].value):
            return f"its attribute '{name}' is {since}"
    for name in new.attributes.keys() & old.attributes.keys() - node.attributes.keys():
        if new.attributes[name].default_value != old.attributes[name].default_value:
            return f"the default of its attribute '{name}' is {since}"
    return _newer(node.inputs, old.inputs, since) or _newer(node.outputs, old.outputs, since)


def _newer(values: Sequence[ir.Value | None], formals: Any, since: str) -> str | None:
    """What of a node's inputs or outputs an older version does not have: their number, or their types."""
    for i, value in enumerate(values):
        if value is None or not value.name:
            continue
        variadic = formals and str(formals[-1].option).endswith("Variadic")
        if i >= len(formals) and not variadic:
            return f"'{value.name}' is {since}"
        formal = formals[min(i, len(formals) - 1)]
        if (kind := _kind(value.type)) is not None and kind not in formal.types:
            return f"'{value.name}' of type {kind} is {since}"
    return None


def _kind(type_: ir.TypeProtocol | None) -> str | None:
    """A type as schemas write it, None if unknown."""
    if isinstance(type_, ir.SequenceType | ir.OptionalType):
        inner = _kind(type_.elem_type)
        return inner and f"{'seq' if isinstance(type_, ir.SequenceType) else 'optional'}({inner})"
    return f"tensor({type_.dtype.name.lower()})" if isinstance(type_, ir.TensorType) else None


def _known(op_type: str, version: int) -> Any:
    """The schema of a standard operator as onnxruntime has it in an opset, None if there is none."""
    return _schema(op_type, min(version, SCHEMA_ENDS.get(op_type, version)))


@cache
def _schema(op_type: str, version: int, domain: str = "") -> Any:
    """The schema of an operator in an opset, None if there is none."""
    import onnx

    try:
        return onnx.defs.get_schema(op_type, version, domain)
    except onnx.defs.SchemaError:
        return None


def _defaults(schema: Any) -> dict[str, ir.Attr]:
    protos = {name: a.default_value for name, a in schema.attributes.items() if a.default_value.name}
    return {name: ir.serde.deserialize_attribute(proto) for name, proto in protos.items()}


def _limit(model: ir.Model, target: int) -> str:
    """What makes an opset the newest possible."""
    ops = sorted({node.op_type for node in model.graph.all_nodes() if KERNEL_ENDS.get(node.op_type) == target})
    return f"the newest in which onnxruntime runs {' and '.join(ops)}" if ops else "the newest that onnxruntime knows"
