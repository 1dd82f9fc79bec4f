"""Normalisations, most of them of a sum."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from ..emit import Op, inputs
from .common import FLOAT, HALF, channels_first, wanted
from .table import decomposition


@decomposition("com.microsoft::LayerNormalization")
def layer_normalization(op: Op, node: ir.Node) -> Any:
    """What the standard has had since opset 17; files before it have onnxruntime's."""
    attributes = {name: a.value for name, a in node.attributes.items()}
    return op.LayerNormalization(*node.inputs, outputs=len(node.outputs), **attributes)


@decomposition("com.microsoft::SkipLayerNormalization")
def skip_layer_normalization(op: Op, node: ir.Node) -> Any:
    """Y = LayerNormalization(S), S = X + skip + bias; the outputs are Y, the mean and 1/σ of S, and S."""
    x, skip, scale, shift, bias = inputs(node, 5)
    total = _sum(x, skip, bias)
    epsilon, count = node.attributes.get_float("epsilon", 1e-12), 3 if wanted(node, 1) or wanted(node, 2) else 1
    found = op.LayerNormalization(total, scale, shift, epsilon=epsilon, outputs=count)
    return [*(found if count == 3 else (found, None, None)), total][: len(node.outputs)]


@decomposition("com.microsoft::EmbedLayerNormalization")
def embed_layer_normalization(op: Op, node: ir.Node) -> Any:
    """Y = LayerNormalization(word[ids] + position[0, 1, ..] + segment[ids]); how many of each mask are 1; the sum."""
    words, segments, word, position, segment, scale, shift, mask, places = inputs(node, 9)
    rows = op.Gather(position, places) if places is not None else op.Slice(position, [0], op.size(words, 1), [0])
    total = op.Gather(word, words, dtype=word.dtype) + rows
    total = total if segments is None else total + op.Gather(segment, segments)
    y = op.LayerNormalization(total, scale, shift, epsilon=node.attributes.get_float("epsilon", 1e-12))
    counts = None
    if wanted(node, 1):
        counted = op.Mul(words, 0) if mask is None else op.Equal(mask, 1)
        counts = op.ReduceSum(op.Cast(counted, to=ir.DataType.INT32), [1], keepdims=0)
    return [y, counts, total][: len(node.outputs)]


@decomposition("com.microsoft::SimplifiedLayerNormalization")
def simplified_layer_normalization(op: Op, node: ir.Node) -> Any:
    """Y = scale X / √(mean X² + ε) over the axes from `axis` on; the second output is what X is multiplied by."""
    x, scale = inputs(node, 2)
    axis = node.attributes.get_int("axis", -1)
    axes = list(range(axis, 0 if axis < 0 else op.rank(x)))
    return rms(op, x, scale, node.attributes.get_float("epsilon", 1e-5), axes)[: len(node.outputs)]


@decomposition("com.microsoft::SkipSimplifiedLayerNormalization")
def skip_simplified_layer_normalization(op: Op, node: ir.Node) -> Any:
    """Y = scale S / √(mean S² + ε), S = X + skip + bias; the last output is S."""
    x, skip, scale, bias = inputs(node, 4)
    total = _sum(x, skip, bias)
    y, inverse = rms(op, total, scale, node.attributes.get_float("epsilon", 1e-12))
    return [y, None, inverse, total][: len(node.outputs)]


@decomposition("com.microsoft::GroupNorm")
def group_norm(op: Op, node: ir.Node) -> Any:
    """Y = activation(scale X̂ + shift), X̂ standardised over each group of channels, which may be the last axis."""
    x, scale, shift = inputs(node, 3)
    return _group_norm(op, node, x, scale, shift)


@decomposition("com.microsoft::SkipGroupNorm")
def skip_group_norm(op: Op, node: ir.Node) -> Any:
    """GroupNorm of S = X + skip + bias; the second output is S."""
    x, scale, shift, skip, bias = inputs(node, 5)
    if not node.attributes.get_int("channels_last", 1):
        raise op.unsupported("channels_last=0 has no defined skip")
    total = _sum(x, op.Unsqueeze(skip, [1, 2]) if op.rank(skip) == 2 else skip, bias)
    return [_group_norm(op, node, total, scale, shift), total][: len(node.outputs)]


def rms(op: Op, x: ir.Value, scale: ir.Value, epsilon: float, axes: Any = (-1,)) -> tuple[Any, Any]:
    """scale X / √(mean X² + ε), and 1 / √(mean X² + ε), which is float32 where X is half precision."""
    wide = op.Cast(x, to=FLOAT) if x.dtype in HALF else x
    inverse = op.Reciprocal(op.Sqrt(op.Add(op.ReduceMean(op.Mul(wide, wide), list(axes), keepdims=1), epsilon)))
    hat = op.Mul(wide, inverse)
    return op.Mul(hat if hat.dtype == scale.dtype else op.CastLike(hat, scale, dtype=scale.dtype), scale), inverse


def _sum(x: Any, skip: Any, bias: Any) -> ir.Value:
    return x + skip if bias is None else x + skip + bias  # type: ignore[no-any-return]


def _group_norm(op: Op, node: ir.Node, x: ir.Value, scale: ir.Value, shift: ir.Value) -> Any:
    last = node.attributes.get_int("channels_last", 1)
    assert node.inputs[0] is not None
    first, back = channels_first(op.rank(node.inputs[0])) if last else ([], [])
    scale, shift = (p if p.dtype == x.dtype else op.CastLike(p, x, dtype=x.dtype) for p in (scale, shift))
    y = op.GroupNormalization(
        op.Transpose(x, perm=first) if last else x,
        scale,
        shift,
        num_groups=node.attributes["groups"].as_int(),
        epsilon=node.attributes.get_float("epsilon", 1e-5),
    )
    y = op.Transpose(y, perm=back) if last else y
    return y * op.Sigmoid(y) if node.attributes.get_int("activation", 0) else y
