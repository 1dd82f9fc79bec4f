"""A target in a segmentation: the score of a class over a region."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import onnx_ir as ir

from ..emit import Op
from ..errors import AbsentError, TargetError
from ..geometry import Box
from ..model import Model
from ..scores import ScoreKind
from .base import Asks, Target, called, floats, per_sample, rows_for, summed
from .elements import quoted
from .score_maps import ScoreMap, described, find

if TYPE_CHECKING:
    from numpy.typing import NDArray

CLASS, REGION = "target.class", "target.region"  # graph inputs: one compiled model serves every class and region
Region = Literal["mask", "all"] | Box


@dataclass(frozen=True)
class Segmentation(Target):
    """The mean or sum of a class's scores over a region: S = sum_p w_p s_c(p), where w is a graph input.

    Attributes:
        index: the class c. Of a yes or no, 1 is the yes, and 0 its negative.
        region: "mask", where the class is predicted for the untouched sample; "all"; or a box (x0, y0, x1, y1) in
            pixels of the photo, of the input where there is none. Positions that lie half in it count half.
        how: "mean" or "sum".
        output: which output, "" for the first segmentation.
        kind: "logits" looks behind a final softmax or sigmoid.
        weights: w per sample, (n, positions...), once it is known.
    """

    index: int
    region: Region = "mask"
    how: Literal["mean", "sum"] = "mean"
    output: str = ""
    kind: ScoreKind = "logits"
    weights: NDArray[np.float32] | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        output = f"output={quoted(self.output)}," if self.output else ""
        region = self.region if isinstance(self.region, str) else ",".join(f"{v:.10g}" for v in self.region)
        where = "" if region == "mask" else f"@{region}"
        return f"segmentation:{output}class={self.index}{where}{' . sum' if self.how == 'sum' else ''}"

    def key(self) -> Hashable:
        """All classes and regions share one compiled model."""
        return ("segmentation", self.output, self.kind)

    def reads(self, model: Model) -> list[str]:
        """The map of scores."""
        return [find(model, self.output, self.kind).tensor]

    def emit(self, op: Op, model: Model) -> ir.Value:
        """The scores of the class at every position, weighted and summed."""
        found = find(model, self.output, self.kind)
        self._check_class(found)
        value = floats(op, model.value(found.tensor))
        axes = op.rank(value)
        if found.axis is None:
            maps, axes = op.Unsqueeze(value, [1]), axes + 1
        elif found.axis != 1:
            maps = op.Transpose(value, perm=[0, found.axis, *(i for i in range(1, axes) if i != found.axis)])
        else:
            maps = value
        if found.count == 1:
            maps = op.Concat(1 - maps if found.is_probability else -maps, maps, axis=1)
        like = model.value(found.tensor)
        index = per_sample(op, CLASS, ir.DataType.INT64, like)
        weights = per_sample(op, REGION, ir.DataType.FLOAT, like, axes - 1)
        pair = op.Unsqueeze(index, [1])  # shapes are for the adjoints, which ask for the number of axes
        for made, rank in ((maps, axes), (pair, 2)):
            made.shape = made.shape or ir.Shape([None] * rank)
        own = op.GatherND(maps, pair, batch_dims=1)
        own.shape = ir.Shape([None] * (axes - 1))
        return summed(op, own * (op.Cast(weights, to=own.dtype) if own.dtype == ir.DataType.DOUBLE else weights))

    def settle(self, runs: Asks) -> Target:
        """The region, on the samples as they are."""
        if self.weights is not None:
            return self
        found = find(runs.model, self.output, self.kind)
        self._check_class(found)
        if self.region == "mask" and not runs.photos:
            raise TargetError(f"A photo decides where '{self}' is, and there is none: take '{self._all}', or a box.")
        where = np.stack([self._where(found, runs, i) for i in range(runs.n)])
        weights = where.astype(np.float64)
        shares = weights.mean(axis=tuple(range(1, weights.ndim)))
        if self.how == "mean":
            weights = (weights.T / weights.sum(axis=tuple(range(1, weights.ndim)))).T
        runs.notes.append(self._told(found, runs, shares))
        return replace(self, weights=weights.astype(np.float32))

    def sample(self, i: int) -> Target:
        """The region of one of the samples."""
        return self if self.weights is None else replace(self, weights=self.weights[i : i + 1])

    def feeds(self, n: int) -> dict[str, NDArray[Any]]:
        """The class and the region."""
        if self.weights is None:
            raise TargetError(f"Where '{self}' is depends on the sample: ask a method, which settles it.")
        return {CLASS: np.full(n, self.index), REGION: rows_for(self.weights, n, self)}

    def _check_class(self, found: ScoreMap) -> None:
        count = found.count if found.count is None else max(found.count, 2)
        if self.index < 0 or (count is not None and self.index >= count):
            has = f"has {count} classes, counted from 0" if count is not None else "counts classes from 0"
            raise TargetError(f"There is no class {self.index}: the segmentation '{found.output}' {has}.")

    @property
    def _all(self) -> Segmentation:
        return replace(self, region="all")

    def _where(self, found: ScoreMap, runs: Asks, i: int) -> NDArray[Any]:
        """How much of each position is in the region, for a sample."""
        values = runs.forward([found.tensor], None, runs.copies(i, 1))[found.tensor]
        if self.region == "mask":
            where = found.predicted(values, self.index)[0]
            if not where.any():
                raise self._absent(found.shares(values), runs, i)
            return np.asarray(where)
        sizes = [n for axis, n in enumerate(values.shape) if axis not in (0, found.axis)]
        return np.ones(sizes) if self.region == "all" else self._covered(sizes, runs, i)

    def _absent(self, shares: NDArray[np.float64], runs: Asks, i: int) -> AbsentError:
        """The error for a class that is predicted nowhere: what is."""
        seen = [c for c in np.argsort(-shares, kind="stable").tolist() if shares[c]]
        told = [f"{_class(runs, c)} on {100 * shares[c]:.3g} %" for c in seen[:5]]
        told += [f"{len(seen) - 5} more"] if len(seen) > 5 else []
        return AbsentError(
            f"{_class(runs, self.index)} is predicted nowhere on {called(runs, i)}, but {', '.join(told) or 'nothing'}"
            f": name one of these, a box, or all of the map ({self._all})."
        )

    def _covered(self, sizes: Sequence[int], runs: Asks, i: int) -> NDArray[np.float64]:
        """How much of each position lies in the box."""
        photo, box = runs.photos[i] if i < len(runs.photos) else None, self.region
        letters, shape = runs.input.layout or "NCHW", runs.feeds[runs.input.name].shape
        if len(sizes) != 2 or isinstance(box, str) or (photo is None and len(letters) != len(shape)):
            raise TargetError(f"A box lies on a picture, and here is none: take '{self._all}'.")
        if photo is not None:
            (height, width), box = photo.geometry.model, photo.geometry.to_model(box)
        else:
            height, width = (shape[letters.index(a)] for a in "HW")
        rows = _overlap(sizes[0], box[1] * sizes[0] / height, box[3] * sizes[0] / height)
        columns = _overlap(sizes[1], box[0] * sizes[1] / width, box[2] * sizes[1] / width)
        if not rows.any() or not columns.any():
            raise AbsentError(f"The box of '{self}' lies outside of what the model sees of {called(runs, i)}.")
        return np.outer(rows, columns)

    def _told(self, found: ScoreMap, runs: Asks, shares: NDArray[np.float64]) -> str:
        """What was assumed."""
        low, high = (f"{100 * v:.3g}" for v in (shares.min(), shares.max()))
        share = f"{low} %" if low == high else f"{low} to {high} %"
        where = {"mask": f"where it is predicted, {share} of the map", "all": "the whole map"}.get(
            str(self.region), f"the box, {share} of the map"
        )
        score = "" if found.activation is None else f", {'after' if found.inside else 'before'} the {found.activation}"
        return (
            f"target: {_class(runs, self.index)} in {described(found, runs.model)}{score}, its {self.how} over {where} "
            "(--target segmentation:output=NAME,class=K@mask|all|x0,y0,x1,y1)"
        )


def _overlap(cells: int, low: float, high: float) -> NDArray[np.float64]:
    """How much of each of some cells, one long each, lies between two places."""
    at = np.arange(cells)
    return np.asarray((np.minimum(at + 1, high) - np.maximum(at, low)).clip(0, 1))


def _class(runs: Asks, index: int) -> str:
    name = runs.labels.name(index)
    return name if name == f"class {index}" else f"{name} ({index})"
