"""Resampling."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from ..emit import Op, inputs
from ..gradient import Cotangents, rule

_KEPT = (
    "antialias",
    "coordinate_transformation_mode",
    "cubic_coeff_a",
    "exclude_outside",
    "extrapolation_value",
    "mode",
    "nearest_mode",
)
_ONES = np.ones(3, np.float32)


@rule("Resize")
def resize(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = X resampled axis by axis, which is linear and separable: dX multiplies dY by each axis's matrix, transposed.

    The matrix of an axis is what Resize itself makes of the identity, so every mode comes out right.
    """
    attributes = node.attributes
    if attributes.get_string("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize":
        raise op.unsupported("tf_crop_and_resize depends on a region of interest; use roi-free resizing")
    if attributes.get_string("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise op.unsupported("its keep_aspect_ratio_policy is not 'stretch'; give the sizes themselves")
    x, _, scales = inputs(node, 3)
    y = node.outputs[0]
    rank = op.rank(x)
    axes = [a % rank for a in attributes.get_ints("axes", range(rank))]
    how: dict[str, Any] = {name: attributes[name].value for name in _KEPT if name in attributes}
    for i, axis in enumerate(axes):
        same = op.dim(x, axis), op.dim(y, axis)
        if same[0] is not None and same[0] == same[1]:
            continue
        dy = _transposed(op, dy, x, y, axis, None if scales is None else op.Slice(scales, [i], [i + 1]), how)
    return dy


def _transposed(
    op: Op, dy: ir.Value, x: ir.Value, y: ir.Value, axis: int, scale: ir.Value | None, how: dict[str, Any]
) -> ir.Value:
    """dY times the transposed matrix of one axis."""
    n, m = op.size(x, axis), op.size(y, axis)
    eye = op.EyeLike(op.full(op.Concat(n, n, axis=0), 0, ir.DataType.FLOAT))
    identity = op.Unsqueeze(eye, [0, 1])
    if scale is not None:
        matrix = op.Resize(identity, None, op.Concat(op.const(_ONES), scale, axis=0), **how)
    else:
        matrix = op.Resize(identity, None, None, op.Concat([1, 1], n, m, axis=0), **how)
    matrix = op.Cast(op.Squeeze(matrix, [0, 1]), to=dy.dtype)
    rank = op.rank(x)
    order = [a for a in range(rank) if a != axis] + [axis]
    rows = op.MatMul(op.Transpose(dy, perm=order), op.Transpose(matrix, perm=[1, 0]))
    return op.Transpose(rows, perm=[order.index(a) for a in range(rank)])  # type: ignore[no-any-return]
