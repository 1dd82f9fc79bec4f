"""`Job`: what every method needs, resolved once: input, preprocessing, target, layer, engine; with notes."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from .. import structure
from ..attribution import Attribution, Prediction, identity
from ..dtypes import is_float
from ..errors import InputError
from ..naming import Layer
from ..target import Index, TargetLike, Top
from . import predict
from .inputs import Feeds, Input, ModelLike, channels_first, read
from .registry import METHODS
from .runs import SCORE, Progress, Run, Vary, draws
from .setting import How, Setting

__all__ = ["SCORE", "How", "Job", "Progress", "Run", "Vary", "draws"]


class Job(Setting):
    """Model, input and target of one call of a method.

    Args:
        model: a model, or what `load` takes.
        x: a photo's path, several, an array as the model takes it (with or without the batch axis), or arrays by
            input name.
        target: see `onnx_inspect.target`.
        how: see `How`.
    """

    def __init__(self, model: ModelLike, x: Input, target: TargetLike = "top", **how: Unpack[How]) -> None:
        super().__init__(model, **how)
        if isinstance(target, Top | Index):
            self.score = target.kind
        self.preprocessing, self.photos, self.feeds, notes = read(self.model, x, self.preprocessing)
        self.notes += notes
        self.n = len(self.feeds[self.input.name])
        self.find_scores()
        self.aim(target)
        self.target = self.target.settle(self)

    def ready(self, paths: Sequence[Path]) -> Feeds:
        """Other photos as values of the model's input, prepared as the samples were.

        Raises:
            PhotoError: one cannot be read.
        """
        return read(self.model, list(paths), self.preprocessing)[2]

    # Tensors.

    def attributed(self, wrt: str | Sequence[str] = ()) -> list[str]:
        """The tensors to attribute the score to: those named, else every float input that it depends on.

        Raises:
            LayerError: no such tensor.
            InputError: no input holds floats, or a tensor is the same for all samples.
        """
        named = [wrt] if isinstance(wrt, str) else wrt
        found = [self.model.value(name) for name in named] or self.floats()
        self.apart(found, self.n)
        return [v.name or "" for v in found]

    def apart(self, tensors: Sequence[ir.Value], count: int) -> None:
        """Refuse tensors that `count` samples share: what they add to one score cannot be told from the sum over all.

        Raises:
            InputError: one is the same for all samples.
        """
        graph = self.model.ir.graph
        own = structure.varying(graph, [v for v in graph.inputs if count == 1 or v.name in self._samples])
        if shared := [v for v in tensors if v not in own]:
            name = shared[0].name
            raise InputError(f"'{name}' is one for all samples: name the others (--wrt), or explain one at a time.")

    def floats(self) -> list[ir.Value]:
        """The float inputs that the score depends on.

        Raises:
            InputError: there is none.
        """
        graph = self.model.ir.graph
        reached = structure.needed(graph, self.model.value(self.explained_tensor))
        given = [v for v in graph.inputs if v in reached]
        found = [v for v in given if is_float(v)]
        if not found:
            kinds = ", ".join(f"{v.name!r} ({v.dtype})" for v in given)
            raise InputError(
                f"No input holds floats, only {kinds}: name the tensor to attribute to, an embedding, say (--wrt NAME)."
            )
        if len(found) < len(given):
            others = ", ".join(repr(v.name) for v in given if not is_float(v))
            self.notes.append(f"{others} holds no floats and gets no attribution (--wrt NAME for its embedding)")
        return found

    # The result.

    def predict(self, found: Mapping[str, NDArray[Any]]) -> list[list[Prediction]]:
        """All classes per sample, the most probable first."""
        rows = self.rows(found)
        return [[]] * self.n if rows is None else predict.ranked(rows, self.probabilities(rows), self.labels)

    def attribution(
        self,
        method: str,
        values: NDArray[Any] | Mapping[str, NDArray[Any]],
        found: Mapping[str, NDArray[Any]],
        *,
        heat: NDArray[Any] | None = None,
        layer: Layer | None = None,
        kind: type[Attribution] = Attribution,
        signed: bool = False,
        params: dict[str, Any] | None = None,
        extra: dict[str, NDArray[Any]] | None = None,
        measures: dict[str, NDArray[Any]] | None = None,
    ) -> Any:
        """The result, with predictions, the explained class and all notes.

        Args:
            method: its name.
            values: the attributions, or several by the tensor they belong to, shaped like it; the picture's come first.
            found: the score and what predictions are read from, as `clean` has them.
            heat: (N, h, w) to draw; None for the values, their channels summed (signed) or the largest taken.
            layer: the layer that was explained at.
            kind: a subclass with pictures of its own.
            signed: negative values speak against the target.
            params: the parameters, for the record.
            extra: further arrays, N on the first axis.
            measures: a number per sample and name.
        """
        tensors: dict[str, NDArray[Any]] = {}
        if isinstance(values, Mapping):
            first = self.input.name if self.input.name in values else next(iter(values))
            tensors = {first: values[first], **values}
            values = values[first]
            heat = self._heat(first, values, signed) if heat is None else heat
        for name, array in (tensors or {method: values}).items():
            self._finite(array, name)
        predictions = self.predict(found)
        by_index = [{p.index: p for p in row} for row in predictions]
        explained = [by_index[i].get(c) if c is not None else None for i, c in enumerate(self.explained(found))]
        given = np.array([e.score if e is not None else np.nan for e in explained])
        heat = values if heat is None else heat
        self.notes += [note for note in self.engine.notes if note not in self.notes]
        self.engine.notes.clear()
        result = kind(
            method=method,
            values=values,
            heat=heat,
            target=str(self.target),
            explained=explained,
            scores=np.asarray(found.get(SCORE, given), np.float64),
            predictions=[row[:5] for row in predictions],
            photos=self.photos,
            preprocessing=self.preprocessing,
            provider=self.engine.provider,
            model=identity(self.model),
            layer=layer.name if layer is not None else "",
            tensor=layer.tensor if layer is not None else "",
            params=params or {},
            notes=list(self.notes),
            signed=signed,
            percentile=99 if self.input.name in tensors else None,
            extra=extra or {},
            tensors=tensors,
            measures={k: np.asarray(v, np.float64) for k, v in (measures or {}).items()},
        )
        if not result.drawable and any(self.photos):
            result.notes.append(
                f"values {values.shape[1:]} are no map of height and width: there is no picture of them"
            )
        where = f" at '{layer.name}'" if layer is not None else ""
        takes = inspect.signature(METHODS[method]).parameters if method in METHODS else {"target": None}
        taken = [k for k in takes if k == "target" or (k == "layer" and layer is not None)]
        ways = " or ".join({"target": "--target CLASS", "layer": "--layer NAME"}[k] for k in taken)
        for stem, one in zip(result.stems, heat, strict=True):
            if not one.any():
                result.notes.append(
                    f"the {method} map of '{stem}' is zero everywhere: nothing{where} speaks for this target ({ways})"
                )
            elif one.size > 1 and np.ptp(one) <= 1e-6 * np.abs(one).max():
                result.notes.append(
                    f"the {method} map of '{stem}' is the same everywhere{where}, as it is behind global pooling, say: "
                    f"it tells no place from another ({ways})"
                )
        return result

    def _heat(self, tensor: str, values: NDArray[Any], signed: bool) -> NDArray[Any]:
        """Attributions as a map: over the channels the sum, or of magnitudes the largest."""
        values, layout = values if signed else np.abs(values), self.layout(tensor)
        if layout is None or "C" not in layout or len(layout) != values.ndim or values.ndim < 3:
            between = tensor not in self.feeds  # rows of tokens, say: not to be drawn as rows of pixels
            return values.reshape(len(values), -1) if between else values
        first = channels_first(values, layout)
        heat: NDArray[Any] = first.sum(axis=1) if signed else first.max(axis=1)
        return heat
