"""The install: packages that overwrite each other, and a device that was asked for and cannot run."""

from __future__ import annotations

import ctypes.util
import re
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ..engine import Engine
from ..errors import DeviceError
from .report import Finding

# Packages that install files of the same names: the last one wins, and uninstalling either breaks both.
_SAME_FILES = (
    ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino", "onnxruntime-qnn"),
    (
        "opencv-python-headless",
        "opencv-python",
        "opencv-contrib-python",
        "opencv-contrib-python-headless",
    ),
)


def check() -> list[Finding]:
    """Packages installed over each other."""
    found = []
    for family in _SAME_FILES:
        there = [f"{name} {v}" for name in family if (v := _version(name))]
        if len(there) > 1:
            names = " ".join(name.split()[0] for name in there)
            what = f"{' and '.join(there)} are installed over each other, so which one runs is chance"
            remedy = f"`pip uninstall {names}`, then install the one that is wanted"
            found.append(Finding("warning", "install", what, remedy, there[0].split()[0]))
    return found


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def engine(device: str, **how: Any) -> tuple[Engine, list[Finding]]:
    """The engine for a device; where CUDA is asked for and cannot run, the CPU's and why.

    Raises:
        DeviceError: there is no such device.
    """
    try:
        return Engine(device, **how), []
    except DeviceError as error:
        if re.fullmatch(r"cuda(:\d+)?(,cuda:\d+)*", device) is None:
            raise
        driver = "nvcuda" if sys.platform == "win32" else "cuda"
        missing = "" if ctypes.util.find_library(driver) else " No NVIDIA driver is installed here."
        return Engine("cpu", **how), [Finding("error", "install", f"{error}{missing}", where=device)]
