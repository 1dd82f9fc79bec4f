"""MaxPool's adjoint on the CPU provider: whose turn it is, by comparing whole maps."""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import math
from functools import reduce
from itertools import accumulate

import numpy as np
import onnx_ir as ir

from ..emit import Op
from .masks import STEEP, conditions

LOWEST = np.array(np.finfo(np.float32).min)
_EXACT = 2**24  # positions that float32 tells apart


def pooled(op: Op, node: ir.Node) -> ir.Value | None:
    """MaxPool's adjoint: where the first of the largest stands, found by comparing whole maps.

    onnxruntime's pooling that tells indices goes element by element, twenty times as slow as the one that does not.
    Here windows are pooled along rows, then across: at each step, the largest of a window's first one, two, ... taps
    says which of them is the first that has what the whole window has.
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
    channels = op.dim(x, 1) if _positive(x) else None
    rows = along.heads(op, x, channels)
    column, line = along.first(op, rows), down.first(op, down.heads(op, rows[-1], channels))
    # The column within the row that was chosen: where `line` is t, that of the window's row t.
    owns = enumerate(down.taken(op, column))
    chosen = reduce(op.Add, [op.Where(op.Equal(line, float(t)), own, 0.0) for t, own in owns])
    height, width = sizes
    starts = [np.arange(w.starts) * w.stride - w.begin for w in ways]
    corner = (starts[0][:, None] * width + starts[1]).astype(np.float32)
    place = op.Clip(op.Add(op.Add(op.Mul(line, float(width)), chosen), corner), 0.0, float(height * width - 1))
    if any(w.outs < w.starts for w in ways):
        place = op.Slice(place, [0, 0], [w.outs for w in ways], [2, 3])
    place = op.Cast(place, to=ir.DataType.INT64)
    planes = op.ReduceProd(op.Shape(place, end=2), keepdims=1)  # the shape of X would bring all of it out of its layout
    offset = op.Mul(op.Range(op.const(np.int64(0)), op.Squeeze(planes, [0]), op.const(np.int64(1))), [height * width])
    whole = op.Add(op.Reshape(place, op.Concat(planes, [-1], axis=0)), op.Unsqueeze(offset, [1]))
    if (mask := _mask(node.outputs[0], x)) is not None:
        # What a window chose is its maximum: so the mask of the Relu before is that of the maximum, on a smaller map.
        how = {k: v.value for k, v in attributes.items() if k != "storage_order"}
        dy = op.Mul(dy, op.Reshape(op.HardSigmoid(op.MaxPool(x, **how), alpha=STEEP, beta=0.0), [-1]))
        mask.replace_input_with(1, op.const(np.ones((), np.float32)))
    if kernel == strides and not any(pads) and all(n % k == 0 for n, k in zip(sizes, kernel, strict=True)):
        # Windows that tile the map share nothing: no sums.
        tiles = op.Shape(place)
        dx = op.MaxUnpool(op.Reshape(dy, tiles), op.Reshape(whole, tiles), kernel_shape=kernel, strides=strides)
        return op.Reshape(dx, [-1])
    return op.ScatterElements(zeros, op.Reshape(whole, [-1]), dy, axis=0, reduction="add")


def _mask(flat: ir.Value, x: ir.Value) -> ir.Node | None:
    """Where X is the output of a Relu, and its cotangent is read for that alone: the product with its mask."""
    whole = _only_use(flat, "Reshape")
    after = _only_use(whole.outputs[0], "Mul") if whole is not None else None
    return after if after is not None and conditions(after.inputs[1]) == [("Greater", x, 0.0)] else None


def _only_use(value: ir.Value, op_type: str) -> ir.Node | None:
    uses = [] if value.is_graph_output() else list(value.uses())
    return uses[0].node if len(uses) == 1 and uses[0].node.op_type == op_type else None


def _pooling(index: ir.Value | None) -> ir.Node | None:
    """The MaxPool whose indices, in one row, these are."""
    node = index.producer() if index is not None else None
    given = node.inputs[0] if node is not None and node.op_type == "Reshape" else None
    pool = given.producer() if given is not None else None
    return pool if pool is not None and pool.op_type == "MaxPool" and given is pool.outputs[1] else None


def _positive(x: ir.Value, steps: int = 3) -> bool:
    """Whether nothing below 0 can be in a map."""
    node = x.producer()
    if node is None or not steps:
        return False
    if node.op_type == "Concat":
        return all(y is not None and _positive(y, steps - 1) for y in node.inputs)
    return node.op_type == "Relu"


class _Taps:
    """What windows take from one axis: one window for each start on the map, which may be more than there are.

    Attributes:
        axis, size, kernel, stride, begin: the geometry.
        outs: how many windows there are.
        starts: how many are looked at.
    """

    def __init__(self, axis: int, size: int, kernel: int, stride: int, begin: int, end: int, up: int) -> None:
        self.axis, self.size, self.kernel, self.stride, self.begin = axis, size, kernel, stride, begin
        steps = size + begin + end - kernel
        self.outs = (-(-steps // stride) if up else steps // stride) + 1
        self.starts = (size + begin - 1) // stride + 1
        self.outs = min(self.outs, self.starts)  # with ceil_mode, the last one might begin behind the map

    def behind(self, taps: int) -> int:
        """How far windows of so many taps reach behind the map."""
        return max(0, (self.starts - 1) * self.stride + taps - self.begin - self.size)

    def heads(self, op: Op, x: ir.Value, channels: int | None) -> list[ir.Value]:
        """The largest of the first tap, of the first two, ..., of all.

        Pooling does that for whole maps, but not for windows that lie in the padding: those are at most the first tap,
        and of a map of so many channels, none of them negative, a convolution takes that one, with zeros around.
        """
        if self.begin > 1 or (self.begin and channels is None):
            return list(accumulate(self.taken(op, x), op.Max))
        step, found = self._along(self.stride, 1), []
        for taps in range(1, self.kernel + 1):
            pads = self._along(self.begin, 0) + self._along(self.behind(taps), 0)
            if taps > self.begin:
                found.append(op.MaxPool(x, kernel_shape=self._along(taps, 1), strides=step, pads=pads))
            else:
                assert channels is not None
                ones = op.const(np.ones((channels, 1, 1, 1), np.float32))
                found.append(op.Conv(x, ones, group=channels, strides=step, pads=pads))
        return found

    def first(self, op: Op, heads: list[ir.Value]) -> ir.Value:
        """The first tap that has the largest of all: as many as there are heads that stay below it."""
        below = [op.Cast(op.Less(head, heads[-1]), to=ir.DataType.FLOAT) for head in heads[:-1]]
        tap = reduce(op.Add, below) if below else op.Mul(heads[-1], 0.0)
        inside = np.maximum(self.begin - np.arange(self.starts) * self.stride, 0).astype(np.float32)
        return op.Max(tap, op.const(inside if self.axis == 3 else inside[:, None])) if self.begin else tap

    def _along(self, here: int, there: int) -> list[int]:
        return [here if self.axis == axis else there for axis in (2, 3)]

    def taken(self, op: Op, x: ir.Value) -> list[ir.Value]:
        """The taps, first to last; the padding is as low as can be."""
        behind = self.behind(self.kernel)
        if self.begin or behind:
            pads = [0] * 8
            pads[self.axis], pads[4 + self.axis] = self.begin, behind
            x = op.Pad(x, pads, op.const(LOWEST))
        ends = [t + (self.starts - 1) * self.stride + 1 for t in range(self.kernel)]
        return [op.Slice(x, [t], [end], [self.axis], [self.stride]) for t, end in enumerate(ends)]
