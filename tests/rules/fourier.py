from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from .harness import Array, Case, normal
from .index import ints


def dft(x: Array, n: int | None, axis: int, inverse: int = 0, onesided: int = 0) -> Array:
    if inverse and onesided:
        return np.asarray(np.fft.irfft(x[..., 0] + 1j * x[..., 1], n, axis + 1 if axis < 0 else axis)[..., None])
    z = x[..., 0] if x.shape[-1] == 1 else x[..., 0] + 1j * x[..., 1]
    axis = axis + 1 if axis < 0 else axis
    y = (np.fft.ifft if inverse else np.fft.fft)(z, n, axis)
    y = np.take(y, range(y.shape[axis] // 2 + 1), axis) if onesided else y
    return np.stack([y.real, y.imag], -1)


def row(
    shape: tuple[int, ...], axis: int | None = None, n: int | None = None, runtime: bool = False, **attributes: Any
) -> Case:
    inputs = [normal(*shape), None if n is None else ints(n), None if axis is None else ints(axis)]
    odd = n is not None and attributes.get("onesided") and attributes.get("inverse") and shape[axis] != n // 2 + 1
    return Case(
        "DFT",
        inputs,
        attributes,
        fixed=[] if runtime else [1, 2],
        label="runtime" if runtime else "",
        # Given more or less than half a spectrum, onnxruntime's onesided inverse is not NumPy's, and is what counts.
        forward=None if odd else lambda x, *_: dft(x, n, -2 if axis is None else axis, **attributes),
    )


def stft(x: Array, step: Array, window: Array | None = None, length: Array | None = None, onesided: int = 1) -> Array:
    n = len(window) if window is not None else int(length)
    starts = range(0, x.shape[1] - n + 1, int(step))
    frames = np.stack([x[:, s : s + n] for s in starts], 1)
    return dft(frames if window is None else frames * window[:, None], None, -2, onesided=onesided)


CASES = [
    row((2, 6, 1)),
    row((2, 5, 2), 1),
    row((2, 5, 4, 2), -3),
    row((2, 5, 4, 2), 2, inverse=1),
    row((2, 5, 1), 1, inverse=1),
    *(row((2, n, 1), 1, onesided=1) for n in (5, 6)),
    *(row((2, 5, c), 1, n, inverse=i) for n in (3, 8) for c, i in ((1, 0), (2, 0), (2, 1))),
    *(row((2, 6, 1), -2, n, onesided=1) for n in (4, 7)),
    *(
        row((2, k, 3, 2), axis, n, runtime, inverse=1, onesided=1)
        for runtime in (False, True)
        for axis in (1, -3)
        for k, n in ((3, None), (4, None), (3, 4), (3, 5), (4, 4), (3, 9), (5, 4), (2, 8), (6, 5), (5, 3))
    ),
    row((2, 4, 2), -2, 7, inverse=1, onesided=1),
    *(
        row((2, 5, 4, c), axis, n, True, **attributes)
        for axis in (1, -2)
        for n in (None, 4, 7)
        for c, attributes in ((1, {}), (2, {}), (2, {"inverse": 1}), (1, {"onesided": 1}))
    ),
    *(
        Case(
            "DFT",
            [normal(2, 5, 4, 2), None if n is None else ints(n)],
            {"axis": axis, "inverse": 1, "onesided": o},
            opset=opset,
            forward=lambda x, *_, axis=axis, n=n, o=o: dft(x, n, axis, 1, o),
            label=f"{n},{opset}",
        )
        for opset, axis, n, o in ((17, 1, None, 0), (17, 2, 7, 0), (19, 1, 4, 0), (17, 1, None, 1), (19, 2, 7, 1))
    ),
    *(
        Case(
            "STFT",
            [normal(2, length, 1), ints(step), *rest],
            {"onesided": o},
            fixed=fixed,
            label="" if fixed else "runtime",
            forward=lambda *xs, o=o: stft(*xs, onesided=o),
        )
        for fixed in ([1, 3], [])
        for length, step, rest in (
            (11, 2, [normal(4)]),
            (12, 3, [normal(5)]),
            (11, 4, [None, ints(4)]),
            (9, 5, [normal(3), ints(3)]),
        )
        for o in (0, 1)
    ),
    *(
        Case("STFT", [normal(2, 11, 2), ints(3), *rest], {"onesided": o}, forward=partial(stft, onesided=o))
        for rest in ([normal(4)], [normal(5)], [None, ints(5)])
        for o in (0, 1)
    ),
    Case("MelWeightMatrix", [ints(8), ints(16), ints(8192), np.array(20.0), np.array(4000.0)], {"output_datatype": 11}),
]
