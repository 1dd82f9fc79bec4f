"""The pointing game of Zhang et al. (Top-down Neural Attention by Excitation Backprop, ECCV 2016).

    python scripts/pointing_game.py --assets ../shared/assets

For every photo and every category annotated in it, the map for the category's class is a hit if its maximum lies in
one of the category's boxes, or at most `--tolerance` pixels of the model's input away. Accuracy is the share of hits
over all pairs; the paper takes the mean over categories, of far more photos.

The models know ImageNet's classes and the boxes are COCO's. A category takes part if ImageNet has classes that mean
the same thing or a kind of it (`CLASSES`); the target is the one of them that the model scores highest on the photo,
whether or not it recognises anything. Where a maximum is flat, its middle counts; a map that is nowhere above zero
points at nothing and is a miss.

Photos are squashed to the input by default: the whole photo is seen, without the grey bars of a letterbox, which
would attract or repel maps, and both models met distorted photos in training.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import tables
from numpy.typing import NDArray

import onnx_inspect as oi
from onnx_inspect import image
from onnx_inspect.geometry import Box, Geometry
from onnx_inspect.methods.inputs import guess_preprocessing

MODELS = {"mobilenetv2_fp32_pytorch_opset12": "imagenet", "squeezenet1.1_fp32_caffe2": "caffe"}

# The categories of the photos that have a counterpart. Without one: person, potted plant, stop sign.
CLASSES: dict[str, Sequence[int]] = {
    "bed": [564],  # four-poster
    "bench": [703],  # park bench
    "bicycle": [444, 671],  # tandem, mountain bike
    "bottle": [440, 720, 737, 898, 907],  # beer, pill, pop, water, wine
    "broccoli": [937],
    "bus": [654, 779, 874],  # minibus, school bus, trolleybus
    "car": [436, 468, 511, 609, 627, 656, 661, 751, 817],  # beach wagon, cab, ..., sports car
    "cat": range(281, 286),  # tabby to Egyptian
    "chair": [423, 559, 765],  # barber, folding, rocking
    "clock": [409, 530, 892],  # analog, digital, wall
    "couch": [831],  # studio couch
    "dining table": [532],
    "dog": range(151, 269),  # Chihuahua to Mexican hairless
    "elephant": [101, 385, 386],  # tusker, Indian, African
    "handbag": [748],  # purse
    "hot dog": [934],
    "remote": [761],
    "sandwich": [933],  # cheeseburger
    "traffic light": [920],
    "train": [466, 547, 565, 705, 820, 829],  # bullet, electric, freight car, passenger car, steam, streetcar
    "truck": [555, 569, 675, 717, 864, 867],  # fire, garbage, moving van, pickup, tow, trailer
    "umbrella": [879],
    "wine glass": [572],  # goblet
    "zebra": [340],
}


@dataclass(frozen=True)
class Round:
    """A category in a photo, and how many there are in all."""

    photo: Path
    category: str
    boxes: list[Box]
    size: tuple[int, int]  # height, width
    categories: int

    @property
    def difficult(self) -> bool:
        """As in the paper: boxes cover less than a quarter of the photo, and the category is not alone."""
        return self.share() < 0.25 and self.categories > 1

    def share(self) -> float:
        """Of the photo's area, covered by the boxes."""
        return float(self.within(*pixels(self.size), tolerance=0).mean())

    def within(self, x: Any, y: Any, tolerance: float, scale: tuple[float, float] = (1, 1)) -> NDArray[np.bool_]:
        """Whether points of the photo are at most `tolerance` away from a box, in pixels of the photo times `scale`."""
        gaps = [
            np.hypot(
                np.maximum(np.maximum(x0 - x, x - x1), 0) * scale[0],
                np.maximum(np.maximum(y0 - y, y - y1), 0) * scale[1],
            )
            for x0, y0, x1, y1 in self.boxes
        ]
        return np.asarray(np.min(gaps, axis=0) <= tolerance)


@dataclass(frozen=True)
class Outcome:
    """What a method did in a round."""

    photo: str
    category: str
    target: int
    rank: int  # of the target among all classes, 1 being the prediction
    point: tuple[float, float] | None
    hit: bool
    centre: bool  # whether pointing at the photo's centre would be a hit
    chance: float  # of a random point
    difficult: bool


def pixels(size: tuple[int, int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """x and y of the centres of all pixels."""
    y, x = np.indices(size) + 0.5
    return x, y


def rounds(assets: Path) -> list[Round]:
    found = []
    for entry in json.loads((assets / "MANIFEST.json").read_text(encoding="utf-8"))["files"]:
        if not entry["file"].startswith("images/coco/"):
            continue
        boxes: dict[str, list[Box]] = defaultdict(list)
        for category, *box in entry["boxes_xyxy"]:
            boxes[category].append(tuple(box))
        width, height = entry["dimensions"]
        for category in boxes.keys() & CLASSES.keys():
            found.append(Round(assets / entry["file"], category, boxes[category], (height, width), len(boxes)))
    return sorted(found, key=lambda r: (r.photo, r.category))


def targets(model: oi.Model, how: oi.Preprocessing, played: list[Round], engine: oi.Engine) -> list[tuple[int, int]]:
    """Class and rank per round: the highest-scoring class that the category stands for."""
    x = how.batch([image.read(r.photo) for r in played])
    (rows,) = engine.run(model, {model.inputs[0].name: x}).values()
    chosen = []
    for one, row in zip(played, rows.reshape(len(x), -1), strict=True):
        best = max(CLASSES[one.category], key=lambda k: row[k])
        chosen.append((best, int((row > row[best]).sum()) + 1))
    return chosen


def peak(values: NDArray[np.float32]) -> tuple[float, float] | None:
    """The middle of the largest values, None where nothing is above zero."""
    top = values.max()
    if top <= 0:
        return None
    y, x = np.nonzero(values >= top * (1 - 1e-6))
    return float(x.mean() + 0.5), float(y.mean() + 0.5)


def scale(geometry: Geometry) -> tuple[float, float]:
    """Pixels of the model's input per pixel of the photo, along x and y."""
    x0, y0, x1, y1 = geometry.box
    return geometry.model[1] / (x1 - x0), geometry.model[0] / (y1 - y0)


def play(result: oi.Attribution, played: list[Round], chosen: list[tuple[int, int]], tolerance: float) -> list[Outcome]:
    outcomes = []
    for i, (one, (target, rank)) in enumerate(zip(played, chosen, strict=True)):
        point, ratio = peak(result.map(i)), scale(result.photo(i).geometry)
        height, width = one.size
        outcomes.append(
            Outcome(
                photo=one.photo.name,
                category=one.category,
                target=target,
                rank=rank,
                point=point,
                hit=point is not None and bool(one.within(*point, tolerance, ratio)),
                centre=bool(one.within(width / 2, height / 2, tolerance, ratio)),
                chance=float(one.within(*pixels(one.size), tolerance, ratio).mean()),
                difficult=one.difficult,
            )
        )
    return outcomes


def interval(hits: int, n: int, z: float = 1.96) -> str:
    """Wilson's 95 % interval of a share, in per cent."""
    p, middle = hits / n, 1 + z * z / n
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = (p + z * z / (2 * n) - half) / middle, (p + z * z / (2 * n) + half) / middle
    return f"{100 * low:.0f} to {100 * high:.0f}"


def hits(outcomes: list[Outcome]) -> str:
    """Hits in a subset, beside those of pointing at the centre: subsets differ in how easy they are."""
    return f"{sum(o.hit for o in outcomes)} of {len(outcomes)} ({sum(o.centre for o in outcomes)})"


def row(name: str, outcomes: list[Outcome]) -> tuple[str, ...]:
    n, won = len(outcomes), sum(o.hit for o in outcomes)
    return (
        name,
        f"{won} of {n}",
        f"{100 * won / n:.0f}",
        interval(won, n),
        f"{100 * fmean(o.chance for o in outcomes):.0f}",
        f"{100 * fmean(o.centre for o in outcomes):.0f}",
        hits([o for o in outcomes if o.difficult]),
        hits([o for o in outcomes if o.rank <= 5]),
    )


HEADER = ("", "hits", "%", "95 %", "random point, %", "centre, %", "difficult (centre)", "class in top 5 (centre)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, required=True, metavar="DIR", help="models, photos and MANIFEST.json")
    parser.add_argument("--models", default=",".join(MODELS), metavar="NAMES")
    parser.add_argument("--methods", default="gradcam,occlusion", metavar="NAMES")
    parser.add_argument("--resize", default="squash", choices=["squash", "letterbox"])
    parser.add_argument("--tolerance", type=float, default=15, help="in pixels of the model's input")
    parser.add_argument("--json", type=Path, metavar="FILE", help="every round")
    parser.add_argument("--write", type=Path, metavar="FILE", help="a Markdown file with our markers")
    parser.add_argument("--overlays", type=Path, metavar="DIR", help="the maps over the photos")
    args = parser.parse_args()

    played, engine = rounds(args.assets), oi.Engine("cpu")
    found: dict[str, list[Outcome]] = {}
    for name in args.models.split(","):
        model = oi.load(args.assets / "models" / f"{name}.onnx")
        how, _ = guess_preprocessing(model, MODELS[name], resize=args.resize)
        chosen = targets(model, how, played, engine)
        for method in args.methods.split(","):
            explain = getattr(oi, method)
            paths, classes = [r.photo for r in played], [target for target, _ in chosen]
            result = explain(model, paths, target=classes, preprocessing=how, engine=engine)
            found[f"{name}, {method}"] = play(result, played, chosen, args.tolerance)
            if args.overlays:
                draw(result, played, found[f"{name}, {method}"], args.overlays / name)
    table = tables.markdown(HEADER, [row(name, outcomes) for name, outcomes in found.items()])
    print(table)
    if args.json:
        args.json.write_text(json.dumps({n: [asdict(o) for o in outcomes] for n, outcomes in found.items()}, indent=2))
    if args.write:
        note = (
            f"{len({r.photo for r in played})} photos, {len(played)} pairs of a photo and a category, "
            f"{len({r.category for r in played})} categories; photos {args.resize}ed to 224x224, tolerance "
            f"{args.tolerance:g} pixels of that, also for the random point and the centre. Without tolerance, boxes "
            f"cover {100 * fmean(r.share() for r in played):.0f} % of a photo on average. "
            "Difficult: boxes cover less than a quarter, and there are other categories. Classes, targets and ties: "
            "see the script."
        )
        tables.write(args.write, "pointing", "\n\n".join(["## Pointing game", tables.conditions(), note, table]))


def draw(result: oi.Attribution, played: list[Round], outcomes: list[Outcome], folder: Path) -> None:
    """Overlays with the boxes in green and the point in red."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, (one, outcome) in enumerate(zip(played, outcomes, strict=True)):
        picture = result.overlay(i)
        for x0, y0, x1, y1 in one.boxes:
            left, top, right, bottom = (round(v) for v in (x0, y0, x1 - 1, y1 - 1))
            picture[[top, bottom], left:right] = picture[top:bottom, [left, right]] = (0, 255, 0)
        if outcome.point is not None:
            x, y = (int(v) for v in outcome.point)
            picture[max(y - 4, 0) : y + 5, max(x - 4, 0) : x + 5] = (255, 0, 0)
        verdict = "hit" if outcome.hit else "miss"
        image.write(folder / f"{result.method}.{verdict}.{one.photo.stem}.{one.category}.png", picture)


if __name__ == "__main__":
    main()
