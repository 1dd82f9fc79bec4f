"""What is known of a model without its graph: found once, kept in memory, and as JSON where there is a store."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")
Record = dict[str, Any]  # as JSON has it: facts by key, and records of models made of this one

KINDS: dict[str, type] = {}
_MOST = 1000  # facts of one model
_NOTHING: Any = object()
FOREIGN: list[str] = []
"""Rules that did not come with this package, or were exchanged: what follows from them is true in this process only."""


class _Unkept(Exception):
    """A value that is not kept on disk."""


def kept(kind: type[T]) -> type[T]:
    """Let a dataclass be kept on disk."""
    KINDS[kind.__name__] = kind
    return kind


def ours(what: Any) -> bool:
    """Whether a function or class came with this package."""
    return str(getattr(what, "__module__", "")).startswith((f"{__package__}.", "functools"))


def changed(what: str) -> None:
    """Take note that rules are not those of this package."""
    FOREIGN.append(what)


class Facts:
    """What follows from one model, by keys.

    Args:
        record: where it is kept; None for in memory alone.
    """

    def __init__(self, record: Record | None = None) -> None:
        self._record = record
        self._found: dict[Hashable, Any] = {}

    def get(self, key: Hashable, build: Callable[[], T]) -> T:
        """A fact: as it was found before, or as it is built now."""
        known: T = self._found.get(key, _NOTHING)
        if known is _NOTHING:
            known = self._found[key] = self._read(key, build)
            _bound(self._found)
        return known

    def under(self, key: Hashable) -> Facts:
        """The facts of a model that is made of this one."""
        name = None if FOREIGN else text(key)
        if self._record is None or name is None:
            return Facts()
        if not isinstance(self._record.get(f"> {name}"), dict):
            self._record[f"> {name}"] = {}
        return Facts(self._record[f"> {name}"])

    def __bool__(self) -> bool:
        """True if something was kept."""
        return bool(self._record)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._found or (self._record is not None and text(key) in self._record)

    def _read(self, key: Hashable, build: Callable[[], Any]) -> Any:
        name = text(key) if self._record is not None else None
        if self._record is None or name is None:
            return build()
        with suppress(AttributeError, LookupError, TypeError, ValueError):  # what a damaged file says is found again
            return decode(self._record[name])
        value = build()
        with suppress(_Unkept):
            self._record[name] = encode(value)
            _bound(self._record)
        return value


def _bound(found: dict[Any, Any]) -> None:
    """Forget what was found first, where sizes or targets never end."""
    while len(found) > _MOST:
        with suppress(RuntimeError):  # another thread was quicker
            found.pop(next(iter(found)), None)


def text(key: Any) -> str | None:
    """A key as text, the same in every process; None where there is no such text, as for what a user wrote."""
    if key is None or isinstance(key, bool | int | float | str):
        return repr(key)
    if is_dataclass(key) and not isinstance(key, type) and ours(type(key)):
        parts = [text(getattr(key, f.name)) for f in fields(key) if f.compare]
        name = type(key).__name__
    elif isinstance(key, tuple):
        parts, name = [text(part) for part in key], ""
    else:
        return None
    return None if None in parts else f"{name}({', '.join(map(str, parts))})"


def encode(value: Any) -> Any:
    """A value as JSON has it: lists begin with a letter that says what they are."""
    match value:
        case None | bool() | int() | float() | str():
            return value
        case list():
            return ["l", *map(encode, value)]
        case tuple():
            return ["t", *map(encode, value)]
        case frozenset():
            return ["s", *sorted(map(encode, value))]
        case dict():
            return ["d", *([encode(k), encode(v)] for k, v in value.items())]
        case Path():
            return ["p", str(value)]
        case np.ndarray() if value.dtype.kind in "biuf":
            return ["a", value.dtype.str, list(value.shape), value.ravel().tolist()]
    if KINDS.get(type(value).__name__) is type(value):
        names = [f.name for f in fields(KINDS[type(value).__name__])]
        return ["k", type(value).__name__, {name: encode(getattr(value, name)) for name in names}]
    raise _Unkept


def decode(coded: Any) -> Any:
    """The inverse of `encode`."""
    if not isinstance(coded, list):
        return coded
    what, *rest = coded
    match what:
        case "l":
            return list(map(decode, rest))
        case "t":
            return tuple(map(decode, rest))
        case "s":
            return frozenset(map(decode, rest))
        case "d":
            return {decode(k): decode(v) for k, v in rest}
        case "p":
            return Path(rest[0])
        case "a":
            return np.array(rest[2], rest[0]).reshape(rest[1])
    return KINDS[rest[0]](**{k: decode(v) for k, v in rest[1].items()})
