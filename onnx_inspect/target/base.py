"""`Target`: what every target can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import onnx_ir as ir

from ..emit import Op
from ..model import Model

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from ..geometry import Geometry
    from ..labels import Labels


class Asks(Protocol):
    """What a target may ask of the job that it is settled for."""

    @property
    def model(self) -> Model:
        """The model."""

    @property
    def n(self) -> int:
        """How many samples there are."""

    @property
    def notes(self) -> list[str]:
        """What was assumed; a target adds what it assumes."""

    @property
    def labels(self) -> Labels:
        """Names of the classes."""

    @property
    def photos(self) -> Sequence[Photographed | None]:
        """The photo of each sample, None for one that is no picture."""

    def forward(self, tensors: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Run the samples as they are: tensors by name."""

    def ready(self, paths: Sequence[Path]) -> Mapping[str, NDArray[Any]]:
        """Other photos as values of the model's inputs, prepared as the samples were."""


class Photographed(Protocol):
    """A photo, and where the model's input lies on it."""

    @property
    def geometry(self) -> Geometry:
        """The way between the two."""


class Target(ABC):
    """What is explained. `str(target)` is its text in the language above."""

    @abstractmethod
    def emit(self, op: Op, model: Model) -> ir.Value:
        """Write the score into the graph: shape (N,)."""

    def reads(self, model: Model) -> list[str]:
        """The tensors that the score is read from, by exact name; none for the class scores."""
        return []

    def settle(self, runs: Asks) -> Target:
        """The target for these samples: what depends on them, as a predicted mask does, is found once, on them untouched.

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


def summed(op: Op, value: ir.Value) -> ir.Value:
    """The sum per sample, shape (N,)."""
    result: ir.Value = op.ReduceSum(op.Flatten(value, axis=1), [1], keepdims=0)
    result.shape = ir.Shape([None])
    return result
