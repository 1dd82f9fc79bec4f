"""The tables of bench.py: ratios, what they should be, and what missed it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tables
from numpy.typing import NDArray

STEPS, WINDOW, STRIDE, BATCH = 50, 32, 16, 16
RESNETS, SMALL = ("resnet18", "resnet50"), ("mobilenet_v2", "squeezenet1_1")
LATE = ("densenet121", "efficientnet_b0", "convnext_tiny", "vit_tiny")
ALL = (*RESNETS, "mobilenet_v2", "mobilenet_v3_large", "squeezenet1_1", "vgg16", *LATE)
LIBRARIES = {
    "gradcam": ["captum", "grad-cam"],
    "saliency": ["captum"],
    "integrated_gradients": ["captum"],
    "lrp": ["zennit"],
    "occlusion": ["captum"],
}


@dataclass(frozen=True)
class Ratio:
    """What is divided by what, and where it should be: by network, at most or at least a number."""

    over: str
    under: str
    most: dict[str, float] = field(default_factory=dict)
    least: dict[str, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.over} / {self.under}"

    def target(self, network: str, value: float) -> str:
        for sign, bounds, met in (("≤", self.most, value.__le__), ("≥", self.least, value.__ge__)):
            if network in bounds:
                return f"{sign} {bounds[network]:g}" + ("" if met(bounds[network]) else " **missed**")
        return ""


def bounds(*given: tuple[Sequence[str], float]) -> dict[str, float]:
    return {network: bound for networks, bound in given for network in networks}


FIVE = (*RESNETS, *SMALL, "vgg16")
RATIOS = {
    "gradcam": [
        Ratio("ours", "forward", bounds((RESNETS, 1.03), (SMALL[:1], 1.06), (SMALL[1:], 1.15), (["vgg16"], 1.05))),
        Ratio("captum", "ours", least=bounds((RESNETS, 1.5), (SMALL, 2.5))),
        Ratio("grad-cam", "ours", least=bounds((FIVE, 4))),
    ],
    "saliency": [
        Ratio(
            "ours",
            "forward",
            bounds((RESNETS, 2.25), (SMALL[:1], 2.8), (SMALL[1:], 3.2), (["vgg16"], 2.06), (LATE, 2.6)),
        ),
        Ratio(
            "captum",
            "ours",
            least=bounds((RESNETS, 1.45), (SMALL[:1], 1.9), (SMALL[1:], 1.6), (["vgg16"], 1.1), (LATE, 1.2)),
        ),
    ],
    "integrated_gradients": [
        Ratio("ours", "forward"),
        Ratio("ours", "saliency", bounds((ALL, STEPS))),
        Ratio("captum", "ours", least=bounds((ALL, 1.4))),
    ],
    "lrp": [
        Ratio("ours", "forward", bounds((RESNETS, 5), (SMALL, 7), (["vgg16"], 4.5))),
        Ratio("zennit", "ours", least=bounds((FIVE, 3))),
    ],
    "occlusion": [
        Ratio("ours", "forward"),
        Ratio("loop", "ours", least=bounds((RESNETS, 2), (SMALL[:1], 1.6), (SMALL[1:], 2.2), (["vgg16"], 4.5))),
        Ratio("captum", "ours", least={"resnet18": 3, "squeezenet1_1": 7}),
    ],
}


def spread(values: NDArray[np.float64]) -> str:
    low, middle, high = np.percentile(values, [25, 50, 75])
    digits = 1 if middle >= 20 else 2
    return f"{middle:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"


def table(method: str, entries: Mapping[str, Any], device: str = "cpu") -> str:
    """A row per network: medians, quartiles in brackets, targets, which are for the CPU, and memory, ours first."""
    libraries = ["ours", *LIBRARIES[method]]
    header = ["", "forward, ms", "ours, ms"]
    for ratio in RATIOS[method]:
        header += [ratio.name, *(["target"] if device == "cpu" and (ratio.most or ratio.least) else [])]
    rows = []
    for network, entry in entries.items():
        seconds = {name: np.array(values) for name, values in entry["seconds"].items()}
        row = [network, *(f"{1000 * np.median(seconds[name]):.1f}" for name in ("forward", "ours"))]
        for ratio in RATIOS[method]:
            there = ratio.over in seconds and ratio.under in seconds
            values = seconds[ratio.over] / seconds[ratio.under] if there else np.array([])
            row.append(spread(values) if there else "–")
            if device == "cpu" and (ratio.most or ratio.least):
                row.append(ratio.target(network, float(np.median(values))) if there else "")
        rows.append([*row, memory(entry["memory"], libraries)])
    return tables.markdown([*header, f"peak memory, MiB: {' / '.join(libraries)}"], rows)


def memory(found: Mapping[str, float], libraries: Sequence[str]) -> str:
    text = " / ".join(f"{found[name]:.0f}" if name in found else "–" for name in libraries)
    most = max((found[name] for name in libraries[1:] if name in found), default=np.inf)
    return text + (" **more**" if found.get("ours", 0) > most else "")


def report(kept: Mapping[str, Mapping[str, Any]], device: str = "cpu") -> str:
    titles = {"lrp": "LRP, epsilon_plus_flat", "integrated_gradients": f"Integrated gradients, {STEPS} steps"}
    titles |= {"gradcam": "Grad-CAM, last map", "saliency": "Saliency"}
    titles["occlusion"] = f"Occlusion, window {WINDOW}, stride {STRIDE}"
    parts = []
    for method in RATIOS:
        if entries := {network: kept[network][method] for network in ALL if method in kept.get(network, {})}:
            parts += [f"### {titles[method]}", table(method, entries, device)]
    every = [entry for methods in kept.values() for entry in methods.values()]
    alike = [value for entry in every for value in entry["agreement"].values()]
    same = f" Answers agree with ours: the least correlation is {min(alike):.4f}." if alike else ""
    states = " and ".join(sorted({f"{entry['commit']} ({entry['date']})" for entry in every}))
    load = [entry["load"] for entry in every]
    return "\n\n".join([f"Measured at {states}, under a load of {min(load):.1f} to {max(load):.1f}.{same}", *parts])


def versions() -> str:
    from importlib.metadata import version

    return ", ".join(f"{name} {version(name)}" for name in ("torch", "captum", "grad-cam", "zennit"))


NOTES = f"""Ratios to the model's own forward pass on plain onnxruntime in the same run, and of others to ours: medians,
quartiles in brackets. 224x224, one photo, float32, random weights. Ours is `oi.METHOD(model, x, engine=engine)`, Python
and all; the others are made ready outside the clock and told the class. They run as their manuals say, on torch in
evaluation mode, with batch normalisation as a layer (zennit merges it); captum is given 8 steps or windows at a time,
which was its quickest on SqueezeNet and MobileNetV2. `loop` is occlusion by full forward passes of onnxruntime,
{BATCH} at a time. Grad-CAM's layer is the one that "auto" finds, for everybody (SqueezeNet's is the class map). Memory
is the peak of a process of its own that loads the network and explains the photo twice, above what its imports take.
zennit's rules cover five of the networks; captum's Grad-CAM takes no tokens. dianna, with RISE, LIME and KernelSHAP,
has none of these methods."""
