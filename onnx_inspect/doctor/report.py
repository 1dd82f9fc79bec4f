"""Findings, and the report they make."""

from __future__ import annotations

import shlex
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Severity = Literal["error", "warning", "note"]
RANK: dict[Severity, int] = {"error": 0, "warning": 1, "note": 2}


def typed(word: str) -> str:
    """A word of a command line, as a shell takes it."""
    return f'"{word}"' if not set(word) & set('"$`\\!') else shlex.quote(word)


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        severity: "error" where something asked for cannot be had, "warning" where a result may mislead, else "note".
        check: what looked: "file", "operators", "gradient", "precision", "photos" or "install".
        what: what was found, and where, as a clause.
        remedy: what to do, as a clause; "" where there is nothing to do.
        where: the node, tensor, domain or package, "" for the whole file.
    """

    severity: Severity
    check: str
    what: str
    remedy: str = ""
    where: str = ""

    def __str__(self) -> str:
        sentence = f"{self.what}: {self.remedy}" if self.remedy else self.what
        return sentence if sentence.endswith((".", ")")) else sentence + "."


@dataclass
class Report:
    """What `examine` found out.

    Attributes:
        facts: of file, operators and install, as JSON can say them.
        findings: the worst first.
        methods: which ways there are to explain the model as asked: gradients at a layer and the input, covering.
        fitting: all methods by name, and whether they fit.
        target: the stand-in for a target where the model has no class scores, "" otherwise.
        notes: what was assumed, each with the flag that changes it.
        presets: how the photos fare with each preprocessing, the best first: `photos.Trial`, `sightings.Sighting`.
    """

    facts: dict[str, Any]
    findings: list[Finding] = field(default_factory=list)
    methods: dict[str, bool] = field(default_factory=dict)
    fitting: dict[str, bool] = field(default_factory=dict)
    target: str = ""
    notes: list[str] = field(default_factory=list)
    presets: list[Any] = field(default_factory=list)

    def add(self, *findings: Finding) -> None:
        """Add findings, each once."""
        self.findings = sorted(dict.fromkeys([*self.findings, *findings]), key=lambda f: RANK[f.severity])

    @property
    def fine(self) -> bool:
        """True without errors and warnings."""
        return all(f.severity == "note" for f in self.findings)

    @property
    def verdict(self) -> str:
        """The answer, on one line."""
        count = Counter(f.severity for f in self.findings)
        found = [f"{count[s]} {s}{'s' * (count[s] > 1)}" for s in ("error", "warning") if count[s]]
        able = [name for name, works in self.methods.items() if works]
        able = able or [name for name, fits in self.fitting.items() if fits]
        ways = " and ".join(filter(None, [", ".join(able[:-1]), *able[-1:]]))
        if not able:
            return f"cannot be explained as it is ({' and '.join(found) or 'see the notes'})"
        able_to = f"{ways} can explain this model" + (
            f" with such a --target as {typed(self.target)}" if self.target else ""
        )
        if self.fine:
            return f"fine: {able_to}"
        lost = [name for name, works in self.methods.items() if not works]
        return able_to + f", not {' and '.join(lost)}" * bool(lost) + f"; mind the {' and '.join(found)}"

    def to_json(self) -> dict[str, Any]:
        """All of it, as JSON can say it."""
        return {
            **self.facts,
            "findings": [{**asdict(f), "text": str(f)} for f in self.findings],
            "methods": self.methods,
            "fitting": self.fitting,
            "target": self.target,
            "notes": self.notes,
            "presets": [p.to_json() for p in self.presets],
            "verdict": self.verdict,
            "fine": self.fine,
        }
