"""The networks of bench.py: ten that everybody knows, written out, with random weights that keep scores lively.

    python scripts/bench_networks.py [NAME ...]   # exports them into build/bench, and prints what they are

Sizes are those of the papers and of torchvision, and so are the numbers of parameters. Every activation and every sum
is a module of its own, used once: captum and zennit find layers that way. `features` ends in the last map, or in the
tokens; `head` makes 1000 scores of it.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

FOLDER = Path(__file__).resolve().parents[1] / "build" / "bench"
SIZE, CLASSES = 224, 1000
Activation = Callable[[], nn.Module]


class Classifier(nn.Module):
    def __init__(self, features: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.features, self.head = features, head

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


class Add(nn.Module):
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a + b


class Residual(nn.Module):
    """A branch beside a shortcut, and what follows their sum."""

    def __init__(self, branch: nn.Module, shortcut: nn.Module, after: nn.Module) -> None:
        super().__init__()
        self.branch, self.shortcut, self.add, self.after = branch, shortcut, Add(), after

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.add(self.branch(x), self.shortcut(x)))


def conv(
    c: int, k: int, size: int, stride: int = 1, groups: int = 1, act: Activation | None = nn.ReLU, eps: float = 1e-5
) -> list[nn.Module]:
    """A convolution, batch normalisation and activation."""
    layers = [nn.Conv2d(c, k, size, stride, size // 2, groups=groups, bias=False), nn.BatchNorm2d(k, eps)]
    return layers if act is None else [*layers, act()]


def pooled(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), *layers)


# ResNet: He et al., 2016.


def resnet(depths: Sequence[int], deep: bool) -> Classifier:
    """deep: bottlenecks of three convolutions, the stride in the second, else blocks of two."""
    layers, c = [*conv(3, 64, 7, 2), nn.MaxPool2d(3, 2, 1)], 64
    for stage, depth in enumerate(depths):
        wide = 64 << stage
        k = 4 * wide if deep else wide
        for i in range(depth):
            stride = 2 if stage and not i else 1
            if deep:
                branch = [*conv(c, wide, 1), *conv(wide, wide, 3, stride), *conv(wide, k, 1, act=None)]
            else:
                branch = [*conv(c, k, 3, stride), *conv(k, k, 3, act=None)]
            shortcut = nn.Identity() if stride == 1 and c == k else nn.Sequential(*conv(c, k, 1, stride, act=None))
            layers.append(Residual(nn.Sequential(*branch), shortcut, nn.ReLU()))
            c = k
    return Classifier(nn.Sequential(*layers), pooled(nn.Linear(c, CLASSES)))


# MobileNetV2 and V3, EfficientNet: Sandler et al., 2018; Howard et al., 2019; Tan & Le, 2019.


class Gate(nn.Module):
    """Squeeze and excitation: channels are weighted by what the whole picture shows."""

    def __init__(self, c: int, narrow: int, act: Activation, sigmoid: Activation) -> None:
        super().__init__()
        self.weigh = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(c, narrow, 1), act(), nn.Conv2d(narrow, c, 1), sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.weigh(x) * x


def inverted(
    c: int, k: int, size: int, stride: int, wide: int, act: Activation, gate: Sequence[nn.Module] = (), **norm: Any
) -> nn.Module:
    """An inverted residual; the gate stands before the last convolution."""
    layers = conv(c, wide, 1, act=act, **norm) if wide != c else []
    layers += conv(wide, wide, size, stride, wide, act, **norm)
    branch = nn.Sequential(*layers, *gate, *conv(wide, k, 1, act=None, **norm))
    return Residual(branch, nn.Identity(), nn.Identity()) if stride == 1 and c == k else branch


def mobilenet_v2() -> Classifier:
    layers, c = conv(3, 32, 3, 2, act=nn.ReLU6), 32
    for expand, k, depth, first in (
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
    ):  # fmt: skip
        for i in range(depth):
            layers.append(inverted(c, k, 3, 1 if i else first, expand * c, nn.ReLU6))
            c = k
    layers += conv(c, 1280, 1, act=nn.ReLU6)
    return Classifier(nn.Sequential(*layers), pooled(nn.Dropout(0.2), nn.Linear(1280, CLASSES)))


def eighths(number: float) -> int:
    """The multiple of eight nearest to a number, and not under nine tenths of it."""
    near = max(8, int(number + 4) // 8 * 8)
    return near if near >= 0.9 * number else near + 8


def mobilenet_v3_large() -> Classifier:
    layers, c, eps = conv(3, 16, 3, 2, act=nn.Hardswish, eps=1e-3), 16, 1e-3
    for size, wide, k, gated, act, stride in (
        (3, 16, 16, False, nn.ReLU, 1), (3, 64, 24, False, nn.ReLU, 2), (3, 72, 24, False, nn.ReLU, 1),
        (5, 72, 40, True, nn.ReLU, 2), (5, 120, 40, True, nn.ReLU, 1), (5, 120, 40, True, nn.ReLU, 1),
        (3, 240, 80, False, nn.Hardswish, 2), (3, 200, 80, False, nn.Hardswish, 1),
        (3, 184, 80, False, nn.Hardswish, 1), (3, 184, 80, False, nn.Hardswish, 1),
        (3, 480, 112, True, nn.Hardswish, 1), (3, 672, 112, True, nn.Hardswish, 1),
        (5, 672, 160, True, nn.Hardswish, 2), (5, 960, 160, True, nn.Hardswish, 1),
        (5, 960, 160, True, nn.Hardswish, 1),
    ):  # fmt: skip
        gate = [Gate(wide, eighths(wide / 4), nn.ReLU, nn.Hardsigmoid)] if gated else []
        layers.append(inverted(c, k, size, stride, wide, act, gate, eps=eps))
        c = k
    layers += conv(c, 960, 1, act=nn.Hardswish, eps=eps)
    head = pooled(nn.Linear(960, 1280), nn.Hardswish(), nn.Dropout(0.2), nn.Linear(1280, CLASSES))
    return Classifier(nn.Sequential(*layers), head)


def efficientnet_b0() -> Classifier:
    layers, c = conv(3, 32, 3, 2, act=nn.SiLU), 32
    for expand, size, first, k, depth in (
        (1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3), (6, 5, 1, 112, 3), (6, 5, 2, 192, 4),
        (6, 3, 1, 320, 1),
    ):  # fmt: skip
        for i in range(depth):
            gate = [Gate(expand * c, c // 4, nn.SiLU, nn.Sigmoid)]
            layers.append(inverted(c, k, size, 1 if i else first, expand * c, nn.SiLU, gate))
            c = k
    layers += conv(c, 1280, 1, act=nn.SiLU)
    return Classifier(nn.Sequential(*layers), pooled(nn.Dropout(0.2), nn.Linear(1280, CLASSES)))


# SqueezeNet, VGG, DenseNet: Iandola et al., 2016; Simonyan & Zisserman, 2015; Huang et al., 2017.


class Beside(nn.Module):
    """What several branches find, one after another along the channels."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


def fire(c: int, narrow: int, k: int) -> list[nn.Module]:
    one = nn.Sequential(nn.Conv2d(narrow, k, 1), nn.ReLU())
    three = nn.Sequential(nn.Conv2d(narrow, k, 3, padding=1), nn.ReLU())
    return [nn.Conv2d(c, narrow, 1), nn.ReLU(), Beside(one, three)]


def squeezenet1_1() -> Classifier:
    def pool() -> nn.Module:
        return nn.MaxPool2d(3, 2, ceil_mode=True)

    features = nn.Sequential(
        nn.Conv2d(3, 64, 3, 2), nn.ReLU(), pool(), *fire(64, 16, 64), *fire(128, 16, 64),
        pool(), *fire(128, 32, 128), *fire(256, 32, 128),
        pool(), *fire(256, 48, 192), *fire(384, 48, 192), *fire(384, 64, 256), *fire(512, 64, 256),
        nn.Dropout(), nn.Conv2d(512, CLASSES, 1), nn.ReLU(),
    )  # fmt: skip
    return Classifier(features, pooled())


def vgg16() -> Classifier:
    layers: list[nn.Module] = []
    for c, k, depth in ((3, 64, 2), (64, 128, 2), (128, 256, 3), (256, 512, 3), (512, 512, 3)):
        for i in range(depth):
            layers += [nn.Conv2d(k if i else c, k, 3, padding=1), nn.ReLU()]
        layers.append(nn.MaxPool2d(2))
    head = nn.Sequential(
        nn.AdaptiveAvgPool2d(7), nn.Flatten(),
        nn.Linear(512 * 49, 4096), nn.ReLU(), nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(),
        nn.Linear(4096, CLASSES),
    )  # fmt: skip
    return Classifier(nn.Sequential(*layers), head)


def densenet121() -> Classifier:
    layers, c, growth = [*conv(3, 64, 7, 2), nn.MaxPool2d(3, 2, 1)], 64, 32
    for i, depth in enumerate((6, 12, 24, 16)):
        if i:
            layers += [nn.BatchNorm2d(c), nn.ReLU(), nn.Conv2d(c, c // 2, 1, bias=False), nn.AvgPool2d(2)]
            c //= 2
        for _ in range(depth):
            last = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)
            found = nn.Sequential(nn.BatchNorm2d(c), nn.ReLU(), *conv(c, 4 * growth, 1), last)
            layers.append(Beside(nn.Identity(), found))
            c += growth
    return Classifier(nn.Sequential(*layers, nn.BatchNorm2d(c), nn.ReLU()), pooled(nn.Linear(c, CLASSES)))


# ConvNeXt and ViT: Liu et al., 2022; Dosovitskiy et al., 2021, the tiny one of Touvron et al., 2021.


class Permute(nn.Module):
    def __init__(self, *axes: int) -> None:
        super().__init__()
        self.axes = axes

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(self.axes)


class Scale(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(c, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x


def convnext_tiny() -> Classifier:
    def norm(c: int) -> list[nn.Module]:
        return [Permute(0, 2, 3, 1), nn.LayerNorm(c, 1e-6), Permute(0, 3, 1, 2)]

    def block(c: int) -> nn.Module:
        mix = [nn.Linear(c, 4 * c), nn.GELU(), nn.Linear(4 * c, c)]
        first = [nn.Conv2d(c, c, 7, padding=3, groups=c), Permute(0, 2, 3, 1), nn.LayerNorm(c, 1e-6)]
        return Residual(nn.Sequential(*first, *mix, Permute(0, 3, 1, 2), Scale(c)), nn.Identity(), nn.Identity())

    layers, widths = [nn.Conv2d(3, 96, 4, 4), *norm(96)], (96, 192, 384, 768)
    for (c, k), depth in zip(pairwise((0, *widths)), (3, 3, 9, 3), strict=True):
        layers += [*norm(c), nn.Conv2d(c, k, 2, 2)] if c else []
        layers += [block(k) for _ in range(depth)]
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), *norm(768), nn.Flatten(), nn.Linear(768, CLASSES))
    return Classifier(nn.Sequential(*layers), head)


class Tokens(nn.Module):
    """Patches of 16 pixels as tokens, a class token before them, and where each lies."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 16, 16)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.position = nn.Parameter(torch.zeros(1, 1 + (SIZE // 16) ** 2, width))

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        return torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.position


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, (width // heads) ** -0.5
        self.qkv, self.softmax, self.out = nn.Linear(width, 3 * width), nn.Softmax(-1), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        weights = self.softmax(q * self.scale @ k.transpose(-1, -2))
        return self.out((weights @ v).transpose(1, 2).flatten(2))


class First(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[:, 0]


def vit_tiny(width: int = 192, depth: int = 12, heads: int = 3) -> Classifier:
    def encoder() -> nn.Module:
        mix = [nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)]
        branches = [nn.LayerNorm(width, 1e-6), Attention(width, heads)], [nn.LayerNorm(width, 1e-6), *mix]
        return nn.Sequential(*(Residual(nn.Sequential(*b), nn.Identity(), nn.Identity()) for b in branches))

    features = nn.Sequential(Tokens(width), *(encoder() for _ in range(depth)))
    return Classifier(features, nn.Sequential(nn.LayerNorm(width, 1e-6), First(), nn.Linear(width, CLASSES)))


@dataclass(frozen=True)
class Network:
    """A network, the number of its parameters as published, and whether zennit's rules cover all of it."""

    make: Callable[[], Classifier]
    parameters: int
    zennit: bool = False


NETWORKS = {
    "resnet18": Network(lambda: resnet((2, 2, 2, 2), deep=False), 11_689_512, zennit=True),
    "resnet50": Network(lambda: resnet((3, 4, 6, 3), deep=True), 25_557_032, zennit=True),
    "mobilenet_v2": Network(mobilenet_v2, 3_504_872, zennit=True),
    "mobilenet_v3_large": Network(mobilenet_v3_large, 5_483_032),
    "squeezenet1_1": Network(squeezenet1_1, 1_235_496, zennit=True),
    "vgg16": Network(vgg16, 138_357_544, zennit=True),
    "densenet121": Network(densenet121, 7_978_856),
    "efficientnet_b0": Network(efficientnet_b0, 5_288_548),
    "convnext_tiny": Network(convnext_tiny, 28_589_128),
    "vit_tiny": Network(vit_tiny, 5_717_416),
}


def photos(count: int, seed: int) -> Tensor:
    """Coarse shapes and a little noise, as large as photos are once they are normalised."""
    random = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, 3, 7, 7, generator=random)
    fine = torch.randn(count, 3, SIZE, SIZE, generator=random)
    return functional.interpolate(coarse, (SIZE, SIZE), mode="bicubic") + 0.2 * fine


def build(name: str) -> Classifier:
    """The network with its weights: the same ones every time, kept in build/bench."""
    network, kept = NETWORKS[name], FOLDER / f"{name}.pt"
    torch.manual_seed(sorted(NETWORKS).index(name))
    with torch.device("meta" if kept.exists() else "cpu"):
        net = network.make().eval()
    count = sum(p.numel() for p in net.parameters())
    assert count == network.parameters, f"{name} has {count:,} parameters, where {network.parameters:,} are published"
    if kept.exists():
        net.load_state_dict(torch.load(kept, weights_only=True), assign=True)
    else:
        enliven(net)
        FOLDER.mkdir(parents=True, exist_ok=True)
        torch.save(net.state_dict(), kept)
    return net


@torch.no_grad()
def enliven(net: Classifier) -> None:
    """Weights that neither blow up nor put out what they are given, and batch norms that have seen something."""
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    for module in net.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            module.weight.normal_(0, (2 / module.weight[0].numel()) ** 0.5)
            if module.bias is not None:
                module.bias.normal_(0, 0.1)
        elif isinstance(module, nn.BatchNorm2d | nn.LayerNorm):
            module.weight.uniform_(0.5, 1.5)
            module.bias.normal_(0, 0.2)
        elif isinstance(module, Scale):
            module.weight.uniform_(0.1, 0.5)
        elif isinstance(module, Tokens):
            module.token.normal_()
            module.position.normal_(0, 0.5)
    for norm in norms:
        norm.train().momentum = 1.0
    net(photos(4, seed=1))
    for norm in norms:
        norm.eval().momentum = 0.1
        norm.running_mean.add_(torch.randn_like(norm.running_mean) * 0.1 * norm.running_var.sqrt())
        norm.running_var.mul_(torch.rand_like(norm.running_var) + 0.5)
    last = [module for module in net.modules() if isinstance(module, nn.Linear | nn.Conv2d)][-1]
    scale = 2 / net(photos(4, seed=1)).std()
    for parameter in last.parameters():
        parameter.mul_(scale)


def export(name: str) -> Path:
    """The network as users have it, of any batch size, batch norms folded; from build/bench if it is there."""
    path = FOLDER / f"{name}.onnx"
    if not path.exists():
        axes = {"input": {0: "batch"}, "logits": {0: "batch"}}
        whole = path.with_suffix(".part")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                build(name), (photos(1, seed=0),), whole, dynamo=False, opset_version=17, do_constant_folding=True,
                input_names=["input"], output_names=["logits"], dynamic_axes=axes,
            )  # fmt: skip
        whole.replace(path)
    return path


if __name__ == "__main__":
    for each in sys.argv[1:] or NETWORKS:
        scores = build(each)(photos(2, seed=0))
        print(f"{export(each)}: {NETWORKS[each].parameters:,} parameters, scores of {scores.std():.2f}", flush=True)
