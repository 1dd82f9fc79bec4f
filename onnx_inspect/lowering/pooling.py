"""MaxPool's adjoint on the CPU provider: whose turn it is, by comparing whole maps."""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import math
from functools import reduce

import numpy as np
import onnx_ir as ir

from ..emit import Op

LOWEST = np.array(np.finfo(np.float32).min)
_EXACT = 2**24  # positions that float32 tells apart


def pooled(op: Op, node: ir.Node) -> ir.Value | None:
    """MaxPool's adjoint: where the first of the largest stands, found by comparing whole maps.

    onnxruntime's pooling that tells indices goes element by element, twenty times as slow as the one that does not.
    Here the largest of each row of a window comes first, then the first row that has it, then the first of that row.
    """
    zeros, index, dy = node.inputs
    pool = _pooling(index)
    if pool is None or pool.inputs[0] is None:
        return None
    x, attributes = pool.inputs[0], pool.attributes
    sizes = [n for n in list(x.shape or ())[2:] if isinstance(n, int)]
    kernel = list(attributes.get_ints("kernel_shape", ()))
    if x.dtype != ir.DataType.FLOAT or not len(kernel) == len(sizes) == 2 or math.prod(sizes) > _EXACT:
        return None
    strides, dilations = (list(attributes.get_ints(k, ())) or [1, 1] for k in ("strides", "dilations"))
    pads = list(attributes.get_ints("pads", ())) or [0] * 4
    if set(dilations) != {1} or attributes.get_string("auto_pad", "NOTSET") != "NOTSET":
        return None
    up = attributes.get_int("ceil_mode", 0)
    ways = [
        _Taps(axis, *at, up)
        for axis, at in enumerate(zip(sizes, kernel, strides, pads[:2], pads[2:], strict=True), start=2)
    ]
    down, along = ways
    row, column = _first(op, along.taken(op, x))
    _, line = _first(op, down.taken(op, row))
    # The column within the row that was chosen: where `line` is t, that of the window's row t.
    owns = enumerate(down.taken(op, column))
    chosen = reduce(op.Add, [op.Where(op.Equal(line, float(t)), own, 0.0) for t, own in owns])
    height, width = sizes
    starts = [np.arange(w.outs) * w.stride - w.begin for w in ways]
    corner = (starts[0][:, None] * width + starts[1]).astype(np.float32)
    place = op.Clip(op.Add(op.Add(op.Mul(line, float(width)), chosen), corner), 0.0, float(height * width - 1))
    place = op.Cast(place, to=ir.DataType.INT64)
    planes = op.Mul(op.size(x, 0), op.size(x, 1))
    offset = op.Mul(op.Range(op.const(np.int64(0)), op.Squeeze(planes, [0]), op.const(np.int64(1))), [height * width])
    whole = op.Reshape(op.Add(op.Reshape(place, op.Concat(planes, [-1], axis=0)), op.Unsqueeze(offset, [1])), [-1])
    return op.ScatterElements(zeros, whole, dy, axis=0, reduction="add")


def _pooling(index: ir.Value | None) -> ir.Node | None:
    """The MaxPool whose indices, in one row, these are."""
    node = index.producer() if index is not None else None
    given = node.inputs[0] if node is not None and node.op_type == "Reshape" else None
    pool = given.producer() if given is not None else None
    return pool if pool is not None and pool.op_type == "MaxPool" and given is pool.outputs[1] else None


class _Taps:
    """What a window takes from one axis: tap t of all windows is a slice with the stride as its step."""

    def __init__(self, axis: int, size: int, kernel: int, stride: int, begin: int, end: int, up: int) -> None:
        self.axis, self.kernel, self.stride, self.begin = axis, kernel, stride, begin
        steps = size + begin + end - kernel
        self.outs = (-(-steps // stride) if up else steps // stride) + 1
        if up and (self.outs - 1) * stride >= size + begin:
            self.outs -= 1  # the last window would begin behind the map
        self.behind = max(0, (self.outs - 1) * stride + kernel - begin - size)

    def taken(self, op: Op, x: ir.Value) -> list[ir.Value]:
        """The taps, first to last; the padding is as low as can be."""
        if self.begin or self.behind:
            pads = [0] * 8
            pads[self.axis], pads[4 + self.axis] = self.begin, self.behind
            x = op.Pad(x, pads, op.const(LOWEST))
        ends = [t + (self.outs - 1) * self.stride + 1 for t in range(self.kernel)]
        return [op.Slice(x, [t], [end], [self.axis], [self.stride]) for t, end in enumerate(ends)]


def _first(op: Op, taps: list[ir.Value]) -> tuple[ir.Value, ir.Value]:
    """The largest of some maps, and which is the first that has it: as many as those whose predecessors stay below."""
    heads = [taps[0]]
    for tap in taps[1:]:
        heads.append(op.Max(heads[-1], tap))
    below = [op.Cast(op.Less(head, heads[-1]), to=ir.DataType.FLOAT) for head in heads[:-1]]
    return heads[-1], reduce(op.Add, below) if below else op.Mul(heads[-1], 0.0)
