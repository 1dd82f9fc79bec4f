"""Variants that differ from a sample in a box alone: only what that changes is computed, where that pays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..providers import CPU
from .job import Job, Run, Vary

Place = tuple[slice, ...]
_FEW = 16  # variants


@dataclass(frozen=True)
class Local:
    """Variants of samples that differ from them in a box of one input.

    name: the input. axes: those that hold positions, which a box has; none where nobody knows. boxes: per sample,
    (axes, 2, variants), where they begin and end. values: (sample, variant, where) -> what the variant holds there,
    `where` being the place of its box in an array with an axis for the one sample. flag: says how large boxes are.
    """

    name: str
    axes: tuple[int, ...]
    boxes: Sequence[NDArray[np.int64]]
    values: Callable[[int, int, Place], NDArray[Any]]
    flag: str


@dataclass(frozen=True)
class Sweep:
    """What to give to `Job.sweep`. maps: the tensors that are put together from crops; none if whole variants run."""

    vary: Vary
    run: Run | None
    maps: Sequence[str] = ()


def positions(job: Job, name: str) -> tuple[int, ...]:
    """The axes of an input that hold positions; none where nobody knows."""
    layout = job.layout(name) or ""
    fits = layout[:1] == "N" and len(layout) == job.feeds[name].ndim
    return tuple(a for a, letter in enumerate(layout) if letter not in "NC") if fits else ()


def quickest(job: Job, whole: Sweep, local: Local | None, tensors: Sequence[str] = ()) -> Sweep:
    """The sweep of whole variants, or one that computes only what they change, if that takes less time.

    The job notes which it is, and why.

    Args:
        job: the job.
        whole: variants that are run through all of the network.
        local: the same variants, as far as they are local.
        tensors: what is to be found besides the score.
    """
    if local is None or not local.axes or not job.engine.lowering or job.engine.provider != CPU:
        return whole
    why = "so few are not worth a graph of their own"
    if sum(boxes.shape[2] for boxes in local.boxes) >= _FEW:
        from .way import Way

        way = Way(job, local, tensors)
        why = way.refused()
    if why:
        job.notes.append(f"every variant is run through all of the network: {why} ({local.flag})")
        return whole
    maps = " and ".join(repr(t) for t in way.maps)
    job.notes.append(
        f"only what a variant changes is computed, and whole maps from {maps} on: {way.choice.gain:.1f} times less "
        "work (--no-lowering)"
    )
    return Sweep(way.vary, way.run, way.maps)
