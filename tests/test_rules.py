"""Every gradient rule against central differences: the rows are the CASES of the modules in tests/rules."""

from __future__ import annotations

import importlib
import pkgutil

import pytest

from onnx_inspect.autodiff.gradient import CONSTANTS, RULES

from . import rules
from .rules.harness import Case, check

CASES: list[Case] = [
    case
    for module in pkgutil.iter_modules(rules.__path__)
    if module.name != "harness"
    for case in importlib.import_module(f"{rules.__name__}.{module.name}").CASES
]
RUNS = [(c, symbolic) for c in CASES for symbolic in ((False, True) if c.dynamic else (False,))]


@pytest.mark.parametrize(("case", "symbolic"), RUNS, ids=[f"{c}-{'symbolic' if s else 'static'}" for c, s in RUNS])
def test_rule(case: Case, symbolic: bool) -> None:
    check(case, symbolic)


def test_every_rule_has_a_row() -> None:
    assert set(RULES) - CONSTANTS - {case.op for case in CASES} == set()
