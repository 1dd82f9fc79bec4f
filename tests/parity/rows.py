"""The table of parity: a method of ours, what it is held against, and on which networks.

`params` are ours, `settings` those of the reference. In texts of `params`, {early} and {features} stand for the tensors
of a layer, which are named differently in every file, and {unit} for an element of {early}. A `Stored` is an array from
the golden file, by input name.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Stored:
    """An array that scripts/make_golden.py made, for every input."""

    name: str


@dataclass(frozen=True, eq=False)
class Row:
    """One comparison.

    name: unique. reference: what it is held against, as scripts/make_golden.py calls it. method: ours.
    sign: false where the reference leaves the sign open.
    """

    name: str
    reference: str
    method: str
    networks: tuple[str, ...]
    params: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    target: str = "top"
    sign: bool = True

    @property
    def text(self) -> str:
        """What a golden value is of: if this changes, the value is stale."""
        return f"{self.reference} {self.settings}"


IMAGES = ("resnet", "vgg", "mobilenet", "densenet")
MAPS = (*IMAGES, "cnn1d")
ALL = (*MAPS, "vit", "lstm", "mlp")
RELUS = ("resnet", "vgg", "densenet", "cnn1d", "mlp")
UNIT = "'{early}'[{unit}]"
FEATURES, EARLY = {"wrt": ["{features}"]}, {"wrt": ["{early}"]}
QUADRATURES = {
    "gausslegendre": "gausslegendre",
    "left": "riemann_left",
    "right": "riemann_right",
    "middle": "riemann_middle",
    "trapezoid": "riemann_trapezoid",
}

GRADIENTS = [
    Row("saliency", "captum.Saliency", "saliency", ALL),
    Row("saliency-signed", "captum.Saliency", "saliency", ALL, {"signed": True}, {"abs": False}),
    Row("saliency-unit", "captum.NeuronGradient", "saliency", ALL, {"signed": True}, target=UNIT),
    Row("input-x-gradient", "captum.InputXGradient", "input_x_gradient", ALL),
    Row("layer-gradient-x-activation", "captum.LayerGradientXActivation", "input_x_gradient", ALL, FEATURES),
    Row("activations", "captum.LayerActivation", "activations", ALL, {"layer": "{features}"}),
    Row("guided-backprop", "captum.GuidedBackprop", "guided_backprop", (*RELUS, "mobilenet"), {"preset": "captum"}),
    Row("guided-backprop-unit", "captum.NeuronGuidedBackprop", "guided_backprop", RELUS, target=UNIT),
    Row("guided-backprop-zennit", "zennit.GuidedBackprop", "guided_backprop", (*RELUS, "mobilenet"),
        {"preset": "zennit"}),
    Row("guided-backprop-pgc", "pgc.GuidedBackprop", "guided_backprop", IMAGES, {"preset": "pgc"}),
    Row("deconvnet", "captum.Deconvolution", "deconvnet", (*RELUS, "mobilenet"), {"preset": "captum"}),
    Row("deconvnet-unit", "captum.NeuronDeconvolution", "deconvnet", RELUS, target=UNIT),
    Row("deconvnet-zennit", "zennit.DeconvNet", "deconvnet", (*RELUS, "mobilenet"), {"preset": "zennit"}),
]  # fmt: skip

PATHS = [
    *(
        Row(f"integrated-{ours}", "captum.IntegratedGradients", "integrated_gradients", ALL,
            {"quadrature": ours, "steps": 20, "preset": "captum"}, {"method": theirs, "n_steps": 20})
        for ours, theirs in QUADRATURES.items()
    ),
    Row("integrated-default", "captum.IntegratedGradients", "integrated_gradients", ALL),
    Row("integrated-baseline", "captum.IntegratedGradients", "integrated_gradients", ALL,
        {"baseline": Stored("baseline")}, {"baselines": "baseline"}),
    Row("integrated-zennit", "zennit.IntegratedGradients", "integrated_gradients", ALL,
        {"preset": "zennit"}),
    Row("integrated-unit", "captum.NeuronIntegratedGradients", "integrated_gradients", ALL, target=UNIT),
    Row("integrated-layer", "captum.LayerIntegratedGradients", "integrated_gradients", ALL, EARLY),
    Row("conductance", "captum.LayerConductance", "integrated_gradients", ALL, {**EARLY, "along": "input"}),
    Row("influence", "captum.InternalInfluence", "integrated_gradients", ALL,
        {**EARLY, "along": "input", "average": True}),
    Row("conductance-unit", "captum.NeuronConductance", "integrated_gradients", ALL,
        {"through": UNIT}, {"method": "gausslegendre"}),
    Row("conductance-unit-default", "captum.NeuronConductance", "integrated_gradients", ALL,
        {"through": UNIT, "quadrature": "trapezoid", "preset": "captum"}),
]  # fmt: skip

CAMS = [
    Row("gradcam-captum", "captum.LayerGradCam", "gradcam", MAPS, {"layer": "{features}", "preset": "captum"}),
    Row("gradcam-early", "captum.LayerGradCam", "gradcam", MAPS,
        {"layer": "{early}", "signed": True}, {"layer": "early"}),
    Row("guided-gradcam", "captum.GuidedGradCam", "guided_gradcam", MAPS,
        {"layer": "{features}", "preset": "captum"}),
    *(
        Row(f"{method.replace('_', '-')}-pgc", f"pgc.{reference}", method, networks,
            {"layer": "{features}", **params}, sign=sign)
        for method, reference, networks, params, sign in [
            ("gradcam", "GradCAM", MAPS, {"signed": True}, True),
            ("gradcam_plusplus", "GradCAMPlusPlus", MAPS, {"signed": True}, True),
            ("xgradcam", "XGradCAM", MAPS, {"signed": True}, True),
            ("hirescam", "HiResCAM", MAPS, {"signed": True}, True),
            ("elementwise_gradcam", "GradCAMElementWise", MAPS, {}, True),
            ("layercam", "LayerCAM", MAPS, {"signed": True}, True),
            ("eigencam", "EigenCAM", MAPS, {"signed": True}, False),
            ("eigen_gradcam", "EigenGradCAM", MAPS, {"signed": True}, False),
            ("ablationcam", "AblationCAM", IMAGES, {"signed": True}, True),
        ]
    ),
    Row("gradcam-pgc-final", "pgc.GradCAM", "gradcam", IMAGES, {"layer": "{features}", "preset": "pgc"}, {"final": True}),
    Row("gradcam-pgc-two", "pgc.GradCAM", "gradcam", IMAGES,
        {"layer": ["{early}", "{features}"], "preset": "pgc"}, {"final": True, "layers": ["early", "features"]}),
    Row("scorecam-pgc", "pgc.ScoreCAM", "scorecam", IMAGES, {"layer": "{features}", "preset": "pgc"}, {"final": True}),
    Row("gradcam-pgc-smooth", "pgc.GradCAM", "gradcam", IMAGES,
        {"layer": "{features}", "preset": "pgc", "flips": True, "scales": (0.9, 1, 1.1)},
        {"final": True, "aug_smooth": True}),
    Row("cam", "pgc.GradCAM", "cam", ("resnet", "mobilenet", "densenet"), {"signed": True}, {"total": True}),
    Row("fullgrad-pgc", "pgc.FullGrad", "fullgrad", IMAGES, {"rescale": "channel"}),
    # Not resnet: pytorch-grad-cam pairs gradients with biases in the order of the backward pass, and so swaps those of
    # the two branches of a block. Scaling to 0 to 1 hides that.
    Row("fullgrad-plain", "pgc.FullGrad", "fullgrad", IMAGES[1:], {"rescale": "none"}, {"rescale": False}),
]  # fmt: skip

# With its hooks kept apart, captum has a rule for max-pools, but where windows overlap, as in ResNet's, it loses what
# several of them give to one position.
APART = ("vgg", "densenet", "cnn1d", "mlp")
COMPOSITES = [
    ("epsilon_plus", "EpsilonPlus", (*MAPS, "mlp"), {}, {}),
    ("epsilon_plus_flat", "EpsilonPlusFlat", MAPS, {}, {}),
    ("epsilon_alpha2_beta1", "EpsilonAlpha2Beta1", (*MAPS, "mlp"), {}, {}),
    ("epsilon_alpha2_beta1_flat", "EpsilonAlpha2Beta1Flat", MAPS, {}, {}),
    ("epsilon_gamma_box", "EpsilonGammaBox", MAPS, {"low": (-8.0,), "high": (8.0,)}, {"low": -8.0, "high": 8.0}),
]
RELEVANCE = [
    # Not resnet: with an epsilon of 1e-9, rounding decides what relevance a sum near 0 passes on.
    Row("lrp-captum", "captum.LRP", "lrp", ("vgg", "cnn1d", "mlp"), {"preset": "captum"}),
    Row("lrp-captum-layer", "captum.LayerLRP", "lrp", ("cnn1d",), {**EARLY, "preset": "captum"}),
    *(
        Row(f"lrp-{name.replace('_', '-')}", f"zennit.{reference}", "lrp", networks,
            {"composite": name, "preset": "zennit", **params}, settings)
        for name, reference, networks, params, settings in COMPOSITES
    ),
    *(  # from the score on; a batch norm that stands alone is zennit's own affair
        Row(f"lrp-{name.replace('_', '-')}-scaled", f"zennit.{reference}", "lrp",
            tuple(n for n in networks if n != "densenet"), {"composite": name, **params}, {"scaled": True, **settings})
        for name, reference, networks, params, settings in COMPOSITES
    ),
    Row("excitation-backprop", "zennit.ExcitationBackprop", "excitation_backprop", (*MAPS, "mlp"), {"preset": "zennit"}),
    Row("deeplift-layer", "captum.LayerDeepLift", "deeplift", RELUS, {**EARLY, "preset": "captum"}),
    *(
        Row(f"{name}{end}", f"captum.{reference}", method, networks,
            {**params, "preset": preset}, {**settings, **more}, target)
        for end, preset, networks, more in [("-captum", "captum", RELUS, {}), ("", "", APART, {"separated": True})]
        for name, reference, method, params, settings, target in [
            ("deeplift", "DeepLift", "deeplift", {}, {}, "top"),
            ("deeplift-baseline", "DeepLift", "deeplift",
             {"baseline": Stored("baseline")}, {"baselines": "baseline"}, "top"),
            ("deeplift-unit", "NeuronDeepLift", "deeplift", {}, {}, UNIT),
            ("deep-shap", "DeepLiftShap", "deep_shap",
             {"baseline": Stored("baselines")}, {"baselines": "baselines"}, "top"),
        ]
    ),
]  # fmt: skip

PERTURBATION = [
    *(
        Row(f"occlusion-{window}-{stride}", "captum.Occlusion", "occlusion", (*IMAGES, "vit"),
            {"window": window, "stride": stride, "baseline": "0"}, {"window": window, "stride": stride})
        for window, stride in [(6, 3), (7, 5)]
    ),
    *(
        Row(f"occlusion-captum-{len(window)}d", "captum.Occlusion", "occlusion", networks,
            {"window": window, "stride": stride, "preset": "captum"}, {"window": window, "stride": stride})
        for window, stride, networks in [((2, 6, 7), (1, 3, 4), (*IMAGES, "vit")), ((3, 4), (2, 3), ("cnn1d", "lstm"))]
    ),
    Row("feature-ablation", "captum.FeatureAblation", "feature_ablation", ALL,
        {"features": Stored("mask"), "baseline": "0"}),
    Row("feature-ablation-baseline", "captum.FeatureAblation", "feature_ablation", ALL,
        {"features": Stored("mask"), "baseline": Stored("baseline")}, {"baselines": "baseline"}),
    Row("shapley", "captum.ShapleyValues", "shapley_value_sampling", ALL,
        {"features": Stored("coarse"), "baseline": "0", "exact": True}),
    Row("shapley-baseline", "captum.ShapleyValues", "shapley_value_sampling", ALL,
        {"features": Stored("coarse"), "baseline": Stored("baseline"), "exact": True}, {"baselines": "baseline"}),
    Row("kernel-shap", "captum.ShapleyValues", "kernel_shap", ALL, {"features": Stored("coarse"), "baseline": "0"}),
]  # fmt: skip

ATTACKED = (*MAPS, "vit", "lstm")
ADVERSARIAL = [
    Row("fgsm", "captum.FGSM", "fgsm", ATTACKED, {"epsilon": 0.1, "preset": "captum"}, {"epsilon": 0.1}),
    Row("fgsm-to", "captum.FGSM", "fgsm", ATTACKED,
        {"to": 2, "epsilon": 0.1, "preset": "captum"}, {"to": 2, "epsilon": 0.1}),
    Row("fgsm-bounds", "captum.FGSM", "fgsm", ATTACKED,
        {"epsilon": 3.0, "bounds": (-5, 4), "preset": "captum"}, {"epsilon": 3.0, "bounds": (-5, 4)}),
    *(
        Row(f"pgd-{norm}", "captum.PGD", "pgd", ATTACKED,
            {"epsilon": radius, "steps": 5, "step": 0.05, "norm": norm, "preset": "captum"},
            {"radius": radius, "step_num": 5, "step_size": 0.05, "norm": theirs})
        for norm, theirs, radius in [("linf", "Linf", 0.12), ("l2", "L2", 3.0)]
    ),
    Row("pgd-to", "captum.PGD", "pgd", ATTACKED,
        {"to": 2, "epsilon": 0.12, "steps": 5, "step": 0.05, "preset": "captum"},
        {"to": 2, "radius": 0.12, "step_num": 5, "step_size": 0.05}),
]  # fmt: skip

FAMILIES = {
    "gradients": GRADIENTS,
    "paths": PATHS,
    "cams": CAMS,
    "relevance": RELEVANCE,
    "perturbation": PERTURBATION,
    "adversarial": ADVERSARIAL,
}
ROWS = [row for rows in FAMILIES.values() for row in rows]
