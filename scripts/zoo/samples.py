"""What the networks of Keras, JAX and Paddle learn, from tests/blobs.py: arrays of NumPy, pictures [N, 3, 48, 80]."""

from __future__ import annotations

from typing import Any

import blobs
import numpy as np

HEIGHT, WIDTH, PATCH = 48, 80, 8
GRID = (HEIGHT // PATCH, WIDTH // PATCH)
CLASSES = len(blobs.CLASSES)
TRAIN, TEST = (0, 1500), (1, 200)  # seed, count

PHOTO = {"classes": list(blobs.CLASSES)}
TOKENS = PHOTO | {"grid": list(GRID), "patch": PATCH}
MASK = {"classes": ["background", *blobs.CLASSES]}
SIGNAL = {"classes": list(blobs.SIGNALS)}
WORDS = {"classes": ["bad", "good"], "words": list(blobs.WORDS)}
ROW = {"columns": list(blobs.COLUMNS), "decide": ["height", "weight", "pulse"]}

Array = np.ndarray


def photos(seed: int, count: int, most: int = 1) -> tuple[Array, list[blobs.Photo]]:
    samples = blobs.photos(seed, count, (HEIGHT, WIDTH), (1, most))
    return blobs.floats(samples), samples


def labels(seed: int, count: int) -> tuple[Array, Array]:
    """One blob, and its class."""
    x, samples = photos(seed, count)
    return x, np.array([s.labels[0] for s in samples])


def masks(seed: int, count: int) -> tuple[Array, Array]:
    """Up to three blobs, and which pixels are of which."""
    x, samples = photos(seed, count, 3)
    return x, np.stack([s.mask for s in samples])


def cells(seed: int, count: int) -> tuple[Array, Array, Array]:
    """Scores [N, cells, classes] and boxes [N, cells, 4] in pixels, of the cells that the middle of a blob is in."""
    x, samples = photos(seed, count, 3)
    scores = np.zeros((count, GRID[0] * GRID[1], CLASSES), np.float32)
    boxes = np.zeros((count, GRID[0] * GRID[1], 4), np.float32)
    for i, sample in enumerate(samples):
        across, down = (sample.boxes[:, :2] + sample.boxes[:, 2:]).T // 2 // PATCH
        cell = (down * GRID[1] + across).astype(int)
        scores[i, cell, sample.labels], boxes[i, cell] = 1, sample.boxes
    return x, scores, boxes


def signals(seed: int, count: int) -> tuple[Array, Array]:
    return blobs.signals(seed, count)[:2]


def sentences(seed: int, count: int) -> tuple[Array, Array]:
    tokens, _, y, _ = blobs.sentences(seed, 2 * count)
    return tokens, y


def rows(seed: int, count: int) -> tuple[Array, Array]:
    x, y = blobs.rows(seed, 2 * count)
    return blobs.standard(x), y


def accuracy(said: Array, truth: Array, axis: int = -1) -> float:
    """The part of the answers that is right; of a mask, among the pixels that are a blob or are called one."""
    answers = said.argmax(axis)
    asked = (answers > 0) | (truth > 0) if truth.ndim > 1 else slice(None)
    return round(float((answers == truth)[asked].mean()), 3)


def found(scores: Array, boxes: Array, true_scores: Array, true_boxes: Array) -> float:
    """The part of the blobs with a score over 0.5 for their class and a box that overlaps theirs by half."""
    hit = true_scores > 0
    one, two = boxes[hit.any(-1)], true_boxes[hit.any(-1)]
    inner = np.clip(np.minimum(one[:, 2:], two[:, 2:]) - np.maximum(one[:, :2], two[:, :2]), 0, None).prod(1)
    area = [(b[:, 2:] - b[:, :2]).prod(1) for b in (one, two)]
    return round(float(((scores[hit] > 0.5) & (inner > 0.5 * (area[0] + area[1] - inner))).mean()), 3)


def same(said: Any, expected: Any, name: str, rounding: float = 2e-4) -> None:
    """What onnxruntime makes of a file must be what its framework does."""
    for value, e in zip(said, expected, strict=True):
        np.testing.assert_allclose(value, e, atol=rounding * (1 + np.abs(e).max()), rtol=0, err_msg=name)
