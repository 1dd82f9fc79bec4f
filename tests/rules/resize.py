from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from onnx import TensorProto

from .harness import Array, Case, build, names, normal, run, typed

SIZES = np.array([1, 2, 7, 8])


def scales(*values: float) -> np.ndarray:
    return np.array([1, 1, *values], np.float32)


def roi(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


CASES = [
    Case(
        "Resize",
        [normal(1, 2, 4, 5), None, None, SIZES],
        dict(mode=mode, coordinate_transformation_mode=coordinates),
        fixed=[3],
    )
    for mode in ("nearest", "linear", "cubic")
    for coordinates in ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel")
] + [
    Case(
        "Resize",
        [normal(1, 2, 4, 5), None, scales(2, 2)],
        dict(mode="nearest", nearest_mode="floor", coordinate_transformation_mode="asymmetric"),
        fixed=[2],
    ),
    Case("Resize", [normal(1, 2, 4, 5), None, scales(1.6, 2.3)], dict(mode="linear"), fixed=[2]),
    Case("Resize", [normal(1, 2, 9, 8), None, scales(0.5, 0.4)], dict(mode="linear", antialias=1), fixed=[2]),
    Case(
        "Resize",
        [normal(1, 2, 9, 8), None, scales(0.5, 0.5)],
        dict(mode="cubic", cubic_coeff_a=-0.5, exclude_outside=1),
        fixed=[2],
    ),
    Case("Resize", [normal(1, 2, 4, 5), None, None, np.array([7, 8])], dict(mode="linear", axes=[2, 3]), fixed=[3]),
    Case(
        "Resize", [normal(1, 2, 4, 4), None, None, np.array([4, 7])], dict(mode="nearest", axes=[2, 3]), dynamic=False
    ),
    Case("Resize", [normal(1, 2, 4, 5), None, scales(1.1, 1.3)], dict(mode="linear"), fixed=[2], label="one_same"),
    *(
        Case(
            "Resize",
            [normal(1, 2, 4, 5), roi(0, 0, *part[:2], 1, 1, *part[2:]), None, SIZES],
            dict(mode=mode, coordinate_transformation_mode="tf_crop_and_resize", extrapolation_value=3.0),
            fixed=[1, 3],
            label=f"roi{part}",
        )
        for mode in ("nearest", "linear")
        for part in ((0.2, 0.1, 0.7, 0.85), (-0.3, 0.5, 0.6, 1.4), (0.9, 0.8, 0.1, 0.2))
    ),
    Case(
        "Resize",
        [normal(1, 2, 4, 5), roi(0.1, 0.3, 0.8, 0.9), None, np.array([3, 7])],
        dict(mode="linear", coordinate_transformation_mode="tf_crop_and_resize", axes=[2, 3]),
        fixed=[1, 3],
    ),
    *(
        Case(
            "Resize",
            [normal(1, 2, 4, 6), None, None, np.array(size)],
            dict(mode="linear", axes=[2, 3], keep_aspect_ratio_policy=policy),
            fixed=[3],
            dynamic=False,
        )
        for policy, size in (("not_larger", [8, 9]), ("not_smaller", [8, 9]), ("not_larger", [6, 3]))
    ),
]


def resized(shape: tuple[int, ...], *, runtime: bool = False, **given: Any) -> Case:
    """A row of the inputs roi, scales or sizes, and attributes; at run time the inputs are no constants."""
    extra = [given.pop(name, None) for name in ("roi", "scales", "sizes")]
    kinds = (np.float32, np.float32, np.int64)
    inputs = [None if v is None else np.array(v, kind) for v, kind in zip(extra, kinds, strict=True)]
    label = ";".join(map(str, extra)) + ("runtime" if runtime else "")
    fixed, dynamic = [] if runtime else [1, 2, 3], not (runtime and extra[2])  # onnx refuses sizes of unknown number
    return Case("Resize", [normal(*shape), *inputs], given, fixed=fixed, dynamic=dynamic, label=label)


HOW: list[dict[str, Any]] = [
    *({"mode": "nearest", "nearest_mode": m} for m in ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil")),
    {"mode": "linear"},
    {"mode": "linear", "antialias": 1},
    {"mode": "cubic"},
    {"mode": "cubic", "exclude_outside": 1, "coordinate_transformation_mode": "half_pixel_symmetric"},
    {"mode": "cubic", "antialias": 1, "cubic_coeff_a": -0.5},
]
CASES += [
    # In float32, 10 * 0.7 is 7.
    Case("Resize", [normal(1, 1, 10, 5), None, np.array([1, 1, 0.7, 1.4], np.float32)], {"mode": "linear"}, fixed=[2]),
    # Scales that leave an axis its size, though they resample it, and scales of 1.
    *(
        resized((1, 2, 4, 5), scales=[1, 1, *by], runtime=runtime, **how)
        for how in HOW
        for by in ((1.1, 1.3), (1, 0.7), (1.2, 1))
        for runtime in (False, True)
    ),
    *(resized((1, 2, 4, 5), sizes=[1, 2, *to], runtime=True, **how) for how in HOW for to in ((4, 7), (3, 5), (4, 5))),
    *(
        resized((1, 2, 4, 5), sizes=to, axes=axes, runtime=runtime, keep_aspect_ratio_policy=policy, **how)
        for how in HOW[::4]
        for policy in ("not_larger", "not_smaller")
        for axes, to in (([2, 3], [9, 8]), ([3, 2], [3, 3]), ([2], [7]), ([2, 3], [4, 5]))
        for runtime in (False, True)
    ),
    *(
        resized(
            (1, 2, 4, 5),
            roi=[0, 0, *part[:2], 1, 1, *part[2:]],
            runtime=True,
            coordinate_transformation_mode="tf_crop_and_resize",
            extrapolation_value=2.0,
            **to,
            **how,
        )
        for how in HOW[3:5] + HOW[6:7]
        for part in ((0.2, 0.1, 0.7, 0.85), (-0.3, 0.5, 0.6, 1.4))
        for to in ({"sizes": [1, 2, 4, 7]}, {"sizes": [1, 2, 3, 1]}, {"scales": [1, 1, 1.2, 0.7]})
    ),
    *(resized((7,), scales=[by], **HOW[0]) for by in (0.6, 1.9)),
    *(resized((3, 5), sizes=[4, 7], **how) for how in (*HOW[:5], HOW[6])),
    *(resized((2, 4, 5), scales=[1, 1.6, 0.5], **how) for how in HOW[:6]),
    *(resized((1, 2, 3, 4, 5), sizes=[1, 2, 4, 7, 3], **how) for how in HOW[:6]),
    *(
        resized(
            (1, 2, 4, 5),
            roi=[0.1, 0.3, 0.8, 0.9],
            sizes=[3, 7],
            mode=mode,
            coordinate_transformation_mode="tf_crop_and_resize",
            axes=axes,
        )
        for mode in ("nearest", "linear", "cubic")
        for axes in ([3, 2], [-2, -1])
    ),
    # Old forms.
    *(
        Case("Upsample", [normal(1, 2, 4, 5)], {"mode": mode, "scales": [1.0, 1.0, *by]}, opset=7, label=f"{by}")
        for mode in ("nearest", "linear")
        for by in ((2.0, 3.0), (1.0, 1.7))
    ),
    *(
        Case(op, [normal(1, 2, 4, 5), scales(*by)], {"mode": mode}, opset=opset, fixed=[1], label=f"{opset}{by}")
        for mode in ("nearest", "linear")
        for op, opset, by in (("Upsample", 9, (2.0, 3.0)), ("Upsample", 9, (1.0, 1.7)), ("Resize", 10, (0.6, 2.0)))
    ),
    *(
        Case(
            "Resize",
            [normal(1, 2, 4, 5), roi(0, 0, 0.1, 0.2, 1, 1, 0.9, 0.7), scales(1.5, 0.7)],
            {"mode": mode, "coordinate_transformation_mode": coordinates},
            opset=opset,
            fixed=[1, 2],
            label=f"{opset}",
        )
        for opset in (11, 13)
        for mode in ("nearest", "linear", "cubic")
        for coordinates in ("half_pixel", "asymmetric", "tf_crop_and_resize")
    ),
    Case(
        "Resize",
        [normal(1, 2, 4, 5), roi(), scales(1.5, 1.6)],
        {"mode": "nearest", "coordinate_transformation_mode": "tf_half_pixel_for_nn"},
        opset=11,
        fixed=[1, 2],
    ),
    Case("Resize", [normal(1, 2, 4, 5), roi(), roi(), SIZES], {"mode": "linear"}, fixed=[1, 2, 3]),
    resized((1, 4, 5, 2), scales=[1, 1.6, 1.5, 1], mode="linear"),
    resized((1, 3, 4, 5), sizes=[2, 4, 3, 6], mode="nearest"),
]


def on_onnxruntime(case: Case) -> Case:
    """The row with onnxruntime itself as the forward pass: in float32, but what is linear can take a big step."""
    proto = build(case, TensorProto.FLOAT, symbolic=False)

    def forward(*xs: Array | None) -> list[Array]:
        pairs = enumerate(zip(names(case), xs, strict=True))
        feeds = {n: typed(x, TensorProto.FLOAT) for i, (n, x) in pairs if x is not None and i not in case.fixed}
        return [y.astype(np.float64) for y in run(proto, feeds).values()]

    return replace(case, forward=forward, step=1.0)


CASES = [on_onnxruntime(case) for case in CASES]
