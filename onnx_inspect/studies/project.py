"""Projection: a map of photos, on which those that a network takes for alike lie together."""

from __future__ import annotations

from collections import Counter
from typing import Any, Literal, Unpack

import numpy as np
from numpy.typing import NDArray

from .. import charts, layout
from ..errors import InputError
from ..finding import Finding
from ..image import Picture
from ..methods.inputs import ModelLike
from . import atlas
from .embedding import Embedding, embedded
from .nearest import nearest
from .registry import study
from .survey import Over

_DIRECTIONS = 50  # t-SNE works on that many, as van der Maaten & Hinton's did on 30
_TSNE = 50_000  # photos: more take hours
_PCA = 200_000
_IN_MEMORY = 5 * 10**7  # numbers: more go through PCA in parts
_PART = 4096
_MEASURED = 3000  # photos: trustworthiness takes the square of that
_K = 5
_SIZE = (1150, 950)


@study
def project(
    model: ModelLike,
    photos: Any,
    *,
    method: Literal["tsne", "pca"] = "tsne",
    layer: str = "auto",
    perplexity: float = 30.0,
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
        perplexity: of t-SNE, about how many neighbours count; at most a third of the photos.
        thumbnails: how many photos the HTML page holds; 4 kB each.
        seed: for what is random in t-SNE and in what is shown.
        how: see `Over`.

    Raises:
        InputError: too few photos, or too many for the method.

    Example:
        >>> project("squeezenet.onnx", "holidays", method="pca").save("holidays.png")
    """
    found = embedded(model, photos, layer, how)
    notes = _check(len(found), method, perplexity)
    points, params, more = _pca(found) if method == "pca" else _tsne(found, perplexity, seed)
    classes = found.classes
    measures, measured = _measures(found, points, classes, seed)
    kind = "label" if found.labelled else "prediction"
    members = Counter(c for c in classes if c is not None)
    values = {
        "photos": len(found),
        "classes_from": kind if members else None,
        "classes": dict(members.most_common()),
        **measures,
        "points": [
            {"path": found.name(i), "label": found.labels[i], "prediction": found.predictions[i], "x": x, "y": y}
            for i, (x, y) in enumerate(np.round(points, 4).tolist())
        ],
    }
    name = {"tsne": "t-SNE", "pca": "PCA"}[method]
    title = f"{name} of {len(found)} photos in the features of {found.layer}"
    spread = np.random.default_rng(seed).permutation(len(found))
    held = sorted(spread[:thumbnails].tolist())
    if len(held) < len(found):
        notes.append(f"the HTML page shows all points, and photos of {len(held)} of them (--thumbnails)")
    page = atlas.page(title, points, classes, kind, [found.name(i) for i in range(len(found))], held, found.picture)
    axes = ["", ""]
    if method == "pca":
        axes = [f"component {i + 1}: {100 * s:.1f} % of the variance" for i, s in enumerate(measures["explained"])]
    picture = _draw(found, points, classes, title, axes, spread)
    return found.finding(
        "project",
        values,
        pictures={"": picture},
        arrays={"points": points},
        texts={".html": page},
        lines=_lines(values, name),
        params={"method": method, "layer": found.layer, "seed": seed, "thumbnails": thumbnails, **params},
        notes=[*notes, *more, *measured],
    )
