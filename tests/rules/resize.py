from __future__ import annotations

import numpy as np

from .harness import Case, normal

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
