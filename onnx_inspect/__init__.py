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

from .lazily import postpone

postpone("onnx", "onnx_ir")

if TYPE_CHECKING:
    from .attribution import Attribution, Prediction
    from .autodiff.gradient import vjp
    from .autodiff.table import RULES, rule
    from .comparison import explain
    from .conversion import drift
    from .detection import Detection
    from .doctor import examine
    from .engine import Engine
    from .errors import InspectError
    from .evidence import LayerRanking, best_layer
    from .finding import Finding
    from .methods.activations import activations
    from .methods.adversarial import fgsm, minimal_perturbation, pgd
    from .methods.attention import attention
    from .methods.attention_rollout import attention_rollout, generic_attention, transformer_attribution
    from .methods.backprop import deconvnet, guided_backprop
    from .methods.cam import cam, gradcam
    from .methods.cam_eigen import eigen_gradcam, eigencam
    from .methods.cam_gradients import (
        elementwise_gradcam,
        hirescam,
        layercam,
        xgradcam,
    )
    from .methods.cam_guided import fullgrad, guided_gradcam
    from .methods.cam_masks import ablationcam, reciprocam, scorecam
    from .methods.cam_plusplus import gradcam_plusplus, smooth_gradcam_plusplus
    from .methods.deeplift import deep_shap, deeplift
    from .methods.detect import detect
    from .methods.drise import drise
    from .methods.features import feature_ablation, permutation, shapley_value_sampling
    from .methods.gradients import input_x_gradient, saliency
    from .methods.localize import localize
    from .methods.noise import smoothgrad
    from .methods.paths import expected_gradients, gradient_shap, integrated_gradients
    from .methods.paths_image import blur_ig, guided_ig, xrai
    from .methods.perturbation import occlusion
    from .methods.relevance import excitation_backprop, lrp
    from .methods.samples import Samples
    from .methods.sanity import sanity
    from .methods.surrogates import kernel_shap, lime, rise
    from .model import Model, load
    from .pairs import Drift
    from .preprocess import Preprocessing
    from .rewrite import cut, expose
    from .studies.ablate import ablate
    from .studies.correspondence import correspondence
    from .studies.dream import dream
    from .studies.embed import embed
    from .studies.evolve import evolve
    from .studies.filters import filters
    from .studies.fool import fool
    from .studies.invariance import invariance
    from .studies.invert import invert
    from .studies.neighbours import neighbours
    from .studies.patches import patches
    from .studies.probe import probe
    from .studies.project import project
    from .studies.units import units
    from .studies.visualize import visualize
    from .target import gradient
    from .trust.boxes import energy_in_box, pointing_game
    from .trust.faithfulness import average_drop, deletion, insertion
    from .trust.infidelity import infidelity, max_sensitivity
    from .trust.road import road

# Where each public name lives: importing the package imports none of them (a command line must start quickly).
_HOMES = {
    "Attribution": "attribution",
    "Detection": "detection",
    "Drift": "pairs",
    "Engine": "engine",
    "Finding": "finding",
    "InspectError": "errors",
    "LayerRanking": "evidence",
    "Model": "model",
    "Prediction": "attribution",
    "Preprocessing": "preprocess",
    "RULES": "autodiff.table",
    "Samples": "methods.samples",
    "ablate": "studies.ablate",
    "ablationcam": "methods.cam_masks",
    "activations": "methods.activations",
    "attention": "methods.attention",
    "attention_rollout": "methods.attention_rollout",
    "average_drop": "trust.faithfulness",
    "best_layer": "evidence",
    "blur_ig": "methods.paths_image",
    "cam": "methods.cam",
    "correspondence": "studies.correspondence",
    "cut": "rewrite",
    "deconvnet": "methods.backprop",
    "deep_shap": "methods.deeplift",
    "deeplift": "methods.deeplift",
    "deletion": "trust.faithfulness",
    "detect": "methods.detect",
    "dream": "studies.dream",
    "drift": "conversion",
    "drise": "methods.drise",
    "eigen_gradcam": "methods.cam_eigen",
    "eigencam": "methods.cam_eigen",
    "elementwise_gradcam": "methods.cam_gradients",
    "embed": "studies.embed",
    "energy_in_box": "trust.boxes",
    "evolve": "studies.evolve",
    "examine": "doctor",
    "excitation_backprop": "methods.relevance",
    "expected_gradients": "methods.paths",
    "explain": "comparison",
    "expose": "rewrite",
    "feature_ablation": "methods.features",
    "fgsm": "methods.adversarial",
    "filters": "studies.filters",
    "fool": "studies.fool",
    "fullgrad": "methods.cam_guided",
    "generic_attention": "methods.attention_rollout",
    "gradcam": "methods.cam",
    "gradcam_plusplus": "methods.cam_plusplus",
    "gradient": "target",
    "gradient_shap": "methods.paths",
    "guided_backprop": "methods.backprop",
    "guided_gradcam": "methods.cam_guided",
    "guided_ig": "methods.paths_image",
    "hirescam": "methods.cam_gradients",
    "infidelity": "trust.infidelity",
    "input_x_gradient": "methods.gradients",
    "insertion": "trust.faithfulness",
    "integrated_gradients": "methods.paths",
    "invariance": "studies.invariance",
    "invert": "studies.invert",
    "kernel_shap": "methods.surrogates",
    "layercam": "methods.cam_gradients",
    "lime": "methods.surrogates",
    "load": "model",
    "localize": "methods.localize",
    "lrp": "methods.relevance",
    "max_sensitivity": "trust.infidelity",
    "minimal_perturbation": "methods.adversarial",
    "neighbours": "studies.neighbours",
    "occlusion": "methods.perturbation",
    "patches": "studies.patches",
    "permutation": "methods.features",
    "pgd": "methods.adversarial",
    "pointing_game": "trust.boxes",
    "probe": "studies.probe",
    "project": "studies.project",
    "reciprocam": "methods.cam_masks",
    "rise": "methods.surrogates",
    "road": "trust.road",
    "rule": "autodiff.table",
    "saliency": "methods.gradients",
    "sanity": "methods.sanity",
    "scorecam": "methods.cam_masks",
    "shapley_value_sampling": "methods.features",
    "smooth_gradcam_plusplus": "methods.cam_plusplus",
    "smoothgrad": "methods.noise",
    "transformer_attribution": "methods.attention_rollout",
    "units": "studies.units",
    "visualize": "studies.visualize",
    "vjp": "autodiff.gradient",
    "xgradcam": "methods.cam_gradients",
    "xrai": "methods.paths_image",
}

__all__ = [  # noqa: RUF022  (the order of _HOMES)
    "Attribution",
    "Detection",
    "Drift",
    "Engine",
    "Finding",
    "InspectError",
    "LayerRanking",
    "Model",
    "Prediction",
    "Preprocessing",
    "RULES",
    "Samples",
    "ablate",
    "ablationcam",
    "activations",
    "attention",
    "attention_rollout",
    "average_drop",
    "best_layer",
    "blur_ig",
    "cam",
    "correspondence",
    "cut",
    "deconvnet",
    "deep_shap",
    "deeplift",
    "deletion",
    "detect",
    "dream",
    "drift",
    "drise",
    "eigen_gradcam",
    "eigencam",
    "elementwise_gradcam",
    "embed",
    "energy_in_box",
    "evolve",
    "examine",
    "excitation_backprop",
    "expected_gradients",
    "explain",
    "expose",
    "feature_ablation",
    "fgsm",
    "filters",
    "fool",
    "fullgrad",
    "generic_attention",
    "gradcam",
    "gradcam_plusplus",
    "gradient",
    "gradient_shap",
    "guided_backprop",
    "guided_gradcam",
    "guided_ig",
    "hirescam",
    "infidelity",
    "input_x_gradient",
    "insertion",
    "integrated_gradients",
    "invariance",
    "invert",
    "kernel_shap",
    "layercam",
    "lime",
    "load",
    "localize",
    "lrp",
    "max_sensitivity",
    "minimal_perturbation",
    "neighbours",
    "occlusion",
    "patches",
    "permutation",
    "pgd",
    "pointing_game",
    "probe",
    "project",
    "reciprocam",
    "rise",
    "road",
    "rule",
    "saliency",
    "sanity",
    "scorecam",
    "shapley_value_sampling",
    "smooth_gradcam_plusplus",
    "smoothgrad",
    "transformer_attribution",
    "units",
    "visualize",
    "vjp",
    "xgradcam",
    "xrai",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(_HOMES)
