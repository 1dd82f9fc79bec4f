"""What every method makes of targets that are no class."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

import onnx_inspect as oi
from onnx_inspect.errors import TargetError
from onnx_inspect.methods.job import SCORE, Job
from onnx_inspect.methods.registry import METHODS

from . import nets
from .test_every_method import ENGINE, EXPLANATIONS, QUICK, TOGETHER, X, close

TARGETS = ("top - 0.5 * top:2", "layer:body.relu1[2] . norm", "embedding:similarity={vector}")
OTHERS = {"fgsm", "pgd", "minimal_perturbation", "cam"}  # about classes alone
NAMES = sorted(n for n in EXPLANATIONS if n not in OTHERS and "target" in inspect.signature(METHODS[n]).parameters)


@pytest.fixture(scope="module")
def model() -> oi.Model:
    return oi.load(nets.classifier())


@pytest.fixture(scope="module")
def vector(tmp_path_factory: Any) -> str:
    path = tmp_path_factory.mktemp("vectors") / "v.npy"
    np.save(path, np.array([1.0, -1, 2, 0.5]))
    return f"'{path}'"


@pytest.mark.parametrize("text", TARGETS)
@pytest.mark.parametrize("name", NAMES)
def test_every_method_takes_it(name: str, text: str, model: oi.Model, vector: str) -> None:
    """The score is the target's, there is no explained class, and a batch is its samples."""
    target = text.format(vector=vector)
    try:
        whole = METHODS[name](model, X, target, engine=ENGINE, **QUICK.get(name, {}))
    except TargetError as error:
        assert "is no detection" in str(error)
        return
    except oi.errors.LayerError as error:
        assert "attention" in str(error)
        return
    np.testing.assert_allclose(whole.scores, Job(model, X, target, engine=ENGINE).clean[SCORE], rtol=1e-4, atol=1e-6)
    assert whole.explained == [None] * 3
    assert whole.target == target
    assert np.isfinite(whole.values).all()
    if name not in TOGETHER:
        close(whole.values[1], METHODS[name](model, X[1:2], target, engine=ENGINE, **QUICK.get(name, {})).values[0])
