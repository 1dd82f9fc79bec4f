"""Every rule against central differences along random directions.

A case is a row: operator, inputs, attributes. `check` builds the one-node model, asks for its vjp, and compares

    <vjp(c), u>   with   <c, (f(x + h u) - f(x - h u)) / 2h>

for random cotangents c and directions u, with f in float64: on onnxruntime where it has the kernels, else on onnx's
reference implementation. The vjp runs on onnxruntime, in float64 where it can (tolerance 1e-6), else in float32
(2e-4), once with all shapes known and once with every dimension symbolic.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from onnx_inspect.autodiff import rules as _rules  # noqa: F401  (fills RULES)
from onnx_inspect.autodiff.gradient import vjp
from onnx_inspect.canonical import infer_shapes
from onnx_inspect.model import Model

from .. import device

Array = np.ndarray[Any, Any]
ort.set_default_logger_severity(4)


def normal(*shape: int) -> Array:
    """Standard normal numbers, the same ones for the same shape."""
    return np.asarray(np.random.default_rng(sum(shape) + len(shape)).normal(size=shape))


def positive(*shape: int) -> Array:
    """Numbers from 0.5 to 2."""
    return np.asarray(np.random.default_rng(sum(shape)).uniform(0.5, 2, size=shape))


def distinct(*shape: int) -> Array:
    """A shuffled grid from -2 to 2 that avoids 0: no ties, no kink within reach of a difference quotient."""
    n = int(np.prod(shape))
    grid = (np.arange(n) - n / 2 + 0.25) * (4 / max(n, 1))
    return np.random.default_rng(n).permutation(grid).reshape(shape)


@dataclass
class Case:
    """One row of a rule's test.

    op: operator, or "domain::Op". inputs: arrays; float ones are differentiated unless listed in `fixed`; None is an
    absent optional input. attributes. outputs: how many outputs the node has. opset. fixed: indices of inputs that
    become initializers and are not differentiated. dynamic: also run with symbolic dimensions (False where the
    operator needs static ones). label: for the test id. step: of the difference quotient. forward: a NumPy forward
    function, where neither onnxruntime nor the reference implementation has a right one.
    """

    op: str
    inputs: Sequence[Array | None]
    attributes: dict[str, Any] = field(default_factory=dict)
    outputs: int = 1
    opset: int = 21
    fixed: Sequence[int] = ()
    dynamic: bool = True
    label: str = ""
    step: float = 1e-5
    rtol: float = 2e-4
    forward: Callable[..., Any] | None = None

    def __str__(self) -> str:
        shapes = ",".join("x".join(map(str, np.shape(x))) if x is not None else "-" for x in self.inputs)
        attributes = ",".join(f"{k}={v}" for k, v in self.attributes.items())
        return f"{self.op}({shapes}{';' if attributes else ''}{attributes}){self.label}".replace(" ", "")


def names(case: Case) -> list[str]:
    return [f"x{i}" if x is not None else "" for i, x in enumerate(case.inputs)]


def differentiable(case: Case) -> list[int]:
    return [
        i
        for i, x in enumerate(case.inputs)
        if x is not None and np.asarray(x).dtype == np.float64 and i not in case.fixed
    ]


def build(case: Case, float_type: int, symbolic: bool, ys: Sequence[Array | None] = ()) -> onnx.ModelProto:
    """The one-node model, its floats as `float_type`; from `ys` it takes the ranks of its outputs."""
    domain, _, op = case.op.rpartition("::")
    attributes = {
        k: (
            numpy_helper.from_array(v.astype(helper.tensor_dtype_to_np_dtype(float_type)))
            if isinstance(v, np.ndarray)
            else v
        )
        for k, v in case.attributes.items()
    }
    outputs = [f"y{i}" for i in range(case.outputs)]
    declared = [helper.make_empty_tensor_value_info(o) for o in outputs]
    for i, y in enumerate(ys):
        if y is not None:
            kind = helper.np_dtype_to_tensor_dtype(typed(y, float_type).dtype)
            declared[i] = helper.make_tensor_value_info(outputs[i], kind, [f"y{i}_{a}" for a in range(np.ndim(y))])
    node = helper.make_node(op, names(case), outputs, name="node", domain=domain, **attributes)
    inputs, initializers = [], []
    for i, (name, x) in enumerate(zip(names(case), case.inputs, strict=True)):
        if x is None:
            continue
        x = typed(x, float_type)
        if i in case.fixed:
            initializers.append(numpy_helper.from_array(x, name))
        else:
            dims = [f"{name}_{a}" for a in range(x.ndim)] if symbolic else x.shape
            inputs.append(helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(x.dtype), dims))
    graph = helper.make_graph([node], "case", inputs, declared, initializers)
    opsets = [helper.make_opsetid("", case.opset)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def load(case: Case, float_type: int, symbolic: bool, ys: Sequence[Array | None]) -> Model:
    """The model; where it is not symbolic all sizes are known, also those of a batch that was freed at load."""
    model = Model.load(build(case, float_type, symbolic, ys))
    if not symbolic:
        sizes = {name: np.shape(x) for name, x in zip(names(case), case.inputs, strict=True) if x is not None}
        sizes |= {f"y{i}": np.shape(y) for i, y in enumerate(ys) if y is not None}
        for value in (*model.ir.graph.inputs, *model.ir.graph.outputs):
            value.shape = ir.Shape(sizes[value.name or ""])
        infer_shapes(model.ir)
    return model


def typed(x: Array, float_type: int) -> Array:
    x = np.asarray(x)
    return x.astype(helper.tensor_dtype_to_np_dtype(float_type)) if x.dtype == np.float64 else x


def run(
    model: onnx.ModelProto | bytes, feeds: dict[str, Array], providers: Sequence[Any] = ("CPUExecutionProvider",)
) -> dict[str, Array]:
    data = model if isinstance(model, bytes) else model.SerializeToString()
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(data, options, providers=list(providers))
    outputs = [o.name for o in session.get_outputs()]
    wanted = {i.name for i in session.get_inputs()}
    return dict(zip(outputs, session.run(outputs, {k: v for k, v in feeds.items() if k in wanted}), strict=True))


def forward64(case: Case) -> Callable[[list[Array | None]], list[Array]]:
    """f in float64: NumPy if the case brings one, else onnxruntime, else onnx's reference implementation."""
    if case.forward is not None:
        return lambda xs: _as_list(case.forward(*xs))  # type: ignore[misc]
    proto = build(case, TensorProto.DOUBLE, symbolic=False)

    def feeds(xs: list[Array | None]) -> dict[str, Array]:
        pairs = enumerate(zip(names(case), xs, strict=True))
        return {n: np.asarray(x) for i, (n, x) in pairs if x is not None and i not in case.fixed}

    try:
        list(run(proto, feeds(list(case.inputs))).values())
    except Exception:
        reference = ReferenceEvaluator(proto)
        return lambda xs: list(reference.run(None, feeds(xs)))
    return lambda xs: list(run(proto, feeds(xs)).values())


def _as_list(value: Any) -> list[Array]:
    return list(value) if isinstance(value, list | tuple) else [value]


def vjp_runner(
    case: Case, symbolic: bool, wrt: list[int], ys: list[int]
) -> tuple[Callable[..., dict[str, Array]], bool]:
    """The vjp on onnxruntime, in float64 if it has the kernels; says whether it does."""
    last: Exception | None = None
    outputs = forward64(case)(list(case.inputs))
    for float_type in (TensorProto.DOUBLE, TensorProto.FLOAT):
        model = load(case, float_type, symbolic, outputs)
        adjoint = vjp(model, [f"x{i}" for i in wrt], [f"y{i}" for i in ys])
        data = adjoint.to_bytes()

        def call(feeds: dict[str, Array], data: bytes = data, kind: int = float_type) -> dict[str, Array]:
            return run(data, {k: typed(v, kind) for k, v in feeds.items()}, device.providers())

        try:
            onnx.checker.check_model(data, full_check=True)
            feeds = {n: np.asarray(x) for n, x in zip(names(case), case.inputs, strict=True) if x is not None}
            call(feeds | {f"cotangent.y{i}": np.ones_like(outputs[i], dtype=np.float64) for i in ys})
        except Exception as error:  # no float64 kernel: float32 it is
            last = error
            continue
        return call, float_type == TensorProto.DOUBLE
    raise AssertionError(f"onnxruntime does not run the vjp: {last}") from last


def check(case: Case, symbolic: bool = False, trials: int = 3) -> None:
    """Assert that the vjp agrees with central differences."""
    f = forward64(case)
    xs = [None if x is None else np.asarray(x) for x in case.inputs]
    y0 = f(list(xs))
    wrt = differentiable(case)
    ys = [i for i, y in enumerate(y0) if y is not None and np.asarray(y).dtype == np.float64]
    call, double = vjp_runner(case, symbolic, wrt, ys)
    rng = np.random.default_rng(0)
    for _ in range(trials):
        us = {i: rng.normal(size=xs[i].shape) for i in wrt}
        cs = {i: rng.normal(size=np.shape(y0[i])) for i in ys}
        feeds = {n: x for n, x in zip(names(case), xs, strict=True) if x is not None}
        got = call(feeds | {f"cotangent.y{i}": c for i, c in cs.items()})
        for i in wrt:  # input by input, so that one wrong cotangent cannot hide behind another
            assert got[f"gradient.x{i}"].shape == xs[i].shape, f"shape of the cotangent of input {i}"
            assert np.isfinite(got[f"gradient.x{i}"]).all(), f"input {i}: a cotangent is not finite"
            plus = f([x + case.step * us[i] if j == i else x for j, x in enumerate(xs)])
            minus = f([x - case.step * us[i] if j == i else x for j, x in enumerate(xs)])
            expected = sum(float(np.sum(cs[k] * (plus[k] - minus[k]))) for k in ys) / (2 * case.step)
            actual = float(np.sum(got[f"gradient.x{i}"].astype(np.float64) * us[i]))
            scale = float(np.sqrt(np.sum(got[f"gradient.x{i}"].astype(np.float64) ** 2))) + abs(expected) + 1e-3
            tolerance = 1e-6 if double else case.rtol
            assert abs(actual - expected) <= tolerance * scale, (
                f"input {i}: {actual} instead of {expected} (scale {scale})"
            )
