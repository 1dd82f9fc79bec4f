"""Small networks, one module per framework, each run by scripts/export_zoo.py in the environment of its framework.

A module writes EXPORTER_NET.onnx files into a folder, and what is known of them into NAME.json there:

    zoo = Zoo("torch", Path(sys.argv[1]))
    torch.onnx.export(model, x, zoo.path("torch_dynamo", "vit"))
    zoo.add("torch_dynamo", "vit", "classifier", {"x": x}, truth={"grid": [6, 10]}, torch=torch.__version__)
    zoo.save()
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


class Zoo:
    """The files that one module writes."""

    def __init__(self, name: str, out: Path) -> None:
        self.name, self.out, self.entries = name, Path(out), list[dict[str, Any]]()
        self.out.mkdir(parents=True, exist_ok=True)

    def path(self, exporter: str, net: str) -> Path:
        """Where the file goes."""
        return self.out / f"{exporter}_{net}.onnx"

    def add(
        self,
        exporter: str,
        net: str,
        kind: str,
        inputs: dict[str, Any],
        *,
        note: str = "",
        truth: dict[str, Any] | None = None,
        **versions: str,
    ) -> None:
        """One file: its kind (classifier, detector, ...), example inputs by name, what is known to be true."""
        self.entries.append(
            {
                "file": self.path(exporter, net).name,
                "net": net,
                "exporter": exporter,
                "versions": versions,
                "kind": kind,
                "inputs": {
                    k: {"shape": list(v.shape), "dtype": str(v.dtype).split(".")[-1]} for k, v in inputs.items()
                },
                "note": note,
                "truth": truth or {},
            }
        )

    def save(self) -> None:
        """Write what is known of the files."""
        (self.out / f"{self.name}.json").write_text(json.dumps(self.entries, indent=1) + "\n", encoding="utf-8")
