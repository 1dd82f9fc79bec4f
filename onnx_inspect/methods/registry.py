"""`@method`: puts a function among the methods, and with that on the command line."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ..attribution import Attribution

F = TypeVar("F", bound=Callable[..., Attribution])

METHODS: dict[str, Callable[..., Attribution]] = {}


def method(function: F) -> F:
    """Register a method under its own name."""
    METHODS[function.__name__] = function
    return function
