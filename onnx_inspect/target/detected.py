"""`Detected`: a detection, or a coordinate of its box."""

from __future__ import annotations

import re
from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from .. import detection
from ..asks import Photographed
from ..detection import Candidates, Detection, Head, Stated, formats, proposals
from ..detection.lineage import Elements
from ..emit import Op
from ..errors import AbsentError, TargetError
from ..geometry import Box
from ..labels import Labels
from ..model import Model
from ..scores import ScoreKind, Scores
from .base import Asks, Target, called, per_sample, rows_for, summed
from .elements import quoted

PARTS = ("x0", "y0", "x1", "y1", "w", "h", "area", "objectness", "class")
# The graph inputs that say which candidate, where it lies, and what the first of two stages proposes.
ELEMENTS, FRAME, PROPOSALS = "target.element", "target.frame", "target.proposals"
AS_IS = Stated()
_PLAIN = re.compile(r"\w[\w-]*( \w[\w-]*)*")  # what needs no quotes


@dataclass(frozen=True)
class Found:
    """What a target means in one sample: a detection, and the frame of its box, (10,).

    The frame is its cell, see `formats.corners`, and the way from the model's input to the photo: scale and offset
    of x and y.
    """

    detection: Detection
    frame: tuple[float, ...]


@dataclass(frozen=True)
class Detected(Target):
    """A detection, or a coordinate of its box.

    Attributes:
        which: a number of the list of detections, a class, or a box in pixels of the photo.
        part: what of it, one of `PARTS`; "" for its score.
        stated: what is said of the detector.
        kind: logits, or the output as it is.
        head: the detector's, once it is settled.
        found: the candidate of each sample, once it is settled.
        proposals: those of a detector of two stages, (1, P, 4).
    """

    which: int | str | Box
    part: str = ""
    stated: Stated = AS_IS
    kind: ScoreKind = "logits"
    head: Head | None = field(default=None, compare=False)
    found: tuple[Found, ...] = ()
    proposals: NDArray[Any] | None = field(default=None, compare=False)

    def __str__(self) -> str:
        which = self.which
        if isinstance(which, tuple):
            told = f"({', '.join(f'{side:.10g}' for side in which)})"
        else:
            told = str(which) if _PLAIN.fullmatch(str(which)) else quoted(str(which))
        options = f"@{self.stated}" if str(self.stated) else ""
        return f"{'class' if isinstance(which, str) else 'box'}:{told}{'.' if self.part else ''}{self.part}{options}"

    def as_numbers(self, found: Scores) -> bool:
        """A detector has no row of class scores per sample."""
        return True

    @property
    def local(self) -> bool:
        """A detection is a thing among others."""
        return True

    def settle(self, runs: Asks) -> Detected:
        """The candidate of each sample, found on the untouched ones.

        Raises:
            TargetError: there is no such detection, or no detector.
        """
        head, found = detection.find(runs, self.stated)
        every = detection.candidates(head, found)
        photos = runs.photos or [None] * runs.n
        lists = detection.detections(head, found, photos)
        chosen = []
        for i, (one, photo) in enumerate(zip(every, photos, strict=True)):
            where = f" in {called(runs, i)}"
            mine = self._choose(head, one, lists[i], photo, where, runs.notes)
            chosen.append(Found(mine, _frame(head, mine.candidate, photo)))
            box = ", ".join(f"{side:.0f}" for side in mine.box)
            runs.notes.append(
                f"{self}{where} is {mine.label} {mine.score:.2f} at ({box}), candidate {mine.candidate} "
                "(`onnx-inspect boxes` lists all)"
            )
        if self.part == "objectness" and head.objectness is None:
            raise TargetError(f"{self}: this detector has no objectness, only scores of classes.")
        return replace(self, head=head, found=tuple(chosen), proposals=proposals.of(runs))

    def _choose(
        self,
        head: Head,
        one: Candidates,
        known: list[Detection],
        photo: Photographed | None,
        where: str,
        notes: list[str],
    ) -> Detection:
        if isinstance(self.which, tuple):
            given = photo.geometry.to_model(self.which) if photo is not None else self.which
            shares = formats.overlap(np.array(given), one.boxes)
            best = np.lexsort((-one.scores.max(axis=1), -shares.round(2)))[0]  # of equals the surest
            if shares[best] <= 0:
                raise AbsentError(f"{self}: no candidate{where} overlaps this box; it is (x0, y0, x1, y1) in pixels.")
            notes.append(f"{self}: the candidate that overlaps it best has IoU {shares[best]:.2f}{where}")
            return detection.detection(head, one, photo, int(best), int(one.scores[best].argmax()))
        if isinstance(self.which, int):
            if self.which > len(known):
                things = "1 thing is" if len(known) == 1 else f"{len(known)} things are"
                sure = f" at {head.stated.threshold:g} or surer (@threshold={head.stated.threshold / 2:.2g} for more)"
                raise AbsentError(f"There is no {self}: {things} found{where}{sure}.")
            return known[self.which - 1]
        index = self._index(head)
        mine = next((d for d in known if d.index == index), None)
        if mine is not None:
            return mine
        best = int(one.scores[:, index].argmax())
        notes.append(f"{self}: nothing is found to be one{where}, the candidate that is most so is explained")
        return detection.detection(head, one, photo, best, index)

    def _index(self, head: Head) -> int:
        count = head.scores[0].numbers.shape[1]
        text = str(self.which)
        if re.fullmatch(r"\d+", text):
            if int(text) >= count or int(text) == head.background:
                raise TargetError(f"There is no class {text}: the detector has {count}, counted from 0.")
            return int(text)
        return Labels(head.names, "the class names").index(text)

    def sample(self, i: int) -> Detected:
        """The candidate of one sample."""
        return replace(self, found=self.found[i : i + 1])

    def key(self) -> Hashable:
        """All candidates and classes share one compiled model."""
        head = self._head
        parts = tuple((e.leaves, lacking) for e, lacking in self._parts)
        return ("detected", self.part, self.kind, head.stated.format, head.stated.unit, head.size, self._sums, parts)

    def feeds(self, n: int) -> dict[str, NDArray[Any]]:
        """Which elements are read, and the frame of the box; repeated where one candidate is for all."""
        fed = {ELEMENTS: rows_for(np.stack([np.concatenate(self._numbers(f)) for f in self.found]), n, self)}
        if self._is_box:
            fed[FRAME] = rows_for(np.array([f.frame for f in self.found], np.float32), n, self)
        if self.proposals is not None:
            fed[PROPOSALS] = rows_for(self.proposals, n, self)
        return fed

    def reads(self, model: Model) -> list[str]:
        """The tensors that the candidates lie in: those of their level of the pyramid."""
        if self.head is None:
            return []
        parts = [(e, n) for f in self.found for e, n in zip(self._elements, self._numbers(f), strict=True)]
        return list(dict.fromkeys(t for e, n in parts for t in e.tensors(n)))

    def emit(self, op: Op, model: Model) -> ir.Value:
        """The score, or the coordinate."""
        like = model.value(self._elements[0].leaves[0].tensor)
        if self.proposals is not None:
            like = next(n.inputs[0] for n in model.ir.graph if n.op_type == "RoiAlign" and n.inputs[0] is not None)
            proposals.fixed(op, model, per_sample(op, PROPOSALS, ir.DataType.FLOAT, like, rank=3))
        numbers = per_sample(op, ELEMENTS, ir.DataType.INT64, like, rank=2)
        if self._is_box:
            return summed(op, self._coordinate(op, model, numbers, like))
        factors = [self._factor(op, model, op.Gather(numbers, [i], axis=1), i) for i in range(len(self._parts))]
        total = factors[0]
        for factor in factors[1:]:
            total = total + factor if self._sums else total * factor
        return summed(op, total)

    def _factor(self, op: Op, model: Model, numbers: ir.Value, i: int) -> ir.Value:
        elements, lacking = self._parts[i]
        value = elements.gather(op, model, numbers)
        if lacking == "softmax":
            raise TargetError(
                f"{self} is a product of probabilities that the file does not hold: explain the logit, without "
                "--score output."
            )
        return op.Sigmoid(value) if lacking == "sigmoid" else value

    def _coordinate(self, op: Op, model: Model, numbers: ir.Value, like: ir.Value) -> ir.Value:
        head, count = self._head, self._head.boxes.numbers.shape[1]
        t = head.boxes.gather(op, model, numbers)
        frame = per_sample(op, FRAME, ir.DataType.FLOAT, like, rank=2)
        if head.stated.format == "dfl":
            p = op.Softmax(op.Reshape(t, [0, 4, count // 4]), axis=2)
            t = op.ReduceSum(p * op.const(np.arange(count // 4, dtype=np.float32)), [2], keepdims=0)
        t = t * op.const(head.scale.astype(np.float32)[None])
        t.shape = ir.Shape([None, 4])
        *cell, across, down, left, top = (op.Gather(frame, [i], axis=1) for i in range(10))
        x0, y0, x1, y1 = formats.corners(
            head.stated.format, [op.Gather(t, [i], axis=1) for i in range(4)], cell, exp=op.Exp
        )
        placed = [x0 * across + left, y0 * down + top, x1 * across + left, y1 * down + top]
        found: ir.Value = formats.measured(placed)[self.part]
        found.shape = ir.Shape([None, 1])
        return found

    # What is read of a candidate.

    @property
    def _head(self) -> Head:
        if self.head is None:
            raise TargetError(f"{self} is found in a photo: explain one, as in gradcam(model, photo, target='{self}').")
        return self.head

    @property
    def _is_box(self) -> bool:
        return self.part in PARTS[:7]

    @property
    def _sums(self) -> bool:
        """True if logits are added, False if what the model gives is multiplied."""
        return self.kind == "logits" and "none" not in self._head.activations

    @property
    def _elements(self) -> list[Elements]:
        return [e for e, _ in self._parts]

    @property
    def _parts(self) -> list[tuple[Elements, str]]:
        """What is read, and the activation that it lacks where it is a probability among others."""
        head = self._head
        if self._is_box:
            return [(head.boxes, "none")]
        factors = [(e, "none") for e in head.scores] if self._sums else head.given(whole=not self.part)
        if len(head.scores) == 1:
            return [(e, "none") for e, _ in factors]  # the output as it is
        return factors[1:] if self.part == "objectness" else factors[:1] if self.part == "class" else factors

    def _numbers(self, found: Found) -> list[NDArray[np.int64]]:
        a, c = found.detection.candidate, found.detection.index
        return [e.numbers[a] if self._is_box else e.numbers[a, c : c + 1] for e in self._elements]


def _frame(head: Head, candidate: int, photo: Photographed | None) -> tuple[float, ...]:
    cell = head.cells[candidate] if head.cells is not None else np.zeros(6)
    way = (1.0, 1.0, 0.0, 0.0)
    if photo is not None:
        (x0, y0, x1, y1), (height, width) = photo.geometry.box, photo.geometry.model
        way = ((x1 - x0) / width, (y1 - y0) / height, x0, y0)
    return (*map(float, cell), *map(float, way))
