"""What the CAM family shares: maps at one layer or several, mirrored and scaled inputs, and the result."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .. import structure
from ..attribution import Attribution
from ..errors import InputError, LayerError
from ..maps import channels_back, channels_first, positions
from ..naming import Layer
from ..target import Target
from .baselines import cast
from .inputs import Feeds
from .job import Job
from .runs import SCORE, Vary

Layers = str | Sequence[str]
Fuse = Literal["mean", "max"]
Interpolation = Literal["linear", "corners", "nearest"]
Array = NDArray[Any]
_ANYWHERE = frozenset("gradcam gradcam_plusplus xgradcam".split())  # channels have one weight for all positions


@dataclass(frozen=True)
class View:
    """A layer as one run saw it, its positions in a row, whatever the layout and the number of their axes.

    Attributes:
        job: the job.
        at: the layer.
        x: the picture as it was run, (N, C, ...).
        A: the feature maps, (N, C, P).
        g: dS/dA, like A; empty for methods that need none.
        S: the score, (N,).
        sizes: of the positions, (h, w); P is their product.
        raw: the layer's tensor as it is.
    """

    job: Job
    at: Layer
    x: Array
    A: Array
    g: Array
    S: Array
    sizes: tuple[int, ...]
    raw: Array

    def weighted(self, w: Array) -> Array:
        """sum_k w_k A_k for weights (N, C)."""
        total: Array = (w[:, None] @ self.A)[:, 0]
        return total

    def variants(self, name: str, count: int, vary: Callable[[int, Array], Array]) -> Array:
        """The score of (sample, which variants) -> feature maps (n, C, P) that stand for the layer's: (N, count)."""
        job, tensor = self.job, self.at.tensor

        def feeds(i: int, which: Array) -> Feeds:
            maps = vary(i, which)
            maps = maps.reshape(*maps.shape[:2], *self.sizes)
            whole = self.at.tensor_of(maps, np.split(self.raw, job.n)[i])
            return {tensor: whole.astype(self.A.dtype), **self._inputs(self.x[i : i + 1].repeat(len(which), axis=0))}

        def run(feeds: Feeds, target: Target) -> dict[str, Array]:
            return job.forward([], target, feeds | target.feeds(len(feeds[tensor])), at=[tensor])

        return self.collect(job.sweep(name, count, feeds, run), count)

    def feeding(self, vary: Callable[[int, Array], Array]) -> Vary:
        """Pictures (n, C, ...) as the model's input."""
        return lambda i, which: self._inputs(vary(i, which))

    def _inputs(self, x: Array) -> Feeds:
        name = self.job.input.name
        return {name: cast(channels_back(x, self.job.layout(name)), self.job.feeds[name].dtype)}

    def collect(self, sweep: Any, count: int) -> Array:
        """The scores that a sweep finds, (N, count)."""
        scores = np.zeros((self.job.n, count), np.result_type(self.S, np.float32))
        for i, which, found in sweep:
            scores[i, which] = found[SCORE]
        return scores


Formula = Callable[[View], Array]  # the raw map, (N, P), before the paper's last ReLU


def explain(
    method: str,
    job: Job,
    layer: Layers,
    formula: Formula,
    *,
    fuse: Fuse,
    flips: bool,
    scales: Sequence[float],
    signed: bool,
    gradients: bool = True,
    pgc: bool = False,
    params: dict[str, Any] | None = None,
) -> Attribution:
    """The result of a method whose maps end in a ReLU, unless they are signed."""
    at = maps_at(job, layer)
    values, found = mapped(
        job,
        at,
        formula,
        fuse=fuse,
        flips=flips,
        scales=scales,
        rectify=not signed,
        gradients=gradients,
        pgc=pgc and not signed,
    )
    if job.target.local and method in _ANYWHERE:
        job.notes.append(
            f"{method} gives a channel one weight for all positions, so its map of a box lights up other things that "
            "have the same features; those of hirescam and layercam do not"
        )
    given = {"fuse": fuse, "flips": flips, "scales": list(scales), "signed": signed, **(params or {})}
    heat = values if pgc else placed(at, values)
    return job.attribution(method, values, found, heat=heat, layer=together(at), signed=signed, params=given)  # type: ignore[no-any-return]


def mapped(
    job: Job,
    at: Sequence[Layer],
    formula: Formula,
    *,
    fuse: Fuse = "mean",
    flips: bool = False,
    scales: Sequence[float] = (),
    rectify: bool = True,
    gradients: bool = True,
    pgc: bool = False,
) -> tuple[Array, dict[str, Array]]:
    """The map of several layers, averaged over mirrored and scaled inputs, and what the clean run found.

    With `pgc`, as pytorch-grad-cam has it: each layer's map is brought to 0 to 1 before it is resized to the input,
    and so is what they are fused to.
    """
    x, letters = channels_first(job.feeds[job.input.name], job.layout(job.input.name)), job.layout(job.input.name) or ""
    variants = [(flip, scale) for flip in ((False, True) if flips else (False,)) for scale in (list(scales) or [1.0])]
    if not all(scale > 0 for scale in scales):
        raise InputError(f"The input cannot be multiplied by {min(scales):g}: scales are greater than 0 (--scales).")
    if flips and "W" not in letters:
        raise InputError(f"'{job.input.name}' has no width that could be mirrored (--flips).")
    if x.dtype.kind != "f" and any(scale != 1 for _, scale in variants):
        raise InputError(f"'{job.input.name}' holds {x.dtype} numbers, which cannot be scaled (--scales).")
    clean = variants == [(False, 1.0)]
    maps = []
    for flip, scale in variants:
        seen = x[..., ::-1] if flip else x
        seen = seen if scale == 1 else seen * np.asarray(scale, x.dtype)
        found = _run(job, at, seen, gradients, clean)
        own = [_map(job, one, seen, formula, found, rectify) for one in at]
        fused = _fused(at, own, fuse, x.shape[2:] if pgc else ())
        maps.append(fused[..., ::-1] if flip else fused)
    return np.mean(maps, axis=0) if len(maps) > 1 else maps[0], found if clean else job.clean


def _run(job: Job, at: Sequence[Layer], x: Array, gradients: bool, clean: bool) -> dict[str, Array]:
    name, target = job.input.name, job.target if clean else job.settled
    feeds = job.feeds if clean else job.feeds | {name: np.ascontiguousarray(channels_back(x, job.layout(name)))}
    tensors = list(dict.fromkeys(one.tensor for one in at))
    if gradients:
        return job.gradients(tensors, feeds=feeds, target=target)
    return job.forward(tensors, target, feeds | target.feeds(job.n))


def _map(job: Job, at: Layer, x: Array, formula: Formula, found: dict[str, Array], rectify: bool) -> Array:
    raw = found[at.tensor]
    A, g = at.maps(raw), at.maps(found.get(f"gradient.{at.tensor}", raw[:0]))
    sizes = A.shape[2:]
    values = formula(View(job, at, x, in_rows(A), in_rows(g), found[SCORE], sizes, raw)).reshape(job.n, *sizes)
    return np.maximum(values, 0) if rectify else values


def in_rows(values: Array) -> Array:
    """(N, C, ...) as (N, C, P), in at least single precision."""
    return np.asarray(
        values.reshape(*values.shape[:2], math.prod(values.shape[2:])), np.result_type(values, np.float32)
    )


def _fused(at: Sequence[Layer], maps: list[Array], fuse: Fuse, pgc: tuple[int, ...]) -> Array:
    """One map of several layers' maps, at the largest size, or as pytorch-grad-cam has it at that of the input."""
    one = np.mean if fuse == "mean" else np.max
    if pgc:
        return unit(one([resized(unit(m), pgc) for m in maps], axis=0))
    if len(maps) == 1:
        return maps[0]
    maps = [layer.placed(m) for layer, m in zip(at, maps, strict=True)]
    size = tuple(max(sides) for sides in zip(*(m.shape[1:] for m in maps), strict=True))
    return np.asarray(one([resized(m, size) for m in maps], axis=0))


def placed(at: Sequence[Layer], values: Array) -> Array:
    """The map of a layer from edge to edge of the picture; that of several lies so already."""
    return at[0].placed(values) if len(at) == 1 else values


def unit(maps: Array, eps: float = 1e-7) -> Array:
    """Each of (N, ...) from 0 to 1, those that are constant 0."""
    axes = tuple(range(1, maps.ndim))
    maps = maps - maps.min(axis=axes, keepdims=True)
    return np.asarray(maps / (maps.max(axis=axes, keepdims=True) + eps))


def resized(maps: Array, size: tuple[int, ...], how: Interpolation = "linear") -> Array:
    """Maps (..., positions) at another size, axis by axis.

    "linear" keeps the edges of pixels on edges, "corners" the centres of corner pixels on centres, "nearest" repeats.
    """
    for axis, (cells, pixels) in enumerate(zip(maps.shape[-len(size) :], size, strict=True), start=-len(size)):
        pixel = np.arange(pixels)
        place = {
            "linear": (pixel + 0.5) * cells / pixels - 0.5,
            "corners": pixel * (cells - 1) / max(pixels - 1, 1),
            "nearest": pixel * cells // pixels,
        }[how].clip(0, cells - 1)
        weights = (1 - np.abs(place[:, None] - np.arange(cells))).clip(0).astype(maps.dtype)
        maps = np.moveaxis(np.moveaxis(maps, axis, -1) @ weights.T, -1, axis)
    return maps


def maps_at(job: Job, layer: Layers) -> list[Layer]:
    """The layers with these names, all of them maps.

    Raises:
        LayerError: no such layer, or it is not a map.
    """
    names = [layer] if isinstance(layer, str) else list(layer)
    if not names:
        raise LayerError("There is no layer to explain at: name one or several, or 'auto' (--layer NAME).")
    return [_checked(job, job.layer(name)) for name in names]


def _checked(job: Job, at: Layer) -> Layer:
    letters, seen = at.axes, positions(job.layout(job.input.name) or "NCHW")
    if len(letters) != len(seen):
        extent = {1: "length", 2: "height and width"}.get(len(seen), "extent")
        raise LayerError(
            f"'{at.name}' ({at.op_type}, {structure.sizes(at.shape)}) is not a map with {extent}: "
            "`onnx-inspect layers MODEL --spatial` lists those that are."
        )
    if letters != seen:
        raise LayerError(
            f"The axes of '{at.name}' ({at.layout}) are in another order than those of the input, so its map would not "
            "lie on the picture: name another layer (--layer NAME), or explain the input (saliency)."
        )
    return at


def together(at: Sequence[Layer]) -> Layer:
    """Several layers under one name."""
    return replace(at[0], name=", ".join(a.name for a in at), tensor=", ".join(a.tensor for a in at))
