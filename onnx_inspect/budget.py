"""`Budget`: what runs may take, how many samples of a model therefore go into one, and what is done about the rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from . import memory
from .amounts import told
from .batching import Arrays, Plan
from .errors import ResultError
from .memory import Need
from .model import Model

_BATCH = 8
_KEPT = 1000  # estimates
_WORTH = 0.9  # of the memory of a gradient, at most, that it takes with parts computed again
_CACHE = 2**23  # bytes near a core: larger samples gain nothing by company, small ones share the weights that are read


@dataclass(frozen=True)
class Estimate:
    """What is run for a model, what that takes, and what that is known by."""

    model: Model
    need: Need
    key: Any


class Budget:
    """What runs may take.

    Args:
        limit: bytes of a run with its weights.
        batch: the most samples in one run; None for 8, and with cores for no more than their caches hold.
        cores: of a CPU; 0 for a card, which has more than samples can feed.
        note: told what a user should know.
    """

    def __init__(self, limit: int, batch: int | None, *, cores: int, note: Callable[[str], None]) -> None:
        self.limit, self.batch, self.note = limit, batch or _BATCH, note
        self._cores = cores if batch is None else 0
        self._needs: dict[Any, Need] = {}
        self._halved: dict[Any, int] = {}

    def of(self, model: Model, values: Arrays, plan: Plan) -> Estimate:
        """What is run, and what it takes: a gradient that is too large for a run computes parts of itself again."""
        whole = self._estimate(model, values, plan)
        units = _units(plan)
        if (size := whole.need.of(units)) <= self.limit:
            return whole

        def build() -> Model:
            from .recompute import recomputed

            return recomputed(model, plan.sizes(values), plan.samples)

        lean = self._estimate(model.memo("recomputed", build), values, plan)
        if (less := lean.need.of(units)) > _WORTH * size:
            return whole
        self.note(
            f"parts of '{model.source.name}' are computed a second time for the gradient, so that a run takes "
            f"{told(less)} instead of {told(size)} (--max-memory)"
        )
        return lean

    def _estimate(self, model: Model, values: Arrays, plan: Plan) -> Estimate:
        """Made once per model and sizes of its inputs."""
        sizes = plan.sizes(values)
        key = (model.digest, *sorted(sizes.items()))
        if (need := self._needs.get(key)) is None:
            if len(self._needs) >= _KEPT:
                self._needs.clear()
            known = ("need", tuple(sorted(sizes.items())), tuple(sorted(plan.samples)))
            need = self._needs[key] = model.fact(known, lambda: memory.need(model, sizes, plan.samples))
        return Estimate(model, need, key)

    def most(self, of: Estimate, count: int) -> int:
        """How many samples of so many go into a run, as far as memory goes; at least 1."""
        return max(1, min(count, of.need.fit(self.limit), self._halved.get(of.key, count)))

    def fast(self, of: Estimate) -> int:
        """How many samples go into a run that can have any number: one for each core, or what their caches hold."""
        if not self._cores:
            return self.batch
        each = max((each for each, _ in of.need.steps), default=0)
        return min(self.batch, max(self._cores, self._cores * _CACHE // max(1, each)))

    def less(self, of: Estimate, plan: Plan, error: Exception) -> Plan:
        """How to go on after memory ran out: with half of the samples.

        Raises:
            ResultError: there is no half.
        """
        name = of.model.source.name
        if plan.apart and plan.size > 1:
            half = self._halved[of.key] = plan.size // 2
            self.note(
                f"memory ran out with {plan.size} samples in a run of '{name}': from here on {half} at a time "
                "(--batch, --max-memory)"
            )
            return replace(plan, size=half)
        samples = "one sample" if plan.size == 1 else f"{plan.size} samples, which have to go into one run,"
        raise ResultError(
            f"Memory ran out while running '{name}': {samples} took more than there is, where "
            f"{told(of.need.of(1 if plan.fixed else plan.size))} were estimated. Use a smaller --size, photo or model, "
            f"or what else holds memory let go. onnxruntime says: {error}"
        ) from error

    def warn(self, of: Estimate, plan: Plan) -> None:
        """Say so where what cannot be divided is larger than what a run may take."""
        if (size := of.need.of(_units(plan))) > self.limit:
            samples = plan.size if not plan.apart else 1
            self.note(
                f"{f'{samples} samples, which have to go into one run,' if samples > 1 else 'one sample'} of "
                f"'{of.model.source.name}' may take {told(size)}, more than the {told(self.limit)} that a run may: "
                "run all the same (--max-memory)"
            )


def _units(plan: Plan) -> int:
    """How many times what a sample takes the smallest run takes."""
    return plan.size if not (plan.apart or plan.fixed) else 1
