"""Options and help from the signature and docstring of a function."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from types import MappingProxyType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import click

NAMES = {"preset": "reference"}  # --preset is one of preprocessing


def own_options(
    function: Callable[..., Any],
    shared: Collection[str],
    short: Mapping[str, tuple[str, ...]] = MappingProxyType({}),
    more: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Callable[[Any], Any]]:
    """An option for every parameter of a function but those shared; some have a short form too, or more help."""
    hints, docs = get_type_hints(function), _arguments(function)
    for name, parameter in inspect.signature(function).parameters.items():
        if name not in shared:
            word = NAMES.get(name, name)
            words = [*short.get(name, ()), "--" + word.replace("_", "-")]
            yield click.option(
                *words, word, help=docs[name] + more.get(name, ""), **_type(hints[name], parameter.default)
            )


def _type(hint: Any, default: Any) -> dict[str, Any]:
    """What click makes of a parameter; of a union, lists come first, then texts: arrays are for Python."""
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    several = next((k for k in kinds if get_origin(k) in (Sequence, list, tuple)), None)
    if several is not None:
        kind = get_args(several)[0]
        shown = [default] if isinstance(default, str | float | int) else list(default)
        metavar = "NAME" if kind is str else "NUMBER"
        return {"multiple": True, "type": kind, "metavar": metavar, "default": shown, "show_default": bool(shown)}
    hint = next((k for k in (str, float, int) if k in kinds), kinds[0])
    if hint is bool:
        if default:
            raise TypeError("A switch that is on by default cannot be switched off on the command line.")
        return {"is_flag": True, "default": default}
    if get_origin(hint) is Literal:  # "" stands for none of them
        choices = click.Choice([c for c in get_args(hint) if c])
        return {"type": choices, "default": default or None, "show_default": True, "callback": _or_empty}
    if default == "":
        return {"type": str, "metavar": "TEXT", "callback": _or_empty}
    if hint is int:  # sizes and numbers of things; 0 only where it is the default
        return {"type": click.IntRange(min(default, 1)), "default": default, "show_default": True}
    return {"type": hint, "default": default, "show_default": True}


def _or_empty(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    return "" if value is None else value


def described(method: Callable[..., Any]) -> str:
    """The docstring up to its sections."""
    text = inspect.getdoc(method) or ""
    return re.split(r"\n(?:Args|Raises|Returns|Example):\n", text)[0].strip()


def _arguments(method: Callable[..., Any]) -> dict[str, str]:
    """Parameter to help, from the Args section."""
    section = re.search(r"\nArgs:\n((?:[ ]{4}.*\n?|\n)+)", inspect.getdoc(method) or "")
    entries = re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", section[1] if section else "", re.MULTILINE)
    return {name: re.sub(r"\s+", " ", text).strip() for name, text in entries}
