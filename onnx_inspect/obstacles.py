"""What no gradient passes whatever rules there are, and operators of one machine: why, and what to do about it."""

from __future__ import annotations

_TREE = "a tree ensemble is a step function of its input"
# Operators that no gradient can pass, and why.
STEPS = {
    "ArgMax": "it gives an index",
    "ArgMin": "it gives an index",
    "TopK": "its second output gives indices",
    "NonZero": "it gives indices",
    "NonMaxSuppression": "it gives the indices of boxes",
    "Hardmax": "it is a step function",
    "ai.onnx.ml::TreeEnsembleClassifier": _TREE,
    "ai.onnx.ml::TreeEnsembleRegressor": _TREE,
    "ai.onnx.ml::TreeEnsemble": _TREE,
    "ai.onnx.ml::LabelEncoder": "it gives labels",
} | dict.fromkeys(("Floor", "Ceil", "Round", "Sign"), "it is a step function")

_AGAIN, _STANDARD = (
    "ask for the original, or save that with ORT_ENABLE_EXTENDED",
    "ask for the model in standard operators",
)
# Operators, and whole domains, that run on one kind of machine only: why, and what to do.
MACHINES = {
    "com.microsoft.nchwc": ("onnxruntime saved this file for one kind of processor (optimisation level ALL)", _AGAIN),
    "com.ms.internal.nhwc": ("onnxruntime saved this file for one execution provider", _AGAIN),
    "com.microsoft.dml": ("onnxruntime saved this file for DirectML", _AGAIN),
    "com.microsoft::EPContext": ("it holds an engine that is compiled for one accelerator, not a graph", _STANDARD),
    "com.microsoft::FusedConv": ("onnxruntime's optimiser wrote it", _STANDARD),
    "com.microsoft::FusedGemm": ("onnxruntime's optimiser wrote it", _STANDARD),
    "trt.plugins": ("only TensorRT with that plugin runs it", _STANDARD),
}


def machine(op: str) -> tuple[str, str] | None:
    """Why an operator, as "domain::Op", runs on one kind of machine only, and what to do; None if it does not."""
    return MACHINES.get(op) or MACHINES.get(op.rpartition("::")[0])
