"""`Variants`: photos that go through a model one by one, each in many forms; and means of what comes back."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..errors import PhotoError, TargetError
from ..image import Picture
from ..model import Model
from ..photos.stream import ordered
from ..rewrite import expose
from .survey import Survey

R = TypeVar("R")
Floats = NDArray[np.float64]


class Variants(Survey):
    """A survey whose photos are changed, or whose model is, before they meet."""

    def one_by_one(self, work: Callable[[int, Picture], R], name: str = "photos") -> Iterator[tuple[int, R]]:
        """What `work` makes of each photo and its number, in order; called in several threads.

        Photos that cannot be read are put on `skipped`. Memory does not grow with their number.
        """
        advance = self.progress(name, len(self.photos)) if self.progress is not None else lambda n: None

        def looked(i: int) -> tuple[R | None, str]:
            try:
                photo = self.photos.read(i)
            except PhotoError as error:
                return None, str(error)
            return work(i, photo), ""

        for i, (result, reason) in enumerate(ordered(len(self.photos), looked, self.workers)):
            if result is not None:
                yield i, result
            else:
                self.skipped.append({"photo": self.photos.name(i), "reason": reason})
            advance(1)
        if len(self.skipped) == len(self.photos):
            raise self.photos.illegible(self.skipped)

    def found(
        self,
        samples: Sequence[NDArray[Any]],
        tensors: Sequence[str],
        model: Model | None = None,
        feeds: Mapping[str, NDArray[Any]] | None = None,
    ) -> Iterator[tuple[slice, dict[str, NDArray[Any]]]]:
        """Tensors for some samples, a run at a time, with which samples those were.

        Args:
            samples: as `sample` makes them; one stands for all where `feeds` says how many there are.
            tensors: to be computed, besides the class scores.
            model: the model, rewritten; None for the model as it is.
            feeds: further inputs, a row per sample.
        """
        model, feeds = model or self.model, feeds or {}
        wanted = list(dict.fromkeys([*tensors, *self._outputs()]))
        ready = model.rewritten(("expose", *wanted), lambda: expose(model, wanted))
        count = max(len(samples), *map(len, feeds.values())) if feeds else len(samples)
        for start in range(0, count, self.batch):
            part = slice(start, min(start + self.batch, count))
            stack = np.stack([samples[k % len(samples)] for k in range(part.start, part.stop)])
            given = {self.input.name: stack, **{k: v[part] for k, v in feeds.items()}}
            found = self._pool.run(ready, given, wanted, apart=True)
            for name in wanted:
                self._finite(found[name], name)
            yield part, found

    def answers(self, *given: Any, **more: Any) -> Floats:
        """The class scores of `found`, (variants, classes)."""
        found = [self.rows(found) for _, found in self.found(*given, **more)]
        return np.concatenate([rows for rows in found if rows is not None])

    def need_scores(self) -> None:
        """Refuse a model that is no classifier.

        Raises:
            TargetError: there is no row of class scores.
        """
        if self.scores is None:
            raise TargetError(
                f"'{self.model.source.name}' has no row of class scores per photo, and these are compared: take a "
                "classifier."
            )

    def true_classes(self) -> dict[str, int]:
        """The class that each label of the photos means; what is none is noted."""
        known: dict[str, int] = {}
        count = self.scores.count if self.scores is not None else None
        for label in self.photos.classes:
            with contextlib.suppress(TargetError):  # several classes are called so
                found = self.labels.find(label)
                number = int(label) if label.isdecimal() and len(label) < 7 else None
                index = found if found is not None else number
                if index is not None and (count is None or index < max(count, 2)):  # one number is a yes or no
                    known[label] = index
        if strange := [c for c in self.photos.classes if c not in known]:
            others = "" if known else "; what the model says of a photo as it is counts as right"
            self.notes.append(
                f"{len(strange)} of {len(self.photos.classes)} labels of the photos are no classes of the model, the "
                f"first '{strange[0]}'{others} (--labels FILE)"
            )
        return known


class Mean:
    """The mean of arrays of one shape that come one after another, and its standard error (Welford 1962)."""

    def __init__(self) -> None:
        self.n, self.mean, self._squares = 0, np.zeros(()), np.zeros(())

    def add(self, values: Any) -> None:
        """One more array."""
        self.n += 1
        off = np.asarray(values, np.float64) - self.mean
        self.mean = self.mean + off / self.n
        self._squares = self._squares + off * (values - self.mean)

    @property
    def deviation(self) -> Floats:
        """The standard deviation of what came, NaN for less than two."""
        if self.n < 2:
            return np.full(np.shape(self.mean), np.nan)
        return np.sqrt(self._squares / (self.n - 1))

    @property
    def error(self) -> Floats:
        """The standard error of the mean, NaN for less than two."""
        return np.asarray(self.deviation / np.sqrt(max(self.n, 1)))
