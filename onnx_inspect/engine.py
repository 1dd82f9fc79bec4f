"""`Engine`: runs models on onnxruntime."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .amounts import parse
from .batching import Arrays, Plan, fit, is_second, make_plan, one_for_all, put, shared_output
from .binding import held
from .budget import Budget
from .errors import DeviceError, InputError, ResultError
from .model import Model
from .providers import CPU, CUDA, choose, cores, manners, several
from .providers import half as half_of
from .sessions import Exhausted, Session, Sessions

if TYPE_CHECKING:
    from numpy.typing import NDArray

_THREADS = 256  # that any machine is given if asked: on a shared one the number of cores is no limit


class Engine:
    """Runs models; sessions are kept, by model digest and outputs.

    Args:
        device: "auto" (CUDA if a session really gets it, else CPU), "cpu", "cuda", "cuda:N", or several cards,
            "cuda:0,cuda:1": runs that happen at the same time, as those of studies do, are shared out among them.
        threads: of the CPU provider; None for one per core.
        batch: the most samples in one run; None for 8, and on the CPU provider for one per thread, or as many as a
            core's cache holds: it gains nothing by others.
        max_memory: what a run may take with its weights, in bytes or as text ("4GB", "500MB", "2GiB"): as many samples
            go into a run as are estimated to fit; a gradient that is too large for one computes parts of the forward
            pass a second time. None for half of what the machine, container or card has.
        sessions: how many compiled models are kept.
        lowering: rewrite gradients into what the provider computes fast, and compute of a picture only what a window
            changes; without, they run as they were built.
        tf32: let a card round what it multiplies to 10 bits; noted, since numbers move.
        half: let a card compute the forward pass in half precision where that is safe; gradients stay float32. Noted.
        graphs: let a card record the kernels of runs whose sizes come again, and replay them.
        verbose: let onnxruntime write its own warnings to stderr.

    Attributes:
        provider: what runs, "CPUExecutionProvider" or "CUDAExecutionProvider".
        max_memory: in bytes.
        cores: that the CPU provider runs on, 0 for a card.
        notes: what a user should know of the runs since somebody took the notes last.

    Raises:
        DeviceError: CUDA was asked for and cannot run here; never a silent fallback.
        InputError: a batch or an amount of memory that is none.
    """

    def __init__(
        self,
        device: str = "auto",
        threads: int | None = None,
        *,
        batch: int | None = None,
        max_memory: int | str | None = None,
        sessions: int = 16,
        lowering: bool = True,
        tf32: bool = False,
        half: bool = False,
        graphs: bool = False,
        verbose: bool = False,
    ) -> None:
        if threads is not None and threads < 1:
            raise DeviceError(f"{threads} threads cannot run anything: give at least 1, or none for one per core.")
        if threads is not None and threads > (most := max(_THREADS, 4 * (os.cpu_count() or 1))):
            raise DeviceError(f"{threads} threads are more than this machine can use: give at most {most}.")
        if batch is not None and batch < 1:
            raise InputError(f"A batch of {batch} is empty: give at least 1.")
        self.device, self.threads, self.verbose = device, threads, verbose
        first, *others = several(device)
        providers = choose(first, tf32=tf32, graphs=graphs)
        self.provider: str = providers[0][0]
        self.lowering = lowering
        self.max_memory = half_of(providers[0]) if max_memory is None else parse(max_memory)
        self.notes: list[str] = []
        self.cores = (threads or cores()) if self.provider == CPU else 0
        self._budget = Budget(self.max_memory, batch, cores=self.cores, note=self._note)
        self.batch = self._budget.batch
        self._manners = manners(self.provider, tf32=tf32, half=half, graphs=graphs)
        self.sessions = Sessions(
            providers, threads, limit=sessions, memory=self.max_memory, lowering=lowering, half=half, verbose=verbose
        )
        self._how: dict[str, Any] = {"batch": batch, "sessions": sessions, "lowering": lowering, "verbose": verbose}
        self._how |= {"tf32": tf32, "half": half, "graphs": graphs}
        self._graphs = graphs and self.provider == CUDA
        self._others = [Engine(card, threads, max_memory=self.max_memory, **self._how) for card in others]
        for other in self._others:
            other.notes = self.notes
        self._busy = 0
        self._singly: dict[str, bool] = {}
        self._narrow: dict[int, Engine] = {}
        self._lock = threading.RLock()

    def narrow(self, runs: int) -> Engine:
        """The engine for so many runs at the same time, each on one core; this one for fewer threads, or a card.

        There is one for each number, so that what is compiled for several studies, or models, is bounded.
        """
        if runs == 1 or (self.threads is not None and runs > self.threads) or self.provider != CPU:
            return self
        with self._lock:
            if runs not in self._narrow:
                limit = max(1, self.max_memory // runs)
                self._narrow[runs] = Engine("cpu", 1, max_memory=limit, **self._how)
            return self._narrow[runs]

    def run(
        self,
        model: Model,
        feeds: Mapping[str, NDArray[Any]],
        outputs: Sequence[str] | None = None,
        *,
        progress: Callable[[int], None] | None = None,
        apart: bool = False,
        stay: Collection[str] = (),
    ) -> Arrays:
        """Run a model.

        Args:
            model: the model.
            feeds: a value per input. Those with axes hold N samples on their first; types are cast where that loses
                nothing.
            outputs: tensors wanted, None for the model's outputs. Only what they need is computed.
            progress: called with the number of samples done after each batch.
            apart: each sample gets what it gets alone, also where samples meet; a freed batch is held to that anyway.
            stay: outputs that later runs are given: a card keeps them, as long as somebody has the array.

        Returns:
            A value per output, N samples on the first axis.

        Raises:
            InputError: an input without a value, or of the wrong shape or type.
            ModelError: onnxruntime refuses the model.
            ResultError: onnxruntime failed while running.
        """
        with self._lock:
            card = min((self, *self._others), key=lambda engine: engine._busy)
            card._busy += 1
        try:
            return card._run(self._part(model, outputs), feeds, progress, apart, stay)
        finally:
            with self._lock:
                card._busy -= 1
                self._note(*self._manners)

    def _run(
        self,
        part: Model,
        feeds: Mapping[str, NDArray[Any]],
        progress: Callable[[int], None] | None,
        apart: bool,
        stay: Collection[str],
    ) -> Arrays:
        wanted = [o.name for o in part.outputs]
        values = {s.name: fit(s, feeds, part) for s in part.inputs}
        plan = make_plan(part, values, self.batch)
        if shared := shared_output(part, plan):
            plan = replace(plan, apart=False)
            if plan.in_parts:
                raise one_for_all(shared, plan)
        share = self._budget.of(part, values, plan)
        part = share.model
        self._budget.warn(share, plan)
        if plan.apart:
            free = apart or part.batch_relaxed  # elsewhere samples may meet, and then all of them are meant
            most = min(plan.size, self._budget.fast(share)) if free else plan.size
            plan = replace(plan, size=self._budget.most(share, most))
        checked = plan.apart and plan.size > 1 and (part.batch_relaxed or (apart and plan.fixed is None))
        if checked and self._must_run_singly(part, values, plan):
            self._note("samples do not stay apart in this model, so each runs alone")
            plan = replace(plan, size=1)
        results: Arrays = {}
        start = 0
        while start < plan.n:
            try:
                session = self.sessions.of(part, share.need.of(1 if plan.fixed else plan.size))
                self._say(part, session)
                kept = () if plan.in_parts else stay
                found = dict(zip(wanted, session.run(wanted, plan.part(values, start), kept), strict=True))
            except Exhausted as error:
                if self.sessions.clear() <= 1:  # else their arenas hold what is missing
                    plan = self._budget.less(share, plan, error)
                continue
            if plan.in_parts:
                put(results, found, plan, start)
            else:
                results = found
            count = min(plan.size, plan.n - start)
            start += count
            if progress is not None:
                progress(count)
        return results

    def hold(self, values: NDArray[Any]) -> NDArray[Any]:
        """The values, for many runs that get this very array or parts of it: on a card they lie there from now on."""
        return held(values, self.sessions.providers[0])

    def fits(self, model: Model, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None) -> int:
        """How many samples of these sizes go into one run of a model: no more than `batch`, at least 1.

        Args:
            model: what is to be run.
            feeds: a value per input, for any number of samples.
            outputs: tensors wanted, None for the model's outputs.
        """
        part = self._part(model, outputs)
        values = {s.name: fit(s, feeds, part) for s in part.inputs}
        plan = make_plan(part, values, sys.maxsize)
        return plan.fixed or self._budget.most(self._budget.of(part, values, plan), self.batch)

    def samples(self, model: Model, feeds: Mapping[str, NDArray[Any]]) -> frozenset[str]:
        """The inputs that hold one entry per sample on their first axis; others are the same for all."""
        return make_plan(model, {s.name: fit(s, feeds, model) for s in model.inputs}, self.batch).samples

    def _part(self, model: Model, outputs: Sequence[str] | None) -> Model:
        """The model with the outputs that are wanted, and no more than they need."""
        own = [o.name for o in model.outputs]
        wanted = list(dict.fromkeys(own if outputs is None else outputs))
        if wanted == own:
            return model

        def build() -> Model:
            from .rewrite import cut

            return cut(model, outputs=wanted)

        return model.rewritten(("cut", *wanted), build)

    def _say(self, model: Model, session: Session) -> None:
        """What a card was asked for, and does not do with this model."""
        if self._graphs and not session.recorded:
            self._note(f"'{model.source.name}' runs as usual: not all of it can be recorded (--cuda-graphs)")
        if self.sessions.half and model.external:
            self._note(f"'{model.source.name}' stays float32: its weights lie in a file of their own (--fp16)")

    def _note(self, *texts: str) -> None:
        self.notes += [text for text in dict.fromkeys(texts) if text not in self.notes]

    def _must_run_singly(self, model: Model, values: Arrays, plan: Plan) -> bool:
        """Check once per model that a batch gives what single runs give."""
        if model.digest not in self._singly:
            names = [o.name for o in model.outputs]
            session = self.sessions.of(model)
            try:
                pair = session.run(names, replace(plan, size=2).part(values, plan.n - 2))
                alone = session.run(names, replace(plan, size=1).part(values, plan.n - 1))
                self._singly[model.digest] = not all(map(is_second, pair, alone))
            except Exhausted:  # two are too many now, whatever they would give
                return True
            except ResultError:
                self._singly[model.digest] = True
        return self._singly[model.digest]


_default: Engine | None = None


def default() -> Engine:
    """The engine that methods share when none is given: device "auto"."""
    global _default
    _default = _default or Engine()
    return _default
