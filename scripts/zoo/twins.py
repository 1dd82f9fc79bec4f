"""Twins: one trained network in every framework, and two with a mistake that people make when they convert by hand.

Torch trains it and leaves weights.npz; the others load that. The logits of the good ones agree to 1e-5 with the same
network written out in NumPy, in float64; those of the two called BUG do not: one pads the strided convolution as
TensorFlow's "same" does, on one side, the other has TensorFlow's epsilon in its batch normalisation.
"""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import samples
from numpy.lib.stride_tricks import sliding_window_view

from zoo import Zoo

WIDTHS, EPSILON, AGREE, DIFFER = (3, 8, 12, 16, 24), 1e-5, 1e-5, 1e-2
STRIDES = (1, 2, 1, 1)  # the largest of 2 x 2 is taken after the second; the last has a bias for batch normalisation
BN = ("weight", "bias", "running_mean", "running_var")
Weights = dict[str, np.ndarray]


def logits(w: Weights, x: np.ndarray) -> np.ndarray:
    """The network, in float64: [N, 3, H, W] to [N, classes]."""
    x = x.astype(np.float64)
    for i, stride in enumerate(STRIDES, 1):
        windows = sliding_window_view(np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1))), (3, 3), axis=(2, 3))
        x = np.einsum("nchwij,ocij->nohw", windows[:, :, ::stride, ::stride], w[f"conv{i}.weight"], optimize=True)
        if i < 4:
            bn = {k: w[f"bn{i}.{k}"].astype(np.float64)[:, None, None] for k in BN}
            x = (x - bn["running_mean"]) / np.sqrt(bn["running_var"] + EPSILON) * bn["weight"] + bn["bias"]
        else:
            x += w["conv4.bias"][:, None, None]
        x = np.maximum(x, 0)
        if i == 2:
            x = x.reshape(*x.shape[:2], x.shape[2] // 2, 2, x.shape[3] // 2, 2).max((3, 5))
    return x.mean((2, 3)) @ w["fc.weight"].T + w["fc.bias"]


class Twins:
    """The files of one environment, each compared with the network in NumPy as soon as it is written."""

    def __init__(self, name: str, out: Path) -> None:
        self.zoo, self.stored = Zoo(f"twins_{name}", out), out / "weights.npz"

    @property
    def weights(self) -> Weights:
        return dict(np.load(self.stored))

    def path(self, name: str) -> str:
        return str(self.zoo.path("twin", name))

    def add(self, name: str, exporter: str, *libraries: str, note: str = "") -> None:
        x, y = samples.labels(*samples.TEST)
        session = ort.InferenceSession(self.path(name))
        (one,) = session.get_inputs()
        first = one.shape[1] == 3
        feeds = {one.name: x if first else np.ascontiguousarray(np.moveaxis(x, 1, -1))}
        (said,) = session.run(None, feeds)
        off = float(np.abs(said - logits(self.weights, x)).max())
        if off > AGREE if "BUG" not in name else off < DIFFER:
            sys.exit(f"twin_{name}: the logits are {off:.1e} off")
        truth = samples.PHOTO | {"layout": "NCHW" if first else "NHWC", "off": float(f"{off:.1e}")}
        truth["accuracy"] = samples.accuracy(said, y)
        versions = {library: version(library) for library in libraries}
        self.zoo.add(
            "twin", name, "classifier", {n: a[:1] for n, a in feeds.items()}, note=note, truth=truth, **versions
        )
        self.zoo.entries[-1]["exporter"] = exporter


def torch(twins: Twins) -> None:
    import torch
    from torch import nn
    from torch.nn import functional as F  # noqa: N812

    class Net(nn.Module):
        def __init__(self, epsilon: float = EPSILON) -> None:
            super().__init__()
            for i, stride in enumerate(STRIDES, 1):
                conv = nn.Conv2d(WIDTHS[i - 1], WIDTHS[i], 3, stride, 1, bias=i == 4)
                self.add_module(f"conv{i}", conv)
                if i < 4:
                    self.add_module(f"bn{i}", nn.BatchNorm2d(WIDTHS[i], epsilon))
            self.fc = nn.Linear(WIDTHS[-1], samples.CLASSES)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = F.relu(self.bn1(self.conv1(x)))
            x = F.max_pool2d(F.relu(self.bn2(self.conv2(x))), 2)
            x = F.relu(self.bn3(self.conv3(x)))
            return self.fc(F.relu(self.conv4(x)).mean((2, 3)))

    torch.manual_seed(0)
    net, (x, y) = Net(), map(torch.from_numpy, samples.labels(*samples.TRAIN))
    adam, rng = torch.optim.AdamW(net.parameters(), 5e-3, weight_decay=0.1), np.random.default_rng(0)
    for _ in range(200):
        part = torch.from_numpy(rng.integers(0, len(x), 32))
        adam.zero_grad()
        F.cross_entropy(net(x[part]), y[part], label_smoothing=0.1).backward()
        adam.step()
    state = {k: v for k, v in net.state_dict().items() if "num_batches" not in k}
    np.savez(twins.stored, **{k: v.numpy() for k, v in state.items()})

    wrong = Net(epsilon=1e-3)
    wrong.load_state_dict(net.state_dict())
    one, batch = (x[:2],), {0: torch.export.Dim("batch")}
    for name, module in (("torch_dynamo", net), ("torch_BUG_bneps", wrong)):
        program = torch.onnx.export(module.eval(), one, dynamo=True, dynamic_shapes=(batch,), input_names=["photo"])
        program.save(twins.path(name), external_data=False)
        twins.add(name, "torch_dynamo", "torch", note="" if module is net else "epsilon 1e-3 for 1e-5")
    axes = {"photo": {0: "batch"}}
    path = twins.path("torch_legacy")
    torch.onnx.export(net, one, path, dynamo=False, input_names=["photo"], dynamic_axes=axes, opset_version=17)
    twins.add("torch_legacy", "torch_legacy", "torch")


def keras_twin(w: Weights, same: bool = False) -> Any:
    """In Keras, for any backend."""
    from keras import Input, Model, layers

    x = start = Input((samples.HEIGHT, samples.WIDTH, 3), name="photo")
    for i, stride in enumerate(STRIDES, 1):
        padding = "same" if same or stride == 1 else "valid"
        if padding == "valid":
            x = layers.ZeroPadding2D(1, name=f"pad{i}")(x)
        x = layers.Conv2D(WIDTHS[i], 3, stride, padding=padding, use_bias=i == 4, name=f"conv{i}")(x)
        if i < 4:
            x = layers.BatchNormalization(epsilon=EPSILON, name=f"bn{i}")(x)
        x = layers.ReLU(name=f"relu{i}")(x)
        if i == 2:
            x = layers.MaxPooling2D(name="pool")(x)
    x = layers.GlobalAveragePooling2D(name="mean")(x)
    model = Model(start, layers.Dense(samples.CLASSES, name="fc")(x), name="twin")
    for layer in model.layers:
        if layer.name.startswith("conv"):
            bias = [w["conv4.bias"]] if layer.name == "conv4" else []
            layer.set_weights([w[f"{layer.name}.weight"].transpose(2, 3, 1, 0), *bias])
        elif layer.name.startswith("bn"):
            layer.set_weights([w[f"{layer.name}.{k}"] for k in BN])
    model.get_layer("fc").set_weights([w["fc.weight"].T, w["fc.bias"]])
    model(np.zeros((1, samples.HEIGHT, samples.WIDTH, 3), np.float32))  # one that was never called is not exported
    return model


def keras(twins: Twins) -> None:
    if os.environ.get("KERAS_BACKEND") == "torch":
        keras_twin(twins.weights).export(twins.path("keras_torch"), format="onnx", verbose=False)
        twins.add("keras_torch", "keras_torch", "keras", "torch")
        return
    os.environ["KERAS_BACKEND"] = "tensorflow"
    import tensorflow as tf
    import tf2onnx

    for name, same in (("keras_tensorflow", False), ("keras_tensorflow_BUG_samepad", True)):
        keras_twin(twins.weights, same).export(twins.path(name), format="onnx", verbose=False)
        note = "the strided convolution pads on one side" if same else ""
        twins.add(name, "keras_tensorflow", "keras", "tf2onnx", note=note)
    model = keras_twin(twins.weights)
    spec = [tf.TensorSpec((None, samples.HEIGHT, samples.WIDTH, 3), tf.float32, name="photo")]
    function = tf.function(lambda photo: model(photo, training=False), input_signature=spec)
    for name, opset, turn in (("tf2onnx_nhwc_op18", 18, None), ("tf2onnx_nchw_op13", 13, ["photo:0"])):
        path = twins.path(name)
        tf2onnx.convert.from_function(function, spec, opset=opset, inputs_as_nchw=turn, output_path=path)
        twins.add(name, "tf2onnx", "keras", "tf2onnx")
    subprocess.run([sys.executable, *sys.argv], env=os.environ | {"KERAS_BACKEND": "torch"}, check=True)


def jax(twins: Twins) -> None:
    import jax
    import jax2onnx
    from flax import nnx

    class Net(nnx.Module):
        def __init__(self, w: Weights) -> None:
            rngs = nnx.Rngs(0)
            self.convs, self.bns = nnx.List([]), nnx.List([])
            for i, stride in enumerate(STRIDES, 1):
                shape: dict[str, Any] = {"kernel_size": (3, 3), "strides": stride, "padding": ((1, 1), (1, 1))}
                conv = nnx.Conv(WIDTHS[i - 1], WIDTHS[i], **shape, use_bias=i == 4, rngs=rngs)
                conv.kernel[...] = w[f"conv{i}.weight"].transpose(2, 3, 1, 0)
                self.convs.append(conv)
                if i < 4:
                    bn = nnx.BatchNorm(WIDTHS[i], epsilon=EPSILON, rngs=rngs)
                    for key, value in zip(BN, (bn.scale, bn.bias, bn.mean, bn.var), strict=True):
                        value[...] = w[f"bn{i}.{key}"]
                    self.bns.append(bn)
            conv.bias[...] = w["conv4.bias"]
            self.fc = nnx.Linear(WIDTHS[-1], samples.CLASSES, rngs=rngs)
            self.fc.kernel[...], self.fc.bias[...] = w["fc.weight"].T, w["fc.bias"]

        def __call__(self, x: jax.Array) -> jax.Array:
            for i, conv in enumerate(self.convs):
                x = conv(x)
                x = nnx.relu(self.bns[i](x) if i < 3 else x)
                if i == 1:
                    x = nnx.max_pool(x, window_shape=(2, 2), strides=(2, 2))
            return self.fc(x.mean((1, 2)))

    net = Net(twins.weights)
    net.eval()
    shape = jax.ShapeDtypeStruct(("B", samples.HEIGHT, samples.WIDTH, 3), np.float32)
    for name, turn in (("jax_nhwc", None), ("jax_nchw", [0])):
        jax2onnx.to_onnx(net, [shape], return_mode="file", output_path=twins.path(name), inputs_as_nchw=turn)
        twins.add(name, "jax", "jax", "flax", "jax2onnx")


def paddle(twins: Twins) -> None:
    import paddle
    from paddle import nn
    from paddle.nn import functional as F  # noqa: N812

    class Net(nn.Layer):
        def __init__(self) -> None:
            super().__init__()
            for i, stride in enumerate(STRIDES, 1):
                bias = None if i == 4 else False
                self.add_sublayer(f"conv{i}", nn.Conv2D(WIDTHS[i - 1], WIDTHS[i], 3, stride, 1, bias_attr=bias))
                if i < 4:
                    self.add_sublayer(f"bn{i}", nn.BatchNorm2D(WIDTHS[i], epsilon=EPSILON))
            self.fc = nn.Linear(WIDTHS[-1], samples.CLASSES)

        def forward(self, x: paddle.Tensor) -> paddle.Tensor:
            x = F.relu(self.bn1(self.conv1(x)))
            x = F.max_pool2d(F.relu(self.bn2(self.conv2(x))), 2, 2)
            x = F.relu(self.bn3(self.conv3(x)))
            return self.fc(F.relu(self.conv4(x)).mean([2, 3]))

    net = Net()
    for name, value in net.state_dict().items():  # which calls the statistics _mean and _variance
        stored = twins.weights[name.replace("_mean", "running_mean").replace("_variance", "running_var")]
        value.set_value(stored.T if name == "fc.weight" else stored)
    net.eval()
    spec = [paddle.static.InputSpec([None, 3, samples.HEIGHT, samples.WIDTH], "float32", "x")]
    paddle.onnx.export(net, twins.path("paddle").removesuffix(".onnx"), spec, opset_version=13)
    twins.add("paddle", "paddle", "paddlepaddle", "paddle2onnx")


def main() -> None:
    warnings.filterwarnings("ignore")
    name = os.environ["ZOO_ENVIRONMENT"]
    twins = Twins(f"{name}_{os.environ.get('KERAS_BACKEND', '')}".strip("_"), Path(sys.argv[1]))
    {"torch": torch, "keras": keras, "jax": jax, "paddle": paddle}[name](twins)
    twins.zoo.save()


if __name__ == "__main__":
    main()
