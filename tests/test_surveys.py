"""Surveys: which class a photo's label means."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from onnx_inspect import image
from onnx_inspect.surveys.variants import Mean, Variants

from . import nets


def test_a_number_beyond_the_classes_is_none(tmp_path: Path) -> None:
    for label in ("cat", "3", "99"):
        image.write(tmp_path / "photos" / label / "one.png", np.full((12, 12, 3), 90, np.uint8))
    survey = Variants(nets.save(tmp_path, metadata=nets.NAMES), tmp_path / "photos")
    assert survey.true_classes() == {"cat": 0, "3": 3}
    assert any("1 of 3 labels" in note and "'99'" in note for note in survey.notes)


def test_means_and_their_errors() -> None:
    rows = np.random.default_rng(0).normal(1e6, 1, (9, 4))
    mean = Mean()
    for row in rows:
        mean.add(row)
    assert mean.mean == pytest.approx(rows.mean(0), rel=1e-15)
    assert mean.error == pytest.approx(rows.std(0, ddof=1) / 3, rel=1e-8)
