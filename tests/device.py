"""What the suite runs on (`pytest --device cuda`), and what that changes: nothing on the CPU.

On a card every `Engine("cpu", ...)` of the tests is one of the card, and so are the graphs of the rules; what they are
compared with stays on the CPU. Not run on a card yet: tolerances and names below are what is expected of one.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

VARIABLE = "ONNX_INSPECT_TEST_DEVICE"
NAME = os.environ.get(VARIABLE, "cpu")

# cuDNN adds in another order, and atomic additions in any: of a result's largest number, and of each number.
SHARE, RTOL = 1e-4, 1e-3

# Tests of the CPU provider alone, by the beginning of their names, and why.
CPU_ONLY = {
    "test_engine.py::test_a_device_is_what_really_runs": "names the CPU's provider",
    "test_engine.py::test_a_run_": "puts stand-ins in the place of the CPU's sessions",
    "test_engine.py::test_amounts_that_are_none": "counts the machine's memory",
    "test_engine.py::test_as_many_samples": "puts stand-ins in the place of the CPU's sessions",
    "test_engine.py::test_memory_that_other": "puts stand-ins in the place of the CPU's sessions",
    "test_engine.py::test_there_is_one_engine": "cores",
    "test_engine.py::test_what_cannot_be_divided": "puts stand-ins in the place of the CPU's sessions",
    "test_engine.py::test_where_not_even_one": "puts stand-ins in the place of the CPU's sessions",
    "test_doctor.py::": "asks for the CPU by name",
    "test_lowering.py::": "the CPU's table",
    "test_methods.py::test_results_say_everything": "names the CPU's provider",
    "test_memory.py::": "counts the memory of the process",
}


def providers() -> list[Any]:
    """What runs the graphs that are tested."""
    from onnx_inspect.providers import choose

    return choose(NAME)


def moved() -> None:
    """Let engines for the CPU be engines for the device, and comparisons allow for it."""
    from onnx_inspect.engine import Engine

    Engine(NAME)  # or a sentence that says why not
    made, close, equal = Engine.__init__, np.testing.assert_allclose, np.testing.assert_array_equal

    def init(self: Engine, device: str = "auto", *given: Any, **more: Any) -> None:
        made(self, NAME if device == "cpu" else device, *given, **more)

    def allclose(actual: Any, desired: Any, rtol: float = 1e-7, atol: float = 0, **more: Any) -> None:
        close(actual, desired, rtol=max(rtol, RTOL), atol=max(atol, SHARE * _largest(desired)), **more)

    def array_equal(actual: Any, desired: Any, *given: Any, **more: Any) -> None:
        floats = all(np.asarray(x).dtype.kind == "f" for x in (actual, desired))
        (allclose if floats else equal)(actual, desired, *given, **more)

    Engine.__init__ = init  # type: ignore[method-assign]
    np.testing.assert_allclose = allclose  # type: ignore[assignment]
    np.testing.assert_array_equal = array_equal  # type: ignore[assignment]


def _largest(values: Any) -> float:
    finite = np.asarray(values, np.float64)
    return float(np.abs(finite[np.isfinite(finite)]).max(initial=0))
