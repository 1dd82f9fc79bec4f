"""Patterns over names with levels: `layer3.*.conv2`, `features.**`."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable

_SEPARATORS = re.compile(r"[./]")
_PIECES = re.compile(r"\*\*|\*|\?|\[!?\]?[^]]*\]|.", re.DOTALL)
_MEANING = {"**": ".*", "*": "[^./]*", "?": "[^./]", ".": "[./]", "/": "[./]"}


def matcher(pattern: str) -> Callable[[str], bool]:
    """Tells whether a pattern means a name.

    Levels are separated by dots or slashes, which mean the same. `*` and `?` stay within a level, `**` crosses levels,
    `[...]` is a set of characters. A pattern without a separator has no levels to keep apart: its `*` stands for
    anything, so that `*conv2` means every name that ends in it.

    Example: `layer3.*.conv2` means layer3.0.conv2 and layer3.11.conv2, but not layer3.0.downsample.conv2.
    """
    if not _SEPARATORS.search(pattern):
        return flat(pattern)
    whole = re.compile("".join(map(_piece, _PIECES.findall(pattern))), re.DOTALL)
    return lambda name: whole.fullmatch(name) is not None


def flat(pattern: str) -> Callable[[str], bool]:
    """A pattern that knows no levels, as a shell reads file names."""
    return lambda name: fnmatch.fnmatchcase(name, pattern)


def _piece(text: str) -> str:
    if len(text) > 2 and text[0] == "[":
        inner = text[1:-1].replace("\\", r"\\").replace("[", r"\[")
        return f"[^{inner[1:]}]" if inner.startswith("!") else "[" + re.sub(r"^\^", r"\^", inner) + "]"
    return _MEANING.get(text) or re.escape(text)
