"""Invariance: how far features and prediction move while the photo is shifted, scaled and turned."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from .. import charts, depth, image, layout
from ..errors import InputError, TargetError
from ..finding import Finding
from ..geometry import Box
from ..image import Edge, Picture
from ..methods.inputs import ModelLike
from ..naming import Layer
from ..surveys.survey import Over
from ..surveys.variants import Floats, Mean, Variants
from .registry import study

AXES = {
    "shift": "shift downwards, share of the height",
    "zoom": "scale",
    "turn": "rotation, degrees counterclockwise",
}
PROBABILITY = "probability"
ALONE = 6  # so many photos have a line each
TILES = 5  # of the example
TILE = 104


@study
def invariance(
    model: ModelLike,
    photos: Any,
    *,
    target: str | int = "top",
    layer: Sequence[str] = (),
    shift: float = 0.27,
    zoom: float = 1.8,
    turn: float = 350,
    steps: int = 15,
    edge: Edge = "grey",
    **how: Unpack[Over],
) -> Finding:
    """How far features and prediction move while the photo is shifted, scaled and turned.

    The photo itself is changed, before any preprocessing, about the middle of what the model sees of it: shifted up
    and down, scaled, and turned. Drawn against the change: the Euclidean distance between the features of the changed
    and of the untouched photo, |f(Tx) - f(x)| / |f(x)|, so that layers of any size compare; and the probability of the
    class. A row of line plots per layer (the first map and the features that the last layer decides upon) and one for
    the probability, a line per photo, or over more than six photos their mean with one standard deviation to both
    sides.

    Zeiler & Fergus, Visualizing and Understanding Convolutional Networks, ECCV 2014, section 4.2 and figure 5.

    Args:
        target: the class whose probability is drawn; top is what the model says of the untouched photo.
        layer: layers whose features are compared, by name; by default the first map and the last features.
        shift: the furthest shift up and down, as a share of the height that the model sees.
        zoom: the scale at the end of the range, which begins at 1.
        turn: the angle at the end of the range, which begins at 0, in degrees.
        steps: how many values of each; of the shift one more where that is even, so that 0 is among them.
        edge: what comes from outside the photo: grey, its mirror image (reflect), or its edge (repeat).

    Raises:
        InputError: a range that is none, or fewer than two steps.
        LayerError: no such layer.
        TargetError: no such class.
        PhotoError: no photo can be read.

    Example:
        >>> invariance("model.onnx", "photos/").save("invariance")
    """
    ranges = _ranges(shift, zoom, turn, steps)
    survey = Variants(model, photos, target, **how)
    layers = _layers(survey, layer)
    rows = [c.name for c in layers] + ([PROBABILITY] if survey.scores is not None else [])
    if survey.scores is None:
        survey.notes.append("the model has no class scores: only features are compared (MODEL)")
    kinds = [(kind, at) for kind, values in ranges.items() for at in values.tolist()]

    def work(i: int, photo: Picture) -> Floats:
        box = survey.preprocessing.geometry(photo.shape).box
        changed = [survey.sample(image.warp(photo, matrix(kind, at, box), edge)) for kind, at in kinds]
        return _moved(survey, [survey.sample(photo), *changed], layers)

    mean, alone, example = Mean(), dict[str, Floats](), 0
    for i, found in survey.one_by_one(work):
        mean.add(found)
        example = i if mean.n == 1 else example
        if len(alone) <= ALONE:
            alone[f"{survey.photos.stem(i)} ({i})" if survey.photos.stem(i) in alone else survey.photos.stem(i)] = found
    lines = alone if len(alone) <= ALONE else {}
    parts, start = {}, 0
    for kind, values in ranges.items():
        parts[kind] = slice(start, start + len(values))
        start += len(values)
    survey.notes.append(f"edges: what comes from outside the photo is {edge} (--edge)")
    return survey.finding(
        "invariance",
        {
            kind: {"at": [round(v, 6) for v in ranges[kind].tolist()]}
            | {
                row: {"mean": _rounded(mean.mean[r, part]), "deviation": _rounded(mean.deviation[r, part])}
                for r, row in enumerate(rows)
            }
            for kind, part in parts.items()
        },
        pictures={"": _picture(survey, ranges, parts, rows, mean, lines, example, edge)},
        lines=_lines(ranges, parts, rows, mean),
        params={
            "target": str(survey.target),
            "layer": [c.name for c in layers],
            "shift": shift,
            "zoom": zoom,
            "turn": turn,
            "steps": steps,
            "edge": edge,
        },
    )


def matrix(kind: str, at: float, box: Box) -> Floats:
    """A change of a photo about the middle of a box (x0, y0, x1, y1): (2, 3), as `image.warp` takes it.

    "shift" by a share of the box's height, downwards; "zoom" by a factor; "turn" counterclockwise by degrees.
    """
    x0, y0, x1, y1 = box
    middle = np.array([(x0 + x1) / 2, (y0 + y1) / 2])
    linear, move = np.eye(2), np.zeros(2)
    if kind == "shift":
        move = np.array([0, at * (y1 - y0)])
    elif kind == "zoom":
        linear = np.eye(2) * at
    else:
        cos, sin = math.cos(math.radians(at)), math.sin(math.radians(at))
        linear = np.array([[cos, sin], [-sin, cos]])  # y points down
    return np.column_stack([linear, middle - linear @ middle + move])


def _ranges(shift: float, zoom: float, turn: float, steps: int) -> dict[str, Floats]:
    if steps < 2:
        raise InputError(f"{steps} steps are no curve: give at least 2 (--steps).")
    if not 0 < shift <= 1:
        raise InputError(f"A shift of {shift:g} of the height leaves nothing, or all: above 0 and at most 1 (--shift).")
    if zoom <= 0 or zoom == 1:
        raise InputError(f"A scale from 1 to {zoom:g} is no range: give one above 0, other than 1 (--zoom).")
    if turn == 0:
        raise InputError("A turn of 0 degrees is no range: give another (--turn).")
    return {
        "shift": np.linspace(-shift, shift, steps + 1 - steps % 2),
        "zoom": np.linspace(1, zoom, steps),
        "turn": np.linspace(0, turn, steps),
    }


def _layers(survey: Variants, names: Sequence[str]) -> list[Layer]:
    if names:
        return list(dict.fromkeys(survey.model.layer(name) for name in names))
    score = survey.explained_tensor
    first, last = depth.along(survey.model, score)[0], depth.features(survey.model, score).layer
    survey.notes.append(
        f"layers: '{first.name}', the first map, and '{last.name}', what the last layer decides upon (--layer NAME)"
    )
    return list(dict.fromkeys([first, last]))


def _moved(survey: Variants, samples: Sequence[NDArray[Any]], layers: Sequence[Layer]) -> Floats:
    """Per layer the distance of each sample's features from the first's, and the probability: (rows, samples - 1)."""
    base: dict[str, NDArray[Any]] = {}
    distances: dict[str, list[float]] = {c.tensor: [] for c in layers}
    rows = []
    for _, found in survey.found(samples, [c.tensor for c in layers]):
        for c in layers:
            values = found[c.tensor].reshape(len(found[c.tensor]), -1).astype(np.float64)
            start = base.setdefault(c.tensor, values[0])
            size = float(np.linalg.norm(start)) or 1.0
            distances[c.tensor] += (np.linalg.norm(values - start, axis=1) / size).tolist()
        if survey.scores is not None:
            rows.append(survey.rows(found))
    result = [distances[c.tensor][1:] for c in layers]
    if rows:
        scores = np.concatenate([r for r in rows if r is not None])
        (index,) = survey.target.chosen(scores[:1])
        if index is None:
            raise TargetError(
                f"'{survey.target}' is no class, and the probability of one is drawn: name it (--target)."
            )
        result.append(survey.probabilities(scores)[1:, index].tolist())
    return np.array(result)


# How it is told.


def _picture(
    survey: Variants,
    ranges: Mapping[str, Floats],
    parts: Mapping[str, slice],
    rows: Sequence[str],
    mean: Mean,
    alone: Mapping[str, Floats],
    example: int,
    edge: Edge,
) -> Picture:
    draw: list[charts.Draw] = []
    for r, row in enumerate(rows):
        for kind, part in parts.items():
            over = f"mean of {mean.n} photos"
            series = {n: v[r, part].tolist() for n, v in alone.items()} or {over: mean.mean[r, part].tolist()}
            limits = (-0.02, 1.02) if row == PROBABILITY else None
            draw.append(
                charts.curves(
                    ranges[kind].tolist(),
                    series,
                    xlabel=AXES[kind],
                    ylabel=row if row == PROBABILITY else f"distance in {charts.shortened(row)}",
                    limits=limits,
                    spread={over: mean.deviation[r, part].tolist()},
                    legend=not draw,
                )
            )
    width = TILES * TILE + 40
    plots = charts.figure(draw, size=(width, 300), columns=len(parts))
    photo = survey.photos.read(example)
    geometry = survey.preprocessing.geometry(photo.shape)
    strips = []
    for kind, values in ranges.items():
        shown = values[np.unique(np.linspace(0, len(values) - 1, TILES).round().astype(int))].tolist()
        changed = [image.warp(photo, matrix(kind, at, geometry.box), edge) for at in shown]
        tiles = [survey.preprocessing.inverse(survey.sample(picture)) for picture in changed]
        strip = layout.grid([layout.fit(t, TILE - 4, TILE - 4) for t in tiles], TILES, [f"{at:.3g}" for at in shown])
        strips.append(layout.pad(strip, strip.shape[0], width, centre=True))
    over = "" if alone else f"; mean of {mean.n} photos, with one standard deviation"
    title = f"{survey.model.source.name}: '{survey.photos.stem(example)}' shifted, scaled and turned{over}"
    return layout.frame(layout.titled(layout.column([layout.row(strips, 0), plots], 8), title, 18), 10)


def _lines(ranges: Mapping[str, Floats], parts: Mapping[str, slice], rows: Sequence[str], mean: Mean) -> list[str]:
    width = max(map(len, rows))
    found = [f"means over {mean.n} photos; distances are shares of the length of the untouched photo's features"]
    for kind, part in parts.items():
        for r, row in enumerate(rows):
            values = mean.mean[r, part]
            k = int(values.argmin() if row == PROBABILITY else values.argmax())
            what = "falls to" if row == PROBABILITY else "moves up to"
            found.append(f"{kind:5s}  {row:{width}s}  {what} {values[k]:.3f}, at {ranges[kind][k]:.3g}")
    return found


def _rounded(values: Floats) -> list[float | None]:
    return [round(v, 6) if np.isfinite(v) else None for v in values.tolist()]
