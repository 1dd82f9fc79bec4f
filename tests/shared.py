"""Where the large test files are, and tests that need them: skipped by name where the folder is absent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2] / "shared"
ASSETS, ZOO = ROOT / "assets", ROOT / "zoo"
needs_assets = pytest.mark.skipif(not ASSETS.exists(), reason="needs ../shared/assets (trained models and photos)")
needs_zoo = pytest.mark.skipif(not ZOO.exists(), reason="needs ../shared/zoo (files from nine exporters)")


def manifest() -> dict[str, dict[str, Any]]:
    """What is known of each file of the assets, by path."""
    entries = json.loads((ASSETS / "MANIFEST.json").read_text(encoding="utf-8"))["files"]
    return {e["file"]: e for e in entries}


def photos(folder: str) -> list[dict[str, Any]]:
    """Photos of a folder with their labels, in order."""
    return [e for f, e in sorted(manifest().items()) if f.startswith(f"images/{folder}/")]
