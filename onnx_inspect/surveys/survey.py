"""`Survey`: a model and any number of photos, which go through it while others are read."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar, Unpack

import numpy as np
from numpy.typing import NDArray

from .. import structure
from ..attribution import identity
from ..errors import InputError, PhotoError, ResultError
from ..finding import Finding
from ..image import Picture
from ..methods.inputs import ModelLike, guess_preprocessing
from ..methods.setting import How, Setting
from ..naming import Layer
from ..photos.source import Photos, gather
from ..photos.stream import ordered
from ..preprocess import Preprocessing
from ..providers import cores
from ..rewrite import expose
from ..target import TargetLike
from ..versions import versions

R = TypeVar("R")


class Over(How, total=False):
    """What studies of photos take by keyword besides `How`.

    workers: photos that are read and run at the same time; 0 for one per core.
    """

    workers: int


@dataclass(frozen=True)
class Seen:
    """Photos that went through the model together.

    Attributes:
        which: their numbers.
        found: what was asked for, a row per photo.
        sizes: (height, width) of each.
        skipped: those that could not be read: number and reason.
    """

    which: list[int]
    found: dict[str, NDArray[Any]]
    sizes: list[tuple[int, int]]
    skipped: list[tuple[int, str]]


class Survey(Setting):
    """A model and photos, resolved once; assumptions are notes.

    Args:
        model: a model, or what `load` takes.
        photos: what `onnx_inspect.photos.source.gather` takes: files, folders, globs, zip archives, lists.
        target: see `onnx_inspect.target`.
        how: see `How` and `Over`.

    Attributes:
        photos: the photos.
        skipped: those that could not be read: name and reason.
    """

    preprocessing: Preprocessing

    def __init__(self, model: ModelLike, photos: Any, target: TargetLike = "top", **how: Unpack[Over]) -> None:
        workers = how.pop("workers", 0)
        super().__init__(model, **how)  # type: ignore[misc]
        if workers < 0:
            raise InputError(
                f"{workers} workers cannot do anything: give at least 1, or 0 for one per core (--workers)."
            )
        if self.preprocessing is None:
            self.preprocessing, notes = guess_preprocessing(self.model)
            self.notes += notes
        self.find_scores()
        self.aim(target)
        self.photos: Photos = gather(photos)
        if not len(self.photos):
            raise PhotoError("There is no photo to look at.")
        if self.photos.by_home:
            self.notes.append(f"classes: the {len(self.photos.classes)} folders that the photos lie in (PHOTO)")
        self.skipped: list[dict[str, str]] = []
        self.workers = workers or cores()
        # Runs side by side, each on one core, keep all cores busy; one run on all cores does not.
        self._pool = self.engine.narrow(self.workers)

    def sample(self, photo: Picture) -> NDArray[Any]:
        """A photo as the model takes it, without the axis N."""
        return self.preprocessing.apply(photo)

    @cached_property
    def batch(self) -> int:
        """How many photos go into a run."""
        blank = np.zeros((*self.preprocessing.size, 3), np.uint8)
        return self._pool.fits(self.model, {self.input.name: self.sample(blank)[None]})

    def run(
        self,
        tensors: Sequence[str],
        reduce: Callable[[Seen], R],
        *,
        start: int = 0,
        stop: int | None = None,
        name: str = "photos",
    ) -> Iterator[R]:
        """Run photos through the model and give what becomes of them, in order.

        Photos that cannot be read are put on `skipped`. Memory does not grow with their number.

        Args:
            tensors: to be computed, besides the class scores.
            reduce: what to make of photos that went through together; called in several threads.
            start: the first photo.
            stop: the photo to stop before, None for all.
            name: what the progress bar says.
        """
        stop = len(self.photos) if stop is None else stop
        for _, result, _ in self.each([(start, stop)], tensors, reduce, name=name):
            if result is not None:
                yield result

    def each(
        self,
        spans: Sequence[tuple[int, int]],
        tensors: Sequence[str],
        reduce: Callable[[Seen], R],
        *,
        name: str = "photos",
    ) -> Generator[tuple[range, R | None, list[dict[str, str]]], None, None]:
        """As `run`, over spans (first photo, end) in one go, with which photos a result is of.

        Yields:
            The numbers of photos that went together, all of one span; what became of them, None where none could be
            read; and those that could not.
        """
        total = sum(stop - start for start, stop in spans)
        advance = self.progress(name, total) if self.progress is not None else lambda n: None

        def work(which: range) -> tuple[range, R | None, list[dict[str, str]]]:
            seen = self._look(which, tensors)
            missed = [{"photo": self.photos.name(i), "reason": reason} for i, reason in seen.skipped]
            return which, (reduce(seen) if seen.which else None), missed

        parts = (range(i, min(i + self.batch, stop)) for start, stop in spans for i in range(start, stop, self.batch))
        for which, result, missed in ordered(parts, work, self.workers):
            self.skipped += missed
            yield which, result, missed
            advance(len(which))

    def _look(self, which: Sequence[int], tensors: Sequence[str]) -> Seen:
        read, samples, sizes, skipped = [], [], [], []
        for i in which:
            try:
                photo = self.photos.read(i)
            except PhotoError as error:
                skipped.append((i, str(error)))
                continue
            read.append(i)
            sizes.append(photo.shape[:2])
            samples.append(self.sample(photo))
        found = self._forward(tensors, np.stack(samples)) if read else {}
        for name, values in found.items():
            try:
                self._finite(values, name)
            except ResultError as error:
                bad = next(i for i, value in zip(read, values, strict=True) if not np.isfinite(value).all())
                raise ResultError(f"{error} It is the photo '{self.photos.name(bad)}' (PHOTO).") from error
        return Seen(read, found, sizes, skipped)

    def _forward(self, tensors: Sequence[str], samples: NDArray[Any]) -> dict[str, NDArray[Any]]:
        wanted = list(dict.fromkeys([*tensors, *self._outputs()]))
        model = self.model.rewritten(("expose", *wanted), lambda: expose(self.model, wanted))
        found = self._pool.run(model, {self.input.name: samples}, wanted, apart=True)
        for name in wanted:
            if found[name].shape[:1] != samples.shape[:1]:
                shape = structure.sizes(found[name].shape)
                raise InputError(
                    f"'{name}' has no row per photo: it is {shape} for {len(samples)}. Take another layer (--layer)."
                )
        return found

    def plan(self, layer: Layer) -> dict[str, Any]:
        """All that decides the bytes of what becomes of the photos at a layer, for `Shards`."""
        return {
            "model": self.model.source.sha256,
            "photos": self.photos.digest,
            "layer": layer.tensor,
            "preprocessing": self.preprocessing.to_json(),
            "score": self.score,
            "provider": self.engine.provider,
            "batch": self.batch,
            "versions": versions(),
        }

    def finding(self, study: str, values: dict[str, Any], **more: Any) -> Finding:
        """The result, with what was assumed; `more` are further fields of `Finding`."""
        for engine in {id(e): e for e in (self.engine, self._pool)}.values():
            self.notes += engine.notes
            engine.notes.clear()
        given: dict[str, Any] = dict(
            models=[identity(self.model)],
            provider=self.engine.provider,
            photos=len(self.photos),
            skipped=self.skipped,
            preprocessing=self.preprocessing,
            notes=list(dict.fromkeys(self.notes)),
        )
        return Finding(study, values, **given | more)
