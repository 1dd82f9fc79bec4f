"""What adversarial examples are made of: the loss, the steps, the ball around a sample, and photos that stay photos."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..errors import InputError, TargetError
from ..maps import channels_back
from ..target import Index, parse
from .job import Job, draws
from .losses import CrossEntropy, Margin

if TYPE_CHECKING:
    from numpy.typing import NDArray

Norm = Literal["linf", "l2"]
FLAT = 1e-6  # captum leaves numbers with smaller gradients alone


class Attack:
    """Samples, the class that they shall lose or win, and where changed ones may lie.

    Points are float64, shaped like the input: photos in pixels of 0 to 255, others in the model's units.

    Args:
        job: the job.
        to: the class to win, "" to lose the explained one.
        norm: "linf" or "l2".
        bounds: lowest and highest value in the model's units, () for a photo's own, or none.
        captum: everything in the model's units, steps along the sign, and numbers with tiny gradients stay.
    """

    def __init__(self, job: Job, to: str | int, norm: Norm, bounds: Sequence[float], captum: bool = False) -> None:
        self.job, self.norm, self.captum = job, norm, captum
        [self.name] = job.attributed(job.input.name)
        self.x = job.feeds[self.name]
        self.own = self._explained()
        self.classes = self.own if to == "" else [self._class(to)] * job.n
        self.away = to == ""
        self.loss = CrossEntropy(tuple(self.classes), job.score)
        self.margin = Margin(tuple(self.classes), job.score)
        self.picture = not captum and not bounds and job.preprocessing is not None and None not in job.photos
        self.low, self.high = (0.0, 255.0) if self.picture else self._bounds(bounds)
        self.scale, self.mean, self.std = self._units()
        self.start = self.points(self.x)
        if self.start.min() < self.low - 0.5 or self.start.max() > self.high + 0.5:
            where = "as pixels, under the preprocessing assumed," if self.picture else "as the model sees it,"
            raise InputError(
                f"The input reaches from {self.start.min():.4g} to {self.start.max():.4g} {where} beyond "
                f"{self.low:g} and {self.high:g}: name another preprocessing or bounds (--preset, --bounds)."
            )
        if self.picture:
            whole = np.rint(self.start)
            if np.abs(whole - self.start).max() > 1e-2:
                job.notes.append("the input is no photo of whole pixels: it was rounded to one first")
            self.start = whole.clip(self.low, self.high)
        elif job.photos[0] is not None:
            job.notes.append("changes are not rounded to pixels: a picture of them may not fool the model (--bounds)")
        if (already := self.fooled(self._rows(job.clean))).any():
            job.notes.append(f"{already.sum()} of {job.n} samples are seen so without any change (--target, --to)")

    def _explained(self) -> list[int]:
        found = self.job.explained(self.job.clean)
        if any(c is None for c in found):
            raise TargetError(
                f"The target {self.job.target} is no class: there is nothing to fool the model about (--target)."
            )
        return [c for c in found if c is not None]

    def _class(self, to: str | int) -> int:
        found = parse(to, self.job.model, self.job.labels, self.job.score)
        if type(found) is not Index or not isinstance(found.index, int):
            raise TargetError(f"'{to}' is no class: name the one that the model shall see, or its index (--to).")
        found.check(self.job.scores.count if self.job.scores is not None else None)
        return found.index

    def _bounds(self, bounds: Sequence[float]) -> tuple[float, float]:
        if not bounds:
            return -np.inf, np.inf
        if len(bounds) != 2 or not bounds[0] < bounds[1]:
            raise InputError(f"Bounds are a lower and a higher number, not {list(bounds)} (--bounds 0 --bounds 1).")
        return float(bounds[0]), float(bounds[1])

    def _units(self) -> tuple[Any, Any, Any]:
        """Scale, mean and deviation of `Preprocessing`, to be broadcast over the input; of no effect but for photos."""
        if not self.picture:
            return 1.0, 0.0, 1.0
        made = self.job.preprocessing
        assert made is not None
        mean, std = (
            channels_back(np.array(v, np.float32).reshape(1, -1, 1, 1), made.layout)
            if self.x.ndim == 4
            else np.array(v, np.float32)
            for v in (made.mean, made.std)
        )
        return np.float32(made.scale), mean, std

    # Between points and inputs.

    def points(self, x: NDArray[Any]) -> NDArray[np.float64]:
        """Inputs as points."""
        return np.asarray((x.astype(np.float64) * self.std + self.mean) / self.scale)

    def inputs(self, points: NDArray[np.float64]) -> NDArray[Any]:
        """Points as inputs: for whole pixels to the last bit what preprocessing makes of them."""
        values = points.astype(np.float32) if self.picture else points
        return np.asarray((values * self.scale - self.mean) / self.std).astype(self.x.dtype)

    def feeds(self, points: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
        """A value per input, with these points."""
        return self.job.feeds | {self.name: self.inputs(points)}

    # Steps.

    def size(self, epsilon: float) -> NDArray[np.float64]:
        """The size of the ball per sample, to be broadcast over the points."""
        if not 0 < epsilon < np.inf:
            raise InputError(f"An epsilon of {epsilon} is no size of a change (--epsilon).")
        if self.picture and epsilon < 1:
            raise InputError(
                f"An epsilon of {epsilon} changes no photo of whole pixels: it counts steps of 0 to 255 (--epsilon 8)."
            )
        return np.full((self.job.n, *(1 for _ in self.x.shape[1:])), float(epsilon))

    def direction(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where the loss changes the fastest, as wanted, for steps of size 1 in the norm."""
        slope = self._slope(points, self.loss)
        if not self.captum and (flat := ~slope.any(axis=self._axes)).any():  # p is 1 to the last bit
            slope[flat] = self._slope(points, self.margin)[flat]
        if not slope.any(axis=self._axes).all():
            self.job.notes.append("the loss is flat somewhere: a sample that the model is too sure of stays (--to)")
        if self.captum or self.norm == "linf":
            return np.asarray(np.where(np.abs(slope) > (FLAT if self.captum else 0), np.sign(slope), 0.0))
        length = self.length(slope)
        return np.asarray(np.divide(slope, length, out=np.zeros_like(slope), where=length > 0))

    def _slope(self, points: NDArray[np.float64], loss: CrossEntropy) -> NDArray[np.float64]:
        """The gradient by the points, towards what is wanted."""
        found = self.job.gradients([self.name], feeds=self.feeds(points), target=loss)
        slope: NDArray[np.float64] = found[f"gradient.{self.name}"] * np.asarray(self.scale / self.std, np.float64)
        return slope if self.away else -slope

    def length(self, change: NDArray[np.float64]) -> NDArray[np.float64]:
        """The root of the sum of squares, per sample."""
        return np.asarray(np.sqrt((change**2).sum(axis=tuple(range(1, change.ndim)), keepdims=True)))

    def inside(self, points: NDArray[np.float64], size: NDArray[np.float64]) -> NDArray[np.float64]:
        """The nearest points in the ball of this size, and between the bounds."""
        change = points - self.start
        if self.norm == "linf":
            change = change.clip(-size, size)
        else:
            change *= np.minimum(1, size / np.maximum(self.length(change), 1e-300))
        return (self.start + change).clip(self.low, self.high)

    def descend(
        self, size: NDArray[np.float64], steps: int, step: float = 0, seed: int | None = None, name: str = ""
    ) -> NDArray[np.float64]:
        """Steps inside a ball, from the samples or, with a seed, a random point; `name` has a progress bar."""
        if steps < 1 or not 0 <= step < np.inf:
            raise InputError(f"{steps} steps of {step} lead nowhere (--steps, --step).")
        stride = step or 2.5 * size / steps
        points = self.start
        if seed is not None:
            points = self.inside(points + size * self._random(seed), size)
        advance = self.job.progress(name, steps) if name and self.job.progress is not None else lambda n: None
        for _ in range(steps):
            points = self.inside(points + stride * self.direction(points), size)
            advance(1)
        return points

    def _random(self, seed: int) -> NDArray[np.float64]:
        """A point of the unit ball, uniform, the same for every sample."""
        source, shape = draws(seed, np.zeros(1, np.int64))[0], self.x.shape[1:]
        if self.norm == "linf":
            return source.uniform(-1, 1, (1, *shape))
        normal = source.normal(size=(1, *shape))
        return np.asarray(normal / self.length(normal) * source.uniform() ** (1 / normal.size))

    def whole(self, points: NDArray[np.float64], size: NDArray[np.float64]) -> NDArray[np.float64]:
        """Photos as whole pixels in the ball: in l2 the change is scaled so that what is rounded fills it."""
        if not self.picture:
            return points
        change = points - self.start
        if self.norm == "linf":
            reach = np.floor(size)
            return np.asarray(self.start + np.rint(change).clip(-reach, reach))

        def rounded(times: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.asarray((self.start + np.rint(times * change)).clip(self.low, self.high))

        low, high = np.zeros_like(size), 255 / np.maximum(np.abs(change).max(axis=self._axes, keepdims=True), 1e-9)
        for _ in range(40):
            middle = (low + high) / 2
            fits = self.length(rounded(middle) - self.start) <= size
            low, high = np.where(fits, middle, low), np.where(fits, high, middle)
        return rounded(low)

    @property
    def _axes(self) -> tuple[int, ...]:
        return tuple(range(1, self.x.ndim))

    # What the model makes of them.

    def rows(self, points: NDArray[np.float64]) -> NDArray[Any]:
        """The class scores."""
        return self._rows(self.job.forward([], feeds=self.feeds(points)))

    def _rows(self, found: dict[str, NDArray[Any]]) -> NDArray[Any]:
        rows = self.job.rows(found)
        assert rows is not None
        return rows

    def fooled(self, rows: NDArray[Any]) -> NDArray[np.bool_]:
        """Whether the attack succeeded, per sample, by the class scores."""
        same: NDArray[np.bool_] = rows.argmax(axis=1) == self.classes
        return ~same if self.away else same

    def measures(self, points: NDArray[np.float64], found: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Success, distances, and score and probability of the attacked class, before and after."""
        change, every = points - self.start, np.arange(self.job.n)
        before, after = self._rows(self.job.clean), self._rows(found)
        measured = {
            "success": self.fooled(after),
            "linf": np.abs(change).max(axis=self._axes),
            "l2": self.length(change).ravel(),
        }
        for name, rows in (("before", before), ("after", after)):
            measured[f"score_{name}"] = rows[every, self.classes]
            measured[f"probability_{name}"] = self.job.probabilities(rows)[every, self.classes]
        return measured
