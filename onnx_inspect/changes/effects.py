"""What it does to the predictions when something is taken out of a network: measured, and told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import PhotoError, ResultError
from ..image import Picture
from ..model import Model
from ..surveys.variants import Floats, Mean, Variants


@dataclass(frozen=True)
class Effects:
    """What removals do, a number each. Drops are intact less ablated; errors are standard errors over photos.

    Attributes:
        photos: how many were looked at.
        labelled: whether photos have labels; `accuracy` is the intact model's, and `wrong` counts against them.
        wrong: the drop of the accuracy or, without labels, the share of photos whose predicted class changes.
        probability: the drop of the probability of the class that the intact model predicts.
        score: the drop of its score.
        cut: whether all photos get the same scores.
    """

    photos: int
    labelled: bool
    accuracy: float
    wrong: tuple[Floats, Floats]
    probability: tuple[Floats, Floats]
    score: tuple[Floats, Floats]
    cut: NDArray[np.bool_]

    def record(self, k: int) -> dict[str, Any]:
        """What was found for one removal."""
        measures = {("accuracy_drop" if self.labelled else "changed"): self.wrong}
        measures |= {"probability_drop": self.probability, "score_drop": self.score}
        numbers = {n: number(mean[k]) for n, (mean, _) in measures.items()}
        return numbers | {f"{n}_error": number(error[k]) for n, (_, error) in measures.items()}

    def line(self, k: int) -> str:
        """The same for people."""
        what = "accuracy" if self.labelled else "changed"
        sign = -1 if self.labelled else 1
        wrong, p = (f"{s * m[k] + 0.0:+.3f}{_pm(e[k])}" for s, (m, e) in ((sign, self.wrong), (-1, self.probability)))
        return f"{what} {wrong}  probability {p}"


def _compare(survey: Variants, model: Model, intact: dict[str, NDArray[np.bool_]], at: str) -> None:
    """Say so where the switches alone change what the model computes: a runtime may fuse fewer operators with them."""
    noise = np.random.default_rng(0).integers(0, 256, (*survey.preprocessing.size, 3), np.uint8)
    sample = survey.sample(noise)
    plain, switched = survey.answers([sample], []), _switched(survey, sample, model, intact, at)
    off = float(abs(plain - switched).max() / (abs(plain).max() or 1))
    if off > 1e-4:
        survey.notes.append(
            f"with nothing taken out, the network with switches differs by {off:.1%} from the network as it is, as "
            "quantised ones do where the runtime rounds in other places: drops are counted from there (MODEL)"
        )


def _switched(
    survey: Variants, sample: NDArray[Any], model: Model, switches: dict[str, NDArray[np.bool_]], at: str
) -> Floats:
    """The class scores of one sample for each row of switches."""
    feeds: dict[str, NDArray[Any]] = {**switches}
    if at:
        ((_, found),) = survey.found([sample], [at])
        feeds[at] = np.broadcast_to(found[at], (len(next(iter(switches.values()))), *found[at].shape[1:]))
    return survey.answers([sample], [], model, feeds)


def measure(survey: Variants, model: Model, switches: dict[str, NDArray[np.bool_]], at: str = "") -> Effects:
    """What each row of switches does; the first leaves all as it is.

    Args:
        survey: the photos.
        model: with switches.
        switches: by input, a row for each removal.
        at: a tensor that the model begins with: what it alone depends on is computed once per photo.
    """
    _compare(survey, model, {name: rows[:1] for name, rows in switches.items()}, at)
    known = survey.true_classes()
    classes = [known.get(survey.photos.label(i) or "") for i in range(len(survey.photos))] if known else []

    def work(i: int, photo: Picture) -> tuple[Floats, Floats]:
        try:
            rows = _switched(survey, survey.sample(photo), model, switches, at)
        except ResultError as error:  # as where zeros are divided by their length
            raise ResultError(f"With something taken out: {error} Or take out other layers (--layer).") from error
        p = survey.probabilities(rows)
        top, said = int(rows[0].argmax()), rows.argmax(axis=1)
        true = classes[i] if classes else top
        right = np.full(len(rows), np.nan) if true is None else (said == true).astype(np.float64)
        return np.stack([right, p[:, top], rows[:, top]]), rows[1:]

    wrong, drops, right = Mean(), Mean(), Mean()
    cut, first, count = np.ones(len(next(iter(switches.values()))) - 1, bool), None, 0
    for _, (measured, rows) in survey.one_by_one(work):
        first, count = rows if first is None else first, count + 1
        cut &= np.isclose(rows, first, rtol=1e-5, atol=1e-5).all(axis=1)
        drop = measured[:, :1] - measured[:, 1:]
        drops.add(drop[1:])
        if np.isfinite(drop[0]).all():
            wrong.add(drop[0])
            right.add(measured[0, 0])
    if not wrong.n:
        raise PhotoError(
            f"None of the {count} photos that can be read has a label that is a class of the model, so there is no "
            "accuracy: give others, or photos without labels (PHOTO)."
        )
    if wrong.n < count:
        survey.notes.append(f"{count - wrong.n} photos without a label do not count in the accuracy (PHOTO)")
    return Effects(
        count,
        bool(known),
        float(right.mean),
        (wrong.mean, wrong.error),
        (drops.mean[0], drops.error[0]),
        (drops.mean[1], drops.error[1]),
        cut & (count > 1),
    )


def number(value: float) -> float | None:
    """A number as JSON has it, None for NaN."""
    return round(float(value), 6) if np.isfinite(value) else None


def _pm(error: float) -> str:
    return f" ± {error:.3f}" if np.isfinite(error) else ""
