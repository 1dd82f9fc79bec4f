"""What a method is given, held against what its signature says."""

from __future__ import annotations

import functools
import inspect
import reprlib
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np

from ..errors import InputError
from ..files import plain
from ..guess import PRESETS, in_python

# A third of a millisecond each, at every call.
hints_of = functools.cache(get_type_hints)
signature_of = functools.cache(inspect.signature)
_CALLED = set[tuple[Any, ...]]()  # ways of calling that are right


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
            raise InputError(f"There is no {name} {told}: choose from {words}.{pixels(name, value)}")
        if not any(_is(kind, value) for kind in kinds):
            wanted = " or ".join(map(_told, kinds))
            raise InputError(f"There is no {name} {told}: give {wanted}.{pixels(name, value)}")
        if name in _NOT_NEGATIVE and value is not None and value < 0:
            raise InputError(f"There is no {name} {value}: it cannot be negative (--{name}).")


def called(
    function: Callable[..., Any], hints: Mapping[str, Any], args: Sequence[Any], given: Mapping[str, Any], instead: str
) -> None:
    """Refuse what a method cannot be called with.

    Args:
        function: the method.
        hints: the types of its parameters.
        args: what it gets by position.
        given: what it gets by name.
        instead: a method to name to those who give a target to one that explains no score.

    Raises:
        InputError: an argument that it does not take, or one that it lacks.
    """
    way = function, len(args), *given
    if way in _CALLED:
        return
    signature, name = signature_of(function), function.__name__
    own = [k for k, p in signature.parameters.items() if p.kind is not p.VAR_KEYWORD]
    shared = [k for kind in get_args(hints.get("how")) for k in kind.__annotations__]
    takes = f"it takes {', '.join(own)}" + (f", and as all do {', '.join(shared)}" if shared else "")
    if "target" not in own and ("target" in given or len(args) > 2):  # the third of all other methods
        raise InputError(f"{name} explains no score, so it takes no target ({instead} takes one): {takes}.")
    if unknown := [k for k in given if k not in own and k not in shared]:
        told = pixels(unknown[0], given[unknown[0]])
        raise InputError(f"There is no argument '{unknown[0]}' of {name}: {takes}.{told}")
    try:
        signature.bind(*args, **given)
    except TypeError as error:
        raise InputError(f"{name} cannot be called like this, {error}: {takes}.") from error
    _CALLED.add(way)


def pixels(name: str, value: Any) -> str:
    """How Python says what --preset does, as a sentence, where that was meant; "" elsewhere."""
    meant = name in ("preset", "preprocessing") and isinstance(value, str) and value in PRESETS
    return f" Pixels become numbers by preprocessing={in_python(value)}." if meant else ""


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
        value = value.item() if isinstance(value, np.generic) else value
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
    own = {k: p.default for k, p in signature_of(function).parameters.items() if p.kind is p.KEYWORD_ONLY}
    return {k: given[k] for k in own if k in given and k != "layer" and plain(given[k]) != plain(own[k])}
