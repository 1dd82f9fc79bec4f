"""`Target`: what every target can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import onnx_ir as ir

from ..asks import Samples
from ..emit import Op
from ..errors import TargetError
from ..model import Model

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from ..scores import Scores


class Asks(Samples, Protocol):
    """What a target may ask of the job that it is settled for: its samples, and more.

    `photos` is empty where pictures are yet to be made.
    """

    @property
    def feeds(self) -> Mapping[str, NDArray[Any]]:
        """The samples: a value per input."""

    def forward(
        self, tensors: Sequence[str], target: Target | None = None, feeds: Mapping[str, NDArray[Any]] | None = None
    ) -> dict[str, NDArray[Any]]:
        """Run the samples as they are, or feeds: tensors by name."""

    def ready(self, paths: Sequence[Path]) -> Mapping[str, NDArray[Any]]:
        """Other photos as values of the model's inputs, prepared as the samples were."""


class Target(ABC):
    """What is explained. `str(target)` is its text in the language above."""

    @property
    def local(self) -> bool:
        """True if the score is that of one place in the picture, whatever else there is of the same kind."""
        return False

    @abstractmethod
    def emit(self, op: Op, model: Model) -> ir.Value:
        """Write the score into the graph: shape (N,)."""

    def reads(self, model: Model) -> list[str]:
        """The tensors that the score is read from, by exact name; none for the class scores."""
        return []

    def settle(self, runs: Asks) -> Target:
        """The target for these samples: what depends on them, as a predicted mask does, is found once.

        Args:
            runs: what can run the model on them.

        Raises:
            TargetError: it means nothing for one of them.
        """
        return self

    def sample(self, i: int) -> Target:
        """The target for one of the samples that it was settled for."""
        return self

    def key(self) -> Hashable:
        """Targets with equal keys share one compiled model."""
        return self

    def feeds(self, n: int) -> dict[str, NDArray[Any]]:
        """Values for inputs that the target added, for n samples."""
        return {}

    def check(self, count: int | None) -> None:  # noqa: B027  (most targets can always be meant)
        """Refuse what cannot be meant in a model with this many classes, None if only known at run time.

        Raises:
            TargetError: there is no such class.
        """

    def chosen(self, rows: NDArray[Any]) -> list[int | None]:
        """The class that is explained per sample, given the rows of scores (N, classes)."""
        return [None] * len(rows)

    def as_numbers(self, found: Scores) -> bool:
        """True if it takes what looks like class scores for numbers of another kind: there are no classes, then."""
        return False


def per_sample(op: Op, name: str, dtype: ir.DataType, like: ir.Value, rank: int = 1) -> ir.Value:
    """Add an input with an entry per sample: `like` is a tensor of the model that has one, too.

    Raises:
        TargetError: the model has a tensor of that name.
    """
    if name in op.names:
        raise TargetError(f"The model has a tensor '{name}' already: it explains a class as it is.")
    batch = like.shape[0] if like.shape is not None and len(like.shape) else None
    value = ir.Value(name=name, shape=ir.Shape([batch, *[None] * (rank - 1)]), type=ir.TensorType(dtype))
    op.graph.inputs.append(value)
    return value


def rows_for(values: NDArray[Any], n: int, target: Target) -> NDArray[Any]:
    """What was settled per sample, for n samples: that of a lone one is repeated.

    Raises:
        TargetError: it was settled for more than one sample, and not for n.
    """
    if len(values) not in (1, n):
        raise TargetError(f"{target} was found for {len(values)} samples, not for {n}: take `sample(i)` of it.")
    return values if len(values) == n else np.repeat(values, n, axis=0)


def called(runs: Asks, i: int) -> str:
    """What a sample is called in a sentence."""
    path = getattr(runs.photos[i], "path", None) if i < len(runs.photos) else None
    return f"'{path.name}'" if path is not None else f"sample {i}"


def floats(op: Op, value: ir.Value) -> ir.Value:
    """Half precision as float32: sums over a map leave its range."""
    return op.Cast(value, to=ir.DataType.FLOAT) if value.dtype == ir.DataType.FLOAT16 else value


def summed(op: Op, value: ir.Value) -> ir.Value:
    """The sum per sample, shape (N,)."""
    result: ir.Value = op.ReduceSum(op.Flatten(value, axis=1), [1], keepdims=0)
    result.shape = ir.Shape([None])
    return result
