"""Attributions against those of captum, pytorch-grad-cam and zennit, in files from both exporters of torch.

scripts/make_golden.py made the networks and the golden values; rows.py says what is held against what.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
from numpy.typing import NDArray

from onnx_inspect.attribution import Attribution
from onnx_inspect.methods.registry import every
from onnx_inspect.model import Model

from .parity.rows import ROWS, Row, Stored

HERE = Path(__file__).parent / "parity"
EXPORTERS = ("dynamo", "torchscript")
CASES = [
    pytest.param(row, network, exporter, id=f"{row.name}-{network}-{exporter}")
    for row in ROWS
    for network in row.networks
    for exporter in EXPORTERS
]

METHODS = every()
# What no reference computes, or only at random, by preset, and the file that holds it against a literal implementation.
WITHOUT = {
    **dict.fromkeys([("blur_ig", ""), ("guided_ig", ""), ("xrai", "")], "test_paths_image.py"),
    **dict.fromkeys([("expected_gradients", ""), ("gradient_shap", ""), ("gradient_shap", "captum")], "test_paths.py"),
    **dict.fromkeys([("smoothgrad", ""), ("smoothgrad", "captum"), ("smoothgrad", "zennit")], "test_noise.py"),
    **dict.fromkeys([("lime", ""), ("rise", "")], "test_surrogates.py"),
    **dict.fromkeys([("fgsm", ""), ("pgd", ""), ("minimal_perturbation", "")], "test_adversarial.py"),
    **dict.fromkeys([("reciprocam", ""), ("smooth_gradcam_plusplus", "")], "test_cam.py"),
    **dict.fromkeys([("scorecam", ""), ("scorecam", "torchcam"), ("guided_gradcam", "")], "test_cam.py"),
    **dict.fromkeys([("guided_backprop", ""), ("deconvnet", ""), ("deconvnet", "pgc")], "test_backprop.py"),
    **dict.fromkeys([("attention", ""), ("attention_rollout", "")], "test_attention.py"),
    **dict.fromkeys([("generic_attention", ""), ("transformer_attribution", "")], "test_attention.py"),
    ("drise", ""): "test_drise.py",
    ("excitation_backprop", ""): "test_lrp.py",
    ("permutation", ""): "test_features.py",
    ("localize", ""): "test_localize.py",
    ("sanity", ""): "test_trust.py",
}


def presets(name: str) -> tuple[str, ...]:
    """The references whose conventions a method knows, and its own."""
    return get_args(get_type_hints(METHODS[name]).get("preset")) or ("",)


@cache
def golden(network: str) -> dict[str, NDArray[Any]]:
    with np.load(HERE / "goldens" / f"{network}.npz") as file:
        return dict(file)


@cache
def model(network: str, exporter: str) -> Model:
    return Model.load(HERE / "models" / f"{network}-{exporter}.onnx")


def under(network: str, start: str) -> dict[str, NDArray[Any]]:
    """What is stored under names with this start."""
    return {k.removeprefix(start): v for k, v in golden(network).items() if k.startswith(start)}


def filled(value: Any, network: str, exporter: str, seed: int) -> Any:
    """A parameter with the names and arrays of this file, for one of its inputs."""
    if isinstance(value, Stored):
        return under(network, f"{seed}/{value.name}.")
    if isinstance(value, list):
        return [filled(each, network, exporter, seed) for each in value]
    if isinstance(value, str) and "{" in value:
        unit = ",".join(map(str, golden(network)[f"{seed}/unit"]))
        return value.format(unit=unit, **{k: str(v) for k, v in under(network, f"layer.{exporter}.").items()})
    return value


def value(result: Attribution, name: str) -> NDArray[Any]:
    """The part of a result that a golden value is compared with."""
    group, _, key = name.partition(".")
    if key:
        return np.asarray(getattr(result, group)[key])
    return result.values if name == "values" or not result.tensors else result.tensors[name]


def distance(got: NDArray[Any], wanted: NDArray[Any], sign: bool) -> float:
    if sign:
        return float(np.abs(got - wanted).max())
    return max(min(float(np.abs(g - w).max()), float(np.abs(g + w).max())) for g, w in zip(got, wanted, strict=True))


def compared(row: Row, network: str, exporter: str) -> float:
    """The largest difference from the reference, as a share of the largest value."""
    stored = under(network, f"{row.name}/")
    assert stored, "the reference was refused, or never run: see scripts/make_golden.py"
    assert str(stored.pop("text")) == row.text, "the row has changed since: run scripts/make_golden.py"
    seed = int(stored.pop("seed"))
    params = {k: filled(v, network, exporter, seed) for k, v in row.params.items()}
    if row.method != "activations":
        params["target"] = filled(row.target, network, exporter, seed)
    result = METHODS[row.method](model(network, exporter), under(network, f"{seed}/input."), **params)
    if row.target == "top":
        assert [p.index for p in result.explained if p is not None] == golden(network)[f"{seed}/classes"].tolist()
    maps = [np.abs(v) for k, v in stored.items() if not k.startswith("measures.")]
    largest, whole = max(float(v.max()) for v in maps), max(float(v.sum()) for v in maps)
    off = []
    for name, wanted in stored.items():
        got = value(result, name)
        assert got.shape == wanted.shape
        size = whole if name.startswith("measures.") else largest  # measures are sums of attributions
        off.append(distance(got, wanted, row.sign) / size)
    return float(np.max(off))


@pytest.mark.parametrize(("row", "network", "exporter"), CASES)
def test_values_are_those_of_the_reference(row: Row, network: str, exporter: str) -> None:
    assert compared(row, network, exporter) <= 1e-4


def test_every_method_with_a_reference_agrees_with_it_on_three_networks() -> None:
    stored = {network: golden(network) for row in ROWS for network in row.networks}
    few = []
    for name in METHODS:
        for preset in presets(name):
            rows = [row for row in ROWS if row.method == name and row.params.get("preset", "") == preset]
            found = {network for row in rows for network in row.networks if f"{row.name}/text" in stored[network]}
            if (name, preset) not in WITHOUT and len(found) < 3:
                few.append(f"{name} {preset}: {sorted(found)}")
    assert not few


def test_methods_without_a_reference_are_tested_literally() -> None:
    for (name, preset), file in WITHOUT.items():
        assert preset in presets(name)
        text = (HERE.parent / file).read_text(encoding="utf-8")
        assert name in text and preset in text, f"{file} does not check {name} {preset}"


def test_every_golden_value_belongs_to_a_row() -> None:
    for network in {network for row in ROWS for network in row.networks}:
        rows = {row.name for row in ROWS if network in row.networks}
        assert {k.split("/")[0] for k in golden(network) if k.endswith("/text")} == rows
