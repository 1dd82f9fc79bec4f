"""Scores to climb that are no classes: a direction in a layer's features, and how much a layer says at all."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from ..emit import Op
from ..errors import LayerError, TargetError
from ..model import Model
from ..target import Target

if TYPE_CHECKING:
    from numpy.typing import NDArray

INPUT = "ascent.direction"  # the graph input that carries it: one compiled model serves every channel


@dataclass(frozen=True, eq=False)
class Direction(Target):
    """The mean over all positions of v . phi, or, with `cosine`, of (v . phi) cos(v, phi), as lucid has it.

    A channel is the direction that is 1 there and 0 elsewhere.

    Args:
        tensor: the layer's tensor, phi.
        vector: v, a number per channel.
        cosine: prefer features that lie in the direction to large ones that also do.
    """

    tensor: str
    vector: NDArray[Any]
    cosine: bool = False

    def __str__(self) -> str:
        return f"direction of {self.tensor}"

    def key(self) -> Hashable:
        """All directions in a layer share one compiled model."""
        return ("direction", self.tensor, self.cosine)

    def emit(self, op: Op, model: Model) -> ir.Value:
        """The score."""
        value = _floats(op, model.value(self.tensor))
        axis, count = channel_axis(model, self.tensor), len(self.vector)
        if (there := op.dim(value, axis)) is not None and there != count:
            raise TargetError(f"'{self.tensor}' has {there} channels, the direction {count} numbers.")
        if INPUT in op.names:
            raise TargetError(f"The model has a tensor '{INPUT}' already: its directions cannot be climbed.")
        rows = ir.Value(
            name=INPUT,
            shape=ir.Shape([value.shape[0] if value.shape is not None else None, count]),
            type=ir.TensorType(ir.DataType.FLOAT),
        )
        op.graph.inputs.append(rows)
        vector = op.Reshape(rows, [-1 if i == 0 else count if i == axis else 1 for i in range(op.rank(value))])
        product = op.ReduceSum(value * vector, [axis], keepdims=1)
        if self.cosine:
            lengths = [op.Sqrt(op.ReduceSum(v * v, [axis], keepdims=1) + 1e-12) for v in (value, vector)]
            product = product * op.Max(product / (lengths[0] * lengths[1]), 0.1)
        return _mean(op, product)

    def feeds(self, n: int) -> dict[str, NDArray[Any]]:
        """The direction, for n samples."""
        return {INPUT: np.repeat(np.asarray(self.vector, np.float32)[None], n, axis=0)}


@dataclass(frozen=True)
class Energy(Target):
    """The mean over all numbers of a layer of phi^2: whatever the layer sees in the picture, it shall see more of it.

    Args:
        tensor: the layer's tensor, phi.
    """

    tensor: str

    def __str__(self) -> str:
        return f"energy of {self.tensor}"

    def emit(self, op: Op, model: Model) -> ir.Value:
        """The score."""
        value = _floats(op, model.value(self.tensor))
        return _mean(op, value * value)


def channel_axis(model: Model, tensor: str) -> int:
    """The axis of a layer's channels: what its layout says, the last of what is no map.

    Raises:
        LayerError: the tensor has no such axis.
    """
    value = model.value(tensor)
    letters = model.layouts.get(value)
    if letters is not None and "C" in letters:
        return letters.index("C")
    if value.shape is None or len(value.shape) < 2:
        raise LayerError(f"'{tensor}' has no axis of channels, or none that is known: name another layer (--layer).")
    return len(value.shape) - 1


def channels(model: Model, tensor: str) -> int:
    """How many channels a layer has.

    Raises:
        LayerError: nobody knows.
    """
    shape = model.value(tensor).shape
    size = shape[channel_axis(model, tensor)] if shape is not None else None
    if not isinstance(size, int):
        raise LayerError(f"The file does not tell how many channels '{tensor}' has: name another layer (--layer).")
    return size


def _floats(op: Op, value: ir.Value) -> ir.Value:
    """As float32, which directions are: the squares of small numbers underflow in half precision."""
    wide = op.Cast(value, to=ir.DataType.FLOAT) if value.dtype != ir.DataType.FLOAT else value
    wide.shape = value.shape
    return wide


def _mean(op: Op, value: ir.Value) -> ir.Value:
    """The mean per sample, shape (N,)."""
    result: ir.Value = op.ReduceMean(op.Flatten(value, axis=1), [1], keepdims=0)
    result.shape = ir.Shape([None])
    return result
