"""Pictures that a network takes for something that nobody else would: noise, or a photo of something else."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from .. import layout
from ..ascent.easel import Easel
from ..errors import InputError, OutputError, TargetError
from ..files import stems
from ..finding import Finding
from ..image import Picture
from ..methods import predict
from ..methods.attack import Attack
from ..methods.inputs import ModelLike
from ..methods.job import Job
from ..photos.source import gather
from ..surveys.survey import Over
from .registry import study

ROWS = 8  # of the overview


class Fooling(Finding):
    """A finding whose pictures lose what they show in a JPEG."""

    def save(self, path: str | Path, *, npz: bool = True) -> list[Path]:
        """As for every finding, but as PNG only."""
        if Path(path).suffix.lower() in (".jpg", ".jpeg"):
            raise OutputError(f"'{path}' would lose what fools the model: name a .png (-o).")
        return super().save(path, npz=npz)


@study
def fool(
    model: ModelLike,
    photos: Any = (),
    *,
    to: str | int = "",
    sure: float = 0.9,
    epsilon: float = 64.0,
    steps: int = 20,
    seed: int = 0,
    seconds: float = 0.0,
    **how: Unpack[Over],
) -> Finding:
    """Fooling images: noise, or a photo of something else, that the model takes for a class.

    Projected gradient descent on -log p of the class, in steps along the sign of the gradient, inside a ball: no number
    of a pixel moves by more than its radius. Radii of 1, 2, 4, ... pixel steps are tried, up to `epsilon`, until the
    class is the most probable one and its probability is high enough. Without photos it begins with noise, every number
    drawn evenly from 0 to 255. Pictures are whole pixels of the size that the model takes, read again as a photo would
    be before anything is said of them; save them as PNG.

    Szegedy et al., Intriguing Properties of Neural Networks, ICLR 2014; Nguyen et al., Deep Neural Networks are Easily
    Fooled, CVPR 2015 (noise and the question; they bred it); Kurakin et al., Adversarial Examples in the Physical
    World, ICLR workshop 2017 (the least probable class); Madry et al., ICLR 2018 (the descent).

    Args:
        to: the class to be seen, by index or name; by default the one that the model holds for least probable.
        sure: the probability to reach; 0 stops as soon as the class is the most probable one.
        epsilon: the largest radius, in pixel steps of 0 to 255.
        steps: for each radius.
        seed: of the noise: the same seed gives the same bytes.
        seconds: for each picture no further radius is begun after that; 0 for as long as it takes.

    Raises:
        TargetError: the model has no class scores, or no such class.
        InputError: the input is no picture, or takes whole numbers; or a number is out of its range.
        OutputError: the pictures are to be saved as JPEG.

    Example:
        >>> fool("model.onnx", ["cat.jpg"], to="broccoli").values["pictures"][0]["linf"]
    """
    if not 0 <= sure < 1:
        raise InputError(f"A probability of {sure} cannot be reached: it has to be at least 0 and below 1 (--sure).")
    how.pop("workers", 0)  # pictures are changed one after the other: each keeps all cores busy
    easel = Easel(model, **how)  # type: ignore[misc]
    if easel.scores is None:
        raise TargetError("The model has no row of class scores: there is nothing to fool it about.")
    if to == "":
        easel.notes.append("class: the one that the model holds for least probable in each picture (--to CLASS)")
    skipped: list[dict[str, str]] = []
    records: list[dict[str, Any]] = []
    pictures: dict[str, Picture] = {}
    rows: list[Picture] = []
    for name, stem, start in _starts(easel, photos, seed, skipped):
        changed, picture = _fool(easel, stem, start, to, sure, epsilon, steps, seconds)
        record = {"photo": name, "picture": stem} | changed
        records.append(record)
        pictures[stem] = picture
        if len(rows) < ROWS:
            rows.append(_row(start, picture, record))
    if len(records) > ROWS:
        easel.notes.append(f"the overview shows the first {ROWS} photos; every picture is a file of its own (PHOTO)")
    found = easel.finding(
        "fool",
        {"fooled": sum(r["fooled"] for r in records), "pictures": records},
        pictures={"": layout.frame(layout.column(rows, 20), 10)} | pictures,
        lines=[_line(r) for r in records],
        photos=len(records) + len(skipped) if records[0]["photo"] else 0,
        skipped=skipped,
        params={"to": to, "sure": sure, "epsilon": epsilon, "steps": steps, "seed": seed, "seconds": seconds},
    )
    return Fooling(**vars(found))


def _starts(
    easel: Easel, photos: Any, seed: int, skipped: list[dict[str, str]]
) -> Iterator[tuple[str | None, str, Picture]]:
    """Name, stem and picture, as the model sees it, of each photo, or of noise."""
    if isinstance(photos, tuple | list) and not photos:
        easel.notes.append("picture: noise, as no photo was given (PHOTO)")
        noise = np.random.default_rng(seed).integers(0, 256, (*easel.size, 1 if easel.grey else 3), np.uint8)
        yield None, "noise", np.broadcast_to(noise, (*easel.size, 3)).copy()
        return
    found = gather(photos)
    named = stems([found.name(i) for i in range(len(found))])
    for i, photo in found.legible(skipped):
        yield found.name(i), named[i], easel.preprocessing.inverse(easel.preprocessing.apply(photo))


def _fool(
    easel: Easel, stem: str, start: Picture, to: str | int, sure: float, epsilon: float, steps: int, seconds: float
) -> tuple[dict[str, Any], Picture]:
    """What the model makes of a picture before and after, and the changed one: as little as it takes."""
    made = easel.preprocessing
    lone = easel.scores is not None and easel.scores.count == 1  # to be sure of something takes it for a yes or no
    job = Job(
        easel.model,
        made.apply(start)[None],
        0 if lone else "top",
        engine=easel.engine,
        preprocessing=made,
        labels=easel.labels,
        score=easel.score,
        precision=easel.precision,
        progress=easel.progress,
    )
    before = _predictions(job, job.clean)
    attack = Attack(job, before[-1].index if to == "" else to, "linf", ())
    [index] = attack.classes
    best, most = attack.start, next(p.probability for p in before if p.index == index)
    done = before[0].index == index and most >= sure
    begun = time.monotonic()
    for radius in () if done else _radii(float(attack.size(epsilon).max())):
        if seconds and time.monotonic() - begun >= seconds:
            easel.notes.append(f"{stem}: the {seconds:g} s were over before a radius of {radius:g} (--seconds)")
            break
        size = attack.size(radius)
        points = attack.whole(attack.descend(size, steps, name=f"{stem}, {radius:g} of 255"), size)
        rows = attack.rows(points)
        probability = float(job.probabilities(rows)[0, index])
        if probability > most:
            best, most = points, probability
        if attack.fooled(rows).all() and probability >= sure:
            break
    picture = made.inverse(attack.inputs(best)[0])
    after = _predictions(job, job.forward([], feeds={easel.input.name: made.apply(picture)[None]}))
    now = next(p for p in after if p.index == index)
    change = picture.astype(np.float64) - start
    record = {
        "to": {"index": index, "label": job.labels.name(index)},
        "fooled": after[0].index == index,
        "sure": now.probability >= sure,
        "probability": now.probability,
        "probability_before": next(p.probability for p in before if p.index == index),
        "score": now.score,
        "linf": float(np.abs(change).max()),
        "l2": float(np.sqrt((change[..., : made.channels] ** 2).sum())),
        "before": [vars(p) for p in before[:5]],
        "after": [vars(p) for p in after[:5]],
    }
    if done:
        easel.notes.append(f"'{stem}' is seen as {now.label} as it is: nothing was changed (--to CLASS)")
    elif not (record["fooled"] and record["sure"]):
        easel.notes.append(
            f"'{stem}' is seen as {now.label} with {100 * now.probability:.1f} % at the most (a larger --epsilon, more "
            "--steps, or less to be --sure of)"
        )
    return record, picture


def _radii(most: float) -> list[float]:
    """1, 2, 4, ..., and the largest."""
    return [r for r in 2.0 ** np.arange(8) if r < most] + [most]


def _predictions(job: Job, found: dict[str, Any]) -> list[Any]:
    """All classes, the most probable first."""
    rows = job.rows(found)
    return predict.ranked(rows, job.probabilities(rows), job.labels)[0]  # type: ignore[arg-type]


def _line(record: dict[str, Any]) -> str:
    was, now = record["before"][0], record["after"][0]
    return (
        f"{record['picture']:<28} {was['label']} {100 * was['probability']:.1f} % -> {now['label']} "
        f"{100 * now['probability']:.1f} %   largest change {record['linf']:g} of 255, L2 {record['l2']:.4g}"
    )


def _row(start: Picture, picture: Picture, record: dict[str, Any]) -> Picture:
    """Before, after, and the difference, amplified around grey, with what the model says."""
    change = picture.astype(np.float64) - start
    amplified = np.rint(128 + 127 * change / (record["linf"] or 1)).astype(np.uint8)
    tiles = [layout.centred(layout.enlarge(p), 256, 256) for p in (start, amplified, picture)]
    before, after = (
        layout.bars([(p["label"], p["probability"]) for p in record[when]], 220, 14, 256)
        for when in ("before", "after")
    )
    says = "what the model says"
    captions = ["before", says, f"change, x{127 / (record['linf'] or 127):.3g}", "after", says]
    title = f"{record['picture']}: each number moved by {record['linf']:g} of 255 at the most, L2 {record['l2']:.4g}"
    return layout.figure([tiles[0], before, tiles[1], tiles[2], after], captions, title)
