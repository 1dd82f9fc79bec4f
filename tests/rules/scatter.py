from __future__ import annotations

from typing import Any

import numpy as np

from .harness import Array, Case, distinct, normal
from .index import ints

ROWS = ints([[0, 2, 0], [-1, 2, 0]])  # duplicates, and a negative one
PAIRS = ints([[0, 1], [2, -1], [0, 1]])


def holes(*shape: int, every: int = 3) -> Array:
    """Normal numbers with zeros among them."""
    x = normal(*shape)
    x.reshape(-1)[::every] = 0
    return x


def ties(*shape: int) -> Array:
    return np.resize(np.array([1.0, 2.0, -1.0, 1.0, 0.0]), shape)


def scattered(reduction: str, axis: int | None = None):  # type: ignore[no-untyped-def]
    ufunc = {"mul": np.multiply, "max": np.maximum, "min": np.minimum}[reduction]

    def forward(x: Array, indices: Array, updates: Array) -> Array:
        y = x.copy()
        if axis is None:
            ufunc.at(y, tuple(np.moveaxis(indices, -1, 0)), updates)
        else:
            at = list(np.indices(indices.shape))
            at[axis] = indices
            ufunc.at(y, tuple(at), updates)
        return y

    return forward


def cumprod(exclusive: int, reverse: int):  # type: ignore[no-untyped-def]
    def forward(x: Array, axis: Array) -> Array:
        x = np.moveaxis(x, int(axis), 0)
        x = x[::-1] if reverse else x
        y = np.cumprod(np.concatenate([np.ones_like(x[:1]), x[:-1]]) if exclusive else x, axis=0)
        return np.moveaxis(y[::-1] if reverse else y, 0, int(axis))

    return forward


def cache(axis: int, circular: bool):  # type: ignore[no-untyped-def]
    def forward(x: Array, u: Array, start: Array | None = None) -> Array:
        y = x.copy()
        for b in range(len(x)):
            for s in range(u.shape[axis]):
                at = s + (0 if start is None else int(start[b]))
                np.moveaxis(y[b], axis, 0)[at % x.shape[axis] if circular else at] = np.moveaxis(u[b], axis, 0)[s]
        return y

    return forward


TRUE = np.array([True, False, True, True])
SEQUENCE = [normal(4, 3, 2), ints(1, 3, 4)]


def first(x: Array, axis: int | None = None) -> Any:
    """Unique as long as what is equal stays so: the same elements or slices."""
    _, index = np.unique(x, return_index=True, axis=axis)
    return lambda x: x.reshape(-1)[index] if axis is None else np.take(x, index, axis)


REPEATED = np.array([[1.0, 3, 1], [0, 2, 0], [1, 3, 1]])
CASES = [
    *(Case("Unique", [distinct(3, 4)], {"axis": axis}) for axis in (0, 1, -1)),
    *(Case("Unique", [distinct(3, 4)], {"sorted": order}, outputs=4) for order in (0, 1)),
    Case("Unique", [REPEATED], forward=first(REPEATED), label="repeated"),
    *(Case("Unique", [REPEATED], {"axis": a}, forward=first(REPEATED, a), label="repeated") for a in (0, 1)),
    Case("ScatterElements", [normal(3, 4), ints([[0, 2], [-1, 1]]), normal(2, 2)], {"axis": 1}),
    Case("ScatterElements", [normal(3, 4), ints([[0, 2], [-2, 1]]), normal(2, 2)], fixed=[1]),
    Case("ScatterElements", [normal(3, 4), ROWS, normal(2, 3)], {"axis": 0, "reduction": "add"}),
    Case("ScatterND", [normal(3, 4), ints([[0, 1], [2, -1]]), normal(2)]),
    Case("ScatterND", [normal(3, 4), ints([[2], [-3]]), normal(2, 4)], fixed=[1]),
    Case("ScatterND", [normal(3, 4), PAIRS, normal(3)], {"reduction": "add"}),
    *(
        Case(
            "ScatterElements",
            [x, ROWS, u],
            {"axis": axis, "reduction": "mul"},
            forward=scattered("mul", axis),
            label=label,
        )
        for axis in (0, 1)
        for x, u, label in (
            (normal(3, 4), normal(2, 3), ""),
            (holes(3, 4), normal(2, 3), "zero"),
            (normal(3, 4), holes(2, 3), "zero_update"),
            (holes(3, 4, every=2), holes(2, 3, every=2), "zeros"),
        )
    ),
    *(
        Case("ScatterND", [x, PAIRS, u], {"reduction": "mul"}, forward=scattered("mul"), label=label)
        for x, u, label in (
            (normal(3, 4), normal(3), ""),
            (normal(3, 4), holes(3), "zero"),
            (holes(3, 4), holes(3, every=2), "zeros"),
        )
    ),
    *(
        Case(
            "ScatterElements",
            [distinct(3, 4), ROWS, distinct(2, 3) * 1.01],
            {"axis": 0, "reduction": r},
            forward=scattered(r, 0),
        )
        for r in ("max", "min")
    ),
    *(
        Case(
            "ScatterElements",
            [ties(3, 4), ints([[0, 2], [1, 0]]), ties(2, 2)],
            {"axis": 1, "reduction": r},
            forward=scattered(r, 1),
            label="ties",
        )
        for r in ("max", "min")
    ),
    *(
        Case("ScatterND", [distinct(3, 4), PAIRS, normal(3)], {"reduction": r}, forward=scattered(r))
        for r in ("max", "min")
    ),
    *(
        Case(
            "ScatterND",
            [np.full((3, 4), 1.0), PAIRS, np.array([-9.0, 1.0, 1.0])],
            {"reduction": r},
            forward=scattered(r),
            label="ties",
        )
        for r in ("max",)
    ),
    *(
        Case(
            "TensorScatter",
            [normal(2, 3, 5, 2), normal(2, 3, 2, 2), start],
            {"mode": mode},
            opset=24,
            fixed=fixed,
            forward=cache(-2, mode == "circular"),
        )
        for mode, start, fixed in (
            ("linear", ints(1, 3), []),
            ("circular", ints(4, 2), []),
            ("linear", ints(0, 2), [2]),
        )
    ),
    Case("TensorScatter", [normal(2, 5, 3), normal(2, 2, 3)], {"axis": 1}, opset=24, forward=cache(0, False)),
    *(
        Case("Compress", [normal(3, 4, 2), c], {"axis": axis})
        for c, axis in ((TRUE, 1), (TRUE[:3], 0), (TRUE[1:3], -1), (TRUE[:2], -2))
    ),
    Case("Compress", [normal(3, 4), TRUE]),
    Case("Compress", [normal(3, 4), np.array([False, True])], {"axis": 0}, fixed=[1]),
    Case("ReverseSequence", SEQUENCE),
    Case("ReverseSequence", [normal(3, 4), ints(2, 4, 1)], {"batch_axis": 0, "time_axis": 1}, fixed=[1]),
    *(
        Case("CenterCropPad", [normal(*x), ints(*shape)], {"axes": axes} if axes else {}, fixed=fixed)
        for x, shape, axes, fixed in (
            ((4, 5), (3, 8), None, [1]),
            ((4, 5), (7, 2), None, []),
            ((2, 5, 4), (2, 7), [1, -1], [1]),
            ((2, 6, 3), (3,), [-2], []),
        )
    ),
    *(
        Case(
            "CumProd",
            [x, ints(axis)],
            {"exclusive": e, "reverse": r},
            opset=26,
            fixed=[1],
            forward=cumprod(e, r),
            label=label,
        )
        for x, label in ((normal(5, 4), ""), (holes(5, 4, every=5), "zeros"), (holes(5, 4, every=2), "many"))
        for axis, e, r in ((0, 0, 0), (1, 1, 0), (-1, 0, 1), (-2, 1, 1))
    ),
]


def col2im(x: Array, image: Array, block: Array, *, pads: list[int], strides: list[int], dilations: list[int]) -> Array:
    r, n = len(image), x.shape[0]
    y = np.zeros((n, x.shape[1] // np.prod(block), *(image + pads[:r] + pads[r:])))
    spans = [range(0, y.shape[2 + a] - dilations[a] * (block[a] - 1), strides[a]) for a in range(r)]
    columns = x.reshape(n, y.shape[1], *block, *map(len, spans))
    for k in np.ndindex(*block):
        for at in np.ndindex(*map(len, spans)):
            y[(..., *(spans[a][at[a]] + dilations[a] * k[a] for a in range(r)))] += columns[
                (slice(None), slice(None), *k, *at)
            ]
    return y[(..., *(slice(pads[a], pads[a] + image[a]) for a in range(r)))]


def columns(
    x: tuple[int, ...], image: list[int], block: list[int], fixed: tuple[int, ...] = (1, 2), **attributes: list[int]
) -> Case:
    full = {"pads": [0] * 2 * len(image), "strides": [1] * len(image), "dilations": [1] * len(image)} | attributes
    return Case(
        "Col2Im",
        [normal(*x), ints(image), ints(block)],
        attributes,
        fixed=fixed,
        forward=lambda x, i, b: col2im(x, i, b, **full),
    )


CASES += [
    columns((2, 12, 20), [5, 6], [2, 2]),
    columns((2, 6, 9), [5, 6], [2, 3], pads=[0, 1, 1, 0], strides=[2, 2], dilations=[1, 1]),
    columns((1, 4, 8), [5, 6], [2, 2], strides=[2, 1], dilations=[2, 2]),
    columns((1, 3, 4), [6], [3]),
    columns((2, 6, 9), [5, 6], [2, 3], (), pads=[0, 1, 1, 0], strides=[2, 2], dilations=[1, 1]),
    columns((1, 4, 8), [5, 6], [2, 2], (2,), strides=[2, 1], dilations=[2, 2]),
    columns((1, 8, 4), [2, 3, 3], [2, 2, 2], (1,)),
    Case(
        "MaxUnpool",
        [normal(1, 2, 2, 2), ints([[[[1, 3], [8, 10]], [[17, 18], [25, 31]]]])],
        {"kernel_shape": [2, 2], "strides": [2, 2]},
        forward=lambda x, i: np.bincount(i.ravel(), x.ravel(), 32).reshape(1, 2, 4, 4),
    ),
]
