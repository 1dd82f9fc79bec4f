"""`@study`: puts a function among the studies, and with that on the command line."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Callable
from typing import Any, TypeVar, cast

from ..finding import Finding
from ..methods.arguments import check, hints_of, unusual

F = TypeVar("F", bound=Callable[..., Finding])

STUDIES: dict[str, Callable[..., Finding]] = {}


def study(given: F) -> F:
    """Register a study under its own name: a function of a model, or several, and photos, if it looks at any."""

    @functools.wraps(given)
    def checked(*args: Any, **how: Any) -> Finding:
        check(hints_of(given), {k: v for k, v in how.items() if k not in ("models", "photos")})
        result = given(*args, **how)
        result.options = unusual(given, {k: v for k, v in how.items() if k not in ("out", "photos")})
        return result

    function = cast(F, checked)
    STUDIES[function.__name__] = function
    return function


def every() -> dict[str, Callable[..., Finding]]:
    """All studies by name."""
    package = importlib.import_module(__package__ or "")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    return STUDIES
