"""`Spec`: a few ONNX nodes, and the torch expression that computes the same.

    spec("stride", "y = Conv<strides = [2, 2]>(a, b)", "F.conv2d(a, b, stride=2)", a=normal(1, 2, 5, 6), b=...)

Needs neither torch nor onnx_inspect: scripts/golden.py reads the rows where torch is, the tests where onnx_inspect is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike
from onnx import helper, numpy_helper, parser

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Spec:
    """One row.

    name: of the row within its family. nodes: in ONNX's text format; they read the inputs by name. torch: a Python
    expression of the same names; a tuple where there are several outputs. outputs: of the nodes, in the order of that
    tuple. inputs: float ones are differentiated unless listed in `fixed`; all others are initializers of the model.
    """

    name: str
    nodes: str
    torch: str
    outputs: tuple[str, ...]
    inputs: Mapping[str, Array]
    fixed: frozenset[str]
    opset: int

    def __str__(self) -> str:
        return self.name

    @property
    def wrt(self) -> list[str]:
        """The inputs to differentiate with respect to."""
        return [k for k, x in self.inputs.items() if x.dtype == np.float32 and k not in self.fixed]

    @property
    def text(self) -> str:
        """What golden values were made from."""
        return f"{self.nodes} | {self.torch}"

    def model(
        self, inputs: Mapping[str, Array], outputs: Mapping[str, Array], *, symbolic: bool = False
    ) -> onnx.ModelProto:
        """The ONNX model for inputs and outputs of these shapes, or with a symbol for each of their sizes."""

        def declared(name: str, x: Array) -> onnx.ValueInfoProto:
            dims: list[Any] = [f"{name}{i}" for i in range(x.ndim)] if symbolic else list(x.shape)
            return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, dims)

        graph = parser.parse_graph(f"spec () => () {{ {self.nodes} }}")
        graph.input.extend(declared(k, inputs[k]) for k in self.wrt)
        graph.output.extend(declared(k, outputs[k]) for k in self.outputs)
        graph.initializer.extend(numpy_helper.from_array(x, k) for k, x in inputs.items() if k not in self.wrt)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=10)


def spec(
    name: str, nodes: str, torch: str, *, outputs: str = "y", fixed: str = "", opset: int = 21, **inputs: ArrayLike
) -> Spec:
    """A row; floats are rounded to float32, so that float64 in torch and float32 here see the same numbers."""
    arrays = {k: np.asarray(x) for k, x in inputs.items()}
    arrays = {k: x.astype(np.float32) if x.dtype == np.float64 else x for k, x in arrays.items()}
    return Spec(name, nodes, torch, tuple(outputs.split()), arrays, frozenset(fixed.split()), opset)


def normal(*shape: int, seed: int = 0) -> Array:
    """Standard normal numbers; another seed gives others."""
    return np.random.default_rng([seed, *shape]).normal(size=shape)


def positive(*shape: int, seed: int = 0) -> Array:
    """Numbers from 0.5 to 2."""
    return np.random.default_rng([seed, *shape]).uniform(0.5, 2, size=shape)


def few(*shape: int, seed: int = 0) -> Array:
    """Whole numbers from -2 to 2: many ties, many zeros."""
    return np.random.default_rng([seed, *shape]).integers(-2, 3, size=shape).astype(np.float64)


def whole(high: int, *shape: int, seed: int = 0) -> Array:
    """Indices from 0 to `high` - 1."""
    return np.random.default_rng([seed, *shape]).integers(0, high, size=shape)
