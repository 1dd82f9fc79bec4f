"""`Pair`: one photo as two models explain it, with a picture of both; `Drift`: many of them, and what is to be said."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from . import layout, render
from .attribution import Attribution, Prediction
from .errors import ResultError
from .finding import Finding
from .preprocess import Preprocessing
from .trust.agreement import MEASURES, agreement

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .image import Picture

TILE = (240, 300)  # height and width that a tile fits into
SUMMARISED = (*MEASURES, "score_difference")


@dataclass(frozen=True)
class Pair:
    """A sample in the results of two models.

    Attributes:
        name: what the sample is called.
        one: the result of the original.
        other: that of the converted model.
        i: the sample's place in both.
        shift: from the original's classes to the other's.
    """

    name: str
    one: Attribution
    other: Attribution
    i: int
    shift: int = 0

    @cached_property
    def maps(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Both maps as they are where they have the same shape and place, else on the photo, where both models look.

        Raises:
            ResultError: they have neither shape nor photo in common.
        """
        a, b = self.one.heat[self.i], self.other.heat[self.i]
        if a.shape == b.shape and self._same_place:
            return a, b
        if not self.drawable:
            raise ResultError(
                f"The maps of '{self.name}', {a.shape} and {b.shape}, cannot be compared without a photo that both lie "
                "on: name layers of the same size (--layer, --converted-layer)."
            )
        a, b = self.one.map(self.i), self.other.map(self.i)
        return a[self._seen], b[self._seen]

    @cached_property
    def row(self) -> dict[str, Any]:
        """What was measured, by name."""
        what, tops = self.one.explained[self.i], [self._top(self.one), self._top(self.other)]
        scores = [float(side.scores[self.i]) for side in (self.one, self.other)]
        return {
            "sample": self.name,
            "class": None if what is None else what.index,
            "label": self.one.target if what is None else what.label,
            **agreement(*self.maps, signed=self.one.signed),
            "original_score": scores[0],
            "converted_score": scores[1],
            "score_difference": scores[1] - scores[0],
            "original_top": tops[0] and tops[0].index,
            "converted_top": tops[1] and tops[1].index,
            "agrees": tops[1].index == tops[0].index + self.shift if tops[0] and tops[1] else None,
        }

    @property
    def drawable(self) -> bool:
        """True if both maps lie on a photo."""
        return all(s.photos[self.i] is not None and s.drawable for s in (self.one, self.other))

    def picture(self) -> Picture:
        """The photo, both maps and their difference, with numbers: red where the converted model marks more."""
        photo = self.one.photo(self.i).pixels
        row = self.row
        a, b = (render.normalise(s.map(self.i), s.signed, s.percentile, self._seen) for s in (self.one, self.other))
        apart = render.overlay(photo, b - a, signed=True, reach=0.5, seen=self._seen)
        subject = row["label"] if row["class"] is None else f"{row['label']} ({row['class']})"
        texts = [
            [self.name, subject, ""],
            ["original", f"score {row['original_score']:.4g}", _said(self._top(self.one))],
            ["converted", f"score {row['converted_score']:.4g}", _said(self._top(self.other))],
            [
                "converted – original",
                f"rank correlation {row['spearman']:.3f}",
                f"max {row['scaled_difference']:.2f}, overlap {row['overlap']:.2f}",
            ],
        ]
        tiles = []
        for pixels, lines in zip(
            [photo, self.one.overlay(self.i), self.other.overlay(self.i), apart], texts, strict=True
        ):
            tile = layout.fit(pixels, *TILE)
            heads = [layout.line(text, TILE[1], 12 if k else 15) for k, text in enumerate(lines)]
            tiles.append(layout.column([*heads, layout.pad(tile, tile.shape[0], TILE[1])], 3))
        return layout.row(tiles, 12)

    @property
    def _same_place(self) -> bool:
        """True if the models look at the same part of the photo, or if there is none."""
        p, q = self.one.photos[self.i], self.other.photos[self.i]
        if p is None or q is None:
            return True
        return p.geometry.box == q.geometry.box and p.geometry.photo == q.geometry.photo

    @cached_property
    def _seen(self) -> NDArray[np.bool_]:
        """The pixels of the photo that both models look at."""
        return self.one.photo(self.i).geometry.mask_in_photo() & self.other.photo(self.i).geometry.mask_in_photo()

    def _top(self, side: Attribution) -> Prediction | None:
        return next(iter(side.predictions[self.i]), None)


def _said(top: Prediction | None) -> str:
    return "" if top is None else f"{top.label} ({top.index}) {100 * top.probability:.1f} %"


@dataclass(repr=False)
class Drift(Finding):
    """How the maps of a converted model differ from those of the original.

    A `Finding` whose values hold `rows` and `summary`; `save` writes the sheet of the photos that drifted most, a
    picture of each, a table (.csv) and the record.
    """

    @property
    def rows(self) -> list[dict[str, Any]]:
        """What was measured of each photo, that with the lowest rank correlation first."""
        found: list[dict[str, Any]] = self.values["rows"]
        return found

    @property
    def summary(self) -> dict[str, dict[str, float]]:
        """The mean, median, min and max of each measure over the photos."""
        found: dict[str, dict[str, float]] = self.values["summary"]
        return found


class Found:
    """What was measured so far, with pictures of the photos that drifted most."""

    def __init__(self, pictures: int) -> None:
        self.rows: list[dict[str, Any]] = []
        self.skipped: list[dict[str, str]] = []
        self._pictures: list[tuple[dict[str, Any], Picture]] = []
        self._most = pictures
        self._notes: tuple[list[str], list[str]] = ([], [])

    def add(self, pairs: Sequence[Pair]) -> None:
        """Measure some photos."""
        for pair in pairs:
            self.rows.append(pair.row)
            worst = sorted([*(row for row, _ in self._pictures), pair.row], key=_agreement)[: self._most]
            if pair.drawable and any(row is pair.row for row in worst):
                self._pictures.append((pair.row, pair.picture()))
                self._pictures = sorted(self._pictures, key=lambda entry: _agreement(entry[0]))[: self._most]
        self._last = pairs[-1]
        for notes, side in zip(self._notes, (self._last.one, self._last.other), strict=True):
            notes += [note for note in side.notes if note not in notes]

    def finding(self, models: list[dict[str, Any]], params: dict[str, Any]) -> Drift:
        """The result."""
        rows, last = sorted(self.rows, key=_agreement), self._last
        summary = {name: _summary([row[name] for row in rows]) for name in SUMMARISED}
        agree = [row["agrees"] for row in rows if row["agrees"] is not None]
        same = f", the most probable class is the same on {sum(agree)} of {len(agree)}" if agree else ""
        ranks = summary["spearman"]
        title = [
            f"{params['method']}: {models[0]['name']} → {models[1]['name']}",
            f"{len(rows)} photo{'s' * (len(rows) > 1)}, rank correlation {ranks['mean']:.3f} on average, at least "
            f"{ranks['min']:.3f}{same}",
        ]
        worst = {row["sample"]: picture for row, picture in self._pictures}
        lines = [
            f"{name.replace('_', ' '):18}" + "".join(f"  {of} {value:8.4g}" for of, value in summary[name].items())
            for name in SUMMARISED
        ]
        lines += [f"most probable class: the same on {sum(agree)} of {len(agree)}"] if agree else []
        lines += [f"{row['spearman']:.3f}  {row['sample']}: {row['label']}" for row in rows[:5]]
        sheet = {"": layout.frame(layout.titled(layout.column([*worst.values()], 16), title, 18), 12)} if worst else {}
        pictures = {name: layout.frame(picture, 12) for name, picture in worst.items()}
        return Drift(
            "drift",
            {
                "summary": summary,
                "agree": sum(agree) if agree else None,
                "layers": [last.one.layer, last.other.layer],
                "converted_preprocessing": _json(last.other.preprocessing),
                "rows": rows,
            },
            models,
            provider=last.one.provider,
            pictures=sheet | pictures,
            texts={".csv": _table(rows)},
            lines=lines,
            layer=last.one.layer,
            photos=len(rows) + len(self.skipped),
            skipped=self.skipped,
            preprocessing=last.one.preprocessing,
            params=params,
            notes=self._told(),
        )

    def _told(self) -> list[str]:
        """Notes of both models, each with whose it is unless it is that of both."""
        one, other = self._notes
        told = [note if note in other else f"original: {note}" for note in one]
        told += [f"converted: {note}" for note in other if note not in one]
        a, b = self._last.one.preprocessing, self._last.other.preprocessing
        if a is not None and b is not None and replace(b, layout=a.layout, dtype=a.dtype, source=a.source) != a:
            told.append(
                f"photos are prepared differently: {a.describe()} for the original, {b.describe()} for the converted "
                "(--preset NAME, --converted-preset NAME)"
            )
        if flat := [row["sample"] for row in self.rows if np.isnan(row["spearman"])]:
            told.append(
                f"{len(flat)} of {len(self.rows)} photos have a map that is the same everywhere, '{flat[0]}', say: no "
                "correlation is known of them (--layer NAME)"
            )
        return told


def _agreement(row: Mapping[str, Any]) -> float:
    """The rank correlation; what has none comes first."""
    return -2.0 if np.isnan(row["spearman"]) else float(row["spearman"])


def _summary(values: Sequence[float | None]) -> dict[str, float]:
    """Mean, median, min and max of what is known."""
    known = np.array([v for v in values if v is not None and not np.isnan(v)], np.float64)
    if not len(known):
        return dict.fromkeys(("mean", "median", "min", "max"), np.nan)
    return {name: float(getattr(np, name)(known)) for name in ("mean", "median", "min", "max")}


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def _json(preprocessing: Preprocessing | None) -> dict[str, Any] | None:
    return None if preprocessing is None else preprocessing.to_json()
