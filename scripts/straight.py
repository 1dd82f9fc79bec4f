"""A float twin of a quantised model: what the straight-through estimator differentiates, for central differences.

Rounding is a step function, so differences of a quantised model say nothing. At one sample a quantiser moves x by a
residue, q - x / scale, or saturates. With residues and saturation of that sample frozen,

    q(x) = inside * x / scale + (q0 - inside * x0 / scale),

the twin gives the same numbers there, and its derivative is the straight-through estimate, by definition. Integers
between quantisers become floats. A model that rounds nothing is at most widened to float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

import onnx_inspect as oi
from onnx_inspect.canonical import infer_shapes
from onnx_inspect.decompose.table import Decomposition, decompose
from onnx_inspect.emit import Op, inputs
from onnx_inspect.rewrite import expose
from onnx_inspect.widen import widen

Array = NDArray[Any]
QUANTISERS = ("QuantizeLinear", "DynamicQuantizeLinear")
_INTEGERS = {getattr(ir.DataType, name) for name in ("INT8", "UINT8", "INT16", "UINT16", "INT32")}


def twin(model: oi.Model, feeds: dict[str, Array], engine: oi.Engine) -> oi.Model:
    """The model in float32, with the rounding of one sample frozen; its graph has the same names."""
    model = _spelt(model)
    new = model.clone()
    if any(n.op_type in QUANTISERS for n in model.ir.graph):
        values = {v.name: v.const_value.numpy() for v in model.ir.graph.initializers.values() if v.const_value}
        touched = [
            v for n in model.ir.graph if n.op_type in (*QUANTISERS, "Clip") for v in (*n.inputs, *n.outputs) if v
        ]
        seen, choices = _with_choices(model)
        names = list(dict.fromkeys(v.name or "" for v in touched if v.name not in values and v.name not in feeds))
        values |= feeds | engine.run(expose(seen, [*names, *choices]), feeds, [*names, *choices])
        for y in (y for n in new.ir.graph for y in n.outputs if y.dtype in _INTEGERS):
            y.type = None
        op = Op(new.ir.graph)
        for node in [n for n in new.ir.graph if n.op_type == "Add"]:  # sums of integers are reals as well
            for i, x in enumerate(node.inputs):
                if x is not None and x.const_value is not None and x.dtype == ir.DataType.INT32:
                    node.replace_input_with(i, op.const(x.const_value.numpy().astype(np.float32)))
        decompose(new.ir, _Frozen(values).table())
        infer_shapes(new.ir)
    widen(new.ir.graph, ir.DataType.FLOAT16)
    return new.derived("straight")


def _spelt(model: oi.Model) -> oi.Model:
    """The model with operators that compute in integers all the way as reals between two quantisers."""
    new = model.clone()
    decompose(new.ir, {"QLinearConv": _conv, "QLinearMatMul": _matmul})
    infer_shapes(new.ir)
    return new.derived("spelt")


def _conv(op: Op, node: ir.Node) -> ir.Value:
    x, x_scale, x_zero, w, w_scale, w_zero, scale, zero, bias = inputs(node, 9)
    reals = [op.DequantizeLinear(x, x_scale, x_zero), op.DequantizeLinear(w, w_scale, w_zero, axis=0)]
    if bias is not None:
        reals.append(op.Mul(op.Cast(bias, to=ir.DataType.FLOAT), op.Mul(x_scale, w_scale)))
    y = op.Conv(*reals, **{name: a.value for name, a in node.attributes.items()})
    return op.QuantizeLinear(y, scale, zero, dtype=zero.dtype)


def _matmul(op: Op, node: ir.Node) -> ir.Value:
    a, a_scale, a_zero, b, b_scale, b_zero, scale, zero = inputs(node, 8)
    b = op.DequantizeLinear(b, b_scale, b_zero, axis=op.rank(b) - 1)
    y = op.MatMul(op.DequantizeLinear(a, a_scale, a_zero), b)
    return op.QuantizeLinear(y, scale, zero, dtype=zero.dtype)


def _with_choices(model: oi.Model) -> tuple[oi.Model, list[str]]:
    """The model with what each MaxPool chooses as one more tensor: among integers many are equally large."""
    new = model.clone()
    op, names = Op(new.ir.graph), []
    for node in [n for n in new.ir.graph if n.op_type == "MaxPool"]:
        real = op.Cast(node.inputs[0], to=ir.DataType.FLOAT)
        given = {name: a.value for name, a in node.attributes.items()}
        names.append(f"choice.{node.outputs[0].name}")
        op.Identity(op.MaxPool(real, outputs=2, **given)[1], name=names[-1])
    return new.derived("choices"), names


class _Frozen:
    """What stands for each operator on integers, given the values of one sample by name."""

    def __init__(self, values: dict[Any, Array]) -> None:
        self.values = values

    def table(self) -> dict[str, Decomposition]:
        return {
            "QuantizeLinear": self.quantise,
            "DynamicQuantizeLinear": self.dynamic,
            "DequantizeLinear": self.reals,
            "ConvInteger": self.conv,
            "MatMulInteger": self.matmul,
            "MaxPool": self.choice,
            "Clip": self.clip,
        }

    def quantise(self, op: Op, node: ir.Node) -> ir.Value:
        x, scale, zero = inputs(node, 3)
        x0, q0 = self.values[x.name].astype(np.float64), self.values[node.outputs[0].name]
        step = _along(self.values[scale.name], x0, node)
        shift = _along(self.values[zero.name], x0, node) if zero is not None else 0
        range_ = np.iinfo(q0.dtype)
        unbounded = np.round(x0 / step) + shift
        inside = (unbounded >= range_.min) & (unbounded <= range_.max)
        return _affine(op, x, inside / step, q0 - inside * x0 / step)

    def dynamic(self, op: Op, node: ir.Node) -> list[ir.Value]:
        (x,) = inputs(node, 1)
        q0, scale, zero = (self.values[y.name] for y in node.outputs)
        steady = q0 - self.values[x.name].astype(np.float64) / scale
        return [_affine(op, x, 1 / scale, steady), op.const(scale), op.const(zero)]

    def reals(self, op: Op, node: ir.Node) -> ir.Value:
        q, scale, zero = inputs(node, 3)
        step = self.values[scale.name]
        if q.name in self.values and q.producer() is None:  # weights
            weight = self.values[q.name].astype(np.float32)
            shift = _along(self.values[zero.name], weight, node) if zero is not None else 0
            return op.const(((weight - shift) * _along(step, weight, node)).astype(step.dtype))
        rank = np.empty([1] * op.rank(q))
        shift = _along(self.values[zero.name], rank, node) if zero is not None else np.float32(0)
        factor = _along(step, rank, node).astype(np.float32)
        whole = op.Cast(q, to=ir.DataType.FLOAT)
        return op.Cast(op.Mul(op.Sub(whole, op.const(np.asarray(shift, np.float32))), op.const(factor)), to=scale.dtype)

    def conv(self, op: Op, node: ir.Node) -> ir.Value:
        x, w = self._centred(op, node)
        return op.Conv(x, w, **{name: a.value for name, a in node.attributes.items()})

    def matmul(self, op: Op, node: ir.Node) -> ir.Value:
        return op.MatMul(*self._centred(op, node))

    def choice(self, op: Op, node: ir.Node) -> ir.Value:
        return op.Gather(op.Reshape(node.inputs[0], [-1]), op.const(self.values[f"choice.{node.outputs[0].name}"]))

    def clip(self, op: Op, node: ir.Node) -> ir.Value:
        """Integers often stand for the very bounds, where differences see half of the slope."""
        x, low, high = inputs(node, 3)
        x0 = self.values[x.name].astype(np.float64)
        inside = np.ones(x0.shape, bool)
        for bound, within in ((low, np.greater_equal), (high, np.less_equal)):
            inside &= within(x0, self.values[bound.name]) if bound is not None else True
        return _affine(op, x, inside, self.values[node.outputs[0].name] - inside * x0)

    def _centred(self, op: Op, node: ir.Node) -> list[ir.Value]:
        """Both factors as floats, less their zero points."""
        found = []
        for x, zero in zip(node.inputs[:2], inputs(node, 4)[2:], strict=True):
            real = op.Cast(x, to=ir.DataType.FLOAT)
            found.append(real if zero is None else op.Sub(real, op.Cast(zero, to=ir.DataType.FLOAT)))
        return found


def _affine(op: Op, x: ir.Value, slope: Array, offset: Array) -> ir.Value:
    real = op.Cast(x, to=ir.DataType.FLOAT)
    return op.Add(op.Mul(real, op.const(np.asarray(slope, np.float32))), op.const(np.asarray(offset, np.float32)))


def _along(values: Array, x: Array, node: ir.Node) -> Array:
    """Scales or zero points, set along their axis to broadcast against X."""
    if values.ndim != 1 or values.size == 1:
        return values.reshape(()) if values.size == 1 else values
    shape = [1] * x.ndim
    shape[node.attributes.get_int("axis", 1)] = -1
    return values.reshape(shape)
