"""Projection: a map of photos, on which those that a network takes for alike lie together."""

from __future__ import annotations

from collections import Counter
from typing import Any, Literal, Unpack

import numpy as np
from numpy.typing import NDArray

from .. import charts, layout
from ..errors import InputError
from ..features import atlas, plane
from ..features.embedding import Embedding, embedded
from ..finding import Finding
from ..image import Picture
from ..methods.inputs import ModelLike
from ..surveys.survey import Over
from .registry import study

_NAME = {"tsne": "t-SNE", "pca": "PCA"}
_MOST = {"tsne": 30_000, "pca": 200_000}
_ON_PAGE = 20_000
_THUMBNAILS = 10_000
_COLOURS = 18  # that can be told apart
_SIZE = (1200, 900)
_FEW = 200  # photos whose thumbnails are large


@study
def project(
    model: ModelLike,
    photos: Any,
    *,
    method: Literal["tsne", "pca"] = "tsne",
    layer: str = "auto",
    perplexity: float = 0.0,
    thumbnails: int = 1000,
    seed: int = 0,
    **how: Unpack[Over],
) -> Finding:
    """A map of the photos: those that the network takes for alike lie together.

    Features, by default those that the last layer with weights decides upon, are brought to two dimensions by t-SNE
    (van der Maaten & Hinton 2008; of more than 50 features the 50 principal components) or by PCA. t-SNE keeps
    neighbourhoods, not distances: how far two clusters are apart, and how large they are, means little.

    The picture is a scatter plot, coloured by label, or by prediction where there are no labels, with some photos. An
    HTML page of the same, which needs nothing else, can be moved and zoomed, shows a photo where the pointer is, and
    shows and hides classes.

    Measured are the share of photos whose class most of their 5 nearest others have, on the map and among the features
    (leave-one-out), and trustworthiness, how far neighbours on the map are neighbours among the features (Venna &
    Kaski 2001), which is 1 at the best.

    Args:
        model: a model, or what `load` takes.
        photos: photos, or the folder that embed wrote.
        method: "tsne" or "pca".
        layer: the layer whose features are shown, "auto" for what the last layer with weights decides upon.
        perplexity: of t-SNE, about how many neighbours count, at most a third of the photos; 0 for a tenth of them, but
            5 to 30.
        thumbnails: how many photos the HTML page holds; 4 kB each.
        seed: for what is random in t-SNE and in what is shown.
        how: see `Over`.

    Raises:
        InputError: too few photos, or too many for the method.

    Example:
        >>> project("squeezenet.onnx", "holidays", method="pca").save("holidays.png")
    """
    if not 0 <= thumbnails <= _THUMBNAILS:
        raise InputError(f"A page holds 0 to {_THUMBNAILS} photos, not {thumbnails} (--thumbnails).")
    found = embedded(model, photos, layer, how)
    count, kind = len(found), "label" if found.labelled else "prediction"
    if not 4 <= count <= _MOST[method]:
        hint = ", or --method pca" if method == "tsne" and count > 4 else ""
        raise InputError(
            f"A {_NAME[method]} map is made of 4 to {_MOST[method]} photos, not {count}: name others{hint}."
        )
    notes: list[str] = []
    params: dict[str, Any] = {"method": method, "layer": found.layer, "seed": seed, "thumbnails": thumbnails}
    values: dict[str, Any] = {"photos": count}
    if method == "pca":
        points, share = plane.principal(found.vectors, 2)
        axes = [f"component {i + 1}: {100 * s:.1f} % of the variance" for i, s in enumerate(share)]
        values["explained_variance"] = share.tolist()
    else:
        points, axes = _tsne(found, perplexity, seed, params, notes), ["", ""]
    order = np.random.default_rng(seed).permutation(count)
    values |= {"classes_from": kind, **_measured(found, points, order, notes)}
    title = f"{_NAME[method]} of {count} photos in the features of {found.layer}"
    colours = _colours(found.classes.counts(), notes)
    return found.finding(
        "project",
        values | {"points": [_record(found, i, xy) for i, xy in enumerate(points[:_ON_PAGE].tolist())]},
        pictures={"": _draw(found, points, colours, title, axes, order)},
        arrays={"points": points},
        texts={".html": _page(found, points, colours, title, order, thumbnails, notes)},
        lines=_lines(values),
        params=params,
        notes=notes,
    )


def _tsne(
    found: Embedding, perplexity: float, seed: int, params: dict[str, Any], notes: list[str]
) -> NDArray[np.float32]:
    vectors, share = plane.principal(found.vectors, plane.DIRECTIONS)
    if found.vectors.shape[1] > plane.DIRECTIONS:
        notes.append(
            f"t-SNE works on the first {plane.DIRECTIONS} principal components, which hold "
            f"{100 * share.sum():.1f} % of the variance (--method pca)"
        )
    if perplexity < 0:
        raise InputError(f"A perplexity of {perplexity:g} is impossible: it has to be above 0 (--perplexity).")
    fits = min(perplexity or min(max(5, len(found) / 10), 30), (len(found) - 1) / 3)
    if fits != perplexity:
        notes.append(f"perplexity {fits:.3g}, for {len(found)} photos (--perplexity)")
    params["perplexity"] = fits
    return plane.tsne(vectors, fits, seed)


def _measured(
    found: Embedding, points: NDArray[np.float32], order: NDArray[np.int64], notes: list[str]
) -> dict[str, Any]:
    """How well the classes are apart, on the map and among the features, and whether the map can be trusted."""
    some = np.sort(order[: plane.MEASURED])
    if len(some) < len(found):
        notes.append(f"the map is measured by {len(some)} photos, drawn at random (--seed)")
    return {
        "knn_accuracy": plane.accuracy(points, found.classes, some),
        "knn_accuracy_features": plane.accuracy(found.vectors, found.classes, some),
        "trustworthiness": plane.trust(found.vectors[some], points[some]),
        "measured": len(some),
        "k": plane.K,
    }


def _record(found: Embedding, i: int, xy: list[float]) -> dict[str, Any]:
    return {"path": found.name(i), "label": found.labels[i], "prediction": found.predictions[i], "x": xy[0], "y": xy[1]}


def _lines(values: dict[str, Any]) -> list[str]:
    lines = []
    if values["knn_accuracy"] is not None:
        lines.append(
            f"{values['classes_from']} as that of most of the {values['k']} nearest on the map: "
            f"{values['knn_accuracy']:.3f} (among the features: {values['knn_accuracy_features']:.3f})"
        )
    lines.append(f"trustworthiness of neighbours on the map: {values['trustworthiness']:.3f}")
    if "explained_variance" in values:
        lines.append(f"variance on the map: {100 * sum(values['explained_variance']):.1f} %")
    return lines


def _colours(members: Counter[str], notes: list[str]) -> dict[str, str]:
    """Colours for the classes, or for the largest, in the order of their names."""
    if len(members) > _COLOURS:
        notes.append(f"the {_COLOURS} largest of {len(members)} classes have colours, others are grey (PHOTO)")
    return {c: charts.colour(i) for i, c in enumerate(sorted(c for c, _ in members.most_common(_COLOURS)))}


def _page(
    found: Embedding,
    points: NDArray[np.float32],
    colours: dict[str, str],
    title: str,
    order: NDArray[np.int64],
    thumbnails: int,
    notes: list[str],
) -> str:
    """The HTML page: all points, or some of very many, and photos of some of them."""
    some = np.sort(order[:_ON_PAGE])
    if len(some) < len(found):
        notes.append(f"the HTML page shows {len(some)} of {len(found)} photos, drawn at random (--seed)")
    held = np.sort(np.argsort(order)[some].argsort()[:thumbnails])
    if len(held) < len(some):
        notes.append(f"the HTML page holds thumbnails of {len(held)} photos, the others are points (--thumbnails)")
    return atlas.page(
        title,
        points[some],
        [found.classes[i] for i in some],
        "label" if found.labelled else "prediction",
        colours,
        [found.name(i) for i in some],
        held.tolist(),
        lambda k: found.picture(int(some[k])),
        [found.predictions[i] for i in some] if found.labelled else (),
    )


def _draw(
    found: Embedding,
    points: NDArray[np.float32],
    colours: dict[str, str],
    title: str,
    axes: list[str],
    order: NDArray[np.int64],
) -> Picture:
    """The scatter plot, with as many photos as lie side by side."""
    low, high = points.min(axis=0), points.max(axis=0)
    room = np.array(_SIZE) * (0.75, 0.85) / np.maximum(high - low, 1e-9)  # pixels per unit: roughly, beside a legend
    side = 44 if len(points) <= _FEW else 34
    taken: dict[int, Picture] = {}
    for i in order.tolist():
        if len(taken) == 150:
            break
        if all(np.abs((points[i] - points[j]) * room).max() > 1.7 * side for j in taken):
            taken[i] = layout.fit(found.picture(i), side, side)
    groups = [c if c in colours else None for c in found.classes]
    return charts.figure([charts.points(points, groups, taken, title=title, xlabel=axes[0], ylabel=axes[1])], _SIZE)
