"""Sums over many variants of a sample: on the host, or in the graph, so that only they come back from a card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..batching import is_second
from ..expand import SQUARES, SUM, WEIGHT
from ..facts import FOREIGN
from ..model import Model
from ..providers import CPU
from ..target import Target
from .job import SCORE, Job

if TYPE_CHECKING:
    from .inputs import Feeds

Array = NDArray[Any]


class Sums:
    """Sums of arrays per tensor and sample, in float64."""

    def __init__(self) -> None:
        self._sums: dict[str, dict[int, Array]] = {}

    def add(self, tensor: str, i: int, array: Array) -> None:
        """Add to the sum of a tensor and a sample."""
        sums = self._sums.setdefault(tensor, {})
        if i in sums:
            sums[i] += array
        else:
            sums[i] = array.astype(np.float64)

    def stacked(self) -> dict[str, NDArray[np.float64]]:
        """(N, ...) by tensor."""
        return {t: np.stack(list(sums.values())) for t, sums in self._sums.items()}


def in_graph(job: Job) -> bool:
    """True if sums should be taken in the graph: where what is summed would have to come back from a card.

    Within one run they are in float32, over runs in float64.
    """
    lead = job.input.shape[0] if job.input.shape else 1
    return job.engine.provider != CPU and not isinstance(lead, int) and not job.model.fact("half", job._half)


class Summed:
    """Weighted sums of gradients over the variants of a run, taken in the graph.

    Args:
        job: the job, whose model is what variants go into.
        tensors: to differentiate with respect to.
        through: only what passes these elements of a tensor counts.
        at: tensors that become inputs.
        squares: also those of the squares.
    """

    def __init__(
        self, job: Job, tensors: Sequence[str], through: str = "", at: Sequence[str] = (), *, squares: bool = False
    ) -> None:
        self.job, self.tensors, self.through, self.at, self.squares = job, tensors, through, at, squares

    def __call__(self, feeds: Feeds, target: Target) -> dict[str, Array]:
        """The sums by tensor, of the squares under SQUARES and its name, and the score of each variant.

        Feeds hold the weights, too, as WEIGHT.
        """
        model, job, n = self._model(target), self.job, len(feeds[WEIGHT])
        kinds = {"": SUM, SQUARES: SQUARES} if self.squares else {"": SUM}
        names = {f"{kind}{t}": f"{what}gradient.{t}" for t in self.tensors for kind, what in kinds.items()}
        wanted, given = [SCORE, *names.values()], feeds | target.feeds(n)
        own = job.engine.samples(model, given)

        def run(start: int, stop: int, **weights: Array) -> Mapping[str, Array]:
            return job._run(model, wanted, {k: v[start:stop] if k in own else v for k, v in given.items()} | weights)

        def apart() -> bool:
            pair, alone = run(0, 2, **{WEIGHT: np.array([0, 1])}), run(1, 2, **{WEIGHT: np.array([1])})
            return all(is_second(pair[k].repeat(2, axis=0), alone[k]) for k in names.values())

        size = min(n, job.engine.fits(model, given, wanted))
        if size > 1 and not model.memo("apart", apart):
            size = 1
        parts = [run(start, start + size) for start in range(0, n, size)]
        sums = {k: np.concatenate([part[name] for part in parts]).sum(0, np.float64) for k, name in names.items()}
        return sums | {SCORE: np.concatenate([part[SCORE] for part in parts])}

    def _model(self, target: Target) -> Model:
        job = self.job
        passed = job._element(self.through) if self.through else None

        def build() -> Model:
            from ..autodiff.gradient import differentiate
            from ..expand import summed

            shown = job._exposed(job._outputs(), self.at)
            found = differentiate(shown, target, self.tensors, score=SCORE, through=passed)
            return summed(found, [f"gradient.{t}" for t in self.tensors], squares=self.squares)

        key = ("sums", target.key(), tuple(self.tensors), str(passed), tuple(self.at), self.squares, len(FOREIGN))
        return job.model.rewritten(key, build)
