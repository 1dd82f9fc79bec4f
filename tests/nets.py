"""Small classifiers for tests, in all the ways that exporters write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIZE = 12


def weights(classes: int = 4) -> dict[str, np.ndarray]:
    """Weights of the classifier: the same ones every time."""
    rng = np.random.default_rng(7)
    shapes = {"w1": (5, 3, 3, 3), "b1": (5,), "w2": (6, 5, 3, 3), "b2": (6,), "w3": (6, classes), "b3": (classes,)}
    return {k: rng.normal(0, 0.5, s).astype(np.float32) for k, s in shapes.items()}


def classifier(
    *,
    final: str = "",
    nhwc: bool = False,
    classes: int = 4,
    batch: int | str = "N",
    metadata: dict[str, str] | None = None,
    extra_input: bool = False,
    size: int | str = SIZE,
    broken: str = "",
) -> onnx.ModelProto:
    """Conv, Relu, Conv, Relu, global average pool, dense layer, and a final activation if one is named."""
    h, w = (size, size) if isinstance(size, int) else ("H", "W")
    shape = [batch, h, w, 3] if nhwc else [batch, 3, h, w]
    n = helper.make_node
    nodes = [n("Transpose", ["image"], ["x"], name="to_nchw", perm=[0, 3, 1, 2])] if nhwc else []
    nodes += [
        n("Conv", ["x" if nhwc else "image", "w1", "b1"], ["c1"], name="/body/conv1/Conv", pads=[1, 1, 1, 1]),
        n("Relu", ["c1"], ["r1"], name="/body/relu1/Relu"),
        n("Conv", ["r1", "w2", "b2"], ["c2"], name="/body/conv2/Conv", strides=[2, 2], pads=[1, 1, 1, 1]),
        n("Relu", ["c2"], ["a:2/x;0"], name="/body/relu2/Relu"),
        n("GlobalAveragePool", ["a:2/x;0"], ["p"], name="/pool/GlobalAveragePool"),
        n("Flatten", ["p"], ["f"], name="/Flatten"),
        n("Gemm", ["f", "w3", "b3"], ["logits" if final or extra_input else "scores"], name="/head/Gemm"),
    ]
    if extra_input:
        nodes.append(n("Add", ["logits", "offset"], ["scores"], name="/add"))
    elif final:
        nodes.append(n(final, ["logits"], ["scores"], name="/final"))
    inputs = [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)]
    if extra_input:
        inputs.append(helper.make_tensor_value_info("offset", TensorProto.FLOAT, [batch, classes]))
    arrays = weights(classes)
    if broken == "nan":
        arrays["w2"][0, 0, 0, 0] = np.nan
    if broken == "dead":
        arrays["b2"][:] = -1e6
    graph = helper.make_graph(
        nodes,
        "classifier",
        inputs,
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, classes])],
        [numpy_helper.from_array(v, k) for k, v in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="tests")
    for key, value in (metadata or {}).items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    return model


NAMES = {"class_names": json.dumps(["cat", "dog, hound", "Löwe", "n01440764 tench, Tinca tinca"])}


def save(folder: Path, name: str = "model.onnx", **options: Any) -> Path:
    """The classifier in a file."""
    path = folder / name
    onnx.save(classifier(**options), path)
    return path


def photo(folder: Path, name: str = "photo.png", shape: tuple[int, int] = (30, 40)) -> Path:
    """A colourful photo in a file."""
    from onnx_inspect import image

    rng = np.random.default_rng(1)
    pixels = image.resize(rng.uniform(0, 255, (4, 5, 3)).astype(np.float32), shape, "linear").astype(np.uint8)
    image.write(folder / name, pixels)
    return folder / name


def colourful(count: int, shape: tuple[int, int] = (SIZE, SIZE)) -> list[np.ndarray]:
    """Pictures that the classifier puts into different classes: noise around colours far apart."""
    found = []
    for i in range(count):
        rng = np.random.default_rng(i)
        colour = rng.integers(40, 216, 3)
        found.append((colour + rng.integers(-40, 40, (*shape, 3))).astype(np.uint8))
    return found


def images(count: int = 2, nhwc: bool = False, size: int = SIZE) -> np.ndarray:
    """Inputs of the classifier."""
    x = np.random.default_rng(3).normal(size=(count, 3, size, size)).astype(np.float32)
    return np.ascontiguousarray(np.moveaxis(x, 1, -1)) if nhwc else x


def forward(x: np.ndarray, classes: int = 4) -> dict[str, np.ndarray]:
    """The classifier in NumPy and float64, as its layers: c1, r1, c2, a, p, logits."""
    from numpy.lib.stride_tricks import sliding_window_view

    w = {k: v.astype(np.float64) for k, v in weights(classes).items()}

    def conv(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray, stride: int) -> np.ndarray:
        padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
        windows = sliding_window_view(padded, (3, 3), axis=(2, 3))[:, :, ::stride, ::stride]
        return np.einsum("nchwij,ocij->nohw", windows, kernel) + bias[:, None, None]

    c1 = conv(x.astype(np.float64), w["w1"], w["b1"], 1)
    r1 = np.maximum(c1, 0)
    c2 = conv(r1, w["w2"], w["b2"], 2)
    a = np.maximum(c2, 0)
    p = a.mean(axis=(2, 3))
    return {"c1": c1, "r1": r1, "c2": c2, "a": a, "p": p, "logits": p @ w["w3"] + w["b3"]}
