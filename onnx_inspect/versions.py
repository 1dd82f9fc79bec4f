"""Versions of this package and of those that decide its results."""

from __future__ import annotations

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version

_PACKAGES = ("onnx-inspect", "onnx", "onnx-ir", "onnxruntime-gpu", "onnxruntime", "numpy", "opencv-python-headless")


@cache
def versions() -> dict[str, str]:
    """Name to version, of what is installed."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
