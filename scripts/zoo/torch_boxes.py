"""Boxes of detectors, and two operators PyTorch alone does not have: computed in Python, exported as ONNX has them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional

SIZE, CLASSES = (64, 96), 4


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of boxes (left, top, right, bottom), pair by pair."""
    low, high = torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])
    both = (high - low).clamp(min=0).prod(-1)
    return both / ((a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - both + 1e-6)


def corners(middle: Tensor) -> Tensor:
    """(x, y, w, h) to (left, top, right, bottom)."""
    return torch.cat([middle[..., :2] - middle[..., 2:] / 2, middle[..., :2] + middle[..., 2:] / 2], -1)


def cells(stride: int, size: tuple[int, int] = SIZE) -> Tensor:
    """Middles of the cells of a map, in pixels: [H * W, 2] as x, y."""
    y, x = (stride * (torch.arange(n // stride) + 0.5) for n in size)
    return torch.stack([x.repeat(len(y)), y.repeat_interleave(len(x))], 1)


def assigned(boxes: Tensor, points: Tensor, reach: Tensor, fits: Tensor) -> tuple[Tensor, Tensor]:
    """Whether a box has its middle within ``reach`` of a point and ``fits`` it, [B, N], and which box, [B, N]."""
    middle = (boxes[..., :2] + boxes[..., 2:]) / 2
    near = ((points[None, :, None] - middle[:, None]).abs().amax(-1) <= reach[None, :, None]) & fits
    return near.any(-1), near.float().argmax(-1)


def taken(values: Tensor, which: Tensor) -> Tensor:
    """values[b, which[b, n]] for [B, M, ...] and [B, N]."""
    return values[torch.arange(len(values))[:, None], which]


def fitting(boxes: Tensor, strides: Tensor) -> Tensor:
    """Small boxes belong to stride 8, large ones to 16, [B, N, M]; padding has no size."""
    side = (boxes[..., 2] - boxes[..., 0])[:, None]
    return torch.where(side > 15, strides[None, :, None] == 16, strides[None, :, None] == 8) & (side > 0)


class NonMaxSuppression(Function):
    """Boxes [1, N, 4] as corners and scores [1, C, N] to [K, 3]: photo, class and box of what is kept, by class."""

    @staticmethod
    def forward(ctx: Any, boxes: Tensor, scores: Tensor, most: int, overlap: float, least: float) -> Tensor:
        kept: list[tuple[int, int, int]] = []
        for label, row in enumerate(scores[0]):
            chosen: list[int] = []
            for i in row.argsort(descending=True, stable=True).tolist():
                if len(chosen) == most or row[i] <= least:
                    break
                if all(iou(boxes[0, i], boxes[0, j]) <= overlap for j in chosen):
                    chosen.append(i)
            kept += [(0, label, i) for i in chosen]
        return torch.tensor(kept, dtype=torch.int64).reshape(-1, 3)

    @staticmethod
    def symbolic(g: Any, boxes: Any, scores: Any, most: int, overlap: float, least: float) -> Any:
        limits = [g.op("Constant", value_t=torch.tensor([n])) for n in (most, overlap, least)]
        return g.op("NonMaxSuppression", boxes, scores, *limits)


class RoiAlign(Function):
    """Pieces [K, C, side, side] of one photo's map [1, C, H, W] at boxes [K, 4] in pixels, 2 by 2 samples a cell."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, boxes: Tensor, side: int, stride: int) -> Tensor:
        return roi_align(x, boxes, torch.zeros(len(boxes), dtype=torch.int64), side, stride)

    @staticmethod
    def symbolic(g: Any, x: Any, boxes: Any, side: int, stride: int) -> Any:
        first = g.op("Gather", g.op("Shape", boxes), g.op("Constant", value_t=torch.tensor([0])), axis_i=0)
        photos = g.op("ConstantOfShape", first, value_t=torch.tensor([0]))
        sizes = dict(output_height_i=side, output_width_i=side, sampling_ratio_i=2, spatial_scale_f=1 / stride)
        return g.op("RoiAlign", x, boxes, photos, **sizes, mode_s="avg", coordinate_transformation_mode_s="half_pixel")


def roi_align(x: Tensor, boxes: Tensor, photos: Tensor, side: int, stride: int) -> Tensor:
    """The same for many photos, with a gradient: means of 2 by 2 bilinear samples."""
    share = (torch.arange(2 * side) + 0.5) / (2 * side)
    across = boxes[:, 0:1] + share * (boxes[:, 2:3] - boxes[:, 0:1])
    down = boxes[:, 1:2] + share * (boxes[:, 3:4] - boxes[:, 1:2])
    grid = torch.stack(torch.broadcast_tensors(across[:, None], down[:, :, None]), -1)
    whole = stride * torch.tensor([x.shape[3], x.shape[2]])
    cut = functional.grid_sample(x[photos], 2 * grid / whole - 1, padding_mode="border", align_corners=False)
    return functional.avg_pool2d(cut, 2)
