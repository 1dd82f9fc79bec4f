"""Synthetic data whose truth is known: what the models of tests/zoo were trained on, and what tests ask them about.

A photo is grey noise with coloured blobs at random places. The colour and the shape of a blob are its class; grey
shapes are distractors. So the place of a blob alone decides what a trained model says:

    photo = blobs.photos(seed=1, count=1, size=(48, 80))[0]
    x = blobs.floats([photo])            # [1, 3, 48, 80], 0 to 1
    photo.labels[0], photo.boxes[0]      # class, and (left, top, right, bottom) in pixels
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CLASSES = ("red disc", "green square", "blue cross", "yellow diamond")
COLOURS = np.array([[220, 40, 40], [40, 190, 60], [50, 80, 230], [230, 210, 40]])
SIGNALS = ("slow wave", "fast wave", "pulse")
COLUMNS = ("age", "height", "weight", "pulse", "noise_a", "noise_b")
MEANS, DEVIATIONS = (45.0, 170.0, 72.0, 75.0, 0.0, 10.0), (15.0, 9.0, 14.0, 10.0, 1.0, 4.0)
WORDS = (
    "[PAD]",
    "[CLS]",
    "good",
    "great",
    "bad",
    "awful",
    "not",
    "the",
    "a",
    "film",
    "plot",
    "was",
    "and",
    "cat",
    "it",
    "so",
)


@dataclass(frozen=True)
class Photo:
    """A photo with its truth.

    ``pixels`` [H, W, 3] uint8, RGB; ``mask`` [H, W], 0 for the background and 1 + class; ``boxes`` [n, 4] as left,
    top, right, bottom in pixels, ends excluded; ``labels`` [n], the class of each box.
    """

    pixels: NDArray[np.uint8]
    mask: NDArray[np.int64]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]


def photos(
    seed: int,
    count: int,
    size: tuple[int, int] = (48, 80),
    blobs: tuple[int, int] = (1, 1),
    radius: tuple[int, int] = (5, 9),
) -> list[Photo]:
    """Photos of ``size`` (height, width) with that many blobs, from the least to the most. Same seed, same photos."""
    return [_photo(np.random.default_rng((seed, i)), size, blobs, radius) for i in range(count)]


def floats(samples: Iterable[Photo]) -> NDArray[np.float32]:
    """Photos as models of the zoo take them: [N, 3, H, W], pixels from 0 to 1."""
    pixels = np.stack([s.pixels for s in samples]).transpose(0, 3, 1, 2)
    return np.ascontiguousarray(pixels, np.float32) / np.float32(255)


def _photo(rng: np.random.Generator, size: tuple[int, int], blobs: tuple[int, int], radius: tuple[int, int]) -> Photo:
    height, width = size
    pixels = rng.normal(rng.uniform(80, 150), 12, (height, width, 3))
    mask = np.zeros(size, np.int64)
    free = np.ones(size, bool)
    boxes: list[Sequence[int]] = []
    labels: list[int] = []
    wanted = int(rng.integers(blobs[0], blobs[1] + 1))
    for n in range(200):
        if len(boxes) == wanted:
            break
        r, kind = int(rng.integers(*radius, endpoint=True)), int(rng.integers(len(CLASSES)))
        y, x = int(rng.integers(r, height - r)), int(rng.integers(r, width - r))
        box = (x - r, y - r, x + r + 1, y + r + 1)
        if not free[box[1] : box[3], box[0] : box[2]].all():
            continue
        inside = _shape(size, kind, y, x, r)
        grey = n == 0 and rng.random() < 0.5
        colour = np.full(3, rng.choice([30, 220])) if grey else COLOURS[kind]
        pixels[inside] = colour + rng.normal(0, 10, (int(inside.sum()), 3))
        free[max(box[1] - 1, 0) : box[3] + 1, max(box[0] - 1, 0) : box[2] + 1] = False
        if not grey:
            mask[inside] = kind + 1
            boxes.append(box)
            labels.append(kind)
    return Photo(
        np.clip(np.rint(pixels), 0, 255).astype(np.uint8),
        mask,
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(labels, np.int64),
    )


def _shape(size: tuple[int, int], kind: int, y: int, x: int, r: int) -> NDArray[np.bool_]:
    """Which pixels a shape covers: disc, square, cross, diamond."""
    down, right = np.abs(np.arange(size[0]) - y)[:, None], np.abs(np.arange(size[1]) - x)[None]
    square = (down <= r) & (right <= r)
    match CLASSES[kind].split()[1]:
        case "disc":
            return down**2 + right**2 <= r**2
        case "square":
            return square
        case "cross":
            return square & ((down <= r // 3) | (right <= r // 3))
        case _:
            return down + right <= r


def signals(
    seed: int, count: int, length: int = 128
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """One-dimensional signals [N, 1, length] with one event each, its kind in SIGNALS [N], and where it is [N, 2]."""
    x, labels, spans = (
        np.empty((count, 1, length), np.float32),
        np.empty(count, np.int64),
        np.empty((count, 2), np.int64),
    )
    for i in range(count):
        rng = np.random.default_rng((seed, i))
        kind, long = int(rng.integers(len(SIGNALS))), int(rng.integers(20, 33))
        start = int(rng.integers(0, length - long))
        t = np.arange(long) / long
        event = (np.sin(4 * np.pi * t), np.sin(16 * np.pi * t), np.where(np.abs(t - 0.5) < 0.2, 1.5, 0))[kind]
        x[i, 0] = rng.normal(0, 0.15, length)
        x[i, 0, start : start + long] += event
        labels[i], spans[i] = kind, (start, start + long)
    return x, labels, spans


def sentences(
    seed: int, count: int, length: int = 12
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Tokens [N, length] of WORDS, their mask, the class (0 bad, 1 good), and where the deciding word stands [N].

    A sentence starts with [CLS] and ends in [PAD]s. One word is good, great, bad or awful; "not" right before it turns
    the class around.
    """
    tokens, labels, places = np.zeros((count, length), np.int64), np.empty(count, np.int64), np.empty(count, np.int64)
    for i in range(count):
        rng = np.random.default_rng((seed, i))
        words = int(rng.integers(6, length + 1))
        tokens[i, 0] = 1
        tokens[i, 1:words] = rng.integers(7, len(WORDS), words - 1)
        places[i] = rng.integers(2, words)
        word, turned = int(rng.integers(2, 6)), bool(rng.random() < 0.3)
        tokens[i, places[i]] = word
        if turned:
            tokens[i, places[i] - 1] = 6
        labels[i] = (word < 4) != turned
    return tokens, (tokens > 0).astype(np.int64), labels, places


def rows(seed: int, count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """A table [N, 6] of COLUMNS and the class of each row: whether body mass index and pulse are high; the rest is noise."""
    rng = np.random.default_rng(seed)
    x = rng.normal(MEANS, DEVIATIONS, (count, len(COLUMNS)))
    heavy = x[:, 2] / (x[:, 1] / 100) ** 2 > 25
    return x.astype(np.float32), (heavy.astype(np.int64) + (x[:, 3] > 75)).astype(np.int64)


def standard(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows less MEANS, over DEVIATIONS, for networks that do not do it themselves."""
    return ((x - np.array(MEANS)) / np.array(DEVIATIONS)).astype(np.float32)
