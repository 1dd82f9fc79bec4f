"""Do maps for a detector's box lie on that box? Energy inside it, and the pointing game.

    python scripts/pointing_detectors.py --assets ../shared/assets

Every detection of yolox_nano that matches a box of its category in COCO (IoU above 0.5) is explained by itself, as
box:1, box:2 and so on; of ultraface every face that lies inside a box of a person. Energy is the share of the positive
map that lies in the box that the detector reports; a hit is a maximum inside it, without tolerance. Both are to be
compared with the share of the photo that the box covers: a map that knows nothing of the box has as much in it.

Layers: "auto" is the last map that all paths to this box's score run through, on its level of the pyramid; "before" is
the activation before that; "shared" the last one that the scores of all levels depend on; "early" lies half way to it.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import tables

import onnx_inspect as oi
from onnx_inspect.detection import Detection, overlap
from onnx_inspect.layer import separators
from onnx_inspect.methods.detect import detect
from onnx_inspect.methods.job import Job
from onnx_inspect.naming import Layer

MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "yolox_nano": ("yolox_nano.onnx", {"size": (416, 416), "resize": "letterbox", "color": "BGR"}),
    "ultraface": (
        "ultraface_version-RFB-320.onnx",
        {"size": (240, 320), "resize": "squash", "mean": (127.0,), "std": (128.0,)},
    ),
}
ROWS = [
    *[
        (method, layer)
        for method in ("gradcam", "hirescam", "layercam")
        for layer in ("auto", "before", "shared", "early")
    ],
    ("gradcam_plusplus", "auto"),
    ("xgradcam", "auto"),
    ("saliency", ""),
    ("input_x_gradient", ""),
    ("drise", ""),
]


@dataclass(frozen=True)
class Thing:
    """A detection that is right."""

    photo: Path
    found: Detection
    share: float


def things(model: oi.Model, name: str, assets: Path, how: dict[str, Any]) -> Iterator[Thing]:
    """All of them, photo by photo."""
    entries = json.loads((assets / "MANIFEST.json").read_text(encoding="utf-8"))["files"]
    for entry in sorted(entries, key=lambda e: str(e["file"])):
        if not entry["file"].startswith("images/coco/"):
            continue
        width, height = entry["dimensions"]
        for one in detect(model, assets / entry["file"], **how)[0]:
            if any(right(name, one, category, np.array(box)) for category, *box in entry["boxes_xyxy"]):
                x0, y0, x1, y1 = one.box
                yield Thing(assets / entry["file"], one, (x1 - x0) * (y1 - y0) / (width * height))


def right(name: str, one: Detection, category: str, box: np.ndarray) -> bool:
    own = np.array(one.box)
    if name == "ultraface":
        both = np.r_[np.maximum(own[:2], box[:2]), np.minimum(own[2:], box[2:])]
        return category == "person" and float(overlap(both, own)) > 0.8
    return category == one.label and float(overlap(own, box)) > 0.5


def layers(job: Job) -> dict[str, Layer]:
    """The layers to explain at, for this box."""
    model = job.model
    chain = [c for c in separators(model, *job.target.reads(model)) if c.op_type in ("Mul", "Relu")]
    head = job.target.head  # type: ignore[attr-defined]
    shared = separators(model, *(leaf.tensor for e in head.scores for leaf in e.leaves))[-1]
    place = next(i for i, c in enumerate(chain) if c.tensor == shared.tensor)
    return {"auto": chain[-1], "before": chain[-2], "shared": shared, "early": chain[place // 2]}


def explained(
    method: str, model: oi.Model, thing: Thing, layer: str, masks: int, how: dict[str, Any]
) -> oi.Attribution:
    target = f"box:{thing.found.number}"
    options: dict[str, Any] = {"samples": masks} if method == "drise" else {"layer": layer} if layer else {}
    function = getattr(oi, method)
    return function(model, thing.photo, target=target, **options, **how)  # type: ignore[no-any-return]


def spread(known: list[Thing], count: int) -> list[Thing]:
    """So many of them, evenly from first to last."""
    return [known[i] for i in np.linspace(0, len(known) - 1, min(count, len(known))).round().astype(int)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, required=True, metavar="DIR", help="models, photos and MANIFEST.json")
    parser.add_argument("--boxes", type=int, default=1000, metavar="N", help="the most boxes per model")
    parser.add_argument("--masked", type=int, default=8, metavar="N", help="the most boxes for drise")
    parser.add_argument("--masks", type=int, default=500, help="of drise")
    parser.add_argument("--write", type=Path, metavar="FILE", help="a Markdown file with our markers")
    args = parser.parse_args()

    text = []
    for name, (file, preprocessing) in MODELS.items():
        model = oi.load(args.assets / "models" / file)
        labels: Any = args.assets / "labels/coco80.txt" if name == "yolox_nano" else ["background", "face"]
        how = {
            "preprocessing": oi.Preprocessing(**preprocessing),
            "labels": labels,
            "engine": oi.Engine("cpu", sessions=80),
        }
        chosen = spread(list(things(model, name, args.assets, how)), args.boxes)
        found: dict[tuple[str, str], list[tuple[float, bool, float]]] = defaultdict(list)
        masked = spread(chosen, args.masked)
        for thing in chosen:
            at = layers(Job(model, thing.photo, f"box:{thing.found.number}", **how))
            for method, where in ROWS:
                if method == "drise" and thing not in masked:
                    continue
                result = explained(method, model, thing, at[where].name if where else "", args.masks, how)
                box = [[thing.found.box]]
                hit = bool(oi.pointing_game(result, box, tolerance=0)[0])
                found[method, where].append((float(oi.energy_in_box(result, box)[0]), hit, thing.share))
        rows = [
            (
                f"{method}{', ' if where else ''}{where}",
                len(results),
                f"{100 * fmean(s for *_, s in results):.0f}",
                f"{100 * fmean(e for e, *_ in results):.0f}",
                f"{100 * fmean(h for _, h, _ in results):.0f}",
            )
            for (method, where), results in found.items()
        ]
        photos = len({t.photo for t in chosen})
        text.append(f"**{name}**: {len(chosen)} boxes in {photos} photos.\n")
        text.append(
            tables.markdown(("method, layer", "boxes", "area, %", "energy in the box, %", "hits, %"), rows) + "\n"
        )
        print("\n".join(text[-2:]), flush=True)
    if args.write:
        tables.write(
            args.write,
            "pointing of detectors",
            "\n\n".join(["## Boxes of detectors", tables.conditions(), "\n".join(text)]),
        )


if __name__ == "__main__":
    main()
