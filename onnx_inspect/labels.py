"""Class names: from the model's metadata, from a file, or the bundled ImageNet list."""

from __future__ import annotations

import ast
import difflib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from .errors import TargetError
from .resources import bundled

_KEYS = ("class_names", "classes", "labels", "names")
_SYNSET = re.compile(r"(n\d{8})\s+(.*)")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_NUMBERED = re.compile(r"(\d{1,7})\s*[\s,;:]\s*(\S.*)")


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
        known = 0 <= index < len(self.names) and self.names[index]
        return _synonyms(known)[0] if known else f"class {index}"

    def find(self, text: str) -> int | None:
        """The class with this name, synonym or synset id, None if there is none.

        Raises:
            TargetError: several classes have this name.
        """
        wanted = _plain(text).casefold()
        if not wanted:
            return None
        for called in self._called:
            matches = called.get(wanted, [])
            if len(matches) > 1:
                raise TargetError(f"{len(matches)} classes are called '{text}': give an index, one of {matches[:5]}.")
            if matches:
                return matches[0]
        return None

    @cached_property
    def _called(self) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
        """The classes of a name, and those of any form of a name."""
        whole: dict[str, list[int]] = {}
        parts: dict[str, list[int]] = {}
        for i, name in enumerate(self.names):
            whole.setdefault(name.casefold(), []).append(i)
            for form in dict.fromkeys(map(str.casefold, _forms(name))):
                parts.setdefault(form, []).append(i)
        return whole, parts

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
        near = ", ".join(f"{name!r} ({i})" for name, i in self._near(_plain(text)))
        hint = f" Did you mean {near}?" if near else ""
        raise TargetError(f"No class is called '{text}' in {self.source}.{hint}")

    def _near(self, text: str) -> list[tuple[str, int]]:
        """A few names like ``text``, each of another class: those with it as a word, then those spelt like it."""
        forms = {form.casefold(): (form, i) for i, name in reversed([*enumerate(self.names)]) for form in _forms(name)}
        word = re.compile(rf"(?<!\w){re.escape(text.casefold())}(?!\w)")
        found = sorted((forms[form] for form in forms if text and word.search(form)), key=lambda name: name[1])
        found += [forms[form] for form in difflib.get_close_matches(text.casefold(), forms, n=3, cutoff=0.6)]
        near: dict[int, tuple[str, int]] = {}
        for name, i in found:
            near.setdefault(i, (name, i))
        return [*near.values()][:4]


def _plain(text: str) -> str:
    return " ".join(text.split())


def _synonyms(name: str) -> list[str]:
    match = _SYNSET.fullmatch(name)
    return [s.strip() for s in (match[2] if match else name).split(",") if s.strip()] or [name]


def _forms(name: str) -> list[str]:
    """All that a class can be called, its synonyms first."""
    match = _SYNSET.fullmatch(name)
    return [*_synonyms(name), *match.groups()] if match else [*_synonyms(name), name]


def resolve(
    metadata: Mapping[str, str], count: int | None, given: str | Path | Sequence[str] | None = None
) -> tuple[Labels, list[str]]:
    """The labels to use, and notes on what was assumed.

    Args:
        metadata: of the model.
        count: number of classes, None if unknown.
        given: a file (see ``parse``), or the names; wins over the metadata.

    Raises:
        TargetError: the file cannot be read or holds no names, or there are more or fewer names than classes.
    """
    if given is not None:
        of_file = isinstance(given, str | Path)
        source = f"'{given}'" if of_file else "the list of names"
        names = _file(Path(given)) if isinstance(given, str | Path) else tuple(_plain(str(name)) for name in given)
        fitting, notes = _fit(Labels(names, source), count)
        if fitting is None:
            raise TargetError(f"{source[0].upper()}{source[1:]} has {_mismatch(len(names), count)}: name every class.")
        return fitting, notes
    passed_over = []
    for key in _KEYS:
        try:
            names = parse(metadata.get(key, ""))
        except ValueError:
            continue
        source = f"the model's metadata ({key})"
        fitting, notes = _fit(Labels(names, source), count)
        if fitting is not None:
            return fitting, notes
        passed_over.append(f"class names: {source} has {_mismatch(len(names), count)}, so none is used (--labels FILE)")
    if count in (1000, 1001):
        what = "ImageNet-1k" if count == 1000 else "ImageNet-1k after a background class at 0"
        note = f"class names: {count} outputs are taken to be {what} (--labels FILE)"
        names = parse(bundled("imagenet_classes.txt").read_text(encoding="utf-8"))
        return Labels(("background", *names)[-count:], what, guessed=True), [*passed_over, note]
    if count is not None and count > 1 and not passed_over:
        return Labels(), ["the classes have no names (--labels FILE)"]
    return Labels(), passed_over


def _fit(labels: Labels, count: int | None) -> tuple[Labels | None, list[str]]:
    """The labels if there is one per class, None otherwise; ImageNet's may lack the background at 0."""
    have = len(labels.names)
    if count is None or have == (count if count > 1 else 2):
        return labels, []
    if (have, count) == (1000, 1001):
        note = "class names: 1000 names for 1001 outputs, so output 0 is taken to be background (--labels FILE)"
        return Labels(("background", *labels.names), labels.source), [note]
    return None, []


def _mismatch(have: int, count: int | None) -> str:
    names = "1 name" if have == 1 else f"{have} names"
    return f"{names} for " + ("the two sides of a single score" if count == 1 else f"{count} outputs")


def _file(path: Path) -> tuple[str, ...]:
    try:
        return parse(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise TargetError(f"The labels file '{path}' cannot be read: it is not UTF-8 text.") from error
    except OSError as error:
        raise TargetError(f"The labels file '{path}' cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise TargetError(f"The labels file '{path}' {error}: write one name per line.") from error


def parse(text: str) -> tuple[str, ...]:
    """Class names from text: one per line, between commas, or JSON or a Python literal.

    Lines and rows of CSV may begin with their index, from 0 or from 1, if all of them do. JSON is a list of names, or
    of pairs of index and name; a dictionary from one to the other; or one that holds such as ``id2label`` or
    ``names``, as Hugging Face's config.json does. ValueError, a clause, for all else.
    """
    rows = re.split(r"\r\n|\r|\n", text)  # str.splitlines knows many more ends of lines
    if damaged := next((i for i, row in enumerate(rows, 1) if _CONTROL.search(row)), 0):
        raise ValueError(f"has a control character in line {damaged}")
    if text.lstrip()[:1] in ("{", "["):
        names = _names(_literal(text))
    else:
        lines = [_plain(row) for row in rows if row.strip()]
        names = _unnumbered(lines) if len(lines) > 1 else [_plain(name) for name in text.split(",") if "," in text]
    if damaged := next((i for i, name in enumerate(names, 1) if _CONTROL.search(name)), 0):
        raise ValueError(f"has a control character in name {damaged}")
    if not any(names):
        raise ValueError("holds no class names")
    return tuple(names)


def _unnumbered(lines: list[str]) -> list[str]:
    """Lines without their indices where all but a heading begin with one, in order; else as they are."""
    for rows in (lines, lines[1:]):
        found = [match.groups() for row in rows if (match := _NUMBERED.fullmatch(row))]
        names = [_plain(name.strip('"')) for _, name in found]
        # "1 euro", "2 euro" are names
        if len(found) == len(rows) and len(set(names)) > 1 and _counts([int(index) for index, _ in found]):
            return names
    return lines


def _counts(indices: Sequence[int]) -> bool:
    """True for 0, 1, 2, ... and for 1, 2, 3, ..."""
    return any(list(indices) == list(range(start, start + len(indices))) for start in (0, 1))


def _literal(text: str) -> Any:
    for reader in (json.loads, ast.literal_eval):
        try:
            return reader(text.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
    raise ValueError("is damaged JSON")


def _names(found: Any) -> list[str]:
    """The names in what JSON can say; ValueError if they are none."""
    if isinstance(found, dict):
        for key in ("id2label", "label2id", *_KEYS):
            if isinstance(found.get(key), dict | list):
                return _names(found[key])
        rows = list(found.items())
    elif all(isinstance(row, list | tuple) and len(row) == 2 and any(map(_is_index, row)) for row in found):
        rows = found
    else:
        return [_name(name) for name in found]
    for index, name in ((0, 1), (1, 0)):
        if all(_is_index(row[index]) for row in rows):
            pairs = {int(row[index]): _name(row[name]) for row in rows}
            if len(pairs) == len(rows) and _counts(sorted(pairs)):
                return [pairs[i] for i in sorted(pairs)]
    raise ValueError("has indices that are not 0, 1, 2 and so on")


def _is_index(found: Any) -> bool:
    return re.fullmatch(r"[0-9]{1,7}", str(found)) is not None


def _name(found: Any) -> str:
    """One name; several, as of imagenet_class_index.json, are synonyms."""
    if isinstance(found, list | tuple) and found and all(isinstance(name, str) for name in found):
        return _plain((" " if re.fullmatch(r"n\d{8}", found[0]) else ", ").join([found[0], ", ".join(found[1:])]))
    if not isinstance(found, str | int | float) or isinstance(found, bool):
        raise ValueError("holds no class names")
    return _plain(str(found))
