"""`Finding.save`: which files it writes, whatever things are called."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from onnx_inspect.errors import OutputError
from onnx_inspect.finding import Finding

PIXELS = np.zeros((4, 4, 3), np.uint8)


def saved(path: Path, *names: str) -> list[Path]:
    return Finding("s", {}, [], pictures={"": PIXELS} | dict.fromkeys(names, PIXELS)).save(path)


@pytest.mark.parametrize("name", ["a/b", "../x", "..", "/etc/x", "C:\\x", "a\0b", "a\nb", "ü😀", "Conv_0;1$", "\udc80"])
def test_pictures_stay_beside_the_first(tmp_path: Path, name: str) -> None:
    written = saved(tmp_path / "out" / "p.png", name)
    assert len(set(written)) == 3
    assert sorted(written) == sorted((tmp_path / "out").iterdir())
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


@pytest.mark.parametrize(
    ("given", "picture"), [("a", "a.png"), ("a.b", "a.b.png"), ("a.JPG", "a.JPG"), ("", "s.png"), ("v1.5", "v1.5.png")]
)
def test_names(tmp_path: Path, given: str, picture: str) -> None:
    assert saved(tmp_path / given) == [tmp_path / picture, (tmp_path / picture).with_suffix(".json")]


def test_a_name_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="too long"):
        saved(tmp_path / ("a" * 300))
