"""Cover parts of the input and see what becomes of the score."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from ..attribution import Attribution
from ..errors import InputError
from ..target import Index, TargetLike
from .inputs import Input, ModelLike, channels_first
from .job import SCORE, How, Job
from .registry import method

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Occlusion(Attribution):
    """The drop of the score, and in `extra` per position of the window: probability, class and activation."""

    def panels(self, i: int = 0, height: int = 320) -> dict[str, NDArray[np.uint8]]:
        """The tiles of Zeiler & Fergus (2014, figure 6) by their captions, all showing what the model sees.

        The photo, the drop over it, the total activation of the strongest map, the probability of the class, and
        the most probable class, for the window at each place; `height` pixels high.
        """
        from .. import image, layout, render

        photo, what = self.photo(i), self.explained[i]
        seen = render.view(photo.pixels, photo.geometry, height)
        size = seen.shape[:2]
        drop = image.resize(self.heat[i], size)
        over = layout.fit(render.overlay(seen, drop, signed=self.signed), *size)
        found = {
            "photo as the model sees it": seen,
            "drop of the score": layout.with_bar(over, render.limits(drop, self.signed), "coolwarm"),
        }
        if "activation" in self.extra:
            name = f"activation of map {self.params['channels'][i]}"
            found[name] = render.heat_tile(self.extra["activation"][i], size)
        if "class" in self.extra and what is not None:
            found[f"probability of {what.label}"] = render.heat_tile(self.extra["probability"][i], size)
            classes = self.extra["class"][i]
            labels = {int(k): str(self.params["labels"].get(int(k), k)) for k in np.unique(classes)}
            found["most probable class"] = render.categorical_tile(classes, size, labels)
        else:
            found["score"] = render.heat_tile(self.extra["score"][i], size)
        return found

    def panel(self, i: int = 0) -> NDArray[np.uint8]:
        """The photo, the drop over it, and the panels of Zeiler & Fergus."""
        from .. import layout

        panels = self.panels(i)
        return layout.figure(list(panels.values()), list(panels), self.title(i))


@method("picture")
def occlusion(
    model: ModelLike,
    x: Input,
    target: TargetLike = "top",
    *,
    window: int = 0,
    stride: int = 0,
    baseline: str = "grey",
    layer: str = "auto",
    **how: Unpack[How],
) -> Occlusion:
    """Occlusion: how much the score drops when a square covers a part of the photo.

    S(x) - S(x with the window replaced), averaged over the windows that cover a pixel: positive where the photo
    speaks for the target. Values are (N, H, W) at the input's resolution, in units of the score. The last window is
    cut at the border. Also, per position of the window: the probability of the class, the most probable class, and
    the total activation of the layer's strongest feature map (figure 6 of the paper).

    Zeiler & Fergus, Visualizing and Understanding Convolutional Networks, ECCV 2014.

    Args:
        window: side of the square in pixels of the input; 0 for a seventh of the shorter side.
        stride: distance between windows in pixels; 0 for half a window.
        baseline: what covers: "grey" (128 in the photo), "mean" (of the photo) or a number, as the model sees it.
        layer: the layer whose strongest map is followed, "auto" for the last map.

    Raises:
        TargetError: no such target.
        InputError: the input is not a picture, the window does not fit, or the stride leaves gaps.

    Example:
        >>> occlusion("model.onnx", "cat.jpg", window=32, stride=16).extra["class"]
    """
    job = Job(model, x, target, **how)
    if job.preprocessing is None or job.feeds[job.input.name].ndim != 4:
        raise InputError("occlusion needs a picture as input, with height and width.")
    at = job.layer(layer)
    clean = job.forward([at.tensor])
    classes = job.explained(clean)
    # The class stays what it was for the clean photo, whatever a covered one looks most like.
    targets = [job.target if c is None else Index(c, how.get("score", "logits")) for c in classes]
    view = channels_first(job.feeds[job.input.name], job.preprocessing.layout)
    tops, lefts, window, stride = _places(view.shape[2], view.shape[3], window, stride)
    strongest = [int(k) for k in np.abs(channels_first(clean[at.tensor], at.layout)).sum(axis=(2, 3)).argmax(axis=1)]
    cover = _cover(view, job, baseline)
    advance = job.progress("occlusion", job.n * len(tops) * len(lefts)) if job.progress else lambda n: None

    drops, scores = np.zeros((job.n, *view.shape[2:]), np.float32), np.zeros(job.n)
    grids: dict[str, list[NDArray[Any]]] = {}
    for i, own in enumerate(targets):
        scores[i] = job.forward([], own, job.copies(i, 1) | own.feeds(1))[SCORE][0]
        collected: dict[str, list[float]] = {}
        for batch in _windows(view[i], cover[i], tops, lefts, window, job.engine.batch):
            feeds = job.copies(i, len(batch)) | own.feeds(len(batch))
            feeds[job.input.name] = batch if job.preprocessing.layout == "NCHW" else np.moveaxis(batch, 1, -1)
            found = job.forward([at.tensor], own, feeds)
            if len(found[SCORE]) != len(batch):
                raise InputError("Samples do not stay apart in this model: let each run alone (--batch 1).")
            maps = channels_first(found[at.tensor], at.layout)
            measured = {"score": found[SCORE], "activation": maps[:, strongest[i]].sum(axis=(1, 2))}
            rows, index = job.rows(found), classes[i]
            if rows is not None and index is not None:
                measured |= {"probability": job.probabilities(rows)[:, index], "class": rows.argmax(axis=1)}
            for name, numbers in measured.items():
                collected.setdefault(name, []).extend(numbers.tolist())
            advance(len(batch))
        for name, values in collected.items():
            grids.setdefault(name, []).append(np.asarray(values).reshape(len(tops), len(lefts)))
        drops[i] = _spread(scores[i] - grids["score"][i], tops, lefts, window, *view.shape[2:])
    seen = {int(k): job.labels.name(int(k)) for k in np.unique(grids.get("class", []))}
    return job.attribution(  # type: ignore[no-any-return]
        "occlusion",
        drops,
        {**clean, SCORE: scores},
        layer=at,
        kind=Occlusion,
        signed=True,
        params={"window": window, "stride": stride, "baseline": baseline, "channels": strongest, "labels": seen},
        extra={name: np.stack(grid) for name, grid in grids.items()},
    )


def _places(height: int, width: int, window: int, stride: int) -> tuple[list[int], list[int], int, int]:
    """Where windows begin, from the top and from the left, with the window and stride that 0 stands for."""
    window = window or max(min(height, width) // 7, 1)
    stride = stride or max(window // 2, 1)
    if not 1 <= window <= max(height, width):
        raise InputError(f"A window of {window} does not fit an input of {height}x{width} (--window).")
    if not 1 <= stride <= window:
        raise InputError(f"A stride of {stride} leaves gaps between windows of {window}, or goes nowhere (--stride).")
    return _starts(height, window, stride), _starts(width, window, stride), window, stride


def _starts(size: int, window: int, stride: int) -> list[int]:
    """Where windows begin: every stride, until one reaches the border (and is cut there)."""
    count = 1 + max(0, -(-(size - window) // stride))
    return [i * stride for i in range(count) if i * stride < size]


def _cover(view: NDArray[Any], job: Job, baseline: str) -> NDArray[Any]:
    """What covers the window, (N, C, 1, 1) as the model sees it."""
    assert job.preprocessing is not None
    if baseline == "mean":
        mean: NDArray[Any] = view.mean(axis=(2, 3), keepdims=True)
        return mean.astype(view.dtype)
    if baseline == "grey":
        grey = job.preprocessing.apply(np.full((*job.preprocessing.size, 3), 128, np.uint8))[None]
        return np.repeat(channels_first(grey, job.preprocessing.layout)[:, :, :1, :1], len(view), axis=0)
    try:
        number = float(baseline)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"There is no baseline '{baseline}': use grey, mean or a number (--baseline).")
    return np.full((len(view), view.shape[1], 1, 1), number, view.dtype)


def _windows(
    x: NDArray[Any], cover: NDArray[Any], tops: list[int], lefts: list[int], window: int, batch: int
) -> Iterator[NDArray[Any]]:
    """Copies of a sample with one window covered each, a batch at a time."""
    places = [(top, left) for top in tops for left in lefts]
    for start in range(0, len(places), batch):
        chunk = places[start : start + batch]
        copies = np.repeat(x[None], len(chunk), axis=0)
        for copy, (top, left) in zip(copies, chunk, strict=True):
            copy[:, top : top + window, left : left + window] = cover
        yield copies


def _spread(
    grid: NDArray[Any], tops: list[int], lefts: list[int], window: int, height: int, width: int
) -> NDArray[np.float64]:
    """The mean over the windows that cover each pixel."""
    total, count = np.zeros((height, width)), np.zeros((height, width))
    for r, top in enumerate(tops):
        for c, left in enumerate(lefts):
            area = (slice(top, top + window), slice(left, left + window))
            total[area] += grid[r, c]
            count[area] += 1
    return np.divide(total, count, out=np.zeros_like(total), where=count > 0)
