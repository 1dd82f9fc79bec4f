"""Amounts of memory as people write them."""

from __future__ import annotations

import re

from .errors import InputError

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}


def parse(text: int | str, flag: str = "--max-memory") -> int:
    """Bytes from a number, or from text such as "4GB", "500MB", "1.5 GiB".

    Raises:
        InputError: it is no amount of memory, or none at all.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?I?)B?", str(text).strip().upper())
    size = int(float(match[1]) * _UNITS[match[2]]) if match is not None and match[2] in _UNITS else 0
    if size < 1:
        raise InputError(f"'{text}' is no amount of memory: give bytes, or text as 4GB, 500MB or 2GiB ({flag}).")
    return size


def told(size: float) -> str:
    """An amount of memory for a reader."""
    unit = next((u for u in "TGMK" if size >= _UNITS[u]), "")
    return f"{size / _UNITS[unit]:.{1 if unit else 0}f} {unit.replace('K', 'k')}B"
