"""Climbing from a photo, a small one first: what was found there is enlarged and added to the next larger one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from .. import image
from .canvas import Pixels
from .climb import Normalised, Slope, bounded, climb
from .transform import Rolled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..methods.runs import Progress

    Array = NDArray[np.float64]

SMALLEST = 32
"""Pixels of a side, below which there is nothing to see."""


@dataclass
class Dreamt:
    """What became of a photo.

    Attributes:
        pixels: the picture, (h, w, 3) float64, not rounded.
        history: the score at each step, a list per size.
        frames: pictures of a film, as large as the photo.
        ended: a note where time ended a climb, "" where all steps were taken.
    """

    pixels: Array
    history: list[list[float]] = field(default_factory=list)
    frames: list[NDArray[np.uint8]] = field(default_factory=list)
    ended: str = ""


def sizes(size: tuple[int, int], count: int, scale: float) -> list[tuple[int, int]]:
    """(height, width) of the photos, from the smallest to the photo itself; none is smaller than `SMALLEST`."""
    shares = [scale**-k for k in range(count) if k == 0 or min(size) * scale**-k >= SMALLEST]
    return [(round(size[0] * share), round(size[1] * share)) for share in reversed(shares)]


def climb_octaves(
    slope: Slope,
    photo: NDArray[np.uint8],
    steps: int,
    *,
    count: int = 4,
    scale: float = 1.4,
    seen: tuple[int, int] | None = None,
    grey: bool = False,
    rate: float = 1.5,
    jitter: float = 0.15,
    seed: int = 0,
    seconds: float = 0.0,
    every: int = 0,
    name: str = "dream",
    progress: Progress | None = None,
) -> Dreamt:
    """Climb at one size after the other.

    Args:
        slope: score and gradient, as `Easel.slope` gives them.
        photo: where to begin.
        steps: at each size.
        count: how many sizes.
        scale: from one size to the next.
        seen: (height, width) that the model takes, None if it takes any.
        grey: the photo, which is grey, stays so.
        rate: pixel steps that a number moves by on average.
        jitter: the most that the photo is shifted by, as a share of its sides.
        seed: of the shifts.
        seconds: how long at the most, 0 for as long as it takes.
        every: keep a frame every so many steps, 0 for none.
        name: what the progress bar says.
        progress: starts a progress bar.
    """
    size = photo.shape[:2]
    grown = sizes(size, count, scale)
    detail = np.zeros((*grown[0], 3))
    result = Dreamt(photo.astype(np.float64))
    for k, here in enumerate(grown):
        base = image.resize(photo.astype(np.float32), here).astype(np.float64)
        detail = image.resize(detail, here).astype(np.float64)
        found = climb(
            slope,
            Pixels((base + detail).clip(0, 255), grey=grey),
            Normalised(rate),
            steps,
            view=Rolled(here, seen or here, jitter),
            after=bounded,
            seed=seed + k,
            seconds=seconds / len(grown),
            every=every,
            name=f"{name} {here[1]}x{here[0]}",
            progress=progress,
        )
        detail = found.pixels - base
        result.pixels = found.pixels
        result.history.append(found.history)
        result.frames += [image.resize(f, size).astype(np.uint8) for f in found.frames]
        result.ended = result.ended or found.ended
    return result
