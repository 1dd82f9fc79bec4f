"""Detectors of one stage, their targets and losses: without anchors (YOLO) and with (SSD)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch_boxes import CLASSES, SIZE, NonMaxSuppression, assigned, cells, corners, fitting, iou, taken
from torch_convs import conv

BINS = 8


class Backbone(nn.Module):
    """Maps of stride 8 and 16, the coarse one mixed into the fine one."""

    def __init__(self, act: type[nn.Module] = nn.SiLU) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv(3, 8, 3, 2, act=act), conv(8, 12, 3, 2, act=act), conv(12, 16, 3, 2, act=act))
        self.down, self.lateral = conv(16, 24, 3, 2, act=act), conv(40, 16, act=act)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        fine = self.stem(x)
        coarse = self.down(fine)
        return self.lateral(torch.cat([fine, functional.interpolate(coarse, scale_factor=2.0)], 1)), coarse


class Yolo(nn.Module):
    """One stage without anchors. ``form`` is what comes out of it, for N = 96 + 24 cells and 4 classes:

    - "decoded", as of YOLOv8: [B, 4 + 4, N], x, y, w, h in pixels and class probabilities;
    - "raw": [B, 4 * 8 + 4, N], logits of the distances' bins and of the classes;
    - "nms": boxes [K, 4] as corners, scores [K], labels [K] of one photo.
    """

    def __init__(self, form: str = "decoded") -> None:
        super().__init__()
        self.form, self.backbone = form, Backbone()
        self.box = nn.ModuleList(nn.Sequential(conv(c, 16, act=nn.SiLU), nn.Conv2d(16, 4 * BINS, 1)) for c in (16, 24))
        self.cls = nn.ModuleList(nn.Sequential(conv(c, 16, act=nn.SiLU), nn.Conv2d(16, CLASSES, 1)) for c in (16, 24))
        for head in self.cls:
            nn.init.constant_(head[1].bias, -3.0)
        self.register_buffer("points", torch.cat([cells(8), cells(16)]))
        self.register_buffer("strides", torch.tensor([8.0] * 96 + [16.0] * 24))
        self.register_buffer("bins", torch.arange(float(BINS)))

    def raw(self, x: Tensor) -> Tensor:
        maps = zip(self.backbone(x), self.box, self.cls, strict=True)
        return torch.cat([torch.cat([box(m), cls(m)], 1).flatten(2) for m, box, cls in maps], 2)

    def decoded(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes [B, 4, N] as x, y, w, h, and probabilities [B, 4, N]."""
        box, cls = raw.split([4 * BINS, CLASSES], 1)
        far = (box.reshape(-1, 4, BINS, box.shape[2]).softmax(2) * self.bins[:, None]).sum(2)
        low, high = (far * self.strides).chunk(2, 1)
        middle = self.points.t()
        return torch.cat([middle + (high - low) / 2, low + high], 1), cls.sigmoid()

    def forward(self, x: Tensor) -> Any:
        raw = self.raw(x)
        if self.form == "raw":
            return raw
        boxes, scores = self.decoded(raw)
        if self.form == "decoded":
            return torch.cat([boxes, scores], 1)
        boxes = corners(boxes.transpose(1, 2))
        kept = NonMaxSuppression.apply(boxes, scores, 20, 0.5, 0.25)
        label, place = kept[:, 1], kept[:, 2]
        return boxes[0, place], scores[0, label, place], label

    def detections(self, x: Tensor) -> tuple[Tensor, Tensor]:
        boxes, scores = self.decoded(self.raw(x))
        return scores.transpose(1, 2), corners(boxes.transpose(1, 2))

    def loss(self, x: Tensor, boxes: Tensor, labels: Tensor) -> Tensor:
        raw = self.raw(x)
        positive, which = assigned(boxes, self.points, 0.75 * self.strides, fitting(boxes, self.strides))
        found = corners(self.decoded(raw)[0].transpose(1, 2))
        wanted = functional.one_hot(taken(labels, which), CLASSES) * positive[..., None]
        cls = functional.binary_cross_entropy_with_logits(
            raw[:, 4 * BINS :].transpose(1, 2), wanted.float(), reduction="sum"
        )
        overlap = iou(found, taken(boxes, which))
        return (cls + 2 * ((1 - overlap) * positive).sum()) / positive.sum()


class Yolox(nn.Module):
    """The raw head of YOLOX: [B, 120, 4 + 1 + 4], offsets and log sizes in cells, objectness, class probabilities."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.reg = nn.ModuleList(nn.Sequential(conv(c, 16, act=nn.SiLU), nn.Conv2d(16, 5, 1)) for c in (16, 24))
        self.cls = nn.ModuleList(nn.Sequential(conv(c, 16, act=nn.SiLU), nn.Conv2d(16, CLASSES, 1)) for c in (16, 24))
        self.register_buffer("points", torch.cat([cells(8), cells(16)]), persistent=False)
        self.register_buffer("strides", torch.tensor([8.0] * 96 + [16.0] * 24), persistent=False)

    def raw(self, x: Tensor) -> list[Tensor]:
        maps = zip(self.backbone(x), self.reg, self.cls, strict=True)
        return [torch.cat([reg(m), cls(m)], 1) for m, reg, cls in maps]

    def forward(self, x: Tensor) -> Tensor:
        ready = [torch.cat([m[:, :4], m[:, 4:].sigmoid()], 1).flatten(2) for m in self.raw(x)]
        return torch.cat(ready, 2).transpose(1, 2)

    def boxes(self, reg: Tensor) -> Tensor:
        """Offsets are from the upper left corner of a cell."""
        strides = self.strides[:, None]
        middle = self.points - strides / 2 + reg[..., :2] * strides
        return corners(torch.cat([middle, reg[..., 2:4].clamp(max=4).exp() * strides], -1))

    def detections(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self(x)
        return y[..., 5:] * y[..., 4:5], self.boxes(y)

    def loss(self, x: Tensor, boxes: Tensor, labels: Tensor) -> Tensor:
        raw = torch.cat([m.flatten(2) for m in self.raw(x)], 2).transpose(1, 2)
        positive, which = assigned(boxes, self.points, 0.75 * self.strides, fitting(boxes, self.strides))
        wanted = functional.one_hot(taken(labels, which), CLASSES).float()
        cls = functional.binary_cross_entropy_with_logits(raw[..., 5:], wanted, reduction="none").sum(-1)
        thing = functional.binary_cross_entropy_with_logits(raw[..., 4], positive.float(), reduction="sum")
        overlap = iou(self.boxes(raw), taken(boxes, which))
        return (thing + ((cls + 2 * (1 - overlap)) * positive).sum()) / positive.sum()


class Ssd(nn.Module):
    """Two anchors a cell: class probabilities, background first [B, N, 5], and corners from 0 to 1 [B, N, 4]."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone(nn.ReLU)
        self.cls = nn.ModuleList(nn.Conv2d(c, 2 * (CLASSES + 1), 3, padding=1) for c in (16, 24))
        self.box = nn.ModuleList(nn.Conv2d(c, 2 * 4, 3, padding=1) for c in (16, 24))
        size = torch.tensor([[11.0, 14.0], [16.0, 19.0]])
        middle = torch.cat([cells(8), cells(16)]).repeat_interleave(2, 0)
        side = torch.cat([size[0].repeat(96), size[1].repeat(24)])[:, None].expand(-1, 2)
        self.register_buffer("anchors", torch.cat([middle, side], 1))
        self.register_buffer("whole", torch.tensor([SIZE[1], SIZE[0]] * 2, dtype=torch.float32))

    def raw(self, x: Tensor) -> tuple[Tensor, Tensor]:
        maps, photos = self.backbone(x), x.shape[0]  # len(x) would be a number in the file
        rows = [
            torch.cat([h(m).permute(0, 2, 3, 1).reshape(photos, -1, n) for m, h in zip(maps, heads, strict=True)], 1)
            for heads, n in ((self.cls, CLASSES + 1), (self.box, 4))
        ]
        return rows[0], rows[1]

    def boxes(self, deltas: Tensor) -> Tensor:
        middle = self.anchors[:, :2] + 0.1 * deltas[..., :2] * self.anchors[:, 2:]
        return corners(torch.cat([middle, self.anchors[:, 2:] * (0.2 * deltas[..., 2:]).exp()], -1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        cls, deltas = self.raw(x)
        return cls.softmax(-1), self.boxes(deltas) / self.whole

    def detections(self, x: Tensor) -> tuple[Tensor, Tensor]:
        cls, deltas = self.raw(x)
        return cls.softmax(-1)[..., 1:], self.boxes(deltas)

    def loss(self, x: Tensor, boxes: Tensor, labels: Tensor) -> Tensor:
        cls, deltas = self.raw(x)
        overlap = iou(corners(self.anchors)[None, :, None], boxes[:, None])
        positive, which = (overlap > 0.4).any(-1), overlap.argmax(-1)
        right = torch.where(positive, taken(labels, which) + 1, 0)
        weight = torch.tensor([0.3] + [1.0] * CLASSES)
        label = functional.cross_entropy(cls.flatten(0, 1), right.flatten(), weight, reduction="sum")
        place = 1 - iou(self.boxes(deltas), taken(boxes, which))
        return (label + 2 * (place * positive).sum()) / positive.sum()
