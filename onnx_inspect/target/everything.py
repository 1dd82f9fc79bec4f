"""`Everything`: all detections, which make no score."""

from __future__ import annotations

from dataclasses import dataclass, replace

import onnx_ir as ir

from .. import detection
from ..detection import Detection
from ..detection.formats import Stated
from ..emit import Op
from ..errors import TargetError
from ..model import Model
from ..scores import Scores
from .base import Asks, Target
from .detected import AS_IS


@dataclass(frozen=True)
class Everything(Target):
    """All detections of each sample, by `found` once it is settled; too many for one score.

    Attributes:
        stated: what is said of the detector.
        found: the detections of each sample.
    """

    stated: Stated = AS_IS
    found: tuple[tuple[Detection, ...], ...] = ()

    def as_numbers(self, found: Scores) -> bool:
        """A detector has no row of class scores per sample."""
        return True

    def settle(self, runs: Asks) -> Everything:
        """The detections of all samples."""
        head, found = detection.find(runs, self.stated, listing=True)
        lists = detection.detections(head, found, runs.photos or [None] * runs.n)
        return replace(self, found=tuple(map(tuple, lists)))

    def emit(self, op: Op, model: Model) -> ir.Value:
        """Refuse."""
        raise TargetError("A score is that of one detection: explain box:1, say, or class:NAME.")
