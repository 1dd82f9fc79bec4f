"""What onnxruntime runs on: which execution providers there really are."""

from __future__ import annotations

import os
import re
from typing import Any

import onnxruntime as ort

from . import memory
from .errors import DeviceError

_CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
SILENT, WARNING = 4, 2


def choose(device: str) -> list[tuple[str, dict[str, Any]]]:
    """The providers for a device: "auto" (CUDA if a session really gets it, else CPU), "cpu", "cuda" or "cuda:N".

    Raises:
        DeviceError: CUDA was asked for and cannot run here.
    """
    match = re.fullmatch(r"(auto|cpu|cuda)(?::(\d+))?", device)
    if match is None or (match[2] and match[1] != "cuda"):
        raise DeviceError(f"There is no device '{device}': use auto, cpu, cuda or cuda:N.")
    cpu: tuple[str, dict[str, Any]] = (CPU, {})
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


def half(provider: tuple[str, dict[str, Any]]) -> int:
    """Half of the memory of what runs."""
    return (memory.of_card(provider[1]["device_id"]) if provider[0] == _CUDA else memory.available()) // 2


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def probe() -> bytes:
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
    ort.set_default_logger_severity(SILENT)
    options = ort.SessionOptions()
    options.log_severity_level = SILENT
    try:
        return provider[0] in ort.InferenceSession(probe(), options, providers=[provider, CPU]).get_providers()
    except Exception:  # a card that is there but refuses: then CUDA does not run
        return False
