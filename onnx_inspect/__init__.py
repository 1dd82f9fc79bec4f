"""onnx_inspect: why a finished ONNX model said what it said.

    import onnx_inspect as oi
    model = oi.load("model.onnx")
    result = oi.gradcam(model, "cat.jpg", target=281)
    result.save("cat")

Everything runs on plain onnxruntime: an explanation is a rewrite of the graph.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .attribution import Attribution, Prediction
    from .autodiff.gradient import vjp
    from .autodiff.table import RULES, rule
    from .doctor import examine
    from .engine import Engine
    from .errors import InspectError
    from .methods.activations import activations
    from .methods.cam import cam, gradcam
    from .methods.gradients import saliency
    from .methods.perturbation import occlusion
    from .model import Model, load
    from .preprocess import Preprocessing
    from .rewrite import cut, expose
    from .target import gradient

# Where each public name lives: importing the package imports none of them (a command line must start quickly).
_HOMES = {
    "Attribution": "attribution",
    "Engine": "engine",
    "InspectError": "errors",
    "Model": "model",
    "Prediction": "attribution",
    "Preprocessing": "preprocess",
    "RULES": "autodiff.table",
    "activations": "methods.activations",
    "cam": "methods.cam",
    "cut": "rewrite",
    "examine": "doctor",
    "expose": "rewrite",
    "gradcam": "methods.cam",
    "gradient": "target",
    "load": "model",
    "occlusion": "methods.perturbation",
    "rule": "autodiff.table",
    "saliency": "methods.gradients",
    "vjp": "autodiff.gradient",
}

__all__ = [  # noqa: RUF022  (the order of _HOMES)
    "Attribution",
    "Engine",
    "InspectError",
    "Model",
    "Prediction",
    "Preprocessing",
    "RULES",
    "activations",
    "cam",
    "cut",
    "examine",
    "expose",
    "gradcam",
    "gradient",
    "load",
    "occlusion",
    "rule",
    "saliency",
    "vjp",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(_HOMES)
