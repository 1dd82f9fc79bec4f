"""Forms that files take after they left their exporter: each function makes a model of the file of another."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import blobs
import numpy as np
import onnx
import onnx.version_converter
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import quantization
from onnxruntime.transformers.float16 import convert_float_to_float16


class Photos(quantization.CalibrationDataReader):
    """What a quantiser measures ranges on."""

    def __init__(self) -> None:
        self.left: Iterator[blobs.Photo] = iter(blobs.photos(2, 64))

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        photo = next(self.left, None)
        return photo and {"x": blobs.floats([photo])}


def quantised(form: quantization.QuantFormat, activations: quantization.QuantType) -> Callable[[Path], onnx.ModelProto]:
    """Static int8 weights, one scale a channel."""

    def change(path: Path) -> onnx.ModelProto:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "model.onnx"
            weights = quantization.QuantType.QInt8
            quantization.quantize_static(
                path, out, Photos(), form, per_channel=True, activation_type=activations, weight_type=weights
            )
            return onnx.load(out)

    return change


def dynamic(path: Path) -> onnx.ModelProto:
    """int8 weights; activations are quantised while the model runs."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "model.onnx"
        quantization.quantize_dynamic(path, out, weight_type=quantization.QuantType.QUInt8)
        return onnx.load(out)


def uint8(path: Path) -> onnx.ModelProto:
    """Whole numbers in and out: pixels of 0 to 255, and scores in steps."""
    model = quantised(quantization.QuantFormat.QDQ, quantization.QuantType.QUInt8)(path)
    graph = model.graph
    first = next(n for n in graph.node if n.op_type == "QuantizeLinear" and n.input[0] == "x")
    last = next(n for n in graph.node if n.output[0] == graph.output[0].name)
    constants = {t.name: t for t in graph.initializer}
    constants[first.input[1]].CopyFrom(numpy_helper.from_array(np.float32(1 / 255), first.input[1]))
    constants[first.input[2]].CopyFrom(numpy_helper.from_array(np.uint8(0), first.input[2]))
    whole, scores = first.output[0], last.input[0]
    graph.node.remove(first)
    graph.node.remove(last)
    for node in graph.node:
        node.input[:] = ["x" if i == whole else i for i in node.input]
        node.output[:] = [last.output[0] if o == scores else o for o in node.output]
    for value in (graph.input[0], graph.output[0]):
        value.type.tensor_type.elem_type = TensorProto.UINT8
    del graph.value_info[:]
    return model


def half(keep: bool) -> Callable[[Path], onnx.ModelProto]:
    """float16 inside; ``keep`` leaves inputs and outputs float32."""
    return lambda path: convert_float_to_float16(onnx.load(path), keep_io_types=keep)


def optimised(level: ort.GraphOptimizationLevel) -> Callable[[Path], onnx.ModelProto]:
    """As onnxruntime saves what it has made of a model."""

    def change(path: Path) -> onnx.ModelProto:
        with tempfile.TemporaryDirectory() as folder:
            options = ort.SessionOptions()
            options.graph_optimization_level = level
            options.optimized_model_filepath = str(Path(folder) / "model.onnx")
            options.log_severity_level = 3
            ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            return onnx.load(options.optimized_model_filepath)

    return change


def inside_if(condition: str) -> Callable[[Path], onnx.ModelProto]:
    """The whole network in both branches of an If, scores halved in the second; the weights stay outside.

    ``condition`` is an input "sharp", constantly true, or whether the photo is higher than 8 pixels.
    """

    def change(path: Path) -> onnx.ModelProto:
        model = onnx.load(path)
        graph = model.graph
        branches = []
        for name in ("then", "else"):
            nodes = [copy.deepcopy(n) for n in graph.node]
            made = {o for n in nodes for o in n.output}
            for node in nodes:
                node.name = f"{name}/{node.name}"
                node.input[:] = [f"{name}/{i}" if i in made else i for i in node.input]
                node.output[:] = [f"{name}/{o}" for o in node.output]
            if name == "else":
                nodes.append(helper.make_node("Mul", ["else/logits", "share"], ["else/halved"], "else/halve"))
            out = helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, ["batch", 4])
            branches.append(helper.make_graph(nodes, f"{name}_branch", [], [out]))
        del graph.node[:], graph.value_info[:]
        graph.initializer.append(numpy_helper.from_array(np.float32(0.5), "share"))
        if condition == "input":
            graph.input.append(helper.make_tensor_value_info("sharp", TensorProto.BOOL, []))
        elif condition == "constant":
            graph.node.append(
                helper.make_node("Constant", [], ["sharp"], value=numpy_helper.from_array(np.array(True)))
            )
        else:
            graph.initializer.append(numpy_helper.from_array(np.int64(8), "least"))
            graph.node.extend(
                [
                    helper.make_node("Shape", ["x"], ["sizes"], start=2, end=3),
                    helper.make_node("Squeeze", ["sizes"], ["height"]),
                    helper.make_node("Greater", ["height", "least"], ["sharp"]),
                ]
            )
        then, other = branches
        graph.node.append(helper.make_node("If", ["sharp"], ["logits"], "choice", then_branch=then, else_branch=other))
        return model

    return change


def functions(path: Path) -> onnx.ModelProto:
    """Convolution and Relu as a function of the model's own."""
    model = onnx.load(path)
    nodes = list(model.graph.node)
    del model.graph.node[:]
    relus = {n.input[0]: n for n in nodes if n.op_type == "Relu"}
    for node in nodes:
        if node.op_type == "Conv":
            relu = relus[node.output[0]]
            model.graph.node.append(
                helper.make_node("ConvRelu", node.input, relu.output, f"block_{relu.name}", domain="zoo", pads=[1] * 4)
            )
        elif node.op_type != "Relu":
            model.graph.node.append(node)
    conv = helper.make_node("Conv", ["x", "w", "b"], ["y"], "conv")
    conv.attribute.append(onnx.AttributeProto(name="pads", ref_attr_name="pads", type=onnx.AttributeProto.INTS))
    opsets = [o for o in model.opset_import if o.domain == ""]
    body = [conv, helper.make_node("Relu", ["y"], ["z"], "relu")]
    model.functions.append(helper.make_function("zoo", "ConvRelu", ["x", "w", "b"], ["z"], body, opsets, ["pads"]))
    model.opset_import.append(helper.make_opsetid("zoo", 1))
    del model.graph.value_info[:]
    return model


def unnamed(path: Path) -> onnx.ModelProto:
    """Nodes without names, tensors with numbers; only the weights keep theirs."""
    model = onnx.load(path)
    keep = {v.name for v in (*model.graph.input, *model.graph.output, *model.graph.initializer)}
    numbers: dict[str, str] = {}
    for node in model.graph.node:
        node.name = ""
        del node.metadata_props[:]
        for names in (node.input, node.output):
            names[:] = [n if n in keep else numbers.setdefault(n, str(len(numbers) + 1)) for n in names]
    del model.graph.value_info[:]
    return model


def constants(path: Path) -> onnx.ModelProto:
    """Weights as Constant nodes."""
    model = onnx.load(path)
    nodes = [helper.make_node("Constant", [], [t.name], t.name, value=t) for t in model.graph.initializer]
    nodes += model.graph.node
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def inputs_too(path: Path) -> onnx.ModelProto:
    """Weights among the inputs of the graph, as before IR version 4."""
    model = onnx.load(path)
    model.ir_version = 3
    model.graph.input.extend(
        helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in model.graph.initializer
    )
    for node in model.graph.node:
        del node.metadata_props[:]
    onnx.checker.check_model(model)
    return model


def odd_names(path: Path) -> onnx.ModelProto:
    """Names that need quotes."""
    model = onnx.load(path)
    graph = model.graph
    names = {"x": "photo [0]: 'RGB'", "logits": 'scores/"best", 1.0 - x'}
    for value in (*graph.input, *graph.output):
        value.name = names[value.name]
    for i, node in enumerate(graph.node):
        node.name = f"größe {i}; [{node.op_type}]"
        node.input[:] = [names.get(n, n) for n in node.input]
        node.output[:] = [names.get(n, n) for n in node.output]
    return model


def map_first(path: Path) -> onnx.ModelProto:
    """The last map as the first output, the scores as the second."""
    model = onnx.load(path)
    last = [n for n in model.graph.node if n.op_type == "Relu"][-1].output[0]
    model.graph.output.insert(0, helper.make_tensor_value_info(last, TensorProto.FLOAT, ["batch", 32, 12, 20]))
    return model


def label_only(path: Path) -> onnx.ModelProto:
    """Softmax, and then nothing but the class that won."""
    model = onnx.load(path)
    model.graph.node.append(helper.make_node("Softmax", ["logits"], ["probabilities"], "softmax", axis=-1))
    model.graph.node.append(helper.make_node("ArgMax", ["probabilities"], ["label"], "label", axis=-1, keepdims=0))
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("label", TensorProto.INT64, ["batch"]))
    return model


def pixels(path: Path) -> onnx.ModelProto:
    """Takes photos as they are: [N, H, W, 3] uint8; the graph does the rest."""
    model = onnx.load(path)
    graph = model.graph
    graph.input[0].CopyFrom(helper.make_tensor_value_info("photo", TensorProto.UINT8, ["batch", 48, 80, 3]))
    graph.initializer.append(numpy_helper.from_array(np.float32(255), "most"))
    nodes = [
        helper.make_node("Cast", ["photo"], ["floats"], "to_float", to=TensorProto.FLOAT),
        helper.make_node("Div", ["floats", "most"], ["scaled"], "scale"),
        helper.make_node("Transpose", ["scaled"], ["x"], "to_nchw", perm=[0, 3, 1, 2]),
        *graph.node,
    ]
    del graph.node[:]
    graph.node.extend(nodes)
    return model


def newest(path: Path) -> onnx.ModelProto:
    """At opset 26."""
    return onnx.version_converter.convert_version(onnx.load(path), 26)
