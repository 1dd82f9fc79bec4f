"""Tables of measurements: as Markdown, with the conditions they were made under, written between markers."""

from __future__ import annotations

import os
import platform
import re
import shlex
import sys
from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path

from onnx_inspect.versions import versions


def markdown(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table; columns after the first are numbers, set to the right."""
    rule = ["---", *["--:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in (header, rule, *rows))


def conditions() -> str:
    """When, on what, with what, and by which command."""
    found = ", ".join(f"{name} {version}" for name, version in versions().items())
    load = f", load {os.getloadavg()[0]:.1f} when written" if hasattr(os, "getloadavg") else ""
    command = shlex.join(["python", *sys.argv])
    return f"{date.today()}, {cpu()}, {os.cpu_count()} cores{load}; {found}.\n\n```sh\n{command}\n```"


def cpu() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    match = re.search(r"model name\s*: (.+)", info.read_text()) if info.exists() else None
    return match[1] if match else platform.processor() or platform.machine()


def write(path: Path, name: str, text: str) -> None:
    """Replace what stands between the markers of this name, or append both."""
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    old = path.read_text(encoding="utf-8") if path.exists() else "# Measurements\n"
    section = f"{start}\n\n{text.strip()}\n\n{end}"
    before, found, rest = old.partition(start)
    new = before + section + rest.partition(end)[2] if found else f"{old.rstrip()}\n\n{section}\n"
    path.write_text(new, encoding="utf-8")
