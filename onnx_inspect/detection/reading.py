"""Reading a `Head` off the graph: which columns are what, and the cell of the map that a candidate belongs to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import TargetError
from ..labels import Labels
from ..structure import sizes
from .formats import Stated
from .frontier import Raw, raw, rows
from .head import Head
from .lineage import Elements, Lineage
from .telling import HeadError

Array = NDArray[Any]


def read(lineage: Lineage, size: tuple[int, int], stated: Stated, labels: Labels) -> Head:
    """The head as far as the graph tells; what values tell is settled by `settle`.

    Args:
        lineage: of the model.
        size: height and width of its picture.
        stated: what a user says.
        labels: class names.

    Raises:
        TargetError: there is no head that can be read.
    """
    found = raw(lineage.model, lineage, stated)
    cells = _cells(lineage, found, size, stated)
    plain, scores = (_oriented(lineage, found, how) for how in ("plain", "logits"))
    if found.boxes is found.scores:
        end, at, own = _columns(lineage, found, stated, labels)
        boxes = _part(plain[0], slice(0, end))
        objectness = None if at is None else _part(scores[0], slice(at, at + 1))
        return Head(
            found, boxes, _factors(scores[0], end, at), _factors(plain[0], end, at), objectness, cells, size, own
        )
    boxes = _oriented(lineage, found, "boxes")[0]
    same = [bool((e.numbers == e.numbers[:, :1]).all()) for e in scores]  # as objectness is for all classes
    scores = [e for _, e in sorted(zip(same, scores, strict=True), key=lambda pair: pair[0])]
    objectness = _part(scores[-1], slice(0, 1)) if len(scores) > 1 and any(same) else None
    return Head(found, boxes, tuple(scores), tuple(plain), objectness, cells, size, stated)


def _oriented(lineage: Lineage, found: Raw, what: str) -> list[Elements]:
    """Elements of the boxes or scores as (A, K)."""
    value = found.boxes if what == "boxes" else found.scores
    shape = rows(lineage.sample(value), found.count(lineage))
    if shape is None:
        what = f"'{value.name}' has shape {sizes(lineage.shape(value))}, which is no list of candidates"
        raise HeadError(what, "state other tensors")
    return [_table(e, shape) for e in lineage.of(value, steps_over=what == "logits", deep=what == "deep")]


def _table(e: Elements, shape: tuple[int, int, bool]) -> Elements:
    """Elements with a row per candidate."""
    count, width, first = shape
    numbers = e.numbers.reshape(count, width) if first else e.numbers.reshape(width, count).T
    return replace(e, numbers=numbers)


def _part(e: Elements, columns: slice) -> Elements:
    return e.part(e.numbers[:, columns])


def _factors(e: Elements, end: int, objectness: int | None) -> tuple[Elements, ...]:
    """The class scores behind the numbers of a box; and objectness, once for every class."""
    if objectness is None:
        return (_part(e, slice(end, None)),)
    classes = _part(e, slice(end + 1, None))
    column = e.numbers[:, objectness : objectness + 1]
    return classes, e.part(np.repeat(column, classes.numbers.shape[1], axis=1))


def _columns(lineage: Lineage, found: Raw, stated: Stated, labels: Labels) -> tuple[int, int | None, Stated]:
    """Of a table of both: where the numbers of a box end, the column of objectness, and what that says."""
    deep = _oriented(lineage, found, "deep")[0]
    groups = deep.leaf(deep.numbers[0])
    changes = [i for i in range(1, len(groups)) if groups[i] != groups[i - 1]]
    first = changes[0] if changes else 0
    if stated.format == "dfl" or (not stated.format and first >= 8 and first % 4 == 0 and len(changes) == 1):
        if first < 8 or first % 4:
            raise TargetError("Where the distributions of distances end is not to be seen: state another format.")
        return first, None, replace(stated, format="dfl", objectness="no")
    width, known = deep.numbers.shape[1], len(labels.names)
    if stated.objectness:
        own = stated.objectness == "yes"
    elif known in (width - 4, width - 5):
        own = known == width - 5
    elif 5 in changes or 4 in changes:
        own = 5 in changes
    else:
        own = bool((rows(lineage.sample(found.scores)) or (0, 0, True))[2])
    return 4, 4 if own else None, replace(stated, objectness="yes" if own else "no")


def _cells(lineage: Lineage, found: Raw, size: tuple[int, int], stated: Stated) -> Array | None:
    """The cell of the map that each candidate's class score comes from: (A, 6), see `formats.corners`."""
    e = _oriented(lineage, found, "deep")[0]
    numbers = e.numbers[:, -1]
    cells = np.zeros((len(numbers), 6))
    which = e.leaf(numbers)
    for i, leaf in enumerate(e.leaves):
        if not (mine := which == i).any():
            continue
        letters = lineage.model.layouts.get(lineage.model.values[leaf.tensor], "")
        if "H" not in letters or "W" not in letters or len(letters) != len(leaf.shape) + 1:
            return None
        index = np.unravel_index(numbers[mine] - e.starts[i], leaf.shape)
        place = {k: index[letters.index(k) - 1] for k in "HW"}
        down, across = (size[j] / leaf.shape[letters.index(k) - 1] for j, k in enumerate("HW"))
        cells[mine, 0], cells[mine, 1] = (place["W"] + 0.5) * across, (place["H"] + 0.5) * down
        cells[mine, 2], cells[mine, 3] = across, down
    if stated.anchors:
        cells[:, 4:] = _anchors(stated.anchors, cells)
    return cells


def _anchors(text: str, cells: Array) -> Array:
    """The anchor of each candidate: as many for every map, those of the finest first."""
    try:
        sides = np.array([[float(s) for s in one.split("x")] for one in text.split()]).reshape(-1, 2)
    except ValueError:
        raise TargetError(f"'anchors={text}' is no list of WIDTHxHEIGHT, with blanks between.") from None
    maps = np.unique(cells[:, 2])
    if len(sides) % len(maps):
        raise TargetError(f"{len(sides)} anchors cannot be shared out to {len(maps)} maps: give as many for each.")
    found = np.zeros((len(cells), 2))
    for own, stride in zip(np.split(sides, len(maps)), maps, strict=True):
        mine = np.flatnonzero(cells[:, 2] == stride)
        places, turn = np.unique(cells[mine, :2], axis=0, return_inverse=True)
        seen = np.zeros(len(places), int)
        for row, place in zip(mine, np.ravel(turn), strict=True):  # the k-th candidate of a cell has the k-th anchor
            if seen[place] >= len(own):
                raise TargetError(f"A cell has more candidates than the {len(own)} anchors stated for its map.")
            found[row] = own[seen[place]]
            seen[place] += 1
    return found
