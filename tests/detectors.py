"""Small detectors with random weights: two maps of strides 4 and 8, and what exporters write behind them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HEIGHT, WIDTH, STRIDES = 16, 24, (4, 8)
CELLS = [(y, x, s) for s in STRIDES for y in range(HEIGHT // s) for x in range(WIDTH // s)]  # (row, column, stride)


class Graph:
    """Nodes and weights as they come."""

    def __init__(self, seed: int = 0) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.rng = np.random.default_rng(seed)

    def const(self, value: Any, dtype: type = np.int64) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def __call__(self, op: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        names = [f"{op.lower()}_{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), names, **attributes))
        return names[0] if outputs == 1 else names

    def conv(self, x: str, inside: int, out: int, kernel: int = 1, stride: int = 1, bias: Any = 0.0) -> str:
        w = self.const(0.5 * self.rng.normal(size=(out, inside, kernel, kernel)), np.float32)
        b = self.const(bias + 0.3 * self.rng.normal(size=out), np.float32)
        pads = [(kernel - stride + 1) // 2] * 4 if kernel > stride else [0] * 4
        return str(self("Conv", x, w, b, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=pads))

    def maps(self) -> list[str]:
        """Maps of 6 channels, the second computed from the first."""
        fine = self("Relu", self.conv("x", 3, 6, 4, 4, 0.2))
        return [fine, self("Relu", self.conv(fine, 6, 6, 2, 2, 0.2))]

    def rows(self, maps: list[str], channels: int) -> str:
        """Maps (N, C, h, w) as one table (N, C, A)."""
        flat = [self("Reshape", m, self.const([0, channels, -1])) for m in maps]
        return str(self("Concat", *flat, axis=2))

    def model(self, **outputs: str) -> onnx.ModelProto:
        """The model, with outputs by the tensors that they are."""
        nodes = self.nodes + [helper.make_node("Identity", [v], [k]) for k, v in outputs.items()]
        declared = [helper.make_tensor_value_info(k, TensorProto.FLOAT, None) for k in outputs]
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, HEIGHT, WIDTH])
        graph = helper.make_graph(nodes, "detector", [x], declared, self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def photos(count: int = 2, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (count, 3, HEIGHT, WIDTH)).astype(np.float32)


def yolox(classes: int = 3) -> onnx.ModelProto:
    """(N, A, 5 + C): offsets and log sizes in cells, probabilities of a thing and of classes."""
    g = Graph()
    heads = []
    for m in g.maps():
        parts = g.conv(m, 6, 4), g("Sigmoid", g.conv(m, 6, 1)), g("Sigmoid", g.conv(m, 6, classes))
        heads.append(g("Concat", *parts, axis=1))
    return g.model(output=g("Transpose", g.rows(heads, 5 + classes), perm=[0, 2, 1]))


def yolov8(classes: int = 3, nms: bool = False) -> onnx.ModelProto:
    """(N, 4 + C, A): centres and sizes in pixels, probabilities of classes; or with NonMaxSuppression behind them."""
    g = Graph(2)
    maps = g.maps()
    raw = g("Sigmoid", g.rows([g.conv(m, 6, 4) for m in maps], 4))
    scores = g("Sigmoid", g.rows([g.conv(m, 6, classes) for m in maps], classes))
    offset, size = g("Split", raw, axis=1, num_outputs=2, outputs=2)
    cells = np.array([[(x + 0.5) * s for _, x, s in CELLS], [(y + 0.5) * s for y, _, s in CELLS]])
    strides = np.array([[s for *_, s in CELLS]])
    offset = g("Mul", g("Sub", offset, g.const(0.5, np.float32)), g.const(strides, np.float32))
    centre = g("Add", offset, g.const(cells, np.float32))
    size = g("Mul", g("Add", size, g.const(0.5, np.float32)), g.const(strides, np.float32))
    boxes = g("Concat", centre, size, axis=1)
    if not nms:
        return g.model(output=g("Concat", boxes, scores, axis=1))
    boxes = g("Transpose", boxes, perm=[0, 2, 1])
    limits = g.const([5]), g.const([0.5], np.float32), g.const([0.4], np.float32)
    kept = g("NonMaxSuppression", boxes, scores, *limits, center_point_box=1)
    return g.model(found=g("GatherND", scores, kept))


def ssd(classes: int = 3) -> onnx.ModelProto:
    """Probabilities (N, A, 1 + C), nothing first, and corners (N, A, 4) from 0 to 1; two candidates a cell."""
    g = Graph(3)
    maps = g.maps()
    tables = []
    for k, bias in ((4, np.zeros(4)), (1 + classes, np.array([1.0] + [0.0] * classes))):
        heads = [g("Transpose", g.conv(m, 6, 2 * k, bias=np.tile(bias, 2)), perm=[0, 2, 3, 1]) for m in maps]
        tables.append(g("Concat", *[g("Reshape", y, g.const([0, -1, k])) for y in heads], axis=1))
    raw, logits = tables
    cells = np.array([[(x + 0.5) * s, (y + 0.5) * s] for y, x, s in CELLS for _ in range(2)])
    side = np.array([[1.0 * s] for *_, s in CELLS for _ in range(2)])
    offset, size = g("Split", g("Tanh", raw), axis=2, num_outputs=2, outputs=2)
    centre = g("Add", g("Mul", offset, g.const(0.2 * side, np.float32)), g.const(cells, np.float32))
    half = g("Mul", g("Exp", size), g.const(0.5 * side, np.float32))
    corners = g("Concat", g("Sub", centre, half), g("Add", centre, half), axis=2)
    boxes = g("Div", corners, g.const([WIDTH, HEIGHT] * 2, np.float32))
    return g.model(scores=g("Softmax", logits, axis=-1), boxes=boxes)


def detr(classes: int = 3, queries: int = 7) -> onnx.ModelProto:
    """Logits (N, Q, C + 1), nothing last, and centres and sizes (N, Q, 4) from 0 to 1."""
    g = Graph(4)
    mean = g("Flatten", g("ReduceMean", g("Relu", g.conv("x", 3, 8, 4, 4)), g.const([2, 3]), keepdims=0))
    tables = []
    for k in (classes + 1, 4):
        w = g.const(3 * g.rng.normal(size=(8, queries * k)), np.float32)
        b = np.tile([0.0] * classes + [1.0], queries) if k != 4 else 0.5 * g.rng.normal(size=queries * k)
        y = g("Add", g("MatMul", mean, w), g.const(b, np.float32))
        tables.append(g("Reshape", y, g.const([0, queries, k])))
    return g.model(logits=tables[0], pred_boxes=g("Sigmoid", tables[1]))
