"""What convolutions and pools read: the places under their window."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .table import At, Axis, Reach, Unknown, along, rule, same, taps


@rule("AveragePool LpPool MaxPool")
def pool(at: At) -> Reach:
    """Every channel for itself, o from s o + d k - p."""
    return along(at.x, [*same(2), *_under(at)])


@rule("Conv ConvInteger QLinearConv", data=1)
def conv(at: At) -> Reach:
    """Every channel from those of its group, o from s o + d k - p."""
    return along(at.x, [Axis(0), _group(at), *_under(at)])


@rule("ConvTranspose", data=1)
def conv_transpose(at: At) -> Reach:
    """Every channel from those of its group, o from all i that reach it: o = s i + d k - p."""
    axes = [Axis(0), _group(at)]
    for axis, (k, s, d, p) in enumerate(_windows(at), 2):
        far = np.arange(at.y[axis])[:, None] + p - d * np.arange(k)
        axes.append(Axis(axis, taps(np.where(far % s == 0, far // s, -1), at.x[axis])))
    return along(at.x, axes)


def _under(at: At) -> Iterator[Axis]:
    for axis, (k, s, d, p) in enumerate(_windows(at), 2):
        yield Axis(axis, taps(np.arange(at.y[axis])[:, None] * s + d * np.arange(k) - p, at.x[axis]))


def _group(at: At) -> Axis:
    """The axis of the channels: those of one group come from those of the same."""
    groups = at.node.attributes.get_int("group", 1)
    if groups == 1:
        return Axis()
    group = np.arange(at.y[1]) // (at.y[1] // groups)
    size = at.x[1] // groups
    return Axis(1, group[:, None] * size + np.arange(size))


def _windows(at: At) -> Iterator[tuple[int, int, int, int]]:
    """Along each spatial axis: size of the window, stride, dilation, and the pad before the first number."""
    attributes, mode = at.node.attributes, at.node.attributes.get_string("auto_pad", "NOTSET")
    weight = 3 if at.node.op_type == "QLinearConv" else 1
    kernel = list(attributes.get_ints("kernel_shape", ())) or at.shape(at.node.inputs[weight])[2:]
    rank = len(kernel)
    strides, dilations = (list(attributes.get_ints(name, ())) or [1] * rank for name in ("strides", "dilations"))
    pads = list(attributes.get_ints("pads", ())) or [0] * rank
    if "output_shape" in attributes:
        # What the full output has beyond the one that is asked for is cut off, on both sides.
        more = list(attributes.get_ints("output_padding", ())) or [0] * rank
        given = zip(at.x[2:], at.y[2:], kernel, strides, dilations, more, strict=True)
        excess = [max(s * (n - 1) + e + d * (k - 1) + 1 - m, 0) for n, m, k, s, d, e in given]
        pads = [n // 2 if mode == "SAME_UPPER" else n - n // 2 for n in excess]
    elif mode not in ("NOTSET", "VALID"):
        raise Unknown
    yield from zip(kernel, strides, dilations, pads[:rank], strict=True)
