"""`Sessions`: models as onnxruntime compiled them, kept while there is room."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any

import onnxruntime as ort

from . import memory, stores
from .batching import Arrays
from .binding import Recorded, bound, opened
from .errors import InputError, ModelError, ResultError
from .model import Model
from .providers import CUDA, SILENT, WARNING

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LARGE = 2000  # nodes
_HEAVY = 2**30  # bytes of weights
_FOLDED = 2**20  # bytes of a constant
_EXHAUSTED = re.compile(
    r"bad_alloc|allocate memory|out of memory|_ALLOC_FAILED|BFCArena|smaller than requested bytes", re.IGNORECASE
)
BLAME = "if onnxruntime runs the file by itself, that is a fault of this tool, else export the file again"


class Exhausted(ResultError):
    """Memory ran out during a run."""


class Sessions:
    """Compiled models by digest and outputs; those that were used least lately go where there are too many.

    Args:
        providers: what runs them, the first that can.
        threads: of the CPU provider; None for one per core.
        limit: how many are kept.
        memory: bytes that they may take together.
        lowering: rewrite gradients into what the provider computes fast.
        half: let a card multiply in half precision in the layers of a model.
        verbose: let onnxruntime write its own warnings to stderr.
    """

    def __init__(
        self,
        providers: list[tuple[str, dict[str, Any]]],
        threads: int | None,
        *,
        limit: int,
        memory: int,
        lowering: bool,
        half: bool = False,
        verbose: bool,
    ) -> None:
        ort.set_default_logger_severity(WARNING if verbose else SILENT)
        self.providers, self.threads, self.limit, self.memory = providers, threads, limit, memory
        self.lowering, self.half, self.verbose = lowering, half and providers[0][0] == CUDA, verbose
        self._kept: OrderedDict[tuple[str, ...], Session] = OrderedDict()
        self._lock = RLock()

    def __contains__(self, model: object) -> bool:
        return isinstance(model, Model) and _key(model) in self._kept

    def __len__(self) -> int:
        return len(self._kept)

    def clear(self) -> int:
        """Let go of all, and of what their arenas hold; how many there were."""
        with self._lock:
            count = len(self._kept)
            self._kept.clear()
        return count

    def of(self, model: Model, taken: int = 0) -> Session:
        """The compiled model, for a run that takes so many bytes.

        Raises:
            ModelError: onnxruntime refuses the model.
        """
        key = _key(model)
        with self._lock:
            found = self._kept.pop(key, None)
            taken = max(taken, found.taken if found is not None else 0)
            while self._kept and (
                len(self._kept) >= self.limit or taken + sum(s.taken for s in self._kept.values()) > self.memory
            ):
                self._kept.popitem(last=False)
            session = self._kept[key] = found or Session(self._open(model), self.providers[0])
            session.taken = taken
            return session

    def _open(self, model: Model) -> ort.InferenceSession:
        how = self.providers[0][0] if self.lowering else ""
        name = stores.name(*_key(model), how, *(["half"] if self.half else []))
        if (path := stores.model(name)) is not None:
            with suppress(Exception):  # whatever is wrong with that file, or with that of weights, it can be made again
                return self._compiled(model, path.read_bytes(), path.parent)
            stores.forget(path)
        whole = self._lowered(model)
        data, folder = whole.to_message()
        try:
            compiled = self._compiled(model, data, folder)
        except Exception as error:
            what = f"onnxruntime does not accept '{model.source.name}': {_reason(error).rstrip('.')}"
            raise ModelError(f"{what}: {BLAME}.") from error
        if folder in (None, stores.folder()):
            stores.keep(name, data)
        return compiled

    def _lowered(self, model: Model) -> Model:
        if self.half:
            from .lowering.half import halve

            model = halve(model)
        if self.lowering:
            from .lowering import TABLES, lower

            table = TABLES.get(self.providers[0][0], {})
            if model.nbytes > _HEAVY:
                table = {k: v for k, v in table.items() if k != "ConvTranspose"}  # weights turned around are copies
            model = lower(model, table)
        return model

    def _compiled(self, model: Model, data: bytes, folder: Path | None) -> ort.InferenceSession:
        """A session for a model's bytes, and the folder of weights that these lack."""
        options = ort.SessionOptions()
        options.log_severity_level = WARNING if self.verbose else SILENT
        # Integer kernels, which round in other ways, would stand wherever no output or gradient reads what is between.
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        # onnxruntime's planner takes quadratic time where sizes are open: minutes for graphs of several thousand nodes.
        options.enable_mem_reuse = model.fact("nodes", lambda: len(model.ir.graph)) < _LARGE
        # One block for all of a run, laid out by sizes seen before: twice the memory, and no faster.
        options.enable_mem_pattern = False
        if model.nbytes > _HEAVY or model.fact("of vectors", lambda: _of_vectors(model)):
            # A copy of each weight for each product that reads it. Products with vectors do not even get faster.
            options.add_session_config_entry("session.disable_prepacking", "1")
        if model.nbytes > _HEAVY:
            # Weights stay in the file, which is mapped: blocked layouts get no copies either.
            options.add_session_config_entry("optimization.constant_folding_max_output_size_in_bytes", str(_FOLDED))
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        if self.threads is not None:
            options.intra_op_num_threads = self.threads
        if folder is not None:
            options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
        session = opened(data, options, self.providers)
        session._model_bytes = None  # kept for a fallback, which never comes: all weights once more
        memory.trim()
        return session


def _of_vectors(model: Model) -> bool:
    """Whether most of the weights are for products with a vector per sample, as in dense layers on top of VGG."""
    graph = model.ir.graph
    leads = {v.shape[0] for v in graph.inputs if v.shape}
    read: dict[str, int] = {}
    for node in graph:
        a, w = node.inputs[:2] if node.op_type in ("Gemm", "MatMul") else (None, None)
        if a is None or a.shape is None or len(a.shape) != 2 or a.shape[0] not in leads:
            continue
        if w is not None and w.is_initializer() and w.const_value is not None:
            read[w.name or ""] = w.const_value.nbytes
    return sum(read.values()) > model.nbytes / 2


def _key(model: Model) -> tuple[str, ...]:
    return (model.digest, *(o.name for o in model.outputs))


class Session:
    """One compiled model, and the provider that runs it.

    Attributes:
        taken: bytes of its largest run, which its arena keeps.
    """

    def __init__(self, compiled: ort.InferenceSession, provider: tuple[str, dict[str, Any]]) -> None:
        self.compiled, self.taken = compiled, 0
        self._bound = bound(compiled, provider)

    @property
    def recorded(self) -> bool:
        """Whether its kernels are recorded, and replayed for the same shapes."""
        return isinstance(self._bound, Recorded) and not self._bound.plain

    def run(self, outputs: list[str], feeds: Arrays, stay: Collection[str] = ()) -> list[NDArray[Any]]:
        """The values of outputs.

        Args:
            outputs: their names.
            feeds: a value per input; what `held` gave lies on the card already.
            stay: outputs that later runs are given, which a card therefore keeps.

        Raises:
            Exhausted: memory ran out.
            InputError: a value does not fit.
            ResultError: anything else went wrong.
        """
        try:
            if self._bound is not None:
                return self._bound.run(outputs, feeds, stay)
            return self.compiled.run(outputs, feeds)  # type: ignore[no-any-return]
        except Exception as error:
            if isinstance(error, MemoryError) or _EXHAUSTED.search(str(error)):
                raise Exhausted(_reason(error)) from error
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
