from __future__ import annotations

import numpy as np

from .harness import Array, Case, normal
from .index import ints


def grid(*shape: int, reach: float = 1.6) -> Array:
    """Points inside and outside of the map."""
    return np.random.default_rng(sum(shape)).uniform(-reach, reach, size=shape)


def affine(theta: Array, size: Array, align: int) -> Array:
    axes = [(np.linspace(-1, 1, n) if align else (np.arange(n) * 2 + 1) / n - 1) for n in size[2:]]
    places = np.stack([*np.meshgrid(*axes, indexing="ij")[::-1], np.ones(size[2:])], -1)
    return np.einsum("nij,...j->n...i", theta, places)


CASES = [
    *(
        Case(
            "GridSample",
            [normal(2, 3, 4, 5), grid(2, 3, 4, 2)],
            {"mode": mode, "padding_mode": padding, "align_corners": align},
            step=1e-7 if mode != "nearest" else 1e-9,
        )
        for mode in ("linear", "nearest", "cubic")
        for padding in ("zeros", "border", "reflection")
        for align in (0, 1)
    ),
    *(
        Case(
            "GridSample",
            [normal(2, 2, 3, 4, 5), grid(2, 2, 3, 2, 3)],
            {"mode": mode, "padding_mode": padding, "align_corners": align},
        )
        for mode, padding, align in (
            ("linear", "zeros", 0),
            ("linear", "border", 1),
            ("linear", "reflection", 0),
            ("nearest", "reflection", 1),
        )
    ),
    Case("GridSample", [normal(1, 2, 4, 5), grid(1, 3, 3, 2)]),
    Case(
        "GridSample",
        [normal(1, 2, 1, 5), grid(1, 3, 3, 2, reach=0.9)],
        {"padding_mode": "reflection", "align_corners": 1},
        label="flat",
    ),
    *(
        Case(
            "AffineGrid",
            [normal(2, len(size) - 2, len(size) - 1), ints(size)],
            {"align_corners": a},
            fixed=[1],
            forward=lambda t, s, a=a: affine(t, s, a),
        )
        for size in ([2, 3, 4, 5], [2, 1, 2, 3, 4])
        for a in (0, 1)
    ),
    *(Case("Det", [normal(2, 3, n, n)], dynamic=False) for n in (1, 2, 3)),
    Case("Det", [np.outer([1.0, 2, 3], [2.0, 0, 1])], dynamic=False, label="singular"),
]
