"""PaddlePaddle by paddle2onnx, which pins an old onnx and so needs an environment of its own.

What comes out names no producer, keeps batch normalisation with an Identity after it, and calls the batch
DynamicDimension.0. Upsampling takes a size, not a factor; softplus is not exported. Constants are folded by Polygraphy,
which installs onnx_graphsurgeon and sympy by itself if they are not there; so they are among the pins.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import blobs
import numpy as np
import onnxruntime as ort
import paddle
import samples
from paddle import nn
from paddle.nn import functional as F  # noqa: N812
from samples import CLASSES, GRID, PATCH

from zoo import Zoo

BATCH = 32


def conv(channels: int, out: int, stride: int = 1, size: int = 3, groups: int = 1, act: type | None = nn.ReLU) -> Any:
    layers = [nn.Conv2D(channels, out, size, stride, size // 2, groups=groups, bias_attr=False), nn.BatchNorm2D(out)]
    return nn.Sequential(*layers, *([act()] if act else []))


def cnn() -> nn.Layer:
    body = [conv(3, 8, 2), nn.MaxPool2D(2, 2), conv(8, 16), conv(16, 24)]
    return nn.Sequential(*body, nn.AdaptiveAvgPool2D(1), nn.Flatten(), nn.Linear(24, CLASSES), nn.Softmax())


class Inverted(nn.Layer):
    """The block of MobileNetV3: widen, depthwise, squeeze and excite, narrow."""

    def __init__(self, channels: int, wide: int, out: int, stride: int) -> None:
        super().__init__()
        self.expand = conv(channels, wide, size=1, act=nn.Hardswish)
        self.depthwise = conv(wide, wide, stride, groups=wide, act=nn.Hardswish)
        gate = [nn.AdaptiveAvgPool2D(1), nn.Conv2D(wide, 8, 1), nn.ReLU(), nn.Conv2D(8, wide, 1), nn.Hardsigmoid()]
        self.gate, self.project = nn.Sequential(*gate), conv(wide, out, size=1, act=None)
        self.skip = stride == 1 and channels == out

    def forward(self, x: Any) -> Any:
        y = self.depthwise(self.expand(x))
        y = self.project(y * self.gate(y))
        return x + y if self.skip else y


def mbv3() -> nn.Layer:
    blocks = [Inverted(*shape) for shape in [(8, 16, 8, 1), (8, 24, 16, 2), (16, 48, 16, 1)]]
    body = [conv(3, 8, 2, act=nn.Hardswish), *blocks, conv(16, 32, size=1, act=nn.Hardswish)]
    return nn.Sequential(*body, nn.AdaptiveAvgPool2D(1), nn.Flatten(), nn.Linear(32, CLASSES))


class Vit(nn.Layer):
    """With a class token, and Paddle's own encoder: normalised before."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.patch = nn.Conv2D(3, width, PATCH, PATCH)
        draw = paddle.ParamAttr(initializer=nn.initializer.Normal(std=0.02))
        self.token = self.create_parameter([1, 1, width], attr=draw)
        self.positions = self.create_parameter([1, 1 + GRID[0] * GRID[1], width], attr=draw)
        layer = nn.TransformerEncoderLayer(width, 2, 2 * width, 0.0, "gelu", normalize_before=True)
        self.encoder, self.head = nn.TransformerEncoder(layer, 2, nn.LayerNorm(width)), nn.Linear(width, CLASSES)

    def forward(self, x: Any) -> Any:
        x = self.patch(x).flatten(2).transpose([0, 2, 1])
        x = paddle.concat([self.token.expand([x.shape[0], 1, -1]), x], 1) + self.positions
        return self.head(self.encoder(x)[:, 0])


class Unet(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2, self.middle = conv(3, 8), conv(8, 16), conv(16, 24)
        self.up2, self.grow, self.up1 = conv(24 + 16, 16), nn.Conv2DTranspose(16, 8, 2, 2), conv(8 + 8, 8)
        self.head = nn.Conv2D(8, CLASSES + 1, 1)

    def forward(self, x: Any) -> Any:
        one = self.down1(x)
        two = self.down2(F.max_pool2d(one, 2, 2))
        x = F.interpolate(self.middle(F.avg_pool2d(two, 2, 2)), size=two.shape[2:], mode="bilinear")
        x = self.grow(self.up2(paddle.concat([x, two], 1)))
        return self.head(self.up1(paddle.concat([x, one], 1)))


class Yolo(nn.Layer):
    """Anchor-free, a cell of 8 x 8 pixels, a box: scores [N, classes, cells], and corners in pixels [N, cells, 4]."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(3, 12, 2), conv(12, 24, 2), conv(24, 32, 2), conv(32, 32))
        bias = paddle.ParamAttr(initializer=nn.initializer.Constant(-3.0))
        self.score = nn.Sequential(conv(32, 24), nn.Conv2D(24, CLASSES, 1, bias_attr=bias))
        self.side = nn.Sequential(conv(32, 24), nn.Conv2D(24, 4, 1))
        y, x = np.mgrid[: GRID[0], : GRID[1]].reshape(2, -1) + 0.5
        self.register_buffer("middle", paddle.to_tensor(np.stack([x, y], 1).astype(np.float32)))

    def forward(self, x: Any) -> Any:
        x = self.body(x)
        sides = (1 + F.elu(self.side(x))).flatten(2).transpose([0, 2, 1])
        corners = paddle.concat([self.middle - sides[:, :, :2], self.middle + sides[:, :, 2:]], -1)
        return F.sigmoid(self.score(x)).flatten(2), corners * PATCH


class Recurrent(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.frames, self.lstm = nn.Conv1D(1, 12, 8, 8), nn.LSTM(12, 16)
        self.head = nn.Linear(16, len(blobs.SIGNALS))

    def forward(self, x: Any) -> Any:
        return self.head(self.lstm(F.relu(self.frames(x)).transpose([0, 2, 1]))[0][:, -1])


def mlp() -> nn.Layer:
    return nn.Sequential(nn.Linear(len(blobs.COLUMNS), 24), nn.ReLU(), nn.Linear(24, 16), nn.Tanh(), nn.Linear(16, 3))


def classes(said: Any, y: Any) -> Any:
    return F.cross_entropy(said, y)


def probabilities(said: Any, y: Any) -> Any:
    return F.cross_entropy(said, y, use_softmax=False)


def pixels(said: Any, y: Any) -> Any:
    return F.cross_entropy(said, y, axis=1)


def found(said: Any, scores: Any, corners: Any) -> Any:
    scores = scores.transpose([0, 2, 1])
    p, flag = paddle.clip(said[0], 1e-6, 1 - 1e-6), scores.max(1).unsqueeze(-1)
    each = scores * (1 - p) ** 2 * p.log() + (1 - scores) * p**2 * (1 - p).log()
    return (-each.sum() + (flag * (said[1] - corners).abs()).sum() / PATCH) / (scores.sum() + 1)


def measured(said: list[np.ndarray], truth: list[np.ndarray]) -> float:
    if len(said) == 1:
        return samples.accuracy(said[0], truth[0], axis=1)
    return samples.found(said[0].transpose(0, 2, 1), said[1], *truth)


class Task(NamedTuple):
    """A network, what it learns, for how many rounds, and what is known of it."""

    build: Callable[[], Any]
    data: Callable[[int, int], Any]
    loss: Callable[..., Any]
    epochs: int
    kind: str
    truth: dict[str, Any]


CORNERS = samples.TOKENS | {"boxes": "left, top, right, bottom, in pixels"}
NETS = {
    "cnn": Task(cnn, samples.labels, probabilities, 10, "classifier", samples.PHOTO),
    "mbv3": Task(mbv3, samples.labels, classes, 10, "classifier", samples.PHOTO),
    "vit": Task(Vit, samples.labels, classes, 14, "classifier", samples.TOKENS | {"class_tokens": 1}),
    "unet": Task(Unet, samples.masks, pixels, 8, "segmentation", samples.MASK),
    "yolo": Task(Yolo, samples.cells, found, 25, "detector", CORNERS),
    "lstm": Task(Recurrent, samples.signals, classes, 25, "signal", samples.SIGNAL),
    "mlp": Task(mlp, samples.rows, classes, 15, "table", samples.ROW),
}


def fit(model: nn.Layer, data: tuple[np.ndarray, ...], loss: Callable[..., Any], epochs: int) -> None:
    steps, rng = len(data[0]) // BATCH, np.random.default_rng(0)
    rate = paddle.optimizer.lr.CosineAnnealingDecay(4e-3, steps * epochs)
    adam = paddle.optimizer.Adam(rate, parameters=model.parameters())
    model.train()
    for _ in range(epochs):
        for part in np.split(rng.permutation(steps * BATCH), steps):
            x, *y = (paddle.to_tensor(d[part]) for d in data)
            loss(model(x), *y).backward()
            adam.step()
            adam.clear_grad()
            rate.step()
    model.eval()


def main() -> None:
    logging.disable(logging.WARNING)
    zoo = Zoo("paddle", Path(sys.argv[1]))
    versions = {"paddle": paddle.__version__, "paddle2onnx": version("paddle2onnx")}
    for net, task in NETS.items():
        paddle.seed(0)
        model, path = task.build(), zoo.path("paddle", net)
        fit(model, task.data(*samples.TRAIN), task.loss, task.epochs)
        x, *y = task.data(*samples.TEST)
        spec = [paddle.static.InputSpec([None, *x.shape[1:]], "float32", "x")]
        paddle.onnx.export(model, str(path.with_suffix("")), spec, opset_version=13)
        said = ort.InferenceSession(path).run(None, {"x": x})
        with paddle.no_grad():
            expected = model(paddle.to_tensor(x))
        samples.same(said, [e.numpy() for e in (expected if len(said) > 1 else [expected])], path.name)
        zoo.add("paddle", net, task.kind, {"x": x[:1]}, truth=task.truth | {"accuracy": measured(said, y)}, **versions)
    zoo.save()


if __name__ == "__main__":
    main()
