from __future__ import annotations

import numpy as np

from .harness import Array, Case, distinct, normal, positive
from .index import ints

# Inside; over two borders; small; behind the map; upside down; more than one sample per bin.
ROIS = np.array(
    [
        [0.3, 1.2, 5.7, 6.1],
        [-2.5, -1.3, 3.1, 9.4],
        [2.1, 2.2, 2.55, 2.3],
        [16.3, 15.2, 29.7, 30.1],
        [4.2, 3.3, 1.1, 6.4],
        [0.1, 0.3, 9.3, 8.8],
    ]
)
OWNERS = ints([0, 1, 1, 0, 1, 1])


def rounded(x: Array) -> Array:
    """Halves go away from 0, as in C."""
    return np.sign(x) * np.floor(np.abs(x) + 0.5)


class MaxRoiPool:
    """Bin by bin, as Fast R-CNN has it, which the standard refers to."""

    def __init__(self, bins: tuple[int, int], scale: float) -> None:
        self.bins, self.scale = bins, scale

    def __call__(self, x: Array, rois: Array) -> Array:
        y = np.zeros((len(rois), x.shape[1], *self.bins))
        for roi, out in zip(rois, y, strict=True):
            left, top, right, bottom = rounded(roi[1:] * self.scale)
            for p in np.ndindex(*self.bins):
                cut = []
                for i, (start, end) in enumerate(((top, bottom), (left, right))):
                    step = max(end - start + 1, 1) / self.bins[i]
                    edges = np.floor(p[i] * step) + start, np.ceil((p[i] + 1) * step) + start
                    cut.append(slice(*np.clip(edges, 0, x.shape[2 + i]).astype(int)))
                part = x[int(roi[0])][:, cut[0], cut[1]]
                if part.size:
                    out[:, p[0], p[1]] = part.max((1, 2))
        return y


# The number of a map is what is left of the point.
POOLED = np.array(
    [[1.5, 0.6, 1.2, 5.7, 6.1], [1.5, -2.6, -1.3, 3.1, 9.4], [0.5, 2.6, 2.6, 2.6, 2.2], [0.5, 14, 3.3, 17, 6.0]]
)

CASES = [
    *(
        Case(
            "RoiAlign",
            [normal(2, 3, 7, 8), ROIS[[0, 1, 2, 3, 5] if ratio == 0 else slice(None)], OWNERS[: 5 + (ratio > 0)]],
            {
                "mode": mode,
                "sampling_ratio": ratio,
                "coordinate_transformation_mode": f"{output}half_pixel",
                "output_height": 3,
                "output_width": 2,
                "spatial_scale": 0.875,
            },
            step=1e-6,
            opset=opset,
        )
        for mode in ("avg", "max")
        for ratio, opset in ((0, 16), (1, 19), (2, 20), (3, 21))
        for output in ("", "output_")
    ),
    Case("RoiAlign", [normal(1, 2, 6, 5), ROIS[:2], ints([0, 0])], label="defaults"),
    Case("RoiAlign", [normal(1, 2, 6, 5), ROIS[[0, 0, 0]], ints([0, 0, 0])], {"output_height": 2}, fixed=[1, 2]),
    Case("RoiAlign", [normal(2, 1, 1, 5), ROIS[:3], OWNERS[:3]], {"mode": "max", "sampling_ratio": 2}, label="flat"),
    Case("RoiAlign", [normal(2, 1, 5, 1), ROIS[:3], OWNERS[:3]], {"sampling_ratio": 2}, label="flat"),
    Case("RoiAlign", [normal(1, 2, 6, 5), ROIS[:2], ints([0, 0])], {"sampling_ratio": 2}, opset=10, fixed=[2]),
    *(
        Case(
            "MaxRoiPool",
            [distinct(2, 3, 7, 8), POOLED],
            {"pooled_shape": bins, "spatial_scale": scale},
            opset=opset,
            forward=MaxRoiPool(bins, scale),
        )
        for bins, scale, opset in (((3, 2), 1.0, 8), ((2, 5), 0.75, 21))
    ),
    Case(
        "MaxRoiPool",
        [distinct(1, 1, 6, 6), POOLED[[2, 2]]],
        {"pooled_shape": [1, 1]},
        fixed=[1],
        forward=MaxRoiPool((1, 1), 1.0),
    ),
    # Maps below 0: a sample that a region does not have would win.
    Case(
        "RoiAlign",
        [-positive(2, 3, 7, 8), ROIS[[0, 2, 5, 1]], OWNERS[:4]],
        {"mode": "max", "output_height": 2, "output_width": 2},
        step=1e-6,
        label="below",
    ),
    # No regions at all.
    *(
        Case("RoiAlign", [normal(2, 3, 5, 6), np.zeros((0, 4)), ints([])], {"mode": mode, "sampling_ratio": ratio})
        for mode in ("avg", "max")
        for ratio in (0, 2)
    ),
    Case(
        "MaxRoiPool", [normal(2, 3, 5, 6), np.zeros((0, 5))], {"pooled_shape": [2, 2]}, forward=MaxRoiPool((2, 2), 1.0)
    ),
]
