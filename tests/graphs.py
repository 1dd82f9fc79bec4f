"""Small graphs for tests, written in onnx's textual form, and onnxruntime as the judge of what they compute."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import helper, parser

Array = NDArray[np.generic]
ort.set_default_logger_severity(4)


def f(*shape: int, low: float = -2.0, high: float = 2.0) -> Array:
    """Reproducible floats, all different, of both signs and not in order."""
    size = int(np.prod(shape))
    order = np.random.default_rng(size).permutation(size)
    return (low + (high - low) * (order + 0.5) / size).reshape(shape).astype(np.float32)


def i(*values: int) -> Array:
    return np.array(values, np.int64)


def s(value: float, dtype: type = np.float32) -> Array:
    return np.array(value, dtype)


@dataclass
class Row:
    """A graph in onnx's textual form; arrays in lower case are inputs, in upper case weights; outputs begin with y."""

    version: int
    body: str
    arrays: dict[str, Array] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.version}: {self.body}"

    def proto(self) -> onnx.ModelProto:
        graph = parser.parse_graph(f"g (float[1] x) => (float[1] y) {{ {self.body} }}")
        del graph.input[:], graph.output[:]
        for name, array in self.arrays.items():
            kind = helper.np_dtype_to_tensor_dtype(array.dtype)
            if name[0].isupper():
                graph.initializer.append(onnx.numpy_helper.from_array(array, name))
            else:
                graph.input.append(helper.make_tensor_value_info(name, kind, array.shape))
        outputs = [n for node in graph.node for n in node.output if n.startswith("y")]
        graph.output.extend(onnx.ValueInfoProto(name=n) for n in outputs)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.version)])
        model.ir_version = 3 if self.version < 9 else 8
        if model.ir_version == 3:
            graph.input.extend(helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in graph.initializer)
            model.graph.CopyFrom(graph)
        return model

    def feeds(self) -> dict[str, Array]:
        return {n: a for n, a in self.arrays.items() if n[0].islower()}


def run(model: bytes | str, feeds: dict[str, Array]) -> list[Array]:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return list(session.run(None, feeds))


def r(version: int, body: str, **arrays: Array) -> Row:
    return Row(version, body, arrays)
