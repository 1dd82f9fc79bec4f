"""Correspondence: whether hiding the same part of different photos changes their features in the same way."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from .. import charts, depth, layout
from ..changes.occlusion import Boxes, Consistency, Signs, View, cover, elsewhere, whole, within
from ..errors import InputError
from ..finding import Finding
from ..geometry import Box
from ..image import Picture
from ..methods.inputs import ModelLike
from ..methods.known_boxes import known_as, read_boxes
from ..methods.localize import localize
from ..naming import Layer
from ..surveys.survey import Over
from ..surveys.variants import Floats, Variants
from .registry import study

LOOKED = "where the model looks"
SHOWN = 6  # photos in the picture
TILE = 112


@study
def correspondence(
    model: ModelLike,
    photos: Any,
    *,
    boxes: str = "",
    target: str | int = "top",
    layer: Sequence[str] = (),
    random_sets: int = 10,
    together: bool = False,
    seed: int = 0,
    **how: Unpack[Over],
) -> Finding:
    """Whether hiding the same part of different photos changes their features in the same way.

    In every photo i a part (an eye, say) is covered with grey, which changes the features of a layer by e_i. If the
    network knows the part, signs of e_i and e_j agree between photos i and j: the consistency is the mean over all
    pairs of the Hamming distance of sign(e_i) and sign(e_j), as a share of the features, and lower is more consistent.
    Changes of less than a millionth of the largest feature count as none. Of a part counts what the model sees of it.
    The same is done with boxes of the same sizes in random places, several times: their mean and deviation, how many
    deviations the part lies away from that mean (z), and the share of all sets, its own counted in, that are at least
    as consistent as the part (p).

    Parts are the boxes of the same label. Without known boxes the part is where the model looks: in every photo the box
    around the largest part of the Grad-CAM map.

    Zeiler & Fergus, Visualizing and Understanding Convolutional Networks, ECCV 2014, section 4.4 and table 1.

    Args:
        boxes: a JSON file of known boxes, in pixels of the photos: as COCO has them, its categories being the parts, or
            of photo names, as `localize` takes it.
        target: the class whose place is looked for where there are no known boxes.
        layer: layers whose features are compared, by name; by default the last map and the features that the last layer
            decides upon.
        random_sets: sets of random boxes.
        together: all boxes are the same part, whatever their labels; those of one photo are covered at once.
        seed: of the random places.

    Raises:
        InputError: boxes that cannot be used, or no part that two photos have.
        LayerError: no such layer.
        PhotoError: no photo can be read.

    Example:
        >>> correspondence("model.onnx", "dogs/", boxes="parts.json").values["parts"][0]["layers"]
    """
    if random_sets < 1:
        raise InputError(f"{random_sets} random sets are nothing to compare with: give at least 1 (--random-sets).")
    survey = Variants(model, photos, target, **how)
    layers = _layers(survey, layer)
    if boxes:
        known = {name: _by_label(found, together) for name, found in read_boxes(boxes).items()}
        _each_once(survey, known)
    else:
        survey.notes.append(
            "parts: no boxes are known, so the part is where the model looks, by Grad-CAM (--boxes FILE)"
        )

    def parts_of(i: int, photo: Picture) -> dict[str, Boxes]:
        found = _known(survey, known, i, photo) if boxes else _looked(survey, photo)
        seen = {part: within(whole(of), _view(survey, photo)) for part, of in found.items()}
        return {part: of for part, of in seen.items() if of}

    def work(i: int, photo: Picture) -> dict[str, list[list[Signs]]]:
        view = _view(survey, photo)
        sets = {
            part: [of, *(elsewhere(of, view, [seed, i, *_bytes(part), k]) for k in range(random_sets))]
            for part, of in parts_of(i, photo).items()
        }
        covered = [survey.sample(cover(photo, of)) for several in sets.values() for of in several]
        signs = _signs(survey, [survey.sample(photo), *covered], layers)
        count = random_sets + 1
        return {part: signs[k * count : (k + 1) * count] for k, part in enumerate(sets)}

    counted: dict[str, list[list[Consistency]]] = {}
    examples: dict[str, list[int]] = {}
    without, seen = 0, 0
    for i, found in survey.one_by_one(work):
        seen += 1
        without += not found
        for part, several in found.items():
            examples.setdefault(part, []).extend([i] * (len(examples.get(part, ())) < SHOWN))
            mine = counted.setdefault(part, [[Consistency() for _ in layers] for _ in several])
            for row, signs in zip(mine, several, strict=True):
                for one, values in zip(row, signs, strict=True):
                    one.add(values)
    if without:
        survey.notes.append(
            f"{without} of {seen} photos have no box that the model sees and are left out (--boxes FILE)"
        )
    if few := sorted(part for part, rows in counted.items() if rows[0][0].n < 2):
        survey.notes.append(f"a single photo has {', '.join(few[:5])}: nothing to compare with (--together)")
    parts = {part: rows for part, rows in counted.items() if rows[0][0].n > 1}
    if not parts:
        raise InputError(
            f"No part is in two of the {seen} photos, so there is nothing to compare: give more photos, or boxes of "
            "the same label (--boxes, --together)."
        )
    params = dict(boxes=boxes, layer=[c.name for c in layers], random_sets=random_sets, together=together, seed=seed)
    rows = [_row(part, layers, sets) for part, sets in parts.items()]
    return survey.finding(
        "correspondence",
        {"parts": [plain_or_none(row) for row in rows]},
        pictures={"": _picture(survey, layers, rows, examples, parts_of)},
        lines=_lines(rows),
        params={"target": str(survey.target), **params},
    )


def _layers(survey: Variants, names: Sequence[str]) -> list[Layer]:
    if names:
        return [survey.layer(name) for name in names]
    deep, last = survey.layer("auto"), depth.features(survey.model, survey.explained_tensor)
    survey.notes.append(last.reason)
    return list(dict.fromkeys([deep, last.layer]))


def _by_label(boxes: Sequence[tuple[Box, str]], together: bool) -> dict[str, Boxes]:
    found: dict[str, Boxes] = {}
    for box, label in boxes:
        found.setdefault("part" if together else label or "part", []).append(box)
    return found


def _each_once(survey: Variants, known: Mapping[str, Any]) -> None:
    """Refuse photos that boxes do not tell apart: they are of a name without its folder."""
    names = (known_as(survey.photos.name(i)) for i in range(len(survey.photos)))
    if twice := [name for name, count in Counter(n for n in names if n in known).items() if count > 1]:
        raise InputError(
            f"Several photos are called '{twice[0]}', and boxes are known by that name alone: give it to one photo "
            "only (--boxes, PHOTO)."
        )


def _known(survey: Variants, known: Mapping[str, dict[str, Boxes]], i: int, photo: Picture) -> dict[str, Boxes]:
    """The known boxes of a photo."""
    name = survey.photos.name(i)
    found = known.get(known_as(name), {})
    height, width = photo.shape[:2]
    if not all(within([box], (0, 0, width, height)) for of in found.values() for box in of):
        raise InputError(
            f"A box of '{name}' lies outside the photo of {width}x{height} pixels: is it of another size? (--boxes)"
        )
    return found


def _view(survey: Variants, photo: Picture) -> View:
    """The pixels of a photo that the model sees."""
    height, width = survey.preprocessing.size
    return survey.preprocessing.geometry(photo.shape).support((0, 0, width, height))


def _bytes(part: str) -> bytes:
    return part.encode("utf-8", "surrogatepass")  # JSON may hold half a character


def _looked(survey: Variants, photo: Picture) -> dict[str, Boxes]:
    """Where the model looks, in the photo."""
    sample = survey.sample(photo)[None]
    how: dict[str, Any] = {"engine": survey.engine, "preprocessing": survey.preprocessing, "labels": survey.labels}
    found = localize(survey.model, sample, survey.target, largest=True, score=survey.score, **how)
    geometry = survey.preprocessing.geometry(photo.shape)
    return {LOOKED: [geometry.box_to_photo(box) for box in found.boxes[0]]} if len(found.boxes[0]) else {}


def _signs(survey: Variants, samples: Sequence[NDArray[Any]], layers: Sequence[Layer]) -> list[list[Signs]]:
    """Per changed sample and layer the signs of what the change takes from the features of the first sample."""
    found: list[list[Signs]] = []
    base: dict[str, Floats] = {}
    for _, values in survey.found(samples, [c.tensor for c in layers]):
        rows = {c.tensor: values[c.tensor].reshape(len(values[c.tensor]), -1).astype(np.float64) for c in layers}
        for t, v in rows.items():
            base.setdefault(t, v[0])
        changes = {t: base[t] - v for t, v in rows.items()}
        signs = {
            t: np.sign(np.where(abs(e) > 1e-6 * abs(base[t]).max(), e, 0)).astype(np.int8) for t, e in changes.items()
        }
        found += [[signs[c.tensor][k] for c in layers] for k in range(len(next(iter(rows.values()))))]
    return found[1:]


# How it is told.


def _row(part: str, layers: Sequence[Layer], sets: Sequence[Sequence[Consistency]]) -> dict[str, Any]:
    """What was found for a part, per layer: the part's own set comes first, then the random ones."""
    measured = {}
    for k, chosen in enumerate(layers):
        own, *others = [row[k].distance for row in sets]
        mean, deviation = float(np.mean(others)), float(np.std(others, ddof=1)) if len(others) > 1 else math.nan
        measured[chosen.name] = {
            "distance": own,
            "random": mean,
            "random_deviation": deviation,
            "z": (own - mean) / deviation if deviation > 0 else math.nan,
            "p": (1 + sum(other <= own for other in others)) / len(sets),
            "random_sets": others,
        }
    return {"part": part, "photos": sets[0][0].n, "layers": measured}


def _lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    found = [f"{'part':24s}  {'layer':24s}  {'Hamming':>8s}  {'random boxes':>15s}  {'z':>6s}  {'p':>5s}"]
    for row in rows:
        for name, m in row["layers"].items():
            around = f"{m['random']:.3f} ± {m['random_deviation']:.3f}"
            told = f"{m['distance']:8.3f}  {around:>15s}  {m['z']:6.1f}  {m['p']:5.2f}"
            found.append(f"{row['part'][:24]:24s}  {name[-24:]:24s}  {told}")
    return found


def _picture(
    survey: Variants,
    layers: Sequence[Layer],
    rows: Sequence[dict[str, Any]],
    examples: Mapping[str, Sequence[int]],
    parts_of: Callable[[int, Picture], dict[str, Boxes]],
) -> Picture:
    shown = rows[:12]
    draw = []
    for chosen in layers:
        found = {row["part"]: row["layers"][chosen.name] for row in shown}
        bars = [b for part, m in found.items() for b in ((part, m["distance"]), (f"{part}: random", m["random"]))]
        errors = [e for m in found.values() for e in (0.0, m["random_deviation"])]
        draw.append(
            charts.bars(
                bars,
                errors=np.nan_to_num(errors).tolist(),
                kinds=["the part", "random boxes of its size"] * len(found),
                title=f"{charts.shortened(chosen.name)}: Hamming distance, lower agrees more",
            )
        )
    plots = charts.figure(draw, size=(560, 130 + 36 * len(shown)))
    tiles: list[Picture] = []
    for i in sorted({i for row in shown[:4] for i in examples[row["part"]]})[:SHOWN]:
        photo = survey.photos.read(i)
        inside = parts_of(i, photo)
        hidden = [cover(photo, inside[row["part"]]) for row in shown[:4] if row["part"] in inside]
        strip = layout.row([layout.fit(p, TILE, 2 * TILE) for p in hidden], 4)
        tiles.append(layout.column([layout.line(survey.photos.stem(i), strip.shape[1], 12), strip], 2))
    sheet = layout.row(tiles, 10)
    wide = max(sheet.shape[1], plots.shape[1])
    body = layout.column([layout.pad(p, p.shape[0], wide) for p in (sheet, plots)], 12)
    title = f"{survey.model.source.name}: parts covered with grey, and how alike features change"
    return layout.frame(layout.titled(body, title, 18), 12)


def plain_or_none(value: Any) -> Any:
    """Numbers as JSON has them: rounded, None for what is none."""
    if isinstance(value, dict):
        return {k: plain_or_none(v) for k, v in value.items()}
    if isinstance(value, list):
        return [plain_or_none(v) for v in value]
    return (round(value, 6) if math.isfinite(value) else None) if isinstance(value, float) else value
