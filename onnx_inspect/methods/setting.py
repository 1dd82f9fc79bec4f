"""`Setting`: a model made ready to be asked: engine, class scores and their names, layers; with notes."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from .. import engine as engines
from .. import labels
from ..dtypes import Precision
from ..engine import Engine
from ..errors import LayerError, TargetError
from ..labels import Labels
from ..model import Model, load
from ..naming import Choice, Layer
from ..preprocess import Preprocessing
from ..scores import ScoreKind, Scores, scores
from ..target import TargetLike, parse
from .arguments import check, hints_of, pixels
from .inputs import ModelLike, image_input
from .runs import Progress, Runs

if TYPE_CHECKING:
    from ..places import Places

_SIZES = 4  # of inputs whose places are kept


class How(TypedDict, total=False):
    """What every method takes by keyword.

    engine: where to run; None for the shared one.
    preprocessing: how photos become inputs; None for the file's metadata, or a guess that is noted.
    labels: class names, or the file that holds them; None for the metadata's, or ImageNet's for 1000 outputs.
    score: "logits" explains the score before a final softmax or sigmoid, "output" the output itself.
    precision: of the gradients of half precision: "float32", or "model" for that of the model itself.
    progress: called with the name of a step and how many runs it takes; gives a function that counts them.
    """

    engine: Engine | None
    preprocessing: Preprocessing | None
    labels: Labels | str | Path | Sequence[str] | None
    score: ScoreKind
    precision: Precision
    progress: Progress | None


class Setting(Runs):
    """A model, where it runs, and what its scores are called; inputs and targets come with `Job` and `Survey`.

    Args:
        model: a model, or what `load` takes.
        how: see `How`.
    """

    def __init__(self, model: ModelLike, **how: Unpack[How]) -> None:
        if unknown := sorted(set(how) - set(How.__annotations__)):
            takes, told = ", ".join(How.__annotations__), pixels(unknown[0], how[unknown[0]])  # type: ignore[literal-required]
            raise TypeError(f"There is no argument '{unknown[0]}': methods also take {takes}.{told}")
        check(hints_of(How), how)
        self.model = model if isinstance(model, Model) else load(model)
        self.engine = how.get("engine") or engines.default()
        self.notes = list(self.model.notes)
        self.score = how.get("score", "logits")
        self.precision = how.get("precision", "float32")
        self.input = image_input(self.model)
        self.preprocessing = how.get("preprocessing")
        self.progress = how.get("progress")
        self._named = how.get("labels")

    def find_scores(self) -> None:
        """Find the class scores, and name the classes."""
        self.scores = self.model.fact(("scores", self.score), self._scores)
        count = self.scores.count if self.scores is not None and not self.scores.numbers else None
        if isinstance(self._named, Labels):
            self.labels = self._named
        else:
            given: str | Path | Sequence[str] | None = self._named

            def named() -> tuple[Labels, list[str]]:
                return labels.resolve(self.model.metadata, count, given)

            # What a file says may change, what the model says does not.
            self.labels, notes = named() if given is not None else self.model.memo(("labels", count), named)
            self.notes += notes
        if self.scores is not None and self.scores.activation is not None:
            where = "before" if self.score == "logits" else "after"
            other = "output" if self.score == "logits" else "logits"
            self.notes.append(f"score: taken {where} the final {self.scores.activation} (--score {other})")
        if self.scores is not None and self.scores.quantised:
            self.notes.append(
                "score: taken before the final quantiser, which is flat where it saturates (--score output)"
            )
        floats = [o.name for o in self.model.outputs if o.dtype.startswith("float")]
        if self.scores is not None and self.scores.output in floats[1:]:
            self.notes.append(
                f"class scores: '{self.scores.output}', the first output that is no map (--target \"'{floats[0]}'[0]\")"
            )

    def _scores(self) -> Scores | None:
        with contextlib.suppress(TargetError):  # no row of class scores: a target must name the elements it means
            return scores(self.model, kind=self.score)
        return None

    def aim(self, target: TargetLike) -> None:
        """Set the target.

        Raises:
            TargetError: no such target.
        """
        self.target = parse(target, self.model, self.labels, self.score)
        if self.scores is None:
            return
        self.target.check(self.scores.count)
        if self.target.as_numbers(self.scores):
            self.scores = None
        elif self.scores.count == 1:
            self.notes.append(
                f"'{self.scores.output}' is a single number, read as a yes or no: class 1 is its own side, 0 the other "
                f"(--target \"'{self.scores.output}'\" for the number)"
            )

    @property
    def explained_tensors(self) -> list[str]:
        """The tensors that the target's score is read from."""
        if found := self.target.reads(self.model):
            return found
        return [self.scores.tensor if self.scores is not None else self.model.outputs[0].name]

    @property
    def explained_tensor(self) -> str:
        """The tensor that the target's score is read from, the first of several."""
        return self.explained_tensors[0]

    def layer(self, name: str) -> Layer:
        """The layer with this name; "auto" chooses and notes why.

        Raises:
            LayerError: no such layer; "best" takes a measurement, which is not made here.
        """
        if name == "best":
            raise LayerError(
                "The best layer has to be measured first, which only methods on the command line do by themselves: "
                "give its name, from Python that of oi.best_layer(model, photos).best."
            )
        if name != "auto":
            known = ("layer", name, *self._seen)
            return self._rowed(self.model.fact(known, lambda: self.places.seen(self.model.layer(name))))
        tensors = self.explained_tensors
        known = ("auto", *tensors, *self._seen)
        choice = self.model.fact(known, lambda: self._auto(tensors))
        self.notes.append(choice.reason)
        return self._rowed(choice.layer)

    def _auto(self, tensors: Sequence[str]) -> Choice:
        from .. import layer

        return layer.auto(self.model, *tensors, places=self.places)

    def _rowed(self, at: Layer) -> Layer:
        """A layer whose first axis holds samples and nothing else: windows get an axis of their own."""
        if at.grid is None or 0 not in at.grid.axes:
            return at
        from .. import rewrite

        whole, tensor, shape = self.model, at.tensor, at.grid.shape
        name = rewrite.by_sample(tensor)
        self.model = whole.rewritten(("rowed", tensor, *shape), lambda: rewrite.rowed(whole, tensor, shape))
        return replace(at, tensor=name, grid=self.places.grid(name))

    @property
    def _seen(self) -> tuple[Any, ...]:
        """What the places of tensors depend on: the input that is the picture, its layout, and the sizes of all."""
        return (self.input.name, self.layout(self.input.name), tuple(self.sizes.items()))

    @property
    def places(self) -> Places:
        """Where tensors lie on the picture."""
        from ..places import Places

        name, layout, key = self._seen
        kept: dict[Any, Places] = self.model.memo(("places", name, layout), dict)
        if key not in kept:
            if len(kept) >= _SIZES:
                del kept[next(iter(kept))]
            kept[key] = Places(self.model, name, layout, self.sizes)
        return kept[key]

    @property
    def sizes(self) -> dict[str, tuple[int, ...]]:
        """The shape of inputs for one sample, as far as it is known."""
        layout = self.layout(self.input.name)
        if self.preprocessing is None or layout is None:
            return {}
        sides = dict(zip("HW", self.preprocessing.size, strict=True)) | {"N": 1}
        shape = [sides.get(letter, n) for letter, n in zip(layout, self.input.shape, strict=False)]
        known = tuple(n for n in shape if isinstance(n, int))
        return {self.input.name: known} if len(known) == len(self.input.shape) else {}

    def layout(self, tensor: str) -> str | None:
        """What the axes of a tensor mean, a letter each, None where nobody knows."""
        known = self.model.layout(tensor)
        if known is None and tensor == self.input.name and self.preprocessing is not None:
            return self.preprocessing.layout
        return known
