"""Gradients of whole models against central differences in float64, on onnx's own implementation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from scipy import special

import onnx_inspect as oi

STEPS = (1e-6, 1e-5, 1e-7)


class Erf(OpRun):  # onnx's own rounds to float32
    def _run(self, x: np.ndarray) -> tuple[np.ndarray]:
        return (special.erf(x),)


class Gelu(OpRun):
    op_schema = onnx.defs.get_schema("Gelu", 21)

    def _run(self, x: np.ndarray, approximate: str = "none") -> tuple[np.ndarray]:
        inner = np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)
        return (x * special.ndtr(x) if approximate == "none" else x / 2 * (1 + np.tanh(inner)),)


def in_double(model: oi.Model) -> ReferenceEvaluator:
    """The model in float64."""
    proto = onnx.ModelProto.FromString(model.to_bytes())
    _widen(proto.graph)
    return ReferenceEvaluator(proto, new_ops=[Erf, Gelu])


def _widen(graph: onnx.GraphProto) -> None:
    halves = {TensorProto.FLOAT, TensorProto.FLOAT16}
    for tensor in graph.initializer:
        if tensor.data_type in halves:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name))
    for value in [*graph.input, *graph.output]:
        if value.type.tensor_type.elem_type in halves:
            value.type.tensor_type.elem_type = TensorProto.DOUBLE
    del graph.value_info[:]
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i in halves:
                attribute.i = TensorProto.DOUBLE
            if attribute.name == "value" and attribute.t.data_type in halves:
                attribute.t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(attribute.t).astype(np.float64)))
            if attribute.HasField("g"):
                _widen(attribute.g)


def run(model: oi.Model, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """All outputs; what is fed but not needed is left out."""
    options = ort.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    session = ort.InferenceSession(model.to_bytes(), options, providers=["CPUExecutionProvider"])
    names, wanted = [o.name for o in session.get_outputs()], {i.name for i in session.get_inputs()}
    return dict(zip(names, session.run(names, {k: v for k, v in feeds.items() if k in wanted}), strict=True))


def check(
    model: oi.Model, feeds: Mapping[str, np.ndarray], output: str, tensors: Sequence[str], tolerance: float = 1e-4
) -> None:
    """Assert that gradients of an output with respect to the first input and other tensors agree with differences.

    Along two random directions each, relative to the norm of the gradient. The first input's step is taken where it is;
    other tensors are moved to a point in general position first, since maps behind a Relu are full of zeros that tie.
    """
    rng = np.random.default_rng(0)
    first = model.inputs[0].name
    values = run(oi.expose(model, [*tensors, output]), feeds)
    c = rng.normal(size=values[output].shape)
    cotangent = {f"cotangent.{output}": c.astype(np.float32)}
    whole = run(oi.vjp(model, [first, *tensors], [output]), {**feeds, **cotangent})
    for tensor in [first, *tensors]:
        rest = oi.cut(model, None if tensor == first else [tensor], [output])
        adjoint = oi.vjp(rest, [tensor], [output])
        others = {k: v for k, v in feeds.items() if k in [i.name for i in rest.inputs] and k != tensor}
        at = feeds[first]
        if tensor != first:
            g = run(adjoint, {**others, tensor: values[tensor], **cotangent})[f"gradient.{tensor}"]
            np.testing.assert_allclose(g, whole[f"gradient.{tensor}"], atol=tolerance * np.abs(g).max())
            at = (values[tensor] + rng.normal(0, 0.1, values[tensor].shape)).astype(values[tensor].dtype)
        g = run(adjoint, {**others, tensor: at, **cotangent})[f"gradient.{tensor}"].astype(np.float64)
        forward = in_double(rest)
        wide = {k: v.astype(np.float64) if v.dtype.kind == "f" else v for k, v in {**others, tensor: at}.items()}
        for _ in range(2):
            u, wrong = rng.normal(size=at.shape), []
            actual = float((g * u).sum())
            for step in STEPS:  # long ones meet kinks, short ones drown in rounding
                plus, minus = (forward.run(None, {**wide, tensor: wide[tensor] + s * step * u})[0] for s in (1, -1))
                expected = float((c * (plus - minus)).sum()) / (2 * step)
                wrong.append(abs(actual - expected) / max(np.linalg.norm(g) + abs(expected), 1e-30))
                if wrong[-1] <= tolerance:
                    break
            else:
                raise AssertionError(f"{tensor}: wrong by {wrong} of the gradient's norm, for steps of {STEPS}")
