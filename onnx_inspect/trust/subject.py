"""What a measure of trust is about: the job that was explained, its map on the input, and what is measured."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..attribution import Attribution
from ..errors import ResultError
from ..methods.inputs import Input, ModelLike
from ..methods.job import SCORE, How, Job

Floats = NDArray[np.float64]


def job_of(model: ModelLike, x: Input, result: Attribution, how: How | dict[str, Any]) -> Job:
    """The job that was explained: the classes stay what they were."""
    classes = [e.index for e in result.explained if e is not None]
    job = Job(model, x, classes if len(classes) == len(result) else result.target, **how)
    if job.n != len(result):
        raise ResultError(f"The explanation is of {len(result)} samples, the input holds {job.n}.")
    return job


def positions_of(job: Job, result: Attribution) -> Floats:
    """The heat at the positions of the input: a number for all channels of a position, or one per number."""
    x, heat = job.feeds[job.input.name], np.asarray(result.heat, np.float64)
    layout = job.layout(job.input.name)
    known = layout is not None and len(layout) == x.ndim
    places = tuple(s for s, a in zip(x.shape, layout, strict=True) if a != "C") if known and layout else x.shape
    if heat.shape in (places, x.shape):
        return heat
    if job.preprocessing is None or heat.ndim != 3 or len(places) != 3:
        raise ResultError(f"The map {heat.shape} does not lie on the input {x.shape}: explain the input, not a layer.")
    from .. import image

    return np.stack([image.resize(h.astype(np.float32), (places[1], places[2]), "linear") for h in heat]).astype(float)


def over_channels(job: Job, positions: NDArray[Any]) -> NDArray[Any]:
    """Values at positions, (n, ...), to be broadcast over the channels of the input."""
    x, layout = job.feeds[job.input.name], job.layout(job.input.name)
    return positions if positions.ndim == x.ndim or layout is None else np.expand_dims(positions, layout.index("C"))


def ranked(job: Job, result: Attribution) -> NDArray[np.int64]:
    """The place of every position in the order of importance, 0 first; among equals by chance, always the same."""
    heat = positions_of(job, result)
    flat = heat.reshape(len(heat), -1)
    chance = np.random.default_rng(0).random(flat.shape[1])
    ranks = np.empty(flat.shape, np.int64)
    for row, values in zip(ranks, flat, strict=True):
        row[np.lexsort((chance, -values))] = np.arange(len(values))
    return ranks.reshape(heat.shape)


def probability(job: Job, found: dict[str, NDArray[Any]], samples: NDArray[np.int64]) -> Floats:
    """The probability of the explained class per run, the score where the target is no class."""
    rows, classes = job.rows(found), job.explained(job.clean)
    if rows is None or any(c is None for c in classes):
        return np.asarray(found[SCORE], np.float64)
    return np.asarray(job.probabilities(rows)[np.arange(len(samples)), [classes[i] for i in samples]])
