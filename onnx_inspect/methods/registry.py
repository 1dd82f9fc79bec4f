"""`@method`: puts a function among the methods, and with that on the command line."""

from __future__ import annotations

import difflib
import functools
import importlib
import pkgutil
from collections.abc import Callable
from typing import Any, Literal, TypeVar, cast

from ..attribution import Attribution
from ..errors import InputError
from .arguments import called, check, hints_of, unusual

F = TypeVar("F", bound=Callable[..., Attribution])
Need = Literal["gradient", "map", "head", "picture", "attention", "detector"]

METHODS: dict[str, Callable[..., Attribution]] = {}
NEEDS: dict[str, tuple[Need, ...]] = {}
EXPLANATIONS: dict[str, Callable[..., Attribution]] = {}


def method(*needs: Need, explains: bool = True) -> Callable[[F], F]:
    """Register a method under its own name.

    Args:
        needs: what a model must offer: "gradient", a differentiable way from input to score; "map", a layer with
            positions; "head", global average pooling and a linear layer at the end; "picture", an input with height
            and width; "attention", weights that a softmax makes; "detector", candidates of boxes at the end.
        explains: the result is a map of what speaks for the target, which can be compared with others.
    """

    def register(given: F) -> F:
        @functools.wraps(given)
        def checked(*args: Any, **how: Any) -> Attribution:
            hints = hints_of(given)
            called(given, hints, args, how, "generic_attention" if "attention" in needs else "gradcam")
            check(hints, how)
            result = given(*args, **how)
            result.options = unusual(given, how)
            return result

        function = cast(F, checked)
        METHODS[function.__name__] = function
        NEEDS[function.__name__] = needs
        if explains:
            EXPLANATIONS[function.__name__] = function
        return function

    return register


def every() -> dict[str, Callable[..., Attribution]]:
    """All methods by name."""
    package = importlib.import_module(__package__ or "")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    return METHODS


def find(name: str) -> Callable[..., Attribution]:
    """A method by name.

    Raises:
        InputError: there is none; says which are near.
    """
    known = every()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(sorted(known))}."
        raise InputError(f"There is no method '{name}': {hint}")
    return known[name]


def explanation(name: str) -> Callable[..., Attribution]:
    """A method by name that makes a map of what speaks for the target.

    Raises:
        InputError: there is none, or it makes no such map.
    """
    function = find(name)
    if name not in EXPLANATIONS:
        raise InputError(f"'{name}' makes no map of what speaks for a target: name a method that does, as gradcam.")
    return function
