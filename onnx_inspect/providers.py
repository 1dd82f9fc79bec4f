"""What onnxruntime runs on: which execution providers there really are."""

from __future__ import annotations

import os
import re
from typing import Any

import onnxruntime as ort

from . import memory
from .errors import DeviceError

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
GRAPHS = "enable_cuda_graph"
SILENT, WARNING = 4, 2


def choose(device: str, *, tf32: bool = False, graphs: bool = False) -> list[tuple[str, dict[str, Any]]]:
    """The providers for a device: "auto" (CUDA if a session really gets it, else CPU), "cpu", "cuda" or "cuda:N".

    Args:
        device: its name.
        tf32: let a card round what it multiplies to 10 bits.
        graphs: let a card record the kernels of a run, and replay them.

    Raises:
        DeviceError: CUDA was asked for and cannot run here.
    """
    match = re.fullmatch(r"(auto|cpu|cuda)(?::(\d+))?", device)
    if match is None or (match[2] and match[1] != "cuda"):
        raise DeviceError(
            f"There is no device '{device}': use auto, cpu, cuda, cuda:N or several cards, cuda:0,cuda:1."
        )
    cpu: tuple[str, dict[str, Any]] = (CPU, {})
    if match[1] == "cpu":
        return [cpu]
    cuda: tuple[str, dict[str, Any]] = (
        CUDA,
        {
            "device_id": int(match[2] or 0),
            # The default is 1: convolutions and products are rounded to 10 bits, which no comparison survives.
            "use_tf32": int(tf32),
            # The default, EXHAUSTIVE, chose by the clock before cuDNN 9: other bytes in every process. It also asks
            # longer for each new shape, and batches come in several.
            "cudnn_conv_algo_search": "HEURISTIC",
            # The default doubles what an arena takes each time, and many sessions share the card, an arena for each.
            "arena_extend_strategy": "kSameAsRequested",
        },
    )
    if _runs(cuda):
        return [(CUDA, cuda[1] | ({GRAPHS: 1} if graphs else {})), cpu]
    if match[1] == "auto":
        return [cpu]
    there = CUDA in ort.get_available_providers()
    reason = "CUDA, cuDNN or the card is missing" if there else "this onnxruntime is built without CUDA"
    raise DeviceError(
        f"Device '{device}' cannot run here: {reason}. Install `pip install 'onnx-inspect[cuda]'` on a machine with "
        "an NVIDIA driver, or use --device cpu."
    )


def several(device: str) -> list[str]:
    """The devices of a name: one, or cards with commas between.

    Raises:
        DeviceError: one of several is no card, or comes twice.
    """
    found = [name.strip() for name in device.split(",")]
    if len(found) > 1 and (len(set(found)) < len(found) or not all(re.fullmatch(r"cuda:\d+", d) for d in found)):
        raise DeviceError(f"'{device}' are no cards: several are written as cuda:0,cuda:1.")
    return found


def manners(provider: str, *, tf32: bool, half: bool, graphs: bool) -> list[str]:
    """What every result has to say of how its numbers came about."""
    asked = [name for name, given in (("--tf32", tf32), ("--fp16", half), ("--cuda-graphs", graphs)) if given]
    if provider != CUDA:
        return [f"on the CPU these change nothing ({', '.join(asked)})"] if asked else []
    notes = []
    if tf32:
        notes.append("what is multiplied is rounded to 10 bits, so numbers move by some thousandths (--tf32)")
    if half:
        notes.append("the layers of the model multiply in half precision, gradients do not, so numbers move (--fp16)")
    return notes


def half(provider: tuple[str, dict[str, Any]]) -> int:
    """Half of the memory of what runs."""
    return (memory.of_card(provider[1]["device_id"]) if provider[0] == CUDA else memory.available()) // 2


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def probe() -> bytes:
    """One Conv node: the smallest model that shows which provider really runs, cuDNN included."""
    from onnx import TensorProto, helper

    x, w, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, 1, 1]) for name in "xwy")
    graph = helper.make_graph([helper.make_node("Conv", ["x", "w"], ["y"])], "probe", [x, w], [y])
    data: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10
    ).SerializeToString()
    return data


def _runs(provider: tuple[str, dict[str, Any]]) -> bool:
    """Whether a run really gets this provider: onnxruntime lists and accepts those that cannot run."""
    if provider[0] not in ort.get_available_providers():
        return False
    try:
        memory.cuda()
    except OSError:  # which takes no time to find out
        return False
    from importlib.util import find_spec

    import numpy as np

    if find_spec("nvidia") is not None:
        ort.preload_dlls()
    ort.set_default_logger_severity(SILENT)
    options = ort.SessionOptions()
    options.log_severity_level = SILENT
    try:
        session = ort.InferenceSession(probe(), options, providers=[provider, CPU], enable_fallback=0)
        session.run(None, dict.fromkeys("xw", np.ones((1, 1, 1, 1), np.float32)))
        return provider[0] in session.get_providers()
    except Exception:  # a card that is there but refuses: then CUDA does not run
        return False
