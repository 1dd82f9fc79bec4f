"""Class names: from the model's metadata, from a file, or the bundled ImageNet list."""

from __future__ import annotations

import ast
import difflib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import TargetError
from .resources import bundled

_KEYS = ("class_names", "classes", "labels", "names")
_SYNSET = re.compile(r"(n\d{8})\s+(.*)")


@dataclass(frozen=True)
class Labels:
    """Names of classes.

    Attributes:
        names: one per class; may hold synonyms, separated by commas, and a WordNet synset id in front.
        source: where they come from; "" if there are none.
        guessed: True if nobody said that these are the model's classes.
    """

    names: tuple[str, ...] = ()
    source: str = ""
    guessed: bool = False

    def name(self, index: int | None) -> str:
        """The first name of a class; its number where it has none."""
        if index is None:
            return ""
        if not 0 <= index < len(self.names):
            return f"class {index}"
        return _synonyms(self.names[index])[0]

    def find(self, text: str) -> int | None:
        """The class with this name, synonym or synset id, None if there is none.

        Raises:
            TargetError: several classes have this name.
        """
        wanted = text.strip().lower()
        for matches in (
            [i for i, n in enumerate(self.names) if n.strip().lower() == wanted],
            [i for i, n in enumerate(self.names) if wanted in _forms(n)],
        ):
            if len(matches) > 1:
                raise TargetError(f"{len(matches)} classes are called '{text}': give an index, one of {matches[:5]}.")
            if matches:
                return matches[0]
        return None

    def index(self, text: str) -> int:
        """The class with this name.

        Raises:
            TargetError: there is none, or several; says which are near.
        """
        found = self.find(text)
        if found is not None:
            return found
        if not self.names:
            raise TargetError(
                f"'{text}' is no target, and the model has no class names: give an index, or --labels FILE."
            )
        forms = {f: i for i, n in enumerate(self.names) for f in _forms(n)}
        near = difflib.get_close_matches(text.lower(), forms, n=3, cutoff=0.6)
        hint = f" Did you mean {', '.join(f'{n!r} ({forms[n]})' for n in near)}?" if near else ""
        raise TargetError(f"No class is called '{text}' in {self.source}.{hint}")


def _synonyms(name: str) -> list[str]:
    match = _SYNSET.fullmatch(name.strip())
    return [s.strip() for s in (match[2] if match else name).split(",") if s.strip()] or [name]


def _forms(name: str) -> set[str]:
    match = _SYNSET.fullmatch(name.strip())
    full = match[2] if match else name
    return {s.lower() for s in [full, *_synonyms(name), *([match[1]] if match else [])]}


def resolve(
    metadata: Mapping[str, str], count: int | None, given: str | Path | Sequence[str] | None = None
) -> tuple[Labels, list[str]]:
    """The labels to use, and notes on what was assumed.

    Args:
        metadata: of the model.
        count: number of classes, None if unknown.
        given: a file (a name per line, or JSON), or the names; wins over the metadata.

    Raises:
        TargetError: the file cannot be read.
    """
    if given is not None:
        names, source = (
            (_file(Path(given)), f"'{given}'") if isinstance(given, str | Path) else (list(given), "the given names")
        )
        return _fit(Labels(tuple(names), source), count)
    for key in _KEYS:
        if key in metadata and (names := _parse(metadata[key])):
            return _fit(Labels(tuple(names), f"the model's metadata ({key})"), count)
    if count in (1000, 1001):
        names = bundled("imagenet_classes.txt").read_text(encoding="utf-8").splitlines()
        if count == 1001:
            names = ["background", *names]
        what = "ImageNet-1k" if count == 1000 else "ImageNet-1k after a background class at 0"
        note = f"class names: {count} outputs are taken to be {what} (--labels FILE)"
        return Labels(tuple(names), what, guessed=True), [note]
    return Labels(), []


def _fit(labels: Labels, count: int | None) -> tuple[Labels, list[str]]:
    have = len(labels.names)
    if count is None or have == count:
        return labels, []
    if have == count - 1:
        shifted = Labels(("background", *labels.names), labels.source, labels.guessed)
        return shifted, [
            f"class names: {have} names for {count} outputs, so output 0 is taken to be background (--labels FILE)"
        ]
    if count == 1 and have == 2:
        return labels, []
    return labels, [f"class names: {labels.source} has {have} names for {count} outputs (--labels FILE)"]


def _file(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise TargetError(
            f"The labels file '{path}' cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8 text'}."
        ) from error
    return _parse(text) or [line.strip() for line in text.splitlines() if line.strip()]


def _parse(text: str) -> list[str]:
    """Names from JSON or a Python literal: a list, or a dictionary by index; [] if it is neither."""
    found: Any = None
    for reader in (json.loads, ast.literal_eval):
        try:
            found = reader(text)
            break
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
    if isinstance(found, dict):
        try:
            by_index = {int(k): v for k, v in found.items()}
        except (ValueError, TypeError):
            return []
        if not by_index or max(by_index) > 10**6 or min(by_index) < 0:
            return []
        return [str(by_index.get(i, f"class {i}")) for i in range(max(by_index) + 1)]
    if isinstance(found, list):
        return [str(n) for n in found]
    if found is None and "," in text and "\n" not in text.strip():
        return [n.strip() for n in text.split(",")]
    return []
