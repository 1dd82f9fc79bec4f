"""Resampling."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from ...emit import Op, inputs, ints
from ..table import Cotangents, rule

_KEPT = (
    "antialias",
    "coordinate_transformation_mode",
    "cubic_coeff_a",
    "exclude_outside",
    "mode",
    "nearest_mode",
)


@rule("Resize")
def resize(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = X resampled axis by axis, which is linear and separable: dX multiplies dY by each axis's matrix, transposed.

    The matrix of an axis is what Resize itself makes of the identity, so every mode comes out right, also
    that onnxruntime does not crop along an axis that keeps its size.
    """
    attributes = node.attributes
    x, roi, scales = inputs(node, 3)
    y = node.outputs[0]
    rank = op.rank(x)
    axes = [a % rank for a in attributes.get_ints("axes", range(rank))]
    how: dict[str, Any] = {name: attributes[name].value for name in _KEPT if name in attributes}
    crops = how.get("coordinate_transformation_mode") == "tf_crop_and_resize"
    if crops and op.wants(roi):
        raise op.unsupported("its region of interest depends on what is differentiated; give it as a constant")
    if attributes.get_string("keep_aspect_ratio_policy", "stretch") != "stretch":
        scales = _common_scale(op, node, axes)
    for i, axis in enumerate(axes):
        scale = None if scales is None else op.Slice(scales, [i], [i + 1])
        same = op.dim(x, axis), op.dim(y, axis)
        whole = scales is None or (scales.const_value is not None and scales.const_value.numpy()[i] == 1)
        if whole and not crops and same[0] is not None and same[0] == same[1]:
            continue
        part = None
        if crops:  # what is extrapolated does not depend on X
            part = op.Cast(op.Gather(roi, [i, i + len(axes)]), to=ir.DataType.FLOAT)
            how["extrapolation_value"] = 0.0
        dy = _transposed(op, dy, x, y, axis, part, scale, how)
    return dy


def _common_scale(op: Op, node: ir.Node, axes: list[int]) -> ir.Value:
    """The one scale of all axes by which keep_aspect_ratio_policy fits Y into the sizes, or around them."""
    x, y, wanted = op.static_shape(inputs(node, 1)[0]), op.static_shape(node.outputs[0]), ints(inputs(node, 4)[3])
    if x is not None and y is not None and wanted is not None:
        fit = min if node.attributes.get_string("keep_aspect_ratio_policy") == "not_larger" else max
        scale = np.float32(fit(np.float32(size) / np.float32(x[a]) for size, a in zip(wanted, axes, strict=True)))
        # Sizes by scale are rounded down, by policy to the nearest.
        if all(int(np.float32(x[a]) * scale) == y[a] for a in axes):
            return op.const(np.full(len(axes), scale, np.float32))
    raise op.unsupported(
        "its keep_aspect_ratio_policy is not 'stretch' and rounds a size; give scales instead of sizes"
    )


def _transposed(
    op: Op,
    dy: ir.Value,
    x: ir.Value,
    y: ir.Value,
    axis: int,
    roi: ir.Value | None,
    scale: ir.Value | None,
    how: dict[str, Any],
) -> ir.Value:
    """dY times the transposed matrix of one axis."""
    n, m = op.size(x, axis), op.size(y, axis)
    eye = op.EyeLike(op.full(op.Concat(n, n, axis=0), 0, ir.DataType.FLOAT))
    copied = scale is not None and op.dim(x, axis) == op.dim(y, axis)  # or both unknown
    plain = how.get("mode") != "cubic" and not how.get("antialias")
    if copied and not plain and op.dim(x, axis) is not None:
        raise op.unsupported("one of its axes is resampled to the size that it has; give sizes instead of scales")
    # onnxruntime copies where no size changes, whatever the scales say: an axis of 1 grows to 2 beside it.
    lead = [1, 1, 1] if copied and plain else [1, 1]
    identity = op.Unsqueeze(eye, list(range(len(lead))))
    if roi is not None:  # of the identity all rows, of its columns the region
        start, end = op.Split(roi, outputs=2, num_outputs=2)
        zeros = np.zeros(len(lead) + 1, np.float32)
        roi = op.Concat(op.const(zeros), start, op.const(zeros + 1), end, axis=0)
    if scale is not None:
        scales = op.const(np.array([*lead[:2], *[2] * (len(lead) - 2), 1], np.float32))
        matrix = op.Resize(identity, roi, op.Concat(scales, scale, axis=0), **how)
    else:
        matrix = op.Resize(identity, roi, None, op.Concat([1, 1, *[2] * (len(lead) - 2)], n, m, axis=0), **how)
    matrix = op.Gather(matrix, op.const(np.array(0)), axis=2) if len(lead) == 3 else matrix
    matrix = op.Cast(op.Squeeze(matrix, [0, 1]), to=dy.dtype)
    rank = op.rank(x)
    order = [a for a in range(rank) if a != axis] + [axis]
    rows = op.MatMul(op.Transpose(dy, perm=order), op.Transpose(matrix, perm=[1, 0]))
    return op.Transpose(rows, perm=[order.index(a) for a in range(rank)])  # type: ignore[no-any-return]
