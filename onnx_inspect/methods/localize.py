"""From a map to boxes around what it shows."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
from numpy.typing import NDArray

from ..attribution import Attribution
from ..errors import InputError, ResultError
from ..files import plain
from ..target import TargetLike
from ..trust.boxes import peak, pointing_game
from .inputs import Input, ModelLike
from .job import How
from .known_boxes import Known, known_as, read_boxes
from .registry import EXPLANATIONS, find, method

if TYPE_CHECKING:
    from ..attribution import Photo

FOUND, KNOWN, PEAK = (230, 30, 30), (20, 150, 60), (255, 220, 0)
DRAWN = 20  # boxes in a picture: a noisy map has thousands


@dataclass
class Localization(Attribution):
    """A map with boxes, (x0, y0, x1, y1) in pixels of the photo.

    Attributes:
        boxes: (K, 4) per sample, what was found, that of the largest part first.
        known: (K, 4) per sample, what was given.
    """

    boxes: list[NDArray[np.float64]] = field(default_factory=list)
    known: list[NDArray[np.float64]] = field(default_factory=list)

    def overlay(self, i: int = 0) -> NDArray[np.uint8]:
        """The photo with boxes, red what was found and green what is known, and a dot at the map's maximum."""
        return self._boxed(i, self.photo(i).pixels)

    def panel(self, i: int = 0) -> NDArray[np.uint8]:
        """The photo with the boxes, the map with them, and the five most probable classes."""
        from .. import layout

        tiles = [layout.fit(p, 360, 480) for p in (self.overlay(i), self._boxed(i, super().overlay(i)))]
        colours = {"found": FOUND, "known": KNOWN, "maximum": PEAK}
        drawn = [layout.key(k, c, 12) for k, c in colours.items() if k != "known" or len(self.known[i])]
        tiles[0] = layout.column([tiles[0], layout.row(drawn, 10)], 6)
        top = layout.bars([(p.label, p.probability) for p in self.predictions[i]], 260, 15, 360)
        return layout.figure(
            [*tiles, top], ["boxes", f"map, from {self.params['share']:g} of its maximum", "classes"], self.title(i)
        )

    def title(self, i: int = 0) -> list[str]:
        """What was looked for, and how well it was found."""
        first, *rest = super().title(i)
        measured = ", ".join(f"{k} {v[i]:.3g}" for k, v in self.measures.items() if np.isfinite(v[i]))
        by = "" if "of" in self.options else f", by {self.params['of']}"
        return [first + by, f"{measured}; {rest[0]}" if measured else rest[0]]

    def record(self, i: int) -> dict[str, Any]:
        """What the manifest says of a sample, with its boxes."""
        return super().record(i) | {"boxes": plain(self.boxes[i]), "known": plain(self.known[i])}

    def arrays(self, i: int) -> dict[str, NDArray[Any]]:
        """What the npz of a sample holds, with its boxes."""
        return super().arrays(i) | {"boxes": self.boxes[i], "known": self.known[i]}

    def _boxed(self, i: int, canvas: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Boxes and the maximum on a picture of the photo, whose size may be a multiple of the photo's."""
        from .. import layout, render

        canvas = layout.enlarge(canvas)
        times = canvas.shape[0] / self.photo(i).pixels.shape[0]
        for box in self.known[i]:
            canvas = render.box(canvas, box * times, KNOWN)
        for box in self.boxes[i][:DRAWN]:
            best = iou(box, self.known[i]).max(initial=0)
            canvas = render.box(canvas, box * times, FOUND, f"IoU {best:.2f}" if len(self.known[i]) else None)
        if (point := peak(self.map(i))) is not None:
            x, y = (round(times * side) for side in point)
            r = max(2, max(canvas.shape) // 120)
            canvas = render.box(canvas, (x - r, y - r, x + r, y + r), PEAK)
        return canvas


@method("picture", explains=False)
def localize(
    model: ModelLike,
    x: Input,
    target: TargetLike = "top",
    *,
    of: str = "gradcam",
    share: float = 0.2,
    largest: bool = False,
    boxes: str = "",
    layer: str = "auto",
    **how: Unpack[How],
) -> Localization:
    """Boxes around what speaks for the target, and how well they fit known ones.

    The map of a method in the coordinates of the photo, cut off at a share of its maximum; each connected part that
    remains (corners connect) gets a box, the largest part first. Values and heat are those of the method. With known
    boxes there are two measures per photo: iou, the intersection over union of the pair of a found and a known box
    that fits best (Zhou et al. take the largest part alone), and hit, 1 where the maximum of the map lies in a known
    box or 15 pixels (of 224) away from it. NaN where no box is known.

    Zhou et al., Learning Deep Features for Discriminative Localization, CVPR 2016; Zhang et al., Top-down Neural
    Attention by Excitation Backprop, ECCV 2016 (pointing game).

    Args:
        of: what makes the map: the name of any method that explains.
        share: of the maximum, from which on a pixel belongs to a part; above 0 and at most 1.
        largest: only the box of the largest part.
        boxes: a JSON file of known boxes: as COCO has them (images, annotations, categories; crowds are left out), or
            of photo names, each with a list of [x0, y0, x1, y1] in pixels of the photo, or with an object whose
            "box" is one or a list of them.
        layer: the layer of the method, "auto" for what the method chooses.

    Raises:
        InputError: no such method, a share that is none, a file of boxes that cannot be used, or inputs that are no
            photos.

    Example:
        >>> localize("model.onnx", "cat.jpg", of="layercam", largest=True).boxes[0]
    """
    if not 0 < share <= 1:
        raise InputError(f"A share of {share} of the maximum cuts nothing off: above 0 and at most 1 (--share).")
    known = read_boxes(boxes) if boxes else None
    function = find(of)
    if of not in EXPLANATIONS:
        raise InputError(f"'{of}' makes no map of what speaks for the target: name another (--of).")
    options: Any = how if layer == "auto" else how | {"layer": layer}
    if layer != "auto" and "layer" not in inspect.signature(function).parameters:
        raise InputError(f"'{of}' takes no layer: leave it out, or name a method that does (--layer).")
    result = function(model, x, target, **options)
    if any(photo is None for photo in result.photos) or result.heat.ndim != 3:
        raise InputError(f"Boxes need a map over photos, which '{of}' does not make of this input (--of).")
    found = [boxes_of(result.map(i), share)[: 1 if largest else None] for i in range(len(result))]
    true = [of_photo(known, i, result) for i in range(len(result))]
    made = Localization(**{f.name: getattr(result, f.name) for f in fields(Attribution)}, boxes=found, known=true)
    made.method, made.params = "localize", {"of": of, "share": share, "largest": largest, **result.params}
    if boxes:
        made.measures = made.measures | _measures(made)
    return made


def boxes_of(heat: NDArray[Any], share: float = 0.2) -> NDArray[np.float64]:
    """Boxes around the connected parts of a map (H, W) that reach a share of its maximum, the largest part first.

    Boxes are (x0, y0, x1, y1) from edge to edge: pixel i covers [i, i + 1]. Corners connect. A map that is nowhere
    above zero has none. ResultError for NaN and infinity.
    """
    from scipy.ndimage import find_objects, label

    if not np.isfinite(heat).all():
        raise ResultError("The map has values that are not finite, which no box can be drawn around. Check the model.")
    if (top := heat.max()) <= 0:
        return np.empty((0, 4))
    parts, count = label(heat >= share * top, np.ones((3, 3)))
    boxes = np.array([(c.start, r.start, c.stop, r.stop) for r, c in find_objects(parts)], np.float64)
    sizes = np.bincount(parts.ravel(), minlength=count + 1)[1:]
    return boxes[np.argsort(-sizes, kind="stable")]


def iou(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """Intersection over union of boxes (..., 4), broadcast against each other; 0 where both are empty."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    both = sides.clip(0).prod(axis=-1)
    total = sum((box[..., 2:] - box[..., :2]).prod(axis=-1) for box in (a, b)) - both
    return np.asarray(np.divide(both, total, out=np.zeros(np.shape(total)), where=total > 0))


def _measures(made: Localization) -> dict[str, NDArray[np.float64]]:
    """How well the boxes fit, NaN for photos without known ones."""
    pairs = [iou(found[:, None], true).max(initial=0) for found, true in zip(made.boxes, made.known, strict=True)]
    hits = pointing_game(made, [[tuple(box) for box in true] for true in made.known])
    there = np.array([len(true) > 0 for true in made.known])
    return {"iou": np.where(there, pairs, np.nan), "hit": np.where(there, hits, np.nan)}


def of_photo(known: Known | None, i: int, result: Attribution) -> NDArray[np.float64]:
    """The known boxes of a sample: those whose category is the explained class, else all of them."""
    if known is None:
        return np.empty((0, 4))
    photo: Photo = result.photo(i)
    name = photo.path.name if photo.path is not None else ""
    there = known.get(known_as(name), [])
    if not there:
        result.notes.append(f"no boxes are known of '{name or result.stems[i]}' (--boxes)")
    height, width = photo.pixels.shape[:2]
    if any(x1 <= 0 or y1 <= 0 or x0 >= width or y0 >= height for (x0, y0, x1, y1), _ in there):
        result.notes.append(
            f"a box of '{name}' lies outside the photo of {width}x{height} pixels: is it of another size? (--boxes)"
        )
    what = result.explained[i]
    alike = [box for box, category in there if what is not None and _same(category, what.label)]
    if there and not alike and any(category for _, category in there):
        result.notes.append(f"no box of '{name}' has the explained class as its category: all are compared (--boxes)")
    return np.array(alike or [box for box, _ in there], np.float64).reshape(-1, 4)


def _same(category: str, label: str) -> bool:
    return category.strip().casefold() in {part.strip().casefold() for part in label.split(",")}
