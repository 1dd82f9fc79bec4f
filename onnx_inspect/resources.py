"""Bundled data: in the installed package, or in models/ of a checkout."""

from __future__ import annotations

from pathlib import Path

from .errors import InspectError

_HERE = Path(__file__).parent


def bundled(name: str) -> Path:
    """The path of a bundled file or folder.

    Raises:
        InspectError: it is not there: the installation is damaged.
    """
    for root in (_HERE / "bundled", _HERE.parent / "models"):
        if (root / name).exists():
            return root / name
    raise InspectError(f"The bundled '{name}' is missing: install onnx-inspect again.")
