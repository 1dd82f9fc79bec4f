"""Whole networks: gradients with respect to the input and three maps agree with differences in float64.

The nine networks come with onnx; their files hold no weights, so they get seeded ones of a sensible scale.

In float64 the gradient agrees with differences to 1e-4. onnxruntime runs it in float32, where it is the same up to the
few ReLUs and maxima of millions that lie so near a tie that both precisions decide differently: each moves the gradient
by about one part in the square root of their number, some 2e-3 for one.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.backend.test
import pytest
from onnx import numpy_helper

import onnx_inspect as oi
from onnx_inspect.engine import Engine

from .double import Double

LIGHT = Path(onnx.backend.test.__file__).parent / "data" / "light"
NETWORKS = sorted(p.stem.removeprefix("light_") for p in LIGHT.glob("*.onnx"))
ENGINE = Engine("cpu", threads=1)
DOUBLE, SINGLE = 1e-4, 5e-2
STEPS = (1e-10, 1e-9, 1e-11)  # as shares of the score: long ones meet kinks, short ones drown in rounding


SMALLER = {"vgg19": 64, "bvlc_alexnet": 99, "zfnet512": 99}  # their dense layers would take nearly all of the time
HIDDEN, FEWER = 4096, 128


def shrink(proto: onnx.ModelProto, size: int, shapes: dict[str, np.ndarray]) -> None:
    """Smaller photos, and smaller dense layers behind them."""
    (image,) = [i for i in proto.graph.input if len(i.type.tensor_type.shape.dim) == 4]
    for dim in image.type.tensor_type.shape.dim[2:]:
        dim.dim_value = size
    reshape = next(node for node in proto.graph.node if node.op_type == "Reshape")
    del proto.graph.value_info[:]
    inferred = onnx.shape_inference.infer_shapes(proto).graph.value_info
    (maps,) = [v for v in inferred if v.name == reshape.input[0]]
    old = int(shapes[reshape.input[1]][1])
    new = {old: int(np.prod([d.dim_value for d in maps.type.tensor_type.shape.dim[1:]])), HIDDEN: FEWER}
    for name, shape in shapes.items():
        shapes[name] = np.array([new.get(int(d), int(d)) for d in shape.ravel()]) if shape.dtype == np.int64 else shape
    for tensor in proto.graph.initializer:
        if tensor.name == reshape.input[1]:
            tensor.CopyFrom(numpy_helper.from_array(shapes[tensor.name], tensor.name))


def weighted(name: str) -> oi.Model:
    """One of the networks with weights: He's for kernels, near one and zero for what normalises and shifts."""
    proto = onnx.load(LIGHT / f"light_{name}.onnx")
    rng, graph = np.random.default_rng(0), proto.graph
    shapes = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    if name in SMALLER:
        shrink(proto, SMALLER[name], shapes)
    slots = {x: (node.op_type, i) for node in graph.node for i, x in enumerate(node.input)}
    for node in [n for n in graph.node if n.op_type == "ConstantOfShape"]:
        shape, (op, slot) = [int(d) for d in shapes[node.input[0]]], slots[node.output[0]]
        if op in ("Conv", "Gemm", "MatMul") and slot == 1:
            weight = rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
        elif op == "BatchNormalization" and slot == 1:  # residual sums should not explode
            weight = rng.uniform(0.4, 0.9, shape)
        elif op == "Unsqueeze" or (op == "BatchNormalization" and slot == 4):
            weight = rng.uniform(0.8, 1.6, shape)
        else:
            weight = rng.normal(0, 0.1, shape)
        graph.initializer.append(numpy_helper.from_array(weight.astype(np.float32), node.output[0]))
        graph.node.remove(node)
    return oi.load(proto)


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_agree_with_differences(name: str) -> None:
    model = weighted(name)
    rng = np.random.default_rng(1)
    spec = next(s for s in model.inputs if len(s.shape) == 4)
    output = model.outputs[0].name
    logits = next((n.inputs[0].name for n in model.ir.graph if n.op_type == "Softmax"), output)
    x = rng.normal(size=(1, *spec.shape[1:])).astype(np.float32)
    convs = [n.outputs[0].name for n in model.ir.graph if n.op_type == "Conv"]  # what follows them has no ties
    chosen = [convs[int(i)] for i in np.linspace(0, len(convs) - 1, 3)]
    f = Double(oi.cut(model, None, [logits]).to_bytes(), chosen)
    at = {spec.name: x.astype(np.float64)}
    base = f(at)[0]
    c = rng.normal(size=base.shape)
    adjoint = oi.vjp(model, [spec.name, *chosen], [logits])
    seed = {f"cotangent.{logits}": c}
    exact = dict(zip([o.name for o in adjoint.outputs], Double(adjoint.to_bytes())(at | seed), strict=True))
    found = ENGINE.run(adjoint, {spec.name: x, f"cotangent.{logits}": c.astype(np.float32)})

    def slope(tensor: str, u: np.ndarray, share: float) -> float:
        step = share * float(np.linalg.norm(c * base) / np.linalg.norm(exact[f"gradient.{tensor}"]))
        moved = {spec.name: at[spec.name] + step * u} if tensor == spec.name else {**at, f"offset.{tensor}": step * u}
        return float((c * (f(moved)[0] - base)).sum()) / step

    for tensor in [spec.name, *chosen]:
        g = exact[f"gradient.{tensor}"]
        assert np.linalg.norm(found[f"gradient.{tensor}"] - g) <= SINGLE * np.linalg.norm(g), tensor
        for _ in range(2):
            u = rng.normal(size=g.shape)
            assert any(
                abs(float((g * u).sum()) - slope(tensor, u, step)) <= DOUBLE * np.linalg.norm(g) for step in STEPS
            )
