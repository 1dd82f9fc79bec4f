"""What code that looks for something in a model's outputs may ask of whoever runs the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .geometry import Geometry
    from .labels import Labels
    from .model import Model
    from .structure import Spec


class Photographed(Protocol):
    """A photo, and where the model's input lies on it."""

    @property
    def geometry(self) -> Geometry:
        """The way between the two."""


class Samples(Protocol):
    """Samples, and what runs the model on them."""

    @property
    def model(self) -> Model:
        """The model."""

    @property
    def n(self) -> int:
        """How many samples there are."""

    @property
    def input(self) -> Spec:
        """The input that takes the photo."""

    def copies(self, i: int, count: int) -> dict[str, NDArray[Any]]:
        """The feeds of one sample, repeated."""

    @property
    def notes(self) -> list[str]:
        """What was assumed."""

    @property
    def labels(self) -> Labels:
        """Names of the classes."""

    @property
    def photos(self) -> Sequence[Photographed | None]:
        """The photo of each sample."""

    def forward(self, tensors: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Run the samples as they are."""
