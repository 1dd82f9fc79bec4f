"""What a command is given to explain: photos, arrays, tables; with values for the other inputs of the model."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..methods.samples import Samples
    from ..model import Model


class Given:
    """What is to be explained, a part at a time.

    Args:
        words: photos, or the name of a .npy, .npz or .csv file.
        inputs: NAME=VALUE, or VALUE for the only other input.
        tokens: the file of a vocabulary.
        drop: columns of a table to leave out.

    Attributes:
        photos: their names, if it is photos.
        notes: what was assumed.
        read: the files, and what each is.
    """

    def __init__(self, words: Sequence[str], inputs: Sequence[str], tokens: str, drop: Sequence[str]) -> None:
        from .. import files
        from ..arrays import is_file
        from ..errors import InputError

        if not words and not inputs:
            raise click.UsageError("Missing argument 'PHOTO...'.", click.get_current_context())
        self.file = Path(words[0]) if len(words) == 1 and (is_file(words[0]) or _is_table(words[0])) else None
        if self.file is None and (wrong := [w for w in words if is_file(w) or _is_table(w)]):
            raise InputError(f"'{wrong[0]}' has to be given alone: one file of arrays or rows at a time.")
        self.photos = files.photos(words) if words and self.file is None else []
        self.inputs, self.tokens, self.drop = inputs, tokens, drop
        self.notes: list[str] = []
        self.read: dict[str | Path, str] = dict.fromkeys(self.photos, "the photo")
        self.read |= {_file(word): "a value of --input" for word in inputs}
        self.read |= {tokens: "the file of tokens"} if tokens else {}
        self.read |= {words[0]: "what is to be explained"} if self.file is not None else {}

    def load(self, model: Model) -> None:
        """Read what is no photo, in the form that the model takes."""
        from .. import arrays, rows, vocabulary
        from ..errors import InputError
        from ..methods import tabular
        from ..methods.inputs import image_input
        from ..methods.samples import Samples, counted, fitted

        main = image_input(model)
        specs = {s.name: s for s in model.inputs}
        others = dict(self._named(word, list(specs), main.name) for word in self.inputs)
        values: dict[str, Any] = {}
        found = Samples({})
        if self.file is not None and _is_table(str(self.file)):
            table = rows.read(self.file)
            cut = {name: [c.strip() for c in text.split(",")] for name, text in others.items()}
            said = {name: names for name, names in cut.items() if set(names) <= set(table.columns)}
            others = {name: text for name, text in others.items() if name not in said}
            open_ = [s for s in model.inputs if s.name not in others]
            found, self.notes = tabular.samples(table, open_, self.drop, said)
            values |= found.values
        elif self.drop:
            raise InputError("Columns are left out of tables: give a .csv file (--drop).")
        elif self.file is not None:
            values[main.name] = arrays.read(str(self.file), main.name)
        if twice := sorted(set(values) & set(others)):
            raise InputError(f"The input '{twice[0]}' is given twice, by '{self.file}' and by --input.")
        for name, text in others.items():
            if name == main.name and self.photos:
                raise InputError(f"The input '{name}' is given twice, as photos and by --input.")
            values[name] = arrays.read(text, name)
        lead = main.shape[0] if main.shape else None
        values = {name: fitted(specs[name], value, lead) for name, value in values.items()}
        if not self.photos and main.name not in values:
            raise InputError(
                f"The input '{main.name}' ({main.sizes()} {main.dtype}) has no value: name a photo or a file, or give "
                f"--input {main.name}=FILE.npy."
            )
        self.main, self.lead = main.name, lead
        self.axes = {k: _axis(specs[k].shape, lead) for k in values}
        count = len(self.photos) or counted(main, values[main.name])
        for name, value in values.items():
            if (axis := self.axes[name]) is not None and value.shape[axis] not in (1, count):
                raise InputError(
                    f"'{name}' has {value.shape[axis]} values for {count} samples: one for each, or one for all."
                )
        names = list(found.names) or self._names(count, others)
        known = vocabulary.read(self.tokens) if self.tokens else {}
        self.samples = Samples(values, names, found.columns, known)

    def __len__(self) -> int:
        return len(self.photos) or len(self.samples.names)

    @property
    def names(self) -> Sequence[str]:
        """What files of results are called, one per sample."""
        from ..attribution import NAME
        from ..files import short_names, stems

        return stems(self.photos) if self.photos else short_names(self.samples.names, NAME)

    def part(self, which: range) -> list[Path] | Samples:
        """Some of the samples."""
        from ..methods.samples import Samples

        photos = [self.photos[i] for i in which] if self.photos else None
        if photos is not None and not self.samples:
            return photos
        values: dict[str, Any] = {k: self._cut(k, v, which) for k, v in self.samples.values.items()}
        if photos is not None:
            values[self.main] = photos
        names = [] if photos is not None else [self.samples.names[i] for i in which]
        return Samples(values, names, self.samples.columns, self.samples.tokens)

    def _cut(self, name: str, value: NDArray[Any], which: range) -> NDArray[Any]:
        axis = self.axes[name]
        return value if axis is None or value.shape[axis] == 1 else value.take(list(which), axis)

    def _named(self, word: str, names: Sequence[str], main: str) -> tuple[str, str]:
        """Which input a value is for."""
        from ..errors import InputError

        for name in sorted(names, key=len, reverse=True):  # names may hold "="
            if word.startswith(name + "="):
                return name, word[len(name) + 1 :]
        head, _, tail = word.partition("=")
        others = [n for n in names if n != main]
        if not tail and len(others) == 1 and (self.photos or self.file is not None):
            return others[0], word
        if not tail and len(names) == 1:
            return main, word
        what = f"There is no input {head!r}" if tail else f"'{word}' names no input"
        raise InputError(f"{what}: the model has {', '.join(map(repr, names))} (--input NAME=VALUE).")

    def _names(self, count: int, others: dict[str, str]) -> list[str]:
        """Names of samples from the file that holds them."""
        from ..arrays import is_file
        from ..methods.samples import numbered

        named = self.file or (Path(others[self.main]) if is_file(others.get(self.main, "")) else None)
        stem = (named.stem if named is not None else self.main) or "sample"
        return numbered(stem, count)


def chunks(given: Given, size: int) -> Iterator[range]:
    """Ranges of samples, `size` at a time."""
    for start in range(0, len(given), size):
        yield range(start, min(start + size, len(given)))


def _axis(shape: Sequence[int | str | None], lead: int | str | None) -> int | None:
    """The axis that counts samples, None if an input is one for all."""
    if isinstance(lead, str) and lead in shape:
        return list(shape).index(lead)
    return 0 if shape and shape[0] in (None, lead) else None


def _is_table(word: str) -> bool:
    from ..rows import SUFFIXES

    return os.path.splitext(word)[1].lower() in SUFFIXES  # noqa: PTH122


def _file(word: str) -> str:
    return word.partition("=")[2] or word
