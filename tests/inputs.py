"""Tiny models for tests that take something else than a photo: tokens, signals with a state, columns, several inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

RNG = np.random.default_rng(11)
TABLE, WEIGHT, BIAS = (RNG.normal(size=s).astype(np.float32) for s in ((11, 6), (6, 3), (3,)))
WORDS = "[PAD] the movie was very good ! not bad at all".split()
TYPES = {"f": TensorProto.FLOAT, "i": TensorProto.INT64, "s": TensorProto.STRING, "b": TensorProto.UINT8}
Sizes = dict[str, tuple[str, list[Any]]]


def build(nodes: list[onnx.NodeProto], inputs: Sizes, outputs: Sizes, **weights: Any) -> onnx.ModelProto:
    """A model: inputs and outputs as name=(a letter for the type, shape)."""
    given, made = (
        [helper.make_tensor_value_info(k, TYPES[t], s) for k, (t, s) in values.items()] for values in (inputs, outputs)
    )
    tensors = [numpy_helper.from_array(np.asarray(v), k) for k, v in weights.items()]
    graph = helper.make_graph(nodes, "tiny", given, made, tensors)
    domains = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=domains, ir_version=8)
    onnx.checker.check_model(model)
    return model


def text(lookup: str = "clipped") -> onnx.ModelProto:
    """mean over tokens of tanh(embedding), weighed by a mask, times a matrix; `lookup` is how tokens are looked up."""
    n = helper.make_node
    ways = {
        "clipped": [
            n("Cast", ["ids"], ["small"], to=TensorProto.INT32),
            n("Clip", ["small", "low", "high"], ["clipped"]),
            n("Gather", ["table", "clipped"], ["embedded"]),
        ],
        "selected": [  # as tf2onnx writes that negative numbers count from the end
            n("Less", ["ids", "first"], ["negative"]),
            n("Not", ["negative"], ["fine"]),
            n("Cast", ["fine"], ["kept_ids"], to=TensorProto.INT64),
            n("Mul", ["ids", "kept_ids"], ["chosen"]),
            n("Gather", ["table", "chosen"], ["embedded"]),
        ],
        "one-hot": [
            n("OneHot", ["ids", "words", "off_on"], ["hot"]),
            n("MatMul", ["hot", "table"], ["embedded"]),
        ],
        "quantised": [
            n("Gather", ["bytes", "ids"], ["taken"]),
            n("DequantizeLinear", ["taken", "scale", "zero"], ["embedded"]),
        ],
    }
    rest = [
        n("Cast", ["mask"], ["m"], to=TensorProto.FLOAT),
        n("Unsqueeze", ["m", "two"], ["m3"]),
        n("Tanh", ["embedded"], ["t"]),
        n("Mul", ["t", "m3"], ["kept"]),
        n("ReduceSum", ["kept", "one"], ["total"], keepdims=0),
        n("ReduceSum", ["m", "one"], ["count"], keepdims=1),
        n("Div", ["total", "count"], ["mean"]),
        n("Gemm", ["mean", "weight", "bias"], ["y"]),
    ]
    return build(
        ways[lookup] + rest,
        {"ids": ("i", ["N", "L"]), "mask": ("i", ["N", "L"])},
        {"y": ("f", ["N", 3])},
        table=TABLE,
        weight=WEIGHT,
        bias=BIAS,
        low=np.int32(0),
        high=np.int32(10),
        words=np.int64(11),
        first=np.int64(0),
        off_on=np.array([0, 1], np.float32),
        bytes=np.rint(TABLE / 0.02 + 128).clip(0, 255).astype(np.uint8),
        scale=np.float32(0.02),
        zero=np.uint8(128),
        one=np.array([1]),
        two=np.array([2]),
    )


def recurrent() -> onnx.ModelProto:
    """An LSTM over (N, L, 2) with its state as inputs and outputs; (1, N, 4) each."""
    n = helper.make_node
    return build(
        [
            n("Transpose", ["x"], ["steps"], perm=[1, 0, 2]),
            n("LSTM", ["steps", "w", "r", "b", "", "h0", "c0"], ["all", "h1", "c1"], hidden_size=4),
            n("Squeeze", ["h1", "zero"], ["last"]),
            n("MatMul", ["last", "head"], ["y"]),
        ],
        {"x": ("f", ["N", "L", 2]), "h0": ("f", [1, "N", 4]), "c0": ("f", [1, "N", 4])},
        {"y": ("f", ["N", 3]), "h1": ("f", [1, "N", 4]), "c1": ("f", [1, "N", 4])},
        w=RNG.normal(size=(1, 16, 2)).astype(np.float32),
        r=RNG.normal(size=(1, 16, 4)).astype(np.float32),
        b=RNG.normal(size=(1, 32)).astype(np.float32),
        head=RNG.normal(size=(4, 3)).astype(np.float32),
        zero=np.array([0]),
    )


def heard() -> onnx.ModelProto:
    """A waveform (N, L), and its rate as a lone number, by which it is scaled."""
    n = helper.make_node
    return build(
        [
            n("Cast", ["sr"], ["rate"], to=TensorProto.FLOAT),
            n("Div", ["wave", "rate"], ["scaled"]),
            n("Mul", ["scaled", "scaled"], ["power"]),
            n("ReduceSum", ["power", "one"], ["y"], keepdims=1),
        ],
        {"wave": ("f", ["N", "L"]), "sr": ("i", [])},
        {"y": ("f", ["N", 1])},
        one=np.array([1]),
    )


def channels(count: int = 3) -> onnx.ModelProto:
    """A convolution over signals (N, channels, L)."""
    n = helper.make_node
    return build(
        [
            n("Conv", ["x", "kernel"], ["c"], pads=[1, 1]),
            n("Relu", ["c"], ["r"]),
            n("GlobalAveragePool", ["r"], ["p"]),
            n("Flatten", ["p"], ["f"]),
            n("MatMul", ["f", "head"], ["y"]),
        ],
        {"x": ("f", ["N", count, "L"])},
        {"y": ("f", ["N", 2])},
        kernel=RNG.normal(size=(4, count, 3)).astype(np.float32),
        head=RNG.normal(size=(4, 2)).astype(np.float32),
    )


def columns() -> onnx.ModelProto:
    """One input per column, as scikit-learn's pipelines export them: two of floats, one of whole numbers, one of text."""
    n = helper.make_node
    return build(
        [
            n("OneHotEncoder", ["town"], ["hot"], domain="ai.onnx.ml", cats_strings=["Bern", "Basel"], zeros=1),
            n("Reshape", ["hot", "pairs"], ["coded"]),
            n("Cast", ["rooms"], ["r"], to=TensorProto.FLOAT),
            n("Concat", ["area", "age", "r", "coded"], ["all"], axis=1),
            n("MatMul", ["all", "weight"], ["y"]),
        ],
        {"area": ("f", ["N", 1]), "age": ("f", ["N", 1]), "rooms": ("i", ["N", 1]), "town": ("s", ["N", 1])},
        {"y": ("f", ["N", 2])},
        weight=np.array([[1, -1], [2, 0], [3, 1], [10, 0], [20, 5]], np.float32),
        pairs=np.array([-1, 2]),
    )


def rows(width: int = 3) -> onnx.ModelProto:
    """A table (N, width) times a matrix, whose first column counts 1, 2, 3, ..."""
    weight = np.stack([np.arange(1, width + 1), -np.ones(width)], axis=1).astype(np.float32)
    nodes = [helper.make_node("MatMul", ["x", "weight"], ["y"])]
    return build(nodes, {"x": ("f", ["N", width])}, {"y": ("f", ["N", 2])}, weight=weight)
