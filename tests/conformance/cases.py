"""The cases of onnx.backend.test: model, inputs and expected outputs, read when they are needed."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper
from onnx.backend.test.loader import load_model_tests

KINDS = ("node", "simple", "pytorch-converted", "pytorch-operator")
FLOATS = {TensorProto.FLOAT: np.float32, TensorProto.FLOAT16: np.float16, TensorProto.DOUBLE: np.float64}
_ARRAYS = {*FLOATS, TensorProto.BFLOAT16, TensorProto.BOOL, TensorProto.INT32, TensorProto.INT64}
HALVES = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
Value = Any  # an array; a list of arrays, for a sequence; None, for an optional without one
SEVERAL = "(several operators)"


@dataclass(frozen=True)
class Case:
    """One case. `load` gives its model and its first data set."""

    name: str
    load: Callable[[], tuple[onnx.ModelProto, list[Value], list[Value]]] = field(repr=False)
    rtol: float
    atol: float

    @cached_property
    def data(self) -> tuple[onnx.ModelProto, list[Value], list[Value]]:
        return self.load()

    @property
    def model(self) -> onnx.ModelProto:
        return self.data[0]

    @cached_property
    def feeds(self) -> dict[str, Value]:
        weights = {t.name for t in self.model.graph.initializer}
        names = [i.name for i in self.model.graph.input]
        if len(self.data[1]) < len(names):
            names = [n for n in names if n not in weights]
        return dict(zip(names, map(_array, self.data[1]), strict=True))

    @cached_property
    def expected(self) -> dict[str, Value]:
        return dict(zip([o.name for o in self.model.graph.output], map(_array, self.data[2]), strict=True))

    @cached_property
    def wrt(self) -> list[str]:
        """Its float inputs, sequences and optionals of floats among them."""
        return [i.name for i in self.model.graph.input if is_float(i.type) and leaves(self.feeds.get(i.name))]

    @cached_property
    def outputs(self) -> list[str]:
        return [o.name for o in self.model.graph.output if is_float(o.type)]

    @cached_property
    def half(self) -> bool:
        """Whether a half-precision float occurs anywhere on its edge."""
        return any(element(v.type) in HALVES for v in (*self.model.graph.input, *self.model.graph.output))

    @cached_property
    def whole(self) -> Case:
        """The case of the function, of a case that writes it out; any other case itself."""
        return named().get(re.sub(r"_expanded(_ver\d+)?$", "", self.name), self)

    @cached_property
    def expansions(self) -> list[Case]:
        """The cases that write the function of this one out."""
        return [c for n in ("", "_ver18", "_ver26") if (c := named().get(f"{self.name}_expanded{n}"))]

    @cached_property
    def operator(self) -> str:
        """What it is a case of: the operator, also of a function that is written out."""
        graph = self.whole.model.graph
        if len({(n.domain, n.op_type) for n in graph.node if n.op_type != "Constant"}) != 1:
            return SEVERAL
        node = next(n for n in graph.node if n.op_type != "Constant")
        return f"{node.domain}::{node.op_type}" if node.domain else node.op_type


@cache
def named() -> dict[str, Case]:
    """Every case by its name, in the order of the names."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = [case for kind in KINDS for case in load_model_tests(kind=kind)]
    cases = [Case(c.name, _in_memory(c) if c.model is not None else _on_disk(c), c.rtol, c.atol) for c in found]
    return {c.name: c for c in sorted(cases, key=lambda c: c.name)}


def _in_memory(case: Any) -> Callable[[], tuple[onnx.ModelProto, list[Value], list[Value]]]:
    inputs, outputs = case.data_sets[0]
    return lambda: (case.model, list(inputs), list(outputs))


def _on_disk(case: Any) -> Callable[[], tuple[onnx.ModelProto, list[Value], list[Value]]]:
    folder = Path(case.model_dir)

    def load() -> tuple[onnx.ModelProto, list[Value], list[Value]]:
        model, data = onnx.load(folder / "model.onnx"), folder / "test_data_set_0"
        weights = {t.name for t in model.graph.initializer}
        files = len(list(data.glob("input_*.pb")))
        inputs = [i for i in model.graph.input if files == len(model.graph.input) or i.name not in weights]
        return (
            model,
            [_read(data / f"input_{i}.pb", x.type) for i, x in enumerate(inputs)],
            [_read(data / f"output_{i}.pb", y.type) for i, y in enumerate(model.graph.output)],
        )

    return load


def _read(path: Path, kind: onnx.TypeProto) -> Value:
    data = path.read_bytes()
    match kind.WhichOneof("value"):
        case "sequence_type":
            return numpy_helper.to_list(onnx.SequenceProto.FromString(data))
        case "optional_type":
            return numpy_helper.to_optional(onnx.OptionalProto.FromString(data))
        case _:
            return numpy_helper.to_array(TensorProto.FromString(data))


def _array(value: Value) -> Value:
    """What is given as a message is an array, if NumPy can compute with it."""
    return numpy_helper.to_array(value) if isinstance(value, TensorProto) and value.data_type in _ARRAYS else value


def element(kind: onnx.TypeProto) -> int:
    """The type of the numbers in a tensor, a sequence or an optional of such; 0 for anything else."""
    match kind.WhichOneof("value"):
        case "tensor_type":
            return int(kind.tensor_type.elem_type)
        case "sequence_type":
            return element(kind.sequence_type.elem_type)
        case "optional_type":
            return element(kind.optional_type.elem_type)
        case _:
            return 0


def is_float(kind: onnx.TypeProto) -> bool:
    return element(kind) in (*FLOATS, TensorProto.BFLOAT16)


def leaves(value: Value) -> list[Any]:
    """The arrays of a value."""
    if value is None:
        return []
    return [x for v in value for x in leaves(v)] if isinstance(value, list) else [value]


def mapped(function: Callable[..., Any], value: Value, *others: Value) -> Value:
    """The value with a function applied to each of its arrays, together with those of others built alike."""
    if isinstance(value, list):
        return [mapped(function, *parts) for parts in zip(value, *others, strict=True)]
    if value is None:
        return None
    found = function(value, *others)
    return np.asarray(found) if isinstance(found, np.generic) else found


def cases() -> Iterator[Case]:
    """The cases with a float input and a float output."""
    return (c for c in named().values() if c.wrt and c.outputs)
