"""Running a case: on onnxruntime as it is, and in float64 as the source of the differences."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from google.protobuf.message import Message
from onnx import AttributeProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.ops import op_erf
from scipy.special import erf

from .cases import FLOATS, Value, element, mapped

Forward = Callable[[dict[str, Value]], dict[str, Value]]
NEWEST = 26  # of onnxruntime 1.31
_TYPES = frozenset("to dtype output_dtype output_datatype stash_type softmax_precision".split())
ROUNDING = {"AffineGrid", "CausalConvWithState", "LinearAttention"}  # to float32, in the reference
ort.set_default_logger_severity(4)
# The reference's own rounds so too, also within functions.
op_erf.Erf._run = lambda self, x: (np.asarray(erf(x), x.dtype),)


def session(model: bytes | onnx.ModelProto, feeds: dict[str, Value], *, fast: bool = False) -> Forward:
    """The model on onnxruntime.

    Python cannot hand it bfloat16, so such inputs and outputs are cast on the way; numbers of other types that NumPy
    lacks become weights with the values that `feeds` gives them. fast: do not optimise the graph.
    """
    proto = onnx.ModelProto.FromString(model) if isinstance(model, bytes) else model
    odd = {n for n, v in feeds.items() if isinstance(v, TensorProto) or (_odd(v) and not _brain(v))}
    brains = {v.name for v in (*proto.graph.input, *proto.graph.output) if element(v.type) == TensorProto.BFLOAT16}
    if odd or brains:
        copy = onnx.ModelProto()
        copy.CopyFrom(proto)
        _edge(copy.graph, {n: feeds[n] for n in odd}, brains)
        proto = copy
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    if fast:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    running = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    wanted = {i.name for i in running.get_inputs()}
    names = [o.name for o in running.get_outputs()]

    def run(feeds: dict[str, Value]) -> dict[str, Value]:
        given = {f"feed.{n}" if n in brains else n: mapped(_plain, v) for n, v in feeds.items() if n not in odd}
        found = running.run(names, {n: v for n, v in given.items() if n in wanted})
        return {n.removeprefix("read."): v for n, v in zip(names, found, strict=True)}

    return run


def _odd(value: Value) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind == "V"


def _brain(value: Value) -> bool:
    return bool(value.dtype.name == "bfloat16")


def _plain(x: Any) -> Any:
    return x.astype(np.float32) if _odd(x) else np.asarray(x)


def _edge(graph: onnx.GraphProto, odd: dict[str, Value], brains: set[str]) -> None:
    for value in list(graph.input):
        if value.name in odd:
            tensor = (
                odd[value.name]
                if isinstance(odd[value.name], TensorProto)
                else numpy_helper.from_array(odd[value.name])
            )
            graph.initializer.add().CopyFrom(tensor)
            graph.initializer[-1].name = value.name
            graph.input.remove(value)
        elif value.name in brains:
            graph.node.insert(
                0, helper.make_node("Cast", [f"feed.{value.name}"], [value.name], to=TensorProto.BFLOAT16)
            )
            value.name = f"feed.{value.name}"
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    for value in graph.output:
        if value.name in brains:
            graph.node.append(helper.make_node("Cast", [value.name], [f"read.{value.name}"], to=TensorProto.FLOAT))
            value.name = f"read.{value.name}"
            value.type.tensor_type.elem_type = TensorProto.FLOAT


def oracles(models: Iterable[tuple[str, onnx.ModelProto]], feeds: dict[str, Value]) -> Iterator[tuple[str, Forward]]:
    """Ways to compute models that mean the same in float64: first each on onnxruntime, then each on the reference."""
    wide = [(name, doubled(model)) for name, model in models]
    for name, model in wide:
        with suppress(Exception):  # no kernels for float64
            yield f"onnxruntime on {name}", session(_older(model), feeds, fast=True)
    for name, model in wide:
        if not ROUNDING.intersection(n.op_type for n in model.graph.node):
            with suppress(Exception):
                yield f"the reference on {name}", reference(model)


def _older(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for opset in copy.opset_import:
        if opset.domain in ("", "ai.onnx"):
            opset.version = min(opset.version, NEWEST)
    return copy


def reference(model: onnx.ModelProto) -> Forward:
    """The model on onnx's reference implementation."""
    evaluator = ReferenceEvaluator(model)

    def run(feeds: dict[str, Value]) -> dict[str, Value]:
        given = {n: v for n, v in feeds.items() if n in evaluator.input_names}
        with np.errstate(all="ignore"):
            return dict(zip(evaluator.output_names, evaluator.run(None, given), strict=True))

    return run


def doubled(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with float64 for every float."""
    return retyped(model, TensorProto.DOUBLE)


def retyped(model: onnx.ModelProto, kind: int) -> onnx.ModelProto:
    """The model with this type for every float."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    _retype(copy, kind, {o.domain: o.version for o in model.opset_import})
    return copy


def _retype(message: Any, kind: int, opsets: dict[str, int]) -> None:
    match message:
        case onnx.TypeProto.Tensor():
            message.elem_type = _type(message.elem_type, kind)
        case TensorProto():
            if _type(message.data_type, kind) != message.data_type:
                wide = numpy_helper.to_array(message).astype(FLOATS[kind])
                message.CopyFrom(numpy_helper.from_array(wide, message.name))
            return
        case AttributeProto() if message.name in _TYPES and message.type == AttributeProto.INT:
            message.i = _type(message.i, kind)
        case onnx.NodeProto():
            _explicit(message, kind, opsets)
        case onnx.GraphProto() | onnx.FunctionProto():
            del message.value_info[:]
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in [value] if isinstance(value, Message) else value:
                _retype(part, kind, opsets)


def _explicit(node: onnx.NodeProto, kind: int, opsets: dict[str, int]) -> None:
    """Give nodes that make floats by default an attribute that says so."""
    given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    numbers = given.get("value_float", given.get("value_floats"))
    if node.op_type == "Constant" and numbers is not None:
        del node.attribute[:]
        node.attribute.append(_tensor(np.asarray(numbers, FLOATS[kind])))
    elif node.op_type == "ConstantOfShape" and not given:
        node.attribute.append(_tensor(np.zeros(1, FLOATS[kind])))
    elif onnx.defs.has(node.op_type, opsets.get(node.domain, NEWEST), node.domain):
        schema = onnx.defs.get_schema(node.op_type, opsets.get(node.domain, NEWEST), node.domain)
        for name in _TYPES.intersection(schema.attributes).difference(given):
            if schema.attributes[name].default_value.i == TensorProto.FLOAT or node.op_type == "SequenceEmpty":
                node.attribute.append(helper.make_attribute(name, kind))


def _tensor(numbers: np.ndarray) -> AttributeProto:
    return helper.make_attribute("value", numpy_helper.from_array(numbers))


def _type(old: int, kind: int) -> int:
    return kind if old in (*FLOATS, TensorProto.BFLOAT16) else old
