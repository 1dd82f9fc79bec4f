"""`Job`: what every method needs, resolved once: input, preprocessing, target, layer, engine; with notes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from .. import structure
from ..attribution import Attribution, Prediction, Shown, identity, shares
from ..dtypes import is_float
from ..errors import InputError
from ..maps import channels_first
from ..naming import Layer
from ..target import Index, TargetLike, Top, parse
from . import blanks, predict
from .embeddings import Stand, stand
from .inputs import Feeds, Input, ModelLike, read
from .runs import SCORE, Progress, Run, Vary, draws
from .samples import Samples, is_mask
from .setting import How, Setting

MOST = 5  # of the most probable classes that a result names

__all__ = ["SCORE", "How", "Job", "Progress", "Run", "Vary", "draws"]


class Job(Setting):
    """Model, input and target of one call of a method.

    Args:
        model: a model, or what `load` takes.
        x: a photo's path, several, an array as the model takes it (with or without the batch axis), or arrays by
            input name; `Samples` says what they are called, too.
        target: see `onnx_inspect.target`.
        how: see `How`.
    """

    def __init__(self, model: ModelLike, x: Input, target: TargetLike = "top", **how: Unpack[How]) -> None:
        super().__init__(model, **how)
        if isinstance(target, Top | Index):
            self.score = target.kind
        taken = read(self.model, x, self.preprocessing)
        self.preprocessing, self.photos, self.feeds = taken.preprocessing, taken.photos, taken.feeds
        self.samples, self.assumed = taken.samples, taken.assumed
        self.notes += taken.notes
        self._standing: dict[str, str] = {}  # what is attributed to in the place of an input of whole numbers
        self.n = len(self.feeds[self.input.name])
        if self.model.fact("branches", self._branches):
            from ..rewrite import settled

            self.model = settled(self.model, self.feeds, lambda: self._axes)
        self.find_scores()
        self.aim(target)
        self.target = self.target.settle(self)

    def _branches(self) -> bool:
        return any(node.op_type == "If" for node in self.model.ir.graph)

    def aim(self, target: TargetLike) -> None:
        """Set the target; where there are no classes, the most probable one is a number.

        Raises:
            TargetError: no such target.
        """
        found = parse(target, self.model, self.labels, self.score)
        if isinstance(found, Top) and self.scores is not None:
            found, notes = predict.meant(found, self.scores, self.model, self.labels)
            self.notes += notes
        super().aim(found)

    @property
    def sizes(self) -> dict[str, tuple[int, ...]]:
        """The shape of inputs for one sample."""
        axes = self._axes
        return {
            k: (*v.shape[: axes[k]], 1, *v.shape[axes[k] + 1 :]) if k in axes else v.shape
            for k, v in self.feeds.items()
        }

    def ready(self, paths: Sequence[Path]) -> Feeds:
        """Other photos as values of the model's input, prepared as the samples were.

        Raises:
            PhotoError: one cannot be read.
        """
        others = {k: v for k, v in self.copies(0, 1).items() if k != self.input.name}
        return read(self.model, Samples({self.input.name: list(paths), **others}), self.preprocessing).feeds

    # Tensors.

    def attributed(self, wrt: str | Sequence[str] = ()) -> list[str]:
        """The tensors to attribute the score to: those named, else every input that it depends on.

        In the place of whole numbers stand their embeddings: `attribution` gives these back to the input.

        Raises:
            LayerError: no such tensor.
            InputError: no input holds floats or tokens, or a tensor is the same for all samples.
        """
        named = [wrt] if isinstance(wrt, str) else wrt
        found = [self.model.value(name).name or "" for name in named]
        for name in [] if named else self.sources():
            tensors = [t.name or "" for t in self.stands[name].tensors] if name in self.stands else [name]
            found += tensors
            if name in self.stands:
                self._standing |= dict.fromkeys(tensors, name)
                where = f"at {', '.join(map(repr, tensors))}"
                rows = "a number for each token, the sum over its embedding" if self.stands[name].rows else "as floats"
                self.notes.append(f"'{name}' holds whole numbers: attributed to {where}, {rows} (--wrt NAME)")
        self.apart(found, self.n)
        return found

    @cached_property
    def stands(self) -> dict[str, Stand]:
        """What stands for inputs of whole numbers that are no masks."""
        given = [s.name for s in self.model.inputs if not is_mask(s) and s.name not in self._floats]
        found = {name: stand(self.model, self.model.value(name)) for name in given}
        return {name: one for name, one in found.items() if one is not None}

    @property
    def _floats(self) -> frozenset[str]:
        """The inputs that hold floats."""
        return self.model.fact(
            "floats", lambda: frozenset(v.name or "" for v in self.model.ir.graph.inputs if is_float(v))
        )

    def apart(self, tensors: Sequence[str], count: int) -> None:
        """Refuse tensors that `count` samples share: what they add to one score cannot be told from the sum over all.

        Raises:
            InputError: one is the same for all samples.
        """
        given = [s.name for s in self.model.inputs if count == 1 or s.name in self._samples]

        def shared() -> list[str]:
            graph = self.model.ir.graph
            own = structure.varying(graph, [v for v in graph.inputs if v.name in given])
            return [name for name in tensors if self.model.values[name] not in own]

        for name in self.model.fact(("shared", tuple(tensors), tuple(given)), shared):
            raise InputError(f"'{name}' is one for all samples: name the others (--wrt), or explain one at a time.")

    def sources(self, *others: str) -> list[str]:
        """The inputs that the score depends on and that can be attributed to: floats and tokens, and some others.

        Left out is what nobody gave, and what holds samples on another axis than the first.

        Raises:
            InputError: there is none.
        """
        given = [s for s in self.model.inputs if s.name in self.reached and s.name not in self.assumed]
        able = [s.name for s in given if s.name in self._floats or s.name in self.stands or s.name in others]
        found = [name for name in able if not self._axes.get(name, 0)]
        if not found:
            kinds = ", ".join(f"{s.name!r} ({self.model.value(s.name).dtype})" for s in given)
            raise InputError(
                f"No input holds floats, only {kinds}: name the tensor to attribute to, an embedding, say (--wrt NAME)."
            )
        for name in able:
            if name not in found:
                self.notes.append(f"'{name}' has its samples on axis {self._axes[name]}: left out (--wrt {name})")
        if left := ", ".join(repr(s.name) for s in given if s.name not in able):
            self.notes.append(f"{left} holds no floats and gets no attribution (--wrt NAME for its embedding)")
        return found

    @property
    def reached(self) -> set[str]:
        """The inputs that the score depends on."""
        tensors = self.explained_tensors
        return set(self.model.fact(("reached", *tensors), lambda: self._reached(tensors)))

    def _reached(self, tensors: Sequence[str]) -> frozenset[str]:
        graph = self.model.ir.graph
        reached = [structure.needed(graph, self.model.value(tensor)) for tensor in tensors]
        return frozenset(v.name or "" for v in set().union(*reached).intersection(graph.inputs))

    # The result.

    def predict(self, found: Mapping[str, NDArray[Any]]) -> tuple[list[list[Prediction]], list[Prediction | None]]:
        """The most probable classes per sample, and the explained one; none where the scores are of something else."""
        rows = self.rows(found)
        if rows is None or (self.scores is not None and self.scores.numbers):
            return [[] for _ in range(self.n)], [None] * self.n
        p = self.probabilities(rows)
        classes = zip(self.explained(found), rows, p, strict=True)
        explained = [None if c is None else predict.one(c, row, of, self.labels) for c, row, of in classes]
        return predict.ranked(rows, p, self.labels, MOST), explained

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
            values = self._returned(values)
            first = self.input.name if self.input.name in values else next(iter(values))
            tensors = {first: values[first], **values}
            values = values[first]
            heat = self._heat(first, values, signed) if heat is None else heat
        for name, array in (tensors or {method: values}).items():
            self._finite(array, name)
        predictions, explained = self.predict(found)
        given = np.array([e.score if e is not None else np.nan for e in explained])
        heat = values if heat is None else heat
        # A map of positions is drawn on the signal that it belongs to.
        seen = [self.input.name] if heat.ndim == 2 and heat.shape[1] > 1 and not any(self.photos) else []
        self.notes += [note for note in self.engine.notes if note not in self.notes]
        self.engine.notes.clear()
        result = kind(
            method=method,
            values=values,
            heat=heat,
            target=str(self.target),
            explained=explained,
            scores=np.asarray(found.get(SCORE, given), np.float64),
            predictions=predictions,
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
            shares=shares(tensors, self.n) if len(tensors) > 1 and set(tensors) <= set(self.feeds) else {},
            measures={k: np.asarray(v, np.float64) for k, v in (measures or {}).items()},
            shown={k: self._shown(k, found) for k in tensors or seen if k != self.input.name or not any(self.photos)},
            names=list(self.samples.names),
        )
        if not result.drawable and any(self.photos):
            result.notes.append(
                f"values {values.shape[1:]} are no map of height and width: there is no picture of them"
            )
        result.notes += blanks.remarks(method, lambda i: result.stems[i], heat, layer)
        return result

    def _returned(self, values: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Attributions by input where tensors stood for one, and with samples on the first axis."""
        returned: dict[str, NDArray[Any]] = {}
        for name, array in values.items():
            if (source := self._standing.get(name)) is not None:
                array = self.stands[source].gathered(array, self.feeds[source].shape)
                returned[source] = returned[source] + array if source in returned else array
            else:
                returned[name] = np.moveaxis(array, self._axes.get(name, 0), 0)
        return returned

    def _shown(self, name: str, found: Mapping[str, NDArray[Any]]) -> Shown:
        """What an input, or a tensor between, holds, and what that is called."""
        given = self.feeds.get(name, found.get(name))
        if given is None:
            return Shown(None, [], self.layout(name))
        rows = np.moveaxis(given, self._axes.get(name, 0), 0)
        words = [self.samples.words(name, row) for row in rows]
        tokens = name in self.stands and self.stands[name].rows
        return Shown(rows, words if any(words) else [], self.layout(name), tokens)

    def _heat(self, tensor: str, values: NDArray[Any], signed: bool) -> NDArray[Any]:
        """Attributions as a map: over the channels the sum, or of magnitudes the largest."""
        values, layout = values if signed else np.abs(values), self.layout(tensor)
        if layout is None or "C" not in layout or len(layout) != values.ndim or values.ndim < 3:
            between = tensor not in self.feeds  # rows of tokens, say: not to be drawn as rows of pixels
            return values.reshape(len(values), -1) if between else values
        first = channels_first(values, layout)
        heat: NDArray[Any] = first.sum(axis=1) if signed else first.max(axis=1)
        return heat
