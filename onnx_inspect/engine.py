"""`Engine`: runs models on onnxruntime, and is the only user of it."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort

from .errors import DeviceError, InputError, ModelError, ResultError
from .model import Model
from .rewrite import cut
from .structure import Spec

if TYPE_CHECKING:
    from numpy.typing import NDArray

Arrays = dict[str, "NDArray[Any]"]

_CUDA, _CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
_SILENT, _WARNING = 4, 2
_LARGE = 2000  # nodes


class Engine:
    """Runs models; sessions are kept, by model digest and outputs.

    Args:
        device: "auto" (CUDA if a session really gets it, else CPU), "cpu", "cuda" or "cuda:N".
        threads: of the CPU provider; None for one per core.
        batch: the most samples in one run.
        sessions: how many compiled models are kept.
        verbose: let onnxruntime write its own warnings to stderr.

    Attributes:
        provider: what runs, "CPUExecutionProvider" or "CUDAExecutionProvider".

    Raises:
        DeviceError: CUDA was asked for and cannot run here; never a silent fallback.
    """

    def __init__(
        self,
        device: str = "auto",
        threads: int | None = None,
        *,
        batch: int = 8,
        sessions: int = 16,
        verbose: bool = False,
    ) -> None:
        ort.set_default_logger_severity(_WARNING if verbose else _SILENT)
        if threads is not None and threads < 1:
            raise DeviceError(f"{threads} threads cannot run anything: give at least 1, or none for one per core.")
        if batch < 1:
            raise InputError(f"A batch of {batch} is empty: give at least 1.")
        self.device, self.threads, self.batch, self.verbose = device, threads, batch, verbose
        self._providers = _providers(device)
        self.provider: str = self._providers[0][0]
        self._limit = sessions
        self._sessions: OrderedDict[tuple[str, tuple[str, ...]], ort.InferenceSession] = OrderedDict()
        self._singly: dict[str, bool] = {}
        self._lock = threading.RLock()

    def run(
        self,
        model: Model,
        feeds: Mapping[str, NDArray[Any]],
        outputs: Sequence[str] | None = None,
        *,
        progress: Callable[[int], None] | None = None,
    ) -> Arrays:
        """Run a model.

        Args:
            model: the model.
            feeds: a value per input. Those with axes hold N samples on their first; types are cast where that loses
                nothing.
            outputs: tensors wanted, None for the model's outputs. Only what they need is computed.
            progress: called with the number of samples done after each batch.

        Returns:
            A value per output, N samples on the first axis.

        Raises:
            InputError: an input without a value, or of the wrong shape or type.
            ModelError: onnxruntime refuses the model.
            ResultError: onnxruntime failed while running.
        """
        wanted = list(dict.fromkeys(outputs if outputs is not None else [o.name for o in model.outputs]))
        part = model if wanted == [o.name for o in model.outputs] else self._cut(model, wanted)
        values = {s.name: _fit(s, feeds, model) for s in part.inputs}
        plan = _plan(part, values, self.batch)
        shared = _shared(part, plan)
        if plan.n > 1 and part.batch_relaxed and not shared and self._must_run_singly(part, values, plan):
            plan = replace(plan, size=1)
        in_parts = plan.n % plan.size or plan.n > plan.size
        if in_parts and shared:
            raise _one_for_all(shared, plan)
        session = self._session(part)
        results: list[list[NDArray[Any]]] = []
        for start in range(0, plan.n, plan.size):
            count = min(plan.size, plan.n - start)
            found = _call(session, wanted, plan.part(values, start))
            if in_parts:
                rows = plan.size if plan.fixed else count
                for name, value in zip(wanted, found, strict=True):
                    if not isinstance(value, np.ndarray) or value.shape[:1] != (rows,):
                        raise _one_for_all(f"'{name}'", plan)
            results.append([r[:count] if count < plan.size else r for r in found])
            if progress is not None:
                progress(count)
        if len(results) == 1:
            return dict(zip(wanted, results[0], strict=True))
        return {k: np.concatenate([r[i] for r in results]) for i, k in enumerate(wanted)}

    def samples(self, model: Model, feeds: Mapping[str, NDArray[Any]]) -> frozenset[str]:
        """The inputs that hold one entry per sample on their first axis; others are the same for all."""
        return _plan(model, {s.name: _fit(s, feeds, model) for s in model.inputs}, self.batch).samples

    def _cut(self, model: Model, wanted: list[str]) -> Model:
        return model.memo(("cut", *wanted), lambda: cut(model, outputs=wanted))

    def _must_run_singly(self, model: Model, values: Arrays, plan: _Plan) -> bool:
        """Check once per model that a batch gives what single runs give: the file promised one size only."""
        if model.digest not in self._singly:
            names = [o.name for o in model.outputs]
            session = self._session(model)
            try:
                pair = _call(session, names, replace(plan, size=2).part(values, plan.n - 2))
                alone = _call(session, names, replace(plan, size=1).part(values, plan.n - 1))
                self._singly[model.digest] = not all(map(_is_second, pair, alone))
            except ResultError:
                self._singly[model.digest] = True
        return self._singly[model.digest]

    def _session(self, model: Model) -> ort.InferenceSession:
        key = (model.digest, tuple(o.name for o in model.outputs))
        with self._lock:
            if key not in self._sessions:
                self._sessions[key] = self._open(model)
                while len(self._sessions) > self._limit:
                    self._sessions.popitem(last=False)
            self._sessions.move_to_end(key)
            return self._sessions[key]

    def _open(self, model: Model) -> ort.InferenceSession:
        options = ort.SessionOptions()
        options.log_severity_level = _WARNING if self.verbose else _SILENT
        # onnxruntime's planner takes quadratic time where sizes are open: minutes for graphs of several thousand nodes.
        options.enable_mem_reuse = len(model.ir.graph) < _LARGE
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
            raise ModelError(f"onnxruntime does not accept '{model.source.name}': {_reason(error)}") from error


def _providers(device: str) -> list[tuple[str, dict[str, Any]]]:
    match = re.fullmatch(r"(auto|cpu|cuda)(?::(\d+))?", device)
    if match is None or (match[2] and match[1] != "cuda"):
        raise DeviceError(f"There is no device '{device}': use auto, cpu, cuda or cuda:N.")
    cpu: tuple[str, dict[str, Any]] = (_CPU, {})
    if match[1] == "cpu":
        return [cpu]
    # TF32 rounds convolutions to 10 bits, which no comparison of explanations survives.
    cuda = (_CUDA, {"device_id": int(match[2] or 0), "use_tf32": 0})
    if _runs(cuda):
        return [cuda, cpu]
    if match[1] == "auto":
        return [cpu]
    there = _CUDA in ort.get_available_providers()
    reason = "CUDA, cuDNN or the card is missing" if there else "this onnxruntime is built without CUDA"
    raise DeviceError(
        f"Device '{device}' cannot run here: {reason}. Install `pip install 'onnx-inspect[cuda]'` on a machine with "
        "an NVIDIA driver, or use --device cpu."
    )


def _probe() -> bytes:
    """One Identity node: the smallest session that shows which provider really runs."""
    from onnx import TensorProto, helper

    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "probe", [x], [y])
    data: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10
    ).SerializeToString()
    return data


def _runs(provider: tuple[str, dict[str, Any]]) -> bool:
    """Whether a session really gets this provider: onnxruntime lists and accepts those that cannot run."""
    if provider[0] not in ort.get_available_providers():
        return False
    from importlib.util import find_spec

    if find_spec("nvidia") is not None:
        ort.preload_dlls()
    options = ort.SessionOptions()
    options.log_severity_level = _SILENT
    try:
        return provider[0] in ort.InferenceSession(_probe(), options, providers=[provider, _CPU]).get_providers()
    except Exception:  # a card that is there but refuses: then CUDA does not run
        return False


@dataclass(frozen=True)
class _Plan:
    """How samples go through a model.

    samples: the inputs that hold one entry per sample; others go in whole. n: samples. size: of a run. fixed: the batch
    that the graph insists on, None if it takes any.
    """

    samples: frozenset[str]
    n: int
    size: int
    fixed: int | None

    def part(self, values: Arrays, start: int) -> Arrays:
        """The feeds of the run that begins with a sample; a fixed batch is filled up with the last one."""
        return {k: self._cut(v, start) if k in self.samples else v for k, v in values.items()}

    def _cut(self, value: NDArray[Any], start: int) -> NDArray[Any]:
        chunk = value[start : start + self.size]
        missing = self.size - len(chunk) if self.fixed is not None else 0
        return np.concatenate([chunk, np.repeat(chunk[-1:], missing, axis=0)]) if missing else chunk


def _plan(model: Model, values: Arrays, batch: int) -> _Plan:
    """Which inputs hold samples, how many, and how many go into one run."""
    leads = {s.name: s.shape[0] for s in model.inputs if values[s.name].ndim and s.shape}
    main = max(leads, key=lambda k: (not isinstance(leads[k], int), values[k].ndim), default=None)
    if main is None:
        return _Plan(frozenset(), 1, 1, None)
    lead = leads[main]
    # Axes that nobody named, or that are named alike, count the same thing; a batch that the graph fixes is a number.
    samples = {k for k, d in leads.items() if d == lead or (d is None and not isinstance(lead, int))}
    fixed = lead if isinstance(lead, int) else None
    counts = {k: len(values[k]) for k in leads if k in samples}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"'{k}' has {n}" for k, n in counts.items())
        raise InputError(f"The inputs hold different numbers of samples: {told}.")
    n = counts[main]
    if n == 0:
        raise InputError("There are no samples: the inputs are empty.")
    plan = _Plan(frozenset(samples), n, fixed or min(n, batch), fixed)
    for spec in model.inputs:
        if n > plan.size and isinstance(lead, str) and lead in spec.shape[1:]:
            raise InputError(
                f"'{spec.name}' ({spec.sizes()}) holds samples on another axis than the first, so they have to fit "
                f"into one run: this engine takes {plan.size} at a time. Use Engine(batch=N)."
            )
    return plan


def _shared(model: Model, plan: _Plan) -> str:
    """The first output that is known not to hold one entry per sample; "" if there is none."""
    for spec in model.outputs:
        lead = spec.shape[0] if spec.shape else None
        of_weight = spec.name.removeprefix("gradient.") in model.ir.graph.initializers
        if (spec.rank_known and not spec.shape) or of_weight or (isinstance(lead, int) and lead != plan.fixed):
            return f"'{spec.name}' ({spec.sizes()})"
    return ""


def _one_for_all(output: str, plan: _Plan) -> InputError:
    return InputError(
        f"{output} is one for all samples, so they have to fit into one run: this engine takes {plan.size} at a time. "
        "Use Engine(batch=N)."
    )


def _is_second(pair: NDArray[Any], alone: NDArray[Any]) -> bool:
    """True if the second sample of a batch of two got what it gets alone."""
    scale = np.abs(alone).max(initial=0)
    return pair.shape[:1] == (2,) and np.allclose(pair[1:], alone, rtol=1e-3, atol=1e-4 * (1e-6 + scale))


def _require_per_sample(model: Model, plan: _Plan) -> None:
    """Where samples are run in parts, or filled up, every output must hold one entry per sample."""
    for spec in model.outputs:
        lead = spec.shape[0] if spec.shape else None
        of_weight = spec.name.removeprefix("gradient.") in model.ir.graph.initializers
        if not spec.shape or of_weight or (isinstance(lead, int) and lead != plan.fixed):
            raise InputError(
                f"'{spec.name}' ({spec.sizes()}) is one for all samples, so they have to fit into one run: this "
                f"engine takes {plan.size} at a time. Use Engine(batch=N)."
            )


def _call(session: ort.InferenceSession, outputs: list[str], feeds: Arrays) -> list[NDArray[Any]]:
    try:
        return session.run(outputs, feeds)  # type: ignore[no-any-return]
    except Exception as error:
        kind = InputError if "Got invalid dimensions" in str(error) else ResultError
        raise kind(f"onnxruntime failed while running the model: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """What onnxruntime said, in one line without its source files."""
    text = re.sub(r"\[ONNXRuntimeError\] : \d+ : \w+ : ", "", str(error)).strip()
    text = re.sub(r"/\S+\.(?:cc|h):\d+ [^\n]*?\) ?", "", text)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " ".join(lines[:2])[:400] or type(error).__name__


def _fit(spec: Spec, feeds: Mapping[str, NDArray[Any]], model: Model) -> NDArray[Any]:
    """The value of an input, checked against what the graph says."""
    if spec.name not in feeds:
        names = ", ".join(f"'{s.name}' ({s.sizes()} {s.dtype})" for s in model.inputs if s.name not in feeds)
        raise InputError(
            f"The model has inputs without values: {names}. From Python, give arrays by name: "
            "oi.gradcam(model, {name: array})."
        )
    value = np.asarray(feeds[spec.name])
    if spec.dtype != "unknown" and value.dtype != np.dtype(spec.dtype):
        if not np.can_cast(value.dtype, np.dtype(spec.dtype), casting="same_kind"):
            raise InputError(f"Input '{spec.name}' takes {spec.dtype}, not {value.dtype}.")
        value = value.astype(spec.dtype)
    if not spec.rank_known:
        return value
    if len(spec.shape) != value.ndim:
        raise InputError(
            f"Input '{spec.name}' has {len(spec.shape)} axes ({spec.sizes()}); the value, {value.shape}, "
            f"has {value.ndim}."
        )
    wrong = [i for i, d in enumerate(spec.shape) if i > 0 and isinstance(d, int) and d != value.shape[i]]
    if wrong:
        raise InputError(f"Input '{spec.name}' has shape {spec.sizes()}, the value {'×'.join(map(str, value.shape))}.")
    return value


_default: Engine | None = None


def default() -> Engine:
    """The engine that methods share when none is given: device "auto"."""
    global _default
    _default = _default or Engine()
    return _default
