"""Linear probes: what a linear classifier can read off each layer."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, Unpack

import numpy as np
from numpy.typing import NDArray

from .. import charts, depth, image
from ..amounts import told
from ..errors import InputError
from ..finding import Finding
from ..image import Picture
from ..maps import channels_first
from ..methods.inputs import ModelLike
from ..naming import Layer
from ..surveys.survey import Over, Seen, Survey
from .registry import study

Pool = Literal["mean", "grid"]

_GRID = 2048  # features of a map at the most, as a grid of means
_STEPS = 1000  # of a fit at the most


@study
def probe(
    model: ModelLike,
    photos: Any,
    *,
    layers: Sequence[str] = (),
    folds: int = 5,
    pool: Pool = "mean",
    seed: int = 0,
    **how: Unpack[Over],
) -> Finding:
    """How well a linear classifier on each layer tells the classes of your photos.

    Zeiler & Fergus (2014, section 5.3) and Alain & Bengio (2016): the network stays as it is, and a logistic regression
    (scikit-learn, C = 1) learns the labels from a layer's features, standardised. What it gets right on photos that it
    has not seen says how much of the classes the layer has laid open; the classes need not be the network's own. Folds
    are stratified, and standardisation learns from the same photos as the classifier.

    Maps are averaged over positions, or with `pool` "grid" over the cells of the finest square grid, at most 6 x 6,
    that has no more than 2048 features: early layers know where, which a mean forgets.

    Labels come from folders (one per class) or a list. A class needs two photos; where the smallest has fewer than
    `folds`, there are fewer folds. Chance is the share of the largest class.

    Args:
        model: a model, or what `load` takes.
        photos: photos with labels: a folder of folders, or a list with a column for labels.
        layers: names of layers or patterns with *; none for some from the first to the last.
        folds: of the cross-validation.
        pool: what a map gives: "mean" for a number per channel, "grid" for a few.
        seed: for the folds.
        how: see `Over`.

    Raises:
        InputError: labels are missing, there is only one class, or the features take more memory than there is.
        LayerError: no such layer.

    Example:
        >>> probe("resnet18.onnx", "flowers").values["layers"]
    """
    survey = Survey(model, photos, **how)
    classes = _classes(survey)
    if folds < 2:
        raise InputError(f"{folds} folds leave nothing to test on: give at least 2 (--folds).")
    chosen = _layers(survey, layers)
    which, features = _collect(survey, chosen, pool, set(classes))
    labels = np.array([survey.photos.label(i) for i in which.tolist()])
    which, labels, folds, features = _enough(survey, which, labels, folds, features)
    names, y = np.unique(labels, return_inverse=True)
    chance = np.bincount(y).max() / len(y)
    advance = survey.progress("probes", len(chosen) * folds) if survey.progress is not None else lambda n: None
    rows, unsettled = [], 0
    for layer, found in zip(chosen, features, strict=True):
        scores, failed = _validate(found, y, folds, seed, advance)
        unsettled += failed
        rows.append(
            {
                "layer": layer.name,
                "op_type": layer.op_type,
                "features": found.shape[1],
                "accuracy": float(np.mean(scores)),
                "std": float(np.std(scores)),
                "folds": scores,
            }
        )
    if unsettled:
        survey.notes.append(
            f"{unsettled} fits had not settled after {_STEPS} steps: their accuracy is a bit low (--layers)"
        )
    members = Counter(labels.tolist())
    values = {"photos": len(y), "classes": dict(sorted(members.items())), "chance": chance, "layers": rows}
    return survey.finding(
        "probe",
        values,
        pictures={"": _draw(rows, chance, f"{len(y)} photos of {len(names)} classes, {folds} folds")},
        lines=_lines(rows, chance),
        params={"layers": [c.name for c in chosen], "folds": folds, "pool": pool, "seed": seed, "C": 1.0},
    )


def _classes(survey: Survey) -> list[str]:
    classes = survey.photos.classes
    if len(classes) < 2:
        raise InputError(
            f"A probe needs photos of at least 2 classes, and there {'is 1' if classes else 'are no labels'}: put "
            "photos into a folder per class and name the folder above, or name a list with a column for labels."
        )
    return classes


def _layers(survey: Survey, names: Sequence[str]) -> list[Layer]:
    if not names:
        chosen = depth.along(survey.model, survey.explained_tensor)
        survey.notes.append(
            f"layers: {len(chosen)} that every path to the score runs through, evenly spread (--layers NAME)"
        )
        return chosen
    given = [c for name in names for c in survey.model.find_layers(name)]
    order = {c.tensor: i for i, c in enumerate(survey.model.layers)}
    return sorted(dict.fromkeys(given), key=lambda c: order[c.tensor])


def _collect(
    survey: Survey, layers: list[Layer], pool: Pool, classes: set[str]
) -> tuple[NDArray[np.int64], list[NDArray[np.float32]]]:
    """The features of all layers, in one pass: numbers of photos, and (N, C) per layer."""
    which: list[int] = []
    features: list[NDArray[np.float32]] = []
    for seen, rows in survey.run([c.tensor for c in layers], partial(_reduced, survey, layers, pool)):
        if not features:
            width = sum(r.shape[1] for r in rows)
            if (size := 8 * width * len(survey.photos)) > survey.engine.max_memory:  # twice: to standardise them
                raise InputError(
                    f"{width} features of {len(survey.photos)} photos take {told(size)}, more than the "
                    f"{told(survey.engine.max_memory)} allowed: name fewer layers (--layers) or photos."
                )
            features = [np.empty((len(survey.photos), r.shape[1]), np.float32) for r in rows]
        for store, found in zip(features, rows, strict=True):
            store[len(which) : len(which) + len(seen)] = found
        which += seen
    if not which:
        raise survey.photos.illegible(survey.skipped)
    return np.array(which), [store[: len(which)] for store in features]


def _reduced(
    survey: Survey, layers: list[Layer], pool: Pool, seen: Seen
) -> tuple[list[int], list[NDArray[np.float32]]]:
    take = grid if pool == "grid" else depth.pooled
    return seen.which, [take(seen.found[c.tensor], survey.layout(c.tensor)) for c in layers]


def grid(values: NDArray[Any], layout: str | None) -> NDArray[np.float32]:
    """Means over the cells of the finest grid with at most 6 x 6 cells and 2048 features; else as `depth.pooled`."""
    if layout is None or sorted(layout) != sorted("NCHW") or values.ndim != 4:
        return depth.pooled(values, layout)
    maps = channels_first(values, layout)
    cells = min(6, int((_GRID / maps.shape[1]) ** 0.5), *maps.shape[2:])
    if cells < 2:
        return depth.pooled(values, layout)
    small = [image.resize(np.moveaxis(m, 0, -1).astype(np.float32), (cells, cells), "area") for m in maps]
    return np.stack(small).reshape(len(values), -1).astype(np.float32)


def _enough(
    survey: Survey,
    which: NDArray[np.int64],
    labels: NDArray[Any],
    folds: int,
    features: list[NDArray[np.float32]],
) -> tuple[NDArray[np.int64], NDArray[Any], int, list[NDArray[np.float32]]]:
    """Without photos that have no label or are alone in their class, and no more folds than a class has photos."""
    members = Counter(labels.tolist())
    keep = np.array([c is not None and members[c] > 1 for c in labels.tolist()])
    none, alone = members.pop(None, 0), sorted(c for c, n in members.items() if n == 1)
    if none:
        survey.notes.append(f"{none} photos have no label and were left out (PHOTO)")
    if alone:
        survey.notes.append(f"classes of a single photo were left out: {', '.join(alone[:5])} (PHOTO)")
    left = [n for n in members.values() if n > 1]
    if len(left) < 2:
        raise InputError("A probe needs at least 2 classes of 2 photos or more that can be read: name more photos.")
    if min(left) < folds:
        survey.notes.append(f"{min(left)} folds instead of {folds}: the smallest class has no more photos (--folds)")
    return which[keep], labels[keep].astype(str), min(folds, *left), [found[keep] for found in features]


def _validate(
    features: NDArray[np.float32], y: NDArray[Any], folds: int, seed: int, advance: Callable[[int], None]
) -> tuple[list[float], int]:
    """The accuracy on each fold, and how many fits did not settle."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    scores, failed = [], 0
    for train, test in StratifiedKFold(folds, shuffle=True, random_state=seed).split(features, y):
        classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=_STEPS))
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always", ConvergenceWarning)
            classifier.fit(features[train], y[train])
        failed += any(issubclass(w.category, ConvergenceWarning) for w in said)
        scores.append(float(classifier.score(features[test], y[test])))
        advance(1)
    return scores, failed


def _lines(rows: list[dict[str, Any]], chance: float) -> list[str]:
    width = max(len(row["layer"]) for row in rows)
    best = max(rows, key=lambda row: row["accuracy"])
    return [
        *(
            f"{row['layer']:{width}}  {row['accuracy']:.3f} ± {row['std']:.3f}  ({row['features']} features)"
            for row in rows
        ),
        f"best: {best['layer']}; chance {chance:.3f}",
    ]


def _draw(rows: list[dict[str, Any]], chance: float, title: str) -> Picture:
    """Accuracy over depth, with a standard deviation on both sides."""
    draw = charts.curves(
        range(len(rows)),
        {
            "accuracy ± deviation": [row["accuracy"] for row in rows],
        },
        levels={"chance": chance},
        title=title,
        ylabel="accuracy of a linear classifier",
        ticks=[row["layer"] for row in rows],
        limits=(0, 1.02),
        spread={"accuracy ± deviation": [row["std"] for row in rows]},
    )
    return charts.figure([draw], (max(560, 90 * len(rows) + 120), 480), "What a linear classifier reads off each layer")
