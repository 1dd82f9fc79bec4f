"""What an attack came to: a changed input, beside the sample that it was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..attribution import Attribution, Prediction
from ..errors import OutputError
from ..maps import channels_first
from ..preprocess import Preprocessing

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass
class Adversarial(Attribution):
    """A changed input: `values` are the changes in the model's units, `heat` the largest per pixel, in pixel steps.

    Attributes:
        after: the most probable classes of the changed input, best first, as `predictions` are those of the sample.
        extra: "adversarial", the changed input as the model takes it.
    """

    after: list[list[Prediction]] = field(default_factory=list)

    def overlay(self, i: int = 0) -> NDArray[np.uint8]:
        """The changed photo, pixel by pixel as the model sees it."""
        self.photo(i)
        assert self.preprocessing is not None
        return self.preprocessing.inverse(self.extra["adversarial"][i])

    def panel(self, i: int = 0) -> NDArray[np.uint8]:
        """Both photos, with what the model makes of them, and the difference, amplified around grey."""
        from .. import layout

        changed = self.overlay(i)
        assert self.preprocessing is not None
        seen = self.preprocessing.inverse(self.extra["adversarial"][i] - self.values[i])
        difference = _steps(self.values[i], self.preprocessing)
        largest = np.abs(difference).max()
        amplified = np.rint(128 + 127 * difference / (largest or 1)).astype(np.uint8)
        tiles = [layout.centred(layout.enlarge(p), 320, 320) for p in (seen, changed, amplified)]
        rows = [[(p.label, p.probability) for p in row[:5]] for row in (self.predictions[i], self.after[i])]
        before, after = (layout.bars(row, 240, 14, 320) for row in rows)
        captions = [
            "photo as the model sees it",
            "before",
            "changed",
            "after",
            f"change: grey 0, full colour {largest:.3g}",
        ]
        return layout.figure([tiles[0], before, tiles[1], after, tiles[2]], captions, self.title(i))

    def title(self, i: int = 0) -> list[str]:
        """What became of the prediction, and how far the input moved."""
        was, now = self.predictions[i][0], self.after[i][0]
        linf, l2 = self.measures["linf"][i], self.measures["l2"][i]
        return [
            f"{self.heading}: {was.label} {100 * was.probability:.1f} % to {now.label} {100 * now.probability:.1f} %",
            f"largest change {linf:.3g}, L2 {l2:.4g}; {self.model['name']}",
        ]

    def lines(self, i: int = 0) -> list[str]:
        """The measures, and what the model makes of the changed input."""
        now = ", ".join(f"{p.label} ({p.index}) {100 * p.probability:.1f} %" for p in self.after[i][:3])
        return [*super().lines(i), f"after the attack: {now}", "before:"]

    def record(self, i: int) -> dict[str, Any]:
        """What the manifest says of a sample, with what the model makes of the changed one."""
        return super().record(i) | {"after": [vars(p) for p in self.after[i]]}

    def write(self, pictures: Sequence[Path], *, panel: bool = False, npz: bool = False) -> list[dict[str, Path]]:
        """As for every result, but the changes do not survive JPEG."""
        if lossy := [p for p in pictures if p.suffix.lower() != ".png"]:
            raise OutputError(f"'{lossy[0]}' would lose what fools the model: name a .png.")
        return super().write(pictures, panel=panel, npz=npz)


def _steps(change: NDArray[Any], made: Preprocessing) -> NDArray[np.float64]:
    """A sample's changes in the model's units as pixel steps, (h, w, 3) in RGB."""
    first = change[None] if made.layout == "NHW" else channels_first(change[None], made.layout)[0]
    steps = np.moveaxis(first, 0, -1).astype(np.float64) * np.array(made.std) / made.scale
    return np.broadcast_to(steps[..., ::-1] if made.color == "BGR" else steps, (*steps.shape[:2], 3))
