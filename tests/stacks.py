"""Small networks of any depth, in the shapes of well-known ones: random weights, class scores y from an image x."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnx_inspect.model import Model

CLASSES = 7


class Net:
    """A network as it is written, from x on."""

    def __init__(self, size: int, seed: int = 0, channels: int = 3, batch: int | str = "N") -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.channels = {"x": channels}
        self.input = [batch, channels, size, size]
        self.rng = np.random.default_rng(seed)

    def op(self, op_type: str, *inputs: str, outs: int = 0, **attributes: Any) -> str:
        name = f"{op_type}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op_type, list(inputs), [f"{name}_out"], name=name, **attributes))
        self.channels[f"{name}_out"] = outs or self.channels.get(inputs[0], 0)
        return f"{name}_out"

    def weight(self, *shape: int, fan: int = 0) -> str:
        name = f"w{len(self.weights)}"
        values = self.rng.normal(0, (2 / fan) ** 0.5 if fan else 0.1, shape).astype(np.float32)
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def ints(self, *values: int) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.array(values, np.int64), name))
        return name

    def conv(self, x: str, outs: int, kernel: int = 3, *, stride: int = 1, group: int = 1) -> str:
        ins = self.channels[x] // group
        w, b = self.weight(outs, ins, kernel, kernel, fan=ins * kernel * kernel), self.weight(outs)
        how = {"pads": [kernel // 2] * 4, "strides": [stride] * 2, "kernel_shape": [kernel] * 2}
        return self.op("Conv", x, w, b, outs=outs, group=group, **how)

    def relu(self, x: str) -> str:
        return self.op("Relu", x)

    def pool(self, x: str) -> str:
        return self.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])

    def scores(self, x: str) -> onnx.ModelProto:
        """A head on a map: the mean of each channel, and a dense layer."""
        flat = self.op("Flatten", self.op("GlobalAveragePool", x))
        return self.proto(self.op("Gemm", flat, self.weight(self.channels[x], CLASSES), self.weight(CLASSES)))

    def proto(self, y: str) -> onnx.ModelProto:
        info = helper.make_tensor_value_info
        inputs = [info("x", TensorProto.FLOAT, self.input)]
        nodes = [*self.nodes, helper.make_node("Identity", [y], ["y"], name="out")]
        graph = helper.make_graph(
            nodes, "stack", inputs, [info("y", TensorProto.FLOAT, [self.input[0], CLASSES])], self.weights
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def plain(blocks: int, size: int = 16, width: int = 16) -> onnx.ModelProto:
    """Convolutions and rectifiers."""
    net = Net(size)
    at = net.conv("x", width)
    for _ in range(blocks):
        at = net.relu(net.conv(at, width))
    return net.scores(at)


def residual(blocks: int, size: int = 16, width: int = 16) -> onnx.ModelProto:
    """Two convolutions beside a shortcut, as ResNet."""
    net = Net(size)
    at = net.relu(net.conv("x", width, stride=2))
    for _ in range(blocks):
        inner = net.conv(net.relu(net.conv(at, width)), width)
        at = net.relu(net.op("Add", inner, at))
    return net.scores(at)


def dense(blocks: int, size: int = 16, width: int = 16) -> onnx.ModelProto:
    """Every map joins those before it, as DenseNet; dense blocks of four layers."""
    net = Net(size)
    at = net.conv("x", width)
    for i in range(blocks):
        at = net.op("Concat", at, net.conv(net.relu(at), width), axis=1, outs=net.channels[at] + width)
        if i % 4 == 3:
            at = net.conv(at, width, 1)
    return net.scores(at)


def fire(blocks: int, size: int = 16, width: int = 16) -> onnx.ModelProto:
    """Squeeze, expand in two ways, and concatenate, as SqueezeNet."""
    net = Net(size)
    at = net.pool(net.relu(net.conv("x", width, stride=2)))
    for _ in range(blocks):
        narrow = net.relu(net.conv(at, width // 2, 1))
        wide = [net.relu(net.conv(narrow, width, k)) for k in (1, 3)]
        at = net.op("Concat", *wide, axis=1, outs=2 * width)
    return net.scores(net.relu(net.conv(at, 2 * width, 1)))


def inverted(blocks: int, size: int = 16, width: int = 16) -> onnx.ModelProto:
    """Widen, depthwise convolution, narrow, and a shortcut, as MobileNetV2."""
    net = Net(size)
    net.weights += [numpy_helper.from_array(np.array(v, np.float32), k) for k, v in (("zero", 0), ("six", 6))]

    def clip(x: str) -> str:
        return net.op("Clip", x, "zero", "six")

    at = clip(net.conv("x", width, stride=2))
    for _ in range(blocks):
        wide = clip(net.conv(at, 4 * width, 1))
        wide = clip(net.conv(wide, 4 * width, group=4 * width))
        at = net.op("Add", net.conv(wide, width, 1), at)
    return net.scores(clip(net.conv(at, 2 * width, 1)))


def vgg(blocks: int, size: int = 16, width: int = 16) -> onnx.ModelProto:
    """Convolutions, every second followed by a pooling as long as there is room, and two dense layers."""
    net = Net(size)
    at = net.relu(net.conv("x", width))
    for i in range(blocks):
        at = net.relu(net.conv(at, width))
        if i % 2 and size > 2:
            at, size = net.pool(at), size // 2
    flat = net.op("Flatten", at)
    inner = net.relu(net.op("Gemm", flat, net.weight(width * size * size, 32), net.weight(32)))
    return net.proto(net.op("Gemm", inner, net.weight(32, CLASSES), net.weight(CLASSES)))


def ladder(blocks: int, size: int = 16, width: int = 16) -> onnx.ModelProto:
    """Down and up again, with connections between, as U-Net."""
    net = Net(size)
    at, sides = net.relu(net.conv("x", width)), list[str]()
    for _ in range(blocks):
        at = net.relu(net.conv(at, width))
        sides.append(at)
    for side in reversed(sides):
        joined = net.op("Concat", at, side, axis=1, outs=2 * width)
        at = net.relu(net.conv(joined, width))
    return net.scores(at)


def recurrent(blocks: int, size: int = 8, width: int = 8) -> onnx.ModelProto:
    """Layers of gated recurrent units over the rows of an image, each with a shortcut."""
    net = Net(size, channels=1)
    rows = net.op("Transpose", net.op("Squeeze", "x", net.ints(1)), perm=[1, 0, 2])  # steps, samples, numbers
    axis = net.ints(1)
    for _ in range(blocks):
        w, r = (net.weight(1, 3 * size, size) for _ in range(2))
        at = net.op("Squeeze", net.op("GRU", rows, w, r, hidden_size=size), axis)
        rows = net.op("Add", rows, at)
    mean = net.op("ReduceMean", rows, net.ints(0), keepdims=0)
    return net.proto(net.op("Gemm", mean, net.weight(size, CLASSES)))


STACKS: dict[str, Callable[..., onnx.ModelProto]] = {
    f.__name__: f for f in (plain, residual, dense, fire, inverted, vgg, ladder, recurrent)
}


def sizes(model: Model, size: int = 16) -> dict[str, tuple[int, ...]]:
    """Of the inputs for one sample, `size` where they are open."""
    return {s.name: (1, *(n if isinstance(n, int) else size for n in s.shape[1:])) for s in model.inputs}


def images(count: int = 2, size: int = 16, channels: int = 3) -> np.ndarray[Any, Any]:
    return np.random.default_rng(1).normal(size=(count, channels, size, size)).astype(np.float32)
