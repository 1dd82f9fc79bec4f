"""Resize in all its modes, on random sizes and scales."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ..rules.harness import Array, Case
from .oracle import EXAMPLES, Draw, adjoint, generators, ints, maybe, shapes, whole

COORDINATES = "half_pixel half_pixel_symmetric pytorch_half_pixel align_corners asymmetric tf_crop_and_resize".split()
SCALES = st.sampled_from([0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 1.0, 1.1, 1.2, 1.5, 1.9, 2.0, 2.6, 3.0])


def fits(size: int, scale: float) -> bool:
    """True if something is left."""
    return bool(np.float32(size) * np.float32(scale) >= 1)


@st.composite
def resizes(draw: Draw) -> Case:
    rng, mode = draw(generators), draw(st.sampled_from(["nearest", "linear", "cubic"]))
    attributes: dict[str, Any] = {"mode": mode}
    if draw(maybe):
        attributes["coordinate_transformation_mode"] = draw(st.sampled_from(COORDINATES))
    if mode == "nearest":
        how = st.sampled_from(["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"])
        attributes["nearest_mode"] = draw(how)
    elif draw(maybe):
        attributes["antialias"] = 1
    if mode == "cubic":
        attributes["cubic_coeff_a"] = draw(st.sampled_from([-0.75, -0.5]))
        attributes["exclude_outside"] = draw(st.integers(0, 1))
    # onnxruntime resamples linearly along two or three axes, cubically along two.
    spatial = draw(st.integers(1, 3) if mode == "nearest" else st.just(2) if mode == "cubic" else st.integers(2, 3))
    lead = draw(shapes(0, 2, 2)) if mode == "nearest" else draw(ints(1, 2, 2))
    maps = draw(ints(1, 7, spatial))
    rank = len(lead) + spatial
    axes = list(range(rank))
    if draw(maybe):
        axes = draw(st.permutations(axes[len(lead) :]))
        attributes["axes"] = [a - rank * draw(maybe) for a in axes]
    within = [a >= len(lead) for a in axes]
    shape = [*lead, *maps]
    roi: Array | None = None
    if attributes.get("coordinate_transformation_mode") == "tf_crop_and_resize":
        start, end = ([draw(st.sampled_from(side)) for _ in axes] for side in ([-0.2, 0.0, 0.3], [0.6, 1.0, 1.3]))
        inside = lambda values, other: [v if w else other for v, w in zip(values, within, strict=True)]  # noqa: E731
        roi = np.array(inside(start, 0.0) + inside(end, 1.0), np.float32)
        attributes["extrapolation_value"] = 2.0
    inputs: list[Array | None] = [whole(rng, *shape), roi]
    if draw(maybe):
        scales = [draw(SCALES) if w else 1.0 for w in within]
        scales = [s if fits(shape[a], s) else 1.0 for a, s in zip(axes, scales, strict=True)]
        inputs += [np.array(scales, np.float32)]
    else:
        to = [draw(st.integers(1, 9)) if w else shape[a] for a, w in zip(axes, within, strict=True)]
        inputs += [None, np.array(to, np.int64)]
        if "axes" in attributes and min(attributes["axes"]) >= 0 and roi is None and draw(maybe):
            policies = st.sampled_from(["not_larger", "not_smaller"])
            attributes["keep_aspect_ratio_policy"] = draw(policies)
    places = [i for i in range(1, len(inputs)) if inputs[i] is not None]
    runtime = draw(maybe)
    dynamic = not (runtime and len(inputs) == 4)  # onnx refuses sizes of unknown number
    return Case("Resize", inputs, attributes, fixed=[] if runtime else places, dynamic=dynamic)


@EXAMPLES
@given(resizes(), maybe)
def test_resize(case: Case, symbolic: bool) -> None:
    adjoint(case, symbolic, rtol=1e-4)
