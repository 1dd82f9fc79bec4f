"""What a method is given, held against what its signature says."""

from __future__ import annotations

import inspect
import reprlib
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import numpy as np

from ..errors import InputError
from ..files import plain


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


def unusual(function: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """What was given of a method's own parameters that is not the default; the layer has a place of its own."""
    own = {k: p.default for k, p in inspect.signature(function).parameters.items() if p.kind is p.KEYWORD_ONLY}
    return {k: given[k] for k in own if k in given and k != "layer" and plain(given[k]) != plain(own[k])}
