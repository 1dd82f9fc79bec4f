"""Cover parts of the input and see what becomes of the score."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Unpack

import numpy as np
from numpy.typing import NDArray

from ..attribution import Attribution
from ..errors import LayerError
from ..naming import Layer
from ..target import Target, TargetLike
from .baselines import Baseline, filling, told
from .inputs import Feeds, Input, ModelLike
from .job import SCORE, How, Job
from .local import Local, Place, Sweep, positions, quickest
from .registry import method
from .segments import channel_axis, covered, is_picture
from .windows import Sizes, sliding


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


@method()
def occlusion(
    model: ModelLike,
    x: Input,
    target: TargetLike = "top",
    *,
    window: Sizes = 0,
    stride: Sizes = 0,
    baseline: Baseline = "",
    layer: str = "auto",
    preset: Literal["", "captum"] = "",
    seed: int = 0,
    **how: Unpack[How],
) -> Attribution:
    """Occlusion: how much the score drops when a square covers a part of the photo.

    S(x) - S(x with the window replaced), averaged over the windows that cover a pixel: positive where the photo
    speaks for the target. Values are (N, H, W) at the input's resolution, in units of the score. The last window is
    cut at the border. Also, per position of the window: the probability of the class, the most probable class, and
    the total activation of the layer's strongest feature map (figure 6 of the paper). Where the input is no picture,
    a window covers steps of a sequence or numbers of a vector, and values are shaped like the inputs. Of convolutional
    networks only what a window changes is computed, where that is quicker (Nakandala et al., SIGMOD 2019).

    Zeiler & Fergus, Visualizing and Understanding Convolutional Networks, ECCV 2014.

    Args:
        window: side of the square in pixels of the input; 0 for a seventh of the shorter side. Where the input is no
            picture, how many positions, 0 for one. From Python also a size per axis.
        stride: distance between windows; 0 for half a window. From Python also one per axis.
        baseline: what covers: grey (128 in the photo; the default), mean (of the photo), a number as the model sees it
            (0 is the default where the input is no picture), blur, noise, inpaint, another photo, an array, or arrays
            by input name.
        layer: the layer whose strongest map is followed, "auto" for the last map.
        preset: "captum" covers every float input in turn with 0, in steps of 1; sizes per axis include the channels,
            and values are shaped like the inputs.
        seed: of a baseline of noise.

    Raises:
        TargetError: no such target.
        InputError: the window does not fit, the stride leaves gaps, or there is no such baseline.

    Example:
        >>> occlusion("model.onnx", "cat.jpg", window=32, stride=16).extra["class"]
    """
    job = Job(model, x, target, **how)
    names = covered(job)
    tiles = _Tiles(job, layer) if is_picture(job) and not preset else None
    if tiles is not None:
        names = [job.input.name]
    if isinstance(baseline, str) and not baseline:
        baseline = "grey" if tiles is not None else "0"
    slides = {k: sliding(job, k, window, stride, captum=preset == "captum") for k in names}
    fill = filling(job, names, baseline, seed)
    ends = np.cumsum([len(w) for w in slides.values()]).tolist()
    begins = dict(zip(slides, [0, *ends], strict=False))

    def vary(i: int, which: NDArray[np.int64]) -> Feeds:
        covers = {k: w.covers(which - begins[k]) for k, w in slides.items()}
        return {k: np.where(cover, fill(i, k, cover), job.feeds[k][i]) for k, cover in covers.items()}

    axes = positions(job, names[0]) if len(names) == 1 else ()
    windows = slides[names[0]]
    plain = windows.whole(axes) and not (isinstance(baseline, str) and baseline == "inpaint")
    everywhere = np.broadcast_to(True, (1, *windows.shape))

    def held(i: int, k: int, at: Place) -> NDArray[Any]:
        cover = everywhere if plain else windows.covers(np.array([k]))
        return np.where(cover[at], fill(i, names[0], cover)[at], job.feeds[names[0]][i : i + 1][at])

    tensors = tiles.tensors if tiles is not None else []
    local = Local(names[0], axes, [windows.boxes(axes)] * job.n, held, "--window")
    sweep = quickest(job, Sweep(vary, tiles.run if tiles is not None else None), local, tensors)
    kept: dict[str, NDArray[Any]] = {}
    for i, which, found in job.sweep("occlusion", ends[-1], sweep.vary, sweep.run):
        measured = {"score": found[SCORE]} | (tiles.measure(i, found) if tiles is not None else {})
        for name, numbers in measured.items():
            kept.setdefault(name, np.zeros((job.n, ends[-1]), numbers.dtype))[i, which] = numbers
    drops = job.clean[SCORE].astype(np.float64)[:, None] - kept["score"]
    values = {
        k: np.stack([w.spread(row[begins[k] : begins[k] + len(w)]) for row in drops]).astype(np.float32)
        for k, w in slides.items()
    }
    main = job.input.name if job.input.name in slides else names[0]
    first, axis = slides[main], channel_axis(job, main)
    params: dict[str, Any] = {"window": first.window, "stride": first.stride, "baseline": told(baseline)}
    params["incremental"] = list(sweep.maps)  # from which on whole maps were computed
    if tiles is None:
        heat = values[main].mean(axis) if axis is not None and is_picture(job) else None
        params["preset"] = preset
        return job.attribution("occlusion", values, job.clean, heat=heat, signed=True, params=params)  # type: ignore[no-any-return]
    labels = {int(k): job.labels.name(int(k)) for k in np.unique(kept.get("class", []))}
    grid = [len(s) for i, s in enumerate(first.starts, 1) if i != axis]
    return job.attribution(  # type: ignore[no-any-return]
        "occlusion",
        np.asarray(values[main].take(0, axis) if axis is not None else values[main]),  # windows cover all channels
        job.clean,
        layer=tiles.at,
        kind=Occlusion,
        signed=True,
        params=params | {"channels": tiles.strongest, "labels": labels},
        extra={k: v.reshape(job.n, *grid) for k, v in kept.items()},
    )


class _Tiles:
    """What the model says and sees while the window is at each place, as Zeiler & Fergus draw it."""

    def __init__(self, job: Job, layer: str) -> None:
        self.job, self.at, self.strongest = job, _followed(job, layer), list[int]()
        self.classes = job.explained(job.clean)
        self.tensors = [self.at.tensor] if self.at is not None else []
        if self.at is not None:
            maps = self.at.maps(job.forward([self.at.tensor])[self.at.tensor])
            self.strongest = [int(k) for k in np.abs(maps).sum(axis=(2, 3)).argmax(axis=1)]

    def run(self, feeds: Feeds, target: Target) -> Feeds:
        return self.job.forward(self.tensors, target, feeds | target.feeds(len(feeds[self.job.input.name])))

    def measure(self, i: int, found: Mapping[str, NDArray[Any]]) -> Feeds:
        measured: Feeds = {}
        if self.at is not None:
            maps = self.at.maps(found[self.at.tensor])
            measured["activation"] = maps[:, self.strongest[i]].sum(axis=(1, 2))
        rows, index = self.job.rows(found), self.classes[i]
        if rows is not None and index is not None:
            measured |= {"probability": self.job.probabilities(rows)[:, index], "class": rows.argmax(axis=1)}
        return measured


def _followed(job: Job, layer: str) -> Layer | None:
    """The layer with maps to follow; None where "auto" finds none."""
    try:
        return job.layer(layer)
    except LayerError:
        if layer != "auto":
            raise
        job.notes.append("no layer is a map with height and width, so no activation is followed (--layer NAME)")
        return None
