"""`Easel`: a model that is asked about pictures of its own size, pixel by pixel."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from .. import image
from ..attribution import identity
from ..autodiff.table import Rules
from ..errors import InputError
from ..finding import Finding
from ..maps import channels_back, channels_first
from ..methods.inputs import ModelLike, guess_preprocessing
from ..methods.job import SCORE
from ..methods.setting import How, Setting
from ..preprocess import Preprocessing
from ..target import Element, Target, TargetLike
from .revive import reviving_rules

if TYPE_CHECKING:
    from numpy.typing import NDArray

LUMA = np.array([0.299, 0.587, 0.114])
GREY = 127.5


class Easel(Setting):
    """A model and pictures of the size that it takes, RGB, (h, w, 3), 0 to 255; assumptions are notes.

    Args:
        model: a model, or what `load` takes.
        target: what `slope` climbs; any, where that does not matter.
        size: (height, width) of the pictures, None for what preprocessing brings photos to.
        how: see `How`.

    Attributes:
        size: (height, width) of the pictures.
        grey: the model sees no colours.

    Raises:
        InputError: the input is no picture, or holds whole numbers; or there are others besides it.
    """

    preprocessing: Preprocessing

    def __init__(
        self, model: ModelLike, target: TargetLike = "top", size: tuple[int, int] | None = None, **how: Unpack[How]
    ) -> None:
        super().__init__(model, **how)
        if self.preprocessing is None:
            self.preprocessing, notes = guess_preprocessing(self.model)
            self.notes += notes
        name = self.input.name
        if others := [s.name for s in self.model.inputs if s.name != name]:
            raise InputError(
                f"The model takes {', '.join(map(repr, others))} besides the picture '{name}': a picture by itself "
                "cannot be climbed with. Name a model whose only input is a picture."
            )
        if np.dtype(self.preprocessing.dtype).kind != "f":
            raise InputError(
                f"The input '{name}' takes {self.preprocessing.dtype}: whole numbers have no gradient to climb along. "
                "Name the model with a float input that it was made from."
            )
        self.size = size or self.preprocessing.size
        self.grey = self.preprocessing.color == "GREY"
        self.feeds = {name: self.encode(np.full((*self.size, 3), GREY))}
        self.n = 1
        self.find_scores()
        self.aim(target)

    @property
    def photos(self) -> tuple[()]:
        """None: pictures are yet to be made."""
        return ()

    def aim(self, target: TargetLike) -> None:
        """Set the target; what it takes from a picture it takes from plain grey."""
        super().aim(target)
        self.target = self.target.settle(self)

    def ready(self, paths: Sequence[Path]) -> dict[str, NDArray[Any]]:
        """Photos as values of the model's input."""
        return {self.input.name: self.preprocessing.batch([image.read(p) for p in paths])}

    # Pictures and inputs.

    def encode(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """A picture as the model takes it, with the axis N: for whole pixels, bit for bit what preprocessing makes."""
        made = self.preprocessing
        values: NDArray[Any] = np.asarray(pixels, np.float32)
        values = (values @ LUMA.astype(np.float32))[..., None] if self.grey else values
        values = values[..., ::-1] if made.color == "BGR" else values
        values = (values * np.float32(made.scale) - np.array(made.mean, np.float32)) / np.array(made.std, np.float32)
        return np.ascontiguousarray(channels_back(np.moveaxis(values, -1, 0)[None], made.layout).astype(made.dtype))

    def adjoint(self, slope: NDArray[Any]) -> NDArray[np.float64]:
        """A gradient by the model's input as one by pixels, (h, w, 3)."""
        made = self.preprocessing
        first = np.moveaxis(channels_first(slope, made.layout)[0], 0, -1)
        values = first.astype(np.float64) * made.scale / np.array(made.std, np.float64)
        values = values[..., ::-1] if made.color == "BGR" else values
        return np.asarray(values * LUMA if self.grey else values)

    # What the model says.

    def slope(self, pixels: NDArray[Any], target: Target | None = None) -> tuple[float, NDArray[np.float64]]:
        """The score of a picture, and its gradient by pixels: one run of one compiled model.

        Where the gradient is zero everywhere, another run asks what would open the rectifier of the layer that is
        aimed at, and, if that has none either, one what would open any (`reviving_rules`).
        """
        score, slope = self._slope(pixels, target)
        aimed = target or self.target
        layer = aimed.output if isinstance(aimed, Element) else getattr(aimed, "tensor", "")
        for tensor in dict.fromkeys([layer, ""]):
            if not slope.any():
                score, slope = self._slope(pixels, target, reviving_rules(tensor))
        return score, slope

    def _slope(
        self, pixels: NDArray[Any], target: Target | None, rules: Rules | None = None
    ) -> tuple[float, NDArray[np.float64]]:
        name = self.input.name
        found = self.gradients([name], rules, feeds={name: self.encode(pixels)}, target=target)
        return float(found[SCORE][0]), self.adjoint(found[f"gradient.{name}"])

    def look(
        self, pixels: NDArray[Any], tensors: tuple[str, ...] = (), target: Target | None = None
    ) -> dict[str, NDArray[Any]]:
        """What the model computes for a picture: tensors, the class scores, and (as `SCORE`) the target's score."""
        aimed = target or self.target
        return self.forward(list(tensors), aimed, {self.input.name: self.encode(pixels)} | aimed.feeds(1))

    # The result.

    def finding(self, study: str, values: dict[str, Any], **more: Any) -> Finding:
        """The result, with what was assumed; `more` are further fields of `Finding`."""
        self.notes += self.engine.notes
        self.engine.notes.clear()
        given: dict[str, Any] = dict(
            models=[identity(self.model)],
            provider=self.engine.provider,
            preprocessing=self.preprocessing,
            notes=list(dict.fromkeys(self.notes)),
        )
        return Finding(study, values, **given | more)


def whole(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """The picture that is saved: whole pixels."""
    return np.asarray(np.rint(np.asarray(pixels).clip(0, 255)), np.uint8)
