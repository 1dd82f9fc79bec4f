"""What holds for every method: batches, layouts, seeds, linear models, records, commands."""

from __future__ import annotations

import inspect
import json
import re
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

import onnx_inspect as oi
from onnx_inspect.cli import cli
from onnx_inspect.commands.of_method import build
from onnx_inspect.engine import Engine
from onnx_inspect.errors import InspectError
from onnx_inspect.files import plain
from onnx_inspect.methods.registry import EXPLANATIONS, METHODS, NEEDS, every

from . import nets, vits

every()
ENGINE = Engine("cpu", threads=1)
X = nets.images(3)
# Few samples, so that tests are quick; what is asserted holds for any number.
QUICK: dict[str, dict[str, Any]] = {
    "smooth_gradcam_plusplus": dict(samples=3),
    "smoothgrad": dict(samples=3),
    "gradient_shap": dict(samples=3),
    "expected_gradients": dict(samples=3),
    "integrated_gradients": dict(steps=8),
    "guided_ig": dict(steps=8),
    "blur_ig": dict(steps=8),
    "xrai": dict(steps=8),
    "rise": dict(samples=24),
    "lime": dict(samples=24, features="grid:3"),
    "kernel_shap": dict(samples=24, features="grid:3"),
    "shapley_value_sampling": dict(samples=2, features="grid:3"),
    "feature_ablation": dict(features="grid:3"),
    "permutation": dict(features="grid:3"),
    "occlusion": dict(window=4, stride=3),
    "sanity": dict(stages=2),
    "fgsm": dict(bounds=(-9, 9)),
    "pgd": dict(bounds=(-9, 9), steps=3),
    "minimal_perturbation": dict(bounds=(-9, 9)),
}
TOGETHER = {"permutation"}  # it shuffles values between samples: one alone has no other
# Methods of detectors explain boxes, not classes: see test_drise.py.
METHOD = pytest.mark.parametrize("name", sorted(n for n in METHODS if "detector" not in NEEDS[n]))
EXPLANATION = pytest.mark.parametrize("name", sorted(n for n in EXPLANATIONS if "detector" not in NEEDS[n]))


def explain(name: str, model: Any, x: np.ndarray, *, engine: Engine = ENGINE, **more: Any) -> Any:
    given = {"target": 2} | QUICK.get(name, {}) | more
    if "target" not in inspect.signature(METHODS[name]).parameters:
        del given["target"]
    return METHODS[name](model, x, engine=engine, **given)


@pytest.fixture(scope="module")
def models() -> list[oi.Model]:
    return [oi.load(nets.classifier()), oi.load(vits.vit(size=(nets.SIZE, nets.SIZE)))]


@pytest.fixture
def model(models: list[oi.Model], name: str) -> oi.Model:
    """What a method fits: a network of convolutions, or a transformer."""
    return models["attention" in NEEDS[name]]


def close(found: np.ndarray, expected: np.ndarray, within: float = 1e-4) -> None:
    np.testing.assert_allclose(found, expected, atol=within * max(float(np.abs(expected).max()), 1e-9))


@METHOD
def test_a_batch_is_its_samples(name: str, model: oi.Model) -> None:
    if name in TOGETHER:
        pytest.skip("samples are meant to meet")
    whole = explain(name, model, X)
    for i in range(len(X)):
        alone = explain(name, model, X[i : i + 1])
        close(whole.values[i], alone.values[0])
        close(whole.heat[i], alone.heat[0])


@METHOD
def test_channels_may_come_last(name: str, model: oi.Model) -> None:
    first = explain(name, model, X)
    size = (nets.SIZE, nets.SIZE)
    other = vits.vit(nhwc=True, size=size) if "attention" in NEEDS[name] else nets.classifier(nhwc=True)
    last = explain(name, oi.load(other), nets.images(3, nhwc=True))
    close(last.heat, first.heat, 2e-4)


@METHOD
def test_the_size_of_a_run_does_not_matter(name: str, model: oi.Model) -> None:
    """What is random is drawn per variant, not per run; the same seed gives the same bytes."""
    given = {"target": 2} | QUICK.get(name, {})
    if "target" not in inspect.signature(METHODS[name]).parameters:
        del given["target"]
    one, other, again = (METHODS[name](model, X, engine=Engine("cpu", 1, batch=b), **given) for b in (8, 3, 8))
    close(one.values, other.values)
    np.testing.assert_array_equal(one.values, again.values)


@METHOD
def test_what_is_drawn_and_recorded(name: str, model: oi.Model) -> None:
    result = explain(name, model, X)
    assert result.method == name
    assert len(result) == len(result.heat) == len(result.scores) == 3
    assert result.overlay(1).dtype == np.uint8
    assert result.panel(1).shape[2] == 3
    record = json.loads(json.dumps(plain(result.to_json())))
    assert record["method"] == name
    assert set(result.arrays(0)) >= {"values"}


@METHOD
def test_the_classes_are_fixed(name: str, model: oi.Model) -> None:
    """An explained class per sample is the same as that class for it alone."""
    if name in TOGETHER or "target" not in inspect.signature(METHODS[name]).parameters:
        pytest.skip("samples meet, or nothing is explained")
    mixed = explain(name, model, X, target=[0, 3, 1])
    close(mixed.heat[1], explain(name, model, X, target=3).heat[1])


# Linear models: S = x w + b. Everything that is in units of the score gives w x, or w (x - baseline).

WEIGHTS = np.random.default_rng(1).normal(size=(6, 4)).astype(np.float32)
VECTORS = np.random.default_rng(2).normal(size=(3, 6)).astype(np.float32)
LINEAR: dict[str, dict[str, Any]] = {
    "input_x_gradient": {},
    "integrated_gradients": dict(baseline="0", steps=3),
    "gradient_shap": dict(baseline="0", samples=3),
    "expected_gradients": dict(baseline="0", samples=3),
    "deeplift": dict(baseline="0"),
    "deep_shap": dict(baseline="0"),
    "lrp": dict(composite="epsilon", epsilon=1e-9),
    "occlusion": dict(window=1, stride=1, baseline="0"),
    "feature_ablation": dict(baseline="0"),
    "shapley_value_sampling": dict(baseline="0", samples=2),
    "kernel_shap": dict(baseline="0", samples=200),
}


def linear() -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w"], ["y"])],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])],
        [numpy_helper.from_array(WEIGHTS, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("name", sorted(LINEAR))
def test_linear_models_give_w_times_x(name: str) -> None:
    result = METHODS[name](oi.load(linear()), VECTORS, target=1, engine=ENGINE, **LINEAR[name])
    close(result.values, VECTORS * WEIGHTS[:, 1], 1e-3)


@METHOD
def test_what_does_not_fit_is_said(name: str) -> None:
    """A model of vectors: either there is a result shaped like them, or a sentence says what is missing."""
    given = {k: v for k, v in QUICK.get(name, {}).items() if k != "features"}
    given |= {"target": 1} if "target" in inspect.signature(METHODS[name]).parameters else {}
    try:
        result = METHODS[name](oi.load(linear()), VECTORS, engine=ENGINE, **given)
    except InspectError as error:
        assert set(NEEDS[name]) & {"map", "head", "picture", "attention"} or name in ("sanity", "localize"), error
        assert str(error).endswith((".", ")"))
    else:
        assert not set(NEEDS[name]) & {"map", "head", "picture", "attention"}
        assert len(result.values) == 3


# Docstrings and commands.


@METHOD
def test_docstrings_say_what_they_must(name: str) -> None:
    text = inspect.getdoc(METHODS[name]) or ""
    assert "Example:\n" in text
    assert "Raises:\n" in text
    assert re.search(r"(19|20)\d\d", text) or name == "activations", "which paper?"
    hints = get_type_hints(METHODS[name])
    section = text.partition("Args:\n")[2]
    for parameter in inspect.signature(METHODS[name]).parameters:
        if parameter not in ("model", "x", "target", "how"):
            assert f"    {parameter}: " in section, f"{parameter} is not described"
    for parameter, hint in hints.items():
        if get_origin(hint) is Literal and parameter != "preset":
            for choice in get_args(hint):
                assert str(choice) in section or choice == "", f"{parameter}={choice} is not described"


@METHOD
def test_every_method_is_public_and_a_command(name: str) -> None:
    assert getattr(oi, name) is METHODS[name]
    parameters = [p.name for p in build(METHODS[name]).params]
    assert len(parameters) == len(set(parameters)), "an option of the method hides a shared one"
    done = CliRunner().invoke(cli, [name, "--help"])
    assert done.exit_code == 0, done.output
