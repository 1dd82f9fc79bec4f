from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from .harness import Array, Case, normal

Shape = tuple[int, ...]


def conv(x: Shape, w: Shape, bias: bool = True, dynamic: bool = True, **attributes: Any) -> Case:
    inputs = [normal(*x), normal(*w)] + ([normal(w[0])] if bias else [])
    return Case("Conv", inputs, dict(kernel_shape=w[2:], **attributes), dynamic=dynamic)


def transpose(x: Shape, w: Shape, bias: bool = True, dynamic: bool = True, **attributes: Any) -> Case:
    inputs = [normal(*x), normal(*w)] + ([normal(w[1] * attributes.get("group", 1))] if bias else [])
    attributes = {"kernel_shape": w[2:], **attributes}
    return Case("ConvTranspose", inputs, attributes, dynamic=dynamic, forward=Transpose(**attributes))


class Transpose:
    """ConvTranspose in NumPy, by the letter of the standard: every input adds a kernel to the output."""

    def __init__(self, **attributes: Any) -> None:
        self.attributes = attributes

    def __call__(self, x: Array, w: Array, b: Array | float = 0.0) -> Array:
        get, rank, mode = self.attributes.get, x.ndim - 2, self.attributes.get("auto_pad", "NOTSET")
        ones, zeros, kernel, size = [1] * rank, [0] * rank, w.shape[2:], x.shape[2:]
        strides, dilations, group = get("strides", ones), get("dilations", ones), get("group", 1)
        more, pads = get("output_padding", zeros), get("pads", zeros + zeros)
        full = [
            s * (n - 1) + m + d * (k - 1) + 1
            for s, n, m, d, k in zip(strides, size, more, dilations, kernel, strict=True)
        ]
        shape = get("output_shape")
        if mode[:4] == "SAME" and shape is None:  # onnxruntime does not fill up behind a short kernel
            shape = [min(f, s * n) for f, s, n in zip(full, strides, size, strict=True)]
        if shape is not None:
            total = [max(f - n, 0) for f, n in zip(full, shape, strict=True)]
            begin = [t // 2 if mode == "SAME_UPPER" else t - t // 2 for t in total]
        else:
            begin = pads[:rank]
            shape = [f - p - q for f, p, q in zip(full, begin, pads[rank:], strict=True)]
        x = x.reshape(x.shape[0], group, -1, *size)
        w = w.reshape(group, -1, *w.shape[1:])
        room = (max(f, b + n) for f, b, n in zip(full, begin, shape, strict=True))
        y = np.zeros((x.shape[0], group, w.shape[2], *room))
        for at in product(*map(range, kernel)):
            to = tuple(
                slice(d * a, d * a + s * (n - 1) + 1, s)
                for a, d, s, n in zip(at, dilations, strides, size, strict=True)
            )
            y[(..., *to)] += np.einsum("ngc...,gcm->ngm...", x, w[(..., *at)])
        y = y[(..., *(slice(b, b + n) for b, n in zip(begin, shape, strict=True)))]
        return y.reshape(y.shape[0], -1, *y.shape[3:]) + np.reshape(b, (-1, *ones))


CASES = [
    Case(
        "ConvTranspose",
        [normal(1, 1, 2), normal(1, 1, 1)],
        {"kernel_shape": [1], "output_shape": [1]},
        dynamic=False,
        forward=lambda x, w: x[..., 1:] * w,  # what is too much is cut off before
    ),
    conv((2, 3, 7, 6), (4, 3, 3, 3)),
    conv((0, 3, 5, 5), (4, 3, 3, 3)),
    conv((0, 4, 5, 5), (4, 2, 3, 3), group=2),
    conv((2, 3, 5, 6), (4, 3, 1, 1), False, strides=[2, 2]),
    *(conv((1, 2, n, n + 1), (3, 2, 3, 3), strides=[2, 2], pads=[1, 1, 1, 1]) for n in (6, 7)),
    *(conv((1, 2, n, n), (3, 2, 2, 4), strides=[3, 2], pads=[0, 1, 1, 2]) for n in (7, 8, 9, 10)),
    *(conv((1, 2, n, n), (2, 2, 3, 2), dilations=[2, 3], strides=[2, 1], pads=[2, 1, 1, 0]) for n in (8, 9)),
    conv((1, 2, 11, 11), (2, 2, 2, 2), dilations=[2, 2], strides=[3, 3]),
    conv((2, 6, 6, 7), (4, 3, 3, 3), group=2, pads=[1, 1, 1, 1], strides=[2, 2]),
    conv((2, 4, 6, 5), (4, 1, 3, 3), group=4, pads=[1, 1, 1, 1]),
    conv((2, 3, 6, 5), (6, 1, 3, 3), group=3, strides=[2, 2], dilations=[2, 1], pads=[1, 0, 2, 1]),
    conv((2, 3, 10), (4, 3, 4), strides=[3], pads=[2, 1]),
    conv((1, 2, 5, 6, 4), (3, 2, 3, 2, 2), strides=[2, 2, 1], pads=[1, 0, 1, 0, 1, 0]),
    conv((1, 4, 5, 4, 6), (4, 2, 2, 2, 2), group=2, dilations=[1, 2, 1], strides=[1, 1, 3]),
    conv((1, 2, 5, 6), (3, 2, 3, 3), auto_pad="VALID", strides=[2, 2]),
    conv((1, 2, 5, 6), (3, 2, 3, 2), auto_pad="SAME_UPPER"),
    conv((1, 2, 5, 6), (3, 2, 3, 2), auto_pad="SAME_LOWER", dilations=[1, 2]),
    *(
        conv((1, 2, n, 9), (3, 2, 3, 4), dynamic=False, auto_pad=mode, strides=[2, 3])
        for n in (7, 8)
        for mode in ("SAME_UPPER", "SAME_LOWER")
    ),
    Case("Conv", [normal(1, 2, 7, 8), normal(3, 2, 3, 2)], {"strides": [2, 3], "pads": [1, 0, 0, 1]}),
    transpose((2, 3, 4, 5), (3, 4, 3, 3)),
    *(
        transpose((1, 2, 4, 3), (2, 3, 3, 2), strides=[2, 3], output_padding=p, pads=[1, 0, 0, 1])
        for p in ([0, 0], [1, 2])
    ),
    transpose((1, 2, 4, 3), (2, 3, 3, 2), strides=[1, 2], dilations=[3, 4], output_padding=[2, 3], pads=[1, 0, 2, 1]),
    transpose((2, 4, 3, 4), (4, 3, 3, 3), group=2, strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1]),
    transpose((2, 3, 3, 4), (3, 1, 2, 2), group=3, strides=[2, 2]),
    transpose((2, 3, 5), (3, 2, 4), False, strides=[3], pads=[1, 2]),
    transpose((1, 2, 3, 2, 3), (2, 2, 3, 2, 2), strides=[2, 1, 3], pads=[1, 0, 0, 1, 0, 1]),
    *(
        transpose((1, 2, 4, 3), (2, 3, 3, 4), dynamic=False, strides=[2, 3], output_shape=shape, **mode)
        for shape in ([8, 9], [7, 10], [6, 7], [10, 12])
        for mode in ({}, {"auto_pad": "SAME_UPPER"}, {"auto_pad": "SAME_LOWER"})
    ),
    *(
        transpose((1, 2, 4, 3), (2, 3, 3, k), strides=[2, 3], auto_pad=mode)
        for mode in ("SAME_UPPER", "SAME_LOWER")
        for k in (1, 2, 4)
    ),
]
