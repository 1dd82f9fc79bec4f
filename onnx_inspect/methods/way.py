"""`Way`: how variants that are local are computed, through `incremental`."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..incremental import GAIN, Boxes, Choice, Crops, Edge, Ground, Layout, Patches, Path, choose, write
from ..rewrite import cut
from ..structure import label
from ..target import Target
from .inputs import Feeds
from .job import Job
from .local import Local

_STEP = 4  # positions: the way is chosen once for boxes whose sides are that near
_PLACES = 4  # along each axis, where boxes lie for which it is chosen


class Way:
    """How the variants of a job are computed.

    Args:
        job: the job.
        local: the variants.
        tensors: what is to be found besides the score.

    Attributes:
        choice: where to paste, and where to stop.
        maps: what is put together, and the rest of the network runs from.
    """

    def __init__(self, job: Job, local: Local, tensors: Sequence[str]) -> None:
        self.job, self.local, self._tensors = job, local, tensors
        wanted = list(dict.fromkeys([*tensors, *job.explained_tensors, *job._outputs()]))
        model, sizes, sides = job.model, job.sizes, self._sides()
        key = (local.name, local.axes, *wanted, *sorted(sizes.items()))
        self._wanted, self._model = wanted, model.memo(("wanted", *wanted), lambda: cut(model, outputs=wanted))
        self._path: Path = model.memo(("path", *key), lambda: Path(self._model, local.name, local.axes, sizes))
        self.choice: Choice = model.memo(("way", sides, *key), lambda: choose(self._path, self._typical(sides)))
        self.maps = self._path.frontier(self.choice.stop)
        self._ready: tuple[int, Ground, Patches] | None = None
        self._at = (-1, -1)  # the sample and the part of its boxes that are taken up

    def refused(self) -> str:
        """Why less would not be quicker; nothing where it is."""
        path, stop, name = self._path, self.choice.stop, self.local.name
        if self.choice.gain < GAIN or not stop:
            if stop < len(path.steps) or not path.ends:
                return "to compute only what it changes would not be quicker"
            return f"what it changes is known to stay in one place up to '{label(path.ends[0])}' alone"
        rest = self._model.memo(("rest", *self.maps), lambda: cut(self._model, inputs=self.maps))
        left = {v.name for v in rest.inputs} - set(self.maps)
        return f"the shape of '{name}' is read behind what a box changes" if name in left else ""

    def vary(self, i: int, which: NDArray[np.int64]) -> Feeds:
        """The maps from which the rest of the network runs, for some variants."""
        ground, patches = self._prepared(i)
        maps = {t: patches.clean[t].repeat(len(which), axis=0) for t in self.maps}
        rows = [(row, *ground.part(k), k) for row, k in enumerate(which.tolist()) if k < self.local.boxes[i].shape[2]]
        for part, some in groupby(rows, key=itemgetter(1)):
            if self._at != (i, part):
                patches.place(ground.places(part))
                self._at = i, part
            given = patches.places.given
            each = [(maps, row, own, self.local.values(i, k, given[own])) for row, _, own, k in some]
            if self.job.engine.cores == 1:
                for one in each:
                    patches.put(*one)
            else:  # crops are too small to be shared out among threads
                with ThreadPoolExecutor(self.job.engine.cores) as pool:
                    list(pool.map(lambda one: patches.put(*one), each))
        return maps

    def run(self, feeds: Feeds, target: Target) -> dict[str, NDArray[Any]]:
        """What is found in the rest of the network."""
        more = target.feeds(len(feeds[self.maps[0]]))
        return self.job.forward(self._tensors, target, feeds | more, at=self.maps)

    def _sides(self) -> tuple[int, ...]:
        """The usual size of boxes."""
        different = {id(boxes): boxes for boxes in self.local.boxes}.values()  # most samples share theirs
        boxes, shape = np.concatenate(list(different), axis=2), self.job.feeds[self.local.name].shape
        usual = np.median(boxes[:, 1] - boxes[:, 0], axis=1)
        return tuple(min(-int(-n // _STEP) * _STEP, shape[a]) for n, a in zip(usual, self.local.axes, strict=True))

    def _typical(self, sides: tuple[int, ...]) -> Boxes:
        """Boxes of that size in several places."""
        shape = self.job.feeds[self.local.name].shape
        along = zip(self.local.axes, sides, strict=True)
        starts = [np.linspace(0, shape[a] - n, _PLACES).astype(int) for a, n in along]
        first = np.stack([s.ravel() for s in np.meshgrid(*starts, indexing="ij")])
        return np.stack([first, first + np.array(sides)[:, None]], axis=1)

    def _prepared(self, i: int) -> tuple[Ground, Patches]:
        """Where the boxes of a sample lie, and what runs them."""
        if self._ready is None or self._ready[0] != i:
            ground, pasted = self._ground(i), {self._path.tensor(edge) for edge in self.choice.pasted}
            one = self.job.copies(i, 1)
            engine = self.job.engine.narrow(self.job.engine.cores)
            patches = Patches(engine, self._model, self._path, ground.crops, pasted, one)
            self._ready, self._at = (i, ground, patches), (-1, -1)
        return self._ready[1], self._ready[2]

    def _ground(self, i: int) -> Ground:
        """Where the boxes of a sample lie; kept for the next one, which may have the same."""
        path, choice, boxes = self._path, self.choice, self.local.boxes[i]

        def crops(layout: Layout, cuts: frozenset[Edge]) -> Crops:
            key = ("crops", path, choice, cuts)
            return self._model.memo(key, lambda: write(self._model, path, layout, cuts, choice.stop))

        kept: dict[bytes, Ground] = self._model.memo(("ground", path, choice), dict)
        if (found := kept.get(boxes.tobytes())) is None:
            kept.clear()
            found = kept[boxes.tobytes()] = Ground(path, boxes, choice, crops)
        return found
