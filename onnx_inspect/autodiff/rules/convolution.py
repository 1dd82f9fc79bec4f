"""Convolutions, and the window geometry that pooling shares with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import onnx_ir as ir

from ...emit import Op, inputs
from ..table import Cotangents, rule
from .linear import cleared


@dataclass(frozen=True)
class Window:
    """How a kernel slides, one entry per spatial axis. `kernel` is None where only the run knows its size."""

    kernel: list[int] | None
    strides: list[int]
    dilations: list[int]
    begin: list[int]
    end: list[int]

    @property
    def extent(self) -> list[int]:
        """What one position of the kernel spans, holes included."""
        assert self.kernel is not None
        return [d * (k - 1) + 1 for d, k in zip(self.dilations, self.kernel, strict=True)]

    @property
    def pads(self) -> list[int]:
        """The pads as ONNX writes them: all begins, then all ends."""
        return self.begin + self.end


@rule("Conv")
def conv(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = W ⋆ X + B: dX is the transposed convolution of dY, dW the correlation of X with dY."""
    x, w, b = inputs(node, 3)
    assert x is not None and w is not None
    at, group = window(op, node), node.attributes.get_int("group", 1)
    dx = op.wants(x) and transposed(op, dy, w, at, of=node.outputs[0], like=x, group=group)
    dw = op.wants(w) and _correlation(op, x, dy, w, at, group)
    db = op.wants(b) and op.ReduceSum(dy, [0, *axes(at)], keepdims=0)
    return [dx or None, dw or None, db or None]


@rule("ConvTranspose")
def conv_transpose(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = Wᵀ ⋆ X + B: dX is the convolution of dY, dW the correlation of dY with X."""
    x, w, b = inputs(node, 3)
    assert x is not None and w is not None
    at, group = _from_output_shape(op, node), node.attributes.get_int("group", 1)
    dx = dw = None
    if op.wants(x):
        dx = op.Conv(dy, w, group=group, strides=at.strides, dilations=at.dilations, pads=at.pads)
        dx = _crop(op, dx, x, at)  # an output_padding of a whole stride gives one position too many
    if op.wants(w):
        dw = _correlation(op, dy, x, w, at, group)
    db = op.wants(b) and op.ReduceSum(dy, [0, *axes(at)], keepdims=0)
    return [dx, dw, db or None]


def transposed(
    op: Op, dy: ir.Value, w: ir.Value, at: Window, *, of: ir.Value, like: ir.Value, group: int = 1
) -> ir.Value:
    """The transposed convolution of `dy`, sized as `of`, that ends at the height and width of `like`."""
    outs, ins = [op.dim(of, a) for a in axes(at)], [op.dim(like, a) for a in axes(at)]
    begin, end, more = at.begin, at.end, [0] * len(at.strides)
    known = at.kernel is not None and None not in outs and None not in ins
    if known:
        # The last window ends with the padded input, or before it (a remainder), or behind it (ceil_mode).
        gaps = [
            i + b + e - (o - 1) * s - x
            for i, o, b, e, s, x in zip(ins, outs, begin, end, at.strides, at.extent, strict=True)
        ]
        more = [max(g, 0) for g in gaps]
        end = [e + max(-g, 0) for e, g in zip(end, gaps, strict=True)]
    else:
        more, end = [s - 1 for s in at.strides], [0] * len(end)
    dx = op.ConvTranspose(
        dy, w, group=group, strides=at.strides, dilations=at.dilations, pads=begin + end, output_padding=more
    )
    return dx if known else _crop(op, dx, like, at)


def _correlation(op: Op, x: ir.Value, dy: ir.Value, w: ir.Value, at: Window, group: int) -> ir.Value:
    """dW[o, c, k] = Σₙᵢ X[n, c, s i + d k] dY[n, o, i]: a convolution, strides and dilations exchanged."""
    rest, batch = axes(at), x
    if group == 1:
        x = op.Transpose(x, perm=[1, 0, *rest])
    else:  # [N, C, ...] -> [C/g, g N, ...]
        size = sizes(op, x, at)
        x = op.Reshape(x, op.Concat([0, group], op.size(w, 1), size, axis=0))
        x = op.Transpose(x, perm=[2, 1, 0, *(a + 1 for a in rest)])
        x = op.Reshape(x, op.Concat([0, -1], size, axis=0))
    dy = op.Transpose(dy, perm=[1, 0, *rest])
    dw = op.Conv(x, dy, group=group, strides=at.dilations, dilations=at.strides, pads=at.pads)
    return cleared(op, op.Transpose(_crop(op, dw, w, at), perm=[1, 0, *rest]), batch, 0)


def _crop(op: Op, value: ir.Value, like: ir.Value, at: Window) -> ir.Value:
    return op.Slice(value, [0] * len(at.strides), sizes(op, like, at), axes(at))  # type: ignore[no-any-return]


def axes(at: Window) -> list[int]:
    """The spatial axes."""
    return list(range(2, 2 + len(at.strides)))


def sizes(op: Op, x: ir.Value, at: Window) -> ir.Value:
    """The sizes of the spatial axes, int64."""
    static = [op.dim(x, a) for a in axes(at)]
    return op.Shape(x, start=2) if None in static else op.const(static)  # type: ignore[arg-type]


def window(op: Op, node: ir.Node) -> Window:
    """The geometry of a convolution or pooling node.

    Raises:
        UnsupportedError: its padding is only known at run time.
    """
    w = node.inputs[1] if len(node.inputs) > 1 else None
    kernel: Sequence[int | None] = node.attributes.get_ints("kernel_shape", ()) or (
        [op.dim(w, a) for a in range(2, op.rank(w))] if w is not None else ()
    )
    rank = len(kernel)
    mode = node.attributes.get_string("auto_pad", "NOTSET")
    if mode != "NOTSET" and "output_shape" not in node.attributes:
        raise op.unsupported(
            f"auto_pad={mode} with a stride pads by an amount that depends on the input's size, which is "
            "only known at run time; fix the model's height and width"
        )
    pads = list(node.attributes.get_ints("pads", ())) or [0] * (2 * rank)
    return Window(
        kernel=[k for k in kernel if k is not None] if None not in kernel else None,
        strides=list(node.attributes.get_ints("strides", ())) or [1] * rank,
        dilations=list(node.attributes.get_ints("dilations", ())) or [1] * rank,
        begin=pads[:rank],
        end=pads[rank:],
    )


def _from_output_shape(op: Op, node: ir.Node) -> Window:
    """The geometry of a ConvTranspose, with the pads that its output_shape stands for, if it has one."""
    at, x = window(op, node), node.inputs[0]
    rank = len(at.strides)
    wanted = node.attributes.get_ints("output_shape", ())[-rank:]
    if not wanted or x is None:
        return at
    ins = [op.dim(x, a) for a in axes(at)]
    if at.kernel is None or None in ins:
        raise op.unsupported(
            "output_shape pads by an amount that depends on the input's size, which is only known at run "
            "time; fix the model's height and width"
        )
    extra = node.attributes.get_ints("output_padding", ()) or [0] * rank
    totals = [
        max(s * (i - 1) + e + k - n, 0)  # type: ignore[operator]
        for s, i, e, k, n in zip(at.strides, ins, extra, at.extent, wanted, strict=True)
    ]
    small, large = [t // 2 for t in totals], [t - t // 2 for t in totals]
    upper = node.attributes.get_string("auto_pad", "NOTSET") == "SAME_UPPER"
    return replace(at, begin=small if upper else large, end=large if upper else small)
