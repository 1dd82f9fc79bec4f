"""Features: which numbers of the inputs come and go together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .job import Job

Segmentation = str | NDArray[Any] | Mapping[str, NDArray[Any]]

SUPERPIXELS = 50
KINDS = "elements, positions, grid:8, superpixels:50, quickshift or the name of a .npy file"


@dataclass(frozen=True)
class Features:
    """Which feature each number belongs to.

    name: as parameters record it. ids: per input, shaped like it with N on the first axis; each sample counts from 0,
    and a feature may lie in several inputs. counts: features per sample.
    """

    name: str
    ids: dict[str, NDArray[np.intp]]
    counts: list[int]

    def spread(self, numbers: Sequence[NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        """Numbers per sample and feature, written to all that belongs to the feature."""
        return {
            k: np.stack([row[own] for row, own in zip(numbers, ids, strict=True)]).astype(np.float32)
            for k, ids in self.ids.items()
        }

    def boxes(self, name: str, axes: Sequence[int]) -> list[NDArray[np.int64]]:
        """The boxes around the features of an input along some axes, (axes, 2, features) per sample."""
        ids = self.ids[name]
        return [
            np.stack([_extent(own, axis - 1, n) for axis in axes]) if axes else np.zeros((0, 2, n), int)
            for own, n in zip(ids, self.counts, strict=True)
        ]

    def heat(self, job: Job, values: Mapping[str, NDArray[Any]]) -> NDArray[Any] | None:
        """The values of the main input as a map: where channels share their features, those of one stand for all."""
        axis = channel_axis(job, job.input.name)
        if axis is None or job.input.name not in values or not is_picture(job):
            return None
        own, first = values[job.input.name], np.take(self.ids[job.input.name], [0], axis)
        shared = (self.ids[job.input.name] == first).all()
        return np.asarray(own.take(0, axis) if shared else own.sum(axis))


def _extent(ids: NDArray[np.intp], axis: int, count: int) -> NDArray[np.int64]:
    """Where each feature begins and ends along an axis."""
    at = np.broadcast_to(
        np.arange(ids.shape[axis]).reshape([-1 if a == axis else 1 for a in range(ids.ndim)]), ids.shape
    )
    first, last = np.full(count, ids.shape[axis]), np.zeros(count, int)
    np.minimum.at(first, ids.ravel(), at.ravel())
    np.maximum.at(last, ids.ravel(), at.ravel() + 1)
    return np.stack([np.minimum(first, last), last])


# Which inputs, and what their axes mean.


def is_picture(job: Job) -> bool:
    """True if the main input shows a picture."""
    return job.photos[0] is not None and job.preprocessing is not None


def covered(job: Job) -> list[str]:
    """The inputs whose numbers can be replaced: floats and tokens that the score depends on, or a main one of integers.

    Raises:
        InputError: no input holds an entry per sample.
    """
    kinds = {s.name: np.dtype(s.dtype).kind for s in job.model.inputs if s.dtype != "unknown"}
    apart = job.engine.samples(job.model, job.feeds)
    whole = [k for k in job.feeds if kinds.get(k) in ("i", "u") and k not in {*job.stands, *job.assumed}]
    columns = [k for k in whole if k in apart and job.feeds[k].size == job.n]  # of a table
    try:
        names = job.sources(*columns)
    except InputError:  # what has no gradient can be replaced all the same
        if job.input.name not in whole:
            raise
        names = [job.input.name]
    shared = [k for k in names if k not in apart]
    if shared == names:
        raise InputError(f"{_listed(names)} holds no entry per sample, so there is nothing to cover.")
    if shared:
        job.notes.append(f"{_listed(shared)} holds no entry per sample and stays as it is")
    for name in names:
        if kinds[name] == "f" != job.feeds[name].dtype.kind:  # whole numbers where the model takes others
            job.feeds[name] = job.feeds[name].astype(np.float32)
    return [k for k in names if k not in shared]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))


def channel_axis(job: Job, name: str) -> int | None:
    """The axis of an input, the samples' included, that holds channels or features; None if every axis is positions."""
    of_file = next(spec.layout for spec in job.model.inputs if spec.name == name)
    layout, rank = job.layout(name) if is_picture(job) else of_file, job.feeds[name].ndim
    if layout is not None and len(layout) == rank:
        return layout.index("C") if "C" in layout else None
    if rank != 3:
        return None
    lone = job.feeds[name].shape[1] == 1 < job.feeds[name].shape[2]
    axes = "samples, one channel and positions" if lone else "samples, positions and features"
    if (note := f"the axes of '{name}' are taken to be {axes}") not in job.notes:
        job.notes.append(note)
    return 1 if lone else 2


# Segmentations.


def segmented(job: Job, features: Segmentation, default: str = f"superpixels:{SUPERPIXELS}") -> Features:
    """What the user calls features.

    Args:
        job: the job.
        features: "elements", every number for itself; "positions", every pixel or step with all its channels;
            "grid:8", 8x8 cells; "superpixels:50", about 50 by SLIC in the picture that the model sees; "quickshift",
            as in LIME; the name of a .npy file; an array of integers that say which feature a number belongs to,
            which broadcasts to the input with or without samples; or such arrays by input name. "" for the default.
        default: what "" means for pictures; for anything else it means "elements".

    Raises:
        InputError: there is no such segmentation, or its shape does not fit.
    """
    names = covered(job)
    if isinstance(features, str) and features.lower().endswith(".npy"):
        features = _loaded(Path(features), job.feeds[job.input.name].size)
        told = f"{features.shape} from a file"
    else:
        told = features if isinstance(features, str) else "given"
    if isinstance(features, np.ndarray):
        features = {job.input.name: features}
    if isinstance(features, Mapping):
        return _numbered(told, {k: _fit(job, k, np.asarray(v), names) for k, v in features.items()})
    kind = features or (default if is_picture(job) else "elements")
    if not features:
        job.notes.append(f"features: {kind} (--features)")
    ids: dict[str, NDArray[np.intp]] = {}
    before = np.zeros(job.n, np.intp)
    for name in names:
        own = _made(job, name, kind)
        ids[name] = own + before.reshape(-1, *[1] * (own.ndim - 1))
        before = 1 + ids[name].reshape(job.n, -1).max(axis=1)
    found = _numbered(kind, ids)
    if not features and min(found.counts) == 1 < job.feeds[names[0]][0].size and kind != "grid:8":
        job.notes.append(f"features: {kind} makes one piece of a picture this small, so grid:8 (--features)")
        return segmented(job, "grid:8")
    return found


def _numbered(name: str, ids: dict[str, NDArray[np.intp]]) -> Features:
    """Numbers from 0 on, without gaps, in each sample."""
    counts = []
    ids = {k: v.copy() for k, v in ids.items()}
    for i in range(len(next(iter(ids.values())))):
        used = np.unique(np.concatenate([np.unique(v[i]) for v in ids.values()]))
        counts.append(len(used))
        for v in ids.values():
            v[i] = np.searchsorted(used, v[i])
    return Features(name, ids, counts)


def _made(job: Job, name: str, kind: str) -> NDArray[np.intp]:
    """The segmentation of one input; those for pictures leave the numbers of other inputs to themselves."""
    what, _, number = kind.partition(":")
    count = _count(kind, number, {"grid": 8, "superpixels": SUPERPIXELS}.get(what))
    x = job.feeds[name]
    if what == "elements":
        return np.broadcast_to(np.arange(x[0].size).reshape(x.shape[1:]), x.shape)
    axis = channel_axis(job, name)
    shape = tuple(s for i, s in enumerate(x.shape) if i not in (0, axis))
    if what == "positions" or not shape:
        plane = np.arange(np.prod(shape, dtype=int)).reshape(1, *shape)
    elif what == "grid":
        cells = [np.arange(s) * min(count, s) // s for s in shape]
        plane = np.asarray(np.ravel_multi_index(np.ix_(*cells), [int(c[-1]) + 1 for c in cells]))[None]
    elif name != job.input.name:
        return _made(job, name, "elements")
    else:
        plane = np.stack([_of_picture(picture, what, count) for picture in _pictures(job, kind)])
    return np.broadcast_to(plane if axis is None else np.expand_dims(plane, axis), x.shape)


def _count(kind: str, number: str, default: int | None) -> int:
    if kind.partition(":")[0] not in ("elements", "positions", "grid", "superpixels", "quickshift") or (
        number and (default is None or not number.isdecimal() or not int(number))
    ):
        raise InputError(f"There are no features '{kind}': use {KINDS} (--features).")
    return int(number or default or 0)


def _pictures(job: Job, kind: str) -> list[NDArray[np.uint8]]:
    """What the model sees of each sample."""
    if not is_picture(job) or job.preprocessing is None:
        raise InputError(f"'{kind}' needs a picture as input: use elements, positions or grid (--features).")
    return [job.preprocessing.inverse(x) for x in job.feeds[job.input.name]]


def _of_picture(picture: NDArray[np.uint8], what: str, count: int) -> NDArray[np.intp]:
    from skimage import segmentation

    if what == "superpixels":
        return np.asarray(segmentation.slic(picture, n_segments=count, compactness=10, start_label=0), np.intp)
    quickshift: Any = segmentation.quickshift
    return np.asarray(quickshift(picture, kernel_size=4, max_dist=200, ratio=0.2, rng=0), np.intp)


def _fit(job: Job, name: str, given: NDArray[Any], names: Sequence[str]) -> NDArray[np.intp]:
    if name not in names:
        raise InputError(f"The features name '{name}', the inputs to attribute to are {_listed(names)}.")
    if given.dtype.kind not in "iu":
        raise InputError(f"Features are numbered by integers, those of '{name}' are {given.dtype} (--features).")
    try:
        return np.broadcast_to(given.astype(np.intp), job.feeds[name].shape)
    except ValueError as error:
        raise InputError(
            f"The features of '{name}' have shape {given.shape}, the input {job.feeds[name].shape} (--features)."
        ) from error


def _loaded(path: Path, most: int) -> NDArray[Any]:
    try:
        mapped = np.lib.format.open_memmap(path, mode="r")  # reads the header alone
    except OSError as error:
        raise InputError(f"The features in {path} cannot be read: {error.strerror} (--features).") from error
    except (ValueError, TypeError, OverflowError, TokenError) as error:
        raise InputError(
            f"The features in {path} cannot be read: that is no array of numbers as numpy.save writes it (--features)."
        ) from error
    if mapped.size > most:
        raise InputError(f"The features in {path} are {mapped.size} numbers, the input has {most} (--features).")
    return np.array(mapped)
