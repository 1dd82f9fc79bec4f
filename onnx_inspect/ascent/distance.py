"""What a picture shall come near to, and keep away from: features to reach, and what no photo looks like."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from ..emit import Op
from ..errors import TargetError
from ..model import Model
from ..target import Target
from .climb import Slope, Stride
from .easel import GREY

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

INPUT = "ascent.features"  # the graph input that carries them: one compiled model serves every photo
BOUND = 80.0  # how far a photo's pixels usually are from grey, of 0 to 255
VARIATION = BOUND / 6.5  # and from their neighbours


@dataclass(frozen=True, eq=False)
class Likeness(Target):
    """-|phi - phi0|^2 / |phi0|^2: 0 where the features are reached, about -1 where there are none.

    Mahendran & Vedaldi, Understanding Deep Image Representations by Inverting Them, CVPR 2015.

    Args:
        tensor: the layer's tensor, phi.
        features: phi0, with the axis N.
    """

    tensor: str
    features: NDArray[Any]

    def __str__(self) -> str:
        return f"features of {self.tensor}"

    def key(self) -> Hashable:
        """All features of a layer share one compiled model."""
        return ("likeness", self.tensor)

    def emit(self, op: Op, model: Model) -> ir.Value:
        """The score, in float32: squares of half precision overflow."""
        value = model.value(self.tensor)
        if INPUT in op.names:
            raise TargetError(f"The model has a tensor '{INPUT}' already: its features cannot be inverted.")
        goal = ir.Value(name=INPUT, shape=value.shape, type=ir.TensorType(ir.DataType.FLOAT))
        op.graph.inputs.append(goal)
        if value.dtype != ir.DataType.FLOAT:
            value = op.Cast(value, to=ir.DataType.FLOAT)
        away, size = (_squares(op, v) for v in (value - goal, goal))
        result: ir.Value = -away / op.Max(size, 1e-12)
        result.shape = ir.Shape([None])
        return result

    def feeds(self, n: int) -> dict[str, NDArray[Any]]:
        """The features to reach."""
        return {INPUT: self.features.astype(np.float32)}


def _squares(op: Op, value: ir.Value) -> ir.Value:
    """The sum of squares per sample."""
    return op.ReduceSum(op.Flatten(value * value, axis=1), [1], keepdims=0)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class AlphaNorm:
    """weight mean_p (|x_p - grey| / B)^alpha, |.| the RMS over colours, B = 80: no pixel too far from grey.

    Mahendran & Vedaldi, as above; scaled as in Visualizing Deep Convolutional Neural Networks Using Natural Pre-Images,
    IJCV 2016.
    """

    weight: float
    alpha: float = 6.0

    def __call__(self, pixels: Array) -> tuple[float, Array]:
        """The penalty of a picture, (h, w, 3), and its gradient."""
        x = (pixels - GREY) / BOUND
        square = (x**2).mean(axis=2, keepdims=True)
        share = self.weight / square.size
        slope = share * self.alpha * _power(square, self.alpha / 2 - 1) * x / (pixels.shape[2] * BOUND)
        return float(share * (square ** (self.alpha / 2)).sum()), slope


@dataclass(frozen=True)
class TotalVariation:
    """weight mean_pc ((|x_p+right - x_p|^2 + |x_p+down - x_p|^2) / V^2)^(beta / 2), V = 80 / 6.5: no noise.

    The differences are 0 at the right and the lower border. Mahendran & Vedaldi, as above.
    """

    weight: float
    beta: float = 2.0

    def __call__(self, pixels: Array) -> tuple[float, Array]:
        """The penalty of a picture, (h, w, c), and its gradient."""
        right, down = (np.diff(pixels, axis=axis, append=pixels.take([-1], axis)) / VARIATION for axis in (1, 0))
        square = right**2 + down**2
        share = self.weight / square.size
        outer = share * self.beta * _power(square, self.beta / 2 - 1) / VARIATION
        slope = np.zeros_like(pixels)
        for axis, difference in ((1, right), (0, down)):
            flow = outer * difference
            slope -= flow
            slope += np.roll(flow, 1, axis)  # the last difference along the axis is 0: nothing comes round
        return float(share * (square ** (self.beta / 2)).sum()), slope


def _power(base: Array, exponent: float) -> Array:
    """base^exponent, 0 where the base is: a negative exponent stands beside a factor that is 0 there."""
    return np.power(base, exponent, out=np.zeros_like(base), where=base > 0)


class Waning:
    """A penalty that counts for less from step to step, geometrically, until a share of it is left at the last.

    What is large is laid out first, and what is small comes later.
    """

    def __init__(self, penalty: Slope, share: float, steps: int) -> None:
        self.penalty, self.step, self.weight = penalty, share ** (1 / max(1, steps - 1)), 1.0

    def __call__(self, pixels: Array) -> tuple[float, Array]:
        """The penalty of a picture at this step, and its gradient."""
        lost, slope = self.penalty(pixels)
        now, self.weight = self.weight, self.weight * self.step
        return now * lost, now * slope


class Shrinking:
    """Steps that shrink to nothing, along half a cosine."""

    def __init__(self, stride: Stride, steps: int) -> None:
        self.stride, self.steps, self.done = stride, steps, 0

    def __call__(self, gradient: Array) -> Array:
        """The change of the parameters."""
        share = (1 + np.cos(np.pi * self.done / self.steps)) / 2
        self.done += 1
        return np.asarray(share * self.stride(gradient))
