"""A detector by queries, after DETR."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch_boxes import CLASSES, SIZE, corners, iou
from torch_convs import conv
from torch_transformers import Block, mlp


class Decoder(nn.Module):
    """A decoder block of DETR: queries look at each other, then at the picture."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.own = Block(dim, 4)
        self.norm = nn.LayerNorm(dim)
        self.q, self.k, self.v, self.proj = (nn.Linear(dim, dim) for _ in range(4))
        self.norm2, self.mlp = nn.LayerNorm(dim), mlp(dim, 2 * dim)

    def forward(self, x: Tensor, memory: Tensor, place: Tensor) -> Tensor:
        x = self.own(x)
        b, n, c = x.shape
        parts = [self.q(self.norm(x)), self.k(memory + place), self.v(memory)]
        q, k, v = (t.reshape(b, -1, 4, c // 4).transpose(1, 2) for t in parts)
        x = x + self.proj(((q @ k.transpose(2, 3) * (c // 4) ** -0.5).softmax(-1) @ v).transpose(1, 2).reshape(b, n, c))
        return x + self.mlp(self.norm2(x))


class Detr(nn.Module):
    """Eight queries: class logits, the last for nothing [B, 8, 5], and x, y, w, h from 0 to 1 [B, 8, 4]."""

    def __init__(self, dim: int = 24) -> None:
        super().__init__()
        self.backbone = nn.Sequential(conv(3, 8, 3, 2), conv(8, 16, 3, 2), conv(16, dim, 3, 2))
        self.place = nn.Parameter(0.5 * torch.randn(1, SIZE[0] * SIZE[1] // 64, dim))
        self.queries = nn.Parameter(0.5 * torch.randn(1, 8, dim))
        self.encoder = Block(dim, 4)
        self.decoders = nn.ModuleList(Decoder(dim) for _ in range(2))
        self.norm, self.cls, self.box = nn.LayerNorm(dim), nn.Linear(dim, CLASSES + 1), mlp(dim, dim)
        self.out = nn.Linear(dim, 4)

    def steps(self, x: Tensor) -> list[tuple[Tensor, Tensor]]:
        memory = self.encoder(self.backbone(x).flatten(2).transpose(1, 2) + self.place)
        y, found = self.queries.expand(x.shape[0], -1, -1), []
        for decoder in self.decoders:
            y = decoder(y, memory, self.place)
            z = self.norm(y)
            found.append((self.cls(z), self.out(functional.relu(self.box(z))).sigmoid()))
        return found

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.steps(x)[-1]

    def detections(self, x: Tensor) -> tuple[Tensor, Tensor]:
        cls, middle = self(x)
        return cls.softmax(-1)[..., :-1], corners(middle) * torch.tensor([SIZE[1], SIZE[0]] * 2)

    def loss(self, x: Tensor, boxes: Tensor, labels: Tensor) -> Tensor:
        from scipy.optimize import linear_sum_assignment

        whole = torch.tensor([SIZE[1], SIZE[0]] * 2)
        total, weight = torch.zeros(()), torch.tensor([1.0] * CLASSES + [0.2])
        counts = (boxes[..., 2] > 0).sum(1)
        for cls, middle in self.steps(x):
            found, right = corners(middle) * whole, torch.full(cls.shape[:2], CLASSES)
            overlap = iou(found[:, :, None], boxes[:, None])
            apart = (found[:, :, None] - boxes[:, None]).abs().mean(-1) / 10
            chance = cls.softmax(-1).gather(2, labels[:, None].expand(-1, cls.shape[1], -1))
            costs = (apart - overlap - chance).detach().numpy()
            pairs = [linear_sum_assignment(cost[:, :n]) for cost, n in zip(costs, counts.tolist(), strict=True)]
            photos = torch.arange(len(x)).repeat_interleave(counts)
            queries, things = (torch.from_numpy(np.concatenate(side)) for side in zip(*pairs, strict=True))
            right[photos, queries] = labels[photos, things]
            place = (apart - overlap)[photos, queries, things].mean()
            total = total + 2 * functional.cross_entropy(cls.flatten(0, 1), right.flatten(), weight) + 2 * place
        return total
