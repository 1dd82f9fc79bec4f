"""Resampling."""

from __future__ import annotations

import math
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


@rule("Resize", flat=(1, 2))
def resize(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = X resampled axis by axis, which is linear and separable: dX multiplies dY by each axis's matrix, transposed.

    The matrix of an axis is what Resize itself makes of the identity, so every mode comes out right, also
    that onnxruntime does not crop along an axis that keeps its size.
    """
    attributes = node.attributes
    x, roi, scales, sizes = inputs(node, 4)
    if scales is not None and op.static_shape(scales) == [0]:  # as exporters write that there are none
        scales = None
    y = node.outputs[0]
    rank = op.rank(x)
    axes = [a % rank for a in attributes.get_ints("axes", range(rank))]
    how: dict[str, Any] = {name: attributes[name].value for name in _KEPT if name in attributes}
    crops = how.get("coordinate_transformation_mode") == "tf_crop_and_resize"
    moving = next((v for v in (roi if crops else None, scales) if op.wants(v)), None)
    if moving is not None and how.get("mode", "nearest") != "nearest":  # that moves in steps
        raise op.unsupported(f"its input '{moving.name}' depends on what is differentiated; give it as a constant")
    if crops:  # what is extrapolated does not depend on X
        how["extrapolation_value"] = 0.0
    policy = attributes.get_string("keep_aspect_ratio_policy", "stretch") if scales is None else "stretch"
    how["keep_aspect_ratio_policy"] = policy
    grown = _grown(op, x, y)
    if policy != "stretch":
        grown = _fit(op, x, sizes, axes, policy)
    known = None if scales is None or scales.const_value is None else scales.const_value.numpy()
    for i, axis in enumerate(axes):
        kept = op.dim(x, axis) is not None and op.dim(x, axis) == op.dim(y, axis)
        if not crops and (known[i] == 1 if known is not None else kept and scales is None and policy == "stretch"):
            continue
        part = op.Cast(op.Gather(roi, [i, i + len(axes)]), to=ir.DataType.FLOAT) if crops else None
        scale = None if scales is None else op.Slice(scales, [i], [i + 1])
        size = op.size(y, axis) if policy == "stretch" else op.Slice(sizes, [i], [i + 1])
        dy = _transposed(op, dy, _matrix(op, op.size(x, axis), grown, size, part, scale, how), axis, rank)
    return dy


def _grown(op: Op, x: ir.Value, y: ir.Value) -> tuple[ir.Value, ir.Value]:
    """From 1 to 2 if X and Y differ in size, else to 1: where no size changes, onnxruntime only copies."""
    one, change = op.const([1]), op.ReduceSum(op.Abs(op.shape(x) - op.shape(y)), [0])
    return one, one + op.Min(change, one)


def _fit(op: Op, x: ir.Value, sizes: ir.Value, axes: list[int], policy: str) -> tuple[ir.Value, ir.Value]:
    """The axis that decides on the one scale by which a policy keeps the aspect ratio: its size, and the wanted one.

    A fraction as small as possible stands for it, where they are known.
    """
    have, wanted = [op.dim(x, axis) or 0 for axis in axes], ints(sizes)
    if wanted is not None and all(have):
        pick = min if policy == "not_larger" else max
        p, q = pick(zip(have, wanted, strict=True), key=lambda pair: np.float32(pair[1]) / np.float32(pair[0]))
        return op.const([p // math.gcd(p, q)]), op.const([q // math.gcd(p, q)])
    all_sizes = op.Concat(*(op.size(x, axis) for axis in axes), axis=0)
    ratio = op.Cast(sizes, to=ir.DataType.FLOAT) / op.Cast(all_sizes, to=ir.DataType.FLOAT)
    at = (op.ArgMin if policy == "not_larger" else op.ArgMax)(ratio, axis=0, keepdims=1)
    return op.Gather(all_sizes, at), op.Gather(sizes, at)


def _matrix(
    op: Op,
    n: ir.Value,
    height: tuple[ir.Value, ir.Value],
    size: ir.Value,
    roi: ir.Value | None,
    scale: ir.Value | None,
    how: dict[str, Any],
) -> ir.Value:
    """What the resampling of an axis of n elements makes of the rows of the identity.

    The rows are images, (1, n, height, n) with equal lines, that are resized with the axis's roi, scale or size.
    """
    eye = op.EyeLike(op.full(op.Concat(n, n, axis=0), 0, ir.DataType.FLOAT))
    images = op.Expand(op.Unsqueeze(eye, [0, 2]), op.Concat([1, 1], height[0], [1], axis=0))
    if roi is not None:  # of the height all
        start, end = op.Split(roi, outputs=2, num_outputs=2)
        roi = op.Concat(np.zeros(1, np.float32), start, np.ones(1, np.float32), end, axis=0)
    if scale is not None:
        scales = op.Concat(op.Cast(height[1], to=ir.DataType.FLOAT), scale, axis=0)
        resized = op.Resize(images, roi, scales, axes=[2, 3], **how)
    else:
        resized = op.Resize(images, roi, None, op.Concat(height[1], size, axis=0), axes=[2, 3], **how)
    return op.Squeeze(op.Slice(resized, [0], [1], [2]), [0, 2])  # type: ignore[no-any-return]


def _transposed(op: Op, dy: ir.Value, matrix: ir.Value, axis: int, rank: int) -> ir.Value:
    """dY times the transposed matrix of one axis."""
    order = [a for a in range(rank) if a != axis] + [axis]
    transposed = op.Transpose(op.Cast(matrix, to=dy.dtype), perm=[1, 0])
    rows = op.MatMul(op.Transpose(dy, perm=order), transposed)
    return op.Transpose(rows, perm=[order.index(a) for a in range(rank)])  # type: ignore[no-any-return]
