"""`@method`: puts a function among the methods, and with that on the command line."""

from __future__ import annotations

import difflib
import functools
import importlib
import inspect
import pkgutil
import reprlib
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import numpy as np

from ..attribution import Attribution
from ..errors import InputError
from ..files import plain

F = TypeVar("F", bound=Callable[..., Attribution])
Need = Literal["gradient", "map", "head", "picture"]

METHODS: dict[str, Callable[..., Attribution]] = {}
NEEDS: dict[str, tuple[Need, ...]] = {}
EXPLANATIONS: dict[str, Callable[..., Attribution]] = {}


def method(*needs: Need, explains: bool = True) -> Callable[[F], F]:
    """Register a method under its own name.

    Args:
        needs: what a model must offer: "gradient", a differentiable way from input to score; "map", a layer with
            positions; "head", global average pooling and a linear layer at the end; "picture", an input with height
            and width.
        explains: the result is a map of what speaks for the target, which can be compared with others.
    """

    def register(given: F) -> F:
        @functools.wraps(given)
        def checked(*args: Any, **how: Any) -> Attribution:
            check(get_type_hints(given), how)
            result = given(*args, **how)
            result.options = _unusual(given, how)
            return result

        function = cast(F, checked)
        METHODS[function.__name__] = function
        NEEDS[function.__name__] = needs
        if explains:
            EXPLANATIONS[function.__name__] = function
        return function

    return register


def check(hints: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Refuse values that are none of those that a parameter takes: a reference that is misspelt is no reference.

    Raises:
        InputError: there is one.
    """
    for name, value in given.items():
        hint = hints.get(name, Any)
        kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
        if name in ("target", "model", "x"):  # which say themselves what they take
            continue
        told = " ".join(reprlib.repr(value).split())
        if get_origin(hint) is Literal and not _is(hint, value):
            words = ", ".join(repr(w) for w in get_args(hint) if w)
            raise InputError(f"There is no {name} {told}: choose from {words}.")
        if not any(_is(kind, value) for kind in kinds):
            raise InputError(f"There is no {name} {told}: give {' or '.join(map(_told, kinds))}.")
        if name in _NOT_NEGATIVE and value is not None and value < 0:
            raise InputError(f"There is no {name} {value}: it cannot be negative (--{name}).")


_LARGEST: Any = sys.float_info.max
_NOT_NEGATIVE = ("seed", "noise")
_WORDS = {int: "a whole number", float: "a finite number", bool: "True or False", str: "a text", NoneType: "None"}


def _is(kind: Any, value: Any) -> bool:
    """Whether a value is of a kind; NumPy's numbers are as Python's."""
    origin, of = get_origin(kind), get_args(kind)
    if kind is Any:
        return True
    if origin is Literal:
        return isinstance(value, str) and value in of
    if kind is int or kind is float:
        number = Integral if kind is int else Real
        return isinstance(value, number) and not isinstance(value, bool) and bool(abs(value) <= _LARGEST)
    if kind is bool:
        return isinstance(value, bool | np.bool_)
    if origin in (Sequence, Collection):
        return isinstance(value, origin | np.ndarray) and all(_is(of[0], v) for v in value)
    return isinstance(value, origin or kind)


def _told(kind: Any) -> str:
    if get_origin(kind) in (Sequence, Collection):
        return f"a list, each {_told(get_args(kind)[0])}"
    return _WORDS.get(kind) or (get_origin(kind) or kind).__name__


def _unusual(function: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """What was given of a method's own parameters that is not the default; the layer has a place of its own."""
    own = {k: p.default for k, p in inspect.signature(function).parameters.items() if p.kind is p.KEYWORD_ONLY}
    return {k: given[k] for k in own if k in given and k != "layer" and plain(given[k]) != plain(own[k])}


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
