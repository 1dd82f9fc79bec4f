"""Gradients against those that torch found, with the same inputs and cotangents: see scripts/golden.py."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnx_inspect.autodiff.gradient import vjp
from onnx_inspect.model import Model

from .golden.spec import Spec
from .golden.specs import FAMILIES
from .rules.harness import run

ROWS = [pytest.param(family, spec, id=f"{family}: {spec}") for family, specs in FAMILIES.items() for spec in specs]


@cache
def golden(family: str) -> dict[str, Any]:
    with np.load(Path(__file__).parent / "golden" / f"{family}.npz") as file:
        return dict(file)


def values(family: str, spec: Spec) -> dict[str, Any]:
    """What was stored for a row."""
    start = f"{spec.name}/"
    return {k.removeprefix(start): x for k, x in golden(family).items() if k.startswith(start)}


@pytest.mark.parametrize("symbolic", [False, True], ids=["static", "symbolic"])
@pytest.mark.parametrize(("family", "spec"), ROWS)
def test_gradients_are_those_of_torch(family: str, spec: Spec, symbolic: bool) -> None:
    stored = values(family, spec)
    assert str(stored["text"]) == spec.text, "the row has changed since: run scripts/golden.py"
    inputs = {k: stored[k] for k in spec.inputs}
    cotangents = {k: stored[f"cotangent.{k}"] for k in spec.outputs}
    adjoint = vjp(Model.load(spec.model(inputs, cotangents, symbolic=symbolic)), spec.wrt, spec.outputs)
    got = run(adjoint.to_bytes(), inputs | {f"cotangent.{k}": c for k, c in cotangents.items()})
    for k in spec.wrt:
        expected, actual = stored[f"gradient.{k}"], got[f"gradient.{k}"]
        assert actual.shape == expected.shape
        off, size = np.linalg.norm(actual - expected), np.linalg.norm(expected)
        assert off <= 1e-4 * size + 1e-6, f"{k}: {actual} instead of {expected}"


def test_every_value_belongs_to_a_row() -> None:
    for family, specs in FAMILIES.items():
        names = [spec.name for spec in specs]
        assert len(set(names)) == len(names)
        assert {k.split("/")[0] for k in golden(family)} == set(names)
