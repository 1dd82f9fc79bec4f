"""Cover parts of the input and see what becomes of the score."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..attribution import Attribution
from ..engine import Engine
from ..errors import InputError, TargetError
from ..labels import Labels
from ..preprocess import Preprocessing
from ..target import ScoreKind, TargetLike
from .job import Input, Job, ModelLike, channels_first
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
        name = what.label if what is not None else self.target
        found[f"probability of {name}"] = render.heat_tile(self.extra["probability"][i], size)
        classes = self.extra["class"][i]
        labels = {int(k): str(self.params["labels"].get(int(k), k)) for k in np.unique(classes)}
        found["most probable class"] = render.categorical_tile(classes, size, labels)
        return found

    def panel(self, i: int = 0) -> NDArray[np.uint8]:
        """The photo, the drop over it, and the panels of Zeiler & Fergus."""
        from .. import layout

        panels = self.panels(i)
        return layout.figure(list(panels.values()), list(panels), self.title(i))


@method
def occlusion(
    model: ModelLike,
    x: Input,
    target: TargetLike = "top",
    *,
    window: int = 0,
    stride: int = 0,
    baseline: str = "grey",
    layer: str = "auto",
    engine: Engine | None = None,
    preprocessing: Preprocessing | None = None,
    labels: Labels | str | Path | Sequence[str] | None = None,
    score: ScoreKind = "logits",
    progress: Callable[[str, int], Callable[[int], None]] | None = None,
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
        InputError: the input is not a picture, or the window does not fit.

    Example:
        >>> occlusion("model.onnx", "cat.jpg", window=32, stride=16).extra["class"]
    """
    job = Job(model, x, target, engine=engine, preprocessing=preprocessing, labels=labels, score=score)
    if job.preprocessing is None or job.feeds[job.input.name].ndim != 4:
        raise InputError("occlusion needs a picture as input, with height and width.")
    if job.scores is None:
        raise TargetError(
            "occlusion follows a class score, and this model's output is not one row of scores per sample."
        )
    at = job.layer(layer)
    clean = job.forward([at.tensor])
    rows = job.rows(clean)
    classes = job.explained(clean)
    assert rows is not None
    view = channels_first(job.feeds[job.input.name], job.preprocessing.layout)
    height, width = view.shape[2:]
    window = window or max(min(height, width) // 7, 1)
    stride = stride or max(window // 2, 1)
    if window > max(height, width) or window < 1 or stride < 1:
        raise InputError(f"A window of {window} with stride {stride} does not fit an input of {height}x{width}.")
    tops, lefts = _starts(height, window, stride), _starts(width, window, stride)
    strongest = [int(k) for k in np.abs(channels_first(clean[at.tensor], at.layout)).sum(axis=(2, 3)).argmax(axis=1)]
    cover = _cover(view, job, baseline)
    advance = progress("occlusion", job.n * len(tops) * len(lefts)) if progress is not None else None

    drops = np.zeros((job.n, height, width), np.float64)
    grids: dict[str, list[NDArray[Any]]] = {"score": [], "probability": [], "class": [], "activation": []}
    for i in range(job.n):
        channel = strongest[i]
        index = classes[i]
        assert index is not None
        collected: dict[str, list[float]] = {name: [] for name in grids}
        for batch in _windows(view[i], cover[i], tops, lefts, window, job.engine.batch):
            feeds = job.copies(i, len(batch))
            feeds[job.input.name] = batch if job.preprocessing.layout == "NCHW" else np.moveaxis(batch, 1, -1)
            found = job.forward([at.tensor], feeds)
            covered = job.rows(found)
            assert covered is not None
            probabilities = job.probabilities(covered)
            collected["score"] += list(_of_class(covered, index))
            collected["probability"] += list(_of_class(probabilities, index, sides=1.0))
            collected["class"] += [int(r.argmax()) if len(r) > 1 else int(r[0] >= 0) for r in covered]
            collected["activation"] += list(channels_first(found[at.tensor], at.layout)[:, channel].sum(axis=(1, 2)))
            if advance is not None:
                advance(len(batch))
        clean_score = float(_of_class(rows[i : i + 1], index)[0])
        grid = np.asarray(collected["score"]).reshape(len(tops), len(lefts))
        drops[i] = _spread(clean_score - grid, tops, lefts, window, height, width)
        for name, numbers in collected.items():
            grids[name].append(np.asarray(numbers).reshape(len(tops), len(lefts)))
    seen = {int(k): job.labels.name(int(k)) for k in np.unique(grids["class"])}
    return job.attribution(  # type: ignore[no-any-return]
        "occlusion",
        drops.astype(np.float32),
        clean,
        layer=at,
        kind=Occlusion,
        signed=True,
        params={"window": window, "stride": stride, "baseline": baseline, "channels": strongest, "labels": seen},
        extra={name: np.stack(grid) for name, grid in grids.items()},
    )


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
        return np.full((len(view), view.shape[1], 1, 1), float(baseline), view.dtype)
    except ValueError as error:
        raise InputError(f"There is no baseline '{baseline}': use grey, mean or a number.") from error


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


def _of_class(rows: NDArray[Any], index: int, sides: float = 0.0) -> NDArray[Any]:
    """The column of a class; a single column holds class 1, and class 0 is its negative (or complement)."""
    if rows.shape[1] > 1:
        return rows[:, index]
    return rows[:, 0] if index == 1 else sides - rows[:, 0]


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
