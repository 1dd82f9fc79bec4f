"""Photos under every preprocessing: which one the model seems to have been trained with.

Being sure proves nothing: a MobileNet that wants ImageNet's normalisation is surer (0.74 against 0.71) of Caffe's, with
which it gets all wrong. So photos whose classes are known decide. Else `bits` ranks: how much the prediction tells
about which photo it was (the entropy of the mean prediction less the mean entropy); it sees inputs of a wrong scale, of
which a model says always the same. The order of the colours, all else equal, does show in how sure the model is.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import image
from ..errors import InputError, TargetError
from ..guess import PRESETS
from ..labels import Labels
from ..methods import predict
from ..methods.inputs import guess_preprocessing
from ..methods.job import Job
from ..model import Model
from ..preprocess import Preprocessing
from ..rewrite import expose
from .report import Finding

MOST = 64
_FITS: tuple[dict[str, Any], ...] = (
    {"resize": "crop", "crop_ratio": 0.875},
    {"resize": "crop", "crop_ratio": 1.0},
    {"resize": "squash"},
    {"resize": "letterbox"},
)
_CHANCE = 0.01  # how often coins may fall like this before it counts as a difference


@dataclass(frozen=True)
class Trial:
    """How photos fare with one preprocessing.

    Attributes:
        flags: how the command line asks for it, "" for what is used anyway.
        preprocessing: itself.
        used: True if this is what is used when nobody asks for another.
        confidence: mean probability of the most probable class.
        bits: what a prediction tells about which photo it was.
        right: how many of the photos with known classes are predicted right.
        known: how many those are.
        sureness: per photo, the probability of its class where that is known for any, else of the most probable.
    """

    flags: str
    preprocessing: Preprocessing
    used: bool
    confidence: float
    bits: float
    right: int
    known: int
    sureness: NDArray[Any]

    COLUMNS = ("right", "sure", "bits")

    @property
    def cells(self) -> tuple[str, ...]:
        """What a table says of it."""
        return f"{self.right}/{self.known}" if self.known else "?", f"{self.confidence:.2f}", f"{self.bits:.1f}"

    @property
    def rank(self) -> tuple[float, float]:
        """Better preprocessings have larger ones."""
        return (self.right, float(self.sureness.mean())) if self.known else (self.bits, self.confidence)

    def to_json(self) -> dict[str, Any]:
        """All but the single photos."""
        numbers = {k: getattr(self, k) for k in ("flags", "used", "confidence", "bits", "right", "known")}
        return {**numbers, "preprocessing": self.preprocessing.to_json()}


def trials(job: Job, photos: Sequence[Path]) -> list[Trial]:
    """Every preset and order of colours, then every way to fit the photo with the best of them; the best first.

    Nothing for models without a row of class scores, and for inputs that are no photos.
    """
    if job.scores is None or job.preprocessing is None or len(job.model.inputs) > 1 or job.scores.count == 1:
        return []
    chosen = photos[:: -(-len(photos) // MOST)]
    pixels = [read(p, max(job.preprocessing.size)) for p in chosen]
    classes = np.array([-1 if (c := known_class(p, job.labels)) is None else c for p in chosen])
    tried: dict[Preprocessing, Trial] = {}

    def keep(flags: str, how: Preprocessing) -> None:
        if _plain(how) not in tried:
            trial = _trial(job, flags, how, pixels, classes)
            if not any(np.array_equal(trial.sureness, t.sureness) for t in tried.values()):  # photos that fit anyway
                tried[_plain(how)] = trial

    for flags, how in usual(job.model, job.preprocessing):
        keep(flags, how)
    best = max(tried.values(), key=lambda t: t.rank)
    for fit in _FITS:
        keep(f"{best.flags} {_flags(fit)}".strip(), replace(best.preprocessing, **fit))
    return sorted(tried.values(), key=lambda t: t.rank, reverse=True)


def usual(model: Model, used: Preprocessing) -> Iterator[tuple[str, Preprocessing]]:
    """What is used, "", then every preset with every order of colours, as the command line asks for it; each once."""
    known = [_plain(used)]
    yield "", used
    for preset in PRESETS:
        for color in ("RGB", "BGR") if used.channels == 3 else ("GREY",):
            flags = {"preset": preset, "color": color}
            with suppress(InputError):  # three means for one channel, and the like
                how = guess_preprocessing(model, **flags, size=used.size, layout=used.layout)[0]
                if _plain(how) not in known:
                    known.append(_plain(how))
                    yield _flags(flags), how


def read(photo: Path, side: int) -> NDArray[np.uint8]:
    """A photo, not much larger than is needed: many are in memory at the same time."""
    pixels = image.read(photo)
    height, width = pixels.shape[:2]
    shrink = 4 * side / min(height, width)
    return pixels if shrink >= 1 else image.resize(pixels, (round(height * shrink), round(width * shrink)))


def _flags(values: Mapping[str, Any]) -> str:
    return " ".join(f"--{k.replace('_', '-')} {v}" for k, v in values.items())


def _plain(how: Preprocessing) -> Preprocessing:
    return replace(how, source="")


def _trial(job: Job, flags: str, how: Preprocessing, pixels: Sequence[NDArray[Any]], classes: NDArray[Any]) -> Trial:
    assert job.scores is not None
    tensor = job.scores.tensor
    model = job.model.rewritten(("expose", tensor), lambda: expose(job.model, [tensor]))
    values = job.engine.run(model, {job.input.name: how.batch(pixels)}, [tensor])[tensor]
    rows = predict.rows(job.scores, job.score, values)
    p = predict.probabilities(job.scores, job.score, np.nan_to_num(rows, neginf=-1e30, posinf=1e30))
    p = p / np.maximum(p.sum(axis=1, keepdims=True), 1e-30)
    there = classes >= 0
    top = p.max(axis=1)
    sure = p[np.arange(len(p)), np.minimum(classes, p.shape[1] - 1)][there] if there.any() else top
    bits = _entropy(p.mean(axis=0)) - float(np.mean([_entropy(row) for row in p]))
    right = int((p.argmax(axis=1) == classes)[there].sum())
    return Trial(flags, how, not flags, float(top.mean()), bits, right, int(there.sum()), sure)


def _entropy(p: NDArray[Any]) -> float:
    return float(-(p * np.log2(np.maximum(p, 1e-30))).sum())


def known_class(photo: Path, labels: Labels) -> int | None:
    """The class that a photo's folder is named after, or else words of its own name: "n01443537_goldfish.jpg"."""
    words = re.split(r"[\s_.-]+", photo.stem)
    runs = [words[i : i + n] for n in range(len(words), 0, -1) for i in range(len(words) - n + 1)]
    names = [j.join(run) for run in runs if any(c.isalpha() for c in "".join(run)) for j in (" ", "_", "-")]
    for name in (photo.absolute().parent.name, *names):
        try:
            found = labels.find(name)
        except TargetError:  # several classes are called that
            continue
        if found is not None:
            return found
    return None


def check(tried: Sequence[Trial]) -> Iterator[Finding]:
    """Whether another preprocessing than the one that is used is clearly better."""
    used = next((t for t in tried if t.used), None)
    if used is None:
        return
    # How the photo is fitted is chosen last, from many: it counts only where the difference is clear.
    best = next(t for t in tried if "--resize" not in t.flags)
    best = tried[0] if _better(tried[0], best) else best
    if used.known:
        if best.right - used.right > max(1, used.known / 20) and _better(best, used):
            what = f"with {best.flags}, {best.right} of {best.known} photos are predicted right; as used, {used.right}"
            yield Finding("warning", "photos", what, f"use {best.flags}")
        return
    what = "the class of no photo is known, so the table of preprocessings is weak evidence"
    yield Finding("note", "photos", what, "put photos in folders that are named after their classes, or give --labels")
    if len(used.sureness) > 7 and used.bits < best.bits / 4:
        what = f"as used, the model says nearly the same of all photos ({used.bits:.1f} bits; {best.bits:.1f} with"
        yield Finding("warning", "photos", f"{what} {best.flags})", f"try {best.flags}, and check the answers")
        return
    turned = {t.preprocessing.color: t for t in tried if _same_but_color(t.preprocessing, used.preprocessing)}
    other = turned.get("BGR" if used.preprocessing.color == "RGB" else "RGB")
    if other is not None and _better(other, used):
        what = f"the model is surer with the colours as {other.preprocessing.color} ({other.confidence:.2f}) than as"
        what += f" used, {used.preprocessing.color} ({used.confidence:.2f})"
        yield Finding("warning", "photos", what, f"try --color {other.preprocessing.color}")


def _same_but_color(a: Preprocessing, b: Preprocessing) -> bool:
    order = 1 if a.color == b.color else -1
    turned = replace(b, color=a.color, mean=b.mean[::order], std=b.std[::order], source=a.source)
    return a == turned


def _better(a: Trial, b: Trial) -> bool:
    """A sign test over the photos: a is surer more often than coins would have it."""
    wins, losses = int((a.sureness > b.sureness).sum()), int((a.sureness < b.sureness).sum())
    n = wins + losses
    return sum(math.comb(n, k) for k in range(losses + 1)) / 2**n < _CHANCE if wins > losses else False
