"""The way up: from a canvas, along the gradient of a score, within steps and time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..errors import InputError
from .canvas import Canvas
from .easel import whole
from .transform import Affine

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..methods.runs import Progress

    Array = NDArray[np.float64]

Slope = Callable[[Any], "tuple[float, Array]"]
"""A number for a picture, (h, w, 3), and its gradient by pixels."""
View = Callable[[np.random.Generator], Affine]
"""How the picture is held before the model at a step."""
After = Callable[[int, Any, Any], Any]
"""(step, parameters, gradient by parameters) -> the parameters to go on with."""


class Stride(Protocol):
    """How far to go along a gradient; new ones for every climb, as they remember."""

    def __call__(self, gradient: Array) -> Array:
        """The change of the parameters."""


class Adam:
    """rate m / (sqrt(v) + epsilon): m and v the running means of gradient and square, freed of their start at 0.

    Kingma & Ba, Adam, ICLR 2015.
    """

    def __init__(self, rate: float, betas: tuple[float, float] = (0.9, 0.999), epsilon: float = 1e-8) -> None:
        self.rate, self.betas, self.epsilon = rate, betas, epsilon
        self.mean: Any = 0.0
        self.square: Any = 0.0
        self.count = 0

    def __call__(self, gradient: Array) -> Array:
        """The change of the parameters."""
        first, second = self.betas
        self.count += 1
        self.mean = first * self.mean + (1 - first) * gradient
        self.square = second * self.square + (1 - second) * gradient**2
        mean, square = self.mean / (1 - first**self.count), self.square / (1 - second**self.count)
        return np.asarray(self.rate * mean / (np.sqrt(square) + self.epsilon))


class Normalised:
    """rate times the gradient over its mean magnitude, as DeepDream goes: a step changes numbers by `rate` on average.

    With `plain`, rate times the gradient as it is.
    """

    def __init__(self, rate: float, *, plain: bool = False) -> None:
        self.rate, self.plain = rate, plain

    def __call__(self, gradient: Array) -> Array:
        """The change of the parameters."""
        size = 1.0 if self.plain else float(np.abs(gradient).mean())
        return np.asarray(self.rate * gradient / size) if size else gradient


def bounded(step: int, parameters: Array, gradient: Array) -> Array:
    """Pixels stay pixels: an `after` for canvases of pixels."""
    return parameters.clip(0, 255)


@dataclass
class Climb:
    """What became of a canvas.

    Attributes:
        parameters: of the canvas, at the end.
        pixels: the picture at the end, (h, w, 3) float64, not rounded.
        history: the score at each step, of the picture as it was held before the model then.
        totals: the same less the penalties: what was climbed.
        frames: the picture as whole pixels, every so many steps, the last one included.
        flat: steps at which the score had no gradient.
        ended: a note where time ended the climb, "" where all steps were taken.
    """

    parameters: Array
    pixels: Array
    history: list[float]
    totals: list[float]
    frames: list[NDArray[np.uint8]]
    flat: int = 0
    ended: str = ""


def climb(
    slope: Slope,
    canvas: Canvas,
    stride: Stride,
    steps: int,
    *,
    penalties: Sequence[Slope] = (),
    view: View | None = None,
    after: After | None = None,
    seed: int = 0,
    seconds: float = 0.0,
    every: int = 0,
    name: str = "ascent",
    progress: Progress | None = None,
) -> Climb:
    """Change a picture step by step so that score - sum of penalties grows.

    Args:
        slope: score and gradient, as `Easel.slope` gives them.
        canvas: the picture.
        stride: how far to go.
        steps: how many steps.
        penalties: numbers of the picture itself, with gradients; they are subtracted.
        view: how the picture is held before the model, drawn anew at each step; None for as it is.
        after: what is done to the parameters after each step.
        seed: of the views.
        seconds: how long at the most, 0 for as long as it takes; one step is always taken.
        every: keep a frame every so many steps, 0 for none.
        name: what the progress bar says.
        progress: starts a progress bar; if what it gives has a method `say`, that is told the score.

    Raises:
        InputError: no steps, or less than no time.
    """
    if steps < 1:
        raise InputError(f"{steps} steps lead nowhere: give at least 1 (--steps).")
    if seconds < 0 or every < 0:
        raise InputError("There is no time, and no frame, below zero (--seconds, --every).")
    source = np.random.default_rng(seed)
    advance = progress(name, steps) if progress is not None else lambda n: None
    say = getattr(advance, "say", lambda text: None)
    parameters, start = canvas.start, time.monotonic()
    result = Climb(parameters, canvas.pixels(parameters), [], [], [])
    for step in range(steps):
        held = view(source) if view is not None else None
        pixels = result.pixels
        score, ascent = slope(pixels if held is None else held.apply(pixels))
        result.flat += not ascent.any()
        ascent = ascent if held is None else held.adjoint(ascent)
        total = score
        for penalty in penalties:
            lost, descent = penalty(pixels)
            total, ascent = total - lost, ascent - descent
        gradient = canvas.adjoint(parameters, ascent)
        parameters = parameters + stride(gradient)
        parameters = after(step, parameters, gradient) if after is not None else parameters
        result.parameters, result.pixels = parameters, canvas.pixels(parameters)
        result.history.append(score)
        result.totals.append(total)
        say(f"{name} {score:.4g}")
        advance(1)
        over = bool(seconds) and time.monotonic() - start >= seconds and step + 1 < steps
        if every and ((step + 1) % every == 0 or over or step + 1 == steps):
            result.frames.append(whole(result.pixels))
        if over:
            result.ended = f"{name}: {step + 1} of {steps} steps were taken when {seconds:g} s were over (--seconds)"
            break
    return result
