"""`Runs`: running the model of a job: forward, with gradients, over many variants."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ..dtypes import Precision
from ..engine import Engine
from ..errors import InputError, ResultError, TargetError
from ..facts import FOREIGN
from ..labels import Labels
from ..model import Model
from ..scores import ScoreKind, Scores
from ..structure import Spec
from ..target import Element, Index, Target, parse
from . import predict
from .inputs import Feeds

if TYPE_CHECKING:
    from ..autodiff.table import Rules

SCORE = "inspect/score"  # what runs call the explained score: no model has a tensor of that name
Progress = Callable[[str, int], Callable[[int], None]]
Vary = Callable[[int, NDArray[np.int64]], Mapping[str, NDArray[Any]]]
Run = Callable[[Feeds, Target], dict[str, NDArray[Any]]]


class Runs:
    """What `Job` runs: a model on samples, for a target.

    Attributes:
        model: the model.
        engine: where it runs.
        input: the input that takes the picture, or the first.
        feeds: a value per input.
        n: samples.
        scores: where the class scores are, None where there are none.
        score: which of them are explained, before or after the final activation.
        precision: of gradients.
        target: what is explained.
        labels: names of the classes.
        progress: starts a progress bar.
        notes: what was assumed.
    """

    model: Model
    engine: Engine
    input: Spec
    feeds: Feeds
    n: int
    scores: Scores | None
    score: ScoreKind
    precision: Precision
    target: Target
    labels: Labels
    progress: Progress | None
    notes: list[str]

    def gradients(
        self,
        tensors: Sequence[str],
        rules: Rules | None = None,
        *,
        feeds: Feeds | None = None,
        target: Target | None = None,
        through: str = "",
        at: Sequence[str] = (),
    ) -> dict[str, NDArray[Any]]:
        """One run: the tensors, `gradient.<tensor>` for each, and the score.

        Args:
            tensors: to differentiate with respect to.
            rules: the table of rules, a `Table` (whose name says what it is), None for gradients.
            feeds: a value per input, None for the samples as they are.
            target: None for the job's.
            through: only what passes these elements counts, in the language of targets: "layer[3,1,1]".
            at: tensors that become inputs, with values in `feeds`: what computes them is cut off.
        """
        feeds, target = self.feeds if feeds is None else feeds, target or self.target
        computed = [t for t in tensors if t not in feeds]
        passed = self._element(through) if through else None

        def build() -> Model:
            from ..autodiff.gradient import differentiate
            from ..rewrite import expose

            shown = expose(self._cut(at), [*computed, *self._outputs()])
            return differentiate(
                shown, target, tensors, rules=rules, precision=self.precision, score=SCORE, through=passed
            )

        if self.precision == "float32" and self.model.fact("half", self._half):
            self.notes.append("gradients of half precision are computed in float32 (--precision model)")
            self.notes[:] = dict.fromkeys(self.notes)  # many runs say it once
        name = getattr(rules, "name", None)
        key = ("gradient", target.key(), tuple(tensors), self.precision, len(FOREIGN), name, str(passed), tuple(at))
        model = build() if rules is not None and name is None else self.model.rewritten(key, build)
        wanted = [SCORE, *computed, *(f"gradient.{t}" for t in tensors), *self._outputs()]
        found = self._run(model, wanted, feeds | target.feeds(self._count(feeds)))
        return {**{t: feeds[t] for t in tensors if t in feeds}, **found}

    def _half(self) -> bool:
        return any(v.dtype == ir.DataType.FLOAT16 for v in self.model.varying)

    def _cut(self, at: Sequence[str]) -> Model:
        """The model from some tensors on; they become inputs."""
        if not at:
            return self.model
        return self.model.rewritten(("from", *at), lambda: self._from(at))

    def _from(self, at: Sequence[str]) -> Model:
        from ..rewrite import cut

        return cut(self.model, inputs=at)

    def _exposed(self, wanted: Sequence[str], at: Sequence[str]) -> Model:
        from ..rewrite import expose

        return expose(self._cut(at), wanted)

    def _element(self, text: str) -> Element:
        found = parse(text, self.model, self.labels, "output")
        if not isinstance(found, Element) or found.how != "sum":
            raise TargetError(f"'{text}' is no element of a tensor: write it as layer[channel, row, column].")
        return found

    def _count(self, feeds: Mapping[str, NDArray[Any]]) -> int:
        """How many samples there are in feeds."""
        return len(next((v for k, v in feeds.items() if k in self._samples), feeds[self.input.name]))

    def forward(
        self,
        tensors: Sequence[str],
        target: Target | None = None,
        feeds: Mapping[str, NDArray[Any]] | None = None,
        *,
        at: Sequence[str] = (),
    ) -> dict[str, NDArray[Any]]:
        """One run without gradients: the tensors, what predictions are read from, and the score of a target.

        Tensors of `at` become inputs, as in `gradients`.
        """
        wanted = list(dict.fromkeys([*tensors, *self._outputs()]))
        if target is None:
            model = self.model.rewritten(("expose", *wanted, tuple(at)), lambda: self._exposed(wanted, at))
        else:
            key = ("score", target.key(), *wanted, tuple(at))
            model = self.model.rewritten(key, lambda: self._scored(wanted, target, at))
            wanted = [SCORE, *wanted]
        return self._run(model, wanted, self.feeds if feeds is None else feeds)

    def _scored(self, wanted: Sequence[str], target: Target, at: Sequence[str]) -> Model:
        from ..autodiff.gradient import scored

        return scored(self._exposed(wanted, at), target, score=SCORE)

    @cached_property
    def clean(self) -> dict[str, NDArray[Any]]:
        """The score of the samples as they are, and what predictions are read from."""
        return self.forward([], self.target, self.feeds | self.target.feeds(self.n))

    @cached_property
    def fixed(self) -> list[Target]:
        """A target per sample, whose class stays what it is for the clean one, whatever a changed one looks like."""
        classes = enumerate(self.explained(self.clean))
        return [self.target.sample(i) if c is None else Index(c, self.score) for i, c in classes]

    @cached_property
    def settled(self) -> Target:
        """The targets of `fixed` as one, for runs of all samples."""
        classes = [c for c in self.explained(self.clean) if c is not None]
        return Index(tuple(classes), self.score) if classes else self.target

    def sweep(
        self, name: str, count: int, vary: Vary, run: Run | None = None
    ) -> Iterator[tuple[int, NDArray[np.int64], dict[str, NDArray[Any]]]]:
        """Run many variants of every sample, no more at a time than fit into a run.

        Args:
            name: what the progress bar says.
            count: variants per sample.
            vary: (sample, which variants) -> changed inputs, one row per variant; the others stay as they are.
            run: (feeds, target) -> what was found; by default the score alone.

        Yields:
            The sample, which variants, and what was found for them, one row each.

        Raises:
            InputError: samples do not stay apart in this model.
        """
        advance = self.progress(name, self.n * count) if self.progress is not None else lambda n: None
        run = run or (lambda feeds, target: self.forward([], target, feeds | target.feeds(self._count(feeds))))
        for i, target in enumerate(self.fixed):
            one = self.copies(i, 1)
            # Copies, what becomes of them in double precision, and what comes back lie beside what a run takes.
            most = max(1, self.engine.max_memory // (8 * sum(v.nbytes for v in one.values())))
            start, size, still = 0, min(most, self.engine.fits(self.model, one)), (0, one)
            while start < count:
                which = np.arange(start, min(start + size, count))
                changed = dict(vary(i, which))
                if still[0] != len(which):  # what does not change goes to a card once
                    copies = self.copies(i, len(which)).items()
                    still = len(which), {k: self.engine.hold(v) for k, v in copies if k not in changed}
                found = run(still[1] | changed, target)
                if any(len(v) != len(which) for v in found.values()):
                    raise InputError("Samples do not stay apart in this model: let each run alone (--batch 1).")
                yield i, which, found
                advance(len(which))
                start += len(which)
                size = min(most, self.engine.fits(*self._last))  # a gradient takes more than a forward pass

    def _run(self, model: Model, wanted: list[str], feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        self._last = model, feeds, wanted
        found = self.engine.run(model, feeds, wanted, apart=True)
        for name in wanted:
            self._finite(found[name], name)
        return found

    def copies(self, i: int, count: int) -> dict[str, NDArray[Any]]:
        """The feeds of one sample, repeated."""
        return {k: v.take([i] * count, self._axes[k]) if k in self._axes else v for k, v in self.feeds.items()}

    @cached_property
    def _samples(self) -> frozenset[str]:
        return self.engine.samples(self.model, self.feeds)

    @cached_property
    def _axes(self) -> dict[str, int]:
        """The axis of the inputs that counts samples: the first, or another that is named like it."""
        leads = {s.shape[0] for s in self.model.inputs if s.name in self._samples and isinstance(s.shape[0], str)}
        named = {s.name: axis for s in self.model.inputs for axis, size in enumerate(s.shape) if size in leads}
        return named | dict.fromkeys(self._samples, 0)

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
            f"'{name}' is not a number (NaN or infinity), though all weights are: check the input and its "
            "preprocessing, and whether the model overflows its number type."
        )

    # What scores say.

    def rows(self, found: Mapping[str, NDArray[Any]]) -> NDArray[Any] | None:
        """The class scores, (N, classes), None where the model has none; a lone score as its two sides."""
        return None if self.scores is None else predict.rows(self.scores, self.score, found[self.scores.tensor])

    def probabilities(self, rows: NDArray[Any]) -> NDArray[Any]:
        """What a final activation makes of the class scores."""
        assert self.scores is not None
        return predict.probabilities(self.scores, self.score, rows)

    def explained(self, found: Mapping[str, NDArray[Any]]) -> list[int | None]:
        """The class that the target means, per sample."""
        rows = self.rows(found)
        return [None] * self.n if rows is None else self.target.chosen(rows)


def draws(seed: int, which: NDArray[np.int64]) -> list[np.random.Generator]:
    """A source of random numbers per variant: what one gets depends neither on the batch nor on other samples."""
    return [np.random.default_rng([seed, int(k)]) for k in which]
