"""Convolutions, pools, resizing and reductions: what they compute lies in the middle of what they read."""

from __future__ import annotations

import numpy as np

from .. import structure
from .table import At, Place, Unknown, between, mean, rule


@rule(
    "ReverseSequence ScatterND Compress Unique TopK NonZero GridSample RoiAlign MaxRoiPool NonMaxSuppression CumSum "
    "CumProd Shape Size LSTM GRU RNN If Loop Scan GatherElements GatherND OneHot Col2Im MaxUnpool CenterCropPad DFT "
    "STFT AffineGrid DeformConv"
)
def lost(at: At) -> Place:
    """What is read from where, numbers say that are known at run time only."""
    raise Unknown


@rule("MaxPool AveragePool LpPool Conv ConvInteger QLinearConv FusedConv")
def window(at: At) -> Place:
    """The middle of each window."""
    place, known = mean(at.place, 1), structure.window(at.node)
    for axis in range(2, len(at.x())):
        if known is None:
            place = between(place, axis, _scaled(at.x()[axis], at.y[axis]))
        else:
            extent, stride, pad = (numbers[axis - 2] for numbers in known)
            place = between(place, axis, np.arange(at.y[axis]) * stride - pad + (extent - 1) / 2)
    return place


@rule("ConvTranspose DepthToSpace SpaceToDepth")
def scaled(at: At) -> Place:
    """A map at another size, its edges where they were."""
    place = mean(at.place, 1)
    for axis in range(2, len(at.x())):
        place = between(place, axis, _scaled(at.x()[axis], at.y[axis]))
    return place


@rule("Resize Upsample")
def resized(at: At) -> Place:
    """Whichever axes have another size."""
    place, mode = at.place, at.node.attributes.get_string("coordinate_transformation_mode", "half_pixel")
    for axis, (n, m) in enumerate(zip(at.x(), at.y, strict=True)):
        if n == m:
            continue
        if mode == "tf_crop_and_resize":
            raise Unknown
        i = np.arange(m)
        index = {"align_corners": i * (n - 1) / max(m - 1, 1), "asymmetric": i * n / m}.get(mode, _scaled(n, m))
        nearest = mode == "asymmetric" and at.node.attributes.get_string("mode", "nearest") == "nearest"
        place = between(place, axis, _scaled(n, m) if nearest else index)
    return place


def _scaled(n: int, m: int) -> Place:
    """Where m cells lie that share the room of n."""
    index: Place = (np.arange(m) + 0.5) * n / m - 0.5
    return index


@rule("ReduceMean ReduceSum ReduceMax ReduceMin ReduceL1 ReduceL2 ReduceProd ReduceSumSquare ReduceLogSum "
      "ReduceLogSumExp ArgMax ArgMin")  # fmt: skip
def reduced(at: At) -> Place:
    """The middle of what is reduced."""
    rank = len(at.x())
    if at.node.op_type in ("ArgMax", "ArgMin"):
        axes = {at.axis()}
    else:
        given = at.numbers(1)
        every = set() if at.node.attributes.get_int("noop_with_empty_axes", 0) else set(range(rank))
        axes = {int(a) % rank for a in given} if given is not None and given.size else every
    place = mean(at.place, tuple(axes)) if axes else at.place
    if at.node.attributes.get_int("keepdims", 1):
        return place
    return place.reshape([n for i, n in enumerate(place.shape) if i not in axes])


@rule("GlobalAveragePool GlobalMaxPool GlobalLpPool")
def pooled(at: At) -> Place:
    """The middle of the map."""
    return mean(at.place, tuple(range(2, len(at.x()))))
