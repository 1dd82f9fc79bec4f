"""Convolutional, recurrent and plain networks with a few thousand weights."""

from __future__ import annotations

import blobs
import torch
from torch import Tensor, nn
from torch.nn import functional


def conv(
    i: int, o: int, kernel: int = 3, stride: int = 1, groups: int = 1, act: type[nn.Module] = nn.ReLU
) -> nn.Module:
    """Convolution, batch normalisation, activation."""
    layers = [nn.Conv2d(i, o, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(o), act()]
    return nn.Sequential(*layers)


class Cnn(nn.Module):
    """Three convolutions and a linear layer over the mean of the map; ``outputs`` scores, classes as a rule."""

    def __init__(self, outputs: int = 4) -> None:
        super().__init__()
        self.features = nn.Sequential(conv(3, 12), nn.MaxPool2d(2), conv(12, 20), nn.MaxPool2d(2), conv(20, 32))
        self.head = nn.Linear(32, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).mean((2, 3)))


class SqueezeExcite(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.reduce, self.expand = nn.Conv2d(dim, dim // 4, 1), nn.Conv2d(dim // 4, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        s = functional.relu(self.reduce(functional.adaptive_avg_pool2d(x, 1)))
        return x * functional.hardsigmoid(self.expand(s))


class Inverted(nn.Module):
    """Inverted residual of MobileNetV3: wide, depthwise, squeeze and excite, narrow."""

    def __init__(self, i: int, wide: int, o: int, kernel: int, stride: int, act: type[nn.Module]) -> None:
        super().__init__()
        self.residual = stride == 1 and i == o
        self.block = nn.Sequential(
            conv(i, wide, 1, act=act), conv(wide, wide, kernel, stride, wide, act), SqueezeExcite(wide),
            conv(wide, o, 1, act=nn.Identity),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x + self.block(x) if self.residual else self.block(x)


class MobileNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        swish = nn.Hardswish
        self.features = nn.Sequential(
            conv(3, 8, 3, 2, act=swish), Inverted(8, 16, 8, 3, 1, nn.ReLU), Inverted(8, 32, 16, 5, 2, swish),
            Inverted(16, 48, 16, 5, 1, swish), conv(16, 48, 1, act=swish),
        )  # fmt: skip
        self.classifier = nn.Sequential(nn.Linear(48, 32), swish(), nn.Dropout(0.1), nn.Linear(32, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(functional.adaptive_avg_pool2d(self.features(x), 1).flatten(1))


class Unet(nn.Module):
    """Scores per pixel: background and the four classes; ``ends_in_argmax`` gives the class of each pixel only."""

    def __init__(self, ends_in_argmax: bool = False) -> None:
        super().__init__()
        self.ends_in_argmax = ends_in_argmax
        self.down1, self.down2, self.middle = conv(3, 8), conv(8, 16), conv(16, 24)
        self.raise1, self.up1 = nn.ConvTranspose2d(24, 16, 2, 2), conv(32, 16)
        self.up2, self.head = conv(24, 8), nn.Conv2d(8, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.down1(x)
        b = self.down2(functional.max_pool2d(a, 2))
        c = self.middle(functional.max_pool2d(b, 2))
        c = self.up1(torch.cat([self.raise1(c), b], 1))
        c = functional.interpolate(c, scale_factor=2.0, mode="bilinear", align_corners=False)
        logits = self.head(self.up2(torch.cat([c, a], 1)))
        return logits.argmax(1) if self.ends_in_argmax else logits


class Embedder(nn.Module):
    """A photo to a vector of length one."""

    def __init__(self) -> None:
        super().__init__()
        self.body = Cnn(16)

    def forward(self, x: Tensor) -> Tensor:
        return functional.normalize(self.body(x), dim=1)


class Fusion(nn.Module):
    """A photo and a vector to one number."""

    def __init__(self) -> None:
        super().__init__()
        self.photo, self.vector = Cnn(16), nn.Sequential(nn.Linear(4, 16), nn.ReLU())
        self.head = nn.Linear(32, 1)

    def forward(self, photo: Tensor, vector: Tensor) -> Tensor:
        return self.head(torch.cat([functional.relu(self.photo(photo)), self.vector(vector)], 1))


class Signal(nn.Module):
    """Convolutions over a one-dimensional signal."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv1d(1, 12, 7, padding=3), nn.BatchNorm1d(12), nn.ReLU(), nn.MaxPool1d(2),
            nn.Conv1d(12, 20, 7, padding=3), nn.BatchNorm1d(20), nn.ReLU(), nn.MaxPool1d(2),
            nn.Conv1d(20, 24, 5, padding=2), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(24, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).amax(2))


class Recurrent(nn.Module):
    """Four samples of the signal a step, the class from the mean over the steps."""

    def __init__(self, kind: type[nn.RNNBase], bidirectional: bool = False) -> None:
        super().__init__()
        self.rnn = kind(4, 20, batch_first=True, bidirectional=bidirectional)
        self.head = nn.Linear(40 if bidirectional else 20, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x.reshape(x.shape[0], 32, 4))[0].mean(1))


class Stateful(nn.Module):
    """An LSTM that takes its state and gives it back, for signals that come in pieces."""

    def __init__(self, trained: Recurrent) -> None:
        super().__init__()
        self.rnn, self.head = trained.rnn, trained.head

    def forward(self, x: Tensor, h0: Tensor, c0: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y, (h, c) = self.rnn(x.reshape(x.shape[0], 32, 4), (h0, c0))
        return self.head(y.mean(1)), h, c


class Table(nn.Module):
    """A multilayer perceptron on the columns of a table; it standardises them itself."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(blobs.MEANS))
        self.register_buffer("deviation", torch.tensor(blobs.DEVIATIONS))
        self.net = nn.Sequential(nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, 16), nn.Tanh(), nn.Linear(16, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.net((x - self.mean) / self.deviation)
