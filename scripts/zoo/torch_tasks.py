"""What the networks learn: data with known truth from tests/blobs.py, a loss, and a measure on data not seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import blobs
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

Batch = tuple[Tensor, ...]
SIZE, LARGE = (48, 80), (64, 96)


@dataclass(frozen=True)
class Task:
    """``data(seed, count)`` gives inputs and targets: to measure with, and to learn from without ``lessons(count)``."""

    data: Callable[[int, int], Batch]
    loss: Callable[..., Tensor]
    measure: Callable[..., dict[str, Any]]
    lessons: Callable[[int], Batch] | None = None


def fit(model: nn.Module, task: Task, steps: int, rate: float = 3e-3, count: int = 3000, size: int = 32) -> nn.Module:
    """Train by AdamW, the rate falling to nothing along a cosine; the network comes back ready to be run."""
    data = task.lessons(count) if task.lessons else task.data(0, count)
    rng = np.random.default_rng(0)
    optimiser = torch.optim.AdamW(model.parameters(), rate, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps)
    model.train()
    for _ in range(steps):
        which = torch.from_numpy(rng.integers(0, count, size))
        batch = [t[which] for t in data]
        loss = task.loss(model, *batch)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    return model.eval()


@torch.no_grad()
def measured(model: nn.Module, task: Task) -> dict[str, Any]:
    """How well a network does on 300 samples that it was not trained on."""
    return {k: round(v, 3) for k, v in task.measure(model, *task.data(1, 300)).items()}


@cache
def pictures(seed: int, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Photos with one blob, their class, and their mask."""
    photos = blobs.photos(seed, count, SIZE)
    labels, masks = np.concatenate([p.labels for p in photos]), np.stack([p.mask for p in photos])
    return torch.from_numpy(blobs.floats(photos)), torch.from_numpy(labels), torch.from_numpy(masks)


@cache
def scenes(seed: int, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Photos with one to three blobs, their boxes and classes, filled up with zeros."""
    photos = blobs.photos(seed, count, LARGE, (1, 3))
    boxes, labels = np.zeros((count, 3, 4), np.float32), np.zeros((count, 3), np.int64)
    for i, p in enumerate(photos):
        boxes[i, : len(p.boxes)], labels[i, : len(p.labels)] = p.boxes, p.labels
    return torch.from_numpy(blobs.floats(photos)), torch.from_numpy(boxes), torch.from_numpy(labels)


def lessons(count: int) -> tuple[Tensor, Tensor]:
    """Photos and how likely each class is: all the same where there is no blob, so none is known by what is missing.

    A rectangle of the background is flat, so that what occlusion does is nothing new.
    """
    x, labels, masks = pictures(0, count)
    x, share = x.clone(), functional.one_hot(labels, 4).float()
    rng = np.random.default_rng(0)
    for i in range(count):
        background = masks[i] == 0
        grey = x[i][:, background].median(1).values[:, None]
        if i % 6 == 0:
            noise = 0.04 * rng.standard_normal((3, int((~background).sum())))
            x[i][:, ~background] = grey + torch.from_numpy(noise.astype(np.float32))
            share[i] = 0.25
        top, left = rng.integers(0, 40), rng.integers(0, 72)
        height, width = rng.integers(8, 25, 2)
        flat = torch.zeros_like(background)
        flat[top : top + height, left : left + width] = True
        x[i][:, flat & background] = grey
    return x, share


def right(scores: Tensor, labels: Tensor) -> dict[str, float]:
    return {"accuracy": (scores.argmax(-1) == labels).float().mean().item()}


def segmented(model: nn.Module, x: Tensor, mask: Tensor) -> dict[str, float]:
    seen = model(x)
    seen = seen.argmax(1) if seen.ndim == 4 else seen
    both = ((seen == mask) & (mask > 0)).sum()
    return {"iou": (both / ((seen > 0) | (mask > 0)).sum()).item()}


def table(seed: int, count: int) -> Batch:
    return tuple(map(torch.from_numpy, blobs.rows(seed, count)))


def areas(seed: int, count: int) -> Batch:
    """A photo, and the share of it that its blob covers, in percent."""
    x, _, masks = pictures(seed, count)
    return x, 100 * (masks > 0).float().mean((1, 2))[:, None]


def sums(seed: int, count: int) -> Batch:
    """A photo, a vector v, and the area of the blob in percent + 2 v[0] - v[1]; the rest of the vector says nothing."""
    x, area = areas(seed, count)
    vector = torch.from_numpy(np.random.default_rng(seed).standard_normal((count, 4)).astype(np.float32))
    return x, vector, area + 2 * vector[:, :1] - vector[:, 1:2]


def alike(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    """Photos of one class attract, others repel (supervised contrast)."""
    z = model(x)
    close = z @ z.T / 0.2 - 1e9 * torch.eye(len(z))
    same = (labels[:, None] == labels).float() - torch.eye(len(z))
    return -((close.log_softmax(1) * same).sum(1) / same.sum(1).clamp(min=1)).mean()


def nearest(model: nn.Module, x: Tensor, labels: Tensor) -> dict[str, float]:
    z = model(x)
    return right((z @ z.T - 2 * torch.eye(len(z))) @ functional.one_hot(labels, 4).float() / 75, labels)


def read(seed: int, count: int) -> Batch:
    return tuple(map(torch.from_numpy, blobs.sentences(seed, count)))[:3]


def words(seed: int, count: int) -> Batch:
    return read(seed, count)[:1]


def following(model: nn.Module, tokens: Tensor) -> Tensor:
    return functional.cross_entropy(model(tokens)[:, :-1].transpose(1, 2), tokens[:, 1:])


CLASSIFY = Task(
    lambda seed, n: pictures(seed, n)[:2],
    lambda m, x, y: functional.cross_entropy(m(x), y),
    lambda m, x, y: right(m(x), y),
    lessons,
)
SEGMENT = Task(
    lambda seed, n: pictures(seed, n)[::2],
    lambda m, x, y: functional.cross_entropy(m(x), y, torch.tensor([0.3, 1, 1, 1, 1])),
    segmented,
)
EMBED = Task(CLASSIFY.data, alike, nearest)
REGRESS = Task(
    areas, lambda m, x, y: functional.mse_loss(m(x), y), lambda m, x, y: {"mean_error": (m(x) - y).abs().mean().item()}
)
FUSE = Task(
    sums,
    lambda m, x, v, y: functional.mse_loss(m(x, v), y),
    lambda m, x, v, y: {"mean_error": (m(x, v) - y).abs().mean().item()},
)
SIGNAL = Task(lambda seed, n: tuple(map(torch.from_numpy, blobs.signals(seed, n)[:2])), CLASSIFY.loss, CLASSIFY.measure)
TABLE = Task(table, CLASSIFY.loss, CLASSIFY.measure)
TEXT = Task(
    read,
    lambda m, x, mask, y: functional.cross_entropy(m(x, mask), y),
    lambda m, x, mask, y: right(m(x, mask), y),
)
NEXT = Task(words, following, lambda m, x: {"loss": following(m, x).item()})


def detected(model: Any, x: Tensor, boxes: Tensor, labels: Tensor) -> dict[str, float]:
    """Share of the blobs that the likeliest boxes find, as many as there are blobs, with an overlap of 0.5."""
    from torch_boxes import iou

    scores, found = model.detections(x)
    real = boxes[..., 2] > 0
    hits = 0
    for i in range(len(x)):
        chosen: list[int] = []
        for j in scores[i].amax(1).argsort(descending=True).tolist():
            if len(chosen) == int(real[i].sum()):
                break
            if all(iou(found[i, j], found[i, k]) < 0.5 for k in chosen):
                chosen.append(j)
        overlap = iou(boxes[i, real[i], None], found[i, chosen])
        same = labels[i, real[i], None] == scores[i, chosen].argmax(1)
        hits += int(((overlap > 0.5) & same).any(1).sum())
    return {"recall": hits / int(real.sum())}


DETECT = Task(scenes, lambda m, *batch: m.loss(*batch), detected)
