"""Results as pictures: uint8 (H, W, 3) RGB arrays on white, put together from rows and columns.

Small photos are enlarged before anything is drawn on them, so that a result for 32x32 pixels can be seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from . import image, layout
from .errors import InputError, ResultError
from .image import Colormap, Picture

if TYPE_CHECKING:
    from .geometry import Geometry


def limits(
    values: NDArray[Any], signed: bool = False, percentile: float | None = None, where: NDArray[np.bool_] | None = None
) -> tuple[float, float]:
    """The (low, high) that ``normalise`` sends to the ends of its range, for the same arguments.

    A constant is in the middle: it is neither low nor high, and only 0 is nothing.
    """
    data = _floats(values)
    if data.size and not np.isfinite((data.min(), data.max())).all():
        raise ResultError("The map has values that are not finite and cannot be drawn. Check the model.")
    seen = data.ravel() if where is None else data[where]
    if not seen.size:
        return 0.0, 0.0
    low, high = float(seen.min()), float(seen.max())
    if signed:
        end = max(-low, high) if percentile is None else float(np.percentile(abs(seen), percentile))
        end = end or max(-low, high)
        return -end, end
    if percentile is not None:
        inner_low, inner_high = (float(end) for end in np.percentile(seen, (100 - percentile, percentile)))
        low, high = (inner_low, inner_high) if inner_high > inner_low else (low, high)
    return (min(2 * low, 0.0), max(2 * high, 0.0)) if _constant(low, high) else (low, high)


def _constant(low: float, high: float) -> bool:
    """What is left of a constant after float32 arithmetic is no pattern."""
    return high - low <= 1e-6 * max(abs(low), abs(high))


def _floats(values: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(values, np.result_type(values, np.float32))


def normalise(
    values: NDArray[Any], signed: bool = False, percentile: float | None = None, where: NDArray[np.bool_] | None = None
) -> NDArray[np.float32]:
    """``values`` as float32 in [0, 1], or when signed in [-1, 1] around zero; of constants only 0 becomes zeros.

    The ends are the extremes or, with ``percentile`` (99, say), that percentile and its mirror image, beyond
    which values are clipped. ``where`` restricts what counts. ResultError for NaN and infinity.
    """
    low, high = limits(values, signed, percentile, where)
    data = _floats(values)
    if high - low < 1e-300:
        return np.zeros(data.shape, np.float32)
    with np.errstate(over="ignore"):  # far beyond the ends, where all is clipped
        scaled = data / high if signed else (data - low) / (high - low)
    return np.asarray(scaled.clip(-1 if signed else 0, 1), np.float32)


def overlay(
    photo: Picture,
    values: NDArray[Any],
    *,
    alpha: float = 0.5,
    colormap: Colormap | None = None,
    signed: bool = False,
    percentile: float | None = None,
    reach: float | None = None,
    seen: NDArray[np.bool_] | None = None,
) -> Picture:
    """A heat map (H, W) in the photo's coordinates over the photo, normalised; small ones come out enlarged.

    With ``reach``, values up to it are drawn on a scale that is the same for all maps, instead of their own.

    ``colormap`` is "jet". When signed it is "coolwarm", over the photo in grey so that its own colours are not
    taken for the map's, and the more opaque the further from zero. Outside ``seen``, bool (H, W), the photo
    is dimmed and not coloured.
    """
    if values.shape != photo.shape[:2]:
        raise InputError(
            f"The map is {values.shape}, the photo {photo.shape[:2]}: bring it there by Geometry.to_photo."
        )
    heat = (
        normalise(values, signed, percentile, seen) if reach is None else (values / reach).clip(-1 if signed else 0, 1)
    )
    photo = layout.enlarge(photo)
    size = photo.shape[:2]
    heat = image.resize(heat, size, "linear")
    if signed:
        photo = np.rint(image.to_grey(photo)).astype(np.uint8)[..., None].repeat(3, axis=2)
        # How strong a value is, the opacity says: pale colours would not be seen on the photo.
        heat, opaque = np.sign(heat) * np.minimum(1, 0.4 + abs(heat)), np.minimum(1, 1.7 * alpha * abs(heat) ** 0.7)
    coloured = image.blend(
        photo, image.colormap(heat, colormap or _default(signed, "jet")), opaque if signed else alpha
    )
    if seen is None or seen.all():
        return coloured
    mask = image.resize(seen.astype(np.float32), size, "nearest")
    return np.where(mask[..., None] > 0, coloured, image.blend(photo, np.full_like(photo, 255), 0.65))


def view(photo: Picture, geometry: Geometry, height: int) -> Picture:
    """The photo as the model sees it: cut and stretched, or padded in white, to the shape of the model's input.

    ``height`` pixels high, less where the input is wide.
    """
    tall, wide = _within(geometry.model, height)
    y_share, x_share = tall / geometry.model[0], wide / geometry.model[1]
    seen = geometry.box_to_photo((0, 0, *geometry.model[::-1]))
    left, top, right, bottom = geometry.to_model(seen)
    x0, y0, x1, y1 = map(round, seen)
    left, right = round(left * x_share), round(right * x_share)
    top, bottom = round(top * y_share), round(bottom * y_share)
    out = np.full((tall, wide, 3), 255, np.uint8)
    place = out[top : max(bottom, top + 1), left : max(right, left + 1)]
    place[:] = layout.stretch(photo[y0:y1, x0:x1], *place.shape[:2])
    return out


def _within(size: tuple[int, ...], height: int) -> tuple[int, int]:
    """A (height, width) in the shape of ``size``, at most 1.6 times as wide as ``height``, no side below 96."""
    share = min(height / size[0], 1.6 * height / size[1])
    return max(96, round(size[0] * share)), max(96, round(size[1] * share))


def panel(
    photo: Picture,
    values: NDArray[Any],
    *,
    title: str | Sequence[str] = (),
    top: Sequence[tuple[str, float]] = (),
    height: int = 360,
    alpha: float = 0.5,
    colormap: Colormap | None = None,
    signed: bool = False,
    percentile: float | None = None,
    seen: NDArray[np.bool_] | None = None,
) -> Picture:
    """Photo, its overlay with a colour bar, and the probabilities ``top`` as bars, in a row under a title.

    The first line of ``title`` is the largest. The photos become ``height`` pixels high, wide ones less; the
    rest is as for ``overlay``.
    """
    colours = colormap or _default(signed, "jet")
    heat = overlay(photo, values, alpha=alpha, colormap=colours, signed=signed, percentile=percentile, seen=seen)
    height, width = _within(photo.shape[:2], height)
    heat = layout.with_bar(layout.centred(heat, height, width), limits(values, signed, percentile, seen), colours)
    parts = [layout.centred(photo, height, width), heat]
    size = max(13, height // 24)
    if top:
        parts.append(layout.bars(top, min(max(220, width * 3 // 4), 340), size, height))
    return layout.frame(layout.titled(layout.row(parts, 16), title, size + 3), 12)


def heat_tile(values: NDArray[Any], size: tuple[int, ...], colormap: Colormap = "viridis") -> Picture:
    """A map stretched to ``size`` (height, width), with its colour bar to the right."""
    picture = layout.stretch(image.colormap(normalise(values), colormap), size[0], size[1])
    return layout.with_bar(picture, limits(values), colormap)


def feature_grid(
    maps: NDArray[Any],
    limit: int = 64,
    *,
    signed: bool = False,
    colormap: Colormap | None = None,
    names: Sequence[str] | None = None,
    columns: int | None = None,
    smallest: int = 72,
) -> Picture:
    """The first ``limit`` of the maps (C, h, w), each normalised on its own, its index or name above it."""
    colours = colormap or _default(signed)
    tiles = [layout.enlarge(image.colormap(normalise(m, signed), colours), smallest) for m in maps[:limit]]
    titles = [str(i) for i in range(len(tiles))] if names is None else list(names[:limit])
    note = f"{limit} of {len(maps)} channels" if len(maps) > limit else ()
    return layout.frame(layout.titled(layout.grid(tiles, columns, titles), note, 14), 6)


def box(
    canvas: Picture, corners: Sequence[float], colour: tuple[int, int, int] = (230, 30, 30), label: str | None = None
) -> Picture:
    """A copy of ``canvas`` with the frame of the box (x0, y0, x1, y1) in pixels, and its label."""
    out = canvas.copy()
    height, width = out.shape[:2]
    thick = max(1, round(max(height, width) / 250))
    x0, x1 = (round(min(max(x, 0), width)) for x in corners[::2])
    y0, y1 = (round(min(max(y, 0), height)) for y in corners[1::2])
    inside = out[y0 + thick : y1 - thick, x0 + thick : x1 - thick].copy()
    out[y0:y1, x0:x1] = colour
    out[y0 + thick : y0 + thick + inside.shape[0], x0 + thick : x0 + thick + inside.shape[1]] = inside
    if label:
        size = max(11, min(22, max(height, width) // 28))
        w, h = image.text_size(label, size)
        tag = np.full((h, w + 6, 3), colour, np.uint8)
        bright = float(np.dot(colour, (0.299, 0.587, 0.114)))
        image.text(tag, label, (3, 0), size, (0, 0, 0) if bright > 150 else (255, 255, 255))
        top = y0 - h if y0 >= h else y0
        left = max(0, min(x0, width - tag.shape[1]))
        place = out[top : top + h, left : left + tag.shape[1]]
        place[:] = tag[: place.shape[0], : place.shape[1]]
    return out


def categorical_tile(
    index_map: NDArray[Any], size: tuple[int, ...], names: Sequence[str] | Mapping[int, str] = (), limit: int = 12
) -> Picture:
    """A map of class indices stretched to ``size`` (height, width), with its legend to the right."""
    classes, places, counts = np.unique(index_map, return_inverse=True, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    palette = np.full((len(classes), 3), 200, np.uint8)
    palette[order[:limit]] = [_hue(i) for i in range(min(limit, len(classes)))]
    picture = np.asarray(
        image.resize(palette[places.reshape(index_map.shape)], (size[0], size[1]), "nearest"), np.uint8
    )
    letters = max(13, size[0] // 24)
    known = dict(names if isinstance(names, Mapping) else enumerate(names))
    lines = []
    for i in order[:limit]:
        name = f"{100 * counts[i] / counts.sum():.0f} %  {known.get(int(classes[i]), f'class {classes[i]}')}"
        lines.append(layout.key(name, palette[i], letters))
    if len(classes) > limit:
        lines.append(layout.line(f"and {len(classes) - limit} more", 160, letters))
    return layout.row([picture, layout.column(lines, letters // 3)], 12)


def _default(signed: bool, otherwise: Colormap = "viridis") -> Colormap:
    return "coolwarm" if signed else otherwise


def _hue(index: int) -> tuple[int, int, int]:
    """Colours far apart from their neighbours: steps of the golden angle, in turn light and dark."""
    turn, strong = index * 0.618034 % 1 * 6, (0.5, 0.65, 0.35)[index % 3]
    light = (230, 180, 130)[index // 3 % 3]
    channels = [light * (1 - strong * min(max(abs((turn + k) % 6 - 3) - 1, 0), 1)) for k in (3, 5, 1)]
    return round(channels[0]), round(channels[1]), round(channels[2])
