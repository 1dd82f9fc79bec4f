"""What the file says: what it records wrongly, for which machine it was written, what numbers it computes with."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError

from ..errors import ModelError
from ..model import Model, load
from ..obstacles import machine
from ..source import nodes, read
from ..structure import key, label, sizes
from .report import Finding, typed

_STANDARD = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
_RANDOM = frozenset("RandomNormal RandomNormalLike RandomUniform RandomUniformLike Bernoulli Multinomial".split())
_QUANTISERS = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"})
_LIMITS = {
    onnx.TensorProto.FLOAT16: "numbers beyond 65504 overflow and those below 6e-8 vanish",
    onnx.TensorProto.BFLOAT16: "numbers keep 3 digits",
}
_HALVES = {onnx.TensorProto.FLOAT16: "float16", onnx.TensorProto.BFLOAT16: "bfloat16"}


def open_model(given: Any) -> tuple[onnx.ModelProto | None, Model | None, list[Finding]]:
    """The file as it is, and the model if it can be loaded; else why not.

    Raises:
        ModelError: this is no ONNX model at all.
    """
    if isinstance(given, Model):
        return (read(given.source.path)[0] if given.source.path else None), given, []
    try:
        return read(given)[0], load(given), []
    except ModelError as error:
        proto = _raw(given)
        if proto is None or not (proto.ir_version and proto.graph.node and proto.opset_import):
            raise
        return proto, None, [Finding("error", "file", str(error))]


def _raw(given: Any) -> onnx.ModelProto | None:
    try:
        data = Path(given).read_bytes() if isinstance(given, str | Path) else given
        proto: onnx.ModelProto = data if isinstance(data, onnx.ModelProto) else onnx.ModelProto.FromString(data)
    except (OSError, TypeError, DecodeError):
        return None
    return proto


def operators(proto: onnx.ModelProto) -> Counter[str]:
    """How often each operator of the file occurs, in subgraphs and functions too: "Conv", or "domain::Op"."""
    own = {(f.domain, f.name) for f in proto.functions}
    return Counter(_key(n) for n in _nodes(proto) if (n.domain, n.op_type) not in own)


def _nodes(proto: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    return itertools.chain.from_iterable(map(nodes, [proto.graph, *proto.functions]))


def _key(node: onnx.NodeProto) -> str:
    return f"{node.domain}::{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type


def check(proto: onnx.ModelProto, model: Model | None) -> list[Finding]:
    """What can be said before anything runs."""
    count = operators(proto)
    kept = {key(node) for node in model.ir.graph.all_nodes()} if model is not None else set(count)
    found = [*_machines(proto, {op: n for op, n in count.items() if op in kept}), *_numbers(proto, count)]
    if model is not None:
        found += [*_contradictions(proto, model), *_sizes(proto, model), *_random(model)]
        found += [Finding("note", "file", note) for note in model.notes]
    return found


def _machines(proto: onnx.ModelProto, count: Mapping[str, int]) -> Iterator[Finding]:
    """Operators that are written for one machine, or that nobody but their author knows."""
    groups: dict[tuple[str, str], list[str]] = {}
    for op in sorted(count):
        domain, found = op.rpartition("::")[0], machine(op)
        if found is None and domain not in _STANDARD:
            why = f"the domain {domain} is not in the standard, and only a runtime with its library runs it"
            found = why, "ask for the model in standard operators"
        if found is not None:
            groups.setdefault(found, []).append(op)
    for (why, remedy), ops in groups.items():
        first = next(n.name or n.output[0] for n in _nodes(proto) if _key(n) in ops)
        what = f"{', '.join(f'{op} ({count[op]})' for op in ops)}, first in node '{first}': {why}"
        yield Finding("warning", "file", what, remedy, first)


def _numbers(proto: onnx.ModelProto, count: Counter[str]) -> Iterator[Finding]:
    """Quantised and half-precision parts, and what they mean for gradients."""
    linear = sum(count[op] for op in count if op in _QUANTISERS)
    whole = sum(n for op, n in count.items() if op.rpartition("::")[2].startswith("QLinear") or "Integer" in op)
    if linear and not whole and set(count) & _QUANTISERS == {"DequantizeLinear"}:
        what = f"the weights are quantised ({linear} DequantizeLinear), the computation is not: gradients are exact"
        yield Finding("note", "precision", what)
    elif linear or whole:
        what = f"the model is quantised ({linear} quantisers, {whole} integer operators)"
        means = "gradients pass straight through inside each range and are zero where a value saturates"
        yield Finding("note", "precision", what, means)
    for kind, name in _HALVES.items():
        weights = sum(t.data_type == kind for t in proto.graph.initializer)
        ends = {v.name: v for v in [*proto.graph.input, *proto.graph.output]}
        for tensor in proto.graph.initializer:  # before IR 4, weights were inputs as well
            ends.pop(tensor.name, None)
        inputs = sum(v.type.tensor_type.elem_type == kind for v in ends.values())
        if weights or inputs:
            what = f"the model computes in {name} ({weights} weights, {inputs} inputs and outputs)"
            yield Finding("note", "precision", what, _LIMITS[kind])


def _contradictions(proto: onnx.ModelProto, model: Model) -> Iterator[Finding]:
    """Shapes and types that the file records, and that inference from its inputs contradicts."""
    wrong = []
    for info in [*proto.graph.value_info, *proto.graph.output]:
        value, kind = model.values.get(info.name), info.type.tensor_type
        if value is None or not info.type.HasField("tensor_type"):
            continue
        inferred = [d if isinstance(d, int) else None for d in value.shape] if value.shape is not None else None
        said = [d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim]
        widened = kind.elem_type == onnx.TensorProto.BFLOAT16 and value.dtype == ir.DataType.FLOAT
        if value.dtype is not None and not widened and kind.elem_type not in (0, value.dtype.value):
            wrong.append((info.name, ir.DataType(kind.elem_type).name, value.dtype.name))
        elif kind.HasField("shape") and inferred is not None and _differ(said, inferred):
            wrong.append((info.name, sizes(said), sizes(inferred)))
    if wrong:
        name, said_so, is_so = wrong[0]
        rest = f", and of {len(wrong) - 1} more tensors" if len(wrong) > 1 else ""
        what = f"the file records {said_so} for '{name}', which is {is_so}{rest}"
        yield Finding("warning", "file", what, f"this tool infers shapes afresh; for others, `{_clear(model)}`", name)


def _clear(model: Model) -> str:
    """The command that takes out what a file records of shapes."""
    path = str(model.source.path or "model.onnx")
    steps = [
        "import onnx",
        f"m = onnx.load({path!r})",
        "del m.graph.value_info[:]",
        "[v.type.tensor_type.ClearField('shape') for v in m.graph.output]",
        "onnx.save(m, 'mended.onnx')",
    ]
    return f"python -c {typed('; '.join(steps))}"


def _random(model: Model) -> Iterator[Finding]:
    """Operators that give something else in every run."""
    found = [n for n in model.ir.graph.all_nodes() if n.op_type in _RANDOM or _trains(n)]
    if found:
        what = f"'{label(found[0])}' ({key(found[0])}) draws random numbers, so no two runs explain the same score"
        remedy = "export the model for inference (model.eval() in PyTorch)"
        yield Finding("warning", "file", what, remedy, label(found[0]))


def _trains(node: ir.Node) -> bool:
    """A Dropout that drops."""
    mode = node.inputs[2] if node.op_type == "Dropout" and len(node.inputs) > 2 else None
    return mode is not None and (mode.const_value is None or bool(mode.const_value.numpy()))


def _differ(said: list[int | None], inferred: list[int | None]) -> bool:
    return len(said) != len(inferred) or any(None not in (a, b) and a != b for a, b in zip(said, inferred, strict=True))


def _sizes(proto: onnx.ModelProto, model: Model) -> Iterator[Finding]:
    """The batch, and other sizes of the inputs that the file leaves open."""
    if model.batch_relaxed:
        yield Finding("note", "file", "the batch is fixed in the file and was freed: samples go through together")
    for spec in (s for s in model.inputs if s.layout is not None and len(s.layout) == 4):
        if isinstance(spec.shape[0], int) and spec.shape[0] > 1:
            what = f"the input '{spec.name}' holds exactly {spec.shape[0]} samples, which could not be freed"
            yield Finding("note", "file", what, "fewer samples are filled up with copies", spec.name)
        open_sizes = [d for d in spec.shape[1:] if not isinstance(d, int)]
        if open_sizes:
            what = f"the input '{spec.name}' ({spec.sizes()}) leaves its size open"
            yield Finding("note", "file", what, "say which with --size", spec.name)
