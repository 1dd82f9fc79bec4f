"""The ways of the papers to a picture: what it is made of, how it is held, and what keeps it from being noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .canvas import Canvas, Fourier, Pixels
from .climb import Adam, After, Normalised, Slope, Stride, View, bounded
from .easel import GREY
from .transform import Shaken

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]


@dataclass(frozen=True)
class Way:
    """What `climb` is given besides the score."""

    canvas: Canvas
    stride: Stride
    penalties: Sequence[Slope] = ()
    view: View | None = None
    after: After | None = None


def fourier(
    size: tuple[int, int], seed: int, grey: bool, rate: float, jitter: float, rotate: float, zoom: float
) -> Way:
    """lucid's: waves in decorrelated colours, Adam, and another view of the picture at each step."""
    canvas = Fourier(size, seed, grey=grey)
    return Way(canvas, Adam(rate), view=Shaken(size, jitter=jitter, rotate=rotate, scale=zoom))


def simonyan(size: tuple[int, int], seed: int, grey: bool, rate: float, l2: float) -> Way:
    """Simonyan's: pixels, and a penalty on the sum of their squares."""
    return Way(_noise(size, seed, grey), Normalised(rate), penalties=[_L2(l2)], after=bounded)


def yosinski(
    size: tuple[int, int],
    seed: int,
    grey: bool,
    rate: float,
    decay: float,
    blur: float,
    blur_every: int,
    small_norm: float,
    small_contribution: float,
) -> Way:
    """Yosinski's: pixels that decay, are blurred, and are put out where they are small or contribute little."""

    def after(step: int, parameters: Array, gradient: Array) -> Array:
        x = (parameters - GREY) * (1 - decay)
        if blur and (step + 1) % blur_every == 0:
            from scipy.ndimage import gaussian_filter

            x = gaussian_filter(x, (blur, blur, 0), mode="nearest")
        norm, contribution = np.linalg.norm(x, axis=-1), np.abs((x * gradient).sum(axis=-1))
        x[
            (norm < np.percentile(norm, small_norm)) | (contribution < np.percentile(contribution, small_contribution))
        ] = 0
        return bounded(step, x + GREY, gradient)

    return Way(_noise(size, seed, grey), Normalised(rate), after=after)


def _noise(size: tuple[int, int], seed: int, grey: bool) -> Pixels:
    """Mid grey with a little noise."""
    return Pixels(GREY + np.random.default_rng(seed).normal(0, 4, (*size, 1 if grey else 3)), grey=grey)


class _L2:
    """weight times the sum of the squares of pixels, as shares of full colour around grey."""

    def __init__(self, weight: float) -> None:
        self.weight = weight

    def __call__(self, pixels: Array) -> tuple[float, Array]:
        x = (pixels - GREY) / GREY
        return float(self.weight * (x**2).sum()), 2 * self.weight * x / GREY
