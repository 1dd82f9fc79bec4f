"""A target in a space of features: how alike a photo is to another one."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from pathlib import Path
from tokenize import TokenError
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from ..emit import Op
from ..errors import PhotoError, TargetError
from ..model import Model
from ..scores import ScoreKind, Scores, scores
from .base import Asks, Target, floats, per_sample, rows_for
from .elements import quoted

if TYPE_CHECKING:
    from numpy.typing import NDArray

REFERENCE = "target.reference"  # the graph input for the other photo's vector: one compiled model serves all


@dataclass(frozen=True)
class Similarity(Target):
    """The cosine of a photo's embedding and another's: S = <v, r> / (|v| |r|).

    The embedding is the model's output, or a layer; of a map, the means of its channels, as `embed` has them.

    Attributes:
        reference: the other photo, or a .npy file with a vector.
        layer: the layer's readable name, "" for the output.
        kind: "logits" looks behind a final softmax or sigmoid.
        vector: r / |r|, (1, D), once it is known.
    """

    reference: str
    layer: str = ""
    kind: ScoreKind = "logits"
    vector: NDArray[np.float32] | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        return f"embedding:similarity={quoted(self.reference)}" + (f"@{quoted(self.layer)}" if self.layer else "")

    def key(self) -> Hashable:
        """All references share one compiled model."""
        return ("similarity", self.layer, self.kind)

    def as_numbers(self, found: Scores) -> bool:
        """An output that is an embedding holds no scores of classes."""
        return not self.layer

    def reads(self, model: Model) -> list[str]:
        """The embedding."""
        if self.layer:
            return [model.layer(self.layer).tensor]
        found = scores(model, kind=self.kind)
        if found.count == 1:
            raise TargetError(f"'{found.output}' is a single number, and no embedding: name a layer ({self}@LAYER).")
        return [found.tensor]

    def emit(self, op: Op, model: Model) -> ir.Value:
        """The cosine."""
        [name] = self.reads(model)
        like = model.value(name)
        letters = model.layouts.get(like)
        value = floats(op, like)
        if letters is not None and "C" in letters and len(letters) > 2:
            value = op.ReduceMean(value, [i for i, letter in enumerate(letters) if letter not in "NC"], keepdims=0)
        rows = op.Flatten(value, axis=1)
        unit: Any = per_sample(op, REFERENCE, ir.DataType.FLOAT, like, 2)
        unit = op.Cast(unit, to=rows.dtype) if rows.dtype == ir.DataType.DOUBLE else unit
        product, length = op.ReduceSum(rows * unit, [1], keepdims=0), op.ReduceL2(rows, [1], keepdims=0)
        cosine = product / op.Max(length, 1e-12)
        cosine.shape = ir.Shape([None])
        return cosine  # type: ignore[no-any-return]

    def settle(self, runs: Asks) -> Target:
        """The other photo's vector, prepared as the samples are."""
        if self.vector is not None:
            return self
        [name] = self.reads(runs.model)
        found = self._read() if self.reference.lower().endswith(".npy") else self._computed(runs, name)
        own = self._pooled(runs, runs.copies(0, 1), name)
        if found.size != own.size:
            raise TargetError(
                f"'{self.reference}' holds {found.size} numbers, and an embedding of '{name}' {own.size}."
            )
        length = np.linalg.norm(found.astype(np.float64))
        if not np.isfinite(length) or length == 0:
            raise TargetError(f"The vector of '{self.reference}' has no direction: its length is {length:g}.")
        runs.notes.append(
            f"target: the cosine of {own.size} numbers, '{self.layer or name}', to those of "
            f"'{Path(self.reference).name}' (--target embedding:similarity=PHOTO@LAYER)"
        )
        return replace(self, vector=(found.reshape(1, -1) / length).astype(np.float32))

    def feeds(self, n: int) -> dict[str, NDArray[Any]]:
        """The other vector, for every sample."""
        if self.vector is None:
            raise TargetError(f"The reference of '{self}' is not read yet: ask a method, which settles it.")
        return {REFERENCE: rows_for(self.vector, n, self)}

    def _computed(self, runs: Asks, name: str) -> NDArray[Any]:
        try:
            feeds = runs.ready([Path(self.reference)])
        except PhotoError as error:
            raise TargetError(f"The reference of '{self}' cannot be taken: {error}") from error
        if others := [k for k in runs.feeds if k != runs.input.name]:
            runs.notes.append(f"the reference goes with {', '.join(map(repr, others))} of the first sample")
        return self._pooled(runs, {**runs.copies(0, 1), **feeds}, name)

    def _pooled(self, runs: Asks, feeds: dict[str, NDArray[Any]], name: str) -> NDArray[Any]:
        from ..depth import pooled

        return pooled(runs.forward([name], None, feeds)[name], runs.model.layouts.get(runs.model.value(name)))

    def _read(self) -> NDArray[Any]:
        try:
            found = np.load(self.reference, mmap_mode="r", allow_pickle=False)
        except OSError as error:
            raise TargetError(f"The vector '{self.reference}' cannot be read: {error.strerror}.") from error
        except (ValueError, TypeError, LookupError, OverflowError, SyntaxError, TokenError, EOFError) as error:
            raise TargetError(
                f"The vector '{self.reference}' is no array of numbers as numpy.save writes it."
            ) from error
        if not isinstance(found, np.ndarray) or found.dtype.kind not in "fiu":
            raise TargetError(f"The vector '{self.reference}' holds no numbers.")
        return found
