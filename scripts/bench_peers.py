"""What bench.py compares with: the same explanations by captum, pytorch-grad-cam and zennit, as their manuals say.

Every peer is made ready outside the clock, hooks, rules and merged batch norms included, and is told the class. Its
answer is a NumPy array, as ours is.
"""

from __future__ import annotations

import copy
import sys
import types
from collections.abc import Callable
from typing import Any

import captum.attr as captum
import numpy as np
import torch
from bench_networks import NETWORKS, Add, Classifier
from bench_tables import STEPS, STRIDE, WINDOW
from numpy.typing import NDArray
from torch import Tensor, nn


def stand_in(name: str, *names: str) -> types.ModuleType:
    module = types.ModuleType(name)
    for each in names:
        setattr(module, each, type(each, (), {}))
    return module


# In torchvision's place: the others import some of its names, and use none of them here.
TORCHVISION = {
    "torchvision": [],
    "torchvision.models": [],
    "torchvision.models.resnet": ["Bottleneck", "BasicBlock"],
    "torchvision.models.vgg": ["VGG"],
    "torchvision.transforms": ["Compose", "Normalize", "ToTensor"],
    "torchvision.transforms.functional": ["resize"],
}
sys.modules |= {name: stand_in(name, *names) for name, names in TORCHVISION.items()}

import pytorch_grad_cam  # noqa: E402
import zennit.canonizers  # noqa: E402
import zennit.composites  # noqa: E402
import zennit.layer  # noqa: E402
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget  # noqa: E402

for absent in TORCHVISION:
    del sys.modules[absent]  # the exporter looks for the real one

Call = Callable[[], NDArray[Any]]
TOGETHER = 8  # variants in a batch: captum's defaults, 50 steps or one window at a time, take longer


class Sum(nn.Module):
    """A sum that zennit knows."""

    def __init__(self) -> None:
        super().__init__()
        self.total = zennit.layer.Sum()

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.total(torch.stack([a, b], -1))


def peers(method: str, name: str, net: Classifier, x: Tensor, target: int) -> dict[str, Call]:
    """By the name of the library, what explains a class of one photo."""
    return {
        library: make(name, net, x, target) for library, make in PEERS[method].items() if has(library, method, name)
    }


def has(library: str, method: str, name: str) -> bool:
    """Whether a library explains the network: zennit's rules cover some, captum's Grad-CAM takes no tokens."""
    if library == "zennit":
        return NETWORKS[name].zennit
    return not (library == "captum" and method == "gradcam" and name == "vit_tiny")


def captum_gradcam(name: str, net: Classifier, x: Tensor, target: int) -> Call:
    found = captum.LayerGradCam(net, net.features)
    return lambda: array(found.attribute(x, target, relu_attributions=True)[:, 0])


def grad_cam_gradcam(name: str, net: Classifier, x: Tensor, target: int) -> Call:
    """Its maps come scaled to 0 to 1, in the size of the input."""
    goal = [ClassifierOutputTarget(target)]
    if name != "vit_tiny":
        found = pytorch_grad_cam.GradCAM(net, [net.features])
        return lambda: found(x, goal)

    def grid(tokens: Tensor) -> Tensor:
        return tokens[:, 1:].unflatten(1, (14, 14)).permute(0, 3, 1, 2)

    on_tokens = pytorch_grad_cam.GradCAM(
        net, [net.features[-2]], reshape_transform=grid
    )  # behind it only the class token counts
    return lambda: on_tokens(x, goal)


def captum_saliency(name: str, net: Classifier, x: Tensor, target: int) -> Call:
    found = captum.Saliency(net)
    return lambda: array(found.attribute(x.clone().requires_grad_(), target))


def captum_integrated_gradients(name: str, net: Classifier, x: Tensor, target: int) -> Call:
    found = captum.IntegratedGradients(net)
    return lambda: array(found.attribute(x, target=target, n_steps=STEPS, internal_batch_size=TOGETHER))


def captum_occlusion(name: str, net: Classifier, x: Tensor, target: int) -> Call:
    found = captum.Occlusion(net)
    window, stride = (3, WINDOW, WINDOW), (3, STRIDE, STRIDE)
    return lambda: array(found.attribute(x, window, stride, 0, target, perturbations_per_eval=TOGETHER)[:, 0])


def zennit_lrp(name: str, net: Classifier, x: Tensor, target: int) -> Call:
    """On a copy that keeps its hooks, so that they cost nothing per photo."""
    net = copy.deepcopy(net)
    for module in list(net.modules()):
        for child, old in list(module.named_children()):
            if isinstance(old, Add):
                setattr(module, child, Sum())
    composite = zennit.composites.EpsilonPlusFlat(canonizers=[zennit.canonizers.SequentialMergeBatchNorm()])
    composite.register(net)

    def run() -> NDArray[Any]:
        pixels = x.clone().requires_grad_()
        score = net(pixels)[:, target]
        return array(torch.autograd.grad(score, pixels, score.detach())[0])

    return run


PEERS: dict[str, dict[str, Callable[[str, Classifier, Tensor, int], Call]]] = {
    "gradcam": {"captum": captum_gradcam, "grad-cam": grad_cam_gradcam},
    "saliency": {"captum": captum_saliency},
    "integrated_gradients": {"captum": captum_integrated_gradients},
    "lrp": {"zennit": zennit_lrp},
    "occlusion": {"captum": captum_occlusion},
}


def array(values: Tensor) -> NDArray[Any]:
    return np.asarray(values.detach().cpu())
