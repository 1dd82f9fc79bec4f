"""Adversarial examples: changes that hardly show and fool the model.

Photos are changed in steps of a pixel, of which there are 255, and stay photos: whole pixels from 0 to 255, so that the
picture that is written fools the model when it is read again. Other inputs are changed in the units of the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Unpack

import numpy as np

from ..errors import InputError
from ..maps import channels_first
from ..target import TargetLike
from .attack import Attack, Norm
from .changed import Adversarial
from .inputs import Input, ModelLike
from .job import How, Job
from .registry import method

if TYPE_CHECKING:
    from numpy.typing import NDArray


@method("gradient", explains=False)
def fgsm(
    model: ModelLike,
    x: Input,
    target: TargetLike = "top",
    *,
    to: str | int = "",
    epsilon: float = 8.0,
    norm: Norm = "linf",
    bounds: Sequence[float] = (),
    preset: Literal["", "captum"] = "",
    **how: Unpack[How],
) -> Adversarial:
    """FGSM, the fast gradient sign method: fool the model by a single step.

    x + epsilon sign(dL/dx), where L is the cross-entropy -log p of the explained class, away from which the step leads;
    with `to`, x - epsilon sign(dL/dx) for that class's. In l2, epsilon times the gradient over its norm. Values are the
    changes, shaped like x, in the model's units; `extra["adversarial"]` is the changed input; the picture is the
    changed photo, which stays one: whole pixels from 0 to 255. Success is judged after rounding. Measures: success (1
    or 0), epsilon, the distances linf and l2 in pixel steps, and score and probability, before and after, of the class
    that is attacked (`to`, else the explained one).

    Goodfellow et al., Explaining and Harnessing Adversarial Examples, ICLR 2015.

    Args:
        to: the class, by index or name, that the model shall see; otherwise any but the explained one.
        epsilon: the size of the step: in pixel steps of 0 to 255 for photos (8 is 8/255), else in the model's units.
        norm: linf, of the largest change, or l2, of the root of the sum of squares.
        bounds: lowest and highest value, in the model's units, as is epsilon then; photos have theirs already.
        preset: captum's conventions: epsilon in the model's units, no rounding, no bounds but those given; numbers with
            gradients below 1e-6 stay. Its loss is taken to be the cross-entropy.

    Raises:
        TargetError: the target is no class, or there is none called `to`.
        InputError: epsilon is not above 0, or the input is no photo under the preprocessing assumed.

    Example:
        >>> fgsm("model.onnx", "cat.jpg", epsilon=2).measures["success"]
    """
    attack = Attack(Job(model, x, target, **how), to, norm, bounds, preset == "captum")
    size = attack.size(epsilon)
    changed = attack.whole(attack.inside(attack.start + size * attack.direction(attack.start), size), size)
    return _result("fgsm", attack, changed, size, to=to, epsilon=epsilon, norm=norm, bounds=bounds, preset=preset)


@method("gradient", explains=False)
def pgd(
    model: ModelLike,
    x: Input,
    target: TargetLike = "top",
    *,
    to: str | int = "",
    epsilon: float = 8.0,
    steps: int = 20,
    step: float = 0.0,
    norm: Norm = "linf",
    random_start: bool = False,
    seed: int = 0,
    bounds: Sequence[float] = (),
    preset: Literal["", "captum"] = "",
    **how: Unpack[How],
) -> Adversarial:
    """PGD, projected gradient descent: fool the model by small steps inside a ball.

    Steps as in fgsm, each followed by the way back into the ball of radius epsilon and between the bounds. What comes
    back, and what is measured, is the same as in fgsm.

    Madry et al., Towards Deep Learning Models Resistant to Adversarial Attacks, ICLR 2018.

    Args:
        to: the class, by index or name, that the model shall see; otherwise any but the explained one.
        epsilon: radius of the ball: in pixel steps of 0 to 255 for photos (8 is 8/255), else in the model's units.
        steps: how many.
        step: the size of one, in the units of epsilon; 0 for 2.5 epsilon / steps.
        norm: of the ball and of the steps: linf, of the largest change, or l2, of the root of the sum of squares.
        random_start: begin at a random point of the ball, the same changes for every photo.
        seed: of the random point.
        bounds: lowest and highest value, in the model's units, as is epsilon then; photos have theirs already.
        preset: captum's conventions, as in fgsm; steps follow the sign in l2, too.

    Raises:
        TargetError: the target is no class, or there is none called `to`.
        InputError: a number is not above 0, or the input is no photo under the preprocessing assumed.

    Example:
        >>> pgd("model.onnx", "cat.jpg", to="tiger cat", epsilon=2).save("fooled")
    """
    attack = Attack(Job(model, x, target, **how), to, norm, bounds, preset == "captum")
    size = attack.size(epsilon)
    changed = attack.whole(attack.descend(size, steps, step, seed if random_start else None, "pgd"), size)
    own = {"steps": steps, "step": step, "random_start": random_start, "seed": seed}
    return _result("pgd", attack, changed, size, to=to, epsilon=epsilon, norm=norm, bounds=bounds, preset=preset, **own)


@method("gradient", explains=False)
def minimal_perturbation(
    model: ModelLike,
    x: Input,
    target: TargetLike = "top",
    *,
    to: str | int = "",
    attack: Literal["fgsm", "pgd"] = "fgsm",
    epsilon: float = 64.0,
    tolerance: float = 0.01,
    steps: int = 20,
    norm: Norm = "linf",
    bounds: Sequence[float] = (),
    **how: Unpack[How],
) -> Adversarial:
    """Minimal perturbation: how little change makes the model see something else.

    The smallest size with which the attack succeeds: it is doubled, from `epsilon` / 65536 on, until it does, and the
    last gap is bisected. For fgsm that is the distance to the decision boundary along one direction. It is an upper
    bound on the smallest change: another attack may need less, and a class that comes back with more change can hide
    a smaller size between two doublings. What comes back is the same as in fgsm; where nothing up to `epsilon`
    succeeds, the sample stays as it is, the success is 0 and the measured epsilon NaN.

    Szegedy et al., Intriguing Properties of Neural Networks, ICLR 2014 (the question); captum's MinParamPerturbation.

    Args:
        to: the class, by index or name, that the model shall see; otherwise any but the explained one.
        attack: fgsm, along one direction, or pgd, which looks for a way anew for each epsilon.
        epsilon: the largest one tried: in pixel steps of 0 to 255 for photos, else in the model's units.
        tolerance: how far above the smallest the answer may be, as a share of it; photos in linf: a whole pixel step.
        steps: of pgd.
        norm: linf, of the largest change, or l2, of the root of the sum of squares.
        bounds: lowest and highest value, in the model's units, as is epsilon then; photos have theirs already.

    Raises:
        TargetError: the target is no class, or there is none called `to`.
        InputError: a number is not above 0, or the input is no photo under the preprocessing assumed.

    Example:
        >>> minimal_perturbation("model.onnx", "cat.jpg").measures["epsilon"]
    """
    at = Attack(Job(model, x, target, **how), to, norm, bounds)
    if not 0 < tolerance < 1:
        raise InputError(f"A tolerance of {tolerance} is no share between 0 and 1 (--tolerance).")
    whole = at.picture and norm == "linf"
    largest, way = at.size(epsilon), at.direction(at.start) if attack == "fgsm" else None
    done = at.fooled(at.rows(at.start)).reshape(largest.shape)
    best, low, high = at.start, np.zeros_like(largest), np.where(done, 0.0, np.nan)

    def attempt(size: NDArray[np.float64], which: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Narrow the gap between what fools the model and what does not, for some of the samples."""
        nonlocal best, low, high
        points = at.descend(size, steps) if way is None else at.inside(at.start + size * way, size)
        points = at.whole(points, size)
        fooled = which & at.fooled(at.rows(points)).reshape(which.shape)
        best, high, low = (
            np.where(fooled, points, best),
            np.where(fooled, size, high),
            np.where(which & ~fooled, size, low),
        )
        return fooled

    shares = 2.0 ** np.arange(-16, 1)
    advance = at.job.progress("minimal_perturbation", len(shares)) if at.job.progress is not None else lambda n: None
    for share in shares:
        advance(1)
        size = np.floor(share * largest) if whole else share * largest
        if not done.all() and (size >= 1 if whole else size > 0).all():
            done = done | attempt(size, ~done)
    least = 1.0 if whole else tolerance * largest / 2**16
    while (wide := done & (high - low > np.maximum(tolerance * high, least))).any():
        middle = (low + high) / 2
        attempt(np.where(wide, np.floor(middle) if whole else middle, largest), wide)
    return _result(
        "minimal_perturbation",
        at,
        best,
        high,
        to=to,
        attack=attack,
        epsilon=epsilon,
        tolerance=tolerance,
        steps=steps,
        norm=norm,
        bounds=bounds,
    )


def _result(
    name: str, attack: Attack, points: NDArray[np.float64], size: NDArray[np.float64], /, **params: Any
) -> Adversarial:
    """What an attack with changes of this size came to."""
    job, changed = attack.job, attack.inputs(points)
    after = job.forward([], feeds=attack.feeds(points))
    moved = np.abs(points - attack.start)
    heat = None
    if attack.picture and moved.ndim == 4:
        assert job.preprocessing is not None
        heat = channels_first(moved, job.preprocessing.layout).max(axis=1)
    result: Adversarial = job.attribution(
        name,
        {attack.name: changed - attack.inputs(attack.start)},
        job.clean,
        heat=heat,
        kind=Adversarial,
        signed=True,
        params=params,
        extra={"adversarial": changed},
        measures={"epsilon": size.ravel(), **attack.measures(points, after)},
    )
    result.after, _ = job.predict(after)
    result.notes = list(dict.fromkeys(job.notes))  # an input left as it is is no blank map
    more = ", more --steps" if "steps" in params and params.get("attack") != "fgsm" else ""
    result.notes += [
        f"the attack on '{stem}' failed: the model still says {row[0].label} (a larger --epsilon{more})"
        for stem, row, success in zip(result.stems, result.after, result.measures["success"], strict=True)
        if not success
    ]
    return result
