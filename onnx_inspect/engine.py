"""`Engine`: runs models on onnxruntime, and is the only user of it."""

from __future__ import annotations

import os
import re
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import onnxruntime as ort

from . import memory
from .batching import Arrays, Plan, fit, is_second, make_plan, one_for_all, put, shared_output
from .errors import DeviceError, InputError, ModelError, ResultError
from .lowering import TABLES, lower
from .memory import Need, told
from .model import Model
from .providers import CPU, SILENT, WARNING, choose, half
from .rewrite import cut

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LARGE = 2000  # nodes
_HEAVY = 2**30  # bytes of weights
_KEPT = 1000  # estimates
_THREADS = 256  # that any machine is given if asked: on a shared one the number of cores is no limit
_EXHAUSTED = re.compile(r"bad_alloc|allocate memory|out of memory|BFCArena|smaller than requested bytes", re.IGNORECASE)


BLAME = "if onnxruntime runs the file by itself, that is a fault of this tool, else export the file again"


class _Exhausted(ResultError):
    """Memory ran out during a run."""


class Engine:
    """Runs models; sessions are kept, by model digest and outputs.

    Args:
        device: "auto" (CUDA if a session really gets it, else CPU), "cpu", "cuda" or "cuda:N".
        threads: of the CPU provider; None for one per core.
        batch: the most samples in one run.
        max_memory: what a run may take with its weights, in bytes or as text ("4GB", "500MB", "2GiB"): as many samples
            go into a run as are estimated to fit. None for half of what the machine, container or card has.
        sessions: how many compiled models are kept.
        lowering: rewrite gradients into what the provider computes fast; without, they run as they were built.
        verbose: let onnxruntime write its own warnings to stderr.

    Attributes:
        provider: what runs, "CPUExecutionProvider" or "CUDAExecutionProvider".
        max_memory: in bytes.
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
        batch: int = 8,
        max_memory: int | str | None = None,
        sessions: int = 16,
        lowering: bool = True,
        verbose: bool = False,
    ) -> None:
        ort.set_default_logger_severity(WARNING if verbose else SILENT)
        if threads is not None and threads < 1:
            raise DeviceError(f"{threads} threads cannot run anything: give at least 1, or none for one per core.")
        if threads is not None and threads > (most := max(_THREADS, 4 * (os.cpu_count() or 1))):
            raise DeviceError(f"{threads} threads are more than this machine can use: give at most {most}.")
        if batch < 1:
            raise InputError(f"A batch of {batch} is empty: give at least 1.")
        self.device, self.threads, self.batch, self.verbose = device, threads, batch, verbose
        self._providers = choose(device)
        self.provider: str = self._providers[0][0]
        self.lowering = lowering
        self.max_memory = half(self._providers[0]) if max_memory is None else memory.parse(max_memory)
        self.notes: list[str] = []
        self._limit = sessions
        self._sessions: OrderedDict[tuple[str, tuple[str, ...]], ort.InferenceSession] = OrderedDict()
        self._taken: dict[tuple[str, tuple[str, ...]], int] = {}  # by the largest run of a session
        self._needs: dict[Any, Need] = {}
        self._halved: dict[Any, int] = {}
        self._singly: dict[str, bool] = {}
        self._narrow: dict[int, Engine] = {}
        self._lock = threading.RLock()

    def narrow(self, runs: int) -> Engine:
        """The engine for so many runs at the same time, each on one core; this one for threads or a card.

        There is one for each number, so that what is compiled for several studies, or models, is bounded.
        """
        if runs == 1 or self.threads is not None or self.provider != CPU:
            return self
        with self._lock:
            if runs not in self._narrow:
                limit = max(1, self.max_memory // runs)
                more: dict[str, Any] = {"sessions": self._limit, "lowering": self.lowering, "verbose": self.verbose}
                self._narrow[runs] = Engine("cpu", 1, batch=self.batch, max_memory=limit, **more)
            return self._narrow[runs]

    def run(
        self,
        model: Model,
        feeds: Mapping[str, NDArray[Any]],
        outputs: Sequence[str] | None = None,
        *,
        progress: Callable[[int], None] | None = None,
        apart: bool = False,
    ) -> Arrays:
        """Run a model.

        Args:
            model: the model.
            feeds: a value per input. Those with axes hold N samples on their first; types are cast where that loses
                nothing.
            outputs: tensors wanted, None for the model's outputs. Only what they need is computed.
            progress: called with the number of samples done after each batch.
            apart: each sample gets what it gets alone, also where samples meet; a freed batch is held to that anyway.

        Returns:
            A value per output, N samples on the first axis.

        Raises:
            InputError: an input without a value, or of the wrong shape or type.
            ModelError: onnxruntime refuses the model.
            ResultError: onnxruntime failed while running.
        """
        part = self._part(model, outputs)
        wanted = [o.name for o in part.outputs]
        values = {s.name: fit(s, feeds, part) for s in part.inputs}
        plan = make_plan(part, values, self.batch)
        if shared := shared_output(part, plan):
            plan = replace(plan, apart=False)
            if plan.in_parts:
                raise one_for_all(shared, plan)
        need, key = self._need(part, values, plan)
        self._warn(part, need, plan)
        if plan.apart:
            plan = replace(plan, size=self._size(need, key, plan.size))
        checked = plan.apart and plan.size > 1 and (part.batch_relaxed or (apart and plan.fixed is None))
        if checked and self._must_run_singly(part, values, plan):
            self._note("samples do not stay apart in this model, so each runs alone")
            plan = replace(plan, size=1)
        results: Arrays = {}
        start = 0
        while start < plan.n:
            try:
                session = self._session(part, need.of(1 if plan.fixed else plan.size))
                found = dict(zip(wanted, _call(session, wanted, plan.part(values, start)), strict=True))
            except _Exhausted as error:
                plan = self._less(part, need, key, plan, error)
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
        return plan.fixed or self._size(*self._need(part, values, plan), self.batch)

    def samples(self, model: Model, feeds: Mapping[str, NDArray[Any]]) -> frozenset[str]:
        """The inputs that hold one entry per sample on their first axis; others are the same for all."""
        return make_plan(model, {s.name: fit(s, feeds, model) for s in model.inputs}, self.batch).samples

    def _part(self, model: Model, outputs: Sequence[str] | None) -> Model:
        """The model with the outputs that are wanted, and no more than they need."""
        own = [o.name for o in model.outputs]
        wanted = list(dict.fromkeys(own if outputs is None else outputs))
        return model if wanted == own else model.memo(("cut", *wanted), lambda: cut(model, outputs=wanted))

    # Memory.

    def _need(self, model: Model, values: Arrays, plan: Plan) -> tuple[Need, Any]:
        """What a sample takes, estimated once per model and sizes of its inputs; and what that is kept by."""
        sizes = plan.sizes(values)
        key = (model.digest, *sorted(sizes.items()))
        if key not in self._needs:
            if len(self._needs) >= _KEPT:
                self._needs.clear()
            self._needs[key] = memory.need(model, sizes, plan.samples)
        return self._needs[key], key

    def _size(self, need: Need, key: Any, most: int) -> int:
        return max(1, min(most, need.fit(self.max_memory), self._halved.get(key, most)))

    def _less(self, model: Model, need: Need, key: Any, plan: Plan, error: _Exhausted) -> Plan:
        """How to go on after memory ran out: without the other sessions, then with half of the samples."""
        with self._lock:
            alone = len(self._sessions) < 2
            self._sessions.clear()  # their arenas hold what is missing
        if not alone:
            return plan
        if plan.apart and plan.size > 1:
            self._halved[key] = plan.size // 2
            self._note(
                f"memory ran out with {plan.size} samples in a run of '{model.source.name}': from here on "
                f"{plan.size // 2} at a time (--batch, --max-memory)"
            )
            return replace(plan, size=plan.size // 2)
        samples = "one sample" if plan.size == 1 else f"{plan.size} samples, which have to go into one run,"
        raise ResultError(
            f"Memory ran out while running '{model.source.name}': {samples} took more than there is, where "
            f"{told(need.of(1 if plan.fixed else plan.size))} were estimated. Use a smaller --size, photo or model, or "
            f"what else holds memory let go. onnxruntime says: {error}"
        ) from error

    def _warn(self, model: Model, need: Need, plan: Plan) -> None:
        """Say so where what cannot be divided is larger than what a run may take."""
        units = plan.size if not (plan.apart or plan.fixed) else 1
        if (size := need.of(units)) > self.max_memory:
            samples = plan.size if not plan.apart else 1
            self._note(
                f"{f'{samples} samples, which have to go into one run,' if samples > 1 else 'one sample'} of "
                f"'{model.source.name}' may take {told(size)}, more than the {told(self.max_memory)} that a run may: "
                "run all the same (--max-memory)"
            )

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    # Sessions.

    def _must_run_singly(self, model: Model, values: Arrays, plan: Plan) -> bool:
        """Check once per model that a batch gives what single runs give."""
        if model.digest not in self._singly:
            names = [o.name for o in model.outputs]
            session = self._session(model)
            try:
                pair = _call(session, names, replace(plan, size=2).part(values, plan.n - 2))
                alone = _call(session, names, replace(plan, size=1).part(values, plan.n - 1))
                self._singly[model.digest] = not all(map(is_second, pair, alone))
            except _Exhausted:  # two are too many now, whatever they would give
                return True
            except ResultError:
                self._singly[model.digest] = True
        return self._singly[model.digest]

    def _session(self, model: Model, taken: int = 0) -> ort.InferenceSession:
        """The compiled model; those that were used least lately go where there are too many, or too large ones."""
        key = (model.digest, tuple(o.name for o in model.outputs))
        with self._lock:
            found = self._sessions.pop(key, None)
            self._taken[key] = max(taken, self._taken.get(key, 0) if found is not None else 0)
            while self._sessions and (
                len(self._sessions) >= self._limit
                or sum(self._taken[k] for k in [*self._sessions, key]) > self.max_memory  # arenas keep what they took
            ):
                self._sessions.popitem(last=False)
            self._sessions[key] = found if found is not None else self._open(model)
            return self._sessions[key]

    def _open(self, model: Model) -> ort.InferenceSession:
        if self.lowering:
            model = lower(model, TABLES.get(self.provider, {}))
        options = ort.SessionOptions()
        options.log_severity_level = WARNING if self.verbose else SILENT
        # Integer kernels, which round in other ways, would stand wherever no output or gradient reads what is between.
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        # onnxruntime's planner takes quadratic time where sizes are open: minutes for graphs of several thousand nodes.
        options.enable_mem_reuse = len(model.ir.graph) < _LARGE
        # One block for all of a run, laid out by sizes seen before: twice the memory, and no faster.
        options.enable_mem_pattern = False
        if model.nbytes > _HEAVY:
            options.add_session_config_entry("session.disable_prepacking", "1")  # it copies weights for each use
        if self.threads is not None:
            options.intra_op_num_threads = self.threads
        if model.external and model.source.path is not None:
            data = model.to_proto().SerializeToString()
            folder = str(model.source.path.parent.resolve())
            options.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)
        else:
            data = model.to_bytes()
        try:
            return ort.InferenceSession(data, options, providers=self._providers)
        except Exception as error:
            what = f"onnxruntime does not accept '{model.source.name}': {_reason(error).rstrip('.')}"
            raise ModelError(f"{what}: {BLAME}.") from error


def _call(session: ort.InferenceSession, outputs: list[str], feeds: Arrays) -> list[NDArray[Any]]:
    try:
        return session.run(outputs, feeds)  # type: ignore[no-any-return]
    except Exception as error:
        if isinstance(error, MemoryError) or _EXHAUSTED.search(str(error)):
            raise _Exhausted(_reason(error)) from error
        what = f"onnxruntime failed while running the model: {_reason(error).rstrip('.')}"
        if "Got invalid dimensions" in str(error):  # which blames the input by itself
            raise InputError(f"{what}.") from error
        raise ResultError(f"{what}: {BLAME}.") from error


def _reason(error: Exception) -> str:
    """What onnxruntime said, in one line without its source files."""
    text = re.sub(r"\[ONNXRuntimeError\] : \d+ : \w+ : ", "", str(error)).strip()
    text = re.sub(r"/\S+\.(?:cc|h):\d+ [^\n]*?\) ?", "", text)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " ".join(lines[:2])[:400] or type(error).__name__


_default: Engine | None = None


def default() -> Engine:
    """The engine that methods share when none is given: device "auto"."""
    global _default
    _default = _default or Engine()
    return _default
