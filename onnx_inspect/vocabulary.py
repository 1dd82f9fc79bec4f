"""What tokens are called: the vocabulary of a tokenizer, from a file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .errors import InputError

_LARGEST = 256 << 20  # bytes of a file


def read(path: str | Path) -> dict[int, str]:
    """The text of each token, by its number.

    A text file has one token per line, from 0 on. JSON is a list of them, a dictionary from text to number or back, or
    the tokenizer.json of the Hugging Face library.

    Raises:
        InputError: the file cannot be read, or is no vocabulary.
    """
    path = Path(path)
    try:
        if path.stat().st_size > _LARGEST:
            raise InputError(f"'{path}' is larger than {_LARGEST >> 20} MB: that is no vocabulary (--tokens).")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"The tokens in '{path}' cannot be read: {error.strerror or error} (--tokens).") from error
    except UnicodeDecodeError as error:
        raise InputError(f"The tokens in '{path}' are no text in UTF-8 (--tokens).") from error
    if path.suffix.lower() != ".json":
        return dict(enumerate(line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")))
    try:
        return of(_within(json.loads(text)))
    except (ValueError, TypeError, LookupError, RecursionError, InputError) as error:
        kinds = "a list of tokens, a dictionary from token to number, or a tokenizer.json"
        raise InputError(f"'{path}' is no vocabulary, which is {kinds} (--tokens).") from error


def of(given: Mapping[Any, Any] | Sequence[Any]) -> dict[int, str]:
    """The text of each token by its number, from a list of texts, or a dictionary either way.

    Raises:
        InputError: it is neither.
    """
    if isinstance(given, Sequence) and not isinstance(given, str):
        # Unigram models have a score beside each piece.
        pieces = [piece if isinstance(piece, str) else piece[0] for piece in given]
        return dict(enumerate(map(str, pieces)))
    if not isinstance(given, Mapping):
        raise InputError("A vocabulary is a list of tokens, or a dictionary from token to number.")
    if all(isinstance(value, int) for value in given.values()):
        return {int(number): str(text) for text, number in given.items()}
    return {int(number): str(text) for number, text in given.items()}


def _within(content: Any) -> Any:
    """The vocabulary of a tokenizer.json, with the tokens that were added to it; anything else as it is."""
    if not (isinstance(content, dict) and isinstance(content.get("model"), dict)):
        return content
    known = of(content["model"]["vocab"])
    return known | {int(t["id"]): str(t["content"]) for t in content.get("added_tokens", ())}
