"""A detector of two stages, after Faster R-CNN: proposals, RoiAlign, a head for each; NonMaxSuppression behind both."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch_boxes import CLASSES, NonMaxSuppression, RoiAlign, assigned, cells, corners, iou, roi_align, taken
from torch_convs import conv


class TwoStage(nn.Module):
    """One photo in; boxes [K, 4] as corners in pixels, scores [K] and labels [K] out."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(conv(3, 8, 3, 2), conv(8, 16, 3, 2), conv(16, 20, 3, 2), conv(20, 20))
        self.rpn, self.rpn_score, self.rpn_box = conv(20, 20), nn.Conv2d(20, 1, 1), nn.Conv2d(20, 4, 1)
        self.fc = nn.Linear(20 * 16, 32)
        self.cls, self.box = nn.Linear(32, CLASSES + 1), nn.Linear(32, 4)
        self.register_buffer("points", cells(8))

    def propose(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The map, logits [B, 96] and boxes [B, 96, 4] of things, one a cell, starting from squares of 15 pixels."""
        m = self.backbone(x)
        y = self.rpn(m)
        deltas = self.rpn_box(y).flatten(2).transpose(1, 2)
        boxes = corners(torch.cat([self.points + 8 * deltas[..., :2], 15 * deltas[..., 2:].clamp(max=2).exp()], -1))
        return m, self.rpn_score(y).flatten(1), boxes

    def heads(self, pieces: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Class logits [K, 5], nothing first, and the boxes made better [K, 4]."""
        y = functional.relu(self.fc(pieces.flatten(1)))
        return self.cls(y), boxes + 4 * self.box(y)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        m, things, boxes = self.propose(x)
        kept = NonMaxSuppression.apply(boxes, things.sigmoid()[:, None], 10, 0.7, 0.0)
        proposals = boxes[0, kept[:, 2]]
        cls, boxes = self.heads(RoiAlign.apply(m, proposals, 4, 8), proposals)
        scores = cls.softmax(1)[:, 1:].t()
        kept = NonMaxSuppression.apply(boxes[None], scores[None], 10, 0.5, 0.3)
        label, place = kept[:, 1], kept[:, 2]
        return boxes[place], scores[label, place], label

    def likeliest(self, x: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """The best proposals [B, count, 4], the photos they are of, all logits and boxes, and the map."""
        m, things, boxes = self.propose(x)
        best = taken(boxes, things.topk(count, 1).indices).detach()
        return best, torch.arange(len(x)).repeat_interleave(count), things, boxes, m

    def detections(self, x: Tensor) -> tuple[Tensor, Tensor]:
        best, photos, *_, m = self.likeliest(x, 16)
        cls, boxes = self.heads(roi_align(m, best.flatten(0, 1), photos, 4, 8), best.flatten(0, 1))
        return cls.softmax(1)[:, 1:].unflatten(0, (len(x), 16)), boxes.unflatten(0, (len(x), 16))

    def loss(self, x: Tensor, boxes: Tensor, labels: Tensor) -> Tensor:
        best, photos, things, first, m = self.likeliest(x, 16)
        fits = (boxes[..., 2] > 0)[:, None].expand(-1, len(self.points), -1)
        positive, which = assigned(boxes, self.points, torch.full((len(self.points),), 6.0), fits)
        thing = functional.binary_cross_entropy_with_logits(things, positive.float(), reduction="sum") / positive.sum()
        rough = ((1 - iou(first, taken(boxes, which))) * positive).sum() / positive.sum()

        overlap = iou(best[:, :, None], boxes[:, None])
        near, which = overlap.amax(-1).flatten() > 0.4, overlap.argmax(-1)
        right = torch.where(near, taken(labels, which).flatten() + 1, 0)
        cls, fine = self.heads(roi_align(m, best.flatten(0, 1), photos, 4, 8), best.flatten(0, 1))
        exact = ((1 - iou(fine, taken(boxes, which).flatten(0, 1))) * near).sum() / near.sum().clamp(min=1)
        return thing + 2 * rough + 2 * functional.cross_entropy(cls, right) + 2 * exact
