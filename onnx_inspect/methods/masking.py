"""A picture behind many masks: the numbers of a small mask go to the model, which enlarges it and looks through."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..expand import CELLS, FILLING, GROW, PICTURE
from ..maps import channels_back
from ..model import Model
from .inputs import Feeds
from .job import Job

Array = NDArray[Any]
Masks = Callable[[int, NDArray[np.int64]], Sequence[Array]]


def on(job: Job, model: Model, feeds: Feeds, main: str) -> Job:
    """The job with a rewritten model, and its main input; targets, and what the clean run found, stay as they are."""
    known = (job.clean, job.fixed)  # found before the model is another
    other = copy.copy(job)
    other.model, other.feeds = model, feeds
    other.input = next(s for s in model.inputs if s.name == main)
    other.__dict__.update(clean=known[0], fixed=known[1])
    for name in ("_samples", "_axes"):
        other.__dict__.pop(name, None)
    return other


def seen_through(
    job: Job,
    name: str,
    count: int,
    masks: Masks,
    pictures: Array,
    behind: Array | None = None,
    *,
    grow: Sequence[Array] = (),
    unit: bool = False,
) -> Iterator[tuple[int, NDArray[np.int64], dict[str, Array]]]:
    """`Job.sweep` over pictures behind masks, x m + x' (1 - m).

    Args:
        job: the job.
        name: what the progress bar says.
        count: masks per sample.
        masks: (sample, which) -> their cells, and unless `grow` says so, how those of each mask grow to pixels along
            each axis: (masks, cells, pixels).
        pictures: x, (N, C, ...) whatever the layout of the input.
        behind: x', in floats, shaped like x; None for 0.
        grow: how the cells of all masks grow, (cells, pixels) along each axis.
        unit: bring each mask to 0 to 1 once it is enlarged.
    """
    into, layout, own = job.input.name, job.layout(job.input.name), not grow
    axis = 1 if layout is None else layout.index("C") if "C" in layout else None
    fixed = isinstance(job.input.shape[0], int)
    real = np.float64 if pictures.dtype == np.float64 else np.float32
    ends = {PICTURE: pictures} | ({FILLING: behind.astype(real)} if behind is not None and behind.any() else {})

    def build() -> Model:
        from ..expand import masked

        return masked(job.model, into, axis, unit=unit, filled=FILLING in ends, own=own)

    def growing(ways: Sequence[Array]) -> Feeds:
        return {
            f"{GROW}{n}": way.reshape(-1, *[1] * (len(ways) - 1), *way.shape[-2:]).astype(real)
            for n, way in enumerate(ways)
        }

    @lru_cache(maxsize=1)
    def still(i: int) -> Feeds:
        found = {k: channels_back(v[i : i + 1], layout) for k, v in ends.items()} | growing(grow)
        return {k: job.engine.hold(np.ascontiguousarray(v)) for k, v in found.items()}

    def given(i: int, which: NDArray[np.int64]) -> Feeds:
        cells, *ways = masks(i, which)
        once = {k: v.repeat(len(which), axis=0) if fixed else v for k, v in still(i).items()}
        return {CELLS: cells.astype(real), **growing(ways), **once}

    model = job.model.rewritten(("masked", into, axis, unit, FILLING in ends, own), build)
    first = given(0, np.zeros(1, np.int64))  # what a run is measured by
    feeds = {k: v if k in still(0) and not fixed else v.repeat(job.n, axis=0) for k, v in first.items()}
    others = {k: v for k, v in job.feeds.items() if k != into}
    yield from on(job, model, others | feeds, CELLS).sweep(name, count, given)
