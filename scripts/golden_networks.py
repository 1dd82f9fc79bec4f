"""The small networks of make_golden.py, one of each kind, with seeded weights that keep scores lively.

Every activation, pool and sum that a reference hooks is a module of its own, used once, in the order of the forward
pass: captum and zennit find layers that way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

CLASSES = 5


def conv(c: int, k: int, size: int = 3, stride: int = 1, groups: int = 1, bias: bool = False) -> nn.Conv2d:
    return nn.Conv2d(c, k, size, stride, size // 2, groups=groups, bias=bias)


class Block(nn.Module):
    """A basic block of ResNet."""

    def __init__(self, c: int, k: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1, self.relu1 = conv(c, k, stride=stride), nn.BatchNorm2d(k), nn.ReLU()
        self.conv2, self.bn2 = conv(k, k), nn.BatchNorm2d(k)
        same = c == k and stride == 1
        self.shortcut = None if same else nn.Sequential(conv(c, k, 1, stride), nn.BatchNorm2d(k))
        self.relu2 = nn.ReLU()

    def branches(self, x: Tensor) -> tuple[Tensor, Tensor]:
        straight = x if self.shortcut is None else self.shortcut(x)
        return self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x))))), straight

    def join(self, a: Tensor, b: Tensor) -> Tensor:
        return a + b

    def forward(self, x: Tensor) -> Tensor:
        return self.relu2(self.join(*self.branches(x)))


class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.relu = conv(3, 8), nn.BatchNorm2d(8), nn.ReLU()
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.layer1, self.layer2 = Block(8, 8, 1), Block(8, 12, 2)
        self.mean, self.head = nn.AdaptiveAvgPool2d(1), nn.Linear(12, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.relu(self.bn(self.conv(x))))
        return self.head(self.mean(self.layer2(self.layer1(x))).flatten(1))


class VGG(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            conv(3, 8, bias=True), nn.ReLU(), conv(8, 8, bias=True), nn.ReLU(), nn.MaxPool2d(2),
            conv(8, 12, bias=True), nn.ReLU(), nn.MaxPool2d(2), conv(12, 12, bias=True), nn.ReLU(),
        )  # fmt: skip
        self.dense = nn.Sequential(nn.Linear(12 * 5 * 6, 16), nn.ReLU(), nn.Dropout(), nn.Linear(16, CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        return self.dense(self.features(x).flatten(1))


class Inverted(nn.Module):
    """An inverted residual of MobileNetV2."""

    def __init__(self, c: int, k: int, stride: int, wide: int) -> None:
        super().__init__()
        self.same = c == k and stride == 1
        self.body = nn.Sequential(
            conv(c, wide, 1), nn.BatchNorm2d(wide), nn.ReLU6(),
            conv(wide, wide, stride=stride, groups=wide), nn.BatchNorm2d(wide), nn.ReLU6(),
            conv(wide, k, 1), nn.BatchNorm2d(k),
        )  # fmt: skip

    def branches(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.body(x), x

    def join(self, a: Tensor, b: Tensor) -> Tensor:
        return a + b

    def forward(self, x: Tensor) -> Tensor:
        return self.join(*self.branches(x)) if self.same else self.body(x)


class MobileNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv(3, 8, stride=2), nn.BatchNorm2d(8), nn.ReLU6())
        self.blocks = nn.Sequential(Inverted(8, 8, 1, 16), Inverted(8, 10, 2, 16), Inverted(10, 10, 1, 20))
        self.last = nn.Sequential(conv(10, 16, 1), nn.BatchNorm2d(16), nn.ReLU6())
        self.mean, self.dropout, self.head = nn.AdaptiveAvgPool2d(1), nn.Dropout(), nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.dropout(self.mean(self.last(self.blocks(self.stem(x)))).flatten(1)))


class Dense(nn.Module):
    """A layer of DenseNet: what it finds stands beside what it was given."""

    def __init__(self, c: int, growth: int) -> None:
        super().__init__()
        self.norm1, self.relu1, self.conv1 = nn.BatchNorm2d(c), nn.ReLU(), conv(c, 8, 1)
        self.norm2, self.relu2, self.conv2 = nn.BatchNorm2d(8), nn.ReLU(), conv(8, growth)

    def forward(self, x: Tensor) -> Tensor:
        found = self.conv2(self.relu2(self.norm2(self.conv1(self.relu1(self.norm1(x))))))
        return torch.cat([x, found], 1)


class DenseNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.relu = conv(3, 6), nn.BatchNorm2d(6), nn.ReLU()
        self.pool = nn.MaxPool2d(2)
        self.dense1, self.dense2 = Dense(6, 4), Dense(10, 4)
        self.between = nn.Sequential(nn.BatchNorm2d(14), nn.ReLU(), conv(14, 8, 1), nn.AvgPool2d(2))
        self.dense3, self.last, self.relu_last = Dense(8, 4), nn.BatchNorm2d(12), nn.ReLU()
        self.mean, self.head = nn.AdaptiveAvgPool2d(1), nn.Linear(12, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.relu(self.norm(self.conv(x))))
        x = self.dense3(self.between(self.dense2(self.dense1(x))))
        return self.head(self.mean(self.relu_last(self.last(x))).flatten(1))


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, (width // heads) ** -0.5
        self.q, self.k, self.v = nn.Linear(width, width), nn.Linear(width, width), nn.Linear(width, width)
        self.softmax, self.out = nn.Softmax(-1), nn.Linear(width, width)

    def split(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.split(self.q(x)), self.split(self.k(x)), self.split(self.v(x))
        weights = self.softmax(q @ k.transpose(-1, -2) * self.scale)
        return self.out((weights @ v).transpose(1, 2).flatten(2))


class Encoder(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, 16))
        self.position = nn.Parameter(torch.randn(1, 31, 16))
        self.blocks = nn.Sequential(Encoder(16, 2), Encoder(16, 2))
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.position
        return self.head(self.norm(self.blocks(x))[:, 0])


class CNN1D(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1, self.relu1 = nn.Conv1d(4, 8, 5, padding=2), nn.BatchNorm1d(8), nn.ReLU()
        self.pool = nn.MaxPool1d(2)
        self.conv2, self.relu2 = nn.Conv1d(8, 12, 3, padding=1), nn.ReLU()
        self.mean, self.head = nn.AdaptiveAvgPool1d(1), nn.Linear(12, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.relu1(self.bn1(self.conv1(x))))
        return self.head(self.mean(self.relu2(self.conv2(x))).flatten(1))


class LSTM(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.tanh = nn.Linear(5, 6), nn.Tanh()
        self.lstm, self.head = nn.LSTM(6, 8, batch_first=True), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(self.tanh(self.embed(x)))[0][:, -1])


class MLP(nn.Module):
    """Two inputs that meet."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.relu1 = nn.Linear(6, 8), nn.ReLU()
        self.right, self.tanh = nn.Linear(5, 7), nn.Tanh()
        self.middle, self.relu2 = nn.Linear(15, 12), nn.ReLU()
        self.head = nn.Linear(12, CLASSES)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        x = torch.cat([self.relu1(self.left(a)), self.tanh(self.right(b))], 1)
        return self.head(self.relu2(self.middle(x)))


@dataclass(frozen=True)
class Network:
    """A network and what rows speak of.

    make: the module. shapes: of its inputs, by name, without the batch. layers: modules by the name that rows use.
    """

    make: Callable[[], nn.Module]
    shapes: dict[str, tuple[int, ...]]
    layers: dict[str, str]


IMAGE = {"image": (3, 20, 24)}
NETWORKS = {
    "resnet": Network(ResNet, IMAGE, {"early": "layer1", "features": "layer2"}),
    "vgg": Network(VGG, IMAGE, {"early": "features.6", "features": "features.9"}),
    "mobilenet": Network(MobileNet, IMAGE, {"early": "blocks.0", "features": "last"}),
    "densenet": Network(DenseNet, IMAGE, {"early": "between", "features": "relu_last"}),
    "vit": Network(ViT, IMAGE, {"early": "blocks.0", "features": "blocks.1"}),
    "cnn1d": Network(CNN1D, {"signal": (4, 40)}, {"early": "pool", "features": "relu2"}),
    "lstm": Network(LSTM, {"sequence": (12, 5)}, {"early": "tanh", "features": "tanh"}),
    "mlp": Network(MLP, {"a": (6,), "b": (5,)}, {"early": "relu2", "features": "relu1"}),
}


def photos(rng: np.random.Generator, count: int, shape: tuple[int, ...]) -> Tensor:
    """Coarse shapes in front of a colour, and a little noise: unlike samples, as photos are."""
    x = torch.from_numpy(rng.normal(0, 0.3, (count, *shape)))
    if len(shape) == 1:
        return x * 4
    coarse = torch.from_numpy(rng.normal(0, 1.2, (count, shape[0], *(3 for _ in shape[1:]))))
    colour = torch.from_numpy(rng.normal(0, 0.8, (count, shape[0], *(1 for _ in shape[1:]))))
    return x + colour + functional.interpolate(coarse, shape[1:], mode="bilinear" if len(shape) == 3 else "linear")


def build(name: str) -> nn.Module:
    """The network with its weights, the same ones every time, and scores that every class can win."""
    number = sorted(NETWORKS).index(name)
    torch.manual_seed(number)
    net: Any = NETWORKS[name].make().eval()
    rng = np.random.default_rng(number)
    x = [photos(rng, 64, shape).float() for shape in NETWORKS[name].shapes.values()]
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]
    head = [module for module in net.modules() if isinstance(module, nn.Linear)][-1]
    with torch.no_grad():
        for module in net.modules():
            _enliven(module)
        for norm in norms:
            norm.train().momentum = 1.0
        net(*x)  # batch norms learn what they normalise
        for norm in norms:
            norm.eval().momentum = 0.1
            norm.running_mean.add_(torch.randn_like(norm.running_mean) * 0.3)
            norm.running_var.mul_(torch.rand_like(norm.running_var) + 0.5)
        scores = net(*x)
        scale = 2 / scores.std(0)
        head.bias.copy_((head.bias - scores.mean(0)) * scale)
        head.weight.mul_(scale[:, None])
    return net


def _enliven(module: Any) -> None:
    if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):
        module.weight.normal_(0, (2 / module.weight[0].numel()) ** 0.5)
        if module.bias is not None:
            module.bias.normal_(0, 0.2)
    elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        module.weight.uniform_(0.7, 2.4)
        module.bias.normal_(0, 0.3)
    elif isinstance(module, nn.LayerNorm):
        module.weight.uniform_(0.7, 1.3)
        module.bias.normal_(0, 0.2)
    elif isinstance(module, nn.LSTM):
        for parameter in module.parameters():
            parameter.normal_(0, 0.5)
