"""`Tally`: what the units of a layer do over any number of photos, in memory that does not grow with them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass
class Tally:
    """Units (C) of a layer over some photos. Two tallies of different photos merge into that of all.

    Attributes:
        photos: how many.
        positions: how many a unit has in each of them.
        value: (C, top) the strongest values, one per photo, the strongest first; -inf where there are fewer photos.
        photo: (C, top) the numbers of those photos, -1 where there are fewer. Of equal ones the first photo counts.
        place: (C, top) where in the map, its positions counted row by row. Of equal ones the first counts.
        fired: (C,) photos with a position above 0.
        firing: (C,) positions above 0.
        mean: (C,) over all positions of all photos.
        spread: (C,) the sum of squared deviations from that.
        low: (C,) the smallest value.
        classes: per class how many photos it has, and (C,) the sum of how strongly they activate the units: the mean
            over the positions, what is below 0 taken for 0.
    """

    photos: int
    positions: int
    value: Floats
    photo: Ints
    place: Ints
    fired: Ints
    firing: Ints
    mean: Doubles
    spread: Doubles
    low: Floats
    classes: dict[int, tuple[int, Doubles]] = field(default_factory=dict)

    @classmethod
    def of(cls, values: Floats, numbers: Sequence[int], classes: Sequence[int | None], top: int) -> Tally:
        """The tally of a few photos.

        Args:
            values: (n, C, positions).
            numbers: of the photos.
            classes: of the photos, None where nobody knows.
            top: how many strongest values are kept.
        """
        at = values.argmax(-1)
        peak = np.take_along_axis(values, at[..., None], -1)[..., 0]
        above = (values > 0).view(np.uint8).sum(-1, dtype=np.uint32)
        low, mean = values.min(-1), values.mean(-1)
        rest = values - mean[..., None]
        spread = np.einsum("ncp,ncp->nc", rest, rest, dtype=np.float32)
        active = mean if low.min() >= 0 else np.maximum(values, 0).mean(-1)
        photos, units, positions = values.shape
        first = np.argsort(-peak, axis=0, kind="stable")[:top].T
        found = np.full((units, top), -np.inf, np.float32), np.full((units, top), -1), np.full((units, top), -1)
        for all_of, each in zip(found, (peak.T, np.tile(numbers, (units, 1)), at.T), strict=True):
            all_of[:, : first.shape[1]] = np.take_along_axis(each, first, 1)
        sums: dict[int, tuple[int, Doubles]] = {}
        for kind in sorted({c for c in classes if c is not None}):
            mine = [i for i, c in enumerate(classes) if c == kind]
            sums[kind] = len(mine), active[mine].sum(0, dtype=np.float64)
        mean = mean.astype(np.float64)
        centre = mean.mean(0)
        return cls(
            photos,
            positions,
            *found,
            fired=(above > 0).sum(0),
            firing=above.sum(0, dtype=np.int64),
            mean=centre,
            spread=spread.sum(0, dtype=np.float64) + positions * ((mean - centre) ** 2).sum(0),
            low=low.min(0),
            classes=sums,
        )

    def add(self, other: Tally) -> Tally:
        """The tally of these photos and others; in whatever order, it keeps the same strongest places."""
        count = self.photos + other.photos
        # Chan, Golub & LeVeque 1979: what two parts deviate from the mean of both.
        apart = other.mean - self.mean
        mean = self.mean + apart * (other.photos / count)
        spread = self.spread + other.spread + apart**2 * (self.positions * self.photos * other.photos / count)
        # Once many photos were seen, few units have a stronger place in others.
        last, best = (self.value[:, -1], self.photo[:, -1]), (other.value[:, 0], other.photo[:, 0])
        rows = (best[0] > last[0]) | ((best[0] == last[0]) & (best[1] < last[1]))
        kept = {name: getattr(self, name).copy() for name in _LISTS}
        both = {name: np.concatenate([kept[name][rows], getattr(other, name)[rows]], 1) for name in _LISTS}
        first = np.lexsort((both["photo"], -both["value"]), axis=1)[:, : self.value.shape[1]]
        for name in _LISTS:
            kept[name][rows] = np.take_along_axis(both[name], first, 1)
        classes = dict(self.classes)
        for kind, (n, sums) in other.classes.items():
            m, ours = classes.get(kind, (0, np.zeros_like(sums)))
            classes[kind] = m + n, ours + sums
        return Tally(
            count,
            self.positions,
            **kept,
            fired=self.fired + other.fired,
            firing=self.firing + other.firing,
            mean=mean,
            spread=spread,
            low=np.minimum(self.low, other.low),
            classes=dict(sorted(classes.items())),
        )

    # What it says.

    @property
    def fires_on(self) -> Doubles:
        """(C,) the share of photos with a position above 0."""
        return self.fired / self.photos

    @property
    def fires_at(self) -> Doubles:
        """(C,) the share of positions above 0."""
        return self.firing / (self.photos * self.positions)

    @property
    def std(self) -> Doubles:
        """(C,) over all positions of all photos."""
        return np.asarray(np.sqrt(self.spread / (self.photos * self.positions)))

    @property
    def prominence(self) -> Doubles:
        """(C,) how many standard deviations the weakest of the strongest values lies above the mean."""
        count = min(self.photos, self.value.shape[1])
        above = self.value[:, count - 1] - self.mean
        return np.divide(above, self.std, out=np.zeros_like(self.mean), where=self.std > 0)

    def selectivity(self) -> tuple[Doubles, Ints]:
        """(C,) the class selectivity of each unit, NaN where it has none, and the class that activates it most.

        (m - r) / (m + r), m being the mean activity for the class where it is largest, r the mean of those for all
        other classes: 1 where only one class activates the unit, 0 where all do alike.

        Morcos et al., On the Importance of Single Directions for Generalization, ICLR 2018.
        """
        kinds = list(self.classes)
        if len(kinds) < 2:
            return np.full(len(self.mean), np.nan), np.full(len(self.mean), -1)
        means = np.stack([sums / n for n, sums in self.classes.values()])
        best = means.argmax(0)
        most = means.max(0)
        rest = (means.sum(0) - most) / (len(kinds) - 1)
        total = most + rest
        found = np.divide(most - rest, total, out=np.full(len(total), np.nan), where=total > 0)
        return found, np.where(total > 0, np.array(kinds)[best], -1)

    # To a shard, and back.

    def to_arrow(self, more: dict[str, Any]) -> pa.Table:
        """A row per unit; what else is known, as plain data, goes into the schema."""
        import pyarrow as pa

        def lists(rows: NDArray[Any]) -> pa.Array:
            return pa.FixedSizeListArray.from_arrays(np.ascontiguousarray(rows).ravel(), rows.shape[1])

        columns = {name: lists(getattr(self, name)) for name in _LISTS}
        columns |= {name: pa.array(getattr(self, name)) for name in _COLUMNS}
        if self.classes:
            columns["classes"] = lists(np.stack([sums for _, sums in self.classes.values()], 1))
        kinds = {str(kind): n for kind, (n, _) in self.classes.items()}
        known = {"photos": self.photos, "positions": self.positions, "classes": kinds} | more
        return pa.table(columns).replace_schema_metadata({_KEY: json.dumps(known)})

    @classmethod
    def from_arrow(cls, table: pa.Table) -> tuple[Tally | None, dict[str, Any]]:
        """What `to_arrow` was given; None for the tally of no photos."""
        known = json.loads(table.schema.metadata[_KEY.encode()])
        if not table.num_rows:
            return None, known

        def read(name: str) -> NDArray[Any]:
            column = table.column(name).combine_chunks()
            flat = column.flatten() if name in (*_LISTS, "classes") else column
            found = np.asarray(flat.to_numpy(zero_copy_only=False))
            return found.reshape(len(column), -1) if name in (*_LISTS, "classes") else found

        sums = list(read("classes").T) if known["classes"] else []
        classes = {int(k): (n, s) for (k, n), s in zip(known["classes"].items(), sums, strict=True)}
        arrays = {name: read(name) for name in (*_LISTS, *_COLUMNS)}
        return cls(known["photos"], known["positions"], classes=classes, **arrays), known


_LISTS = ("value", "photo", "place")
_COLUMNS = ("fired", "firing", "mean", "spread", "low")
_KEY = "tally"


def nothing(more: dict[str, Any]) -> pa.Table:
    """The table of a shard without a photo that could be read."""
    import pyarrow as pa

    return pa.table({}).replace_schema_metadata({_KEY: json.dumps({"photos": 0, "classes": {}} | more)})
