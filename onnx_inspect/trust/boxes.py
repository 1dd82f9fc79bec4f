"""Whether a map points at the thing, where boxes around it are known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..attribution import Attribution
from ..errors import ResultError
from ..geometry import Box

Boxes = Sequence[Sequence[Box]]


def pointing_game(result: Attribution, boxes: Boxes, *, tolerance: float = 15) -> NDArray[np.bool_]:
    """Pointing game: whether the maximum of the map lies in a box, or close to one.

    A flat maximum points at its middle; a map that is nowhere above zero points at nothing, a miss.

    Zhang et al., Top-down Neural Attention by Excitation Backprop, ECCV 2016 (15 pixels at 224).

    Args:
        result: the explanation of photos.
        boxes: (x0, y0, x1, y1) in pixels of each photo, several per photo.
        tolerance: in pixels of an input whose shorter side is 224.

    Returns:
        (N,), True for a hit.

    Raises:
        ResultError: no photos, or boxes for more or fewer of them.
    """
    hits = []
    for i, known in enumerate(_of(result, boxes)):
        heat = result.map(i)
        if (point := peak(heat)) is None:
            hits.append(False)
            continue
        x, y = point
        gaps = [np.hypot(max(x0 - x, x - x1, 0), max(y0 - y, y - y1, 0)) for x0, y0, x1, y1 in known]
        hits.append(min(gaps, default=np.inf) <= tolerance * min(heat.shape) / 224)
    return np.array(hits, bool)


def peak(heat: NDArray[Any]) -> tuple[float, float] | None:
    """Where a map (H, W) points, x and y: at its maximum, or the middle of a flat one; None if nowhere above 0."""
    if heat.max() <= 0:
        return None
    y, x = (float(axis.mean() + 0.5) for axis in np.nonzero(heat == heat.max()))
    return x, y


def energy_in_box(result: Attribution, boxes: Boxes) -> NDArray[np.float64]:
    """Energy in the box: the share of the positive map that lies in any of the boxes; 0 where there is none.

    Wang et al., Score-CAM, CVPR workshops 2020 (energy-based pointing game).

    Args:
        result: the explanation of photos.
        boxes: (x0, y0, x1, y1) in pixels of each photo, several per photo.

    Returns:
        (N,), from 0 to 1.

    Raises:
        ResultError: no photos, or boxes for more or fewer of them.
    """
    shares = []
    for i, known in enumerate(_of(result, boxes)):
        heat = np.maximum(result.map(i), 0).astype(np.float64)
        inside = np.zeros(heat.shape, bool)
        for x0, y0, x1, y1 in known:
            inside[max(round(y0), 0) : max(round(y1), 0), max(round(x0), 0) : max(round(x1), 0)] = True
        total = heat.sum()
        shares.append(heat[inside].sum() / total if total > 0 else 0.0)
    return np.array(shares, np.float64)


def _of(result: Attribution, boxes: Boxes) -> Boxes:
    if len(boxes) != len(result):
        raise ResultError(f"There are boxes for {len(boxes)} photos, the explanation is of {len(result)}.")
    return boxes
