from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
from onnx import TensorProto

from .harness import Array, Case, build, forward64, names, normal, run, typed
from .index import ints


def grid(*shape: int, reach: float = 1.6) -> Array:
    """Points inside and outside of the map."""
    return np.random.default_rng(sum(shape)).uniform(-reach, reach, size=shape)


def affine(theta: Array, size: Array, align: int) -> Array:
    axes = [(np.linspace(-1, 1, n) if align else (np.arange(n) * 2 + 1) / n - 1) for n in size[2:]]
    places = np.stack([*np.meshgrid(*axes, indexing="ij")[::-1], np.ones(size[2:])], -1)
    return np.einsum("nij,...j->n...i", theta, places)


class DeformConv:
    """Position by position, tap by tap: the element where the offsets point, between its 2^rank neighbours."""

    def __init__(self, **attributes: Any) -> None:
        self.attributes = attributes

    def __call__(self, x: Array, w: Array, offset: Array, b: Array | None = None, mask: Array | None = None) -> Array:
        rank, get = x.ndim - 2, self.attributes.get
        group, sets = get("group", 1), get("offset_group", 1)
        strides, dilations = get("strides", [1] * rank), get("dilations", [1] * rank)
        begin = get("pads", [0] * 2 * rank)[:rank]
        kernel, outs = w.shape[2:], offset.shape[2:]
        offset = offset.reshape(len(x), sets, *kernel, rank, *outs)
        mask = np.ones((len(x), sets, *kernel, *outs)) if mask is None else mask.reshape(len(x), sets, *kernel, *outs)
        y = np.zeros((len(x), len(w), *outs))
        for n, c, k, at in product(*map(range, x.shape[:2]), np.ndindex(*kernel), np.ndindex(*outs)):
            own = c // (x.shape[1] // sets)
            start = np.array(at) * strides - begin + np.array(k) * dilations
            point = start + offset[(n, own, *k, slice(None), *at)]
            low = np.floor(point).astype(int)
            value = 0.0
            for corner in np.ndindex(*[2] * rank):
                place = low + corner
                if all(0 <= p < size for p, size in zip(place, x.shape[2:], strict=True)):
                    value += np.prod(1 - np.abs(point - place)) * x[(n, c, *place)]
            value *= mask[(n, own, *k, *at)]
            inside, outside = len(w) // group, x.shape[1] // group
            filters = slice(c // outside * inside, (c // outside + 1) * inside)
            y[(n, filters, *at)] += value * w[(filters, c % outside, *k)]
        return y if b is None else y + b.reshape(-1, *[1] * rank)


def renamed(case: Case, mode: str) -> Case:
    """GridSample before opset 20, where modes had other names and no kernel has float64."""
    attributes = case.attributes | {"mode": mode}
    return replace(case, opset=16, attributes=attributes, forward=lambda *xs: forward64(case)(list(xs)))


def on_onnxruntime(case: Case) -> Case:
    """A linear operator with the kernel itself, in float32, for `forward`: any step will do."""
    proto = build(case, TensorProto.FLOAT, symbolic=False)

    def forward(*xs: Array | None) -> Array:
        feeds = {n: typed(x, TensorProto.FLOAT) for n, x in zip(names(case), xs, strict=True) if x is not None}
        return run(proto, feeds)["y0"].astype(np.float64)

    return replace(case, forward=forward, step=1.0)


def deform(
    x: tuple[int, ...], w: tuple[int, ...], bias: bool = True, masked: bool = True, opset: int = 19, **attributes: Any
) -> Case:
    rank, sets = len(x) - 2, attributes.get("offset_group", 1)
    get, taps = attributes.get, int(np.prod(w[2:])) * sets
    pads, strides, dilations = get("pads", [0] * 2 * rank), get("strides", [1] * rank), get("dilations", [1] * rank)
    outs = [
        (x[2 + a] + pads[a] + pads[rank + a] - dilations[a] * (w[2 + a] - 1) - 1) // strides[a] + 1 for a in range(rank)
    ]
    inputs = [normal(*x), normal(*w), grid(x[0], taps * rank, *outs)]
    inputs += [normal(w[0]) if bias else None, normal(x[0], taps, *outs) if masked else None]
    while inputs[-1] is None:
        inputs.pop()
    return Case("DeformConv", inputs, attributes, opset=opset, step=1e-6, forward=DeformConv(**attributes))


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
            step=1e-6,
        )
        for mode in ("linear", "nearest")  # onnxruntime has no cubic here
        for padding in ("zeros", "border", "reflection")
        for align in (0, 1)
    ),
    Case("GridSample", [normal(1, 2, 4, 5), grid(1, 3, 3, 2)]),
    *(
        renamed(Case("GridSample", [normal(1, 2, 4, 5), grid(1, 3, 3, 2)], {"mode": mode}, step=1e-7), old)
        for mode, old in (("linear", "bilinear"), ("cubic", "bicubic"), ("nearest", "nearest"))
    ),
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
            fixed=fixed,
            forward=lambda t, s, a=a: affine(t, s, a),
        )
        for size in ([2, 3, 4, 5], [2, 1, 2, 3, 4])
        for a in (0, 1)
        for fixed in ([1], [])
    ),
    deform((2, 4, 5, 6), (6, 2, 3, 2), group=2, offset_group=2, pads=[1, 0, 2, 1], strides=[2, 1], dilations=[1, 2]),
    deform((1, 6, 5, 4), (2, 3, 2, 3), group=2, offset_group=3, pads=[1, 1, 1, 1], opset=22),
    deform((1, 4, 4, 4), (3, 4, 2, 2), bias=False, masked=False, offset_group=2),
    deform((2, 2, 4, 5), (4, 1, 3, 3), bias=False, group=2, pads=[1, 1, 1, 1]),
    deform((1, 2, 1, 5), (2, 2, 1, 2), masked=False, opset=22),
    deform((2, 2, 6), (3, 2, 3), strides=[2], pads=[1, 0]),
    deform((1, 2, 3, 4, 3), (2, 1, 2, 1, 2), group=2, dilations=[1, 1, 2]),
    *(
        on_onnxruntime(
            Case(
                "MaxUnpool",
                [normal(1, 2, 2, 2), ints([[[[5, 7], [13, 15]], [[26, 28], [40, 49]]]]), ints(1, 2, 5, 5)],
                {"kernel_shape": [2, 2], "strides": [2, 2]},
                fixed=fixed,
            )
        )
        for fixed in ([], [2])
    ),
]
