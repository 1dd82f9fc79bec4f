"""Patterns over names with levels: `layer3.*.conv2`, `features.**`."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable

from .errors import LayerError

_SEPARATORS = re.compile(r"[./]")
_PIECES = re.compile(r"\*\*|\*|\?|\[!?\]?[^]]*\]|.", re.DOTALL)
_MEANING = {"**": ".*", "*": "[^./]*", "?": "[^./]", ".": "[./]", "/": "[./]"}


def matcher(pattern: str) -> Callable[[str], bool]:
    """Tells whether a pattern means a name.

    Levels are separated by dots or slashes, which mean the same. `*` and `?` stay within a level, `**` crosses levels,
    `[...]` is a set of characters. A pattern without a separator has no levels to keep apart: its `*` stands for
    anything, so that `*conv2` means every name that ends in it.

    Raises:
        LayerError: a set goes from a later character to an earlier one.

    Example: `layer3.*.conv2` means layer3.0.conv2 and layer3.11.conv2, but not layer3.0.downsample.conv2.
    """
    if not _SEPARATORS.search(pattern):
        return flat(pattern)
    try:
        whole = re.compile("".join(map(_piece, _PIECES.findall(pattern))), re.DOTALL)
    except re.error as error:
        raise LayerError(f"'{pattern}' is no pattern: there is a set in it like [z-a], which nothing is in.") from error
    return lambda name: whole.fullmatch(name) is not None


def flat(pattern: str) -> Callable[[str], bool]:
    """A pattern that knows no levels, as a shell reads file names."""
    return lambda name: fnmatch.fnmatchcase(name, pattern)


def _piece(text: str) -> str:
    if len(text) > 2 and text[0] == "[":
        inner = re.escape(text[1:-1]).replace(r"\-", "-")
        return f"[^{inner[1:]}]" if inner[:1] == "!" != inner else f"[{inner}]"
    return _MEANING.get(text) or re.escape(text)
