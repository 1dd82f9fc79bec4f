"""`Job`: what every method needs, resolved once: input, preprocessing, target, layer, engine; with notes."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypedDict, Unpack

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from .. import engine as engines
from .. import geometry, guess, labels, layer
from ..attribution import Attribution, Photo, Prediction, identity
from ..autodiff.gradient import Precision, differentiate, scored
from ..autodiff.table import Rules, edition
from ..engine import Engine
from ..errors import InputError, InspectError, ResultError, TargetError
from ..labels import Labels
from ..model import Model, load
from ..naming import Layer
from ..preprocess import Preprocessing
from ..rewrite import expose
from ..scores import ScoreKind, Scores, scores
from ..structure import Spec, normalises
from ..target import Element, Target, TargetLike, parse
from . import predict

SCORE = "inspect/score"  # what runs call the explained score: no model has a tensor of that name
ModelLike = Model | str | Path | bytes
PhotoLike = str | Path
Input = PhotoLike | Sequence[PhotoLike] | NDArray[Any] | Mapping[str, NDArray[Any]]


class How(TypedDict, total=False):
    """What every method takes by keyword.

    engine: where to run; None for the shared one.
    preprocessing: how photos become inputs; None for the file's metadata, or a guess that is noted.
    labels: class names, or the file that holds them; None for the metadata's, or ImageNet's for 1000 outputs.
    score: "logits" explains the score before a final softmax or sigmoid, "output" the output itself.
    precision: of the gradients of half precision: "float32", or "model" for that of the model itself.
    """

    engine: Engine | None
    preprocessing: Preprocessing | None
    labels: Labels | str | Path | Sequence[str] | None
    score: ScoreKind
    precision: Precision


class Job:
    """Model, input and target of one call of a method.

    Args:
        model: a model, or what `load` takes.
        x: a photo's path, several, an array as the model takes it (with or without the batch axis), or arrays by
            input name.
        target: see `onnx_inspect.target`.
        how: see `How`.
    """

    def __init__(self, model: ModelLike, x: Input, target: TargetLike = "top", **how: Unpack[How]) -> None:
        if unknown := sorted(set(how) - set(How.__annotations__)):
            raise TypeError(f"There is no argument '{unknown[0]}': methods also take {', '.join(How.__annotations__)}.")
        self.model = model if isinstance(model, Model) else load(model)
        self.engine = how.get("engine") or engines.default()
        self.notes = list(self.model.notes)
        self.score: ScoreKind = how.get("score", "logits")
        self.precision: Precision = how.get("precision", "float32")
        self.input = image_input(self.model)
        self.preprocessing, self.photos, self.feeds = self._read(x, how.get("preprocessing"))
        self.n = len(self.feeds[self.input.name])
        self._name_classes(how.get("labels"))
        self.target = parse(target, self.model, self.labels, self.score)
        if self.scores is not None:
            self.target.check(self.scores.count)

    def _read(
        self, x: Input, preprocessing: Preprocessing | None
    ) -> tuple[Preprocessing | None, list[Photo | None], dict[str, NDArray[Any]]]:
        if isinstance(x, Mapping | np.ndarray):
            feeds = dict(x) if isinstance(x, Mapping) else {self.input.name: x}
            if self.input.name not in feeds:
                raise InputError(f"The input '{self.input.name}' has no value; given are {sorted(feeds)}.")
            array = feeds[self.input.name]
            if array.ndim and array.ndim == len(self.input.shape) - 1 and isinstance(x, np.ndarray):
                feeds[self.input.name] = array = array[None]
            return *self._of_arrays(array, preprocessing), feeds
        paths = [Path(x)] if isinstance(x, str | Path) else [Path(p) for p in x]
        if not paths:
            raise InputError("There is no photo to explain.")
        from .. import image

        if preprocessing is None:
            preprocessing, notes = guess_preprocessing(self.model)
            self.notes += notes
        pixels = [image.read(p) for p in paths]
        self.notes += [note for p in paths for note in image.remarks(p)]
        photos: list[Photo | None] = [
            Photo(p, a, preprocessing.geometry(a.shape)) for p, a in zip(paths, pixels, strict=True)
        ]
        return preprocessing, photos, {self.input.name: preprocessing.batch(pixels)}

    def _of_arrays(
        self, array: NDArray[Any], preprocessing: Preprocessing | None
    ) -> tuple[Preprocessing | None, list[Photo | None]]:
        """Arrays that are pictures get a photo back, so that maps can be drawn on them."""
        try:
            if preprocessing is None:
                preprocessing = guess_preprocessing(self.model)[0]
                self.notes.append(
                    "the input came as an array, as the model takes it; pictures of it, and what is grey, assume "
                    f"{preprocessing.describe()} (preprocessing=)"
                )
            pictures = [preprocessing.inverse(a) for a in array]
        except InspectError:
            return preprocessing, [None] * len(array)
        return preprocessing, [Photo(None, p, geometry.squash(p.shape[:2], p.shape[:2])) for p in pictures]

    def _name_classes(self, given: Labels | str | Path | Sequence[str] | None) -> None:
        self.scores: Scores | None = None
        with contextlib.suppress(TargetError):  # no row of class scores: a target must name the elements it means
            self.scores = scores(self.model, kind=self.score)
        count = self.scores.count if self.scores is not None else None
        if isinstance(given, Labels):
            self.labels = given
        else:
            self.labels, notes = labels.resolve(self.model.metadata, count, given)
            self.notes += notes
        if self.scores is not None and self.scores.activation is not None:
            where = "before" if self.score == "logits" else "after"
            other = "output" if self.score == "logits" else "logits"
            self.notes.append(f"score: taken {where} the final {self.scores.activation} (--score {other})")
        if self.scores is not None and count == 1:
            self.notes.append(
                f"'{self.scores.output}' is a single number, read as a yes or no: class 1 is its own side, 0 the other "
                f"(--target \"'{self.scores.output}'[0]\")"
            )

    # Layer.

    @property
    def explained_tensor(self) -> str:
        """The tensor that the target's score is read from."""
        if isinstance(self.target, Element):
            return self.target.output
        return self.scores.tensor if self.scores is not None else self.model.outputs[0].name

    def layer(self, name: str) -> Layer:
        """The layer with this name; "auto" chooses and notes why."""
        if name != "auto":
            return self.model.layer(name)
        choice = layer.auto(self.model, self.explained_tensor)
        self.notes.append(choice.reason)
        return choice.layer

    # Running.

    def gradients(self, tensors: Sequence[str], rules: Rules | None = None) -> dict[str, NDArray[Any]]:
        """One run: the tensors, `gradient.<tensor>` for each, and the score."""
        computed = [t for t in tensors if t not in self.feeds]

        def build() -> Model:
            shown = expose(self.model, [*computed, *self._outputs()])
            return differentiate(shown, self.target, tensors, rules=rules, precision=self.precision, score=SCORE)

        if self.precision == "float32" and any(v.dtype == ir.DataType.FLOAT16 for v in self.model.varying):
            self.notes.append("gradients of half precision are computed in float32 (--precision model)")
        key = ("gradient", self.target.key(), tuple(tensors), self.precision, edition())
        model = self.model.memo(key, build) if rules is None else build()
        wanted = [SCORE, *computed, *(f"gradient.{t}" for t in tensors), *self._outputs()]
        found = self._run(model, wanted, self.feeds | self.target.feeds(self.n))
        return {**{t: self.feeds[t] for t in tensors if t in self.feeds}, **found}

    def forward(
        self, tensors: Sequence[str], target: Target | None = None, feeds: Mapping[str, NDArray[Any]] | None = None
    ) -> dict[str, NDArray[Any]]:
        """One run without gradients: the tensors, what predictions are read from, and the score of a target."""
        wanted = list(dict.fromkeys([*tensors, *self._outputs()]))
        if target is None:
            model = self.model.memo(("expose", *wanted), lambda: expose(self.model, wanted))
        else:
            key = ("score", target.key(), *wanted)
            model = self.model.memo(key, lambda: scored(expose(self.model, wanted), target, score=SCORE))
            wanted = [SCORE, *wanted]
        return self._run(model, wanted, feeds or self.feeds)

    def _run(self, model: Model, wanted: list[str], feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        found = self.engine.run(model, feeds, wanted)
        for name in wanted:
            self._finite(found[name], name)
        return found

    def copies(self, i: int, count: int) -> dict[str, NDArray[Any]]:
        """The feeds of one sample, repeated."""
        return {k: v[i : i + 1].repeat(count, axis=0) if k in self._samples else v for k, v in self.feeds.items()}

    @cached_property
    def _samples(self) -> frozenset[str]:
        return self.engine.samples(self.model, self.feeds)

    def _outputs(self) -> list[str]:
        return [self.scores.tensor] if self.scores is not None else []

    def _finite(self, values: NDArray[Any], name: str) -> None:
        if values.dtype.kind != "f" or np.isfinite(values).all():
            return
        for weight, value in self.model.ir.graph.initializers.items():
            tensor = value.const_value
            if (
                tensor is not None
                and tensor.dtype.is_floating_point()
                and not np.isfinite(tensor.numpy().astype(np.float32)).all()
            ):
                raise ResultError(
                    f"'{name}' is not a number: the weight '{weight}' of the model holds NaN or infinity."
                )
        raise ResultError(
            f"'{name}' is not a number (NaN or infinity), though all weights are: check the preprocessing, and "
            "whether the model overflows its number type."
        )

    # Predictions and the result.

    def rows(self, found: Mapping[str, NDArray[Any]]) -> NDArray[Any] | None:
        """The class scores, (N, classes), None where the model has none; a lone score as its two sides."""
        return None if self.scores is None else predict.rows(self.scores, self.score, found[self.scores.tensor])

    def probabilities(self, rows: NDArray[Any]) -> NDArray[Any]:
        """What a final activation makes of the class scores."""
        assert self.scores is not None
        return predict.probabilities(self.scores, self.score, rows)

    def predict(self, found: Mapping[str, NDArray[Any]]) -> list[list[Prediction]]:
        """All classes per sample, the most probable first."""
        rows = self.rows(found)
        return [[]] * self.n if rows is None else predict.ranked(rows, self.probabilities(rows), self.labels)

    def explained(self, found: Mapping[str, NDArray[Any]]) -> list[int | None]:
        """The class that the target means, per sample."""
        rows = self.rows(found)
        return [None] * self.n if rows is None else self.target.chosen(rows)

    def attribution(
        self,
        method: str,
        values: NDArray[Any],
        found: Mapping[str, NDArray[Any]],
        *,
        heat: NDArray[Any] | None = None,
        layer: Layer | None = None,
        kind: type[Attribution] = Attribution,
        signed: bool = False,
        params: dict[str, Any] | None = None,
        extra: dict[str, NDArray[Any]] | None = None,
    ) -> Any:
        """The result, with predictions, the explained class and all notes."""
        self._finite(values, method)
        predictions = self.predict(found)
        by_index = [{p.index: p for p in row} for row in predictions]
        explained = [by_index[i].get(c) if c is not None else None for i, c in enumerate(self.explained(found))]
        given = np.array([e.score if e is not None else np.nan for e in explained])
        heat = values if heat is None else heat
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
            extra=extra or {},
        )
        for stem, one in zip(result.stems, heat, strict=True):
            if not one.any():
                where = f" at '{layer.name}'" if layer is not None else ""
                result.notes.append(
                    f"the {method} map of '{stem}' is zero everywhere: nothing{where} speaks for this target "
                    "(--layer NAME or --target CLASS)"
                )
        return result


def image_input(model: Model) -> Spec:
    """The input that takes the photo: the first that looks like one, else the first.

    Raises:
        InputError: the model has no inputs.
    """
    if not model.inputs:
        raise InputError("The model has no inputs.")
    return next((s for s in model.inputs if s.layout is not None and len(s.layout) == 4), model.inputs[0])


def guess_preprocessing(model: Model, preset: str | None = None, **flags: Any) -> tuple[Preprocessing, list[str]]:
    """Preprocessing from flags, the file's metadata, or a guess that the notes own up to."""
    spec = image_input(model)
    value = next(v for v in model.ir.graph.inputs if v.name == spec.name)
    return guess.resolve(spec, model.metadata, normalises(value), preset=preset, **flags)


def channels_first(values: NDArray[Any], layout: str | None) -> NDArray[Any]:
    """(N, C, H, W) from whatever order the layout says."""
    if layout is None or layout.startswith("NC"):
        return values
    return np.moveaxis(values, layout.index("C"), 1)
