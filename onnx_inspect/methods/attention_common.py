"""What methods of attention share: finding its layers, the tokens that a score is read from, and maps of tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import attentions, structure
from ..attentions import Attention
from ..attribution import Attribution
from ..autodiff.gradient import scored
from ..errors import InputError, LayerError, TargetError
from ..maps import Grid
from ..naming import Layer
from .job import SCORE, Job

Array = NDArray[Any]


def found_in(job: Job) -> list[Attention]:
    """Every attention on the way to the target, whose weights are tensors from here on."""
    job.model = attentions.opened(job.model)
    tensors = job.explained_tensors
    graph = job.model.ir.graph
    on_the_way = {v.name for t in tensors for v in structure.needed(graph, job.model.value(t))}
    places = job.places
    every = places.memo("attentions", lambda: attentions.find(job.model, places))
    return [a for a in every if a.tensor in on_the_way]


def layer_of(job: Job, at: Attention) -> Layer:
    """An attention as a layer, for the record."""
    return replace(job.model.layer(at.tensor), name=at.name)


def asked(job: Job, at: Attention, found: Sequence[Attention], query: str) -> Array:
    """The queries of an attention that are meant, counted over all windows; what was assumed is noted.

    Args:
        job: the job.
        at: the attention.
        found: all of them.
        query: "ROW,COLUMN" of the grid, a token by number, "all", or "" for those that the score is read from.

    Raises:
        InputError: there is no such token.
    """
    count = at.windows * at.size[0]
    every, cells = np.arange(count), None if at.queries is None else at.queries.cells
    if query == "all":
        return every
    if query:
        return np.array([_token(query, count, at.queries)])
    read = job.places.memo(("readout", found[-1].tensor, job.target.key()), lambda: _read(job, found[-1]))
    if read is None or len(read) != count:
        read = np.ones(count, bool)
    tokens = every[read]
    how = "--query all, ROW,COLUMN or a token's number" if cells is not None else "--query all or a token's number"
    if len(tokens) == count:
        job.notes.append(f"query: the mean over all {count} tokens ({how})")
    elif cells is not None and np.isin(tokens, cells).all():
        job.notes.append(f"query: the mean over the {len(tokens)} tokens that the score is read from ({how})")
    else:
        kind = "class " if cells is not None or tokens[0] == 0 else ""
        which = ", ".join(map(str, tokens[:4])) + (", ..." if len(tokens) > 4 else "")
        what = f"the {kind}token" if len(tokens) == 1 else f"{kind}tokens"
        job.notes.append(f"query: {what} ({which}), which the score is read from behind the last attention ({how})")
    return tokens


def _read(job: Job, last: Attention) -> NDArray[np.bool_] | None:
    """The queries that the score is computed from, or at least what its elements are taken from."""
    try:
        model, read = scored(job.model, job.target, score=SCORE), [SCORE]
    except TargetError:  # none is needed to look at attention
        model, read = job.model, job.explained_tensors
    return attentions.readout(model, last, read, job.places)


def _token(query: str, count: int, grid: Grid | None) -> int:
    try:
        place = [int(part) for part in query.split(",")]
    except ValueError:
        place = []
    if len(place) == 1 and 0 <= place[0] < count:
        return place[0]
    sizes = grid.sizes if grid is not None else ()
    if grid is not None and len(place) == len(sizes) > 1 and all(0 <= i < n for i, n in zip(place, sizes, strict=True)):
        return int(grid.cells[np.ravel_multi_index(place, sizes)])
    where = f", or ROW,COLUMN of {structure.sizes(grid.sizes)}" if grid is not None else ""
    raise InputError(f"There is no token '{query}': give a number below {count}{where} (--query).")


def on_grid(rows: Array, grid: Grid | None) -> Array:
    """Numbers of tokens, (..., tokens), as maps (..., h, w) of the picture; as they are without a grid."""
    return rows if grid is None else grid.placed(rows[..., grid.cells].reshape(*rows.shape[:-1], *grid.sizes))


def chain(job: Job, start: int) -> list[Attention]:
    """The layers of a transformer that tokens run through from first to last, the same ones in all.

    Raises:
        LayerError: there is no attention, or its layers do not make up such a chain.
    """
    found = found_in(job)
    last = attentions.choose(found, "last")
    if not 0 <= start < len(found):
        raise LayerError(f"There are {len(found)} layers of attention, counted from 0: none is {start} (--start).")
    instead = "Look at the maps of a layer (attention), or explain a layer (gradcam)."
    for at in found:
        if at.windows > 1:
            raise LayerError(
                f"'{at.name}' attends within {at.windows} windows of the picture, each by itself, which rollout, a "
                f"product over all tokens, does not cover. {instead}"
            )
        if not at.itself:
            raise LayerError(
                f"'{at.name}' is cross attention: its {at.size[0]} queries and {at.size[1]} keys are different tokens, "
                f"so that layers cannot be multiplied. {instead}"
            )
        if at.size != last.size or at.keys != last.keys:
            raise LayerError(
                f"'{at.name}' has {at.size[0]} tokens, '{last.name}' {last.size[0]}: rollout follows the same tokens "
                f"through all layers. {instead}"
            )
    return found[start:]


def rolled(
    method: str,
    job: Job,
    start: int,
    query: str,
    relevance: Callable[[list[Attention], Job, int], Array],
    params: dict[str, Any],
) -> Attribution:
    """The result of a method that says how much each token counts for each, (tokens, tokens), a sample at a time.

    Args:
        method: its name.
        job: the job.
        start: the first layer that counts.
        query: see `asked`.
        relevance: (layers, job, sample) -> (tokens, tokens).
        params: for the record.
    """
    layers = chain(job, start)
    tokens = asked(job, layers[-1], layers, query)
    advance = job.progress(method, job.n) if job.progress is not None else lambda n: None
    rows = []
    for i in range(job.n):  # weights of all layers are large: one sample at a time
        rows.append(relevance(layers, job, i)[tokens].mean(axis=0))
        advance(1)
    values = on_grid(np.stack(rows).astype(np.float32), layers[-1].keys)
    return result(method, job, values, layers[-1].keys, {"start": start, "query": query, **params})


def result(method: str, job: Job, values: Array, grid: Grid | None, params: dict[str, Any]) -> Attribution:
    """Numbers of tokens as a result: those of a text belong to the input."""
    given = job.feeds[job.input.name]
    if grid is None and given.shape == values.shape:
        return job.attribution(method, {job.input.name: values}, job.clean, params=params)  # type: ignore[no-any-return]
    return job.attribution(method, values, job.clean, params=params)  # type: ignore[no-any-return]


def weights(at: Attention, values: Array) -> Array:
    """A tensor's values for one sample, (heads, tokens, tokens), in at least single precision."""
    found = at.weights(values, 1)[0, 0]
    return np.asarray(found, np.result_type(found, np.float32))
