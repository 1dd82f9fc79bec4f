"""`pytest --device cuda` runs the suite on a card; see device.py."""

from __future__ import annotations

import os

import pytest

from . import device


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cpu", metavar="cpu|cuda[:N]", help="where the models of the tests run")


def pytest_configure(config: pytest.Config) -> None:
    os.environ["ONNX_INSPECT_CACHE"] = "off"
    device.NAME = os.environ[device.VARIABLE] = config.getoption("--device")
    if device.NAME != "cpu":  # modules make their engines as they are imported
        from onnx_inspect.errors import DeviceError

        try:
            device.moved()
        except DeviceError as error:
            raise pytest.UsageError(str(error)) from error


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items if device.NAME != "cpu" else ():
        name = item.nodeid.rpartition("/")[2]
        for start, reason in device.CPU_ONLY.items():
            if name.startswith(start):
                item.add_marker(pytest.mark.skip(reason=f"the CPU provider alone: {reason}"))
