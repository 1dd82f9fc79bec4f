"""Finding a detector's head: what the graph tells, and what the values for the samples do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from . import formats, proposals
from .formats import Stated
from .frontier import activation_behind, selections
from .head import Head
from .lineage import Lineage
from .reading import read
from .telling import HeadError, way

if TYPE_CHECKING:
    from ..asks import Samples
    from ..model import Model

Array = NDArray[Any]
_SURE = 20  # candidates that formats are told from, at least


def find(samples: Samples, stated: Stated | None = None, *, listing: bool = False) -> tuple[Head, dict[str, Array]]:
    """The head of a detector, and the values of its tensors for the samples; what was inferred becomes a note.

    Args:
        samples: the samples.
        stated: what is said of the detector.
        listing: notes and errors are for those who list boxes, and have no target.

    Raises:
        HeadError: the model ends in no candidates that can be read.
    """
    try:
        return _find(samples, stated or Stated(), listing)
    except HeadError as error:
        raise (error.listed if listing else error) from None


def _find(samples: Samples, stated: Stated, listing: bool) -> tuple[Head, dict[str, Array]]:
    batch = samples.input.shape[0] if samples.input.shape else 1
    batch = batch if isinstance(batch, int) else 1  # as many as the file insists on
    one = {name: value.shape for name, value in samples.copies(0, batch).items()}
    letters = samples.input.layout or ""
    if not {"H", "W"} <= set(letters):
        raise HeadError("Boxes are found in pictures, and this model takes none", elements="OUTPUT[3]")
    height, width = (one[samples.input.name][letters.index(k)] for k in "HW")
    seen = proposals.seen(samples)

    def build() -> Head:
        return read(Lineage(samples.model, one, batch, seen), (height, width), stated, samples.labels)

    key = ("detector", stated, tuple(one.items()), batch, len(samples.labels.names))
    head = build() if seen else samples.model.memo(key, build)  # with proposals each photo has a head of its own
    if not seen and (inside := [n for n in selections(samples.model.ir.graph, inside=True) if n.op_type == "TopK"]):
        samples.notes.append(
            f"'{inside[0].outputs[0].name}' chooses candidates inside of the network, anew for every changed photo, "
            "where the same number may be another thing: of methods that change it, only drise looks for the same one"
        )
    found = samples.forward(head.tensors)
    return settle(head, found, samples, listing=listing), found


def settle(head: Head, found: Mapping[str, Array], samples: Samples, *, listing: bool = False) -> Head:
    """What values tell: the activation of the scores, the background, names, and how boxes are written."""
    head = _classes(head, found, samples)
    factors = head.factors(found)
    sure = np.prod(factors, axis=0)
    if head.background is not None:
        sure[..., head.background] = 0
    sure, t = sure.max(axis=-1), head.boxes.values(found)
    order = np.argsort(-sure, axis=1, kind="stable")[:, : max(_SURE, sure.shape[1] // 20)]
    weights = np.take_along_axis(sure, order, axis=1).ravel()
    rows = np.take_along_axis(t, order[..., None], axis=1).reshape(-1, t.shape[-1])
    cells, every = (None, sure) if head.cells is None else (head.cells[order].reshape(-1, 6), head.cells)
    form, unit = formats.likely(
        rows, weights, cells, every, head.size, head.stated.format or head.raw.corners, head.stated.unit
    )
    if form in formats.RAW and cells is None:
        raise HeadError(
            f"Boxes of the format {form} need the cells of a map, and the scores come from none",
            "state another format",
            "format=cxcywh",
        )
    if form == "yolov5" and not head.stated.anchors:
        what = f"The boxes of '{head.raw.boxes.name}' look like those of YOLOv5's raw head, in units of anchors"
        raise HeadError(
            f"{what}, which are not in the file",
            "state them",
            "format=yolov5,anchors=10x13 16x30 33x23",
            elements=f"\"'{head.raw.scores.name}'[0, 4]\"",
        )
    head = replace(head, stated=replace(head.stated, format=form, unit=unit))
    _tell(head, samples.notes, listing)
    return head


def _classes(head: Head, found: Mapping[str, Array], samples: Samples) -> Head:
    """The activation that is still to come, the background, and names."""
    own, labels = head.stated, samples.labels
    activations = tuple(_activation(head, i, found, samples.model) for i in range(len(head.scores)))
    head = replace(head, stated=replace(own, activation=activations[0]), activations=activations)
    count = head.scores[0].numbers.shape[1]
    if not own.background:
        p = head.factors(found)[0]
        shared = count > 1 and len(activations) == 1 and bool(np.allclose(p.sum(axis=-1), 1, atol=1e-3))
        first, *_, last = p.mean(axis=(0, 1)) if shared else (0, 0)
        background = "none" if not shared else "first" if first >= last else "last"  # most candidates are nothing
        head = replace(head, stated=replace(head.stated, background=background))
    names, empty = labels.names, ("background",)
    if head.background is not None and len(names) == count - 1:
        names = (*empty, *names) if head.background == 0 else (*names, *empty)
    if names and len(names) != count:
        samples.notes.append(f"{len(names)} class names for {count} classes, so none is used (--labels FILE)")
        names = ()
    named = replace(labels, names=names) if names else None
    return replace(head, names=tuple(named.name(i) for i in range(count)) if named else ())


def _activation(head: Head, i: int, found: Mapping[str, Array], model: Model) -> str:
    """What makes probabilities of a factor: in the graph, stated, or by its values; "none" if they are some."""
    said, known = head.stated.activation, head.scores[i].leaves[0].activation
    if known or (said and (i == 0 or said != "softmax")):
        return known or said
    values = head.plain[i].values(found)
    if values.min() >= -1e-6 and values.max() <= 1 + 1e-6:
        return "none"
    if not i and (behind := activation_behind(model, head.raw.scores)):
        return behind
    # Queries share out their probability where "nothing" is a class of its own: the one that most of them mean.
    most = np.bincount(values.argmax(axis=-1).ravel(), minlength=values.shape[-1])
    nothing = len(most) > 1 and 2 * max(most[0], most[-1]) >= most.sum()
    return "softmax" if nothing and not i and head.cells is None else "sigmoid"


def _tell(head: Head, notes: list[str], listing: bool) -> None:
    """What was inferred, as it can be stated otherwise."""
    own, one = head.stated, head.raw.boxes is head.raw.scores
    where = f"'{head.raw.boxes.name}'" if one else f"'{head.raw.boxes.name}' and '{head.raw.scores.name}'"
    count, classes = head.scores[0].numbers.shape
    inside = head.scores[0].leaves[0].activation is not None
    given = replace(
        own,
        activation="" if inside else own.activation,
        boxes="",
        scores="",
        objectness="yes" if head.objectness is not None else "no",
    )
    told = ",".join([str(given), *(f"{k}={getattr(own, k):g}" for k in ("threshold", "iou") if k not in str(given))])
    notes.append(
        f"detector: {where} read as {count} candidates of {classes} classes ({way(told, listing)} says otherwise)"
    )
