"""`Engine`: runs models on onnxruntime, and is the only user of it."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort

from .batching import Arrays, Plan, fit, is_second, make_plan, one_for_all, shared_output
from .errors import DeviceError, InputError, ModelError, ResultError
from .model import Model
from .rewrite import cut

if TYPE_CHECKING:
    from numpy.typing import NDArray

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
        values = {s.name: fit(s, feeds, model) for s in part.inputs}
        plan = make_plan(part, values, self.batch)
        shared = shared_output(part, plan)
        if plan.n > 1 and part.batch_relaxed and not shared and self._must_run_singly(part, values, plan):
            plan = replace(plan, size=1)
        in_parts = plan.n % plan.size or plan.n > plan.size
        if in_parts and shared:
            raise one_for_all(shared, plan)
        session = self._session(part)
        results: list[list[NDArray[Any]]] = []
        for start in range(0, plan.n, plan.size):
            count = min(plan.size, plan.n - start)
            found = _call(session, wanted, plan.part(values, start))
            if in_parts:
                rows = plan.size if plan.fixed else count
                for name, value in zip(wanted, found, strict=True):
                    if not isinstance(value, np.ndarray) or value.shape[:1] != (rows,):
                        raise one_for_all(f"'{name}'", plan)
            results.append([r[:count] if count < plan.size else r for r in found])
            if progress is not None:
                progress(count)
        if len(results) == 1:
            return dict(zip(wanted, results[0], strict=True))
        return {k: np.concatenate([r[i] for r in results]) for i, k in enumerate(wanted)}

    def samples(self, model: Model, feeds: Mapping[str, NDArray[Any]]) -> frozenset[str]:
        """The inputs that hold one entry per sample on their first axis; others are the same for all."""
        return make_plan(model, {s.name: fit(s, feeds, model) for s in model.inputs}, self.batch).samples

    def _cut(self, model: Model, wanted: list[str]) -> Model:
        return model.memo(("cut", *wanted), lambda: cut(model, outputs=wanted))

    def _must_run_singly(self, model: Model, values: Arrays, plan: Plan) -> bool:
        """Check once per model that a batch gives what single runs give: the file promised one size only."""
        if model.digest not in self._singly:
            names = [o.name for o in model.outputs]
            session = self._session(model)
            try:
                pair = _call(session, names, replace(plan, size=2).part(values, plan.n - 2))
                alone = _call(session, names, replace(plan, size=1).part(values, plan.n - 1))
                self._singly[model.digest] = not all(map(is_second, pair, alone))
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
        # onnxruntime turns int8 pairs into uint8 ones, but not the output_dtype of those that it has added itself.
        options.add_session_config_entry("session.qdqisint8allowed", "1")
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


_default: Engine | None = None


def default() -> Engine:
    """The engine that methods share when none is given: device "auto"."""
    global _default
    _default = _default or Engine()
    return _default
